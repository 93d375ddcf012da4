"""Monte Carlo over the law of x_t: stratified draws, and means with standard errors."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._oracle import Oracle, Point

__all__ = ["Stream", "bernstein", "draws", "mean", "strata", "stratified"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def draws(
    oracle: Oracle, t: float, n: int, source: _random.NoiseKey, stream: int
) -> Iterator[tuple[slice, Float, Int, Point]]:
    """n draws of x_t = alpha x_index + sigma z in blocks, as (slice of range(n), x, index, schedule there).

    Draw i belongs to stratum i of :func:`strata`; within it rows are drawn by weight. Streams are independent.
    """
    key = _random.subkey(source.key, "queries")
    index = oracle.training_set.chosen(stratified(key, source.first_sample, 2 * stream + 1, n=n))
    for block in _arrays.blocks(np.broadcast_to(np.float64(0), (n, oracle.d))):
        m = block.stop - block.start
        point = oracle.point(t, m)
        z = oracle.training_set.normals(key, source.first_sample + block.start, 2 * stream, n=m)
        yield block, oracle.interpolate(point, index[block], z), index[block], point


def stratified(key: int, first_sample: int, row: int, *, n: int) -> Float:
    """One uniform in (0, 1) for each of n draws, within its stratum."""
    stratum, count = strata(n)
    u: Float = (stratum + _random.uniforms(key, first_sample, row, n=n)) / count
    return np.minimum(u, 1 - 2.0**-53)  # the sum may have been rounded up to 1, past the last row


class Stream:
    """Uniforms and normals of n samples, new ones at each call; streams are independent."""

    def __init__(self, source: _random.NoiseKey, n: int, stream: int) -> None:
        self._key, self._first, self._n = _random.subkey(source.key, "pairs"), source.first_sample, n
        self._row = stream << 16

    def _next(self) -> int:
        self._row += 1
        return self._row

    def uniforms(self) -> Float:
        """In (0, 1), (n,)."""
        return _random.uniforms(self._key, self._first, self._next(), n=self._n)

    def stratified(self) -> Float:
        """In (0, 1), one for each of n draws within its stratum."""
        return stratified(self._key, self._first, self._next(), n=self._n)

    def normals(self, d: int) -> Float:
        """(n, d)."""
        return _random.normals(self._key, self._first, self._next(), n=self._n, d=d)


def strata(n: int) -> tuple[Int, int]:
    """The stratum of each of n draws, two in each (three in the last for odd n), and how many there are."""
    count = n // 2
    return np.minimum(np.arange(n) // 2, count - 1), count


def mean(values: Float) -> tuple[float, float]:
    """Mean over equal strata of (n,) values and its standard error, from the variances within strata."""
    stratum, count = strata(len(values))
    size = np.bincount(stratum)
    unit = 2.0 ** int(np.frexp(np.abs(values).max())[1] - 1)  # squares of losses below 1e-162 are 0
    center = np.bincount(stratum, values / unit) / size
    spread = np.bincount(stratum, (values / unit - center[stratum]) ** 2) / (size - 1)
    return unit * float(center.mean()), unit * float(np.sqrt(np.sum(spread / size)) / count)


def bernstein(values: Float, most: float, confidence: float) -> tuple[float, float]:
    """An interval for the mean that holds with at least this confidence for any n, of values in [0, ``most``].

    The empirical Bernstein bound of Maurer and Pontil (COLT 2009, theorems 4 and 10), on either side. It takes the
    variance of all values, not that within strata, which many draws would have to fall in to be known.
    """
    n = len(values)
    stratum, count = strata(n)
    weight = n / (count * np.bincount(stratum))[stratum]  # 1 for even n
    nats = math.log(4 / (1 - confidence))
    part = weight * (values / most)
    center, spread = float(np.mean(part)), float(np.var(part, ddof=1))
    half = math.sqrt(2 * spread * nats / n) + 7 * float(weight.max()) * nats / (3 * (n - 1))
    return most * max(0.0, center - half), most * (center + half)
