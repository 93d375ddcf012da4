"""Numbers near both ends of their type's range, and what the caller's thread does with them."""

from __future__ import annotations

import ctypes
import platform
from contextlib import contextmanager

import numpy as np
import oracle
import pytest

import interp_fast as itf
from interp_fast.field import oracle_of


def flow(size):
    """x = t x_1 + size (1 - t) z."""
    return itf.Custom(lambda t: t, lambda t: size * (1 - t), lambda t: 0 * t + 1, lambda t: 0 * t - size)


@pytest.mark.parametrize("m", [3, 20])
@pytest.mark.parametrize("d", [1, 12, 70])
@pytest.mark.parametrize("size", [1e-44, 1e-40, 1e-37, 1e37, 3e38])
def test_all_of_float32(engine, size, d, m):
    """The unit of subnormal rows has no inverse in float32: their scores were no numbers, and lists of them empty."""
    rng = np.random.default_rng(d)
    rows = (size * rng.uniform(-1, 1, (300, d))).astype(np.float32)
    x = 0.5 * rows[:m].astype(float) + 0.2 * size * rng.standard_normal((m, d))
    field = itf.Field(rows, flow(0.4 * size), backend=engine.backend)
    post, ref = field.posterior(x, 0.5, top=2), oracle.posterior(rows, x, 0.5, 0.2 * size)
    np.testing.assert_allclose(post.ess, ref.ess, rtol=1e-3)
    np.testing.assert_allclose(post.log_norm, ref.log_norm, atol=1e-3)
    np.testing.assert_array_equal(post.index, ref.index)
    noise = (x - 0.5 * ref.mean) / (0.2 * size)
    np.testing.assert_allclose(field.noise(x, 0.5), noise, atol=1e-4 * max(1, np.abs(noise).max()))


def test_samples_far_from_all_rows(engine):
    """A row that stands for none was as near as some row, and the list of the nearest ones too short."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5, 1))
    for size in (1e20, 1e29, 1e32, 1e39, 1e70):
        for side in (-1.0, 1.0):
            x = np.full((9, 1), side * size)
            index, squared = oracle_of(itf.Field(rows, backend=engine.backend)).training_set.nearest(x, 5)
            np.testing.assert_array_equal(np.sort(index), np.tile(np.arange(5), (9, 1)))
            np.testing.assert_allclose(squared, size**2)
    found = itf.memorization(1e39 * rng.standard_normal((9, 1)), rows[:2])
    np.testing.assert_allclose(found.ratio, 1)


@pytest.mark.parametrize("n", [2, 50])
@pytest.mark.parametrize("d", [1, 30])
def test_queries_far_from_subnormal_rows(engine, n, d):
    rows = np.zeros((n, d), np.float32)
    rows[1, 0] = 1e-39
    x = np.random.default_rng(0).standard_normal((20, d))
    index, squared = oracle_of(itf.Field(rows, backend=engine.backend)).training_set.nearest(x, 2)
    np.testing.assert_allclose(squared, np.tile((x**2).sum(1)[:, None], 2), rtol=1e-12)
    assert ((index >= 0) & (index < n)).all()
    field = itf.Field(rows, backend=engine.backend)
    for some in (x[:2], x):  # few queries, and many
        post, ref = field.posterior(some, 0.5, top=2), oracle.posterior(rows, some, 0.5, 0.5)
        np.testing.assert_allclose(post.ess, n)
        np.testing.assert_allclose(post.log_norm, ref.log_norm, rtol=1e-12)
        np.testing.assert_allclose(post.top_weight, 1 / n)
        assert (np.diff(np.sort(post.top_index)) > 0).all()


@pytest.mark.parametrize("size", [1e300, 2.0**600, 1e-100, 1e-200, 1e-310])
def test_data_out_of_range(engine, size):
    """Squares overflowed or vanished: the noise was off by 1 and nothing but NumPy said so."""
    rows = size * np.random.default_rng(0).standard_normal((5, 2))
    with pytest.raises(ValueError, match=r"data .*must be .* 2\*\*250 = 1\.8e75 in size; got .* another unit"):
        itf.Field(rows, backend=engine.backend)


@pytest.mark.parametrize("size", [1e-160, 1e-80, 1e80, 1e200])
def test_noise_out_of_range(engine, size):
    """It was said to be 0, or NaN."""
    rows, x = np.random.default_rng(0).standard_normal((2, 5, 2))
    match = r"must be 0 or between 2\*\*-250 = 5\.5e-76 and 2\*\*250"
    field = itf.Field(rows, flow(size), backend=engine.backend)
    for call in (field.score, field.denoiser, field.posterior, field.log_density):
        with pytest.raises(ValueError, match=f"sigma {match}"):
            call(x, 0.5)
    with pytest.raises(ValueError, match=f"sigma {match}"):
        itf.sample(field, itf.ddim(field.schedule, 3), 2, rng=0)
    with pytest.raises(ValueError, match=f"bandwidth {match}"):
        itf.Field(rows, bandwidth=size, backend=engine.backend)


def test_queries_out_of_range(engine):
    rows = np.random.default_rng(0).standard_normal((5, 2))
    field = itf.Field(rows, backend=engine.backend)
    with pytest.raises(ValueError, match=r"x must be at most 2\*\*250 .* row 1, column 0"):
        field.denoiser(np.array([[0.0, 0.0], [1e80, 0.0]]), 0.5)
    with pytest.raises(ValueError, match=r"samples must be at most 2\*\*250"):
        itf.memorization(np.full((2, 2), 1e80), rows)
    steep = itf.Custom(lambda t: 1e80 * t, lambda t: 1 - t, lambda t: 0 * t + 1e80, lambda t: 0 * t - 1)
    with pytest.raises(ValueError, match=r"alpha times data must be at most 2\*\*250"):
        itf.Field(rows, steep, backend=engine.backend).denoiser(np.zeros((1, 2)), 0.5)


FLUSH = 0x8040  # results and operands that are subnormal count as 0


def mode():
    """This thread's MXCSR, and glibc's fenv_t that it lies in."""
    state = (ctypes.c_uint32 * 8)()
    assert ctypes.CDLL("libm.so.6").fegetenv(state) == 0
    return state[7], state


@contextmanager
def flushed():
    _, before = mode()
    _, state = mode()
    state[7] |= FLUSH
    libm = ctypes.CDLL("libm.so.6")
    libm.fesetenv(state)
    try:
        yield
    finally:
        libm.fesetenv(before)


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.libc_ver()[0] != "glibc", reason="sets MXCSR by glibc")
@pytest.mark.parametrize("d", [2, 12, 70])
def test_callers_that_flush_subnormal_numbers(engine, d):
    """Threads of the pool had the mode of whoever started them, and took halves below 6e-5 for 0 or not."""
    rng = np.random.default_rng(d)
    rows = rng.integers(1, 1024, (1500, d)).astype(np.uint16).view(np.float16)
    assert 0 < rows.max() < 6.2e-5
    size = 5e-6 * np.sqrt(d)
    x = 0.5 * rows[:40].astype(float) + 0.5 * size * rng.standard_normal((40, d))
    ref = oracle.posterior(rows, x, 0.5, 0.5 * size)

    def answers(threads):
        field = itf.Field(rows, flow(size), backend=engine.backend, threads=threads)
        post = field.posterior(x, 0.5, top=2)
        run = itf.sample(field, itf.ddim(field.schedule, 5), 30, x0=size * rng_x0, rng=0)
        few = field.noise(x[:3], 0.5)
        return [
            post.mean,
            post.ess,
            post.log_rest,
            post.top_index,
            post.gap,
            run.x,
            few,
            oracle_of(field).training_set.nearest(x, 3)[1],
        ]

    rng_x0 = rng.standard_normal((30, d))
    want = answers(1)
    np.testing.assert_allclose(want[1], ref.ess, rtol=1e-3)
    np.testing.assert_allclose(want[6], (x[:3] - 0.5 * ref.mean[:3]) / (0.5 * size), atol=1e-4)
    for threads in (1,) if engine.backend == "reference" else (1, 2, 4):  # which has none
        with flushed():
            got = answers(threads)
            after = mode()[0]
        assert after & FLUSH == FLUSH
        for a, b, c in zip(want, got, answers(threads), strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(a, c)
    assert mode()[0] & FLUSH == 0


def test_weights_alone_at_time_zero(engine):
    """Beside the squares of far queries the weights had no digits left, where backend torch was asked for jvp."""
    rng = np.random.default_rng(0)
    rows, weights = 1e21 * rng.standard_normal((60, 4)), rng.uniform(0.5, 2, 60)
    field = itf.Field(rows.astype(np.float32), weights=weights, backend=engine.backend)
    p, rows = weights / weights.sum(), rows.astype(np.float32).astype(float)
    x = 3e21 * rng.standard_normal((40, 4))
    mean = p @ rows
    covariance = (p[:, None] * (rows - mean)).T @ (rows - mean)
    out = {"mean": np.empty_like(x), "jvp": np.empty_like(x), "ess": np.empty(40)}
    u = rng.standard_normal(x.shape)
    training = oracle_of(field).training_set
    training.posterior(x, np.zeros(40), np.ones(40), np.full(40, np.inf), out, u)
    np.testing.assert_allclose(out["ess"], 1 / (p @ p), rtol=1e-6)
    np.testing.assert_allclose(out["mean"], np.tile(mean, (40, 1)), rtol=1e-5)
    np.testing.assert_allclose(out["jvp"], u @ covariance, rtol=1e-3, atol=1e-5 * np.abs(covariance).max())


@pytest.mark.parametrize("t", [0.0, 0.5])
def test_a_far_row_of_no_weight(engine, t):
    """Rows counted from a centre that it had moved: backend torch took the mean of those at time 0."""
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((140, 4)), 10 ** rng.uniform(-30, 0, 140)
    rows[7], weights[7] = 1e12, 1e-60
    p, x = weights / weights.sum(), rng.standard_normal((20, 4))
    field = itf.Field(rows, weights=weights, backend=engine.backend)
    want = np.tile(p @ rows, (20, 1)) if t == 0 else oracle.posterior(rows, x, t, 1 - t, weights=weights).mean
    np.testing.assert_allclose(field.denoiser(x, t), want, atol=1e-10 * field.R)


@pytest.mark.parametrize("m", [1, 700])
def test_float64_results_out_of_range(m):
    """Of a few numbers the sum of squares was compared with an infinite one: jvp was inf."""
    rows = 2.0**200 * np.array([[1.0, 0.0], [-1.0, 0.0]])
    field, x = itf.Field(rows, itf.VELinear(2.0**-240)), np.zeros((m, 2))
    np.testing.assert_array_equal(field.jvp(x, 0.5, np.tile([2.0**-200, 0.0], (m, 1)))[:, 0], 2.0 ** (400 - 200 + 482))
    with pytest.raises(ValueError, match=r"jvp must stay within 1\.8e\+308"):
        field.jvp(x, 0.5, np.full_like(x, 2.0**200))


def test_copies_at_the_query_far_from_the_origin(engine):
    """The heaviest two rows were known to the last digit, the others were not: nobody looked at these."""
    rng = np.random.default_rng(0)
    rows, alpha, sigma = 5e7 + rng.standard_normal((13, 4)), 7.7e-6, 1.3e-5
    rows[:8] = rows[0]
    x = alpha * rows[[0, 9]]
    field = itf.Field(rows, backend=engine.backend)
    out = {name: np.empty(2) for name in ("scatter", "variance", "ess")}
    oracle_of(field).training_set.posterior(x, np.full(2, alpha), np.full(2, sigma), np.full(2, np.inf), out)
    ref = oracle.posterior(rows, x, alpha, sigma)
    for name, array in out.items():
        np.testing.assert_allclose(array, getattr(ref, "variance" if name == "scatter" else name), rtol=3e-11)


@pytest.mark.parametrize("m", [5, 5000])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_infinite_errors_of_any_type(dtype, m):
    """Limits beyond a type's range were infinite beside its numbers, and no infinite one was larger."""
    field = itf.Field(np.random.default_rng(0).standard_normal((20, 2)))
    steps = itf.ddim(field.schedule, 10)
    error = np.full((10, m, 2), 0.3, dtype)
    itf.sample(field, steps, m, error=error)  # without a warning, which would be an error
    error[2, m - 1, 1] = np.inf
    with pytest.raises(ValueError, match="error must be finite; got inf"):
        itf.sample(field, steps, m, error=error)
    with pytest.raises(ValueError, match="finite; got inf"):
        itf.theory.estimation_bound(field, steps, error)
