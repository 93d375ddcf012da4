"""The levels of a discrete diffusion as a schedule."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._schedule import Schedule
from ._typing import Betas

__all__ = ["Discrete"]

Float = npt.NDArray[np.float64]


@final
class Discrete(Schedule):
    """The T levels of DDPM, x = sqrt(abar_k) x_1 + sqrt(1 - abar_k) z, with lambda linear in t between them.

    Level 0 has the least noise: level k lies at t = 1 - k / (T - 1), see :meth:`t_of`. So alpha(0) > 0 and
    sigma(1) > 0: tables of steps that end at t = 1 close with one exponential row onto sigma = 0. The derivatives jump
    at levels, where they are those from the right.

    Parameters
    ----------
    alphas_cumprod : (T,) array
        abar_0 > abar_1 > ..., as schedulers of diffusers keep it; each in (0, 1).

    Raises
    ------
    ValueError
        Fewer than two levels, one outside (0, 1), or one that does not fall.

    Examples
    --------
    >>> import interp_fast as itf
    >>> curve = itf.Discrete([0.9, 0.5, 0.2])
    >>> curve.t_of(1), round(curve(0.5).sigma ** 2, 12)
    (0.5, 0.5)
    """

    def __init__(self, alphas_cumprod: npt.ArrayLike) -> None:
        levels = _arrays.reals(alphas_cumprod, "alphas_cumprod")
        if levels.ndim != 1 or levels.size < 2:
            msg = f"alphas_cumprod must be a vector of at least 2 levels; got shape {levels.shape}."
            raise ValueError(msg)
        for bad, rule in (
            (~((levels > 0) & (levels < 1)), "lie in (0, 1): at 0 no data is left and at 1 no noise"),
            (np.append(False, ~(np.diff(levels) < 0)), "fall from one level to the next, least noise first"),
        ):
            if bad.any():
                k = int(np.argmax(bad))
                msg = f"alphas_cumprod must {rule}; got {levels[k]} at level {k}."
                raise ValueError(msg)
        levels.flags.writeable = False
        self.alphas_cumprod = levels
        self._lam = 0.5 * (np.log(levels) - np.log1p(-levels))

    @classmethod
    def ddpm(
        cls, kind: Betas = "linear", steps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
    ) -> Discrete:
        """The usual tables, abar_k = prod_{j <= k} (1 - beta_j), in float64.

        Parameters
        ----------
        kind : {"linear", "scaled_linear", "cosine"}
            beta, or its square root, rises evenly from ``beta_start`` to ``beta_end`` (Ho et al. 2020; Rombach et al.
            2022); or abar_k / abar_(k-1) = f((k+1)/T) / f(k/T) with f(u) = cos^2((u + 0.008) / 1.008 pi/2) and
            beta <= 0.999 (Nichol and Dhariwal 2021), whatever ``beta_start`` and ``beta_end``.
        steps : int, default 1000
        beta_start, beta_end : float

        Examples
        --------
        >>> import interp_fast as itf
        >>> itf.Discrete.ddpm().alphas_cumprod[[0, 999]].round(7)
        array([9.999e-01, 4.040e-05])
        """
        steps = _arrays.count(steps, "steps", 2)
        first = _arrays.number(beta_start, "beta_start", above=0.0, most=0.999)
        last = _arrays.number(beta_end, "beta_end", least=first, most=0.999)
        if kind == "linear":
            beta = np.linspace(first, last, steps)
        elif kind == "scaled_linear":
            beta = np.linspace(first**0.5, last**0.5, steps) ** 2
        elif kind == "cosine":
            f = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * np.pi / 2) ** 2
            beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
        else:
            msg = f"kind must be one of linear, scaled_linear, cosine; got {kind!r}."
            raise ValueError(msg)
        return cls(np.cumprod(1 - beta))

    def t_of(self, k: npt.ArrayLike) -> Any:
        """The time 1 - k / (T - 1) of level ``k``, which need not be whole: between levels lambda is linear.

        Examples
        --------
        >>> import interp_fast as itf
        >>> itf.Discrete.ddpm(steps=5).t_of([0, 1, 4])
        array([1.  , 0.75, 0.  ])
        """
        level, last = _arrays.reals(k, "k"), len(self.alphas_cumprod) - 1
        if not ((level >= 0) & (level <= last)).all():
            bad = level[~((level >= 0) & (level <= last))].flat[0]
            msg = f"k must lie in [0, {last}], the levels of {self!r}; got {bad}."
            raise ValueError(msg)
        t = 1.0 - level / last
        return t if t.ndim else float(t)

    def level_of(self, t: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """The level at each time; the inverse of :meth:`t_of` at levels, and an error between them.

        Examples
        --------
        >>> import interp_fast as itf
        >>> itf.Discrete.ddpm().level_of([0.0, 1.0])
        array([999,   0])
        """
        time, _ = _arrays.times(t, None)
        level, above = self._position(1.0 - time)
        between = above != 0
        if between.any():
            near = self.t_of(int(np.atleast_1d(level)[np.atleast_1d(between)][0]))
            msg = (
                f"t must be the time of a level; got {float(time[between].flat[0])!r} next to {near!r}. Build times as "
                "schedule.t_of(levels)."
            )
            raise ValueError(msg)
        return level

    def __repr__(self) -> str:
        first, last = self.alphas_cumprod[[0, -1]]
        return f"Discrete({len(self.alphas_cumprod)} levels, alphas_cumprod {first:.6g} ... {last:.6g})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Discrete) and np.array_equal(self.alphas_cumprod, other.alphas_cumprod)

    def __hash__(self) -> int:
        return hash(self.alphas_cumprod.tobytes())

    def _position(self, s: Float) -> tuple[npt.NDArray[np.int64], Float]:
        """The level below on the axis of levels, and how far above it, in [0, 1)."""
        last = len(self.alphas_cumprod) - 1
        position = s * last
        nearest = np.round(position)
        # What rounding of t makes of a level is that level.
        position = np.where(np.abs(position - nearest) <= 4 * last * 2.0**-53, nearest, position)
        level = np.floor(position).astype(np.int64)
        return level, position - level

    def _slopes(self, s: Float) -> Float:
        """d lambda / dt; at a level that from the right, where there is less noise."""
        level, above = self._position(s)
        segment = np.clip(np.where(above > 0, level, level - 1), 0, len(self._lam) - 2)
        rate: Float = (self._lam[segment] - self._lam[segment + 1]) * (len(self._lam) - 1)
        return rate

    def _levels(self, t: Float, s: Float) -> tuple[Float, Float]:
        level, above = self._position(s)
        beyond = np.minimum(level + 1, len(self._lam) - 1)
        lam = (1.0 - above) * self._lam[level] + above * self._lam[beyond]
        abar = self.alphas_cumprod[level]
        whole = above == 0
        return (
            np.where(whole, np.sqrt(abar), np.exp(-0.5 * np.logaddexp(0.0, -2.0 * lam))),
            np.where(whole, np.sqrt(1.0 - abar), np.exp(-0.5 * np.logaddexp(0.0, 2.0 * lam))),
        )

    def _coefficients(self, t: Float, s: Float) -> tuple[Float, Float, Float, Float]:
        alpha, sigma = self._levels(t, s)
        rate = self._slopes(s)
        return alpha, sigma, alpha * sigma**2 * rate, -sigma * alpha**2 * rate

    def _second(self, t: Float, s: Float) -> tuple[Float, Float]:
        alpha, sigma = self._levels(t, s)
        bend = (alpha * sigma * self._slopes(s)) ** 2
        return bend / alpha * (sigma**2 - 2.0 * alpha**2), bend / sigma * (alpha**2 - 2.0 * sigma**2)

    def _time_at(self, lam: Float) -> Float:
        places = np.arange(len(self._lam) - 1, -1, -1.0) / (len(self._lam) - 1)
        return np.asarray(1.0 - np.interp(lam, self._lam[::-1], places))
