"""What a training set says of queries as a part of a larger one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._accuracy import OFF_WEIGHT_NATS
from ._oracle import Point
from ._training_set import TrainingSet
from .backends import dense, reference
from .backends.merging import Place, blank, part

__all__ = ["measured", "place_of"]

Float = npt.NDArray[np.float64]


def place_of(p: Point, x: Float) -> Place:
    return Place(x, p.alpha, p.s2)


def measured(
    data: TrainingSet,
    p: Point,
    x: Float,
    wanted: Iterable[str],
    *,
    top: int,
    tol: float | None,
    precise: npt.NDArray[np.bool_],
    first: int = 0,
) -> dict[str, Any]:
    """A part in the sense of :mod:`.backends.merging`, of rows numbered from ``first``; ``precise``: in float64."""
    asked, top = top, max(1, top)
    out = blank(wanted, x, min(top, data.n))
    fast, slow = np.flatnonzero(~precise), np.flatnonzero(precise)
    if len(fast):
        ratio = np.divide(np.sqrt(p.s2), p.alpha, out=np.full_like(p.s2, np.inf), where=p.alpha > 0)
        here = {name: array[fast] for name, array in out.items()}
        cut = data.cut(tol, ratio[fast]) + OFF_WEIGHT_NATS
        data.posterior(x[fast], p.alpha[fast], p.sigma[fast], cut, here)
        for name, array in out.items():
            array[fast] = here[name]
    if len(slow):
        data.check_size(p.alpha, p.sigma)
        here = {name: array[slow] for name, array in out.items()}
        rows = reference.Data(data.rows, data.log_w, data.moments, data.scale, data.bandwidth)
        dense.posterior(x[slow], rows, p.alpha[slow], p.sigma[slow], out=here)
        for name, array in out.items():
            array[slow] = here[name]
    found = part(
        out, place_of(p, x), data.given, data.values,
        top=top, first=first, moments=data.moments, roundoff=data.roundoff,
    )  # fmt: skip
    found["doubt"][precise] = found["spoiled"][precise] = 0.0
    found["top"] = asked
    return found
