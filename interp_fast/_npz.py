"""Files of arrays without pickles, which appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["read", "save"]


def save(path: Any, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write an .npz file, in place of one that is there."""
    import tempfile

    target = Path(path)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        made = Path(work) / "made"
        with made.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        made.replace(target)


@contextmanager
def read(path: Any, writer: str) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The arrays in a file of ``writer``; ValueError naming it when it is cut off, or no such file as the body sees."""
    import zipfile

    try:
        with Path(path).open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if isinstance(file, np.ndarray):
                msg = "one array, without names"
                raise ValueError(msg)
            held = {name: file[name] for name in file.files}
        yield held
    except (ValueError, KeyError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as exc:
        reason = "it is cut off" if isinstance(exc, (EOFError, zipfile.BadZipFile)) else "it is something else"
        msg = f"{os.fspath(path)} is no file of {writer}: {reason} ({exc})."
        raise ValueError(msg) from None
