"""What ``interp-fast bench`` times, each in a process of its own: our backends, other libraries, the machine's limits.

One table, :data:`PEERS`. A peer's ``setup(rows, threads)`` prepares a training set and returns its :class:`Calls`; the
denoiser is taken at the linear schedule, alpha = t and sigma = 1 - t, in the type of the results. The other
libraries are called as a careful user would: prepared norms, no Python loop but over blocks of queries. They work on
float copies of integer rows.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from ._arrays import result_type, widen
from .backends import available
from .field import Field
from .sampling import sample
from .schedules import Linear
from .steps import euler

__all__ = ["BYTE_SCALE", "LIMITS", "OURS", "PEERS", "Calls", "Contestant", "Peer", "euler_loop", "installed"]

Array = npt.NDArray[Any]
Denoiser = Callable[[Array, float], Array]

OURS = ("cpp", "numba", "reference")
LIMITS = "limits"  # the contestant that measures the machine
_QUERIES = 64  # of one block: its scores are the largest array the matrix-product peers make
_NEIGHBOURS = 100
BYTE_SCALE = (2.0 / 255.0, -1.0)  # of uint8 rows
_SHOWN = 8  # rows of an answer that come back from a contestant


@dataclass(frozen=True)
class Calls:
    """What a prepared peer can do.

    Attributes
    ----------
    denoiser : (x, t) -> (M, d)
    check : (x, t) -> dict, or None
        Ours: ``noise`` (M, d) as the field returns it, and ``work``, the mean share of the dense work done. Compiled
        ones and NumPy: ``kernels``, what was chosen for this processor.
    sample : (x0, K) -> (M, d), or None
        Ours only: the endpoint of K Euler steps. The others are called in a loop.
    """

    denoiser: Denoiser
    check: Callable[[Array, float], dict[str, Any]] | None = None
    sample: Callable[[Array, int], Array] | None = None


@dataclass(frozen=True)
class Peer:
    """A library and the call of it.

    Attributes
    ----------
    label, module
        What is called, and what must be importable for it.
    setup
        rows, threads -> :class:`Calls`.
    types
        Floating types it works in.
    products
        Whether it forms distances by matrix products; direct differences are too slow for large problems.
    exact
        Whether it sums over all rows.
    """

    label: str
    module: str
    setup: Callable[[Array, int], Calls]
    types: tuple[str, ...] = ("float32", "float64")
    products: bool = True
    exact: bool = True


def installed(names: Sequence[str] | None = None) -> list[str]:
    """Names of the peers that can run here, in the order of the table.

    Raises
    ------
    ValueError
        One of ``names`` is unknown, or is not installed.
    """
    ours = available()
    found = [
        name
        for name, peer in PEERS.items()
        if (name in ours if name in OURS else importlib.util.find_spec(peer.module) is not None)
    ]
    for name in names or ():
        if name not in found:
            msg = f"peers must be among those installed, {found}; got {name!r}."
            raise ValueError(msg)
    return found if names is None else [name for name in found if name in names]


# ---- the calls -----------------------------------------------------------------------------------------------------


def _ours(backend: str) -> Callable[[Array, int], Calls]:
    def setup(rows: Array, threads: int) -> Calls:
        field = Field(rows, Linear(), backend=backend, threads=threads)

        def check(x: Array, t: float) -> dict[str, Any]:
            work = float(np.mean(field.posterior(x, t).work))
            return {"noise": field.noise(x, t), "work": work, "kernels": field.isa}

        def endpoint(x0: Array, steps: int) -> Array:
            return np.asarray(sample(field, euler(field.schedule, steps), x0=x0).x)

        def denoiser(x: Array, t: float) -> Array:
            return np.asarray(field.denoiser(x, t))

        return Calls(denoiser, check, endpoint)

    return setup


def _half_norms(rows: Array) -> Array:
    return np.asarray(0.5 * np.einsum("ij,ij->i", rows, rows, dtype=np.float64))


def _logit_scales(t: float) -> tuple[float, float]:
    """a, b of the logits a x . x_i - b |x_i|^2 / 2 (the term in x alone falls out of the softmax)."""
    return t / (1 - t) ** 2, (t / (1 - t)) ** 2


def _numpy(rows: Array, threads: int) -> Calls:
    half, kind = _half_norms(rows), rows.dtype.type
    scores = np.empty((_QUERIES, len(rows)), rows.dtype)

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        bias = (b * half).astype(kind)
        mean = np.empty_like(x)
        for first in range(0, len(x), _QUERIES):
            block = x[first : first + _QUERIES]
            p = np.matmul(block * kind(a), rows.T, out=scores[: len(block)])
            p -= bias
            p -= p.max(axis=1, keepdims=True)
            np.exp(p, out=p)
            mean[first : first + _QUERIES] = (p @ rows) / p.sum(axis=1, keepdims=True)
        return mean

    return Calls(denoiser, lambda x, t: {"kernels": _blas()})


def _blas() -> str | None:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    kernels = {
        f"{lib['internal_api']} {lib.get('architecture', '')}" for lib in threadpool_info() if lib["user_api"] == "blas"
    }
    return ", ".join(sorted(kernels))


def _scipy(rows: Array, threads: int) -> Calls:
    from scipy.special import softmax

    half, kind = _half_norms(rows), rows.dtype.type

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        bias = (b * half).astype(kind)
        blocks = [x[first : first + _QUERIES] for first in range(0, len(x), _QUERIES)]
        return np.concatenate([softmax((block * kind(a)) @ rows.T - bias, axis=1) @ rows for block in blocks])

    return Calls(denoiser)


def _torch(rows: Array, threads: int) -> Calls:
    import torch

    torch.set_num_threads(threads)
    data, half = torch.from_numpy(rows), torch.from_numpy(_half_norms(rows))

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        with torch.inference_mode():
            bias = (-b * half).to(data.dtype)
            blocks = torch.from_numpy(x).split(_QUERIES)
            means = [torch.softmax(torch.addmm(bias, block, data.T, alpha=a), dim=1) @ data for block in blocks]
            return np.asarray(torch.cat(means).numpy())

    return Calls(denoiser)


def _torch_attention(rows: Array, threads: int) -> Calls:
    """Fused attention; the bias rides in one more dimension of queries and keys, so that no mask of M x N is needed."""
    import torch

    torch.set_num_threads(threads)
    n, d = rows.shape
    data = torch.from_numpy(rows)
    keys, values = data.new_zeros(1, 1, n, d + 1), data.new_zeros(1, 1, n, d + 1)
    keys[0, 0, :, :d] = values[0, 0, :, :d] = data
    keys[0, 0, :, d] = torch.from_numpy(_half_norms(rows))

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        with torch.inference_mode():
            queries = data.new_full((1, 1, len(x), d + 1), -b)
            queries[0, 0, :, :d] = torch.from_numpy(x) * a
            mean = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)
            return np.asarray(mean[0, 0, :, :d].numpy())

    return Calls(denoiser)


def _jax(rows: Array, threads: int) -> Calls:
    import jax

    data, half, kind = jax.numpy.asarray(rows), jax.numpy.asarray(_half_norms(rows).astype(rows.dtype)), rows.dtype.type

    def formula(x: Any, data: Any, half: Any, a: Any, b: Any) -> Any:
        return jax.nn.softmax((a * x) @ data.T - b * half, axis=1) @ data

    mean = jax.jit(formula)

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        return np.asarray(mean(x, data, half, kind(a), kind(b)))

    return Calls(denoiser)


def _keops(rows: Array, threads: int) -> Calls:
    """Differences, reduced on the fly: accurate where the products are not."""
    from pykeops.numpy import LazyTensor

    data, kind = LazyTensor(rows[None]), rows.dtype.type

    def denoiser(x: Array, t: float) -> Array:
        y = LazyTensor(np.ascontiguousarray(x / kind(t))[:, None])
        logits = -((y - data) ** 2).sum(-1) * float(0.5 * (t / (1 - t)) ** 2)
        return np.asarray(logits.sumsoftmaxweight(data, axis=1))

    return Calls(denoiser)


def _faiss(rows: Array, threads: int) -> Calls:
    """Softmax over the nearest rows only: right once the posterior is sharp."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    k = min(_NEIGHBOURS, len(rows))

    def denoiser(x: Array, t: float) -> Array:
        distance, near = index.search(x / np.float32(t), k)
        p = np.exp((distance - distance[:, :1]) * np.float32(-0.5 * (t / (1 - t)) ** 2))
        p /= p.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("mk,mkd->md", p, rows[near]))

    return Calls(denoiser)


PEERS = {
    **{name: Peer(f"interp_fast, {name}", __name__, _ours(name), products=name != "reference") for name in OURS},
    "numpy": Peer("NumPy, two products and a softmax in place", "numpy", _numpy),
    "scipy": Peer("SciPy, special.softmax between two products", "scipy", _scipy),
    "torch": Peer("PyTorch, addmm, softmax, matmul", "torch", _torch),
    "torch-sdpa": Peer("PyTorch, scaled_dot_product_attention", "torch", _torch_attention),
    "jax": Peer("JAX, jit", "jax", _jax),
    "keops": Peer("KeOps, LazyTensor.sumsoftmaxweight", "pykeops", _keops, products=False),
    "faiss": Peer(f"FAISS, IndexFlatL2, {_NEIGHBOURS} nearest rows", "faiss", _faiss, ("float32",), exact=False),
}


# ---- their processes -----------------------------------------------------------------------------------------------


def euler_loop(denoiser: Denoiser, mean: Array, x0: Array, steps: int) -> Array:
    """K Euler steps on dx/dt = (D - x) / (1 - t), for those who have a denoiser only; ``mean`` is D at t = 0."""
    x = x0
    for k in range(steps):
        target = denoiser(x, k / steps) if k else mean
        x = x + (target - x) * x.dtype.type(1 / (steps - k))
    return x


class Contestant:
    """A peer that has prepared the rows in the file ``path`` and does what it is asked, in a process of its own.

    ``ask("check", x, t)`` returns a dict: ``denoiser`` and what :attr:`Calls.check` adds. ``ask("time", x, t)`` and
    ``ask("trajectory", x0, K)`` return the median and the minimum of a few calls, in seconds, and the first rows of the
    answer. The contestant :data:`LIMITS` is asked ``ask()`` and returns what ``_core.limits`` does, reading these rows.

    Between two answers its process is stopped where the system can do that: threads of OpenBLAS and OpenMP spin for
    long after they have nothing left to do, on processors that others are timed on.

    Raises
    ------
    RuntimeError
        Something went wrong over there, at construction or later; the message tells what.
    """

    def __init__(self, name: str, path: str, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, name, path, threads), daemon=True)
        with _environment(threads):
            self._process.start()
        atexit.register(self._process.kill)  # before multiprocessing waits for a process that is stopped
        theirs.close()
        try:
            self._receive()
        except RuntimeError:
            self.stop()
            raise

    def ask(self, *request: Any) -> Any:
        self._signal("SIGCONT")
        with contextlib.suppress(OSError):  # of a process that has ended: what is received says so
            self._pipe.send(request)
        return self._receive()

    def _signal(self, name: str) -> None:
        if hasattr(signal, name) and self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, getattr(signal, name))

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            answer = RuntimeError(f"its process ended with exit code {self._process.exitcode}")
        self._signal("SIGSTOP")
        if isinstance(answer, RuntimeError):
            raise answer
        return answer

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        atexit.unregister(self._process.kill)


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What runtimes read when they load: our thread count and instruction set, and no forced choice of BLAS kernels."""
    before = dict(os.environ)
    if "cpp" in available():
        from . import _core

        os.environ["INTERP_FAST_ISA"] = _core.isa()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ["JAX_ENABLE_X64"] = "1"
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _work(pipe: Connection, name: str, path: str, threads: int) -> None:
    """The life of a contestant's process: set up, then answer requests until it is killed."""
    if hasattr(os, "setpgid"):  # a group with a stopped process ends when its parent does: no others should be in it
        os.setpgid(0, 0)
    os.dup2(2, 1)  # whatever a library prints must not end up in our table
    if hasattr(os, "sched_setaffinity"):  # some runtimes have no other way to be told
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    try:
        rows = np.load(path)
        answer = _limits(rows, threads) if name == LIMITS else _answers(name, rows, threads)
        pipe.send(None)
        while True:
            pipe.send(answer(*pipe.recv()))
    except Exception as exc:  # of any library
        pipe.send(RuntimeError(f"{type(exc).__name__}: {exc}"))


def _limits(rows: Array, threads: int) -> Callable[[], dict[str, float]]:
    from . import _core

    memory = rows.reshape(-1).view(np.uint8)
    return lambda: dict(_core.limits(memory, threads))


def _answers(name: str, rows: Array, threads: int) -> Callable[..., Any]:
    if name not in OURS:
        rows = widen(rows, BYTE_SCALE if rows.dtype == np.uint8 else None).astype(result_type(rows.dtype))
    calls = PEERS[name].setup(rows, threads)

    def answer(task: str, x: Array, argument: Any) -> Any:
        if task == "check":
            return {"denoiser": calls.denoiser(x, argument), **(calls.check(x, argument) if calls.check else {})}
        if task == "time":
            return _timed(4, calls.denoiser, x, argument)
        if calls.sample is not None:
            return _timed(1, calls.sample, x, argument)
        calls.denoiser(x, 0.5)  # compiles
        return _timed(1, euler_loop, calls.denoiser, rows.mean(axis=0, dtype=np.float64).astype(x.dtype), x, argument)

    return answer


def _timed(repeats: int, call: Callable[..., Array], *arguments: Any) -> tuple[float, float, Array]:
    """One call when it is long, else several; the first of several only warms the caches."""
    seconds: list[float] = []
    while len(seconds) < repeats and (not seconds or seconds[0] < 0.1):
        start = time.perf_counter()
        result = call(*arguments)
        seconds.append(time.perf_counter() - start)
    warm = seconds[1:] or seconds
    return float(np.median(warm)), min(warm), result[:_SHOWN]
