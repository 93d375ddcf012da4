"""The part of a report about step sizes: where Euler and Euler-Maruyama land, against the exact law of their tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import interp_fast as itf

from .. import _figures
from .._figures import COLOURS
from .._text import distance
from . import html
from .study import Part, Study

__all__ = ["step_study"]

_COUNTS = (10, 20, 40, 80, 160)
_AGREES = 0.1


@dataclass(frozen=True)
class _Case:
    title: str
    solver: str
    schedule: itf.Schedule
    table: Callable[[itf.Schedule, int], itf.StepTable]


_BRIDGE = "σ² = 1 − t"
_CASES = (
    _Case(_BRIDGE, "Euler", itf.LatentBridge(1.0), itf.euler),
    _Case("linear", "Euler", itf.Linear(), itf.euler),
    _Case("trigonometric", "Euler", itf.Trigonometric(), itf.euler),
    _Case(f"{_BRIDGE}, ε = ½", "Euler–Maruyama", itf.LatentBridge(1.0), lambda s, K: itf.euler_maruyama(s, K, 0.5)),
    _Case("linear, ε = σ/2", "Euler–Maruyama", itf.Linear(), lambda s, K: itf.euler_maruyama(s, K, ("sigma", 0.5))),
)


def step_study(study: Study) -> Part:
    """Distance per coordinate of the endpoint to its row, measured and predicted, for five step sizes."""
    results = []
    for i, case in enumerate(_CASES):
        oracle = study.oracle.with_schedule(case.schedule)
        columns: dict[str, Any] = {"h": [], "measured": [], "law": []}
        for j, K in enumerate(_COUNTS):
            study.progress(f"step sizes: {case.title}", (i + j / len(_COUNTS)) / len(_CASES))
            steps = case.table(case.schedule, K)
            run = itf.sample(oracle, steps, study.few, rng=study.seed)
            size = float(np.sqrt(np.mean(study.data.rows[run.index].astype(np.float64) ** 2)))
            columns["h"].append(1.0 / K)
            columns["measured"].append(study.residual(run))
            law = itf.theory.endpoint_law(case.schedule, steps)
            columns["law"].append(math.hypot(law.std, law.bias * size))
        results.append({"solver": case.solver, "schedule": repr(case.schedule), "case": case.title, **columns})
    floor = study.floor / math.sqrt(study.oracle.d)

    def draw(*axes: Any) -> None:
        for ax, solver in zip(axes, ("Euler", "Euler–Maruyama"), strict=True):
            for result, colour in zip((r for r in results if r["solver"] == solver), COLOURS, strict=False):
                measured = np.maximum(result["measured"], floor)
                ax.plot(result["h"], measured, "o", color=colour, label=result["case"])
                if min(result["law"]) > floor:
                    ax.plot(result["h"], result["law"], color=colour)
            ax.set(xscale="log", yscale="log", xlabel="step size h", ylim=(floor / 1.5, 1.0), title=solver)
            _figures.plain_log(ax.xaxis, (1, 2, 5))
            _figures.plain_log(ax.yaxis)
            ax.legend(fontsize=8.5)
        axes[0].set_ylabel("distance to the row, per coordinate")

    text = (
        "An exact field still meets a finite step. Where the variance vanishes linearly at the data end, Euler keeps "
        "noise of √(h/π) per coordinate; where σ itself does, its last step lands on the denoiser. What is kept, what "
        "is added and the bias of a curved α follow from the table of steps once one row has taken over: the law."
    )
    lines = []
    for result in results:
        for h, measured, law in list(zip(result["h"], result["measured"], result["law"], strict=True))[::2]:
            cells = [f"{result['solver']}, {result['case']}", f"1/{round(1 / h)}", distance(measured, floor)]
            cells += [f"{law:.3g}", f"{measured / law:.3f}"] if law > floor else ["0", "–"]
            cells.append(f"{measured / math.sqrt(h / math.pi):.3f}" if result["case"] == _BRIDGE else "–")
            lines.append(cells)
    chart = _figures.chart(draw, "Residual against step size", size=(8.6, 3.7), columns=2)
    fragments = [
        html.paragraph(text),
        html.figure(chart, "Measured (points) and the law (lines). Points at the lower edge are exact up to rounding."),
        html.table(
            lines,
            ("", "h", "measured", "law", "measured / law", "measured / √(h/π)"),
            f"Root mean square difference to the nearest training row per coordinate, over {study.few} samples.",
        ),
    ]
    numbers = {"n": study.few, "cases": results}
    conclusions = [
        f"With steps of 1/{_COUNTS[-1]}, {solver} misses the nearest row "
        + ", ".join(_miss(result, floor) for result in results if result["solver"] == solver)
        + "."
        for solver in ("Euler", "Euler–Maruyama")
    ]
    return Part("step_study", numbers, html.section("Step sizes", fragments), conclusions)


def _miss(result: dict[str, Any], floor: float) -> str:
    measured, law = result["measured"][-1], result["law"][-1]
    if measured <= floor:
        return f"by no more than rounding on {result['case']}"
    slope = float(np.polyfit(np.log(result["h"]), np.log(result["measured"]), 1)[0])
    agrees = abs(measured - law) < _AGREES * law
    return (
        f"by {measured:.2g} per coordinate on {result['case']} (falling like h^{slope:.2f}; the law of the steps is "
        f"{law:.2g}{'' if agrees else ' once one row has taken over'})"
    )
