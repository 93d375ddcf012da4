"""The part of a report about samples beside their nearest rows, and how they come about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

import interp_fast as itf

from .._figures import COLOURS
from .._text import distance, number, share
from .findings import Findings
from .parts import Block, Chart, Gallery, Html, Paragraph, Part, Strip, Table
from .study import Study, quantiles

__all__ = ["part"]

_PAIRS = 12


def part(f: Findings) -> Part:
    """ODE and SDE samples beside their nearest training rows, and how a sample comes about."""
    study = f.study
    numbers: dict[str, Any] = {}
    lines, galleries = [], []
    for name, run in f.runs.items():
        assert run.index is not None
        kind = "SDE" if study.tables[name].S.any() else "ODE"
        result = numbers[name] = {
            "kind": kind,
            "n": study.n,
            "residual_std": study.residual(run),
            "distinct_rows": len(np.unique(run.index)),
            "commit_time": quantiles(run.commit_time),
            "stats": run.stats,
        }
        lines.append(
            (
                name,
                kind,
                str(run.stats["evaluations"]),
                distance(result["residual_std"], study.floor / math.sqrt(study.oracle.d)),
                number(result["distinct_rows"]),
                "{1:.3f} ({0:.3f}\u2013{2:.3f})".format(*result["commit_time"]),
                share(run.stats["work"]),
                f"{run.stats['seconds']:.1f}",
            )
        )
        if study.data.shape is not None:
            galleries.append(Gallery(_pairs(study, run), f"{name} ({kind}): sample, nearest training row, its number."))
    numbers["left_out"] = study.left_out
    header = ("sampler", "kind", "evaluations", "residual std", "different rows", "commit time", "work", "seconds")
    caption = (
        f"{number(study.n)} samples each. Residual std: root mean square difference to the nearest training row, per "
        "coordinate. Commit time: when the heaviest row of the posterior becomes what it stays, median and 80 % "
        "range. Work: share of a dense evaluation of all rows."
    )  # fmt: skip
    blocks: list[Block] = [Table(lines, header, caption)]
    blocks += [Paragraph(f"{name} was not run. {why}", note=True) for name, why in study.left_out.items()]
    blocks += galleries
    if study.data.shape is not None:
        blocks.append(_how_it_comes_about(f))
    elif study.oracle.d == 2:
        blocks.append(_scatter(f))
    first, run = next(iter(f.runs.items()))
    assert run.commit_time is not None
    conclusion = (
        f"The {number(study.n)} {first} samples end on {number(numbers[first]['distinct_rows'])} different training "
        f"rows; half of them have settled on theirs by t = {np.median(run.commit_time):.3f}."
    )
    return Part("samples", "Samples beside their nearest rows", numbers, blocks, [conclusion])


def _pairs(study: Study, run: itf.Samples) -> list[tuple[Sequence[Html], str]]:
    assert run.index is not None
    items: list[tuple[Sequence[Html], str]] = []
    for x, row in zip(run.x, run.index[:_PAIRS].tolist(), strict=False):
        pictures = study.picture(x, label="sample"), study.picture(study.data.rows[row], label="nearest training row")
        items.append((pictures, str(study.data.numbers[row])))
    return items


def _how_it_comes_about(f: Findings) -> Strip:
    """Two paths of the first sampler: the state, the denoiser at it, and how many rows weigh in it."""
    study, times = f.study, f.paths[0].times
    rows: list[tuple[str, list[str]]] = [("t", [f"{t:.2f}" for t in times])]
    for path in f.paths:
        noise = [2.0 * study.oracle.schedule(t).sigma for t in times]
        rows += [
            ("state", [study.picture(x, widen=z, label="state") for x, z in zip(path.states, noise, strict=True)]),
            ("denoiser", [study.picture(post.mean, label="denoiser") for post in path.posteriors]),
            ("rows in it", [_count(post.ess) for post in path.posteriors]),
        ]
    caption = (
        "How two samples come about: the state x_t, the denoiser D(x_t, t) that the sampler follows, and the effective "
        "number of training rows averaged in it. The last denoiser is the nearest row."
    )
    return Strip(rows, caption)


def _count(ess: float) -> str:
    return number(round(ess)) if ess > 99.5 else f"{ess:.2g}"


def _scatter(f: Findings) -> Chart:
    def draw(ax: Any) -> None:
        ax.scatter(*f.study.data.rows[:5000].T, s=14, color=COLOURS[-1], label="training rows")
        for (name, run), colour in zip(f.runs.items(), COLOURS, strict=False):
            ax.scatter(*run.x.T, s=8, color=colour, label=name, alpha=0.6)
        ax.set_aspect("equal", "datalim")
        ax.legend()

    return Chart(draw, "Samples and training rows", "Samples and training rows.", size=(8.6, 5.0))
