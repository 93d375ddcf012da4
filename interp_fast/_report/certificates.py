"""The part of a report about what is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from .. import _figures
from .._figures import COLOURS
from .._text import number
from . import html
from .study import Part, Study

__all__ = ["certificates"]

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
        html.paragraph(text),
        html.figure(_figures.chart(draw, "Runs settled and proved to be over time", size=(8.6, 3.0)), caption),
    ]
    return Part("certificates", numbers, html.section("What is certain", fragments), [sentence + "."])
