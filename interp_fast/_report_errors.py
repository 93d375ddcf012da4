"""Parts of a report about what is certain, and what breaks it: certificates, and errors put into the field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from . import _figures, _html
from ._figures import COLOURS
from ._study import Part, Study, distance, number, quantiles, share

__all__ = ["certificates", "error_injection"]

Float = npt.NDArray[np.float64]

_RUNS, _STEPS = 32, 25
_NORMS = (0.0, 0.25, 0.5, 0.9, 1.1, 2.0)  # of the error, in units of the radius


def certificates(study: Study) -> Part:
    """From when on it is proved which row a run ends on, and how far from it."""
    study.progress("certificates", 0.0)
    steps = itf.ddim(study.oracle.schedule, _STEPS)
    start = study.oracle.draw(_RUNS, 0.0, rng=study.seed)[0]
    run = itf.sample(study.oracle, steps, x0=start)
    proof = itf.theory.discretization_bound(study.oracle, steps, start)
    valid = np.asarray(proof.valid)
    apart = np.linalg.norm(run.x - study.data.rows[run.index].astype(np.float64), axis=1)
    numbers = {
        "n": _RUNS,
        "K": _STEPS,
        "q": proof.q,
        "valid": valid,
        "certified_time": np.where(valid, proof.time, np.nan),
        "commit_time": run.commit_time,
        "bound": proof.bound,
        "distance": apart,
        "index": run.index,
        "certified_index": proof.index,
    }

    def draw(ax: Any) -> None:
        assert run.commit_time is not None
        times = np.append(steps.times[:-1], 1.0)
        for label, when, colour in (
            ("the heaviest row stays the same", run.commit_time, COLOURS[0]),
            ("proved", np.where(valid, proof.time, np.inf), COLOURS[1]),
        ):
            ax.step(times, [np.mean(when <= t) for t in times], where="post", label=label, color=colour)
        for at, label in ((study.speciation, "speciation"), (study.collapse, "collapse")):
            if at is not None:
                ax.axvline(at, color=COLOURS[-1], linestyle=":", linewidth=1.4)
                ax.annotate(label, (at, 1.02), ha="center", xycoords=("data", "axes fraction"), fontsize=8.5)
        ax.set(xlabel="t", ylabel="share of runs", xlim=(0, 1), ylim=(0, 1.03))
        ax.legend(loc="lower right")

    text = (
        "A state is trapped when it lies in the shrunk Voronoi cell of a row and the pull of all other rows together "
        "is too weak to move it out: whatever the rest of the steps, the run ends on that row, within a bound. This "
        "is a proof for the run at hand, not a statistic."
    )
    certain = int(valid.sum())
    caption = (
        f"Share of {_RUNS} runs (ddim, {_STEPS} steps) that have settled, and for which that is proved, by time t."
    )
    sentence = (
        f"For {certain} of {_RUNS} runs of {_STEPS} ddim steps it is proved before the end on which row they land"
    )
    if certain:
        sentence += (
            f" (half of these by t = {np.median(proof.time[valid]):.3f}) and that they end within "
            f"{number(max(float(np.max(proof.bound[valid])), study.floor))} of it"
        )
    fragments = [
        _html.paragraph(text),
        _html.figure(_figures.chart(draw, "Runs settled and proved to be over time", size=(8.6, 3.0)), caption),
    ]
    return Part("certificates", numbers, _html.section("What is certain", fragments), [sentence + "."])


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
        _html.paragraph(text),
        _html.figure(
            chart, "What an error of the denoiser does: median distance to the row, and share still memorized."
        ),
        _html.table(lines, ("error, sampler", "norm", "memorized", "distance", *names), caption),
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
    return Part("error_injection", numbers, _html.section("Errors in the field", fragments), conclusions)


def _rms(vectors: Float) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))
