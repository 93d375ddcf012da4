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
``Discrete``           sqrt(abar), T levels        sqrt(1 - abar)                               < 1, > 0
``Custom``             a function                  a function
=====================  ==========================  ==========================================  =================

A schedule gets 1 - t beside t and uses it wherever sigma vanishes, so that alpha and sigma keep full relative precision
up to both ends and are exact there. A new schedule is one class with ``_coefficients``, ``_second`` and, where it has a
closed form, ``_time_at``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._custom import Custom
from ._discrete import Discrete
from ._schedule import Coefficients, Schedule, check_schedule

__all__ = [
    "Coefficients",
    "Custom",
    "Discrete",
    "EncoderDecoder",
    "LatentBridge",
    "Linear",
    "Schedule",
    "SqrtVP",
    "Trigonometric",
    "VEGeometric",
    "VELinear",
    "VP",
    "check_schedule",
    "schedule",
]

Float = npt.NDArray[np.float64]


@final
@dataclass(frozen=True)
class Linear(Schedule):
    """alpha = t, sigma = 1 - t: flow matching and rectified flow (Lipman et al. 2023; Liu et al. 2023)."""

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        one = 0.0 * t + 1.0
        return t, s, one, -one

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        return np.zeros_like(t), np.zeros_like(t)

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

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        half_pi = np.pi / 2
        return -(half_pi**2) * np.sin(half_pi * t), -(half_pi**2) * np.sin(half_pi * s)

    def _time_at(self, lam: Float) -> Float:
        return np.arctan(np.exp(lam)) / (np.pi / 2)


@final
@dataclass(frozen=True)
class SqrtVP(Schedule):
    """alpha = sqrt(t), sigma = sqrt(1 - t): variance preserving; alpha_dot is infinite at t = 0."""

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        alpha, sigma = np.sqrt(t), np.sqrt(s)
        return alpha, sigma, 0.5 / alpha, -0.5 / sigma

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        return -0.25 * t**-1.5, -0.25 * s**-1.5

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

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        _, sigma, _, slope = self._coefficients(t, s)
        return np.zeros_like(t), (1.0 - self.c - slope**2) / sigma

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

    The discrete levels of DDPM with linear betas (Ho et al. 2020) are near this and are not it: alpha^2 differs by 7 %
    at the noisy end. For a model trained on them take ``Discrete``.
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

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        rise = self.beta_max - self.beta_min
        beta = self.beta_min + rise * s
        alpha, sigma, _, slope = self._coefficients(t, s)
        return (0.25 * beta**2 - 0.5 * rise) * alpha, (0.5 * alpha**2 * (rise - beta**2) - slope**2) / sigma

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

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        _, sigma, _, slope = self._coefficients(t, s)
        return np.zeros_like(t), slope**2 / sigma

    def _time_at(self, lam: Float) -> Float:
        low, high = np.log([self.sigma_min, self.sigma_max])
        return np.asarray((high + lam) / (high - low))


@final
@dataclass(frozen=True)
class VELinear(Schedule):
    """alpha = 1, sigma = sigma_max (1 - t): time linear in sigma (Karras et al. 2022).

    Near the data 1 - t is a small difference, which a float32 t does not hold: at sigma = 0.002 that of sigma_max = 80
    is off by up to 0.12 %, and the score by twice that. Keep t in float64, as ``time_of(sigma)`` gives it.
    """

    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _arrays.number(self.sigma_max, "sigma_max", above=0.0)

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        one = 0.0 * t + 1.0
        return one, self.sigma_max * s, 0.0 * one, -self.sigma_max * one

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        return np.zeros_like(t), np.zeros_like(t)

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

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        bend = 2.0 * np.pi**2 * np.cos(2.0 * np.pi * t)  # of q; that of p is its negative
        sin2 = np.sin(2.0 * np.pi * t) ** 2
        # Early sigma^2 = p^2 + q^2 = 1 - sin^2(2 pi t) / 2.
        sigma = np.sqrt(1.0 - 0.5 * sin2)
        slope = -np.pi * np.sin(2.0 * np.pi * t) * np.cos(2.0 * np.pi * t) / sigma
        early = (-2.0 * np.pi**2 * (1.0 - 2.0 * sin2) - slope**2) / sigma
        late = t > 0.5
        return np.where(late, -bend, 0.0), np.where(late, bend, early)

    def _time_at(self, lam: Float) -> Float:
        return 0.5 + np.arctan(np.exp(0.5 * lam)) / np.pi


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
