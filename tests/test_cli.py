"""The commands, run in this process: what they read, write and print, and how they fail."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess
import sys

import numpy as np
import pytest

import interp_fast as itf
from interp_fast import _check, _cli, _datasets
from interp_fast._cli import main

ROWS = np.random.default_rng(3).normal(size=(30, 6)).astype(np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    return tmp_path


def strict(text):
    """JSON without NaN and Infinity."""

    def refuse(name):
        raise AssertionError(name)

    return json.loads(text, parse_constant=refuse)


def idx(array, kind, announced=None):
    shape = array.shape if announced is None else announced
    head = bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">i", n) for n in shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def fails(capsys, arguments, *words, code=2):
    """The command fails with one sentence on stderr that holds all words, and nothing on stdout."""
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("interp-fast: error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    return captured.err


# Reading


def test_bytes_are_between_minus_one_and_one(here):
    """Every byte becomes the float32 nearest to 2/255 byte - 1, from any container."""
    images = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    want = (2.0 / 255.0 * np.arange(256.0) - 1.0).astype(np.float32).reshape(4, 64)
    np.save("a.npy", images)
    np.savez("a.npz", labels=np.arange(4), images=images)
    (here / "plain-idx3-ubyte").write_bytes(idx(images, 0x08))
    (here / "zipped-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images, 0x08)))
    for name in ("a.npy", "a.npz", "a.npz:images", "plain-idx3-ubyte", "zipped-idx3-ubyte.gz"):
        rows, shape = _datasets.read_rows(name)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, want)
        assert shape == (8, 8)


@pytest.mark.parametrize(("dtype", "kind"), [("<f4", 0x0D), ("<f8", 0x0E)])
def test_floats_of_an_idx_file_are_native(here, dtype, kind):
    values = np.linspace(-3, 3, 12).astype(dtype).reshape(3, 4)
    (here / "floats.idx").write_bytes(idx(values, kind))
    rows, _ = _datasets.read_rows("floats.idx")
    assert rows.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(rows, values)


def test_pictures_of_a_folder(here):
    """Sorted by name, subfolders too; grey unless one of them has colours."""
    from PIL import Image as image

    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    (here / "pictures" / "b").mkdir(parents=True)
    image.fromarray(grey).save("pictures/a.png")
    image.fromarray(255 - grey).save("pictures/b/a.png")
    (here / "pictures" / "notes.txt").write_text("not a picture")
    rows, shape = _datasets.read_rows("pictures")
    assert shape == (3, 4)
    np.testing.assert_allclose(rows, np.stack([grey, 255 - grey]).reshape(2, 12) * (2 / 255) - 1, atol=1e-6)
    image.fromarray(np.stack([grey, grey, 255 - grey], axis=2)).save("pictures/c.png")
    rows, shape = _datasets.read_rows("pictures")
    assert shape == (3, 4, 3)
    assert rows.shape == (3, 36)
    np.testing.assert_array_equal(rows[0].reshape(3, 4, 3)[:, :, 0], rows[0].reshape(3, 4, 3)[:, :, 2])


def test_fashion_mnist_of_a_folder(here, capsys):
    """Both files, zipped or not; the test set is the hold-out."""
    train, test = np.full((5, 2, 3), 255, np.uint8), np.zeros((2, 2, 3), np.uint8)
    (here / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(train, 0x08)))
    (here / "t10k-images-idx3-ubyte").write_bytes(idx(test, 0x08))
    data = _datasets.load("fashion-mnist", data_dir=".")
    assert data.rows.shape == (5, 6)
    assert (data.rows == 1).all()
    assert data.shape == (2, 3)
    assert (data.holdout == -1).all()
    fails(capsys, ["report", "fashion-mnist", "--data-dir", "none"], "apt install dataset-fashion-mnist", "--data-dir")


def test_digits_are_between_minus_one_and_one():
    from sklearn.datasets import load_digits

    data = _datasets.load("digits", holdout="0")
    np.testing.assert_allclose(data.rows, load_digits().data / 8 - 1, atol=1e-7)
    assert data.shape == (8, 8)
    assert data.holdout is None


def test_hold_out_and_training_rows_are_a_partition(here):
    """A fifth by default, or the share given; numbers say where the rows were, also after --rows."""
    for holdout, size in ((None, 6), ("0.5", 15), ("0", 0)):
        data = _datasets.load("rows.npy", holdout=holdout, seed=4)
        np.testing.assert_array_equal(data.rows, ROWS[data.numbers])
        rest = np.setdiff1d(np.arange(30), data.numbers)
        assert len(rest) == size
        np.testing.assert_array_equal(data.holdout if size else [], ROWS[rest] if size else [])
    few = _datasets.load("rows.npy", limit=7, seed=4)
    assert len(set(few.numbers)) == 7
    np.testing.assert_array_equal(few.rows, ROWS[few.numbers])
    assert len(few.holdout) == 6


NAN = ROWS.copy()
NAN[17, 2] = np.nan
BAD_FILES = {
    "nothing": (lambda p: None, ["there is no", "digits, fashion-mnist"]),
    "text.npy": (lambda p: p.write_text("hello"), ["text.npy", "npy"]),
    "cut.npy": (lambda p: (np.save(p, ROWS), p.write_bytes(p.read_bytes()[:-9])), ["cut.npy", "npy"]),
    "objects.npy": (lambda p: np.save(p, np.array([{}, {}])), ["objects.npy", "npy"]),
    "text.npz": (lambda p: p.write_text("hello"), ["text.npz", "npz"]),
    "cut.npz": (lambda p: (np.savez(p, x=ROWS), p.write_bytes(p.read_bytes()[:300])), ["cut.npz", "npz"]),
    "flipped.npz": (lambda p: (np.savez(p, x=ROWS), p.write_bytes(flip(p.read_bytes()))), ["flipped.npz", "npz"]),
    "rows-in-npz.npz": (lambda p: p.write_bytes(npy_bytes()), ["rows-in-npz.npz", "npz"]),
    "two.npz": (lambda p: np.savez(p, a=ROWS, b=ROWS), ["a, b", "two.npz:NAME"]),
    "text.idx": (lambda p: p.write_text("hello"), ["text.idx", "idx", "four bytes"]),
    "short.idx": (lambda p: p.write_bytes(idx(np.zeros((3, 4), np.uint8), 8, (4, 4))), ["4 x 4", "12"]),
    "long.idx": (lambda p: p.write_bytes(idx(np.zeros((3, 4), np.uint8), 8, (2, 4))), ["2 x 4", "12"]),
    "cut.gz": (lambda p: p.write_bytes(gzip.compress(idx(np.zeros((300, 40), np.uint8), 8))[:-20]), ["cut.gz", "idx"]),
    "no.gz": (lambda p: p.write_bytes(b"\x1f\x8b nothing"), ["no.gz", "idx"]),
    "empty": (lambda p: p.write_bytes(b""), ["empty", "idx"]),
    "ints.npy": (lambda p: np.save(p, np.ones((4, 4), np.int64)), ["int64", "astype(np.float32)"]),
    "complex.npy": (lambda p: np.save(p, np.ones((4, 4), complex)), ["complex128"]),
    "vector.npy": (lambda p: np.save(p, np.ones(4)), ["(N, d)", "(4,)"]),
    "none.npy": (lambda p: np.save(p, np.ones((0, 4))), ["(N, d)", "(0, 4)"]),
    "nan.npy": (lambda p: np.save(p, NAN), ["nan", "row 17", "column 2"]),
    "folder": (lambda p: p.mkdir(), ["no pictures", ".png"]),
}


def flip(raw):
    middle = len(raw) // 3
    return raw[:middle] + bytes([raw[middle] ^ 0x55]) + raw[middle + 1 :]


def npy_bytes():
    import io

    buffer = io.BytesIO()
    np.save(buffer, ROWS)
    return buffer.getvalue()


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(here, capsys, name):
    """Each kind of broken file is named and explained, by every command that reads it, and leaves nothing behind."""
    make, words = BAD_FILES[name]
    make(here / name)
    before = sorted(here.rglob("*"))
    fails(capsys, ["sample", name, "--out", "o.npz"], name, *words)
    fails(capsys, ["report", name], name, *words)
    fails(capsys, ["memorization", name, "rows.npy"], name, *words)
    fails(capsys, ["memorization", "rows.npy", "rows.npy", "--holdout", name], name)
    assert sorted(here.rglob("*")) == before


def test_broken_pictures(here, capsys):
    from PIL import Image as image

    (here / "p").mkdir()
    image.fromarray(np.zeros((3, 4), np.uint8)).save("p/a.png")
    image.fromarray(np.zeros((4, 3), np.uint8)).save("p/b.png")
    fails(capsys, ["report", "p"], "one size", "a.png has 4x3", "b.png has 3x4")
    (here / "p" / "b.png").write_bytes((here / "p" / "a.png").read_bytes()[:40])
    fails(capsys, ["report", "p"], "b.png", "picture")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["COMMAND"]),
        (["paint"], ["paint"]),
        (["report", "rows.npy", "--schedule", "cubic"], ["--schedule", "linear", "cubic"]),
        (["report", "rows.npy", "--backend", "fortran"], ["backend", "reference", "fortran"]),
        (["report", "rows.npy", "--shape", "2x2"], ["--shape", "product of 6", "2x2"]),
        (["report", "rows.npy", "--shape", "wide"], ["--shape", "HEIGHTxWIDTH"]),
        (["report", "rows.npy", "--holdout", "1.5"], ["--holdout", "[0, 1)", "1.5"]),
        (["report", "rows.npy", "--holdout", "narrow.npy"], ["narrow.npy", "rows of 5 numbers", "rows of 6"]),
        (["report", "rows.npy", "--rows", "2"], ["3 training rows"]),
        (["report", "equal.npy"], ["equal"]),
        (["report", "rows.npy", "--out", "rows.npy"], ["--out rows.npy", "file"]),
        (["report", "rows.npy", "--out", "no/where"], ["--out", "no folder"]),
        (["report", "rows.npy", "--threads", "0"], ["--threads", "0"]),
        (["sample", "rows.npy"], ["--out"]),
        (["sample", "rows.npy", "--out", "x.txt"], ["--out", ".npz", "x.txt"]),
        (["sample", "rows.npy", "--out", "x.npz", "--schedule", "sqrt-vp"], ["euler", "infinite"]),
        (["sample", "rows.npy", "--out", "x.npz", "--solver", "magic"], ["--solver", "magic", "heun"]),
        (["sample", "rows.npy", "--out", "folder/x.npz"], ["folder"]),
        (["memorization", "rows.npy", "narrow.npy"], ["rows.npy", "rows of 6 numbers", "rows of 5"]),
        (["memorization", "rows.npy", "rows.npy", "--radius", "-1"], ["radius", "-1"]),
        (["memorization", "rows.npy", "rows.npy", "--backend", "reference"], ["--backend"]),
        (["bench", "--types", "int4"], ["--types", "int4", "uint8"]),
    ],
)  # fmt: skip
def test_bad_arguments(here, capsys, arguments, words):
    np.save("narrow.npy", ROWS[:, :5])
    np.save("equal.npy", np.ones((9, 4)))
    before = sorted(here.rglob("*"))
    fails(capsys, arguments, *words)
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("sklearn.datasets", ["report"]),
        ("matplotlib.figure", ["report", "rows.npy"]),
        ("PIL", ["report", "pictures"]),
        ("jinja2", ["report", "rows.npy"]),
    ],
)
def test_missing_packages_are_named(here, capsys, monkeypatch, module, arguments):
    (here / "pictures").mkdir()
    monkeypatch.setitem(sys.modules, module, None)
    fails(capsys, arguments, "pip install 'interp_fast[report]'")


# Commands


def test_sample(here, capsys):
    """The file holds what the function returns; JSON goes to stdout alone; running again replaces the file."""
    arguments = ["sample", "rows.npy", "--out", "s.npz", "-n", "9", "--steps", "12", "--solver", "heun", "--seed", "5"]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    result = strict(captured.out)
    want = itf.sample(itf.Field(ROWS), itf.heun(itf.Linear(), 12), 9, rng=5)
    with np.load("s.npz") as saved:
        np.testing.assert_array_equal(saved["x"], want.x)
        np.testing.assert_array_equal(saved["index"], want.index)
        np.testing.assert_array_equal(saved["row"], want.index)
        np.testing.assert_array_equal(saved["commit_time"], want.commit_time)
    assert result["index"] == want.index.tolist()
    assert result["stats"]["evaluations"] == 23
    assert (result["out"], result["n"], result["d"]) == ("s.npz", 9, 6)
    assert main([*arguments, "-n", "4"]) == 0
    assert "Written: s.npz" in capsys.readouterr().out
    assert len(np.load("s.npz")["x"]) == 4
    assert sorted(p.name for p in here.iterdir()) == ["rows.npy", "s.npz"]


@pytest.mark.parametrize("solver", _cli._SOLVERS)
def test_every_solver_has_a_name(here, solver):
    assert main(["sample", "rows.npy", "--out", "s.npz", "-n", "3", "--steps", "40", "--solver", solver]) == 0
    with np.load("s.npz") as saved:
        np.testing.assert_allclose(saved["x"], ROWS[saved["row"]], atol=0.2)


def test_rows_of_a_subset_keep_their_numbers(here):
    assert main(["sample", "rows.npy", "--out", "s.npz", "-n", "20", "--rows", "5"]) == 0
    with np.load("s.npz") as saved:
        assert saved["index"].max() < 5
        np.testing.assert_allclose(saved["x"], ROWS[saved["row"]], atol=1e-4)


def test_memorization(here, capsys):
    """The keys are the attributes of the function's result, and so are the values."""
    rng = np.random.default_rng(0)
    samples = np.concatenate([ROWS[:5] + np.float32(1e-3), rng.normal(size=(5, 6)).astype(np.float32)])
    unseen = rng.normal(size=(8, 6)).astype(np.float32)
    np.savez("samples.npz", x=samples)
    np.save("unseen.npy", unseen)
    assert (
        main(["memorization", "samples.npz", "rows.npy", "--holdout", "unseen.npy", "--radius", "0.1", "--json"]) == 0
    )
    result = strict(capsys.readouterr().out)
    want = itf.memorization(samples, ROWS, holdout=unseen, radius=0.1, rng=0).to_dict()
    assert result.keys() == want.keys() | {"range", "made_alike"}
    assert (result["range"], result["made_alike"]) == (None, [])  # these are no pictures
    assert result["index"] == want["index"]
    for name in ("copied", "within", "c_t", "precision", "authenticity"):
        assert result[name] == pytest.approx(want[name])
    assert result["within"] == 0.5
    assert main(["memorization", "samples.npz", "rows.npy"]) == 0
    assert "copied" in capsys.readouterr().out


MODEL = """
import numpy as np
import interp_fast as itf
from helper import rows

oracle = itf.Field(rows)
not_a_function = 3

def exact(x, t):
    return oracle.velocity(x, t)

def nothing(x, t):
    return np.zeros_like(x)

def wrong_shape(x, t):
    return x[:, :2]

def broken(x, t):
    return x + undefined

def ragged(x, t):
    return [[1.0], [2.0, 3.0]]
"""


def test_audit(here, capsys):
    """The exact field memorizes; a model that does nothing does not; both as the function says, key by key."""
    (here / "helper.py").write_text("import numpy as np\nrows = np.load('rows.npy')\n")
    (here / "model.py").write_text(MODEL)
    np.save("unseen.npy", ROWS[:9] + 5)
    options = ["rows.npy", "--steps", "10", "-n", "64", "--times", "0.3,0.6", "--holdout", "unseen.npy", "--json"]
    assert main(["audit", "model.py:exact", *options]) == 0
    got = strict(capsys.readouterr().out)
    oracle = itf.Field(ROWS)
    model, steps = itf.Model(oracle.velocity, itf.Linear()), itf.ddim(itf.Linear(), 10)
    want = itf.audit(model, oracle, [0.3, 0.6], 64, steps=steps, holdout=ROWS[:9] + 5, rng=0).to_dict()
    assert got.keys() == want.keys()
    np.testing.assert_allclose(got["loss"], want["loss"])
    assert got["verdict"] == want["verdict"] == "overfitting"
    assert got["memorizes"] is True
    assert got["holdout_within"] == want["holdout_within"] == 0
    assert got["memorized"] > 0.9
    assert main(["audit", "model.py:nothing", *options]) == 0
    got = strict(capsys.readouterr().out)
    assert (got["verdict"], got["memorizes"]) == ("underfitting", False)
    assert main(["audit", "model.py:nothing", *options[:-1]]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("does not memorize: 0 of 64 samples")
    assert "Of held-out rows 0 %" in shown
    assert main(["audit", "model.py:nothing", "rows.npy", "-n", "8", "--times", "3"]) == 0
    assert capsys.readouterr().out.startswith("undetermined: ")
    fails(capsys, ["audit", "model.py:nothing", "rows.npy", "--times", "soon"], "--times", "soon", "0.3,0.6,0.9")
    fails(capsys, ["audit", "model.py:nothing", "rows.npy", "--times", "0"], "times", "0")
    fails(capsys, ["audit", "model.py:nothing", "rows.npy", "--times", "0.6,0.3"], "times must increase")
    np.save("narrow.npy", ROWS[:, :2])
    fails(capsys, ["audit", "model.py:nothing", "rows.npy", "--holdout", "narrow.npy"], "narrow.npy", "same length")


def test_audit_says_what_is_wrong_with_the_model(here, capsys):
    (here / "helper.py").write_text("import numpy as np\nrows = np.load('rows.npy')\n")
    (here / "model.py").write_text(MODEL)
    (here / "raises.py").write_text("x = 1\nimport no_such_module\n")
    (here / "syntax.py").write_text("def f(:\n")
    (here / "model.txt").write_text(MODEL)
    for model, words in {
        "model.py": ["model.py:fn"],
        "none.py:exact": ["no file none.py"],
        "model.txt:exact": ["model.txt", "end in .py"],
        "model.py:absent": ["model.py", "no function 'absent'"],
        "model.py:not_a_function": ["no function 'not_a_function'"],
        "raises.py:f": ["raises.py in line 2", "no_such_module"],
        "syntax.py:f": ["syntax.py", "SyntaxError"],
        "model.py:wrong_shape": ["the model's output", "(64, 2)"],
        "model.py:ragged": ["the model's output", "could not be read as an array"],
        "model.py:broken": ["model.py in line 19", "NameError", "undefined"],
    }.items():
        fails(capsys, ["audit", model, "rows.npy", "--steps", "5", "-n", "64"], *words)
    assert not [path for path in sys.path if path == str(here)]


def test_a_leaking_model_is_a_warning(here, capsys, monkeypatch):
    """What the library warns of goes to stderr in one line; stdout stays JSON."""
    import warnings

    def leaks(*_, **__):
        warnings.warn("the loss is below its lower limit", UserWarning, stacklevel=1)
        return itf.memorization(ROWS, ROWS)

    monkeypatch.setattr(itf, "audit", leaks)
    (here / "model.py").write_text("def f(x, t):\n    return x\n")
    assert main(["audit", "model.py:f", "rows.npy", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "interp-fast: warning: the loss is below its lower limit\n"
    strict(captured.out)


@pytest.fixture(scope="module")
def known():
    """What was asked of the reference."""
    return {}


@pytest.fixture
def yardstick(monkeypatch, known):
    """What ``check`` holds backends to, the reference on float64 rows, is worked out, and timed, once for all tests."""
    answers, timed = _check._answers, _check._timed

    def once(rows, queries, name, *options):
        if name != "reference" or rows.dtype != np.float64:
            return answers(rows, queries, name, *options)
        key = rows.tobytes()
        if key not in known:
            known[key] = answers(rows, queries, name, *options)
        return known[key]

    def timed_once(name, *options):
        if name != "reference":
            return timed(name, *options)
        if name not in known:
            known[name] = timed(name, *options)
        return known[name]

    monkeypatch.setattr(_check, "_answers", once)
    monkeypatch.setattr(_check, "_timed", timed_once)


@pytest.mark.usefixtures("yardstick")
def test_check(capsys):
    """Every backend that loads here keeps its promises."""
    assert main(["check", "--json"]) == 0
    result = strict(capsys.readouterr().out)
    assert result["ok"] is True
    assert [b["name"] for b in result["backends"]] == itf.backends.available()
    for backend in result["backends"]:
        assert backend.keys() >= {"name", "ok", "isa", "threads", "error", "seconds"}
        assert backend["seconds"] > 0
        for kind in ("float32", "float64"):
            for quantity, error in backend["error"][kind].items():
                assert 0 <= error <= _check._promised(kind, quantity)
    # float32 results are rounded: an error of exactly 0 would mean that nothing was compared.
    assert all(backend["error"]["float32"]["denoiser"] > 0 for backend in result["backends"])


@pytest.mark.usefixtures("yardstick")
@pytest.mark.parametrize("quantity", ["mean", "ess"])
def test_check_sees_a_wrong_backend(capsys, monkeypatch, quantity):
    """A backend that is off by more than the promise fails the check, which says in what."""
    from interp_fast.backends import reference

    right = reference.posterior

    def wrong(x, data, alpha, sigma, **options):
        right(x, data, alpha, sigma, **options)
        if data.rows.dtype == np.float32 and quantity in options["out"]:
            options["out"][quantity] *= 1.01

    monkeypatch.setattr(reference, "posterior", wrong)
    assert main(["check", "--backend", "reference"]) == 1
    out = capsys.readouterr().out
    assert "FAILED" in out
    assert "beyond its promise: float32" in out
    assert "do not use it" in out


@pytest.mark.usefixtures("yardstick")
def test_check_fails_without_the_compiled_backend_that_ought_to_be_there(capsys, monkeypatch):
    answers, single = _check._answers, {}

    def once(rows, queries, name, *options):
        """The three checks differ in what they say of the same answers."""
        key = rows.dtype, name
        if rows.dtype == np.float64:
            return answers(rows, queries, name, *options)
        single[key] = single[key] if key in single else answers(rows, queries, name, *options)
        return single[key]

    monkeypatch.setattr(_check, "_answers", once)
    monkeypatch.setattr(itf.backends, "available", lambda: ["reference"])
    assert main(["check"]) == 0
    capsys.readouterr()
    monkeypatch.setattr(itf.backends, "broken", lambda: "the sources are in use.")
    assert main(["check"]) == 1
    assert capsys.readouterr().out.endswith("agree with the reference.\nFAILED: the sources are in use.\n")
    assert main(["check", "--json"]) == 1
    assert strict(capsys.readouterr().out)["broken"] == "the sources are in use."


def test_check_survives_a_backend_that_raises(capsys, monkeypatch):
    from interp_fast.backends import reference

    def broken(*_, **__):
        msg = "no such instruction"
        raise RuntimeError(msg)

    right = reference.posterior
    calls = iter(range(1000))
    # The two calls of the yardstick succeed.
    monkeypatch.setattr(reference, "run_steps", lambda *a, **k: broken() if next(calls) >= 4 else None)
    assert main(["check", "--backend", "reference", "--json"]) == 1
    result = strict(capsys.readouterr().out)
    assert result["ok"] is False
    assert "no such instruction" in result["backends"][0]["problem"]
    assert reference.posterior is right


def test_interruption_leaves_nothing(here, capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(itf, "sample", interrupt)
    assert main(["sample", "rows.npy", "--out", "s.npz"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [p.name for p in here.iterdir()] == ["rows.npy"]


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["sample", "rows.npy", "--out", "s.npz", "-n", "2"], "euler"),
        (["memorization", "rows.npy", "rows.npy"], "30 samples against 30 rows"),
        (["audit", "model.py:nothing", "rows.npy", "--steps", "3", "-n", "4"], "| audit"),
    ],
)
def test_progress_only_on_a_terminal(here, capsys, monkeypatch, arguments, shown):
    (here / "model.py").write_text("def nothing(x, t):\n    return 0 * x\n")
    assert main([*arguments, "--json"]) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert shown in captured.err
    assert captured.err.endswith("\r")
    strict(captured.out)


def test_module_and_help(here):
    """``python -m interp_fast`` is the command; --help lists the commands, --version the version."""
    run = subprocess.run(
        [sys.executable, "-P", "-m", "interp_fast", "--help"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    for command in ("check", "report", "sample", "audit", "memorization"):
        assert command in run.stdout
    bad = subprocess.run(
        [sys.executable, "-P", "-m", "interp_fast", "report", "x"], capture_output=True, text=True, check=False
    )
    assert bad.returncode == 2
    assert bad.stderr.startswith("interp-fast: error: there is no 'x'")


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"interp_fast {itf.__version__}\n"
