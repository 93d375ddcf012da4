"""What one read of rows in files told, kept in a file: the next field of the same rows need not read them."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _npz
from ._stored import Stored
from .backends import Moments

__all__ = ["Sidecar"]

_WRITER = "Field(moments=)"
_NAMES = ("center", "mean", "radius", "reach")


class Sidecar:
    """The moments of rows under these weights, in a file whose ``key`` says which rows, weights and code they are of.

    Raises
    ------
    TypeError, ValueError, OSError
        The rows are not in .npy files; the path is none, or of a folder that is not there.
    """

    def __init__(self, path: Any, rows: Any, log_w: npt.NDArray[np.float64], scale: Any) -> None:
        from . import __version__  # not before the package is loaded

        if not isinstance(path, (str, os.PathLike)):
            msg = f"moments must be the path of an .npz file; got {type(path).__name__}."
            raise TypeError(msg)
        stored = rows.source if isinstance(rows, _arrays.Source) else None
        if not isinstance(stored, Stored):
            msg = "moments belongs to rows in .npy files, by their paths or mapped, and no orbit. Leave it out."
            raise ValueError(msg)
        self._path, self._current = Path(path), False
        if not self._path.parent.is_dir():
            msg = f"moments must be a path in a folder that is there; got {os.fspath(path)!r}."
            raise FileNotFoundError(msg)
        cuts = [cut.stop for cut in _arrays.stretches(rows)]
        facts = (__version__, rows.shape, rows.dtype.str, scale, cuts)
        self._key = blake2b(repr(facts).encode() + stored.fingerprint() + log_w.tobytes(), digest_size=32).hexdigest()

    def read(self) -> Moments | None:
        """None without a file, or when it is of other rows, weights or code; ValueError when it is no such file."""
        if not self._path.exists():
            return None
        with _npz.read(self._path, _WRITER) as held:
            columns = [held[name] for name in _NAMES]
            self._current = str(held["key"]) == self._key
            if not self._current:
                return None
            whole, *parts = (Moments(c, m, float(r), float(reach)) for c, m, r, reach in zip(*columns, strict=True))
        return replace(whole, parts=tuple(parts))

    def write(self, moments: Moments) -> None:
        """The whole first, then each stretch; nothing when they were read."""
        if self._current:
            return
        every = (moments, *moments.parts)
        arrays = {name: np.array([getattr(one, name) for one in every]) for name in _NAMES}
        _npz.save(self._path, {"key": np.array(self._key)} | arrays)
