"""Every output of the posterior at once, and products with the Jacobian: backend x regime x sigma/alpha.

Beside the times of bench_field.py these tell what the other outputs cost.
"""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf

RATIOS = (19.0, 0.5, 0.1, 1e-2)  # from diffuse to sharp: off-weights are made of ever fewer rows
SHOWN = 4


def _weights(data, x, t):
    """Posterior weights of the first queries by direct differences in float64, and the rows."""
    rows = data.values(slice(None))
    logits = np.stack([-np.sum((q - t * rows) ** 2, axis=1) for q in x.astype(np.float64)]) / (2 * (1 - t) ** 2)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True), rows


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("regime", ["images", "d64", "d2"], indirect=True)
def test_posterior(benchmark, note, problem, backend, regime, ratio):
    data, t = problem(regime.N, regime.d, "float32"), 1 / (1 + ratio)
    field, x = itf.Field(data.rows, itf.Linear(), backend=backend), data.queries(regime.M, t)
    field.posterior(x, t, top=5)
    post = benchmark(field.posterior, x, t, top=5)
    p, rows = _weights(data, x[:SHOWN], t)
    np.testing.assert_allclose(post.ess[:SHOWN], 1 / np.sum(p**2, axis=1), rtol=1e-3)
    np.testing.assert_allclose(post.top_weight[:SHOWN], -np.sort(-p, axis=1)[:, :5], atol=1e-5)
    mean = p @ rows
    away = np.sum(rows**2, axis=1) @ p.T - np.sum(mean**2, axis=1)
    np.testing.assert_allclose(post.variance[:SHOWN], away, rtol=1e-3, atol=1e-9 * data.radius**2)
    note(regime, "float32")


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("regime", ["images", "d64", "d2"], indirect=True)
def test_jvp(benchmark, note, problem, backend, regime, ratio):
    data, t = problem(regime.N, regime.d, "float32"), 1 / (1 + ratio)
    field, x = itf.Field(data.rows, itf.Linear(), backend=backend), data.queries(regime.M, t)
    u = np.random.default_rng(0).standard_normal(x.shape)
    field.jvp(x, t, u)
    product = benchmark(field.jvp, x, t, u)
    p, rows = _weights(data, x[:SHOWN], t)
    for m in range(SHOWN):
        away = rows - p[m] @ rows
        expected = t / (1 - t) ** 2 * (p[m] * (away @ u[m])) @ away
        scale = t / (1 - t) ** 2 * p[m] @ np.sum(away**2, axis=1) * np.linalg.norm(u[m])
        assert np.linalg.norm(product[m] - expected) <= 1e-3 * scale
    note(regime, "float32")
