"""Nearest rows at the size of ImageNet's features: rate and memory, beside the dense limit and faiss's flat index.

    python bench/reach.py [--rows 1280000] [--d 1024] [--queries 10000] [--k 6] [--type float32 | uint8]
                          [--data features | normal] [--batch 1000] [--tries 1] [--faiss-queries N] [--threads N]

Rows that are queries, too, among all rows: the background of distances in ``itf.memorization``, of which k = 6 (a row
and its five neighbours) is what its default takes. "features" are rectified combinations of 64 numbers with a little
noise, "normal" independent numbers, in which all distances are nearly equal. Batches of queries go to interp_fast and
then, in turn with it, to faiss (IndexFlatL2, float32, which is not exact; left out where it is not installed). Beside
each batch the limits of the machine are measured on one thread; their best times the threads is what rates are
compared with. Memory: the highest resident size beyond that with the rows alone, the results included. Where others
use the machine, the times of processors tell of the programs, the clock of the others.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import interp_fast as itf
from interp_fast import _core


def resident(which: str = "VmRSS") -> float:
    """GiB; "VmHWM" is the highest since ``forget``."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return int(next(line for line in lines if line.startswith(which)).split()[1]) / 2**20


def forget() -> None:
    Path("/proc/self/clear_refs").write_text("5", "ascii")


def make(rows: int, d: int, data: str, type_: str) -> np.ndarray:
    """Made in pieces, so that nothing but the rows is held."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((64, d), dtype=np.float32) / 8
    table = np.empty((rows, d), type_)
    for first in range(0, rows, 10_000):
        some = table[first : first + 10_000]
        values = rng.standard_normal(some.shape, dtype=np.float32)
        if data == "features":
            inner = rng.standard_normal((len(some), 64), dtype=np.float32)
            values = np.maximum(inner @ mix, 0) + 0.05 * values
        some[:] = values if type_ == "float32" else np.clip(np.rint(127.5 + 40 * values), 0, 255)
    return table


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """What it returns; seconds on the clock, and of the processors."""
    clock, processors = time.perf_counter(), time.process_time()
    found = call()
    return found, time.perf_counter() - clock, time.process_time() - processors


class Limits:
    """The best rates of one thread so far, and those of all threads by them."""

    def __init__(self, threads: int) -> None:
        self._threads, self._memory, self._best = threads, np.zeros(1 << 24, np.uint8), {}

    def measure(self) -> None:
        for name, rate in _core.limits(self._memory, 1).items():
            self._best[name] = max(rate, self._best.get(name, 0.0))

    def __getitem__(self, name: str) -> float:
        return self._threads * self._best[name]

    def __contains__(self, name: str) -> bool:
        return name in self._best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("rows", 1_280_000),
        ("d", 1024),
        ("queries", 10_000),
        ("k", 6),
        ("batch", 1000),
        ("tries", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--faiss-queries", type=int, help="fewer of them; default all")
    parser.add_argument("--type", choices=("float32", "uint8"), default="float32")
    parser.add_argument("--data", choices=("features", "normal"), default="features")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    o = parser.parse_args()

    table = make(o.rows, o.d, o.data, o.type)
    best = Limits(o.threads)
    best.measure()
    alone = resident()
    forget()
    print(
        f"{o.rows} x {o.d} {o.type} {o.data}, {table.nbytes / 2**30:.2f} GiB; k = {o.k}, {o.threads} threads",
        flush=True,
    )
    field = itf.Field(table, threads=o.threads)
    ready, *start = timed(lambda: itf.nearest(table[:9], field, o.k))
    print(f"first call, which prepares the rows: {start[0]:.1f} s ({start[1]:.1f} of processors)", flush=True)

    batches = [slice(i, min(i + o.batch, o.queries)) for i in range(0, o.queries, o.batch)] * o.tries
    ours = []
    for batch in batches:
        found, *seconds = timed(lambda batch=batch: itf.nearest(table[batch], field, o.k))
        ours.append((batch, found, *seconds))
        best.measure()
    print(f"memory beyond the rows: {resident('VmHWM') - alone:.2f} GiB at most", flush=True)

    theirs = []
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads of faiss that wait would count as work
    try:
        import faiss
    except ImportError:
        print("faiss is not installed")
    else:
        faiss.omp_set_num_threads(o.threads)
        index = faiss.IndexFlatL2(o.d)
        for first in range(0, o.rows, 10_000):
            index.add(table[first : first + 10_000].astype(np.float32))
        for batch in [b for b in batches if b.stop <= (o.faiss_queries or o.queries)]:
            query = table[batch].astype(np.float32)
            (_, number), *seconds = timed(lambda query=query: index.search(query, o.k))
            found, *mine = timed(lambda batch=batch: itf.nearest(table[batch], field, o.k))  # in turn
            theirs.append((batch, number, *seconds))
            ours.append((batch, found, *mine))
            best.measure()
    agree = np.mean(
        np.concatenate([np.ravel(a[1] == b[1].index) for a in theirs for b in ours if a[0] is b[0]] or [[]])
    )

    def rate(runs: list[Any], at: int, share: int = 1) -> float:
        """Of the fastest batch: operations a second, two for each pair of numbers that a product would multiply."""
        return max(2 * (run[0].stop - run[0].start) * o.rows * o.d * share / run[at] for run in runs)

    name = "dot_int8" if "dot_int8" in best else "fma_float32"
    print(f"limits, G/s: float32 {best['fma_float32'] / 1e9:.0f}, {name} {best[name] / 1e9:.0f}")
    for who, runs in (("interp_fast", ours), ("faiss", theirs)):
        if runs:
            clock, processors = rate(runs, 2), rate(runs, 3, o.threads)
            print(f"{who:>11}: {clock / 1e9:.0f} G/s on the clock ({clock / best[name]:.2f} of {name}), "
                  f"{processors / 1e9:.0f} by processors ({processors / best[name]:.2f})")  # fmt: skip
    if theirs:
        clock, processors = (rate(ours, at) / rate(theirs, at) for at in (2, 3))
        print(f"interp_fast / faiss: {clock:.2f} on the clock, {processors:.2f} by processors")
        print(f"the same row at {agree:.4%} of all places")
    assert np.all(ready.index[:, 0] == np.arange(9))


if __name__ == "__main__":
    main()
