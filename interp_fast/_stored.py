"""Rows in .npy files, read stretch by stretch and never mapped: a file that shrinks is an error, not a signal."""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["Slices", "Stored"]

_SAMPLES = 64  # rows of a file that are looked at to tell it from others
_MAGIC = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class _File(NamedTuple):
    path: str
    offset: int  # of the first row, in bytes
    rows: int
    size: int
    time: int


class Stored:
    """The rows of .npy files, one file after another: shape, dtype and slices of rows.

    Pickled by the names of the files. They are looked at again whenever rows are read: a file of another size or time
    than at first is a ValueError that names it.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]], name: str = "data") -> None:
        self._name = name
        found = [_read_header(os.path.abspath(path), name) for path in paths]  # noqa: PTH100, of the process that reads
        self._files = [file for file, _, _ in found]
        _, self.dtype, self._event = found[0]
        for file, dtype, event in found:
            if (dtype, event) != (self.dtype, self._event):
                msg = (
                    f"{name} must be files of the same type and shape of rows; got {self.dtype} {self._event} in "
                    f"{self._files[0].path} and {dtype} {event} in {file.path}."
                )
                raise ValueError(msg)
        self._first = [sum(file.rows for file in self._files[:k]) for k in range(len(found))]
        self.shape = (sum(file.rows for file in self._files), *self._event)

    @classmethod
    def of_map(cls, array: np.memmap[Any, Any], name: str = "data") -> Stored | None:
        """The rows of a mapped array, contiguous, in the file that it is mapped from; None if that is not the file."""
        root: Any = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c":
            return None
        path, offset = str(root.filename), int(root.offset) + array.ctypes.data - root.ctypes.data
        try:
            now = os.stat(path)
        except OSError:
            return None
        if now.st_size < offset + array.nbytes:
            msg = f"{name} must not change while in use; {path}, which it is mapped from, is shorter than it was."
            raise ValueError(msg)
        stored = object.__new__(cls)
        stored._name, stored._event, stored.dtype, stored.shape = name, array.shape[1:], array.dtype, array.shape
        stored._files, stored._first = [_File(path, offset, array.shape[0], now.st_size, now.st_mtime_ns)], [0]
        return stored

    def __getitem__(self, block: slice) -> npt.NDArray[Any]:
        start, stop, _ = block.indices(self.shape[0])
        out = np.empty((stop - start, *self._event), self.dtype)
        for file, first in zip(self._files, self._first, strict=True):
            a, b = max(start, first), min(stop, first + file.rows)
            if a < b:
                self._read(file, a - first, out[a - start : b - start])
        return out

    @property
    def spans(self) -> list[tuple[int, int]]:
        """First row and end of each file."""
        return [(first, first + file.rows) for file, first in zip(self._files, self._first, strict=True)]

    def place(self, row: int) -> str:
        """Where a row is, in words."""
        k = bisect_right(self._first, row) - 1
        return f"row {row - self._first[k]} of {self._files[k].path}"

    def holding(self, start: int, stop: int) -> tuple[list[str], int]:
        """The files that hold some of these rows, and how many rows the first of them has before."""
        own = [k for k, (first, end) in enumerate(self.spans) if max(start, first) < min(stop, end)]
        return [self._files[k].path for k in own], start - self._first[own[0]]

    def fingerprint(self) -> bytes:
        """Of sizes, times and samples of the files: other rows have another one, but for files made to deceive."""
        digest = blake2b()
        for k, file in enumerate(self._files):
            digest.update(repr(file[1:]).encode())
            for row in sorted({j * (file.rows - 1) // (_SAMPLES - 1) for j in range(_SAMPLES)}):
                digest.update(self[self._first[k] + row : self._first[k] + row + 1].tobytes())
        return digest.digest()

    def _read(self, file: _File, row: int, out: npt.NDArray[Any]) -> None:
        into = out.reshape(-1).view(np.uint8).data
        at = file.offset + row * (out.nbytes // len(out))
        with open(file.path, "rb", buffering=0) as raw:  # noqa: PTH123
            now = os.fstat(raw.fileno())
            raw.seek(at)
            done = 0
            while done < len(into) and (more := raw.readinto(into[done:])):
                done += more
        if (now.st_size, now.st_mtime_ns) != (file.size, file.time) or done < len(into):
            msg = f"{self._name} must not change while in use; {file.path} has. Make the field anew."
            raise ValueError(msg)


class Slices:
    """Rows of an array that is mapped from a file which has no name any more, or is written to in memory alone."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, block: slice) -> npt.NDArray[Any]:
        return np.asarray(self._array[block])


def _read_header(path: str, name: str) -> tuple[_File, np.dtype[Any], tuple[int, ...]]:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            version = np.lib.format.read_magic(file)
            if version not in _MAGIC:
                msg = f"version {version} of the format is for names of columns"
                raise ValueError(msg)
            shape, columns, dtype = _MAGIC[version](file)
            offset, now = file.tell(), os.fstat(file.fileno())
    except (ValueError, EOFError) as exc:
        msg = f"{name} must be an array or the path of a .npy file with one; got {path!r} ({exc})."
        raise ValueError(msg) from None
    event = tuple(shape[1:])
    needed = offset + math.prod(shape) * dtype.itemsize
    if now.st_size < needed:
        msg = f"{name} must be whole; {path} has {now.st_size} bytes, and its header promises {needed}: it is cut off."
        raise ValueError(msg)
    if columns and len(shape) > 1:
        msg = f"{name} must hold row after row; {path} holds column after column. Save np.ascontiguousarray of it."
        raise ValueError(msg)
    if not event or 0 in shape or dtype.hasobject:
        msg = f"{name} must have shape (N, d) or (N, ...), with no 0 in it; got {tuple(shape)} of {dtype} in {path}."
        raise ValueError(msg)
    return _File(path, offset, shape[0], now.st_size, now.st_mtime_ns), dtype, event
