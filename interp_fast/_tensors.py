"""Tensors of torch as arrays, and back; rows that stay on the device where they live. torch is loaded by tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Resident",
    "as_type",
    "at_most",
    "beside",
    "blank",
    "check_numbers",
    "column",
    "dtype_of",
    "from_torch",
    "is_elsewhere",
    "is_tensor",
    "placed",
    "there",
    "to_array",
    "to_torch",
    "wide",
]

Array = npt.NDArray[Any]

_FEW = 1 << 10
_SQUARED = 2.0**511  # the square of what is no larger is a number
_MOST = {kind: float(np.finfo(kind).max) for kind in (np.float32, np.float64)}


def is_tensor(obj: Any) -> bool:
    if isinstance(obj, np.ndarray):
        return False
    return type(obj).__module__.partition(".")[0] == "torch" and hasattr(obj, "__dlpack__")


def is_elsewhere(obj: Any) -> bool:
    """Whether ``obj`` is a tensor on a device that holds numbers and is not the CPU."""
    return is_tensor(obj) and obj.device.type not in ("cpu", "meta")


def to_torch(a: Any, device: Any = None) -> Any:
    """The numbers of an array, or of a tensor, as a tensor on a device (None: the CPU)."""
    import torch

    made = a if is_tensor(a) else torch.from_numpy(np.asarray(a))
    return made if device is None else made.to(device)


def to_array(values: Any) -> Array:
    """The numbers of an array, or of a tensor, as an array."""
    return _read(values) if is_tensor(values) else values


def from_torch(tensor: Any, name: str, bits: bool, device: Any = None) -> tuple[Array, Callable[[Array], Any]]:
    """A tensor on ``device`` (None: the CPU) as an array, and the way back; TypeError when it is of another kind."""
    kept, kind = there(tensor, name, bits, device)
    return _read(kept), kind


def there(tensor: Any, name: str, bits: bool, device: Any = None) -> tuple[Any, Callable[[Any], Any]]:
    """A tensor on ``device`` itself, and the way back; the same errors."""
    import torch

    _check_grad(tensor, name)
    check_numbers(tensor, name)
    if device is None and tensor.device.type != "cpu":
        msg = f"{name} lives on {tensor.device}; pass {name}.cpu()."
        raise TypeError(msg)
    if device is not None and tensor.device != device:
        msg = f"{name} lives on {tensor.device} and the field on {device}; pass {name}.to({str(device)!r})."
        raise TypeError(msg)
    if tensor.dtype == torch.bfloat16 and not bits:
        msg = f"{name} is bfloat16, which queries cannot be; pass {name}.float()."
        raise TypeError(msg)
    return tensor, partial(to_torch, device=device)


def placed(kind: Callable[[Array], Any], data: Any, backend: Any, device: Any) -> Callable[[Array], Any]:
    """The way back for results about ``data`` on a backend and a device; ValueError when these do not fit."""
    if is_elsewhere(data) and backend not in ("auto", "torch"):
        msg = (
            f"backend must be 'torch' or 'auto' for data on {data.device}; got {backend!r}, which computes on the CPU: "
            "pass data.cpu()."
        )
        raise ValueError(msg)
    if device is None:
        return kind
    if backend == "torch":
        return partial(to_torch, device=device) if is_tensor(data) else kind
    if backend == "auto" and is_tensor(data) and str(device) in (str(data.device), data.device.type):
        return kind
    msg = (
        f"device belongs to backend='torch', or to data that are a tensor there; got device={str(device)!r} with "
        f"backend={backend!r}. Pass backend='torch', or leave device out."
    )
    raise ValueError(msg)


def check_numbers(tensor: Any, name: str) -> None:
    """TypeError for a tensor of the device meta."""
    if tensor.device.type == "meta":
        msg = f"{name} lives on meta, where tensors have no numbers; pass {name} on a device that holds them."
        raise TypeError(msg)


def _check_grad(tensor: Any, name: str) -> None:
    if tensor.requires_grad:
        msg = f"{name} is a tensor that requires grad, which the closed form does not track; pass {name}.detach()."
        raise TypeError(msg)


def _read(tensor: Any) -> Array:
    """Its numbers; of bfloat16, which NumPy has not, the bits."""
    import torch

    bits = tensor.dtype == torch.bfloat16
    here = tensor if tensor.device.type == "cpu" else tensor.cpu()
    array: Array = (here.view(torch.int16) if bits else here).numpy()
    return array.view(np.uint16) if bits else array


# Arithmetic that is the same for arrays and for tensors on a device: what numbers come from the host, and where to


def beside(values: Any, like: Any) -> Any:
    """An array where ``like`` is: itself beside an array, a tensor beside one. A float is beside anything."""
    if not is_tensor(like):
        return values
    return float(values) if isinstance(values, float) else to_torch(values, like.device)


def column(values: Any, like: Any) -> Any:
    """One number for each of the points ``like`` (M, d), or a float for all, beside them."""
    return beside(values if isinstance(values, float) else values[:, None], like)


def wide(tensor: Any, m: int, d: int) -> Any:
    """Points as a tensor (m, d) float64 where they are; themselves if they are that."""
    import torch

    return tensor.reshape(m, d).to(torch.float64).contiguous()


def as_type(values: Any, dtype: np.dtype[Any]) -> tuple[Any, bool]:
    """Numbers in a floating type, and whether all are finite there."""
    if is_tensor(values):
        import torch

        result = values.to(getattr(torch, dtype.name))
        return result, bool(result.isfinite().all())
    if values.dtype == dtype:
        return values, at_most(values, _MOST[dtype.type])
    with np.errstate(over="ignore"):
        result = values.astype(dtype)
    return result, at_most(result, _MOST[dtype.type])


def at_most(array: Array, most: float) -> bool:
    """Whether no number in an array is larger in size, or infinite, or NaN; ``most`` may be out of its type's range."""
    if array.size <= _FEW:  # of few the call is what costs: one, not two
        least = min(most, _SQUARED)
        if float(np.vdot(array, array)) <= least * least:
            return True
    highest, lowest = (float(f.reduce(array, None, initial=0)) for f in (np.maximum, np.minimum))
    return highest <= most >= -lowest


def dtype_of(tensor: Any) -> np.dtype[Any]:
    """That of its numbers as they are read."""
    import torch

    return _read(torch.empty(0, dtype=tensor.dtype, device="cpu")).dtype


def blank(like: Any, shape: tuple[int, ...], *, integer: bool = False) -> Any:
    """An array or a tensor of float64 or int64 numbers beside another, to be written to in any mode of torch."""
    if isinstance(like, np.ndarray):
        return np.empty(shape, np.int64 if integer else np.float64)
    import torch

    with torch.inference_mode(False):
        return torch.empty(shape, dtype=torch.int64 if integer else torch.float64, device=like.device)


class Resident:
    """A tensor of rows that stays where it is; stretches of it, and rows by number, are read as arrays (copies).

    Attributes
    ----------
    tensor : torch.Tensor (N, d)
    event : tuple of int
        The shape of a row as it was given.
    dtype : numpy.dtype
        Of what is read.
    """

    def __init__(self, tensor: Any, name: str = "data") -> None:
        _check_grad(tensor, name)
        shape = tuple(map(int, tensor.shape))
        self.event, self.shape = shape[1:], (*shape[:1], math.prod(shape[1:]))
        self.tensor = tensor.reshape(self.shape) if len(shape) > 1 else tensor
        self.dtype = dtype_of(tensor)

    @property
    def device(self) -> Any:
        return self.tensor.device

    def take(self, chosen: slice | Any) -> Resident:
        """Some of the rows, on the same device."""
        return Resident(self.tensor[self._there(chosen)])

    def __getitem__(self, select: slice | Any) -> Array:
        return _read(self.tensor[self._there(select)])

    def _there(self, select: slice | Any) -> Any:
        return select if isinstance(select, slice) else to_torch(np.array(select, np.int64), self.device)
