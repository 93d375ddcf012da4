"""Audit against closed forms and brute-force Monte Carlo."""

from __future__ import annotations

import math

import numpy as np
import pytest

import interp_fast as itf
from interp_fast.field import oracle_of

PENTAGON = 2 * np.array([[math.cos(a), math.sin(a)] for a in 2 * math.pi / 5 * np.arange(5)])


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
    from interp_fast import _random, losses

    field, n = itf.Field(PENTAGON), 50
    times = np.linspace(0, 1, 9)[:-1].tolist()
    rows = {
        t: np.concatenate([index for _, _, index, _ in losses.draws(oracle_of(field), t, n, _random.noise_key(9), k)])
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


def test_excess_is_what_compare_finds():
    """On the same draws, to the bit: there is one formula."""
    field = itf.Field(PENTAGON)
    model, times = planted(field, 0.4, "smooth"), [0.3, 0.6, 0.9]
    rep = itf.audit(model, field, times, 100, rng=5)
    found = itf.compare(model, field, times, 100, kind="denoiser", rng=5)
    for name in ("excess", "excess_stderr", "loss", "optimal"):
        np.testing.assert_array_equal(getattr(rep, name), getattr(found, name))
