"""Experiments on images: memorization as the training set grows, and what generated data teach a classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import perturb, theory
from .._datasets import load
from .._figures import COLOURS, plain_log
from ..metrics import memorization
from ..sampling import sample
from ..schedules import LatentBridge, Linear
from ..steps import ddim, ddpm, euler
from ._base import Experiment, Table, Tools

__all__ = ["Classification", "Memorization"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Memorization(Experiment):
    """Samples of the oracle of subsets of images beside their nearest training rows."""

    name = "memorization"
    title = "copies among the samples as the training set grows"

    data: str = "digits"
    sizes: tuple[int, ...] = (50, 100, 200, 400, 800)
    samples: int = 200
    steps: int = 50
    queries: int = 64
    error: float = 0.1
    pictures: int = 8

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        data = load(self.data, holdout="0", seed=tools.seed)
        order = np.random.default_rng(tools.seed).permutation(len(data.rows))
        table, shown = Table(), {}
        for i, size in enumerate(self.sizes):
            rows = np.ascontiguousarray(data.rows[order[:size]])
            flat, bridge = tools.field(rows, Linear()), tools.field(rows, LatentBridge(1.0))
            collapse = theory.collapse_time(flat, self.queries, rng=tools.seed)
            error = perturb.constant(self.error * flat.R)
            runs: dict[str, Any] = {
                "ODE": (flat, ddim(flat.schedule, self.steps), None),
                "SDE": (flat, ddpm(flat.schedule, self.steps), None),
                "Euler, sigma^2 = 1 - t": (bridge, euler(bridge.schedule, self.steps), None),
                "ODE with error": (flat, ddim(flat.schedule, self.steps), error),
            }
            for j, (sampler, (field, steps, planted)) in enumerate(runs.items()):
                tools.progress(f"{size} rows, {sampler}", (i + j / len(runs)) / len(self.sizes))
                out = sample(field, steps, self.samples, rng=tools.seed, error=planted)
                near = memorization(out.x, rows, k=None)
                table.add(
                    rows=size, sampler=sampler, copied=near.copied, lower=near.copied_interval[0],
                    upper=near.copied_interval[1], median_ratio=np.median(near.ratio), median_d1=np.median(near.d1),
                    median_d2=np.median(near.d2), collapse=collapse.time, speciation=theory.speciation_time(flat).time,
                )  # fmt: skip
                shown[sampler] = (out.x[: self.pictures], rows[near.index[: self.pictures]])
        findings = {
            f"copied at {self.sizes[-1]} rows, {sampler}": table.column("copied", rows=self.sizes[-1], sampler=sampler)[
                0
            ]
            for sampler in shown
        }

        def draw(figure: Any) -> None:
            left, right = figure.subplots(1, 2)
            for sampler, colour in zip(shown, COLOURS, strict=False):
                values = [table.column(name, sampler=sampler) for name in ("copied", "lower", "upper")]
                left.plot(self.sizes, values[0], "o-", color=colour, label=sampler)
                left.fill_between(self.sizes, *values[1:], color=colour, alpha=0.15)
            left.set(xscale="log", xlabel="training rows", ylabel="share of copies (d1 / d2 < 1/3)", ylim=(-0.03, 1.03))
            plain_log(left.xaxis, (1, 2, 5))
            left.legend()
            if data.shape is None:
                right.set_axis_off()
                return
            grid, centres = _grid(shown, data.shape)
            right.imshow(grid, cmap="gray", vmin=grid.min(), vmax=grid.max())
            right.set_yticks(centres, [name.replace(", ", ",\n") for name in shown])
            right.set_xticks([])
            right.grid(visible=False)
            right.spines[:].set_visible(False)
            right.set_title(f"samples above their nearest of {self.sizes[-1]} rows")

        return table, findings, draw


def _grid(shown: dict[str, tuple[Array, Array]], shape: tuple[int, ...]) -> tuple[Any, list[float]]:
    """One masked picture, for every sampler a line of samples over a line of their nearest rows; and their middles."""
    height, width = shape[0] + 1, shape[1] + 1
    block = 2 * height + height // 2
    count = max(len(x) for x, _ in shown.values())
    grid = np.full((block * len(shown), width * count), np.nan)
    for i, pair in enumerate(shown.values()):
        for j, part in enumerate(pair):
            for k, row in enumerate(part):
                top, left = i * block + j * height, k * width
                grid[top : top + shape[0], left : left + shape[1]] = np.clip(row, -1.0, 1.0).reshape(shape[:2])
    return np.ma.masked_invalid(grid), [i * block + height - 0.5 for i in range(len(shown))]


@dataclass(frozen=True)
class Classification(Experiment):
    """Train a classifier on samples of class-conditional oracles with planted errors; test it on real digits."""

    name = "classification"
    title = "accuracy of classifiers trained on generated digits"

    rows: int = 100
    samples: tuple[int, ...] = (100, 500, 2000)
    errors: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0)
    steps: int = 20
    tests: int = 1000

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        order = np.random.default_rng(tools.seed).permutation(len(digits.data))
        values, labels = (digits.data[order] / 8.0 - 1.0).astype(np.float32), digits.target[order]
        x, y = values[: self.rows], labels[: self.rows]
        test, truth = values[-self.tests :], labels[-self.tests :]
        field = tools.field(x, Linear())
        classes, steps = np.unique(y), ddim(field.schedule, self.steps)
        real = _accuracy(x, y, test, truth)
        table = Table()
        for i, level in enumerate(self.errors):
            for j, count in enumerate(self.samples):
                tools.progress(f"error {level:g} R, {count} samples", (i + j / len(self.samples)) / len(self.errors))
                each = np.full(len(classes), max(1, count // len(classes)))
                error = perturb.constant(level * field.R)
                made = [
                    sample(field.subset(y == c), steps, int(m), rng=tools.seed, error=error).x
                    for c, m in zip(classes, each, strict=True)
                ]
                fit = np.concatenate(made), np.repeat(classes, each)
                alone = _accuracy(*fit, test, truth)
                both = _accuracy(np.concatenate([x, fit[0]]), np.concatenate([y, fit[1]]), test, truth)
                for k, classifier in enumerate(("nearest", "linear")):
                    table.add(
                        classifier=classifier,
                        error=level,
                        samples=count,
                        real=real[k],
                        generated=alone[k],
                        both=both[k],
                    )
        findings = {f"{name}, real rows": real[k] for k, name in enumerate(("nearest", "linear"))}
        for name in ("nearest", "linear"):
            best = max((r for r in table.rows if r["classifier"] == name), key=lambda r: r["generated"])
            findings[f"{name}, generated, best"] = best["generated"]
            findings[f"{name}, error of the best in R"] = best["error"]

        def draw(figure: Any) -> None:
            for ax, name in zip(figure.subplots(1, 2, sharey=True), ("nearest", "linear"), strict=True):
                for count, colour in zip(self.samples, COLOURS, strict=False):
                    accuracy = table.column("generated", classifier=name, samples=count)
                    ax.plot(self.errors, accuracy, "o-", color=colour, label=f"{count} samples")
                ax.axhline(findings[f"{name}, real rows"], color=COLOURS[5], label=f"{self.rows} real rows")
                ax.set(xlabel="error of the denoiser, in R", title=f"{name} classifier")
                ax.legend()
            figure.axes[0].set_ylabel("accuracy on real digits")

        return table, findings, draw


def _accuracy(x: Array, y: Array, test: Array, truth: Array) -> tuple[float, float]:
    """Of the nearest neighbour and of ridge regression on the labels."""
    x, test = x.astype(np.float64), test.astype(np.float64)
    squares = (x**2).sum(axis=1) - 2 * test @ x.T
    nearest = np.mean(y[squares.argmin(axis=1)] == truth)
    wide, seen = (np.column_stack([a, np.ones(len(a))]) for a in (x, test))
    targets = (y[:, None] == np.arange(10)).astype(np.float64)
    weights = np.linalg.solve(wide.T @ wide + len(x) * 0.01 * np.eye(wide.shape[1]), wide.T @ targets)
    return float(nearest), float(np.mean((seen @ weights).argmax(axis=1) == truth))
