"""Tensors of torch as arrays, and back; rows that stay on the device where they live. torch is loaded by tensors."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Resident", "blank_like", "check_numbers", "from_torch", "is_elsewhere", "is_tensor", "placed", "to_torch"]

Array = npt.NDArray[Any]


def is_tensor(obj: Any) -> bool:
    return type(obj).__module__.partition(".")[0] == "torch" and hasattr(obj, "__dlpack__")


def is_elsewhere(obj: Any) -> bool:
    """Whether ``obj`` is a tensor on a device that holds numbers and is not the CPU."""
    return is_tensor(obj) and obj.device.type not in ("cpu", "meta")


def to_torch(a: Array, device: Any = None) -> Any:
    """The numbers of an array as a tensor on a device (None: the CPU)."""
    import torch

    made = torch.from_numpy(np.asarray(a))
    return made if device is None else made.to(device)


def from_torch(tensor: Any, name: str, bits: bool, device: Any = None) -> tuple[Array, Callable[[Array], Any]]:
    """A tensor on ``device`` (None: the CPU) as an array, and the way back; TypeError when it is of another kind."""
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
    return _read(tensor), partial(to_torch, device=device)


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


def blank_like(x: Any) -> Any:
    """An array or a tensor of the size, the type and the device of another, to be written to in any mode of torch."""
    if isinstance(x, np.ndarray):
        return np.empty_like(x)
    import torch

    with torch.inference_mode(False):
        return torch.empty_like(x)


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
        self.dtype = _read(tensor.reshape(-1)[:0]).dtype

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
