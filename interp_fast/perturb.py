"""Errors of the denoiser with a known law, for ``sample(error=...)``.

Every kind gives e^D, the error in units of the denoiser (an error e^v of the velocity is e^v = kappa e^D). Directions
are uniform on the sphere, drawn from a stream of ``rng`` of their own and addressed like the noise, by (sample, row,
coordinate): they depend neither on batches nor on the noise of the run.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._schedule import Coefficients

__all__ = ["Perturbation", "Visit", "constant", "inverse_density", "smooth", "velocity"]


def __dir__() -> list[str]:
    return __all__


Float = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Visit:
    """Where one row of the table evaluates.

    Attributes
    ----------
    x : (n, d)
        The states.
    t : float
    log_density : (n,) or None
        log p_t(x) of the oracle, when there is one.
    normals : callable
        Gives standard normals (n, d) of this row.
    coefficients : callable
        Gives the schedule at ``t``; ValueError when the table is not one of that schedule.
    """

    x: Float
    t: float
    log_density: Float | None
    normals: Callable[[], Float]
    coefficients: Callable[[], Coefficients]

    def directions(self) -> Float:
        """Uniform on the unit sphere, (n, d)."""
        g = self.normals()
        unit: Float = g / np.linalg.norm(g, axis=1, keepdims=True)
        return unit


class Perturbation(ABC):
    """A law of errors; :meth:`at` gives e^D (n, d) at a visit."""

    @abstractmethod
    def at(self, visit: Visit) -> Float:
        """The error of the denoiser, (n, d)."""


@final
@dataclass(frozen=True)
class _Constant(Perturbation):
    norm: float

    def at(self, visit: Visit) -> Float:
        return self.norm * visit.directions()


@final
@dataclass(frozen=True)
class _Smooth(Perturbation):
    norm: float
    scale: float

    def at(self, visit: Visit) -> Float:
        error: Float = (self.norm / math.sqrt(visit.x.shape[1])) * np.tanh(visit.x / self.scale)
        return error


@final
@dataclass(frozen=True)
class _Velocity(Perturbation):
    norm: float

    def at(self, visit: Visit) -> Float:
        c = visit.coefficients()
        # 1/kappa = sigma / (alpha_dot sigma - alpha sigma_dot): 0 where the velocity's share of D is infinite.
        with np.errstate(invalid="ignore"):
            slope = c.alpha_dot * c.sigma - c.alpha * c.sigma_dot
        if slope == 0:
            msg = f"error: at t = {visit.t:g} kappa = 0 and an error of the velocity says nothing about the denoiser."
            raise ValueError(msg)
        error: Float = (self.norm * c.sigma / slope) * visit.directions()
        return error


@final
@dataclass(frozen=True)
class _InverseDensity(Perturbation):
    norm: float
    cap: float

    def at(self, visit: Visit) -> Float:
        if visit.log_density is None:
            msg = "error: inverse_density needs the density of the oracle; pass oracle= when the field is a Model."
            raise ValueError(msg)
        size = np.exp(np.minimum(math.log(self.norm) - visit.log_density, math.log(self.cap)))
        return size[:, None] * visit.directions()


def _positive(value: float, name: str) -> float:
    number = _arrays.number(value, name, least=0.0)
    if number == 0:
        msg = f"{name} must be > 0; got {value}."
        raise ValueError(msg)
    return number


def constant(norm: float) -> Perturbation:
    """|e^D| = norm at every evaluation, in a fresh random direction for every sample and row.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> field = itf.Field(X)
    >>> out = itf.sample(field, itf.ddim(field.schedule, 20), 3, rng=0, error=itf.perturb.constant(0.5))
    >>> np.linalg.norm(out.x - X[out.index], axis=1).round(6)
    array([0.5, 0.5, 0.5])
    """
    return _Constant(_arrays.number(norm, "norm", least=0.0))


def smooth(norm: float, scale: float) -> Perturbation:
    """The fixed field e^D(x) = norm tanh(x / scale) / sqrt(d), of norm at most ``norm``: its errors do not average out.

    ``scale`` is the distance over which it varies, in the units of the data. Draws nothing.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> field = itf.Field(X)
    >>> out = itf.sample(field, itf.ddim(field.schedule, 20), 3, rng=0, error=itf.perturb.smooth(0.5, scale=1.0))
    >>> bool(np.linalg.norm(out.x - X[out.index], axis=1).max() <= 0.5)
    True
    """
    return _Smooth(_arrays.number(norm, "norm", least=0.0), _positive(scale, "scale"))


def velocity(norm: float) -> Perturbation:
    """A velocity error of constant norm, e^D = e^v / kappa with |e^v| = norm, in random directions.

    It vanishes towards the data, where kappa is infinite: such an error displaces no sample in continuous time. The
    table must be one of the field's schedule, whose kappa = alpha_dot - alpha sigma_dot / sigma enters.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> field = itf.Field(X)
    >>> out = itf.sample(field, itf.ddim(field.schedule, 20), 3, rng=0, error=itf.perturb.velocity(0.5))
    >>> np.linalg.norm(out.x - X[out.index], axis=1).round(6)  # the last error alone counts, and sigma is 1/20 there
    array([0.025, 0.025, 0.025])
    """
    return _Velocity(_arrays.number(norm, "norm", least=0.0))


def inverse_density(norm: float, cap: float) -> Perturbation:
    """|e^D| = min(norm / p_t(x), cap), in random directions: wrong where the training data are rare.

    p_t is the density of x_t = alpha x_1 + sigma z. ``cap`` is in the units of the data; ``norm`` is in those times the
    density's.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [4.0, 0.0]])
    >>> field = itf.Field(X)
    >>> error = itf.perturb.inverse_density(0.01, cap=0.5)
    >>> out = itf.sample(field, itf.ddim(field.schedule, 20), 3, rng=0, error=error)
    >>> np.linalg.norm(out.x - X[out.index], axis=1).round(4)
    array([0.03  , 0.5   , 0.0015])
    """
    return _InverseDensity(_positive(norm, "norm"), _positive(cap, "cap"))
