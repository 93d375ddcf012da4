"""What every experiment shares: how it is set up, what it returns, how that is written down."""

from __future__ import annotations

import csv
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from .. import _figures
from .._results import Record, plain, to_json
from .._typing import Backend
from ..field import Field
from ..schedules import Schedule

__all__ = ["Experiment", "ExperimentResult", "Table", "Tools", "regular_polygon"]

Float = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tools:
    """How to compute: backend, threads, the seed of everything random, whom to tell about progress."""

    backend: Backend
    threads: int | None
    seed: int
    progress: Callable[[str, float], None]

    def field(self, rows: Any, schedule: Schedule, weights: Any = None) -> Field:
        return Field(rows, schedule, weights=weights, backend=self.backend, threads=self.threads)


class Table:
    """Rows with the same columns, collected one by one."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, **cells: Any) -> None:
        self.rows.append({name: plain(value) for name, value in cells.items()})

    def column(self, name: str, **where: Any) -> Float:
        """A column, of the rows whose other cells are as given."""
        chosen = [row[name] for row in self.rows if all(row[k] == v for k, v in where.items())]
        return np.array(chosen, np.float64)


@dataclass(frozen=True, repr=False, eq=False)
class ExperimentResult(Record):
    """What :func:`interp_fast.experiments.run` returns; prints as its table.

    Attributes
    ----------
    name, title : str
    settings : dict
        Everything the numbers depend on beside the seed.
    seed : int
    table : list of dict
        Rows with the same columns.
    findings : dict
        The few numbers that the table comes down to.
    """

    name: str
    title: str
    settings: dict[str, Any]
    seed: int
    table: list[dict[str, Any]]
    findings: dict[str, Any]
    draw: Callable[[Any], None]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture, in plain Python."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.name != "draw"}

    def __repr__(self) -> str:
        cells = [list(self.table[0])] + [[_cell(v) for v in row.values()] for row in self.table]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
        found = [f"{name}: {_cell(value)}" for name, value in self.findings.items()]
        return "\n".join([f"{self.name}: {self.title}", "", *lines, "", *found])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def plot(self, figure: Any = None) -> Any:
        """The picture on a matplotlib figure; returns the figure."""
        with _figures.style():
            from matplotlib.figure import Figure

            figure = Figure(figsize=(9.0, 4.5), layout="constrained") if figure is None else figure
            self.draw(figure)
        return figure

    def save(self, folder: Path) -> list[Path]:
        """Write NAME.json, NAME.csv and NAME.png into ``folder``; returns their paths."""
        paths = [folder / f"{self.name}.{ending}" for ending in ("json", "csv", "png")]
        paths[0].write_text(to_json(self.to_dict()), encoding="utf-8")
        with paths[1].open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(self.table[0]))
            writer.writeheader()
            writer.writerows(self.table)
        with _figures.style():
            self.plot().savefig(paths[2], dpi=120)
        return paths


class Experiment(ABC):
    """An experiment is a frozen dataclass of its settings."""

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        """The table, the findings, and what draws them on a figure."""


def regular_polygon(n: int, radius: float) -> Float:
    """Corners (n, 2) of a regular polygon."""
    angle = 2 * np.pi * np.arange(n) / n
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
