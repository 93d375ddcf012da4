"""Exact rates of tables, bounds on what errors do, and what the functions of ``theory`` refuse."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from support.pentagon import BRIDGE, BRIDGE2, PENTAGON, SCHEDULES, WEIGHTS, weights

import interp_fast as itf
from interp_fast import theory

# Discretization


def deviation(schedule, steps, n=4000, rows=PENTAGON):
    """Of the endpoints from their rows, (n, d)."""
    out = itf.sample(itf.Field(rows, schedule), steps, n, rng=0)
    return out.x - rows[out.index]


WIDE = np.eye(5, 64) * 2.0  # many coordinates for few samples


def test_euler_is_exact_on_the_linear_schedule():
    for K in (20, 80):
        assert np.abs(deviation(itf.Linear(), itf.euler(itf.Linear(), K))).max() < 1e-12


def test_euler_on_the_trigonometric_schedule():
    """Bias pi^2 h^2 / 8 of x_*, second order: rms distance pi^2 h^2 / 4 for rows of norm 2."""
    rms = []
    for K in (20, 80, 320):
        off = deviation(itf.Trigonometric(), itf.euler(itf.Trigonometric(), K), 500)
        rms.append(math.sqrt((off**2).sum(axis=1).mean()))
    np.testing.assert_allclose(rms, [6.17e-3, 3.858e-4, 2.411e-5], rtol=2e-3)
    slope = np.polyfit(np.log([20, 80, 320]), np.log(rms), 1)[0]
    assert slope == pytest.approx(-2, abs=0.01)
    law = theory.endpoint_law(itf.Trigonometric(), itf.euler(itf.Trigonometric(), 320))
    assert 2 * abs(law.bias) == pytest.approx(rms[-1], rel=1e-3)


@pytest.mark.parametrize(("schedule", "factor"), [(BRIDGE, 1.0), (BRIDGE2, 2.0)])
def test_euler_where_the_variance_vanishes_linearly(schedule, factor):
    """std sqrt(factor h / pi): slope 1/2 with its constant."""
    few = deviation(schedule, itf.euler(schedule, 80)).std()
    assert few / math.sqrt(factor / (80 * math.pi)) == pytest.approx(1.02, abs=0.03)
    many = deviation(schedule, itf.euler(schedule, 640), 160, WIDE).std()
    assert many / math.sqrt(factor / (640 * math.pi)) == pytest.approx(1.0, abs=0.02)
    law = theory.endpoint_law(schedule, itf.euler(schedule, 640))
    assert law.p == pytest.approx(0.5, abs=1e-5)
    assert law.std == pytest.approx(math.sqrt(factor / (640 * math.pi)), rel=0.01)


def test_euler_on_vp():
    """The exact product of the table, from the part of the run that sees one row."""
    steps = itf.euler(itf.VP(), 400)
    tail = itf.euler(itf.VP(), steps.times[360:])
    law = theory.endpoint_law(itf.VP(), tail)
    expected = math.hypot(law.std, law.bias * math.sqrt(2))  # |x_*| = 2 over two coordinates
    assert math.sqrt((deviation(itf.VP(), steps, 1000) ** 2).mean()) == pytest.approx(expected, rel=0.03)
    assert expected == pytest.approx(0.0075, rel=0.03)


@pytest.mark.parametrize("p", [0.25, 0.5, 1.0, 1.5])
def test_endpoint_law_of_a_power(p):
    schedule = itf.Custom(
        lambda t: t, lambda t: (1 - t) ** p, np.ones_like,
        lambda t: -p * np.maximum(1 - t, 1e-300) ** (p - 1),
    )  # fmt: skip
    K = 200
    law = theory.endpoint_law(schedule, itf.euler(schedule, K))
    exact = 0.0 if p == 1 else math.gamma(1) * np.prod(1 - p / np.arange(1, K + 1))
    assert law.factor == pytest.approx(exact, rel=1e-9, abs=1e-14)
    assert law.std == pytest.approx(abs(exact), rel=1e-9, abs=1e-14)
    assert law.p == pytest.approx(p, abs=1e-6)
    if p < 1:
        assert abs(exact) <= K**-p / math.gamma(1 - p)


def test_endpoint_law_of_exponential_steps():
    for schedule in (*SCHEDULES, itf.VEGeometric(0.01, 8.0)):
        for steps in (itf.ddim(schedule, 30), itf.ddpm(schedule, 30), itf.exponential_heun(schedule, 15)):
            law = theory.endpoint_law(schedule, steps)
            assert law.std == 0
            assert abs(law.bias) < 1e-12
    assert theory.endpoint_law(itf.VEGeometric(0.01, 8.0), steps).p == 0


def euler_maruyama_std(schedule, K, diffusion):
    steps = itf.euler_maruyama(schedule, K, diffusion)
    law = theory.endpoint_law(schedule, steps)
    return deviation(schedule, steps, 160, WIDE).std(), law.std


def test_euler_maruyama_noise():
    """Endpoint noise is the table's own: the recursion V <- A^2 V + S^2, against known constants."""
    measured, law = euler_maruyama_std(BRIDGE, 200, 0.5)  # a Brownian bridge: sqrt(h) exactly
    assert law == pytest.approx(math.sqrt(1 / 200), rel=1e-9)
    assert measured == pytest.approx(law, rel=0.03)
    for c, constant in ((0.5, 1.2616), (1.0, math.sqrt(6))):
        measured, law = euler_maruyama_std(itf.Linear(), 200, ("sigma", c))
        assert law * 200 == pytest.approx(constant, rel=1e-3)
        assert measured == pytest.approx(law, rel=0.03)
    slopes = [euler_maruyama_std(itf.Linear(), K, "sigma2")[1] * K**1.5 for K in (100, 400)]
    assert slopes[0] == pytest.approx(slopes[1], rel=0.02)


def test_constant_diffusion_diverges_under_euler_maruyama():
    with pytest.warns(UserWarning, match="diffusion"):
        stds = [theory.endpoint_law(itf.Linear(), itf.euler_maruyama(itf.Linear(), K, 0.5)).std for K in (50, 200)]
    assert stds[1] > 100 * stds[0] > 1000


@pytest.mark.parametrize("solver", ["euler", "ddim", "heun", "exponential_heun", "multistep"])
@pytest.mark.parametrize("schedule", [itf.Linear(), BRIDGE, BRIDGE2, itf.VP()], ids=str)
def test_discretization_bound_is_never_violated(schedule, solver, rng):
    curved = solver in ("euler", "heun") and isinstance(schedule, itf.VP)  # such a run need not stay in the cell
    field = itf.Field(PENTAGON, schedule, weights=WEIGHTS)
    x = rng.normal(size=(300, 2))
    for K in (20, 80):
        steps = getattr(itf, solver)(schedule, K)
        found = theory.discretization_bound(field, steps, x, 0.4)
        out = itf.sample(field, steps, x0=x)
        if not curved:
            assert found.valid.mean() > (0.6 if K == 20 else 0.9)
        distance = np.linalg.norm(out.x - PENTAGON[found.index], axis=1)
        assert (distance <= found.bound * (1 + 1e-9) + 1e-13)[found.valid].all()
        np.testing.assert_array_equal(out.index[found.valid], found.index[found.valid])
        assert np.isinf(found.bound[~found.valid]).all()


def test_discretization_bound_of_euler_is_sqrt_h(rng):
    """sigma^2 = 1 - t: at most sqrt(h / (pi (1 - t_m))) |x_m - alpha_m x_i| and the leakage."""
    field, K = itf.Field(PENTAGON, BRIDGE), 160
    x = rng.normal(size=(200, 2))
    steps = itf.euler(BRIDGE, K)
    found = theory.discretization_bound(field, steps, x, 0.4)
    path = itf.sample(field, steps, x0=x, keep="path").path
    assert found.valid.all()
    at = np.searchsorted(steps.times, found.time)
    start = path[np.arange(200), at] - found.time[:, None] * PENTAGON[found.index]
    closed = np.sqrt(1 / (K * np.pi * (1 - found.time))) * np.linalg.norm(start, axis=1)
    assert (found.bound <= closed + 0.02).all()
    linear = theory.discretization_bound(itf.Field(PENTAGON), itf.euler(itf.Linear(), 80), x)
    assert linear.bound.max() < 1e-12


def test_discretization_bound_without_ground():
    field = itf.Field(PENTAGON)
    noisy = theory.discretization_bound(field, itf.ddpm(field.schedule, 20), np.zeros((2, 2)))
    assert not noisy.valid[:1].any() or noisy.time[0] == 0.95  # only the last row of ddpm is deterministic
    early = theory.discretization_bound(field, itf.ddim(field.schedule, np.linspace(0, 0.3, 5)), np.zeros(2))
    assert not early.valid
    assert early.bound == np.inf
    assert early.index == -1


# Estimation


def test_estimation_bound(rng):
    field = itf.Field(PENTAGON, BRIDGE)
    for steps in (itf.euler(BRIDGE, 30), itf.heun(BRIDGE, 15), itf.multistep(BRIDGE, 30)):
        errors = 0.2 * rng.normal(size=(len(steps), 9, 2))
        out = itf.sample(field, steps, 9, rng=0, error=errors, terms=True)
        found = theory.estimation_bound(field, steps, errors)
        size = np.linalg.norm(out.terms.estimation, axis=1)
        np.testing.assert_allclose(found.lower, size, rtol=1e-9)
        assert (size <= found.upper).all()
        np.testing.assert_allclose(found.theta, size / found.upper)
        np.testing.assert_array_equal(found.weights, steps.error_weights())


def test_estimation_bound_in_the_mean_square(rng):
    """|T_est| <= sum_r |W_r| sqrt(M_r) E_r in L2, M_r the concentrability."""
    field, n = itf.Field(PENTAGON, BRIDGE), 2000
    steps = itf.euler(BRIDGE, 25)
    slip = lambda x, t: 0.2 * np.tanh(2 * x)  # noqa: E731
    out = itf.sample(field, steps, n, rng=1, error=lambda x, t, r: slip(x, t), terms=True)
    ratio = theory.concentrability(slip, field, steps, n, rng=1)
    bound = np.abs(steps.error_weights()) @ np.sqrt(ratio.ratio * ratio.drawn)
    assert math.sqrt((out.terms.estimation**2).sum(axis=1).mean()) <= bound


def test_cancellation_ratio():
    """Errors of a smooth field add up, independent ones average out."""
    field, steps = itf.Field(PENTAGON, BRIDGE), itf.euler(BRIDGE, 100)

    def theta(kind):
        seen = []

        def watch(x, t, r):
            e = kind(x, r)
            seen.append(e)
            return e

        itf.sample(field, steps, 200, rng=0, error=watch)
        return np.median(theory.estimation_bound(field, steps, np.array(seen)).theta)

    noise = np.random.default_rng(0).normal(size=(100, 200, 2))
    assert theta(lambda x, r: 0.2 * np.tanh(x)) > 0.98
    assert theta(lambda x, r: 0.14 * noise[r]) == pytest.approx(0.51, abs=0.08)


def test_distance_is_the_last_error():
    """Linear Euler and DDIM: ||x - x_*| - |e|| is at most the leakage at the last step."""
    field = itf.Field(PENTAGON)
    for solver in (itf.euler, itf.ddim):
        for size in (0.05, 0.2, 0.5):
            steps = solver(field.schedule, 50)
            out = itf.sample(field, steps, 500, rng=0, error=itf.perturb.constant(size), keep="path")
            last = weights(PENTAGON, out.path[:, -2], 0.98, 0.02)
            top = last.argmax(axis=1)
            leak = np.linalg.norm(last @ PENTAGON - PENTAGON[top], axis=1)
            distance = np.linalg.norm(out.x - PENTAGON[top], axis=1)
            assert (np.abs(distance - size) <= leak + 1e-12).all()
            assert np.median(leak) < 1e-12


def test_forgetting():
    """In the trapped regime DDIM multiplies an error by sigma_R / sigma_{r+1}."""
    schedule = itf.Linear()
    field = itf.Field(PENTAGON)
    steps = itf.ddim(schedule, np.linspace(0.9, 0.99, 10))
    x = 0.9 * PENTAGON + 0.01
    clean = itf.sample(field, steps, x0=x).x
    for r in (0, 4, 8):
        errors = np.zeros((9, 5, 2))
        errors[r, :, 0] = 1e-3
        moved = np.linalg.norm(itf.sample(field, steps, x0=x, error=errors).x - clean, axis=1)
        expected = 1e-3 * steps.B[r] * 0.01 / steps.sigma[r + 1]
        np.testing.assert_allclose(moved, expected, rtol=1e-6)
    found = theory.amplification(field, steps, x)
    np.testing.assert_allclose(found.cell[:, 0], steps.B * 0.01 / steps.sigma[1:], rtol=1e-6)


def test_amplification_bounds_small_errors(rng):
    field = itf.Field(PENTAGON)
    steps = itf.ddim(field.schedule, np.linspace(0, 0.98, 50))
    x = rng.normal(size=(60, 2))
    found = theory.amplification(field, steps, x)
    clean = itf.sample(field, steps, x0=x).x
    for r in (5, 10, 20, 30, 40):
        errors = np.zeros((49, 60, 2))
        errors[r, :, 0] = 1e-7
        true = np.linalg.norm(itf.sample(field, steps, x0=x, error=errors).x - clean, axis=1) / 1e-7
        assert (true <= found.path[r] * 1.01 + 1e-6).all()
        assert (true <= found.overall[r]).all()
    assert np.median(found.path[10]) == pytest.approx(1.6e-3, rel=0.5)
    assert found.overall[10] > 1e19
    assert (np.median(found.cell, axis=1) <= found.overall).all()


def test_amplification_of_two_stage_rows(rng):
    field = itf.Field(PENTAGON, BRIDGE)
    x = rng.normal(size=(40, 2))
    for steps in (itf.heun(BRIDGE, np.linspace(0.1, 0.9, 20)), itf.multistep(BRIDGE, np.linspace(0.1, 0.9, 20))):
        found = theory.amplification(field, steps, x)
        clean = itf.sample(field, steps, x0=x).x
        for r in (4, 5, 17):
            errors = np.zeros((len(steps), 40, 2))
            errors[r, :, 1] = 1e-7
            true = np.linalg.norm(itf.sample(field, steps, x0=x, error=errors).x - clean, axis=1) / 1e-7
            assert (true <= found.path[r] * 1.01 + 1e-6).all()


def test_noise_is_left_out_of_the_path(rng):
    """What is looked at is the run of the same table with S = 0, whose states ``sample`` gives."""
    field, x = itf.Field(PENTAGON, BRIDGE), rng.normal(size=(8, 2))
    noisy = itf.euler_maruyama(BRIDGE, np.linspace(0.1, 0.9, 12), 0.3)
    assert (noisy.S > 0).any()
    quiet = dataclasses.replace(noisy, S=np.zeros(len(noisy)))
    np.testing.assert_array_equal(
        theory.amplification(field, noisy, x).path, theory.amplification(field, quiet, x).path
    )
    # Rows with noise first, then those that trap: the run up to there is the quiet one, too.
    field, steps = itf.Field(PENTAGON), itf.ddim(itf.Linear(), 30)
    found = theory.discretization_bound(field, dataclasses.replace(steps, S=np.where(np.arange(30) < 3, 0.1, 0.0)), x)
    assert found.valid.any()
    ends = itf.sample(field, steps, x0=x).x[found.valid]
    away = np.linalg.norm(ends - PENTAGON[found.index[found.valid]], axis=1)
    assert (away <= found.bound[found.valid] + 1e-12).all()


def test_concentrability_tends_to_one():
    """The oracle's run follows the law of x_t as the steps become small."""
    field = itf.Field(PENTAGON)
    error = lambda x, t: 1e-6 * (np.sin(2 * x) + x)  # noqa: E731  # too small to move the run
    worst = []
    for K in (10, 160):
        found = theory.concentrability(error, field, itf.ddim(field.schedule, K), 4000, rng=0)
        worst.append(np.abs(found.ratio - 1).max())
    assert worst[1] < 0.04 < worst[0]
    assert (found.stderr < 0.03).all()


def test_concentrability_of_a_model():
    field = itf.Field(PENTAGON)
    model = itf.Model(lambda x, t: field.denoiser(x, t) + 0.1, field.schedule, predicts="denoiser")
    found = theory.concentrability(model, field, itf.ddim(field.schedule, 5), 50, rng=0)
    np.testing.assert_allclose(found.generated, 0.02)
    np.testing.assert_allclose(found.ratio, 1.0)


# Arguments


SMOOTH = itf.Field(PENTAGON, bandwidth=0.1)
STEPS = itf.ddim(itf.Linear(), 5)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda f: theory.trapping(SMOOTH, PENTAGON, 0.5), "bandwidth"),
        (lambda f: theory.dominance(SMOOTH, 0.1), "bandwidth"),
        (lambda f: theory.discretization_bound(SMOOTH, STEPS, PENTAGON), "bandwidth"),
        (lambda f: theory.amplification(SMOOTH, STEPS, PENTAGON), "bandwidth"),
        (lambda f: theory.trapping(f, PENTAGON, 0.5, q=0.5), "q must lie"),
        (lambda f: theory.trapping(f, PENTAGON, 0.5, error=-1.0), "error"),
        (lambda f: theory.trapping(f, PENTAGON[:, :1], 0.5), "x must have shape"),
        (lambda f: theory.dominance(f, 0.0), "tol"),
        (lambda f: theory.dominance(f, 1.0), "tol"),
        (lambda f: theory.margin_condition(f, PENTAGON, 0.5, h=0.0), "h must lie"),
        (lambda f: theory.margin_condition(f, PENTAGON, 0.5, h=1.5), "h must"),
        (lambda f: theory.collapse_time(f, level=1.0), "level"),
        (lambda f: theory.collapse_time(f, 1), "n must"),
        (lambda f: theory.estimation_bound(f, STEPS, np.zeros((4, 3, 2))), "errors must"),
        (lambda f: theory.estimation_bound(f, STEPS, np.zeros((5, 3, 1))), "errors must"),
    ],
)
def test_refused(call, words):
    with pytest.raises((TypeError, ValueError), match=words):
        call(itf.Field(PENTAGON))


def test_results_print_export_and_plot():
    import matplotlib as mpl

    mpl.use("agg")
    field = itf.Field(PENTAGON)
    results = [
        theory.trapping(field, PENTAGON, 0.5), theory.dominance(field, 0.1), theory.speciation_time(field),
        theory.collapse_time(field, 20, rng=0), theory.margin_condition(field, PENTAGON, 0.5, 0.1),
        theory.endpoint_law(field.schedule, STEPS), theory.discretization_bound(field, STEPS, PENTAGON),
        theory.estimation_bound(field, STEPS, np.zeros((5, 2, 2))), theory.amplification(field, STEPS, PENTAGON),
        theory.concentrability(lambda x, t: 0.1 + 0 * x, field, STEPS, 20, rng=0),
    ]  # fmt: skip
    for result in results:
        assert type(result).__name__ in repr(result)
        assert set(result.to_dict()) == set(result.__dataclass_fields__)
    for result in (*results[2:4], *results[-2:]):
        ax = result.plot()
        assert ax.lines
        assert result.plot(ax) is ax
        mpl.pyplot.close(ax.figure)
