"""Time grids for the solvers: increasing float64 arrays of K + 1 times that end at 1."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._schedule import Schedule, check_schedule

__all__ = ["karras", "log_snr", "uniform"]


def __dir__() -> list[str]:
    return __all__


Float = npt.NDArray[np.float64]


def uniform(K: int) -> Float:
    """The times k / K for k = 0 ... K.

    Examples
    --------
    >>> uniform(4)
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    return np.arange(_arrays.count(K, "K", 1) + 1) / K


def log_snr(schedule: Schedule, K: int) -> Float:
    """0, then K - 1 times uniform in lambda = log(alpha / sigma) from t = 1e-3 to 1 - 1e-3, then 1.

    With K = 2 the one time between is the middle of that range of lambda. Where alpha = 0 up to some time
    (``EncoderDecoder``), the first of them lies 1e-3 after it: nothing is learnt before.

    Examples
    --------
    >>> from interp_fast.schedules import Linear
    >>> log_snr(Linear(), 4)
    array([0.   , 0.001, 0.5  , 0.999, 1.   ])
    """
    _arrays.count(K, "K", 1)
    start = check_schedule(schedule).time_at(schedule.lam(0.0)) + 1e-3
    low, high = schedule.lam(np.array([start, 1.0 - 1e-3]))
    position = np.linspace(0.0, 1.0, K - 1) if K > 2 else np.full(K - 1, 0.5)
    return np.concatenate([[0.0], schedule.time_at(low + position * (high - low)), [1.0]])


def karras(schedule: Schedule, K: int, rho: float = 7.0, *, sigma_max: float = 80.0, sigma_min: float = 0.002) -> Float:
    """K times at which (sigma/alpha)^(1/rho) falls evenly from sigma_max to sigma_min, then 1 (Karras et al. 2022).

    The first time is that of sigma/alpha = sigma_max, not 0, unless the schedule starts below sigma_max: then the grid
    starts at t = 0. Where the schedule ends at a ratio above sigma_min (``VEGeometric``, sigma(1) > 0), the K + 1 times
    fall evenly to that ratio at t = 1.

    Raises
    ------
    ValueError
        rho is not positive, or no ratio of the schedule lies between sigma_min and sigma_max.

    Examples
    --------
    >>> from interp_fast.schedules import Linear
    >>> karras(Linear(), 4).round(3)
    array([0.012, 0.093, 0.68 , 0.998, 1.   ])
    """
    _arrays.count(K, "K", 1)
    _arrays.number(rho, "rho", above=0.0)
    _arrays.number(sigma_min, "sigma_min", above=0.0)
    _arrays.number(sigma_max, "sigma_max", above=sigma_min)
    first, last = check_schedule(schedule).lam(np.array([0.0, 1.0]))
    low, high = max(first, -np.log(sigma_max)), min(last, -np.log(sigma_min))
    if low >= high:
        msg = (
            f"sigma_min and sigma_max must bracket a part of sigma/alpha of {schedule!r}, {np.exp(-last):.6g} to "
            f"{np.exp(-first):.6g}; got {sigma_min=}, {sigma_max=}."
        )
        raise ValueError(msg)
    ends_early = high < last
    position = np.linspace(0.0, 1.0, K + (not ends_early))
    top, bottom = np.exp(-low / rho), np.exp(-high / rho)
    lam = np.clip(-rho * np.log(top + position * (bottom - top)), low, high)
    lam[0] = low  # exactly: t = 0 when the schedule starts there
    times = schedule.time_at(lam)
    return np.append(times if ends_early else times[:-1], 1.0)
