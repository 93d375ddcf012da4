"""Devices of torch: which will do, how arrays get there, and what holds while something is computed on them."""

from __future__ import annotations

import contextlib
import math
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

__all__ = [
    "Sent",
    "allowed",
    "exactly",
    "fits",
    "found",
    "is_of_memory",
    "read",
    "send",
    "slowness",
    "stored",
    "tensor",
    "workspace",
]

_ON_CPU, _ELSEWHERE = 1 << 26, 1 << 30  # bytes of intermediate numbers at a time


def allowed(device: Any) -> torch.device:
    """``device`` (None: the CPU) as torch has it; ValueError when it cannot hold float64 numbers here."""
    try:
        found = torch.device("cpu" if device is None else device)
    except (RuntimeError, TypeError):
        msg = f"device must be one of torch, as 'cpu' or 'cuda:0'; got {device!r}."
        raise ValueError(msg) from None
    if found.type == "meta":
        msg = "device must be one that holds numbers; got 'meta'. Pass device='cpu', or that of the model's weights."
        raise ValueError(msg)
    try:
        held = torch.zeros(1, dtype=torch.float64, device=found)
        fine = float(held + 2.0**-40) == 2.0**-40
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as exc:
        try:
            torch.zeros(1, dtype=torch.float32, device=found)
        except (RuntimeError, TypeError, AssertionError, NotImplementedError):
            msg = f"device must be one that torch has here; got {str(found)!r} ({_first_line(exc)})."
            raise ValueError(msg) from None
        fine = False
    if not fine:
        msg = (
            f"device must compute in float64, without which the accuracy that is promised cannot be kept; "
            f"{str(found)!r} does not. Leave device out, and pass data.cpu()."
        )
        raise ValueError(msg)
    return held.device if found.index is None and found.type != "cpu" else found  # with its number


def _first_line(exc: Exception) -> str:
    return textwrap.shorten(str(exc).strip().partition("\n")[0].partition(". ")[0].rstrip("."), 120)


def found() -> list[str]:
    """The CPU and the accelerators that torch has here; those without float64 too."""
    kinds = [(kind, getattr(torch, kind, None)) for kind in ("cuda", "xpu", "mps")]
    return [
        "cpu",
        *(f"{kind}:{k}" for kind, module in kinds if module is not None for k in range(module.device_count())),
    ]


def slowness(device: torch.device, size: int = 2048) -> float:
    """How many times as long as in float32 a product of matrices takes in float64; the best of three."""
    seconds = dict.fromkeys((torch.float32, torch.float64), math.inf)
    with exactly(device):
        for kind in seconds:
            square = torch.ones((size, size), dtype=kind, device=device)
            for _ in range(4):  # the first loads what it needs
                began = time.perf_counter()
                float((square @ square)[0, 0])  # waits for the device
                seconds[kind] = min(seconds[kind], time.perf_counter() - began)
    return seconds[torch.float64] / seconds[torch.float32]


def workspace(device: torch.device) -> int:
    """Bytes that a call may use beside its rows, queries and results, or those of one query where these are more."""
    return _ON_CPU if device.type == "cpu" else _ELSEWHERE


def tensor(array: npt.NDArray[Any], device: torch.device) -> Any:
    """A NumPy array on a device; on the CPU its own memory, where torch can have it."""
    if any(stride < 0 for stride in array.strides):  # even along an axis of length 1 torch takes none of these
        array = array.copy()
    if not array.flags.writeable:  # nothing here writes to rows, but torch warns of arrays that it may not write to
        array = np.asarray(_Writable(array))
    return torch.from_numpy(array).to(device)


class _Writable:
    """The memory of an array, without the flag that says who may write to it."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def stored(rows: npt.NDArray[Any]) -> Any:
    """Rows as they are stored, bits of bfloat16 as such: their own memory as a tensor."""
    bits = rows.dtype == np.uint16
    host = tensor(rows.view(np.int16) if bits else rows, torch.device("cpu"))
    return host.view(torch.bfloat16) if bits else host


@dataclass(frozen=True)
class Sent:
    """Rows on their way to a device.

    Attributes
    ----------
    shape, dtype
        Of the array that they were.
    rows : torch.Tensor
        Where they arrive.
    arrived : torch.cuda.Event or None
        When; None: they are there.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    rows: Any
    arrived: Any = None

    @property
    def tensor(self) -> Any:
        """They themselves, for what is computed next: it waits for them, and they stay as long as it takes."""
        if self.arrived is not None:
            current = torch.cuda.current_stream(self.rows.device)
            current.wait_event(self.arrived)
            self.rows.record_stream(current)
        return self.rows


def send(rows: npt.NDArray[Any], device: torch.device) -> Sent:
    """Start to copy rows to a device: on CUDA from pinned memory, beside whatever is computed there meanwhile."""
    host = stored(rows)
    if device.type != "cuda":
        return Sent(rows.shape, rows.dtype, host.to(device))
    stream = _copies(device)
    with torch.cuda.stream(stream):
        there = host.pin_memory().to(device, non_blocking=True)
        return Sent(rows.shape, rows.dtype, there, stream.record_event())


@cache
def _copies(device: torch.device) -> Any:
    """The stream in which rows are copied to a device."""
    return torch.cuda.Stream(device)


def read(values: Any) -> Any:
    """A tensor as a NumPy array."""
    return values.cpu().numpy()


_lock = threading.Lock()
_inside: list[Any] = []  # the settings to go back to, once for each computation that runs


@contextlib.contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Products in the precision of their factors, no autocast, no gradients; then everything as it was.

    The precision of products is a setting of the process: it goes back when the last computation that runs has ended.
    """
    with _lock:
        _inside.append(_inside[0] if _inside else _products())
        torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
        ):
            yield
    finally:
        with _lock:
            before = _inside.pop()
            if not _inside:
                _set_products(before)


def _products() -> tuple[str, list[str]]:
    """How float32 products are formed: the setting of all backends, and since torch 2.9 that of each."""
    return torch.get_float32_matmul_precision(), [backend.fp32_precision for backend in _backends()]


def _set_products(before: tuple[str, list[str]]) -> None:
    torch.set_float32_matmul_precision(before[0])
    for backend, value in zip(_backends(), before[1], strict=True):
        if backend.fp32_precision != value:
            backend.fp32_precision = value


def _backends() -> list[Any]:
    found = (torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None))
    return [backend for backend in found if hasattr(backend, "fp32_precision")]


def is_of_memory(exc: Exception) -> bool:
    """Whether an error of torch says that memory is out; the CPU and MPS have no type of error for that."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(exc, torch.OutOfMemoryError) or any(word in str(exc) for word in words)


def free(device: torch.device) -> int | None:
    """Bytes that are free on a device, or kept by torch for whatever comes; None where it does not say."""
    if device.type != "cuda":
        return None
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0] + kept)


def fits(device: torch.device, size: int) -> bool:
    """Whether so many bytes leave room for a workspace, as far as the device says."""
    left = free(device)
    return left is None or size + workspace(device) <= left
