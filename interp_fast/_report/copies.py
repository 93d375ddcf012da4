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
from .evidence import Evidence
from .parts import Block, Bullets, Chart, Gallery, Html, Paragraph, Part, Table

__all__ = ["PARTS", "summary"]

_DOUBT = 0.025  # of a one-sided test


def summary(e: Evidence) -> list[str]:
    """The conclusions, in words from numbers."""
    said = [sentence for one in e.found for sentence in (_on_copies(e, one), _on_equal(e, one)) if sentence]
    if e.pairs:
        said.append(_on_closest(e))
    for one in e.found:
        r, name = one.result, _capital(e.name(one))
        if r.coverage is not None:
            said.append(
                f"{name} reach {share(r.coverage)} of the training rows: these have a sample nearer than their "
                f"neighbour number {e.k} among the rows. This share grows with the number of samples."
            )
    return said


def copying(e: Evidence) -> Part:
    """How many samples are copies, beside held-out rows."""
    header = ("", "how many", "equal to a row", "copies", "spurious", "novel", "authentic", "C_T")
    lines = [_line(_capital(e.name(one)), one.result) for one in e.found]
    if e.control is not None:
        lines.append(_line("Held-out rows", e.control))
    caption = f"Shares, with intervals that hold the true share in at least 95 % of cases. {_rule(e.rule)}"

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
        "Share of samples that lie within a distance of their nearest training row. A curve far left of the others is "
        "copying; one that goes with the held-out rows is not."
    )
    chart = Chart(draw, "Distances to the nearest training row", below, size=(8.6, 3.4))
    numbers = [
        {"file": one.file} | one.result.to_dict() | {"made_alike": one.made_alike, "equal": _equal(one.result)}
        for one in e.found
    ]
    verdict = [
        (f"copies among {e.name(one)}", interval(one.result.memorized, one.result.memorized_interval))
        for one in e.found
    ]
    control = None if e.control is None else e.control.to_dict()
    return Part("copying", "Copying", {"files": numbers, "holdout": control}, [Table(lines, header, caption), chart],
                (), verdict)  # fmt: skip


def closest(e: Evidence) -> Part:
    """The closest pairs, as numbers and pictures."""
    header = ("sample", "nearest row", "distance", "second row", "distance", "ratio", "rows that are farther", "class",
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
        "For each training row the sample that comes nearest to it, the closest first. Samples and rows have the "
        "numbers they have in their files, from 0. Rows that are farther: the least share of training rows whose "
        "nearest other training row is at least as far away as this sample is from its row."
    )
    blocks: list[Block] = [Table(lines, header, caption)]
    if shown:
        blocks.insert(0, Gallery(shown, "Sample, nearest training row, second nearest training row; their numbers."))
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
    through = "" if e.features is None else f", after {e.features} has turned each into a list of features"
    terms = [
        ("training row", "One item of the training set, as a list of numbers; a picture is the list of its pixels."),
        ("sample", "One item that the model has made."),
        ("held-out row", "An item of the same kind that the model was not trained on: it shows chance likeness."),
        ("distance", f"How different two items are: {angle}{through}. 0: the same."),
        ("ratio", "Distance to the nearest training row over the distance to the second nearest. Near 0: the sample is "
                  "that row; near 1: it is no nearer to one row than to others."),
        ("copy", _rule(r) + " Also called memorized."),
        ("spurious", "Not a copy, and much nearer to another sample than to any training row: the model repeats "
                     "something that is not in the training set."),
        ("novel", "Neither."),
        ("interval", "Where the true share lies, as the samples are some of many: right in at least 95 of 100 cases."),
        ("authentic", "Share of samples farther from their nearest row than that row is from its own nearest row."),
        ("precision, density", "How many samples lie where training rows are; how many rows there are around a sample, "
                               "1 for samples as good as the rows."),
        ("recall, coverage", "How many training rows lie where samples are; how many have a sample near them."),
        ("C_T", "How much nearer to the training rows samples are than held-out rows are, in standard deviations: "
                "below −3 is copying."),
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


def _rule(r: itf.Memorization) -> str:
    if r.radius is not None:
        return f"Copy: within {number(r.radius)} of a training row."
    part = "a third" if abs(r.threshold - 1 / 3) < 1e-12 else f"{number(r.threshold)}"
    return f"Copy: nearer to one training row than {part} of the distance to the next."


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
    r, control = one.result, e.control
    n, count, rule = len(r.d1), _count(r), _rule(e.rule).removeprefix("Copy: ").rstrip(".")
    how_many = f"{number(count)} of {number(n)}, {interval(r.memorized, r.memorized_interval)}"
    sentence = f"Copies among {e.name(one)}: {how_many}. A copy is {rule}."
    if control is None:
        return (
            f"{sentence} There are no held-out rows to compare with, so this report cannot say how many unseen items "
            "would look copied by chance."
        )
    held = _count(control)
    sentence += f" By the same rule {number(held)} of {number(len(control.d1))} held-out rows are copies, by chance."
    if _by_chance(count, n, held, len(control.d1)) < _DOUBT or _equal(r) > 0 == _equal(control):
        return f"{sentence} Chance likeness does not explain the samples: they hold copies of training rows."
    if count == 0:
        return f"{sentence} No copying is shown; at most {share(r.memorized_interval[1])} of such samples are copies."
    return f"{sentence} That is not more than chance likeness explains."


def _on_equal(e: Evidence, one: Compared) -> str:
    equal = _equal(one.result)
    what = "at distance 0 from" if e.features or e.rule.metric == "cosine" else "equal to"
    return f"{number(equal)} of {e.name(one)} {'is' if equal == 1 else 'are'} {what} a training row." if equal else ""


def _on_closest(e: Evidence) -> str:
    p = e.pairs[0]
    farther = e.farther(p.distance)
    of = "" if len(e.found) == 1 else f" of {p.file}"
    sentence = (
        f"The closest pair is sample {p.sample}{of} and training row {e.data.numbers[p.row]}: their distance is "
        f"{number(p.distance)}, the next row is {number(p.second_distance)} away."
    )
    if farther is None:
        return sentence
    if farther == 0:
        return f"{sentence} Training rows are nearer to each other than that."
    which = "All" if farther == 1 else f"At least {share(farther)} of the"
    return f"{sentence} {which} training rows are at least that far from any other training row."


def _capital(name: str) -> str:
    return "The samples" if name == "the samples" else name
