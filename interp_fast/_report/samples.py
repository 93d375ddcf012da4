"""The part of a report about samples beside their nearest rows, and how they come about."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import interp_fast as itf

from .. import _figures
from .._figures import COLOURS
from .._text import distance, number, share
from . import html
from .study import Part, Study, quantiles

__all__ = ["samples"]

_PAIRS, _MOMENTS = 12, 10


def samples(study: Study) -> Part:
    """ODE and SDE samples beside their nearest training rows, and how a sample comes about."""
    numbers: dict[str, Any] = {}
    lines, galleries = [], []
    for k, (name, steps) in enumerate(study.tables.items()):

        def report(done: int, rows: int, name: str = name, k: int = k) -> None:
            study.progress(f"samples: {name}", (k + done / rows) / len(study.tables))

        run = study.runs[name] = itf.sample(study.oracle, steps, study.n, rng=study.seed, progress=report)
        assert run.index is not None
        kind = "SDE" if steps.S.any() else "ODE"
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
            galleries.append(
                html.figure(_pairs(study, run), f"{name} ({kind}): sample, nearest training row, its number.")
            )
    numbers["left_out"] = study.left_out
    header = ("sampler", "kind", "evaluations", "residual std", "different rows", "commit time", "work", "seconds")
    caption = (
        f"{number(study.n)} samples each. Residual std: root mean square difference to the nearest training row, per "
        "coordinate. Commit time: when the heaviest row of the posterior becomes what it stays, median and 80 % "
        "range. Work: share of a dense evaluation of all rows."
    )  # fmt: skip
    fragments = [html.table(lines, header, caption)]
    fragments += [html.paragraph(f"{name} was not run. {why}", kind="note") for name, why in study.left_out.items()]
    fragments += galleries
    if study.data.shape is not None:
        fragments.append(_how_it_comes_about(study))
    elif study.oracle.d == 2:
        fragments.append(_scatter(study))
    first, run = next(iter(study.runs.items()))
    assert run.commit_time is not None
    conclusion = (
        f"The {number(study.n)} {first} samples end on {number(numbers[first]['distinct_rows'])} different training "
        f"rows; half of them have settled on theirs by t = {np.median(run.commit_time):.3f}."
    )
    return Part("samples", numbers, html.section("Samples beside their nearest rows", fragments), [conclusion])


def _pairs(study: Study, run: itf.Samples) -> str:
    assert run.index is not None
    items = []
    for x, row in zip(run.x, run.index[:_PAIRS].tolist(), strict=False):
        pictures = study.picture(x, label="sample"), study.picture(study.data.rows[row], label="nearest training row")
        items.append((pictures, str(study.data.numbers[row])))
    return html.gallery(items)


def _how_it_comes_about(study: Study) -> str:
    """Two paths of the first sampler: the state, the denoiser at it, and how many rows weigh in it."""
    steps = next(iter(study.tables.values()))
    run = itf.sample(study.oracle, steps, 2, rng=study.seed, keep="path")
    assert run.path is not None
    assert run.path_times is not None
    # There is little to see once the posterior has collapsed.
    last = len(run.path_times) - 1
    until = min(int(np.searchsorted(run.path_times, study.collapse or 1.0)), last - 1)
    chosen = np.unique([*np.linspace(0, max(until, 0), _MOMENTS).astype(int), last])
    times = run.path_times[chosen].tolist()
    rows: list[tuple[str, list[str]]] = [("t", [f"{t:.2f}" for t in times])]
    for path in run.path[:, chosen]:
        posteriors = [study.oracle.posterior(x, t) for x, t in zip(path, times, strict=True)]
        noise = [2.0 * study.oracle.schedule(t).sigma for t in times]
        rows += [
            ("state", [study.picture(x, widen=z, label="state") for x, z in zip(path, noise, strict=True)]),
            ("denoiser", [study.picture(post.mean, label="denoiser") for post in posteriors]),
            ("rows in it", [number(round(post.ess)) if post.ess > 99.5 else f"{post.ess:.2g}" for post in posteriors]),
        ]
    caption = (
        "How two samples come about: the state x_t, the denoiser D(x_t, t) that the sampler follows, and the effective "
        "number of training rows averaged in it. The last denoiser is the nearest row."
    )
    return html.figure(html.strip(rows), caption)


def _scatter(study: Study) -> str:
    def draw(ax: Any) -> None:
        ax.scatter(*study.data.rows[:5000].T, s=14, color=COLOURS[-1], label="training rows")
        for (name, run), colour in zip(study.runs.items(), COLOURS, strict=False):
            ax.scatter(*run.x.T, s=8, color=colour, label=name, alpha=0.6)
        ax.set_aspect("equal", "datalim")
        ax.legend()

    return html.figure(_figures.chart(draw, "Samples and training rows", size=(8.6, 5.0)), "Samples and training rows.")
