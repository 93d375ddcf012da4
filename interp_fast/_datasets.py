"""Training sets for the command line: digits, fashion-mnist, arrays on disk, folders of images.

Bytes become float32 in [-1, 1] by 2/255 byte - 1, digits (0 ... 16) and pictures of 16 bits likewise; floating-point
rows are used as they are. Rows that are compared with a training set are brought to its range and layout.
"""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ._arrays import BYTE_SCALE
from ._pictures import OVERSHOOT, SIGNED, Pictures, Range, Shape, alike, in_range

__all__ = ["Dataset", "InputError", "Shape", "check_columns", "load", "matched", "read_rows"]

Array = npt.NDArray[Any]

_FASHION = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package dataset-fashion-mnist puts it
_PICTURES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_BYTE_VALUES = (np.arange(256) * BYTE_SCALE[0] + BYTE_SCALE[1]).astype(np.float32)
_HOLDOUT_SHARE, _HOLDOUT_MOST = 0.2, 10_000  # of a data set that brings no test rows


class InputError(ValueError):
    """Something the user gave cannot be used; the message is one sentence for the terminal."""


@dataclass(frozen=True)
class Dataset:
    """A training set and rows held out of it.

    Attributes
    ----------
    name, source : str
        What to call it and where it came from.
    rows : (N, d) array
        float16, float32 or float64, finite.
    numbers : (N,) int64
        Where each row stands in the source.
    holdout : (H, d) array or None
        Rows of the same kind that are not among ``rows``, described by ``holdout_source``.
    shape : (height, width) or (height, width, 3), or None
        How to draw a row; None when it is no picture.
    layout : tuple of int
        The shape of a row where it comes from.
    range : (low, high) or None
        Of the values, when it is known.
    """

    name: str
    source: str
    rows: Array
    numbers: npt.NDArray[np.int64]
    holdout: Array | None
    holdout_source: str
    shape: Shape | None
    layout: Shape
    range: Range | None

    @property
    def pictures(self) -> Pictures:
        return Pictures(self.rows, self.layout, self.range)


def load(
    spec: str,
    *,
    data_dir: str | None = None,
    shape: Shape | None = None,
    limit: int | None = None,
    holdout: str | None = None,
    seed: int = 0,
    value_range: Range | None = None,
) -> Dataset:
    """The training set called ``spec``: "digits", "fashion-mnist", a file or a folder.

    ``holdout`` is a file, or the share of the rows to set aside (0: none); by default the test rows of the data
    set, else a fifth of its rows. ``limit`` keeps that many training rows, drawn by ``seed``. ``value_range`` is the
    range of the values, to which bytes are brought.
    """
    own_test: Array | None = None
    kept_out: Array | None
    if spec == "fashion-mnist":
        folder = Path(data_dir) if data_dir else _FASHION
        read = _fashion(folder, "train")
        own_test = in_range(_fashion(folder, "t10k"), value_range).rows if holdout is None else None
        source = str(folder)
    elif spec == "digits":
        read, source = Pictures(_digits(), (8, 8), SIGNED), "scikit-learn's handwritten digits"
    else:
        read, source = _source(spec), spec
    read = in_range(read, value_range)
    values, picture = read.rows, _picture(read.shape)
    if shape is not None:
        picture = _checked_shape(shape, values.shape[1])
    rng = np.random.default_rng(seed)
    numbers = np.arange(len(values))
    if own_test is not None:
        kept_out, description = own_test, "its test set"
    elif holdout is not None and not _is_share(holdout):
        kept, done = matched(holdout, read, spec, "holdout", value_range)
        kept_out, description = kept.rows, "; ".join([holdout, *done])
    else:
        share = _HOLDOUT_SHARE if holdout is None else float(holdout)
        order = rng.permutation(len(values))
        aside = min(int(share * len(values)), _HOLDOUT_MOST)
        numbers = np.sort(order[aside:])
        kept_out = values[np.sort(order[:aside])] if aside else None
        description = "set aside at random" if aside else "none"
    if limit is not None and limit < len(numbers):
        numbers = np.sort(rng.choice(numbers, limit, replace=False))
    return Dataset(
        name=Path(spec).name,
        source=source,
        rows=values if len(numbers) == len(values) else values[numbers],
        numbers=numbers,
        holdout=kept_out,
        holdout_source=description,
        shape=picture,
        layout=read.shape,
        range=read.range,
    )


def read_rows(spec: str) -> tuple[Array, Shape | None]:
    """Checked rows (N, d) of a file or a folder of images, and the shape of the picture a row is, if it is one."""
    read = _source(spec)
    return read.rows, _picture(read.shape)


def matched(
    spec: str, data: Pictures, data_name: str, name: str, value_range: Range | None = None
) -> tuple[Pictures, list[str]]:
    """Rows of a file or a folder of images in the range and layout of ``data``, and what was done, in words.

    ``value_range`` is that of both.
    """
    given = _source(spec)
    check_columns(given.rows, spec, data.rows, data_name)
    try:
        return alike(in_range(given, value_range, OVERSHOOT), data, name)
    except ValueError as exc:
        raise InputError(str(exc)) from None


def _source(spec: str) -> Pictures:
    """Checked rows of a file or a folder of images.

    Of an archive the only array is read, or the one called x, data or images; ``FILE.npz:NAME`` names another.
    """
    head, npz, member = spec.partition(".npz:")
    path = Path(head + ".npz") if npz else Path(spec)
    if path.is_dir():
        return _rows(*_read_pictures(path), spec)
    if not path.exists():
        msg = f"there is no {spec!r}: give digits, fashion-mnist, a .npy, .npz or idx file, or a folder of images."
        raise InputError(msg)
    return _rows(_read(path, member), None, spec)


def check_columns(rows: Array, name: str, data: Array, data_name: str) -> None:
    """InputError unless both have rows of the same length."""
    if rows.shape[1] != data.shape[1]:
        msg = (
            f"{name} has rows of {rows.shape[1]} numbers and {data_name} rows of {data.shape[1]}; they must have the "
            "same length."
        )
        raise InputError(msg)


def _rows(array: Array, values: Range | None, name: str) -> Pictures:
    """An array (N, ...) of a source, with values of a known range or none, as rows."""
    if array.ndim < 2 or 0 in array.shape:
        msg = f"{name} must hold an array of shape (N, d) or (N, height, width) with N, d >= 1; got {array.shape}."
        raise InputError(msg)
    if array.dtype == np.uint8:
        values = (-1.0, float(_BYTE_VALUES[1])) if array.max() == 1 else SIGNED  # zeros and ones fill 0 ... 1
        array = _BYTE_VALUES[array]
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        msg = (
            f"{name} must hold uint8, float16, float32 or float64 numbers; got {array.dtype}. Save it with "
            ".astype(np.float32)."
        )
        raise InputError(msg)
    shape = array.shape[1:]
    array = np.ascontiguousarray(array.reshape(len(array), -1), array.dtype.newbyteorder("="))
    finite = np.isfinite(array)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        msg = f"{name} must hold finite numbers; got {array[row, column]} in row {row}, column {column}."
        raise InputError(msg)
    return Pictures(array, shape, values)


def _picture(shape: Shape) -> Shape | None:
    """How to draw a row that comes in ``shape``; None when it is no picture."""
    if len(shape) == 1:
        side = math.isqrt(shape[0])
        return (side, side) if side * side == shape[0] and side >= 4 else None
    return shape if len(shape) == 2 or (len(shape) == 3 and shape[2] == 3) else None


def _checked_shape(shape: Shape, d: int) -> Shape:
    if math.prod(shape) != d or len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        msg = (
            f"--shape must be HEIGHTxWIDTH or HEIGHTxWIDTHx3 with a product of {d}, the length of a row; got "
            f"{'x'.join(map(str, shape))}."
        )
        raise InputError(msg)
    return shape


def _is_share(holdout: str) -> bool:
    try:
        share = float(holdout)
    except ValueError:
        return False
    if not 0 <= share < 1:
        msg = f"--holdout must be a file or a share of the rows in [0, 1); got {holdout}."
        raise InputError(msg)
    return True


def _digits() -> Array:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        msg = "the digits come with scikit-learn, which is not installed: pip install 'interp_fast[report]'."
        raise InputError(msg) from None
    digits: Array = load_digits().data
    return (digits / 8.0 - 1.0).astype(np.float32)


def _fashion(folder: Path, part: str) -> Pictures:
    stem = folder / f"{part}-images-idx3-ubyte"
    for path in (stem.with_name(stem.name + ".gz"), stem):
        if path.exists():
            return _rows(_read(path), None, str(path))
    msg = (
        f"fashion-mnist is not in {folder}: apt install dataset-fashion-mnist, or put its four idx files in a folder "
        "and pass --data-dir FOLDER."
    )
    raise InputError(msg)


def _read(path: Path, member: str = "") -> Array:
    kind = path.suffix[1:] if path.suffix in (".npy", ".npz") else "idx"
    try:
        with path.open("rb") as file:
            if kind == "idx":
                return _read_idx(file)
            loaded = np.load(file, allow_pickle=False)
            return _member(loaded, path, member) if kind == "npz" else loaded
    except InputError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as exc:
        msg = f"{path} could not be read as {kind}: {str(exc).rstrip('.')}."
        raise InputError(msg) from None


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
    array: Array = archive[chosen]
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


def _read_pictures(folder: Path) -> tuple[Array, Range | None]:
    """(N, height, width), or (N, height, width, 3) when one of the pictures has colours, and the range of the values.

    Bytes when all are bytes; floats in [-1, 1] when some have 16 bits; floating-point pictures as they are.
    """
    try:
        from PIL import Image
    except ImportError:
        msg = f"the pictures in {folder} need Pillow, which is not installed: pip install 'interp_fast[report]'."
        raise InputError(msg) from None
    paths = [path for path in _files(folder) if path.suffix.lower() in _PICTURES]
    if not paths:
        msg = f"{folder} holds no pictures ({', '.join(sorted(_PICTURES))})."
        raise InputError(msg)
    pictures: list[Array] = []
    for path in paths:
        try:
            # Not by its name: the file would be mapped, and a mapped TIFF that is to be turned comes out scrambled.
            with path.open("rb") as file, Image.open(file) as image:
                pictures.append(_values(image))
        except (OSError, SyntaxError, ValueError) as exc:
            msg = f"{path} could not be read as a picture: {str(exc).rstrip('.')}."
            raise InputError(msg) from None
        if pictures[-1].shape[:2] != pictures[0].shape[:2]:
            sizes = [f"{p.shape[1]}x{p.shape[0]}" for p in (pictures[0], pictures[-1])]
            msg = f"pictures must all have one size; {paths[0]} has {sizes[0]} and {path} has {sizes[1]}."
            raise InputError(msg)
        if (pictures[-1].dtype.kind == "f") != (pictures[0].dtype.kind == "f"):
            holds = [
                "floating-point numbers" if p.dtype.kind == "f" else "integers" for p in (pictures[0], pictures[-1])
            ]
            msg = (
                f"pictures must all hold the same kind of numbers; {paths[0]} has {holds[0]} and {path} {holds[1]}, "
                "and the range of floating-point numbers is not known. Save them alike."
            )
            raise InputError(msg)
    if len({p.ndim for p in pictures}) > 1:
        pictures = [p if p.ndim == 3 else np.repeat(p[:, :, None], 3, axis=2) for p in pictures]
    if len({p.dtype for p in pictures}) > 1 or pictures[0].dtype == np.uint16:
        return np.stack([(p * (2.0 / np.iinfo(p.dtype).max) - 1.0).astype(np.float32) for p in pictures]), SIGNED
    return np.stack(pictures), None


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
