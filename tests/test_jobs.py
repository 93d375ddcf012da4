"""interp-fast partial and merge: the posterior of rows that many jobs hold, in files."""

from __future__ import annotations

import json

import numpy as np
import pytest

import interp_fast as itf
from interp_fast._cli import main

ROWS = np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32)
X = np.random.default_rng(4).normal(size=(5, 6))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    np.savez("q.npz", x=X, t=0.7)
    return tmp_path


def run(shard, out, *more, data="rows.npy", queries="q.npz"):
    return main(["partial", data, "--queries", queries, "--shard", shard, "--out", str(out), *more])


def fails(capsys, arguments, *words):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    for word in ("interp-fast: error: ", *words):
        assert word in captured.err


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("precise", [[], ["--precise"]])
def test_a_job_array(here, capsys, dtype, precise):
    """The bits of a merge in one process, whatever the order of the files; running a job again changes no byte."""
    rows = (ROWS * 30 + 100).astype(dtype) if dtype == "uint8" else ROWS.astype(dtype)
    np.save("rows.npy", rows)
    for k in (2, 0, 1):
        assert run(f"{k}/3", f"p{k}.npz", "--top", "2", *precise) == 0
    edges = [k * 30 // 3 for k in range(4)]
    parts = [
        itf.Field(rows[a:b]).partial(X, 0.7, 2, first_row=a, precise=bool(precise))
        for a, b in zip(edges, edges[1:], strict=False)
    ]
    want = itf.merge(parts)
    read = itf.Partial.load("p1.npz")
    assert read.rows == ((10, 20),)
    np.testing.assert_array_equal(read.denoiser(), parts[1].denoiser())
    before = (here / "p1.npz").read_bytes()
    assert run("1/3", "p1.npz", "--top", "2", *precise) == 0
    assert (here / "p1.npz").read_bytes() == before
    capsys.readouterr()
    assert main(["merge", "p2.npz", "p0.npz", "p1.npz", "--out", "posterior.npz", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"out": "posterior.npz", "parts": 3, "rows": 30, "queries": 5, "unsettled": said["unsettled"]}
    with np.load("posterior.npz") as found:
        assert set(found.files) == {*vars(want.posterior()), "unsettled"}
        for name, values in vars(want.posterior()).items():
            np.testing.assert_array_equal(found[name], values)
        np.testing.assert_array_equal(found["unsettled"], want.unsettled)


def test_images_and_named_sets(here):
    np.save("images.npy", ROWS.reshape(30, 2, 3))
    for data in ("images.npy", "rows.npy"):
        assert run("0/1", f"{data}.npz", data=data) == 0
    a, b = (itf.Partial.load(f"{name}.npy.npz") for name in ("images", "rows"))
    np.testing.assert_array_equal(a.denoiser(), b.denoiser())
    np.savez("q64.npz", x=np.zeros((2, 64)), t=np.array([0.2, 0.9]))
    assert run("3/64", "p.npz", "--schedule", "vp", "--backend", "reference", data="digits", queries="q64.npz") == 0
    assert itf.Partial.load("p.npz").rows == ((3 * 1797 // 64, 4 * 1797 // 64),)


def test_what_does_not_belong_together_is_named(here, capsys):
    for k in range(3):
        run(f"{k}/3", f"p{k}.npz")
    capsys.readouterr()
    merge = ["merge", "--out", "all.npz"]
    fails(capsys, [*merge, "p0.npz", "p2.npz"], "parts of these shards are missing: 1/3")
    fails(capsys, [*merge, "p0.npz", "p1.npz", "p2.npz", "p1.npz"], "p1.npz and p1.npz are both shard 1/3")
    fails(capsys, [*merge, "p0.npz", "p9.npz", "p2.npz"], "there is no file p9.npz")
    whole = (here / "p1.npz").read_bytes()
    (here / "short.npz").write_bytes(whole[: len(whole) // 2])
    fails(capsys, [*merge, "p0.npz", "short.npz", "p2.npz"], "short.npz is no file of", "it is cut off")
    np.savez("alien.npz", x=X)
    fails(capsys, [*merge, "p0.npz", "alien.npz", "p2.npz"], "alien.npz is no file of interp-fast partial")
    np.save("one.npy", np.zeros(3))
    fails(capsys, [*merge, "p0.npz", "one.npy", "p2.npz"], "one.npy is no file of", "it is something else (one array")
    itf.Field(ROWS[10:20]).partial(X, 0.7, first_row=10).save("own.npz")
    fails(capsys, [*merge, "p0.npz", "own.npz", "p2.npz"], "own.npz was not written by interp-fast partial")
    run("1/4", "of4.npz")
    np.savez("q2.npz", x=X + 1, t=0.7)
    run("1/3", "other.npz", queries="q2.npz")
    run("1/3", "vp.npz", "--schedule", "vp")
    capsys.readouterr()
    fails(capsys, [*merge, "p0.npz", "of4.npz", "p2.npz"], "of4.npz is one of 4 shards", "p0.npz one of 3")
    fails(capsys, [*merge, "p0.npz", "other.npz", "p2.npz"], "p0.npz and other.npz have different queries x")
    fails(capsys, [*merge, "p0.npz", "vp.npz", "p2.npz"], "p0.npz and vp.npz have different schedules")
    fails(capsys, ["merge", "p0.npz", "p1.npz", "p2.npz", "--out", "p1.npz"], "would replace p1.npz")
    assert not (here / "all.npz").exists()
    assert (here / "p1.npz").read_bytes() == whole


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shard", "3/3"], "--shard must be I/K, 0 <= I < K, as 3/64; got 3/3"),
        (["--shard", "one"], "--shard must be I/K"),
        (["--shard", "0/31"], "--shard must be one of at most 30"),
        (["--shard", "0/1", "--queries", "none.npz"], "there is no file none.npz of queries"),
        (["--shard", "0/1", "--queries", "rows.npy"], "rows.npy must be an .npz file with arrays x (M, d) and t"),
        (["--shard", "0/1", "--queries", "wide.npz"], "x must have shape (M, 6)"),
        (["--shard", "0/1", "--out", "nowhere/p.npz"], "there is no folder nowhere"),
        (["--shard", "0/1", "--schedule", "none"], "none"),
        (["--shard", "0/1", "--backend", "none"], "backend must be one of"),
    ],
)
def test_bad_input_is_named(here, capsys, arguments, words):
    np.savez("wide.npz", x=np.ones((2, 7)), t=0.5)
    fails(capsys, ["partial", "rows.npy", "--queries", "q.npz", "--out", "p.npz", *arguments], words)
    assert not (here / "p.npz").exists()
