"""``field.at``: the field by alpha and sigma alone, against direct sums and against the field of a schedule."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from problems import forward, problem

import interp_fast as itf

METHODS = ("denoiser", "score", "noise", "log_density")


def corners(rows, alpha, sigma):
    """Draws, a row, the middle of two rows."""
    return np.concatenate([forward(rows, alpha, sigma, 6, 1), alpha * rows[:1], alpha * (rows[1:2] + rows[2:3]) / 2])


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 80.0), (1.0, 1.0), (1.0, 0.01), (0.3, 1.7), (0.0, 2.0), (7.0, 0.5)])
@pytest.mark.parametrize("bandwidth", [0.0, 0.2])
def test_levels_against_direct_sums(backend, dtype, alpha, sigma, bandwidth):
    rows = problem("gauss").rows[:200].astype(dtype)
    x = corners(rows.astype(float), alpha, sigma)
    at = itf.Field(rows, bandwidth=bandwidth, backend=backend).at(alpha, sigma)
    u = np.random.default_rng(2).standard_normal(x.shape)
    want = oracle.posterior(rows, x, alpha, sigma, bandwidth=bandwidth, u=u)
    exact = oracle.fields(want, x, itf.Coefficients(alpha, sigma, 0.0, 0.0), bandwidth=bandwidth)
    b, b_d = (1e-4, 5e-6) if dtype == "float32" else (1e-10, 1e-10)
    size = np.maximum(np.linalg.norm(exact.noise, axis=1), 1)
    assert (np.linalg.norm(at.noise(x) - exact.noise, axis=1) <= b * size).all()
    assert (np.linalg.norm(at.score(x) - exact.score, axis=1) * sigma <= b * size).all()
    reach = np.maximum(np.linalg.norm(exact.denoiser, axis=1), oracle.radius(rows)[1])
    assert (np.linalg.norm(at.denoiser(x) - exact.denoiser, axis=1) <= b_d * reach).all()
    log_density = want.log_density
    np.testing.assert_allclose(
        at.log_density(x), log_density, rtol=1e-6 if dtype == "float32" else 1e-12, atol=1e-3 * b / 1e-4
    )
    post = at.posterior(x, top=3)
    np.testing.assert_array_equal(post.index, want.index)
    assert post.top_index.shape == (8, 3)
    spread = sigma**2 + (alpha * bandwidth) ** 2
    product = alpha * (sigma / spread) ** 2 * want.product + alpha * bandwidth**2 / spread * u
    bound = (1e-3 if dtype == "float32" else 1e-9) * alpha * (sigma / spread) ** 2 * want.variance
    wide = np.linalg.norm(at.jvp(x, u) - product, axis=1)
    assert (wide <= (bound + 2e-7 * (dtype == "float32") + 1e-15) * np.linalg.norm(u, axis=1)).all()


def test_levels_are_those_of_a_schedule(engine):
    field = itf.Field(problem("gauss").rows.astype(np.float32), itf.Trigonometric(), backend=engine.backend)
    x, t = field.draw(40, 0.6, rng=1)[0], np.linspace(0.05, 0.95, 40)
    c = field.schedule(t)
    for name in METHODS:
        got = getattr(field.at(c.alpha, c.sigma), name)(x)
        np.testing.assert_array_equal(got, getattr(field, name)(x, t))
        one = getattr(field.at(c.alpha[3], c.sigma[3]), name)(x[3])
        np.testing.assert_allclose(one, got[3], rtol=1e-5)
        assert np.shape(one) == np.shape(got[3])


def test_no_noise_is_the_limit(backend):
    rows = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 0.0], [5.0, 5.0]])
    field = itf.Field(rows, weights=[1, 1, 2, 1], backend=backend)
    x = np.array([[2.0, 0.0], [1.8, 0.3], [1.0, 4e-3]])
    at = field.at(1.0, 0.0)
    np.testing.assert_allclose(at.denoiser(x), [[2, 0], [2, 0], [1.5, 0]], rtol=1e-15)
    assert at.log_density(x).tolist() == [np.inf, -np.inf, -np.inf]
    post = at.posterior(x, top=1)
    assert post.top_index[:, 0].tolist() == [2, 2, 2]
    assert post.log_norm.tolist() == [-np.inf] * 3
    # Levels of 0 beside others, and no data at all.
    np.testing.assert_allclose(field.at(1.0, [0.0, 1e-3, 0.0]).denoiser(x)[0], [2, 0])
    mean = rows.T @ [0.2, 0.2, 0.4, 0.2]
    np.testing.assert_allclose(field.at(0.0, [1.0, 0.0, 3.0]).denoiser(x), [mean] * 3, rtol=1e-14)
    for name in ("score", "noise"):
        with pytest.raises(ValueError, match=f"sigma must be > 0: the {name} does not exist where sigma = 0"):
            getattr(at, name)(x)
    with pytest.raises(ValueError, match="sigma must be > 0: the jvp does not exist"):
        at.jvp(x, x)
    smooth = itf.Field(rows, bandwidth=0.1, backend=backend).at(1.0, 0.0)
    np.testing.assert_allclose(smooth.noise(x), np.zeros_like(x))
    np.testing.assert_allclose(smooth.denoiser(x), x)


def test_levels_see_tol_and_tensors():
    field = itf.Field(problem("gauss").rows, tol=1e-3)
    x = field.draw(5, 0.9, rng=0)[0]
    assert field.at(0.9, 0.1).posterior(x).certificate.max() <= 1e-3
    assert repr(field.at(0.9, 0.1)).endswith(".at(alpha=0.9, sigma=0.1)")


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda f: f.at(-1.0, 1.0), ValueError, "alpha must be finite and >= 0; got -1"),
        (lambda f: f.at(np.inf, 1.0), ValueError, "alpha must be finite"),
        (lambda f: f.at(1.0, [0.1, np.nan]), ValueError, "sigma must be finite and >= 0; got nan"),
        (lambda f: f.at(1.0, -1e-9), ValueError, "sigma must be finite and >= 0"),
        (lambda f: f.at(1.0, 1e-200), ValueError, r"sigma must be 0 or between"),
        (lambda f: f.at(1.0, "1"), TypeError, "sigma must be a real number"),
        (lambda f: f.at(np.ones((2, 1)), 1.0), ValueError, r"alpha must be a number or a vector.*\(2, 1\)"),
        (lambda f: f.at(1.0, [1.0, 2.0]).score(np.ones((3, 4))), ValueError, r"sigma must .*\(3,\).*\(2,\)"),
        (lambda f: f.at([1.0], 1.0).score(np.ones((3, 4))), ValueError, r"alpha must .*\(3,\).*\(1,\)"),
        (lambda f: f.at(1.0, 1.0).score(np.ones((3, 5))), ValueError, r"x must have shape \(M, 4\)"),
    ],
)
def test_levels_that_are_none(call, kind, match):
    with pytest.raises(kind, match=match):
        call(itf.Field(np.eye(4)))
