"""Arrays in files: NumPy's and those of MNIST."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ._input_error import InputError

__all__ = ["read"]

Array = npt.NDArray[Any]

_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path: Path, member: str = "") -> Array:
    kind = path.suffix[1:] if path.suffix in (".npy", ".npz") else "idx"
    try:
        with path.open("rb") as file:
            if kind == "idx":
                return _read_idx(file)
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
    names = archive.files
    usual = [name for name in ("x", "data", "images") if name in names]
    chosen = member or (names[0] if len(names) == 1 else usual[0] if usual else "")
    if chosen not in names:
        msg = f"{path} holds the arrays {', '.join(names)}; choose one as {path}:NAME."
        raise InputError(msg)
    array = archive[chosen]
    if not isinstance(array, np.ndarray):  # NumPy gives the bytes of anything else
        msg = f"its member {chosen} is no array"
        raise TypeError(msg)
    return array


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
