"""The field at given levels of data and noise, for those who have no schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._typing import in_kind

__all__ = ["Level"]

Float = npt.NDArray[np.float64]


class Level:
    """The field at x = alpha x_I + sigma z; what :meth:`Field.at` returns.

    The methods are those of :class:`Field` without their time. Bandwidth and tol are the field's. At sigma = 0
    ``denoiser`` is the limit, the nearest row, and ``score``, ``noise`` and ``jvp`` do not exist.

    Attributes
    ----------
    alpha, sigma : float64 arrays, () or (M,)
    """

    def __init__(self, field: Any, alpha: Any, sigma: Any) -> None:
        self._field = field
        self.alpha, self.sigma = _level(alpha, "alpha"), _level(sigma, "sigma")
        _arrays.check_size(self.sigma, "sigma")

    def __repr__(self) -> str:
        return f"{self._field!r}.at(alpha={self.alpha.tolist()}, sigma={self.sigma.tolist()})"

    @in_kind
    def denoiser(self, x: Any) -> Any:
        """E[x_I | x], (M, d)."""
        return self._field.denoiser(x, self)

    @in_kind
    def score(self, x: Any) -> Any:
        """(alpha D - x) / sigma^2, (M, d)."""
        return self._field.score(x, self)

    @in_kind
    def noise(self, x: Any) -> Any:
        """E[z | x] = (x - alpha D) / sigma, (M, d)."""
        return self._field.noise(x, self)

    def log_density(self, x: Any) -> Any:
        """log p(x), (M,) float64."""
        return self._field.log_density(x, self)

    def posterior(self, x: Any, top: int = 0) -> Any:
        """One pass over the rows, every output; see :class:`Posterior`."""
        return self._field.posterior(x, self, top)

    def partial(self, x: Any, top: int = 0, *, first_row: int = 0, precise: Any = None) -> Any:
        """The posterior as a part of a larger set; see :meth:`Field.partial`."""
        return self._field.partial(x, self, top, first_row=first_row, precise=precise)

    @in_kind
    def jvp(self, x: Any, u: Any) -> Any:
        """The denoiser's Jacobian times ``u``: (alpha / sigma^2) C u, (M, d)."""
        return self._field.jvp(x, self, u)

    def of(self, m: int) -> tuple[Float, Float]:
        """Alpha and sigma of ``m`` queries, (m,) each."""
        for name, value in (("alpha", self.alpha), ("sigma", self.sigma)):
            if value.shape not in ((), (m,)):
                msg = f"{name} must be a number or have shape ({m},), one for each query; got {value.shape}."
                raise ValueError(msg)
        return np.full(m, self.alpha), np.full(m, self.sigma)


def _level(value: Any, name: str) -> Float:
    level = _arrays.reals(value, name)
    if level.ndim > 1:
        msg = f"{name} must be a number or a vector, one for each query; got shape {level.shape}."
        raise ValueError(msg)
    if not (np.isfinite(level) & (level >= 0)).all():
        bad = level[~(np.isfinite(level) & (level >= 0))].flat[0]
        msg = f"{name} must be finite and >= 0; got {bad}."
        raise ValueError(msg)
    return level
