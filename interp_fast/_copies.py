"""Samples in many files, compared with one training set: the numbers of each, a table, a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from ._compare import comparable, equal_rows, featured
from ._datasets import Dataset
from ._figures import COLOURS, plain_log, style
from ._pictures import Range
from ._text import columns, interval, number, share

__all__ = [
    "Baseline",
    "Compared",
    "Pair",
    "along",
    "background",
    "compare",
    "draw",
    "in_order",
    "places",
    "share_of",
    "table",
    "within",
]

_KINDS = ("memorized", "spurious", "novel")
_LARGEST = 2**53  # number that an axis tells from the next one
_TIE = 1e-6  # of distances to rows that are equal
_AT_ONCE = 2**22  # distances


@dataclass(frozen=True)
class Pair:
    """A sample and the places of the two rows nearest to it; ``copies``: how many samples copy the nearest.

    ``repeats``: no copy only since several rows are as near; the second one is then the next that is farther.
    """

    file: str
    sample: int
    x: npt.NDArray[Any]
    row: int
    second: int
    distance: float
    second_distance: float
    ratio: float
    kind: str
    copies: int
    repeats: bool


@dataclass(frozen=True)
class Compared:
    """Samples of a file, how they relate to the training set, and what was done to make both alike.

    ``pairs``: the closest ones, if they were asked for, each of another row; ``veiled``: how many samples are no copies
    only because several rows, equal ones, are nearest to them. The index of ``result`` names rows by their numbers in
    the source, pairs name them by their places in the data.
    """

    file: str
    result: itf.Memorization
    made_alike: list[str]
    pairs: list[Pair]
    veiled: int


@dataclass(frozen=True)
class Baseline:
    """What tells copies in all files from chance, if pairs were asked for.

    ``rows``: how many training rows there are; ``repeated``: how many of them are equal to another one, None where they
    were not compared; ``control``: held-out rows in the place of samples.
    """

    rows: int
    repeated: int | None
    control: itf.Memorization | None


def compare(
    files: Sequence[str],
    data: Dataset,
    *,
    holdout: str | None,
    features: Callable[[Any], Any] | None,
    value_range: Range | None,
    progress: Callable[[str, float], None],
    pairs: int = 0,
    **options: Any,
) -> tuple[list[Compared], Baseline | None]:
    """One file after another; what is about the training set alone is found once. ``options`` as in memorization.

    With ``pairs`` that many pairs of each file and the baseline are added.
    """

    def space(rows: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
        done = 0

        def tell(more: int) -> None:
            nonlocal done
            done += more
            progress(f"features of {name}", done / len(rows))

        return rows if features is None else featured(features, rows, data, name, tell)

    field = itf.Field(space(data.rows, "data"))
    held, said = (None, []) if holdout is None else comparable(holdout, data, "holdout", value_range)
    held_space = [] if held is None else [space(held, "holdout")]
    control = None
    if pairs and held_space:
        what_held = f"{len(held_space[0])} held-out rows against {len(data.rows)} rows"
        control = itf.memorization(
            held_space[0], field, progress=lambda done, rows: progress(what_held, done / rows), **options
        )
    found = []
    for i, file in enumerate(files):
        name = "samples" if len(files) == 1 else file
        samples, more = comparable(file, data, name, value_range)
        what = f"{len(samples)} samples against {len(data.rows)} rows"
        points = space(samples, name)
        made = None if features is None else (points, field, *held_space)
        result = itf.memorization(
            samples,
            field,
            holdout=held,
            features=made,
            progress=lambda done, rows, i=i, what=what: progress(what, (i + done / rows) / len(files)),
            **options,
        )
        closest, veiled = _pairs(file, samples, points, field, result, pairs) if pairs else ([], 0)
        named = replace(result, index=data.numbers[result.index])
        found.append(Compared(file, named, more + said, closest, veiled))
    baseline = None
    if pairs:
        k = options.get("k")
        repeated = None if k is None else equal_rows(field, options.get("metric", "euclidean"), k)
        baseline = Baseline(len(data.rows), repeated, control)
    progress("", 1.0)
    return found, baseline


def _pairs(
    file: str,
    samples: npt.NDArray[Any],
    points: npt.NDArray[Any],
    field: itf.Field,
    result: itf.Memorization,
    count: int,
) -> tuple[list[Pair], int]:
    """For each of some rows the sample nearest to it, by what makes a copy: d1 / d2, or d1 with a radius.

    ``count`` of samples at distance 0, and as many of others; and how many are veiled.
    """
    differing = _differing(points, field, result) if result.radius is None else {}
    ratio = result.ratio.copy()
    differing = {i: (row, far) for i, (row, far) in differing.items() if result.d1[i] < result.threshold * far}
    for i, (_, far) in differing.items():
        ratio[i] = result.d1[i] / far
    veiled = sum(result.classes[i] != "memorized" for i in differing)
    order = np.lexsort((result.d1, ratio) if result.radius is None else (ratio, result.d1))
    _, first = np.unique(result.index[order], return_index=True)
    best = order[np.sort(first)]
    equal = result.d1[best] == 0
    chosen = best[np.sort(np.concatenate([np.flatnonzero(of)[:count] for of in (equal, ~equal)]))]
    near = itf.nearest(points[chosen], field, k=2, metric=result.metric)  # type: ignore[arg-type]
    copied = result.index[result.classes == "memorized"]
    made = []
    for k, i in enumerate(chosen):
        second, distance = differing.get(int(i), (near.index[k, 1], near.distance[k, 1]))
        made.append(
            Pair(
                file=file,
                sample=int(i),
                x=samples[i],
                row=int(near.index[k, 0]),
                second=int(second),
                distance=float(near.distance[k, 0]),
                second_distance=float(distance),
                ratio=float(ratio[i]),
                kind=str(result.classes[i]),
                copies=int(np.sum(copied == near.index[k, 0])),
                repeats=int(i) in differing,
            )
        )
    return made, veiled


def _differing(points: npt.NDArray[Any], field: itf.Field, result: itf.Memorization) -> dict[int, tuple[int, float]]:
    """Of each sample that has several nearest rows at one distance the nearest row that is farther, and how far.

    A near copy of a row that occurs twice has a ratio of 1, and one far below it to the next row that differs.
    """
    tied = np.flatnonzero((result.d1 > 0) & (result.ratio > 1 - _TIE))
    found: dict[int, tuple[int, float]] = {}
    k = 4
    while len(tied):
        k, left = min(4 * k, field.N), []
        for part in np.array_split(tied, 1 + len(tied) * k // _AT_ONCE):
            near = itf.nearest(points[part], field, k=k, metric=result.metric)  # type: ignore[arg-type]
            farther = near.distance > near.distance[:, :1] * (1 + _TIE)
            for i, place, some, index, distance in zip(
                part, farther.argmax(axis=1), farther.any(axis=1), near.index, near.distance, strict=True
            ):
                if some:
                    found[int(i)] = int(index[place]), float(distance[place])
                elif k < field.N:
                    left.append(i)
                else:  # all rows are equal
                    found[int(i)] = int(index[-1]), float("inf")
        tied = np.array(left, np.int64)
    return found


def table(found: Sequence[Compared]) -> str:
    """A line for each file."""

    def cells(one: Compared) -> list[str]:
        r = one.result
        shares = [r.precision, r.recall, r.coverage, r.authenticity, r.holdout_copied]
        return [
            one.file,
            str(len(r.d1)),
            *(interval(getattr(r, kind), getattr(r, f"{kind}_interval")) for kind in _KINDS),
            number(float(np.median(r.d1))),
            *("–" if value is None else share(value) for value in shares),
            *("–" if value is None else f"{value:.3g}" for value in (r.density, r.c_t)),
        ]

    head = ["file", "samples", "memorized", "spurious", "novel", "median d1", "precision", "recall", "coverage"]
    head += ["authentic", "held-out copied", "density", "C_T"]
    return "\n".join([columns([head, *map(cells, found)]), "", background(found[0].result)]).rstrip()


def background(result: itf.Memorization) -> str:
    """What distances between training rows are, in a sentence; empty when they were left out."""
    if result.background is None:
        return ""
    half, some = (number(within(result.background, level)) for level in (0.5, 0.05))
    return f"Distance of training rows to their nearest other row: median {half}, 5 % below {some}."


def within(background: itf.Background, level: float) -> float:
    """Such a share of the training rows, one of the levels, has another one within this distance."""
    return float(background.distances[background.levels.tolist().index(level)])


def places(files: Sequence[str]) -> list[int] | None:
    """The number in each name that tells the files apart, the last such that can be drawn; None when there is none."""
    numbers = [re.findall(r"\d+", file) for file in files]
    if len({len(found) for found in numbers}) == 1:
        for column in reversed([list(map(int, column)) for column in zip(*numbers, strict=True)]):
            if len(set(column)) == len(column) and max(column) <= _LARGEST:
                return column
    return None


def in_order(found: Sequence[Compared]) -> list[Compared]:
    """By the numbers in the names of the files, or as given where there are none."""
    at = places([one.file for one in found])
    return list(found) if at is None else [found[i] for i in np.argsort(at)]


def draw(found: Sequence[Compared], path: Path) -> None:
    """Shares of the classes with their intervals, and coverage, over the numbers in the names of the files."""
    found = in_order(found)
    results = [one.result for one in found]
    with style():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.5, 4.2), layout="constrained")
        ax = figure.subplots()
        x = along(ax, found)
        for kind, colour in zip(_KINDS, COLOURS, strict=False):
            share_of(ax, x, results, kind, label=kind, color=colour)
        for name, label in (("coverage", "coverage of the data"), ("holdout_copied", "held-out rows that look copied")):
            values = [getattr(r, name) for r in results]
            if None not in values:
                colour = COLOURS[3 if name == "coverage" else 5]
                ax.plot(x, values, "--", color=colour, linewidth=1.2, label=label)
        ax.set(ylim=(-0.03, 1.03), ylabel="share")
        ax.legend()
        figure.savefig(path, dpi=150)


def along(ax: Any, found: Sequence[Compared]) -> npt.NDArray[Any]:
    """Makes the horizontal axis one of files that are in order; returns their places on it."""
    at = places([one.file for one in found])
    x = np.arange(len(found)) + 1 if at is None else np.array(at)
    if x[0] > 0 and x[-1] > 30 * x[0]:
        ax.set_xscale("log")
        plain_log(ax.xaxis, (1, 2, 5))
    elif at is None:
        ax.set_xticks(x)
    ax.set_xlabel("files, in the order given" if at is None else "number in the names of the files")
    return x


def share_of(ax: Any, x: npt.NDArray[Any], results: Sequence[itf.Memorization], kind: str, **style: Any) -> None:
    """A share of each file with its interval."""
    ax.plot(x, [getattr(r, kind) for r in results], "o-", **style)
    low, high = np.array([getattr(r, f"{kind}_interval") for r in results]).T
    ax.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
