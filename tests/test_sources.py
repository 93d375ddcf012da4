"""Row sources: anything with shape, dtype and row slices gives the answers of the same rows in memory."""

import numpy as np
import oracle
import problems
import pytest

import interp_fast as itf
from interp_fast import _arrays


class Source:
    """Row slices and nothing else; counts the largest slice that was asked for."""

    def __init__(self, rows):
        self._rows, self.shape, self.dtype, self.largest = rows, rows.shape, rows.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        block = self._rows[rows]
        self.largest = max(self.largest, len(block))
        return block


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_arrays, "_BLOCK_BYTES", 8 * 5 * 7)  # blocks of 7 rows of 5


def _problem(dtype):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, 5)).astype(dtype)
    rows[[9, 23]] = rows[2]  # equal rows in three blocks
    weights = rng.random(40)
    weights[:8] = weights[30:] = 0.0  # the first block and the last ones weigh nothing
    weights[2] = 0.3
    x = np.concatenate([rows[[2, 11]].astype(float), rng.standard_normal((3, 5))])
    return rows, weights, x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("t", [0.0, 0.1, 0.6, 0.99, 1 - 1e-4, 1.0])
def test_posterior_is_that_of_the_rows_in_memory(small_blocks, dtype, weighted, t):
    rows, weights, x = _problem(dtype)
    source = Source(rows)
    options = {"weights": weights if weighted else None, "backend": "reference"}
    streamed, memory = itf.Field(source, **options), itf.Field(rows, **options)
    got, want = streamed.posterior(x, t, top=4), memory.posterior(x, t, top=4)
    assert source.largest <= 7
    for name in ("mean", "log_norm", "log_density", "ess", "entropy", "variance", "gap", "log_rest", "top_weight"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(got.index, want.index)
    heavy = want.top_weight > 1e-12
    np.testing.assert_array_equal(got.top_index[heavy], want.top_index[heavy])


def test_fields_samples_and_neighbours_are_those_of_the_rows_in_memory(small_blocks):
    rows, _, x = _problem(np.float64)
    streamed, memory = itf.Field(Source(rows), bandwidth=0.1), itf.Field(rows, bandwidth=0.1)
    np.testing.assert_allclose(streamed.jvp(x, 0.6, x[::-1].copy()), memory.jvp(x, 0.6, x[::-1].copy()), rtol=1e-9)
    np.testing.assert_allclose(streamed.divergence(x, 0.6), memory.divergence(x, 0.6), rtol=1e-9)
    steps = itf.ddpm(itf.Linear(), 12)
    a, b = (itf.sample(f, steps, 6, rng=4) for f in (streamed, memory))
    np.testing.assert_allclose(a.x, b.x, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(a.index, b.index)
    np.testing.assert_array_equal(a.commit_time, b.commit_time)
    first, second = streamed.draw(5, 0.5, rng=1), memory.draw(5, 0.5, rng=1)
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_allclose(first[0], second[0], rtol=1e-12)


def test_far_rows_of_different_blocks_tie(small_blocks, backend, dtype):
    """Blocks are compared by differences of distances, which rounding would decide: all but a millionth of them."""
    rows = np.random.default_rng(4).uniform(-20, 20, (40, 5)).astype(dtype)
    rows[[13, 33]] = rows[2]  # equal rows in three blocks
    t = 1 - 1e-4
    alpha, sigma = float(itf.Linear()(t).alpha), float(itf.Linear()(t).sigma)
    x = problems.far_ties(rows.astype(float), alpha, sigma)
    field = itf.Field(Source(rows), backend=backend)
    post, ref = field.posterior(x, t, top=3), oracle.posterior(rows, x, alpha, sigma)
    tight = 1e-5 if dtype == "float32" else 1e-10
    want = oracle.fields(ref, x, itf.Linear()(t))
    error = np.linalg.norm(field.noise(x, t) - want.noise, axis=1)
    assert (error <= 10 * tight * np.maximum(1, np.linalg.norm(want.noise, axis=1))).all()
    for name in ("ess", "entropy", "variance", "gap", "log_rest"):
        np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=tight, atol=tight, err_msg=name)
    np.testing.assert_allclose(post.top_weight, -np.sort(-np.exp(ref.log_weight), axis=1)[:, :3], atol=tight)
    blocks = post.top_index[:, :2] // 7
    assert (blocks[:, 0] != blocks[:, 1]).any()


def test_subset_and_isa_are_those_of_the_rows_in_memory(backend):
    rows, _, x = _problem(np.float64)
    streamed, memory = itf.Field(Source(rows), backend=backend), itf.Field(rows, backend=backend)
    assert streamed.isa == memory.isa
    chosen = [-1, 3, -40]
    np.testing.assert_array_equal(
        streamed.subset(chosen).denoiser(x, 0.9), itf.Field(rows[chosen], backend=backend).denoiser(x, 0.9)
    )


def test_bad_rows_in_a_source_are_named(small_blocks):
    rows, _, _ = _problem(np.float32)
    rows[17, 3] = np.nan
    with pytest.raises(ValueError, match="data must be finite; got nan in row 17, column 3"):
        itf.Field(Source(rows))
