"""What classes weigh, told by one pass over all rows, and where guidance needs no more than that."""

from __future__ import annotations

import pickle

import numpy as np
import oracle
import pytest

import interp_fast as itf
from interp_fast._accuracy import PROMISES
from interp_fast._views import ByClass
from interp_fast.backends import merging
from interp_fast.backends.reference import exact_differences

LINEAR = itf.Linear()


@oracle.remembered
def _shares(rows, labels, count, x, t, weights=None):
    """Sums of the softmax over direct differences, class by class, in extended precision."""
    values, x = rows.astype(np.longdouble), x.astype(np.longdouble)
    c = LINEAR(t)
    squares = np.stack([((q - np.longdouble(c.alpha) * values) ** 2).sum(1) for q in x])
    with np.errstate(divide="ignore"):
        logits = (0 if weights is None else np.log(weights.astype(np.longdouble))) - squares / (
            2 * np.longdouble(c.sigma) ** 2
        )
    w = np.exp(logits - logits.max(1, keepdims=True))
    out = np.stack([w[:, labels == k].sum(1) for k in range(count)], axis=1)
    return (out / out.sum(1, keepdims=True)).astype(float)


def _clusters(d, stored, n=500, count=7):
    """Classes that overlap, their rows in no order, the last one without weight; half way between two of them is x."""
    rng = np.random.default_rng(d)
    labels = rng.integers(0, count, n)
    rows = rng.standard_normal((n, d)) + 3 * rng.standard_normal((count, d))[labels] / np.sqrt(d)
    rows = np.clip(128 + 30 * rows, 0, 255).astype(np.uint8) if stored == "uint8" else rows.astype(stored)
    weights = np.where(labels == count - 1, 0.0, rng.uniform(0.2, 3.0, n))
    return rows, labels, weights, count


@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("d", [3, 120])
def test_shares_of_classes_in_one_pass(backend, stored, d):
    """Diffuse, in between and late, of many queries, of one and of few; what is so light that it hardly counts."""
    rows, labels, weights, count = _clusters(d, stored)
    scale = (1.0, 0.0) if stored == "uint8" else None
    field = itf.Field(rows, LINEAR, weights=weights, labels=labels, scale=scale, backend=backend)
    spread = float(rows.std())
    kind = PROMISES["float64" if stored == "float64" else "float32"]
    rng = np.random.default_rng(1)
    for ratio in (8.0, 0.7, 0.05):
        t = 1 / (1 + ratio * spread)
        c = LINEAR(t)
        pairs = rng.integers(0, len(rows), (14, 2))
        x = float(c.alpha) * rows[pairs].astype(float).mean(1) + float(c.sigma) * rng.standard_normal((14, d))
        want = _shares(rows, labels, count, x, t, weights)
        got = field.class_posterior(x, t)
        assert np.abs(got - want).max() <= kind.weight, ratio
        assert (got[:, -1] == 0).all()
        np.testing.assert_allclose(got.sum(1), 1, atol=1e-12)
        few = np.concatenate([field.class_posterior(x[:5], t), field.class_posterior(x[5], t)[None]])
        assert np.abs(few - want[:6]).max() <= kind.weight, ratio
    assert field.class_posterior(np.empty((0, d)), 0.5).shape == (0, count)


def test_as_many_classes_as_rows(backend):
    """The shares are then the weights of the rows."""
    rng = np.random.default_rng(2)
    rows, x = rng.standard_normal((60, 12)).astype(np.float32), rng.standard_normal((17, 12))
    order = rng.permutation(60)
    field = itf.Field(rows, labels=order, backend=backend)
    for t in (0.0, 0.6, 1.0):
        post = field.posterior(x, t, top=5)
        got = np.take_along_axis(field.class_posterior(x, t), order[post.top_index], axis=1)
        np.testing.assert_allclose(got, post.top_weight, atol=2 * PROMISES["float32"].weight)


def test_backends_agree_about_classes():
    rows, labels, weights, _ = _clusters(64, "float32", n=1500)
    x = _clusters(64, "float64", n=300)[0][:40] * 0.5
    fields = [itf.Field(rows, weights=weights, labels=labels, backend=name) for name in ("reference", "auto")]
    for t in (0.1, 0.8):
        one, other = (field.class_posterior(x, t) for field in fields)
        np.testing.assert_allclose(one, other, atol=2 * PROMISES["float32"].weight)


@pytest.mark.parametrize("scale", [3.0, -1.0])
def test_guidance_where_the_class_is_all_that_counts(backend, dtype, scale):
    """D_class is D there, and differs for the queries that are guided to another class, in one call with these."""
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 400)
    rows = (6 * np.eye(4, 30)[labels] + rng.standard_normal((400, 30))).astype(dtype)
    t, promise = 0.97, PROMISES[dtype]
    field = itf.Field(rows, LINEAR, labels=labels, backend=backend)
    x, row = field.draw(9, t, rng=1)
    x = x.astype(float)
    of = labels[row].copy()
    of[4:] = (of[4:] + 1) % 4
    whole = field.denoiser(x, t).astype(float)
    own = np.concatenate(
        [
            itf.Field(rows[labels == k], LINEAR, backend="reference").denoiser(q[None], t)
            for k, q in zip(of, x, strict=True)
        ]
    )
    want = whole + scale * (own - whole)
    size = (abs(1 - scale) + abs(scale)) * np.maximum(np.linalg.norm(want, axis=1), field.R)
    error = np.linalg.norm(field.guided(of, scale).denoiser(x, t) - want, axis=1)
    assert (error <= 2 * promise.denoiser * size).all()


def test_no_class_is_asked_where_it_is_all_that_counts(monkeypatch):
    rows = np.random.default_rng(4).standard_normal((300, 40)).astype(np.float32)
    labels = np.arange(300) % 3
    field = itf.Field(rows, labels=labels)
    if not field._oracle.training_set.weighs_classes:
        pytest.skip("the compiled core is not there")
    x, row = field.draw(8, 0.98, rng=1)
    guided = field.guided(labels[row], 2.0)
    monkeypatch.setattr(ByClass, "posterior", None)
    np.testing.assert_allclose(guided.denoiser(x, 0.98), rows[row], atol=1e-5)
    with pytest.raises(TypeError):
        field.guided((labels[row] + 1) % 3, 2.0).denoiser(x, 0.98)


@pytest.mark.parametrize("d", [1, 2, 3, 7, 784])
def test_squares_as_far_as_logits_need_them(d):
    """Those of two floats to all their digits; in float64 where that is enough; of equal rows the same either way."""
    rng = np.random.default_rng(d)
    x, rows = rng.standard_normal((50, d)), rng.standard_normal((50, d))
    x[:2], rows[1] = x[0], rows[0]
    alpha, s2 = np.full(50, 0.7), np.repeat([1.0, 1e-12], 25)
    s2[:2] = s2[0]
    place = merging.Place(x, alpha, s2)
    c, low = merging.squares(place, rows)
    want = [exact_differences(x[m], 0.7, rows[[m]], x[m] / 0.7)[0] for m in range(50)]
    np.testing.assert_allclose(c, want, rtol=1e-15, atol=1e-15)
    assert np.any(low != 0)
    rough, none = merging.squares(place, rows, 1e-9)
    assert (none[s2 == 1] == 0).all()
    assert (np.abs(rough - c) / (2 * s2) <= 1e-9).all()
    late = np.abs(c) / s2 > 1e9
    np.testing.assert_array_equal(rough[late], c[late])
    np.testing.assert_array_equal(none[late], low[late])
    assert rough[0] == rough[1]
    assert none[0] == none[1]


@pytest.mark.parametrize("d", [1, 2, 9, 100, 1025, 8192])
def test_what_squares_in_float64_leave(d):
    """In roundings of a logit, 16 of which are counted: the largest of some thousand, near and far, of terms alike."""
    rng = np.random.default_rng([5, d])
    m = max(30, min(4000, 10**6 // d))
    x, rows, alpha = rng.standard_normal((m, d)), rng.standard_normal((m, d)), np.full(m, 0.7)
    alike = 1 + rng.random((m, d))
    for query, row in ((x, rows), (x, x + 1e-3 * rows), (x + 100, rows + 140), (alike, -alike[::-1])):
        plain, low = merging.squares(merging.Place(query, alpha, np.ones(m)), row, np.inf)
        assert (low == 0).all()
        want = ((query.astype(np.longdouble) - alpha[0] * row.astype(np.longdouble)) ** 2).sum(axis=1)
        one = 2.0**-53 * np.sqrt(plain) * (np.sqrt(plain) + 2 * np.linalg.norm(query, axis=1)) / 2
        assert (np.abs(plain - want) / 2 < 4 * one).all()


@pytest.mark.parametrize("tol", [None, 0.0])
def test_certificates_where_a_class_is_not_asked(tol):
    """What rows of other classes weigh was left out of a bound on the error, and left out of the sum with tol = 0."""
    rows = np.random.default_rng(0).standard_normal((60, 30))
    codes = np.arange(60) % 2
    field = itf.Field(rows, labels=codes, backend="cpp", tol=tol)
    along = np.linspace(0.48, 0.495, 4000)[:, None]
    x = 0.88 * ((1 - along) * rows[0] + along * rows[1])
    got = itf.sample(field.guided(np.zeros(4000, int), 8.0), itf.ddim(field.schedule, np.array([0.88, 1.0])), x0=x)
    dense = -7 * itf.Field(rows, tol=0.0).denoiser(x, 0.88) + 8 * itf.Field(rows[codes == 0], tol=0.0).denoiser(x, 0.88)
    off = np.linalg.norm(got.x - dense, axis=1) / field.R
    assert (off <= got.certificate + 1e-14).all()


def test_rows_and_classes_that_cannot_be_written_to():
    """As they come from memory that another process shares: the classes were asked for as if to be changed."""
    rows = np.random.default_rng(0).standard_normal((40, 6))
    buffers = []
    kept = pickle.dumps(itf.Field(rows, labels=np.arange(40) % 2), protocol=5, buffer_callback=buffers.append)
    field = pickle.loads(kept, buffers=[bytes(buffer) for buffer in buffers])
    x = rows[:3] + 0.1
    np.testing.assert_allclose(field.class_posterior(x, 0.5).sum(axis=1), 1)
    assert np.isfinite(field.guided(np.zeros(3, int), 2.0).denoiser(x, 0.97)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_shares_of_many_classes(backend, weighted):
    """More than a stretch of rows has; of which the first are so light that all sums so far are next to nothing."""
    rng = np.random.default_rng(5)
    rows, labels = rng.standard_normal((3000, 24)).astype(np.float32), rng.permutation(3000) // 2
    weights = np.where(np.arange(3000) < 1500, 1e-30, 1.0) if weighted else np.ones(3000)
    field = itf.Field(rows, LINEAR, weights=weights, labels=labels, backend=backend)
    x = 0.3 * rng.standard_normal((40, 24))
    for t in (0.1, 0.6):
        want = _shares(rows, labels, 1500, x, t, weights)
        for some in (slice(None), slice(3), slice(7, 8)):
            got = field.class_posterior(x[some], t)
            assert np.abs(got - want[some]).max() <= PROMISES["float32"].weight
            heavy = want[some] > 1e-3
            np.testing.assert_allclose(got[heavy], want[some][heavy], rtol=1e-4)


def _guided(rows, labels, weights, x, t, of, scale):
    """From direct differences, in extended precision."""
    c, values = LINEAR(t), rows.astype(np.longdouble)
    out = []
    for q, k in zip(x.astype(np.longdouble), of, strict=True):
        squares = ((q - np.longdouble(c.alpha) * values) ** 2).sum(1)
        with np.errstate(divide="ignore"):
            logits = np.log(weights.astype(np.longdouble)) - squares / (2 * np.longdouble(c.sigma) ** 2)
        w = [np.exp(logits[mine] - logits[mine].max()) for mine in (slice(None), labels == k)]
        whole, own = w[0] @ values / w[0].sum(), w[1] @ values[labels == k] / w[1].sum()
        out.append(whole + scale * (own - whole))
    return np.array(out, np.float64)


def _asked(monkeypatch):
    """Grows by one number for each time that classes are asked by themselves: of how many queries. Small problems count
    as worth a pass that tells the means of classes."""
    for name, least in (("_LARGE", 256), ("_MANY", 9), ("_LONG", 0)):
        monkeypatch.setattr(f"interp_fast._views.{name}", least)
    found, before = [], ByClass.posterior
    monkeypatch.setattr(ByClass, "posterior", lambda *args: (found.append(len(args[1])), before(*args))[1])
    return found


@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("together", [False, True])
def test_means_of_classes_in_one_pass(monkeypatch, stored, together):
    """Of classes whose rows lie together or anywhere, of different weights, where many rows count and where few do."""
    rows, labels, weights, _ = _clusters(40, stored, n=2600, count=5)
    if together:
        order = np.argsort(labels, kind="stable")
        rows, labels, weights = rows[order], labels[order], weights[order]
    scale = (1.0, 0.0) if stored == "uint8" else None
    field = itf.Field(rows, LINEAR, weights=weights, labels=labels, scale=scale, backend="cpp")
    promise, spread = PROMISES["float64" if stored == "float64" else "float32"], float(rows.std())
    asked = _asked(monkeypatch)
    rng, of = np.random.default_rng(1), np.arange(21) % 4
    for ratio in (8.0, 2.0, 0.7, 0.3):
        t = 1 / (1 + ratio * spread)
        c, row = LINEAR(t), rng.integers(0, len(rows), 21)
        x = float(c.alpha) * rows[row].astype(float) + float(c.sigma) * rng.standard_normal((21, 40))
        got = field.guided(of, 2.0).denoiser(x, t).astype(float)
        want = _guided(rows.astype(float), labels, weights, x, t, of, 2.0)
        size = 3 * np.maximum(np.linalg.norm(want, axis=1), field.R)
        assert (np.linalg.norm(got - want, axis=1) <= promise.denoiser * size).all(), ratio
        # Bytes may be summed by digits, which tell no means of classes.
        assert stored == "uint8" or sum(asked) <= {8.0: 0, 2.0: 15}.get(ratio, 21)
        asked.clear()


def test_class_of_rows_too_long_to_count(monkeypatch):
    """They count for nothing in the mean of all rows, and are all that there is of their class."""
    rng = np.random.default_rng(2)
    rows, labels = rng.standard_normal((1500, 20)), np.arange(1500) % 2
    rows[labels == 1] *= 1e6
    rows, x, t = rows.astype(np.float32), 0.5 * rng.standard_normal((12, 20)), 0.5
    field = itf.Field(rows, LINEAR, labels=labels, backend="cpp")
    asked = _asked(monkeypatch)
    of = np.arange(12) % 2
    got = field.guided(of, 1.0).denoiser(x, t)
    want = _guided(rows.astype(float), labels, np.ones(1500), x, t, of, 1.0)
    size = np.where(of == 0, itf.Field(rows[labels == 0]).R, field.R)
    assert (np.linalg.norm(got - want, axis=1) <= PROMISES["float32"].denoiser * size).all()
    assert sum(asked) >= 6


def test_numbers_of_rows_where_classes_are_summed_apart():
    """The lowest of equal rows, whatever their class."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((900, 20)).astype(np.float32)
    labels = rng.integers(0, 3, 900)
    rows[[40, 41, 42]] = rows[500]
    labels[[40, 41, 42, 500]] = 2, 1, 0, 0
    field = itf.Field(rows, LINEAR, labels=labels, backend="cpp")
    x = np.concatenate([np.tile(rows[40], (6, 1)), rows[100:106]]).astype(float)
    run = itf.sample(field.guided(np.full(12, 2), 0.5), itf.ddim(LINEAR, np.array([0.2, 0.5])), x0=x)
    assert run.index[:6].tolist() == [40] * 6


@pytest.mark.parametrize("name", ["codes", "class_of", "by_class"])
def test_lengths_of_what_the_core_is_told_about_classes(name):
    """It would read beyond the end."""
    core = pytest.importorskip("interp_fast._core")
    rows, x = np.random.default_rng(0).standard_normal((9, 4)), np.zeros((5, 4))
    one, data = np.ones(5), itf.Field(rows, backend="cpp")._oracle.training_set.prepared
    told = {"codes": np.arange(9) % 2, "class_of": np.zeros(5, int), "by_class": np.argsort(np.arange(9) % 2)}
    out = {"mean": np.empty((5, 4)), "mass": np.empty((5, 2)), "class_mean": np.empty((5, 4))}
    core.posterior(x, data, one, one, one, None, out | told, 1)
    for wrong in (told[name][1:], np.append(told[name], 0), told[name][None]):
        with pytest.raises(ValueError, match=rf"{name} must have shape \({len(told[name])},\); got \("):
            core.posterior(x, data, one, one, one, None, out | told | {name: wrong}, 1)
    for parts in (0, 2, 7):
        with pytest.raises(ValueError, match=f"parts must divide the number of queries, 5; got {parts}"):
            core.posterior(x, data, one, one, one, None, out | {"parts": parts}, 1)


def test_rows_in_no_order_are_not_sorted_in_vain(monkeypatch):
    """Where they are too short to be read one at a time, that they lie in no order is all that was asked."""
    rng = np.random.default_rng(4)
    field = itf.Field(rng.standard_normal((1200, 8)).astype(np.float32), labels=np.arange(1200) % 2, backend="cpp")
    _asked(monkeypatch)
    monkeypatch.setattr("interp_fast._views._LONG", 9)
    sort, lengths = np.argsort, []
    monkeypatch.setattr(np, "argsort", lambda a, **options: (lengths.append(len(a)), sort(a, **options))[1])
    field.guided(np.zeros(20, int), 2.0).denoiser(rng.standard_normal((20, 8)), 0.3)
    assert 1200 not in lengths


@pytest.mark.parametrize("kind", ["float16", "low memory", "threads", "strided", "equal"])
@pytest.mark.parametrize("together", [False, True])
def test_means_of_classes_however_rows_are_stored(monkeypatch, kind, together):
    """In the order of their classes or not; where a list of heavy rows does not hold those that are equal."""
    rows, labels, weights, _ = _clusters(24, "float64", n=2600, count=3)
    if kind == "equal":
        rows[:1400], labels[:1400], weights[:1400] = rows[0], 0, 1.0
    order = np.argsort(labels, kind="stable") if together else np.arange(2600)
    rows, labels, weights = rows[order], labels[order], weights[order]
    rows = rows.astype("float16" if kind == "float16" else "float32")
    if kind == "strided":
        wide = np.full((5200, 27), np.float32(9))
        wide[::2, 1:-2] = rows
        rows = wide[::2, 1:-2]
    more = {"low memory": {"low_memory": True}, "threads": {"threads": 3}}.get(kind, {})
    field = itf.Field(rows, LINEAR, weights=weights, labels=labels, backend="cpp", **more)
    asked = _asked(monkeypatch)
    rng, of = np.random.default_rng(1), np.arange(40) % 2
    for ratio in (2.0, 0.7):
        t = 1 / (1 + ratio)
        c, row = LINEAR(t), rng.integers(0, 2600, 40)
        x = float(c.alpha) * rows[row].astype(float) + float(c.sigma) * rng.standard_normal((40, 24))
        got = field.guided(of, 2.0).denoiser(x, t).astype(float)
        want = _guided(rows.astype(float), labels, weights, x, t, of, 2.0)
        size = 3 * np.maximum(np.linalg.norm(want, axis=1), field.R)
        assert (np.linalg.norm(got - want, axis=1) <= PROMISES["float32"].denoiser * size).all(), ratio
        assert sum(asked) < 40, ratio
        asked.clear()
