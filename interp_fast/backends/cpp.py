"""The compiled backend: thin calls into ``_core``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _core
from . import Float, Int, Moments, State

__all__ = [
    "bounds_rounding",
    "isa",
    "knows_parts",
    "nearest",
    "normals",
    "posterior",
    "prepare",
    "roundoff",
    "run_steps",
    "unused",
    "weighs_classes",
]

isa = _core.isa
bounds_rounding = weighs_classes = knows_parts = True


def unused() -> str | None:
    """The instruction set that this processor has and that may not be used, and why."""
    obstacle = _core.amx_obstacle()
    return f"not amx: {obstacle}" if obstacle not in {"", "the processor has none"} else None


def prepare(
    rows: npt.NDArray[Any],
    log_w: Float,
    *,
    moments: Moments,
    scale: tuple[float, float] | None,
    bandwidth: float,
    low_memory: bool,
    threads: int,
) -> _core.Data:
    return _core.Data(rows, log_w, moments, scale, bandwidth, low_memory, threads)


def posterior(
    x: Float,
    data: _core.Data,
    alpha: Float,
    sigma: Float,
    *,
    u: Float | None = None,
    cut: Float,
    out: dict[str, Any],
    threads: int,
    parts: int = 1,
    **classes: Int,
) -> None:
    """The contract's, and of ``classes``: with those of the rows, ``codes``, what they weigh, ``out["mass"]``
    (M, classes); and with a class for each query, ``class_of``, its mean, ``out["class_mean"]`` (M, d). That is left as
    it is where sums over all rows do not tell it. ``by_class``: an order of the rows in which classes lie together, if
    they do not.

    The queries are about so many ``parts`` of a whole, M of them about one after M about another: rows may be left out
    that are more than ``cut`` below the heaviest of all parts, and "dropped" is a share of the mass of the whole. Only
    for outputs that are not made of off-weights.
    """
    if classes:
        out = out | classes
    if parts > 1:
        out = out | {"parts": parts}
    _core.posterior(x, data, alpha, sigma, cut, u, out, threads)


def run_steps(
    state: State,
    data: _core.Data,
    table: Any,
    first: int,
    last: int,
    *,
    key: int | None,
    first_sample: int,
    error: Float | None,
    cut: float,
    threads: int,
) -> None:
    _core.run_steps(state, data, table, (first, last), (key or 0, first_sample), error, cut, threads)


def roundoff(stored: np.dtype[Any]) -> float:
    return 2.0**-53 if stored == np.float64 else 2.0**-24


def nearest(x: Float, data: _core.Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
    _core.nearest(x, data, alpha, out["index"], out["squared_distance"], threads)


def normals(key: int, first_sample: int, row: int, out: Float, *, threads: int) -> None:
    _core.normals(key, first_sample, row, out, threads)
