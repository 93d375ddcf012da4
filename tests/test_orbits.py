"""A training set with its images under permutations: the answers of the set in which they are all stored."""

from __future__ import annotations

import pickle

import numpy as np
import oracle
import problems
import pytest
from engines import ENGINES, Engine
from support.measure import Errors, measure
from support.sources import Source

import interp_fast as itf
from interp_fast._accuracy import PROMISES
from interp_fast.backends import dense, orbit

LINEAR = itf.Linear()


@pytest.fixture(autouse=True)
def _formed(monkeypatch):
    """As if these small sets were large: images are not stored."""
    monkeypatch.setattr(orbit, "_STORED", 0)


def _pictures(dtype):
    """Digits (N, 8, 8); one that is its own mirror image, one that is another's, one that is there twice."""
    images = problems.digits()[0][:130].reshape(130, 8, 8).copy()
    images[4] = images[4] + images[4][:, ::-1]
    images[9] = images[6][:, ::-1]
    images[11] = images[6]
    return (images * 100).astype(np.uint8) if dtype == "uint8" else images.astype(dtype)


def _stored(images):
    return np.concatenate([images, images[..., ::-1]]).reshape(2 * len(images), -1)


@pytest.mark.parametrize("ratio", [20.0, 2.0, 0.3, 1e-2, 1e-4])
def test_mirror_images(engine, dtype, ratio):
    images, t = _pictures(dtype), 1 / (1 + ratio)
    weights = np.random.default_rng(4).uniform(0.5, 2.0, len(images))
    rows, both = _stored(images), np.tile(weights, 2)
    c = LINEAR(t)
    x = problems.forward(rows, float(c.alpha), float(c.sigma), 12, 3)
    x[:3] = c.alpha * rows[[6, 4, 134]].astype(float)
    x[3] = c.alpha * (rows[20].astype(float) + rows[150]) / 2
    flow = itf.Field(images, LINEAR, weights=weights, orbit="hflip", backend=engine.backend)
    assert (flow.N, flow.d) == (260, 64)
    assert pytest.approx(oracle.radius(rows, both)[1], rel=1e-12) == flow.R
    errors = Errors(f"mirror images, {ratio}, {dtype}, {engine}")
    measure(errors, rows, both, flow, x, t, result=dtype)
    errors.close()


def test_images_of_small_sets_are_stored(backend, dtype, monkeypatch):
    """Up to some size, in memory, and not with ``low_memory``: then it is the field of an array, to the bit."""
    images = _pictures(dtype)
    monkeypatch.setattr(orbit, "_STORED", 2 * images.size)
    field, want = itf.Field(images, orbit="hflip", backend=backend), itf.Field(_stored(images), backend=backend)
    x, _ = want.draw(20, 0.6, rng=0)
    for t in (0.3, 0.6, 0.9):
        np.testing.assert_array_equal(field.denoiser(x, t), want.denoiser(x, t))
    steps = itf.ddpm(LINEAR, 5)
    run, other = (itf.sample(f, steps, 6, rng=1) for f in (field, want))
    np.testing.assert_array_equal(run.x.reshape(6, -1), other.x)
    kept = {True: field}
    kept[False] = itf.Field(images, orbit="hflip", backend=backend, low_memory=True)
    monkeypatch.setattr(orbit, "_STORED", 2 * images.size - 1)
    more = itf.Field(images, orbit="hflip", backend=backend)
    source = itf.Field(Source(images.reshape(len(images), -1)), orbit=[np.arange(64)], backend=backend)
    for stored, flow in (*kept.items(), (False, more), (False, source)):
        assert isinstance(flow._oracle.training_set.rows, np.ndarray) == stored
    alone = itf.Field(images, orbit=[], backend=backend)._oracle.training_set
    assert np.shares_memory(alone.rows, images)


def test_two_passes_settle_forward_queries(backend, monkeypatch):
    """At any noise, without a second look in float64."""
    images = _pictures(np.float32)
    rows = _stored(images)
    flow, stored = itf.Field(images, orbit="hflip", backend=backend), itf.Field(rows.astype(float))
    monkeypatch.setattr(dense, "posterior", None)
    for t in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
        x = problems.forward(rows, t, 1 - t, 40, 1)
        want = stored.denoiser(x, t)
        error = np.linalg.norm(flow.denoiser(x, t) - want, axis=1)
        assert (error <= 5e-6 * np.maximum(np.linalg.norm(want, axis=1), stored.R)).all(), t


def test_images_under_one_element_alone(backend, monkeypatch):
    """Nothing is merged where those under the other are far away, unless not even these may be left out."""
    images = np.random.default_rng(0).standard_normal((90, 6, 6)).astype(np.float32)
    rows = np.concatenate([images, images[..., ::-1]]).reshape(180, -1)
    flow, exact = (itf.Field(images, orbit="hflip", backend=backend, tol=tol) for tol in (None, 0.0))
    x = problems.forward(rows, 0.95, 0.05, 40, 1)
    want = itf.Field(rows.astype(float)).denoiser(x, 0.95)
    run = itf.sample(flow, itf.ddim(LINEAR, np.array([0.95, 1.0])), x0=x)
    monkeypatch.setattr(orbit, "reduce", None)
    np.testing.assert_allclose(flow.denoiser(x, 0.95), want, atol=1e-5)
    np.testing.assert_array_equal(itf.sample(flow, itf.ddim(LINEAR, np.array([0.95, 1.0])), x0=x).index, run.index)
    np.testing.assert_array_equal(run.index, np.linalg.norm(x[:, None] - 0.95 * rows, axis=2).argmin(axis=1))
    with pytest.raises(TypeError):
        exact.denoiser(x, 0.95)


def test_images_that_are_equal_tie(backend, dtype):
    """Row 4 and its own mirror image, 6 and the rows that equal it: to the lowest row, gap 0, at every noise."""
    images = _pictures(dtype)
    flow, rows = itf.Field(images, orbit="hflip", backend=backend), _stored(images).astype(float)
    for t in (0.9, 0.999, 1 - 1e-6, 1.0):
        post = flow.posterior(t * rows[[4, 134, 6, 136]], t, top=3)
        np.testing.assert_array_equal(post.index, [4, 4, 6, 9])
        np.testing.assert_array_equal(post.gap, 0)
        np.testing.assert_array_equal(post.top_index[:, :2], [[4, 134], [4, 134], [6, 11], [9, 136]])
        np.testing.assert_array_equal(post.top_index[2:, 2], [139, 141])
        np.testing.assert_allclose(post.top_weight[:2, :2], 0.5, atol=1e-12)


def test_channels_bytes_and_bandwidth(backend):
    """(N, C, H, W) of bytes, with a bandwidth, labels and weights: one for each image, repeated for its mirror."""
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 4, 5), np.uint8)
    rows, labels = _stored(images), np.random.default_rng(1).integers(0, 3, 40)
    weights = np.random.default_rng(2).uniform(0.5, 2, 40)
    flow = itf.Field(images, weights=weights, labels=labels, orbit="hflip", bandwidth=0.1, backend=backend)
    want = itf.Field(rows, weights=np.tile(weights, 2), labels=np.tile(labels, 2), bandwidth=0.1, backend=backend)
    x = np.random.default_rng(3).standard_normal((7, 60))
    for name in ("denoiser", "velocity", "score", "log_density", "divergence", "class_posterior"):
        a, b = getattr(flow, name)(x, 0.6), getattr(want, name)(x, 0.6)
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5, err_msg=name)
    of, out = np.array([0, 1, 2, 0, 1, 2, 0]), np.array([0, 41, 5, 79, 8, 1, 2])
    for a, b in ((flow.given(of), want.given(of)), (flow.guided(of, 2.0), want.guided(of, 2.0)),
                 (flow.without(out), want.without(out)), (flow.tempered(2.0), want.tempered(2.0)),
                 (flow.subset(out), want.subset(out)), (flow.given(1), want.given(1))):  # fmt: skip
        np.testing.assert_allclose(a.denoiser(x, 0.6), b.denoiser(x, 0.6), rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(flow.draw(9, 0.5, rng=0)[1], want.draw(9, 0.5, rng=0)[1])
    drawn = flow.draw(9, 0.5, rng=0)[0]
    assert drawn.shape == (9, 3, 4, 5)
    np.testing.assert_allclose(drawn.reshape(9, 60), want.draw(9, 0.5, rng=0)[0], rtol=1e-6)
    shaped = x.reshape(7, 3, 4, 5)
    for view in (flow, flow.given(of), flow.guided(of, 2.0), flow.without(out), flow.tempered(2.0), flow.given(1)):
        np.testing.assert_array_equal(view.denoiser(shaped, 0.6), view.denoiser(x, 0.6).reshape(shaped.shape))
    assert flow.partial(shaped, 0.6).denoiser().shape == shaped.shape
    assert flow.partial(shaped[0], 0.6).posterior().mean.shape == (3, 4, 5)
    assert itf.sample(flow.given(of), itf.ddim(flow.schedule, 3), rng=0).x.shape == shaped.shape


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_permutations_and_what_else_reads_rows(backend, dtype):
    """Three elements; samples, nearest rows, losses, trapping, copies; rows in memory and read in slices."""
    images = _pictures(dtype)
    flat = images.reshape(len(images), -1)
    turn = np.arange(64).reshape(8, 8).T.reshape(-1)
    mirror = np.arange(64).reshape(8, 8)[:, ::-1].reshape(-1)
    rows = np.concatenate([flat, flat[:, turn], flat[:, mirror]])
    want = itf.Field(rows, backend=backend)
    steps = itf.ddpm(want.schedule, 10)
    for data in (flat, Source(flat)):
        flow = itf.Field(data, orbit=[turn, mirror], backend=backend)
        a, b = (itf.sample(f, steps, 5, rng=4) for f in (flow, want))
        np.testing.assert_allclose(a.x, b.x, atol=1e-3 if dtype != "float64" else 1e-7)
        np.testing.assert_array_equal(a.index, b.index)
    flow = pickle.loads(pickle.dumps(itf.Field(flat, orbit=[turn, mirror], backend=backend)))
    loss, other = (itf.optimal_loss(f, [0.5, 0.9], 16, rng=0) for f in (flow, want))
    np.testing.assert_allclose(loss.loss, other.loss, rtol=1e-3)
    x = rows[::37].astype(float)
    near, far = (itf.nearest(rows[::37], f, 3) for f in (flow, want))
    np.testing.assert_allclose(near.distance, far.distance, atol=1e-6)
    np.testing.assert_array_equal(itf.theory.trapping(flow, x, 0.97).index, itf.theory.trapping(want, x, 0.97).index)
    assert itf.memorization(rows[::37], flow, rng=0).copied == itf.memorization(rows[::37], want, rng=0).copied


@pytest.mark.parametrize(
    ("data", "orbit", "kind", "words"),
    [
        (
            np.ones((4, 6)),
            "hflip",
            ValueError,
            r"orbit='hflip' needs images \(N, H, W\) or \(N, C, H, W\); .* \(N, 6\)",
        ),
        (np.ones((4, 6)), "vflip", ValueError, "orbit must be 'hflip' or a list of permutations"),
        (
            np.ones((4, 3)),
            [[0, 1]],
            ValueError,
            r"orbit\[0\] must be a permutation of 0 \.\.\. 2",
        ),
        (np.ones((4, 3)), [[0, 1, 2], [0, 0, 1]], ValueError, r"orbit\[1\] must be a permutation"),
        (np.ones((4, 3)), [[0.0, 1.0, 2.0]], TypeError, r"orbit\[0\] must be a vector of ints"),
    ],
)
def test_no_orbit(data, orbit, kind, words):
    with pytest.raises(kind, match=words):
        itf.Field(data, orbit=orbit)


def _posterior_over_both(images, x, alpha, sigma, weights=None):
    """Logits (M, 2 N) and mean over a set and its mirror images, by direct differences."""
    rows = _stored(images).astype(float)
    log_w = np.zeros(len(rows)) if weights is None else np.tile(np.log(weights), 2)
    logits = log_w - np.stack([((q - alpha * rows) ** 2).sum(axis=1) for q in x]) / (2 * sigma**2)
    w = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, (w / w.sum(axis=1, keepdims=True)) @ rows


def _noise(n, side, seed):
    return np.random.default_rng(seed).standard_normal((n, side, side))


@pytest.mark.parametrize("ratio", [1.5, 0.9, 0.5, 0.2, 0.03])
@pytest.mark.parametrize("kind", ["uint8", "float32", "float64"])
def test_mirror_images_of_which_few_count(engine, kind, ratio):
    """As few as int8 may tell: under one element alone, tied or nearly tied under both, symmetric, of any weight."""
    images = _noise(700, 10, 1)
    images[:20] += images[:20, :, ::-1]
    images = (images * 30 + 128).clip(0, 255).astype(np.uint8) if kind == "uint8" else images.astype(kind)
    rng, scale = np.random.default_rng(2), 30.0 if kind == "uint8" else 1.0
    weights = 10.0 ** rng.uniform(-60, 0, 700)
    rows, sigma = _stored(images).astype(float), ratio * scale
    x = rows[rng.integers(0, 1400, 150)] + sigma * rng.standard_normal((150, 100))
    x[:30] = rows[rng.integers(0, 20, 30)] + 0.1 * sigma * rng.standard_normal((30, 100))
    one = rng.integers(20, 700, 30)
    x[30:60] = (rows[one] + rows[700 + one]) / 2 + 0.2 * sigma * rng.standard_normal((30, 100))
    promise = PROMISES["float32" if kind == "uint8" else kind]
    options = {"scale": (1.0, 0.0)} if kind == "uint8" else {}
    for w in (None, weights):
        flow = itf.Field(images, weights=w, orbit="hflip", backend=engine.backend, **options)
        for m in (5, 40, 150):
            out = {"mean": np.empty((m, 100)), "index": np.empty(m, np.int64), "dropped": np.empty(m)}
            data = flow._oracle.training_set
            data.posterior(x[:m], np.ones(m), np.full(m, sigma), data.cut(None, np.full(m, sigma)), out)
            logits, want = _posterior_over_both(images, x[:m], 1.0, sigma, w)
            error = np.linalg.norm(out["mean"] - want, axis=1) / np.maximum(np.linalg.norm(want, axis=1), flow.R)
            assert error.max() <= promise.denoiser
            lost = logits.max(axis=1) - logits[np.arange(m), out["index"]]
            assert lost.max() <= 1e-9
            assert (out["dropped"] <= promise.skipped).all()


def test_mass_dropped_beside_another_element(engine):
    """What each of many elements leaves out, for it counts for nothing beside a row at one, is dropped of the whole."""
    d, n, m, cut, sigma = 256, 800, 12, 12.0, np.sqrt(256 / 13)
    rng = np.random.default_rng(3)
    rows = np.sign(rng.standard_normal((n, d)))
    rows[100:] *= 3  # so far that only a hundred lie about 13 nats below the first, at each element
    turns = np.stack([np.roll(np.arange(d), k) for k in range(64)])
    flow = itf.Field(rows, orbit=list(turns[1:]), backend=engine.backend)
    x = rows[0] + 1e-3 * rng.standard_normal((m, d))
    out = {"mean": np.empty((m, d)), "index": np.empty(m, np.int64), "dropped": np.empty(m)}
    flow._oracle.training_set.posterior(x, np.ones(m), np.full(m, sigma), np.full(m, cut), out)
    images = np.concatenate([rows[:, turn] for turn in turns])
    c = (x**2).sum(axis=1)[:, None] + (images**2).sum(axis=1) - 2 * x @ images.T
    w = np.exp(-(c - c.min(axis=1, keepdims=True)) / (2 * sigma**2))
    error = np.linalg.norm(out["mean"] - (w / w.sum(axis=1, keepdims=True)) @ images, axis=1)
    np.testing.assert_array_equal(out["index"], 0)
    farthest = np.sqrt(c[w > 1e-10].max())
    assert (error <= out["dropped"] * farthest + 1e-10 * flow.R).all()
    assert (out["dropped"] <= 64 * n * np.exp(-cut)).all()
    assert engine.backend != "cpp" or (out["dropped"] > 0).all()


@pytest.mark.parametrize("isa", [e.isa for e in ENGINES if e.isa not in {None, "base"}])  # these look at bytes first
def test_lists_have_room_beside_the_other_element(isa):
    """All rows are about as far under one element, where they count for nothing beside the one row under the other."""
    images, sigma = np.sign(_noise(2500, 16, 5)).astype(np.float32), 1.9
    flow = itf.Field(images, orbit="hflip", backend="cpp")
    for rows in (images.reshape(2500, -1), images[..., ::-1].reshape(2500, -1)):
        x = rows[:100] + sigma * np.random.default_rng(6).standard_normal((100, 256))
        out = {"mean": np.empty((100, 256)), "work": np.empty(100)}
        data = flow._oracle.training_set
        with Engine("cpp", isa).forced():
            data.posterior(x, np.ones(100), np.full(100, sigma), data.cut(None, np.full(100, sigma)), out)
        _, want = _posterior_over_both(images, x, 1.0, sigma)
        assert np.linalg.norm(out["mean"] - want, axis=1).max() <= 5e-6 * flow.R
        np.testing.assert_array_equal(out["work"], 0.5)


def test_queries_that_are_compared_a_few_at_a_time(backend, monkeypatch):
    """However many, they are answered."""
    images = _noise(300, 8, 7).astype(np.float32)
    flow = itf.Field(images, orbit="hflip", backend=backend)
    x, _ = flow.draw(50, 0.6, rng=0)
    want = flow.denoiser(x, 0.6)
    monkeypatch.setattr(orbit, "_COMPARED", 24)
    np.testing.assert_allclose(flow.denoiser(x, 0.6), want, atol=1e-5)
    assert flow.denoiser(x[:0], 0.6).shape == (0, 8, 8)
