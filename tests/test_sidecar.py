"""Moments kept beside rows in files: the bits of a field that read them, no read when they are of these, never else."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

import interp_fast as itf
from interp_fast import _arrays
from interp_fast._stored import Stored

ROWS = np.random.default_rng(5).standard_normal((70, 3, 2)).astype(np.float32)
X = np.random.default_rng(6).standard_normal((6, 6))


@pytest.fixture(autouse=True)
def small_stretches(monkeypatch):
    monkeypatch.setattr(_arrays, "_STRETCH_BYTES", 4 * 6 * 16)  # 16 rows of 6


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


@pytest.fixture
def kept(tmp_path):
    return tmp_path / "rows.moments.npz"


@pytest.fixture
def read(monkeypatch):
    """Rows of stretches that were read, one after another."""
    found, original = [], Stored.__getitem__

    def counted(self, block):
        found.append(block.stop - block.start)
        return original(self, block)

    monkeypatch.setattr(Stored, "__getitem__", counted)
    return found


def made(data, read, **options):
    """A field, and whether all rows were read for it; samples are one row each."""
    read.clear()
    field = itf.Field(data, **options)
    return field, sum(number for number in read if number > 1) >= 64


def same(a, b):
    for t in (0.0, 0.6, 0.99, 1.0):
        got, want = a.posterior(X, t, 3), b.posterior(X, t, 3)
        for name, value in vars(want).items():
            np.testing.assert_array_equal(getattr(got, name), value, err_msg=name)
    assert (a.R, a.N, a.event) == (b.R, b.N, b.event)


@pytest.mark.parametrize("stored", ["float32", "float64", "uint8", "float16"])
def test_the_second_field_reads_nothing(path, kept, read, stored):
    np.save(path, (ROWS * 20 + 100).astype(stored))
    plain = itf.Field(path)
    first, was_read = made(path, read, moments=kept)
    assert was_read
    second, was_read = made(path, read, moments=str(kept))
    assert not was_read
    mapped, was_read = made(np.load(path, mmap_mode="r"), read, moments=kept)
    assert not was_read
    for field in (first, second, mapped, pickle.loads(pickle.dumps(second))):
        same(field, plain)
    assert sorted(one.name for one in path.parent.iterdir()) == ["rows.moments.npz", "rows.npy"]


def test_weights(path, kept, read):
    """Over many decades, none in whole stretches; those of other weights are not used, equal ones are none."""
    weights = 10.0 ** -np.random.default_rng(1).uniform(0, 300, 70)
    for w in (weights, np.where(np.arange(70) < 50, 0.0, 1.0), weights[::-1].copy(), None):
        assert made(path, read, moments=kept, weights=w)[1]
        again, was_read = made(path, read, moments=kept, weights=w)
        assert not was_read
        same(again, itf.Field(path, weights=w))


def test_many_files(tmp_path, kept, read):
    files = [tmp_path / f"{k}.npy" for k in range(3)]
    for file, rows in zip(files, np.split(ROWS, [1, 40]), strict=True):
        np.save(file, rows)
    assert made(files, read, moments=kept)[1]
    again, was_read = made(files, read, moments=kept)
    assert not was_read
    same(again, itf.Field(files))
    other, was_read = made(files[::-1], read, moments=kept)
    assert was_read
    same(other, itf.Field(files[::-1]))


def changed_values(path):
    np.save(path, ROWS[::-1])


def changed_values_at_the_same_time(path):
    before = path.stat().st_mtime_ns
    np.save(path, ROWS + 1)
    os.utime(path, ns=(before, before))


def other_time(path):
    os.utime(path, ns=(1, 1))


def more_rows(path):
    np.save(path, np.concatenate([ROWS, ROWS]))


def other_shape(path):
    np.save(path, ROWS.reshape(70, 2, 3).repeat(2, axis=1))


def same_bytes_as_another_type(path):
    np.save(path, ROWS.view(np.uint8))


def other_rows_of_as_many_bytes(path):
    np.save(path, ROWS.reshape(35, 12))


@pytest.mark.parametrize(
    "change",
    [
        changed_values,
        changed_values_at_the_same_time,
        other_time,
        more_rows,
        other_shape,
        same_bytes_as_another_type,
        other_rows_of_as_many_bytes,
    ],
)
def test_those_of_other_rows_are_made_anew(path, kept, read, change):
    itf.Field(path, moments=kept)
    change(path)
    field, _ = made(path, read, moments=kept)
    assert sum(read) >= field.N
    again, was_read = made(path, read, moments=kept)
    assert not was_read or field.N == 35  # whose samples are all of its rows
    x = np.ones((2, field.d))
    for one in (field, again):
        np.testing.assert_array_equal(one.denoiser(x, 0.0), itf.Field(path).denoiser(x, 0.0))
        assert one.R == itf.Field(path).R


def test_other_options(path, kept, read, monkeypatch):
    """The values of bytes and the version are told apart; a bandwidth, a schedule, classes, threads are no matter."""
    np.save(path, (ROWS * 20 + 100).astype(np.uint8))
    assert made(path, read, moments=kept)[1]
    for options in ({"bandwidth": 0.1}, {"schedule": itf.VP()}, {"labels": np.arange(70) % 2}, {"threads": 1}):
        assert not made(path, read, moments=kept, **options)[1]
    scaled, was_read = made(path, read, moments=kept, scale=(1.0, 0.0))
    assert was_read
    assert scaled.R == itf.Field(path, scale=(1.0, 0.0)).R
    monkeypatch.setattr(itf, "__version__", "0.1.0")
    assert made(path, read, moments=kept, scale=(1.0, 0.0))[1]


def test_files_that_are_none_stay_as_they_are(tmp_path, path, kept):
    itf.Field(path, moments=kept)
    whole = kept.read_bytes()
    np.savez(tmp_path / "foreign.npz", center=np.ones(6))
    part = itf.Field(ROWS).partial(X, 0.5)
    part.save(tmp_path / "part.npz")
    bad = {
        "cut.npz": (whole[: len(whole) // 2], "it is cut off"),
        "empty.npz": (b"", "it is cut off"),
        "text.npz": (b"no arrays", "it is something else"),
        "foreign.npz": (None, "it is something else"),
        "part.npz": (None, "it is something else"),
        "rows.npy": (None, "it is something else"),
    }
    for name, (content, words) in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        before = (tmp_path / name).read_bytes()
        with pytest.raises(ValueError, match=rf"{name} is no file of Field\(moments=\): {words}"):
            itf.Field(path, moments=tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_bad_input(tmp_path, path, kept):
    with pytest.raises(
        ValueError, match="moments belongs to rows in .npy files, by their paths or mapped, and no orbit"
    ):
        itf.Field(ROWS, moments=kept)
    with pytest.raises(TypeError, match="moments must be the path of an .npz file; got bool"):
        itf.Field(path, moments=True)
    with pytest.raises(FileNotFoundError, match="moments must be a path in a folder that is there; got .*nowhere"):
        itf.Field(path, moments=tmp_path / "nowhere" / "m.npz")
    with pytest.raises(ValueError, match="moments belongs to rows in .npy files, .* no orbit"):
        itf.Field(path, moments=kept, orbit="hflip")
    rows = ROWS.copy()
    rows[33, 0, 1] = np.inf
    np.save(path, rows)
    with pytest.raises(ValueError, match="data must be finite; got inf in row 33, column 1"):
        itf.Field(path, moments=kept)
    assert not kept.exists()


def test_a_file_that_changes_later_is_an_error_as_ever(path, kept):
    itf.Field(path, moments=kept)
    field = itf.Field(path, moments=kept)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match=r"data must not change while in use; .*rows.npy has"):
        field.denoiser(X, 0.5)
