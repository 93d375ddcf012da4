"""A model under study, seen through the methods of the oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._results import called
from ._schedule import Schedule, check_schedule
from ._typing import Kind, in_kind

__all__ = ["Model"]

Float = npt.NDArray[np.float64]

_PREDICTS = ("velocity", "score", "noise", "denoiser")


class Model:
    """A trained velocity, score, noise or denoiser network (any callable), with the methods of :class:`Field`.

    Parameters
    ----------
    fn : callable
        ``fn(x, t)`` -> array of x's shape. It gets x (M, d) as float32 when the queries or starting points are, else
        float64, and t as a float, or (M,) when t was; tensors when the queries are. t = 0 is noise, t = 1 data.
    schedule : Schedule
        The one the model was trained with.
    predicts : {"velocity", "score", "noise", "denoiser"}

    Notes
    -----
    Conversions, with eta = sigma_dot / sigma and kappa = alpha_dot - alpha eta:
    D = (v - eta x) / kappa = (x + sigma^2 s) / alpha = (x - sigma z) / alpha. Where the divisor is 0 the prediction
    does not determine D: ValueError naming the time.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> model = itf.Model(lambda x, t: -x, itf.Linear(), predicts="score")
    >>> model.denoiser(np.array([[1.0, 2.0]]), 0.5)
    array([[1.5, 3. ]])
    """

    def __init__(self, fn: Callable[..., Any], schedule: Schedule, predicts: Kind = "velocity") -> None:
        if not callable(fn):
            msg = f"fn must be callable as fn(x, t); got {fn!r}."
            raise TypeError(msg)
        if predicts not in _PREDICTS:
            msg = f"predicts must be one of {', '.join(_PREDICTS)}; got {predicts!r}."
            raise ValueError(msg)
        self.fn, self.schedule, self.predicts = fn, check_schedule(schedule), predicts

    def __repr__(self) -> str:
        return f"Model({called(self.fn)}, {self.schedule!r}, predicts={self.predicts!r})"

    @in_kind
    def denoiser(self, x: Any, t: Any) -> Any:
        """D = E[x_1 | x_t = x] as the model has it, (M, d)."""
        return self._answer(x, t, lambda x, d, c: d)

    @in_kind
    def velocity(self, x: Any, t: Any) -> Any:
        """alpha_dot D + sigma_dot (x - alpha D) / sigma, (M, d); fn itself when it predicts the velocity."""
        return self._answer(
            x, t, lambda x, d, c: c.alpha_dot * d + c.sigma_dot * (x - c.alpha * d) / c.sigma, "velocity"
        )  # fmt: skip

    @in_kind
    def score(self, x: Any, t: Any) -> Any:
        """(alpha D - x) / sigma^2, (M, d)."""
        return self._answer(x, t, lambda x, d, c: (c.alpha * d - x) / c.sigma**2, "score")

    @in_kind
    def noise(self, x: Any, t: Any) -> Any:
        """(x - alpha D) / sigma, (M, d)."""
        return self._answer(x, t, lambda x, d, c: (x - c.alpha * d) / c.sigma, "noise")

    def predict(self, x: Float, t: Any, dtype: npt.DTypeLike, kind: Callable[[Any], Any]) -> Float:
        """What ``fn`` returns for (M, d) float64 queries, checked, in float64."""
        answer, _ = _arrays.as_array(self.fn(kind(x.astype(dtype)), t), "the model's output")
        if answer.shape != x.shape or answer.dtype.kind != "f":
            msg = (
                f"the model's output must be a float array of the shape of x, {x.shape}; "
                f"got {answer.dtype} {answer.shape}. Check fn(x, t)."
            )
            raise ValueError(msg)
        wide: Float = answer.astype(np.float64)
        _arrays.check_finite(wide, "the model's output")
        return wide

    def to_denoiser(self, prediction: Float, x: Float, t: Any, c: Any) -> Float:
        """D from a prediction at (x, t), for schedule coefficients ``c`` that broadcast against x."""
        if self.predicts == "denoiser":
            return prediction
        if self.predicts == "velocity":
            # (sigma v - sigma_dot x) / (alpha_dot sigma - alpha sigma_dot): D without dividing by sigma.
            top, divisor = c.sigma * prediction - c.sigma_dot * x, c.alpha_dot * c.sigma - c.alpha * c.sigma_dot
        elif self.predicts == "score":
            top, divisor = x + c.sigma**2 * prediction, c.alpha
        else:
            top, divisor = x - c.sigma * prediction, c.alpha
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            denoiser: Float = top / divisor
        bad = ~(np.isfinite(divisor) & np.isfinite(denoiser).all(axis=-1, keepdims=True))
        if np.any(bad):
            time = np.broadcast_to(t, np.shape(bad)[:1])[np.ravel(bad)][0] if np.ndim(t) else t
            msg = (
                f"t must avoid {float(time)!r}: there a {self.predicts} does not determine the denoiser. "
                f"Start the times elsewhere or let the model predict the denoiser."
            )
            raise ValueError(msg)
        return denoiser

    def _answer(self, x: Any, t: Any, formula: Callable[[Float, Float, Any], Float], what: str = "denoiser") -> Any:
        wide, single, dtype, kind = _arrays.queries(x, None)
        times, scalar = _arrays.times(t, len(wide))
        result = self.predict(wide, float(times) if scalar else kind(times), dtype, kind)
        if self.predicts != what:
            c = self.schedule(times if scalar else times[:, None])
            if what != "denoiser" and np.any(c.sigma == 0):
                msg = f"t must avoid 1: the {what} does not exist where sigma = 0. Evaluate next to it or use denoiser."
                raise ValueError(msg)
            result = formula(wide, self.to_denoiser(result, wide, times, c), c)
        result = result.astype(dtype)
        return kind(result[0] if single else result)
