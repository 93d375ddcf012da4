"""The numba backend beside NumPy's three lines (products, softmax, products), interleaved in one process.

``pytest bench/bench_numba.py --benchmark-enable --full -s`` prints minima of wall and processor time and their ratios.
BLAS does most of the work of both: it is compared as it is found, with its own number of threads.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import interp_fast as itf
from interp_fast import backends
from interp_fast._bench.peers import PEERS

SHAPES = {"images": (64, 50_000, 784), "d64": (256, 50_000, 64), "digits": (512, 1797, 64)}
RATIOS = (5.0, 0.1)
SECONDS = 4.0  # of alternating calls, at least three of each


def _minima(calls, seconds):
    """The least wall and processor seconds of each."""
    least = np.full((len(calls), 2), np.inf)
    start, rounds = time.perf_counter(), 0
    while rounds < 3 or time.perf_counter() - start < seconds:
        rounds += 1
        for k, call in enumerate(calls):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            least[k] = np.minimum(least[k], (time.perf_counter() - wall, time.process_time() - cpu))
    return least


@pytest.mark.skipif("numba" not in backends.available(), reason="needs numba")
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("shape", SHAPES)
def test_beside_numpy(benchmark, request, problem, shape, ratio):
    m, n, d = SHAPES[shape]
    full, threads = request.config.getoption("full"), backends.default_threads()
    data, t = problem(n if full else n // 10, d, "float32"), 1 / (1 + ratio)
    x = data.queries(m, t)
    field = itf.Field(data.rows, itf.Linear(), backend="numba", threads=threads)
    three_lines = PEERS["numpy"].setup(data.rows, threads).denoiser
    calls = [lambda: field.denoiser(x, t), lambda: three_lines(x, t)]
    few = data.denoiser(x[:8], t)
    np.testing.assert_allclose(calls[0]()[:8], few, atol=5e-6 * max(data.radius, np.linalg.norm(few, axis=1).max()))
    ours, theirs = _minima(calls, SECONDS if full else 0.0)
    found = {"wall": theirs[0] / ours[0], "cpu": theirs[1] / ours[1]}
    benchmark.extra_info |= {"threads": threads, "numpy_over_numba": found, "numba": list(ours), "numpy": list(theirs)}
    times = "; ".join(f"{name} {1e3 * s[0]:.2f} {1e3 * s[1]:.2f}" for name, s in (("numba", ours), ("NumPy", theirs)))
    print(f"\n{shape}, sigma/alpha = {ratio:g}, {threads} threads, ms of wall and cpu: {times}; {found}")
    benchmark(calls[0])
