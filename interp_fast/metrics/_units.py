"""Whether points are in the units and the layout of a training set."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _pictures
from .._training_set import TrainingSet
from ._points import training_set

__all__ = ["fitting_layout", "warn_of_units"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_LOOKED_AT = 64  # samples that tell of a layout


def warn_of_units(name: str, x: Float, training: TrainingSet, rows: npt.NDArray[Any]) -> None:
    """UserWarning when distances between x and the data, of which ``rows`` are some, cannot mean anything."""
    beyond = _pictures.OVERSHOOT if name == "samples" else _pictures.BEYOND
    mine = _pictures.find_range(x, beyond)
    theirs = _pictures.find_range(_arrays.widen(rows, None)) if training.scale is None else _pictures.SIGNED
    if mine is not None and theirs is not None and mine != theirs:
        read = " (bytes are read as 2/255 byte - 1)" if training.scale is not None else ""
        msg = (
            f"the values of {name} lie {_pictures.show(mine)} and those of data {_pictures.show(theirs)}{read}: "
            "distances between them mean nothing; bring both to one range."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    elif found := fitting_layout(x, training):
        msg = f"{name} are far nearer to data when they are taken to be laid out {found[0]}; bring both to one layout."
        warnings.warn(msg, UserWarning, stacklevel=3)


def fitting_layout(x: npt.NDArray[Any], data: TrainingSet | npt.NDArray[Any]) -> tuple[str, Int] | None:
    """A layout in which x fits the data far better than as it is, and the columns that bring it to that of the data."""
    training = data if isinstance(data, TrainingSet) else training_set(data)
    some = np.ascontiguousarray(x[:: -(-len(x) // _LOOKED_AT)], np.float64)
    given = None
    for name, columns in _pictures.layouts(training.d).items():
        given = training.nearest(some)[1][:, 0] if given is None else given
        moved = training.nearest(np.take(some, columns, axis=1))[1][:, 0]
        if _pictures.fits_far_better(np.sqrt(moved), np.sqrt(given)):
            return name, columns
    return None
