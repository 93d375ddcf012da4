"""Balls around points out to their k-th nearest other point: precision, recall, density, coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ._points import Points, Tell

__all__ = ["Support", "support"]

Float = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

_TILE_BYTES = 1 << 22  # of rows, and of samples, that meet at once ...
_TILE_MOST = 1 << 10  # ... but no more than so many
_PAIR_NUMBERS = 1 << 20  # of differences formed at once
_ROUNDING = 2.0**-52
_RIM = 1e-12  # squared distances this near, relatively, to the square of a radius are equal to it


@dataclass(frozen=True)
class Support:
    """None where there are not k + 1 points to make balls of."""

    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None


def support(data: Points, samples: Points, data_reach: Float, sample_reach: Float, k: int, tell: Tell) -> Support:
    """Which samples lie in balls of rows and which rows in balls of samples, of squared radii ``..._reach``.

    All pairs meet, tile by tile, by products in float64: |x - y|^2 = |x|^2 + |y|^2 - 2 <x, y> about the mean of the
    rows. Those so near a rim that rounding could decide are measured again, as differences.
    """
    by_rows, by_samples = data.n > k, samples.n > k
    if not (by_rows or by_samples):
        tell(data.n)
        return Support(None, None, None, None)
    held = np.zeros(samples.n, np.int64)  # open balls around rows that hold a sample
    touched = np.zeros(samples.n, bool)  # whether one does, its rim with it
    covered, recalled = np.zeros(data.n, bool), np.zeros(data.n, bool)
    center = data.set.moments.center
    for some in _tiles(data):
        x = data.read(some)
        moved = x - center
        for others in _tiles(samples):
            y = samples.read(others)
            pairs = _Pairs(x, y, moved, y - center, data)
            if by_rows:
                open_, closed = pairs.within(data_reach[some, None])
                held[others] += np.count_nonzero(open_, axis=0)
                touched[others] |= closed.any(axis=0)
                covered[some] |= open_.any(axis=1)
            if by_samples:
                recalled[some] |= pairs.within(sample_reach[None, others])[1].any(axis=1)
        tell(len(x))
    return Support(
        precision=float(touched.mean()) if by_rows else None,
        recall=float(recalled.mean()) if by_samples else None,
        density=float(held.sum()) / (k * samples.n) if by_rows else None,
        coverage=float(covered.mean()) if by_rows else None,
    )


def _tiles(points: Points) -> list[slice]:
    return points.blocks(min(_TILE_BYTES, 8 * points.set.d * _TILE_MOST))


class _Pairs:
    """Squared distances of all x to all y, and how far each may be off."""

    def __init__(self, x: Float, y: Float, moved_x: Float, moved_y: Float, space: Points) -> None:
        self._x, self._y, self._space = x, y, space
        x2, y2 = (np.einsum("ij,ij->i", a, a) for a in (moved_x, moved_y))
        self._both = x2[:, None] + y2
        self._squared = moved_x @ moved_y.T
        self._squared *= -2.0
        self._squared += self._both
        # Sums of d products, operands and norms rounded, |x| |y| <= (|x|^2 + |y|^2) / 2: Higham, Accuracy and Stability
        # of Numerical Algorithms, ch. 3.
        self._both *= (2 * x.shape[1] + 16) * _ROUNDING

    def within(self, reach: Float) -> tuple[Bool, Bool]:
        """Whether pairs are nearer than the root of ``reach``, and whether they are no farther."""
        gap = self._squared - reach
        inside = gap < 0
        np.abs(gap, out=gap)
        gap -= _RIM * reach
        near = np.flatnonzero(gap <= self._both)
        if len(near) == 0:
            return inside, inside
        rows, columns = np.unravel_index(near, inside.shape)
        limit = np.broadcast_to(reach, inside.shape)[rows, columns]
        exact = np.empty(len(near))
        size = max(1, _PAIR_NUMBERS // self._x.shape[1])
        for first in range(0, len(near), size):
            some = slice(first, first + size)
            difference = self._x[rows[some]] - self._y[columns[some]]
            exact[some] = np.einsum("ij,ij->i", difference, difference)
        exact = self._space.squares(exact)
        rim = inside.copy()
        inside[rows, columns] = exact < limit * (1 - _RIM)
        rim[rows, columns] = exact <= limit * (1 + _RIM)
        return inside, rim
