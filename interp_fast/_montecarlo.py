"""Monte Carlo over the law of x_t: stratified draws, and means with standard errors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from .field import Field, _Point

__all__ = ["draws", "mean"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def draws(
    field: Field, t: float, n: int, source: _random.NoiseKey, stream: int
) -> Iterator[tuple[slice, Float, Int, _Point]]:
    """n draws of x_t = alpha x_index + sigma z in blocks, as (slice of range(n), x, index, schedule there).

    Draw i belongs to stratum i of :func:`_strata`; within it rows are drawn by weight. Streams are independent.
    """
    key = _random.subkey(source.key, "queries")
    stratum, strata = _strata(n)
    u = (stratum + _random.uniforms(key, source.first_sample, n, row=2 * stream + 1)) / strata
    u = np.minimum(u, 1 - 2.0**-53)  # the sum may have been rounded up to 1, past the last row
    index = field._set.chosen(u)
    for block in _arrays.blocks(np.broadcast_to(np.float64(0), (n, field.d))):
        m = block.stop - block.start
        point = field._point(np.full(m, t), False, m)
        z = field._set.normals(m, key, source.first_sample + block.start, row=2 * stream)
        yield block, field._interpolate(point, index[block], z), index[block], point


def _strata(n: int) -> tuple[Int, int]:
    """The stratum of each of n draws, two in each (three in the last for odd n), and how many there are."""
    strata = n // 2
    return np.minimum(np.arange(n) // 2, strata - 1), strata


def mean(values: Float) -> tuple[float, float]:
    """Mean over equal strata of (n,) values and its standard error, from the variances within strata."""
    stratum, strata = _strata(len(values))
    size = np.bincount(stratum)
    center = np.bincount(stratum, values) / size
    spread = np.bincount(stratum, (values - center[stratum]) ** 2) / (size - 1)
    return float(center.mean()), float(np.sqrt(np.sum(spread / size)) / strata)
