"""Schedules given by functions of time, and derivatives of functions of which nothing else is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, final

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._results import called
from ._schedule import Schedule

__all__ = ["Custom"]

Float = npt.NDArray[np.float64]
Function = Callable[[Float], npt.ArrayLike]


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
        value = _arrays.reals(getattr(self, name)(t.copy()), name)
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
        t, s = np.asarray(t), np.asarray(s)
        with np.errstate(divide="ignore", invalid="ignore"):  # in functions that are not ours
            return *self._levels(t, s), self._slope("alpha", t), self._slope("sigma", t)

    def _levels(self, t: Float, s: Float) -> tuple[Float, Float]:
        return self._level("alpha", t), self._level("sigma", t)

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        return self._bend("alpha", t), self._bend("sigma", t)

    def _bend(self, name: str, t: Float) -> Float:
        given = getattr(self, f"{name}_dot") is not None
        return (
            _derivative(partial(self._slope, name), t) if given else _second_derivative(partial(self._level, name), t)
        )


# Columns: five nodes in units of the step, the weights of the derivative by three of them and by all five.
_CENTRAL = np.array([[-2, 0, 1 / 12], [-1, -1 / 2, -2 / 3], [0, 0, 0], [1, 1 / 2, 2 / 3], [2, 0, -1 / 12]])
_ONE_SIDED = np.array([[0, -3 / 2, -25 / 12], [1, 2, 4], [2, -1 / 2, -3], [3, 0, 4 / 3], [4, 0, -1 / 4]])
# The same for the second derivative.
_CENTRAL_2 = np.array([[-2, 0, -1 / 12], [-1, 1, 4 / 3], [0, -2, -5 / 2], [1, 1, 4 / 3], [2, 0, -1 / 12]])
_ONE_SIDED_2 = np.array([[0, 1, 35 / 12], [1, -2, -26 / 3], [2, 1, 19 / 2], [3, 0, -14 / 3], [4, 0, 11 / 12]])


def _derivative(function: Callable[[Float], Float], t: Float) -> Float:
    """Five-point differences at the step, out of twelve, where truncation and rounding together look smallest."""
    here = function(t)
    steps = 2.0 ** -np.arange(7.0, 31.0, 2.0)  # powers of two: the nodes are exact
    slope, quotients = _differences(function, t, here, 1, steps, _CENTRAL, _ONE_SIDED)
    # Over these steps the quotient of sqrt(t) at 0 grows 2048-fold, that of a smooth function by its rounding only.
    floor = np.maximum(np.abs(quotients[0]), 1e-4 * np.abs(here))
    diverges = ((t == 0) | (t == 1)) & (np.abs(quotients[-1]) > 100.0 * floor)
    return np.where(diverges, np.copysign(np.inf, quotients[-1]), slope)


def _second_derivative(function: Callable[[Float], Float], t: Float) -> Float:
    """The same for second differences, whose rounding counts as 1 / step^2: larger steps."""
    return _differences(function, t, function(t), 2, 2.0 ** -np.arange(4.0, 24.0), _CENTRAL_2, _ONE_SIDED_2)[0]


def _differences(
    function: Callable[[Float], Float],
    t: Float,
    here: Float,
    order: int,
    steps: Float,
    central: Float,
    one_sided: Float,
) -> tuple[Float, list[Float]]:
    """The derivative of this order at the best of the steps, and the plain difference quotients at each."""
    best, derivative = np.full(t.shape, np.inf), np.zeros(t.shape)
    quotients = []
    for step in steps:
        inside = (t >= 2 * step) & (t <= 1 - 2 * step)
        h = np.where(inside | (t < 0.5), step, -step)
        stencil = np.where(inside[..., None, None], central, one_sided)
        nodes, three, five = np.moveaxis(stencil, (-1, -2), (0, 1))
        rise = function(t + nodes * h) - here
        coarse, fine = (three * rise).sum(0) / h**order, (five * rise).sum(0) / h**order
        error = np.abs(fine - coarse) + 2.0**-52 * np.abs(here) / step**order
        best, derivative = np.where(error < best, (error, fine), (best, derivative))
        quotients.append(rise[1] / h)
    return derivative, quotients
