"""Where rows come from, opened by whoever reads them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import _arrays
from .._stored import Stored

__all__ = ["Portion", "check_source", "default_shards", "divided", "opened"]

_WANTED = "the path of a .npy file or a zarr store, a list of .npy files, a zarr array or a function of shard numbers"
_SHARD_BYTES, _SHARD_ROWS, _FEW = 1 << 28, 1024, 16


def check_source(source: Any) -> Any:
    """A source that can be sent: paths made absolute. TypeError for rows in memory, which would be copied around."""
    if isinstance(source, (str, os.PathLike)):
        return _absolute(source)
    if isinstance(source, (list, tuple)) and source and all(isinstance(one, (str, os.PathLike)) for one in source):
        return [_absolute(one) for one in source]
    if callable(source):
        return source
    if _arrays.is_source(source) and not hasattr(source, "__dask_graph__"):
        return source
    remedy = "Write it with .to_zarr(path) and pass that path." if hasattr(source, "__dask_graph__") else ""
    if hasattr(source, "__array__") and not remedy:
        remedy = "Save it with np.save(path, ...) and pass the path; rows in memory belong in interp_fast.Field."
    msg = f"source must be {_WANTED}; got {type(source).__name__}. {remedy}".rstrip()
    raise TypeError(msg)


def _absolute(path: str | os.PathLike[str]) -> str:
    text = os.fspath(path)
    return text if "://" in text else os.path.abspath(text)  # noqa: PTH100, links stay as they are


def default_shards(shape: Sequence[int], itemsize: int) -> int:
    """Of 256 MiB at most, and up to 16 of 1024 rows or more: a matter of the data alone."""
    size = math.prod(shape) * itemsize
    return max(-(-size // _SHARD_BYTES), min(_FEW, -(-shape[0] // _SHARD_ROWS)))


def opened(source: Any) -> Any:
    """Something with shape, dtype and slices of rows."""
    if isinstance(source, list):
        return Stored(source, "source")
    if not isinstance(source, str):
        return source
    if "://" not in source and not Path(source).exists():
        msg = f"there is no {source} where a worker looks for it; all of them must see the same files."
        raise FileNotFoundError(msg)
    if "://" not in source and Path(source).is_file() and not source.endswith(".zip"):
        return Stored([source], "source")
    try:
        import zarr
    except ImportError:
        msg = f"source {source} is no .npy file, and to read it as a zarr store a worker needs zarr: pip install zarr."
        raise ImportError(msg) from None
    return zarr.open_array(source, mode="r")


def divided(source: Any, shards: int | None) -> list[Portion]:
    """The shards of a source that is no function; by default each file of a list is one."""
    if isinstance(source, list) and shards in (None, len(source)):
        for k, path in enumerate(source):
            try:
                opened([path])
            except (ValueError, OSError) as exc:
                msg = f"shard {k} of {len(source)}: {exc}"
                raise (ValueError if isinstance(exc, ValueError) else OSError)(msg) from None
    rows = opened(source)
    shape = tuple(map(int, rows.shape))
    if len(shape) < 2 or 0 in shape:
        msg = f"source must have shape (N, d) or (N, ...), with no 0 in it; got {shape}."
        raise ValueError(msg)
    n = shape[0]
    if shards is None and isinstance(source, list):
        return [Portion([path], k, *span) for k, (path, span) in enumerate(zip(source, rows.spans, strict=True))]
    if shards is None:
        shards = default_shards(shape, np.dtype(rows.dtype).itemsize)
    shards = _arrays.count(shards, "shards", 1, n)
    spans = [(k * n // shards, (k + 1) * n // shards) for k in range(shards)]
    if not isinstance(source, list):
        return [Portion(source, k, *span) for k, span in enumerate(spans)]
    own = [rows.holding(*span) for span in spans]
    return [Portion(paths, k, *span, skip) for k, ((paths, skip), span) in enumerate(zip(own, spans, strict=True))]


@dataclass(frozen=True)
class Portion:
    """The rows of one shard: where they are, and how they are read. ``stop`` 0: the source is a function.

    Of a list of files it has those that hold its rows, the first ``skip`` of which are not its own.
    """

    source: Any
    number: int
    start: int = 0
    stop: int = 0
    skip: int = 0

    @property
    def _own(self) -> slice:
        """Its rows in its source."""
        first = self.start if not isinstance(self.source, list) else self.skip
        return slice(first, first + self.stop - self.start)

    def __str__(self) -> str:
        if self.stop == 0:
            return f"source({self.number})"
        names = [self.source] if isinstance(self.source, str) else [type(self.source).__name__]
        names = self.source if isinstance(self.source, list) else names
        return f"rows {self.start} to {self.stop - 1}, {' and '.join(names)}"

    def read(self) -> Any:
        """In memory."""
        if self.stop == 0:
            return self.source(self.number)
        block, _ = _arrays.as_array(opened(self.source)[self._own], "source")
        return np.array(block, order="C")

    def place(self, row: int) -> str:
        """Where one of them is, in words."""
        if self.stop == 0:
            return f"row {row} of {self}"
        rows = opened(self.source)
        return rows.place(self._own.start + row) if isinstance(rows, Stored) else f"row {self.start + row} of all"
