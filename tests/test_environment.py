"""The machine and the shell around a run: what is set there, what is missing, how many processors there are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import interp_fast as itf
from interp_fast._experiment import ExperimentResult

SOURCES = Path(itf.__file__).parents[1]
UNUSUAL = "text.usetex: True\nsavefig.bbox: tight\nsavefig.format: pdf\nfigure.dpi: 300\nsvg.fonttype: path\n"


def python(code, cwd, **environment):
    """A new process that runs ``code``."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("INTERP_FAST_", "OMP_NUM", "MPL", "MATPLOTLIB"))}
    env |= {"PYTHONPATH": str(SOURCES)} | environment
    words = [sys.executable, "-P", "-c", code]
    return subprocess.run(words, env=env, cwd=cwd, capture_output=True, text=True, encoding="utf-8", check=False)


def test_charts_are_drawn_whatever_matplotlib_is_told(tmp_path):
    """MPLBACKEND of a notebook that this Python does not have, TeX that is not installed, pictures cut or sized."""
    (tmp_path / "matplotlibrc").write_text(UNUSUAL)
    code = "from interp_fast import _figures; print(_figures.chart(lambda ax: ax.plot([1, 2], label='a'), 'b'))"
    plain = python(code, SOURCES / "tests")
    told = python(code, tmp_path, MPLBACKEND="module://no_such_backend")
    assert (plain.returncode, plain.stderr) == (0, "")
    assert (told.returncode, told.stderr) == (0, "")
    assert "<svg" in plain.stdout
    assert told.stdout == plain.stdout


def test_pictures_are_saved_whatever_matplotlib_is_told(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    result = ExperimentResult("one", "One", {}, 0, [{"a": 1}], {}, lambda figure: figure.subplots().set_title("a"))
    (tmp_path / "rc").write_text(UNUSUAL)
    with matplotlib.rc_context(fname=tmp_path / "rc"):
        result.save(tmp_path)
    from PIL import Image

    with Image.open(tmp_path / "one.png") as image:
        assert image.size == (1080, 540)
