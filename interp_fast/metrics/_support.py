"""Balls around points: what precision and recall are estimated by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays
from .._training_set import TrainingSet
from ._points import training_set

__all__ = ["Balls"]

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Balls:
    """Balls around points, as points of one more coordinate.

    x lies in a ball when min_i |x - x_i|^2 - r_i^2 <= 0. With h_i^2 = reach - r_i^2 and reach = max r_i^2 that is
    min_i |(x, 0) - (x_i, h_i)|^2 <= reach: a search for the nearest point. Beside a large h the rounding of a small
    ball is lost, so the balls come in parts, whose radii lie within a factor 16.
    """

    parts: tuple[tuple[TrainingSet, float], ...]  # lifted points and reach

    @classmethod
    def around(cls, points: npt.NDArray[Any], scale: tuple[float, float] | None, k: int) -> Balls | None:
        """Balls out to the k-th nearest other point; None when there are not so many."""
        if len(points) <= k:
            return None
        wide = _arrays.widen(points, scale)
        # The point itself, at distance 0, is one of the k + 1 nearest or equal to all of them.
        squared = training_set(points, scale).nearest(wide, k + 1)[1][:, k]
        size = np.where(squared > 0, np.frexp(squared)[1] // 8, -(1 << 20))
        parts = []
        for some in (size == which for which in np.unique(size)):
            reach = float(squared[some].max())
            parts.append((training_set(np.column_stack([wide[some], np.sqrt(reach - squared[some])])), reach))
        return cls(tuple(parts))

    def share(self, x: Float) -> float:
        """Share of x (m, d) that lie in a ball; the rim counts."""
        flat = np.column_stack([x, np.zeros(len(x))])
        out = np.arange(len(x))
        for lifted, reach in reversed(self.parts):  # the large ones leave less to look for
            if len(out):
                out = out[lifted.nearest(flat[out])[1][:, 0] > reach * (1 + 1e-12)]
        return (len(x) - len(out)) / len(x)
