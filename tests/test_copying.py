"""Copying in practice: classes, support, metrics, features, labels, against brute force over all pairs."""

from __future__ import annotations

import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats

import interp_fast as itf
from interp_fast import _arrays
from interp_fast.metrics import _points, _support

LONG = np.longdouble


def distances(x, y, metric="euclidean"):
    """Of all pairs, from differences or products in long doubles."""
    x, y = (np.asarray(a, np.float64).astype(LONG) for a in (x, y))
    if metric == "cosine":
        x, y = (a / np.sqrt((a * a).sum(axis=1))[:, None] for a in (x, y))
        between = x[:, None] - y
        found = (between * between).sum(axis=2) / 2
        return np.where(found < 1e-30, 0, found).astype(np.float64)
    between = x[:, None] - y
    return np.sqrt((between * between).sum(axis=2)).astype(np.float64)


def brute(samples, data, *, k=5, ratio=1 / 3, radius=None, metric="euclidean"):
    """Every number by its definition, from the matrices of all distances."""
    xy, xx, yy = (distances(*pair, metric) for pair in ((samples, data), (samples, samples), (data, data)))
    n, big = xy.shape
    order = np.argsort(xy, axis=1, kind="stable")
    want = {"index": order[:, 0], "d1": xy[np.arange(n), order[:, 0]]}
    want["d2"] = xy[np.arange(n), order[:, 1]] if big > 1 else np.full(n, np.inf)
    others = lambda m: np.sort(np.where(np.eye(len(m), dtype=bool), np.inf, m), axis=1)  # noqa: E731
    own_x, own_y = others(xx), others(yy)
    want["sample_distance"] = own_x[:, 0]
    quotient = np.divide(want["d1"], want["d2"], out=np.zeros(n), where=want["d1"] > 0)
    near = quotient < ratio if radius is None else want["d1"] < radius
    echo = ~near & (own_x[:, 0] < (ratio * want["d1"] if radius is None else radius))
    want["classes"] = [("memorized", "spurious", "novel")[0 if a else 1 if b else 2] for a, b in zip(near, echo)]  # noqa: B905
    want |= {"memorized": near.mean(), "spurious": echo.mean(), "novel": (~near & ~echo).mean()}
    want["authenticity"] = np.mean(want["d1"] > own_y[want["index"], 0])
    want["nearest row of rows"] = own_y[:, 0]
    want |= dict.fromkeys(("precision", "recall", "density", "coverage"))
    equal = 1e-12 * xy  # rounding of these matrices; the cases have no other distances so near to each other
    if big > k:
        reach = own_y[:, k - 1]
        inside = xy < reach - equal
        want["precision"] = (xy <= reach + equal).any(axis=1).mean()
        want |= {"density": inside.sum(axis=1).mean() / k, "coverage": inside.any(axis=0).mean()}
    if n > k:
        want["recall"] = (own_x[:, k - 1] + equal.T >= xy.T).any(axis=1).mean()
    return want


def agrees(rep, want):
    for name in ("d1", "d2", "sample_distance"):
        np.testing.assert_allclose(getattr(rep, name), want[name], rtol=1e-9, atol=1e-300, err_msg=name)
    np.testing.assert_array_equal(rep.index, want["index"])
    assert rep.classes.tolist() == list(want["classes"])
    for name in ("memorized", "spurious", "novel", "authenticity", "precision", "recall", "density", "coverage"):
        assert getattr(rep, name) == (None if want[name] is None else pytest.approx(want[name], abs=1e-14)), name
    assert rep.memorized + rep.spurious + rep.novel == pytest.approx(1)


def problem(seed=0, n=90, rows=200, d=5):
    """Samples of which some are copies, exact and noisy, some near one another far from all rows; rows with equals."""
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(rows, d)).astype(np.float32)
    data[7], data[50] = data[3], data[51]
    samples = rng.normal(size=(n, d)).astype(np.float32)
    samples[:10] = data[rng.permutation(rows)[:10]]
    samples[10:20] = data[20:30] + 1e-3 * rng.normal(size=(10, d)).astype(np.float32)
    samples[20:30] = 4 + samples[30:40] / 50
    samples[40] = samples[41]
    return samples, data


# By definition


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize(("k", "radius"), [(5, None), (1, 0.05), (3, 1e-3)])
def test_everything_is_that_of_brute_force(metric, dtype, k, radius):
    samples, data = (a.astype(dtype) for a in problem(k))
    rep = itf.memorization(samples, data, k=k, radius=radius, metric=metric)
    want = brute(samples, data, k=k, radius=radius, metric=metric)
    agrees(rep, want)
    assert rep.metric == metric
    assert set(rep.classes) == {"memorized", "spurious", "novel"}
    levels, own = rep.background.levels, want["nearest row of rows"]
    np.testing.assert_allclose(rep.background.distances, np.quantile(own, levels), rtol=1e-9, atol=1e-300)
    assert rep.background.distances[0] == 0  # rows that are equal
    assert rep.background.distances[-1] == pytest.approx(own.max())
    assert np.all(np.diff(levels) > 0)


def test_bytes(rng):
    data, samples = (rng.integers(256, size=(m, 6), dtype=np.uint8) for m in (80, 40))
    samples[:5] = data[:5]
    value = lambda a: 2 / 255 * a.astype(np.float64) - 1  # noqa: E731
    for given in (samples, value(samples)):
        agrees(itf.memorization(given, data), brute(value(samples), value(data)))


@pytest.mark.parametrize("seed", range(6))
def test_many_distances_are_equal(seed):
    """Points of a small grid: every rim is met, and rows tie."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 4))
    data, samples = (rng.integers(4, size=(m, d)).astype(np.float64) for m in (60, 30))
    data, samples = (a + 0.25 * (rng.random(a.shape) < 0.1) for a in (data, samples))
    for k in (1, 2, 7):
        agrees(itf.memorization(samples, data, k=k), brute(samples, data, k=k))


def test_data_against_themselves_have_density_and_coverage_1(rng):
    """The open balls of the authors' program: its k neighbours and itself but for the one on the rim."""
    data = rng.normal(size=(70, 3))
    for k in (1, 4):
        rep = itf.memorization(data, data, k=k)
        assert (rep.density, rep.coverage, rep.precision, rep.recall) == (1.0, 1.0, 1.0, 1.0)
        assert (rep.memorized, rep.authenticity) == (1.0, 0.0)


def test_the_published_program_agrees(rng):
    """prdc 0.2 on points without ties: matrices of all distances, k + 1 smallest with the point itself, "<"."""
    real, fake = rng.normal(size=(150, 8)), 0.8 * rng.normal(size=(110, 8))
    across, of_real, of_fake = distances(real, fake), distances(real, real), distances(fake, fake)
    for k in (1, 5):
        reach_real, reach_fake = (np.partition(m, k, axis=1)[:, : k + 1].max(axis=1) for m in (of_real, of_fake))
        rep = itf.memorization(fake, real, k=k)
        assert rep.precision == (across < reach_real[:, None]).any(axis=0).mean()
        assert rep.recall == (across < reach_fake[None]).any(axis=1).mean()
        assert rep.density == pytest.approx((across < reach_real[:, None]).sum(axis=0).mean() / k)
        assert rep.coverage == (across.min(axis=1) < reach_real).mean()


def test_the_published_program_itself_agrees(rng):
    """Where prdc is installed: on random points, in float32, and with noisy copies of rows."""
    prdc = pytest.importorskip("prdc")
    real = rng.normal(size=(300, 16)).astype(np.float32)
    fake = (0.8 * rng.normal(size=(200, 16))).astype(np.float32)
    fake[:20] = real[:20] + 1e-2 * fake[:20]
    for k in (1, 3, 5):
        want = prdc.compute_prdc(real, fake, nearest_k=k)
        rep = itf.memorization(fake, real, k=k)
        assert {name: getattr(rep, name) for name in want} == pytest.approx(want, abs=1e-12)


# Corners


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize(("n", "rows"), [(1, 1), (1, 2), (2, 1), (3, 5), (6, 6), (1, 9), (9, 1)])
def test_few_points(n, rows, metric):
    rng = np.random.default_rng(n * rows)
    samples, data = rng.normal(size=(n, 2)), rng.normal(size=(rows, 2))
    rep = itf.memorization(samples, data, metric=metric)
    agrees(rep, brute(samples, data, metric=metric))
    if n == 1:
        assert rep.sample_distance[0] == np.inf
    if rows == 1:
        assert np.isinf(rep.background.distances).all()
        assert rep.authenticity == 0.0  # no row has a nearest other row
        assert (rep.precision, rep.density, rep.coverage) == (None, None, None)


def test_all_points_are_equal():
    rep = itf.memorization(np.ones((8, 3)), np.ones((9, 3)))
    assert (rep.precision, rep.recall, rep.density, rep.coverage) == (1.0, 1.0, 0.0, 0.0)  # balls that are points
    assert (rep.memorized, rep.spurious, rep.authenticity) == (1.0, 0.0, 0.0)
    assert itf.memorization(np.ones((8, 3)), np.ones((9, 3)), ratio=0.0).novel == 1.0


def test_planted_classes_are_found(rng):
    """Copies at 1 and 10 %, noisy and exact; samples around a point that is no row; new ones."""
    data = rng.normal(size=(2000, 20))
    for share in (0.01, 0.1):
        kinds = np.repeat(["memorized", "spurious", "novel"], [int(2000 * share / 2), 60, 200])
        samples = rng.normal(size=(len(kinds), 20))
        copies, echoes = np.flatnonzero(kinds == "memorized"), np.flatnonzero(kinds == "spurious")
        samples[copies] = data[: len(copies)] + 0.01 * rng.normal(size=(len(copies), 20)) * (copies % 2)[:, None]
        samples[echoes] = np.repeat(samples[echoes[::2]], 2, axis=0) + 0.01 * rng.normal(size=(60, 20))
        rep = itf.memorization(samples, data, k=None)
        assert rep.classes.tolist() == kinds.tolist()
        for name in ("memorized", "spurious", "novel"):
            low, high = getattr(rep, f"{name}_interval")
            assert low < getattr(rep, name) == np.mean(kinds == name) < high


PLANTED = {
    "exact": lambda x, rng: x,
    "noisy": lambda x, rng: x + 0.05 * rng.normal(size=x.shape),
    "mirrored": lambda x, rng: x[:, :, ::-1],
    "mirrored, seen by features": lambda x, rng: x[:, :, ::-1],
    "rescaled": lambda x, rng: x * np.exp(rng.normal(size=(len(x), 1, 1))),
}


@pytest.mark.parametrize("share", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("kind", PLANTED)
def test_intervals_hold_the_share_of_planted_copies(kind, share):
    """In 182 of 200 sets of 1000 samples at least; and every copy is found, with its row, and nothing else is."""
    rng = np.random.default_rng(7)
    data = rng.normal(size=(150, 4, 6))
    both = lambda x: np.concatenate([x + x[..., ::-1], abs(x - x[..., ::-1])], axis=2).reshape(len(x), -1)  # noqa: E731
    field = itf.Field(both(data) if "features" in kind else data, orbit="hflip" if kind == "mirrored" else None)
    options = {"metric": "cosine", "ratio": 0.1} if kind == "rescaled" else {}  # of squares: 1/3 would be met by chance
    held = 0
    for _ in range(200):
        copied, row = rng.random(1000) < share, rng.integers(150, size=1000)
        samples = rng.normal(size=(1000, 4, 6))
        samples[copied] = PLANTED[kind](data[row[copied]], rng)
        rep = itf.memorization(both(samples) if "features" in kind else samples, field, k=None, **options)
        np.testing.assert_array_equal(rep.classes == "memorized", copied)
        np.testing.assert_array_equal(rep.index[copied] % 150, row[copied])
        held += rep.memorized_interval[0] <= share <= rep.memorized_interval[1]
    assert held >= 182


# Cosine


def test_rescaled_copies_are_copies_by_cosine(rng):
    data = rng.normal(size=(60, 7))
    scales = np.exp(rng.uniform(-8, 8, 30))
    samples = data[:30] * scales[:, None]
    rep = itf.memorization(samples, data, metric="cosine")
    np.testing.assert_array_equal(rep.d1, 0)
    np.testing.assert_array_equal(rep.index, np.arange(30))
    assert rep.copied == rep.memorized == 1.0
    assert itf.memorization(samples, data).copied < 0.5
    many = np.concatenate([3 * data[:1], data, 0.1 * data[:1], 7 * data[:2]])  # parallel rows: the lowest
    np.testing.assert_array_equal(itf.memorization(samples, many, metric="cosine").index, [0, *range(2, 31)])
    assert itf.memorization(samples[:1], many, metric="cosine").d2[0] == 0


def test_small_angles_keep_their_digits():
    angles = np.array([1e-9, 1e-5, 0.3, np.pi])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1e-30], [1.0], [1e30], [5.0]])
    rep = itf.memorization(x, np.array([[2.0, 0.0]]), metric="cosine")
    np.testing.assert_allclose(rep.d1, 2 * np.sin(angles / 2) ** 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["samples", "data", "holdout"])
def test_a_vector_without_direction_is_refused_by_its_row(rng, name):
    given = {each: rng.normal(size=(9, 3)) for each in ("samples", "data", "holdout")}
    given[name][4] = 0
    with pytest.raises(ValueError, match=rf"{name} must not hold rows that are 0.*row 4 is"):
        itf.memorization(given["samples"], given["data"], holdout=given["holdout"], metric="cosine")
    itf.memorization(given["samples"], given["data"], holdout=given["holdout"])
    with pytest.raises(ValueError, match=r"metric must be 'euclidean' or 'cosine'; got 'l2'"):
        itf.memorization(given["samples"], given["data"], metric="l2")


# Streams, fields, memory


class Slices:
    def __init__(self, rows):
        self.shape, self.dtype, self._rows = rows.shape, rows.dtype, rows

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self._rows[rows]


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("kind", ["array", "slices", "field"])
def test_blocks_and_tiles_change_nothing(monkeypatch, metric, kind):
    samples, data = problem()
    want = brute(samples, data, metric=metric)
    monkeypatch.setattr(_points, "_QUERY_BYTES", 8 * 5 * 17)
    monkeypatch.setattr(_arrays, "_BLOCK_BYTES", 8 * 5 * 23)
    monkeypatch.setattr(_support, "_TILE_MOST", 13)
    monkeypatch.setattr(_support, "_PAIR_NUMBERS", 5 * 3)
    given = {"array": data, "slices": Slices(data), "field": itf.Field(data)}[kind]
    classes = np.arange(200) % 3, np.arange(90) % 2
    agrees(itf.memorization(samples, given, metric=metric), want)
    rep = itf.memorization(samples, given, metric=metric, labels=classes[0], sample_labels=classes[1])
    for c in (0, 1):
        part = brute(samples[classes[1] == c], data[classes[0] == c], metric=metric)
        np.testing.assert_allclose(rep.d2[classes[1] == c], part["d2"], rtol=1e-9, atol=1e-300)
        np.testing.assert_array_equal(rep.index[classes[1] == c], np.flatnonzero(classes[0] == c)[part["index"]])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_a_field_remembers_distances_between_its_rows(monkeypatch, metric):
    samples, data = problem()
    field = itf.Field(data, weights=np.arange(200.0), bandwidth=0.3, backend="reference", threads=1)
    asked = []
    nearest = _points.TrainingSet.nearest
    monkeypatch.setattr(
        _points.TrainingSet, "nearest", lambda s, x, *a: asked.append((s.name, len(x))) or nearest(s, x, *a)
    )
    first = itf.memorization(samples, field, metric=metric)
    agrees(first, brute(samples, data, metric=metric))
    assert ("reference", 200) in asked
    assert {name for name, _ in asked} == {"reference"}
    asked.clear()
    again = itf.memorization(samples, field.with_schedule(itf.VP()), metric=metric)
    assert ("reference", 200) not in asked
    assert (again.coverage, again.authenticity) == (first.coverage, first.authenticity)


def test_bytes_of_a_field_have_its_scale(rng):
    data, samples = (rng.integers(256, size=(m, 6), dtype=np.uint8) for m in (80, 40))
    field = itf.Field(data, scale=(1 / 255, 0.0))
    agrees(itf.memorization(samples, field), brute(samples / 255, data / 255))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        itf.memorization(samples / 127.5 - 1, field)
    assert "in [-1, 1] and those of data in [0, 1]" in str(said[0].message)


def test_nothing_of_the_size_of_all_pairs_is_held(rng):
    data, samples = rng.normal(size=(9000, 3)), rng.normal(size=(2500, 3))
    itf.memorization(samples[:9], data[:99])
    tracemalloc.start()
    try:
        itf.memorization(samples, data, holdout=samples[:500])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 90e6  # a byte a pair of rows; half of a float a pair of a sample and a row


@pytest.mark.parametrize("holdout", [False, True])
@pytest.mark.parametrize("k", [5, None])
@pytest.mark.parametrize("how", ["plain", "features", "labels", "field"])
def test_progress_comes_to_its_end(holdout, k, how):
    samples, data = problem()
    options = {
        "plain": {}, "field": {}, "features": {"features": lambda rows: rows[:, :3]},
        "labels": {"labels": np.arange(200) % 2, "sample_labels": np.arange(90) % 2},
    }[how]  # fmt: skip
    options |= {"k": k, "holdout": samples[:20] if holdout else None}
    given = itf.Field(data) if how == "field" else data
    for seen in ([], []):  # the second time a field remembers

        def note(*counts, seen=seen):
            seen.append(counts)

        itf.memorization(samples, given, progress=note, **options)
        assert seen[-1][0] == seen[-1][1] > 0
        assert all(a[0] < b[0] and a[1] == b[1] for a, b in itertools.pairwise(seen))


def test_without_k_the_rest_stays(rng):
    samples, data = problem()
    whole, less = (itf.memorization(samples, data, k=k, holdout=samples[:40], rng=0) for k in (5, None))
    for name, value in less.to_dict().items():
        if name not in ("precision", "recall", "density", "coverage", "background"):
            assert value == whole.to_dict()[name], name
    assert itf.memorization(samples, data[:1], k=None).authenticity == 0.0


# Features


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_features_are_the_space(metric):
    """A callable sees batches of what was given, in its shape; arrays are taken as they are."""
    rng = np.random.default_rng(1)
    samples, data, holdout = (rng.normal(size=(m, 2, 3, 4)).astype(np.float32) for m in (300, 700, 40))
    turn = rng.normal(size=(24, 6)).astype(np.float32)
    sizes = []

    def features(images):
        assert images.shape[1:] == (2, 3, 4)
        sizes.append(len(images))
        return np.tanh(images.reshape(len(images), -1) @ turn)

    rep = itf.memorization(samples, data, holdout=holdout, features=features, metric=metric, rng=0)
    assert max(sizes) <= 256
    assert sum(sizes) == 1040
    made = [np.tanh(a.reshape(len(a), -1) @ turn) for a in (samples, data, holdout)]
    agrees(rep, brute(made[0], made[1], metric=metric))
    given = itf.memorization(samples, data, holdout=holdout, features=tuple(made), metric=metric, rng=0)
    plain = itf.memorization(made[0], made[1], holdout=made[2], metric=metric, rng=0)
    for other in (given, plain):
        assert other.to_dict() == rep.to_dict()
    two = itf.memorization(samples, data, features=tuple(made[:2]), metric=metric)
    assert two.c_t is None
    np.testing.assert_array_equal(two.d1, rep.d1)
    assert itf.memorization(samples, data, features=tuple(made), metric=metric, rng=0).c_t == rep.c_t


def test_features_of_a_field_and_of_bytes(rng):
    data, samples = (rng.integers(256, size=(m, 6), dtype=np.uint8) for m in (80, 40))
    features = lambda rows: rows[:, :4].astype(np.float32) ** 2  # noqa: E731
    want = brute(features(samples), features(data))
    for given in (data, itf.Field(data)):
        agrees(itf.memorization(samples, given, features=features), want)
    with pytest.raises(ValueError, match=r"bytes are mixed with other numbers: samples float64, data uint8"):
        itf.memorization(samples / 255, data, features=features)


def test_tensors_are_handed_on_as_tensors(rng):
    torch = pytest.importorskip("torch")
    data, samples = (torch.from_numpy(rng.normal(size=(m, 3, 2))) for m in (80, 40))
    features = lambda rows: torch.tanh(rows).flatten(1)  # noqa: E731
    rep = itf.memorization(samples, data, features=features)
    agrees(rep, brute(np.tanh(samples.numpy()).reshape(40, 6), np.tanh(data.numpy()).reshape(80, 6)))


@pytest.mark.parametrize(
    ("features", "error", "words"),
    [
        ([1.0], TypeError, "features must be a callable.*or a tuple.*got list"),
        (lambda a: a[:3], ValueError, r"features must return an array.*samples\[0:90\] got float32 \(3, 5\)"),
        (lambda a: a[:, 0], ValueError, r"samples\[0:90\] got float32 \(90,\)"),
        (lambda a: a.astype(int), TypeError, "features of data must be float32"),
        (lambda a: a / np.float32(len(a) != 90), ValueError, "features of samples must be finite"),
        (lambda a: a[:, : 1 + len(a) // 90], ValueError, "features of samples must have the 3 columns"),
        (
            (np.ones((90, 2)), np.ones((200, 2))),
            ValueError,
            "features must hold an array for each of sam",
        ),
        (
            (np.ones((9, 2)), np.ones((200, 2)), np.ones((5, 2))),
            ValueError,
            "of samples .* its 90 rows; got 9",
        ),
        ((np.ones((90, 2)), np.ones((200, 3)), np.ones((5, 2))), ValueError, "features of samples must have the 3 col"),
        ((np.ones(90), np.ones((200, 3)), np.ones((5, 2))), ValueError, "features of samples must have shape"),
    ],
)
def test_features_that_are_none(features, error, words):
    samples, data = problem()
    with np.errstate(all="ignore"), pytest.raises(error, match=words):
        itf.memorization(samples, data, holdout=data[:5], features=features)


# Labels


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_labels_keep_samples_to_the_rows_of_their_class(metric):
    samples, data = problem()
    names = np.array(["cat", "dog", "no sample", "one row"])
    labels, mine = names[np.arange(200) % 3], names[np.arange(90) % 2]
    labels[17], mine[33] = "one row", "one row"
    rep = itf.memorization(samples, data, labels=labels, sample_labels=mine, metric=metric, radius=0.05)
    whole = itf.memorization(samples, data, metric=metric)
    for name in ("cat", "dog", "one row"):
        part = brute(samples[mine == name], data[labels == name], metric=metric, radius=0.05)
        np.testing.assert_allclose(rep.d1[mine == name], part["d1"], rtol=1e-9)
        np.testing.assert_allclose(rep.d2[mine == name], part["d2"], rtol=1e-9)
        np.testing.assert_array_equal(rep.index[mine == name], np.flatnonzero(labels == name)[part["index"]])
    assert (rep.index[33], rep.d2[33], rep.ratio[33]) == (17, np.inf, 0.0)
    assert rep.memorized == rep.within == np.mean(rep.d1 < 0.05)
    for name in ("precision", "recall", "density", "coverage", "authenticity"):  # over all rows
        assert getattr(rep, name) == getattr(whole, name)
    np.testing.assert_array_equal(rep.sample_distance, whole.sample_distance)


@pytest.mark.parametrize(
    ("labels", "mine", "error", "words"),
    [
        (np.zeros(200, int), None, ValueError, "labels needs sample_labels"),
        (None, np.zeros(90, int), ValueError, "sample_labels needs labels"),
        (np.zeros(199, int), np.zeros(90, int), ValueError, r"labels must have shape \(200,\).*\(199,\)"),
        (np.zeros(200, int), np.zeros((90, 1), int), ValueError, r"sample_labels must have shape \(90,\)"),
        (np.zeros(200), np.zeros(90), TypeError, "labels must be ints or strings; got float64"),
        (np.zeros(200, int), ["a"] * 90, TypeError, "sample_labels must be of the kind of labels"),
        (np.arange(200) // 100, np.arange(90) // 40, ValueError, "got 2 of sample 80, a class without rows"),
        (["a"] * 200, ["a"] * 89 + ["b"], ValueError, "got 'b' of sample 89"),
    ],
)
def test_labels_that_do_not_fit(labels, mine, error, words):
    samples, data = problem()
    with pytest.raises(error, match=words):
        itf.memorization(samples, data, labels=labels, sample_labels=mine)


# Intervals and words


def test_intervals_cover_as_often_as_they_say():
    """Over all numbers of copies that 1000 samples can have, each by its probability."""
    from interp_fast.metrics._shares import clopper_pearson

    n = 1000
    ends = np.array([clopper_pearson(s, n, 0.95) for s in range(n + 1)])
    for p in (0.0, 1e-4, 0.001, 0.003, 0.01, 0.1, 0.5, 0.99, 1.0):
        mass = stats.binom.pmf(np.arange(n + 1), n, p)
        assert mass[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum() >= 0.95
    assert (ends[0, 0], ends[n, 1]) == (0.0, 1.0)
    assert ends[0, 1] == pytest.approx(1 - 0.025 ** (1 / n))


def test_a_copy_in_a_thousand_has_an_interval_of_shares():
    samples, data = problem()
    rep = itf.memorization(samples, data, confidence=0.9)
    for name in ("copied", "memorized", "spurious", "novel"):
        count = round(getattr(rep, name) * 90)
        want = stats.binomtest(count, 90).proportion_ci(0.9, method="exact")
        assert getattr(rep, f"{name}_interval") == pytest.approx((want.low, want.high), abs=1e-12)


def test_words_and_numbers():
    samples, data = problem()
    rep = itf.memorization(samples, data)
    assert {"classes", "background", "memorized_interval", "coverage"} <= rep.to_dict().keys()
    assert rep.to_dict()["background"].keys() == {"levels", "distances"}
    assert "spurious_interval" in repr(rep)


def test_held_out_rows_of_another_range_are_no_silent_zero(rng):
    """In an audit as in a comparison: every distance would be far, and no copy found."""
    data = rng.random((60, 30)).astype(np.float32)
    data[0, :2] = 0, 1
    field = itf.Field(data)
    model = itf.Model(field.velocity, field.schedule)
    with pytest.warns(UserWarning, match=r"values of holdout lie in \[0, 255\] and those of data in \[0, 1\]"):
        itf.audit(model, field, 4, 8, holdout=255 * data[:20], rng=0)
