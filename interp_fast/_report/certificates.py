"""The part of a report about what is certain."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._figures import COLOURS
from .._text import number
from .findings import RUNS, STEPS, Findings
from .parts import Block, Chart, Paragraph, Part

__all__ = ["part"]

Float = npt.NDArray[np.float64]


def part(f: Findings) -> Part:
    """From when on it is proved which row a run ends on, and how far from it."""
    study, steps, run, proof = f.study, f.proof.steps, f.proof.run, f.proof.bound
    valid = np.asarray(proof.valid)
    apart = np.linalg.norm(run.x - study.data.rows[run.index].astype(np.float64), axis=1)
    numbers = {
        "n": RUNS,
        "K": STEPS,
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
        for at, label in ((f.posterior.speciation, "speciation"), (f.posterior.collapse, "collapse")):
            if at is not None:
                ax.axvline(at.time, color=COLOURS[-1], linestyle=":", linewidth=1.4)
                ax.annotate(label, (at.time, 1.02), ha="center", xycoords=("data", "axes fraction"), fontsize=8.5)
        ax.set(xlabel="t", ylabel="share of runs", xlim=(0, 1), ylim=(0, 1.03))
        ax.legend(loc="lower right")

    text = (
        "A state is trapped when it lies in the shrunk Voronoi cell of a row and the pull of all other rows together "
        "is too weak to move it out: whatever the rest of the steps, the run ends on that row, within a bound. This "
        "is a proof for the run at hand, not a statistic."
    )
    certain = int(valid.sum())
    caption = f"Share of {RUNS} runs (ddim, {STEPS} steps) that have settled, and for which that is proved, by time t."
    sentence = f"For {certain} of {RUNS} runs of {STEPS} ddim steps it is proved before the end on which row they land"
    if certain:
        sentence += (
            f" (half of these by t = {np.median(proof.time[valid]):.3f}) and that they end within "
            f"{number(max(float(np.max(proof.bound[valid])), study.floor))} of it"
        )
    blocks: list[Block] = [
        Paragraph(text),
        Chart(draw, "Runs settled and proved to be over time", caption, size=(8.6, 3.0)),
    ]
    return Part("certificates", "What is certain", numbers, blocks, [sentence + "."])
