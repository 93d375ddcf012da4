"""Where roundings do not average out, or cancel: rows in clumps, rows and queries far away."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracle
import pytest
from engines import ENGINES
from support.kernel import blank, posterior, prepare
from support.sources import Source

import interp_fast as itf
from interp_fast import backends
from interp_fast._accuracy import PROMISES
from interp_fast.field import oracle_of


def truth(rows, x, alpha, sigma):
    """D of a few rows in extended precision."""
    rows, answers = rows.astype(np.longdouble), []
    for query in x.astype(np.longdouble):
        away = np.square(query - np.longdouble(alpha) * rows).sum(axis=1) / (2 * np.longdouble(sigma) ** 2)
        weights = np.exp(away.min() - away)
        answers.append(weights @ rows / weights.sum())
    return np.array(answers, float)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("d", [1, 16, 200])
@pytest.mark.parametrize("spread", [0.0, 1e-7])
def test_two_clumps(engine, d, spread):
    """Halfway between them, where all of their rows weigh about as much, and each so little."""
    rng = np.random.default_rng(d)
    center, own = rng.standard_normal((2, d)), rng.integers(0, 2, 300)
    rows = (center[own] + spread * rng.standard_normal((300, d))).astype(np.float32)
    radius = np.sqrt(np.square(rows - rows.mean(axis=0)).sum(axis=1).mean())
    worst = {"denoiser": 0.0, "noise": 0.0}
    with engine.forced():
        field = itf.Field(rows, backend=engine.backend, threads=1)
        for ratio in (0.5, 0.2, 0.1, 0.05, 0.02):
            alpha = 1 / (1 + ratio * radius)
            sigma = 1 - alpha
            some = rows[rng.integers(0, 300, (12, 2))].astype(float).mean(axis=1)
            x = alpha * (some + 0.3 * ratio**2 * radius / np.sqrt(d) * rng.standard_normal((12, d)))
            mean = truth(rows, x, alpha, sigma)
            noise = (x - alpha * mean) / sigma
            found = {"denoiser": mean, "noise": noise}
            scales = {"denoiser": radius, "noise": np.maximum(np.linalg.norm(noise, axis=1), 1)}
            for name, want in found.items():
                error = np.linalg.norm(getattr(field, name)(x, alpha) - want, axis=1) / scales[name]
                worst[name] = max(worst[name], float(error.max()))
    assert worst["denoiser"] < 5e-6
    assert worst["noise"] < 1e-4


def test_how_many_rows_of_numba_lie_together():
    """On a sphere, rows of one length in many directions are no clump; of four, each five times, five."""
    rng = np.random.default_rng(0)
    apart = rng.standard_normal((4000, 24))
    apart /= np.linalg.norm(apart, axis=1, keepdims=True)
    for rows, most in ((apart, 4), (apart[:20], 1), (np.repeat(apart[:4], 5, axis=0), 5)):
        data = oracle_of(itf.Field(rows.astype(np.float32), backend="numba")).training_set.prepared
        assert 1 <= data.clump <= most
    assert data.clump == 5


def test_the_velocity_of_far_smoothed_rows():
    """alpha_dot D + sigma_dot z from terms that cancel had none of its digits: exact for one row, in fractions."""
    row, width, t, x = 2.0**70, 2.0**71, 0.75, 2.0
    a, s, h2 = Fraction(t), Fraction(1 - t), Fraction(width) ** 2
    variance = s**2 + a**2 * h2
    away = Fraction(x) - a * Fraction(row)
    mean, noise = Fraction(row) + a * h2 / variance * away, s * away / variance
    got = itf.Field(np.full((1, 1), row), bandwidth=width, backend="reference").velocity(np.full((1, 1), x), t)
    np.testing.assert_allclose(got, float(mean - noise), rtol=1e-14)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_where_the_signal_has_not_begun(engine):
    """At alpha = 0 a query far away must not tell the log density of the others."""
    rows, x = np.array([[0.0, 1.0], [3.0, 2.0], [1.0, 1.0]]), np.array([[1e9, 0.0], [1.0, 2.0], [0.0, 0.0]])
    with engine.forced():
        field = itf.Field(rows, backend=engine.backend)
        density = field.log_density(x, 0.0)
    want = -np.square(x).sum(axis=1) / 2 - np.log(2 * np.pi)
    np.testing.assert_allclose(density, want, rtol=1e-12)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
@pytest.mark.parametrize("d", [4, 16])
def test_rows_apart_by_less_than_rounding_leaves_of_the_data(engine, d):
    """Copies at the query, two rows 100 sigma away, and one that makes all of those one point to any sum."""
    rows = np.zeros((100, d), np.float32)
    rows[3, 0] = rows[5, 1] = 1e-20
    rows[1, d - 1] = 1
    with engine.forced():
        level = itf.Field(rows, itf.VELinear(1.0), backend=engine.backend).at(alpha=1.0, sigma=1e-22)
        np.testing.assert_array_equal(level.noise(np.zeros((2, d))), 0)
        np.testing.assert_array_equal(level.denoiser(np.zeros((2, d))), 0)


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_the_mean_before_the_signal_of_rows_close_to_each_other(engine):
    """One of next to no weight lies so far away that the others are one point when counted from the centre."""
    rows = np.array([3e4, *(1e-5 * np.random.default_rng(0).standard_normal(50))], np.float32)[:, None]
    weights = np.array([1e-20, *0.7 ** np.arange(50)])  # no two alike: their order is known
    want = weights @ rows.astype(float) / weights.sum()
    radius = np.sqrt(weights @ (rows[:, 0].astype(float) - want) ** 2 / weights.sum())
    with engine.forced():
        field = itf.Field(rows, weights=weights, backend=engine.backend)
        for t in (5e-324, 1e-300, 1e-12):
            got = field.denoiser(np.array([[1.0], [2.0]]), t)
            assert np.abs(got - want).max() < 5e-6 * radius


@pytest.mark.filterwarnings("ignore:x cannot hold draws")
def test_weights_of_rows_in_files_far_from_the_queries(backend):
    """10^38 sigma away distances to 106 bits do not tell rows apart: listed weights are those the rows were given."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((7, 61)).astype(np.float32)
    rows *= np.float32(1e36) / np.linalg.norm(rows, axis=1, keepdims=True)
    x = 1e38 * rng.standard_normal((9, 61))
    nearest = np.argmax(x @ rows.T.astype(float), axis=1)  # (x . row) alpha / sigma^2 is 1e33: one row has all
    got = itf.Field(Source(rows), backend=backend).posterior(x, 1e-41, top=7)
    np.testing.assert_array_equal(got.index, nearest)
    np.testing.assert_array_equal(got.top_index[:, 0], nearest)
    np.testing.assert_array_equal(got.top_weight, np.eye(7)[[0] * 9])


@pytest.mark.parametrize(("far", "spread", "ratio"), [(-1.0, 3e-10, 5.0), (1.0, 1e-9, 5.0), (1.0, 4e-9, 1.2)])
def test_a_cloud_far_smaller_than_roundings_of_scores(engine, far, spread, ratio):
    """Scores in float32 told nothing of its rows: corrected by exact ones, sums held roundings, and D was hundreds."""
    rng = np.random.default_rng(0)
    rows = np.where(np.arange(269)[:, None] % 2 > 0, far, spread * rng.standard_normal((269, 18))).astype(np.float32)
    x = np.concatenate([np.zeros((4, 18)), spread * rng.standard_normal((48, 18))])
    x[28:] *= ratio
    kernel = backends.get(engine.backend)[1]
    out = blank(len(x), 18, names=("mean", "scatter"))
    with engine.forced():
        got = posterior(kernel, prepare(kernel, rows), x, 1.0, ratio * spread, out=out)
    want = oracle.posterior(rows, x, 1.0, ratio * spread)
    _, radius = oracle.radius(rows)
    assert np.linalg.norm(got.mean - want.mean, axis=1).max() <= PROMISES["float32"].denoiser * radius
    assert np.abs(got.scatter - want.variance).max() <= PROMISES["float32"].scatter * radius**2


@pytest.mark.parametrize("clusters", [60, 3])
@pytest.mark.parametrize(("dtype", "spread"), [("float32", 0.05), ("float32", 1e-3), ("float64", 1e-3)])
def test_the_variance_of_a_cluster_far_from_the_centre(engine, dtype, spread, clusters):
    """As a difference of second moments about the centre it has next to no digits: of many queries and of few."""
    rng = np.random.default_rng(clusters)
    centers = rng.standard_normal((clusters, 32))
    rows = (centers[np.arange(1500) % clusters] + spread * rng.standard_normal((1500, 32))).astype(dtype)
    kernel, promise = backends.get(engine.backend)[1], PROMISES[dtype]
    with engine.forced():
        data = prepare(kernel, rows)
        for sigma in (0.8, 1.5):  # bytes tell which rows to exclude; sums tell that there are some
            x = rows[rng.integers(0, 1500, 12)] + sigma * rng.standard_normal((12, 32))
            u = rng.standard_normal((12, 32))
            want = oracle.posterior(rows, x, 1.0, sigma, u=u)
            for some in (slice(0, 12), slice(4, 7)):
                x_some, u_some = x[some], u[some]
                names = ("mean", "ess", "entropy", "variance", "jvp")
                out = blank(len(x_some), 32, names=names)
                got = posterior(kernel, data, x_some, 1.0, sigma, u=u_some, cut=70.0, out=out)
                for name in ("ess", "entropy", "variance"):
                    np.testing.assert_allclose(getattr(got, name), getattr(want, name)[some], promise.off_weights)
                error = np.linalg.norm(got.jvp - want.product[some], axis=1)
                assert (error <= promise.off_weights * np.linalg.norm(want.product[some], axis=1)).all()
