"""``interp-fast bench``: this machine's limits, our backends and other libraries side by side.

Every contestant lives in a process of its own (several OpenMP and BLAS runtimes in one process slow each other) and
runs only when told to. Rounds are interleaved: each round times every contestant once, in a new order, the limits of
the machine among them, so that all see the same neighbours. Medians and minima are kept; errors are those against
float64 direct differences of the very calls that are timed.
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import __version__
from ._arrays import blocks, result_type, widen
from ._benchmark import Benchmark
from ._peers import BYTE_SCALE, LIMITS, OURS, PEERS, Contestant, euler_loop, installed
from .backends import available, default_threads

__all__ = ["QUICK", "RATIOS", "REGIMES", "Problem", "Regime", "bound", "bytes_bound", "machine", "run"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

RATIOS = (19.0, 1e-2, 1e-3)
_PAUSE = 0.05  # seconds between two contestants: our own OpenBLAS threads spin for half of that before they sleep
_CHECKED = 8  # queries (2 trajectories) whose answers are compared with the truth
_LARGE = 3e8  # differences: direct ones are timed on the checked queries only above this, and scaled


@dataclass(frozen=True)
class Regime:
    """M queries against N rows in d dimensions; ``steps`` > 0 makes it a trajectory of that many Euler steps."""

    M: int
    N: int
    d: int
    types: tuple[str, ...] = ("float32", "float64")
    steps: int = 0


REGIMES = {
    "images": Regime(256, 50_000, 784),
    "wide": Regime(256, 20_000, 3072),
    "few-rows": Regime(1024, 5000, 784),
    "d64": Regime(256, 50_000, 64),
    "d2": Regime(256, 50_000, 2),
    "one-query": Regime(1, 50_000, 784, ("float32", "float64", "uint8")),
    "trajectory": Regime(256, 50_000, 784, ("float32",), steps=100),
}
QUICK = {
    "images": Regime(64, 5000, 784),
    "wide": Regime(32, 2000, 3072),
    "few-rows": Regime(256, 1000, 784),
    "d64": Regime(256, 5000, 64),
    "d2": Regime(256, 5000, 2),
    "one-query": Regime(1, 5000, 784, ("float32", "float64", "uint8")),
    "trajectory": Regime(32, 5000, 784, ("float32",), steps=20),
}


class Problem:
    """A training set, queries at given sigma / alpha of the linear schedule, and the truth about them.

    The rows are like those of images: near a curved 16-dimensional sheet (blobs for d <= 8), in random order. A fifth
    of them are near copies of other rows, at distances 1.4e-2 and 1.4e-3: late posteriors mix them, and scores formed
    from float32 products show their cancellation there.
    """

    def __init__(self, n: int, d: int, dtype: str, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        if d <= 8:
            rows = 0.5 * rng.standard_normal((n, d)) + rng.integers(-1, 2, (n, 1))
        else:
            rows = np.tanh(0.5 * rng.standard_normal((n, 16)) @ rng.standard_normal((16, d)))
            rows += 0.05 * rng.standard_normal((n, d))
        tenth = n // 10
        for k, distance in enumerate((1.4e-2, 1.4e-3)):
            offset = rng.standard_normal((tenth, d))
            offset *= distance / np.linalg.norm(offset, axis=1, keepdims=True)
            rows[n - (k + 1) * tenth : n - k * tenth] = rows[k * tenth : (k + 1) * tenth] + offset
        order = rng.permutation(n)
        rows = rows[order]
        self._copies = np.flatnonzero(order >= n - 2 * tenth)
        a, b = BYTE_SCALE
        self.rows: Array = (
            np.rint((np.clip(rows, -1, 1) - b) / a).astype(dtype) if dtype == "uint8" else rows.astype(dtype)
        )
        self.mean: Float = self.values(slice(None)).mean(axis=0)
        self.radius = float(
            np.sqrt(sum(np.sum((self.values(piece) - self.mean) ** 2) for piece in blocks(self.rows)) / n)
        )

    def values(self, rows: Any) -> Float:
        return widen(self.rows[rows], BYTE_SCALE if self.rows.dtype == np.uint8 else None)

    def queries(self, m: int, t: float, seed: int = 1) -> Array:
        """Forward samples t x_i + (1 - t) z, in the type of the results; every second x_i is a near copy."""
        rng = np.random.default_rng(seed)
        chosen = rng.integers(0, len(self.rows), m)
        chosen[::2] = rng.choice(self._copies, len(chosen[::2]))
        picked = self.values(chosen)
        return (t * picked + (1 - t) * rng.standard_normal(picked.shape)).astype(result_type(self.rows.dtype))

    def denoiser(self, x: Array, t: float) -> Float:
        """Direct differences in float64, block by block of rows."""
        x = x.astype(np.float64)
        logits = np.empty((len(x), len(self.rows)))
        for piece in blocks(self.rows):
            scaled = t * self.values(piece)
            for m, query in enumerate(x):
                difference = scaled - query
                logits[m, piece] = np.einsum("ij,ij->i", difference, difference)
        logits *= -0.5 / (1 - t) ** 2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return np.asarray(sum(p[:, piece] @ self.values(piece) for piece in blocks(self.rows)))

    def errors(self, answer: Mapping[str, Array], x: Array, truth: Float, t: float) -> dict[str, float]:
        """Largest errors of the denoiser, over max(|D|, R), and of the noise prediction z = (x - t D) / (1 - t), over
        max(|z|, 1); the second is that of score and velocity too. Who returns D only is asked for no more than that.
        """
        x = x.astype(np.float64)
        mean = answer["denoiser"][: len(x)].astype(np.float64)
        true_noise = (x - t * truth) / (1 - t)
        noise = answer["noise"].astype(np.float64) if "noise" in answer else (x - t * mean) / (1 - t)
        pairs = {"noise": (noise, true_noise, 1.0), "denoiser": (mean, truth, self.radius)}
        return {
            name: float(np.max(np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), least)))
            for name, (a, b, least) in pairs.items()
        }


def bound(limits: Mapping[str, float], regime: Regime, dtype: str, products: int = 2) -> float:
    """Seconds of the dense work at the machine's limits: two products and the exponentials, or one read of the rows.

    Once posteriors are sharp the second product vanishes and ``products=1`` is the yardstick: 2 M N d flops alone.
    """
    result = result_type(dtype).name
    pairs = regime.M * regime.N
    arithmetic = 2 * products * pairs * regime.d / limits[f"fma_{result}"]
    if products == 2:
        arithmetic += pairs / limits[f"exp_{result}"]
    memory = regime.N * regime.d * np.dtype(dtype).itemsize / limits["read"]
    return max(1, regime.steps) * max(arithmetic, memory)


def bytes_bound(limits: Mapping[str, float], regime: Regime) -> float | None:
    """Seconds of one product on rows and queries rounded to bytes, where the processor multiplies such: how fast the
    rows that matter late can be told from the others.
    """
    if "dot_int8" not in limits:
        return None
    rows = regime.N * regime.d
    return max(1, regime.steps) * max(2 * regime.M * rows / limits["dot_int8"], rows / limits["read"])


def machine(threads: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """Facts that a time means nothing without; ``names`` are the peers whose versions count."""
    versions = {"interp_fast": __version__}
    packages = metadata.packages_distributions()
    for module in ("numpy", "scipy", "numba", *(PEERS[name].module for name in names if name not in OURS)):
        for package in packages.get(module, [])[:1]:
            versions[package] = metadata.version(package)
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    isa = build = None
    if "cpp" in available():
        from . import _core

        isa, build = _core.isa(), _core.build
    return {
        "cpu": model,
        "isa": isa,
        "build": build,
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


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
        Names of :data:`interp_fast._peers.PEERS`; None: all that are installed.
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
