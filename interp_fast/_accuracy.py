"""What is promised, once, and how a tolerance becomes nats. The README's table, ``check``, ``bench`` and tests read it.

The compiled core holds its own constants, chosen so that these promises are kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["OFF_WEIGHT_NATS", "PROMISES", "Promise", "cut", "noise_ratio"]


@dataclass(frozen=True)
class Promise:
    """Largest errors of the answers for one type of results.

    Attributes
    ----------
    noise
        |z - z_ref| / max(|z_ref|, 1), less one rounding of x / sigma; score and velocity in the units of z.
    denoiser
        |D - D_ref| / max(|D_ref|, R).
    density, density_slope
        Of the log density and log_norm: absolute, or that share of the value where it is more.
    off_weights
        ess, entropy, variance, jvp: relative; gap, log_rest: absolute, and a thousandth of it as a share of the value.
    scatter
        The variance as averages need it, which the lowest loss is: |V - V_ref| / max(V_ref, R^2).
    weight
        Of a row, absolute.
    sample
        Of whole trajectories: |x - x_ref| / R.
    skipped
        From work that is skipped with tol = None: |D - dense D| / R ...
    skipped_noise
        ... and in the units of z, which is what counts where sigma/alpha is small.
    """

    noise: float
    denoiser: float
    density: float
    density_slope: float
    off_weights: float
    scatter: float
    weight: float
    sample: float
    skipped: float
    skipped_noise: float

    def of_density(self, value: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """What a log density of this value may be off by."""
        return np.maximum(self.density, self.density_slope * np.abs(value))


PROMISES = {
    "float32": Promise(
        noise=1e-4,
        denoiser=5e-6,
        density=1e-3,
        density_slope=2e-7,
        off_weights=1e-3,
        scatter=2.0**-16,
        weight=1e-5,
        sample=1e-3,
        skipped=2.0**-20,
        skipped_noise=2.0**-17,
    ),
    "float64": Promise(
        noise=1e-10,
        denoiser=1e-10,
        density=1e-9,
        density_slope=1e-12,
        off_weights=1e-9,
        scatter=2.0**-36,
        weight=1e-10,
        sample=1e-6,
        skipped=2.0**-46,
        skipped_noise=2.0**-36,
    ),
}

# Outputs made of the off-weights resolve rows as near to the top one as e^-20 of the data's reach: 2 log(reach /
# distance) nats more than the mean needs.
OFF_WEIGHT_NATS = 40.0


def noise_ratio(alpha: Any, s2: Any) -> Any:
    """sigma / alpha as logits see it, sqrt(S) / alpha, of floats or (M,); inf where alpha = 0."""
    if isinstance(alpha, float):
        return math.sqrt(s2) / alpha if alpha > 0 else math.inf
    with np.errstate(over="ignore"):
        return np.divide(np.sqrt(s2), alpha, out=np.full_like(s2, np.inf), where=alpha > 0)


def cut(tol: float | None, ratio: Any, promise: Promise, n: int, reach: float, radius: float) -> Any:
    """Nats below the maximum from which rows may be left out so that D moves by at most tol R.

    log(2 N reach / (tol R)), because the dropped mass is at most N e^-cut and no row is farther than 2 reach.
    ``ratio`` = sigma/alpha of field calls: with tol None the bound is tightened so that the noise prediction, in
    whose units an error of D counts R alpha / sigma fold, keeps its promise too: a float or (M,).
    """
    bound = promise.skipped if tol is None else tol
    if radius == 0 or bound == 0:
        return math.inf if ratio is None else np.full_like(ratio, math.inf)
    nats = math.log(2.0 * n) + math.log(reach / radius)
    if ratio is None:
        return nats - math.log(bound)
    if tol is not None:
        return np.full_like(ratio, nats - math.log(bound))
    if isinstance(ratio, float):
        least = min(bound, ratio / radius * promise.skipped_noise)
        return nats - np.log(least) if least > 0 else math.inf
    with np.errstate(divide="ignore", over="ignore"):
        return nats - np.log(np.minimum(bound, ratio / radius * promise.skipped_noise))
