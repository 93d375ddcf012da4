"""Classes, guidance, rows left out, temperature: against the formulas on training sets that are built as such."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import oracle
import problems
import pytest
from support.chosen import Chosen
from support.measure import EPS, Errors, difference, measure, norm

import interp_fast as itf
from interp_fast._accuracy import PROMISES
from interp_fast._training_set import TrainingSet

LINEAR = itf.Linear()
RATIOS = (3.0, 0.3, 1e-4)


def _digits(dtype):
    """Rows of digits, some there twice in one class and in two, with classes that are not in order, and queries."""
    rows, labels = (part[:160] for part in problems.digits())
    rows, labels = rows.astype(dtype), labels.copy()
    rows[[30, 77, 140]] = rows[5]
    labels[[30, 77]] = labels[5]
    labels[140] = (labels[5] + 1) % 10
    return rows, labels


def _points(rows, t, m, seed=3):
    c = LINEAR(t)
    x = problems.forward(rows, float(c.alpha), float(c.sigma), m, seed)
    x[0], x[1] = c.alpha * rows[5].astype(float), c.alpha * (rows[7].astype(float) + rows[11]) / 2
    return x


def _weights(n):
    weights = np.random.default_rng(4).uniform(0.5, 2.0, n)
    weights[3] = 0.0
    return weights


@pytest.mark.parametrize("ratio", RATIOS)
def test_given_labels(engine, dtype, ratio):
    """Each query as in the field of the rows of its class alone, whose numbers are those of the whole."""
    rows, labels = _digits(dtype)
    weights, t = _weights(len(rows)), 1 / (1 + ratio)
    x = _points(rows, t, 12)
    of = np.array([labels[5], labels[7], *np.arange(10)])
    whole = itf.Field(rows, LINEAR, weights=weights, labels=labels, backend=engine.backend)
    flow, errors = whole.given(of), Errors(f"given labels, {ratio}, {dtype}, {engine}")
    for c in (labels[5], labels[7], 3):
        mine, some = np.flatnonzero(labels == c), np.flatnonzero(of == c)
        measure(errors, rows[mine], weights[mine], Chosen(flow, x, some, mine), x[some], t, result=dtype)
        alone = whole.given(c)
        assert (alone.N, alone.d) == (len(mine), 64)
        assert pytest.approx(itf.Field(rows[mine], weights=weights[mine]).R, rel=1e-12) == alone.R
        measure(errors, rows[mine], weights[mine], Chosen(alone, x, some, mine), x[some], t, result=dtype)
    errors.close()


@pytest.mark.parametrize("ratio", [20.0, 0.3, 1e-4])
@pytest.mark.parametrize("bandwidth", [0.0, 0.05])
def test_class_posterior(engine, dtype, ratio, bandwidth):
    rows, labels = _digits(dtype)
    weights, t = _weights(len(rows)), 1 / (1 + ratio)
    weights[labels == 9] = 0.0
    field = itf.Field(
        rows, LINEAR, weights=weights, labels=labels.astype(str), bandwidth=bandwidth, backend=engine.backend
    )
    x = _points(rows, t, 12)
    c = LINEAR(t)
    log_w = oracle.posterior(rows, x, float(c.alpha), float(c.sigma), weights, bandwidth=bandwidth).log_weight
    want = np.stack([np.exp(log_w[:, labels == k]).sum(1) for k in range(10)], axis=1)
    got = field.class_posterior(x, t)
    assert field.classes.tolist() == [str(k) for k in range(10)]
    assert got.dtype == np.float64
    assert np.abs(got - want).max() <= PROMISES[dtype].weight
    assert (got[:, 9] == 0).all()
    np.testing.assert_allclose(got.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(field.class_posterior(x[3], t), got[3], atol=PROMISES[dtype].weight)


def test_class_posterior_where_few_rows_count(backend, dtype, monkeypatch):
    """One call over all rows; no class is asked. Of rows that tie as well, at one noise and at the end."""
    rows, labels = _digits(dtype)
    rows[7], other = rows[3], (int(labels[3]) + 1) % 10
    labels[7] = other
    field = itf.Field(rows, labels=labels, backend=backend)
    x = np.concatenate([rows[[3]], rows[20:26]]).astype(float)
    monkeypatch.setattr(TrainingSet, "of_class", None)
    for t in (0.98, 1.0):
        got = field.class_posterior(t * x, t)
        want = np.zeros((7, 10))
        want[np.arange(1, 7), labels[20:26]] = 1
        want[0, labels[3]] = want[0, other] = 0.5
        np.testing.assert_allclose(got, want, atol=PROMISES[dtype].weight)


def test_class_posterior_is_calibrated():
    """Of draws to which it gives a probability near p a share p is of that class, within 3 standard errors per bin."""
    rows, labels = _digits("float32")
    field = itf.Field(rows, labels=labels)
    for t in (0.3, 0.35):
        x, index = field.draw(4000, t, rng=1)
        p = field.class_posterior(x, t).ravel()
        hit = (labels[index][:, None] == np.arange(10)).ravel()
        at = np.digitize(p, [0.02, 0.1, 0.25, 0.5, 0.75, 0.9])
        for k in range(7):
            some = at == k
            error = np.sqrt(np.sum(p[some] * (1 - p[some]))) / some.sum()
            assert some.sum() > 50
            assert abs(hit[some].mean() - p[some].mean()) < 3 * error


def test_class_posterior_at_the_ends(backend, dtype):
    rows = np.array([[0, 0], [1, 0], [1, 0], [4, 4]], dtype)
    field = itf.Field(rows, weights=[1, 1, 3, 5], labels=["a", "b", "a", "c"], backend=backend)
    x = np.array([[1.0, 0.0], [0.5, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(field.class_posterior(x, 1.0), [[0.75, 0.25, 0], [0.8, 0.2, 0], [0, 0, 1]], atol=1e-15)
    np.testing.assert_allclose(field.class_posterior(x, 0.0), [[0.4, 0.1, 0.5]] * 3, atol=1e-15)


@pytest.mark.parametrize("ratio", RATIOS)
def test_far_classes_tie(engine, dtype, ratio):
    """Equal rows of two classes share the mass exactly, however far they are."""
    rows = np.random.default_rng(0).uniform(-20, 20, (40, 5)).astype(dtype)
    rows[20:] = rows[:20]
    field = itf.Field(rows, labels=np.repeat([0, 1], 20), backend=engine.backend)
    x = np.random.default_rng(1).uniform(-20, 20, (6, 5))
    np.testing.assert_allclose(field.class_posterior(x, 1 / (1 + ratio)), 0.5, atol=PROMISES[dtype].weight)


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0, -0.5])
@pytest.mark.parametrize("ratio", RATIOS)
def test_guided(engine, dtype, ratio, scale):
    rows, labels = _digits(dtype)
    weights, t = _weights(len(rows)), 1 / (1 + ratio)
    x = _points(rows, t, 12)
    of = np.array([labels[5], (labels[7] + 1) % 10, *np.arange(10)])
    flow = itf.Field(rows, LINEAR, weights=weights, labels=labels, backend=engine.backend).guided(of, scale)
    c, promise = LINEAR(t), PROMISES[dtype]
    alpha, sigma = float(c.alpha), float(c.sigma)
    u = np.random.default_rng(1).standard_normal(x.shape)
    whole = oracle.posterior(rows, x, alpha, sigma, weights, u=u)
    own = [
        oracle.posterior(rows[labels == k], x[m : m + 1], alpha, sigma, weights[labels == k], u=u[m : m + 1])
        for m, k in enumerate(of)
    ]
    mean, product = (np.concatenate([getattr(one, name) for one in own]) for name in ("mean", "product"))
    want = whole.mean + scale * (mean - whole.mean)
    noise, noise_class = (norm((x - alpha * D) / sigma) for D in (whole.mean, mean))
    size = abs(1 - scale) + abs(scale)
    bound = promise.noise * size * np.maximum(np.maximum(noise, noise_class), 1)
    bound = bound + (2 * EPS * norm(x) / sigma * size if dtype == "float64" else 0)
    errors = Errors(f"guided by {scale}, {ratio}, {dtype}, {engine}")
    z = (x - alpha * want) / sigma
    errors.check("noise", norm(flow.noise(x, t) - z), bound)
    errors.check("score", sigma * norm(flow.score(x, t) + z / sigma), bound)
    kappa = float(c.alpha_dot - c.alpha * c.sigma_dot / c.sigma)
    velocity = c.alpha_dot * want + c.sigma_dot * z
    errors.check("velocity", alpha / sigma / abs(kappa) * norm(flow.velocity(x, t) - velocity), bound)
    radius = oracle.radius(rows, weights)[1]
    far = np.maximum(np.maximum(norm(whole.mean), norm(mean)), radius)
    errors.check("denoiser", norm(flow.denoiser(x, t) - want), promise.denoiser * size * far)
    variance = abs(1 - scale) * whole.variance + abs(scale) * np.concatenate([one.variance for one in own])
    pushed = alpha / sigma**2 * ((1 - scale) * whole.product + scale * product)
    allowed = promise.off_weights * alpha / sigma**2 * variance * norm(u) + 40 * np.finfo(dtype).tiny
    errors.check("jvp", norm(flow.jvp(x, t, u) - pushed), allowed)
    trace = (1 - scale) * whole.variance + scale * np.concatenate([one.variance for one in own])
    divergence = 64 * c.sigma_dot / c.sigma + kappa * alpha / sigma**2 * trace
    allowed = promise.off_weights * abs(kappa) * alpha / sigma**2 * variance
    allowed = allowed + 8 * EPS * np.abs(64 * c.sigma_dot / c.sigma)
    errors.check("divergence", difference(flow.divergence(x, t), divergence), allowed)
    errors.close()


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("ratio", [20.0, 0.3, 1e-4])
def test_without(engine, dtype, ratio, grouped):
    """Each query as in the field of the other rows; the row left out is the one it was made of."""
    rows, labels = _digits(dtype)
    weights, t = _weights(len(rows)), 1 / (1 + ratio)
    x = _points(rows, t, 6)
    out = np.array([5, 7, 50, 77, 140, 159])
    flow = itf.Field(rows, LINEAR, weights=weights, backend=engine.backend).without(out, labels if grouped else None)
    errors = Errors(f"without, {grouped}, {ratio}, {dtype}, {engine}")
    for m, row in enumerate(out):
        seen = np.flatnonzero(labels != labels[row]) if grouped else np.delete(np.arange(len(rows)), row)
        measure(errors, rows[seen], weights[seen], Chosen(flow, x, [m], seen), x[[m]], t, result=dtype)
    errors.close()


def test_without_beside_copies(engine):
    """They weigh all there is, and the variance is that of a row 170 nats below."""
    rows, t = np.array([[0.0], [0.0], [0.0], [1.0]]), 1 / (1 + 1 / np.sqrt(340.0))
    x = np.zeros((1, 1))
    left = itf.Field(rows, backend=engine.backend).without([0]).posterior(x, t)
    want = itf.Field(rows[1:], backend="reference").posterior(x, t)
    assert want.variance[0] > 0
    np.testing.assert_allclose(left.variance, want.variance, rtol=2e-9)


def test_without_beside_light_copies(engine):
    """Copies that weigh 1e-80 and 1e-160 hide a row of 1e-250 no more than one of weight 1: it is the variance."""
    rows = np.array([[0.0], [0.0], [0.0], [3.0], [1.0]])
    left = itf.Field(rows, weights=[1.0, 1e-80, 1e-160, 1e-250, 0.5], backend=engine.backend).without([4])
    np.testing.assert_allclose(left.posterior(np.zeros((1, 1)), 0.0).variance, 9e-250, rtol=1e-9)
    np.testing.assert_allclose(left.posterior(np.zeros((1, 1)), 1e-17).variance, 9e-250, rtol=1e-9)


@pytest.mark.parametrize("gap", [5e-324, 1e-60, 1e-30])
def test_without_beside_a_row_that_is_next_to_the_heaviest(engine, gap):
    """It is no copy, and makes less of the variance than a row e^125 lighter does."""
    rows, light = np.array([[0.0], [gap], [3.0], [1.0]]), np.exp(-125.0)
    left = itf.Field(rows, weights=[1.0, 1.0, light, 0.5], backend=engine.backend).without([3])
    want = 9 * light / 2 + gap**2 / 4
    np.testing.assert_allclose(left.posterior(np.zeros((1, 1)), 0.0).variance, want, rtol=1e-9)


def test_without_what_is_left_weighs_next_to_nothing(engine):
    """An entropy of weights 1 and e is e (1 - log e), however small."""
    rows, light = np.zeros((3, 2)), 1e-36
    left = itf.Field(rows, weights=[1.0, light, 0.5], backend=engine.backend).without([2]).posterior(rows[:1], 0.5)
    np.testing.assert_allclose(left.entropy, light * (1 - np.log(light)), rtol=1e-9)
    np.testing.assert_allclose(left.log_rest, np.log(light), rtol=1e-12)


def test_without_a_far_tie(engine, dtype):
    """What is left of three rows that tie are two that do, at a distance where float64 does not tell."""
    rows = np.random.default_rng(4).uniform(-20, 20, (40, 5)).astype(dtype)
    t = 1 - 1e-4
    alpha, sigma = float(LINEAR(t).alpha), float(LINEAR(t).sigma)
    x = problems.far_ties(rows.astype(float), alpha, sigma)
    top = oracle.posterior(rows, x, alpha, sigma).index
    flow = itf.Field(rows, backend=engine.backend).without((top + 1) % 40)
    promise = PROMISES[dtype]
    for m in range(len(x)):
        seen = np.delete(np.arange(40), (top[m] + 1) % 40)
        ref = oracle.posterior(rows[seen], x[[m]], alpha, sigma)
        want = (x[[m]] - alpha * ref.mean) / sigma
        error = norm(flow.noise(x, t)[[m]] - want)
        assert (error <= promise.noise * np.maximum(1, norm(want)) + 4 * EPS * norm(x).max() / sigma).all()


@pytest.mark.parametrize("temperature", [0.25, 1.0, 9.0])
@pytest.mark.parametrize("bandwidth", [0.0, 0.05])
@pytest.mark.parametrize("ratio", RATIOS)
def test_tempered(engine, dtype, ratio, bandwidth, temperature):
    """The weights are those of the logits divided by T, weights among them."""
    rows, _ = _digits(dtype)
    weights, t = _weights(len(rows)), 1 / (1 + ratio)
    x = _points(rows, t, 8)
    flow = itf.Field(rows, LINEAR, weights=weights, bandwidth=bandwidth, backend=engine.backend).tempered(temperature)
    c, promise, hot = LINEAR(t), PROMISES[dtype], np.sqrt(temperature)
    alpha, sigma = float(c.alpha), float(c.sigma)
    ref = oracle.posterior(
        rows, x, alpha, hot * sigma, (weights / weights.sum()) ** (1 / temperature), bandwidth=hot * bandwidth
    )
    want = oracle.fields(ref, x, c, bandwidth=bandwidth)
    bound = promise.noise * np.maximum(np.maximum(norm(want.noise), 1), hot)
    bound = bound + (2 * EPS * norm(x) / sigma if dtype == "float64" else 0)
    errors = Errors(f"tempered by {temperature}, {bandwidth}, {ratio}, {dtype}, {engine}")
    errors.check("noise", norm(flow.noise(x, t) - want.noise), bound)
    errors.check("score", sigma * norm(flow.score(x, t) - want.score), bound)
    radius = oracle.radius(rows, weights)[1]
    errors.check(
        "mean",
        norm(flow.denoiser(x, t) - want.denoiser),
        2 * promise.denoiser * np.maximum(norm(want.denoiser), radius),
    )
    post = flow.posterior(x, t, top=2)
    assert np.isnan(post.log_density).all()
    for name in ("ess", "entropy", "variance"):
        value = getattr(ref, name)
        errors.check(name, difference(getattr(post, name), value), promise.off_weights * value + 1e-300)
    total = np.log(((weights / weights.sum()) ** (1 / temperature)).sum())
    allowed = promise.density + promise.density_slope * np.abs(ref.log_norm)
    errors.check("log_norm", difference(post.log_norm, ref.log_norm + total), allowed)
    errors.close()


def test_jvp_of_a_tempered_field(backend):
    """Against central differences of its denoiser."""
    rows = np.random.default_rng(0).standard_normal((30, 4))
    flow = itf.Field(rows, bandwidth=0.1, backend=backend).tempered(2.0)
    x, u = np.random.default_rng(1).standard_normal((2, 3, 4))
    h = 1e-5
    want = (flow.denoiser(x + h * u, 0.6) - flow.denoiser(x - h * u, 0.6)) / (2 * h)
    np.testing.assert_allclose(flow.jvp(x, 0.6, u), want, rtol=1e-7, atol=1e-8)
    plain = itf.Field(rows, bandwidth=0.1, backend=backend).tempered(2.0)
    velocity = [
        (plain.velocity(x + h * e, 0.6) - plain.velocity(x - h * e, 0.6))[:, k] for k, e in enumerate(np.eye(4))
    ]
    np.testing.assert_allclose(plain.divergence(x, 0.6), sum(velocity) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("table", [itf.ddim, itf.ddpm, itf.heun])
@pytest.mark.parametrize("order", ["sorted", "mixed"])
def test_samples_under_labels(engine, dtype, table, order):
    """They end on rows of their class, and are those of the fields of the classes with the same noise."""
    rows, labels = _digits(dtype)
    field = itf.Field(rows, labels=labels, backend=engine.backend)
    of = np.repeat([2, 7, 5], 6) if order == "sorted" else np.tile([2, 7, 5], 6)
    steps = table(field.schedule, 12)
    out = itf.sample(field.given(of), steps, rng=3)
    assert out.x.shape == (18, 64)
    assert (labels[out.index] == of).all()
    assert norm(out.x - rows[out.index].astype(float)).max() < 1e-3
    for c in (2, 7, 5):
        for m in np.flatnonzero(of == c)[:2]:
            key = itf.NoiseKey(out.stats["key"], first_sample=int(m))
            alone = itf.sample(field.given(c), steps, 1, rng=key)
            np.testing.assert_allclose(out.x[m], alone.x[0], atol=1e-4 if dtype == "float32" else 1e-7)
            assert out.index[m] == alone.index[0]
            assert out.commit_time[m] == alone.commit_time[0]


def test_parts_of_a_run_under_labels(backend):
    """Error arrays, terms and paths go with their samples, fused or not."""
    rows, labels = _digits("float64")
    field = itf.Field(rows, labels=labels, backend=backend)
    of = np.array([1, 4, 1, 1])
    steps = itf.ddim(field.schedule, 6)
    error = np.random.default_rng(0).standard_normal((6, 4, 64)) * 0.01
    out = itf.sample(field.given(of), steps, rng=1, error=error, terms=True, keep="path")
    stepped = itf.sample(field.given(of), steps, rng=1, error=lambda x, t, r: error[r], terms=True, keep="path")
    np.testing.assert_allclose(out.path, stepped.path, atol=1e-9)
    for name in ("selection", "estimation", "noise", "total"):
        np.testing.assert_allclose(getattr(out.terms, name), getattr(stepped.terms, name), atol=1e-9)
    np.testing.assert_allclose(out.terms.total, out.x - rows[out.index], atol=1e-9)


@pytest.mark.parametrize("view", ["guided", "without", "tempered", "given"])
def test_runs_of_views_are_steps_of_their_denoisers(backend, view):
    rows, labels = _digits("float64")
    field = itf.Field(rows, weights=_weights(len(rows)), labels=labels, backend=backend)
    of, out = np.array([3, 1, 4, 1]), np.array([5, 6, 7, 8])
    flow = {
        "guided": lambda: field.guided(of, 2.0),
        "without": lambda: field.without(out, labels),
        "tempered": lambda: field.tempered(0.5),
        "given": lambda: field.given(of),
    }[view]()
    steps = itf.ddpm(field.schedule, 8)
    run = itf.sample(flow, steps, 4, rng=2, keep="path")
    model = itf.Model(flow.denoiser, field.schedule, predicts="denoiser")
    stepped = itf.sample(model, steps, x0=run.path[:, 0], rng=2, keep="path")
    np.testing.assert_allclose(run.path, stepped.path, atol=1e-7)
    if view == "without":
        assert (labels[run.index] != labels[out]).all()


def test_views_are_copied_and_sent():
    rows, labels = _digits("float32")
    field = itf.Field(rows, labels=labels)
    x = _points(rows, 0.5, 3)
    for view in (field.given(3), field.given([1, 2, 3]), field.guided([1, 2, 3], 2.0), field.without([1, 2, 3]),
                 field.tempered(2.0)):  # fmt: skip
        want = view.denoiser(x, 0.5)
        for other in (pickle.loads(pickle.dumps(view)), copy.deepcopy(view), copy.copy(view)):
            np.testing.assert_array_equal(other.denoiser(x, 0.5), want)


def test_labels_of_subsets_and_classes():
    rows, labels = _digits("float32")
    field = itf.Field(rows, labels=labels)
    some = field.subset(labels < 5)
    assert some.classes.tolist() == list(range(10))
    assert (some.class_posterior(rows[:3].astype(float), 0.5)[:, 5:] == 0).all()
    inner = field.given(5).subset([0, 1, 2])
    np.testing.assert_array_equal(
        inner.denoiser(rows[:2].astype(float), 0.99),
        field.subset(np.flatnonzero(labels == 5)[:3]).denoiser(rows[:2].astype(float), 0.99),
    )
    assert labels[field.given(5).draw(20, 0.5, rng=0)[1]].tolist() == [5] * 20
    alone = itf.sample(field.given(5), itf.ddim(field.schedule, 5), 3, rng=0, attribution=True)
    assert (labels[alone.index] == 5).all()
    mass = alone.attribution.toarray().sum(1)
    assert alone.attribution.shape == (3, 160)
    np.testing.assert_allclose(alone.attribution.toarray()[:, labels == 5].sum(1), mass)
    near = itf.nearest(rows[labels == 5][:3], field.given(5), 1)
    np.testing.assert_array_equal(near.index[:, 0], np.flatnonzero(labels == 5)[:3])
    trapped = itf.theory.trapping(field.given(5), rows[labels == 5][:3].astype(float), 0.999)
    np.testing.assert_array_equal(trapped.index, np.flatnonzero(labels == 5)[:3])
    assert set(labels[itf.memorization(rows[:9], field.given(5), rng=0).index]) == {5}


def test_labels_that_lie_together_are_not_copied():
    rows, labels = _digits("float32")
    order = np.argsort(labels, kind="stable")
    field = itf.Field(rows[order], labels=labels[order])
    assert np.shares_memory(field.given(3)._oracle.training_set.rows, field._oracle.training_set.rows)


X = np.arange(12.0).reshape(6, 2)
Y = np.array([0, 0, 1, 1, 2, 2])
PLAIN = "field must be a Field, or one of a class or a subset; got a "
STEPS = itf.euler(LINEAR, 2)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda f: itf.Field(X, labels=Y[:5]), ValueError, r"labels must have shape \(6,\).*got \(5,\)"),
        (lambda f: itf.Field(X, labels=Y * 1.0), TypeError, "labels must be ints or strings; got float64"),
        (lambda f: itf.Field(X, labels=Y > 1), TypeError, "labels must be ints or strings; got bool"),
        (lambda f: f.given(7), ValueError, "labels must be among the classes of the field, 0, 1, 2; got 7"),
        (lambda f: f.given("a"), ValueError, "labels must be among the classes of the field, 0, 1, 2; got 'a'"),
        (lambda f: f.given([0, 5]), ValueError, "got 5"),
        (lambda f: f.given(0.5), TypeError, "labels must be ints or strings"),
        (lambda f: f.guided([0, 2], 1.0), ValueError, "labels must name classes of weight > 0; class 2 weighs nothing"),
        (lambda f: f.given(2), ValueError, "class 2 weighs nothing"),
        (lambda f: f.guided([0], np.inf), ValueError, "scale must be finite"),
        (lambda f: f.guided(0, 1.0), ValueError, r"labels must be a vector.*Pass \[0\]"),
        (lambda f: itf.Field(X).given(0), ValueError, "given needs a field with labels; pass labels= to Field"),
        (lambda f: itf.Field(X).class_posterior(X, 0.5), ValueError, "class_posterior needs a field with labels"),
        (lambda f: f.given([0, 1]).denoiser(X, 0.5), ValueError, "x must have 2 rows, one for each of the labels"),
        (lambda f: itf.sample(f.given([0, 1]), STEPS, 3, rng=0), ValueError, "one for each of the labels; got 3"),
        (lambda f: f.given([0, 1]).given([0]), ValueError, "given must be asked of a Field; got a field given labels"),
        (lambda f: f.tempered(2.0).without([0]), ValueError, "without must be asked of a Field; got a tempered field"),
        (lambda f: f.guided([0], 1.0).log_density(X[:1], 0.5), ValueError, "a guided field has no log_density"),
        (lambda f: f.guided([0], 1.0).posterior(X[:1], 0.5), ValueError, "a guided field has no posterior"),
        (lambda f: f.guided([0], 1.0).draw(1, 0.5), ValueError, "draw must be asked of a Field"),
        (lambda f: f.tempered(2.0).log_density(X, 0.5), ValueError, "a tempered field has no log_density"),
        (lambda f: itf.sample(f.guided([0], 1.0), STEPS, rng=0, terms=True), ValueError, "terms=True needs"),
        (lambda f: itf.sample(f.given([0]), STEPS, rng=0, attribution=True), ValueError, "attribution=True needs"),
        (lambda f: itf.optimal_loss(f.given([0, 1]), [0.5], 4), ValueError, f"{PLAIN}field given labels"),
        (lambda f: itf.optimal_loss(f.tempered(2.0), [0.5], 4), ValueError, f"{PLAIN}tempered field"),
        (lambda f: f.without([6]), ValueError, r"rows must lie in \[0, 6\); got 6"),
        (lambda f: f.without([-1]), ValueError, r"rows must lie in \[0, 6\); got -1"),
        (lambda f: f.without([0.5]), ValueError, "rows must be a vector of row numbers"),
        (lambda f: f.without([0], groups=[1, 2]), ValueError, r"groups must be ints of shape \(6,\)"),
        (lambda f: f.without([4, 1], [0, 0, 0, 0, 1, 1]), ValueError, "groups .* is left for query 1, without row 1"),
        (lambda f: f.given(0).without([3]), ValueError, "rows must be rows of this class; got 3"),
        (lambda f: itf.Field(X[:1]).without([0]), ValueError, "rows must leave rows of weight > 0"),
        (lambda f: f.tempered(0.0), ValueError, "temperature must be finite and > 0"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, kind, words):
    field = itf.Field(X, weights=[1, 1, 1, 1, 0, 0], labels=Y)
    with pytest.raises(kind, match=words):
        call(field)
