"""Where rows come from, opened by whoever reads them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays
from .._stored import Stored

__all__ = ["check_source", "default_shards", "opened", "outline", "read"]

Array = npt.NDArray[Any]

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


def outline(source: Any) -> tuple[tuple[int, ...], str]:
    """Shape and type of all rows of a source that is no function."""
    rows = opened(source)
    return tuple(map(int, rows.shape)), np.dtype(rows.dtype).str


def read(source: Any, number: int, shards: int) -> tuple[Any, str, Callable[[int], str]]:
    """The rows of a shard, in memory; which they are; and where one of them is, in words."""
    if callable(source):
        return source(number), f"source({number})", lambda row: f"row {row} of source({number})"
    rows = opened(source)
    n = int(rows.shape[0])
    start, stop = number * n // shards, (number + 1) * n // shards
    if isinstance(rows, Stored):
        names = " and ".join(rows.names(start, stop))
        return rows[start:stop], f"rows {start} to {stop - 1}, {names}", lambda row: rows.place(start + row)
    where = source if isinstance(source, str) else type(rows).__name__
    block, _ = _arrays.as_array(rows[start:stop], "source")
    return np.array(block, order="C"), f"rows {start} to {stop - 1}, {where}", lambda row: f"row {start + row}"
