"""Products of bytes: the same integers from every instruction set, and answers that are filtered by tiles.

Tiles need AMX; their twin in plain C++ loads the same bytes from the same places in the same order, and runs anywhere.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading

import numpy as np
import oracle
import pytest
from engines import Engine
from support.kernel import prepare
from test_screen import SCALE, M, clumps, near

import interp_fast as itf
from interp_fast import backends
from interp_fast._check import BackendCheck, Check

_core = pytest.importorskip("interp_fast._core", reason="there is no compiled backend")
X86 = platform.machine() in {"x86_64", "AMD64"}
TILED = [isa for isa in ("amx", "twin") if isa in _core.supported() or (isa == "twin" and "v3" in _core.supported())]


def multiplies(isa):
    """Whether an instruction set multiplies bytes: of AVX-512 only the part that has an instruction for it."""
    with Engine("cpp", isa).forced():
        try:
            _core.integers(np.zeros((1, 4), np.uint8), np.zeros((1, 4), np.int8), np.zeros(1, np.int32))
        except ValueError:
            return False
    return True


MULTIPLY = [isa for isa in (*_core.supported(), *TILED[-1:]) if multiplies(isa)]


@pytest.fixture(params=[Engine("cpp", isa) for isa in TILED], ids=str)
def tiled(request):
    with request.param.forced() as chosen:
        yield chosen


def check_integers(isas, shapes, most, seed):
    rng = np.random.default_rng(seed)
    for number in range(shapes):
        n, m, d = (int(rng.integers(1, high)) for high in (140, 80, 300))
        low, high = [(0, 256), (0, 1), (255, 256), (0, 256)][number % 4]
        rows = rng.integers(low, high, (n, d)).astype(np.uint8)
        queries = rng.integers(-most, most + 1, (m, d)) if number % 3 else rng.choice([-most, most], (m, d))
        offsets = rng.integers(-(1 << 24), 1 << 24, m).astype(np.int32)
        want = offsets + rows.astype(np.int64) @ queries.T
        for isa in isas:
            with Engine("cpp", isa).forced():
                got = _core.integers(rows, queries.astype(np.int8), offsets)
            np.testing.assert_array_equal(got, want, err_msg=f"{isa} {rows.shape} {m}")


def test_the_sets_are_what_they_should_be():
    assert (_core.amx_obstacle() == "") == ("amx" in _core.supported())
    assert _core.supported()[0] == "amx" or "amx" not in _core.supported()
    assert not X86 or "v3" not in _core.supported() or {"v3", "twin"} <= set(MULTIPLY)


def test_same_integers():
    """Bytes that the narrowest of the instructions can hold."""
    check_integers(MULTIPLY, 120, 64, 1)


def test_same_integers_of_all_bytes():
    check_integers(TILED, 60, 127, 2)


@pytest.mark.long
def test_same_integers_of_many_shapes():
    check_integers(MULTIPLY, 1400, 64, 3)
    check_integers(TILED, 600, 127, 4)


@pytest.mark.parametrize("d", [24, 64, 130])
@pytest.mark.parametrize("stored", ["float32", "uint8"])
def test_nearest_rows(tiled, stored, d):
    rows, values = clumps(stored, d)
    x = near(values, 1e-3)
    squared = ((x[:, None].astype(oracle.LONG) - values) ** 2).sum(2)
    data = prepare(backends.get("cpp")[1], rows, scale=SCALE if stored == "uint8" else None)
    for k in (1, 5):
        index, found = np.full((M, k), -7), np.full((M, k), np.nan)
        backends.get("cpp")[1].nearest(x, data, alpha=1.0, out={"index": index, "squared_distance": found}, threads=2)
        want = np.sort(squared, axis=1)[:, :k].astype(float)
        np.testing.assert_allclose(found, want, rtol=1e-11)


@pytest.mark.parametrize("n", [1, 31, 700])
def test_posteriors(tiled, n):
    """Late and sharp, where rows are filtered; also of weight 0, and fewer than a tile has."""
    stored, values = clumps("uint8", 37)
    stored, values = stored[:n], values[:n]
    weights = np.where(np.arange(n) % 5 == 1, 0.0, 1.0)
    field = itf.Field(stored, itf.Linear(), weights=weights, backend="cpp", threads=2)
    assert field.isa == tiled.isa
    for ratio in (0.2, 0.03, 1e-3):
        t = 1 / (1 + ratio)
        x = (t * near(values, ratio)).astype(np.float32)
        ref = oracle.posterior(values, x.astype(float), t, 1 - t, weights)
        post = field.posterior(x, t)
        scale = np.maximum(np.linalg.norm(ref.mean, axis=1), field.R)
        assert np.all(np.linalg.norm(post.mean - ref.mean, axis=1) <= 5e-6 * scale)
        clear = ref.gap > 1e-6
        np.testing.assert_array_equal(post.index[clear], ref.index[clear])
        one = itf.Field(stored, itf.Linear(), weights=weights, backend="cpp", threads=1)
        np.testing.assert_array_equal(one.denoiser(x, t), field.denoiser(x, t))


def answers(isa):
    rows, values = clumps("uint8", 64)
    with Engine("cpp", isa).forced():
        return itf.Field(rows, itf.Linear(), backend="cpp", threads=2).denoiser(0.99 * near(values, 0.01), 0.99)


@pytest.mark.parametrize("isa", TILED)
def test_threads_of_others(isa):
    """A thread that never asked for tiles may call as any other."""
    want, got = answers(isa), []
    for _ in range(2):
        thread = threading.Thread(target=lambda: got.append(answers(isa)))
        thread.start()
        thread.join()
    np.testing.assert_array_equal(got, [want, want])


CHILD = """
import os, sys
import numpy as np
from test_tiles import answers
isa, path = sys.argv[1:]
want = answers(isa)
child = os.fork()
if child == 0:
    np.save(path, answers(isa))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0, "the child died"
assert np.array_equal(np.load(path), want)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("isa", TILED)
def test_after_fork(isa, tmp_path):
    command = [sys.executable, "-c", CHILD, isa, str(tmp_path / "answers.npy")]
    done = subprocess.run(command, cwd=os.path.dirname(__file__), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


REFUSED = """
import numpy as np
from support.refused import refuse_tiles
refuse_tiles()
import interp_fast as itf
from interp_fast import _core
assert "amx" not in _core.supported(), _core.supported()
obstacles = {"the processor has none", "the system does not keep its registers", "the system refuses it"}
assert _core.amx_obstacle() in obstacles
rows = np.random.default_rng(1).integers(0, 256, (256, 64)).astype(np.uint8)
field = itf.Field(rows, itf.Linear(), backend="cpp")
assert field.isa != "amx"
assert np.array_equal(field.posterior(0.999 * (rows[:40] / 127.5 - 1), 0.999).index, np.arange(40))
"""


@pytest.mark.skipif(not (X86 and sys.platform == "linux"), reason="tiles are of x86-64, and filters of Linux")
def test_tiles_that_the_system_refuses():
    done = subprocess.run(
        [sys.executable, "-c", REFUSED], cwd=os.path.dirname(__file__), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_check_says_why(monkeypatch):
    cpp = backends.get("cpp")[1]
    for obstacle in ("", "the processor has none"):
        monkeypatch.setattr(_core, "amx_obstacle", lambda obstacle=obstacle: obstacle)
        assert cpp.unused() is None
    monkeypatch.setattr(_core, "amx_obstacle", lambda: "the system refuses it")
    shown = str(Check((BackendCheck("cpp", True, "v4", 2, unused=cpp.unused()),), {}))
    assert "instruction set v4 (not amx: the system refuses it)" in shown


def test_by_name(tmp_path):
    command = [sys.executable, "-c", "from interp_fast import _core; print(_core.isa())"]
    for isa in ("amx", "v3", "twin"):
        env = os.environ | {"INTERP_FAST_ISA": isa}
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        if isa in (*_core.supported(), *TILED):
            assert done.stdout.strip() == isa
        else:
            assert "INTERP_FAST_ISA must be an instruction set of this processor" in done.stderr
