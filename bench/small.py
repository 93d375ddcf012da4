"""What is asked for first: sets of few rows, one query; beside three lines of torch, attention, float64 and NumPy.

    python bench/small.py [--only torch,types,attention,call] [--rounds 9] [--threads N] [--json FILE]

Every contestant lives in a process of its own, stopped while others run; blocks of calls in turn, each time in another
order. Printed are the median and the least time of a call and that of the processors (least of the blocks), and the
other's over ours (of types: ours in float32 over ours in float64) beside what is aimed at; *: missed by the least
times. Digits come with scikit-learn.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from interp_fast import backends
from interp_fast._bench.contestant import Contestant
from interp_fast._bench.machine import machine
from interp_fast._datasets import load

SHAPES = ((1797, 64), (1000, 64), (500, 784), (5000, 16), (1000, 2))
QUERIES = (64, 512)
PAUSE = 0.05
DIGITS = (1797, 64)
KINDS = ("torch", "types", "attention", "call")


class Player(NamedTuple):
    """A peer, the type of its rows, and which of its calls."""

    peer: str
    dtype: str = "float32"
    call: str = "denoiser"

    def __str__(self) -> str:
        return f"{self.peer}, {self.call}" if self.call != "denoiser" else f"{self.peer}, {self.dtype}"


class Contest(NamedTuple):
    """Who meets at which queries; the last of the ratios is what is aimed at: at least, or (of types) at most."""

    kind: str
    shape: tuple[int, int]
    queries: int
    ratio: float
    ours: Player
    others: tuple[Player, ...]
    goal: float


OURS, TORCH = Player("cpp"), (Player("torch"), Player("torch", call="at once"))


def contests(kinds: list[str]) -> Iterator[Contest]:
    for shape in SHAPES:
        for m in QUERIES:
            if "torch" in kinds:
                yield from (Contest("torch", shape, m, ratio, OURS, TORCH, 1.2) for ratio in (5.0, 2.0))
            if "types" in kinds:
                wide = (Player("cpp", "float64"),)
                yield from (Contest("types", shape, m, ratio, OURS, wide, 1.1) for ratio in (0.5, 0.1))
    if "attention" in kinds:
        yield from (Contest("attention", (5000, 784), 1024, r, OURS, (Player("torch-sdpa"),), 1.05) for r in (5.0, 2.0))
    if "call" in kinds:
        for call in ("denoiser", "velocity", "posterior"):
            yield Contest("call", (100, 2), 1, 2.0, Player("cpp", call=call), (Player("numpy"),), 1 / 3)


def rows(n: int, d: int) -> np.ndarray:
    if (n, d) == DIGITS:
        return np.asarray(load("digits", holdout="0").rows, np.float64)
    return np.random.default_rng(0).standard_normal((n, d))


class Company:
    """The contestants of one training set."""

    def __init__(self, data: np.ndarray, threads: int) -> None:
        self._data, self._threads = data, threads
        self._there: dict[tuple[str, str], Contestant] = {}

    def repeat(self, player: Player, x: np.ndarray, t: float) -> tuple[list[float], float]:
        key = player.peer, player.dtype
        if key not in self._there:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rows.npy"
                np.save(path, self._data.astype(player.dtype))
                self._there[key] = Contestant(player.peer, str(path), self._threads)
        found: tuple[list[float], float] = self._there[key].ask("repeat", x.astype(player.dtype), (player.call, t))
        return found

    def close(self) -> None:
        for contestant in self._there.values():
            contestant.stop()


def measure(contest: Contest, company: Company, data: np.ndarray, rounds: int) -> dict[str, dict[str, float]]:
    """Of each player seconds on the clock, median and least, and of the processors."""
    rng, t = np.random.default_rng(1), 1 / (1 + contest.ratio)
    x = t * data[rng.integers(0, len(data), contest.queries)]
    x += (1 - t) * rng.standard_normal(x.shape)
    players = (contest.ours, *contest.others)
    clocks: dict[Player, list[float]] = {player: [] for player in players}
    own: dict[Player, list[float]] = {player: [] for player in players}
    for _ in range(rounds):
        for i in rng.permutation(len(players)):
            time.sleep(PAUSE)
            seconds, processors = company.repeat(players[i], x, t)
            clocks[players[i]] += seconds
            own[players[i]].append(processors)
    return {
        str(player): {
            "median": float(np.median(clocks[player])),
            "minimum": min(clocks[player]),
            "processors": min(own[player]),
        }
        for player in players
    }


def ratios(contest: Contest, found: dict[str, dict[str, float]]) -> dict[str, float]:
    """The best of the others over ours; of types ours in float32 over ours in float64."""
    made = {}
    for key in ("median", "minimum", "processors"):
        ours = found[str(contest.ours)][key]
        best = min(found[str(other)][key] for other in contest.others)
        made[key] = ours / best if contest.kind == "types" else best / ours
    return made


def missed(contest: Contest, of_minima: float) -> bool:
    return of_minima > contest.goal if contest.kind == "types" else of_minima < contest.goal


def line(contest: Contest, found: dict[str, dict[str, float]]) -> str:
    n, d = contest.shape
    times = "; ".join(
        f"{name} {1e3 * spent['median']:.3g} {1e3 * spent['minimum']:.3g} {1e3 * spent['processors']:.3g}"
        for name, spent in found.items()
    )
    over = ratios(contest, found)
    mark = "*" if missed(contest, over["minimum"]) else " "
    return (
        f"{contest.kind:10}{contest.queries:5} on {n:5} x {d:<4}{contest.ratio:5g}"
        f"{over['median']:7.2f}{over['minimum']:7.2f}{over['processors']:7.2f} of {contest.goal:4.2f}{mark}  {times}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=backends.default_threads())
    parser.add_argument("--json", type=Path, help="where the numbers are kept")
    options = parser.parse_args()
    facts = machine(options.threads, ["torch", "numpy"])
    print(facts)
    print(f"{'':32}s/a{'median':>8}{'least':>7}{'procs':>7}  goal   ms: median, least, processors", flush=True)
    cells, company, at = [], None, None
    with contextlib.ExitStack() as open_now:
        for contest in contests(options.only):
            if company is None or at != contest.shape:
                open_now.close()
                at, data = contest.shape, rows(*contest.shape)
                company = Company(data, options.threads)
                open_now.callback(company.close)
            found = measure(contest, company, data, options.rounds)
            print(line(contest, found), flush=True)
            cells.append(contest._asdict() | {"found": found, "over": ratios(contest, found)})
    if options.json:
        options.json.write_text(json.dumps({"machine": facts, "cells": cells}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
