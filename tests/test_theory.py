"""The mathematics of the oracle: identities of the field, exact rates of tables, certificates that must never be wrong.

Reference answers come from :func:`weights` below (direct distances and a softmax) or from closed forms.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.datasets import load_digits

import interp_fast as itf
from interp_fast import theory

ANGLES = 2 * np.pi * np.arange(5) / 5
PENTAGON = 2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
WEIGHTS = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
BRIDGE, BRIDGE2 = itf.LatentBridge(1.0), itf.LatentBridge(2.0)  # sigma^2 = 1 - t and 1 - t^2
SCHEDULES = [itf.Linear(), itf.Trigonometric(), BRIDGE, BRIDGE2, itf.VP()]


def weights(rows, x, alpha, sigma, prior=None):
    """Posterior weights (M, N)."""
    squares = ((x[:, None, :] - alpha * rows) ** 2).sum(axis=2)
    with np.errstate(divide="ignore"):
        logits = -squares / (2 * sigma**2) + (0 if prior is None else np.log(prior))
    w = np.exp(logits - logits.max(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)


def distances(rows):
    return np.sqrt(((rows[:, None] - rows) ** 2).sum(axis=2))


def off_the_rows(out, rows=PENTAGON):
    return np.linalg.norm(out.x - rows[out.index], axis=1)


# The field


def z_scores(residual, x):
    """Means of residual times functions of x, in units of their standard errors."""
    found = []
    for phi in (np.ones(len(x)), x[:, 0], x[:, 1], np.tanh(2 * x[:, 0]), np.cos(3 * x[:, 1])):
        product = residual * phi[:, None]
        found.append(product.mean(axis=0) / (product.std(axis=0) / math.sqrt(len(x))))
    return np.array(found)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_velocity_is_the_conditional_mean(schedule, rng):
    """E[(u - v(x_t)) phi(x_t)] = 0 for the velocity u of the interpolant and any phi."""
    field, n = itf.Field(PENTAGON, schedule, weights=WEIGHTS), 40_000
    for t in (0.3, 0.7):
        index, z, c = rng.choice(5, n, p=WEIGHTS), rng.normal(size=(n, 2)), schedule(t)
        x = c.alpha * PENTAGON[index] + c.sigma * z
        u = c.alpha_dot * PENTAGON[index] + c.sigma_dot * z
        assert np.abs(z_scores(u - field.velocity(x, t), x)).max() < 4.5


@pytest.mark.parametrize("c", [1.0, 2.0])
def test_latent_bridge_is_the_two_sided_interpolant(c, rng):
    """x_t = (1 - t) x_0 + t x_1 + sqrt(c t (1 - t)) z with Gaussian x_0 has the velocity of the one-sided schedule."""
    t, n = 0.6, 40_000
    field = itf.Field(PENTAGON, itf.LatentBridge(c), weights=WEIGHTS)
    index, x0, z = rng.choice(5, n, p=WEIGHTS), rng.normal(size=(n, 2)), rng.normal(size=(n, 2))
    gamma = math.sqrt(c * t * (1 - t))
    x = (1 - t) * x0 + t * PENTAGON[index] + gamma * z
    u = PENTAGON[index] - x0 + c * (1 - 2 * t) / (2 * gamma) * z
    assert np.abs(z_scores(u - field.velocity(x, t), x)).max() < 4.5


def test_smoothed_data_are_data_with_noise(rng):
    field, t, n = itf.Field(PENTAGON, bandwidth=0.3), 0.7, 40_000
    first = PENTAGON[rng.integers(5, size=n)] + 0.3 * rng.normal(size=(n, 2))
    z = rng.normal(size=(n, 2))
    x = t * first + (1 - t) * z
    assert np.abs(z_scores(first - z - field.velocity(x, t), x)).max() < 4.5


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_score_divergence_and_continuity(schedule):
    field = itf.Field(PENTAGON, schedule, weights=WEIGHTS)
    for t in (0.1, 0.5, 0.9):
        x, _ = field.draw(30, t, rng=1)
        h, dt = 1e-5 * schedule(t).sigma, 1e-6
        score, slope, trace = field.score(x, t), np.empty_like(x), np.zeros(len(x))
        for j, step in enumerate(h * np.eye(2)):
            slope[:, j] = (field.log_density(x + step, t) - field.log_density(x - step, t)) / (2 * h)
            trace += (field.velocity(x + step, t) - field.velocity(x - step, t))[:, j] / (2 * h)
        np.testing.assert_allclose(slope, score, rtol=0, atol=1e-8 * np.abs(score).max())
        divergence = field.divergence(x, t)
        np.testing.assert_allclose(trace, divergence, rtol=0, atol=1e-8 * np.abs(divergence).max())
        rate = (field.log_density(x, t + dt) - field.log_density(x, t - dt)) / (2 * dt)
        flux = (field.velocity(x, t) * score).sum(axis=1) + divergence
        np.testing.assert_allclose(rate, -flux, rtol=0, atol=1e-8 * np.abs(rate).max())


def test_likelihood_along_the_flow():
    """log p changes by minus the integrated divergence; classical Runge-Kutta on both."""
    field = itf.Field(PENTAGON)
    x, _ = field.draw(16, 0.02, rng=0)
    start, change, times = field.log_density(x, 0.02), np.zeros(16), np.linspace(0.02, 0.9, 401)
    for t, h in zip(times[:-1], np.diff(times), strict=True):
        v, q, y = [], [], x
        for a in (0.5, 0.5, 1.0, 0.0):
            s = t + h * [0.0, 0.5, 0.5, 1.0][len(v)]
            v.append(field.velocity(y, s))
            q.append(field.divergence(y, s))
            y = x + a * h * v[-1]
        x = x + h / 6 * (v[0] + 2 * v[1] + 2 * v[2] + v[3])
        change += h / 6 * (q[0] + 2 * q[1] + 2 * q[2] + q[3])
    np.testing.assert_allclose(field.log_density(x, 0.9) - start, -change, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_fields_convert_into_each_other(schedule):
    field = itf.Field(PENTAGON, schedule, weights=WEIGHTS)
    for t in (0.2, 0.6, 0.95):
        x, _ = field.draw(50, t, rng=1)
        c, v, s, z, d = schedule(t), field.velocity(x, t), field.score(x, t), field.noise(x, t), field.denoiser(x, t)
        eta = c.sigma_dot / c.sigma
        kappa = c.alpha_dot - c.alpha * eta
        for other in ((v - eta * x) / kappa, (x + c.sigma**2 * s) / c.alpha, (x - c.sigma * z) / c.alpha):
            np.testing.assert_allclose(other, d, atol=1e-12 / min(1.0, c.alpha))
        by_velocity = (c.alpha * v - c.alpha_dot * x) / (c.sigma * (c.alpha_dot * c.sigma - c.alpha * c.sigma_dot))
        np.testing.assert_allclose(by_velocity, s, rtol=0, atol=1e-12 * np.abs(s).max() / c.sigma)


def test_only_the_noise_ratio_counts():
    """On one grid of lambda = log(alpha / sigma) the runs of all schedules are the same in x / alpha."""
    lam, z, found = np.linspace(-3, 5, 41), np.random.default_rng(0).normal(size=(50, 2)), []
    for schedule in (itf.Linear(), itf.Trigonometric(), itf.VELinear(30.0), BRIDGE):
        steps = itf.ddim(schedule, schedule.time_at(lam))
        out = itf.sample(itf.Field(PENTAGON, schedule), steps, x0=z * steps.sigma[0])
        found.append(out.x / steps.alpha[-1])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], atol=1e-11)


# Exact recovery and the law of the endpoint


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("churn", [0.0, 1.0])
def test_exponential_steps_recover_the_data(schedule, churn):
    """The endpoint is D at the last step; K = 80 leaves at most the leakage of a trapped state there."""
    field = itf.Field(PENTAGON, schedule)
    steps = itf.exponential(schedule, 80, churn)
    out = itf.sample(field, steps, 1000, rng=0, keep="path")
    last = theory.trapping(field, out.path[:, -2], steps.times[-2], 0.45)
    assert last.trapped.mean() > 0.98
    distance = off_the_rows(out)
    assert (distance <= last.leakage + 1e-14)[last.trapped].all()
    assert np.median(distance) < 1e-6


def test_endpoints_follow_the_weights():
    field, found = itf.Field(PENTAGON, weights=WEIGHTS), []
    for K in (4, 16, 64):
        out = itf.sample(field, itf.ddim(field.schedule, K), 20_000, rng=0)
        found.append(0.5 * np.abs(np.bincount(out.index, minlength=5) / 20_000 - WEIGHTS).sum())
    assert found[0] > 0.02  # four steps do not keep the law
    assert found[1] < 0.016
    assert found[2] < 0.01


def test_five_points_by_chance_too(rng):
    rows = 1.5 * rng.normal(size=(5, 2))
    field = itf.Field(rows)
    for steps in (itf.ddim(field.schedule, 80), itf.ddpm(field.schedule, 80)):
        out = itf.sample(field, steps, 4000, rng=0)
        assert np.quantile(off_the_rows(out, rows), 0.95) < 1e-3
        share = np.bincount(out.index, minlength=5) / 4000
        assert np.abs(share - 0.2).max() < 0.04


# Margins


@pytest.mark.parametrize("prior", [None, WEIGHTS])
def test_margins_bound_the_leakage(prior):
    field = itf.Field(PENTAGON, weights=prior)
    diam = distances(PENTAGON).max()
    for t in (0.2, 0.5, 0.8):
        x, _ = field.draw(500, t, rng=0)
        w = weights(PENTAGON, x, t, 1 - t, prior)
        top = w.argmax(axis=1)
        runner_up = np.sort(w, axis=1)[:, -2]
        found = theory.margin_condition(field, x, t, h=0.02)
        np.testing.assert_allclose(found.gap, np.log(w.max(axis=1) / runner_up), rtol=1e-9)
        np.testing.assert_allclose(found.margin, 2 * (1 - t) ** 2 * found.gap)
        assert found.required == pytest.approx(math.log(1 / math.sqrt(0.02)))
        np.testing.assert_array_equal(found.holds, runner_up <= w.max(axis=1) * math.sqrt(0.02))
        rest = np.where(np.arange(5) == top[:, None], 0.0, w).sum(axis=1)
        assert (rest <= 4 * np.exp(-found.gap) * (1 + 1e-12)).all()
        leak = np.linalg.norm(w @ PENTAGON - PENTAGON[top], axis=1)
        assert (leak <= found.leakage * (1 + 1e-12)).all()
        assert (leak[found.holds] <= diam * 4 * math.sqrt(0.02)).all()
    assert theory.margin_condition(field, x[0], t, h=0.02).gap.shape == ()


def test_margin_cannot_hold_at_the_noise_end(rng):
    found = theory.margin_condition(itf.Field(PENTAGON), rng.normal(size=(10, 2)), 0.0, h=0.9)
    np.testing.assert_array_equal(found.gap, 0.0)
    assert not found.holds.any()


def test_margin_along_a_run():
    """Euler, sigma^2 = 1 - t, K = 80: from which time on the margin g >= log(1 / sqrt(h)) holds to the end."""
    field, K = itf.Field(PENTAGON, BRIDGE), 80
    out = itf.sample(field, itf.euler(BRIDGE, K), 1000, rng=0, keep="path")
    holds = np.array([
        theory.margin_condition(field, out.path[:, k], k / K, h=1 / K).holds for k in range(1, K)
    ])  # fmt: skip
    last_failure = np.where(holds.all(axis=0), 0, K - 1 - holds[::-1].argmin(axis=0)) / K
    assert np.median(last_failure) == pytest.approx(0.66, abs=0.04)
    assert last_failure.max() < 0.97
    assert np.median(out.commit_time) < 0.05
    assert out.commit_time.max() < 0.65


# Trapping


def random_problem(rng):
    """Rows, weights (some 0, some rows equal), a schedule, a time and states around the boundary of shrunk cells."""
    n, d = int(rng.integers(2, 8)), int(rng.integers(1, 5))
    rows = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1)
    prior = rng.dirichlet(np.ones(n))
    if n > 3 and rng.random() < 0.3:
        rows[1] = rows[2]
        prior[0] = 0.0
    schedule = SCHEDULES[rng.integers(len(SCHEDULES))]
    q = rng.uniform(0.05, 0.49)
    used = np.flatnonzero(prior > 0)
    i = used[rng.integers(len(used), size=4)]
    direction = rng.normal(size=(4, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    # How far along each direction the boundary of the shrunk cell is.
    spread = rows[used] - rows[i][:, None]
    squares, along = (spread**2).sum(axis=2), np.einsum("mjd,md->mj", spread, direction)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where((along > 0) & (squares > 0), q * squares / along, np.inf).min(axis=1)
    reach = np.minimum(reach, 3 * np.sqrt(squares.max(axis=1)))
    y = rows[i] + direction * (reach * rng.choice([0.3, 0.9, 0.999, 1.1], 4))[:, None]
    nearest = np.sqrt(np.where(squares > 0, squares, np.inf).min(axis=1))
    lam = np.log(rng.uniform(0.5, 8.0) / nearest.min())
    t = float(schedule.time_at(np.clip(lam, schedule.lam(1e-3), schedule.lam(0.999))))
    return rows, prior, schedule, t, q, y * schedule(t).alpha


def attack(rows, prior, steps, x, target, budget, rng):
    """Run a table with errors of norm ``budget`` that push away from ``target``; yields (posterior, D) of each row."""
    base, cur, above = x, x, np.zeros_like(x)
    for r in range(len(steps)):
        w = weights(rows, cur, steps.alpha[r], steps.sigma[r], prior)
        exact = w @ rows
        yield w, exact
        push = cur / steps.alpha[r] - rows[target] + 1e-9 * rng.normal(size=x.shape)
        used = exact + budget[:, None] * push / np.linalg.norm(push, axis=1, keepdims=True)
        cur, above = steps.A[r] * base + steps.B[r] * used + steps.C[r] * above, used
        base = cur if steps.commit[r] else base


def test_trapping_is_never_wrong():
    """2000 random problems, attacked with the largest errors the certificate allows; four times that does break out."""
    rng, held, escaped = np.random.default_rng(0), 0, 0
    for k in range(2000):
        rows, prior, schedule, t, q, x = random_problem(rng)
        field = itf.Field(rows, schedule, weights=prior, backend="reference")
        free = theory.trapping(field, x, t, q)
        gaps = distances(rows)
        gaps[:, prior == 0] = np.inf
        nearest = np.where(gaps > 0, gaps, np.inf).min(axis=1)[free.index]
        budget = np.maximum(q * nearest * (1 - 2e-6) - free.leakage, 0.0)
        trapped = free.trapped & (budget > 0)
        if not trapped.any():
            continue
        index, leakage = free.index[trapped], free.leakage[trapped]
        times = np.concatenate([[t], t + (1 - t) * np.sort(rng.uniform(0, 1, 5)), [1.0]])
        table = (itf.ddim if k % 2 else itf.exponential_heun)(schedule, times)
        least = float(budget[trapped].min())  # the certificate itself grants it
        np.testing.assert_array_equal(theory.trapping(field, x, t, q, error=least).trapped, trapped)
        strength = budget[trapped] * rng.choice([0.0, 1.0])
        same = (rows[index][:, None] == rows).all(axis=2)
        for w, exact in attack(rows, prior, table, x[trapped], index, strength, rng):
            assert ((w * same).sum(axis=1) > 0.5).all()
            leak = np.linalg.norm(exact - rows[index], axis=1)
            assert (leak <= leakage * (1 + 1e-9) + 1e-13 * np.abs(rows).max()).all()
        *_, (w, _) = attack(rows, prior, table, x[trapped], index, 4 * budget[trapped], rng)
        escaped += ((w * same).sum(axis=1) < 0.5).sum()
        held += trapped.sum()
    assert held > 1500
    assert escaped > 100


def test_trapping_agrees_with_the_formula(rng):
    rows = rng.normal(size=(30, 3))
    prior = rng.dirichlet(np.ones(30))
    field, t, q = itf.Field(rows, weights=prior), 0.7, 0.3
    x, _ = field.draw(200, t, rng=0)
    found = theory.trapping(field, x, t, q)
    y, rho, gaps = x / t, t / (1 - t), distances(rows)
    i = ((y[:, None] - rows) ** 2).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(found.index, i)
    other = np.arange(30) != i[:, None]
    along = np.einsum("md,mjd->mj", y - rows[i], rows - rows[i][:, None])
    inside = (along <= q * gaps[i] ** 2).all(axis=1)
    ratio = prior / prior[i][:, None]
    leakage = np.where(other, ratio * gaps[i] * np.exp(-(rho**2) * gaps[i] ** 2 * (0.5 - q)), 0).sum(axis=1)
    np.testing.assert_array_equal(np.isfinite(found.leakage), inside)
    np.testing.assert_allclose(found.leakage[inside], leakage[inside], rtol=2e-6)
    nearest = np.where(other, gaps[i], np.inf).min(axis=1)
    np.testing.assert_array_equal(found.trapped, inside & (leakage <= q * nearest))
    assert 0 < found.trapped.sum() < inside.sum() < 200
    tight = theory.trapping(field, x, t, q, error=0.2)
    np.testing.assert_array_equal(tight.trapped, inside & (leakage + 0.2 <= q * nearest))


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8"])
def test_trapping_on_digits(dtype):
    """Real data: trapped states stay, and nearly all are trapped in the end."""
    data = load_digits().data
    rows = (data / 8 - 1).astype(dtype) if dtype != "uint8" else data.astype(np.uint8)
    field = itf.Field(rows, **({"scale": (0.125, -1.0)} if dtype == "uint8" else {}))
    steps = itf.ddim(field.schedule, 30)
    out = itf.sample(field, steps, 40, rng=0, keep="path")
    ever = np.zeros(40, bool)
    for k in range(1, 30):
        found = theory.trapping(field, out.path[:, k], steps.times[k], 0.4)
        assert (found.trapped | ~ever).all()
        ever |= found.trapped
        post = field.posterior(out.path[:, k], steps.times[k])
        np.testing.assert_array_equal(post.index[ever], found.index[ever])
        np.testing.assert_array_equal(out.index[ever], found.index[ever])
        assert (out.commit_time[ever] <= steps.times[k]).all()
    assert ever.mean() > 0.9


def test_trapping_sees_equal_rows_as_one():
    rows = np.concatenate([PENTAGON, PENTAGON[[0, 0, 3]]])
    once = itf.Field(PENTAGON, weights=[3, 1, 1, 2, 1])
    many = itf.Field(rows)
    x, _ = once.draw(100, 0.7, rng=0)
    a, b = theory.trapping(once, x, 0.7), theory.trapping(many, x, 0.7)
    np.testing.assert_array_equal(a.index, b.index)
    np.testing.assert_array_equal(a.trapped, b.trapped)
    np.testing.assert_allclose(a.leakage, b.leakage, rtol=1e-9)
    assert a.trapped.any()


def test_trapping_next_to_near_duplicates(rng):
    """Far from the origin and 1e-5 apart: distances must not come from products of rows."""
    rows = 1000.0 + rng.normal(size=(40, 8))
    rows[20:] = rows[:20] + 1e-5 * rng.normal(size=(20, 8))
    field = itf.Field(rows)
    gap = np.linalg.norm(rows[20:] - rows[:20], axis=1)
    sigma_wide, sigma_small = 1e-4, 1e-8
    for sigma, held in ((sigma_wide, False), (sigma_small, True)):
        found = theory.trapping(field, (1 - sigma) * (rows[:20] + 0.1 * (rows[20:] - rows[:20])), 1 - sigma)
        assert (found.trapped == held).all()
        np.testing.assert_array_equal(found.index, np.arange(20))
    middle = theory.trapping(field, (1 - 1e-8) * (rows[:20] + 0.3 * (rows[20:] - rows[:20])), 1 - 1e-8, q=0.25)
    assert not middle.trapped.any()
    assert gap.max() < 1e-4


def test_trapping_at_the_ends_and_for_one_row():
    field = itf.Field(PENTAGON)
    start = theory.trapping(field, PENTAGON, 0.0)
    assert not start.trapped.any()
    assert np.isinf(start.leakage).all()
    end = theory.trapping(field, PENTAGON, 1.0)
    assert end.trapped.all()
    np.testing.assert_array_equal(end.leakage, 0.0)
    alone = theory.trapping(itf.Field(PENTAGON[:1]), np.ones((3, 2)), 0.5)
    assert alone.trapped.all()
    single = theory.trapping(field, PENTAGON[2], 0.9)
    assert single.index == 2
    assert single.trapped


def test_gap_monotonicity(rng):
    """D frozen at x_i: a step y' - x_i = a (y - x_i) keeps the gaps, and with a >= (rho / rho')^2 raises them."""
    rows = rng.normal(size=(30, 3))
    i = rng.integers(30, size=3000)
    y, rho = rows[i] + 0.4 * rng.normal(size=(3000, 3)), rng.uniform(0.3, 3, 3000)
    later = rho * (1 + rng.exponential(size=3000))
    a = rng.uniform(size=3000)

    def gaps(y, rho):
        squares = ((y[:, None] - rows) ** 2).sum(axis=2)
        return rho[:, None] ** 2 / 2 * (squares - np.take_along_axis(squares, i[:, None], axis=1))

    before, after = gaps(y, rho), gaps(rows[i] + a[:, None] * (y - rows[i]), later)
    half = later[:, None] ** 2 / 2 * distances(rows)[i] ** 2
    valid = before >= 0
    assert (after >= np.minimum((later / rho)[:, None] ** 2 * before, half) - 1e-9)[valid].all()
    slow = valid & (a >= (rho / later) ** 2)[:, None]
    assert (after >= before - 1e-9)[slow].all()
    assert slow.sum() > 1000


# Dominance, speciation, collapse


def union_bound(rows, prior, rho):
    gaps = distances(rows)
    i, j = np.nonzero(gaps > 0)
    far = rho * gaps[i, j]
    return (prior[i] * ndtr(-far / 2 + np.log(prior[j] / prior[i]) / far)).sum()


def test_dominance_is_exact_for_two_points():
    for gap in (1e-6, 1.0, 1e6):
        for tol in (0.2, 0.01, 1e-9):
            found = theory.dominance(itf.Field(np.array([[0.0, gap], [0.0, 0.0]])), tol)
            assert ndtr(-found.rho * gap / 2) == pytest.approx(tol, rel=1e-9)
            assert found.time == pytest.approx(found.rho / (1 + found.rho))


@pytest.mark.parametrize("equal", [True, False])
def test_dominance_solves_the_union_bound(equal, rng):
    rows = rng.normal(size=(300, 6))
    prior = np.full(300, 1 / 300) if equal else rng.dirichlet(np.full(300, 0.3))
    found = theory.dominance(itf.Field(rows, weights=prior), 0.05)
    assert union_bound(rows, prior, found.rho) == pytest.approx(0.05, rel=2e-3)


def test_dominance_bounds_the_probability(rng):
    rows, prior = PENTAGON, WEIGHTS
    for tol in (0.3, 0.1, 0.02):
        rho = theory.dominance(itf.Field(rows, weights=prior), tol).rho
        i = rng.choice(5, 50_000, p=prior)
        w = weights(rows, rho * rows[i] + rng.normal(size=(50_000, 2)), rho, 1.0, prior)
        wrong = (w.argmax(axis=1) != i).mean()
        assert tol / 3 < wrong < tol + 4 * math.sqrt(tol / 50_000)


def test_dominance_sees_equal_rows_as_one():
    once = theory.dominance(itf.Field(PENTAGON, weights=[2, 1, 1, 1, 1]), 0.05)
    rows = np.concatenate([PENTAGON, PENTAGON[:1], PENTAGON[1:2] + 1])
    twice = theory.dominance(itf.Field(rows, weights=[1, 1, 1, 1, 1, 1, 0]), 0.05)
    assert twice.rho == pytest.approx(once.rho, rel=1e-9)
    assert theory.dominance(itf.Field(np.ones((3, 2))), 0.05).rho == 0
    signed = np.array([[0.0, 1.0], [-0.0, 1.0]])
    assert theory.dominance(itf.Field(signed), 0.05).rho == 0


def test_dominance_beyond_the_schedule():
    schedule = itf.VEGeometric(0.5, 80.0)
    assert theory.dominance(itf.Field(np.array([[0.0], [1.0]]), schedule), 1e-3).time == 1.0
    assert theory.dominance(itf.Field(np.array([[0.0], [1e5]]), schedule), 1e-3).time == 0.0


@pytest.mark.parametrize("bandwidth", [0.0, 0.5])
def test_speciation_is_the_largest_eigenvalue(bandwidth, rng):
    rows = rng.normal(size=(50, 6)) * np.arange(1, 7)
    prior = rng.dirichlet(np.ones(50))
    centred = rows - prior @ rows
    largest = np.linalg.eigvalsh((centred.T * prior) @ centred)[-1] + bandwidth**2
    found = theory.speciation_time(itf.Field(rows, itf.VP(), weights=prior, bandwidth=bandwidth))
    assert found.eigenvalue == pytest.approx(largest, rel=1e-10)
    assert found.rho == pytest.approx(largest**-0.5)
    assert itf.VP().lam(found.time) == pytest.approx(math.log(found.rho))
    assert np.interp(found.time, found.times, found.signal) == pytest.approx(1, rel=0.1)


def test_speciation_without_forming_the_covariance(rng):
    rows = rng.normal(size=(40, 4200)).astype(np.float32)
    centred = rows.astype(float) - rows.mean(axis=0, dtype=float)
    largest = np.linalg.eigvalsh(centred @ centred.T / 40)[-1]
    assert theory.speciation_time(itf.Field(rows)).eigenvalue == pytest.approx(largest, rel=1e-6)


def two_point_entropy(rho, gap):
    """E H of two equal points: a logistic of a normal, by quadrature."""
    nodes, mass = np.polynomial.hermite_e.hermegauss(200)
    logit = rho**2 * gap**2 / 2 + rho * gap * nodes
    w = 1 / (1 + np.exp(-np.abs(logit)))
    rest = np.exp(-np.abs(logit)) * w
    return (mass / mass.sum()) @ -(w * np.log(w) + rest * np.log(rest))


def test_collapse_of_two_points():
    rows = np.array([[0.0, 0.0], [3.0, 0.0]])
    found = theory.collapse_time(itf.Field(rows), 4000, rng=0)
    low, high = 0.1, 10.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if two_point_entropy(middle, 3.0) > 0.05 * math.log(2) else (low, middle)
    exact = low / (1 + low)
    assert 0 < found.stderr < 0.02
    assert abs(found.time - exact) < 4 * found.stderr
    assert found.threshold == pytest.approx(0.05 * math.log(2))
    assert (np.diff(found.entropy) < 0).all()


def test_collapse_sees_equal_rows_as_one():
    """Doubling all rows leaves log 2 of entropy for ever."""
    once = theory.collapse_time(itf.Field(PENTAGON), 2000, rng=0)
    twice = theory.collapse_time(itf.Field(np.concatenate([PENTAGON, PENTAGON])), 2000, rng=1)
    assert abs(once.time - twice.time) < 4 * math.hypot(once.stderr, twice.stderr)
    alone = theory.collapse_time(itf.Field(np.ones((4, 2))))
    assert (alone.rho, alone.time) == (0.0, 0.0)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_collapse_and_schedules(scale):
    field = itf.Field(scale * PENTAGON)
    found = theory.collapse_time(field, 200, rng=0)
    assert scale * found.rho == pytest.approx(theory.collapse_time(itf.Field(PENTAGON), 200, rng=0).rho, rel=1e-3)
    other = theory.collapse_time(field.with_schedule(itf.VELinear(1e5)), 200, rng=0)
    assert other.rho == found.rho
    assert itf.VELinear(1e5).lam(other.time) == pytest.approx(math.log(found.rho))


def test_collapse_of_smoothed_data():
    sharp = theory.collapse_time(itf.Field(PENTAGON), 2000, rng=0)
    soft = theory.collapse_time(itf.Field(PENTAGON, bandwidth=0.3), 2000, rng=0)
    assert 1 / soft.rho**2 + 0.09 == pytest.approx(1 / sharp.rho**2, rel=0.05)  # the variances add
    with pytest.raises(ValueError, match="bandwidth"):
        theory.collapse_time(itf.Field(PENTAGON, bandwidth=3.0), 50, rng=0)


def test_order_of_the_times():
    """The principal direction shows long before one row is left."""
    field = itf.Field(load_digits().data / 8 - 1)
    speciation, collapse = theory.speciation_time(field), theory.collapse_time(field, 64, rng=0)
    assert speciation.time < collapse.time < theory.dominance(field, 0.05).time


# Irreducible loss


def test_information_and_loss():
    """The integral of L*(rho) rho over all rho is the entropy of the weights (Guo, Shamai and Verdu 2005)."""
    rows, prior = np.array([[-1.0], [0.5], [2.0]]), np.array([0.2, 0.5, 0.3])
    field = itf.Field(rows, itf.VELinear(1.0), weights=prior)
    z = np.linspace(-8, 8, 401)
    mass = np.exp(-(z**2) / 2)
    mass /= mass.sum()
    rhos = np.linspace(0.05, 12, 240)
    loss = np.empty(240)
    for k, rho in enumerate(rhos):
        x = (rows[:, 0, None] + z / rho).reshape(-1, 1)
        proxy = field.with_schedule(itf.VELinear(2 / rho))
        loss[k] = (prior[:, None] * mass).ravel() @ proxy.posterior(x, 0.5).variance
    variance = prior @ (rows[:, 0] - prior @ rows[:, 0]) ** 2
    total = np.trapezoid(loss * rhos, rhos) + variance * rhos[0] ** 2 / 2
    assert total == pytest.approx(-(prior @ np.log(prior)), rel=1e-3)


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
