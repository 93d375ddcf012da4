"""Points between which distances are taken: reading them, their metric, and exact searches that stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, backends
from .._shape import Shape, split
from .._training_set import TrainingSet
from ..field import Field, oracle_of

__all__ = [
    "Points",
    "Scale",
    "Tell",
    "check_metric",
    "equal_rows",
    "own_squares",
    "read_data",
    "read_points",
    "training_set",
    "two_nearest",
]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Scale = tuple[float, float] | None
Tell = Callable[[int], None]  # that so many more points are done with

_QUERY_BYTES = 1 << 26  # of queries that are searched for together
_PARALLEL = 2.0**-99  # |u - v|^2 of unit vectors is rounding below this


def check_metric(metric: Any) -> None:
    """ValueError unless it is one of those there are."""
    if metric not in ("euclidean", "cosine"):
        msg = f"metric must be 'euclidean' or 'cosine'; got {metric!r}."
        raise ValueError(msg)


def read_data(data: Any, name: str = "data") -> TrainingSet:
    """The rows of an array, or those of a Field: with its backend, threads and scale, and what it has prepared."""
    if isinstance(data, Field):
        return oracle_of(data).training_set
    rows, scale, _, event = _arrays.rows(data, name)
    return training_set(rows, scale, event=event)


def read_points(points: Any, name: str, data: TrainingSet) -> tuple[Any, Scale, Callable[[Array], Any]]:
    """Checked samples or held-out rows (m, d) as they are stored, their scale, and the way back to their kind.

    They have the shape of the data, or are flat.
    """
    stored, scale, kind, event = _arrays.rows(points, name)
    given = (stored.shape[0], *event)
    if stored.shape[1] != data.d:
        msg = f"{name} must have the {data.d} columns of data; got shape {given}."
        raise ValueError(msg)
    split(given, data.event, name, several=True)
    if scale is not None and data.scale is None:
        msg = f"{name} must not be uint8 when data is {data.rows.dtype}; convert it to the units of data."
        raise ValueError(msg)
    scale = None if scale is None else data.scale
    for block in _arrays.blocks(stored):
        _arrays.check_finite(_arrays.widen(stored[block], scale), name, block.start)
    return stored, scale, kind


def training_set(
    rows: Any, scale: Scale = None, like: TrainingSet | None = None, event: Shape | None = None
) -> TrainingSet:
    """Rows of equal weight, on the backend and the threads of another set."""
    return TrainingSet(
        rows,
        _arrays.log_weights(None, rows.shape[0]),
        scale=scale,
        kind=lambda a: a,
        bandwidth=0.0,
        backend="auto" if like is None else like.name,
        threads=backends.default_threads() if like is None else like.threads,
        low_memory=False,
        event=event,
        device=None if like is None else like.device,
    )


@dataclass(frozen=True)
class Points:
    """Points of a space in which distances are those of a metric.

    ``given`` are rows as stored; ``set`` is what is searched: the same, or with "cosine" their directions u = x / |x|,
    of which |u - v|^2 = 2 (1 - cos): small distances keep their digits. Directions are made where they are read.
    """

    given: TrainingSet
    set: TrainingSet

    @classmethod
    def of(cls, given: TrainingSet, metric: str, name: str) -> Points:
        if metric == "euclidean":
            return cls(given, given)
        if metric not in given.memo:
            given.memo[metric] = training_set(_arrays.Source(_Directions(given, name), name), like=given)
        return cls(given, given.memo[metric])

    @property
    def n(self) -> int:
        return self.set.n

    @property
    def cosine(self) -> bool:
        return self.set is not self.given

    def blocks(self, bytes_: int = _QUERY_BYTES) -> list[slice]:
        size = max(1, bytes_ // (8 * self.set.d))
        return [slice(i, min(i + size, self.n)) for i in range(0, self.n, size)]

    def read(self, block: slice) -> Float:
        return self.set.read(block)

    def values(self, index: Int) -> Float:
        values = self.given.values(index)
        return _directions(values) if self.cosine else values

    def squares(self, squared: Float) -> Float:
        """Squared distances without those that are rounding: 0 between parallel vectors."""
        if self.cosine:
            squared[squared < _PARALLEL] = 0.0
        return squared

    def nearest(self, x: Float, k: int) -> tuple[Int, Float]:
        """Numbers and squared distances (m, k) of the points nearest to x (m, d), lowest at ties."""
        index, squared = self.set.nearest(x, k)
        squared = self.squares(squared)
        if self.cosine:
            order = np.lexsort((index, squared), axis=1)
            index, squared = np.take_along_axis(index, order, axis=1), np.take_along_axis(squared, order, axis=1)
        return index, squared

    def search(self, among: Points, k: int, tell: Tell) -> Iterator[tuple[slice, Int, Float]]:
        """For block after block of these points the k nearest ``among`` others."""
        for block in self.blocks():
            index, squared = among.nearest(self.read(block), k)
            tell(block.stop - block.start)
            yield block, index, squared

    def distance(self, squared: Float) -> Float:
        """Of the metric, from squared distances in the set that is searched."""
        distance: Float = squared / 2 if self.cosine else np.sqrt(squared)
        return distance


class _Directions:
    """Rows of unit length as a row source; ValueError naming a row that has no direction."""

    dtype = np.dtype(np.float64)

    def __init__(self, rows: TrainingSet, name: str) -> None:
        self._rows, self._name, self.shape = rows, name, (rows.n, rows.d)

    def __getitem__(self, block: slice) -> Float:
        values = self._rows.read(block)
        zero = ~values.any(axis=1)
        if zero.any():
            msg = (
                f"{self._name} must not hold rows that are 0 with metric='cosine', which have no direction; row "
                f"{block.start + int(np.argmax(zero))} is. Leave them out."
            )
            raise ValueError(msg)
        return _directions(values)


def _directions(values: Float) -> Float:
    values = values / np.abs(values).max(axis=1, keepdims=True)  # squares neither overflow nor vanish
    values /= np.sqrt(np.einsum("ij,ij->i", values, values))[:, None]
    return values


def two_nearest(x: Points, data: Points, tell: Tell) -> tuple[Int, Float]:
    """Of each point the nearest row (m,), and squared distances (m, 2) to it and to the second nearest, inf if none."""
    index, squares = np.empty(x.n, np.int64), np.full((x.n, 2), np.inf)
    for block, found, squared in x.search(data, min(2, data.n), tell):
        index[block] = found[:, 0]
        squares[block, : squared.shape[1]] = squared
    return index, squares


def own_squares(points: Points, k: int | None, tell: Tell) -> Float:
    """Squared distances (n, 2) of each point to its nearest other one and to its k-th; inf where there are not so many.

    Remembered by the points: whoever compares many things with the same rows searches once.
    """
    key = ("own", k)
    if key in points.set.memo:
        tell(points.n)
    else:
        squares = np.full((points.n, 2), np.inf)
        reach = k if k is not None and k < points.n else min(1, points.n - 1)
        # A point itself, at distance 0, is one of the nearest, or equal to all of them.
        for block, _, squared in points.search(points, reach + 1, tell):
            squares[block, 0] = squared[:, 1] if reach else np.inf
            squares[block, 1] = squared[:, k] if reach == k else np.inf
        points.set.memo[key] = squares
    remembered: Float = points.set.memo[key]
    return remembered


def equal_rows(data: Any, metric: str, k: int | None) -> int:
    """How many rows are at distance 0 from another one, by the search that :func:`own_squares` remembers for k."""
    squares = own_squares(Points.of(read_data(data), metric, "data"), k, lambda rows: None)
    return int(np.count_nonzero(squares[:, 0] == 0))
