"""Solvers as tables of numbers: one row per evaluation of the field.

With D(x; alpha, sigma) the denoiser, xi ~ N(0, I) and cur = base = x_0, row r of a table does::

    D     = D(cur; alpha[r], sigma[r])
    out   = A[r] base + B[r] D + C[r] D_previous + S[r] xi
    cur   = out;   if commit[r]: base = out                  D_previous: the D of the row just above

Time runs from noise (t = 0) to data (t = 1). Below, h = t' - t, a prime marks the end of a step,
lambda = log(alpha/sigma), and the velocity is v = eta x + kappa D with eta = sigma_dot/sigma,
kappa = alpha_dot - alpha eta. A new solver is one function that returns its rows.

=======================  ==========  ========  ========================================================================
solver                   kind        order     use it for
=======================  ==========  ========  ========================================================================
``euler``                ODE         1         what flow-matching samplers do; exact at the end only for straight paths
``euler_maruyama``       SDE         1         the same with noise; stable only for a diffusion that vanishes with sigma
``ddim``                 ODE or SDE  1         exact while D is constant; lands on a denoiser value for any grid
``ddpm``                 SDE         1         ancestral sampling
``exponential``          SDE         1         any amount of noise (churn), stable for any step
``heun``                 ODE         2         two evaluations a step
``exponential_heun``     ODE         2         two evaluations a step, exact while D is constant
``multistep``            ODE         2         one evaluation a step (DPM-Solver++(2M))
=======================  ==========  ========  ========================================================================
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, grid
from ._schedule import Coefficients, Schedule, check_schedule
from ._step_table import COLUMNS, StepTable

__all__ = [
    "StepTable",
    "ddim",
    "ddpm",
    "euler",
    "euler_maruyama",
    "exponential",
    "exponential_heun",
    "heun",
    "multistep",
]

Float = npt.NDArray[np.float64]
Times = int | npt.ArrayLike
Diffusion = float | str | tuple[str, float] | Callable[[Float], npt.ArrayLike]


def euler(schedule: Schedule, times: Times) -> StepTable:
    """Euler steps of the velocity, x' = x + h v: A = 1 + h eta, B = h kappa.

    First order. On ``Linear`` and ``VELinear`` it is ``ddim``; elsewhere the last step misses the data, by O(h^2) where
    alpha is curved and by O(sqrt(h)) where the variance vanishes linearly.

    Parameters
    ----------
    schedule : Schedule
    times : int or (K + 1,) array
        K for the uniform times k / K, or times that increase within [0, 1] (0 is noise, 1 is data). K rows; one more
        onto sigma = 0 when they end at 1 and the schedule has sigma(1) > 0.

    Raises
    ------
    ValueError
        The times do not increase or leave [0, 1], or the velocity is infinite at one of them (``SqrtVP`` at 0).

    Examples
    --------
    >>> from interp_fast.schedules import Linear
    >>> euler(Linear(), 4).B.tolist()
    [0.25, 0.3333333333333333, 0.5, 1.0]
    """
    path = _Path.of(schedule, times)
    return path.table("euler", *_velocity(path.h, path.start))


def euler_maruyama(schedule: Schedule, times: Times, diffusion: Diffusion) -> StepTable:
    """Euler-Maruyama steps of dx = (v + epsilon score) dt + sqrt(2 epsilon) dW, whose marginals are those of the ODE.

    A = 1 + h (eta - epsilon/sigma^2), B = h (kappa + alpha epsilon/sigma^2), S = sqrt(2 epsilon h). Near the data it is
    stable only while epsilon is at most of the order of sigma^2 / h, so for small steps epsilon must vanish with sigma.

    Parameters
    ----------
    schedule, times
        As in :func:`euler`.
    diffusion : float, callable, str or (str, float)
        epsilon(t) >= 0: a constant, a function of a float64 array of times, or "sigma", "sigma2" (sigma^2), "reversal"
        (sigma^2 dlambda/dt, the time reversal of the noising diffusion), possibly with a factor: ("sigma", 0.5).

    Raises
    ------
    TypeError
        ``diffusion`` is none of these.
    ValueError
        As in :func:`euler`; epsilon is negative, or infinite at one of the times (the reversal where alpha = 0).

    Warns
    -----
    UserWarning
        The rows of the last quarter multiply an error by more than 2: the diffusion is too strong for the grid.

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.euler_maruyama(itf.Linear(), 4, "sigma").S.round(3)
    array([0.707, 0.612, 0.5  , 0.354])
    """
    path = _Path.of(schedule, times)
    epsilon = _diffusion(diffusion, path)
    A, B = _velocity(path.h, path.start, epsilon)
    table = path.table("euler_maruyama", A, B, S=np.sqrt(2.0 * epsilon * path.h))
    late = np.abs(A[3 * len(A) // 4 :])
    # One |A| up to 2 in the last row is harmless (epsilon = 2 sigma, the reversal on Linear); growth over rows is not.
    if np.log(np.maximum(late, 1.0)).sum() > np.log(2.0) + 1e-6:
        msg = (
            f"diffusion is too strong for Euler-Maruyama on this grid: one of the last {len(late)} steps multiplies "
            f"errors by {late.max():.3g}. Use one that vanishes with sigma, such as 'sigma', or exponential steps."
        )
        warnings.warn(msg, UserWarning, stacklevel=2)
    return table


def ddim(schedule: Schedule, times: Times, eta: float = 0.0) -> StepTable:
    """DDIM steps (Song, Meng and Ermon 2021): A = sqrt(sigma'^2 - S^2)/sigma, B = alpha' - alpha A, S = eta S_ddpm.

    Exact while D is constant, for any grid and schedule. eta = 0 is the ODE, eta = 1 is :func:`ddpm`.

    Parameters
    ----------
    schedule, times
        As in :func:`euler`; every schedule may start at 0.
    eta : float
        Share of the ancestral noise, in [0, 1].

    Raises
    ------
    ValueError
        The times do not increase or leave [0, 1]; eta is outside [0, 1].

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.ddim(itf.Linear(), 4).A.round(3)
    array([0.75 , 0.667, 0.5  , 0.   ])
    """
    _arrays.number(eta, "eta", least=0.0, most=1.0)
    path = _Path.of(schedule, times)
    # sigma'^2 - S^2 = sigma'^2 ((1 - eta^2) + eta^2 exp(-2 gain)): a sum of positive terms
    keep = np.sqrt((1.0 - eta) * (1.0 + eta) + eta**2 * np.exp(-2.0 * path.gain))
    return path.table("ddim", *_exact(path, keep), S=path.end.sigma * eta * np.sqrt(-np.expm1(-2.0 * path.gain)))


def ddpm(schedule: Schedule, times: Times) -> StepTable:
    """Ancestral sampling (Ho, Jain and Abbeel 2020): each step draws from the Gaussian p(x_t' | x_t, x_1 = D).

    It is :func:`exponential` with churn 1, the exact step of the time-reversed noising diffusion for constant D.
    Parameters and errors are those of :func:`ddim`.

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.ddpm(itf.Linear(), 4).S.round(3)
    array([0.75 , 0.471, 0.236, 0.   ])
    """
    return replace(exponential(schedule, times, 1.0), name="ddpm")


def exponential(schedule: Schedule, times: Times, churn: float = 0.0) -> StepTable:
    """Exact steps, for constant D, of the SDE with epsilon = churn sigma^2 dlambda/dt.

    With Lambda = churn (lambda' - lambda): A = (sigma'/sigma) exp(-Lambda), B = alpha' - alpha A,
    S = sigma' sqrt(1 - exp(-2 Lambda)). Stable for any step; a step onto sigma = 0 gives alpha' D exactly. From
    alpha = 0, where lambda = -inf, any churn > 0 redraws the noise.

    Parameters
    ----------
    schedule, times
        As in :func:`euler`; every schedule may start at 0.
    churn : float
        0 is :func:`ddim`, 1 is :func:`ddpm`; more mixes faster.

    Raises
    ------
    ValueError
        The times do not increase or leave [0, 1]; churn is negative or not finite.

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.exponential(itf.Linear(), 4, churn=2.0).noise_std().round(3)
    array([0.75, 0.5 , 0.25, 0.  ])
    """
    _arrays.number(churn, "churn", least=0.0)
    path = _Path.of(schedule, times)
    decay = churn * path.gain if churn else np.zeros(len(path.h))  # 0 * inf is 0 here: without churn it is DDIM
    return path.table("exponential", *_exact(path, np.exp(-decay)), S=path.end.sigma * np.sqrt(-np.expm1(-2.0 * decay)))


def heun(schedule: Schedule, times: Times) -> StepTable:
    """Heun's method on the velocity: an Euler predictor (uncommitted), then a trapezoidal corrector from the same base.

    Second order. Two rows a step; a step onto sigma = 0 is one exponential row, so K steps to the data are 2K - 1 rows
    (Karras et al. 2022). Parameters and errors are those of :func:`euler`.

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.heun(itf.Linear(), 4).commit
    array([False,  True, False,  True, False,  True,  True])
    """
    path = _Path.of(schedule, times)
    A, B = _velocity(path.h, path.start)
    A_end, B_end = _velocity(path.h, path.end)
    # The trapezoid is the mean of x and of an Euler step with v' from A x + B D. Onto sigma = 0 it is not used.
    with np.errstate(invalid="ignore"):
        corrector = (0.5 + 0.5 * A_end * A, 0.5 * B_end, 0.5 * A_end * B)
    return _two_stage("heun", path, (A, B), corrector)


def exponential_heun(schedule: Schedule, times: Times) -> StepTable:
    """Heun's method in the variables x/sigma and alpha/sigma, in which the ODE reads d(x/sigma) = D d(alpha/sigma).

    Predictor A = sigma'/sigma, B = alpha' - alpha A (uncommitted); corrector with half of B on each of the two D.
    Second order, and exact while D is constant. Two rows a step; a step onto sigma = 0 is one row. Parameters and
    errors are those of :func:`ddim`.

    Examples
    --------
    >>> import interp_fast as itf
    >>> len(itf.exponential_heun(itf.VP(), 8))
    15
    """
    path = _Path.of(schedule, times)
    A, B = _exact(path)
    return _two_stage("exponential_heun", path, (A, B), (A, 0.5 * B, 0.5 * B))


def multistep(schedule: Schedule, times: Times) -> StepTable:
    """Two-step method in lambda, DPM-Solver++(2M) of Lu et al. (2022): one evaluation a step, second order.

    With r = (lambda - lambda_previous)/(lambda' - lambda) and b = alpha' - alpha A: A = sigma'/sigma, B = (1 + 1/2r) b,
    C = -b/2r. The first step, a step onto sigma = 0 and those that touch alpha = 0 are DDIM's (B = b, C = 0).
    Parameters and errors are those of :func:`ddim`.

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.multistep(itf.VP(), 4).C[1:3].round(3)
    array([-0.082, -0.207])
    """
    path = _Path.of(schedule, times)
    A, b = _exact(path)
    usable = np.isfinite(path.gain) & (path.gain > 0)
    both = np.flatnonzero(usable[1:] & usable[:-1])
    lean = np.zeros_like(b)  # 1/2r
    lean[both + 1] = 0.5 * path.gain[both + 1] / path.gain[both]
    return path.table("multistep", A, (1.0 + lean) * b, C=-lean * b)


@dataclass(frozen=True)
class _Path:
    """The steps between K + 1 points of a schedule."""

    schedule: Schedule
    t: Float
    at: Coefficients

    @classmethod
    def of(cls, schedule: Schedule, times: Times) -> _Path:
        if np.ndim(times) == 0:
            t = grid.uniform(_arrays.count(times, "times (an int K or an array of K + 1 times)", 1))
        else:
            t, _ = _arrays.times(times, None, "times")
            if t.ndim != 1 or len(t) < 2:
                msg = f"times must be an int K or a vector of at least two times; got an array of shape {t.shape}."
                raise ValueError(msg)
            falls = np.diff(t) <= 0
            if falls.any():
                k = int(np.argmax(falls))
                msg = f"times must increase from noise (0) to data (1); got {t[k]:g} followed by {t[k + 1]:g}."
                raise ValueError(msg)
        at = check_schedule(schedule)(t)
        subnormal = at.sigma < np.finfo(float).tiny  # ratios of these have no digits
        _arrays.check_size(np.where(subnormal, at.sigma, 0.0), "sigma")
        return cls(schedule, t, at)

    def points(self, where: Any) -> Coefficients:
        return Coefficients(*(value[where] for value in self.at))

    @property
    def start(self) -> Coefficients:
        return self.points(slice(-1))

    @property
    def end(self) -> Coefficients:
        return self.points(slice(1, None))

    @property
    def h(self) -> Float:
        return np.diff(self.t)

    @cached_property
    def gain(self) -> Float:
        """lambda' - lambda; inf where lambda = -inf, also when it stays there."""
        lam = self.schedule.lam(self.t)
        with np.errstate(invalid="ignore"):
            return np.where(lam[:-1] == -np.inf, np.inf, np.maximum(np.diff(lam), 0.0))

    def table(
        self,
        name: str,
        A: Float,
        B: Float,
        C: Float | float = 0.0,
        S: Float | float = 0.0,
        commit: npt.NDArray[np.bool_] | bool = True,
        where: Any = slice(None),
    ) -> StepTable:
        """The table of rows between the points ``where``, closed onto sigma = 0 where t = 1 leaves sigma > 0."""
        t, at = self.t[where], self.points(where)
        bad = ~(np.isfinite(A) & np.isfinite(B))
        if bad.any():
            msg = (
                f"times: {name} cannot step from t = {t[np.argmax(bad)]:g}, where the velocity of {self.schedule!r} is "
                "infinite. Start later, or use an exponential step (ddim, exponential, exponential_heun, multistep)."
            )
            raise ValueError(msg)
        columns = [t, at.alpha, at.sigma, *(np.broadcast_to(column, A.shape) for column in (A, B, C, S, commit))]
        if t[-1] == 1 and at.sigma[-1] > 0:
            closing = (1.0, at.alpha[-1], 0.0, 0.0, at.alpha[-1], 0.0, 0.0, True)
            columns = [np.append(column, last) for column, last in zip(columns, closing, strict=True)]
        return StepTable(**dict(zip(COLUMNS, columns, strict=True)), name=name)


def _velocity(h: Any, at: Coefficients, epsilon: Any = 0.0) -> tuple[Float, Float]:
    """1 + h (eta - epsilon/sigma^2) and h (kappa + alpha epsilon/sigma^2): exactly 0 and 1 as Linear lands on t = 1."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        change = h * at.sigma_dot / at.sigma - h * epsilon / at.sigma**2
        return 1.0 + change, h * at.alpha_dot - at.alpha * change


def _exact(path: _Path, keep: Any = 1.0) -> tuple[Float, Float]:
    """A and B exact for constant D, of a step that keeps a share of the residual x - alpha D (and may add noise)."""
    A = path.end.sigma / path.start.sigma * keep
    return A, path.end.alpha - path.start.alpha * A


def _two_stage(name: str, path: _Path, predictor: tuple[Float, ...], corrector: tuple[Float, ...]) -> StepTable:
    """Rows predictor, corrector, predictor, ... at the points t0, t1, t1, t2, ...; a step onto sigma = 0 is one row."""
    lands = path.at.sigma[-1] == 0
    rows = 2 * len(path.h) - lands
    pairs = np.stack([(*predictor, np.zeros_like(path.h)), corrector], axis=-1)
    A, B, C = pairs.reshape(3, -1)[:, :rows]
    commit = np.arange(rows) % 2 == 1
    if lands:
        A[-1], B[-1], commit[-1] = 0.0, path.at.alpha[-1], True
    where = np.repeat(np.arange(len(path.t)), 2)[1 : rows + 2]
    return path.table(name, A, B, C, commit=commit, where=where)


def _diffusion(diffusion: Diffusion, path: _Path) -> Float:
    """Epsilon at the start of every step."""
    t, at = path.t[:-1], path.start
    name, factor = diffusion if isinstance(diffusion, tuple) and len(diffusion) == 2 else (diffusion, 1.0)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        rate = (at.alpha_dot - at.alpha * at.sigma_dot / at.sigma) / at.alpha  # dlambda/dt, infinite where alpha = 0
        square = at.sigma**2
        named = {"sigma": at.sigma, "sigma2": square, "reversal": np.where(at.alpha > 0, square * rate, np.inf)}
    if isinstance(name, str) and name in named:
        epsilon = named[name] * _arrays.number(factor, "the factor of diffusion")
    elif callable(diffusion):
        epsilon = _arrays.reals(diffusion(t.copy()), "diffusion(t)")
    elif isinstance(diffusion, str | tuple):
        msg = f"diffusion must be 'sigma', 'sigma2', 'reversal' or (one of these, a factor); got {diffusion!r}."
        raise ValueError(msg)
    else:
        epsilon = np.asarray(_arrays.number(diffusion, "diffusion"))
    if epsilon.shape not in ((), t.shape):
        msg = f"diffusion(t) must have the shape of its argument, {t.shape}; got {epsilon.shape}."
        raise ValueError(msg)
    epsilon = np.broadcast_to(epsilon, t.shape)
    bad = ~(np.isfinite(epsilon) & (epsilon >= 0))
    if bad.any():
        k = int(np.argmax(bad))
        msg = (
            f"diffusion must be finite and >= 0 at every time a step starts from; got {epsilon[k]:g} at t = {t[k]:g}. "
            "Start later, or use exponential steps, if it is infinite."
        )
        raise ValueError(msg)
    return epsilon
