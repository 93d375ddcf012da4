"""Points that are compared with a training set, and the rows nearest to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, backends
from .._training_set import TrainingSet

__all__ = ["read_points", "training_set", "two_nearest"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def read_points(points: Any, name: str, rows: npt.NDArray[Any], *, scale: tuple[float, float] | None = None) -> Float:
    """(m, d) float64 values of samples or held-out rows; ``scale`` that of byte ``rows`` unless it is the default."""
    stored, own, _ = _arrays.rows(points, name)
    if stored.shape[1] != rows.shape[1]:
        msg = f"{name} must have the {rows.shape[1]} columns of data; got shape {stored.shape}."
        raise ValueError(msg)
    if own is not None and rows.dtype != np.uint8:
        msg = f"{name} must not be uint8 when data is {rows.dtype}; convert it to the units of data."
        raise ValueError(msg)
    wide = np.ascontiguousarray(_arrays.widen(stored[:], None if own is None else scale or own))
    _arrays.check_finite(wide, name)
    return wide


def training_set(rows: npt.NDArray[Any], scale: tuple[float, float] | None = None) -> TrainingSet:
    return TrainingSet(
        rows,
        _arrays.log_weights(None, rows.shape[0]),
        scale=scale,
        kind=lambda a: a,
        bandwidth=0.0,
        backend="auto",
        threads=backends.default_threads(),
        low_memory=False,
    )


def two_nearest(training: TrainingSet, x: Float) -> tuple[Int, Float, Float]:
    """The nearest row and the distances to it and to the second nearest; inf when there is one row."""
    index, squared = training.nearest(x, min(2, training.n))
    distance = np.sqrt(squared)
    return index[:, 0], distance[:, 0], distance[:, 1] if distance.shape[1] == 2 else np.full(len(x), np.inf)
