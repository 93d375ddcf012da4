"""``interp-fast bench``: this machine's limits, our backends and other libraries side by side.

Every contestant lives in a process of its own (several OpenMP and BLAS runtimes in one process slow each other) and
runs only when told to. Rounds are interleaved: each round times every contestant once, in a new order, the limits of
the machine among them, so that all see the same neighbours. Medians and minima are kept; errors are those against
float64 direct differences of the very calls that are timed.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import result_type
from ..backends import available, default_threads
from .contestant import LIMITS, Contestant, euler_loop
from .machine import bound, bytes_bound, machine
from .peers import PEERS, installed
from .problem import QUICK, RATIOS, REGIMES, Problem, Regime
from .result import Benchmark

__all__ = ["QUICK", "RATIOS", "REGIMES", "run"]

Array = npt.NDArray[Any]

_PAUSE = 0.05  # seconds between two contestants: our own OpenBLAS threads spin for half of that before they sleep
_CHECKED = 8  # queries (2 trajectories) whose answers are compared with the truth
_LARGE = 3e8  # differences: direct ones are timed on the checked queries only above this, and scaled


def run(
    regimes: Mapping[str, Regime],
    *,
    peers: Sequence[str] | None = None,
    ratios: Sequence[float] = RATIOS,
    types: Sequence[str] = ("float32", "float64", "uint8"),
    threads: int | None = None,
    rounds: int = 7,
    budget: float = 8.0,
    progress: Callable[[str, float], None] = lambda what, share: None,
) -> Benchmark:
    """Time every regime with every contestant.

    Parameters
    ----------
    regimes
        What to time, by name.
    peers
        Names of :data:`interp_fast._bench.peers.PEERS`; None: all that are installed.
    ratios
        sigma / alpha of the field evaluations.
    types
        Types of rows to keep among those of each regime.
    threads
        For everybody; None: :func:`interp_fast.backends.default_threads`.
    rounds, budget
        At most ``rounds`` rounds a cell, and no new one once ``budget`` seconds have passed; but at least three of
        evaluations, and one of trajectories, which are averages over their steps already.
    progress
        Called with what is being timed and the share of the whole that is done.

    Raises
    ------
    ValueError
        A ratio is not positive and finite; a peer is unknown, or is not installed.
    """
    if not all(0 < ratio < np.inf for ratio in ratios):
        msg = f"ratios must be positive and finite; got {', '.join(f'{ratio:g}' for ratio in ratios)}."
        raise ValueError(msg)
    threads = threads or default_threads()
    names, compiled = installed(peers), "cpp" in available()
    shared: dict[tuple[int, int, str], list[tuple[str, float | None]]] = {}
    for name, regime in regimes.items():
        for dtype in regime.types:
            if dtype in types:
                tasks = shared.setdefault((regime.N, regime.d, dtype), [])
                tasks += [(name, ratio) for ratio in (ratios if regime.steps == 0 else (None,))]
    total, cells = sum(map(len, shared.values())), list[dict[str, Any]]()
    for (n, d, dtype), tasks in shared.items():
        problem = Problem(n, d, dtype)
        kind = result_type(dtype).name
        present = [name for name in names if kind in PEERS[name].types]
        with contextlib.closing(_Company([*([LIMITS] * compiled), *present], problem.rows, threads)) as company:
            for name, ratio in tasks:
                what = f"{name} {dtype}" + (f" at {ratio:g}" if ratio else "")

                def told(contestant: str, what: str = what) -> None:
                    progress(f"{what}: {contestant}", len(cells) / total)

                progress(what, len(cells) / total)
                cell = _cell(regimes[name], problem, ratio, present, company, rounds, budget, told)
                cells.append({"regime": name, **cell})
    progress("done", 1.0)
    order = [(name, dtype) for name, regime in regimes.items() for dtype in regime.types]
    cells.sort(key=lambda cell: order.index((cell["regime"], cell["dtype"])))
    return Benchmark(machine(threads, names), cells)


class _Company:
    """The contestants that are left, and why others are not."""

    def __init__(self, names: Sequence[str], rows: Array, threads: int) -> None:
        self.failed: dict[str, str] = {}
        self._contestants: dict[str, Contestant] = {}
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "rows.npy"))
            np.save(path, rows)
            for name in names:  # one after another, so that they do not compete
                try:
                    self._contestants[name] = Contestant(name, path, threads)
                except RuntimeError as exc:
                    self.failed[name] = str(exc)

    def __contains__(self, name: str) -> bool:
        return name in self._contestants

    def ask(self, name: str, *request: Any) -> Any:
        """The answer, or None from one that fails and has to leave."""
        try:
            return self._contestants[name].ask(*request)
        except RuntimeError as exc:
            self.failed[name] = str(exc)
            self._contestants.pop(name).stop()
            return None

    def close(self) -> None:
        for contestant in self._contestants.values():
            contestant.stop()


def _cell(
    regime: Regime,
    problem: Problem,
    ratio: float | None,
    names: Sequence[str],
    company: _Company,
    rounds: int,
    budget: float,
    told: Callable[[str], None],
) -> dict[str, Any]:
    """One problem: what every contestant took and got wrong, and the limits of the machine meanwhile.

    A trajectory takes long: ``told`` hears whose turn it is.
    """
    t = 0.0 if ratio is None else 1.0 / (1.0 + ratio)
    x = problem.queries(regime.M, t)
    few = x[: _CHECKED if regime.steps == 0 else 2]
    if regime.steps == 0:
        truth = problem.denoiser(few, t)
    else:
        truth = euler_loop(problem.denoiser, problem.mean, few.astype(np.float64), regime.steps)
    task, argument = ("time", t) if regime.steps == 0 else ("trajectory", regime.steps)
    large = x.size * regime.N > _LARGE

    checked: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in company and (PEERS[name].products or regime.steps == 0 or not large):
            answer = company.ask(name, "check", few, t or 0.5)  # compiles, too
            if answer is not None:
                checked[name] = answer
    entries: dict[str, dict[str, Any]] = {name: {"seconds": [], "best": []} for name in checked}
    limits: dict[str, float] = {}
    order, start = np.random.default_rng(0), time.perf_counter()
    for k in range(rounds):
        if k >= (1 if regime.steps else 3) and time.perf_counter() - start > budget:
            break
        for name in order.permutation([*checked, LIMITS]):
            if name not in company:
                continue
            time.sleep(_PAUSE)
            if name == LIMITS or (regime.steps and LIMITS in company):  # often, however few the rounds
                found = company.ask(LIMITS) or {}
                limits = {key: max(value, limits.get(key, 0.0)) for key, value in found.items()}
            if name == LIMITS:
                continue
            if regime.steps:
                told(name)
            queries = x if PEERS[name].products or not large else few
            answer = company.ask(name, task, queries, argument)
            if answer is None:
                continue
            entry, factor = entries[name], len(x) / len(queries)
            entry["seconds"].append(answer[0] * factor)
            entry["best"].append(answer[1] * factor)
            if regime.steps == 0:
                errors = problem.errors(checked[name] | {"denoiser": answer[2]}, few, truth, t)
            else:
                errors = {
                    "endpoint": float(np.max(np.linalg.norm(answer[2][: len(few)] - truth, axis=1))) / problem.radius
                }
            entry |= {key: max(error, entry.get(key, 0.0)) for key, error in errors.items()}
            entry |= {"scaled": factor > 1, "work": checked[name].get("work") if regime.steps == 0 else None}
            entry["kernels"] = checked[name].get("kernels")
    for name, entry in list(entries.items()):
        if name in company.failed:
            del entries[name]
        else:
            entry |= {"median": float(np.median(entry.pop("seconds"))), "minimum": min(entry.pop("best"))}
    dense, product = (bound(limits, regime, problem.rows.dtype.name, k) if limits else None for k in (2, 1))
    shape = {"M": regime.M, "N": regime.N, "d": regime.d, "steps": regime.steps, "dtype": problem.rows.dtype.name}
    return shape | {
        "ratio": ratio,
        "limits": limits or None,
        "bound": dense,
        "product_bound": product,
        "bytes_bound": bytes_bound(limits, regime),
        "peers": entries,
        "failed": dict(company.failed),
    }
