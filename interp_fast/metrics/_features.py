"""Features of samples and rows: computed in batches, or given."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays
from .._training_set import TrainingSet
from ..field import Field, oracle_of
from ._points import Tell

__all__ = ["features_of", "length"]

_BATCH = 256  # rows at a time


def length(points: Any, name: str) -> int:
    """Number of rows of an array, a row source, a list or a Field."""
    if isinstance(points, Field):
        return points.N
    shape = getattr(points, "shape", None) if hasattr(points, "shape") else np.shape(points)
    if not shape:
        msg = f"{name} must be an array of shape (N, ...); got {type(points).__name__}."
        raise TypeError(msg)
    return int(shape[0])


def features_of(features: Any, given: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Name -> features (m, f) of what is given by that name, made by a callable or taken from a tuple in that order."""
    if callable(features):
        kinds = {name: _stored(points) for name, points in given.items()}
        bytes_ = {name: points.dtype for name, points in kinds.items() if str(points.dtype).endswith("uint8")}
        if bytes_ and len(bytes_) < len(kinds):
            seen = ", ".join(f"{name} {points.dtype}" for name, points in kinds.items())
            msg = f"features must see rows of one unit, but bytes are mixed with other numbers: {seen}. Convert them."
            raise ValueError(msg)
        return {name: _computed(features, points, name, tell) for name, points in kinds.items()}
    if not isinstance(features, tuple):
        msg = (
            "features must be a callable, features(rows) -> array (m, f), or a tuple of arrays (samples, data[, "
            f"holdout]); got {type(features).__name__}."
        )
        raise TypeError(msg)
    names = ("samples", "data", "holdout")
    if len(features) not in (2, 3) or len(features) < len(given):
        wanted = ", ".join(given)
        msg = f"features must hold an array for each of {wanted}; got {len(features)} arrays."
        raise ValueError(msg)
    found = dict(zip(names, features, strict=False))
    for name, points in given.items():
        if length(found[name], f"features of {name}") != length(points, name):
            msg = (
                f"features of {name} must have a row for each of its {length(points, name)} rows; got "
                f"{length(found[name], name)}."
            )
            raise ValueError(msg)
    return found


def _stored(points: Any) -> Any:
    """Rows as they are given, to be sliced; of a Field in their shape, bfloat16 by its values."""
    if isinstance(points, Field):
        return _Rows(oracle_of(points).training_set)
    return points if hasattr(points, "dtype") else np.asarray(points)


class _Rows:
    """Rows of a field as they were given to it; those of bfloat16, kept as patterns of bits, by their values."""

    def __init__(self, data: TrainingSet) -> None:
        self._data, self._halves = data, data.rows.dtype == np.uint16
        self.dtype = np.dtype(np.float32) if self._halves else data.rows.dtype
        self.shape = (data.n, *data.event)

    def __getitem__(self, block: slice) -> npt.NDArray[Any]:
        rows = self._data.rows[block]
        if self._halves:
            rows = _arrays.widen(rows, None).astype(np.float32)
        shaped: npt.NDArray[Any] = rows.reshape(len(rows), *self._data.event)
        return shaped


def _computed(features: Any, points: Any, name: str, tell: Tell) -> npt.NDArray[Any]:
    n = length(points, name)
    if n == 0:
        msg = f"{name} must hold at least one row; got shape {tuple(points.shape)}."
        raise ValueError(msg)
    table: npt.NDArray[Any] = np.empty((0, 0))
    for first in range(0, n, _BATCH):
        stop = min(first + _BATCH, n)
        made, _ = _arrays.as_array(features(points[first:stop]), f"features({name}[{first}:{stop}])")
        if first == 0:
            table = np.empty((n, *made.shape[1:]), made.dtype)
        if made.ndim != 2 or made.shape != (stop - first, *table.shape[1:]) or made.dtype != table.dtype:
            wanted = f"{table.dtype} ({stop - first}, {table.shape[1]})" if first and table.ndim == 2 else (
                f"({stop - first}, f), one row for each"
            )  # fmt: skip
            msg = (
                f"features must return an array of shape {wanted}; for {name}[{first}:{stop}] got {made.dtype} "
                f"{made.shape}."
            )
            raise ValueError(msg)
        table[first:stop] = made
        tell(stop - first)
    return table
