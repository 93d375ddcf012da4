"""The promises in figures: the README says what the table says, and the table what the defaults of ``tol`` do."""

import re
from pathlib import Path

import numpy as np
import pytest

import interp_fast as itf
from interp_fast._accuracy import PROMISES
from interp_fast.field import oracle_of

README = (Path(__file__).parent.parent / "README.md").read_text()
ROWS = {
    "ẑ": lambda p: [p.noise],
    "D": lambda p: [p.denoiser],
    "log density": lambda p: [p.density, p.density_slope],
    "gap": lambda p: [p.off_weights],
}


@pytest.mark.parametrize("row", ROWS)
def test_the_readme_promises_what_is_kept(row):
    line = re.search(rf"^\| {row}[:,| ].*$", README, re.MULTILINE)[0]
    *_, float64, float32 = (part for part in re.split(r"(?<!\\)\|", line) if part.strip())
    for cell, kind in ((float64, "float64"), (float32, "float32")):
        assert [float(figure) for figure in re.findall(r"\d+e-\d+", cell)] == ROWS[row](PROMISES[kind]), line


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_may_be_skipped(dtype):
    """N rows of weight e^-cut, no farther than 2 reach, move D by the promise; field calls keep that of z as well."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((50, 3)).astype(dtype)
    data = oracle_of(itf.Field(rows)).training_set
    farthest = 2 * data.moments.reach / data.moments.radius
    promise = PROMISES[dtype]
    assert 50 * np.exp(-data.cut(None)) * farthest == pytest.approx(promise.skipped)
    assert 50 * np.exp(-data.cut(1e-3)) * farthest == pytest.approx(1e-3)
    early, late = 50 * np.exp(-data.cut(None, np.array([1e3, 1e-4]))) * farthest
    assert early == pytest.approx(promise.skipped)
    assert late * data.moments.radius / 1e-4 == pytest.approx(promise.skipped_noise)
    assert data.cut(0.0) == np.inf
