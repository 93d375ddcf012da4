"""What a step costs on rows that stay in a file: beside reading the file once, and the same arithmetic in memory.

    python bench/out_of_core.py [--rows 40000] [--d 3072] [--queries 256] [--folder /tmp]

Makes a file of random bytes, reads it through the page cache, evaluates a dense step from it and from memory, and
removes it. Seconds are the least of three.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import interp_fast as itf


def least(call: Callable[[], object], times: int = 3) -> tuple[float, float]:
    """Seconds on the clock and of the processors."""
    found = []
    for _ in range(times):
        clock, processor = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    return min(clock for clock, _ in found), min(processor for _, processor in found)


def read(path: Path) -> None:
    buffer = bytearray(1 << 24)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--d", type=int, default=3072)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--no-memory", action="store_true", help="leave the rows in memory out, which take all of them")
    parser.add_argument("--times", type=int, default=3)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "rows.npy"
        with path.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (given.rows, given.d)}
            np.lib.format.write_array_header_1_0(file, header)
            for first in range(0, given.rows, 10_000):
                file.write(rng.bytes((min(first + 10_000, given.rows) - first) * given.d))
        size = path.stat().st_size
        seconds, _ = least(lambda: read(path), given.times)
        print(
            f"{size / 1e9:.2f} GB; read once through the page cache: {seconds:.2f} s, {size / seconds / 1e9:.2f} GB/s"
        )
        clock, processor = least(lambda: itf.Field(path, tol=0.0), 1)
        print(f"construction, one read: {clock:.2f} s, {processor:.2f} s of processors")
        field, x = itf.Field(path, tol=0.0), rng.standard_normal((given.queries, given.d))
        far = least(lambda: field.denoiser(x, 0.1), given.times)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        print(f"a dense step from the file: {far[0]:.2f} s, {far[1]:.2f} s of processors; peak {peak:.0f} MiB")
        if not given.no_memory:
            here = itf.Field(np.load(path), tol=0.0, low_memory=True)
            near = least(lambda: here.denoiser(x, 0.1), given.times)
            print(f"the same in memory: {near[0]:.2f} s, {near[1]:.2f} s of processors")
            print(f"ratio: {far[0] / max(near[0], seconds):.2f} on the clock, {far[1] / near[1]:.2f} of processors")


if __name__ == "__main__":
    main()
