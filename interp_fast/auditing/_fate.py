"""What became of samples: which row is theirs, how near they are to it, and what keeps them off."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._training_set import TrainingSet
from ..sampling import Terms

__all__ = ["Fate", "fate", "within"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_ROUNDINGS = 16  # of a row, in the type of the results, up to which a sample is that row


@dataclass(frozen=True)
class Fate:
    """What became of n samples.

    Attributes
    ----------
    terms : Terms
        About the nearest row.
    distance, reach, limit : (n,)
        To the nearest row; its radius; the distance up to which the sample counts as that row.
    displaced : (n,) bool
        Whether the error alone keeps the sample off every row.
    clear : (n,)
        The radius up to which it would be displaced, were there one for all rows; negative where for none.
    """

    terms: Terms
    distance: Float
    reach: Float
    limit: Float
    displaced: npt.NDArray[np.bool_]
    clear: Float


def fate(data: TrainingSet, x: Float, sums: Float, alpha: float, radius: float | None) -> Fate:
    """What became of samples ``x``.

    ``sums`` are the three terms about the origin, (3, n, d): alpha x_* not yet taken from the first.
    """
    selected, estimation, noise = sums
    (index, squared), (aimed, _) = (data.nearest(v, alpha=alpha) for v in (x, x - estimation))
    rows, goal = (alpha * data.values(i[:, 0]) for i in (index, aimed))
    reach, reach_aimed = (_radii(data, i[:, 0], alpha, radius) for i in (index, aimed))
    rounding, rounding_aimed = (_ROUNDINGS * np.finfo(data.type).eps * np.linalg.norm(v, axis=1) for v in (rows, goal))
    distance, selection = np.sqrt(squared[:, 0]), selected - rows
    pull, push, jitter = (np.linalg.norm(v, axis=1) for v in (selected - goal, estimation, noise))
    margin = push - pull - jitter
    return Fate(
        terms=Terms(selection, estimation, noise, selection + estimation + noise),
        distance=distance,
        reach=reach,
        limit=np.maximum(np.where(np.isinf(reach), 0.0, reach), rounding),
        displaced=(distance > np.maximum(reach, rounding)) & (margin > np.maximum(reach_aimed, rounding_aimed)),
        clear=np.minimum(distance, margin),
    )


def within(data: TrainingSet, points: Float, alpha: float, radius: float | None) -> float:
    """Share of ``points``, in units of the data, that lie within the radius of a row."""
    index, squared = data.nearest(points)
    reach = _radii(data, index[:, 0], alpha, radius)
    return float(np.mean(alpha * np.sqrt(squared[:, 0]) <= np.where(np.isinf(reach), 0.0, reach)))


def _radii(data: TrainingSet, index: Int, alpha: float, radius: float | None) -> Float:
    """``radius``, or a third of the distance from alpha x_i to the nearest different row (inf when there is none)."""
    if radius is not None:
        return np.full(len(index), radius)
    rows, where = np.unique(index, return_inverse=True)
    separation, todo, k = np.full(len(rows), np.inf), np.arange(len(rows)), 1
    while len(todo) and k < data.n:
        k = min(4 * k, data.n)
        squared = data.nearest(data.values(rows[todo]), k)[1]
        apart = np.where(squared > 0, squared, np.inf).min(axis=1)
        separation[todo] = np.sqrt(apart)
        todo = todo[np.isinf(apart)]
    return alpha * separation[where] / 3
