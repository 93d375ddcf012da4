"""Whole trajectories: backend x solver."""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf
from interp_fast._bench.contestant import euler_loop


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("regime", ["trajectory"], indirect=True)
def test_euler(benchmark, note, problem, backend, regime, dtype):
    data = problem(regime.N, regime.d, dtype)
    x0 = data.queries(regime.M, 0.0)
    field = itf.Field(data.rows, itf.Linear(), backend=backend)
    steps = itf.euler(field.schedule, regime.steps)
    itf.sample(field, steps, x0=x0[:1])
    out = benchmark(itf.sample, field, steps, x0=x0)
    truth = euler_loop(data.denoiser, data.mean, x0[:2].astype(np.float64), regime.steps)
    # The field is good to 5e-6 at common states; along a trajectory such errors grow where basins part.
    np.testing.assert_allclose(out.x[:2], truth, atol=1e-3 * data.radius)
    note(regime, dtype)
    benchmark.extra_info["work"] = out.stats["work"]


@pytest.mark.parametrize("dtype", ["float32"])
@pytest.mark.parametrize("regime", ["trajectory"], indirect=True)
def test_ddpm(benchmark, note, problem, backend, regime, dtype):
    data = problem(regime.N, regime.d, dtype)
    field = itf.Field(data.rows, itf.Linear(), backend=backend)
    steps = itf.ddpm(field.schedule, regime.steps)
    itf.sample(field, steps, 1, rng=0)
    out = benchmark(itf.sample, field, steps, regime.M, rng=0)
    # The last step lands on sigma = 0: on a row, or on a mixture of near copies of it.
    assert np.linalg.norm(out.x - data.values(out.index), axis=1).max() < 0.02
    note(regime, dtype)
    benchmark.extra_info["work"] = out.stats["work"]
