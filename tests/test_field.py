"""The oracle as users meet it: identities, ends of time, shapes and types, weights, bandwidth, subsets, draws."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracle
import problems
import pytest
from scipy import stats

import interp_fast as itf

INSIDE = [
    itf.Linear(), itf.Trigonometric(), itf.SqrtVP(), itf.LatentBridge(), itf.LatentBridge(c=2), itf.VP(),
    itf.VEGeometric(), itf.VELinear(), itf.EncoderDecoder(),
]  # fmt: skip
PENTAGON = 2 * np.stack([np.cos(2 * np.pi * np.arange(5) / 5), np.sin(2 * np.pi * np.arange(5) / 5)], 1)


def cloud(schedule, rows, t, m=6, seed=0):
    c = schedule(t)
    return problems.forward(rows, float(c.alpha), float(c.sigma), m, seed)


# Identities


@pytest.mark.parametrize("bandwidth", [0.0, 0.4])
@pytest.mark.parametrize("schedule", INSIDE, ids=repr)
def test_linear_relations(backend, schedule, bandwidth):
    """x = alpha D + sigma z, s = -z / sigma, v = alpha_dot D + sigma_dot z = eta x + kappa D."""
    flow = itf.Field(PENTAGON, schedule, bandwidth=bandwidth, backend=backend)
    for t in (0.1, 0.6, 0.95):
        c = schedule(t)
        x = cloud(schedule, PENTAGON, t)
        D, z, s, v = (getattr(flow, name)(x, t) for name in ("denoiser", "noise", "score", "velocity"))
        tight = {"rtol": 1e-11, "atol": 1e-11 * (1 + np.abs(v).max())}
        np.testing.assert_allclose(c.alpha * D + c.sigma * z, x, **tight)
        np.testing.assert_allclose(c.sigma * s, -z, **tight)
        np.testing.assert_allclose(c.alpha_dot * D + c.sigma_dot * z, v, **tight)


def gradient(f, x, h):
    """Central differences of a function of queries (M, d), fourth order: (..., d)."""
    columns = []
    for j in range(x.shape[1]):
        e = np.zeros(x.shape[1])
        e[j] = h
        columns.append((8 * (f(x + e) - f(x - e)) - (f(x + 2 * e) - f(x - 2 * e))) / (12 * h))
    return np.stack(columns, -1)


@pytest.mark.parametrize("bandwidth", [0.0, 0.4])
@pytest.mark.parametrize("schedule", INSIDE, ids=repr)
def test_derivatives(backend, schedule, bandwidth):
    """score is the gradient of log_density, jvp the derivative of the denoiser, divergence that of the velocity."""
    flow = itf.Field(PENTAGON, schedule, bandwidth=bandwidth, weights=[1, 2, 3, 4, 5], backend=backend)
    for ratio in (1.5, 0.6):  # sigma / alpha at which rows share the posterior, so that no derivative is all rounding
        t = schedule.time_at(-np.log(ratio))
        x = cloud(schedule, PENTAGON, t)
        h = 1e-3 * np.hypot(schedule(t).sigma, bandwidth)
        s = gradient(lambda q, t=t: flow.log_density(q, t), x, h)
        np.testing.assert_allclose(flow.score(x, t), s, rtol=1e-7, atol=1e-7 * np.abs(s).max())
        jacobian = gradient(lambda q, t=t: flow.denoiser(q, t), x, h)
        u = np.random.default_rng(2).standard_normal(x.shape)
        want = np.einsum("mij,mj->mi", jacobian, u)
        np.testing.assert_allclose(flow.jvp(x, t, u), want, rtol=1e-7, atol=1e-7 * np.abs(want).max())
        np.testing.assert_allclose(jacobian, np.swapaxes(jacobian, 1, 2), atol=1e-6 * np.abs(jacobian).max())
        trace = np.trace(gradient(lambda q, t=t: flow.velocity(q, t), x, h), axis1=1, axis2=2)
        np.testing.assert_allclose(flow.divergence(x, t), trace, rtol=1e-6, atol=1e-6 * np.abs(trace).max())


@pytest.mark.parametrize("schedule", [itf.Linear(), itf.VP(), itf.LatentBridge()], ids=repr)
def test_continuity_equation(schedule):
    """d log p / dt + v . s + div v = 0."""
    flow = itf.Field(PENTAGON, schedule)
    for t in (0.3, 0.7):
        x = cloud(schedule, PENTAGON, t)
        h = 1e-4
        rate = (flow.log_density(x, t + h) - flow.log_density(x, t - h)) / (2 * h)
        flux = (flow.velocity(x, t) * flow.score(x, t)).sum(1) + flow.divergence(x, t)
        np.testing.assert_allclose(rate, -flux, rtol=1e-5, atol=1e-5)


def test_shift(backend, dtype):
    """Data shifted by c and x by alpha c shift D by c and leave the statistics alone: also by 1e4 in float32."""
    rng = np.random.default_rng(1)
    rows = (np.round(rng.standard_normal((150, 9)) * 64) / 64).astype(dtype)
    shift = np.full(9, 1e4)
    flow = itf.Field(rows, backend=backend)
    moved = itf.Field((rows + shift).astype(dtype), backend=backend)
    t = 0.75  # exact, with everything on a grid
    x = np.round(cloud(itf.Linear(), rows, t) * 1024) / 1024
    away = flow.posterior(x, t)
    there = moved.posterior(x + t * shift, t)
    tight = 1e-4 if dtype == "float32" else 1e-8
    for name in ("ess", "entropy", "gap", "variance", "log_rest", "log_norm"):
        np.testing.assert_allclose(getattr(there, name), getattr(away, name), rtol=tight, atol=tight, err_msg=name)
    np.testing.assert_array_equal(there.index, away.index)
    np.testing.assert_allclose(moved.noise(x + t * shift, t), flow.noise(x, t), rtol=0, atol=tight)
    np.testing.assert_allclose(there.mean - shift, away.mean, rtol=0, atol=5e-3 if dtype == "float32" else 1e-8)


def test_every_row_twice(backend, dtype):
    """Doubles ess, adds log 2 to entropy, makes gap 0, and changes nothing else."""
    rows = problems.problem("gauss").rows[:123].astype(dtype)
    once, twice = itf.Field(rows, backend=backend), itf.Field(np.repeat(rows, 2, axis=0), backend=backend)
    tight = 1e-5 if dtype == "float32" else 1e-10
    for t in (0.1, 0.3, 0.6, 1.0):
        x = cloud(itf.Linear(), rows, t)
        a, b = once.posterior(x, t, top=2), twice.posterior(x, t, top=4)
        np.testing.assert_allclose(b.ess, 2 * a.ess, rtol=tight)
        np.testing.assert_allclose(b.entropy, a.entropy + np.log(2), rtol=tight, atol=tight)
        np.testing.assert_array_equal(b.gap, 0)
        np.testing.assert_array_equal(b.index, 2 * a.index)
        for name in ("mean", "log_norm", "log_density", "variance"):
            np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=tight, atol=tight, err_msg=name)
        if t < 1:
            np.testing.assert_array_equal(b.top_index[:, :2], np.stack([2 * a.index, 2 * a.index + 1], 1))
            np.testing.assert_allclose(b.top_weight[:, ::2], a.top_weight / 2, rtol=10 * tight, atol=tight)


@pytest.mark.parametrize("bandwidth", [0.0, 0.7])
def test_is_a_gaussian_mixture(backend, bandwidth):
    """scikit-learn's GaussianMixture with centres alpha x_i and spherical covariances is p_t, weights included."""
    from sklearn.mixture import GaussianMixture

    rng = np.random.default_rng(3)
    rows, weights = rng.standard_normal((30, 4)), rng.uniform(0.1, 1, 30)
    flow = itf.Field(rows, itf.VP(), weights=weights, bandwidth=bandwidth, backend=backend)
    for t in (0.2, 0.7, 0.97):
        c = itf.VP()(t)
        variance = np.full(30, c.sigma**2 + (c.alpha * bandwidth) ** 2)
        mixture = GaussianMixture(30, covariance_type="spherical")
        mixture.weights_, mixture.means_ = weights / weights.sum(), c.alpha * rows
        mixture.covariances_, mixture.precisions_cholesky_ = variance, variance**-0.5
        x = cloud(itf.VP(), rows, t)
        np.testing.assert_allclose(flow.log_density(x, t), mixture.score_samples(x), rtol=1e-11)
        post = flow.posterior(x, t, top=30)
        responsibility = np.take_along_axis(mixture.predict_proba(x), post.top_index, 1)
        np.testing.assert_allclose(post.top_weight, responsibility, atol=1e-11)


def test_bandwidth_is_many_rows():
    """Smoothing the data with N(0, delta^2) is what many jittered copies of the rows tend to."""
    rng = np.random.default_rng(4)
    copies = np.repeat(PENTAGON, 20_000, axis=0) + 0.5 * rng.standard_normal((100_000, 2))
    smooth, jittered = itf.Field(PENTAGON, bandwidth=0.5), itf.Field(copies)
    for t in (0.3, 0.6):
        x = cloud(itf.Linear(), PENTAGON, t)
        np.testing.assert_allclose(smooth.denoiser(x, t), jittered.denoiser(x, t), atol=0.06)
        np.testing.assert_allclose(smooth.log_density(x, t), jittered.log_density(x, t), atol=0.06)


# Ends of time


def test_noise_end(backend, dtype):
    """alpha = 0: the weighted mean, whatever x; p_0 is a standard normal."""
    p = problems.problem("gauss")
    rows, weights = p.rows.astype(dtype), np.linspace(0, 1, len(p.rows))
    flow = itf.Field(rows, weights=weights, backend=backend)
    mean, radius = oracle.radius(rows, weights)
    x = np.random.default_rng(5).standard_normal((4, 37))
    tight = {"rtol": 3e-6, "atol": 3e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(flow.denoiser(x, 0), np.tile(mean, (4, 1)), **tight)
    np.testing.assert_allclose(flow.score(x, 0), -x, **tight)
    np.testing.assert_allclose(flow.noise(x, 0), x, **tight)
    np.testing.assert_allclose(flow.velocity(x, 0), mean - x, **tight)
    np.testing.assert_allclose(flow.log_density(x, 0), stats.norm.logpdf(x).sum(1), rtol=1e-12)
    np.testing.assert_allclose(flow.divergence(x, 0), -37, rtol=1e-12)
    np.testing.assert_array_equal(flow.jvp(x, 0, x), 0)
    post = flow.posterior(x, 0, top=1)
    np.testing.assert_allclose(post.variance, radius**2, rtol=1e-6)
    np.testing.assert_array_equal(post.index, len(rows) - 1)
    np.testing.assert_allclose(post.top_weight, 2 / len(rows), rtol=1e-12)


def test_data_end(backend, dtype):
    """t = 1: the nearest row, ties averaged by weight; what is singular raises; log_density is -inf or inf."""
    rows = np.array([[1, 0], [-1, 0], [0, 8], [0, 8]], dtype)
    flow = itf.Field(rows, weights=[3, 1, 2, 2], backend=backend)
    x = np.array([[0.2, 0.1], [0.0, 0.0], [0.0, 8.0], [1.0, 0.0]])
    np.testing.assert_allclose(flow.denoiser(x, 1), [[1, 0], [0.5, 0], [0, 8], [1, 0]], rtol=1e-6)
    for name in ("score", "velocity", "noise"):
        with pytest.raises(ValueError, match=r"\bt\b"):
            getattr(flow, name)(x, 1.0)
        with pytest.raises(ValueError, match=r"\bt\b"):
            getattr(flow, name)(x, np.array([0.2, 0.5, 1.0, 0.3]))
    np.testing.assert_array_equal(flow.log_density(x, 1.0), [-np.inf, -np.inf, np.inf, np.inf])
    post = flow.posterior(x, 1, top=2)
    np.testing.assert_array_equal(post.log_norm, -np.inf)
    np.testing.assert_array_equal(post.gap, [np.inf, 0, 0, np.inf])
    np.testing.assert_allclose(post.ess, [1, 1 / (0.75**2 + 0.25**2), 2, 1], rtol=1e-12)
    np.testing.assert_array_equal(post.index, [0, 0, 2, 0])
    np.testing.assert_allclose(post.top_weight, [[1, 0], [0.75, 0.25], [0.5, 0.5], [1, 0]], atol=1e-12)


def test_data_end_of_smoothed_data(backend):
    """With a bandwidth nothing is singular at t = 1: the field of a kernel density estimate."""
    for schedule in (itf.Linear(), itf.SqrtVP(), itf.Trigonometric(), itf.VELinear()):
        flow = itf.Field(PENTAGON, schedule, bandwidth=0.5, backend=backend)
        x = np.random.default_rng(6).standard_normal((5, 2))
        ref = oracle.posterior(PENTAGON, x, 1.0, 0.0, bandwidth=0.5)
        np.testing.assert_allclose(flow.denoiser(x, 1), x, rtol=1e-12)
        np.testing.assert_allclose(flow.score(x, 1), (ref.mean - x) / 0.25, rtol=1e-10)
        np.testing.assert_allclose(flow.noise(x, 1), 0, atol=1e-12)
        np.testing.assert_allclose(flow.log_density(x, 1), ref.log_density, rtol=1e-10)
        np.testing.assert_allclose(flow.velocity(x, 1), flow.velocity(x, 1 - 1e-12), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(flow.divergence(x, 1), flow.divergence(x, 1 - 1e-12), rtol=1e-6, atol=1e-5)


def test_limits_are_continuous(backend):
    """The ends are what their neighbourhoods tend to."""
    flow = itf.Field(PENTAGON, weights=[1, 2, 3, 4, 5], backend=backend)
    x = np.array([[0.3, 0.4], [1.9, 0.1], [-3.0, 1.0]])
    np.testing.assert_allclose(flow.denoiser(x, 0), flow.denoiser(x, 1e-9), rtol=1e-6)
    np.testing.assert_allclose(flow.denoiser(x, 1), flow.denoiser(x, 1 - 1e-6), rtol=1e-9)
    np.testing.assert_allclose(flow.velocity(x, 0), flow.velocity(x, 1e-9), rtol=1e-6)


def test_a_schedule_that_never_reaches_zero(backend):
    """VEGeometric has sigma_min at t = 1 and alpha = 1 at t = 0: neither end is special."""
    schedule = itf.VEGeometric(sigma_min=1, sigma_max=50)
    flow = itf.Field(PENTAGON, schedule, backend=backend)
    x = np.random.default_rng(7).standard_normal((3, 2))
    for t, sigma in ((0, 50.0), (1, 1.0)):
        ref = oracle.posterior(PENTAGON, x, 1.0, sigma)
        np.testing.assert_allclose(flow.denoiser(x, t), ref.mean, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(flow.score(x, t), (ref.mean - x) / sigma**2, rtol=1e-10, atol=1e-12)


def test_noise_half_of_encoder_decoder(backend):
    """alpha = 0 up to t = 1/2: the mean, and v = eta x."""
    flow = itf.Field(PENTAGON + 1, itf.EncoderDecoder(), backend=backend)
    x = np.random.default_rng(8).standard_normal((3, 2))
    c = itf.EncoderDecoder()(0.2)
    np.testing.assert_allclose(flow.denoiser(x, 0.2), 1, rtol=1e-12)
    np.testing.assert_allclose(flow.velocity(x, 0.2), c.sigma_dot / c.sigma * x, rtol=1e-12)


# Times


def test_kinds_of_time(backend):
    """Python ints, NumPy scalars, 0-d arrays and lists mean the float64 they hold."""
    flow = itf.Field(PENTAGON, backend=backend)
    x = cloud(itf.Linear(), PENTAGON, 0.3)
    want = flow.denoiser(x, 0.3)
    for t in (np.float64(0.3), np.array(0.3), [0.3] * 6, np.full(6, 0.3)):
        np.testing.assert_array_equal(flow.denoiser(x, t), want)
    narrow = float(np.float32(0.3))
    assert narrow != 0.3
    for t in (np.float32(0.3), np.full(6, 0.3, np.float32)):
        np.testing.assert_array_equal(flow.denoiser(x, t), flow.denoiser(x, narrow))
    for t in (1, np.int64(1), np.ones(6, int), 1.0):
        np.testing.assert_array_equal(flow.denoiser(x, t), flow.denoiser(x, 1.0))
    np.testing.assert_array_equal(flow.denoiser(x, 0), flow.denoiser(x, 0.0))


@pytest.mark.parametrize("m", [1, 2, 3, 7])
def test_a_time_for_each_query(backend, dtype, m):
    """t (M,) belongs to the queries, also when M = d, when M = 1, and when some times are ends."""
    rng = np.random.default_rng(9)
    rows = rng.standard_normal((40, 3)).astype(dtype)
    flow = itf.Field(rows, backend=backend)
    x = rng.standard_normal((m, 3))
    t = np.array([0.0, 0.9, 1.0, 0.5, 0.2, 0.99, 0.7])[:m]
    u = rng.standard_normal((m, 3))
    tight = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(flow.denoiser(x, t), [flow.denoiser(q, s) for q, s in zip(x, t, strict=True)], **tight)
    t = np.minimum(t, 0.999)
    for name in ("velocity", "score", "noise", "log_density", "divergence"):
        method = getattr(flow, name)
        want = [method(q, s) for q, s in zip(x, t, strict=True)]
        np.testing.assert_allclose(method(x, t), want, rtol=tight["rtol"], atol=tight["atol"] * np.abs(want).max())
    want = np.array([flow.jvp(q, s, v) for q, s, v in zip(x, t, u, strict=True)])
    np.testing.assert_allclose(flow.jvp(x, t, u), want, rtol=tight["rtol"], atol=tight["atol"] * np.abs(want).max())


# Shapes, types and layouts


FIELD_TYPES = {"float32": np.float32, "float64": np.float64, "uint8": np.float32, "float16": np.float32}
VECTORS = ("denoiser", "velocity", "score", "noise")


@pytest.mark.parametrize("query", ["float32", "float64"])
@pytest.mark.parametrize("stored", FIELD_TYPES)
def test_types_and_shapes_of_results(backend, stored, query):
    """The data decide the type of fields; statistics are float64, indices int64; the query's leading shape is kept."""
    rows = np.arange(24).reshape(8, 3).astype(stored)
    flow = itf.Field(rows, backend=backend)
    for x in (np.ones(3, query), np.ones((1, 3), query), np.ones((4, 3), query), np.ones((0, 3), query)):
        lead = x.shape[:-1]
        for name in VECTORS:
            out = getattr(flow, name)(x, 0.5)
            assert (out.shape, out.dtype) == (x.shape, FIELD_TYPES[stored])
        assert flow.jvp(x, 0.5, x).dtype == FIELD_TYPES[stored]
        assert flow.jvp(x, 0.5, x).shape == x.shape
        for name in ("log_density", "divergence"):
            out = np.asarray(getattr(flow, name)(x, 0.5))
            assert (out.shape, out.dtype) == (lead, np.float64)
        post = flow.posterior(x, 0.5, top=2)
        assert (post.mean.shape, post.mean.dtype) == (x.shape, FIELD_TYPES[stored])
        for name in (
            "log_norm",
            "log_density",
            "ess",
            "entropy",
            "variance",
            "gap",
            "log_rest",
            "work",
            "dropped",
            "certificate",
            "rounding",
        ):
            out = np.asarray(getattr(post, name))
            assert (out.shape, out.dtype) == (lead, np.float64), name
        assert (np.asarray(post.index).shape, np.asarray(post.index).dtype) == (lead, np.int64)
        assert (post.top_index.shape, post.top_index.dtype) == ((*lead, 2), np.int64)
        assert (post.top_weight.shape, post.top_weight.dtype) == ((*lead, 2), np.float64)
    assert flow.posterior(np.ones((4, 3), query), 0.5).top_index.shape == (4, 0)


def test_layouts_of_data_and_queries(backend, dtype, tmp_path):
    """Read-only memmap, strided, Fortran and byte-swapped data; strided, Fortran and read-only queries."""
    rng = np.random.default_rng(10)
    rows, x = rng.standard_normal((60, 7)).astype(dtype), rng.standard_normal((5, 7)).astype(dtype)
    np.save(tmp_path / "rows.npy", rows)
    wide = np.zeros((120, 14), dtype)
    wide[::2, ::2] = rows
    still = x.copy()
    still.flags.writeable = False
    want = itf.Field(rows, backend=backend).denoiser(x, 0.6)
    tight = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    layouts = {
        "memmap": np.load(tmp_path / "rows.npy", mmap_mode="r"),
        "strided": wide[::2, ::2],
        "row stride": np.concatenate([rows, rows], 1)[:, :7],
        "reversed": rows[::-1][::-1],
        "fortran": np.asfortranarray(rows),
        "byte-swapped": rows.astype(rows.dtype.newbyteorder(">")),
    }
    for name, data in layouts.items():
        np.testing.assert_allclose(itf.Field(data, backend=backend).denoiser(x, 0.6), want, err_msg=name, **tight)
    flow = itf.Field(rows, backend=backend)
    spaced = np.zeros((10, 14), dtype)
    spaced[::2, ::2] = x
    for q in (still, spaced[::2, ::2], np.asfortranarray(x), x.astype(x.dtype.newbyteorder(">"))):
        np.testing.assert_array_equal(flow.denoiser(q, 0.6), flow.denoiser(x, 0.6))


def test_arguments_are_left_alone(backend, dtype):
    rng = np.random.default_rng(11)
    rows, x, weights = rng.standard_normal((30, 4)).astype(dtype), rng.standard_normal((3, 4)), rng.uniform(0, 1, 30)
    copies = rows.copy(), x.copy(), weights.copy()
    flow = itf.Field(rows, weights=weights, backend=backend)
    flow.velocity(x, 0.4)
    flow.posterior(x, 0.99, top=3)
    flow.jvp(x, 0.4, x)
    for given, before in zip((rows, x, weights), copies, strict=True):
        np.testing.assert_array_equal(given, before)


def test_batch_as_wide_as_the_data(backend):
    """M = d, M = N and M = an image's width are batch sizes like any other."""
    rows = problems.problem("digits").rows[:64]
    flow = itf.Field(rows, backend=backend)
    x = cloud(itf.Linear(), rows, 0.4, m=64)
    whole = flow.velocity(x, 0.4)
    assert whole.shape == (64, 64)
    for m in (8, 63):
        np.testing.assert_allclose(flow.velocity(x[:m], 0.4), whole[:m], rtol=1e-10, atol=1e-10)


def test_one_row_and_one_dimension(backend, dtype):
    """N = 1: D is that row everywhere. d = 1: nothing about it is special."""
    one = itf.Field(np.array([[2.0, -1.0]], dtype), backend=backend)
    x = np.array([[0.0, 0.0], [5.0, 5.0]])
    for t in (0, 0.5, 1 - 1e-7, 1):
        np.testing.assert_array_equal(one.denoiser(x, t), [[2, -1]] * 2)
    assert one.posterior(x[0], 0.5).variance == 0
    assert one.divergence(x[0], 0.5) == -4.0
    line = itf.Field(np.linspace(-1, 1, 9)[:, None].astype(dtype), backend=backend)
    ref = oracle.posterior(np.linspace(-1, 1, 9)[:, None].astype(dtype), x[:, :1], 0.5, 0.5)
    np.testing.assert_allclose(line.denoiser(x[:, :1], 0.5), ref.mean, rtol=1e-5, atol=1e-6)


def test_equal_rows(backend, dtype):
    """R = 0: every answer is that row, for every t, with the statistics of N equal rows."""
    row = np.array([0.1, -3.7, 1e4]).astype(dtype)
    flow = itf.Field(np.tile(row, (50, 1)), backend=backend)
    x = np.random.default_rng(12).standard_normal((4, 3)) * 100
    for t in (0, 0.3, 1 - 1e-9, 1):
        np.testing.assert_array_equal(flow.denoiser(x, t), np.tile(row, (4, 1)))
    post = flow.posterior(x, 0.5)
    np.testing.assert_allclose(post.ess, 50, rtol=1e-12)
    np.testing.assert_array_equal(post.variance, 0)
    np.testing.assert_array_equal(post.index, 0)


# Relatives of a field


def test_with_schedule(backend):
    """The same training set, weights and bandwidth at another schedule's (alpha, sigma)."""
    flow = itf.Field(PENTAGON, weights=[1, 2, 3, 4, 5], bandwidth=0.1, backend=backend)
    other = flow.with_schedule(itf.VP())
    fresh = itf.Field(PENTAGON, itf.VP(), weights=[1, 2, 3, 4, 5], bandwidth=0.1, backend=backend)
    x = cloud(itf.VP(), PENTAGON, 0.5)
    np.testing.assert_array_equal(other.velocity(x, 0.5), fresh.velocity(x, 0.5))
    assert isinstance(flow.schedule, itf.Linear)
    assert isinstance(other.schedule, itf.VP)


def test_subset(backend, dtype):
    """A field of those rows: numbered from 0, weights renormalised, its own statistics."""
    rows = problems.problem("gauss").rows[:100].astype(dtype)
    weights = np.linspace(1, 2, 100)
    flow = itf.Field(rows, weights=weights, backend=backend)
    mask = np.arange(100) % 3 == 0
    x = cloud(itf.Linear(), rows, 0.3)
    fresh = itf.Field(rows[mask], weights=weights[mask], backend=backend).posterior(x, 0.3, top=3)
    for chosen in (mask, np.flatnonzero(mask), list(range(0, 100, 3))):
        part = flow.subset(chosen)
        assert (part.N, part.d) == (34, 37)
        post = part.posterior(x, 0.3, top=3)
        for name in ("mean", "log_norm", "ess", "top_weight"):
            np.testing.assert_allclose(getattr(post, name), getattr(fresh, name), rtol=1e-6, atol=1e-7, err_msg=name)
        np.testing.assert_array_equal(post.top_index, fresh.top_index)


def test_properties_and_results(backend, engine):
    flow = itf.Field(PENTAGON, backend=backend, threads=2)
    assert (flow.N, flow.d, flow.backend, flow.isa, flow.threads) == (5, 2, engine.backend, engine.isa, 2)
    assert "5" in repr(flow)
    post = flow.posterior(PENTAGON, 0.5, top=2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        post.mean = 0
    content = post.to_dict()
    assert set(content) >= {"mean", "log_norm", "log_density", "ess", "entropy", "variance", "index", "gap", "log_rest"}
    assert set(content) >= {"top_index", "top_weight", "work", "dropped", "certificate", "rounding"}
    assert 0 < len(str(post)) < 3000


@pytest.mark.parametrize("t", [0.0, 0.4, 1.0])
def test_rounding_is_bounded_or_said_to_be_unknown(backend, dtype, t):
    """Of a field and of its parts; where all rows are equal every mean is that row."""
    rows = np.full((4, 3), 0.1, dtype)
    one, x = itf.Field(rows, backend=backend), np.array([[0.3, -2.0, 5.0], [0.1, 0.1, 0.1]])
    for post in (one.posterior(x, t), itf.merge([one.partial(x, t)]).posterior()):
        np.testing.assert_array_equal(post.rounding, 0.0)
        np.testing.assert_array_equal(post.mean, rows[:2])
    rows[3] = 0.7
    for part in (itf.Field(rows, backend=backend), itf.Field(rows, backend=backend).partial(x, t)):
        post = part.posterior(x, t) if isinstance(part, itf.Field) else part.posterior()
        assert (post.rounding > 0).all()  # never less than the error of a mean that is rounded


# Draws


def test_draw_has_its_law():
    """Rows by weight, then alpha x_i + sigma z with z standard normal."""
    weights = np.array([1, 2, 0, 4, 3.0])
    flow = itf.Field(PENTAGON, weights=weights)
    x, index = flow.draw(20_000, 0.3, rng=1)
    counts = np.bincount(index, minlength=5)
    assert counts[2] == 0
    keep = weights > 0
    assert stats.chisquare(counts[keep], 20_000 * weights[keep] / 10).pvalue > 1e-3
    z = (x - 0.3 * PENTAGON[index]) / 0.7
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(z.T)[0, 1]) < 0.03


def test_draw_of_smoothed_data():
    flow = itf.Field(np.zeros((3, 2)), itf.VP(), bandwidth=2.0)
    x, _ = flow.draw(20_000, 0.9, rng=2)
    c = itf.VP()(0.9)
    assert stats.kstest(x.ravel() / np.hypot(c.sigma, 2 * c.alpha), "norm").pvalue > 1e-3


def test_draw_at_the_ends_and_by_key(backend, dtype):
    rows = problems.problem("gauss").rows[:50].astype(dtype)
    flow = itf.Field(rows, backend=backend)
    x, index = flow.draw(30, 1, rng=3)
    np.testing.assert_array_equal(x, rows[index])
    assert (x.dtype, index.dtype) == (rows.dtype, np.int64)
    whole, chosen = flow.draw(30, 0.4, rng=itf.NoiseKey(5))
    part, few = flow.draw(12, 0.4, rng=itf.NoiseKey(5, first_sample=18))
    np.testing.assert_array_equal(part, whole[18:])
    np.testing.assert_array_equal(few, chosen[18:])
    again, _ = flow.draw(30, np.full(30, 0.4), rng=itf.NoiseKey(5))
    np.testing.assert_array_equal(again, whole)
    generator = np.random.default_rng(6)
    first, second = flow.draw(5, 0.2, rng=generator)[0], flow.draw(5, 0.2, rng=generator)[0]
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, flow.draw(5, 0.2, rng=np.random.default_rng(6))[0])


def test_draw_is_the_same_for_every_backend(backend):
    """Noise and choice are functions of the key alone."""
    rows = problems.problem("gauss").rows[:50]
    x, index = itf.Field(rows, backend=backend).draw(40, 0.5, rng=7)
    want, chosen = itf.Field(rows, backend="reference").draw(40, 0.5, rng=7)
    np.testing.assert_array_equal(x, want)
    np.testing.assert_array_equal(index, chosen)
