"""What a schedule is: a curve t -> (alpha, sigma), its derivatives, and the way back from a level to its time."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _arrays

__all__ = ["Coefficients", "Schedule", "check_schedule"]

Float = npt.NDArray[np.float64]

_ROUNDING = 1e-6  # a level given in float32 may lie this far beyond the end that it stands for, relatively


class Coefficients(NamedTuple):
    """What a schedule says about time t: floats for a scalar t, otherwise float64 arrays of its shape.

    Attributes
    ----------
    alpha, sigma
        Scale of the data and of the noise.
    alpha_dot, sigma_dot
        Their derivatives in t; +-inf where they diverge (at an end, never inside).
    """

    alpha: Any
    sigma: Any
    alpha_dot: Any
    sigma_dot: Any


def _plain(value: Any) -> Any:
    """A float for a scalar, and no -0.0."""
    return value + 0.0 if isinstance(value, np.ndarray) and value.ndim else float(value) + 0.0


class Schedule(ABC):
    """A curve t -> (alpha, sigma) along which log(alpha / sigma) never falls; callable. Abstract."""

    def __call__(self, t: npt.ArrayLike) -> Coefficients:
        """Alpha, sigma and their derivatives at ``t``.

        Parameters
        ----------
        t : real number or array, any real dtype
            Times in [0, 1]; 0 is noise, 1 is data. Converted to float64 first.

        Raises
        ------
        ValueError
            A time is NaN or outside [0, 1].

        Examples
        --------
        >>> import interp_fast as itf
        >>> itf.Linear()(0.25)
        Coefficients(alpha=0.25, sigma=0.75, alpha_dot=1.0, sigma_dot=-1.0)
        """
        time, _ = _arrays.times(t, None)
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._at(time)

    def _at(self, time: Float) -> Coefficients:
        """The same of times that are known to lie in [0, 1]; NumPy's warnings at the ends are the caller's."""
        t: Any = time if time.ndim else time.item()  # of a float formulas take a fraction of the time
        return Coefficients(*map(_plain, self._coefficients(t, 1.0 - t)))

    def lam(self, t: npt.ArrayLike) -> Any:
        """Half the log signal-to-noise ratio, lambda = log(alpha / sigma): -inf where alpha = 0, inf where sigma = 0.

        Both logarithms are of numbers good to a few units in the last place: the error is a few 1e-16 max(1, |lambda|).
        """
        time, _ = _arrays.times(t, None)
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha, sigma = self._levels(time, 1.0 - time)
            return _plain(np.log(alpha) - np.log(sigma))

    def time_at(self, lam: npt.ArrayLike) -> Any:
        """The time at which log(alpha / sigma) is ``lam``: the inverse of :meth:`lam`.

        ``lam`` may be -inf or inf where the schedule reaches alpha = 0 or sigma = 0; -inf gives the last time at which
        alpha = 0. Beyond an end by no more than rounding (1e-6), it is that end.

        Raises
        ------
        ValueError
            ``lam`` is NaN or outside the range of the schedule.
        """
        value = _arrays.reals(lam, "lam")
        first, last = self.lam(np.array([0.0, 1.0]))
        outside = ~((value >= first - _ROUNDING) & (value <= last + _ROUNDING))
        if outside.any():
            msg = f"lam must lie in [{first:.9g}, {last:.9g}], the range of {self!r}; got {value[outside].flat[0]}."
            raise ValueError(msg)
        return self._time(np.clip(value, first, last))

    def time_of(self, sigma: npt.ArrayLike) -> Any:
        """The time at which sigma / alpha is ``sigma``, the noise level of x / alpha = x_1 + sigma z.

        0 and inf where the schedule reaches them; beyond an end by no more than rounding (1e-6 relative), it is that
        end.

        Raises
        ------
        ValueError
            ``sigma`` is NaN, negative or outside the range of the schedule.

        Examples
        --------
        >>> import interp_fast as itf
        >>> round(itf.VELinear(80.0).time_of(20.0), 12), itf.Linear().time_of([0.0, 1.0, float("inf")])
        (0.75, array([1. , 0.5, 0. ]))
        """
        value = _arrays.reals(sigma, "sigma")
        first, last = self.lam(np.array([0.0, 1.0]))
        with np.errstate(divide="ignore", invalid="ignore"):
            lam = -np.log(value)
        outside = ~((lam >= first - _ROUNDING) & (lam <= last + _ROUNDING))
        if outside.any():
            low, high = math.exp(-last), math.exp(-first)
            msg = (
                f"sigma must lie in [{low:.9g}, {high:.9g}], the range of sigma / alpha of {self!r}; "
                f"got {value[outside].flat[0]}."
            )
            raise ValueError(msg)
        return self._time(np.clip(lam, first, last))

    def _time(self, lam: Float) -> Any:
        with np.errstate(divide="ignore", over="ignore"):
            return _plain(np.clip(self._time_at(lam), 0.0, 1.0))

    @abstractmethod
    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        """Alpha, sigma, alpha_dot, sigma_dot at valid times; ``s`` is 1 - t, and 0 / 0 must not remain.

        One time comes as a float; what is divided by must then be a number of NumPy's.
        """

    @abstractmethod
    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        """The second derivatives of alpha and sigma inside (0, 1)."""

    def _levels(self, t: Float, s: Float) -> tuple[Float, Float]:
        """Alpha and sigma alone."""
        return self._coefficients(t, s)[:2]

    def _time_at(self, lam: Float) -> Float:
        """Bisection of the bit patterns, which order doubles >= 0: 62 halvings end at the last t with lam(t) <= lam."""
        low = np.zeros(lam.shape, np.int64)
        high = np.ones(lam.shape).view(np.int64)
        for _ in range(62):
            middle = np.asarray((low + high + 1) // 2)
            below = self.lam(middle.view(np.float64)) <= lam
            low, high = np.where(below, middle, low), np.where(below, high, middle - 1)
        return low.view(np.float64)


def check_schedule(schedule: Any) -> Schedule:
    """``schedule`` itself; TypeError unless it is a Schedule."""
    if not isinstance(schedule, Schedule):
        msg = f"schedule must be a Schedule such as interp_fast.Linear(); got {schedule!r}."
        raise TypeError(msg)
    return schedule
