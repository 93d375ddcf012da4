"""Long calls say how far they are, and what is left; a callable is told the same."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

import interp_fast as itf
from interp_fast import _arrays, _progress

ROWS = np.random.default_rng(2).standard_normal((700, 12))


def told(call):
    steps = []
    call(lambda done, total: steps.append((done, total)))
    return steps


def test_a_field_counts_the_rows_it_reads(monkeypatch):
    monkeypatch.setattr(_arrays, "_BLOCK_BYTES", 8 * 12 * 200)
    assert told(lambda progress: itf.Field(ROWS, progress=progress)) == [(200, 700), (400, 700), (600, 700), (700, 700)]


def test_the_lowest_loss_counts_points_and_times():
    """Points once for a field, whose distances are kept."""
    field = itf.Field(ROWS)
    first = told(lambda progress: itf.optimal_loss(field, [0.0, 0.4, 0.7], 16, rng=0, progress=progress))
    again = told(lambda progress: itf.optimal_loss(field, [0.0, 0.4, 0.7], 16, rng=0, progress=progress))
    assert again == [(1, 2), (2, 2)]
    assert first[-2:] == again
    points = first[:-2]
    assert points[-1] == (700, 700)
    assert points == sorted(points)
    assert told(lambda progress: itf.optimal_loss(field, [0.0, 1.0], 16, rng=0, progress=progress)) == []


def test_the_line_says_how_long_it_will_take(capsys, monkeypatch):
    clock = iter([100.0, 110.0, 130.0, 140.0])
    monkeypatch.setattr(_progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    line = _progress.reporter(True, "data: row")
    line(1, 4)
    line(3, 4)
    line(4, 4)
    shown = capsys.readouterr().err
    assert shown == "\rdata: row 1 of 4, 30 s left\rdata: row 3 of 4, 10 s left\rdata: row 4 of 4           \n"


@pytest.mark.parametrize(
    "call",
    [
        lambda progress: itf.Field(ROWS, progress=progress),
        lambda progress: itf.optimal_loss(itf.Field(ROWS), 2, 16, progress=progress),
        lambda progress: itf.memorization(ROWS[:5], ROWS, progress=progress),
        lambda progress: itf.sample(itf.Field(ROWS), itf.ddim(itf.Linear(), 4), 2, progress=progress),
        lambda progress: itf.audit(itf.Gaussian(ROWS, itf.Linear()), itf.Field(ROWS), 2, 4, progress=progress),
    ],
    ids=["field", "loss", "memorization", "sample", "audit"],
)
def test_all_of_them_take_the_same(call, capsys):
    call(True)
    shown = capsys.readouterr().err
    assert re.search(r"\r[a-z ]+: [a-z]+ \d+ of \d+ *\n$", shown)
    with pytest.raises(TypeError, match=r"progress must be True, False or a callable .*; got 3"):
        call(3)
