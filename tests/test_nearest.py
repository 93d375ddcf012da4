"""The nearest rows, against all distances sorted."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import interp_fast as itf
from interp_fast.metrics import _points


def brute(x, y, metric="euclidean"):
    """Numbers and distances of all rows, from near to far, the lowest first at ties."""
    x, y = (np.asarray(a, np.float64) for a in (x, y))
    if metric == "cosine":
        x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    far = cdist(x, y) ** 2 / 2 if metric == "cosine" else cdist(x, y)
    index = np.argsort(far, axis=1, kind="stable")
    return index, np.take_along_axis(far, index, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
@pytest.mark.parametrize("k", [1, 5, 300, 1000])
def test_any_k(rng, metric, dtype, k):
    samples, data = rng.normal(size=(40, 9)).astype(dtype), rng.normal(size=(1000, 9)).astype(dtype)
    found = itf.nearest(samples, data, k, metric=metric)
    index, distance = brute(samples, data, metric)
    np.testing.assert_array_equal(found.index, index[:, :k])
    np.testing.assert_allclose(found.distance, distance[:, :k], rtol=1e-9)
    assert (found.index.dtype, found.distance.dtype) == (np.int64, np.float64)


def test_every_backend(rng, engine):
    samples, data = rng.normal(size=(20, 6)).astype(np.float32), rng.normal(size=(300, 6)).astype(np.float32)
    found = itf.nearest(samples, itf.Field(data, backend=engine.backend), 7)
    index, distance = brute(samples, data)
    np.testing.assert_array_equal(found.index, index[:, :7])
    np.testing.assert_allclose(found.distance, distance[:, :7], rtol=1e-9)


def beside_rows_of_no_weight(rng, dtype, longer, size=1.0, unlike=1.0, d=6):
    """Rows, weights and queries: half weigh nothing, lie far away by so many times the size of the others, ``unlike``
    each other by that, and close together there, around the queries."""
    data, weights = size * unlike * rng.normal(size=(80, d)), np.repeat([1.0, 0.0], 40)
    there, apart = longer * size * rng.normal(size=d), 3e-3 * longer * size
    data[40:] = there + apart * rng.normal(size=(40, d))
    return data.astype(dtype), weights, there + apart * rng.normal(size=(20, d))


@pytest.mark.parametrize(("dtype", "longer"), [("float16", 1e4), *[("float32", far) for far in (1e2, 1e4, 1e8)]])
def test_rows_of_no_weight_count(rng, engine, dtype, longer):
    """However long beside the others (torch bounded the rounding of products by the longest row of some weight)."""
    data, weights, samples = beside_rows_of_no_weight(rng, dtype, longer)
    found = itf.nearest(samples, itf.Field(data, weights=weights, backend=engine.backend), 7)
    index, distance = brute(samples, data)
    np.testing.assert_array_equal(found.index, index[:, :7])
    np.testing.assert_allclose(found.distance, distance[:, :7], rtol=1e-9)


@pytest.mark.parametrize(
    ("longer", "size", "unlike"),
    [(1e14, 1.0, 1.0), (1e20, 1.0, 1.0), (1e35, 1e-3, 1.0), (1e35, 1.0, 0.0), (1.0, 1e-38, 0.0)],
)
@pytest.mark.parametrize("d", [6, 40])
def test_rows_of_no_weight_that_float32_does_not_hold_in_units_of_the_others(rng, engine, longer, size, unlike, d):
    """Too long or, where the others are all equal, too short, or all there is."""
    data, weights, samples = beside_rows_of_no_weight(rng, "float32", longer, size, unlike, d)
    found = itf.nearest(samples, itf.Field(data, weights=weights, backend=engine.backend), 7)
    index, distance = brute(samples, data)
    np.testing.assert_array_equal(found.index, index[:, :7])
    np.testing.assert_allclose(found.distance, distance[:, :7], rtol=1e-9)


def test_ties_go_to_the_lowest_row(rng):
    """Small integers: distances tie everywhere, and rows are equal."""
    samples, data = (rng.integers(3, size=(m, 2)).astype(np.float32) for m in (30, 90))
    for k in (1, 4, 90):
        found = itf.nearest(samples, data, k)
        index, distance = brute(samples, data)
        np.testing.assert_array_equal(found.index, index[:, :k])
        np.testing.assert_allclose(found.distance, distance[:, :k], rtol=1e-14)


def test_parallel_rows_tie_by_cosine(rng):
    """Distances between them are 0, not rounding."""
    data = rng.normal(size=(1, 5)) * np.exp(rng.normal(size=(9, 1)))
    found = itf.nearest(0.3 * data[:3], data, 9, metric="cosine")
    np.testing.assert_array_equal(found.distance, 0)
    np.testing.assert_array_equal(found.index, np.broadcast_to(np.arange(9), (3, 9)))
    found = itf.nearest(-data[:1], data, 9, metric="cosine")
    np.testing.assert_allclose(found.distance, 2)


def test_one_row_and_one_sample():
    found = itf.nearest(np.array([[3.0, 4.0]]), np.zeros((1, 2)), 1)
    assert (found.index.tolist(), found.distance.tolist()) == ([[0]], [[5.0]])
    assert "distance" in repr(found)


def test_bytes(rng):
    samples, data = (rng.integers(256, size=(m, 12), dtype=np.uint8) for m in (20, 60))
    index, distance = brute(2 / 255 * samples - 1, 2 / 255 * data - 1)
    found = itf.nearest(samples, data, 3)
    np.testing.assert_array_equal(found.index, index[:, :3])
    np.testing.assert_allclose(found.distance, distance[:, :3], rtol=1e-9)
    scaled = itf.nearest(samples, itf.Field(data, scale=(1.0, 0.0)), 3)
    np.testing.assert_allclose(scaled.distance, brute(samples, data)[1][:, :3], rtol=1e-9)


def test_samples_and_rows_that_stream(rng, monkeypatch, tmp_path):
    """Blocks of samples, rows from a file: the same answer, little memory."""
    samples, data = rng.normal(size=(50, 4)), rng.normal(size=(500, 4))
    want = itf.nearest(samples, data, 3)
    monkeypatch.setattr(_points, "_QUERY_BYTES", 8 * 4 * 7)
    np.save(tmp_path / "rows.npy", data)
    for rows in (data, np.load(tmp_path / "rows.npy", mmap_mode="r")):
        got = itf.nearest(samples, rows, 3)
        np.testing.assert_array_equal(got.index, want.index)
        np.testing.assert_array_equal(got.distance, want.distance)


def test_rows_against_themselves_hold_no_matrix(rng):
    data = rng.normal(size=(12_000, 3)).astype(np.float32)
    tracemalloc.start()
    try:
        found = itf.nearest(data, data, 2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found.index[:, 0], np.arange(12_000))
    assert peak < 12_000 * 12_000 / 8


def test_answers_come_in_the_kind_of_the_samples(rng):
    torch = pytest.importorskip("torch")
    samples, data = rng.normal(size=(5, 3)), rng.normal(size=(9, 3))
    found = itf.nearest(torch.from_numpy(samples), data, 2)
    assert isinstance(found.index, torch.Tensor)
    np.testing.assert_array_equal(found.distance.numpy(), itf.nearest(samples, data, 2).distance)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"k": 0}, ValueError, "k must be >= 1"),
        ({"k": 10}, ValueError, "k must be >= 1 and <= 9; got 10"),
        ({"k": 2.0}, TypeError, "k must be an int"),
        ({"metric": "l1"}, ValueError, "metric must be 'euclidean' or 'cosine'; got 'l1'"),
        ({"samples": np.zeros((4, 2))}, ValueError, "samples must have the 3 columns of data"),
        ({"samples": np.full((4, 3), np.nan)}, ValueError, "samples must be finite; got nan in row 0"),
        ({"data": np.zeros((9, 3), int)}, TypeError, "data must be float32"),
        ({"samples": np.zeros((4, 3)), "metric": "cosine"}, ValueError, "samples must not hold rows that are 0.*row 0"),
        ({"samples": np.zeros((4, 3), np.uint8)}, ValueError, "samples must not be uint8"),
    ],
)
def test_arguments_are_named(change, error, words):
    given = {"samples": np.ones((4, 3)), "data": np.ones((9, 3)), "k": 2} | change
    with pytest.raises(error, match=words):
        itf.nearest(given.pop("samples"), given.pop("data"), **given)
