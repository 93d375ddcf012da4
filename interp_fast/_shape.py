"""Points of any shape: which axes of an array are those of one point, and how answers go back as the questions came.

Inside the package a point is a row of d numbers; its ``event`` is the shape that it has for the caller. Points of a
known event are taken in that shape or flat, and answered alike. This is the one place where both are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _arrays, _tensors
from ._arrays import Shape
from ._tensors import is_tensor

__all__ = ["Form", "Shape", "answers", "directions", "errors", "queries", "split"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]


class Form(NamedTuple):
    """How answers about points go back to the caller.

    Attributes
    ----------
    dtype : numpy.dtype
        That results are rounded to.
    kind : callable
        Makes the caller's kind of array.
    shape : tuple of int
        Of one point: the event, or (d,).
    single : bool
        Whether one point was given instead of an array of them.
    """

    dtype: np.dtype[Any]
    kind: Callable[[Any], Any]
    shape: Shape
    single: bool = False

    def each(self, values: Any) -> Any:
        """What there is for each point, (M, ...)."""
        return self.kind(values[0] if self.single else values)

    def points(self, values: Any) -> Any:
        """Points (M, ..., d)."""
        return self.each(values.reshape(*values.shape[:-1], *self.shape))

    def shown(self, x: Array) -> Any:
        """Points (M, d) as a function of the caller's gets them: always an array of them."""
        return self.kind(x.astype(self.dtype).reshape(len(x), *self.shape))


def split(
    shape: Shape, event: Shape | None, name: str, *, several: bool = False, tensor: bool = False
) -> tuple[bool, Shape]:
    """Whether an array of this shape is one point, and the shape of a point in it: ``event`` or flat.

    Where both readings fit the event wins. With an unknown event (None) one axis is a point, and the first of more
    counts points. With ``several`` one point alone is an error.

    Raises
    ------
    ValueError
        Neither fits.
    """
    if event is None:
        fits = [(True, shape)] if len(shape) == 1 else [(False, shape[1:])] if shape else []
        fits = [(one, point) for one, point in fits if 0 not in point]
    else:
        points = (event,) if len(event) == 1 else (event, (math.prod(event),))
        fits = [(one, point) for point in points for one in (True, False) if point == (shape if one else shape[1:])]
    for one, point in fits:
        if not (one and several):
            return one, point
    remedy = f" Pass {name}[None]." if fits else "" if event is None else _remedy(shape, event, name, tensor)
    msg = f"{name} must have shape {_wanted(event, several)}; got {shape}.{remedy}"
    raise ValueError(msg)


def _wanted(event: Shape | None, several: bool) -> str:
    m = "n" if several else "M"
    if event is None:
        return f"({m}, d)" if several else f"({m}, d) or (d,)"
    shapes = [event] if len(event) == 1 else [event, (math.prod(event),)]
    texts = [f"({m}, {', '.join(map(str, point))})" + ("" if several else f" or {point}") for point in shapes]
    return ", flat ".join(texts)


def _remedy(shape: Shape, event: Shape, name: str, tensor: bool) -> str:
    """What to pass instead, where the numbers are there in another order or shape."""
    k = len(event)
    if k > 1 and len(shape) in (k, k + 1):
        point = shape[-k:]
        words = ("channels last", "channels first") if k > 2 else ("rows and columns exchanged",) * 2  # noqa: PLR2004
        ways = ((-1, -k, (point[-1], *point[:-1])), (-k, -1, (*point[1:], point[0])))
        for (source, target, moved), word in zip(ways, words, strict=True):
            if moved == event:
                call = f"{name}.movedim" if tensor else f"np.moveaxis({name}"
                place = f"({source}, {target})" if tensor else f", {source}, {target})"
                return f" That is {word}. Pass {call}{place}."
    if len(shape) > 1 and math.prod(shape[1:]) == math.prod(event):
        return f" Pass {name}.reshape(-1, {', '.join(map(str, event))})."
    return ""


def queries(
    x: Any, event: Shape | None, name: str = "x", *, several: bool = False, device: Any = None, stay: bool = False
) -> tuple[Any, Form]:
    """Points of the shape ``event`` (None: any) as (M, d) float64, and the form of answers about them, of their type.

    With ``several`` one alone is an error. Tensors live on ``device`` (None: the CPU), and so do answers about them;
    they are read as arrays, or with ``stay`` come as tensors there.
    """
    tensor = stay and is_tensor(x)
    array, kind = _tensors.there(x, name, False, device) if tensor else _arrays.as_array(x, name, device=device)
    dtype = _tensors.dtype_of(array) if tensor else array.dtype
    if dtype.type not in (np.float32, np.float64):
        msg = f"{name} must be float32 or float64; got {dtype}. {_arrays.as_floats(x, array, name)}"
        raise TypeError(msg)
    single, shape = split(tuple(array.shape), event, name, several=several, tensor=is_tensor(x))
    m, d = 1 if single else len(array), math.prod(shape)
    if tensor:
        wide = _tensors.wide(array, m, d)
        _arrays.check_finite(wide, name)
    else:
        points = array.reshape(m, d)
        _arrays.check_finite(points, name)  # in their own type: it is shorter
        wide = np.asarray(points, np.float64, order="C")
        if not wide.flags.aligned:
            wide = wide.copy()
    return wide, Form(np.dtype(dtype.type), kind, shape, single)


def directions(u: Any, event: Shape | None, form: Form, like: Any, device: Any = None) -> Any:
    """One direction for each of the points ``like`` (m, d) of a form, (m, d) float64: beside them."""
    m = len(like)
    wide, _ = queries(u, event, "u", device=device, stay=is_tensor(like))
    if len(wide) != m:
        shape = form.shape if form.single else (m, *form.shape)
        msg = f"u must have the shape of x, {shape}; got {tuple(np.shape(u))}."
        raise ValueError(msg)
    return _tensors.beside(wide, like)


def answers(values: Any, form: Form, m: int, name: str, call: str) -> Float:
    """What a function of the caller's answered about the m points it was shown in a form, as (m, d) float64."""
    if isinstance(values, tuple) or hasattr(values, "sample"):
        got, part = (
            (f"a tuple of {len(values)}", "[0]") if isinstance(values, tuple) else (type(values).__name__, ".sample")
        )
        msg = f"{name} must be one array; got {got}. Let {call} return the array alone, as in ...{part}."
        raise TypeError(msg)
    array = _arrays.here(values, name)
    wanted = (m, *form.shape)
    if array.shape != wanted or array.dtype.kind != "f":
        msg = (
            f"{name} must be a float array of the shape of x, {wanted}; got {array.dtype} {array.shape}. Check {call}."
        )
        raise ValueError(msg)
    wide: Float = array.astype(np.float64).reshape(m, math.prod(form.shape))
    _arrays.check_finite(wide, name)
    return wide


def errors(obj: Any, rows: int, n: int | None, event: Shape, name: str, others: str = "") -> Array:
    """Errors (R, n, *event), one for each row of a table and each of n samples (None: any number), as (R, n, d)."""
    array, _ = _arrays.as_array(obj, name)
    if array.dtype.kind != "f":
        msg = f"{name} must be a float array{others}; got {array.dtype}."
        raise TypeError(msg)
    d = math.prod(event)
    fits = (
        array.ndim > 1 and array.shape[2:] in (event, (d,)) and array.shape[1] == (array.shape[1] if n is None else n)
    )
    if not fits or len(array) != rows:
        shape = ", ".join(map(str, (rows, "n" if n is None else n, *event)))
        msg = f"{name} must have shape ({shape}), one error for each row of the table and sample; got {array.shape}."
        raise ValueError(msg)
    _arrays.check_finite(array, name)
    return array.reshape(*array.shape[:2], d)
