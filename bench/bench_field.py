"""One evaluation of the field: backend x regime x type x sigma/alpha."""

from __future__ import annotations

import pytest

import interp_fast as itf
from interp_fast._bench import QUICK, RATIOS

CASES = [(name, dtype) for name, regime in QUICK.items() if regime.steps == 0 for dtype in regime.types]
BAND = 2.0  # where posteriors begin to sharpen: many rows have some weight, few have none


@pytest.mark.parametrize("ratio", [*RATIOS, BAND])
@pytest.mark.parametrize(("regime", "dtype"), CASES, indirect=["regime"])
def test_denoiser(denoiser, problem, backend, regime, dtype, ratio):
    data = problem(regime.N, regime.d, dtype)
    denoiser(itf.Field(data.rows, itf.Linear(), backend=backend), data, regime, dtype, ratio)
