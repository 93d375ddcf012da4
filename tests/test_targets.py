"""Regression targets: the field's answers at draws of x_t, by the law asked for, the same however they are shared."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from engines import BACKENDS
from scipy import stats
from scipy.special import softmax

import interp_fast as itf

ROWS = np.random.default_rng(0).standard_normal((60, 3))
WEIGHTS = np.arange(60.0) % 4
FIELD = itf.Field(ROWS, weights=WEIGHTS)
KINDS = ["velocity", "score", "noise", "denoiser"]


def half(rng, batch):
    return rng.uniform(0.0, 0.5, batch)


def drawn(batches):
    """All samples, (n, ...) each."""
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def same(some, others):
    pairs = [pair for one, other in zip(some, others, strict=True) for pair in zip(one, other, strict=True)]
    return bool(pairs) and all(np.array_equal(a, b) for a, b in pairs)


def direct(x, t, kind):
    """The conditional mean by plain sums, at Linear."""
    t = t[:, None]
    s = 1 - t
    with np.errstate(divide="ignore"):
        logits = np.log(WEIGHTS) - ((x[:, None] - t[:, :, None] * ROWS) ** 2).sum(2) / (2 * s**2)
    mean = softmax(logits, axis=1) @ ROWS
    z = (x - t * mean) / s
    return {"velocity": mean - z, "score": -z / s, "noise": z, "denoiser": mean}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_targets_are_conditional_means(kind, backend):
    field = itf.Field(ROWS, weights=WEIGHTS, backend=backend)
    batches = list(itf.targets(field, 50, kind=kind, n=3, rng=1))
    assert len(batches) == 3
    for x, t, target in batches:
        assert x.shape == target.shape == (50, 3)
        np.testing.assert_allclose(target, direct(x, t, kind), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [np.float32, np.float64, np.uint8])
def test_targets_are_those_of_what_is_handed_out(kind, rows):
    """To the bit, in the type of the results, times too."""
    data = (ROWS * 30 + 128).astype(rows) if rows == np.uint8 else ROWS.astype(rows)
    field = itf.Field(data, itf.Trigonometric(), bandwidth=0.1)
    for x, t, target in itf.targets(field, 40, kind=kind, n=2, rng=0):
        assert x.dtype == t.dtype == target.dtype == (np.float64 if rows == np.float64 else np.float32)
        np.testing.assert_array_equal(target, getattr(field, kind)(x, t))


def test_targets_have_the_shape_of_rows():
    flat, shaped = (itf.Field(ROWS.reshape(60, *event)) for event in ((3,), (1, 3)))
    for (x, t, v), (y, s, w) in zip(itf.targets(flat, 8, n=2, rng=0), itf.targets(shaped, 8, n=2, rng=0), strict=True):
        assert y.shape == w.shape == (8, 1, 3)
        assert same([(x, t, v)], [(y[:, 0], s, w[:, 0])])


def test_points_are_draws_of_x_t():
    """Mean and covariance of (x - t mu) as they are of t x_I + (1 - t) z; rows of weight 0 never."""
    x, t, _ = drawn(itf.targets(FIELD, 5000, times=[0.2, 0.8], n=8, rng=3))
    w = WEIGHTS / WEIGHTS.sum()
    mean = w @ ROWS
    cov = (ROWS - mean).T @ (w[:, None] * (ROWS - mean))
    for time in (0.2, 0.8):
        at = x[t == time]
        assert len(at) == 20000
        want = time**2 * cov + (1 - time) ** 2 * np.eye(3)
        np.testing.assert_allclose(at.mean(0), time * mean, atol=5 * np.sqrt(want.max() / 20000))
        np.testing.assert_allclose(np.cov(at.T), want, atol=0.05)
    late, _, _ = drawn(itf.targets(FIELD, 400, times=0.999, n=1, rng=3))
    nearest = ((late[:, None] - 0.999 * ROWS) ** 2).sum(2).argmin(1)
    assert (WEIGHTS[nearest] > 0).all()
    assert len(set(nearest)) == np.count_nonzero(WEIGHTS)


@pytest.mark.parametrize("schedule", [itf.Linear(), itf.VP(), itf.VELinear(80.0), itf.VEGeometric(0.05, 3.0)], ids=repr)
@pytest.mark.parametrize("law", ["uniform", "logit-normal", "log-normal"])
def test_laws_of_times(schedule, law):
    field = itf.Field(ROWS[:2], schedule)
    _, t, _ = drawn(itf.targets(field, 2000, times=law, kind="denoiser", n=2, rng=7))
    assert ((t >= 0) & (t < 1)).all() or (law == "log-normal" and schedule(1.0).sigma > 0)
    if law == "log-normal":
        c = schedule(t)
        log_sigma = np.log(c.sigma / c.alpha)
        low, high = -schedule.lam(1.0), -schedule.lam(0.0)
        assert low - 1e-6 <= log_sigma.min()
        assert log_sigma.max() <= high + 1e-6
        inside = (log_sigma > low + 1e-6) & (log_sigma < high - 1e-6)
        normal = stats.norm(-1.2, 1.2)
        assert abs(np.mean(log_sigma <= low + 1e-6) - normal.cdf(low)) < 0.03
        truncated = stats.truncnorm((low + 1.2) / 1.2, (high + 1.2) / 1.2, -1.2, 1.2)
        assert stats.kstest(log_sigma[inside], truncated.cdf).pvalue > 1e-3
    else:
        cdf = stats.uniform.cdf if law == "uniform" else lambda v: stats.norm.cdf(np.log(v / (1 - v)))
        assert stats.kstest(t, cdf).pvalue > 1e-3


def test_times_rows_and_noise_are_independent():
    x, t, _ = drawn(itf.targets(itf.Field(ROWS), 5000, n=2, rng=11))
    around = (x - t[:, None] * ROWS.mean(0)) / np.sqrt(t**2 + (1 - t) ** 2)[:, None]
    for column in around.T:
        for a, b in ((column, t), (column[1:], t[:-1]), (column[1:], column[:-1]), (t[1:], t[:-1])):
            assert abs(np.corrcoef(a, b)[0, 1]) < 4 / 100


def test_one_stream():
    """Again the same; another seed others; no sample twice; resumed by number, and shared among any number."""
    batches = itf.targets(FIELD, 16, n=9, rng=5)
    first = list(batches)
    assert len(batches) == 9
    assert same(first, batches)
    assert same(first, itf.targets(FIELD, 16, n=9, rng=5))
    assert same(first, pickle.loads(pickle.dumps(batches)))
    x, t, v = drawn(first)
    assert len(np.unique(x[:, 0])) == len(np.unique(t)) == 9 * 16
    assert not np.isin(drawn(itf.targets(FIELD, 16, n=9, rng=6))[1], t).any()
    assert not same(itf.targets(FIELD, 16, n=1), itf.targets(FIELD, 16, n=1))
    key = batches.source.key
    assert same(first[4:], itf.targets(FIELD, 16, n=5, rng=itf.NoiseKey(key, first_sample=64)))
    other = drawn(itf.targets(FIELD, 48, n=3, rng=5))  # in other batches the same samples
    np.testing.assert_array_equal(other[0], x)
    np.testing.assert_array_equal(other[1], t)
    np.testing.assert_allclose(other[2], v, rtol=1e-9, atol=1e-9)
    for parts in (1, 2, 4, 9):
        shares = [list(batches.share(part, parts)) for part in range(parts)]
        assert [len(share) for share in shares] == [len(range(part, 9, parts)) for part in range(parts)]
        for part, share in enumerate(shares):
            assert same(share, first[part::parts])


def test_without_end():
    batches = itf.targets(FIELD, 4, rng=0)
    found = [batch for batch, _ in zip(batches, range(30), strict=False)]
    assert same(found[:2], itf.targets(FIELD, 4, n=2, rng=0))
    assert len(np.unique(drawn(found)[1])) == 120
    with pytest.raises(TypeError, match="endless batches have no length; pass n="):
        len(batches)


def test_own_times():
    """An array is gone through by sample number; a callable has a generator for each batch."""
    levels = np.array([0.1, 0.5, 0.7])
    _, t, _ = drawn(itf.targets(FIELD, 4, times=levels, n=3, rng=0))
    np.testing.assert_array_equal(t, np.tile(levels, 4))
    _, t, _ = drawn(itf.targets(FIELD, 3, times=levels, n=2, rng=itf.NoiseKey(0, 2)))
    np.testing.assert_array_equal(t, np.tile(levels[[2, 0, 1]], 2))
    first = list(itf.targets(FIELD, 50, times=half, n=3, rng=0))
    _, t, _ = drawn(first)
    assert t.max() <= 0.5
    assert len(np.unique(t)) == 150
    key = itf.targets(FIELD, 1, rng=0).source.key
    assert same(first[2:], itf.targets(FIELD, 50, times=half, n=1, rng=itf.NoiseKey(key, 100)))
    _, t, _ = drawn(itf.targets(FIELD, 5, times=lambda rng, batch: 0.25, n=1))
    np.testing.assert_array_equal(t, np.full(5, 0.25))


def test_times_next_to_the_end_stay_before_it():
    """Those that float32 would round to 1, where there is no velocity."""
    field = itf.Field(ROWS.astype(np.float32))
    _, t, velocity = next(iter(itf.targets(field, 4, times=1 - 1e-12, rng=0)))
    assert (t == np.nextafter(np.float32(1), np.float32(0))).all()
    assert np.isfinite(velocity).all()
    x, t, mean = next(iter(itf.targets(field, 4, times=1.0, kind="denoiser", rng=0)))
    assert (t == 1).all()
    np.testing.assert_array_equal(mean, x)


@pytest.mark.parametrize(
    ("options", "kind", "match"),
    [
        ({"kind": "flow"}, ValueError, "kind must be one of velocity, score, noise, denoiser; got 'flow'"),
        ({"times": "cosine"}, ValueError, "times must be one of uniform, logit-normal, log-normal, a callable"),
        ({"times": [0.5, 1.5]}, ValueError, r"times must lie in \[0, 1\].*got 1.5"),
        ({"times": []}, ValueError, "times must hold at least one time"),
        ({"times": lambda rng, batch: np.zeros(3)}, ValueError, r"times\(rng, batch\) must be a number or have shape"),
        ({"times": lambda rng, batch: -0.1}, ValueError, r"times\(rng, batch\) must lie in \[0, 1\]"),
        ({"times": 1.0}, ValueError, r"t must avoid 1\.0: the velocity does not exist"),
        ({"n": -1}, ValueError, "n must be >= 0; got -1"),
        ({"batch": 0}, ValueError, "batch must be >= 1"),
        ({"rng": "seed"}, TypeError, "rng must be None"),
        ({"field": ROWS}, TypeError, "field must be a Field; got ndarray"),
    ],
)
def test_bad_input(options, kind, match):
    arguments = {"field": FIELD, "batch": 2, "n": 1} | options
    with pytest.raises(kind, match=match):
        list(itf.targets(arguments.pop("field"), arguments.pop("batch"), **arguments))


# As a data set of torch


def loader(workers, start=None, field=FIELD, **options):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    data = itf.torch.Targets(field, 8, **{"n": 7, "rng": 3} | options)
    context = {"multiprocessing_context": start} if workers else {}
    return torch.utils.data.DataLoader(data, batch_size=None, num_workers=workers, **context)


@pytest.mark.filterwarnings("default")  # those about forks beside threads
@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork"), (3, "fork"), (2, "spawn")])
def test_workers_share_one_stream(workers, start):
    """Every batch once, in order, whoever made it; the field had run its threads before."""
    FIELD.denoiser(ROWS, 0.5)
    found = list(loader(workers, start, times="logit-normal"))  # a function of this file is not found when spawned
    assert len(found) == 7
    want = itf.targets(FIELD, 8, times="logit-normal", n=7, rng=3)
    assert same([[v.numpy() for v in batch] for batch in found], want)


@pytest.mark.filterwarnings("default")
def test_endless_workers():
    found = [batch for batch, _ in zip(loader(2, "fork", n=None), range(6), strict=False)]
    assert same([[v.numpy() for v in batch] for batch in found], itf.targets(FIELD, 8, n=6, rng=3))


def test_tensors(monkeypatch):
    """Those of tensors are tensors; workers divide the threads of the field."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    field = itf.Field(torch.from_numpy(ROWS).float(), threads=8)
    data = loader(0, field=field).dataset
    assert len(data) == 7
    for part in next(iter(data)):
        assert part.dtype == torch.float32
    seen = []
    for workers in (2, 3, 16):
        monkeypatch.setattr(torch.utils.data, "get_worker_info", lambda w=workers: SimpleNamespace(id=1, num_workers=w))
        seen.append(next(iter(data))[1])
        assert field.threads == max(1, 8 // workers)
    assert all(torch.equal(t, seen[0]) for t in seen)  # batch 1 of each
    monkeypatch.undo()
    with pytest.raises(TypeError, match="endless batches have no length"):
        len(loader(0, n=None).dataset)


@pytest.mark.parametrize("names", [np.array([3, 7, 11]), np.array(["a", "b", "c"])], ids=["ints", "strings"])
def test_labels_are_those_of_the_rows_that_were_drawn(names):
    """At the data end a point lies on its row, which says the class; of one class all are alike."""
    labels = names[np.arange(60) % 3]
    field = itf.Field(ROWS, labels=labels)
    x, t, target, label = drawn(itf.targets(field, 50, times=[1 - 1e-9], n=2, rng=3))
    row = np.argmin(((x[:, None] - ROWS) ** 2).sum(-1), axis=1)
    np.testing.assert_array_equal(label, labels[row])
    assert len(set(label.tolist())) == 3
    np.testing.assert_array_equal(target, field.velocity(x, t))
    x, t, target, label = drawn(itf.targets(field.given(names[1]), 20, n=1, rng=3))
    assert (label == names[1]).all()
    np.testing.assert_allclose(target, itf.Field(ROWS[1::3]).velocity(x, t), rtol=1e-9, atol=1e-9)


def test_labels_as_tensors():
    torch = pytest.importorskip("torch")
    for names, wanted in ((np.array([3, 7, 11]), [3, 7, 11]), (np.array(["a", "b", "c"]), [0, 1, 2])):
        field = itf.Field(ROWS, labels=names[np.arange(60) % 3])
        batch = next(iter(itf.torch.Targets(field, 40, n=1, rng=0)))
        assert batch[3].dtype == torch.int64
        assert sorted(set(batch[3].tolist())) == wanted
