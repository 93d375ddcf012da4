"""Certificates that must never be wrong, and the times of a diffusion."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr
from sklearn.datasets import load_digits
from support.pentagon import BRIDGE, PENTAGON, SCHEDULES, WEIGHTS, distances, weights

import interp_fast as itf
from interp_fast import theory

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


def random_problem(rng, m=16):
    """Rows, weights (some 0, some rows equal), a schedule, a time and m states around the boundary of shrunk cells."""
    n, d = int(rng.integers(2, 8)), int(rng.integers(1, 5))
    rows = rng.normal(size=(n, d)) * 10.0 ** rng.uniform(-1, 1)
    prior = rng.dirichlet(np.ones(n))
    if n > 3 and rng.random() < 0.3:
        rows[1] = rows[2]
        prior[0] = 0.0
    schedule = SCHEDULES[rng.integers(len(SCHEDULES))]
    q = rng.uniform(0.05, 0.49)
    used = np.flatnonzero(prior > 0)
    i = used[rng.integers(len(used), size=m)]
    direction = rng.normal(size=(m, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    # How far along each direction the boundary of the shrunk cell is.
    spread = rows[used] - rows[i][:, None]
    squares, along = (spread**2).sum(axis=2), np.einsum("mjd,md->mj", spread, direction)
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where((along > 0) & (squares > 0), q * squares / along, np.inf).min(axis=1)
    reach = np.minimum(reach, 3 * np.sqrt(squares.max(axis=1)))
    y = rows[i] + direction * (reach * rng.choice([0.3, 0.9, 0.999, 1.1], m))[:, None]
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


@pytest.mark.parametrize(
    "seed",
    [
        0,
        *(pytest.param(seed, marks=pytest.mark.wide) for seed in range(1, 4)),
        *(pytest.param(seed, marks=pytest.mark.long) for seed in range(4, 16)),
    ],
)
def test_trapping_is_never_wrong(seed):
    """125 random problems, attacked with the largest errors the certificate allows; four times that does break out."""
    rng, held, escaped = np.random.default_rng(seed), 0, 0
    for k in range(125):
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
    assert held > 375
    assert escaped > 25


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
