"""Pictures as rows of numbers: the range of their values, the place of their channels, and how two sets are made alike.

A range is told from the values, and only when they fill it from end to end; a layout from the shapes where there are
any, else by which of the possible ones puts rows nearest to each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ._shape import Shape

__all__ = [
    "SIGNED",
    "UNSURE",
    "Pictures",
    "Range",
    "Shape",
    "alike",
    "drawable",
    "drawn",
    "find_range",
    "fits_far_better",
    "in_range",
    "layouts",
    "show",
]

Array = npt.NDArray[Any]
Range = tuple[float, float]
SIGNED: Range = (-1.0, 1.0)  # what bytes become
_RANGES: tuple[Range, ...] = ((0.0, 255.0), (0.0, 1.0), SIGNED)
_ENOUGH = 100  # fewer values fill a range by chance
_SHORT, BEYOND, OVERSHOOT = 0.05, 0.02, 0.25  # of the width: how far from its ends the extreme values may be
UNSURE = "compared as they are"  # what is said when the range of one side alone is known
_LEAST_SIDE = 4  # of what may be a picture when nothing says so


@dataclass(frozen=True)
class Pictures:
    """Rows (N, d), the shape that each has where they come from, and the range of their values if it is known."""

    rows: Array
    shape: Shape
    range: Range | None


def find_range(values: Array, beyond: float = BEYOND, count: int | None = None) -> Range | None:
    """The one of 0 ... 255, [0, 1], [-1, 1] that the values fill; None when none does.

    Samples of a model may overshoot: let them by ``beyond`` of the width. ``values`` may be the least and the greatest
    of ``count``.
    """
    if (values.size if count is None else count) < _ENOUGH:
        return None
    low, high = float(values.min()), float(values.max())
    for start, end in _RANGES:
        width = end - start
        below, above = (start - low) / width, (high - end) / width
        if -_SHORT <= below <= beyond and -_SHORT <= above <= beyond:
            return start, end
    return None


def show(values: Range | None) -> str:
    return "of a range that is not known" if values is None else f"in [{values[0]:g}, {values[1]:g}]"


def spread(rows: Array, old: Range, new: Range) -> Array:
    """Values that lay in ``old``, in ``new``."""
    if old == new:
        return rows
    wide = new[0] + (rows.astype(np.float64) - old[0]) * ((new[1] - new[0]) / (old[1] - old[0]))
    return wide.astype(np.float64 if rows.dtype == np.float64 else np.float32)


def in_range(given: Pictures, asked: Range | None, beyond: float = BEYOND) -> Pictures:
    """With the range asked for, to which values of a known one are brought; else with the known one, or one found."""
    if asked is None:
        return replace(given, range=given.range or find_range(given.rows, beyond))
    rows = given.rows if given.range is None else spread(given.rows, given.range, asked)
    return Pictures(rows, given.shape, asked)


def alike(given: Pictures, data: Pictures, name: str) -> tuple[Pictures, list[str]]:
    """``given`` in the range and the layout of ``data``, as far as both are known, and what was done, in words.

    ValueError when the shapes say that the pictures differ in size.
    """
    rows, said = given.rows, []
    mine, theirs = (tuple(n for n in shape if n > 1) for shape in (given.shape, data.shape))
    if mine != theirs and len(mine) > 1 and len(theirs) > 1:
        moved = {(*mine[1:], mine[0]): ("first", 0, -1), (mine[-1], *mine[:-1]): ("last", -1, 0)}
        if len(mine) != 3 or theirs not in moved:
            ours, other = ("x".join(map(str, shape)) for shape in (given.shape, data.shape))
            msg = f"pictures must be of one size; {name} has {ours} and the data {other}."
            raise ValueError(msg)
        place, source, target = moved[theirs]
        rows = np.take(rows, np.moveaxis(np.arange(rows.shape[1]).reshape(mine), source, target).ravel(), axis=1)
        said.append(f"{name}: channels {place}, reordered as in the data")
    if given.range is not None and data.range is not None and given.range != data.range:
        rows = spread(rows, given.range, data.range)
        said.append(f"{name}: values {show(given.range)}, brought to those of the data, {show(data.range)}")
    elif (given.range is None) != (data.range is None):
        said.append(f"{name}: values {show(given.range)}, data {show(data.range)}; {UNSURE}")
    return Pictures(rows, data.shape, given.range if data.range is None else data.range), said


def drawable(layout: Shape) -> Shape | None:
    """(height, width) or (height, width, 3) of a picture whose numbers come in this shape; None when it is none.

    One axis says nothing: as many numbers as a square has are taken for one.
    """
    if len(layout) == 1:
        side = math.isqrt(layout[0])
        return (side, side) if side * side == layout[0] and side >= _LEAST_SIDE else None
    if len(layout) == 3 and layout[0] in (1, 3) and layout[2] not in (1, 3):  # channels first
        layout = (*layout[1:], layout[0])
    if len(layout) == 3 and layout[2] == 1:
        layout = layout[:2]
    return layout if len(layout) == 2 or (len(layout) == 3 and layout[2] == 3) else None


def drawn(values: Array, layout: Shape, shape: Shape) -> Array:
    """The numbers of a picture in the shape to draw it in."""
    if len(shape) == len(layout) == 3 and shape != layout:
        return np.moveaxis(values.reshape(layout), 0, -1)
    return values.reshape(shape)


def layouts(d: int) -> dict[str, npt.NDArray[np.int64]]:
    """Ways in which rows of d numbers could be laid out: name -> columns that bring such rows to the other layout."""
    columns, found = np.arange(d), {}
    if d % 3 == 0 and d >= 3 * _LEAST_SIDE**2:
        found["channels first"] = columns.reshape(3, -1).T.ravel()
        found["channels last"] = columns.reshape(-1, 3).T.ravel()
    side = math.isqrt(d)
    if side * side == d and side >= _LEAST_SIDE:
        found["column by column"] = columns.reshape(side, side).T.ravel()
    return found


def fits_far_better(other: npt.NDArray[np.float64], given: npt.NDArray[np.float64]) -> bool:
    """Whether distances ``other`` to the nearest rows, of samples laid out anew, are those of the right layout.

    Many come to half the distance or less and few get twice as far away: more than chance does when both are as likely
    (3.5 standard deviations, or 13 samples against none).
    """
    nearer, farther = int(np.sum(other < 0.5 * given)), int(np.sum(given < 0.5 * other))
    return nearer > farther and (nearer - farther) ** 2 > 12 * (nearer + farther)
