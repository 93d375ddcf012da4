"""Rows in files: read in stretches, never mapped, and watched for changes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

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


def test_one_file_and_many(tmp_path, path, backend):
    """A path, a list of paths and a mapped array are the same rows, in their shape; an offset and a part of a map."""
    files = [tmp_path / f"{k}.npy" for k in range(3)]
    for file, rows in zip(files, np.split(ROWS, [1, 40]), strict=True):
        np.save(file, rows)
    mapped = np.load(path, mmap_mode="r")
    want = itf.Field(path, backend=backend)
    np.testing.assert_allclose(want.score(X, 0.6), itf.Field(ROWS, backend=backend).score(X, 0.6), rtol=1e-4, atol=1e-5)
    for data in (str(path), [path], files, [str(file) for file in files], mapped):
        field = itf.Field(data, backend=backend)
        np.testing.assert_array_equal(field.denoiser(X, 0.6), want.denoiser(X, 0.6))
        assert (field.event, field.N, field.R) == ((3, 2), 70, want.R)
        np.testing.assert_array_equal(itf.nearest(X, field, k=20).index, itf.nearest(X, ROWS, k=20).index)
    part = itf.Field(mapped[11:55], backend=backend)
    np.testing.assert_allclose(part.denoiser(X, 0.6), itf.Field(ROWS[11:55]).denoiser(X, 0.6), rtol=1e-5, atol=1e-6)
    assert part.subset([43]).denoiser(X[:1], 0.5).tobytes() == ROWS[54].tobytes()
    for way in ("c", "r+"):
        field = itf.Field(np.load(path, mmap_mode=way), backend=backend)
        np.testing.assert_array_equal(field.denoiser(X, 0.6), want.denoiser(X, 0.6))


def test_a_copy_goes_by_the_names_of_the_files(path):
    field = itf.Field(path)
    sent = pickle.dumps(field)
    assert len(sent) < 10_000
    np.testing.assert_array_equal(pickle.loads(sent).denoiser(X, 0.5), field.denoiser(X, 0.5))
    assert ROWS[:2].tobytes() not in sent


def test_types(tmp_path):
    for stored in ("uint8", "float16", "float64", ">f4"):
        rows = (ROWS * 20 + 100).astype(stored)
        np.save(tmp_path / "rows.npy", rows)
        got, want = itf.Field(tmp_path / "rows.npy"), itf.Field(rows)
        np.testing.assert_allclose(got.denoiser(X, 0.6), want.denoiser(X, 0.6), rtol=1e-5, atol=1e-5)


def test_moments_are_those_of_all_rows(path):
    """From one read of each row: also with weights over many decades, none in whole stretches, and equal rows."""
    reads = []
    source = Stored([path])
    original = Stored.__getitem__

    def counted(self, block):
        reads.append(block.stop - block.start)
        return original(self, block)

    weights = 10.0 ** -np.random.default_rng(1).uniform(0, 300, 70)
    for w in (None, weights, np.where(np.arange(70) < 50, 0.0, 1.0)):
        reads.clear()
        Stored.__getitem__ = counted
        try:
            far = itf.Field(source, weights=w)
        finally:
            Stored.__getitem__ = original
        assert (sum(reads), max(reads)) == (70, 16)
        here = itf.Field(ROWS, weights=w)
        np.testing.assert_allclose(far.R, here.R, rtol=1e-12)
        np.testing.assert_allclose(far.denoiser(X, 0.0), here.denoiser(X, 0.0), rtol=1e-6, atol=1e-7)
    np.save(path, np.tile(ROWS[:1], (70, 1, 1)))
    assert itf.Field(path).R == 0


@pytest.mark.parametrize("how", ["shorter", "longer", "other time", "gone"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_file_that_changes_is_an_error(path, how, mapped):
    """Of whatever is asked next; a mapped one is not a signal."""
    field = itf.Field(np.load(path, mmap_mode="r") if mapped else path)
    field.denoiser(X, 0.5)
    whole = path.read_bytes()
    if how == "gone":
        path.unlink()
    elif how == "other time":
        os.utime(path, ns=(1, 1))
    else:
        path.write_bytes(whole[:-64] if how == "shorter" else whole + b"x")
    for ask in (lambda: field.denoiser(X, 0.5), lambda: field.draw(5, 0.5, rng=0), lambda: itf.nearest(X, field)):
        with pytest.raises(OSError if how == "gone" else ValueError, match="rows.npy"):
            ask()


def test_files_that_are_not_what_they_say(tmp_path, path):
    (tmp_path / "cut.npy").write_bytes(path.read_bytes()[:-3])
    np.save(tmp_path / "wide.npy", np.ones((3, 7)))
    np.save(tmp_path / "flat.npy", np.ones(3))
    np.save(tmp_path / "columns.npy", np.asfortranarray(np.ones((3, 7))))
    (tmp_path / "text.npy").write_text("no array")
    bad = {
        "cut.npy": r"cut.npy has \d+ bytes, and its header promises \d+: it is cut off",
        "flat.npy": r"must have shape \(N, d\).*got \(3,\) of float64 in .*flat.npy",
        "columns.npy": "columns.npy holds column after column",
        "text.npy": "must be an array or the path of a .npy file with one; got .*text.npy",
    }
    for name, words in bad.items():
        with pytest.raises(ValueError, match=words):
            itf.Field(tmp_path / name)
    with pytest.raises(ValueError, match=r"same type and shape of rows; got float32 \(3, 2\) in .*and float64 \(7,\)"):
        itf.Field([path, tmp_path / "wide.npy"])
    rows = ROWS.copy()
    rows[33, 0, 1] = np.inf
    np.save(path, rows)
    with pytest.raises(ValueError, match="data must be finite; got inf in row 33, column 1"):
        itf.Field(path)


def test_the_next_stretch_is_read_meanwhile(path):
    """Each once, one reader at a time, in order; an error of the reader is that of the call."""

    class Watched(Stored):
        def __getitem__(self, block):
            names.append((threading.current_thread() is threading.main_thread(), block.start))
            if len(names) == fails_at:
                msg = "the disk is gone"
                raise OSError(msg)
            return super().__getitem__(block)

    names, fails_at = [], None
    field = itf.Field(Watched([path]))
    names.clear()
    field.denoiser(X, 0.5)
    assert names == [(False, k) for k in range(0, 70, 16)]
    names, fails_at = [], 3
    with pytest.raises(OSError, match="the disk is gone"):
        field.denoiser(X, 0.5)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("interp_fast")]


LIMITED = """
import os, resource, sys, numpy as np, interp_fast as itf
path, rows, d = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
field = itf.Field(path, threads=2)
x = np.zeros((4, d))
field.denoiser(x, 0.1)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
field.score(np.random.default_rng(0).standard_normal((16, d)), 0.5)
print(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - peak)
"""


@pytest.mark.long
def test_memory_is_that_of_a_few_stretches(tmp_path):
    """Whatever the size of the file: 400 MB of rows in less than 128 MB beyond the process itself."""
    n, d = 130_000, 3072
    with (tmp_path / "rows.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (n, d)}
        np.lib.format.write_array_header_1_0(file, header)
        rng = np.random.default_rng(0)
        for _ in range(13):
            file.write(rng.integers(0, 256, (n // 13, d), dtype=np.uint8).tobytes())
    environment = os.environ | {"PYTHONPATH": str(Path(itf.__file__).parents[1])}

    def peaks(path, rows):
        arguments = [sys.executable, "-c", LIMITED, str(path), str(rows), str(d)]
        run = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
        return [int(number) for number in run.stdout.split()]

    np.save(tmp_path / "few.npy", rng.integers(0, 256, (10, d), dtype=np.uint8))
    few, many = peaks(tmp_path / "few.npy", 10), peaks(tmp_path / "rows.npy", n)
    assert sum(many) - few[0] < 200e6  # the pass at construction is in float64
    assert many[1] < 30e6


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("stretch", range(0, 70, 16))
def test_an_interrupt_is_heard_between_stretches(path, stretch):
    """At each, of a call and of the pass at construction; the field goes on."""

    class Slow(Stored):
        def __getitem__(self, block):
            if armed and block.start == stretch:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(block)

    armed = False
    field = itf.Field(Slow([path]))
    want = field.denoiser(X, 0.5)
    armed = True
    with pytest.raises(KeyboardInterrupt):
        field.denoiser(X, 0.5)
    with pytest.raises(KeyboardInterrupt):
        itf.Field(Slow([path]))
    armed = False
    np.testing.assert_array_equal(field.denoiser(X, 0.5), want)


def test_progress_of_the_pass_at_construction(path, tmp_path):
    """Rows read so far, over all stretches; none where moments are kept."""
    told = []
    itf.Field(path, progress=lambda *now: told.append(now))
    assert told == [(16, 70), (32, 70), (48, 70), (64, 70), (70, 70)]
    itf.Field(path, moments=tmp_path / "m.npz")
    told.clear()
    itf.Field(path, moments=tmp_path / "m.npz", progress=lambda *now: told.append(now))
    assert told == []
