"""The part of a report about errors put into the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from .. import _figures
from .._figures import COLOURS
from .._text import distance, number, share
from . import html
from .study import Part, Study, quantiles

__all__ = ["error_injection"]

Float = npt.NDArray[np.float64]

_RUNS, _STEPS = 32, 25
_NORMS = (0.0, 0.25, 0.5, 0.9, 1.1, 2.0)  # of the error, in units of the radius


def error_injection(study: Study) -> Part:
    """Errors of known size added to the field: what of them reaches the samples, as three terms that sum up exactly."""
    unit = study.radius or 1e-2 * study.oracle.R
    scale = study.oracle.R / math.sqrt(study.oracle.d)
    ddim = itf.ddim(study.oracle.schedule, _STEPS)
    kinds: dict[str, tuple[itf.StepTable, Callable[[float], Any]]] = {
        "random, ddim": (ddim, itf.perturb.constant),
        "smooth, ddim": (ddim, lambda norm: itf.perturb.smooth(norm, scale)),
    }
    if "euler_maruyama" in study.tables:
        kinds["random, euler_maruyama"] = (study.tables["euler_maruyama"], itf.perturb.constant)
    results: list[dict[str, Any]] = []
    for k, (kind, (steps, make)) in enumerate(kinds.items()):
        for j, norm in enumerate(_NORMS):
            study.progress(f"errors: {kind}", (k + j / len(_NORMS)) / len(kinds))
            error = make(norm * unit) if norm else None
            run = itf.sample(study.oracle, steps, study.few, rng=study.seed, error=error, terms=True)
            assert run.terms is not None
            terms = {name: _rms(getattr(run.terms, name)) for name in ("selection", "estimation", "noise")}
            apart = np.linalg.norm(run.terms.total, axis=1)
            off = np.abs(run.terms.total - (run.x - study.data.rows[run.index].astype(np.float64)))
            results.append(
                {
                    "kind": kind,
                    "norm": norm * unit,
                    "memorized": float(np.mean(apart < unit)),
                    "distance": quantiles(apart),
                    **terms,
                    "identity": float(np.max(off)),
                }
            )

    def draw(left: Any, right: Any) -> None:
        norms = unit * np.array(_NORMS[1:])
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
    chart = _figures.chart(draw, "Distance and share memorized against the error", size=(8.6, 3.4), columns=2)
    fragments = [
        html.paragraph(text),
        html.figure(
            chart, "What an error of the denoiser does: median distance to the row, and share still memorized."
        ),
        html.table(lines, ("error, sampler", "norm", "memorized", "distance", *names), caption),
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
    return Part("error_injection", numbers, html.section("Errors in the field", fragments), conclusions)


def _rms(vectors: Float) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))
