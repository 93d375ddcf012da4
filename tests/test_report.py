"""The report: one self-contained page, strict JSON, samples, and numbers that agree with direct computation."""

from __future__ import annotations

import base64
import io
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from interp_fast import _datasets, _report
from interp_fast._cli import main

KEYS = {
    "data", "optimal_loss", "posterior", "samples", "memorization", "step_study", "certificates", "error_injection",
    "conclusions", "verdict",
}  # fmt: skip
# 40 pictures of 4 x 4 far apart from each other, so that it is known what must come out.
IMAGES = (np.random.default_rng(1).random((40, 4, 4)) * 255).astype(np.uint8)
VALUES = IMAGES.reshape(40, 16) * (2 / 255) - 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report on the pictures, with a third of them held out."""
    folder = tmp_path_factory.mktemp("report")
    np.save(folder / "images.npy", IMAGES)
    arguments = ["report", str(folder / "images.npy"), "--out", str(folder / "out"), "-n", "64", "--steps", "25"]
    assert main([*arguments, "--holdout", "0.3", "--seed", "2"]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def page(made):
    return (made / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results(made):
    def refuse(name):
        raise AssertionError(name)

    return json.loads((made / "report.json").read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def data(made):
    return _datasets.load(str(made.parent / "images.npy"), holdout="0.3", seed=2)


class Reader(HTMLParser):
    """Tags that are open, attributes of all, text."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.tags, self.text = [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        self.tags.append(tag)
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        self.attributes += [(tag, *pair) for pair in attributes]
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def test_files(made):
    assert sorted(p.name for p in made.iterdir()) == ["report.html", "report.json", "samples.npz"]
    assert [p.name for p in made.parent.iterdir() if p.name.startswith(".")] == []


def test_page_needs_nothing_else(page, read):
    """No address, script, style sheet, font or picture from outside the file."""
    assert not re.search(r"https?:|//www|@import|@font-face|<script|<link|<iframe", page)
    for tag, name, value in read.attributes:
        if name in {"src", "href"}:
            assert value.startswith("data:image/png;base64," if tag == "img" else "#"), value
        assert "url(" not in (value or "") or "url(#" in value
    assert read.tags.count("svg") >= 5
    assert {"main", "table", "figure", "figcaption"} <= set(read.tags)
    assert "color-scheme: light dark" in page


def test_charts_take_the_colour_of_the_page(page):
    """Text and axes in black would vanish on a dark page."""
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        assert 'aria-label="' in svg
        assert "currentColor" in svg
        assert "#000000" not in svg
        assert not re.search(r"\bfill: (black|#000)\b", svg)


def test_pictures_are_the_rows(page, data):
    """The first picture of the page is the first training row."""
    from PIL import Image

    encoded = re.search(r'src="data:image/png;base64,([^"]+)"', page).group(1)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))))
    low, high = data.rows.min(), data.rows.max()
    want = (data.rows[0].reshape(4, 4) - low) / (high - low) * 255
    assert np.abs(image - want).max() <= 0.51


def test_keys(results):
    assert results.keys() >= KEYS
    assert isinstance(results["conclusions"], list)
    assert all(isinstance(sentence, str) and sentence.endswith(".") for sentence in results["conclusions"])


def test_data(results, data):
    """Sizes, radius and distances by direct computation."""
    got = results["data"]
    assert (got["N"], got["d"], got["holdout_N"], got["shape"]) == (28, 16, 12, [4, 4])
    rows = VALUES[data.numbers]
    assert got["R"] == pytest.approx(math.sqrt(((rows - rows.mean(0)) ** 2).sum(1).mean()), rel=1e-5)
    apart = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    near = np.sort(apart, axis=1)[:, 1]
    np.testing.assert_allclose(got["nearest_distance"], np.quantile(near, (0.1, 0.5, 0.9)), rtol=1e-5)
    assert got["radius"] == pytest.approx(np.median(near) / 3, rel=1e-5)
    held = VALUES[np.setdiff1d(np.arange(40), data.numbers)]
    nearest = np.linalg.norm(held[:, None] - rows[None], axis=2).min(1)
    np.testing.assert_allclose(got["holdout_nearest_distance"], np.quantile(nearest, (0.1, 0.5, 0.9)), rtol=1e-5)


def test_optimal_loss(results, data):
    """Between 0 and R^2, falling, with the entropy of the row's number as its integral; one value by Monte Carlo."""
    got = results["optimal_loss"]
    ratio, loss, error = (np.array(got[name]) for name in ("sigma_over_alpha", "loss", "stderr"))
    np.testing.assert_allclose(ratio, (1 - np.array(got["times"])) / np.array(got["times"]), rtol=1e-9)
    assert (loss >= 0).all()
    assert (loss <= results["data"]["R"] ** 2 + 4 * error).all()
    assert got["area"] == pytest.approx(math.log(28), abs=0.15)
    k = int(np.argmin(np.abs(ratio - 1.0)))
    rng, rows, t = np.random.default_rng(0), data.rows.astype(float), got["times"][k]
    index = rng.integers(0, 28, 20000)
    x = t * rows[index] + (1 - t) * rng.standard_normal((20000, 16))
    logits = (x @ (t * rows).T - 0.5 * t**2 * (rows**2).sum(1)) / (1 - t) ** 2
    w = np.exp(logits - logits.max(1, keepdims=True))
    squares = ((w @ rows / w.sum(1, keepdims=True) - rows[index]) ** 2).sum(1)
    assert abs(loss[k] - squares.mean()) < 5 * math.hypot(error[k], squares.std() / math.sqrt(20000))


def test_posterior(results):
    """From all rows to one; the entropy crosses a twentieth of log N at the collapse time."""
    got = results["posterior"]
    ess, gap, entropy = (np.array(got[name]) for name in ("ess", "gap", "entropy"))
    assert (np.diff(ess, axis=1) >= 0).all()
    assert ess[0, 1] > 20
    assert ess[-1] == pytest.approx(1, abs=1e-6)
    assert gap[0, 1] < 0.5
    assert (np.diff(gap[-5:, 1]) > 1).all()
    assert got["own_row"][-1] == 1
    before = np.array(got["times"]) < got["collapse_time"]
    assert entropy[before].min() > 0.04 * math.log(28)
    assert entropy[~before].max() < 0.06 * math.log(28)
    assert f"t = {got['collapse_time']:.3f}" in results["verdict"]["posterior collapses at"]


def test_samples(made, results, data):
    """What the file holds is what the numbers are about; rows are numbered as in the source."""
    got = results["samples"]
    names = set(got) - {"left_out"}
    assert names == {"euler", "heun", "euler_maruyama", "ddpm"}
    assert "euler" in got["left_out"]["ddim"]
    with np.load(made / "samples.npz") as saved:
        assert set(saved) == {f"{name}_{what}" for name in names for what in ("x", "index", "row")}
        for name in names:
            x, index, row = (saved[f"{name}_{what}"] for what in ("x", "index", "row"))
            assert x.shape == (len(x), *data.event)
            flat = x.reshape(len(x), -1)
            apart = np.linalg.norm(flat[:, None] - data.rows[None].astype(float), axis=2)
            np.testing.assert_array_equal(index, apart.argmin(1))
            np.testing.assert_allclose(data.rows[index], VALUES[row], atol=1e-6)
            assert got[name]["residual_std"] == pytest.approx(math.sqrt((apart.min(1) ** 2).mean() / 16), abs=1e-7)
            assert got[name]["distinct_rows"] == len(set(index))
            assert got[name]["kind"] == ("ODE" if name in ("euler", "heun") else "SDE")
    assert got["heun"]["stats"]["evaluations"] == 49
    assert got["euler"]["residual_std"] < 1e-6


def test_memorization(results, read):
    """Samples of the exact field are copies and held-out rows are not, and the summary says so in numbers."""
    got = results["memorization"]
    for name in ("euler", "heun", "ddpm"):
        assert got[name]["copied"] == 1
        assert got[name]["within"] == 1
        assert got[name]["c_t"] < -4
    assert got["holdout"]["copied"] == 0
    assert len(got["holdout"]["d1"]) == 12
    sentence = next(s for s in results["conclusions"] if "held-out" in s)
    assert "64 of 64 euler samples" in sentence
    assert "0 of 12 held-out rows" in sentence
    assert sentence in read.text.replace("\u2060", "")


def test_step_study(results):
    """Measured against the closed-form rates: sqrt(h/pi), 0, pi^2 h^2 / 8 |x|, sqrt(h) and 1.2616 h."""
    cases = {(case["solver"], case["schedule"]): case for case in results["step_study"]["cases"]}
    assert len(cases) == 5
    h = np.array(cases["Euler", "Linear()"]["h"])
    size = math.sqrt((VALUES**2).mean())
    want = {
        ("Euler", "LatentBridge(c=1.0)"): (np.sqrt(h / np.pi), 0.1),
        ("Euler", "Trigonometric()"): (np.pi**2 * h**2 / 8 * size, 0.1),
        ("Euler–Maruyama", "LatentBridge(c=1.0)"): (np.sqrt(h), 0.1),
        ("Euler–Maruyama", "Linear()"): (1.2616 * h, 0.1),
    }
    for case, (rate, tolerance) in want.items():
        late = h < 0.03
        np.testing.assert_allclose(np.array(cases[case]["measured"])[late], rate[late], rtol=tolerance)
        np.testing.assert_allclose(np.array(cases[case]["law"])[late], rate[late], rtol=tolerance)
    assert max(cases["Euler", "Linear()"]["measured"][1:]) < 1e-5
    assert max(cases["Euler", "Linear()"]["law"]) == 0


def test_certificates(results, data):
    """What is proved is so: the run ends on the certified row, within the bound, and has settled before."""
    got = results["certificates"]
    valid = np.array(got["valid"])
    assert valid.sum() >= 0.9 * len(valid)
    time, commit, bound, apart = (
        np.array(got[name], float)[valid] for name in ("certified_time", "commit_time", "bound", "distance")
    )
    np.testing.assert_array_equal(np.array(got["index"])[valid], np.array(got["certified_index"])[valid])
    assert (apart <= bound + 1e-6).all()
    assert (time >= commit).all()
    assert any(f"For {valid.sum()} of 32 runs" in sentence for sentence in results["conclusions"])


def test_error_injection(results):
    """With ddim a sample ends as far from its row as the last error is long; the three terms add up."""
    got = results["error_injection"]
    for case in got["cases"]:
        assert case["identity"] < 1e-6
        if case["kind"] == "random, ddim" and case["norm"] < 3 * got["radius"]:  # no other row is as near
            np.testing.assert_allclose(case["distance"], case["norm"], rtol=1e-3, atol=1e-6)
            assert case["estimation"] == pytest.approx(case["norm"])
            assert case["memorized"] == (case["norm"] < got["radius"])
            assert case["noise"] == 0
        if case["kind"] == "random, euler_maruyama":
            assert case["noise"] > 0
    assert {case["kind"] for case in got["cases"]} == {"random, ddim", "smooth, ddim", "random, euler_maruyama"}


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """A folder to work in and a short study of step sizes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(_report.findings, "_COUNTS", (4, 8, 16))
    np.save("rows.npy", np.random.default_rng(0).normal(size=(12, 3)))
    return tmp_path


@pytest.fixture
def undrawn(quick, monkeypatch):
    """A report whose charts are plotted, but not drawn: that takes longest, and what it is read for is not in them."""
    empty = '<svg height="1" width="1"></svg>'
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda _, file, **__: file.write(empty))
    return quick


def run(capsys, *arguments):
    """The report's JSON, from stdout, where nothing else is."""
    assert main(["report", *arguments, "-n", "8", "--steps", "6", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return json.loads(captured.out)


def test_no_pictures_no_hold_out(quick, capsys):
    """Rows that are no pictures; nothing to compare with; the default folder; JSON as in the file."""
    got = run(capsys, "rows.npy", "--holdout", "0")
    assert got == json.loads((quick / "report" / "report.json").read_text())
    assert got["data"]["holdout_N"] == 0
    assert got["data"]["shape"] is None
    assert got["memorization"]["holdout"] is None
    page = (quick / "report" / "report.html").read_text()
    assert "<img" not in page
    assert "no held-out rows" in page


def test_points_in_the_plane(undrawn, capsys):
    np.save("plane.npy", np.random.default_rng(0).normal(size=(9, 2)))
    run(capsys, "plane.npy")
    assert 'aria-label="Samples and training rows"' in (undrawn / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    "schedule",
    [
        "sqrt-vp",
        "encoder-decoder",
        *(
            pytest.param(name, marks=pytest.mark.wide)
            for name in ("trigonometric", "latent-bridge", "vp", "ve-geometric")
        ),
    ],
)
def test_every_schedule(undrawn, capsys, schedule):
    """Samplers that a schedule does not allow are named with the reason, the others run."""
    np.save("far.npy", 30 * np.load("rows.npy"))
    got = run(capsys, "far.npy", "--schedule", schedule)
    ran, left_out = set(got["samples"]) - {"left_out"}, got["samples"]["left_out"]
    assert ran | set(left_out) == {"euler", "heun", "ddim", "euler_maruyama", "ddpm"}
    assert {"ddim", "ddpm"} & ran
    if schedule == "sqrt-vp":
        assert "infinite" in left_out["euler"]
    assert got["samples"]["ddpm"]["residual_std"] < 1e-3


def test_repeated_rows_are_one_point(undrawn, capsys):
    """Every row is there twice: the posterior never settles on one row, but on one point it does."""
    np.save("twice.npy", np.repeat(np.random.default_rng(0).normal(size=(8, 3)), 2, axis=0))
    got = run(capsys, "twice.npy", "--holdout", "0")
    assert got["data"]["duplicates"] == 1
    assert got["posterior"]["ess"][-1][0] >= 2 - 1e-9
    assert 0 < got["posterior"]["collapse_time"] < 1


def test_rows_that_differ_by_rounding(undrawn, capsys):
    """No noise level tells such rows apart; the report says so instead of naming a time."""
    rows = np.random.default_rng(0).normal(size=(6, 3))
    np.save("close.npy", np.concatenate([rows, rows * (1 + 2.0**-50)]))
    got = run(capsys, "close.npy", "--holdout", "0")
    assert got["posterior"]["collapse_time"] is None
    assert got["verdict"]["posterior collapses at"].startswith("never")
    assert any("never settles" in sentence for sentence in got["conclusions"])


def test_data_is_escaped(undrawn, capsys):
    """A name that looks like HTML is text."""
    (undrawn / "<b>&.npy").write_bytes((undrawn / "rows.npy").read_bytes())
    run(capsys, "<b>&.npy")
    page = (undrawn / "report" / "report.html").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;.npy" in page


def test_holdout_of_a_file(undrawn, capsys):
    np.save("unseen.npy", np.random.default_rng(1).normal(size=(7, 3)))
    got = run(capsys, "rows.npy", "--holdout", "unseen.npy")
    assert (got["data"]["N"], got["data"]["holdout_N"], got["data"]["holdout"]) == (12, 7, "unseen.npy")


@pytest.mark.parametrize("error", [ValueError("wrong"), OSError("disk full"), KeyboardInterrupt(), ZeroDivisionError()])
def test_failure_leaves_nothing(undrawn, capsys, monkeypatch, error):
    """Also the files of an earlier report stay as they were."""

    def broken(_):
        raise error

    (undrawn / "report").mkdir()
    (undrawn / "report" / "report.html").write_text("earlier")
    before = {path: path.read_bytes() for path in undrawn.rglob("*") if path.is_file()}
    monkeypatch.setattr(_report, "PARTS", (*_report.PARTS[:2], broken))
    if isinstance(error, ZeroDivisionError):  # a mistake of ours is not reported as the user's
        with pytest.raises(ZeroDivisionError):
            main(["report", "rows.npy", "-n", "8"])
    else:
        assert main(["report", "rows.npy", "-n", "8"]) == (130 if isinstance(error, KeyboardInterrupt) else 2)
        assert capsys.readouterr().out == ""
    assert {path: path.read_bytes() for path in undrawn.rglob("*") if path.is_file()} == before
    assert len(list(undrawn.iterdir())) == 2


def test_other_files_of_the_folder_stay(undrawn, capsys):
    (undrawn / "report").mkdir()
    (undrawn / "report" / "notes.txt").write_text("mine")
    (undrawn / "report" / "report.json").write_text("earlier")
    run(capsys, "rows.npy")
    assert (undrawn / "report" / "notes.txt").read_text() == "mine"
    assert "conclusions" in (undrawn / "report" / "report.json").read_text()


def test_terminal_shows_progress_and_the_verdict(undrawn, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert main(["report", "rows.npy", "-n", "8", "--steps", "6"]) == 0
    captured = capsys.readouterr()
    for word in ("training set", "posterior collapses at", "copied among euler", "Written:"):
        assert word in captured.out
    for word in ("posterior", "samples: heun", "step sizes"):
        assert word in captured.err
