"""The examples of the documentation run, and show what they say."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
GALLERY = sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != "audit_a_trained_model.py")


@pytest.mark.parametrize("name", GALLERY)
def test_gallery_runs(name, capsys):
    """What the site shows; each asserts what it says."""
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    plt.close("all")
    assert capsys.readouterr().out


@pytest.mark.long
def test_verdict_on_a_network_moves_as_it_trains(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["audit_a_trained_model.py", "--quick", "--out", str(tmp_path / "audit.png")])
    runpy.run_path(str(EXAMPLES / "audit_a_trained_model.py"), run_name="__main__")
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[0].isdigit()]
    excess, proved, measured, displaced = ([float(line[k]) for line in lines] for k in (2, 4, 5, 6))
    assert [line[-1] for line in (lines[0], lines[-1])] == ["no", "yes"]
    assert excess == sorted(excess, reverse=True)
    assert measured == sorted(measured)
    assert displaced == sorted(displaced, reverse=True)
    assert all(p <= m for p, m in zip(proved, measured, strict=True))
    assert all(m + k >= 0.98 for m, k in zip(measured, displaced, strict=True))
    assert (tmp_path / "audit.png").stat().st_size > 10_000
