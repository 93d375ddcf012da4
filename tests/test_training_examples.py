"""The examples that train networks: shown on the site with the figures they made, and run here for a few updates."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import interp_fast as itf

DOCS = Path(__file__).parent.parent / "docs"
EXAMPLES = sorted(path.stem for path in (DOCS / "networks").glob("*.py") if path.stem != "common")
PAGE = (DOCS / "networks.md").read_text("utf-8")


def test_all_are_shown():
    assert len(EXAMPLES) == 4
    assert set(re.findall(r"literalinclude\} networks/(\w+)\.py", PAGE)) == {*EXAMPLES, "common"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_under_sixty_lines_with_a_figure(name):
    text = (DOCS / "networks" / f"{name}.py").read_text("utf-8")
    assert len(text.splitlines()) < 60
    assert f"python docs/networks/{name}.py" in text
    assert f"](networks/{name}.png)" in PAGE
    assert (DOCS / "networks" / f"{name}.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", EXAMPLES)
def test_they_run(name, tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    if not Path("/usr/share/datasets/fashion-mnist").exists():
        pytest.skip("Fashion-MNIST is not installed: apt install dataset-fashion-mnist")
    paths = {"PYTHONPATH": str(Path(itf.__file__).parent.parent), "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    figure = tmp_path / "figure.png"
    command = [sys.executable, str(DOCS / "networks" / f"{name}.py"), "--updates", "8", "--out", str(figure)]
    run = subprocess.run(command, env=os.environ | paths, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout
    assert figure.stat().st_size > 10_000
    if name == "flow_matching":  # what needs no training: early the linear field is the exact one
        early = run.stdout.splitlines()[1].split()
        assert float(early[2]) > 0.99
