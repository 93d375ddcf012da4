"""One evaluation of the field: backend x regime x type x sigma/alpha."""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf
from interp_fast._arrays import result_type
from interp_fast._bench import QUICK, RATIOS
from interp_fast._benchmark import PROMISE

CASES = [(name, dtype) for name, regime in QUICK.items() if regime.steps == 0 for dtype in regime.types]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("regime", "dtype"), CASES, indirect=["regime"])
def test_denoiser(benchmark, note, problem, backend, regime, dtype, ratio):
    data, t = problem(regime.N, regime.d, dtype), 1 / (1 + ratio)
    x = data.queries(regime.M, t)
    field = itf.Field(data.rows, itf.Linear(), backend=backend)
    few, truth = x[:8], data.denoiser(x[:8], t)
    answer = {"denoiser": field.denoiser(x, t), "noise": field.noise(few, t)}  # compiles and prepares, too
    answer["denoiser"] = benchmark(field.denoiser, x, t)
    errors = data.errors(answer, few, truth, t)
    assert all(errors[key] <= promised for key, promised in PROMISE[result_type(dtype).name].items()), errors
    note(regime, dtype)
    benchmark.extra_info |= {"work": float(np.mean(field.posterior(x, t).work)), **errors}
