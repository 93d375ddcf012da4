"""What a step costs on rows that stay in a file: beside reading the file once, and the same arithmetic in memory.

    python bench/out_of_core.py [--rows 40000] [--d 3072] [--queries 256] [--limit 1024] [--check 4] [--out NAME.json]
    python bench/out_of_core.py --page

Makes a file of random bytes, reads it through the page cache, evaluates a dense step from it, and removes it; the same
arithmetic in memory is that of the first rows (--part), times what is left out. ``--limit`` is of the memory of the
process in MiB. ``--check`` compares queries with float64. Results that are kept in bench/results/files are put into
docs/clusters.md by ``--page``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import interp_fast as itf

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results" / "files"
PAGE = ROOT / "docs" / "clusters.md"
MARKS = ("<!-- made by bench/out_of_core.py --page -->\n", "<!-- end -->\n")
T = 0.1
SCALE = (2 / 255, -1.0)


def least(call: Callable[[], object], times: int) -> dict[str, float]:
    """Seconds on the clock and of the processors."""
    found = []
    for _ in range(times):
        clock, processor = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - clock, time.process_time() - processor))
    return {"clock": min(clock for clock, _ in found), "processors": min(processor for _, processor in found)}


def make(path: Path, rows: int, d: int) -> None:
    """Random bytes: rows of one lot, each lot of them moved along and flipped in other bits."""
    rng, step = np.random.default_rng(0), max(1, (1 << 25) // d)
    words = rng.integers(1 << 64, size=step * d // 8 + 1, dtype=np.uint64)
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (rows, d)})
        for first in range(0, rows, step):
            lot = np.roll(words, int(rng.integers(len(words)))) ^ rng.integers(1 << 64, dtype=np.uint64)
            file.write(lot.view(np.uint8)[: (min(first + step, rows) - first) * d].data)


def read(path: Path) -> None:
    buffer = bytearray(1 << 24)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def denoised(path: Path, rows: int, d: int, x: np.ndarray) -> np.ndarray:
    """The denoiser at T in float64, few rows at a time: with values a b + c of bytes b, <x, X> = a <x, b> + c sum x."""
    a, c = SCALE
    alpha, s2 = T, (1 - T) ** 2
    factors = np.concatenate([x, np.ones((1, d))]).T.copy()
    top, mass, mean = np.full(len(x), -np.inf), np.zeros(len(x)), np.zeros_like(x)
    with path.open("rb") as file:
        file.seek(path.stat().st_size - rows * d)
        for first in range(0, rows, 32):
            count = min(32, rows - first)
            b = np.frombuffer(file.read(count * d), np.uint8).reshape(count, d).astype(np.float64)
            products = b @ factors
            squares = a * a * np.einsum("ij,ij->i", b, b) + 2 * a * c * products[:, -1] + d * c * c
            inner = a * products[:, :-1] + c * x.sum(axis=1)
            logits = (alpha * inner - alpha**2 * squares[:, None] / 2).T / s2
            highest = np.maximum(top, logits.max(axis=1))
            fade, w = np.exp(top - highest), np.exp(logits - highest[:, None])
            mass, mean, top = mass * fade + w.sum(axis=1), mean * fade[:, None] + w @ b, highest
    return a * mean / mass[:, None] + c


def measured(given: argparse.Namespace, path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": given.rows, "d": given.d, "queries": given.queries, "limit": given.limit}

    def note(**some: Any) -> None:
        found.update(some)
        print(*(f"{name}: {value}" for name, value in some.items()), flush=True)

    note(file=path.stat().st_size)
    note(reading=least(lambda: read(path), given.times))
    kept = path.with_name("moments.npz")
    note(construction=least(lambda: itf.Field(path, tol=0.0, moments=kept), 1))
    note(again=least(lambda: itf.Field(path, tol=0.0, moments=kept), 1))
    field = itf.Field(path, tol=0.0, moments=kept)
    x, _ = field.draw(given.queries, T, rng=0)
    answers: list[np.ndarray] = []
    note(step=least(lambda: answers.append(field.denoiser(x, T)), given.times))
    note(peak=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, isa=field.isa, threads=field.threads)
    part = int(given.part * given.rows)
    if part:
        offset = path.stat().st_size - given.rows * given.d
        here = itf.Field(
            np.fromfile(path, np.uint8, part * given.d, offset=offset).reshape(part, given.d), tol=0.0, low_memory=True
        )
        here.denoiser(x[:1], T)
        near = least(lambda: here.denoiser(x, T), given.times)
        note(memory={name: seconds * given.rows / part for name, seconds in near.items()}, part=part)
    if given.check:
        want = denoised(path, given.rows, given.d, x[: given.check].astype(np.float64))
        noise = (x[: given.check] - T * want) / (1 - T)
        error = np.linalg.norm(answers[0][: given.check] - want, axis=1) * T / (1 - T)
        note(checked=given.check, error=float((error / np.maximum(np.linalg.norm(noise, axis=1), 1)).max()))
    return found


def page() -> str:
    """What the page says once the stored results are in it."""
    lines = [
        "| rows | file | queries | reading once | construction | with `moments=` | a step | in memory | peak of memory "
        "| error |",
        f"|{' --- |' * 10}",
    ]
    for stored in sorted(RESULTS.glob("*.json"), key=lambda path: path.stem):
        one = json.loads(stored.read_text(encoding="utf-8"))
        seconds = {name: f"{spent['processors']:.3g} s" for name, spent in one.items() if isinstance(spent, dict)}
        ratio = one["step"]["processors"] / one["memory"]["processors"]
        limit = f" (limit {one['limit']})" if one["limit"] else ""
        cells = (
            f"{one['rows']:,} × {one['d']:,} bytes", f"{one['file'] / 1e9:.1f} GB", str(one["queries"]),
            seconds["reading"], seconds["construction"], seconds["again"], seconds["step"],
            f"{seconds['memory']}, ratio {ratio:.2f}", f"{one['peak'] / 2**20:.0f} MiB{limit}",
            f"{one['error']:.0e} ({one['checked']} queries)",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    before, rest = PAGE.read_text(encoding="utf-8").split(MARKS[0])
    return f"{before}{MARKS[0]}\n" + "\n".join(lines) + f"\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--d", type=int, default=3072)
    parser.add_argument("--queries", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--part", type=float, default=0.1, help="share of the rows that is worked on in memory, too")
    parser.add_argument("--limit", type=int, default=0, help="of the memory of the process, MiB")
    parser.add_argument("--check", type=int, default=0, help="queries that are compared with float64")
    parser.add_argument("--times", type=int, default=1, help="seconds are the least of so many")
    parser.add_argument("--out", type=Path, help="where the numbers are kept")
    parser.add_argument("--page", action="store_true", help="put the stored results into the page")
    given = parser.parse_args()
    if given.page:
        PAGE.write_text(page(), encoding="utf-8")
        return
    if given.limit:
        resource.setrlimit(resource.RLIMIT_DATA, (given.limit << 20, given.limit << 20))
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder) / "rows.npy"
        make(path, given.rows, given.d)
        found = measured(given, path)
    if given.out:
        given.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
