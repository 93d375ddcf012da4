"""The part of a report about step sizes: where Euler and Euler-Maruyama land, against the exact law of their tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import _figures
from .._figures import COLOURS
from .._text import distance
from .findings import BRIDGE, Findings
from .parts import Block, Chart, Paragraph, Part, Table

__all__ = ["part"]

_AGREES = 0.1


def part(f: Findings) -> Part:
    """Distance per coordinate of the endpoint to its row, measured and predicted, for five step sizes."""
    study, results = f.study, f.landings
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
            cells.append(f"{measured / math.sqrt(h / math.pi):.3f}" if result["case"] == BRIDGE else "–")
            lines.append(cells)
    blocks: list[Block] = [
        Paragraph(text),
        Chart(
            draw,
            "Residual against step size",
            "Measured (points) and the law (lines). Points at the lower edge are exact up to rounding.",
            size=(8.6, 3.7),
            columns=2,
        ),
        Table(
            lines,
            ("", "h", "measured", "law", "measured / law", "measured / √(h/π)"),
            f"Root mean square difference to the nearest training row per coordinate, over {study.few} samples.",
        ),
    ]
    numbers = {"n": study.few, "cases": results}
    conclusions = [
        f"With steps of 1/{round(1 / results[0]['h'][-1])}, {solver} misses the nearest row "
        + ", ".join(_miss(result, floor) for result in results if result["solver"] == solver)
        + "."
        for solver in ("Euler", "Euler–Maruyama")
    ]
    return Part("step_study", "Step sizes", numbers, blocks, conclusions)


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
