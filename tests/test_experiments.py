"""Every experiment at small size: what it is meant to show holds, and its files are written."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from interp_fast import experiments
from interp_fast.__main__ import main


def column(result, name, **where):
    return np.array([row[name] for row in result.table if all(row[k] == v for k, v in where.items())])


def test_five_points_are_recovered_in_proportion():
    result = experiments.run("five-points", samples=600)
    assert len(result.table) == 6
    assert result.findings["recovered, at least"] > 0.99
    assert result.findings["total variation to the weights, at most"] < 0.08
    ode, sde = (column(result, "median_commit_time", sampler=s) for s in ("ODE", "SDE"))
    assert (ode < sde).all()  # noise keeps the choice open


def test_step_size_slopes():
    result = experiments.run("step-size", samples=300, counts=(20, 80, 160, 320))
    assert result.findings["slope, linear"] == "exact"
    assert result.findings["slope, trigonometric"] == pytest.approx(2, abs=0.02)
    for name in ("sigma^2 = 1 - t", "sigma^2 = 1 - t^2"):
        assert result.findings[f"slope, {name}"] == pytest.approx(0.5, abs=0.08)
        assert column(result, "ratio", schedule=name, steps=320)[0] == pytest.approx(1, abs=0.1)
    assert 0.2 < result.findings["slope, VP"] < 0.5
    assert result.findings["std / sqrt(h / pi), sigma^2 = 1 - t"] == pytest.approx(1, abs=0.1)


def test_noise_schedules_follow_the_law():
    result = experiments.run("noise-schedules", samples=300, counts=(50, 200))
    assert result.findings["unstable"] == ["c = 0, epsilon = 1/2"]
    assert result.findings["measured / law, least"] > 0.93
    assert result.findings["measured / law, most"] < 1.07
    bridge = column(result, "law", c=1.0, epsilon="1/2")
    np.testing.assert_allclose(bridge, np.sqrt([1 / 50, 1 / 200]), rtol=1e-9)
    assert (column(result, "law", c=0.0, epsilon="0") == 0).all()


def test_planted_errors_are_classified():
    result = experiments.run("error-injection", samples=100)
    limit = result.findings["a third of the distance of neighbours"]
    for row in result.table:
        if row["kind"] == "constant":
            assert row["verdict"] == ("overfitting" if row["level"] < limit else "underfitting")
            if row["level"] < limit:
                assert row["mean_distance"] == pytest.approx(row["level"], rel=1e-3)
        if row["kind"] == "velocity":
            assert row["verdict"] == "overfitting"
            assert row["mean_distance"] == pytest.approx(row["level"] / 80, rel=0.05)
    smooth = [row["verdict"] for row in result.table if row["kind"] == "smooth"]
    assert smooth[:4] == ["overfitting"] * 4
    assert smooth[-1] == "underfitting"


def test_the_oracle_memorizes_whatever_the_size():
    result = experiments.run("memorization", sizes=(30, 300), samples=60, steps=20, queries=32)
    for sampler in ("ODE", "SDE"):
        np.testing.assert_array_equal(column(result, "copied", sampler=sampler), 1.0)
    euler = column(result, "copied", sampler="Euler, sigma^2 = 1 - t")
    assert euler[1] < euler[0]  # the sqrt(h) residue outgrows the shrinking distance between rows
    collapse = column(result, "collapse", sampler="ODE")
    assert collapse[0] < collapse[1]
    assert (column(result, "speciation") < column(result, "collapse")).all()


def test_what_generated_digits_teach():
    result = experiments.run("classification", samples=(200, 800), errors=(0.0, 0.5, 2.0), tests=400)
    real = result.findings["nearest, real rows"]
    assert real > 0.8
    exact = column(result, "generated", classifier="nearest", error=0.0, samples=800)[0]
    assert abs(exact - real) < 0.03  # copies teach what the originals do
    assert column(result, "generated", classifier="nearest", error=2.0).max() < real - 0.1
    assert column(result, "generated", classifier="linear", error=0.5, samples=800)[0] > 0.8


def test_certificates_hold():
    result = experiments.run("certificates", samples=16, steps=20)
    assert result.findings["certificates broken"] == 0
    assert result.findings["of these beyond their certificate"] == 0
    assert (column(result, "runs", run="ddim") == 16).all()
    assert result.findings["certificates given"] > 200


def test_files_and_repeats(tmp_path):
    first = experiments.run("five-points", tmp_path / "new", samples=40, steps=10, paths=3)
    again = experiments.run("five-points", samples=40, steps=10, paths=3, backend="reference")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "five-points.csv", "five-points.json", "five-points.png",
    ]  # fmt: skip
    stored = json.loads((tmp_path / "new" / "five-points.json").read_text())
    assert stored["settings"]["samples"] == 40
    assert stored["table"] == first.to_dict()["table"]
    with (tmp_path / "new" / "five-points.csv").open() as file:
        assert [row["points"] for row in csv.DictReader(file)] == [row["points"] for row in first.table]
    assert (tmp_path / "new" / "five-points.png").stat().st_size > 10_000
    for a, b in zip(first.table, again.table, strict=True):
        assert a["recovered"] == pytest.approx(b["recovered"])
    assert "five-points: the oracle's ODE and SDE" in repr(first)


@pytest.mark.parametrize("name", experiments.NAMES)
def test_every_experiment_draws(name):
    small = {
        "five-points": {"samples": 10, "steps": 5, "paths": 2},
        "step-size": {"samples": 10, "counts": (10, 20)},
        "noise-schedules": {"samples": 10, "counts": (10, 20)},
        "error-injection": {"samples": 20, "steps": 10},
        "memorization": {"sizes": (10, 20), "samples": 10, "steps": 5, "queries": 8},
        "certificates": {"samples": 6, "steps": 8},
        "classification": {"samples": (20,), "errors": (0.0, 1.0), "tests": 50, "steps": 5},
    }[name]
    told = []
    result = experiments.run(name, progress=lambda what, share: told.append(share), **small)
    assert result.plot().axes
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_refused():
    with pytest.raises(ValueError, match="name must be one of five-points"):
        experiments.run("six-points")
    with pytest.raises(TypeError, match="no setting 'sample'"):
        experiments.run("five-points", sample=3)


def test_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(experiments, "run", lambda name, out, **options: _quick(name, out))
    assert main(["experiments", "five-points", "--out", str(tmp_path / "e"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert list(printed) == ["five-points"]
    assert (tmp_path / "e" / "five-points.csv").exists()
    assert main(["experiments", "unknown"]) == 2
    assert "unknown" in capsys.readouterr().err


def _quick(name, out, run=experiments.run):
    return run(name, out, samples=10, steps=5, paths=2)
