"""Optimal loss and audit against quadrature, closed forms and brute-force Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest

import interp_fast as itf

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
    assert best.queries.sum() == pytest.approx(8 * 1000 * 15 / 16, rel=0.01)


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


def test_integral_over_the_signal_to_noise_ratio_is_the_entropy():
    """I-MMSE: the integral of L* rho d rho is log N. Queries go where they serve the integral best."""
    field = itf.Field(np.arange(4.0)[:, None])
    lam = np.linspace(-4.2, 2.3, 18)
    times, weight = field.schedule.time_at(lam), np.exp(2 * lam) * (lam[1] - lam[0])  # rho d rho = rho^2 d lambda
    pilot = itf.optimal_loss(field, times, 20_000, rng=0)
    spread = weight * pilot.stderr * np.sqrt(pilot.queries)
    queries = np.maximum(20_000, 2e6 * spread / spread.sum()).astype(int).tolist()
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


def planted(field, norm, kind="random"):
    """A model that is off by |e^D| = norm everywhere, in fresh random directions or in one that turns with x."""
    directions = np.random.default_rng(7)

    def denoiser(x, t):
        if kind == "random":
            g = directions.normal(size=x.shape)
        else:
            angle = 1.3 * x[:, :1] - 0.7 * x[:, 1:] + 1
            g = np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
        return field.denoiser(x, t) + norm * g / np.linalg.norm(g, axis=1, keepdims=True)

    return itf.Model(denoiser, field.schedule, predicts="denoiser")


@pytest.mark.parametrize("kind", ["random", "smooth"])
@pytest.mark.parametrize("norm", [0.05, 0.1, 0.2, 0.5, 1.0, 1.5])
def test_planted_errors_are_classified(norm, kind):
    """Rows are 2.35 apart: samples off by up to 0.78 are memorized."""
    field = itf.Field(PENTAGON)
    rep = itf.audit(planted(field, norm, kind), field, 16, 60, steps=itf.ddim(field.schedule, 16), rng=3)
    assert rep.verdict == ("overfitting" if norm < 0.78 else "underfitting")
    assert rep.memorizes is (norm < 0.78)
    assert rep.memorized == (norm < 0.78)
    assert rep.displaced == (norm > 0.78)
    np.testing.assert_allclose(rep.excess, norm**2, rtol=1e-10)
    np.testing.assert_allclose(rep.concentrability, 1, rtol=1e-10)
    assert not rep.below.any()
    # The last row of ddim lands on D itself: only its error counts, and the other terms are leakage.
    if norm <= 1:
        assert rep.bound == pytest.approx(norm, rel=1e-6)
        third = 4 * math.sin(math.pi / 5) / 3
        assert rep.memorized_bound == pytest.approx(max(0, 1 - (norm / third) ** 2), abs=1e-6)
    assert rep.memorized_bound <= rep.memorized


def test_loss_is_the_lowest_loss_plus_the_excess():
    field = itf.Field(PENTAGON, itf.VP())
    model = itf.Model(lambda x, t: field.noise(x, t) + 0.2 * np.tanh(x), field.schedule, predicts="noise")
    rep = itf.audit(model, field, [0.1, 0.3, 0.5, 0.7], 800, rng=1)
    best = itf.optimal_loss(field, rep.times, 800, rng=2)
    assert rep.times.tolist() == [0.1, 0.3, 0.5, 0.7]
    # Against fresh draws; an error of the noise prediction is -(alpha / sigma) times one of D.
    rng = np.random.default_rng(0)
    for k, t in enumerate(rep.times):
        c, n = field.schedule(t), 2000
        row = rng.integers(5, size=n)
        x = c.alpha * PENTAGON[row] + c.sigma * rng.normal(size=(n, 2))
        squared = ((0.2 * np.tanh(x) * c.sigma / c.alpha) ** 2).sum(axis=1)
        loss = ((model.denoiser(x, t) - PENTAGON[row]) ** 2).sum(axis=1)
        assert abs(rep.excess[k] - squared.mean()) < 4 * math.hypot(rep.excess_stderr[k], squared.std() / math.sqrt(n))
        assert abs(rep.loss[k] - loss.mean()) < 4 * loss.std() * math.sqrt(1 / n + 1 / 800)
        assert abs(rep.optimal[k] - best.loss[k]) < 4 * math.hypot(rep.optimal_stderr[k], best.stderr[k])


def test_terms_are_those_of_sampling():
    field = itf.Field(PENTAGON.astype(np.float32), itf.LatentBridge())
    model = itf.Model(lambda x, t: field.velocity(x, t) + np.float32(0.3), field.schedule)
    steps = itf.euler_maruyama(field.schedule, 12, "sigma2")
    rep = itf.audit(model, field, 3, 30, steps=steps, rng=5)
    out = itf.sample(model, steps, 30, oracle=field, terms=True, rng=5)
    for name in ("selection", "estimation", "noise", "total"):
        np.testing.assert_array_equal(getattr(rep.terms, name), getattr(out.terms, name))
    distance = np.linalg.norm(out.terms.total, axis=1)
    np.testing.assert_allclose(distance, np.linalg.norm(out.x - PENTAGON[out.index], axis=1), atol=1e-5)
    assert rep.memorized == np.mean(distance <= rep.radius)


@pytest.mark.parametrize(
    ("solver", "schedule"),
    [
        (itf.euler, itf.LatentBridge()),
        (itf.heun, itf.Trigonometric()),
        (itf.multistep, itf.Linear()),
        (itf.ddpm, itf.Linear()),
    ],
    ids=["euler", "heun", "multistep", "ddpm"],
)
def test_bound_is_above_the_distance_of_samples(solver, schedule):
    field = itf.Field(PENTAGON)
    model = itf.Model(
        lambda x, t: field.with_schedule(schedule).denoiser(x, t) + 0.1 * np.sin(3 * x), schedule, "denoiser"
    )
    steps = solver(schedule, 12)
    times = np.unique(steps.times[:-1])
    rep = itf.audit(model, field, times, 60, steps=steps, rng=2)
    rms = np.sqrt(np.mean(np.sum(rep.terms.total**2, axis=1)))
    assert rms < rep.bound
    weights = np.abs(steps.error_weights())
    selection = np.sqrt(np.mean(np.sum(rep.terms.selection**2, axis=1)))
    assert rep.bound > selection + weights.sum() * np.sqrt(rep.excess.min()) + math.sqrt(2) * steps.noise_std()[-1]
    # The bound is that of the table, wherever the losses are taken.
    assert rep.bound_times.tolist() == np.unique(steps.times[:-1][weights > 0]).tolist()
    assert rep.concentrability.shape == rep.bound_times.shape
    elsewhere = itf.audit(model, field, [0.01, 0.5], 60, steps=steps, rng=2)
    assert elsewhere.bound == pytest.approx(rep.bound, rel=0.1)
    assert elsewhere.bound_times.tolist() == rep.bound_times.tolist()


def test_discretization_noise_is_not_underfitting():
    """Euler with few steps leaves the oracle itself off the rows: nothing to blame on the model."""
    field = itf.Field(0.2 * PENTAGON, itf.LatentBridge())
    model = itf.Model(field.denoiser, field.schedule, "denoiser")
    rep = itf.audit(model, field, 5, 60, steps=itf.euler(model.schedule, 5), rng=0)
    assert rep.memorized < 0.5
    assert rep.displaced == 0
    assert rep.verdict == "undetermined"
    assert rep.excess.max() < 1e-25


def test_bound_alone_decides_with_few_trajectories():
    field = itf.Field(PENTAGON)
    verdicts = [itf.audit(planted(field, norm), field, 4, 10, rng=0).verdict for norm in (0.2, 0.5)]
    assert verdicts == ["overfitting", "undetermined"]  # 0.78 sqrt(0.1) lies between


def test_a_loss_below_the_limit_is_reported():
    """A model that is told the rows it should predict, from the draws that the audit will make."""
    from interp_fast import _montecarlo, _random

    field, n = itf.Field(PENTAGON), 50
    times = np.linspace(0, 1, 9)[:-1].tolist()
    rows = {
        t: np.concatenate([index for _, _, index, _ in _montecarlo.draws(field, t, n, _random.noise_key(9), k)])
        for k, t in enumerate(times)
    }

    model = itf.Model(lambda x, t: (field.denoiser(x, t) + PENTAGON[rows[t]]) / 2, field.schedule, "denoiser")
    with pytest.warns(UserWarning, match="below its lower limit"):
        rep = itf.audit(model, field, 8, n, steps=itf.ddim(field.schedule, 8), rng=9)
    assert rep.below[:4].all()
    assert (rep.loss[:4] < rep.optimal[:4]).all()


def test_smoothed_oracle_has_the_smoothed_loss():
    field = itf.Field(PENTAGON, bandwidth=0.4)
    model = itf.Model(lambda x, t: field.denoiser(x, t) + 0.1, field.schedule, "denoiser")
    rep = itf.audit(model, field, 4, 500, rng=0)
    best = itf.optimal_loss(field, rep.times, 500, rng=1)
    np.testing.assert_allclose(rep.excess, 0.02, rtol=1e-9)
    np.testing.assert_allclose(rep.optimal, best.loss, atol=1e-12 + 6 * best.stderr.max())
    np.testing.assert_allclose(rep.loss, rep.optimal + 0.02, rtol=0.2)
    assert rep.optimal[0] == pytest.approx(4 + 2 * 0.16)


def test_default_radius_is_a_third_of_the_way_to_the_nearest_different_row():
    rows = np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [9.0, 0.0]])
    field = itf.Field(rows)
    model = itf.Model(field.denoiser, field.schedule, "denoiser")
    rep = itf.audit(model, field, 8, 40, steps=itf.ddim(field.schedule, 8), rng=0)
    nearest = itf.sample(field, itf.ddim(field.schedule, 8), 40, rng=0).index
    np.testing.assert_allclose(rep.radius, np.where(nearest == 6, 2.0, 1.0))
    assert set(nearest) == {0, 5, 6}
    assert rep.verdict == "overfitting"
    half = itf.Custom(lambda t: t / 2, lambda t: 1 - t)  # samples are half the rows
    small = itf.audit(itf.Model(field.with_schedule(half).denoiser, half, "denoiser"), field, 8, 40, rng=0)
    assert set(np.round(small.radius, 12)) == {0.5, 1.0}
    assert small.memorized == 1
    assert itf.audit(model, field, 8, 40, radius=0.25, rng=0).radius == 0.25
    same = itf.Field(np.ones((3, 2)))
    only = itf.audit(itf.Model(same.denoiser, same.schedule, "denoiser"), same, 3, 30, rng=0)
    assert np.isinf(only.radius).all()
    assert only.verdict == "overfitting"


def test_audit_names_the_argument():
    field = itf.Field(PENTAGON)
    model = itf.Model(field.denoiser, field.schedule, "denoiser")
    with pytest.raises(TypeError, match="model must be a Model"):
        itf.audit(field, field, 5, 10)
    with pytest.raises(TypeError, match="field must be a Field"):
        itf.audit(model, PENTAGON, 5, 10)
    with pytest.raises(TypeError, match="'solver'.*pass steps="):
        itf.audit(model, field, 5, 10, solver=itf.ddim)
    with pytest.raises(TypeError, match="no argument 'radios'"):
        itf.audit(model, field, 5, 10, radios=3)
    for match, options in (("level must lie", {"level": 1.0}), ("radius must be", {"radius": -1.0})):
        with pytest.raises(ValueError, match=match):
            itf.audit(model, field, 5, 10, **options)
    with pytest.raises(ValueError, match="n must be >= 2"):
        itf.audit(model, field, 5, 1)
    for times, match in (
        (5, r"times must avoid t = 0\.0: there a noise"),
        ([0.5], r"steps must avoid t = 0\.0.*linspace"),
    ):
        with pytest.raises(ValueError, match=match):
            itf.audit(itf.Model(field.noise, field.schedule, "noise"), field, times, 10)


def test_audit_prints_becomes_a_dict_and_is_drawn():
    import matplotlib

    matplotlib.use("Agg")
    field = itf.Field(PENTAGON)
    rep = itf.audit(planted(field, 0.1), field, 4, 30, rng=0)
    assert repr(rep).startswith("memorizes: 30 of 30 samples")
    assert "\n  verdict " in repr(rep)
    assert rep.to_dict()["verdict"] == rep.verdict
    assert len(rep.to_dict()["terms"]["noise"]) == 30
    ax = rep.plot()
    assert rep.plot(ax) is ax
    assert ax.get_title() == "memorizes: copied 100 %"
    last = itf.audit(itf.Model(field.denoiser, field.schedule, "denoiser"), field, 1.0, 30, rng=0)
    assert last.plot().get_yscale() == "linear"  # nothing positive to show
    matplotlib.pyplot.close("all")
