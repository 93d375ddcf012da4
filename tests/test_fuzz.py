"""A short run of the fuzzer with fixed seeds, and the fuzzer itself: what it must notice."""

from __future__ import annotations

import argparse
import re
import textwrap

import fuzz
import fuzz_cases
import fuzz_kinds
import fuzz_views
import numpy as np
import pytest
from engines import Engine

from interp_fast._training_set import TrainingSet

CASES, CHUNKS = 80, 4
WRONG = {"mean", "log_norm", "index", "entropy", "jvp", "scatter", "top_weight", "dropped"}


def findings(engine, seeds):
    found = []
    for seed in seeds:
        case = fuzz_cases.Case.draw(seed, fuzz_kinds.SHARES, small=True)
        found += [f"case {seed} ({case.kind}): {line}\n    {case}" for line in fuzz_kinds.run(case, [engine]).found]
    return found


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_problems(engine, chunk):
    """One of them alone: python tests/fuzz.py --small --backends cpp --case SEED."""
    found = findings(engine, range(chunk, CASES, CHUNKS))
    assert not found, "\n".join(found)


def test_wrong_outputs_are_noticed(monkeypatch):
    """All off by a little in one query of some: every output that is asked for has its judge."""
    right, unnoticed = TrainingSet.posterior, set(WRONG)

    def wrong(self, x, alpha, sigma, cut, out, u=None):
        right(self, x, alpha, sigma, cut, out, u)
        for output in WRONG & out.keys():
            if out[output].size:
                out[output].flat[-1] = {"index": 0, "dropped": 2e-3}.get(output, 1.1 * out[output].flat[-1] + 1e-3)

    monkeypatch.setattr(TrainingSet, "posterior", wrong)
    for seed in range(30):
        lines = findings(Engine("reference"), [seed])
        unnoticed -= {m[2] for line in lines if (m := re.search(r"reference: (posterior\.)?(\w+): error", line))}
        if not unnoticed:
            break
    assert not unnoticed


def test_views_of_other_rows_are_noticed(monkeypatch):
    """All that see every row: each view has its judge."""
    for name in ("given", "guided", "tempered", "without"):
        monkeypatch.setattr(fuzz_views.itf.Field, name, lambda self, *rows: self)
    monkeypatch.setattr(fuzz_views.itf, "merge", lambda parts: parts[0])
    field = fuzz_cases.Case.field

    def plain(self, *args, orbit=None, **more):
        return field(self, *args, **more)

    monkeypatch.setattr(fuzz_cases.Case, "field", plain)
    unnoticed = set(fuzz_views.VIEWS)
    for seed in range(60):
        case = fuzz_cases.Case.draw(seed, {"views": 1.0}, small=True)
        lines = fuzz_kinds.run(case, [Engine("reference")]).found
        unnoticed -= {m[1] for line in lines if (m := re.search(r"reference: (\w+): .*error", line))}
        if not unnoticed:
            break
    assert not unnoticed


def test_an_error_from_inside_is_noticed(monkeypatch):
    def broken(self, x, alpha, sigma, cut, out, u=None):
        _, _ = []

    monkeypatch.setattr(TrainingSet, "posterior", broken)
    seen = (line for seed in range(10) for line in findings(Engine("reference"), [seed]))
    assert any("not enough values to unpack" in line for line in seen)


def test_warnings_are_noticed_and_refusals_counted():
    report = fuzz_kinds.Report()
    report.ask("overflow", lambda: np.square(np.float64(1e200)))
    report.ask("refused", lambda: fuzz_kinds.itf.Linear()(2.0), must_refuse=True)
    report.ask("accepted", lambda: 1, must_refuse=True)
    report.ask("refused without a reason", lambda: fuzz_kinds.itf.Linear()(2.0))
    assert [line.partition(":")[0] for line in report.found] == ["overflow", "accepted", "refused without a reason"]
    assert list(report.refused.values()) == [2]


def test_a_crash_names_its_case(monkeypatch, tmp_path, capsys):
    """A child that dies at one case: that case is a finding, and the others are run."""
    script = tmp_path / "child.py"
    script.write_text(
        textwrap.dedent("""
        import json, os, sys
        first, last = map(int, sys.argv[2].split(":"))
        for seed in range(first, last):
            print(json.dumps({"start": seed}), flush=True)
            if seed == 7:
                os.abort()
            print(json.dumps({"seed": seed, "kind": "kernel", "case": "", "found": [], "refused": {}}), flush=True)
        """)
    )
    monkeypatch.setattr(fuzz, "__file__", str(script))
    options = argparse.Namespace(minutes=1e-6, seed=0, backends=["cpp"], small=True, show=3)
    assert fuzz.fuzz(options) == 1
    options.seed = 8
    assert fuzz.fuzz(options) == 0
    printed = capsys.readouterr().out
    assert "case 7 (crash)" in printed
    assert "7 kernel" in printed
