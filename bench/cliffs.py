"""Which calls cost many times their neighbours: a search over data, types, noise and outputs.

    python bench/cliffs.py [--full] [--kinds copies,hot] [--types float32] [--outputs jvp] [--ratios 2,1]
                           [--worst 20] [--json FILE]

Every output of a field over training sets of every kind is timed at every sigma / alpha, in units of a dense denoiser
of normal rows of the same size and type. Printed are the worst cells of each kind, output by output, and the worst of
all. Times are those of the processors, least of some calls. 4000 rows and 128 queries, some minutes; ``--full``: 20,000
rows. Fashion-MNIST and digits come with ``apt install dataset-fashion-mnist`` and scikit-learn; without them they are
left out, and named.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf
from interp_fast import backends
from interp_fast._arrays import BYTE_SCALE
from interp_fast._bench.machine import machine
from interp_fast._datasets import InputError, load

Rows = npt.NDArray[Any]
Kind = Callable[[np.random.Generator, int, int], Rows]

RATIOS = (10.0, 5.0, 2.0, 1.4, 1.0, 0.7, 0.5, 0.2, 0.1, 0.03, 0.01)
OUTPUTS = ("denoiser", "posterior", "divergence", "jvp")
# What is aimed at: dense denoisers, and beside the denoiser of the same cell.
LIMITS = {"denoiser": 3.0, "posterior": 4.0, "divergence": 4.0, "jvp": 6.0}
DENSE_RATIO = 5.0  # where the unit is taken


def normal(rng: np.random.Generator, n: int, d: int) -> Rows:
    return rng.standard_normal((n, d))


def copies(rng: np.random.Generator, n: int, d: int) -> Rows:
    rows = rng.standard_normal((max(1, n // 200), d))
    return rng.permutation(np.repeat(rows, 200, axis=0)[:n])


def clusters(rng: np.random.Generator, n: int, d: int) -> Rows:
    centers = rng.standard_normal((50, d))
    return centers[rng.integers(0, 50, n)] + 0.05 * rng.standard_normal((n, d))


def hot(rng: np.random.Generator, n: int, d: int) -> Rows:
    rows = rng.standard_normal((n, d))
    rows[n // 2] *= 1e4 / np.linalg.norm(rows[n // 2])
    return rows


def student(rng: np.random.Generator, n: int, d: int) -> Rows:
    return rng.standard_t(1.5, (n, d))


def near_copies(rng: np.random.Generator, n: int, d: int) -> Rows:
    rows = rng.standard_normal(((n + 1) // 2, d))
    return np.concatenate([rows, rows + 1e-3 * rng.standard_normal(rows.shape)])[:n]


def equidistant(rng: np.random.Generator, n: int, d: int) -> Rows:
    return 3 * np.eye(500, d)


def fashion(rng: np.random.Generator, n: int, d: int) -> Rows:
    return np.asarray(load("fashion-mnist", holdout="0").rows[:n], np.float64)


def digits(rng: np.random.Generator, n: int, d: int) -> Rows:
    return np.asarray(load("digits", holdout="0").rows[:n], np.float64)


KINDS: dict[str, tuple[Kind, tuple[int, ...]]] = {
    "normal": (normal, (64, 784)),
    "copies": (copies, (64, 784)),
    "clusters": (clusters, (64, 784)),
    "hot": (hot, (64, 784)),
    "student": (student, (64, 784)),
    "near-copies": (near_copies, (3, 64)),
    "decades": (normal, (3, 64)),
    "equidistant": (equidistant, (500,)),
    "fashion": (fashion, (784,)),
    "digits": (digits, (64,)),
}
BYTES = frozenset({"normal", "copies", "clusters", "equidistant", "fashion", "digits"})  # that keep their kind


@dataclass(frozen=True)
class Cell:
    """One call, in dense denoisers of normal rows and in denoisers of the same queries."""

    kind: str
    n: int
    d: int
    type: str
    ratio: float
    output: str
    dense: float
    own: float


@dataclass(frozen=True)
class Set:
    """A training set of one type, as what it holds: numbers, for queries, and as it is stored."""

    rows: Rows
    stored: Rows
    weights: Rows | None

    @classmethod
    def of(cls, rows: Rows, dtype: str, weights: Rows | None = None) -> Set:
        if dtype != "uint8":
            stored = rows.astype(dtype)
            return cls(stored.astype(np.float64), stored, weights)
        a, b = BYTE_SCALE
        stored = np.rint((np.clip(rows / np.abs(rows).max(), -1, 1) - b) / a).astype(dtype)
        return cls(a * stored + b, stored, weights)

    def field(self, threads: int) -> itf.Field:
        return itf.Field(self.stored, weights=self.weights, threads=threads)

    def queries(self, m: int, ratio: float) -> tuple[Rows, float]:
        rng = np.random.default_rng(1)
        t = 1 / (1 + ratio)
        rows = self.rows[rng.integers(0, len(self.rows), m)]
        return t * rows + (1 - t) * rng.standard_normal(rows.shape), t


def least(action: Callable[[], object], repeats: int) -> float:
    """Seconds of the processors."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        found.append(time.process_time() - start)
    return min(found)


def calls(field: itf.Field, x: Rows, t: float) -> dict[str, Callable[[], object]]:
    u = np.random.default_rng(2).standard_normal(x.shape)
    return {
        "denoiser": lambda: field.denoiser(x, t),
        "posterior": lambda: field.posterior(x, t),
        "divergence": lambda: field.divergence(x, t),
        "jvp": lambda: field.jvp(x, t, u),
    }


def unit(n: int, d: int, dtype: str, options: argparse.Namespace) -> float:
    data = Set.of(normal(np.random.default_rng(0), n, d), dtype)
    x, t = data.queries(options.queries, DENSE_RATIO)
    field = data.field(options.threads)
    field.denoiser(x, t)
    return least(lambda: field.denoiser(x, t), 2 * options.repeats)


def search(options: argparse.Namespace) -> Iterator[list[Cell]]:
    """The cells of one training set after another."""
    units: dict[tuple[int, int, str], float] = {}
    for kind in options.kinds:
        make, dimensions = KINDS[kind]
        for d in dimensions:
            rng = np.random.default_rng(0)
            try:
                rows = make(rng, options.rows, d)
            except InputError as reason:
                print(f"{kind} left out: {reason}")
                continue
            n = len(rows)
            weights = 10.0 ** rng.uniform(-300, 0, n) if kind == "decades" else None
            for dtype in options.types:
                if dtype == "uint8" and kind not in BYTES:
                    continue
                if (n, d, dtype) not in units:
                    units[n, d, dtype] = unit(n, d, dtype, options)
                data = Set.of(rows, dtype, weights)
                field, cells = data.field(options.threads), []
                for ratio in options.ratios:
                    x, t = data.queries(options.queries, ratio)
                    actions = calls(field, x, t)
                    actions["denoiser"]()
                    own = least(actions["denoiser"], options.repeats)
                    for output in options.outputs:
                        took = own if output == "denoiser" else least(actions[output], options.repeats)
                        dense = took / units[n, d, dtype]
                        cells.append(Cell(kind, n, d, dtype, ratio, output, dense, took / own))
                yield cells


def line(cells: list[Cell], outputs: tuple[str, ...]) -> str:
    """Of a training set, the worst of each output and where."""
    parts = [f"{cells[0].kind:12}{cells[0].n:7}{cells[0].d:5} {cells[0].type:8}"]
    for output in outputs:
        worst = max((c for c in cells if c.output == output), key=lambda c: c.dense)
        mark = "*" if worst.dense > LIMITS[output] else " "
        parts.append(f"{worst.dense:8.2f}{mark}at {worst.ratio:<6g}")
    return "".join(parts)


def names(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        wanted = tuple(text.split(","))
        for name in wanted:
            if name not in known:
                msg = f"{name!r} is none of {', '.join(known)}"
                raise argparse.ArgumentTypeError(msg)
        return wanted

    return parse


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="calls that cost many times their neighbours")
    types = ("float32", "float64", "uint8")
    parser.add_argument("--full", action="store_true", help="20,000 rows")
    parser.add_argument("--rows", type=int, help="so many rows")
    parser.add_argument("--queries", type=int, default=128)
    parser.add_argument("--kinds", type=names(tuple(KINDS)), default=tuple(KINDS))
    parser.add_argument("--types", type=names(types), default=types)
    parser.add_argument("--outputs", type=names(OUTPUTS), default=OUTPUTS)
    parser.add_argument("--ratios", type=lambda text: [float(r) for r in text.split(",")], default=RATIOS)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=backends.default_threads())
    parser.add_argument("--worst", type=int, default=20, help="so many cells of all are printed")
    parser.add_argument("--json", type=Path, help="where all cells go")
    options = parser.parse_args(arguments)
    options.rows = options.rows or (20_000 if options.full else 4000)
    return options


def main(arguments: list[str] | None = None) -> list[Cell]:
    options = parse(arguments)
    print(f"{machine(options.threads)}\n{options.queries} queries; the worst over sigma / alpha, in dense denoisers")
    print(" " * 33 + "".join(f"{output:>17}" for output in options.outputs))
    cells: list[Cell] = []
    for found in search(options):
        print(line(found, options.outputs), flush=True)
        cells += found
    print(f"\n{'the worst of all':41}  dense denoisers  denoisers there")
    for c in sorted(cells, key=lambda c: -c.dense / LIMITS[c.output])[: options.worst]:
        print(
            f"{c.kind:12}{c.n:7}{c.d:5} {c.type:8}{c.output:11}at {c.ratio:<6g}{c.dense:8.2f}"
            f" of {LIMITS[c.output]:g}{c.own:12.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(c) for c in cells], indent=1) + "\n")
    return cells


if __name__ == "__main__":
    main()
