"""Benchmarks for pytest-benchmark; with ``--benchmark-disable`` (the default here) they run once, as tests.

``pytest bench --benchmark-enable --benchmark-autosave`` keeps the numbers; ``--full`` takes the regimes of
docs/performance.md.
The instruction set is the processor's best, or INTERP_FAST_ISA.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

import interp_fast as itf
from interp_fast import backends
from interp_fast._accuracy import PROMISES
from interp_fast._arrays import result_type
from interp_fast._bench import QUICK, REGIMES
from interp_fast._bench.machine import bound, machine
from interp_fast._bench.problem import Problem, Regime


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the regimes of docs/performance.md, not the small ones")


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Processor, instruction set, compiler, threads and versions, into the saved JSON (the commit is there already)."""
    machine_info["interp_fast"] = machine(backends.default_threads())


@pytest.fixture(params=[name for name in backends.available() if name != "reference"] or ["reference"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def regime(request: pytest.FixtureRequest) -> Regime:
    """The regime whose name the test is parametrized with."""
    return (REGIMES if request.config.getoption("full") else QUICK)[request.param]


@functools.lru_cache(maxsize=2)
def problem(n: int, d: int, dtype: str) -> Problem:
    return Problem(n, d, dtype)


@pytest.fixture(name="problem")
def _problem() -> Any:
    return problem


@functools.lru_cache(maxsize=4)
def _limits(nbytes: int, threads: int) -> dict[str, float]:
    from interp_fast import _core

    memory = np.ones(nbytes, np.uint8)
    return dict(_core.limits(memory, threads))


@pytest.fixture
def denoiser(benchmark: Any, note: Any) -> Any:
    """Time the denoiser of a field at one sigma / alpha, and hold its answers against the truth."""

    def time(field: itf.Field, data: Problem, regime: Regime, dtype: str, ratio: float) -> None:
        t = 1 / (1 + ratio)
        x = data.queries(regime.M, t)
        few, truth = x[:8], data.denoiser(x[:8], t)
        answer = {"denoiser": field.denoiser(x, t), "noise": field.noise(few, t)}  # compiles and prepares, too
        answer["denoiser"] = benchmark(field.denoiser, x, t)
        errors = data.errors(answer, few, truth, t)
        promise = PROMISES[result_type(dtype).name]
        assert errors["noise"] <= promise.noise, errors
        assert errors["denoiser"] <= promise.denoiser, errors
        note(regime, dtype)
        benchmark.extra_info |= {"work": float(np.mean(field.posterior(x, t).work)), **errors}

    return time


@pytest.fixture
def note(benchmark: Any) -> Any:
    """Put what a time should be judged by beside it: flops, bytes, and the share of the machine's limit reached."""

    def record(regime: Regime, dtype: str) -> None:
        pairs = regime.M * regime.N * max(1, regime.steps)
        nbytes = regime.N * regime.d * np.dtype(dtype).itemsize
        benchmark.extra_info |= {"flops": 4 * pairs * regime.d, "exponentials": pairs, "bytes": nbytes}
        if benchmark.stats is not None and "cpp" in backends.available():
            seconds = bound(_limits(nbytes, backends.default_threads()), regime, dtype)
            benchmark.extra_info |= {"bound": seconds, "fraction": seconds / benchmark.stats.stats.min}

    return record
