"""Arrays in files: NumPy's, torch's, those of MNIST, and tables."""

from __future__ import annotations

import gzip
import math
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ._input_error import InputError

__all__ = ["read"]

Array = npt.NDArray[Any]

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_USUAL = ("x", "data", "images", "samples", "arr_0")  # the last: what guided-diffusion calls samples, arr_1 labels


def read(path: Path, member: str = "") -> Array:
    """The array of a file; of several the one called ``member``, else one that is usually meant."""
    kinds = {".npy": "npy", ".npz": "npz", ".pt": "a torch file", ".pth": "a torch file", ".parquet": "Parquet"}
    kind = kinds.get(path.suffix, "idx")
    try:
        with path.open("rb") as file:
            if kind == "idx":
                return _read_idx(file)
            if kind == "a torch file":
                return _read_torch(file, path, member)
            if kind == "Parquet":
                return _read_parquet(file, path)
            loaded = np.load(file, allow_pickle=False)
            return _member(loaded, path, member) if kind == "npz" else _single(loaded)
    except InputError:
        raise
    except Exception as exc:  # whatever the readers of a broken, foreign or locked file come upon
        msg = f"{path} could not be read as {kind}: {(str(exc) or type(exc).__name__).rstrip('.')}."
        raise InputError(msg) from None


def _single(loaded: Any) -> Array:
    if isinstance(loaded, np.lib.npyio.NpzFile):
        msg = "it is an archive of arrays; name it .npz"
        raise TypeError(msg)
    array: Array = loaded
    return array


def _member(archive: Any, path: Path, member: str) -> Array:
    if not isinstance(archive, np.lib.npyio.NpzFile):
        msg = "it is a single array; name it .npy"
        raise ValueError(msg)
    chosen = _chosen(archive.files, path, member)
    array: Array = archive[chosen]
    if not isinstance(array, np.ndarray):  # NumPy gives the bytes of anything else
        msg = f"its member {chosen} is no array"
        raise TypeError(msg)
    return array


def _chosen(names: list[str], path: Path, member: str) -> str:
    usual = [name for name in _USUAL if name in names]
    chosen = member or (names[0] if len(names) == 1 else usual[0] if usual else "")
    if chosen not in names:
        msg = f"{path} holds the arrays {', '.join(names)}; choose one as {path}:NAME."
        raise InputError(msg)
    return chosen


def _read_torch(file: BinaryIO, path: Path, member: str) -> Array:
    """A tensor, or one of those in a dict; nothing is run that the file may hold."""
    try:
        import torch
    except ImportError:
        msg = f"{path} needs torch, which is not installed; save the samples as .npy, np.save(file, x.numpy())."
        raise InputError(msg) from None
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as exc:
        msg = f"it holds more than tensors, or is damaged ({str(exc).splitlines()[0]}); save the tensor alone"
        raise ValueError(msg) from None
    if isinstance(loaded, dict):
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        if not tensors:
            msg = "it holds no tensors"
            raise ValueError(msg)
        loaded = tensors[_chosen(list(tensors), path, member)]
    if not isinstance(loaded, torch.Tensor):
        msg = f"it holds a {type(loaded).__name__} and must hold a tensor or a dict of tensors"
        raise ValueError(msg)
    tensor = loaded.detach()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _read_parquet(file: BinaryIO, path: Path) -> Array:
    """A table of numbers, a row of it a row; or its only column, of lists of one length."""
    try:
        from pyarrow import compute, parquet, types
    except ImportError:
        msg = f"{path} needs pyarrow, which is not installed: pip install pyarrow, or save the table as .npy."
        raise InputError(msg) from None
    table = parquet.read_table(file)
    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    found = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        nested = len(table.column_names) == 1 and any(is_list(column.type) for is_list in lists)
        numbers = column.type.value_type if nested else column.type
        if not (types.is_floating(numbers) or types.is_integer(numbers)):
            msg = f"its column {name} holds {column.type} and must hold numbers; leave it out"
            raise ValueError(msg)
        flat = [chunk.flatten() if nested else chunk for chunk in column.chunks]
        missing = column.null_count + sum(chunk.null_count for chunk in flat if nested)
        if missing:
            msg = f"its column {name} has {missing} missing values"
            raise ValueError(msg)
        if nested and len(compute.unique(compute.list_value_length(column))) > 1:
            msg = f"its column {name} has lists of several lengths"
            raise ValueError(msg)
        values = np.concatenate([chunk.to_numpy(zero_copy_only=False) for chunk in flat] or [np.empty(0)])
        found.append(values.reshape(len(column), -1) if len(column) else values[:, None])
    array: Array = np.concatenate(found, axis=1) if found else np.empty((0, 0))
    whole = array.dtype.kind in "iu" and array.dtype != np.uint8
    return array.astype(np.float64) if whole else array


def _read_idx(file: BinaryIO) -> Array:
    """The format of MNIST: 0, 0, a type, the number of dimensions, their lengths as big-endian int32, the values."""
    zipped = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    raw = gzip.decompress(file.read()) if zipped else file.read()
    head = raw[:4]
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _IDX_TYPES:
        msg = "its first four bytes are not those of the format"
        raise ValueError(msg)
    shape = tuple(np.frombuffer(raw, ">i4", head[3], 4).tolist())
    values = np.frombuffer(raw, _IDX_TYPES[head[2]], offset=4 + 4 * head[3])
    if len(shape) != head[3] or math.prod(shape) != len(values):
        msg = f"it announces {' x '.join(map(str, shape))} values and holds {len(values)}"
        raise ValueError(msg)
    return values.reshape(shape)
