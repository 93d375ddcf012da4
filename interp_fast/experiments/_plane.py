"""Experiments on five points in the plane."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import perturb, theory
from .._figures import COLOURS, plain_log
from ..auditing import MEANING, fate
from ..field import Field, oracle_of
from ..metrics import memorization
from ..perturb import Perturbation
from ..sampling import Samples, sample
from ..schedules import VP, LatentBridge, Linear, Schedule, Trigonometric
from ..steps import euler, euler_maruyama, exponential
from ._base import Experiment, Table, Tools, regular_polygon

__all__ = ["ErrorInjection", "FivePoints", "NoiseSchedules", "StepSize"]

_PLANE: dict[str, Schedule] = {
    "linear": Linear(),
    "trigonometric": Trigonometric(),
    "sigma^2 = 1 - t": LatentBridge(1.0),
    "sigma^2 = 1 - t^2": LatentBridge(2.0),
    "VP": VP(),
}
# Distances below this are rounding and leakage.
_ZERO = 1e-9


def _deviation(out: Samples, rows: Any) -> Any:
    return np.linalg.norm(out.x - rows[out.index], axis=1)


@dataclass(frozen=True)
class FivePoints(Experiment):
    """Deterministic and stochastic generation of five points: exact recovery, in the right proportions."""

    name = "five-points"
    title = "the oracle's ODE and SDE on five points"

    samples: int = 4000
    steps: int = 80
    radius: float = 2.0
    weights: tuple[float, ...] = (0.1, 0.3, 0.2, 0.25, 0.15)
    churn: float = 1.0
    paths: int = 60

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        pentagon, equal = regular_polygon(5, self.radius), (0.2,) * 5
        scattered = 1.5 * np.random.default_rng(tools.seed).normal(size=(5, 2))
        sets = {"pentagon": (pentagon, equal), "weighted": (pentagon, self.weights), "random": (scattered, equal)}
        table, kept = Table(), []
        for i, (points, (rows, weights)) in enumerate(sets.items()):
            field = tools.field(rows, Linear(), weights)
            for j, (sampler, churn) in enumerate((("ODE", 0.0), ("SDE", self.churn))):
                tools.progress(f"{points}, {sampler}", (2 * i + j) / 6)
                steps = exponential(field.schedule, self.steps, churn)
                out: Any = sample(field, steps, self.samples, rng=tools.seed, keep="path")
                distance = _deviation(out, rows)
                share = np.bincount(out.index, minlength=5) / self.samples
                table.add(
                    points=points,
                    sampler=sampler,
                    median_distance=np.median(distance),
                    largest_distance=distance.max(),
                    recovered=np.mean(distance < 1e-3),
                    total_variation=0.5 * np.abs(share - weights).sum(),
                    median_commit_time=np.median(out.commit_time),
                )
                kept.append((rows, out.path[: self.paths if churn == 0 else self.paths // 5], f"{points}, {sampler}"))
        findings = {
            "recovered, at least": table.column("recovered").min(),
            "total variation to the weights, at most": table.column("total_variation").max(),
        }

        def draw(figure: Any) -> None:
            figure.set_size_inches(9.0, 6.0)
            for ax, (rows, path, title) in zip(figure.subplots(2, 3).T.ravel(), kept, strict=True):
                for x in path:
                    ax.plot(*x.T, color=COLOURS[5], linewidth=0.5)
                ax.plot(*path[:, -1].T, ".", color=COLOURS[1])
                ax.plot(*rows.T, "o", color=COLOURS[0], markerfacecolor="none")
                ax.set_title(title)
                ax.set_aspect("equal")

        return table, findings, draw


@dataclass(frozen=True)
class StepSize(Experiment):
    """How far Euler's endpoints are from the data: the rate depends on how sigma vanishes."""

    name = "step-size"
    title = "Euler's endpoint deviation against the step size"

    samples: int = 2000
    counts: tuple[int, ...] = (10, 20, 40, 80, 160, 320, 640)
    radius: float = 2.0
    fitted_from: int = 80

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        rows, table, findings = regular_polygon(5, self.radius), Table(), {}
        for i, (title, schedule) in enumerate(_PLANE.items()):
            field = tools.field(rows, schedule)
            for j, K in enumerate(self.counts):
                tools.progress(f"{title}, {K} steps", (i + j / len(self.counts)) / len(_PLANE))
                steps = euler(schedule, K)
                out = sample(field, steps, self.samples, rng=tools.seed)
                off = math.sqrt(np.mean((out.x - rows[out.index]) ** 2))
                law = theory.endpoint_law(schedule, steps)
                exact = math.hypot(law.std, law.bias * self.radius / math.sqrt(2))
                ratio = off / exact if exact > _ZERO else math.nan
                table.add(schedule=title, steps=K, h=1 / K, rms=off, predicted=exact, ratio=ratio)
            h, rms = table.column("h", schedule=title), table.column("rms", schedule=title)
            some = (h <= 1 / self.fitted_from) & (rms > _ZERO)
            findings[f"slope, {title}"] = (
                float(np.polyfit(np.log(h[some]), np.log(rms[some]), 1)[0]) if some.sum() > 1 else "exact"
            )
        bridge = table.column("rms", schedule="sigma^2 = 1 - t")[-1]
        findings["std / sqrt(h / pi), sigma^2 = 1 - t"] = bridge * math.sqrt(math.pi * self.counts[-1])

        def draw(figure: Any) -> None:
            ax = figure.subplots()
            for (title, _), colour in zip(_PLANE.items(), COLOURS, strict=False):
                h, rms = table.column("h", schedule=title), table.column("rms", schedule=title)
                ax.plot(h, np.where(rms > _ZERO, rms, np.nan), "o", color=colour, label=title)
                predicted = table.column("predicted", schedule=title)
                ax.plot(h, np.where(predicted > _ZERO, predicted, np.nan), color=colour)
            ax.set(xscale="log", yscale="log", xlabel="step size h", ylabel="rms deviation per coordinate")
            ax.legend(title="measured (dots), exact law of the table (lines)")

        return table, findings, draw


@dataclass(frozen=True)
class NoiseSchedules(Experiment):
    """Latent noise gamma = sqrt(c t (1 - t)) and diffusion epsilon: the noise that Euler-Maruyama leaves."""

    name = "noise-schedules"
    title = "endpoint noise of Euler-Maruyama with latent noise sqrt(c t (1 - t)) and diffusion epsilon"

    samples: int = 1000
    counts: tuple[int, ...] = (25, 100, 400)
    latent: tuple[float, ...] = (0.0, 1.0, 2.0)
    radius: float = 2.0
    diverged: float = 10.0

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        diffusions: dict[str, Any] = {
            "0": 0.0,
            "sigma/2": ("sigma", 0.5),
            "sigma": "sigma",
            "sigma^2": "sigma2",
            "1/2": 0.5,
        }
        rows, table = regular_polygon(5, self.radius), Table()
        for i, c in enumerate(self.latent):
            schedule = LatentBridge(c)
            field = tools.field(rows, schedule)
            for j, (title, diffusion) in enumerate(diffusions.items()):
                tools.progress(f"c = {c:g}, epsilon = {title}", (i + j / len(diffusions)) / len(self.latent))
                for K in self.counts:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", UserWarning)  # the unstable ones are part of the study
                        steps = euler_maruyama(schedule, K, diffusion)
                    std, off = theory.endpoint_law(schedule, steps).std, math.nan
                    if std < self.diverged:
                        out = sample(field, steps, self.samples, rng=tools.seed)
                        off = math.sqrt(np.mean((out.x - rows[out.index]) ** 2))
                    table.add(c=c, epsilon=title, steps=K, measured=off, law=std)
        law, measured = table.column("law"), table.column("measured")
        sure = (law > 1e-3) & (law < 0.2) & (table.column("steps") == self.counts[-1])
        findings = {
            "measured / law, least": float(np.min(measured[sure] / law[sure])),
            "measured / law, most": float(np.max(measured[sure] / law[sure])),
            "unstable": [f"c = {r['c']:g}, epsilon = {r['epsilon']}" for r in table.rows
                         if r["law"] > self.diverged and r["steps"] == self.counts[-1]],
        }  # fmt: skip

        def draw(figure: Any) -> None:
            axes = figure.subplots(1, len(self.latent), sharey=True, squeeze=False)[0]
            for ax, c in zip(axes, self.latent, strict=True):
                for title, colour in zip(diffusions, COLOURS, strict=False):
                    law = table.column("law", c=c, epsilon=title)
                    law = np.where((law > _ZERO) & (law < self.diverged), law, np.nan)
                    h = 1 / np.array(self.counts)
                    ax.plot(h, law, color=colour)
                    measured = table.column("measured", c=c, epsilon=title)
                    ax.plot(h, np.where(measured > _ZERO, measured, np.nan), "o", color=colour, label=f"ε = {title}")
                ax.set(xscale="log", yscale="log", xlabel="step size h", title=f"c = {c:g}")
                plain_log(ax.xaxis, (1, 4))
            axes[0].set_ylabel("endpoint noise per coordinate")
            axes[-1].legend()

        return table, findings, draw


@dataclass(frozen=True)
class ErrorInjection(Experiment):
    """Planted errors of the denoiser: how large one must be before samples are no copies any more."""

    name = "error-injection"
    title = "planted errors of the denoiser, and whether samples are still copies"

    samples: int = 2000
    steps: int = 80
    levels: tuple[float, ...] = (0.05, 0.1, 0.2, 0.5, 1.0, 1.5)
    radius: float = 2.0
    scale: float = 1.0
    density: float = 0.05
    share: float = 0.9

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        rows = regular_polygon(5, self.radius)
        field = tools.field(rows, Linear())
        steps = euler(field.schedule, self.steps)
        kinds: dict[str, Callable[[float], Perturbation]] = {
            "constant": perturb.constant,
            "smooth": lambda level: perturb.smooth(level, self.scale),
            "velocity": perturb.velocity,
            "inverse density": lambda level: perturb.inverse_density(self.density, level),
        }
        # A third of the distance between neighbouring points.
        limit = 2 * self.radius * math.sin(math.pi / 5) / 3
        table, pictures = Table(), {}
        for i, (title, kind) in enumerate(kinds.items()):
            for j, level in enumerate(self.levels):
                tools.progress(f"{title} error {level:g}", (i + j / len(self.levels)) / len(kinds))
                out = sample(field, steps, self.samples, rng=tools.seed, error=kind(level), terms=True)
                table.add(kind=title, level=level, **_fate(field, out, limit, self.share))
                if title == "constant":
                    pictures[level] = out.x
        findings = {
            f"{title}: copies up to": max(
                (r["level"] for r in table.rows if r["kind"] == title and r["verdict"] == "overfitting"), default=0.0
            )
            for title in kinds
        } | {"a third of the distance of neighbours": limit}

        def draw(figure: Any) -> None:
            left, right = figure.subplots(1, 2)
            for title, colour in zip(kinds, COLOURS, strict=False):
                left.plot(self.levels, table.column("memorized", kind=title), "o-", color=colour, label=title)
            left.axvline(limit, color=COLOURS[5], linewidth=0.8)
            left.set(xlabel="size of the error", ylabel="share of samples within a third of the spacing", xscale="log")
            plain_log(left.xaxis, (1, 2, 5))
            left.legend()
            for level, colour in zip(self.levels[::2], COLOURS, strict=False):
                right.plot(*pictures[level][:500].T, ".", markersize=1.5, color=colour, label=f"constant, {level:g}")
            right.plot(*rows.T, "k+")
            right.set_aspect("equal")
            right.legend(markerscale=4)

        return table, findings, draw


def _fate(field: Field, out: Samples, limit: float, share: float) -> dict[str, Any]:
    """What became of the samples, and the verdict on the error: the terms decide, not the size that was planted."""
    assert out.terms is not None
    assert out.index is not None
    data = oracle_of(field).training_set
    selected = out.terms.selection + data.values(out.index)
    sums = np.stack([selected, out.terms.estimation, out.terms.noise])
    end = fate(data, out.x, sums, 1.0, limit)
    parts = (end.terms.selection, end.terms.estimation, end.terms.noise)
    rms = [math.sqrt(np.mean(np.sum(term**2, axis=1))) for term in parts]
    memorized, displaced = np.mean(end.distance <= end.limit), np.mean(end.displaced)
    verdict = "overfitting" if memorized >= share else "underfitting" if displaced >= share else "undetermined"
    return {
        "mean_distance": end.distance.mean(), "bound": sum(rms), "copied": memorization(out.x, field, k=None).copied,
        "memorized": memorized, "displaced": displaced, "result": MEANING[verdict], "verdict": verdict,
    }  # fmt: skip
