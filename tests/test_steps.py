"""Tables of steps alone: no kernel. What a row means is written out once more in ``unroll``."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support.tables import EXACT, SCHEDULES, SOLVERS, inside, law, on_schedules, on_solvers, quiet, unroll

from interp_fast import grid
from interp_fast.schedules import (
    VP,
    Custom,
    EncoderDecoder,
    LatentBridge,
    Linear,
    SqrtVP,
    Trigonometric,
    VEGeometric,
    VELinear,
)
from interp_fast.steps import (
    ddim,
    ddpm,
    euler,
    euler_maruyama,
    exponential,
    heun,
)


@on_schedules
@on_solvers
def test_points_lie_on_the_schedule(schedule, solver):
    times = inside(6)
    table = SOLVERS[solver](schedule, times)
    at = schedule(table.times)
    np.testing.assert_array_equal(table.alpha, at.alpha)
    np.testing.assert_array_equal(table.sigma, at.sigma)
    np.testing.assert_array_equal(np.unique(table.times), times)
    np.testing.assert_array_equal(table.times[1:][table.commit], times[1:])
    assert table.commit.sum() == 6
    assert len(table) == len(table.A) == (12 if "heun" in solver else 6)
    assert table.name == solver.split()[0]


@on_schedules
@pytest.mark.parametrize("solver", EXACT)
def test_the_last_row_lands_exactly_on_alpha_D(schedule, solver):
    for table in (SOLVERS[solver](schedule, 7), SOLVERS[solver](schedule, grid.log_snr(schedule, 7))):
        alpha = schedule(1.0).alpha
        assert (table.A[-1], table.B[-1], table.C[-1], table.S[-1]) == (0.0, alpha, 0.0, 0.0)
        assert (table.times[-1], table.alpha[-1], table.sigma[-1]) == (1.0, alpha, 0.0)
        assert table.commit[-1]
        assert table.noise_std()[-1] == 0.0
        assert table.error_weights()[-1] == alpha
        assert not table.error_weights()[:-1].any()


def test_heun_lands_with_one_exponential_row():
    table = heun(Linear(), 4)
    assert len(table) == 7
    assert table.commit.tolist() == [False, True] * 3 + [True]
    assert table.times.tolist() == [0, 0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1]
    assert (table.A[-1], table.B[-1], table.C[-1]) == (0.0, 1.0, 0.0)
    one = heun(SqrtVP(), 1)  # the velocity, infinite at 0, is not asked for
    assert (len(one), one.A[0], one.B[0]) == (1, 0.0, 1.0)


@on_solvers
def test_schedules_that_end_above_zero_close_with_an_exponential_row(solver):
    schedule = VEGeometric(0.01, 20.0)
    table = SOLVERS[solver](schedule, 5)
    assert len(table) == (11 if "heun" in solver else 6)
    assert table.times[-2:].tolist() == [1.0, 1.0]
    assert table.sigma[-2:].tolist() == [0.01, 0.0]
    assert table.alpha[-2:].tolist() == [1.0, 1.0]
    assert (table.A[-1], table.B[-1], table.C[-1], table.S[-1], table.commit[-1]) == (0.0, 1.0, 0.0, 0.0, True)
    early = SOLVERS[solver](schedule, np.linspace(0, 0.9, 6))
    assert early.times[-1] == 0.9  # honoured: no row is added
    assert early.sigma[-1] == schedule(0.9).sigma


@on_schedules
def test_euler_is_the_velocity(schedule):
    times = inside(9)
    table = euler(schedule, times)
    rng = np.random.default_rng(0)
    x, d = rng.normal(size=(2, 9))
    at = schedule(times[:-1])
    velocity = at.alpha_dot * d + at.sigma_dot * (x - at.alpha * d) / at.sigma
    np.testing.assert_allclose(table.A * x + table.B * d, x + np.diff(times) * velocity, rtol=1e-12, atol=1e-12)
    assert not table.C.any()
    assert not table.S.any()


@pytest.mark.parametrize("schedule", [Linear(), VELinear(), LatentBridge(0.0)], ids=repr)
@pytest.mark.parametrize("times", [1, 2, 64, 1000, inside(13), grid.karras(Linear(), 9)], ids=str)
def test_euler_on_straight_paths_is_ddim(schedule, times):
    one, two = euler(schedule, times), ddim(schedule, times)
    for column in ("A", "B"):
        np.testing.assert_allclose(getattr(one, column), getattr(two, column), rtol=0, atol=1e-14)
    if one.sigma[-1] == 0:
        assert one.A[-1] == 0.0
        assert one.B[-1] == pytest.approx(1.0, abs=3e-16)


@on_schedules
def test_euler_maruyama_adds_epsilon_times_the_score(schedule):
    times = inside(8)
    at, h = schedule(times[:-1]), np.diff(times)
    epsilon = 0.01 + times[:-1] ** 2
    table = quiet(euler_maruyama, schedule, times, lambda t: 0.01 + t**2)
    plain = euler(schedule, times)
    x, d = np.random.default_rng(0).normal(size=(2, 8))
    score = (at.alpha * d - x) / at.sigma**2
    np.testing.assert_allclose(
        table.A * x + table.B * d, plain.A * x + plain.B * d + h * epsilon * score, rtol=1e-11, atol=1e-11
    )
    np.testing.assert_allclose(table.S, np.sqrt(2 * epsilon * h), rtol=1e-14)


def test_diffusions():
    schedule, times = VP(), np.linspace(0, 0.95, 40)
    at, h = schedule(times[:-1]), np.diff(times)
    beta = 0.1 + (1 - times[:-1]) * 19.9
    for diffusion, epsilon in [
        (0, 0.0 * h),
        (np.float32(0.25), 0.25),
        ("sigma", at.sigma),
        ("sigma2", at.sigma**2),
        (("sigma2", 3), 3 * at.sigma**2),
        ("reversal", beta / 2),  # the time reversal of the variance preserving diffusion
        (("reversal", 0.5), beta / 4),
        (lambda t: 0.5, 0.5),
        (lambda t: t, times[:-1]),
    ]:
        table = quiet(euler_maruyama, schedule, times, diffusion)
        np.testing.assert_allclose(table.S**2 / (2 * h), np.broadcast_to(epsilon, h.shape), rtol=1e-11, atol=0)
    np.testing.assert_array_equal(euler_maruyama(schedule, times, 0).B, euler(schedule, times).B)


@on_schedules
@pytest.mark.parametrize("times", [1, 2, 30], ids=str)
def test_ddpm_is_churn_one_is_ddim_with_eta_one(schedule, times):
    tables = ddpm(schedule, times), exponential(schedule, times, 1.0), ddim(schedule, times, 1.0)
    for column in ("A", "B", "S"):
        for other in tables[1:]:
            np.testing.assert_allclose(getattr(tables[0], column), getattr(other, column), rtol=1e-12, atol=1e-14)
    none = exponential(schedule, times), ddim(schedule, times)
    for column in ("A", "B", "S"):
        np.testing.assert_array_equal(getattr(none[0], column), getattr(none[1], column))


@on_schedules
def test_ddpm_is_the_ancestral_formula(schedule):
    """p(x' | x, x_1) of the noising chain x' -> x, whose transition has mean (alpha/alpha') x' (Ho et al. 2020)."""
    times = inside(12, 0.55)
    table = ddpm(schedule, times)
    (a, a_next), (s, s_next) = ((v[:-1], v[1:]) for v in schedule(times)[:2])
    ratio = a / a_next
    transition = s**2 - ratio**2 * s_next**2
    precision = ratio**2 / transition + 1 / s_next**2
    np.testing.assert_allclose(table.S, precision**-0.5, rtol=1e-12)
    np.testing.assert_allclose(table.A, ratio / transition / precision, rtol=1e-12)
    np.testing.assert_allclose(table.B, a_next / s_next**2 / precision, rtol=1e-12)


@on_schedules
@pytest.mark.parametrize("churn", [0.0, 0.1, 1.0, 7.0, 1e3])
def test_exponential_rows(schedule, churn):
    """The residual and its variance against the solution of their equations, by (rho/rho')^c."""
    times = inside(10, 0.55)
    at = schedule(times)
    rho = at.alpha / at.sigma
    table = exponential(schedule, times, churn)
    decay = (rho[:-1] / rho[1:]) ** churn
    np.testing.assert_allclose(table.A, at.sigma[1:] / at.sigma[:-1] * decay, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(table.S, at.sigma[1:] * np.sqrt(1 - decay**2), rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(table.B, at.alpha[1:] - at.alpha[:-1] * table.A)


@on_schedules
@pytest.mark.parametrize("eta", [0.2, 0.9])
def test_ddim_with_noise_keeps_the_variance(schedule, eta):
    for times in (5, inside(10)):
        table, full = ddim(schedule, times, eta), ddpm(schedule, times)
        np.testing.assert_allclose(table.S, eta * full.S, rtol=1e-14)
        np.testing.assert_allclose((table.A * table.sigma[:-1]) ** 2 + table.S**2, table.sigma[1:] ** 2, rtol=1e-14)


@on_schedules
@pytest.mark.parametrize("solver", EXACT)
def test_a_single_datum_keeps_its_law(schedule, solver):
    y = 1.7
    for times in (inside(11), 6, grid.log_snr(schedule, 9), np.linspace(0.0, 0.8, 5)):
        table = SOLVERS[solver](schedule, times)
        mean, variance = law(table, y, table.sigma[0])
        assert mean == pytest.approx(table.alpha[-1] * y, rel=1e-13, abs=1e-15)
        assert variance == pytest.approx(table.sigma[-1] ** 2, rel=1e-12, abs=0)
        terms = np.abs(table.A) * table.alpha.max() + np.abs(table.B) + np.abs(table.C)
        assert (np.abs(table.curvature_defect()) <= 4e-16 * (1 + terms)).all()


@pytest.mark.parametrize("schedule", [s for s in SCHEDULES if s != EncoderDecoder()], ids=repr)
def test_euler_maruyama_errors_halve_as_steps_double(schedule):
    errors = []
    for K in (200, 400, 800):
        table = euler_maruyama(schedule, np.linspace(0.2, 0.8, K + 1), "reversal")
        mean, variance = law(table, 1.0, table.sigma[0])
        errors.append([abs(mean - table.alpha[-1]), abs(variance - table.sigma[-1] ** 2)])
    errors = np.array(errors)
    moving = errors[0] > 1e-12  # alpha of a straight path is followed exactly
    assert moving[1]
    np.testing.assert_allclose(errors[:-1, moving] / errors[1:, moving], 2.0, rtol=0.03)


POINTS = np.array([[1.0, 0.2], [-0.6, 0.9], [-0.3, -1.1]])
LOG_WEIGHTS = np.log([0.2, 0.5, 0.3])


def denoiser(x, alpha, sigma):
    logits = LOG_WEIGHTS - ((x - alpha * POINTS) ** 2).sum(1) / (2 * sigma**2)
    weights = np.exp(logits - logits.max())
    return weights @ POINTS / weights.sum()


@pytest.mark.parametrize(
    ("solver", "order"), [("euler", 1), ("ddim", 1), ("heun", 2), ("exponential_heun", 2), ("multistep", 2)]
)
@pytest.mark.parametrize(
    ("schedule", "first", "last"),
    [
        (Linear(), 0.1, 0.8),
        (Trigonometric(), 0.1, 0.8),
        (SqrtVP(), 0.1, 0.8),
        (LatentBridge(2.0), 0.1, 0.8),
        (VP(), 0.4, 0.9),
        (VEGeometric(0.01, 20.0), 0.3, 0.7),
        (VELinear(4.0), 0.1, 0.8),
        (EncoderDecoder(), 0.55, 0.8),
        (Custom(lambda t: t * (2 - t), lambda t: 1 - t**2, lambda t: 2 - 2 * t, lambda t: -2 * t), 0.1, 0.8),
    ],
    ids=lambda v: v if isinstance(v, float) else type(v).__name__,
)
def test_order_of_convergence(solver, order, schedule, first, last):
    def velocity(t, x):
        alpha, sigma, alpha_dot, sigma_dot = schedule(t)
        d = denoiser(x, alpha, sigma)
        return alpha_dot * d + sigma_dot * (x - alpha * d) / sigma

    x0 = schedule(first).alpha * POINTS[0] + schedule(first).sigma * np.array([0.3, -0.8])
    want = solve_ivp(velocity, (first, last), x0, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    counts = np.array([128, 256, 512])
    errors = []
    for K in counts:
        table = SOLVERS[solver](schedule, inside(K, first, last))
        x = unroll(table, x0, lambda r, x, alpha, sigma: denoiser(x, alpha, sigma), np.zeros(len(table)))
        errors.append(np.linalg.norm(x - want))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.12), errors


@on_schedules
@on_solvers
def test_columns_of_the_error_analysis_by_unrolling(schedule, solver):
    """The final state is linear in x0, D and xi: propagator, error weights and noise read off by unit inputs."""
    table = SOLVERS[solver](schedule, inside(7))
    R = len(table)
    zero, unit = np.zeros(R), np.eye(R)

    def at(r_values):
        return lambda r, x, alpha, sigma: r_values[r]

    weights = [unroll(table, np.array(0.0), at(e), zero) for e in unit]
    np.testing.assert_allclose(table.error_weights(), weights, rtol=1e-12, atol=1e-15)

    phi, std = table.propagator(), table.noise_std()
    committed = np.flatnonzero(table.commit)
    for k, r in enumerate(committed):
        rest = np.prod(table.A[committed[k + 1 :]])
        assert phi[r] == pytest.approx(rest, rel=1e-13)
        gains = [unroll(table, np.array(0.0), at(zero), e, states=True)[r] for e in unit]
        assert std[r] == pytest.approx(np.sqrt(np.sum(np.square(gains))), rel=1e-12, abs=1e-16)
    assert phi[-1] == 1.0
    skipped = ~table.commit
    for column in (phi, std, table.curvature_defect()):
        assert column.shape == (R,)
        assert not column[skipped].any()
    corrected = np.append(table.C[1:], 0.0)[skipped] != 0  # a predictor's error arrives through the corrector
    np.testing.assert_array_equal(table.error_weights()[skipped] != 0, corrected)

    # one committed row at a time, from base = alpha y and all D = y
    point = 0
    for r in committed:
        out = table.A[r] * table.alpha[point] + table.B[r] + table.C[r]
        assert table.curvature_defect()[r] == pytest.approx(out - table.alpha[r + 1], abs=1e-15)
        point = r + 1


@on_schedules
@on_solvers
@pytest.mark.parametrize("times", ["inside", "to the end"])
def test_three_term_identity(schedule, solver, times):
    """x_K - alpha_K x_* = selection + estimation + noise, for random D, errors, noise and x_*."""
    rng = np.random.default_rng(3)
    table = SOLVERS[solver](schedule, inside(9) if times == "inside" else np.append(inside(9), 1.0))
    R = len(table)
    x0, star = rng.normal(size=(2, 4))
    D, e, xi = rng.normal(size=(3, R, 4))
    end = unroll(table, x0, lambda r, x, alpha, sigma: D[r] + e[r], xi)

    defect = table.curvature_defect()
    selection, estimation, noise = x0 - table.alpha[0] * star, np.zeros(4), np.zeros(4)
    for r in np.flatnonzero(table.commit):
        a, b, c = table.A[r], table.B[r], table.C[r]
        selection = a * selection + b * (D[r] - star) + c * (D[r - 1] - star) + defect[r] * star
        estimation = a * estimation + b * e[r] + c * e[r - 1]
        noise = a * noise + table.S[r] * xi[r]
    scale = 1e-12 * max(1.0, np.abs(end).max(), np.abs(x0).max())
    np.testing.assert_allclose(selection + estimation + noise, end - table.alpha[-1] * star, rtol=0, atol=scale)
    np.testing.assert_allclose(estimation, table.error_weights() @ e, rtol=0, atol=scale)

    # the same with 0 in place of x_*, which is put in at the end
    total = x0.copy()
    for r in np.flatnonzero(table.commit):
        total = table.A[r] * total + table.B[r] * D[r] + table.C[r] * D[r - 1]
    np.testing.assert_allclose(total - table.alpha[-1] * star, selection, rtol=0, atol=scale)


def test_heun_defect_is_third_order():
    largest = [np.abs(heun(Trigonometric(), inside(K)).curvature_defect()).max() for K in (50, 100, 200)]
    np.testing.assert_allclose(np.divide(largest[:-1], largest[1:]), 8.0, rtol=0.1)


@pytest.mark.parametrize("K", [1, 2, 5, 40, 200])
def test_euler_noise_left_where_the_variance_is_linear(K):
    """sigma^2 = 1 - t: with J steps to go the residual is multiplied by binom(2J, J)/4^J, about 1/sqrt(pi J)."""
    table = euler(LatentBridge(), K)
    factor = [math.comb(2 * J, J) / 4**J for J in range(K, -1, -1)]
    np.testing.assert_allclose(np.append(np.prod(table.A), table.propagator()), factor, rtol=1e-11)


def test_euler_maruyama_noise_at_the_data():
    def endpoint(schedule, K, diffusion):
        return quiet(euler_maruyama, schedule, K, diffusion).noise_std()[-1]

    # linear, epsilon = c sigma: h sqrt(2c sum_j j prod_{i<j} (1 - (1 + c)/i)^2)
    assert 1000 * endpoint(Linear(), 1000, ("sigma", 0.5)) == pytest.approx(1.2616, abs=2e-4)
    assert 1000 * endpoint(Linear(), 1000, ("sigma", 0.25)) == pytest.approx(0.7781, abs=1e-4)
    assert 50 * endpoint(Linear(), 50, "sigma") == pytest.approx(math.sqrt(6), rel=1e-12)
    assert 50 * endpoint(Linear(), 50, ("sigma", 2)) == pytest.approx(math.sqrt(48), rel=1e-12)
    for K in (4, 50, 800):  # the Brownian bridge
        assert endpoint(LatentBridge(), K, 0.5) == pytest.approx(K**-0.5, rel=1e-12)
    sizes = np.array([endpoint(Linear(), K, "sigma2") for K in (500, 1000, 2000)])
    np.testing.assert_allclose(sizes[:-1] / sizes[1:], 2**1.5, rtol=0.05)
    assert endpoint(Linear(), 800, 0.5) > 1e6


def test_euler_bias_of_a_curved_alpha():
    """Trigonometric: sum_r Phi_r c_r tends to pi^2 h^2/8 in units of the datum."""
    for K, tolerance in ((100, 1e-2), (1000, 1e-3)):
        table = euler(Trigonometric(), K)
        bias = table.propagator() @ table.curvature_defect()
        assert abs(bias) * K**2 == pytest.approx(math.pi**2 / 8, rel=tolerance)
