"""The part of a report about the lowest loss."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .._figures import COLOURS
from .._text import number, share
from .findings import Findings
from .parts import Block, Chart, Paragraph, Part, Table
from .study import crossing, noise_axis

__all__ = ["part"]

Float = npt.NDArray[np.float64]


def part(f: Findings) -> Part:
    """L*(t), the loss that no model can beat, over the noise levels."""
    study, best = f.study, f.loss
    times, ratio = study.noise_levels()
    square, lam = study.oracle.R**2, -np.log(ratio)
    # The integral of L* rho d rho over rho = alpha/sigma from 0 is the entropy of the row's number (Guo, Shamai and
    # Verdu 2005); before the first node L* is nearly R^2, after the last it is nearly 0.
    weight = np.gradient(lam) / ratio**2
    weight[[0, -1]] /= 2.0
    area, area_stderr = (
        float(weight @ best.loss) + 0.5 * square / ratio[0] ** 2,
        float(np.linalg.norm(weight * best.stderr)),
    )
    numbers = best.to_dict() | {
        "sigma_over_alpha": ratio,
        "area": area,
        "area_stderr": area_stderr,
        "log_N": math.log(study.oracle.N),
    }

    def draw(ax: Any) -> None:
        ax.fill_between(ratio, *(best.interval.T / square), alpha=0.2, color=COLOURS[0], linewidth=0)
        ax.errorbar(ratio, best.loss / square, 2 * best.stderr / square, fmt="o-", color=COLOURS[0], capsize=2)
        ax.set(ylabel="L*(t) / R²", ylim=(0, None))
        noise_axis(ax, study.oracle.schedule, ratio)

    text = (
        "L*(t) = E|D(x_t, t) − x₁|² is the loss of the exact denoiser, x_t a noised training row. No model has a "
        "smaller loss on these rows; one that seems to sees its target or is evaluated on other rows. What the loss "
        "of a model has above L* is its squared distance to the field that memorizes."
    )
    caption = (
        "The smallest denoiser loss in units of R², from noise (left) to data (right), with two standard errors of "
        f"{number(int(best.queries.sum()))} queries and the interval that holds it at 95 %. Check: the area "
        f"∫ L* ρ dρ over ρ = α/σ is {area:.4g} ± {2 * area_stderr:.1g} nats; the exact value, for rows that differ, is "
        f"log N = {math.log(study.oracle.N):.4g}."
    )
    nodes = list(zip(times, ratio, best.loss, best.stderr, strict=True))[::3]
    lines = [
        (f"{t:.4f}", number(r), f"{loss:.4g}", f"{error:.1g}", share(loss / square)) for t, r, loss, error in nodes
    ]
    blocks: list[Block] = [
        Paragraph(text),
        Chart(draw, "Smallest denoiser loss against time", caption),
        Table(lines, ("t", "σ/α", "L*", "standard error", "of R²")),
    ]
    half = crossing(lam, best.loss / square, 0.5)
    conclusions = []
    if half is not None:
        conclusions.append(
            "The smallest denoiser loss on these rows falls to half of their variance R² at "
            f"t = {study.oracle.schedule.time_at(half):.3f} (σ/α = {math.exp(-half):.3g})."
        )
    return Part("optimal_loss", "The loss no model can beat", numbers, blocks, conclusions)
