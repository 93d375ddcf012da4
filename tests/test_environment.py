"""The machine and the shell around a run: what is set there, what is missing, how many processors there are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import interp_fast as itf
from interp_fast import _processors
from interp_fast.experiments._base import ExperimentResult

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
    plain = python(code, Path(__file__).parent)
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


def system(root, mounts, groups, files):
    """The files of a system below ``root`` that say where this process stands."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("".join(f"{line}\n" for line in mounts))
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in groups))
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{content}\n")


VERSION_2 = "29 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
VERSION_1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
NESTED = "sys/fs/cgroup/user.slice/run.scope"
QUOTA_1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("mounts", "groups", "files", "processors"),
    [
        ([VERSION_2], ["0::/"], {"sys/fs/cgroup/cpu.max": "250000 100000"}, 3),
        ([VERSION_2], ["0::/user.slice/run.scope"], {f"{NESTED}/cpu.max": "200000 100000"}, 2),
        (
            [VERSION_2],
            ["0::/user.slice/run.scope"],
            {f"{NESTED}/cpu.max": "max 100000", "sys/fs/cgroup/user.slice/cpu.max": "50000 100000"},
            1,
        ),
        ([VERSION_2], ["0::/"], {"sys/fs/cgroup/cpu.max": "100000 0"}, 8),
        ([VERSION_2], ["0::/"], {"sys/fs/cgroup/cpu.max": "max 100000"}, 8),
        ([VERSION_2], ["0::/"], {"sys/fs/cgroup/cpu.max": "what"}, 8),
        (
            [VERSION_1],
            ["4:memory:/", "3:cpu,cpuacct:/job/7", "0::/"],
            {f"{QUOTA_1}/job/7/cpu.cfs_quota_us": "-1", f"{QUOTA_1}/job/7/cpu.cfs_period_us": "100000",
             f"{QUOTA_1}/job/cpu.cfs_quota_us": "400000", f"{QUOTA_1}/job/cpu.cfs_period_us": "100000"},
            4,
        ),
        (
            [VERSION_1.replace(" / ", " /docker/a1 ", 1)],
            ["3:cpu,cpuacct:/docker/a1"],
            {f"{QUOTA_1}/cpu.cfs_quota_us": "150000", f"{QUOTA_1}/cpu.cfs_period_us": "100000"},
            2,
        ),
        ([VERSION_1, VERSION_2], ["3:cpu,cpuacct:/", "0::/"], {f"{QUOTA_1}/cpu.cfs_quota_us": "300000",
         f"{QUOTA_1}/cpu.cfs_period_us": "0", "sys/fs/cgroup/cpu.max": "500000 100000"}, 5),
        ([], [], {}, 8),
    ],
    ids=["2", "2-nested", "2-outer", "period-0", "no-limit", "garbage", "1-outer", "1-container", "both", "none"],
)  # fmt: skip
def test_the_quota_is_kept(tmp_path, monkeypatch, mounts, groups, files, processors):
    """That of any control group around the process, of either version, rounded up; nonsense is no quota."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    system(tmp_path, mounts, groups, files)
    assert _processors.usable(tmp_path) == processors


def test_a_system_that_tells_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert _processors.usable(tmp_path) == 8


def test_no_folder_for_compiled_functions(tmp_path):
    """Site-packages that cannot be written and no home: the numba backend compiles and keeps nothing."""
    shutil.copytree(SOURCES / "interp_fast", tmp_path / "interp_fast", ignore=lambda *_: ["__pycache__"])
    for folder in [tmp_path, *tmp_path.rglob("*/")]:
        (folder / "__pycache__").write_text("a file, where a folder would have to be")
    code = "import interp_fast as itf; print(itf.Field([[1.0]], backend='numba').draw(2, 0.5, rng=0)[0].shape)"
    nowhere = {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    run = python(code, tmp_path, **nowhere, PYTHONPATH=str(tmp_path))
    assert (run.returncode, run.stdout, run.stderr) == (0, "(2, 1)\n", "")
