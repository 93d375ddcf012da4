"""Gaussian fields against covariances that are inverted as they stand, SciPy's densities, draws and differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

import interp_fast as itf

RNG = np.random.default_rng(0)
D, K = 4, 3
MEANS = 2 * RNG.standard_normal((K, D))
ROOTS = RNG.standard_normal((K, D, D))
FULL = ROOTS @ ROOTS.transpose(0, 2, 1)
WEIGHTS = np.array([0.2, 0.5, 0.3])
X = 1.5 * RNG.standard_normal((7, D))
SCHEDULE = itf.Trigonometric()
COVARIANCES = {
    "full": (FULL, FULL),
    "diagonal": (np.diagonal(FULL, axis1=1, axis2=2), [np.diag(np.diag(c)) for c in FULL]),
    "spherical": ([0.1, 1.0, 3.0], [v * np.eye(D) for v in (0.1, 1.0, 3.0)]),
}
FIELDS = {
    **{
        name: (itf.GaussianMixture(5 * WEIGHTS, MEANS, given, SCHEDULE), WEIGHTS, MEANS, np.array(full))
        for name, (given, full) in COVARIANCES.items()
    },
    "one": (itf.Gaussian.of(MEANS[0], FULL[0], SCHEDULE), np.ones(1), MEANS[:1], FULL[:1]),
    "rank 0": (itf.GaussianMixture(WEIGHTS, MEANS, np.zeros(K), SCHEDULE), WEIGHTS, MEANS, np.zeros((K, D, D))),
}
each = pytest.mark.parametrize("name", FIELDS)


def direct(name, x, alpha, sigma):
    """Mean, log density and responsibilities with the covariances inverted as they stand."""
    _, weights, means, covariances = FIELDS[name]
    logs, each_mean = [], []
    for w, mean, covariance in zip(weights, means, covariances, strict=True):
        total = alpha**2 * covariance + sigma**2 * np.eye(D)
        logs.append(np.log(w) + multivariate_normal(alpha * mean, total).logpdf(x))
        each_mean.append(mean + alpha * np.linalg.solve(total, (x - alpha * mean).T).T @ covariance)
    density = logsumexp(logs, axis=0)
    share = np.exp(logs - density)
    return np.einsum("km,kmd->md", share, each_mean), density, share.T


@each
@pytest.mark.parametrize("t", [0.0, 0.3, 0.8, 0.98])
def test_fields_against_inverted_covariances(name, t):
    field = FIELDS[name][0]
    c = SCHEDULE(t)
    mean, density, share = direct(name, X, c.alpha, c.sigma)
    residual = X - c.alpha * mean
    np.testing.assert_allclose(field.denoiser(X, t), mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(field.noise(X, t), residual / c.sigma, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(field.score(X, t), -residual / c.sigma**2, rtol=1e-9, atol=1e-8)
    velocity = c.alpha_dot * mean + c.sigma_dot * residual / c.sigma
    np.testing.assert_allclose(field.velocity(X, t), velocity, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(field.log_density(X, t), density, rtol=1e-10)
    np.testing.assert_allclose(field.at(c.alpha, c.sigma).denoiser(X), mean, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(field.at(c.alpha, c.sigma).log_density(X), density, rtol=1e-10)
    one = field.denoiser(X[0].astype(np.float32), np.float32(t))
    assert one.dtype == np.float32
    post = field.posterior(X, t)
    np.testing.assert_allclose(post.weight, share, rtol=1e-8, atol=1e-12)
    np.testing.assert_array_equal(post.index, share.argmax(1))
    np.testing.assert_array_equal(post.mean, field.denoiser(X, t))


@each
@pytest.mark.parametrize("t", [0.3, 0.8])
def test_derivatives_against_differences(name, t):
    field = FIELDS[name][0]
    u, h = RNG.standard_normal(X.shape), 1e-5
    want = (field.denoiser(X + h * u, t) - field.denoiser(X - h * u, t)) / (2 * h)
    np.testing.assert_allclose(field.jvp(X, t, u), want, rtol=1e-6, atol=1e-7)
    steps = h * np.eye(D)
    slopes = [(field.velocity(X + e, t) - field.velocity(X - e, t))[:, i] / (2 * h) for i, e in enumerate(steps)]
    np.testing.assert_allclose(field.divergence(X, t), np.sum(slopes, axis=0), rtol=1e-6, atol=1e-7)


@each
def test_gradients_of_modules(name):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    field = FIELDS[name][0]
    x, level = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (X, np.linspace(0.3, 2, 7)))
    assert torch.autograd.gradcheck(itf.torch.Denoiser(field), (x, level))
    t = torch.linspace(0.1, 0.9, 7, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(itf.torch.Velocity(field), (x, t))
    np.testing.assert_array_equal(itf.torch.Velocity(field)(x, 0.5).detach(), field.velocity(X, 0.5))


@each
def test_draws_have_the_law(name):
    field, weights, means, covariances = FIELDS[name]
    x, index = field.draw(40000, 0.7, rng=3)
    assert index is None
    c = SCHEDULE(0.7)
    center = weights @ means
    spread = np.einsum("k,kij->ij", weights, covariances) + (means - center).T @ np.diag(weights) @ (means - center)
    total = c.alpha**2 * spread + c.sigma**2 * np.eye(D)
    error = np.sqrt(np.diag(total) / len(x))
    assert (np.abs(x.mean(0) - c.alpha * center) < 4 * error).all()
    np.testing.assert_allclose(np.cov(x.T), total, rtol=0.05, atol=0.05 * np.diag(total).max())
    whole, part = (field.draw(n, 0.7, rng=itf.NoiseKey(5, first))[0] for n, first in ((30, 0), (10, 20)))
    np.testing.assert_allclose(part, whole[20:], rtol=1e-12)


def test_gaussian_of_rows():
    rows = RNG.standard_normal((60, D)) @ ROOTS[0] + 3
    w = RNG.uniform(0, 1, 60)
    for data, weights, width in (
        (rows, np.ones(60) / 60, 0.0),
        (itf.Field(rows, SCHEDULE, weights=w, bandwidth=0.2), w / w.sum(), 0.2),
    ):
        got = itf.Gaussian(data, SCHEDULE)
        mean = weights @ rows
        covariance = (rows - mean).T @ np.diag(weights) @ (rows - mean) + width**2 * np.eye(D)
        want = itf.Gaussian.of(mean, covariance, SCHEDULE)
        np.testing.assert_allclose(got.denoiser(X, 0.6), want.denoiser(X, 0.6), rtol=1e-10)
    assert itf.Gaussian(itf.Field(rows, SCHEDULE)).schedule == SCHEDULE
    low = itf.Gaussian(rows, SCHEDULE, rank=2)
    away = rows - rows.mean(0)
    _, size, basis = np.linalg.svd(away)
    kept = basis[:2].T @ np.diag(size[:2] ** 2 / 60) @ basis[:2]
    want = itf.Gaussian.of(rows.mean(0), kept, SCHEDULE)
    np.testing.assert_allclose(low.velocity(X, 0.6), want.velocity(X, 0.6), rtol=1e-9)
    assert repr(low) == "Gaussian(d=4, rank=2, schedule=Trigonometric())"


def test_gaussian_of_fewer_rows_than_dimensions():
    rows = RNG.standard_normal((5, 30)).astype(np.float32)
    got = itf.Gaussian(rows, SCHEDULE)
    mean = rows.astype(float).mean(0)
    want = itf.Gaussian.of(mean, (rows - mean).T @ (rows - mean) / 5, SCHEDULE)
    x = RNG.standard_normal((3, 30))
    np.testing.assert_allclose(got.denoiser(x, 0.9), want.denoiser(x, 0.9), rtol=1e-8, atol=1e-10)
    assert "rank=4" in repr(got)


def test_linear_field_is_the_oracle_of_many_gaussian_rows():
    rows = np.random.default_rng(4).standard_normal((20000, 2)) @ np.array([[2.0, 0.5], [0.0, 0.3]])
    field = itf.Field(rows, SCHEDULE)
    t = SCHEDULE.time_of(0.5)
    x = field.draw(200, t, rng=0)[0]
    exact, linear = field.denoiser(x, t), itf.Gaussian(field).denoiser(x, t)
    assert np.mean(np.sum((exact - linear) ** 2, 1)) < 0.01 * field.R**2


def test_limits_at_no_noise():
    gaussian = FIELDS["one"][0]
    np.testing.assert_allclose(gaussian.denoiser(X, 1.0), X, rtol=1e-9)
    want = multivariate_normal(MEANS[0], FULL[0]).logpdf(X)
    np.testing.assert_allclose(gaussian.log_density(X, 1.0), want, rtol=1e-9)
    point = itf.Gaussian.of(np.ones(2), 0.0, SCHEDULE)
    np.testing.assert_array_equal(point.denoiser(np.zeros((1, 2)), 1.0), [[1, 1]])
    for name in ("score", "noise", "velocity", "divergence"):
        with pytest.raises(ValueError, match=r"t must avoid 1\.0: the \w+ does not exist where sigma = 0"):
            getattr(gaussian, name)(X, 1.0)
    with pytest.raises(ValueError, match="log_density does not exist"):
        point.log_density(np.zeros((1, 2)), 1.0)
    with pytest.raises(ValueError, match="degenerate components does not exist"):
        FIELDS["rank 0"][0].denoiser(X, 1.0)


def test_reference_fields_in_runs_and_audits():
    """They are models: sampled from, audited, and refused as oracles."""
    field = FIELDS["full"][0]
    out = itf.sample(field, itf.exponential_heun(SCHEDULE, 60), 4000, rng=1)
    assert out.index is None
    x = field.draw(4000, 1.0, rng=2)[0]
    np.testing.assert_allclose(out.x.mean(0), x.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(out.x.T), np.cov(x.T), atol=0.9)
    rows = itf.Field(x[:50], SCHEDULE)
    assert itf.sample(field, itf.ddim(SCHEDULE, 5), 3, oracle=rows, terms=True, rng=0).terms.total.shape == (3, D)
    report = itf.audit(itf.Gaussian(rows), rows, [0.5], 60, rng=0)
    assert report.excess[0] > 0
    for refuse in (lambda f: itf.optimal_loss(f, [0.5], 10), itf.theory.collapse_time):
        with pytest.raises(TypeError, match="field must be a Field; got GaussianMixture"):
            refuse(field)
    other = field.with_schedule(itf.Linear())
    np.testing.assert_allclose(other.at(0.5, 0.5).score(X), other.score(X, 0.5))


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_mixtures_of_scikit_learn(kind):
    from sklearn.mixture import GaussianMixture

    rows = np.concatenate([RNG.standard_normal((80, 3)), RNG.standard_normal((80, 3)) * 0.3 + 2])
    fitted = GaussianMixture(2, covariance_type=kind, random_state=0).fit(rows)
    field = itf.GaussianMixture.from_sklearn(fitted, itf.Linear())
    np.testing.assert_allclose(field.log_density(rows, 1.0), fitted.score_samples(rows), rtol=1e-9)
    np.testing.assert_allclose(field.posterior(rows, 1.0).weight, fitted.predict_proba(rows), atol=1e-9)
    with pytest.raises(TypeError, match=r"mixture must be a fitted mixture.*fit\(data\)"):
        itf.GaussianMixture.from_sklearn(GaussianMixture(2), itf.Linear())


@pytest.mark.parametrize(
    ("make", "kind", "match"),
    [
        (lambda s: itf.GaussianMixture([1], [[0.0]], [-1.0], s), ValueError, r"covariances\[0\] must have no negative"),
        (lambda s: itf.GaussianMixture([1, 1], [[0.0]], [1.0], s), ValueError, r"weights must have shape \(1,\)"),
        (lambda s: itf.GaussianMixture([1], [0.0], [1.0], s), ValueError, r"means must have shape \(K, d\)"),
        (lambda s: itf.GaussianMixture([1], [[0.0]], [1.0, 2.0], s), ValueError, r"covariances must have shape \(1, 1"),
        (lambda s: itf.GaussianMixture([1], [[0.0]], [1.0], "linear"), TypeError, "schedule must be a Schedule"),
        (lambda s: itf.Gaussian.of([0.0, 0.0], [[1, 2], [0, 1]], s), ValueError, "covariance must be symmetric"),
        (lambda s: itf.Gaussian.of([0.0, np.nan], 1.0, s), ValueError, "mean must be finite"),
        (lambda s: itf.Gaussian.of([0.0], [[np.nan]], s), ValueError, "covariance must be finite"),
        (lambda s: itf.Gaussian.of(0.0, 1.0, s), ValueError, r"mean must have shape \(d,\)"),
        (lambda s: itf.Gaussian(np.eye(3)), TypeError, "schedule must be given with rows"),
        (lambda s: itf.Gaussian(np.eye(3), s, rank=4), ValueError, "rank must be >= 0 and <= 3; got 4"),
        (lambda s: FIELDS["one"][0].denoiser(X[:, :2], 0.5), ValueError, r"x must have shape \(M, 4\)"),
        (lambda s: FIELDS["one"][0].jvp(X, 0.5, X[:2]), ValueError, "u must have the shape of x"),
    ],
)
def test_bad_input(make, kind, match):
    with pytest.raises(kind, match=match):
        make(itf.Linear())
