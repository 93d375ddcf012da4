"""Schedules: the pair (alpha, sigma) of the interpolant x_t = alpha_t x_1 + sigma_t z.

Time runs from noise to data everywhere in this package: **t = 0 is noise, t = 1 is data**; x_1 is a row of the training
set and z ~ N(0, I). Papers that put the data at time 0 use s = 1 - t; their derivatives change sign.

=====================  ==========================  ==========================================  =================
class                  alpha                       sigma                                       alpha, sigma at 1
=====================  ==========================  ==========================================  =================
``Linear``             t                           1 - t                                       1, 0
``Trigonometric``      sin(pi t/2)                 cos(pi t/2)                                 1, 0
``SqrtVP``             sqrt(t)                     sqrt(1 - t)                                 1, 0
``LatentBridge``       t                           sqrt((1 - t) (1 - t + c t))                 1, 0
``VP``                 exp(-B/2)                   sqrt(1 - exp(-B))                           1, 0
``VEGeometric``        1                           sigma_min^t sigma_max^(1-t)                 1, sigma_min
``VELinear``           1                           sigma_max (1 - t)                           1, 0
``EncoderDecoder``     cos^2(pi t) on t > 1/2      sin^2(pi t) there; see the class            1, 0
``Custom``             a function                  a function
=====================  ==========================  ==========================================  =================

A schedule gets 1 - t beside t and uses it wherever sigma vanishes, so that alpha and sigma keep full relative precision
up to both ends and are exact there. A new schedule is one class with ``_coefficients`` and, where it has a closed form,
``_time_at``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, NamedTuple, final

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._results import called

__all__ = [
    "Coefficients",
    "Custom",
    "EncoderDecoder",
    "LatentBridge",
    "Linear",
    "Schedule",
    "SqrtVP",
    "Trigonometric",
    "VEGeometric",
    "VELinear",
    "VP",
    "schedule",
]

_ROUNDING = 1e-6  # of log(alpha / sigma): what float32 does to it

Float = npt.NDArray[np.float64]
Function = Callable[[Float], npt.ArrayLike]


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
    return value + 0.0 if np.ndim(value) else float(value) + 0.0


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
        >>> Linear()(0.25)
        Coefficients(alpha=0.25, sigma=0.75, alpha_dot=1.0, sigma_dot=-1.0)
        """
        time, _ = _arrays.times(t, None)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = self._coefficients(time, 1.0 - time)
        return Coefficients(*map(_plain, values))

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
        alpha = 0. What is out of range by rounding, 1e-6 relative, counts as the end of it.

        Raises
        ------
        ValueError
            ``lam`` is NaN or outside the range of the schedule.
        """
        value = _arrays.reals(lam, "lam")
        first, last = self.lam(np.array([0.0, 1.0]))
        outside = ~((value >= first - _ROUNDING * max(1.0, -first)) & (value <= last + _ROUNDING * max(1.0, last)))
        if outside.any():
            msg = f"lam must lie in [{first:.9g}, {last:.9g}], the range of {self!r}; got {value[outside].flat[0]}."
            raise ValueError(msg)
        with np.errstate(divide="ignore", over="ignore"):
            return _plain(np.clip(self._time_at(np.clip(value, first, last)), 0.0, 1.0))

    @abstractmethod
    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        """Alpha, sigma, alpha_dot, sigma_dot at valid times; ``s`` is 1 - t, and 0 / 0 must not remain."""

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


@final
@dataclass(frozen=True)
class Linear(Schedule):
    """alpha = t, sigma = 1 - t: flow matching and rectified flow (Lipman et al. 2023; Liu et al. 2023)."""

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        one = np.ones_like(t)
        return t, s, one, -one

    def _time_at(self, lam: Float) -> Float:
        return 1.0 / (1.0 + np.exp(-lam))


@final
@dataclass(frozen=True)
class Trigonometric(Schedule):
    """alpha = sin(pi t/2), sigma = cos(pi t/2): variance preserving (Albergo and Vanden-Eijnden 2023)."""

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        half_pi = np.pi / 2
        alpha, sigma = np.sin(half_pi * t), np.sin(half_pi * s)
        return alpha, sigma, half_pi * sigma, -half_pi * alpha

    def _time_at(self, lam: Float) -> Float:
        return np.arctan(np.exp(lam)) / (np.pi / 2)


@final
@dataclass(frozen=True)
class SqrtVP(Schedule):
    """alpha = sqrt(t), sigma = sqrt(1 - t): variance preserving; alpha_dot is infinite at t = 0."""

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        alpha, sigma = np.sqrt(t), np.sqrt(s)
        return alpha, sigma, 0.5 / alpha, -0.5 / sigma

    def _time_at(self, lam: Float) -> Float:
        return 1.0 / (1.0 + np.exp(-2.0 * lam))


@final
@dataclass(frozen=True)
class LatentBridge(Schedule):
    """alpha = t, sigma^2 = (1 - t)^2 + c t (1 - t): a Gaussian base plus a latent noise sqrt(c t (1 - t)).

    The interpolant with a latent variable of Albergo, Boffi and Vanden-Eijnden (2023), base and latent joined in one
    Gaussian. c = 0 is ``Linear``, c = 1 has sigma^2 = 1 - t (a Brownian bridge), c = 2 has sigma^2 = 1 - t^2.
    """

    c: float = 1.0

    def __post_init__(self) -> None:
        _arrays.number(self.c, "c", least=0.0)

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        sigma = np.sqrt(s * (s + self.c * t))
        slope = (0.5 * self.c * (s - t) - s) / sigma
        return t, sigma, np.ones_like(t), np.where(sigma > 0, slope, -np.inf if self.c else -1.0)

    def _time_at(self, lam: Float) -> Float:
        ratio: Float = np.exp(np.minimum(lam, 300.0))  # t is 1 long before; keeps 0 * inf out for c = 0
        noise: Float = 2.0 / (ratio * (self.c * ratio + np.hypot(self.c * ratio, 2.0)))  # (1 - t) / t
        return 1.0 / (1.0 + noise)


@final
@dataclass(frozen=True)
class VP(Schedule):
    """alpha = exp(-B/2), sigma^2 = 1 - exp(-B): variance preserving diffusion with a linear beta (Song et al. 2021).

    With s = 1 - t, beta(s) = beta_min + s (beta_max - beta_min) and B its integral from 0 to s. At t = 0 alpha is small
    and not 0 (6.6e-3 for the default values).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self) -> None:
        _arrays.number(self.beta_min, "beta_min", above=0.0)
        _arrays.number(self.beta_max, "beta_max", least=self.beta_min)

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        rise = self.beta_max - self.beta_min
        beta = self.beta_min + rise * s
        integral = s * (self.beta_min + 0.5 * rise * s)
        alpha, sigma = np.exp(-0.5 * integral), np.sqrt(-np.expm1(-integral))
        return alpha, sigma, 0.5 * beta * alpha, -0.5 * beta * alpha**2 / sigma

    def _time_at(self, lam: Float) -> Float:
        integral: Float = np.logaddexp(0.0, -2.0 * lam)
        root: Float = np.sqrt(self.beta_min**2 + 2.0 * (self.beta_max - self.beta_min) * integral)
        return 1.0 - 2.0 * integral / (self.beta_min + root)


@final
@dataclass(frozen=True)
class VEGeometric(Schedule):
    """alpha = 1, sigma = sigma_min^t sigma_max^(1-t): variance exploding diffusion (Song et al. 2021).

    sigma(1) = sigma_min > 0: tables of steps that end at t = 1 close with one exponential row onto sigma = 0.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _arrays.number(self.sigma_min, "sigma_min", above=0.0)
        _arrays.number(self.sigma_max, "sigma_max", above=self.sigma_min)

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        sigma = self.sigma_min**t * self.sigma_max**s  # either power is exactly 1 at its end
        return np.ones_like(t), sigma, np.zeros_like(t), sigma * (np.log(self.sigma_min) - np.log(self.sigma_max))

    def _time_at(self, lam: Float) -> Float:
        low, high = np.log([self.sigma_min, self.sigma_max])
        return np.asarray((high + lam) / (high - low))


@final
@dataclass(frozen=True)
class VELinear(Schedule):
    """alpha = 1, sigma = sigma_max (1 - t): time linear in sigma (Karras et al. 2022)."""

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _arrays.number(self.sigma_max, "sigma_max", above=0.0)

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        one = np.ones_like(t)
        return one, self.sigma_max * s, 0.0 * one, -self.sigma_max * one

    def _time_at(self, lam: Float) -> Float:
        return np.asarray(-np.expm1(-lam - np.log(self.sigma_max)))


@final
@dataclass(frozen=True)
class EncoderDecoder(Schedule):
    """Noise to noise on [0, 1/2], noise to data on [1/2, 1] (Albergo, Boffi and Vanden-Eijnden 2023).

    With p = cos^2(pi t), q = sin^2(pi t): alpha = 0, sigma = sqrt(p^2 + q^2) up to t = 1/2; alpha = p, sigma = q after.
    """

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        late = t > 0.5
        cos, sin = (
            np.sin(np.pi * np.abs(t - 0.5)),
            np.sin(np.pi * np.minimum(t, s)),
        )  # absolute values, exact at 0, 1/2, 1
        p, q = cos**2, sin**2
        rate = 2.0 * np.pi * cos * sin
        early_sigma = np.hypot(p, q)
        return (
            np.where(late, p, 0.0),
            np.where(late, q, early_sigma),
            np.where(late, rate, 0.0),
            np.where(late, -rate, rate * (q - p) / early_sigma),
        )

    def _time_at(self, lam: Float) -> Float:
        return 0.5 + np.arctan(np.exp(0.5 * lam)) / np.pi


@final
@dataclass(frozen=True, repr=False)
class Custom(Schedule):
    """A schedule given by functions of time. It pickles when they do: functions defined at the top of a module.

    Parameters
    ----------
    alpha, sigma : callable
        Each maps a float64 array of times, of any shape, to a float64 array of that shape. On [0, 1] they are finite
        and >= 0, sigma > 0 before t = 1, and alpha / sigma never falls. alpha(0) and sigma(1) below 1e-15 count as the
        0 they stand for (cos(pi/2) is 6e-17).
    alpha_dot, sigma_dot : callable, optional
        Their derivatives. One that is missing is computed by five-point differences (one sided near the ends) at the
        step with the smallest estimate of the error, about 1e-10 relative for smooth functions; at an end where the
        difference quotient keeps growing it is +-inf. One that is given is compared with these differences.

    Raises
    ------
    TypeError
        One of them is not a function.
    ValueError
        A condition fails on a grid of times, or a derivative given is not that of its function.

    Examples
    --------
    >>> curve = Custom(lambda t: t**2, lambda t: 1 - t**2)
    >>> round(curve(0.5).sigma_dot, 9)
    -1.0
    """

    alpha: Function
    sigma: Function
    alpha_dot: Function | None = None
    sigma_dot: Function | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "sigma", "alpha_dot", "sigma_dot"):
            function = getattr(self, name)
            if not callable(function) and (function is not None or not name.endswith("_dot")):
                msg = f"{name} must be a function of time; got {function!r}. Pass lambda t: ..."
                raise TypeError(msg)
        t: Float = np.arange(257) / 256.0
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha, sigma = self._level("alpha", t), self._level("sigma", t)
            for name, value in (("alpha", alpha), ("sigma", sigma)):
                self._check(name, "be finite and >= 0", np.isfinite(value) & (value >= 0), value, t)
            self._check("sigma", "be > 0 before t = 1", (sigma > 0) | (t == 1), sigma, t)
            self._check("alpha", "be > 0 at t = 1", (alpha > 0) | (t < 1), alpha, t)
            lam = np.log(alpha) - np.log(sigma)
            rising = np.append(True, lam[1:] >= lam[:-1] - 1e-9)
            self._check("alpha / sigma", "not fall", rising, np.exp(lam), t)
            inside = t[1::8] + 1 / 512  # off the places where pieces are usually joined
            for name, value in (("alpha", alpha), ("sigma", sigma)):
                given, wanted = self._slope(name, inside), _derivative(partial(self._level, name), inside)
                right = np.abs(given - wanted) <= 1e-5 * np.maximum(np.abs(wanted), value.max())
                self._check(f"{name}_dot", f"be the derivative of {name}", right, given, inside, wanted)

    def __repr__(self) -> str:
        functions = {f.name: getattr(self, f.name) for f in fields(self)}
        return f"Custom({', '.join(f'{k}={called(v)}' for k, v in functions.items() if v is not None)})"

    @staticmethod
    def _check(name: str, must: str, holds: Any, got: Float, t: Float, wanted: Float | None = None) -> None:
        if not holds.all():
            i = int(np.argmin(holds))
            instead = "" if wanted is None else f" where differences give {wanted[i]:.6g}"
            msg = f"{name} must {must}; got {got[i]:.6g} at t = {t[i]:.6g}{instead}. Check the function given."
            raise ValueError(msg)

    def _call(self, name: str, t: Float) -> Float:
        value = _arrays.reals(getattr(self, name)(t), name)
        if value.shape not in ((), t.shape):
            msg = f"{name} must return an array of the shape of its argument, {t.shape}; got shape {value.shape}."
            raise ValueError(msg)
        return np.broadcast_to(value, t.shape).copy()

    def _level(self, name: str, t: Float) -> Float:
        value = self._call(name, t)
        end = 0.0 if name == "alpha" else 1.0
        return np.where((t == end) & (np.abs(value) < 1e-15), 0.0, value)

    def _slope(self, name: str, t: Float) -> Float:
        given = getattr(self, f"{name}_dot") is not None
        return self._call(f"{name}_dot", t) if given else _derivative(partial(self._level, name), t)

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        return *self._levels(t, s), self._slope("alpha", t), self._slope("sigma", t)

    def _levels(self, t: Float, s: Float) -> tuple[Float, Float]:
        return self._level("alpha", t), self._level("sigma", t)


# Columns: five nodes in units of the step, the weights of the derivative by three of them and by all five.
_CENTRAL = np.array([[-2, 0, 1 / 12], [-1, -1 / 2, -2 / 3], [0, 0, 0], [1, 1 / 2, 2 / 3], [2, 0, -1 / 12]])
_ONE_SIDED = np.array([[0, -3 / 2, -25 / 12], [1, 2, 4], [2, -1 / 2, -3], [3, 0, 4 / 3], [4, 0, -1 / 4]])


def _derivative(function: Callable[[Float], Float], t: Float) -> Float:
    """Five-point differences at the step, out of twelve, where truncation and rounding together look smallest."""
    here, best, slope = function(t), np.full(t.shape, np.inf), np.zeros(t.shape)
    quotients = []
    for step in 2.0 ** -np.arange(7.0, 31.0, 2.0):  # powers of two: the nodes are exact
        central = (t >= 2 * step) & (t <= 1 - 2 * step)
        h = np.where(central | (t < 0.5), step, -step)
        stencil = np.where(central[..., None, None], _CENTRAL, _ONE_SIDED)
        nodes, three, five = np.moveaxis(stencil, (-1, -2), (0, 1))
        rise = function(t + nodes * h) - here
        coarse, fine = (three * rise).sum(0) / h, (five * rise).sum(0) / h
        error = np.abs(fine - coarse) + 2.0**-52 * np.abs(here) / step
        best, slope = np.where(error < best, (error, fine), (best, slope))
        quotients.append(rise[1] / h)
    # Over these steps the quotient of sqrt(t) at 0 grows 2048-fold, that of a smooth function by its rounding only.
    floor = np.maximum(np.abs(quotients[0]), 1e-4 * np.abs(here))
    diverges = ((t == 0) | (t == 1)) & (np.abs(quotients[-1]) > 100.0 * floor)
    return np.where(diverges, np.copysign(np.inf, quotients[-1]), slope)


_NAMES: dict[str, Callable[[], Schedule]] = {
    "linear": Linear,
    "trigonometric": Trigonometric,
    "sqrt-vp": SqrtVP,
    "latent-bridge": LatentBridge,
    "vp": VP,
    "ve-geometric": VEGeometric,
    "ve-linear": VELinear,
    "encoder-decoder": EncoderDecoder,
}


def schedule(name: str) -> Schedule:
    """The schedule called ``name``, with its default parameters; case, hyphens and underscores do not matter.

    Examples
    --------
    >>> schedule("linear")
    Linear()
    """
    if not isinstance(name, str):
        msg = f"name must be one of {', '.join(_NAMES)}; got {name!r}."
        raise TypeError(msg)
    for known, make in _NAMES.items():
        if known.replace("-", "") == name.lower().replace("-", "").replace("_", ""):
            return make()
    msg = f"name must be one of {', '.join(_NAMES)}; got {name!r}."
    raise ValueError(msg)
