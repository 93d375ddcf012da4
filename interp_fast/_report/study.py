"""What a report is about: the training set, its field, the samplers; and the noise levels it is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from .. import _figures
from .._datasets import Dataset
from .parts import Html

__all__ = ["Study", "crossing", "noise_axis", "quantiles"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

_NODES = 21
_DEVIATES = 1e-5


@dataclass(frozen=True)
class Study:
    """A training set under study.

    Attributes
    ----------
    data, oracle
        The rows and their oracle.
    n, seed : int
        Samples of each sampler and queries at each time; the seed of everything random.
    near : (m,) array
        Distances of m training rows to their nearest other row.
    holdout : (h, d) array or None
        Held-out rows that are looked up.
    tables, left_out : dict
        The samplers, and why others have no table.
    """

    data: Dataset
    oracle: itf.Field
    n: int
    seed: int
    near: Float
    holdout: Array | None
    tables: dict[str, itf.StepTable]
    left_out: dict[str, str]

    @property
    def radius(self) -> float:
        """A third of the median distance between nearest different rows; 0 when all of them are equal."""
        apart = self.near[self.near > 0]
        return float(np.median(apart)) / 3.0 if len(apart) else 0.0

    @property
    def few(self) -> int:
        """Samples that give averages over their coordinates to a per cent, as far as 64 can."""
        return min(max(2**13 // self.oracle.d, 16), 64)

    @property
    def floor(self) -> float:
        """Distances below this are rounding and leakage."""
        return _DEVIATES * self.oracle.R

    def noise_levels(self) -> tuple[Float, Float]:
        """Times, and sigma/alpha there: even in its logarithm, from 2 R to well below the distance of nearest rows."""
        least = max(0.15 * self.radius, 1e-4 * self.oracle.R)
        first, last = self.oracle.schedule.lam(np.array([0.0, 1.0]))
        lam = np.linspace(max(-math.log(2.0 * self.oracle.R), first), min(-math.log(least), last), _NODES)
        return np.asarray(self.oracle.schedule.time_at(lam)), np.exp(-lam)

    def residual(self, run: itf.Samples) -> float:
        """Root mean square of sample - nearest row, per coordinate."""
        return float(np.sqrt(np.mean((run.x - self.data.rows[run.index].astype(np.float64)) ** 2)))

    def picture(self, values: Array, *, widen: float = 0.0, label: str = "") -> Html:
        """A row as a picture, its grey levels those of the data, widened at both ends."""
        some = self.data.rows[:: max(1, self.oracle.N // 1000)]
        limits = float(some.min()) - widen, float(some.max()) + widen
        return Html(_figures.picture(self.data.drawn(values), limits, label))


def crossing(x: Float, y: Float, level: float) -> float | None:
    """Where the piecewise linear curve comes down through ``level`` for the last time; None when it does not."""
    above = np.flatnonzero(y >= level)
    if len(above) == 0 or above[-1] + 1 == len(y):
        return None
    i = int(above[-1])
    return float(x[i] + (x[i + 1] - x[i]) * (y[i] - level) / (y[i] - y[i + 1]))


def quantiles(values: Any) -> list[float]:
    """10 %, 50 % and 90 %."""
    return [float(q) for q in np.quantile(np.asarray(values), (0.1, 0.5, 0.9))]


def noise_axis(ax: Any, schedule: itf.Schedule, ratio: Float, count: int = 8) -> None:
    """A horizontal axis in sigma/alpha, noise at the left, with times above."""
    ax.set_xscale("log")
    ax.set_xlim(ratio[0] * 1.05, ratio[-1] / 1.05)
    ax.set_xlabel("σ/α")
    _figures.plain_log(ax.xaxis, (1, 2, 5))
    top = ax.secondary_xaxis("top")
    nodes = ratio[:: len(ratio) // count]
    top.set_xticks(nodes, [f"{t:.3g}" for t in np.atleast_1d(schedule.time_at(-np.log(nodes)))])
    top.minorticks_off()
    top.set_xlabel("t")
