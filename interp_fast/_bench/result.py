"""The result of ``interp-fast bench``: as plain data, as tables, as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import _figures
from .._accuracy import PROMISES
from .._arrays import result_type
from .._text import columns
from .peers import OURS, PEERS

__all__ = ["Benchmark"]

_LEGEND = """\
Times in milliseconds. of dense: time of the dense work (4 M N d flops, M N exponentials, or one read of the rows) at
the machine's limits over the median; it passes 1 where work is skipped (work: share of the dense work done). of one
product: the same of 2 M N d flops, all that is left at late times; of one in int8: on bytes, where the processor
multiplies such. ratio: of medians. noise, denoiser: largest errors against float64 direct differences, over max(|z|, 1)
and max(|D|, R); endpoint: over R. *: timed on a few queries and scaled. INTERP_FAST_ISA chooses the instructions of cpp
and of the limits; other libraries choose theirs."""
# Limits of a cell, what they are limits of, and how the picture draws them.
_BOUNDS = {
    "bound": ("dense", "dense work", "--"),
    "product_bound": ("one product", "one product", ":"),
    "bytes_bound": ("one in int8", "one product in int8", "-."),
}


@dataclass(frozen=True)
class Benchmark:
    """What was measured.

    Attributes
    ----------
    machine : dict
        Processor, threads, versions.
    cells : list of dict
        One for each regime, type and sigma / alpha: its shape; ``limits``, the best rates of the machine (operations a
        second); ``bound``, ``product_bound`` and ``bytes_bound``, the seconds that dense work, one product and one in
        int8 take at these, or None; ``peers``,
        by name, ``median`` and ``minimum`` seconds, the errors ``noise`` and ``denoiser`` (of a trajectory
        ``endpoint``, in units of R), ``work`` (the share of the dense work done, ours only), ``scaled`` (timed on a few
        queries), ``kernels`` (what was chosen for this processor, where known); ``failed``, reasons by name.
    """

    machine: dict[str, Any]
    cells: list[dict[str, Any]]

    @property
    def ok(self) -> bool:
        """Whether our backends ran and kept to the promised accuracy in everything that was timed."""
        return all(
            name not in cell["failed"] and (name not in cell["peers"] or _kept(cell, cell["peers"][name]))
            for cell in self.cells
            for name in OURS
        )

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, "machine": self.machine, "cells": self.cells}

    def __str__(self) -> str:
        lines = [_machine_line(self.machine)]
        for cell in self.cells:
            lines += ["", _title(cell), columns(_entries(cell), numbers=True)]
            lines += [f"{name}: failed ({reason})" for name, reason in cell["failed"].items()]
        lines += ["", *(f"{name}: {_label(name, self.cells)}" for name in _names(self.cells))]
        return "\n".join([*lines, "", _LEGEND])

    def markdown(self) -> str:
        """One table: a row for each cell, a column for each contestant: median (or ratio of medians), minimum."""
        names, bounds = _names(self.cells), _bounds(self.cells)
        heads = [f"{_BOUNDS[key][0]}, ms" for key in bounds]
        heads += [name + " (approximate)" * (not PEERS[name].exact) for name in names]
        rows = [["M, N, d", "rows", "σ/α", *heads], ["---"] * (3 + len(heads))]
        for cell in self.cells:
            shape = f"{cell['M']}, {cell['N']}, {cell['d']}" + (f", {cell['steps']} steps" if cell["steps"] else "")
            ratio = "1 ... 0" if cell["ratio"] is None else f"{cell['ratio']:g}"
            ours = _first(cell)
            shown = []
            for name in names:
                entry = cell["peers"].get(name)
                if entry is None:
                    shown.append("")
                    continue
                star = "*" if entry["scaled"] else ""
                error = f"{entry['endpoint' if cell['steps'] else 'noise']:.0e}"
                if name == ours:
                    shares = "; ".join(_share(cell, entry, key) for key in bounds)
                    shares = f" ({shares})" if shares else ""
                    shown.append(f"**{_ms(entry['median'])}** {_ms(entry['minimum'])}{shares}, {error}")
                else:
                    over = entry["median"] / cell["peers"][ours]["median"]
                    shown.append(f"×{over:.1f}{star} {_ms(entry['minimum'])}, {error}")
            rows.append([shape, cell["dtype"], ratio, *(_ms(cell[key]) for key in bounds), *shown])
        return "\n".join([_machine_line(self.machine), "", *("| " + " | ".join(row) + " |" for row in rows)])

    @_figures.style()
    def plot(self, path: str | Path) -> None:
        """A picture: medians on a logarithmic scale, a panel for each regime and type, the limits as lines."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        panels: dict[str, list[dict[str, Any]]] = {}
        for cell in self.cells:
            panels.setdefault(f"{cell['regime']}, {cell['dtype']}", []).append(cell)
        names, bounds = _names(self.cells), _bounds(self.cells)
        columns = min(3, len(panels))
        figure = Figure(figsize=(4.6 * columns, 2.9 * -(-len(panels) // columns) + 0.5), layout="constrained")
        axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).ravel()
        width = 0.84 / len(names)
        for ax, (title, cells) in zip(axes, panels.items(), strict=False):
            for j, name in enumerate(names):
                at = [(k, cell["peers"][name]["median"]) for k, cell in enumerate(cells) if name in cell["peers"]]
                ax.bar(
                    [k - 0.42 + (j + 0.5) * width for k, _ in at], [1e3 * seconds for _, seconds in at], 0.9 * width,
                    color=colormaps["tab10"](j), label=name,
                )  # fmt: skip
            for key in bounds:
                _, what, line = _BOUNDS[key]
                ax.hlines(
                    [1e3 * cell[key] for cell in cells],
                    [k - 0.45 for k in range(len(cells))], [k + 0.45 for k in range(len(cells))],
                    color="black", linestyle=line, linewidth=1, label=what,
                )  # fmt: skip
            ax.set_yscale("log")
            ax.set_ylabel("ms")
            ax.set_title(f"{title}: {cells[0]['M']} × {cells[0]['N']} × {cells[0]['d']}", fontsize=9)
            labels = ["trajectory" if cell["ratio"] is None else f"σ/α = {cell['ratio']:g}" for cell in cells]
            ax.set_xticks(range(len(cells)), labels)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), fontsize=8)
        figure.suptitle(f"{_machine_line(self.machine)}; lines: at the machine's limits", fontsize=8)
        figure.savefig(path, dpi=120)


def _names(cells: list[dict[str, Any]]) -> list[str]:
    """Contestants that were timed, in the order of the table."""
    return [name for name in PEERS if any(name in cell["peers"] for cell in cells)]


def _label(name: str, cells: list[dict[str, Any]]) -> str:
    kernels = {cell["peers"][name].get("kernels") for cell in cells if name in cell["peers"]} - {None}
    return PEERS[name].label + "".join(f" ({chosen})" for chosen in kernels)


def _kept(cell: dict[str, Any], entry: dict[str, Any]) -> bool:
    promise = PROMISES[result_type(cell["dtype"]).name]
    return all(entry[key] <= getattr(promise, key) for key in ("noise", "denoiser") if key in entry)


def _first(cell: dict[str, Any]) -> str:
    """The contestant that ratios refer to: our best, which is the first of the table."""
    return next(name for name in PEERS if name in cell["peers"])


def _bounds(cells: list[dict[str, Any]]) -> list[str]:
    """Limits that are known here."""
    return [key for key in _BOUNDS if all(cell[key] is not None for cell in cells)]


def _share(cell: dict[str, Any], entry: dict[str, Any], limit: str) -> str:
    """A limit over the median time."""
    return f"{cell[limit] / entry['median']:.2f}"


def _ms(seconds: float) -> str:
    ms = 1e3 * seconds
    return f"{ms:.3g}" if ms < 999.5 else f"{ms:.0f}"


def _machine_line(machine: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return f"{machine['cpu']} ({machine['isa'] or 'no compiled kernels'}), {machine['threads']} threads; {versions}"


def _title(cell: dict[str, Any]) -> str:
    kind = f"{cell['steps']} Euler steps" if cell["steps"] else f"sigma/alpha = {cell['ratio']:g}"
    limit = ""
    if cell["limits"]:
        result = result_type(cell["dtype"]).name
        fma, exp, read = (cell["limits"][key] / 1e9 for key in (f"fma_{result}", f"exp_{result}", "read"))
        limit = f"; limit {_ms(cell['bound'])} ms ({fma:.0f} GFLOP/s, {exp:.1f} G exp/s, {read:.0f} GB/s)"
    return f"{cell['regime']}: M = {cell['M']}, N = {cell['N']}, d = {cell['d']}, {cell['dtype']}, {kind}{limit}"


def _entries(cell: dict[str, Any]) -> list[list[str]]:
    errors = ["endpoint"] if cell["steps"] else ["noise", "denoiser"]
    bounds = _bounds([cell])
    rows = [["", "median", "minimum", *(f"of {_BOUNDS[key][0]}" for key in bounds), "ratio", "work", *errors]]
    for name, entry in sorted(cell["peers"].items(), key=lambda item: item[1]["median"]):
        shares = [_share(cell, entry, key) for key in bounds]
        ratio = f"{entry['median'] / cell['peers'][_first(cell)]['median']:.2f}"
        work = "" if entry["work"] is None else f"{entry['work']:.3f}"
        star = "*" if entry["scaled"] else ""
        label = name + star + " (NOT AS PROMISED)" * (name in OURS and not _kept(cell, entry))
        times = [_ms(entry["median"]), _ms(entry["minimum"])]
        rows.append([label, *times, *shares, ratio, work, *(f"{entry[key]:.0e}" for key in errors)])
    return rows
