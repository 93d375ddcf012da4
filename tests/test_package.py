"""The package as a whole: its names, who imports whom, what importing it loads, and which instruction set ran."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import interp_fast as itf
from interp_fast import backends

PACKAGE = Path(itf.__file__).parent
ROOT = Path(__file__).parent.parent
HEAVY = {"numba", "scipy", "matplotlib", "sklearn", "tqdm", "torch", "ml_dtypes", "dask", "distributed"}

# Rooms (files and folders of the package) that are not the library itself: what the commands are made of.
COMMANDS = {
    "__main__",
    "_cli",
    "_cluster",
    "_functions",
    "_options",
    "_shell",
    "_terminal",
    "_jobs",
    "_check",
    "_copies",
    "_report",
    "_bench",
}
SHARED = {"_datasets", "_compare", "_figures", "_text"}  # by commands and experiments
GROUND = {
    "_accuracy", "_arrays", "_processors", "_random", "_results", "_pictures", "_shape", "_stored", "_tensors",
}  # fmt: skip

NAMES = {
    "Linear", "Trigonometric", "SqrtVP", "LatentBridge", "VP", "VEGeometric", "VELinear", "EncoderDecoder", "Custom",
    "Schedule", "Coefficients", "schedule", "Field", "Posterior", "Model", "NoiseKey", "StepTable", "Samples", "sample",
    "grid", "euler", "euler_maruyama", "ddim", "ddpm", "exponential", "heun", "exponential_heun", "multistep",
}  # fmt: skip


@functools.cache
def modules():
    """Dotted name without the package -> file; the package itself is ``__init__``."""
    parts = {path: list(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")}
    return {".".join(p[:-1] if len(p) > 1 and p[-1] == "__init__" else p): path for path, p in parts.items()}


@functools.cache
def imports(name):
    """What a module imports from the package, at its top or inside a function."""
    known = modules()
    folder = known[name].parent.relative_to(PACKAGE).parts
    found = set()
    for node in ast.walk(ast.parse(known[name].read_text())):
        if isinstance(node, ast.ImportFrom):
            module = (node.module or "").split(".") if node.module else []
            if node.level:
                module = [*folder[: len(folder) - node.level + 1], *module]
            elif module[0] == "interp_fast":
                module = module[1:]
            else:
                continue
            for alias in node.names:
                full = ".".join([*module, alias.name])
                found.add(full if full in known or full == "_core" else ".".join(module))
        elif isinstance(node, ast.Import):
            inside = [alias.name for alias in node.names if alias.name.split(".")[0] == "interp_fast"]
            found |= {full.partition(".")[2] or "__init__" for full in inside}
    return found - {"", name}


@functools.cache
def rooms():
    """File or folder -> the others that it imports from, with ``_core``."""
    found = {}
    for name in modules():
        room = name.partition(".")[0]
        found.setdefault(room, set()).update({other.partition(".")[0] for other in imports(name)} - {room})
    return found


def test_no_room_leads_back_to_itself():
    """Neither do modules inside a room; the order found is one in which everything can be understood."""
    TopologicalSorter(rooms()).prepare()
    inside = {name: imports(name) for name in modules()}
    TopologicalSorter(inside).prepare()


def test_backends_see_the_ground_alone():
    assert rooms()["backends"] <= GROUND | {"_core"}
    for name in GROUND:
        assert rooms()[name] <= GROUND


def test_compiled_kernels_have_one_caller():
    """Beside it benchmarks ask them for the limits of the machine."""
    assert {name.partition(".")[0] for name in modules() if "_core" in imports(name)} == {"backends", "_bench"}
    assert {name for name in modules() if "_core" in imports(name) and name.startswith("backends")} == {"backends.cpp"}


def test_the_library_knows_nothing_of_its_commands():
    for room, others in rooms().items():
        if room not in COMMANDS:
            assert not others & COMMANDS, room
            assert room in SHARED | {"experiments"} or not others & SHARED, room
    assert [room for room, others in rooms().items() if "_cli" in others] == ["__main__"]


def test_commands_use_public_names():
    """All but the benchmark, which must not pay for loading what it does not time."""
    for room in COMMANDS - {"_bench"}:
        assert rooms()[room] <= COMMANDS | SHARED | {"__init__", "_accuracy", "_typing", *GROUND}, room


def test_what_a_folder_hides_is_used_inside_it():
    for name in modules():
        for other in imports(name):
            folder, _, module = other.rpartition(".")
            assert not module.startswith("_") or not folder or name.startswith(f"{folder}.") or name == folder, name


def test_a_field_has_one_door():
    """All that is behind it is got by ``oracle_of``."""
    doors = {
        path.name for path in PACKAGE.rglob("*.py") if re.search(r"\b(?!self|cls)\w+\)?\._oracle\b", path.read_text())
    }
    assert doors == {"field.py"}


def test_imports_are_seen():
    """The reader of imports itself."""
    assert imports("backends.cpp") >= {"_core"}
    assert imports("backends.reference") >= {"_random", "_arrays", "backends"}
    assert imports("sampling") >= {"field", "_step_table", "_random"}
    assert imports("theory") >= {"theory._times", "theory._errors"}
    assert imports("theory._times") >= {"theory._cells", "schedules"}


def test_public_names():
    """``__all__`` is complete, without repeats, and every name is there and documented."""
    assert set(itf.__all__) >= NAMES
    assert len(itf.__all__) == len(set(itf.__all__))
    for name in itf.__all__:
        assert getattr(itf, name).__doc__, name
    assert set(dir(itf)) >= NAMES


def fresh(code, *, input=None, **environment):
    """A new process that has run ``code``."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("INTERP_FAST_", "OMP_NUM"))}
    env |= {"PYTHONPATH": str(PACKAGE.parent)} | environment
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, env=env, input=input, capture_output=True, text=True, check=False)


def test_import_is_light():
    """Importing loads NumPy and nothing heavy, nor what has a module of its own until its name is used."""
    later = {f"interp_fast.{name}" for name in ("auditing", "comparing", "gaussians", "metrics", "theory", "training")}
    code = f"import sys, interp_fast; print(sorted(set(sys.modules) & {HEAVY | later!r}))"
    run = fresh(code)
    assert run.stdout.strip() == "[]", run.stdout + run.stderr


@pytest.mark.long
def test_every_module_imports_alone():
    """Each in a child of one process, which has loaded the package, and what others wrote and several of them need."""
    code = """
import importlib, os, sys, traceback, numba, scipy.special, interp_fast
for name in sys.stdin.read().split():
    pid = os.fork()
    if pid == 0:
        try:
            importlib.import_module(f"interp_fast.{name}")
        except BaseException:
            print(name, traceback.format_exc(), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print("done")
"""
    names = {name for name in modules() if name not in {"__main__", "__init__"}}
    if importlib.util.find_spec("torch") is None:
        names = {name for name in names if not name.removeprefix("backends.").startswith("torch")}
    run = fresh(code, input="\n".join(sorted(names)))
    assert run.stdout == "done\n", run.stdout + run.stderr


def test_all_backends_are_here():
    """A wheel without its compiled part, or a broken numba, must not pass by testing less."""
    torch = ["torch"] if importlib.util.find_spec("torch") is not None else []
    assert backends.available() == ["cpp", "numba", "reference", *torch]
    assert itf.Field(np.ones((1, 1))).backend == "cpp"


def test_forced_isa_is_the_one_that_runs(engine):
    """The name in the environment reaches the kernels: ``isa`` is asked of the table that runs, not of the request."""
    if engine.backend != "cpp":
        assert itf.Field(np.ones((1, 1)), backend=engine.backend).isa is None
        return
    code = """
import numpy as np, interp_fast as itf
flow = itf.Field(np.arange(12.0, dtype="f4").reshape(6, 2), backend="cpp")
out = itf.sample(flow, itf.ddim(flow.schedule, 3), 4, rng=1)
print(flow.isa, out.stats["isa"], np.abs(out.x).max() < 100)
"""
    run = fresh(code, INTERP_FAST_ISA=engine.isa)
    assert run.stdout.split() == [engine.isa, engine.isa, "True"], run.stderr


def test_unknown_isa_is_an_error():
    """At first use, by name, with what there is; never a fallback."""
    code = """
import numpy as np, interp_fast as itf
print("imported")
itf.Field(np.ones((1, 1)), backend="cpp").denoiser(np.ones(1), 0.5)
"""
    run = fresh(code, INTERP_FAST_ISA="v9")
    assert run.stdout.strip() == "imported"
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError")
    for word in ("INTERP_FAST_ISA", "v9", "base"):
        assert word in last


@pytest.mark.parametrize(("value", "expected"), [("1", "1"), ("3", "3"), ("0", "ValueError"), ("many", "ValueError")])
def test_threads_from_the_environment(value, expected):
    run = fresh(
        "import numpy as np, interp_fast as itf; print(itf.Field(np.ones((1, 1))).threads)",
        INTERP_FAST_NUM_THREADS=value,
    )
    last = (run.stdout + run.stderr).strip().splitlines()[-1]
    assert last.startswith(expected)
    assert expected.isdecimal() or ("INTERP_FAST_NUM_THREADS" in last and value in last)


@pytest.mark.parametrize(
    ("beside", "words"),
    [
        ("csrc", "backend 'numba' is used, which is slower: the sources in .* no compiled backend; start Python in"),
        ("interp_fast/_core.abi3.so", "backend 'numba' is used, which is slower: the compiled backend does not load"),
        ("nothing", None),
    ],
)
def test_a_compiled_backend_that_ought_to_be_there(tmp_path, beside, words):
    """Sources hide the installed package where Python is started in their folder: "auto" says so, once."""
    shutil.copytree(PACKAGE, tmp_path / "interp_fast", ignore=shutil.ignore_patterns("_core*.so", "__pycache__"))
    if beside.endswith(".so"):
        (tmp_path / beside).write_bytes(b"no library")
    else:
        (tmp_path / beside).mkdir()
    code = """
import numpy as np, interp_fast as itf
print(itf.Field(np.ones((2, 1))).backend, itf.Field(np.ones((2, 1))).backend, itf.backends.broken())
"""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONSAFEPATH"}}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, check=True
    )
    assert run.stdout.startswith("numba numba")
    if words is None:
        assert run.stdout.endswith("None\n")
        assert run.stderr == ""
    else:
        assert len(re.findall(words, run.stderr)) == 1, run.stderr
        assert re.search(words.partition(": ")[2], run.stdout)


@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_fork(backend):
    """A child process after a threaded call works, and gives the same bits (not so with numba: it is documented)."""
    code = f"""
import os, numpy as np, interp_fast as itf
rng = np.random.default_rng(0)
flow = itf.Field(rng.standard_normal((500, 20)), backend="{backend}", threads=2)
x = rng.standard_normal((100, 20))
here = flow.denoiser(x, 0.5)
pid = os.fork()
if pid == 0:
    os._exit(0 if np.array_equal(flow.denoiser(x, 0.5), here) else 3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert fresh(code).stdout.strip() == "0"


def test_kernel_objects_share_no_symbols():
    """A weak symbol compiled for one instruction set could be linked into all: there must be none."""
    tool = shutil.which("nm")
    objects = sorted(ROOT.glob("build/**/csrc/kernels/*.o")) if tool else []
    for path in objects:
        listed = subprocess.run([tool, "-C", str(path)], capture_output=True, text=True, check=True).stdout
        shared = [line for line in listed.splitlines() if line[17:18] in "WuVvw"]
        assert not shared, f"{path.name}: {shared}"
