"""Whether points are in the units and the layout of a training set."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _pictures
from .._training_set import TrainingSet
from ._points import Scale, training_set

__all__ = ["fitting_layout", "warn_of_units"]

Int = npt.NDArray[np.int64]

_LOOKED_AT = 64  # samples that tell of a layout
_TELL_OF_RANGE = 5_000  # rows of data


def warn_of_units(name: str, stored: Any, scale: Scale, data: TrainingSet, *, layout: bool = True) -> None:
    """UserWarning when distances of points to the data cannot mean anything: another range or layout of values."""
    theirs = _range(data.stored(_evenly(data.n, _TELL_OF_RANGE)), data.scale, _pictures.BEYOND)
    mine = _range(stored, scale, _pictures.OVERSHOOT if name == "samples" else _pictures.BEYOND)
    if mine is not None and theirs is not None and mine != theirs:
        read = ""
        if data.scale is not None:
            a, b = data.scale
            read = f" (bytes are read as {'2/255' if a == 2 / 255 else f'{a:.6g}'} byte {'+-'[b < 0]} {abs(b):g})"
        msg = (
            f"the values of {name} lie {_pictures.show(mine)} and those of data {_pictures.show(theirs)}{read}: "
            "distances between them mean nothing; bring both to one range."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    elif layout and (found := fitting_layout(stored, data, scale)):
        msg = f"{name} are far nearer to data when they are taken to be laid out {found[0]}; bring both to one layout."
        warnings.warn(msg, UserWarning, stacklevel=3)


def _range(stored: Any, scale: Scale, beyond: float) -> _pictures.Range | None:
    """The usual range that stored rows fill; of bytes, that which all of them would."""
    if scale is not None:
        return _pictures.find_range(_arrays.widen(np.arange(256, dtype=np.uint8), scale))
    low, high, count = np.inf, -np.inf, 0
    for block in _arrays.blocks(stored):
        values = _arrays.widen(stored[block], None)
        low, high, count = min(low, values.min()), max(high, values.max()), count + values.size
    return _pictures.find_range(np.array([low, high]), beyond, count)


def _evenly(n: int, most: int) -> Int:
    """At most so many of the numbers below n, at even distances."""
    return np.arange(0, n, -(-n // most))


def fitting_layout(x: Any, data: TrainingSet | npt.NDArray[Any], scale: Scale = None) -> tuple[str, Int] | None:
    """A layout in which x fits the data far better than as it is, and the columns that bring it to that of the data."""
    training = data if isinstance(data, TrainingSet) else training_set(data)
    layouts = _pictures.layouts(training.d)
    if not layouts:
        return None
    some = _arrays.widen(np.concatenate([x[i : i + 1] for i in _evenly(x.shape[0], _LOOKED_AT).tolist()]), scale)
    given = training.nearest(some)[1][:, 0]
    for name, columns in layouts.items():
        moved = training.nearest(np.take(some, columns, axis=1))[1][:, 0]
        if _pictures.fits_far_better(np.sqrt(moved), np.sqrt(given)):
            return name, columns
    return None
