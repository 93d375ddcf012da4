"""What a report about a model's samples says: sentences from numbers, for readers who know none of the terms."""

from __future__ import annotations

import interp_fast as itf

from .._copies import Compared
from .._text import interval, number, share
from .evidence import Evidence
from .judgement import DOUBT, Judgement, copied, equal

__all__ = ["capital", "how_often", "ordinal", "rule", "summary"]


def summary(e: Evidence) -> list[str]:
    """The conclusions, in words from numbers."""
    said = [_on_copies(e, one, judgement) for one, judgement in zip(e.found, e.judgements, strict=True)]
    if e.control is None and any(copied(one.result) for one in e.found):
        said.append("How many unseen items would look copied by chance only held-out rows can tell (--holdout).")
    if e.control is not None and len(e.found) > 1:
        files = len(e.found)
        said.append(
            f"Among {files} files, the number of copies counts as more than chance where it comes up less than once in "
            f"{number(round(files / DOUBT))} such comparisons: the doubt of 1 in {number(round(1 / DOUBT))} is divided "
            "by the number of files."
        )
    said.append(
        f"{rule(e.rule)} In brackets: between these per cents lies the share among all that the model would make (95 % "
        "confidence)."
    )
    for one in e.found:
        said += [sentence for sentence in (_on_equal(e, one), _on_repeats(e, one)) if sentence]
    if e.pairs:
        said.append(_on_closest(e))
    said += [sentence for sentence in (_on_variety(e), _on_next_steps(e)) if sentence]
    return said


def rule(r: itf.Memorization) -> str:
    """What makes a copy."""
    if r.radius is not None:
        return f"A copy is a sample within a distance of {number(r.radius)} of a training row."
    part = "a third" if abs(r.threshold - 1 / 3) < 1e-12 else f"{number(r.threshold)}"
    return (
        f"A copy is a sample whose distance to the nearest training row is less than {part} of that to the second "
        "nearest."
    )


def _on_copies(e: Evidence, one: Compared, judgement: Judgement) -> str:
    r, control = one.result, e.control
    samples, n, count = e.samples_of(one), len(r.d1), copied(r)
    found = f"{number(count)} of {number(n)} {_are(count)} {_copies(count)}, "
    found += interval(r.memorized, r.memorized_interval)
    if control is not None:
        held, of = copied(control), len(control.d1)
        seen = "which the model has not seen"
        if e.leaked:
            seen = f"{number(e.leaked)} of which {_are(e.leaked)} {_same(e, e.leaked)} a training row"
        found += f"; by the same rule {number(held)} of {number(of)} held-out rows, {seen}, {_are(held)}"
    if judgement.equality:
        alike = equal(r)
        yes = (
            f"Yes, {samples} hold copies of training rows: {number(alike)} of {number(n)} {_are(alike)} "
            f"{_same(e, alike)} a training row"
        )
        beside = "" if control is None else f"; so {_are(equal(control))} {number(equal(control))} of the held-out rows"
        return f"{yes}{beside}. By the rule {found}."
    most = share(r.memorized_interval[1])
    rows = " (97.5 % confidence)"
    if e.drawn:
        rows = f" of {e.drawn} (97.5 % confidence); copies of the other rows are missed"
    odds = "" if judgement.chance is None else f"among the samples would come up {how_often(judgement.chance)}"
    if odds:
        odds = f"if samples and held-out rows looked copied equally often, at least so many copies {odds}"
    return {
        "yes": f"Yes, {samples} hold copies of training rows: {found}. Chance does not explain that: {odds}.",
        "none": f"No copying is shown in {samples}: {found}. At most {most} of all that the model would make are "
        f"copies by this rule{rows}.",
        "chance": f"No copying is shown in {samples}: {found}. That is no more than chance explains: {odds}.",
        "open": " ".join([f"Not settled for {samples}: {found}.", *_why_open(e, one, judgement)]),
    }[judgement.answer]


def _why_open(e: Evidence, one: Compared, judgement: Judgement) -> list[str]:
    """What is not said elsewhere."""
    said = {
        "leak": "Held-out rows that are training rows may have been seen, and then they do not tell chance.",
        "repeats": f"{number(one.veiled)} more samples would be, were the rows equal to the nearest one left out.",
        "k": "Whether training rows are equal to each other was not looked up.",
    }
    return [said[reason] for reason in judgement.reasons if reason in said]


def how_often(chance: float) -> str:
    """A probability in words."""
    if chance < 1e-6:
        return "less than once in a million such comparisons"
    if chance < 0.02:
        return f"once in {number(int(float(f'{1 / chance:.2g}')))} such comparisons"
    return f"in {share(chance)} of such comparisons"


def _on_equal(e: Evidence, one: Compared) -> str:
    alike = equal(one.result)
    if not alike:
        return ""
    sentence = f"{number(alike)} of {e.samples_of(one)} {_are(alike)} {_same(e, alike)} a training row"
    repeated, of = e.baseline.repeated, e.baseline.rows
    if e.background is None or repeated is None:
        return f"{sentence}."
    if repeated:
        to = "to" if e.by_numbers else "from"
        others = f"{number(repeated)} of {number(of)} training rows {to} another, {share(repeated / of)}"
        return f"{sentence}; so are {others}."
    return f"{sentence}; no two training rows are nearer to each other than {number(float(e.background.distances[0]))}."


def _on_repeats(e: Evidence, one: Compared) -> str:
    repeated = e.baseline.repeated
    if e.rule.radius is not None or not (repeated or one.veiled):
        return ""
    rows = "Some training rows may have equal ones"
    if repeated:
        has = "has an equal one" if repeated == 1 else "have equal ones"
        rows = f"{number(repeated)} of {number(e.baseline.rows)} training rows {has}"
    return (
        f"{rows}. The rule does not count near copies of such a row, which have two nearest rows at one distance: "
        f"{number(one.veiled) if one.veiled else 'none'} of {e.samples_of(one)} would be {_copies(one.veiled)}, were "
        "the rows equal to the nearest one left out."
    )


def _on_closest(e: Evidence) -> str:
    p = min(e.pairs, key=lambda pair: pair.distance == 0)
    of = "" if len(e.found) == 1 else f" of {p.file}"
    some_equal = p.distance > 0 and not all(pair.distance for pair in e.pairs)
    others = f", of those {'that are not equal' if e.by_numbers else 'not at distance 0'}," if some_equal else ""
    following = "next row that differs" if p.repeats else "next row"
    sentence = (
        f"The closest pair{others} is sample {p.sample}{of} and training row {e.data.numbers[p.row]}, "
        f"{'a copy' if p.kind == 'memorized' else 'no copy'} by the rule: their distance is {number(p.distance)}, the "
        f"{following} is {number(p.second_distance)} away, a ratio of {p.ratio:.2g}."
    )
    if e.control is not None and not e.leaked:
        by, own, least = ("ratio", p.ratio, float(e.control.ratio.min())) if e.rule.radius is None else (
            "distance", p.distance, float(e.control.d1.min())
        )  # fmt: skip
        known = ": a pair as close as this one comes without copying" if least <= own else ""
        sentence = f"{sentence} The least {by} of a held-out row is {least:.2g}{known}."
    if e.typical is not None:
        sentence = f"{sentence} For scale: half of the training rows have another one within {number(e.typical)}."
    farther = e.farther(p.distance)
    if farther is None:
        return sentence
    if farther == 0:
        return f"{sentence} All training rows have another one at most as far away as this sample is."
    which = "All" if farther == 1 else f"At least {share(farther)} of the"
    return f"{sentence} {which} training rows are farther than this pair from any other training row."


def _on_variety(e: Evidence) -> str:
    reach = [(one, one.result.coverage) for one in e.found]
    many = len(reach) > 1
    known = [f"{share(value)}{f' ({one.file})' * many}" for one, value in reach if value is not None]
    if not known:
        return ""
    unseen = None if e.control is None else e.control.coverage
    beside = "" if unseen is None else f", {share(unseen)} a held-out row"
    return (
        f"Variety, which is no sign of copying: {', '.join(known)} of the training rows have a sample nearby{beside} "
        f"(nearer than their {ordinal(e.k)} neighbour among the rows). More samples raise this share."
    )


_NEXT = {
    "yes": "Look at the closest pairs below; report.json names the nearest row of every sample. Decide whether these "
    "rows may be shown at all (rights, privacy). Rows that are in the training set many times are copied most: thin "
    "them out. More rows or shorter training make copies rarer; copies that remain can be filtered out by this rule.",
    "holdout": "Compare with items of the same kind that the model was not trained on, about as many as there are "
    "samples: --holdout FILE.",
    "leak": "Take held-out rows that are no training rows: leave out those that are, or name others with --holdout.",
    "repeats": "With --radius near copies of rows that have equal ones are counted, too; so they are in a training set "
    "without the second of equal rows.",
    "k": "With --k 5, or any other than 0, it is looked up whether training rows are equal to each other.",
    "chance": "More samples and more held-out rows show smaller differences.",
    "none": "More samples make surer: without a copy, ten times as many show a tenth of the share named above.",
}
_CHANGED = "Copies that were cropped, moved, mirrored or recoloured are found through --features alone."


def _on_next_steps(e: Evidence) -> str:
    answers = {judgement.answer for judgement in e.judgements}
    asked = answers | {reason for judgement in e.judgements for reason in judgement.reasons}
    steps = [words for answer, words in _NEXT.items() if answer in asked]
    if answers != {"yes"} and e.features is None:
        steps.append(_CHANGED)
    return " ".join(["What to do next:", *steps])


def ordinal(k: int | None) -> str:
    suffix = "th" if k is None or k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return {1: "nearest", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(k or 0, f"{k}{suffix}")


def capital(name: str) -> str:
    return "The samples" if name == "the samples" else name


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _copies(count: int) -> str:
    return "a copy" if count == 1 else "copies"


def _same(e: Evidence, count: int) -> str:
    each = "" if count == 1 else "each "
    return f"equal, number for number, {each}to" if e.by_numbers else f"at distance 0{',' * bool(each)} {each}from"
