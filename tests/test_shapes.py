"""Points of any shape: what is taken, what comes back, who is shown what. Flat answers are tested elsewhere."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from support.sources import Source

import interp_fast as itf
from interp_fast import _arrays

EVENT = (3, 4, 5)
D = 60
RNG = np.random.default_rng(7)
X = RNG.standard_normal((40, *EVENT))
Q = RNG.standard_normal((6, *EVENT))
FLAT, Q_FLAT = X.reshape(40, D), Q.reshape(6, D)
LINEAR = itf.Linear()
FIELD, FLAT_FIELD = itf.Field(X), itf.Field(FLAT)
VECTORS = ("denoiser", "velocity", "score", "noise")


def same(got, flat, shape=EVENT):
    """``got`` are the numbers of ``flat``, in another shape."""
    assert got.shape == (*flat.shape[:-1], *shape)
    np.testing.assert_array_equal(np.asarray(got).reshape(flat.shape), flat)


def test_a_field_knows_the_shape_of_its_points():
    assert (FIELD.event, FIELD.d, FIELD.N) == (EVENT, D, 40)
    assert FLAT_FIELD.event == (D,)
    assert "event=(3, 4, 5)" in repr(FIELD)
    assert "event" not in repr(FLAT_FIELD)
    for other in (FIELD.subset([3, 5]), FIELD.with_schedule(itf.VP()), pickle.loads(pickle.dumps(FIELD))):
        assert other.event == EVENT


@pytest.mark.parametrize("name", VECTORS)
def test_answers_have_the_shape_of_the_query(name):
    ask, ask_flat = getattr(FIELD, name), getattr(FLAT_FIELD, name)
    flat, one = ask_flat(Q_FLAT, 0.6), ask_flat(Q_FLAT[0], 0.6)
    same(ask(Q, 0.6), flat)
    same(ask(Q[0], 0.6), one)
    same(ask(Q, np.full(6, 0.6)), flat)
    np.testing.assert_array_equal(ask(Q_FLAT, 0.6), flat)
    np.testing.assert_array_equal(ask(Q_FLAT[0], 0.6), one)
    assert ask(Q[:0], 0.6).shape == (0, *EVENT)
    level = FIELD.at(0.6, 0.4)
    if name != "velocity":
        same(getattr(level, name)(Q), getattr(FLAT_FIELD.at(0.6, 0.4), name)(Q_FLAT))


def test_one_number_for_each_point():
    for name in ("log_density", "divergence"):
        got = getattr(FIELD, name)(Q, 0.6)
        np.testing.assert_array_equal(got, getattr(FLAT_FIELD, name)(Q_FLAT, 0.6))
        assert np.shape(getattr(FIELD, name)(Q[0], 0.6)) == ()
    post, flat = FIELD.posterior(Q, 0.6, top=2), FLAT_FIELD.posterior(Q_FLAT, 0.6, top=2)
    same(post.mean, flat.mean)
    assert post.top_weight.shape == (6, 2)
    np.testing.assert_array_equal(post.index, flat.index)
    assert FIELD.posterior(Q[0], 0.6, top=2).top_index.shape == (2,)


def test_directions():
    flat = FLAT_FIELD.jvp(Q_FLAT, 0.6, Q_FLAT[::-1])
    same(FIELD.jvp(Q, 0.6, Q[::-1]), flat)
    same(FIELD.jvp(Q, 0.6, Q_FLAT[::-1]), flat)
    same(FIELD.jvp(Q[0], 0.6, Q[5]), FLAT_FIELD.jvp(Q_FLAT[0], 0.6, Q_FLAT[5]))
    with pytest.raises(ValueError, match=r"u must have the shape of x, \(6, 3, 4, 5\); got \(2, 3, 4, 5\)"):
        FIELD.jvp(Q, 0.6, Q[:2])


def test_draws():
    x, index = FIELD.draw(9, 0.5, rng=1)
    flat, same_index = FLAT_FIELD.draw(9, 0.5, rng=1)
    same(x, flat)
    np.testing.assert_array_equal(index, same_index)


def test_where_both_readings_fit_the_event_wins():
    """(1, d) is one point of that shape, not a list of one; what cannot be one point is a list."""
    thin = itf.Field(FLAT[:, None])
    assert thin.event == (1, D)
    assert thin.log_density(Q_FLAT[:1], 0.5).shape == ()
    assert thin.denoiser(Q_FLAT[:1], 0.5).shape == (1, D)
    assert thin.log_density(Q_FLAT, 0.5).shape == (6,)
    assert thin.denoiser(Q_FLAT[:, None], 0.5).shape == (6, 1, D)
    assert itf.sample(thin, itf.ddim(LINEAR, 3), x0=Q_FLAT[:1]).x.shape == (1, D)
    assert itf.Field(FLAT[:, :1]).denoiser(np.zeros(1), 0.5).shape == (1,)


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.moveaxis(Q, 1, -1), r"\(M, 3, 4, 5\) or \(3, 4, 5\), flat \(M, 60\) or \(60,\); got \(6, 4, 5, 3\). That "
         r"is channels last. Pass np.moveaxis\(x, -1, -3\)"),
        (np.moveaxis(Q, 1, -1)[0], r"got \(4, 5, 3\). That is channels last. Pass np.moveaxis\(x, -1, -3\)"),
        (np.moveaxis(Q, -1, 1), r"channels first. Pass np.moveaxis\(x, -3, -1\)"),
        (Q.reshape(6, 12, 5), r"got \(6, 12, 5\). Pass x.reshape\(-1, 3, 4, 5\)"),
        (Q[None], r"got \(1, 6, 3, 4, 5\)\.$"),
        (Q[:, :2], r"got \(6, 2, 4, 5\)\.$"),
        (np.zeros(()), r"got \(\)"),
    ],
    ids=["channels last", "one channels last", "channels first", "reshaped", "five axes", "fewer", "scalar"],
)  # fmt: skip
def test_other_shapes_are_refused_with_a_remedy(x, match):
    with pytest.raises(ValueError, match=match):
        FIELD.denoiser(x, 0.5)
    if "Pass np" in match:  # the remedy works
        source, target = (-1, -3) if "-1, -3" in match else (-3, -1)
        FIELD.denoiser(np.moveaxis(x, source, target), 0.5)


def test_rows_and_columns():
    field = itf.Field(X[:, 0])
    with pytest.raises(ValueError, match=r"rows and columns exchanged. Pass np.moveaxis\(x, -1, -2\)"):
        field.denoiser(np.swapaxes(Q[:, 0], 1, 2), 0.5)
    with pytest.raises(ValueError, match=r"data must have shape \(N, d\) or \(N, ...\).*got \(5,\)"):
        itf.Field(np.ones(5))


def test_rows_stay_where_they_are(monkeypatch):
    """Neither a copy of rows that lie together nor, above a size, of rows that do not."""
    monkeypatch.setattr(_arrays, "_COPY_LIMIT", 0)
    for data in (X, X[::2], X[::-1], np.broadcast_to(X[:1], X.shape)):
        rows, _, _, event = _arrays.rows(data)
        assert np.shares_memory(rows, data)
        assert event == EVENT
    with pytest.raises(ValueError, match=r"data must be contiguous along rows.*order='C'"):
        itf.Field(np.moveaxis(X, 1, -1))


@pytest.mark.parametrize("backend", ["reference", "numba", "cpp"])
@pytest.mark.parametrize("stored", ["f4", "f2", "u1"])
def test_storage(stored, backend):
    rows = (np.clip(X, -1, 1) * 127 + 128).astype(stored)
    last = np.moveaxis(rows, 1, -1)  # small: copied
    got = itf.Field(last, backend=backend).velocity(np.moveaxis(Q, 1, -1), 0.7)
    flat = itf.Field(np.ascontiguousarray(last).reshape(40, D), backend=backend)
    same(got, flat.velocity(np.moveaxis(Q, 1, -1).reshape(6, D), 0.7), (4, 5, 3))


@pytest.mark.parametrize("bits", [False, True])
def test_row_sources(tmp_path, bits):
    rows = X.astype("f4")
    if bits:
        rows = rows.astype(pytest.importorskip("ml_dtypes").bfloat16)
    values = rows.astype("f4").reshape(40, D)
    field = itf.Field(Source(rows))
    assert field.event == EVENT
    want = itf.Field(values)
    np.testing.assert_allclose(field.velocity(Q, 0.6).reshape(6, D), want.velocity(Q_FLAT, 0.6), rtol=0, atol=1e-5)
    assert itf.sample(field, itf.ddim(LINEAR, 4), 3, rng=0).x.shape == (3, *EVENT)
    assert field.subset([1, 7]).denoiser(Q, 0.9).shape == Q.shape
    found = itf.nearest(Q, Source(X), 2)
    np.testing.assert_array_equal(found.index, itf.nearest(Q_FLAT, FLAT, 2).index)
    if not bits:
        np.save(tmp_path / "x.npy", rows)
        assert itf.Field(tmp_path / "x.npy").event == EVENT


def test_samples():
    steps = itf.ddpm(LINEAR, 6)
    kept = {"rng": 3, "keep": "path", "terms": True}
    out, flat = itf.sample(FIELD, steps, 5, **kept), itf.sample(FLAT_FIELD, steps, 5, **kept)
    same(out.x, flat.x)
    same(out.path, flat.path)
    for name in ("selection", "estimation", "noise", "total"):
        same(getattr(out.terms, name), getattr(flat.terms, name))
    np.testing.assert_array_equal(out.index, flat.index)
    start = Q[:5] * 1.0
    for x0, shape in ((start, EVENT), (start.reshape(5, D), (D,))):
        out = itf.sample(FIELD, steps, x0=x0, rng=3, keep="path", terms=True)
        assert out.x.shape == (5, *shape)
        assert out.path.shape == (5, 7, *shape)
        assert out.terms.noise.shape == (5, *shape)
    place = np.empty((5, *EVENT))
    assert itf.sample(FIELD, steps, 5, rng=3, out=place).x is place
    same(place, flat.x)
    with pytest.raises(ValueError, match=r"x0 must have shape \(n, 3, 4, 5\).*got \(3, 4, 5\). Pass x0\[None\]"):
        itf.sample(FIELD, steps, x0=Q[0])


def test_errors_of_samples():
    steps = itf.ddim(LINEAR, 6)
    errors = RNG.standard_normal((6, 5, *EVENT))
    flat = itf.sample(FLAT_FIELD, steps, 5, rng=0, error=errors.reshape(6, 5, D))
    for given in (errors, errors.reshape(6, 5, D)):
        same(itf.sample(FIELD, steps, 5, rng=0, error=given).x, flat.x)
        bound = itf.theory.estimation_bound(FIELD, steps, given)
        np.testing.assert_allclose(bound.upper, np.linalg.norm(errors[-1].reshape(5, -1), axis=1), rtol=1e-12)

    def error(x, t, r):
        assert x.shape == (5, *EVENT)
        return errors[r]

    np.testing.assert_allclose(itf.sample(FIELD, steps, 5, rng=0, error=error).x.reshape(5, D), flat.x, atol=1e-9)
    kinds = itf.perturb.constant(0.3), itf.perturb.smooth(0.3, 1.0), itf.perturb.velocity(0.1)
    for kind in kinds:
        want = itf.sample(FLAT_FIELD, steps, 5, rng=0, error=kind).x
        same(itf.sample(FIELD, steps, 5, rng=0, error=kind).x, want)
    with pytest.raises(ValueError, match=r"error must have shape \(6, 5, 3, 4, 5\).*got \(6, 5, 4, 5, 3\)"):
        itf.sample(FIELD, steps, 5, error=np.moveaxis(errors, 2, -1))
    with pytest.raises(ValueError, match=r"errors must have shape \(6, n, 3, 4, 5\)"):
        itf.theory.estimation_bound(FIELD, steps, np.moveaxis(errors, 2, -1))
    with pytest.raises(ValueError, match=r"error\(x, t, r\) must be a float array of the shape of x, \(5, 3, 4, 5\)"):
        itf.sample(FIELD, steps, 5, error=lambda x, t, r: x.reshape(5, -1))


def shown(seen, answer):
    """A model that notes the shapes it is shown."""

    def fn(x, t):
        seen.add(x.shape[1:])
        return answer(x, t)

    return itf.Model(fn, LINEAR)


def test_models_are_shown_what_is_asked():
    seen = set()
    model = shown(seen, lambda x, t: -x)
    assert model.velocity(Q, 0.5).shape == Q.shape
    assert seen == {EVENT}
    assert model.denoiser(Q[0, 0, 0], 0.5).shape == (5,)
    assert seen == {EVENT, (5,)}
    steps = itf.ddim(LINEAR, 4)
    for options, shape in (({"x0": Q}, EVENT), ({"x0": Q_FLAT}, (D,)), ({"n": 3, "oracle": FIELD}, EVENT)):
        seen.clear()
        assert itf.sample(model, steps, **options).x.shape[1:] == shape
        assert seen == {shape}
    seen.clear()
    assert itf.sample(model, steps, x0=Q_FLAT, oracle=FIELD, terms=True).terms.total.shape == (6, D)
    assert seen == {(D,)}


def test_studies_show_models_the_shape_of_the_data():
    seen, flat_seen = set(), set()
    model = shown(seen, lambda x, t: FIELD.velocity(x, t) + 0.1)
    flat = shown(flat_seen, lambda x, t: FLAT_FIELD.velocity(x, t) + 0.1)
    linear = {"linear": itf.Gaussian(FIELD)}
    kept = {"rng": 0, "holdout": X[:7] + 0.1}
    got = itf.compare(model, FIELD, [0.3, 0.7], 20, at="holdout", baselines=linear, **kept)
    want = itf.compare(flat, FLAT_FIELD, [0.3, 0.7], 20, at="holdout", rng=0, holdout=FLAT[:7] + 0.1)
    np.testing.assert_array_equal(got.mse, want.mse)
    for at in ("model", "oracle"):
        assert itf.compare(model, FIELD, None, 4, at=at, steps=itf.ddim(LINEAR, 3), rng=0).mse.shape == (3,)
    audit, flat_audit = itf.audit(model, FIELD, [0.5], 30, **kept), itf.audit(flat, FLAT_FIELD, [0.5], 30, rng=0)
    same(audit.terms.total, flat_audit.terms.total)
    assert audit.verdict == flat_audit.verdict
    assert str(audit)
    found = itf.theory.concentrability(model, FIELD, itf.ddim(LINEAR, 3), 5, rng=0)
    np.testing.assert_allclose(
        found.drawn, itf.theory.concentrability(flat, FLAT_FIELD, itf.ddim(LINEAR, 3), 5, rng=0).drawn
    )
    errors = itf.theory.concentrability(lambda x, t: 0.1 * np.ones((5, *EVENT)), FIELD, itf.ddim(LINEAR, 3), 5, rng=0)
    np.testing.assert_allclose(errors.drawn, 0.01 * D)
    assert seen == {EVENT}
    assert flat_seen == {(D,)}


def test_gaussians():
    linear, flat = itf.Gaussian(X, LINEAR), itf.Gaussian(FLAT, LINEAR)
    assert linear.event == itf.Gaussian(FIELD).event == EVENT
    for name in VECTORS:
        same(getattr(linear, name)(Q, 0.4), getattr(flat, name)(Q_FLAT, 0.4))
    same(linear.jvp(Q, 0.4, Q), flat.jvp(Q_FLAT, 0.4, Q_FLAT))
    same(linear.draw(4, 0.5, rng=0)[0], flat.draw(4, 0.5, rng=0)[0])
    assert linear.posterior(Q[0], 0.4).mean.shape == EVENT
    steps = itf.ddim(LINEAR, 4)
    same(itf.sample(linear, steps, 3, rng=0).x, itf.sample(flat, steps, 3, rng=0).x)
    assert itf.sample(linear, steps, x0=Q_FLAT).x.shape == (6, D)
    spread = np.abs(X[:2]) + 1
    pair = itf.GaussianMixture([1, 1], X[:2], spread, LINEAR)
    same(
        pair.denoiser(Q, 0.4), itf.GaussianMixture([1, 1], FLAT[:2], spread.reshape(2, D), LINEAR).denoiser(Q_FLAT, 0.4)
    )
    one = itf.Gaussian.of(X[0], spread[0], LINEAR)
    same(one.score(Q, 0.4), itf.Gaussian.of(FLAT[0], spread[0].ravel(), LINEAR).score(Q_FLAT, 0.4))
    for name in ("from_edm", "from_flow_matching", "from_torchcfm", "from_diffusers", "from_smalldiffusion"):
        assert hasattr(itf.Model, name)
        assert not hasattr(itf.GaussianMixture, name)


def test_copies():
    flat = itf.memorization(Q_FLAT, FLAT, holdout=FLAT[:5] + 0.1, k=3)
    for data in (X, FIELD):
        for samples, held in ((Q, X[:5] + 0.1), (Q_FLAT, FLAT[:5] + 0.1)):
            got = itf.memorization(samples, data, holdout=held, k=3)
            assert got.to_dict() == flat.to_dict()
            np.testing.assert_array_equal(itf.nearest(samples, data).index, itf.nearest(Q_FLAT, FLAT).index)
    with pytest.raises(
        ValueError, match=r"samples must have shape.*channels last. Pass np.moveaxis\(samples, -1, -3\)"
    ):
        itf.memorization(np.moveaxis(Q, 1, -1), X)
    with pytest.raises(ValueError, match=r"holdout must have .*\(6, 2, 4, 5\)"):
        itf.memorization(Q, X, holdout=Q[:, :2])
    with pytest.raises(ValueError, match=r"samples .*Pass samples.reshape\(-1, 60\)"):
        itf.nearest(Q, FLAT)


def test_features_are_shown_the_shape_of_the_rows():
    seen = []

    def features(rows):
        seen.append(rows.shape[1:])
        return rows.mean(axis=(2, 3)).astype(np.float64)

    for data in (X, FIELD, itf.Field(Source(X))):
        got = itf.memorization(Q, data, features=features, k=3)
        want = itf.memorization(Q.mean(axis=(2, 3)), X.mean(axis=(2, 3)), k=3)
        np.testing.assert_array_equal(got.d1, want.d1)
    assert set(seen) == {EVENT}


def test_theory():
    steps = itf.ddim(LINEAR, 5)
    near = 0.95 * X[:3] + 0.01
    for x, points in ((near, FIELD), (near.reshape(3, D), FIELD)):
        found, flat = itf.theory.trapping(points, x, 0.95), itf.theory.trapping(FLAT_FIELD, near.reshape(3, D), 0.95)
        np.testing.assert_array_equal(found.leakage, flat.leakage)
        assert itf.theory.margin_condition(points, x, 0.95, 0.01).holds.shape == (3,)
        assert itf.theory.discretization_bound(points, steps, x).bound.shape == (3,)
        assert itf.theory.amplification(points, steps, x).path.shape == (5, 3)
    assert np.shape(itf.theory.trapping(FIELD, near[0], 0.95).index) == ()
    assert itf.optimal_loss(FIELD, [0.5], 20, rng=0).loss == itf.optimal_loss(FLAT_FIELD, [0.5], 20, rng=0).loss
