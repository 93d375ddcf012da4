"""Things that went wrong once, here or in trial code, each with the smallest case that shows it."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import oracle
import pytest

import interp_fast as itf
from interp_fast._accuracy import PROMISES
from interp_fast.field import oracle_of


@pytest.mark.parametrize("place", ["first", "middle", "last", "all but one"])
def test_blocks_of_rows_without_weight(engine, dtype, place):
    """The partial sum of a block in which no row weighs anything is empty: merging two of them made exp(-inf + inf)."""
    n = 6000
    rows = np.random.default_rng(1).standard_normal((n, 3)).astype(dtype)
    weights = np.ones(n)
    weights[
        {"first": slice(0, 4500), "middle": slice(500, 5000), "last": slice(1500, n), "all but one": slice(1, n)}[place]
    ] = 0
    flow = itf.Field(rows, weights=weights, backend=engine.backend)
    kept = weights > 0
    x = np.random.default_rng(2).standard_normal((3, 3))
    for t in (0.0, 0.5, 0.999):
        post = flow.posterior(x, t)
        ref = oracle.posterior(rows[kept], x, t, 1 - t)
        np.testing.assert_array_equal(post.index, np.flatnonzero(kept)[ref.index])
        np.testing.assert_allclose(post.mean, ref.mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(post.ess, ref.ess, rtol=1e-3)
    out = itf.sample(flow, itf.ddim(flow.schedule, 5), 4, rng=1)
    assert np.all(np.isfinite(out.x))


def test_rest_is_summed_and_not_subtracted(engine):
    """1 - w_max was 0 where the other weights sum to 4e-18."""
    rows = np.array([[0.0], [1.0], [1.01]])
    sigma = 1 / np.sqrt(2 * 40)
    t = 1 / (1 + sigma)
    post = itf.Field(rows, backend=engine.backend).posterior(np.zeros((1, 1)), t)
    want = np.log(np.exp(-40) + np.exp(-40 * 1.01**2))
    np.testing.assert_allclose(post.log_rest, want, rtol=1e-10)
    np.testing.assert_allclose(post.entropy, np.exp(-40) * 41 + np.exp(-40 * 1.01**2) * (1 + 40 * 1.01**2), rtol=1e-9)


def test_log_of_minus_infinity_and_large_logits(engine):
    """Fast arithmetic that assumes no infinities made the sum of (-inf, -1000, -1001) -inf."""
    flow = itf.Field(np.array([[0.0], [1.0], [2.0]]), weights=[0, 1, np.exp(-1.0)], backend=engine.backend)
    x = np.array([[1.5 - np.sqrt(2000)]])
    post = flow.posterior(x, 0.5)
    ref = oracle.posterior([[0.0], [1.0], [2.0]], x, 0.5, 0.5, [0, 1, np.exp(-1.0)])
    np.testing.assert_allclose(post.log_norm, ref.log_norm, rtol=1e-12)
    np.testing.assert_allclose(post.log_rest, ref.log_rest, rtol=1e-9)


def test_ties_at_the_data_end_have_no_gap():
    """The gap of tied rows of unequal weight was the logarithm of their ratio."""
    post = itf.Field(np.array([[1.0], [-1.0]]), weights=[1, 3], backend="reference").posterior(np.zeros(1), 1)
    assert post.gap == 0


@pytest.mark.filterwarnings("error")
def test_smoothed_data_where_alpha_has_an_infinite_slope():
    """alpha alpha_dot was 0 * inf at t = 0, a warning in every call of a field with a bandwidth."""
    rows, x = np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([[0.5, -0.5]])
    flow = itf.Field(rows, itf.SqrtVP(), bandwidth=0.2)
    np.testing.assert_allclose(flow.denoiser(x, 0.0), rows.mean(0, keepdims=True), rtol=1e-15)
    np.testing.assert_allclose(flow.noise(x, 0.0), x, rtol=1e-15)
    np.testing.assert_allclose(flow.log_density(x, 0.0), -0.25 - np.log(2 * np.pi), rtol=1e-15)
    with pytest.raises(ValueError, match="velocity is infinite"):
        flow.velocity(x, 0.0)


@pytest.mark.filterwarnings("error")
def test_results_that_no_float32_can_hold(engine):
    """They were infinities and a warning about a cast."""
    rows, x = np.array([[1e30, 0.0], [0.0, 2e38]], np.float32), np.array([[1e30, 1e25]])
    flow = itf.Field(rows, itf.VELinear(1e39), backend=engine.backend)
    calls = {
        "score": lambda: flow.with_schedule(itf.VELinear(1e-8)).score(x, 0.5),
        "velocity": lambda: flow.velocity(100 * x, 1 - 1e-12),
        "the samples": lambda: itf.sample(flow, itf.ddim(flow.schedule, [0.0, 0.1]), 50, rng=0),
        "the path": lambda: itf.sample(flow, itf.ddim(flow.schedule, [0.0, 0.1, 1.0]), 50, rng=0, keep="path"),
        "x": lambda: flow.draw(50, 0.0, rng=0),
    }
    for name, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{name} must stay within 3.4e.38, .*float32.*float64"):
            call()


def test_variance_beside_lighter_copies_of_the_heaviest_row(engine, dtype):
    """Rows were left out by how far they lie below a copy, which has no part in the variance, when one row did not."""
    rng = np.random.default_rng(20)
    away = rng.standard_normal((200, 20))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    x, weights = np.full((1, 20), 0.5), np.ones(200)
    weights[1] = np.exp(-12)
    for nats in range(50, 130, 4):  # of the first row that differs; then come thirty others, and those too far to count
        far = np.concatenate([[0, 0, nats], np.full(30, nats + 5), np.full(167, 5000)])
        rows = (2 * x + away * np.sqrt(2 * far)[:, None]).astype(dtype)
        post = itf.Field(rows, weights=weights, backend=engine.backend).posterior(x, 0.5)
        ref = oracle.posterior(rows, x, 0.5, 0.5, weights)
        np.testing.assert_allclose(post.variance, ref.variance, rtol=1e-3 if dtype == "float32" else 1e-9)


def test_subset_without_weight_is_an_error():
    """It was a NaN and a warning."""
    with pytest.raises(ValueError, match="weight"):
        itf.Field(np.ones((3, 1)), weights=[1, 0, 0]).subset([1, 2])


def test_subnormal_numbers_survive():
    """A library linked with fast-math start-up code flushed them to 0 in the whole process."""
    code = """
import numpy as np, interp_fast as itf
for backend in ("cpp", "numba", "reference"):
    field = itf.Field(np.ones((300, 70), np.float32), backend=backend, threads=2)
    field.denoiser(np.ones((200, 70)), 0.5)
    assert np.float64(1e-310) / np.array([2.0])[0] > 0 and np.float32(1e-40) * np.ones(1, np.float32)[0] > 0, backend
"""
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_concurrent_calls(engine):
    """One field from several Python threads, prepared by whoever comes first: the answers of calls one by one."""
    rng = np.random.default_rng(3)
    rows, x = rng.standard_normal((800, 30)), rng.standard_normal((8, 60, 30))
    alone = itf.Field(rows, backend=engine.backend, threads=2)
    want = [alone.velocity(q, 0.6) for q in x]
    shared = itf.Field(rows, backend=engine.backend, threads=2)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda q: shared.velocity(q, 0.6), x))
    np.testing.assert_array_equal(got, want)


def test_data_changed_after_the_call(engine):
    """Rows are kept by reference, weights are not: a caller's weights may change afterwards."""
    rows, weights = np.random.default_rng(4).standard_normal((20, 3)), np.ones(20)
    flow = itf.Field(rows, weights=weights, backend=engine.backend)
    before = flow.denoiser(np.zeros((1, 3)), 0.3)
    weights[:] = 0
    np.testing.assert_array_equal(flow.denoiser(np.zeros((1, 3)), 0.3), before)


def test_bytes_with_a_falling_scale(engine):
    """scale = (a, b) with a < 0 is a scale like any other."""
    stored = np.random.default_rng(5).integers(0, 256, (50, 6)).astype(np.uint8)
    flow = itf.Field(stored, scale=(-0.5, 3.0), backend=engine.backend)
    values = -0.5 * stored.astype(float) + 3
    x = 0.5 * values[:3]
    np.testing.assert_allclose(flow.denoiser(x, 0.5), oracle.posterior(values, x, 0.5, 0.5).mean, rtol=1e-5)


def test_a_light_row_as_far_as_the_heaviest(engine, dtype):
    """It passed for a copy, which says nothing about the variance, and its weight of e^-649 was cut from the rest."""
    rows = np.array([[0.5, -1.0, 0.25], [1.5, 0.5, 2.0]], dtype)
    flow = itf.Field(rows, weights=[1, 1e-282], backend=engine.backend)
    x = 0.25 * rows.astype(float).mean(axis=0, keepdims=True)
    post = flow.posterior(x, 0.25)
    ref = oracle.posterior(rows, x, 0.25, 0.75, [1, 1e-282])
    for name in ("gap", "log_rest", "entropy", "variance"):
        np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("d", [5, 20])
def test_rest_beside_sums_about_a_far_centre(engine, d):
    """Distances of 1e5 s^2 in common left 1 - w_max ten digits, of which a rest of 2e-5 kept five."""
    rng = np.random.default_rng(d)
    rows = rng.standard_normal((5, d))
    rows[2:] = rows[0]
    weights = [1.0, 1.7e-5, 1e-18, 0.0, 1.9e-8]
    t = 1 / (1 + 1.4e-3)
    x = t * rows[:2].mean(axis=0, keepdims=True)
    post = itf.Field(rows, weights=weights, backend=engine.backend).posterior(x, t)
    ref = oracle.posterior(rows, x, t, 1 - t, weights)
    kappa = 8 * 2.0**-53 * ref.kappa  # what a tie of far rows leaves undecided
    np.testing.assert_allclose(post.log_rest, ref.log_rest, atol=2e-9 + kappa.max())
    np.testing.assert_allclose(post.entropy, ref.entropy, rtol=2e-9 + kappa.max())


@pytest.mark.parametrize("copies", [3, 700, 1500])
def test_variance_beside_copies_of_the_heaviest_row(engine, dtype, copies):
    """On a row that is there many times the sums about the query held nothing else, and their variance was 0."""
    rng = np.random.default_rng(copies)
    rows = rng.standard_normal((2000, 3))
    rows *= (1 + rng.random((2000, 1))) / np.linalg.norm(rows, axis=1, keepdims=True)
    rows[:copies] = 0
    rows = (rows + 1).astype(dtype)
    t = 1 / (1 + 0.0735)  # the first other row weighs e^-92
    x = t * rows[:1].astype(float)
    post = itf.Field(rows, backend=engine.backend).posterior(x, t, top=3)
    ref = oracle.posterior(rows, x, t, 1 - t)
    tight = 1e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(post.variance, ref.variance, rtol=tight)
    np.testing.assert_allclose(post.log_rest, ref.log_rest, atol=tight)
    np.testing.assert_array_equal(post.top_index, [[0, 1, 2]])


@pytest.mark.parametrize("uneven", [False, True])
def test_statistics_where_every_row_is_there_many_times(engine, dtype, uneven):
    """What is one row to a search is as many as were given to every statistic."""
    rng = np.random.default_rng(7)
    rows = np.repeat(rng.standard_normal((12, 40)), 50, axis=0)
    order = rng.permutation(len(rows))
    rows = rows[order].astype(dtype)
    weights = np.where(rng.random(len(rows)) < 0.2, 0, rng.random(len(rows))) if uneven else None
    tight = 1e-3 if dtype == "float32" else 1e-9
    field = itf.Field(rows, weights=weights, backend=engine.backend)
    for ratio in (1.5, 0.05):
        t = 1 / (1 + ratio)
        x = t * rows[:10].astype(float) + (1 - t) * rng.standard_normal((10, 40))
        u = rng.standard_normal(x.shape)
        post = field.posterior(x, t, top=3)
        ref = oracle.posterior(rows, x, t, 1 - t, weights, u=u)
        for name in ("ess", "entropy", "variance"):
            np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=tight, err_msg=name)
        for name in ("gap", "log_rest", "log_norm"):
            np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=1e-6, atol=tight, err_msg=name)
        np.testing.assert_array_equal(rows[post.index], rows[ref.index])
        np.testing.assert_allclose(post.top_weight[:, 0], np.exp(ref.log_weight.max(axis=1)), atol=tight / 100)
        slope = t / (1 - t) ** 2
        error = np.linalg.norm(field.jvp(x, t, u) - slope * ref.product, axis=1)
        assert np.all(error <= tight * slope * ref.variance * np.linalg.norm(u, axis=1))


SCHEDULES = {
    "linear": itf.Linear(),
    "trigonometric": itf.Trigonometric(),
    "sqrt-vp": itf.SqrtVP(),
    "ve-linear": itf.VELinear(),
    "encoder-decoder": itf.EncoderDecoder(),
    "custom": itf.Custom(lambda t: -t * -1.0, lambda t: 1.0 - t),
    "custom of -0": itf.Custom(lambda t: np.where(t == 0, -0.0, t), lambda t: np.where(t == 1, -0.0, 1 - t)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("t", [-0.0, 5e-324, 1e-310, 1e-300])
@pytest.mark.parametrize("name", SCHEDULES)
def test_no_time_is_too_small(engine, name, t):
    """A ratio sigma / alpha of -inf made the cut NaN, and one backend then left rows out; one that overflows warned."""
    rows = np.random.default_rng(7).standard_normal((300, 64))
    x = 1.5 * np.random.default_rng(8).standard_normal((3, 64))
    flow = itf.Field(rows, SCHEDULES[name], backend=engine.backend)
    methods = ["denoiser", "score", "noise", "log_density"] + ["velocity", "divergence"] * (name != "sqrt-vp")
    for method in methods:
        got, want = getattr(flow, method)(x, t), getattr(flow, method)(x, 0.0)
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12, err_msg=method)
    np.testing.assert_allclose(flow.denoiser(x, np.array([t, 0.0, -0.0])), flow.denoiser(x, 0.0), atol=1e-12)
    np.testing.assert_allclose(flow.posterior(x, t).entropy, flow.posterior(x, 0.0).entropy, rtol=1e-12)
    np.testing.assert_allclose(flow.draw(4, t, rng=1)[0], flow.draw(4, 0.0, rng=1)[0], atol=1e-12)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("t", [0.0, -0.0, 5e-324, 1e-310])
def test_no_first_step_is_too_early(t):
    """Solvers and certificates divided by alpha where only alpha = 0 was left out."""
    flow, times = itf.Field(np.eye(3)), [t, 0.5, 0.9, 1.0]
    x = 7.0 * np.eye(3)
    for make in (itf.ddim, itf.ddpm, itf.heun, lambda s, t: itf.euler_maruyama(s, t, "sigma")):
        steps, exact = make(flow.schedule, times), make(flow.schedule, [0.0, *times[1:]])
        np.testing.assert_allclose(steps.B, exact.B, rtol=1e-12)
        a, b = (itf.sample(flow, table, x0=x, rng=0).x for table in (steps, exact))
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert not itf.theory.trapping(flow, x, t).trapped.any()
    bound = itf.theory.discretization_bound(flow, itf.ddim(flow.schedule, times), x)
    assert bound.valid.all()
    assert (bound.time > t).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_schedules_know_no_negative_zero(schedule):
    for t in (-0.0, 0.0, 1.0, np.array([-0.0, 0.5, 1.0])):
        for value in schedule(t):
            assert not np.any(np.signbit(value) & (np.asarray(value) == 0))
    assert schedule.lam(-0.0) == schedule.lam(0.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("predicts", ["score", "noise"])
def test_a_prediction_that_says_nothing_about_the_denoiser(predicts):
    """Next to t = 0 the quotient by alpha overflowed to inf."""
    model = itf.Model(lambda x, t: 0.0 * x, itf.Linear(), predicts=predicts)
    for t in (0.0, -0.0, 1e-310):
        with pytest.raises(ValueError, match=f"t must avoid {t!r}: there a {predicts}".replace("-0.0", "0.0")):
            model.denoiser(np.full((2, 3), 7.0), t)


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_spread_posteriors_in_many_dimensions_need_no_exact_sums(backend, monkeypatch):
    """Logits there have as many roundings as those of far ties, and rows that count lie too near for them to matter."""
    rows = np.random.default_rng(5).standard_normal((40, 4000))
    field, t = itf.Field(rows, backend=backend), 0.05
    x = t * rows[:2] + (1 - t) * np.random.default_rng(6).standard_normal((2, 4000))
    want = oracle.posterior(rows, x, t, 1 - t)

    def refuse(*_, **__):
        pytest.fail("sums of thousands of rows, added exactly")

    monkeypatch.setattr("interp_fast.backends.reference.exact_differences", refuse)
    post = field.posterior(x, t)
    np.testing.assert_allclose(post.ess, want.ess, rtol=1e-9)
    np.testing.assert_allclose(post.variance, want.variance, rtol=1e-9)
    assert (np.linalg.norm(post.mean - want.mean, axis=1) <= 1e-10 * np.linalg.norm(want.mean, axis=1)).all()


@pytest.mark.filterwarnings("error")
def test_noise_that_is_large_beyond_numbers_in_units_of_the_rms_radius():
    """All but one row weigh so little that R is tiny; sigma / (alpha R) overflowed with a warning."""
    rows = np.random.default_rng(0).standard_normal((65, 5))
    weights = np.r_[1.0, np.full(64, 1e-300)]
    field = itf.Field(rows, weights=weights)
    assert field.R < 1e-148
    np.testing.assert_allclose(field.posterior(rows[3:5], 1e-200).mean, rows[[0, 0]], rtol=1e-10)


def test_bfloat16_in_a_file_is_named(tmp_path):
    """NumPy's files keep two bytes a value and forget what they are."""
    np.save(tmp_path / "rows.npy", np.ones((3, 2), "V2"))
    for rows in (np.load(tmp_path / "rows.npy"), tmp_path / "rows.npy"):
        with pytest.raises(TypeError, match=r"got void16\. .*\.view\(ml_dtypes\.bfloat16\)"):
            itf.Field(rows)


@pytest.mark.filterwarnings("ignore:x cannot hold draws")
def test_a_query_farther_away_than_twice_the_digits(engine):
    """Squared distances agreed to more than 106 bits, and their difference was taken for none."""
    rng = np.random.default_rng(3)
    rows = (1e32 + 1e30 * rng.standard_normal((40, 66))).astype(np.float32)
    x, t = 1e35 * rng.standard_normal((5, 66)), 2e-30
    exact = [
        [sum(Fraction(float(r)) * Fraction(q) for r, q in zip(row, one, strict=True)) for row in rows]
        for one in x.tolist()
    ]
    norms = [sum(Fraction(float(r)) ** 2 for r in row) for row in rows]
    alpha = Fraction(t)
    logits = [[alpha * p - alpha**2 * n / 2 for p, n in zip(one, norms, strict=True)] for one in exact]
    best = [max(range(40), key=one.__getitem__) for one in logits]
    post = itf.Field(rows, backend=engine.backend).posterior(x, t)
    assert post.index.tolist() == best
    np.testing.assert_array_equal(post.mean, rows[best])
    gap = [one[i] - max(one[:i] + one[i + 1 :]) for one, i in zip(logits, best, strict=True)]
    np.testing.assert_allclose(post.gap, [float(g) for g in gap], rtol=1e-6)


def test_bfloat16_in_the_other_byte_order():
    """Its type prints as void; the values are the same."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows = np.random.default_rng(0).standard_normal((30, 5)).astype(ml_dtypes.bfloat16)
    swapped = rows.astype(rows.dtype.newbyteorder())
    x = np.random.default_rng(1).standard_normal((4, 5))
    want = itf.Field(rows.astype(np.float32)).denoiser(x, 0.6)

    class Source:
        shape, dtype = swapped.shape, swapped.dtype

        def __getitem__(self, some):
            return swapped[some]

    for given in (rows, swapped, Source()):
        np.testing.assert_allclose(itf.Field(given).denoiser(x, 0.6), want, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(itf.nearest(swapped, swapped, k=1).index[:, 0], np.arange(30))


def test_queries_in_bfloat16():
    """They are numbers, and the remedy said that they were none."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    field = itf.Field(np.zeros((3, 2)))
    with pytest.raises(
        TypeError, match=r"x must be float32 or float64; got bfloat16\. Pass x\.astype\(np\.float32\)\."
    ):
        field.denoiser(np.zeros((1, 2), ml_dtypes.bfloat16), 0.5)


def test_one_row_has_all_the_weight():
    """Rows without weight entered the origin, so that R came to 5e-189 and pairs were sought of one point."""
    field = itf.Field([[1.0], [4.0], [2.0], [7.0]], weights=[0, 1, 0, 0])
    assert field.R == 0
    best = itf.optimal_loss(field, [0.25, 0.5], 32, rng=0)
    assert best.loss.tolist() == best.stderr.tolist() == [0, 0]
    assert best.method.tolist() == ["exact", "exact"]


@pytest.mark.parametrize("d", [3, 74])
def test_log_densities_within_groups_far_apart(engine, dtype, d):
    """Formed about the centre, they were what rounding leaves of 10^17 nats."""
    rng = np.random.default_rng(0)
    groups = 8e10 * (rng.random((1200, 1)) < 0.5)
    rows = (groups + 5e4 * rng.standard_normal((1200, d))).astype(dtype)
    flow, t = itf.Field(rows, itf.VELinear(1e6), backend=engine.backend), 1 - 2e-4
    sigma = float(flow.schedule(t).sigma)
    x = rows[:6].astype(float) + sigma * rng.standard_normal((6, d)) * np.array([[0.3], [1], [1], [3], [100], [1000]])
    ref = oracle.posterior(rows, x, 1.0, sigma)
    promise = PROMISES[dtype].of_density(ref.log_density)
    assert (np.abs(flow.log_density(x, t) - ref.log_density) <= promise).all()


def test_equal_rows_at_times_before_the_end_and_at_it(engine):
    """The gap of all queries was that of the first one, which is 0 at t = 1."""
    weights = np.random.default_rng(0).random(9)
    field = itf.Field(np.ones((9, 3)), weights=weights, backend=engine.backend)
    post = field.posterior(np.ones((2, 3)), np.array([1.0, 0.5]))
    second, first = np.sort(weights)[-2:]
    np.testing.assert_allclose(post.gap, [0, np.log(first / second)], rtol=1e-9)


def test_off_weights_below_a_reference_of_fewer_digits(engine):
    """Beside the top row, which is excluded, all others came to 0; or the top row's own weight was off by some."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((24, 1)).astype(np.float16)
    assert_rest(engine, rows, 0.5 * rows[np.arange(400) % 24] + 8.5e-7 * rng.standard_normal((400, 1)), 8.5e-7)


def test_off_weights_of_the_best_row_that_its_own_rounding_cuts(engine):
    """The other one is 10^10 nats away: the best score, of a block, and its own differ by more than the cut."""
    rng = np.random.default_rng(0)
    rows = np.zeros((2, 8), np.float32)
    rows[:, 1], rows[:, 7] = [0.14140795, -0.07967091], [-0.01061812, -0.28098646]
    assert_rest(engine, rows, 0.5 * rows[1] + 1.05e-6 * rng.standard_normal((400, 8)), 1.05e-6)


def assert_rest(engine, rows, x, sigma):
    out, (alpha, sigma) = {"log_rest": np.empty(len(x))}, np.full((2, len(x)), [[0.5], [sigma]])
    field = itf.Field(rows, backend=engine.backend, tol=0.0)
    oracle_of(field).training_set.posterior(x.astype(float), alpha, sigma, np.inf, out)
    np.testing.assert_allclose(out["log_rest"], oracle.posterior(rows, x, alpha, sigma).log_rest, rtol=1e-6)


def test_off_weights_of_a_light_row_as_far_as_the_heaviest(engine):
    """The best score was rounded as the distance was, and 1 less its weight lost the digits of the rest."""
    rows, d = np.zeros((2, 9)), 9
    rows[0, 3] = 1
    x = np.zeros((1, d))
    x[0, 3] = 0.5
    for light in (1e-3, 3.5e-5, 1.6e-5, 1e-6):
        training = oracle_of(itf.Field(rows, weights=[light, 1 - light], backend=engine.backend)).training_set
        out = {"log_rest": np.empty(1)}
        training.posterior(x, np.ones(1), np.full(1, 0.01785), np.full(1, 80.0), out)
        np.testing.assert_allclose(out["log_rest"], np.log(light), rtol=0, atol=1e-10)


def test_equal_bytes_at_sigma_0(engine):
    """Of more equal rows than a list holds the others were summed, by logits that are none: ess was NaN."""
    rows = np.zeros((133, 47), np.uint8)
    rows[21, 45] = 255
    training = oracle_of(itf.Field(rows, scale=(1e-3, 1000.0), backend=engine.backend)).training_set
    alpha, sigma = np.array([1 - 2.0**-53, 1.0]), np.array([1e-8, 0.0])
    x = 1000 * alpha[:, None] + sigma[:, None] * np.random.default_rng(0).standard_normal((2, 47))
    out = {name: np.empty(2) for name in ("ess", "entropy")}
    training.posterior(x, alpha, sigma, np.full(2, np.inf), out)
    np.testing.assert_allclose(out["ess"], 132)
    np.testing.assert_allclose(out["entropy"], np.log(132))


def test_weights_of_a_row_farther_from_equal_ones_than_numbers_are_apart(engine):
    """Rows were counted in units of what rounding left of the equal ones, and the norm of the other cost it weight."""
    rng = np.random.default_rng(0)
    weights = rng.random(39)
    rows = np.ones((39, 14))
    rows[3] += 1e-16 * rng.standard_normal(14)
    field = itf.Field(rows, weights=weights, backend=engine.backend)
    post = field.posterior(0.01 + 0.05 * rng.standard_normal((7, 14)), 0.02)
    np.testing.assert_allclose(post.ess, weights.sum() ** 2 / (weights @ weights), rtol=1e-12)


def test_sums_that_are_enough_need_no_list_of_rows():
    """Where more rows are about as heavy as the heaviest than a list holds, sums were formed once more, in float64.

    Those of float32 are enough there; they differ from float64 by what only they leave.
    """
    pytest.importorskip("interp_fast._core")
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.standard_normal((256, 2)))[0].T
    rows = (rng.standard_normal((40_000, 2)) @ plane).astype(np.float32)
    field = itf.Field(rows, backend="cpp")
    t = 1 / 1.1
    x = field.draw(8, t, rng=1)[0].astype(np.float64)
    p = oracle_of(field).point(np.full(8, t), 8)
    data, out = oracle_of(field).training_set, {"mean": np.empty_like(x)}
    data.posterior(x, p.alpha, p.sigma, data.cut(None, p.ratio), out)
    wide = rows.astype(np.float64)
    logits = (t * x @ wide.T - 0.5 * t * t * np.einsum("ij,ij->i", wide, wide)) / (1 - t) ** 2
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    off = np.abs(out["mean"] - weights @ wide).max(axis=1)
    assert (off < 1e-6 * field.R).all()
    assert (off > 1e-10 * field.R).all()


@pytest.mark.parametrize(("n", "far"), [(120, 1), (20_000, 2000)], ids=["one row", "many rows"])
def test_sums_next_to_rows_far_from_the_center(engine, n, far):
    """Light rows were lost to the sum of a heavy one, and sums of rows along one line had a bias: the scatter, which is
    the difference of two squares there, was off by 3 and 5 times what is promised."""
    d, rng, promise = 9, np.random.default_rng(4), PROMISES["float32"]
    rows = rng.standard_normal((n, d)) * (0.1 if far == 1 else 1.0)
    direction = rng.standard_normal(d)
    direction *= np.linalg.norm(rows, axis=1).mean() / np.linalg.norm(direction)
    rows[:far] = (6 if far == 1 else rng.uniform(2, 4, (far, 1))) * direction
    rows = rows.astype(np.float32)
    m = 24
    y = rng.uniform(1, 2.5, (m, 1)) * (6 if far == 1 else 4) * direction + 0.01 * rng.standard_normal((m, d))
    away = np.stack([((one - rows) ** 2).sum(axis=1) for one in y])
    s = np.sqrt((np.median(away, axis=1) - away.min(axis=1)) / rng.uniform(2, 30, m))
    out = {"mean": np.empty((m, d)), "scatter": np.empty(m)}
    training = oracle_of(itf.Field(rows, backend=engine.backend)).training_set
    training.posterior(y, np.ones(m), s, np.full(m, np.inf), out, None)
    ref = oracle.posterior(rows, y, np.ones(m), s)
    radius = training.moments.radius
    off = np.linalg.norm(out["mean"] - ref.mean, axis=1) / np.maximum(np.linalg.norm(ref.mean, axis=1), radius)
    assert off.max() <= promise.denoiser
    assert (np.abs(out["scatter"] - ref.variance) / np.maximum(ref.variance, radius**2)).max() <= promise.scatter


def test_weights_of_queries_along_a_row(engine):
    """Products with such a row are of one sign, and partial sums grow: its weight, 1, was off by 3e-5."""
    rng = np.random.default_rng(1)
    m, d = 64, 64
    rows = rng.standard_normal((2, d)).astype(np.float32)
    x = np.linspace(1.5, 8, m)[:, None] * (rows[0] - rows.mean(axis=0)) + rows.mean(axis=0)
    flow = oracle_of(itf.Field(rows, backend=engine.backend))
    out = {"log_norm": np.empty(m), "top_index": np.zeros((m, 2), np.int64), "top_weight": np.empty((m, 2))}
    sigma = np.sqrt(rng.uniform(0.02, 0.3, m)) * flow.training_set.moments.radius
    flow.training_set.posterior(x, np.ones(m), sigma, np.full(m, np.inf), out, None)
    ref = oracle.posterior(rows, x, np.ones(m), sigma)
    want = -np.sort(-np.exp(ref.log_weight), axis=1)
    np.testing.assert_allclose(out["top_weight"], want, rtol=0, atol=PROMISES["float32"].weight)


def test_variance_beyond_a_row_that_is_next_to_the_heaviest(engine):
    """No square tells 5e-324 from 0, and next to a row there nothing was looked for: the variance was 0."""
    rows, weights = np.zeros((4, 20)), np.array([1.0, 1e-70, 1e-80, 1e-211])
    rows[2, 9], rows[3, 18] = 5e-324, 1.0
    x = 0.1 * np.random.default_rng(0).standard_normal((5, 20))
    post = itf.Field(rows, weights=weights, backend=engine.backend).posterior(x, 0.86)
    ref = oracle.posterior(rows, x, 0.86, 1 - 0.86, weights)
    np.testing.assert_allclose(post.variance, ref.variance, rtol=1e-9)
