"""The only validation, in one file lest there be another: types, shapes, finiteness, storage formats, and the way back
to the caller's kind of array.

Everything behind this module may assume arrays that are native-endian, aligned, contiguous along rows and finite.
Masked arrays without masked entries are the arrays they hold; with masked entries they are refused.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ._stored import Slices, Stored
from ._tensors import Resident, as_type, at_most, from_torch, is_elsewhere, is_tensor, to_torch

__all__ = [
    "Shape",
    "Source",
    "as_array",
    "as_floats",
    "blocks",
    "check_finite",
    "check_size",
    "count",
    "here",
    "is_source",
    "log_weights",
    "normalized",
    "number",
    "reals",
    "result_type",
    "rounded",
    "rows",
    "stretches",
    "times",
    "warn",
    "widen",
]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Shape = tuple[int, ...]

# Copies up to this size are made silently; above it the caller is told what to do.
_COPY_LIMIT = 1 << 27
_BLOCK_BYTES = 1 << 24
_STRETCH_BYTES = 48 << 20
BYTE_SCALE = (2.0 / 255.0, -1.0)  # values of bytes, unless another scale is given
# Of numbers other than 0: squares of these, sums of many of them and their quotients are normal float64 numbers.
_SMALLEST, LARGEST = 2.0**-250, 2.0**250
_UNIT = "Measure data, noise and queries in another unit."


def _identity(a: Array) -> Any:
    return a


def is_source(obj: Any) -> bool:
    """Whether ``obj`` is read in row slices rather than held as an array: it has shape, dtype and slices, no memory."""
    if isinstance(obj, (np.ndarray, np.generic)) or hasattr(obj, "__dlpack__"):
        return False
    return all(hasattr(obj, name) for name in ("shape", "dtype", "__getitem__")) and _is_dtype(obj.dtype)


def _is_dtype(obj: Any) -> bool:
    try:
        np.dtype(obj)
    except TypeError:
        return False
    return True


class Source:
    """A row source whose slices are what it announces: arrays of their own, native, each row flat and contiguous.

    Rows are had by number, too: a stretch that holds some of them is read as a slice.

    Bits of bfloat16 come as uint16, as they do from arrays in memory.
    """

    def __init__(self, source: Any, name: str) -> None:
        self.source, self._name = source, name
        self._announced = np.dtype(source.dtype)
        shape = tuple(map(int, source.shape))
        self.event: Shape = shape[1:]
        self.shape: Shape = (*shape[:1], math.prod(self.event))
        self.dtype = np.dtype(np.uint16) if _is_bfloat16(source) else self._announced.newbyteorder("=")

    def __getitem__(self, block: slice | npt.ArrayLike) -> Array:
        if not isinstance(block, slice):
            number = np.asarray(block, np.int64)
            chosen = np.empty((len(number), *self.shape[1:]), self.dtype)
            stretch = number // blocks(self)[0].stop
            for one in np.unique(stretch):
                mine = np.flatnonzero(stretch == one)
                first, last = int(number[mine].min()), int(number[mine].max())
                chosen[mine] = self[first : last + 1][number[mine] - first]
            return chosen
        start, stop, _ = block.indices(self.shape[0])
        wanted = (stop - start, *self.event)
        got, _ = as_array(self.source[block], f"{self._name}[{start}:{stop}]")
        if got.shape != wanted or got.dtype.newbyteorder("=") != self._announced.newbyteorder("="):
            msg = (
                f"{self._name}[{start}:{stop}] must be {self._announced} of shape {wanted}, as {self._name} announces; "
                f"got {got.dtype} {got.shape}. Pass {self._name} as a NumPy array."
            )
            raise ValueError(msg)
        # A copy: some sources read every slice into one and the same buffer.
        own = np.array(_bits(got) if self.dtype == np.uint16 else got, self.dtype, order="C")
        return own.reshape(stop - start, self.shape[1])

    def ahead(self, then: Callable[[Array], Any] = _identity) -> Iterator[tuple[slice, Any]]:
        """What ``then`` makes of the rows, stretch by stretch; while one is worked on the next is read.

        Two are held if the caller lets go of one before it asks for the next.
        """

        def made(cut: slice) -> Any:
            return then(self[cut])

        cuts = stretches(self)
        if len(cuts) == 1:
            yield cuts[0], made(cuts[0])
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, "interp_fast-reads") as reader:
            coming = reader.submit(made, cuts[0])
            for cut, following in zip(cuts, [*cuts[1:], None], strict=True):
                rows = coming.result()
                if following is not None:
                    coming = reader.submit(made, following)
                yield cut, rows
                del rows


def as_array(obj: Any, name: str, *, bits: bool = False, device: Any = None) -> tuple[Array, Callable[[Array], Any]]:
    """``obj`` as a plain NumPy array without a copy, and the function that turns a result into the same kind.

    NumPy has no bfloat16: with ``bits`` a tensor of it comes as its 16-bit patterns (uint16), otherwise it is refused.
    A tensor must live on ``device`` (None: the CPU), and is read from there.

    Raises
    ------
    TypeError
        It cannot be read as an array.
    ValueError
        It has masked entries.
    """
    if type(obj) is np.ndarray:
        return obj, _identity
    if _is_masked(obj):
        msg = (
            f"{name} has masked entries, whose values mean nothing; fill them in, {name}.filled(value), or leave "
            "their rows out."
        )
        raise ValueError(msg)
    if isinstance(obj, np.ndarray):
        return np.asarray(obj), _identity
    _check_array(obj, name)
    if is_tensor(obj):
        return from_torch(obj, name, bits, device)
    try:
        array = np.from_dlpack(obj) if hasattr(obj, "__dlpack__") else np.asanyarray(obj)
    except (TypeError, ValueError, BufferError, RuntimeError) as exc:
        msg = f"{name} could not be read as an array ({exc}); pass a NumPy array."
        raise TypeError(msg) from None
    return as_array(array, name)


def here(obj: Any, name: str) -> Array:
    """:func:`as_array` of what is small beside the rows (times, weights, labels), from any device where it lives."""
    return as_array(obj.cpu() if is_elsewhere(obj) else obj, name)[0]


def _check_array(obj: Any, name: str) -> None:
    """TypeError for what holds numbers and is no array of them: a data set of torch, a dict, a sparse matrix."""
    if hasattr(obj, "toarray"):
        msg = f"{name} must not be sparse; got {type(obj).__name__}. Pass {name}.toarray()."
        raise TypeError(msg)
    array = any(hasattr(obj, way) for way in ("__array__", "__array_interface__", "__dlpack__")) or is_source(obj)
    if hasattr(obj, "__getitem__") and not array and not isinstance(obj, (Sequence, memoryview)):
        remedy = f"{name}.tensors[0]" if hasattr(obj, "tensors") else "its rows as one array or tensor"
        msg = f"{name} must be an array; got {type(obj).__name__}. Pass {remedy}."
        raise TypeError(msg)


def as_floats(obj: Any, array: Any, name: str) -> str:
    """What to pass in place of ``obj``, which was read as ``array``, to have numbers of a type that can be used."""
    if is_tensor(obj):
        return f"Pass {name}.float()."
    if np.dtype(array.dtype) == np.dtype("V2"):
        return "If it was bfloat16, which .npy files forget, pass np.load(...).view(ml_dtypes.bfloat16)."
    if (np.dtype(array.dtype).kind not in "biufcO" and not _is_bfloat16(array)) or not array.shape:
        return "Pass an array or a tensor of numbers."
    direct = hasattr(obj, "astype") and not is_source(obj)
    return f"Pass {name}.astype(np.float32)." if direct else f"Pass np.asarray({name}, np.float32)."


def _is_masked(obj: Any) -> bool:
    """Whether there is a masked entry in a masked array, or in one of those that a list holds."""
    if isinstance(obj, np.ma.MaskedArray):
        return bool(np.ma.is_masked(obj))
    nested = isinstance(obj, (list, tuple)) and len(obj) > 0 and isinstance(obj[0], (list, tuple, np.ndarray))
    return nested and any(map(_is_masked, obj))


def _is_bfloat16(obj: Any) -> bool:
    dtype = getattr(obj, "dtype", None)  # in the other byte order it prints as void
    return getattr(dtype, "name", str(dtype)) in ("bfloat16", "torch.bfloat16")


def _bits(array: Array) -> Array:
    """The patterns of bfloat16, in the byte order that they have."""
    return array.view(np.dtype(np.uint16).newbyteorder(array.dtype.byteorder))


def _native(a: Array, name: str) -> Array:
    """Native byte order, aligned and each row contiguous; large copies are refused."""
    together = a.size == 0 or a[0].flags.c_contiguous
    if a.dtype.isnative and a.flags.aligned and together:
        return a
    if a.nbytes > _COPY_LIMIT:
        kind = "in native byte order" if not a.dtype.isnative else "aligned" if together else "contiguous along rows"
        msg = (
            f"{name} must be {kind}; got {a.dtype.str} {a.shape} with strides {a.strides}, and a copy takes "
            f"{a.nbytes / 2**30:.1f} GiB. Pass np.array({name}, {name}.dtype.newbyteorder('='), order='C')."
        )
        raise ValueError(msg)
    return np.array(a, a.dtype.newbyteorder("="), order="C")


def rows(data: Any, name: str = "data", scale: tuple[float, float] | None = None) -> tuple[Any, Any, Any, Shape]:
    """A training set as (rows (N, d), scale, kind, event).

    Rows are float32, float64, uint8, float16, or uint16 for bfloat16 bits.

    A row source (see :func:`is_source`) becomes a :class:`Source`, and so do rows in files: the path of a .npy file, a
    list of them, an array that is mapped. A tensor on another device than the CPU stays there (:class:`Resident`).

    Raises
    ------
    TypeError
        The dtype is none of these.
    ValueError
        The shape is not (N, *event) without zeros, or ``scale`` does not fit.
    """
    array: Any
    kind: Callable[[Array], Any]
    if isinstance(data, (str, os.PathLike)):
        data = Stored([data], name)
    elif isinstance(data, (list, tuple)) and data and all(isinstance(one, (str, os.PathLike)) for one in data):
        data = Stored(data, name)
    elif isinstance(data, np.memmap) and data.ndim > 1 and data.flags.c_contiguous:
        data = Slices(data) if (stored := Stored.of_map(data, name)) is None else stored
    _check_array(data, name)
    if is_elsewhere(data):
        array, kind = Resident(data, name), partial(to_torch, device=data.device)
    else:
        array, kind = (Source(data, name), _identity) if is_source(data) else as_array(data, name, bits=True)
    patterns = _is_bfloat16(data) or _is_bfloat16(array)
    if patterns and isinstance(array, np.ndarray):
        array = _bits(array)
    if array.dtype.type not in (np.float32, np.float64, np.uint8, np.float16) and not patterns:
        msg = (
            f"{name} must be float32, float64, uint8, float16 or bfloat16; got {array.dtype.name}. "
            f"{as_floats(data, array, name)}"
        )
        raise TypeError(msg)
    apart = isinstance(array, (Source, Resident))
    event = array.event if apart else array.shape[1:]
    if not event or 0 in array.shape:
        msg = f"{name} must have shape (N, d) or (N, ...), with no 0 in it; got {(*array.shape[:1], *event)}."
        raise ValueError(msg)
    if scale is not None and array.dtype != np.uint8:
        msg = f"scale belongs to uint8 data; got {name} of type {array.dtype}. Leave scale out."
        raise ValueError(msg)
    if array.dtype == np.uint8:
        scale = _byte_scale(BYTE_SCALE if scale is None else scale)
    if not apart:
        array = _native(array, name)
        if len(event) > 1:
            array = array.reshape(len(array), -1)
    return array, scale, kind, event


def _byte_scale(scale: Any) -> tuple[float, float]:
    try:
        a, b = (float(v) for v in scale)
    except (TypeError, ValueError):
        msg = f"scale must be two numbers (a, b), value = a * byte + b; got {scale!r}."
        raise TypeError(msg) from None
    if not (math.isfinite(a) and math.isfinite(b) and a != 0):
        msg = f"scale must be finite with a != 0; got {scale!r}."
        raise ValueError(msg)
    return a, b


def widen(block: Array, scale: tuple[float, float] | None) -> Float:
    """The values of stored rows, exactly, in float64."""
    if block.dtype == np.uint16:
        return (block.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)
    if scale is not None:
        return scale[0] * block.astype(np.float64) + scale[1]
    return block.astype(np.float64)


def result_type(stored: npt.DTypeLike) -> np.dtype[Any]:
    """float64 for float64 rows, float32 for everything else."""
    return np.dtype(np.float64 if np.dtype(stored) == np.float64 else np.float32)


def rounded(values: Any, dtype: npt.DTypeLike, what: str) -> Any:
    """``values``, an array or a tensor, in a result type; ValueError where they are too large for it."""
    kind = np.dtype(dtype)
    result, finite = as_type(values, kind)
    if not finite:
        remedy = "Rescale the data" + ("." if kind == np.float64 else ", or pass them as float64.")
        msg = f"{what} must stay within {float(np.finfo(kind).max):.2g}, the range of {kind} results. {remedy}"
        raise ValueError(msg)
    return result


def blocks(array: Any, most: int | None = None) -> list[slice]:
    """Row slices of an (N, d) array that are some 16 MiB each in float64, or ``most`` bytes if that is less."""
    n, d = array.shape
    size = max(1, min(_BLOCK_BYTES, most or _BLOCK_BYTES) // (8 * d))
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def stretches(array: Any) -> list[slice]:
    """Row slices of an (N, d) source that are some 48 MiB each as they are stored, or ``array.stretch`` bytes."""
    n, d = array.shape
    size = max(1, getattr(array, "stretch", _STRETCH_BYTES) // (array.dtype.itemsize * d))
    return [slice(i, min(i + size, n)) for i in range(0, n, size)]


def check_finite(array: Any, name: str, first: int = 0) -> None:
    """ValueError naming the first row of an array or tensor that is not finite, or too large; from ``first`` on."""
    if is_tensor(array):
        if bool((array.isfinite() & (array.abs() <= LARGEST)).all()):  # a limit that its type may not hold
            return
        array = array.cpu().numpy()
    if not at_most(array, LARGEST):
        flat = array.reshape(len(array), -1) if array.ndim else array.reshape(1, 1)
        good = np.abs(flat) <= np.float64(LARGEST)
        row = int(np.flatnonzero(~good.all(axis=1))[0])
        column = int(np.flatnonzero(~good[row])[0])
        msg = f"{name} must be finite; got {flat[row, column]} in row {first + row}, column {column}."
        if np.isfinite(flat[row, column]):
            msg = msg.replace("finite", "at most 2**250 = 1.8e75 in size") + f" {_UNIT}"
        raise ValueError(msg)


def check_size(values: npt.ArrayLike, name: str) -> None:
    """ValueError unless every number is 0, or neither its square nor the inverse of that is out of range."""
    if isinstance(values, np.ndarray) and values.size == 1:
        values = values.item()  # one query's: compared at a tenth of the cost
    if isinstance(values, float) and _SMALLEST <= values <= LARGEST:
        return
    size = np.abs(values)
    if size.size == 0 or (size.min() >= _SMALLEST and size.max() <= LARGEST):
        return
    good = (size == 0) | ((size >= _SMALLEST) & (size <= LARGEST))
    if not good.all():
        bad = float(np.asarray(values)[~good].flat[0])
        msg = f"{name} must be 0 or between 2**-250 = 5.5e-76 and 2**250 = 1.8e75 in size; got {bad!r}. {_UNIT}"
        raise ValueError(msg)


def warn(text: str) -> None:
    """UserWarning at the line outside of this package, and of torch, that led here."""
    level, frame = 2, sys._getframe(1)
    inner = (__package__, "torch")
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in inner:
        level, frame = level + 1, frame.f_back
    warnings.warn(text, UserWarning, stacklevel=level)


def log_weights(weights: Any, n: int) -> Float:
    """Logarithms (n,) of non-negative ``weights`` (None: 1) as given; -inf for weight 0."""
    if weights is None:
        return np.zeros(n)
    w = reals(weights, "weights")
    if w.shape != (n,):
        msg = f"weights must have shape ({n},), one for each row of data; got {w.shape}."
        raise ValueError(msg)
    if not np.isfinite(w).all() or (w < 0).any():
        bad = int(np.flatnonzero(~(np.isfinite(w) & (w >= 0)))[0])
        msg = f"weights must be finite and >= 0; got {w[bad]} in row {bad}."
        raise ValueError(msg)
    if not w.any():
        msg = "weights must not all be 0."
        raise ValueError(msg)
    with np.errstate(divide="ignore"):
        result: Float = np.log(w)
    return result


def normalized(log_w: Float) -> tuple[Float, float]:
    """Logarithms of weights of sum 1, and the logarithm of the sum that they had."""
    highest = float(log_w.max())
    relative = log_w - highest  # first by the largest, so that no sum overflows
    if not relative.any():
        return np.full(len(log_w), -math.log(len(log_w))), highest + math.log(len(log_w))
    total = math.log(float(np.sum(np.exp(relative))))
    return relative - total, highest + total


def reals(obj: Any, name: str) -> Float:
    """The real numbers in ``obj`` as a new float64 array of its shape; -0 becomes 0, of which no sign is taken."""
    array = here(obj, name)
    if array.dtype.kind not in "fiu":
        msg = f"{name} must be a real number or an array of them; got {array.dtype}."
        raise TypeError(msg)
    return array.astype(np.float64) + 0.0


def times(t: Any, m: int | None, name: str = "t") -> tuple[Float, bool]:
    """Times in [0, 1] as float64, () or (m,) (``m`` None: any shape), and whether one was given for all queries."""
    if isinstance(t, float) and 0.0 <= t <= 1.0:  # the common case, also of NumPy's scalars, at a tenth of the cost
        return np.array(float(t) + 0.0), True
    wide = reals(t, name)
    if m is not None and wide.shape not in ((), (m,)):
        msg = f"{name} must be a number or have shape ({m},), one for each query; got {wide.shape}."
        raise ValueError(msg)
    if not ((wide >= 0) & (wide <= 1)).all():
        bad = wide if wide.ndim == 0 else wide[~((wide >= 0) & (wide <= 1))][0]
        msg = f"{name} must lie in [0, 1], 0 noise and 1 data; got {float(bad)}."
        raise ValueError(msg)
    return wide, wide.ndim == 0


def count(value: Any, name: str, least: int = 0, most: int | None = None) -> int:
    """An int in [least, most]."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        msg = f"{name} must be an int; got {value!r}."
        raise TypeError(msg)
    if value < least or (most is not None and value > most):
        upper = "" if most is None else f" and <= {most}"
        msg = f"{name} must be >= {least}{upper}; got {value}."
        raise ValueError(msg)
    return int(value)


def number(
    value: Any, name: str, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> float:
    """A finite float in [least, most] and > above."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        msg = f"{name} must be a number; got {value!r}."
        raise TypeError(msg)
    if not math.isfinite(value) or value <= above or not least <= value <= most:
        bounds = ((">", above), (">=", least), ("<=", most))
        interval = "".join(f" and {sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))
        msg = f"{name} must be finite{interval}; got {value}."
        raise ValueError(msg)
    return float(value)
