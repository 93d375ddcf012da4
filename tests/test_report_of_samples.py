"""The report about a model's samples: planted copies are found, counted, shown and said, and options mean something."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import fisher_exact, hypergeom

import interp_fast as itf
from interp_fast import _report
from interp_fast._cli import main
from interp_fast._copies import Baseline, compare
from interp_fast._datasets import load
from interp_fast._report.conclusions import how_often, ordinal
from interp_fast._report.evidence import Evidence
from interp_fast._report.judgement import by_chance, judge

ROWS = np.random.default_rng(0).uniform(-1, 1, (60, 4, 4))
ROWS[0, 0, 0], ROWS[0, 0, 1] = -1, 1
EXACT, NEAR, FREE = [7, 7, 21], [3, 40], 20


def samples():
    """Copies of three rows, near copies of two, and rows of the same law."""
    rng = np.random.default_rng(1)
    near = ROWS[NEAR] + 0.02 * rng.standard_normal((2, 4, 4))
    return np.concatenate([ROWS[EXACT], near, rng.uniform(-1, 1, (FREE, 4, 4))])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", ROWS)
    np.save("samples.npy", samples())
    np.save("free.npy", samples()[-FREE:])
    np.save("held.npy", np.random.default_rng(2).uniform(-1, 1, (30, 4, 4)))
    return tmp_path


def run(capsys, *arguments):
    assert main(["report", "rows.npy", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def words(folder):
    page = (folder / "report" / "report.html").read_text("utf-8")
    text = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return page, re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_planted_copies(folder, capsys):
    got = run(capsys, "--samples", "samples.npy", "--holdout", "held.npy")
    assert got == json.loads((folder / "report" / "report.json").read_text("utf-8"))
    assert sorted(path.name for path in (folder / "report").iterdir()) == ["report.html", "report.json"]
    (file,) = got["copying"]["files"]
    x, rows = samples().reshape(-1, 16), ROWS.reshape(-1, 16)
    distance = np.sort(np.linalg.norm(x[:, None] - rows, axis=2), axis=1)
    copies = distance[:, 0] < distance[:, 1] / 3
    assert file["equal"] == 3
    assert file["memorized"] == np.mean(copies) == 5 / 25
    assert got["copying"]["holdout"]["memorized"] == 0
    pairs = got["closest_pairs"]["pairs"]
    assert [pair["row"] for pair in pairs[:4]][:2] == [7, 21]
    assert {pair["row"] for pair in pairs[2:4]} == set(NEAR)
    assert pairs[0]["copies_of_row"] == 2
    assert len({pair["row"] for pair in pairs}) == len(pairs) == 12
    own = np.sort(np.linalg.norm(rows[:, None] - rows, axis=2), axis=1)[:, 1]
    for pair in pairs:
        found = distance[pair["sample"]]
        assert [pair["distance"], pair["second_distance"]] == pytest.approx(found[:2].tolist(), abs=1e-9)
        assert pair["second_row"] == np.argsort(np.linalg.norm(rows - x[pair["sample"]], axis=1))[1]
        assert np.mean(own > pair["distance"]) - 0.03 <= pair["rows_farther"] <= np.mean(own > pair["distance"]) + 1e-12
    page, text = words(folder)
    assert page.count('alt="nearest row"') == page.count('alt="second nearest row"') == 12
    assert "Yes, the samples hold copies of training rows: 5 of 25 are copies, 20 %" in text
    assert "by the same rule 0 of 30 held-out rows, which the model has not seen, are" in text
    assert "3 of the samples are equal, number for number, each to a training row; " in text
    assert f"no two training rows are nearer to each other than {own.min():.3g}." in text
    assert f"that are not equal, is sample {pairs[2]['sample']} and training row {pairs[2]['row']}" in text
    assert "All training rows are farther than this pair from any other training row." in text
    assert got["verdict"]["does the model copy?"] == "yes"
    assert "What the words mean" in text


def test_no_copies_no_holdout_and_no_pictures(folder, capsys):
    np.save("rows.npy", ROWS[:, :, 0])
    np.save("free.npy", samples()[-FREE:, :, 0] + 5)
    got = run(capsys, "--samples", "free.npy", "--range", "-1,6", "--k", "0")
    page, text = words(folder)
    assert "<img" not in page
    assert "No copying is shown in the samples: 0 of 20 are copies, 0 % (0–16.8). At most" in text
    assert got["copying"]["holdout"] is None
    assert all(pair["rows_farther"] is None for pair in got["closest_pairs"]["pairs"])
    assert not any("reach" in sentence for sentence in got["conclusions"])


def test_equal_rows_are_never_chance(folder, capsys):
    np.save("one.npy", np.concatenate([ROWS[:1], samples()[-FREE:]]))
    said = run(capsys, "--samples", "one.npy", "--holdout", "held.npy")["conclusions"][0]
    assert (
        "Yes, the samples hold copies of training rows: 1 of 21 is equal, number for number, to a training row; so are "
        "0 of" in said
    )


def test_equal_rows_without_held_out_rows(folder, capsys):
    """They are copies, unless rows of this kind are equal to each other; near ones may be chance."""
    np.save("one.npy", np.concatenate([ROWS[:1], samples()[-FREE:]]))
    assert run(capsys, "--samples", "one.npy")["conclusions"][:2] == [
        "Yes, the samples hold copies of training rows: 1 of 21 is equal, number for number, to a training row. By the "
        "rule 1 of 21 is a copy, 4.76 % (0.12–23.8).",
        "How many unseen items would look copied by chance only held-out rows can tell (--holdout).",
    ]
    np.save("rows.npy", np.concatenate([ROWS[:0:-1], ROWS[1:2], ROWS[:1]]))
    got = run(capsys, "--samples", "one.npy")
    assert got["conclusions"][0].startswith("Not settled for the samples: 1 of 21 is a copy")
    assert "a training row; so are 2 of 61 training rows to another, 3.28 %." in got["conclusions"][3]
    assert got["verdict"]["does the model copy?"].startswith("open")
    np.save("rows.npy", ROWS)
    np.save("near.npy", samples()[len(EXACT) :])
    assert run(capsys, "--samples", "near.npy")["conclusions"][0].startswith("Not settled for the samples: 2 of 22 are")


def test_held_out_rows_that_copy_more_than_the_samples_leave_equality(folder, capsys):
    """A sample that is a training row, and more near copies among held-out rows: it is not what the rule counts."""
    rng = np.random.default_rng(4)
    np.save("one.npy", np.concatenate([ROWS[:1], samples()[-FREE:]]))
    held = rng.uniform(-1, 1, (30, 4, 4))
    held[:12] = ROWS[20:32] + 0.02 * rng.standard_normal((12, 4, 4))
    np.save("held.npy", held)
    said = run(capsys, "--samples", "one.npy", "--holdout", "held.npy")["conclusions"][0]
    assert said.startswith("Yes, the samples hold copies of training rows: 1 of 21 is equal, number for number, to a")
    assert "Chance does not explain" not in said
    assert "12 of 30 held-out rows, which the model has not seen, are" in said


def test_one_pair_of_equal_rows_excuses_no_copies(folder, capsys):
    """Their share is what equality by nature is: 2 of 61 rows do not explain 12 of 32 samples."""
    np.save("rows.npy", np.concatenate([ROWS, ROWS[-1:]]))
    np.save("many.npy", np.concatenate([ROWS[:12], samples()[-FREE:]]))
    got = run(capsys, "--samples", "many.npy")
    assert got["verdict"]["does the model copy?"] == "yes"
    assert got["conclusions"][0].startswith("Yes, the samples hold copies of training rows: 12 of 32 are equal")
    assert any("so are 2 of 61 training rows to another, 3.28 %" in sentence for sentence in got["conclusions"])
    np.save("held.npy", np.concatenate([ROWS[:1], np.random.default_rng(2).uniform(-1, 1, (29, 4, 4))]))
    assert run(capsys, "--samples", "many.npy", "--holdout", "held.npy")["verdict"]["does the model copy?"] == "yes"
    np.save("rows.npy", np.concatenate([ROWS, ROWS[-20:]]))  # 40 of 80
    assert run(capsys, "--samples", "many.npy")["verdict"]["does the model copy?"].startswith("open")


def test_held_out_rows_that_are_training_rows_acquit_nobody(folder, capsys):
    np.save("many.npy", np.concatenate([ROWS[:12], samples()[-FREE:]]))
    np.save("held.npy", ROWS[20:50])
    got = run(capsys, "--samples", "many.npy", "--holdout", "held.npy")
    assert got["verdict"]["does the model copy?"] == "open, not settled: held-out rows that are training rows"
    assert got["conclusions"][0].startswith("Not settled for the samples: 12 of 32 are copies")
    assert (
        "30 of 30 held-out rows, 30 of which are equal, number for number, each to a training row"
        in (got["conclusions"][0])
    )
    assert "has not seen" not in got["conclusions"][0]
    assert "Take held-out rows that are no training rows" in got["conclusions"][-1]
    assert "Compare with items" not in got["conclusions"][-1]
    assert not any("comes without copying" in said for said in got["conclusions"])
    # Where training rows are equal to each other, held-out rows may be, too.
    np.save("rows.npy", np.concatenate([ROWS, ROWS]))
    got = run(capsys, "--samples", "many.npy", "--holdout", "held.npy", "--radius", "0.1")
    assert got["verdict"]["does the model copy?"].startswith("not shown: no more copies than by chance")


def test_near_copies_of_rows_that_occur_twice(folder, capsys):
    """Their ratio is 1: the rule does not count them, and the report does not overlook them."""
    rng = np.random.default_rng(5)
    for kind in (np.float64, np.float32):
        rows = np.concatenate([ROWS, ROWS[:6], ROWS[:2]]).astype(kind)
        x = np.concatenate([ROWS[:6] + 0.01 * rng.standard_normal((6, 4, 4)), samples()[-FREE:]]).astype(kind)
        np.save("rows.npy", rows)
        np.save("twice.npy", x)
        for more in ((), ("--holdout", "held.npy"), ("--k", "0")):
            got = run(capsys, "--samples", "twice.npy", *more)
            assert got["copying"]["files"][0]["memorized"] == 0
            assert "near copies of rows that have equal ones" in got["verdict"]["does the model copy?"]
            assert got["conclusions"][0].startswith("Not settled for the samples: 0 of 26 are copies")
            assert any("6 of the samples would be copies, were the rows" in said for said in got["conclusions"])
            assert "With --radius" in got["conclusions"][-1]
            pairs = got["closest_pairs"]["pairs"]
            assert {pair["sample"] for pair in pairs[:6]} == set(range(6))
            assert [pair["row_repeats"] for pair in pairs] == 6 * [True] + 6 * [False]
            for pair in pairs[:6]:
                apart = np.linalg.norm((rows - x[pair["sample"]]).reshape(68, 16).astype(np.float64), axis=1)
                differing = np.sort(apart[np.abs(apart - apart.min()) > 1e-3])[0]
                assert pair["second_distance"] == pytest.approx(differing, rel=1e-5)
                assert apart[pair["second_row"]] == pytest.approx(differing, rel=1e-5)
        got = run(capsys, "--samples", "twice.npy", "--holdout", "held.npy", "--radius", "0.1")
        assert got["verdict"]["does the model copy?"] == "yes"
    got = run(capsys, "--samples", "free.npy", "--holdout", "held.npy")
    assert got["verdict"]["does the model copy?"] == "not shown: no copies among these"
    assert any("8 of 68 training rows" in said or "14 of 68 training rows" in said for said in got["conclusions"])
    assert any("none of the samples would be copies" in said for said in got["conclusions"])
    np.save("rows.npy", np.tile(ROWS[:1], (7, 1, 1)))  # all equal
    np.save("near.npy", ROWS[:1] + 0.01 * rng.standard_normal((3, 4, 4)))
    assert run(capsys, "--samples", "near.npy")["verdict"]["does the model copy?"].startswith("open")


def test_one_held_out_row_shows_nothing(folder, capsys):
    """Where training rows were not compared, an equal sample is beside held-out rows alone."""
    np.save("one.npy", np.concatenate([ROWS[:1], samples()[-FREE:]]))
    np.save("held.npy", np.load("held.npy")[:1])
    got = run(capsys, "--samples", "one.npy", "--holdout", "held.npy", "--k", "0")
    assert got["verdict"]["does the model copy?"].startswith("open, not settled: samples equal to a row, and nobody")
    assert "With --k 5" in got["conclusions"][-1]
    assert "With --k 5" in run(capsys, "--samples", "one.npy", "--k", "0")["conclusions"][-1]
    np.save("many.npy", ROWS[:30])
    np.save("held.npy", np.random.default_rng(2).uniform(-1, 1, (30, 4, 4)))
    got = run(capsys, "--samples", "many.npy", "--holdout", "held.npy", "--k", "0")
    assert got["verdict"]["does the model copy?"] == "yes"


def test_a_row_has_one_pair_over_all_files(folder, capsys):
    free = samples()[-FREE:]
    for i in range(3):
        np.save(f"file{i}.npy", free + 0.001 * i)
    pairs = run(capsys, "--samples", "file0.npy", "file1.npy", "file2.npy")["closest_pairs"]["pairs"]
    x, rows = free.reshape(-1, 16), ROWS.reshape(-1, 16)
    distances = [np.linalg.norm((x + 0.001 * i)[:, None] - rows, axis=2) for i in range(3)]
    ratios = {}
    for d in distances:
        for sample in d:
            first, second = np.sort(sample)[:2]
            row = int(sample.argmin())
            ratios[row] = min(ratios.get(row, 1), first / second)
    best = sorted(ratios.items(), key=lambda item: item[1])[:12]
    assert [pair["row"] for pair in pairs] == [row for row, _ in best]
    assert [pair["ratio"] for pair in pairs] == pytest.approx([ratio for _, ratio in best], rel=1e-6)


def test_words_for_distances_that_are_no_equality_and_for_one_sample(folder, capsys):
    np.save("many.npy", np.concatenate([2 * ROWS[:3], samples()[-FREE:]]))
    run(capsys, "--samples", "many.npy", "--metric", "cosine")
    text = words(folder)[1]
    assert "3 of 23 are at distance 0, each from a training row" in text
    assert "The closest pair, of those not at distance 0, is" in text
    assert "equal to a row" not in text
    assert "how many at distance 0 copies" in text
    np.save("one.npy", samples()[:1])
    run(capsys, "--samples", "one.npy")
    assert "1 item that a model made" in words(folder)[1]


def test_the_doubt_of_many_files_is_said(folder, capsys):
    np.save("other.npy", samples())
    said = run(capsys, "--samples", "free.npy", "other.npy", "--holdout", "held.npy")["conclusions"]
    assert sum("Among 2 files, the number of copies counts as more than chance" in one for one in said) == 1
    assert any("less than once in 80 such comparisons: the doubt of 1 in 40" in one for one in said)
    said = run(capsys, "--samples", "other.npy", "--holdout", "held.npy")["conclusions"]
    assert "at least so many copies among the samples would come up" in said[0]
    assert not any("Among" in one for one in said)


@pytest.mark.parametrize("option", ["--ratio", "--radius"])
@pytest.mark.parametrize("value", ["0", "nan", "inf", "-1", "x"])
def test_rules_that_count_nothing(folder, capsys, option, value):
    assert main(["report", "rows.npy", "--samples", "free.npy", f"{option}={value}"]) == 2
    said = capsys.readouterr().err
    assert f"'{value}' is not a number above 0" in said
    assert len(said.strip().splitlines()) == 1


def test_held_out_rows_have_progress(folder, monkeypatch):
    told = []
    data = load("rows.npy", holdout="0")
    compare(
        ["free.npy"], data, holdout="held.npy", features=None, value_range=None, pairs=3, k=5, rng=0,
        progress=lambda what, part: told.append((what, part)),
    )  # fmt: skip
    shares = [part for what, part in told if what == "30 held-out rows against 60 rows"]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_each_file_is_judged_once(folder, capsys, monkeypatch):
    tests = []
    monkeypatch.setattr(hypergeom, "sf", lambda *table: tests.append(table) or 0.5)
    np.save("near.npy", samples()[len(EXACT) :])
    run(capsys, "--samples", "near.npy", "free.npy", "--holdout", "held.npy")
    assert len(tests) == 2


def test_copies_that_were_changed_are_among_the_pairs(folder, capsys):
    """Twenty equal ones do not hide them."""
    near = ROWS[40:43] + 0.02 * np.random.default_rng(3).standard_normal((3, 4, 4))
    np.save("many.npy", np.concatenate([ROWS[:20], near, samples()[-FREE:]]))
    pairs = run(capsys, "--samples", "many.npy")["closest_pairs"]["pairs"]
    assert [pair["distance"] == 0 for pair in pairs] == 6 * [True] + 6 * [False]
    assert {pair["row"] for pair in pairs[6:9]} == {40, 41, 42}
    np.save("many.npy", np.concatenate([ROWS[:20], near]))
    pairs = run(capsys, "--samples", "many.npy")["closest_pairs"]["pairs"]
    assert [pair["distance"] == 0 for pair in pairs] == 9 * [True] + 3 * [False]


def test_rows_farther_is_never_too_much():
    """Against all distances, at distances between any two of them."""
    for n in (2, 3, 7, 60, 101, 350):
        rows = np.random.default_rng(n).normal(size=(n, 3))
        own = np.sort(np.linalg.norm(rows[:, None] - rows, axis=2), axis=1)[:, 1]
        found = [SimpleNamespace(result=itf.memorization(rows, rows))]
        e = Evidence(SimpleNamespace(rows=rows), found, Baseline(n, 0, None), None, None, (), 5)
        at = np.sort(own)
        for distance in np.concatenate([[0], (at[1:] + at[:-1]) / 2, at * (1 + 1e-9), at * (1 - 1e-9)]):
            most, least = (np.mean(own > distance * (1 + rounding)) for rounding in (-1e-12, 1e-12))
            assert least - 0.01 - 1 / n <= e.farther(distance) <= most + 1e-12


def test_chance_is_fishers_test():
    for table in ([5, 20, 0, 30], [3, 97, 2, 50], [0, 10, 4, 6]):
        mine = by_chance(table[0], sum(table[:2]), table[2], sum(table[2:]))
        assert mine == pytest.approx(fisher_exact(np.reshape(table, (2, 2)), "greater").pvalue, rel=1e-9)


def test_doubt_is_that_of_all_files_together():
    """8 of 40 beside 1 of 40 are too many for one file, not for the worse one of two."""

    def result(copies):
        kinds = np.where(np.arange(40) < copies, "memorized", "novel")
        return SimpleNamespace(classes=kinds, d1=np.ones(40))

    def answer(copies, files):
        return judge(SimpleNamespace(result=result(copies), veiled=0), Baseline(60, 0, result(1)), files).answer

    assert 0.025 / 2 < fisher_exact([[8, 32], [1, 39]], "greater").pvalue < 0.025
    assert [answer(8, files) for files in (1, 2)] == ["yes", "chance"]
    assert [answer(copies, 1) for copies in (7, 0)] == ["chance", "none"]


def test_verdict_beside_held_out_rows(folder, capsys):
    none = run(capsys, "--samples", "free.npy", "--holdout", "held.npy")["conclusions"][0]
    assert none.startswith("No copying is shown in the samples: 0 of 20 are copies")
    assert "At most 16.8 % of all that the model would make are copies by this rule" in none  # 1 - 0.025^(1/20)
    few = run(capsys, "--samples", "free.npy", "--holdout", "held.npy", "--radius", "1.9")["conclusions"]
    assert "no more than chance explains" in few[0]
    assert few[1].startswith("A copy is a sample within a distance of 1.9 of a training row.")


def test_many_files(folder, capsys):
    np.save("free.npy", np.random.default_rng(8).uniform(-1, 1, (FREE, 4, 4)))
    got = run(capsys, "--samples", "samples.npy", "free.npy")
    assert list(got["verdict"]) == [
        *("does the model copy? samples.npy", "copies among samples.npy"),
        *("does the model copy? free.npy", "copies among free.npy"),
    ]
    assert {pair["file"] for pair in got["closest_pairs"]["pairs"]} == {"samples.npy", "free.npy"}
    assert "No copying is shown in the samples of free.npy: 0 of 20" in words(folder)[1]


def test_checkpoints_come_in_order(folder, capsys):
    """By the numbers in their names, with a picture of the share over these; one file has no such picture."""
    np.save("made-200.npy", samples())
    np.save("made-30.npy", samples()[-FREE:])
    got = run(capsys, "--samples", "made-200.npy", "made-30.npy", "--holdout", "held.npy")
    assert [file["file"] for file in got["copying"]["files"]] == ["made-30.npy", "made-200.npy"]
    page, text = words(folder)
    assert 'aria-label="Share of copies in each file"' in page
    assert re.search(r"made-30.npy not shown 0 % .* made-200.npy yes 20 %", text)
    assert "copied by chance only held-out" not in text
    run(capsys, "--samples", "made-200.npy")
    page, text = words(folder)
    assert "Share of copies in each file" not in page
    assert "How many unseen items would look copied by chance only held-out rows can tell (--holdout)." in text


def test_some_of_the_rows(folder, capsys):
    """Rows have the numbers of their file, and the page says that the others were not looked at."""
    got = run(capsys, "--samples", "samples.npy", "--rows", "50")
    (file,) = got["copying"]["files"]
    for pair in got["closest_pairs"]["pairs"]:
        assert file["index"][pair["sample"]] == pair["row"]
    assert (
        "25 items that a model made, its samples, compared with 50 of 60 rows, drawn at random, of" in words(folder)[1]
    )
    assert "rows.npy, 50 of 60 rows, drawn at random; 16 numbers each" in words(folder)[1]
    said = run(capsys, "--samples", "free.npy", "--rows", "50")["conclusions"][0]
    assert (
        "by this rule of 50 of 60 rows, drawn at random (97.5 % confidence); copies of the other rows are missed"
        in said
    )


def test_numbers_in_names_that_no_axis_tells_apart(folder, capsys):
    names = ["m-20261130112754123456.npy", "m-20261130112754123457.npy"]
    for name in names:
        np.save(name, samples())
    assert [file["file"] for file in run(capsys, "--samples", *names)["copying"]["files"]] == names
    assert "files, in the order given" in words(folder)[0]


def test_odds_in_words():
    said = [how_often(chance) for chance in (1e-9, 2.04e-5, 0.0123, 0.31)]
    assert said[0] == "less than once in a million such comparisons"
    assert said[1:3] == ["once in 49\u202f000 such comparisons", "once in 81 such comparisons"]
    assert said[3] == "in 31 % of such comparisons"


def test_features(folder, capsys):
    """Mirrored copies are none, until the features do not see the mirror."""
    (folder / "both.py").write_text(
        "import numpy as np\ndef sides(x):\n    return (x + x[..., ::-1]).reshape(len(x), -1)\n"
    )
    np.save("mirrored.npy", np.concatenate([ROWS[:10, :, ::-1], samples()[-5:]]))
    shares = [
        run(capsys, "--samples", "mirrored.npy", *more)["copying"]["files"][0]["memorized"]
        for more in ((), ("--features", "both.py:sides"))
    ]
    assert shares == [0, 10 / 15]
    assert "after both.py:sides has turned each into a list of features" in words(folder)[1]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--samples", "free.npy"], "needs the training set"),
        (
            ["rows.npy", "--samples", "3", "free.npy"],
            "--samples must be one number, or files of samples; got 3 free.npy",
        ),
        (["rows.npy", "--samples", "free.npy", "--steps", "9"], "--steps belongs to a report about a training set"),
        (["rows.npy", "--metric", "cosine"], "--metric belongs to a report about --samples FILE"),
        (["rows.npy", "--samples", "1"], "1' is not an integer of at least 2"),
        (["rows.npy", "--samples", "nowhere.npy"], "nowhere.npy"),
        (["one.npy", "--samples", "free.npy"], "at least 2 training rows; got 1"),
    ],
)
def test_bad_input_is_one_sentence(folder, capsys, arguments, sentence):
    np.save("one.npy", ROWS[:1])
    assert main(["report", *arguments]) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert not (folder / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], ("digits", 128)),
        (["-n", "9"], ("digits", 9)),
        (["rows.npy", "--samples", "9"], ("rows.npy", 9)),
        (["-n", "9", "rows.npy"], ("rows.npy", 9)),
    ],
)
def test_a_number_of_samples_asks_for_the_other_report(folder, monkeypatch, arguments, wanted):
    class Reached(Exception):
        pass

    def study(data, schedule, *, n, **_):
        raise Reached(data.name, n)

    monkeypatch.setattr(_report, "study", study)
    with pytest.raises(Reached) as caught:
        main(["report", *arguments])
    assert caught.value.args == wanted


def test_numbers_of_the_nearest_rows_in_words():
    said = [ordinal(k) for k in (1, 5, 6, 11, 13, 21, 22, 33, 112)]
    assert said == ["nearest", "fifth", "6th", "11th", "13th", "21st", "22nd", "33rd", "112th"]
