"""One evaluation of the field by how its rows are held: in few bits, on disk, without a copy, a slice at a time."""

from __future__ import annotations

import ml_dtypes  # noqa: F401  NumPy knows bfloat16 from then on
import numpy as np
import pytest

import interp_fast as itf
from interp_fast import backends

BACKEND = backends.available()[0]
RATIOS = (19.0, 1e-3)


class Source:
    """Shape, type and row slices are all there is."""

    def __init__(self, rows):
        self.shape, self.dtype, self._rows = rows.shape, rows.dtype, rows

    def __getitem__(self, rows):
        return self._rows[rows]


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("dtype", ["uint8", "float16", "bfloat16"])
@pytest.mark.parametrize("regime", ["images", "one-query"], indirect=True)
def test_stored_in_few_bits(denoiser, problem, regime, dtype, ratio):
    data = problem(regime.N, regime.d, dtype)
    denoiser(itf.Field(data.rows, itf.Linear(), backend=BACKEND), data, regime, dtype, ratio)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("held", ["low_memory", "mapped", "sliced"])
@pytest.mark.parametrize("regime", ["images", "one-query"], indirect=True)
def test_held_elsewhere(denoiser, problem, regime, held, ratio, tmp_path):
    data = problem(regime.N, regime.d, "float32")
    rows = Source(data.rows) if held == "sliced" else data.rows
    if held == "mapped":
        np.save(tmp_path / "rows.npy", rows)
        rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    field = itf.Field(rows, itf.Linear(), backend=BACKEND, low_memory=held == "low_memory")
    denoiser(field, data, regime, "float32", ratio)
