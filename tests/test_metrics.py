"""Memorization against brute-force NumPy, SciPy and scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

import interp_fast as itf


@pytest.fixture(name="problem")
def _problem(rng):
    """Clustered data, a hold-out from the same law, and samples: 30 near copies among 120."""
    means = rng.normal(size=(6, 5)) * 4
    draw = lambda n: means[rng.integers(6, size=n)] + rng.normal(size=(n, 5))  # noqa: E731
    data, holdout, samples = draw(400), draw(150), draw(120)
    samples[:30] = data[rng.permutation(400)[:30]] + 1e-3 * rng.normal(size=(30, 5))
    return samples, data, holdout


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_distances_and_shares_are_those_of_brute_force(problem, dtype):
    samples, data, holdout = problem
    data = data.astype(dtype)
    rep = itf.memorization(samples, data, radius=0.5, holdout=holdout, ratio=0.4)
    distance, index = NearestNeighbors(n_neighbors=2).fit(data.astype(np.float64)).kneighbors(samples)
    np.testing.assert_allclose(rep.d1, distance[:, 0], rtol=1e-10)
    np.testing.assert_allclose(rep.d2, distance[:, 1], rtol=1e-10)
    np.testing.assert_array_equal(rep.index, index[:, 0])
    np.testing.assert_allclose(rep.ratio, distance[:, 0] / distance[:, 1], rtol=1e-10)
    assert rep.copied == np.mean(distance[:, 0] < 0.4 * distance[:, 1])
    assert rep.within == np.mean(distance[:, 0] < 0.5)
    control = NearestNeighbors(n_neighbors=2).fit(data.astype(np.float64)).kneighbors(holdout)[0]
    np.testing.assert_allclose(rep.holdout_ratio, control[:, 0] / control[:, 1], rtol=1e-10)
    assert rep.holdout_copied == np.mean(control[:, 0] < 0.4 * control[:, 1])


def test_copies_stand_out_from_the_holdout(problem):
    samples, data, holdout = problem
    rep = itf.memorization(samples, data, holdout=holdout)
    assert 30 / 120 <= rep.copied < 0.3
    assert rep.holdout_copied < 0.05
    assert rep.c_t < -3
    assert itf.memorization(samples[30:], data, holdout=holdout).c_t > -3


def test_rows_that_are_equal_and_rows_that_are_alone():
    data = np.array([[0.0, 0.0], [3.0, 0.0], [3.0, 0.0]])
    rep = itf.memorization(np.array([[3.0, 0.0], [3.0, 1.0], [0.0, 0.0]]), data)
    np.testing.assert_array_equal(rep.index, [1, 1, 0])
    np.testing.assert_array_equal(rep.d1, [0, 1, 0])
    np.testing.assert_array_equal(rep.d2, [0, 1, 3])
    np.testing.assert_array_equal(rep.ratio, [0, 1, 0])
    alone = itf.memorization(np.array([[1.0, 0.0]]), data[:1], k=1)
    assert alone.d1[0] == 1
    assert alone.d2[0] == np.inf
    assert alone.ratio[0] == 0
    assert alone.precision is None
    assert alone.recall is None


def test_what_was_not_asked_for_is_none(problem):
    samples, data, _ = problem
    rep = itf.memorization(samples, data)
    absent = (rep.within, rep.within_interval, rep.radius, rep.holdout_ratio, rep.holdout_copied, rep.c_t)
    assert absent == (None,) * 6
    assert rep.authenticity is not None
    rep = itf.memorization(samples, data, k=None)
    assert (rep.precision, rep.recall, rep.density, rep.coverage, rep.background) == (None,) * 5


def test_uint8_rows_and_samples_have_the_values_of_a_field(rng):
    data = rng.integers(256, size=(60, 12), dtype=np.uint8)
    samples = rng.integers(256, size=(20, 12), dtype=np.uint8)
    value = lambda a: 2 / 255 * a.astype(np.float64) - 1  # noqa: E731
    want = cdist(value(samples), value(data))
    for given in (samples, value(samples)):
        rep = itf.memorization(given, data, holdout=samples[:5])
        np.testing.assert_allclose(rep.d1, want.min(axis=1), rtol=1e-10)
    with pytest.raises(ValueError, match="samples must not be uint8"):
        itf.memorization(samples, value(data))


def test_rows_may_be_read_in_slices(problem, tmp_path):
    class Slices:
        def __init__(self, rows):
            self.shape, self.dtype, self._rows = rows.shape, rows.dtype, rows

        def __getitem__(self, rows):
            assert isinstance(rows, slice)
            return self._rows[rows]

    samples, data, holdout = problem
    np.save(tmp_path / "data.npy", data)
    want = itf.memorization(samples, data, holdout=holdout, cells=4, rng=0)
    for source in (Slices(data), np.load(tmp_path / "data.npy", mmap_mode="r")):
        rep = itf.memorization(samples, source, holdout=holdout, cells=4, rng=0)
        np.testing.assert_array_equal(rep.index, want.index)
        np.testing.assert_allclose(rep.d1, want.d1, rtol=1e-9)
        assert rep.c_t == pytest.approx(want.c_t, rel=1e-9)
        assert (rep.precision, rep.recall, rep.authenticity) == (want.precision, want.recall, want.authenticity)


@pytest.mark.parametrize("k", [1, 5])
def test_precision_and_recall_are_those_of_brute_force(problem, k):
    samples, data, _ = problem
    samples = np.concatenate([samples, samples[:4], 3 * samples[:40]])  # equal samples, and some that are far out
    rep = itf.memorization(samples, data, k=k)

    def covered(x, points):
        radius = np.sort(cdist(points, points), axis=1)[:, k]
        return np.mean((cdist(x, points) <= radius).any(axis=1))

    assert rep.precision == covered(samples, data)
    assert rep.recall == covered(data, samples)
    assert 0.3 < rep.precision < 0.9
    assert 0.3 < rep.recall < 0.99


def test_small_balls_beside_large_ones():
    """Radii below 1e-6 of the largest vanished: all that was near a small ball counted as in it."""
    data = np.array([[0.0], [0.1], [1e7], [1.1e7]])
    rep = itf.memorization(np.array([[1.0], [1.1]]), data, k=1)
    assert (rep.precision, rep.recall) == (0.0, 0.0)
    assert itf.memorization(np.array([[0.15], [9e6], [0.201]]), data, k=1).precision == 2 / 3
    copies = np.array([[0.0], [0.0], [5.0], [9.0]])
    assert itf.memorization(np.array([[0.0], [1e-9], [-1e-9], [14.0]]), copies, k=1).precision == 0.25


@pytest.mark.parametrize("widest", [1e3, 1e8, 1e12])
def test_precision_and_recall_of_clusters_of_all_sizes(rng, widest):
    """Against brute force; distances within 1e-9 of a rim do not occur."""
    size = np.exp(rng.uniform(-np.log(widest), np.log(widest), 40))
    middle = 1e3 * size[:, None] * rng.normal(size=(40, 3))
    data, samples = (
        np.concatenate([m + s * rng.normal(size=(n, 3)) for m, s in zip(middle, size, strict=True)]) for n in (8, 6)
    )
    samples = np.concatenate([samples, samples * (1 + 1e-3 * rng.normal(size=samples.shape))])

    def covered(x, points):
        radius = np.sort(cdist(points, points), axis=1)[:, 3]
        distance = cdist(x, points)
        assert not (np.abs(distance / radius - 1) < 1e-9).any() or x is points
        return np.mean((distance <= radius).any(axis=1))

    rep = itf.memorization(samples, data, k=3)
    assert rep.precision == covered(samples, data)
    assert rep.recall == covered(data, samples)
    assert 0.2 < rep.precision < 0.9


def test_c_t_in_one_cell_is_the_mann_whitney_statistic(problem):
    samples, data, holdout = problem
    rep = itf.memorization(samples, data, holdout=holdout)
    near, control = cdist(samples, data).min(axis=1), cdist(holdout, data).min(axis=1)
    p = stats.mannwhitneyu(near, control, alternative="less", method="asymptotic", use_continuity=False).pvalue
    assert rep.c_t == pytest.approx(stats.norm.ppf(p), rel=1e-9)


def test_c_t_with_ties_uses_the_tie_correction(rng):
    data = np.zeros((1, 1))
    samples, holdout = (rng.integers(-4, 5, size=(n, 1)).astype(np.float64) for n in (40, 70))
    rep = itf.memorization(samples, data, holdout=holdout)
    p = stats.mannwhitneyu(
        np.abs(samples[:, 0]), np.abs(holdout[:, 0]), alternative="less", method="asymptotic", use_continuity=False
    ).pvalue
    assert rep.c_t == pytest.approx(stats.norm.ppf(p), rel=1e-9)
    assert itf.memorization(np.ones((3, 1)), data, holdout=np.ones((4, 1))).c_t == 0


def test_c_t_in_cells_weights_each_by_its_share_of_data(rng):
    centers = np.array([[0.0, 0.0], [100.0, 0.0], [0.0, 100.0]])
    draw = lambda *n: np.concatenate([c + rng.normal(size=(m, 2)) for c, m in zip(centers, n, strict=True)])  # noqa: E731
    data, holdout, samples = draw(50, 100, 250), draw(20, 30, 0), draw(30, 25, 10)
    samples[:15] = data[:15] + 1e-3
    rep = itf.memorization(samples, data, holdout=holdout, cells=3, rng=4)
    near, control = cdist(samples, data).min(axis=1), cdist(holdout, data).min(axis=1)
    z = [
        stats.norm.ppf(
            stats.mannwhitneyu(a, b, alternative="less", method="asymptotic", use_continuity=False).pvalue
        )
        for a, b in ((near[:30], control[:20]), (near[30:55], control[20:]))
    ]  # fmt: skip
    assert rep.c_t == pytest.approx((50 * z[0] + 100 * z[1]) / 150, rel=1e-9)


def test_more_cells_than_different_rows_is_no_trouble():
    data = np.repeat(np.array([[0.0], [9.0]]), 4, axis=0)
    rep = itf.memorization(np.array([[0.5], [8.0]]), data, holdout=np.array([[1.0], [9.5]]), cells=5, k=1)
    assert rep.c_t == pytest.approx(0.0)  # -1 in one cell, +1 in the other


def test_authenticity_is_that_of_brute_force(problem):
    samples, data, holdout = problem
    rep = itf.memorization(samples, data, holdout=holdout)
    own = np.sort(cdist(data, data), axis=1)[:, 1]
    distance = cdist(samples, data)
    assert rep.authenticity == np.mean(distance.min(axis=1) > own[distance.argmin(axis=1)])
    assert 0.3 < rep.authenticity < 0.8


@pytest.mark.parametrize("copies", [0, 7, 40])
def test_intervals_are_clopper_pearson(rng, copies):
    data = rng.normal(size=(50, 4))
    samples = np.full((40, 4), 100.0)
    samples[:copies] = data[:copies]
    rep = itf.memorization(samples, data, radius=0.1, confidence=0.9)
    want = stats.binomtest(copies, 40).proportion_ci(0.9, method="exact")
    np.testing.assert_allclose(rep.copied_interval, (want.low, want.high), atol=1e-12)
    assert rep.within_interval == rep.copied_interval
    assert rep.copied_interval[0] <= rep.copied == copies / 40 <= rep.copied_interval[1]


def test_record_prints_becomes_a_dict_and_is_drawn(problem):
    import matplotlib

    matplotlib.use("Agg")
    samples, data, holdout = problem
    rep = itf.memorization(samples, data, holdout=holdout)
    assert "copied_interval" in repr(rep)
    assert "within" not in repr(rep)
    assert rep.to_dict()["copied"] == rep.copied
    assert len(rep.to_dict()["d1"]) == len(samples)
    ax = rep.plot()
    assert rep.plot(ax) is ax
    matplotlib.pyplot.close(ax.figure)
    with pytest.raises(AttributeError):
        rep.copied = 0.0


def test_arguments_are_named_in_errors(problem):
    samples, data, holdout = problem
    bad = samples.copy()
    bad[3, 1] = math.nan
    for match, args, options in (
        ("samples must have the 5 columns", (samples[:, :4], data), {}),
        ("samples must be finite", (bad, data), {}),
        ("data must be finite", (samples, np.where(data > 3, np.inf, data)), {}),
        ("holdout must have the 5 columns", (samples, data), {"holdout": holdout[:, :2]}),
        ("radius must be", (samples, data), {"radius": -1.0}),
        ("ratio must be", (samples, data), {"ratio": -1.0}),
        ("k must be", (samples, data), {"k": 0}),
        ("cells must be", (samples, data), {"cells": 1000}),
        ("confidence must lie", (samples, data), {"confidence": 1.0}),
    ):
        with pytest.raises(ValueError, match=match):
            itf.memorization(*args, **options)
    with pytest.raises(TypeError, match="samples must be float32"):
        itf.memorization(samples.astype(np.int64), data)
