"""Pictures are pictures wherever they come from: folders as people keep them, ranges of values, layouts of channels."""

from __future__ import annotations

import gzip
import itertools
import json
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import interp_fast as itf
from interp_fast import _datasets, _pictures
from interp_fast._cli import main


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def smooth(n, height, width, channels=3, seed=0):
    """Pictures of a few waves in each channel, as bytes from 0 to 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][..., None] / max(height, width)
    waves = [np.sin(2 * np.pi * (a * y + b * x + c)) for a, b, c in rng.normal(size=(12, 3, channels))]
    values = np.einsum("nkc,khwc->nhwc", rng.normal(size=(n, 12, channels)), np.array(waves))
    values -= values.min(axis=(1, 2, 3), keepdims=True)
    return np.round(255 * values / values.max(axis=(1, 2, 3), keepdims=True)).astype(np.uint8)


COLOURS = smooth(60, 10, 14)
GREYS = smooth(60, 12, 12, 1)[..., 0]


def save_folder(name, images):
    for k, image in enumerate(images):
        (folder := Path(name) / f"class{k % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{k:03d}.png")


def save_idx(name, images):
    head = bytes([0, 0, 8, images.ndim]) + b"".join(struct.pack(">i", n) for n in images.shape)
    Path(name).write_bytes(gzip.compress(head + images.tobytes()))


def first(images):
    return images.transpose(0, 3, 1, 2) if images.ndim == 4 else images.transpose(0, 2, 1)


def flat(images):
    return images.reshape(len(images), -1)


UNIT = lambda images: (images / 255).astype(np.float32)  # noqa: E731
SIGNED = lambda images: images / 127.5 - 1.0  # noqa: E731
FORMS = {
    "folder": save_folder,
    "bytes.npy": np.save,
    "unit.npy": lambda name, images: np.save(name, UNIT(images)),
    "signed.npy": lambda name, images: np.save(name, SIGNED(images)),
    "wide.npy": lambda name, images: np.save(name, images.astype(np.float32)),
    "half.npy": lambda name, images: np.save(name, (images / 255).astype(np.float16)),
    "unit.npz": lambda name, images: np.savez(name, labels=np.arange(3), images=UNIT(images)),
    "idx.gz": save_idx,
    "other order.npy": lambda name, images: np.save(name, first(images)),
    "other order, unit.npy": lambda name, images: np.save(name, UNIT(first(images))),
    "flat.npy": lambda name, images: np.save(name, flat(images)),
    "flat, unit.npy": lambda name, images: np.save(name, flat(UNIT(images))),
    "flat other order, signed.npy": lambda name, images: np.save(name, flat(SIGNED(first(images)))),
}


def copied(capsys, *arguments, warned=False):
    """The share of copies, and what was said."""
    assert main(["memorization", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert ("compared as they are" in captured.err) == warned
    assert warned or captured.err == ""
    result = json.loads(captured.out)
    return result["copied"], result


@pytest.mark.parametrize("against", ["folder", "unit.npy", "other order, unit.npy", "flat other order, signed.npy"])
@pytest.mark.parametrize("images", [COLOURS, GREYS], ids=["colours", "greys"])
def test_the_same_pictures_in_every_form_are_copies(here, capsys, images, against):
    """Every form against some: all samples are copies, and neither the range nor the order is in the way."""
    for k, (name, save) in enumerate(FORMS.items()):
        save(f"{k} {name}", images)
    data = f"{list(FORMS).index(against)} {against}"
    for k, name in enumerate(FORMS):
        share, result = copied(capsys, f"{k} {name}", data)
        assert share == 1.0, (name, result["made_alike"])
        assert max(result["ratio"]) < 0.02, name
        assert result["range"] is not None


def test_what_was_done_is_said(here, capsys):
    save_folder("imgs", COLOURS)
    np.save("other.npy", first(UNIT(COLOURS)))
    assert main(["memorization", "other.npy", "imgs"]) == 0
    out = capsys.readouterr().out
    for words in (
        "samples: channels first",
        "samples: values in [0, 1]",
        "of the data, in [-1, 1]",
        "all values in [-1",
    ):
        assert words in out
    np.save("flat.npy", flat(first(UNIT(COLOURS))))
    assert main(["memorization", "imgs", "flat.npy", "--holdout", "other.npy"]) == 0
    out = capsys.readouterr().out
    for words in ("samples: laid out channels last", "samples: values in [-1, 1], brought to", "data, in [0, 1]"):
        assert words in out
    assert "holdout: " not in out  # it has the range of the data and, flat, their order


def test_held_out_rows_are_brought_to_the_data(here, capsys):
    """By the command that compares, and by the one that studies."""
    images = smooth(90, 10, 14)
    np.save("samples.npy", images[:20])
    np.save("data.npy", images[:60])
    np.save("unseen.npy", first(UNIT(images[60:])))
    np.save("plain.npy", images[60:])
    _, got = copied(capsys, "samples.npy", "data.npy", "--holdout", "unseen.npy")
    _, want = copied(capsys, "samples.npy", "data.npy", "--holdout", "plain.npy")
    assert got["holdout_copied"] == want["holdout_copied"]
    assert got["c_t"] == pytest.approx(want["c_t"], abs=1e-3)
    a, b = (_datasets.load("data.npy", holdout=name) for name in ("unseen.npy", "plain.npy"))
    np.testing.assert_allclose(a.holdout, b.holdout, atol=1e-6)
    assert "channels first" in a.holdout_source
    assert b.holdout_source == "plain.npy"


def test_a_range_that_is_given_is_that_of_both(here, capsys):
    """Dark pictures fill no range: floats are taken to lie in the one given, bytes are brought to it."""
    dark = COLOURS // 4
    np.save("bytes.npy", dark)
    np.save("dark.npy", UNIT(dark))
    for samples, data in (("bytes.npy", "dark.npy"), ("dark.npy", "bytes.npy")):
        share, result = copied(capsys, samples, data, warned=True)
        assert share < 1
        assert any("of a range that is not known" in words for words in result["made_alike"])
        share, result = copied(capsys, samples, data, "--range", "0,1")
        assert share == 1
        assert result["range"] == [0, 1]
    np.save("signed.npy", SIGNED(dark))
    assert copied(capsys, "bytes.npy", "signed.npy", "--range", "-1,1")[0] == 1
    assert copied(capsys, "bytes.npy", "signed.npy", "--range=-1,1")[0] == 1
    assert main(["memorization", "signed.npy", "bytes.npy", "--range", "0,1"]) == 0  # which it is not
    np.save("full.npy", SIGNED(COLOURS))
    np.save("full bytes.npy", COLOURS)
    capsys.readouterr()
    assert main(["memorization", "full.npy", "full bytes.npy", "--range", "0,1"]) == 0
    assert capsys.readouterr().err.startswith("interp-fast: warning: the values of samples lie in [-1, 1] and those")
    for bad in ("1", "1,0", "a,b", "0,1,2", "nan,1", "0,inf"):
        assert main(["memorization", "bytes.npy", "dark.npy", "--range", bad]) == 2
        assert "LOW,HIGH" in capsys.readouterr().err


def test_zeros_and_ones(here, capsys):
    """Masks that are kept as bytes fill 0 ... 1 and not 0 ... 255."""
    masks = (GREYS > 128).astype(np.uint8)
    np.save("bytes.npy", masks)
    np.save("floats.npy", masks.astype(np.float32))
    np.save("signed.npy", 2.0 * masks - 1.0)
    for samples, data in itertools.permutations(["bytes.npy", "floats.npy", "signed.npy"], 2):
        assert copied(capsys, samples, data)[0] == 1


def test_pictures_of_two_sizes(here, capsys):
    np.save("wide.npy", COLOURS)
    np.save("high.npy", COLOURS.transpose(0, 2, 1, 3))
    assert main(["memorization", "wide.npy", "high.npy"]) == 2
    err = capsys.readouterr().err
    assert "one size" in err
    assert "10x14x3" in err
    assert "14x10x3" in err


# In Python


@pytest.mark.parametrize(
    ("samples", "data", "words"),
    [
        (UNIT, SIGNED, r"samples lie in \[0, 1\] and those of data in \[-1, 1\]"),
        (SIGNED, UNIT, r"samples lie in \[-1, 1\] and those of data in \[0, 1\]"),
        (np.float32, UNIT, r"samples lie in \[0, 255\] and those of data in \[0, 1\]"),
        (UNIT, np.uint8, r"samples lie in \[0, 1\] and those of data in \[-1, 1\] \(bytes are read as"),
        (np.float64, np.uint8, r"samples lie in \[0, 255\] and those of data in \[-1, 1\]"),
        (lambda a: 1.15 * UNIT(a) - 0.05, SIGNED, r"samples lie in \[0, 1\]"),  # a model that overshoots
        (SIGNED, SIGNED, None),
        (SIGNED, np.uint8, None),
        (np.uint8, np.uint8, None),
        (UNIT, UNIT, None),
        (lambda a: 1.2 * SIGNED(a), SIGNED, None),
        (UNIT, lambda a: UNIT(a // 2), None),
    ],
)
def test_two_ranges_are_named(samples, data, words):
    a, b = flat(samples(COLOURS[:20])), flat(data(COLOURS))
    if words is None:
        itf.memorization(a, b, holdout=b[:7])
        return
    with pytest.warns(UserWarning, match=words) as said:
        itf.memorization(a, b)
    assert len(said) == 1
    assert said[0].filename == __file__
    if data is not np.uint8:
        return
    with pytest.warns(UserWarning, match=words.replace("samples", "holdout")):
        itf.memorization(b[:20], b, holdout=flat(samples(COLOURS)))


LAWS = {
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "small": lambda rng, n, d: 0.33 * rng.standard_normal((n, d)),
    "positive": lambda rng, n, d: np.abs(rng.standard_normal((n, d))) / 3,
    "uniform": lambda rng, n, d: rng.random((n, d)),
    "heavy": lambda rng, n, d: rng.standard_t(2, (n, d)),
    "skew": lambda rng, n, d: np.exp(rng.standard_normal((n, d))),
    "lengths": lambda rng, n, d: rng.standard_normal((n, d)) * np.exp(np.linspace(0, 3, d)),
    "clusters": lambda rng, n, d: 5 * np.eye(d)[rng.integers(d, size=n)] + rng.standard_normal((n, d)),
    "spikes": lambda rng, n, d: np.eye(d)[rng.integers(d, size=n)],
    "sparse": lambda rng, n, d: (rng.random((n, d)) < 0.1) * 1.0,
}


@pytest.mark.parametrize("d", [1, 2, 16, 48, 192])
@pytest.mark.parametrize("law", LAWS)
def test_data_that_are_no_pictures_raise_no_alarm(law, d):
    """Samples, copies and held-out rows of laws of every shape; warnings are errors here."""
    for seed in range(3):
        rng = np.random.default_rng(seed)
        data, new, holdout = (LAWS[law](rng, n, d) for n in (200, 40, 50))
        for samples in (new, data[:40], np.concatenate([data[:10], new]), data[:30] + 0.01 * new[:30]):
            itf.memorization(samples, data, holdout=holdout)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_layout_that_fits_far_better_is_named(share):
    """All samples or some of them are copies, and channels or rows and columns have changed places."""
    others = smooth(60, 10, 14, seed=1)
    samples = np.where((np.arange(60) < 60 * share)[:, None, None, None], COLOURS, others)
    for a, b, words in (
        (first(samples), COLOURS, "channels first"),
        (samples, first(COLOURS), "channels last"),
    ):
        with pytest.warns(UserWarning, match=f"samples are far nearer .* laid out {words}"):
            itf.memorization(flat(SIGNED(a)), flat(SIGNED(b)))
    itf.memorization(flat(SIGNED(samples)), flat(SIGNED(COLOURS)))
    itf.memorization(flat(SIGNED(first(samples))), flat(SIGNED(first(COLOURS))))
    with pytest.warns(UserWarning, match="holdout are far nearer"):
        itf.memorization(flat(SIGNED(COLOURS)), flat(SIGNED(COLOURS)), holdout=flat(SIGNED(first(samples))))


def test_unseen_pictures_tell_their_layout_too():
    """No copies: the digits are nearer to other digits upright."""
    from sklearn.datasets import load_digits

    digits = load_digits().images / 8 - 1
    with pytest.warns(UserWarning, match="laid out column by column"):
        itf.memorization(flat(digits[1500:].transpose(0, 2, 1)), flat(digits[:1500]))
    itf.memorization(flat(digits[1500:]), flat(digits[:1500]))


def test_ranges_are_found_only_where_they_are_filled():
    values = np.linspace(0, 1, 200)
    for (low, high), scaled in (((0, 255), 255 * values), ((0, 1), values), ((-1, 1), 2 * values - 1)):
        assert _pictures.find_range(scaled) == (low, high)
        assert _pictures.find_range(scaled * 0.99) == (low, high)
        assert _pictures.find_range(scaled[:50]) is None
        assert _pictures.find_range(scaled * 1.1) is None
        assert _pictures.find_range(scaled * 0.9 if low == 0 else scaled * 0.8) is None


# Folders


def picture(value, size=(4, 3)):
    return Image.fromarray(np.full(size, value, np.uint8))


def rows_of(name):
    rows, shape = _datasets.read_rows(name)
    return np.round((rows.reshape(len(rows), *shape) + 1) * 127.5, 3)


def test_linked_folders_are_followed_once(here):
    """Classes that are links count, loops end, and a folder that is linked twice counts once."""
    for name in ("elsewhere/cats", "elsewhere/dogs", "data/birds"):
        (here / name).mkdir(parents=True)
        picture(10 * len(name)).save(f"{name}/a.png")
    (here / "data" / "cats").symlink_to(here / "elsewhere" / "cats")
    (here / "data" / "dogs").symlink_to(here / "elsewhere" / "dogs")
    (here / "data" / "more cats").symlink_to(here / "elsewhere" / "cats")
    (here / "data" / "birds" / "loop").symlink_to(here / "data")
    (here / "data" / "single.png").symlink_to(here / "elsewhere" / "cats" / "a.png")
    assert rows_of("data")[:, 0, 0].tolist() == [100, 140, 140, 140]
    (here / "link").symlink_to(here / "data")
    assert len(rows_of("link")) == 4


def test_hidden_files_are_left_out(here):
    (here / "data" / ".ipynb_checkpoints").mkdir(parents=True)
    (here / "data" / "a.png").mkdir()  # a folder with the name of a picture
    picture(1).save("data/a.png/x.png")
    picture(2).save("data/.ipynb_checkpoints/x-checkpoint.png")
    picture(3).save("data/.thumbnail.png")
    (here / "data" / "._x.png").write_bytes(b"\0\5\x16\7")  # what macOS leaves beside files
    assert rows_of("data")[:, 0, 0].tolist() == [1]


def test_a_folder_that_cannot_be_read_is_no_empty_one(here, capsys, monkeypatch):
    import os

    (here / "data" / "locked").mkdir(parents=True)
    picture(1).save("data/a.png")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert main(["sample", "data", "--out", "s.npz"]) == 2
    assert "locked" in capsys.readouterr().err


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format_", ["jpg", "png", "tif"])
def test_pictures_are_turned_upright(here, orientation, format_):
    """Orientations as the EXIF standard defines them: what the first row and column of the file show."""
    upright = np.repeat(np.repeat(np.array([[0, 100, 250], [50, 150, 200]], np.uint8), 8, 0), 8, 1)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
        6: upright.T[::-1], 7: upright[::-1, ::-1].T, 8: upright.T[:, ::-1],
    }[orientation]  # fmt: skip
    (here / "data").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(f"data/a.{format_}", exif=exif, quality=100)
    np.testing.assert_allclose(rows_of("data")[0], upright, atol=3)


def test_pictures_of_16_bits(here):
    """65535 is white, alone and beside bytes."""
    values = np.array([[0, 257, 65535], [1, 30000, 40000]], np.uint16)
    (here / "data").mkdir()
    Image.fromarray(values).save("data/a.png")
    Image.fromarray(values).save("data/b.tif")
    for _ in range(2):
        rows, shape = _datasets.read_rows("data")
        assert rows.dtype == np.float32
        assert shape == (2, 3)
        np.testing.assert_allclose(rows[:2], [values.ravel() * (2 / 65535) - 1] * 2, atol=1e-7)
        Image.fromarray(np.array([[0, 1, 255], [0, 128, 200]], np.uint8)).save("data/c.png")
    np.testing.assert_allclose(rows[2, :3], rows[0, :3], atol=1e-7)


def test_floats_are_not_mixed_with_bytes(here, capsys):
    (here / "data").mkdir()
    Image.fromarray(np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)).save("data/b.tif")
    rows, _ = _datasets.read_rows("data")
    np.testing.assert_array_equal(rows[0], np.linspace(0, 1, 12, dtype=np.float32))
    picture(7, (3, 4)).save("data/a.png")
    for command in (["sample", "data", "--out", "s.npz"], ["memorization", "data", "data"]):
        assert main(command) == 2
        err = capsys.readouterr().err
        for words in ("a.png has integers", "b.tif floating-point numbers", "Save them alike"):
            assert words in err


@pytest.mark.parametrize("name", ["pages.tif", "moves.gif", "moves.png"])
def test_a_file_of_many_pictures_is_refused(here, capsys, name):
    (here / "data").mkdir()
    picture(1).save(f"data/{name}", save_all=True, append_images=[picture(90), picture(200)])
    assert main(["sample", "data", "--out", "s.npz"]) == 2
    err = capsys.readouterr().err
    assert name in err
    assert "3 pictures" in err


def test_integers_of_32_bits_are_refused(here, capsys):
    (here / "data").mkdir()
    Image.fromarray(np.arange(12, dtype=np.int32).reshape(3, 4)).save("data/a.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["sample", "data", "--out", "s.npz"]) == 2
    assert "32 bits" in capsys.readouterr().err
