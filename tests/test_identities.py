"""Identities of the field, and exact recovery."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.pentagon import BRIDGE, PENTAGON, SCHEDULES, WEIGHTS, off_the_rows

import interp_fast as itf
from interp_fast import theory

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
