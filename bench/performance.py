"""Put stored results into docs/performance.md and the README: tables, one line and one picture for every regime.

    interp-fast bench --types float32 uint8 --peers cpp numpy torch torch-sdpa jax --out out
    cp out/bench.json bench/results/VERSION.json
    python bench/performance.py

Nothing between the marks of those pages is written by hand; the tests hold the pages against the stored results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from interp_fast._bench.peers import OURS, PEERS
from interp_fast._bench.result import Benchmark

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
PICTURES = ROOT / "docs" / "speed"
MARKS = ("<!-- made by bench/performance.py -->\n", "<!-- end -->\n")
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "interp_fast", "font.size": 8, "axes.spines.top": False,
         "axes.spines.right": False, "axes.spines.left": False}  # fmt: skip

Cells = list[dict[str, Any]]


def stored() -> dict[str, Benchmark]:
    """The results of each release, newest first."""
    paths = sorted(RESULTS.glob("*.json"), key=lambda path: [int(n) for n in path.stem.split(".")], reverse=True)
    texts = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return {version: Benchmark(result["machine"], result["cells"]) for version, result in texts.items()}


def pages(results: dict[str, Benchmark]) -> dict[Path, str]:
    """What each page says once the results are in it."""
    tables = "\n\n".join(f"### {version}\n\n{result.markdown()}" for version, result in results.items())
    newest = next(iter(results.values()))
    made = {ROOT / "README.md": lines(newest, "docs/speed"), ROOT / "docs" / "performance.md": tables}
    return {path: _between_marks(path.read_text(encoding="utf-8"), text) for path, text in made.items()}


def _between_marks(page: str, text: str) -> str:
    before, rest = page.split(MARKS[0])
    return f"{before}{MARKS[0]}\n{text}\n\n{MARKS[1]}{rest.split(MARKS[1])[1]}"


def regimes(result: Benchmark) -> dict[str, Cells]:
    """The cells of each regime and type of rows, by the name of its picture."""
    found: dict[str, Cells] = {}
    for cell in result.cells:
        found.setdefault(f"{cell['regime']}-{cell['dtype']}", []).append(cell)
    return found


def others(cell: dict[str, Any]) -> list[str]:
    """Libraries that compute the same, all rows counted."""
    return [name for name in cell["peers"] if name not in OURS and PEERS[name].exact]


def lines(result: Benchmark, folder: str) -> str:
    """A line for each regime: what it is, our median times, the fastest other library's over ours, its picture."""
    rows = ["| queries, rows, dimensions | cpp, ms | fastest other | |", "|---|---|---|---|"]
    for name, cells in regimes(result).items():
        first = cells[0]
        shape = f"{first['M']}, {first['N']:,}, {first['d']}; {first['dtype']}"
        shape += f"; {first['steps']} Euler steps" if first["steps"] else ""
        ours = [cell["peers"]["cpp"]["median"] for cell in cells]
        best = [min(cell["peers"][other]["median"] for other in others(cell)) for cell in cells]
        times = ", ".join(_ms(seconds) for seconds in ours)
        ratios = ", ".join(f"×{theirs / mine:.1f}" for theirs, mine in zip(best, ours, strict=True))
        rows.append(f"| {shape} | {times} | {ratios} | ![{name}]({folder}/{name}.svg) |")
    return "\n".join(rows)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}" if seconds < 0.9995 else f"{1e3 * seconds:.0f}"


def draw(cells: Cells, path: Path) -> None:
    """A strip for each sigma / alpha: when each library is done, on a logarithmic scale."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 0.75 + 0.28 * len(cells)), layout="constrained")
        ax = figure.subplots()
        names = ["cpp", *others(cells[0])]
        for k, name in enumerate(names):
            times = [1e3 * cell["peers"][name]["median"] for cell in cells]
            ax.plot(times, range(len(cells)), "D" if name == "cpp" else "o", color=f"C{k}", label=name, markersize=5)
        for row in range(len(cells)):
            ax.axhline(row, color="0.9", zorder=0)
        ax.set_yticks(range(len(cells)), [_ratio(cell) for cell in cells])
        ax.set(xscale="log", xlabel="ms", ylim=(len(cells) - 0.5, -0.5))
        ax.tick_params(axis="y", length=0)
        ax.minorticks_off()
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        figure.legend(loc="outside upper left", ncols=len(names), frameon=False, handletextpad=0, columnspacing=1)
        figure.savefig(path, metadata={"Date": None})


def _ratio(cell: dict[str, Any]) -> str:
    return "trajectory" if cell["ratio"] is None else f"σ/α = {cell['ratio']:g}"


def main() -> None:
    results = stored()
    PICTURES.mkdir(exist_ok=True)
    for name, cells in regimes(next(iter(results.values()))).items():
        draw(cells, PICTURES / f"{name}.svg")
    for path, text in pages(results).items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
