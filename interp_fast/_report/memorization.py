"""The part of a report about how many samples are copies."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .._figures import COLOURS, INK
from .._text import distance, interval, number, share
from .findings import Findings
from .parts import Block, Chart, Part, Table

__all__ = ["part"]


def part(f: Findings) -> Part:
    """Share of samples that copy a training row, against what held-out rows would score."""
    study, results, control = f.study, f.copies, f.unseen
    everything = results if control is None else results | {"held-out rows": control}
    threshold = next(iter(results.values())).threshold

    def draw(ax: Any) -> None:
        for (name, result), colour, dash in zip(results.items(), COLOURS, ("-", "--", ":", "-.", "-"), strict=False):
            ax.ecdf(result.ratio, label=name, color=colour, linestyle=dash)
        if control is not None:
            ax.ecdf(control.ratio, label="held-out rows", color=INK)
        ax.axvline(threshold, color=COLOURS[-1], linestyle=":", linewidth=1.4)
        ax.set(xlabel="distance to the nearest row / to the second nearest", ylabel="share below")
        ax.set(xlim=(-0.01, 1.01), ylim=(0, 1.03))
        ax.legend(loc="best")

    caption = (
        "Copied: nearer to the nearest training row than a third of the distance to the second nearest (95 % "
        f"interval). Near: within {study.radius:.3g}, a third of the median distance between nearest rows. Precision: "
        "samples in the neighbourhoods of the data; recall: data in the neighbourhoods of the samples, small when "
        "samples are few. Authentic: farther from the nearest row than that row is from its own nearest. C_T: z-score "
        "of the distances against those of held-out rows; far below 0 is copying."
    )  # fmt: skip
    header = ("", "copied", "near", "distance", "ratio", "precision", "recall", "authentic", "C_T")
    below = "Cumulative share of the ratio of the distances to the nearest two training rows; left of the dots: copies."
    blocks: list[Block] = [
        Table([_line(name, result, study.floor) for name, result in everything.items()], header, caption),
        Chart(draw, "Distribution of the nearest-neighbour distance ratio", below, size=(8.6, 3.4)),
    ]
    verdict = [
        (f"copied among {name}", interval(result.copied, result.copied_interval)) for name, result in everything.items()
    ]
    numbers: dict[str, Any] = {name: result.to_dict() for name, result in results.items()}
    numbers["holdout"] = None if control is None else control.to_dict()
    return Part("memorization", "Memorization", numbers, blocks, [_on_copies(f)], verdict)


def _line(name: str, result: Any, floor: float) -> tuple[str, ...]:
    shares = (result.precision, result.recall, result.authenticity)
    return (
        name,
        interval(result.copied, result.copied_interval),
        share(result.within),
        distance(float(np.median(result.d1)), floor),
        f"{np.median(result.ratio):.2g}",
        *("–" if value is None else share(value) for value in shares),
        "–" if result.c_t is None else f"{result.c_t:.1f}",
    )


def _on_copies(f: Findings) -> str:
    study, results, control = f.study, f.copies, f.unseen

    def count(result: Any) -> str:
        return f"{np.count_nonzero(result.ratio < result.threshold)} of {number(len(result.ratio))}"

    listed = ", ".join(f"{count(result)} {name} samples" for name, result in results.items())
    sentence = f"Nearer to a training row than a third of the distance to the next are {listed}"
    if control is None:
        return f"{sentence}; there are no held-out rows to compare with."
    sentence += f" and {count(control)} held-out rows. "
    copying = [name for name, r in results.items() if r.copied_interval[0] > control.copied_interval[1]]
    if len(copying) == len(results):
        return (
            sentence + "Every sampler copies more than likeness among unseen rows explains: the exact field memorizes."
        )
    if not copying:
        return sentence + "No sampler copies more than likeness among unseen rows explains."
    sentence += f"More than likeness among unseen rows explains: {', '.join(copying)}."
    for name in results.keys() - set(copying):
        apart = study.residual(f.runs[name]) * math.sqrt(study.oracle.d)
        if apart > study.radius:
            sentence += (
                f" Samples of {name} end with noise of norm {apart:.2g}, too far from their rows to count as copies."
            )
    return sentence
