"""The parts of a report about a model's samples: copying, the closest pairs, coverage, what the words mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import interp_fast as itf

from .._copies import along, share_of
from .._figures import COLOURS, INK
from .._pictures import show
from .._text import interval, number, share
from .conclusions import capital, ordinal, rule
from .evidence import EQUAL_PAIRS, Evidence
from .judgement import Judgement, equal
from .parts import Block, Bullets, Chart, Gallery, Html, Paragraph, Part, Table

__all__ = ["PARTS", "answers"]

_ANSWERS = {
    "yes": "yes",
    "chance": "not shown: no more copies than by chance",
    "none": "not shown: no copies among these",
    "open": "open, not settled",
}
_REASONS = {
    "holdout": "no held-out rows to tell chance by",
    "leak": "held-out rows that are training rows",
    "repeats": "near copies of rows that have equal ones, which the rule does not count",
    "k": "samples equal to a row, and nobody looked whether training rows are equal",
}


def answers(e: Evidence) -> Table:
    """Whether the model copies, and how much."""
    rows = [
        (
            one.file,
            _answer(judgement).split(":")[0],
            interval(one.result.memorized, one.result.memorized_interval),
        )
        for one, judgement in zip(e.found, e.judgements, strict=True)
    ]
    return Table(rows, ("", "does the model copy?", "copies among its samples"))


def copying(e: Evidence) -> Part:
    """How many samples are copies, beside held-out rows."""
    same = "equal to a row" if e.by_numbers else "at distance 0"
    header = ("", "how many", same, "copies", "spurious", "novel", "authentic", "C_T")
    lines = [_line(capital(e.name(one)), one.result) for one in e.found]
    if e.control is not None:
        lines.append(_line("Held-out rows", e.control))
    beside = "" if e.control is None else ": compare with the held-out rows"
    caption = (
        "Copies, spurious and novel ones make 100 % together. In brackets: between these per cents lies the share "
        "among all that the model would make (95 % confidence). Authentic ones are not all, even where nothing is "
        f"copied{beside}."
    )
    blocks: list[Block] = [Table(lines, header, caption)]
    if len(e.found) > 1:
        below = "The share of copies in each file, 1 for all; shaded, the ranges in brackets."
        if e.control is not None:
            below += " Dashed, the share of held-out rows that look copied."
        blocks.append(Chart(lambda ax: _shares(ax, e), "Share of copies in each file", below, size=(8.6, 2.8)))
    below = (
        "Upwards the share of samples that are nearer to a training row than the distance to the right. Many copies "
        "lift the curve of the samples at the left, above the others; a few are a small step there, and the table "
        "counts them."
    )
    title = "Distances to the nearest training row"
    blocks.append(Chart(lambda ax: _distances(ax, e), title, below, size=(8.6, 3.4)))
    numbers = [
        {"file": one.file} | one.result.to_dict() | {"made_alike": one.made_alike, "equal": equal(one.result)}
        for one in e.found
    ]
    verdict = []
    for one, judgement in zip(e.found, e.judgements, strict=True):
        of = "" if len(e.found) == 1 else f" {one.file}"
        verdict.append((f"does the model copy?{of}", _answer(judgement)))
        verdict.append((f"copies among {e.name(one)}", interval(one.result.memorized, one.result.memorized_interval)))
    control = None if e.control is None else e.control.to_dict()
    return Part("copying", "Copying", {"files": numbers, "holdout": control}, blocks, (), verdict)


def closest(e: Evidence) -> Part:
    """The closest pairs, as numbers and pictures."""
    header = ("sample", "nearest row", "distance to it", "second nearest", "distance to it", "ratio",
              "rows with none so near", "by the rule", "copies of the row")  # fmt: skip
    lines, records, shown = [], [], []
    numbers = e.data.numbers
    for p in e.pairs:
        farther, row, second = e.farther(p.distance), int(numbers[p.row]), int(numbers[p.second])
        sample = str(p.sample) if len(e.found) == 1 else f"{p.sample} of {p.file}"
        around = "–" if farther is None else "all" if farther == 1 else f"≥ {share(farther)}"
        kind = {"memorized": "copy", "novel": "no copy"}.get(p.kind, p.kind)
        kind += ", but several rows are as near" if p.repeats else ""
        lines.append((sample, str(row), number(p.distance), str(second), number(p.second_distance), f"{p.ratio:.2g}",
                      around, kind, number(p.copies)))  # fmt: skip
        records.append(
            {"file": p.file, "sample": p.sample, "row": row, "second_row": second, "distance": p.distance,
             "second_distance": p.second_distance, "ratio": p.ratio, "class": p.kind, "copies_of_row": p.copies,
             "rows_farther": farther, "row_repeats": p.repeats}
        )  # fmt: skip
        if e.data.shape is not None:
            rows = e.data.rows
            pictures: Sequence[Html] = [
                e.draw(p.x, "sample"), e.draw(rows[p.row], "nearest row"), e.draw(rows[p.second], "second nearest row")
            ]  # fmt: skip
            shown.append((pictures, f"sample {sample}: {kind}\nrow {row}, row {second}"))
    by = "ratio" if e.rule.radius is None else "distance"
    caption = (
        "Each training row once, with the sample nearest to it; the least "
        f"{by} first, whether or not it is a copy. Of those at distance 0 no more than {EQUAL_PAIRS} while there are "
        "others. Samples and rows have the numbers of their files, from 0. Rows with none so near: the share of "
        "training rows whose nearest other training row is farther away than this sample's nearest row; all: no two "
        "training rows are so near to each other. Copies of the row: how many samples of the file are copies of it."
    )
    if any(p.repeats for p in e.pairs):
        caption += (
            " Where several rows are as near, the second nearest is the next that is farther, and the ratio is to "
            "that; the rule does not count such a sample."
        )
    blocks: list[Block] = [Table(lines, header, caption)]
    if shown:
        below = (
            "In each group from left to right: the sample, the training row nearest to it, the second nearest one. "
            "A copy shows the same on the left and in the middle, and something else on the right."
        )
        blocks.insert(0, Gallery(shown, below))
    return Part("closest_pairs", "The closest pairs", {"pairs": records}, blocks)


def coverage(e: Evidence) -> Part:
    """How much of the training set the samples reach."""

    def cells(name: str, r: itf.Memorization) -> tuple[str, ...]:
        shares = (r.precision, r.recall, r.coverage)
        density = "–" if r.density is None else f"{r.density:.2f}"
        return (name, number(len(r.d1)), *("–" if value is None else share(value) for value in shares), density)

    header = ("", "how many", "precision", "recall", "coverage", "density")
    lines = [cells(capital(e.name(one)), one.result) for one in e.found]
    beside = "values for equal numbers only"
    if e.control is not None:
        lines.append(cells("Held-out rows", e.control))
        beside = f"with the held-out rows, and {beside}"
    caption = (
        "How like the training set the samples are as a whole, and how much of it they show; this says nothing about "
        f"copying. All four depend on the numbers of samples and rows: compare {beside}. A dash: left out, or too few "
        "points."
    )  # fmt: skip
    return Part("coverage", "Coverage", {}, [Table(lines, header, caption)])


def words(e: Evidence) -> Part:
    """A dictionary."""
    r = e.rule
    angle = "the angle between two, as 1 − cosine" if r.metric == "cosine" else (
        "the root of the sum of their squared differences, number by number"
    )  # fmt: skip
    kth = "" if e.k is None else ordinal(e.k)
    left_out = "Left out here." if e.k is None else ""
    through = "" if e.features is None else f", after {e.features} has turned each into a list of features"
    scale = "" if e.typical is None else (
        f" For scale: half of the training rows have another one within {number(e.typical)}."
    )  # fmt: skip
    terms = [
        ("training row", "One item that the model was trained on, as a list of numbers; of a picture, its pixels."),
        ("sample", "One item that the model has made."),
        ("held-out row", "An item of the same kind that the model was not trained on. What looks copied among these is "
                         "chance."),
        ("distance", f"How different two items are: {angle}{through}. 0: the same.{scale}"),
        ("ratio", "Distance to the nearest training row over the distance to the second nearest. Near 0: the sample is "
                  "that row; near 1: it is no nearer to one row than to others."),
        ("copy", f"{rule(r)} Also called memorized."),
        ("spurious", "Not a copy, and much nearer to another sample than to any training row: the model repeats "
                     "something that is not in the training set."),
        ("novel", "Neither a copy nor spurious."),
        ("in brackets", "The samples are some of the many that the model would make. Between these "
                        "per cents lies the share among all of them, in at least 95 of 100 such reports."),
        ("chance", "What is found without copying, because items of this kind are alike. Whether it explains the "
                   "number of copies is decided by Fisher's exact test of samples and held-out rows; yes is said by "
                   "mistake in at most 1 of 40 reports about models that do not copy. Samples at "
                   "distance 0 from a row are counted apart, beside held-out rows that are, and training rows that are "
                   "at distance 0 from another."),
        ("authentic", "Share of samples farther from their nearest row than that row is from its own nearest row. "
                      "Unseen items do not reach 100 % either: read it beside that of the held-out rows."),
        ("C_T", "A test of whether samples as a whole are nearer to the training rows than held-out rows are, in "
                "standard deviations: about 0 when they are not, below −3 when they are. A few copies among many "
                "samples hardly move it."),
        ("precision", left_out or f"How many samples are nearer to some training row than that row's {kth} neighbour "
                                  "among the rows."),
        ("recall", left_out or f"How many training rows are nearer to some sample than that sample's {kth} neighbour "
                               "among the samples."),
        ("coverage", left_out or f"How many training rows have a sample nearer than their {kth} neighbour among the "
                                 "rows. More samples raise it."),
        ("density", left_out or "As precision, but counting to how many rows a sample is so near: 1, on average, for "
                                "samples that are spread as the rows are."),
    ]  # fmt: skip
    return Part("words", "What the words mean", {}, [Table(terms)])


def limits(e: Evidence) -> Part:
    """How it was measured, and what that cannot show."""
    data, made = e.data, list(dict.fromkeys(words for one in e.found for words in one.made_alike))
    facts = [
        ("training set", f"{data.source}, {e.drawn or f'{number(len(data.rows))} rows'}; {number(data.rows.shape[1])} "
                         "numbers each"),
        ("samples", "; ".join(f"{one.file}, {number(len(one.result.d1))}" for one in e.found)),
        ("held-out rows", "none" if e.control is None else f"{e.holdout}, {number(len(e.control.d1))}"),
        ("numbers", f"compared {show(data.range)}"),
        ("features", e.features or "none: distances are between the numbers as given"),
        ("search", f"exact: every sample with every {'one of these rows' if e.drawn else 'training row'}"),
    ]  # fmt: skip
    cannot = [
        "Only these samples were looked at, and the ranges hold if they were not picked. They say how many copies more "
        "samples of the same kind may hold.",
        "A copy that was cropped, moved, mirrored or recoloured is far away in the numbers as given; features that do "
        "not change with such edits find it (--features)."
        if e.features is None
        else "A copy whose features are others than those of the original is not found, however like it looks.",
        "A sample may be like a row because many rows are alike. That is what the second nearest row, the distances "
        "between training rows and the held-out rows are for.",
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


def _answer(judgement: Judgement) -> str:
    return f"{_ANSWERS[judgement.answer]}{': ' * bool(judgement.reasons)}" + "; ".join(
        _REASONS[reason] for reason in judgement.reasons
    )


def _line(name: str, r: itf.Memorization) -> tuple[str, ...]:
    kinds = (interval(r.memorized, r.memorized_interval), share(r.spurious), share(r.novel))
    c_t = "–" if r.c_t is None else f"{r.c_t:.1f}".replace("-", "−")
    return (name, number(len(r.d1)), number(equal(r)), *kinds, share(r.authenticity), c_t)


def _shares(ax: Any, e: Evidence) -> None:
    x = along(ax, e.found)
    share_of(ax, x, [one.result for one in e.found], "memorized", color=COLOURS[0])
    if e.control is not None:
        ax.axhline(e.control.memorized, linestyle="--", color=INK, linewidth=1.2)
    ax.set(ylabel="share of copies")
    ax.set_ylim(bottom=0)


def _distances(ax: Any, e: Evidence) -> None:
    for one, colour in zip(e.found, _colours(len(e.found)), strict=True):
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


def _colours(count: int) -> Sequence[Any]:
    """Of so many files; of many in a row from dark to light."""
    if count < len(COLOURS):
        return COLOURS[:count]
    from matplotlib import colormaps

    return [colormaps["viridis"](place / count) for place in range(count)]
