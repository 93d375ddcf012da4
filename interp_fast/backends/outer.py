"""A backend made of another: what both have in common."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import State
from .reference import run_rows

__all__ = ["Outer"]


class Outer:
    """The kernel contract over rows that ``inner`` sees part by part: its noise, and tables a row at a time."""

    posterior: Any  # the contract's

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def isa(self) -> str | None:
        return self.inner.isa() if hasattr(self.inner, "isa") else None

    @property
    def device(self) -> Any:
        return getattr(self.inner, "device", None)

    def roundoff(self, stored: np.dtype[Any]) -> float:
        return float(self.inner.roundoff(stored))

    def normals(self, *args: Any, **kwargs: Any) -> None:
        self.inner.normals(*args, **kwargs)

    def run_steps(self, state: State, data: Any, table: Any, first: int, last: int, **options: Any) -> None:
        run_rows(self.posterior, self.normals, state, data, table, first, last, **options)
