"""The parts of a report about a model's samples: copying, the closest pairs, coverage, what the words mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import interp_fast as itf

from .._copies import Compared
from .._figures import COLOURS, INK
from .._pictures import show
from .._text import interval, number, share
from .evidence import EQUAL_PAIRS, Evidence
from .parts import Block, Bullets, Chart, Gallery, Html, Paragraph, Part, Table

__all__ = ["PARTS", "summary"]

_DOUBT = 0.025  # of a one-sided test


def summary(e: Evidence) -> list[str]:
    """The conclusions, in words from numbers."""
    said = [_on_copies(e, one) for one in e.found]
    said.append(f"{_rule(e.rule)} In brackets: where the share lies among all that the model would make.")
    said += [sentence for sentence in (_on_equal(e, one) for one in e.found) if sentence]
    if e.pairs:
        said.append(_on_closest(e))
    for one in e.found:
        r, name = one.result, _capital(e.name(one))
        if r.coverage is not None:
            said.append(
                f"{name} reach {share(r.coverage)} of the training rows: these have a sample nearer than their "
                f"{_ordinal(e.k)} neighbour among the rows. This share grows with the number of samples."
            )
    return said


def copying(e: Evidence) -> Part:
    """How many samples are copies, beside held-out rows."""
    header = ("", "how many", "equal to a row", "copies", "spurious", "novel", "authentic", "C_T")
    lines = [_line(_capital(e.name(one)), one.result) for one in e.found]
    if e.control is not None:
        lines.append(_line("Held-out rows", e.control))
    caption = (
        "Shares of the samples; in brackets where the share lies among all that the model would make, in at least 95 % "
        f"of cases. {_rule(e.rule)}"
    )

    def draw(ax: Any) -> None:
        for one, colour in zip(e.found, COLOURS * len(e.found), strict=False):
            ax.ecdf(one.result.d1, label=e.name(one), color=colour)
        if e.control is not None:
            ax.ecdf(e.control.d1, label="held-out rows", color=INK)
        if e.background is not None:
            own = "training rows, to another row"
            ax.plot(e.background.distances, e.background.levels, "--", color=COLOURS[-1], label=own)
        if e.rule.radius is not None:
            ax.axvline(e.rule.radius, color=COLOURS[-1], linestyle=":", label="radius of a copy")
        ax.set(xlabel="distance to the nearest training row", ylabel="share that is nearer", ylim=(0, 1.03))
        ax.legend(loc="best")

    below = (
        "What share (upwards) lies within a distance (to the right) of its nearest training row. Copies are where the "
        "curve of the samples rises to the left of all others; where it goes with the held-out rows, it shows none."
    )
    chart = Chart(draw, "Distances to the nearest training row", below, size=(8.6, 3.4))
    numbers = [
        {"file": one.file} | one.result.to_dict() | {"made_alike": one.made_alike, "equal": _equal(one.result)}
        for one in e.found
    ]
    verdict = []
    for one in e.found:
        of = "" if len(e.found) == 1 else f" {one.file}"
        verdict.append((f"does the model copy?{of}", _ANSWERS[_judge(e, one)]))
        verdict.append((f"copies among {e.name(one)}", interval(one.result.memorized, one.result.memorized_interval)))
    control = None if e.control is None else e.control.to_dict()
    return Part("copying", "Copying", {"files": numbers, "holdout": control}, [Table(lines, header, caption), chart],
                (), verdict)  # fmt: skip


def closest(e: Evidence) -> Part:
    """The closest pairs, as numbers and pictures."""
    header = ("sample", "nearest row", "distance", "second row", "distance", "ratio", "rows farther apart", "class",
              "copies of the row")  # fmt: skip
    lines, records, shown = [], [], []
    numbers = e.data.numbers
    for p in e.pairs:
        farther, row, second = e.farther(p.distance), int(numbers[p.row]), int(numbers[p.second])
        sample = str(p.sample) if len(e.found) == 1 else f"{p.sample} of {p.file}"
        around = "–" if farther is None else "all" if farther == 1 else f"≥ {share(farther)}"
        lines.append((sample, str(row), number(p.distance), str(second), number(p.second_distance), f"{p.ratio:.2g}",
                      around, p.kind, number(p.copies)))  # fmt: skip
        records.append(
            {"file": p.file, "sample": p.sample, "row": row, "second_row": second, "distance": p.distance,
             "second_distance": p.second_distance, "ratio": p.ratio, "class": p.kind, "copies_of_row": p.copies,
             "rows_farther": farther}
        )  # fmt: skip
        if e.data.shape is not None:
            rows = e.data.rows
            pictures: Sequence[Html] = [
                e.draw(p.x, "sample"), e.draw(rows[p.row], "nearest row"), e.draw(rows[p.second], "second nearest row")
            ]  # fmt: skip
            shown.append((pictures, f"{sample} | {row} | {second}"))
    caption = (
        "For each training row the sample that comes nearest to it, the closest first; of those at distance 0 no more "
        f"than {EQUAL_PAIRS} while there are others. Samples and rows have the numbers of their files, from 0. "
        "Rows farther apart: the share of training rows that are farther from their nearest other training row than "
        "this sample is from its nearest. All: it is closer to its row than any two training rows are to each other."
    )
    blocks: list[Block] = [Table(lines, header, caption)]
    if shown:
        below = (
            "In each group from left to right: sample, nearest training row, second nearest one; below, their numbers."
        )
        blocks.insert(0, Gallery(shown, below))
    return Part("closest_pairs", "The closest pairs", {"pairs": records}, blocks)


def coverage(e: Evidence) -> Part:
    """How much of the training set the samples reach."""

    def cells(r: itf.Memorization) -> tuple[str, ...]:
        shares = (r.precision, r.recall, r.coverage)
        density = "–" if r.density is None else f"{r.density:.2f}"
        return (*("–" if value is None else share(value) for value in shares), density)

    header = ("", "precision", "recall", "coverage", "density")
    lines = [(_capital(e.name(one)), *cells(one.result)) for one in e.found]
    caption = (
        "All four depend on the numbers of samples and rows: compare values for equal numbers only. A dash: left out, "
        "or too few points."
    )  # fmt: skip
    return Part("coverage", "Coverage", {}, [Table(lines, header, caption)])


def words(e: Evidence) -> Part:
    """A dictionary."""
    r = e.rule
    angle = "the angle between two, as 1 − cosine" if r.metric == "cosine" else "the straight line between two"
    near = "no samples or rows were compared with each other" if e.k is None else (
        f"nearer than a row's {_ordinal(e.k)} neighbour among the rows"
    )  # fmt: skip
    through = "" if e.features is None else f", after {e.features} has turned each into a list of features"
    terms = [
        ("training row", "One item that the model was trained on, as a list of numbers; of a picture, its pixels."),
        ("sample", "One item that the model has made."),
        ("held-out row", "An item of the same kind that the model was not trained on. What looks copied among these is "
                         "chance."),
        ("distance", f"How different two items are: {angle}{through}. 0: the same."),
        ("ratio", "Distance to the nearest training row over the distance to the second nearest. Near 0: the sample is "
                  "that row; near 1: it is no nearer to one row than to others."),
        ("copy", f"{_rule(r)} Also called memorized."),
        ("spurious", "Not a copy, and much nearer to another sample than to any training row: the model repeats "
                     "something that is not in the training set."),
        ("novel", "Neither a copy nor spurious."),
        ("interval", "The two numbers in brackets. The samples are some of the many that the model would make; among "
                     "all of them the share lies between these two, in at least 95 of 100 such reports."),
        ("authentic", "Share of samples farther from their nearest row than that row is from its own nearest row. "
                      "Unseen items do not reach 100 % either: read it beside that of the held-out rows."),
        ("precision, density", f"How many samples lie near training rows ({near}); how many rows there are around a "
                               "sample, 1 for samples that are spread as the rows are."),
        ("recall, coverage", "How many training rows lie near samples; how many have a sample near them."),
        ("C_T", "Whether samples as a whole are nearer to the training rows than held-out rows are, in standard "
                "deviations: below −3 they are. A few copies among many samples hardly move it."),
    ]  # fmt: skip
    return Part("words", "What the words mean", {}, [Table(terms)])


def limits(e: Evidence) -> Part:
    """How it was measured, and what that cannot show."""
    data, made = e.data, list(dict.fromkeys(words for one in e.found for words in one.made_alike))
    facts = [
        ("training set", f"{data.source}, {number(len(data.rows))} rows of {number(data.rows.shape[1])} numbers"),
        ("samples", "; ".join(f"{one.file}, {number(len(one.result.d1))}" for one in e.found)),
        ("held-out rows", "none" if e.control is None else f"{e.holdout}, {number(len(e.control.d1))}"),
        ("values", show(data.range)),
        ("features", e.features or "none: distances are between the numbers as given"),
        ("search", "exact, of every sample among all rows"),
    ]
    cannot = [
        "Only these samples were looked at. The interval says how many copies more samples of the same kind may hold.",
        "A copy that was cropped, moved, mirrored or recoloured is far away in the numbers as given; features that do "
        "not change with such edits find it (--features).",
        "A sample may be like a row because many rows are alike. That is what the second nearest row, the background "
        "of distances between rows and the held-out rows are for.",
    ]
    if e.background is not None and e.background.distances[0] == 0 and e.rule.radius is None:
        cannot.append(
            "Some training rows are equal. A near copy of such a row has two nearest rows at one distance and is not "
            "counted; --radius counts it."
        )
    notes = [Paragraph(text, note=True) for text in made]
    title = "How it was measured, and what that cannot show"
    return Part("measured", title, {"made_alike": made}, [Table(facts), *notes, Bullets(cannot)])


PARTS = (copying, closest, coverage, words, limits)


_ANSWERS = {
    "yes": "yes",
    "chance": "not shown: no more copies than by chance",
    "none": "not shown: no copies",
    "open": "open: there are copies by the rule, and no held-out rows to tell chance by",
}


def _judge(e: Evidence, one: Compared) -> str:
    """One of the answers."""
    r, control, count = one.result, e.control, _count(one.result)
    if _equal(r) and not _by_nature(e):
        return "yes"
    if control is None:
        return "open" if count else "none"
    if _by_chance(count, len(r.d1), _count(control), len(control.d1)) < _DOUBT:
        return "yes"
    return "chance" if count else "none"


def _by_nature(e: Evidence) -> bool:
    """Whether items of this kind are equal to each other, or may be, as far as was looked."""
    if e.control is not None:
        return _equal(e.control) > 0
    return e.background is None or e.background.distances[0] == 0


def _rule(r: itf.Memorization) -> str:
    if r.radius is not None:
        return f"A copy lies within {number(r.radius)} of a training row."
    part = "a third" if abs(r.threshold - 1 / 3) < 1e-12 else f"{number(r.threshold)}"
    return f"A copy is nearer to one training row than {part} of its distance to any other."


def _ordinal(k: int | None) -> str:
    suffix = "th" if k is None or k % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(k % 10, "th")
    return {1: "nearest", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}.get(k or 0, f"{k}{suffix}")


def _by_chance(count: int, n: int, held: int, of: int) -> float:
    """Probability of at least so many copies among the samples, as of all copies here, if both kinds are as likely."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(count - 1, n + of, count + held, n))  # Fisher's exact test


def _equal(r: itf.Memorization) -> int:
    return int(np.sum(r.d1 == 0))


def _count(r: itf.Memorization) -> int:
    return int(np.sum(r.classes == "memorized"))


def _line(name: str, r: itf.Memorization) -> tuple[str, ...]:
    kinds = [interval(getattr(r, kind), getattr(r, f"{kind}_interval")) for kind in ("memorized", "spurious", "novel")]
    c_t = "–" if r.c_t is None else f"{r.c_t:.1f}"
    return (name, number(len(r.d1)), number(_equal(r)), *kinds, share(r.authenticity), c_t)


def _on_copies(e: Evidence, one: Compared) -> str:
    r, control, answer = one.result, e.control, _judge(e, one)
    name, n, count = e.name(one), len(r.d1), _count(r)
    found = f"{number(count)} of {number(n)} {'is a copy' if count == 1 else 'are copies'}, "
    found += interval(r.memorized, r.memorized_interval)
    if control is not None:
        held, of = _count(control), len(control.d1)
        unseen = f"{number(held)} of {number(of)} held-out rows, which the model has not seen"
        found += f"; by the same rule {unseen}, {_are(held)}"
    chance = "how many unseen items would look copied by chance only held-out rows can tell (--holdout)"
    if answer == "yes":
        yes = f"Yes, {name} hold copies of training rows"
        if control is None:
            equal = f"{number(_equal(r))} of {number(n)} {_are(_equal(r))} {_same(e)} one"
            return f"{yes}: {equal}. By the rule {found}; {chance}."
        return f"{yes}: {found}. Chance does not explain that."
    most = share(r.memorized_interval[1])
    return {
        "none": f"No copying is shown in {name}: {found}. At most {most} of such samples are copies.",
        "chance": f"No copying is shown in {name}: {found}. That is no more than chance explains.",
        "open": f"Open for {name}: {found}; {chance}.",
    }[answer]  # fmt: skip


def _on_equal(e: Evidence, one: Compared) -> str:
    equal = _equal(one.result)
    if not equal:
        return ""
    sentence = f"{number(equal)} of {e.name(one)} {_are(equal)} {_same(e)} a training row"
    if e.background is None:
        return f"{sentence}."
    least = e.background.distances[0]
    if least == 0:
        return f"{sentence}; some training rows are so to each other."
    return f"{sentence}; no two training rows are nearer to each other than {number(float(least))}."


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _same(e: Evidence) -> str:
    return "at distance 0 from" if e.features or e.rule.metric == "cosine" else "equal, number for number, to"


def _on_closest(e: Evidence) -> str:
    p = min(e.pairs, key=lambda pair: pair.distance == 0)
    farther = e.farther(p.distance)
    of = "" if len(e.found) == 1 else f" of {p.file}"
    some_equal = p.distance > 0 and not all(pair.distance for pair in e.pairs)
    others = ", of those that are not equal," if some_equal else ""
    sentence = (
        f"The closest pair{others} is sample {p.sample}{of} and training row {e.data.numbers[p.row]}: their distance "
        f"is {number(p.distance)}, the next row is {number(p.second_distance)} away."
    )
    if farther is None:
        return sentence
    if farther == 0:
        return f"{sentence} Training rows are nearer to each other than that."
    which = "All" if farther == 1 else f"At least {share(farther)} of the"
    return f"{sentence} {which} training rows are farther than that from any other training row."


def _capital(name: str) -> str:
    return "The samples" if name == "the samples" else name
