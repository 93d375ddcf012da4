"""What is timed, each in a process of its own: a peer, or the limits of the machine."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import BYTE_SCALE, result_type, widen
from ..backends import available
from .peers import OURS, PEERS, Denoiser

__all__ = ["LIMITS", "Contestant", "euler_loop"]

Array = npt.NDArray[Any]

LIMITS = "limits"  # the contestant that measures the machine
_SHOWN = 8  # rows of an answer that come back from a contestant
# Seconds that calls are repeated for: ten ticks of 4 ms, at which systems count what other threads have spent, so that
# the time of the processors is known to a tenth; and short enough that rivals meet the same speed of the machine.
_REPEATED = 0.04


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
    answer. ``ask("repeat", x, (name, t))`` is of calls that are short: those of some hundredths of a second; it returns
    their seconds and the mean of those of the processors. The contestant :data:`LIMITS` is asked ``ask()`` and returns
    what ``_core.limits`` does, reading these rows.

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
        from .. import _core

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
    from .. import _core

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
        if task == "repeat":
            name, t = argument
            return _repeated(calls.others.get(name, calls.denoiser), x, t)
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


def _repeated(call: Callable[..., Any], *arguments: Any) -> tuple[list[float], float]:
    """Seconds of calls that are short, after some that warm caches and wake threads; of the processors, on average."""
    for _ in range(3):
        call(*arguments)
    seconds: list[float] = []
    own = time.process_time()
    while len(seconds) < 3 or sum(seconds) < _REPEATED:
        start = time.perf_counter()
        call(*arguments)
        seconds.append(time.perf_counter() - start)
    return seconds, (time.process_time() - own) / len(seconds)
