"""The kernel contract on a device of torch: rows stay there, and so does all that a run of steps carries.

Queries come and answers go as NumPy arrays, or as tensors on the device. ``threads`` is for torch to say
(``torch.set_num_threads``). See :mod:`.torch_sweep` for the arithmetic.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from . import Float, Moments, State, torch_device, torch_noise
from .reference import advance, smoothed
from .torch_rows import Data, Queries, prepare, roundoff
from .torch_sweep import chunk, nearest, posterior

__all__ = ["Kernels"]


class Kernels:
    """The six functions on one device.

    Parameters
    ----------
    device : str or torch.device, optional
        Default: the CPU.
    """

    def __init__(self, device: Any = None) -> None:
        self.device = torch_device.allowed(device)

    def prepare(
        self,
        rows: Any,
        log_w: Float,
        *,
        moments: Moments,
        scale: tuple[float, float] | None,
        bandwidth: float,
        low_memory: bool,
        threads: int,
    ) -> Data:
        with self._computing(lambda: _full_of_rows(self.device, rows.shape, rows.dtype.itemsize)):
            return prepare(rows, log_w, moments, scale, bandwidth, low_memory, self.device)

    def stretch(self, rows: npt.NDArray[Any]) -> int | None:
        """Bytes of these rows of the host to hand to :meth:`send` at a time; None where the device has room for all."""
        if torch_device.fits(self.device, rows.nbytes + 16 * len(rows)):
            return None
        free, room = torch_device.free(self.device) or 0, torch_device.workspace(self.device)
        return min(room, max(free - room, free // 8) // 4)  # two are there at a time, and what is made of one

    def send(self, rows: npt.NDArray[Any]) -> torch_device.Sent:
        """Rows on their way here, to be prepared."""
        with self._computing(lambda: _full_of_rows(self.device, rows.shape, rows.dtype.itemsize)):
            return torch_device.send(rows, self.device)

    def posterior(
        self,
        x: Any,
        data: Data,
        alpha: Float,
        sigma: Float,
        *,
        u: Any = None,
        cut: Float,
        out: dict[str, Any],
        threads: int,
    ) -> None:
        with self._about(data, len(x)):
            place, direction = self._here(x), None if u is None or "jvp" not in out else self._here(u)
            _fill(out, self._posterior(place, data, alpha, sigma, direction, cut, out))

    def _posterior(
        self, x: Any, data: Data, alpha: Float, sigma: Float, u: Any, cut: Float, out: dict[str, Any]
    ) -> dict[str, Any]:
        """Outputs of the names and sizes of ``out``, as tensors. Queries of S = 0 and of alpha = 0 go by themselves."""
        k = out["top_index"].shape[1] if "top_index" in out else 0
        s2 = sigma**2 + (alpha * data.bandwidth) ** 2
        numbers = [self._here(column) for column in (alpha, s2, cut)]
        ways = np.where(s2 == 0, 2, np.where(alpha == 0, 1, 0))
        answer: dict[str, Any] = {}
        for way in np.unique(ways):
            some = np.flatnonzero(ways == way)
            q = Queries(x, numbers[0], numbers[1], numbers[2], u, limit=bool(way == 2), still=bool(way == 1))
            if len(some) < len(x):
                q = q.some(self._here(some))
            found = _at_rest(q, data, set(out), k) if way == 1 else posterior(q, data, set(out), k)
            if len(some) == len(x):
                return found
            for name, values in found.items():
                if name not in answer:
                    answer[name] = torch.empty((len(x), *values.shape[1:]), dtype=values.dtype, device=self.device)
                answer[name][self._here(some)] = values
        return answer

    def run_steps(
        self,
        state: State,
        data: Data,
        table: Any,
        first: int,
        last: int,
        *,
        key: int | None,
        first_sample: int,
        error: Float | None,
        cut: float,
        threads: int,
    ) -> None:
        n, d = state.cur.shape
        want = {"mean": state.cur, "index": state.index, "dropped": state.dropped, "work": state.work}
        with self._about(data, n):
            carried: dict[str, Any] = {
                name: None if a is None else self._here(a).clone() for name, a in vars(state).items()
            }
            here = State(**carried)
            for r in range(first, last):
                alpha, sigma = float(table.alpha[r]), float(table.sigma[r])
                levels = np.full(n, alpha), np.full(n, sigma)
                found = self._posterior(here.cur, data, *levels, None, np.full(n, cut), want)
                _observe(here, r, found)
                used = smoothed(found["mean"], here.cur, alpha, sigma, data.bandwidth)
                given = None if error is None else self._here(error[r])
                if given is not None:
                    used += given
                xi = None
                if table.S[r] > 0:
                    xi = torch_noise.normals(key or 0, first_sample, r, n=n, d=d, device=self.device)
                advance(here, table, r, used, given, xi)
            for name, array in vars(state).items():
                if array is not None:
                    array[...] = torch_device.read(getattr(here, name))

    def nearest(self, x: Any, data: Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
        with self._about(data, len(x)):
            index, squares = nearest(self._here(x), data, float(alpha), out["index"].shape[1])
            _fill(out, {"index": index, "squared_distance": squares})

    def normals(self, key: int, first_sample: int, row: int, out: Float, *, threads: int) -> None:
        n, d = out.shape
        with self._computing(lambda: f"{self.device} is out of memory: noise ({n}, {d}) {_size(8 * n * d)}."):
            _fill({"xi": out}, {"xi": torch_noise.normals(key, first_sample, row, n=n, d=d, device=self.device)})

    @staticmethod
    def roundoff(stored: np.dtype[Any]) -> float:
        return roundoff(torch.float64 if stored == np.float64 else torch.float32)

    @staticmethod
    def devices() -> list[str]:
        """Those that torch has here, also where it cannot keep the promises."""
        return torch_device.found()

    def slowness(self) -> float:
        """How many times as long as in float32 products take in float64."""
        return torch_device.slowness(self.device)

    # Private

    def _here(self, values: Any) -> Any:
        if isinstance(values, torch.Tensor):
            return values.to(self.device)
        return torch_device.tensor(values, self.device)

    def _about(self, data: Data, m: int) -> contextlib.AbstractContextManager[None]:
        return self._computing(lambda: _full_of_queries(data, m))

    @contextlib.contextmanager
    def _computing(self, needed: Callable[[], str]) -> Iterator[None]:
        try:
            with torch_device.exactly(self.device):
                yield
        except RuntimeError as exc:
            if not torch_device.is_of_memory(exc):
                raise
            raise MemoryError(needed()) from exc


def _full_of_rows(device: torch.device, shape: tuple[int, ...], itemsize: int) -> str:
    free = torch_device.free(device)
    left = "" if free is None else f", {_size(free)} are free"
    return (
        f"{device} is out of memory: rows {shape} {_size(math.prod(shape) * itemsize)}, 16 bytes a row, and of float32 "
        f"and float64 rows a centred copy{left}. Free memory there, pass low_memory=True (no copy) or rows in fewer "
        "bits; rows of the host that do not fit when a field is made go there stretch by stretch: make it anew."
    )


def _full_of_queries(data: Data, m: int) -> str:
    device, (n, d), room = data.device, data.rows.shape, torch_device.workspace(data.device)
    free = torch_device.free(device)
    at_a_time = chunk(device, n, d, 0)
    fits = max(1, (room if free is None else free) // (room // at_a_time))
    left = "" if free is None else f"; {_size(free)} are free, enough for {fits} queries at a time"
    return (
        f"{device} is out of memory: rows ({n}, {d}) {_size(data.rows.nbytes)}, {m} queries {_size(8 * m * d)} and as "
        f"much for answers, workspace {_size(room)} for {at_a_time} queries at a time{left}. Free memory there, pass "
        "fewer queries a call or low_memory=True, or rows in fewer bits."
    )


def _size(count: float) -> str:
    return f"{count / 2**30:.3g} GiB"


def _fill(out: dict[str, Any], answer: dict[str, Any]) -> None:
    for name, array in out.items():
        if 0 in array.shape:
            continue
        array[...] = answer[name] if isinstance(array, torch.Tensor) else torch_device.read(answer[name])


def _observe(state: Any, r: int, found: dict[str, Any]) -> None:
    state.since[found["index"] != state.index] = r
    state.index[:] = found["index"]
    state.dropped[:] = torch.maximum(state.dropped, found["dropped"])
    state.work += found["work"]


def _at_rest(q: Queries, data: Data, want: set[str], k: int) -> dict[str, Any]:
    """At alpha = 0 one posterior, the weights, is that of all queries."""
    if q.u is not None:
        return posterior(q, data, want, k)
    found = posterior(q.some(slice(0, 1)), data, want, k)
    m = len(q)
    found = {name: values.expand(m, *values.shape[1:]).clone() for name, values in found.items()}
    if "log_norm" in found:
        found["log_norm"] = (q.x * q.x).sum(dim=1) / (-2 * q.s2)
    if "work" in found:
        found["work"] /= m
    return found
