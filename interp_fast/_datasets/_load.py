"""A training set by its name, and rows to compare with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import BYTE_SCALE
from .._pictures import OVERSHOOT, SIGNED, Pictures, Range, alike, drawable, drawn, in_range
from .._shape import Shape
from . import _files
from ._folders import read_pictures
from ._input_error import InputError

__all__ = ["KINDS", "Dataset", "check_columns", "file_of", "load", "matched", "read_rows"]

Array = npt.NDArray[Any]

KINDS = "a .npy, .npz, .pt, .parquet or idx(.gz) file, or a folder or zip archive of images"

_FASHION = Path("/usr/share/datasets/fashion-mnist")  # where the Debian package dataset-fashion-mnist puts it
_BYTE_VALUES = (np.arange(256) * BYTE_SCALE[0] + BYTE_SCALE[1]).astype(np.float32)
_HOLDOUT_SHARE, _HOLDOUT_MOST = 0.2, 10_000  # of a data set that brings no test rows


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
    available : int
        How many rows there were to take ``rows`` from, without those set aside: more than N where a limit was given.
    holdout : (H, d) array or None
        Rows of the same kind that are not among ``rows``, described by ``holdout_source``.
    shape : (height, width) or (height, width, 3), or None
        How to draw a row; None when it is no picture.
    layout : tuple of int
        The shape of a row where it comes from.
    event : tuple of int
        The shape of a point: the same, but scikit-learn's digits are taken flat.
    range : (low, high) or None
        Of the values, when it is known.
    """

    name: str
    source: str
    rows: Array
    numbers: npt.NDArray[np.int64]
    available: int
    holdout: Array | None
    holdout_source: str
    shape: Shape | None
    layout: Shape
    event: Shape
    range: Range | None

    @property
    def points(self) -> Array:
        """The rows in the shape of a point, (N, *event)."""
        return self.rows.reshape(len(self.rows), *self.event)

    def drawn(self, values: Array) -> Array:
        """A row in the shape to draw it in, which is not None."""
        assert self.shape is not None
        return drawn(values, self.layout, self.shape)

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
    values, picture = read.rows, drawable(read.shape)
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
    available = len(numbers)
    if limit is not None and limit < available:
        numbers = np.sort(rng.choice(numbers, limit, replace=False))
    return Dataset(
        name=Path(spec).name,
        source=source,
        rows=values if len(numbers) == len(values) else values[numbers],
        numbers=numbers,
        available=available,
        holdout=kept_out,
        holdout_source=description,
        shape=picture,
        layout=read.shape,
        event=(values.shape[1],) if spec == "digits" else read.shape,
        range=read.range,
    )


def read_rows(spec: str) -> tuple[Array, Shape | None]:
    """Checked rows (N, d) of a file or a folder of images, and the shape of the picture a row is, if it is one."""
    read = _source(spec)
    return read.rows, drawable(read.shape)


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

    Of several arrays the only one is read, or one called x, data, images, samples or arr_0; ``FILE.npz:NAME`` and
    ``FILE.pt:NAME`` name another.
    """
    path, member = _parts(spec)
    if path.is_dir() or (path.suffix == ".zip" and path.exists()):
        return _rows(*read_pictures(path), spec)
    if not path.exists():
        msg = f"there is no {spec!r}: give digits, fashion-mnist, {KINDS}."
        raise InputError(msg)
    return _rows(_files.read(path, member), None, spec)


def file_of(spec: str) -> Path:
    """The file or folder that ``spec`` names, or an array in."""
    return _parts(spec)[0]


def _parts(spec: str) -> tuple[Path, str]:
    """The file, and the array in it that is named or ""."""
    for suffix in (".npz", ".pt", ".pth"):
        head, several, name = spec.partition(f"{suffix}:")
        if several:
            return Path(head + suffix), name
    return Path(spec), ""


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
            return _rows(_files.read(path), None, str(path))
    msg = (
        f"fashion-mnist is not in {folder}: apt install dataset-fashion-mnist, or put its four idx files in a folder "
        "and pass --data-dir FOLDER."
    )
    raise InputError(msg)
