"""Large and odd sizes that the small problems cannot reach."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import oracle
import pytest

import interp_fast as itf
from interp_fast.field import oracle_of

pytestmark = pytest.mark.long


def test_more_dimensions_than_16_bits_count(engine, dtype):
    """d > 65 536: the differences that decide lie in the last coordinates."""
    d = 65_536 + 37
    rows = np.zeros((5, d), dtype)
    rows[:, -1] = [0, 10, 20, 30, 40]
    rows[:, 65_536] = [0, 0, 50, 0, 0]
    flow = itf.Field(rows, backend=engine.backend)
    x = np.zeros((2, d))
    x[0, -1], x[1, 65_536] = 17.51, 24.0
    post = flow.posterior(x, 0.5, top=5)
    ref = oracle.posterior(rows, x, 0.5, 0.5)
    np.testing.assert_array_equal(post.index, ref.index)
    np.testing.assert_allclose(post.ess, ref.ess, rtol=1e-3 if dtype == "float32" else 1e-9)
    np.testing.assert_allclose(post.mean[:, -1], ref.mean[:, -1], rtol=1e-4)
    z = itf.sample(flow, itf.ddim(flow.schedule, 2), 1, rng=1)
    np.testing.assert_allclose(z.x[0], rows[z.index[0]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("ratio", [10.0, 1.0, 0.05])
def test_many_rows(engine, ratio):
    """A diffuse mean over 200 000 rows keeps its digits; a concentrated one finds its row among them."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((200_001, 8)).astype(np.float32)
    t = 1 / (1 + ratio)
    x = t * rows[[0, 77_777, 200_000]] + (1 - t) * rng.standard_normal((3, 8))
    if engine.backend == "reference":
        x = x[:1]
    flow = itf.Field(rows, backend=engine.backend)
    post = flow.posterior(x, t)
    wide = rows.astype(float)
    for m, q in enumerate(x):
        score = -((q - t * wide) ** 2).sum(1) / (2 * (1 - t) ** 2)
        w = np.exp(score - score.max())
        mean = w @ wide / w.sum()
        assert np.linalg.norm(post.mean[m] - mean) <= 5e-6 * max(np.linalg.norm(mean), np.sqrt(8))
        np.testing.assert_allclose(post.ess[m], w.sum() ** 2 / (w**2).sum(), rtol=1e-3)


def test_many_queries(engine):
    """More queries than any group: each is that of a small call."""
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((60, 3)).astype(np.float32)
    x = rng.standard_normal((5003, 3))
    flow = itf.Field(rows, backend=engine.backend)
    whole = flow.velocity(x, 0.6)
    chosen = [0, 1, 63, 64, 4095, 4096, 5002]
    np.testing.assert_allclose(whole[chosen], flow.velocity(x[chosen], 0.6), rtol=1e-4, atol=1e-5)


def test_more_ties_than_lists_hold(engine):
    """Thousands of queries whose nearest rows are thousands of copies: no list of candidates is that long."""
    rows = np.ones((3000, 2), np.float32)
    rows[2500] = 1.5
    x = np.ones((8192, 2))
    x[5] = 1.4
    index, squared = oracle_of(itf.Field(rows, backend=engine.backend)).training_set.nearest(x, 2)
    expected, distance = np.tile([0, 1], (8192, 1)), np.zeros((8192, 2))
    expected[5], distance[5] = [2500, 0], [0.02, 0.32]
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(squared, distance, rtol=1e-12)


def test_a_long_run(engine):
    """1000 rows of an SDE with float32 data end on training rows, and repeat to the bit."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((50, 6)).astype(np.float32)
    flow = itf.Field(rows, backend=engine.backend)
    table = itf.ddpm(flow.schedule, 1000)
    out = itf.sample(flow, table, 9, rng=4)
    np.testing.assert_array_equal(out.x, rows[out.index])
    np.testing.assert_array_equal(itf.sample(flow, table, 9, rng=4).x, out.x)


MEMORY = '''
import resource, sys
import numpy as np, interp_fast as itf

def peak():
    """MiB. Linux's ru_maxrss starts at what the process that started this one had resident; VmHWM starts anew."""
    if sys.platform == "linux":
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes

def use(rows, m=1, **options):
    field = itf.Field(rows, backend="{backend}", threads=2, **options)
    x = np.zeros((m, rows.shape[1]))
    field.denoiser(x, 0.5)
    field.denoiser(x, 0.999)

use(np.random.default_rng(0).standard_normal((3000, 64), dtype="f4"))
rows = np.random.default_rng(0).standard_normal({shape}, dtype="f4")
before = peak()
use(rows, {m}, low_memory={low_memory})
print(peak() - before)
'''


def growth(backend, shape, m=1, *, low_memory=False):
    """MiB that a new process grows by at its first field of float32 rows of this shape."""
    code = MEMORY.format(backend=backend, shape=shape, m=m, low_memory=low_memory)
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return float(run.stdout)


@pytest.mark.parametrize("m", [1, 40])
@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_memory_of_what_is_prepared(backend, m):
    """At most 2.5 times the stored bytes and 64 bytes a row; a tenth with low_memory; 40 MiB for blocks in work."""
    stored = 600_000 * 64 * 4 / 2**20
    assert growth(backend, (600_000, 64), m) <= 2.5 * stored + 64 * 600_000 / 2**20 + 40
    assert growth(backend, (600_000, 64), m, low_memory=True) <= 0.1 * stored + 40


def test_rows_are_kept_in_bytes_where_they_are_screened():
    """A copy of a quarter of the rows where the processor multiplies bytes, and where that was not ruled out."""
    from interp_fast import _core

    screens = "dot_int8" in _core.limits(np.ones(64, np.uint8), 1)
    kept = growth("cpp", (200_000, 256), 40) - growth("cpp", (200_000, 256), 40, low_memory=True)
    assert (kept > 0.5 * 200_000 * 256 / 2**20) == screens, kept  # the rest: blocks in work, of which it needs fewer


@pytest.mark.parametrize("backend", ["cpp", "numba"])
def test_no_array_of_queries_by_rows(backend):
    """3000 queries of 60 000 rows would be 1.3 GiB of weights in float64."""
    assert growth(backend, (60_000, 8), 3000) <= 100
