"""Commands on pictures: their samples, the models they judge and the figures they draw keep the shape of the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from interp_fast import _datasets
from interp_fast._cli import main
from interp_fast._pictures import drawable, drawn

COLOURED = np.random.default_rng(5).integers(0, 256, (24, 6, 5, 3)).astype(np.uint8)
FLOATS = (COLOURED / 127.5 - 1).astype("f4")
MODEL = """
def notes(x, t):
    assert x.shape[1:] == (6, 5, 3), x.shape
    return -x
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", FLOATS)
    np.save("first.npy", np.moveaxis(FLOATS, -1, 1))
    return tmp_path


def folder():
    image = pytest.importorskip("PIL.Image")
    Path("pictures").mkdir()
    for k, values in enumerate(COLOURED):
        image.fromarray(values).save(f"pictures/{k:02}.png")
    return "pictures"


def test_samples_of_a_folder_are_pictures(here, capsys):
    assert main(["sample", folder(), "--out", "s.npz", "-n", "4", "--steps", "6"]) == 0
    with np.load("s.npz") as found:
        assert found["x"].shape == (4, 6, 5, 3)
        np.testing.assert_allclose(found["x"], FLOATS[found["row"]], atol=1e-5)
    for name, shape in (("rows.npy", (6, 5, 3)), ("first.npy", (3, 6, 5))):
        assert main(["sample", name, "--out", "s.npz", "-n", "4", "--steps", "6"]) == 0
        with np.load("s.npz") as found:
            assert found["x"].shape == (4, *shape)
    # What one command wrote another reads, whatever its channels.
    capsys.readouterr()
    assert main(["memorization", "s.npz:x", "rows.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["copied"] == 1.0


def test_models_are_shown_pictures(here, capsys):
    (here / "model.py").write_text(MODEL)
    options = ["rows.npy", "-n", "30", "--steps", "4", "--times", "0.5", "--holdout", "0.2"]
    assert main(["audit", "model.py:notes", *options]) == 0
    assert "does not memorize" in capsys.readouterr().out


def test_reports_draw_what_the_shape_says(here, monkeypatch):
    """Channels first, as networks have them; charts, which take longest, are plotted and not drawn."""
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: file.write("<svg></svg>"))
    assert main(["report", "first.npy", "--out", "r", "-n", "4", "--steps", "4"]) == 0
    found = json.loads((here / "r" / "report.json").read_text())
    assert found["data"]["shape"] == [6, 5, 3]
    assert "data:image/png" in (here / "r" / "report.html").read_text()
    with np.load("r/samples.npz") as samples:
        assert samples["euler_x"].shape == (4, 3, 6, 5)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [
        ((36,), (6, 6)), ((35,), None), ((9,), None), ((6, 5), (6, 5)), ((6, 5, 3), (6, 5, 3)), ((3, 6, 5), (6, 5, 3)),
        ((6, 5, 1), (6, 5)), ((1, 6, 5), (6, 5)), ((6, 5, 4), None), ((2, 3, 4, 5), None), ((3, 6, 3), (3, 6, 3)),
        ((1, 6, 3), (1, 6, 3)), ((3, 5, 1), (3, 5)),
    ],
)  # fmt: skip
def test_drawable(layout, shape):
    assert drawable(layout) == shape
    if shape is not None:
        values = np.arange(np.prod(layout))
        picture = drawn(values, layout, shape)
        assert picture.shape == shape
        want = values.reshape(layout)
        np.testing.assert_array_equal(picture, np.moveaxis(want, 0, -1) if layout == (3, 6, 5) else want.reshape(shape))


def test_named_sets():
    """Scikit-learn's digits come flat, and are drawn as pictures all the same."""
    pytest.importorskip("sklearn")
    digits = _datasets.load("digits", limit=40)
    assert (digits.event, digits.layout, digits.shape) == ((64,), (8, 8), (8, 8))
    assert digits.points.shape == (40, 64)
    assert digits.drawn(digits.rows[0]).shape == (8, 8)


def test_options_between_file_names(here, capsys):
    for k in range(3):
        np.save(f"s{k}.npy", FLOATS[:5] + 0.01)
    words = ["s0.npy", "--k", "3", "s1.npy", "--metric", "cosine", "s2.npy", "rows.npy", "--json"]
    assert main(["memorization", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in found["files"]] == ["s0.npy", "s1.npy", "s2.npy"]
    assert found["files"][0]["metric"] == "cosine"
    assert main(["memorization", "--k", "3", "s0.npy", "rows.npy", "--json"]) == 0
    assert main(["memorization", "s0.npy", "--k", "3"]) == 2
    assert "DATA" in capsys.readouterr().err
    assert main(["memorization", "s0.npy", "rows.npy", "--kk", "3"]) == 2
    assert "--kk" in capsys.readouterr().err
    assert main(["memorization", "--help"]) == 0
    assert "SAMPLES [SAMPLES ...] DATA" in capsys.readouterr().out
    assert main(["sample", "rows.npy", "-n", "2"]) == 2
    assert "--out" in capsys.readouterr().err
