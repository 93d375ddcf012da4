"""The lowest loss against quadrature, closed forms, brute-force Monte Carlo and its own bounds."""

from __future__ import annotations

import functools
import gc
import math
import weakref

import numpy as np
import pytest
from support.sources import Source

import interp_fast as itf
from interp_fast.field import oracle_of
from interp_fast.losses import _pairs
from interp_fast.losses._draws import Stream, bernstein
from interp_fast.losses._optimal import _Level

PENTAGON = 2 * np.array([[math.cos(a), math.sin(a)] for a in 2 * math.pi / 5 * np.arange(5)])


def two_points(distance, rho):
    """(distance^2 / 4) E sech^2(rho^2 distance^2 / 4 + rho distance xi / 2) by quadrature."""
    xi = np.linspace(-12, 12, 200_001)
    density = np.exp(-xi * xi / 2) / math.sqrt(2 * math.pi)
    u = np.clip(rho**2 * distance**2 / 4 + rho * distance * xi / 2, -300, 300)
    return distance**2 / 4 * np.trapezoid(density / np.cosh(u) ** 2, xi)


def line_points(points, weights, rho):
    """E tr C for weighted points on a line, by quadrature over the noise."""
    z = np.linspace(-10, 10, 20_001)
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    total = 0.0
    for point, weight in zip(points, weights, strict=True):
        logits = np.log(weights) - (rho * point + z[:, None] - rho * points) ** 2 / 2
        w = np.exp(logits - logits.max(axis=1, keepdims=True))
        w /= w.sum(axis=1, keepdims=True)
        total += weight * np.trapezoid(density * (w @ points**2 - (w @ points) ** 2), z)
    return total


def test_optimal_loss_of_two_points_is_the_closed_form():
    field = itf.Field(np.array([[0.0, 0.0], [3.0, 0.0]]))
    best = itf.optimal_loss(field, np.linspace(0.05, 0.6, 8), 1000, rng=1)
    rho = best.times / (1 - best.times)
    want = np.array([two_points(3.0, r) for r in rho])
    assert (np.abs(best.loss - want) < 3 * best.stderr).all()
    assert (best.stderr < 0.1 * want).all()
    assert best.queries.sum() == pytest.approx(8 * 1000, rel=0.01)


@pytest.mark.parametrize("schedule", [itf.Linear(), itf.VP(), itf.VEGeometric()], ids=repr)
def test_optimal_loss_is_that_of_the_weights_under_any_schedule(schedule):
    points, weights = np.array([-1.0, 0.5, 2.0]), np.array([0.2, 0.5, 0.3])
    field = itf.Field(points[:, None], schedule, weights=weights)
    times = schedule.time_at(np.log([0.3, 0.8, 1.5]))
    best = itf.optimal_loss(field, times, 3000, rng=2)
    want = np.array([line_points(points, weights, r) for r in (0.3, 0.8, 1.5)])
    assert (np.abs(best.loss - want) < 3 * best.stderr).all()
    assert (best.stderr < 0.04 * want).all()


def test_optimal_loss_is_exact_at_both_ends():
    weights = np.array([1.0, 2.0, 3.0, 4.0, 5.0]) / 15
    field = itf.Field(PENTAGON.astype(np.float32), weights=weights)
    best = itf.optimal_loss(field, [0.0, 0.5, 1.0], 50, rng=0)
    rows = PENTAGON.astype(np.float32).astype(np.float64)
    assert best.loss[0] == pytest.approx(weights @ ((rows - weights @ rows) ** 2).sum(axis=1), rel=1e-12)
    assert best.loss[2] == 0
    assert best.stderr[[0, 2]].tolist() == [0, 0]
    assert best.queries.tolist() == [0, 50, 0]
    assert itf.optimal_loss(field, [0.0, 1.0], 50, rng=0).loss.tolist() == best.loss[[0, 2]].tolist()
    alone = itf.optimal_loss(itf.Field(np.ones((3, 2))), [0.0, 0.4, 0.8], 10, rng=0)
    assert alone.loss.tolist() == alone.stderr.tolist() == [0, 0, 0]


def test_standard_error_is_the_spread_of_repeated_runs():
    field = itf.Field(PENTAGON)
    runs = [itf.optimal_loss(field, 0.45, 41, rng=seed) for seed in range(200)]
    loss, stderr = np.array([r.loss[0] for r in runs]), np.array([r.stderr[0] for r in runs])
    assert np.std(loss, ddof=1) == pytest.approx(math.sqrt(np.mean(stderr**2)), rel=0.2)
    # Unbiased: the mean of the runs against one long one.
    long = itf.optimal_loss(field, 0.45, 8000, rng=1000)
    assert abs(loss.mean() - long.loss[0]) < 3 * math.hypot(loss.std() / math.sqrt(len(runs)), long.stderr[0])


def test_strata_take_the_spread_between_rows_out():
    # Far groups of two: given its group the posterior variance is that of the pair, and half the rows have none.
    pairs = np.repeat(np.arange(8.0) * 1000, 2)[:, None] * [1.0, 0.0]
    pairs[1::4, 1] = 1.0
    best = itf.optimal_loss(itf.Field(pairs), [0.02], 512, rng=3)
    naive = 0.125 / math.sqrt(512)
    assert best.loss[0] == pytest.approx(0.125, rel=1e-2)
    assert best.stderr[0] < 0.1 * naive


@pytest.mark.parametrize("schedule", [itf.Linear(), itf.Trigonometric()], ids=repr)
def test_kinds_are_the_losses_of_their_targets(schedule, rng):
    """Against E|target - oracle|^2 over fresh draws, target by target."""
    field = itf.Field(PENTAGON, schedule)
    t, n = 0.4, 1500
    c = schedule(t)
    row, z = rng.integers(5, size=n), rng.normal(size=(n, 2))
    x = c.alpha * PENTAGON[row] + c.sigma * z
    targets = {
        "denoiser": (PENTAGON[row], field.denoiser),
        "velocity": (c.alpha_dot * PENTAGON[row] + c.sigma_dot * z, field.velocity),
        "noise": (z, field.noise),
        "score": (-z / c.sigma, field.score),
    }
    losses = {}
    for kind, (target, oracle) in targets.items():
        error = ((target - oracle(x, t)) ** 2).sum(axis=1)
        best = itf.optimal_loss(field, [t], n, kind=kind, rng=0)
        assert abs(error.mean() - best.loss[0]) < 3 * math.hypot(error.std() / math.sqrt(n), best.stderr[0])
        losses[kind] = best.loss[0] / error.mean()
    assert np.ptp(list(losses.values())) < 1e-10  # the same draws: all ratios agree


def test_smoothed_rows_have_the_loss_of_a_denser_data_set(rng):
    """A bandwidth against E|D - (x_I + delta eps)|^2 of the smoothed denoiser."""
    delta, t, n = 0.3, 0.6, 6000
    field = itf.Field(PENTAGON, bandwidth=delta)
    clean = PENTAGON[rng.integers(5, size=n)] + delta * rng.normal(size=(n, 2))
    x = t * clean + (1 - t) * rng.normal(size=(n, 2))
    error = ((clean - field.denoiser(x, t)) ** 2).sum(axis=1)
    best = itf.optimal_loss(field, [0.0, t, 1.0], n, rng=0)
    assert abs(error.mean() - best.loss[1]) < 3 * math.hypot(error.std() / math.sqrt(n), best.stderr[1])
    assert best.loss[0] == pytest.approx(4 + 2 * delta**2)
    assert best.loss[2] == 0


def test_excess_loss_is_the_squared_error(rng):
    field = itf.Field(PENTAGON, itf.VP())
    t, n = 0.8, 6000
    c = field.schedule(t)
    row = rng.integers(5, size=n)
    x = c.alpha * PENTAGON[row] + c.sigma * rng.normal(size=(n, 2))
    e = 0.3 * np.tanh(x)
    loss = ((field.denoiser(x, t) + e - PENTAGON[row]) ** 2).sum(axis=1)
    best = itf.optimal_loss(field, [t], n, rng=0)
    excess = loss.mean() - best.loss[0]
    assert abs(excess - (e**2).sum(axis=1).mean()) < 3 * math.hypot(loss.std() / math.sqrt(n), best.stderr[0])
    assert excess > 3 * math.hypot(loss.std() / math.sqrt(n), best.stderr[0])


@pytest.mark.long
def test_integral_over_the_signal_to_noise_ratio_is_the_entropy():
    """I-MMSE: the integral of L* rho d rho is log N. Queries go where they serve the integral best."""
    field = itf.Field(np.arange(4.0)[:, None])
    lam = np.linspace(-4.2, 2.3, 18)
    times, weight = field.schedule.time_at(lam), np.exp(2 * lam) * (lam[1] - lam[0])  # rho d rho = rho^2 d lambda
    pilot = itf.optimal_loss(field, times, 2000, rng=0)
    spread = weight * pilot.stderr * np.sqrt(pilot.queries)
    queries = np.maximum(2000, 3e5 * spread / spread.sum()).astype(int).tolist()
    parts = [itf.optimal_loss(field, t, n, rng=k + 1) for k, (t, n) in enumerate(zip(times, queries, strict=True))]
    integral = sum(w * p.loss[0] for w, p in zip(weight, parts, strict=True))
    stderr = math.sqrt(sum((w * p.stderr[0]) ** 2 for w, p in zip(weight, parts, strict=True)))
    assert stderr < 0.6e-3 * math.log(4)
    assert integral == pytest.approx(math.log(4), rel=1e-3)


def test_blocks_of_queries_change_nothing(monkeypatch):
    field = itf.Field(PENTAGON)
    whole = itf.optimal_loss(field, [0.3, 0.6], 101, rng=5)
    monkeypatch.setattr(itf._arrays, "_BLOCK_BYTES", 8 * 2 * 7)
    parts = itf.optimal_loss(field, [0.3, 0.6], 101, rng=5)
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-12)
    np.testing.assert_allclose(parts.stderr, whole.stderr, rtol=1e-12)


def test_optimal_loss_names_the_argument():
    field = itf.Field(PENTAGON, itf.SqrtVP())
    for kind in ("velocity", "noise", "score"):
        with pytest.raises(ValueError, match=r"t must avoid 1\.0"):
            itf.optimal_loss(field, [0.5, 1.0], 10, kind=kind)
    with pytest.raises(ValueError, match=r"t must avoid 0\.0"):
        itf.optimal_loss(field, [0.0, 0.5], 10, kind="velocity")
    with pytest.raises(ValueError, match="kind must be one of"):
        itf.optimal_loss(field, [0.5], 10, kind="x0")
    with pytest.raises(ValueError, match="n must be >= 2"):
        itf.optimal_loss(field, [0.5], 1)
    with pytest.raises(ValueError, match="times must lie"):
        itf.optimal_loss(field, [0.5, 1.5], 10)
    with pytest.raises(TypeError, match="field must be a Field"):
        itf.optimal_loss(PENTAGON, [0.5], 10)


def test_optimal_loss_prints_becomes_a_dict_and_is_drawn():
    import matplotlib

    matplotlib.use("Agg")
    best = itf.optimal_loss(itf.Field(PENTAGON), [0.2, 0.5], 40, rng=0)
    assert "stderr" in repr(best)
    assert best.to_dict()["loss"] == best.loss.tolist()
    ax = best.plot()
    assert best.plot(ax) is ax
    matplotlib.pyplot.close(ax.figure)


# pairs: the integral, its bound and its draws


def log_pair_integral(distance, log_w, log_v, s):
    """log of d^2 ∫ a b / (a + b) along the pair, a = w phi(c), b = v phi(c - delta): a fine sum over c."""
    delta = distance / s
    c = np.linspace(-60, delta + 60, 400_001)
    log_a, log_b = log_w - c * c / 2, log_v - (c - delta) ** 2 / 2
    terms = log_a + log_b - np.logaddexp(log_a, log_b)
    total = np.exp(terms - terms.max()).sum() * (c[1] - c[0]) / math.sqrt(2 * math.pi)
    return 2 * math.log(distance) + terms.max() + math.log(total)


@pytest.mark.parametrize("ratio", [0.0, 0.7, 5.0, 60.0, -300.0])
@pytest.mark.parametrize("delta", [1e-5, 0.1, 1.0, 3.9, 4.1, 12.0, 37.0])
def test_integral_of_a_pair_and_its_bound(delta, ratio):
    s, log_w = 0.5, -1.0
    got = _pairs.log_integral(np.array([delta * s]), np.array([log_w]), np.array([log_w - ratio]), s)[0]
    assert got == pytest.approx(log_pair_integral(delta * s, log_w, log_w - ratio, s), abs=1e-9)
    bound = float(_pairs.log_majorant(delta * s, log_w, log_w - ratio, s, even=False))
    assert got <= bound + 1e-9
    assert bound <= got + math.log(2) + 1e-9  # two tails are at most twice as much
    if ratio == 0:
        assert bound <= got - math.log(0.94)


def test_bound_of_a_pair_next_to_which_sigma_is_infinite():
    got = _pairs.log_majorant(np.array([1e-300, 0.0]), -1.0, -1.0, 1e60, even=False)  # a warning would be an error
    np.testing.assert_allclose(got, [2 * math.log(1e-300) - 1 - math.log(2), -np.inf])


def test_bound_of_a_pair_is_proved_where_it_is_tight():
    """E sech(u xi) <= 1 / sqrt(1 + 2 u^2 / pi): from small to large u, and the step of the proof, log cosh(x) / x^2."""
    delta = np.geomspace(1e-3, 1e3, 400)
    got = _pairs.log_integral(delta, np.zeros(400), np.zeros(400), 1.0)
    assert (got <= _pairs.log_majorant(delta, 0.0, 0.0, 1.0, even=True) + 1e-12).all()
    x = np.geomspace(1e-2, 30, 2000)
    assert (np.diff(np.log(np.cosh(x)) / x**2) < 0).all()


@pytest.mark.parametrize(("delta", "eta"), [(0.3, 0.0), (2.0, 1.0), (6.0, -3.0), (9.0, 12.0)])
def test_draws_of_a_bridge_have_its_density(delta, eta):
    from scipy.stats import kstest

    c = np.linspace(-14, delta + 14, 400_001)
    log_a, log_b = 2 * eta - c * c / 2, -((c - delta) ** 2) / 2
    density = np.exp(log_a + log_b - np.logaddexp(log_a, log_b))
    distribution = np.cumsum(density) / density.sum()
    n = 4000
    draws = _pairs.bridge(np.full(n, delta), np.full(n, eta), Stream(itf.NoiseKey(3), n, 0))
    assert kstest(draws, lambda v: np.interp(v, c, distribution)).pvalue > 1e-3


def plane_loss(points, weights, s):
    """E tr C for weighted points in the plane, by quadrature on a grid that resolves s."""
    low, high = points.min(0) - 9 * s, points.max(0) + 9 * s
    m = int(np.clip((high - low).max() / s * 8, 300, 900))
    x, y = (np.linspace(a, b, m) for a, b in zip(low, high, strict=True))
    total = 0.0
    for first in x:
        at = np.stack([np.full(m, first), y], axis=1)
        logits = np.log(weights) - ((at[:, None] - points) ** 2).sum(axis=2) / (2 * s * s)
        top = logits.max(axis=1)
        p = np.exp(logits - top[:, None])
        mass = p.sum(axis=1)
        p /= mass[:, None]
        away = points - (p @ points)[:, None]
        total += np.sum(np.exp(top) * mass * (p * (away**2).sum(axis=2)).sum(axis=1))
    return total * (x[1] - x[0]) * (y[1] - y[0]) / (2 * math.pi * s * s)


def _plane(name):
    rng = np.random.default_rng(1)
    points = rng.standard_normal((12, 2))
    if name == "weights":
        return points, 10.0 ** -np.linspace(0, 7, 12)
    if name == "copies":
        return np.repeat(points[:5], [1, 6, 2, 1, 1], axis=0), np.ones(11)
    if name == "clump":
        return np.concatenate([points[:4], 1 + 0.05 * points[4:]]), np.ones(12)
    return points, np.ones(12)


def _turned(points):
    """The same points in 11 dimensions, where products find their neighbours."""
    basis = np.linalg.qr(np.random.default_rng(2).standard_normal((11, 2)))[0]
    return points @ basis.T + 3.0


@functools.cache
def _plane_loss(name, s):
    points, weights = _plane(name)
    return plane_loss(points, weights / weights.sum(), s)


@pytest.mark.parametrize("way", ["tree", "products", "bins", "projections", "float64"])
@pytest.mark.parametrize("name", ["plain", "weights", "copies", "clump"])
def test_draws_at_pairs_against_quadrature(name, way, monkeypatch):
    points, weights = _plane(name)
    rows = points if way == "tree" else _turned(points)
    if way in ("bins", "projections"):
        monkeypatch.setattr(_pairs, "NEAR", 2)
        monkeypatch.setattr(_pairs, "_BLOCK", 5)
    if way == "projections":
        monkeypatch.setattr(_pairs, "_FLOPS", 1.0)
        monkeypatch.setattr(_pairs, "_LEAST", 1)
    if way == "float64":
        rows = rows * 1e-3 + np.arange(11) * 0.3
        rows = np.concatenate([rows, rows[:1] + 1e6])  # so far off that float32 tells the others not apart
        weights = np.append(weights, 1e-300)
    field = itf.Field(rows, weights=weights)
    n, scale = 6000, 1e-3 if way == "float64" else 1.0
    for s in (1.5, 0.4, 0.1):
        level = _Level(oracle_of(field), 1 / (1 + scale * s), 0, itf.NoiseKey(7))
        values, _ = level.at_pairs(n, 1)
        want, most = scale**2 * _plane_loss(name, s), math.exp(level.log_limit)
        assert values.min() >= 0
        assert values.max() <= most
        assert want <= level.limit * (1 + 1e-9)
        assert abs(values.mean() - want) <= 4 * values.std() / math.sqrt(n) + 1e-6 * want
        low, high = bernstein(values, most, 0.95)
        assert low <= want <= high


def test_lowest_loss_of_normal_rows_is_carried_by_rare_queries():
    """2000 x 64, t = 0.5: 256 plain draws see 5e-6; the value is known to 0.2 % from 10^6 queries."""
    field = itf.Field(np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32))
    best = itf.optimal_loss(field, [0.2, 0.5, 0.8], 256, rng=0)
    assert abs(best.loss[1] - 1.850e-2) < 3 * best.stderr[1] + 0.01e-2
    assert best.stderr[1] < 0.05 * best.loss[1]
    assert best.method.tolist() == ["plain", "pairs", "pairs"]
    assert 0 < best.interval[2, 0] <= best.loss[2] <= best.interval[2, 1] <= best.limit[2] < 1e-40


def test_an_underflowing_loss_is_no_exact_zero():
    field = itf.Field(np.array([[0.0], [1.0], [3.0]]))
    best = itf.optimal_loss(field, [0.999, 1.0], 20, rng=0)
    tiny = np.nextafter(0, 1)
    assert best.loss.tolist() == [0, 0]
    assert best.stderr.tolist() == best.limit.tolist() == [tiny, 0]
    assert best.interval.tolist() == [[0, tiny], [0, 0]]
    assert best.method.tolist() == ["pairs", "exact"]


@pytest.mark.parametrize("kind", ["denoiser", "velocity", "noise", "score"])
def test_ends_alone_are_exact_where_they_exist(kind):
    field = itf.Field(PENTAGON)
    start = itf.optimal_loss(field, [0.0], 16, kind=kind)
    assert start.loss[0] == pytest.approx({"denoiser": 4.0, "velocity": 4.0, "noise": 0.0, "score": 0.0}[kind])
    assert start.method.tolist() == ["exact"]
    if kind == "denoiser":
        assert itf.optimal_loss(field, [1.0], 16).loss.tolist() == [0.0]
        assert itf.optimal_loss(field, [0.0, 1.0], 16).limit.tolist() == pytest.approx([4.0, 0.0])


def test_an_int_is_so_many_times():
    best = itf.optimal_loss(itf.Field(PENTAGON), 4, 32, rng=0)
    assert best.times.tolist() == [0, 0.25, 0.5, 0.75]
    assert itf.optimal_loss(itf.Field(PENTAGON), 1.0, 32, rng=0).times.tolist() == [1.0]
    with pytest.raises(ValueError, match="times must be >= 1"):
        itf.optimal_loss(itf.Field(PENTAGON), 0, 32)
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\)"):
        itf.optimal_loss(itf.Field(PENTAGON), 4, 32, confidence=1.0)


def test_more_confidence_is_a_wider_interval():
    field = itf.Field(PENTAGON)
    narrow, wide = (itf.optimal_loss(field, [0.6], 400, confidence=c, rng=0).interval[0] for c in (0.5, 0.999))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_rows_in_files_have_the_loss_of_rows_in_memory():
    """Pairs of rows are drawn there, too, by the same keys."""
    rows = np.random.default_rng(0).standard_normal((400, 12)).astype(np.float32)
    weights = np.arange(1.0, 401)
    far, here = (itf.Field(data, weights=weights) for data in (Source(rows), rows))
    a, b = (itf.optimal_loss(field, [0.2, 0.7, 0.8], 128, rng=0) for field in (far, here))
    assert b.method.tolist() == ["plain", "pairs", "pairs"]
    for name in ("loss", "stderr", "interval", "limit"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-4)
    np.testing.assert_array_equal(a.method, b.method)
    np.testing.assert_array_equal(a.queries, b.queries)


def test_more_rows_in_files_than_are_read_have_an_honest_error(monkeypatch):
    """Plain draws alone: late, they are blind below reach^2 / n, and say so."""
    monkeypatch.setattr(_pairs, "_READ", 1000)
    best = itf.optimal_loss(itf.Field(Source(PENTAGON)), [0.9], 64, rng=0)
    alone = itf.optimal_loss(itf.Field(PENTAGON), [0.9], 64, rng=0)
    assert best.method[0] == "plain"
    assert best.stderr[0] >= 4 / 64
    assert best.interval[0, 0] <= alone.loss[0] <= best.interval[0, 1]


def test_pairs_are_forgotten_with_their_field():
    field = itf.Field(PENTAGON)
    itf.optimal_loss(field, [0.5], 64, rng=0)
    rows = weakref.ref(oracle_of(field).training_set)
    del field
    gc.collect()
    assert rows() is None


@pytest.mark.long
def test_area_of_digits_is_the_entropy():
    """I-MMSE by Monte Carlo alone: the integral of L* rho d rho over all rho is log N."""
    from sklearn.datasets import load_digits

    field = itf.Field((load_digits().data / 8 - 1).astype(np.float32))
    lam = np.linspace(-3.2, 3.2, 41)
    weight = np.exp(2 * lam) * (lam[1] - lam[0])
    weight[0] /= 2
    best = itf.optimal_loss(field, field.schedule.time_at(lam), 3000, rng=0)
    # Before the first node L* = R^2 - a rho^2, after the last it is nothing.
    rho2, square = math.exp(2 * lam[0]), field.R**2
    area = weight @ best.loss + rho2 * (best.loss[0] + square) / 4
    stderr = np.linalg.norm(weight * best.stderr)
    assert stderr < 0.0025 * math.log(field.N)
    assert area == pytest.approx(math.log(field.N), rel=0.01)


@pytest.mark.filterwarnings("error")
def test_losses_at_the_end_of_float64():
    """Terms of pairs were subnormal next to those of bins that hold no point: a logarithm of 0, or an overflow."""
    rows = np.array([[0.0], [1000.0]])
    field = itf.Field(rows, itf.Linear())
    for s in np.linspace(12.9, 14.5, 17):
        loss = itf.optimal_loss(field, [1 / (1 + s)], n=256, rng=0)
        c = 500 / s + np.linspace(-20, 20, 20_001)  # from the first row, in units of s
        log_p = -(np.stack([c, c - 1000 / s]) ** 2) / 2 - math.log(2 * math.pi) / 2
        log_term = log_p.sum(axis=0) - np.logaddexp(*log_p) - math.log(2)  # w_0 w_1 p
        want = np.exp(np.logaddexp.reduce(log_term) + math.log(1e6 * (c[1] - c[0])))
        assert loss.interval[0, 0] <= want <= loss.interval[0, 1]
        assert abs(loss.loss[0] - want) <= max(6 * loss.stderr[0], 1e-320), s


def test_losses_of_rows_whose_radius_has_no_square():
    field = itf.Field(np.array([[0.0], [1e-39]]), weights=[1.0, 2e-297])
    loss = itf.optimal_loss(field, [0.5, 0.9], n=64, rng=0)
    assert loss.loss.tolist() == [0, 0]
    assert (loss.limit <= np.nextafter(0, 1)).all()


def test_standard_error_of_losses_whose_squares_are_no_numbers():
    """Rows 124 apart, one of weight 1e-218: every value is below 1e-180, and they are not alike."""
    best, alike = (
        itf.optimal_loss(itf.Field(np.array([[0.0], [124.0]]), weights=[1.0, light]), [0.005, 0.01], 400, rng=0)
        for light in (1e-218, 1e-100)
    )
    np.testing.assert_allclose(best.stderr / best.loss, alike.stderr / alike.loss, rtol=1e-4)
    assert (best.stderr > 1e-3 * best.loss).all()
    assert (best.interval[:, 0] <= best.loss).all()
    assert (best.loss <= best.interval[:, 1]).all()


def test_no_loss_is_above_its_limit():
    """All queries have the variance of the rows, to the rounding of float32: their mean may not say more than R^2."""
    rows = np.random.default_rng(5).normal(size=(50, 7)).astype(np.float32)
    best = itf.optimal_loss(itf.Field(rows), np.geomspace(1e-12, 1e-5, 60), 64, rng=0)
    assert (best.loss <= best.limit).all()
    assert (best.loss > (1 - 1e-4) * best.limit).all()
