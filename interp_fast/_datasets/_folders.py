"""Folders and archives of images."""

from __future__ import annotations

import functools
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .._pictures import SIGNED, Range
from ._input_error import InputError

__all__ = ["read_pictures"]

Array = npt.NDArray[Any]

_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def read_pictures(path: Path) -> tuple[Array, Range | None]:
    """(N, height, width), or (N, height, width, 3) when one of the pictures has colours, and the range of the values.

    Of a folder or a zip archive. Bytes when all are bytes; floats in [-1, 1] when some have 16 bits; floating-point
    pictures as they are.
    """
    try:
        from PIL import Image
    except ImportError:
        msg = f"the pictures in {path} need Pillow, which is not installed: pip install 'interp_fast[report]'."
        raise InputError(msg) from None
    pictures: list[Array] = []
    names: list[str] = []
    for name, opened in _opened(path):
        try:
            # Not by its name: the file would be mapped, and a mapped TIFF that is to be turned comes out scrambled.
            with opened() as file, Image.open(file) as image:
                pictures.append(_values(image))
        except Exception as exc:
            msg = f"{name} could not be read as a picture: {(str(exc) or type(exc).__name__).rstrip('.')}."
            raise InputError(msg) from None
        names.append(name)
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (pictures[0], pictures[-1])]
            msg = f"pictures must all have one size; {names[0]} has {sizes[0]} and {name} has {sizes[1]}."
            raise InputError(msg)
        if (pictures[-1].dtype.kind == "f") != (pictures[0].dtype.kind == "f"):
            holds = [
                "floating-point numbers" if p.dtype.kind == "f" else "integers" for p in (pictures[0], pictures[-1])
            ]
            msg = (
                f"pictures must all hold the same kind of numbers; {names[0]} has {holds[0]} and {name} {holds[1]}, "
                "and the range of floating-point numbers is not known. Save them alike."
            )
            raise InputError(msg)
    if not pictures:
        msg = f"{path} holds no pictures ({', '.join(sorted(_PICTURES))})."
        raise InputError(msg)
    if len({p.ndim for p in pictures}) > 1:
        pictures = [p if p.ndim == 3 else np.repeat(p[:, :, None], 3, axis=2) for p in pictures]
    if len({p.dtype for p in pictures}) > 1 or pictures[0].dtype == np.uint16:
        return np.stack([(p * (2.0 / np.iinfo(p.dtype).max) - 1.0).astype(np.float32) for p in pictures]), SIGNED
    return np.stack(pictures), None


def _opened(path: Path) -> Iterator[tuple[str, Callable[[], IO[bytes]]]]:
    """Name and opener of each picture in a folder or an archive (as EDM keeps data sets), in the order of names."""
    if path.is_dir():
        for file in _files(path):
            if file.suffix.lower() in _PICTURES:
                yield str(file), functools.partial(_binary, file)
        return
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as exc:
        msg = f"{path} could not be read as a zip archive: {str(exc).rstrip('.')}."
        raise InputError(msg) from None
    with archive:
        for name in sorted(archive.namelist()):
            parts = Path(name).parts
            hidden = "__MACOSX" in parts or any(part.startswith(".") for part in parts)
            if not hidden and not name.endswith("/") and Path(name).suffix.lower() in _PICTURES:
                yield f"{path}/{name}", functools.partial(archive.open, name)


def _binary(file: Path) -> IO[bytes]:
    return file.open("rb")


def _values(image: Any) -> Array:
    """The numbers of a picture, turned as its file says it is to be seen: uint8, uint16, float32."""
    from PIL import ImageOps

    many = getattr(image, "n_frames", 1) if image.format != "MPO" else 1  # a photograph with its previews
    if many > 1:
        msg = f"it holds {many} pictures; save each in a file of its own"
        raise ValueError(msg)
    wide = image.mode == "I" and image.format == "PNG"  # 16 bits, which some versions of Pillow read as 32
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or wide:
        return np.asarray(upright).astype(np.uint16)
    if upright.mode == "I":
        msg = "it holds integers of 32 bits, whose range is not known; save it with 8 or 16 bits or as floats"
        raise ValueError(msg)
    if upright.mode == "F":
        return np.asarray(upright)
    return np.asarray(upright.convert("L" if upright.mode in ("1", "L", "LA") else "RGB"))


def _files(folder: Path) -> list[Path]:
    """Files in a folder and below, sorted, but for hidden ones; linked folders are followed, each folder once."""

    def fail(error: OSError) -> None:
        raise error

    found, seen = [], set()
    for root, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(root)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        found += [] if real in seen else [Path(root, name) for name in names if not name.startswith(".")]
        seen.add(real)
    return sorted(found)
