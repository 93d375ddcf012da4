"""Nearest rows: backend x regime."""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf
from interp_fast.field import oracle_of


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("regime", ["images", "d64", "d2", "one-query"], indirect=True)
def test_nearest(benchmark, note, problem, backend, regime, dtype):
    data = problem(regime.N, regime.d, dtype)
    x = data.queries(regime.M, 0.99).astype(np.float64)
    rows = oracle_of(itf.Field(data.rows, itf.Linear(), backend=backend)).training_set
    rows.nearest(x, 2)
    index, squared = benchmark(rows.nearest, x, 2)
    for m in range(min(8, len(x))):
        direct = np.sum((data.values(slice(None)) - x[m]) ** 2, axis=1)
        expected = np.argsort(direct, kind="stable")[:2]
        np.testing.assert_array_equal(index[m], expected)
        np.testing.assert_allclose(squared[m], direct[expected], rtol=1e-12)
    note(regime, dtype)
    benchmark.extra_info["flops"] //= 2  # one product, no exponentials
