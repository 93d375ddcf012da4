"""``interp-fast bench``: what it compares with, what it believes, what it prints."""

from __future__ import annotations

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax

from interp_fast import _bench, backends
from interp_fast._bench import run
from interp_fast._bench.contestant import Contestant
from interp_fast._bench.machine import bound, bytes_bound
from interp_fast._bench.peers import OURS, PEERS, installed
from interp_fast._bench.problem import Problem, Regime
from interp_fast._cli import main

RATIOS = (19.0, 1e-2)
REGIMES = {
    "field": Regime(12, 300, 16, ("float32", "uint8")),
    "trajectory": Regime(12, 300, 16, ("float32",), steps=4),
}


@pytest.fixture(scope="module")
def result():
    """One cell, one round: to measure the limits of the machine takes half a second each time."""
    return measured({"field": Regime(12, 300, 16, ("uint8",))}, RATIOS[1:])


def measured(regimes, ratios):
    seen = []
    result = run(
        regimes, peers=[backends.available()[0], "numpy"], ratios=ratios, rounds=1, threads=1,
        progress=lambda *at: seen.append(at),
    )  # fmt: skip
    assert [share for _, share in seen] == sorted(share for _, share in seen)
    assert seen[-1][1] == 1.0
    return result


def _truth(data: Problem, x: np.ndarray, t: float) -> np.ndarray:
    rows = data.values(slice(None))
    return softmax(-cdist(x.astype(np.float64), t * rows, "sqeuclidean") / (2 * (1 - t) ** 2), axis=1) @ rows


@pytest.mark.parametrize("ratio", [19.0, 1.0, 1e-2])
def test_truth(ratio):
    data, t = Problem(500, 16, "float64"), 1 / (1 + ratio)
    x = data.queries(10, t)
    np.testing.assert_allclose(data.denoiser(x, t), _truth(data, x, t), rtol=1e-9, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("name", installed())
@pytest.mark.parametrize("ratio", [19.0, 1.0])
def test_every_peer_computes_the_denoiser(name, ratio):
    data, t = Problem(90, 16, "float32"), 1 / (1 + ratio)  # no more rows than FAISS is asked for neighbours
    x = data.queries(70, t)
    np.testing.assert_allclose(PEERS[name].setup(data.rows, 1).denoiser(x, t), _truth(data, x, t), atol=2e-4)


def test_problem_has_near_copies_that_late_posteriors_mix():
    data, t = Problem(1000, 32, "float64"), 1 / (1 + 1e-3)
    x = data.queries(20, t)
    logits = -cdist(x, t * data.rows, "sqeuclidean") / (2 * (1 - t) ** 2)
    runner_up = np.sort(softmax(logits, axis=1), axis=1)[:, -2]
    assert (runner_up[::2] > 1e-3).sum() >= 3
    assert (runner_up[1::2] < 1e-3).any()


def test_errors_are_in_the_units_of_the_noise():
    data, t = Problem(200, 8, "float64"), 0.5
    x = data.queries(4, t)
    truth = data.denoiser(x, t)
    shift = np.full_like(truth, 0.1)
    errors = data.errors({"denoiser": truth + shift}, x, truth, t)
    size = np.maximum(np.linalg.norm((x - t * truth) / (1 - t), axis=1), 1)
    assert errors["noise"] == pytest.approx((0.1 * math.sqrt(8) / size).max())
    exact = data.errors({"denoiser": truth + shift, "noise": (x - t * truth) / (1 - t)}, x, truth, t)
    assert exact["noise"] == 0
    assert exact["denoiser"] == errors["denoiser"] > 0


def test_bound_is_arithmetic_or_memory():
    limits = {"fma_float32": 1e11, "fma_float64": 5e10, "exp_float32": 1e9, "exp_float64": 1e8, "read": 1e10}
    assert bound(limits, Regime(100, 1000, 10), "float32") == pytest.approx(4e6 / 1e11 + 1e5 / 1e9)
    assert bound(limits, Regime(100, 1000, 10, steps=3), "float64") == pytest.approx(3 * (4e6 / 5e10 + 1e5 / 1e8))
    assert bound(limits, Regime(100, 1000, 10), "float32", 1) == pytest.approx(2e6 / 1e11)
    assert bound(limits, Regime(1, 1000, 1000), "uint8") == pytest.approx(1e6 / 1e10)
    assert bytes_bound(limits, Regime(100, 1000, 10)) is None
    limits["dot_int8"] = 4e11
    assert bytes_bound(limits, Regime(100, 1000, 10)) == pytest.approx(2e6 / 4e11)
    assert bytes_bound(limits, Regime(1, 1000, 10, steps=3)) == pytest.approx(3 * 1e4 / 1e10)


@pytest.mark.long
def test_every_cell_is_measured():
    result, ours = measured(REGIMES, RATIOS), backends.available()[0]
    expected = [("field", dtype, ratio) for dtype in ("float32", "uint8") for ratio in RATIOS]
    expected += [("trajectory", "float32", None)]
    assert [(cell["regime"], cell["dtype"], cell["ratio"]) for cell in result.cells] == expected
    for cell in result.cells:
        assert cell["failed"] == {}
        assert set(cell["peers"]) == {ours, "numpy"}
        for entry in cell["peers"].values():
            assert 0 < entry["minimum"] <= entry["median"] < 10
            assert not entry["scaled"]
        assert cell["peers"][ours].get("endpoint", 0.0) < 1e-5
        if ours == "cpp":
            assert cell["bound"] > 0
    assert result.ok


def test_a_broken_promise_is_told(result):
    cells = json.loads(json.dumps(result.cells))
    ours = backends.available()[0]
    cells[0]["peers"][ours]["noise"] = 2e-4
    broken = type(result)(result.machine, cells)
    assert not broken.ok
    assert f"{ours} (NOT AS PROMISED)" in str(broken)
    failed = type(result)(result.machine, [result.cells[0] | {"failed": {ours: "its process ended"}}])
    assert not failed.ok
    assert f"{ours}: failed (its process ended)" in str(failed)


def test_output(result, tmp_path):
    assert json.loads(json.dumps(result.to_dict()))["ok"]
    text = str(result)
    entry = max(result.cells[0]["peers"].values(), key=lambda entry: entry["median"])
    assert f"{1e3 * entry['median']:.3g}" in text
    assert f"{1e3 * entry['minimum']:.3g}" in result.markdown()
    assert "M = 12, N = 300, d = 16, uint8, sigma/alpha = 0.01" in text
    table = result.markdown().splitlines()
    assert table[2].split(" | ")[-1] == "numpy |"
    assert len(table) == 4 + len(result.cells)
    assert len({line.count("|") for line in table[2:]}) == 1
    result.plot(tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 10_000


@pytest.mark.long
def test_command(tmp_path, capsys):
    ours = backends.available()[0]
    command = ["bench", "--quick", "--regime", "one-query", "--types", "uint8", "--peers", "numpy", ours]
    command += ["--ratios", "2", "--threads", "1"]
    assert main([*command, "--json", "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert [(cell["dtype"], cell["ratio"]) for cell in json.loads(printed)["cells"]] == [("uint8", 2.0)]
    assert (tmp_path / "out" / "bench.json").read_text().strip() == printed.strip()
    assert (tmp_path / "out" / "bench.md").read_text().count("\n") == 5
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"bench.json", "bench.txt", "bench.md", "bench.png"}


def test_unknown_regime(capsys):
    assert main(["bench", "--regime", "nonesuch"]) == 2
    assert "--regime must be among images" in capsys.readouterr().err


def test_ratios(result, monkeypatch, capsys):
    """Those that are asked for; else all, and of a quick run the first and the last."""
    asked = []
    with monkeypatch.context() as replaced:
        replaced.setattr(_bench, "run", lambda *_, ratios, **__: asked.append(ratios) or result)
        for options in ([], ["--quick"], ["--ratios", "2", "0.5"]):
            assert main(["bench", *options]) == 0
    assert asked == [_bench.RATIOS, (_bench.RATIOS[0], _bench.RATIOS[-1]), [2.0, 0.5]]
    capsys.readouterr()
    assert main(["bench", "--quick", "--regime", "d2", "--ratios", "0"]) == 2
    assert "ratios must be positive and finite; got 0" in capsys.readouterr().err


if "cpp" in backends.available():
    from interp_fast import _core

    @pytest.mark.parametrize("isa", _core.supported())
    def test_contestants_use_the_instruction_set_in_use_here(isa, tmp_path):
        np.save(tmp_path / "rows.npy", np.zeros((5, 2), np.float32))
        before = _core.isa()
        _core.set_isa(isa)
        contestant = Contestant("cpp", str(tmp_path / "rows.npy"), 1)
        _core.set_isa(before)
        assert contestant.ask("check", np.zeros((3, 2), np.float32), 0.5)["kernels"] == isa
        contestant.stop()


def test_unknown_peer():
    with pytest.raises(ValueError, match="peers must be among those installed.*'nonesuch'"):
        installed(["nonesuch"])


def test_what_goes_wrong_in_a_process_is_said_here(tmp_path):
    with pytest.raises(RuntimeError, match="FileNotFoundError"):
        Contestant("numpy", str(tmp_path / "missing.npy"), 1)
    np.save(tmp_path / "rows.npy", np.zeros((5, 2), np.float32))
    contestant = Contestant("numpy", str(tmp_path / "rows.npy"), 1)
    with pytest.raises(RuntimeError, match="ValueError"):
        contestant.ask("check", np.zeros((3, 4), np.float32), 0.5)
    contestant.stop()


def test_short_calls_are_repeated(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((5, 2), np.float32))
    contestant = Contestant("reference", str(tmp_path / "rows.npy"), 1)
    for call in ("denoiser", "velocity", "posterior"):
        seconds, processors = contestant.ask("repeat", np.zeros((3, 2), np.float32), (call, 0.5))
        assert len(seconds) >= 3
        assert sum(seconds) >= 0.04
        assert min(seconds) > 0
        assert processors > 0
    contestant.stop()


def test_our_backends_come_first():
    assert tuple(PEERS)[: len(OURS)] == OURS


def test_search_for_cliffs(capsys, tmp_path):
    """Every output of every kind, in units that are those of normal rows."""
    script = runpy.run_path(str(Path(__file__).parent.parent / "bench" / "cliffs.py"))
    where = tmp_path / "cells.json"
    arguments = "--rows 400 --queries 9 --kinds normal,copies,decades --types float32,uint8 --ratios 5,0.1 --worst 3"
    cells = script["main"]([*arguments.split(), "--repeats", "1", "--json", str(where)])
    assert len(cells) == (4 + 4 + 2) * 2 * len(script["OUTPUTS"])  # of weights over decades there are no bytes
    assert len(json.loads(where.read_text())) == len(cells)
    assert all(cell.dense > 0 and cell.own > 0 for cell in cells)
    assert all(cell.own == 1 for cell in cells if cell.output == "denoiser")
    printed = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("copies") for line in printed) >= 4
    worst = max(cells, key=lambda cell: cell.dense / script["LIMITS"][cell.output])
    assert printed[-3].startswith(worst.kind)
    with pytest.raises(SystemExit):
        script["main"](["--kinds", "nonesuch"])
    assert "'nonesuch' is none of normal, copies" in capsys.readouterr().err
