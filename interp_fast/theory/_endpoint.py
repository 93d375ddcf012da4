"""Where a table of steps lands when the whole run sees one training row."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._results import Record
from .._schedule import Schedule, check_schedule
from .._step_table import StepTable, check_steps

__all__ = ["EndpointLaw", "endpoint_law"]

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class EndpointLaw(Record):
    """What :func:`endpoint_law` returns.

    Attributes
    ----------
    p : float
        The exponent in sigma ~ (1 - t)^p as t -> 1; 0 when sigma(1) > 0.
    std : float
        Standard deviation of the endpoint, per coordinate.
    bias : float
        Mean of the endpoint minus alpha x_*, in units of x_*.
    factor : float
        Product of A over the committed rows: what is left of the start.
    """

    p: float
    std: float
    bias: float
    factor: float


def endpoint_law(schedule: Schedule, steps: StepTable) -> EndpointLaw:
    """Where a table lands when the whole run sees one training row, D = x_*: the Gaussian around alpha x_* (1 + bias).

    std = sqrt(factor^2 sigma_0^2 + V) with V <- A^2 V + S^2, bias = sum_r Phi_r c_r. With Euler and K uniform steps of
    size h: 0 on ``Linear``; sqrt(h / pi) to first order where sigma^2 = 1 - t (p = 1/2); in general
    factor = Gamma(K + 1 - p) / (Gamma(1 - p) Gamma(K + 1)) for sigma = (1 - t)^p.

    Examples
    --------
    >>> import interp_fast as itf
    >>> bridge = itf.LatentBridge(1.0)
    >>> round(itf.theory.endpoint_law(bridge, itf.euler(bridge, 100)).std, 4)  # sqrt(0.01 / pi) = 0.0564
    0.0563
    """
    check_schedule(schedule)
    factor = float(np.prod(check_steps(steps).A[steps.commit]))
    std = math.hypot(factor * float(steps.sigma[0]), float(steps.noise_std()[-1]))
    bias = float(steps.propagator() @ steps.curvature_defect())
    before = 2.0**-26  # near enough for the limit, far enough for schedules that know t only
    c = schedule(1.0 - before)
    p = 0.0 if schedule(1.0).sigma > 0 else -before * c.sigma_dot / c.sigma
    return EndpointLaw(float(p), std, bias, factor)
