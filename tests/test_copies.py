"""The command that compares samples in files with a training set, and the files that it reads."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import interp_fast as itf
from interp_fast import _datasets
from interp_fast._cli import main
from interp_fast._copies import places

RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(60, 6)).astype(np.float32)


@pytest.fixture(name="here")
def _here(tmp_path, monkeypatch):
    """A folder with a training set and samples of three checkpoints, of which more and more are copies."""
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    for step, copies in ((100, 0), (20000, 5), (3000, 20)):
        samples = np.random.default_rng(step).normal(size=(30, 6)).astype(np.float32)
        samples[:copies] = ROWS[:copies]
        np.save(f"run2-{step:05d}.npy", samples)
    return tmp_path


def answer(capsys, *arguments):
    assert main(["memorization", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


FILES = ["run2-00100.npy", "run2-20000.npy", "run2-03000.npy"]


def test_many_files_one_table(here, capsys):
    """In the order given, each with the numbers that the function gives."""
    np.save("unseen.npy", ROWS[:20] + 1)
    options = ["--holdout", "unseen.npy", "--metric", "cosine"]
    result = answer(capsys, *FILES, "rows.npy", *options)
    assert [one["file"] for one in result["files"]] == FILES
    for one in result["files"]:
        want = itf.memorization(np.load(one["file"]), ROWS, holdout=ROWS[:20] + 1, metric="cosine", rng=0).to_dict()
        assert one.keys() == want.keys() | {"file", "made_alike"}
        for name in ("classes", "memorized_interval", "density", "coverage", "c_t", "authenticity", "index"):
            assert one[name] == want[name], name
    assert main(["memorization", *FILES, "rows.npy", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["file", "samples", "memorized"]
    assert [line.split()[0] for line in lines[1:4]] == FILES
    assert "66.7 %" in lines[3]
    assert "nearest other row: median" in lines[-1]
    assert answer(capsys, FILES[0], "rows.npy", "--k", "0")["coverage"] is None
    assert main(["memorization", *FILES, "rows.npy", "--k", "0"]) == 0
    assert "–" in capsys.readouterr().out


def test_distances_between_rows_are_found_once(here, capsys, monkeypatch):
    from interp_fast._training_set import TrainingSet

    asked, nearest = [], TrainingSet.nearest
    monkeypatch.setattr(TrainingSet, "nearest", lambda s, x, *a: asked.append((len(x), s.n)) or nearest(s, x, *a))
    answer(capsys, *FILES, "rows.npy")
    assert asked.count((60, 60)) == 1


def test_a_picture_over_the_numbers_of_checkpoints(here, capsys):
    for name in ("shares.png", "shares.svg"):
        assert main(["memorization", *FILES, "rows.npy", "--out", name]) == 0
    assert Path("shares.png").stat().st_size > 5000
    text = Path("shares.svg").read_text(encoding="utf-8")
    assert "number in the names of the files" in text
    assert "spurious" in text
    assert main(["memorization", FILES[0], "rows.npy", "--out", "one.png"]) == 0
    capsys.readouterr()
    assert main(["memorization", FILES[0], "rows.npy", "--out", "shares.doc"]) == 2
    assert "doc" in capsys.readouterr().err
    assert not Path("shares.doc").exists()
    assert main(["memorization", FILES[0], "rows.npy", "--out", FILES[0]]) == 2
    assert "would replace run2-00100.npy, which the command reads" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("files", "want"),
    [
        (FILES, [100, 20000, 3000]),
        (["a10/s.npz", "a2/s.npz"], [10, 2]),
        (["run1-step5-seed0", "run1-step9-seed0"], [5, 9]),
        (["a1", "a1"], None),
        (["m-20261130112754123456.npy", "m-20261130112754123457.npy"], None),
        (["a", "b"], None),
        (["a1", "b"], None),
    ],
)
def test_numbers_in_names(files, want):
    assert places(files) == want


def test_one_file_is_told_as_ever(here, capsys):
    result = answer(capsys, FILES[1], "rows.npy")
    assert result["memorized"] == pytest.approx(5 / 30)
    assert "files" not in result
    assert main(["memorization", FILES[1], "--radius", "0.1", "rows.npy"]) == 0
    assert "memorized_interval" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["extract:first", "extract.py:first", "inside.deeper:first"])
def test_features_of_a_module(here, capsys, where):
    """Rows come in the shape of their file, in the range of the data, at most 256 at a time."""
    images = np.random.default_rng(1).integers(256, size=(300, 2, 3, 4), dtype=np.uint8)
    images[0, 0, 0, :2] = 0, 255
    np.save("images.npy", images)
    np.save("samples.npy", (images[:20] / 255).astype(np.float32))
    np.save("others.npy", images[20:30])
    Path("inside").mkdir()
    for name in ("extract.py", "inside/deeper.py"):
        Path(name).write_text(
            "import numpy as np\n"
            "def first(rows):\n"
            "    assert rows.shape[1:] == (2, 3, 4) and len(rows) <= 256 and rows.max() <= 1.001\n"
            "    return np.asarray(rows[:, 0].reshape(len(rows), 12), np.float64) ** 2\n"
            "def broken(rows):\n"
            "    return rows.undefined\n"
        )
    Path("inside/__init__.py").touch()
    result = answer(capsys, "samples.npy", "others.npy", "images.npy", "--features", where, "--holdout", "others.npy")
    assert [one["memorized"] for one in result["files"]] == [1.0, 1.0]
    values = lambda a: ((2 / 255 * a.reshape(len(a), -1) - 1).astype(np.float32)[:, :12].astype(np.float64)) ** 2  # noqa: E731
    want = itf.memorization(values(images[20:30]), values(images), holdout=values(images[20:30]), rng=0)
    for name in ("coverage", "density", "holdout_copied"):
        assert result["files"][1][name] == pytest.approx(getattr(want, name))
    np.testing.assert_allclose(result["files"][1]["d2"], want.d2, rtol=1e-5)


def test_features_that_cannot_be_had(here, capsys):
    Path("faulty.py").write_text("x = 1\ndef broken(rows):\n    return rows.undefined\n")
    Path("no_good.py").write_text("import nothing_of_this_name\n")
    for spec, words in {
        "faulty": "MODULE:FUNCTION", ":f": "MODULE:FUNCTION", "faulty:": "MODULE:FUNCTION",
        "no_such_module:f": "could not import no_such_module", "no_good:f": "nothing_of_this_name",
        "faulty:x": "no function 'x'", "faulty.py:g": "no function 'g'", "missing.py:f": "no file missing.py",
        "faulty:broken": "line 3 raised AttributeError", "faulty.py:broken": "faulty.py in line 3 raised",
    }.items():  # fmt: skip
        assert main(["memorization", FILES[0], "rows.npy", "--features", spec]) == 2, spec
        assert words in capsys.readouterr().err, spec


def test_a_range_that_one_side_alone_fills_is_said_on_stderr(here, capsys):
    """The numbers are still given: rows of a range that is not known may be right."""
    full = np.linspace(0, 1, 360, dtype=np.float32).reshape(60, 6)
    np.save("full.npy", full)
    np.save("dark.npy", full[:30] / 4)
    for files in (["dark.npy", "full.npy"], ["full.npy", "dark.npy"], ["dark.npy", "dark.npy", "full.npy"]):
        assert main(["memorization", *files, "--json"]) == 0
        said = capsys.readouterr()
        assert said.err.startswith("interp-fast: warning: ")
        for words in ("of a range that is not known", "compared as they are", "--range LOW,HIGH"):
            assert words in said.err
        json.loads(said.out)
    assert main(["memorization", "dark.npy", "full.npy", "--range", "0,1"]) == 0
    assert capsys.readouterr().err == ""


def test_one_file_alone_is_not_enough(here, capsys):
    assert main(["memorization", "rows.npy"]) == 2
    assert "DATA" in capsys.readouterr().err
    assert main(["memorization", FILES[0], "missing.npy", "rows.npy"]) == 2
    assert "missing.npy" in capsys.readouterr().err


# Files


def colours(n=12, size=8):
    return np.random.default_rng(3).integers(256, size=(n, size, size, 3), dtype=np.uint8)


def values(images):
    return (2 / 255 * images.reshape(len(images), -1).astype(np.float64) - 1).astype(np.float32)


def save_edm(name, images):
    """As EDM's dataset_tool does: folders of a thousand, stored, with the labels beside them."""
    with zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) as archive:
        for k, image in enumerate(images):
            with archive.open(f"{k // 1000:05d}/img{k:08d}.png", "w") as file:
                Image.fromarray(image).save(file, "png")
        archive.writestr("dataset.json", json.dumps({"labels": None}))


def test_zip_archives_of_images(here, capsys):
    images = colours()
    save_edm("set.zip", images)
    with zipfile.ZipFile("set.zip", "a") as archive:
        archive.writestr("__MACOSX/._img.png", b"no picture")
        archive.writestr("00000/.hidden.png", b"no picture")
        archive.writestr("empty.png/", b"")
    rows, shape = _datasets.read_rows("set.zip")
    np.testing.assert_allclose(rows, values(images), atol=1e-6)
    assert shape == (8, 8, 3)
    np.savez("samples.npz", arr_0=images[:4], arr_1=np.arange(4))  # as guided-diffusion keeps samples and labels
    assert answer(capsys, "samples.npz", "set.zip")["copied"] == 1.0


def test_archives_that_cannot_be_read(here, capsys):
    Path("torn.zip").write_bytes(b"PK\3\4 and no more")
    with zipfile.ZipFile("words.zip", "w") as archive:
        archive.writestr("a.txt", "words")
    save_edm("bad.zip", colours(2))
    with zipfile.ZipFile("bad.zip", "a") as archive:
        archive.writestr("00000/img2.png", b"no picture")
    save_edm("cut.zip", colours(2))
    whole = bytearray(Path("cut.zip").read_bytes())
    whole[200:260] = bytes(60)
    Path("cut.zip").write_bytes(whole)
    for name, words in {
        "torn.zip": "torn.zip could not be read as a zip archive", "words.zip": "words.zip holds no pictures",
        "bad.zip": "bad.zip/00000/img2.png could not be read as a picture",
        "cut.zip": "cut.zip/00000/img00000000.png could not be read as a picture",
        "none.zip": "there is no 'none.zip'",
    }.items():  # fmt: skip
        assert main(["memorization", name, "rows.npy"]) == 2
        assert words in capsys.readouterr().err, name


@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_tensors(here, capsys, suffix):
    """Alone or in a dict, in halves, with gradients."""
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(ROWS[:20].copy())
    kept = {
        "alone": x, "grad": x.clone().requires_grad_(), "view": x.repeat(1, 2)[:, :6],
        "dict": {"samples": x, "labels": torch.arange(20), "step": 7}, "single": {"anything": x, "step": 7},
        "doubles": x.double(),
    }  # fmt: skip
    for name, value in kept.items():
        torch.save(value, f"{name}.{suffix}")
        np.testing.assert_array_equal(_datasets.read_rows(f"{name}.{suffix}")[0], ROWS[:20], err_msg=name)
    for half in (torch.bfloat16, torch.float16):
        torch.save(x.to(half), f"half.{suffix}")
        np.testing.assert_array_equal(_datasets.read_rows(f"half.{suffix}")[0], x.to(half).float().numpy())
    torch.save({"a": x, "b": x[:3]}, f"two.{suffix}")
    assert len(_datasets.read_rows(f"two.{suffix}:b")[0]) == 3
    torch.save(torch.from_numpy(colours()), f"bytes.{suffix}")
    assert _datasets.read_rows(f"bytes.{suffix}")[1] == (8, 8, 3)
    assert answer(capsys, f"dict.{suffix}", "rows.npy")["copied"] == 1.0


class Opens:
    """What a file must not be able to do."""

    def __reduce__(self):
        return (open, ("ran.txt", "w"))


def test_torch_files_that_cannot_be_read(here, capsys):
    torch = pytest.importorskip("torch")
    torch.save({"x": Opens()}, "runs.pt")
    torch.save(torch.nn.Linear(2, 2), "module.pt")
    torch.save({"a": torch.zeros(3, 2), "b": torch.zeros(3, 2)}, "two.pt")
    torch.save({"step": 3}, "none.pt")
    torch.save([torch.zeros(3, 2)], "list.pt")
    torch.save(torch.zeros(3, 6, dtype=torch.int64), "ints.pt")
    Path("torn.pt").write_bytes(b"PK\3\4 and no more")
    for name, words in {
        "runs.pt": "more than tensors", "module.pt": "more than tensors", "two.pt": "arrays a, b; choose one as two",
        "none.pt": "holds no tensors", "list.pt": "holds a list and must hold a tensor", "ints.pt": "int64",
        "torn.pt": "torn.pt could not be read as a torch file", "two.pt:c": "arrays a, b",
    }.items():  # fmt: skip
        assert main(["memorization", name, "rows.npy"]) == 2
        assert words in capsys.readouterr().err, name
    assert not Path("ran.txt").exists()


def test_torch_files_without_torch(here, capsys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    Path("x.pt").write_bytes(b"anything")
    assert main(["memorization", "x.pt", "rows.npy"]) == 2
    assert "x.pt needs torch, which is not installed" in capsys.readouterr().err


def test_folders_archives_and_arrays_of_the_same_pictures(here, capsys):
    """Classes that are links, 16 bits, and hidden files, as people keep them."""
    images = colours(9, 10)
    (here / "elsewhere").mkdir()
    (here / "folder").mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(here / "elsewhere" / f"{k}.png")
    (here / "elsewhere" / ".hidden.png").write_bytes(b"")
    (here / "folder" / "class").symlink_to(here / "elsewhere")
    save_edm("set.zip", images)
    np.savez("samples.npz", arr_0=images, arr_1=np.zeros(9, int))
    result = answer(capsys, "folder", "samples.npz", "set.zip")
    assert [one["copied"] for one in result["files"]] == [1.0, 1.0]
    assert [one["d1"] for one in result["files"]] == [[0.0] * 9] * 2
