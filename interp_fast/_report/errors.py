"""The part of a report about errors put into the field."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _figures
from .._figures import COLOURS
from .._text import distance, number, share
from .findings import NORMS, Findings
from .parts import Block, Chart, Paragraph, Part, Table

__all__ = ["part"]

Float = npt.NDArray[np.float64]


def part(f: Findings) -> Part:
    """Errors of known size added to the field: what of them reaches the samples, as three terms that sum up exactly."""
    study, unit, results = f.study, f.unit, f.errors
    kinds = list(dict.fromkeys(r["kind"] for r in results))

    def draw(left: Any, right: Any) -> None:
        norms = unit * np.array(NORMS[1:])
        for kind, colour in zip(kinds, COLOURS, strict=False):
            mine = [r for r in results if r["kind"] == kind and r["norm"] > 0]
            left.plot(norms, [r["distance"][1] for r in mine], "o", color=colour, label=kind)
            right.plot(norms, [r["memorized"] for r in mine], "o-", color=colour)
        left.plot(norms, norms, color=COLOURS[-1], linestyle=":", label="the error itself")
        left.set(xscale="log", yscale="log", xlabel="norm of the error of D", ylabel="median distance to the row")
        right.set(xscale="log", xlabel="norm of the error of D", ylabel="share memorized", ylim=(-0.03, 1.03))
        for ax in (left, right):
            _figures.plain_log(ax.xaxis, (1, 2, 5))
        _figures.plain_log(left.yaxis, (1, 2, 5))
        left.legend()

    text = (
        "A trained model differs from the exact field by an error. Here errors of known norm are added to the "
        "denoiser at every step, in fresh random directions or as a fixed smooth field. The deviation of a sample "
        "from its nearest row is the sum of three terms: selection (which row, and how well it is met), estimation "
        "(the error) and noise."
    )
    names = ("selection", "estimation", "noise")
    lines = [
        (
            r["kind"],
            number(r["norm"]),
            share(r["memorized"]),
            distance(r["distance"][1], study.floor),
            *(distance(r[name], study.floor) for name in names),
        )
        for r in results
    ]
    caption = (
        f"{study.few} samples each. Memorized: within {unit:.3g} of a row. Terms: root mean square norms; they sum to "
        f"sample − row up to {max(r['identity'] for r in results):.0e}, the rounding of the samples included."
    )
    blocks: list[Block] = [
        Paragraph(text),
        Chart(
            draw,
            "Distance and share memorized against the error",
            "What an error of the denoiser does: median distance to the row, and share still memorized.",
            size=(8.6, 3.4),
            columns=2,
        ),
        Table(lines, ("error, sampler", "norm", "memorized", "distance", *names), caption),
    ]
    sentences = []
    for kind in kinds:
        mine = [r for r in results if r["kind"] == kind]
        kept = [r["norm"] for r in mine if r["memorized"] >= 0.9]
        lost = [r["norm"] for r in mine if r["memorized"] <= 0.1]
        if kept and lost:
            sentences.append(f"{number(kept[-1])} and {number(lost[0])} ({kind})")
    conclusions = []
    if sentences:
        conclusions.append(
            f"Errors of the denoiser end memorization (from at least 90 % of samples within {number(unit)} of a row to "
            f"at most 10 %) between norms {'; '.join(sentences)}."
        )
    numbers = {"n": study.few, "radius": unit, "cases": results}
    return Part("error_injection", "Errors in the field", numbers, blocks, conclusions)
