"""The part of a report about the posterior over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _figures
from .._figures import COLOURS
from .._text import number, share
from .findings import COLLAPSED, Findings
from .parts import Chart, Paragraph, Part
from .study import noise_axis

__all__ = ["part"]

Float = npt.NDArray[np.float64]


def part(f: Findings) -> Part:
    """How many rows a noisy sample can still come from."""
    study, found = f.study, f.posterior
    times, ratio = study.noise_levels()
    columns, speciation, collapse = found.columns, found.speciation, found.collapse
    numbers = columns | {
        "times": times,
        "sigma_over_alpha": ratio,
        "n": study.n,
        "quantiles": (0.1, 0.5, 0.9),
        "collapse_level": COLLAPSED,
        "collapse_time": None if collapse is None else collapse.time,
        "collapse_stderr": None if collapse is None else collapse.stderr,
        "speciation_time": speciation.time,
        "largest_eigenvalue": speciation.eigenvalue,
    }

    def draw(*axes: Any) -> None:
        titles = {"ess": "rows that weigh (effective sample size)", "gap": "gap to the runner-up, nats"}
        for ax, (name, title), colour in zip(axes, titles.items(), COLOURS, strict=False):
            low, middle, high = np.maximum(columns[name], 1e-3).T
            ax.fill_between(ratio, low, high, color=colour, alpha=0.22, linewidth=0)
            ax.plot(ratio, middle, color=colour)
            ax.set(yscale="log", ylabel=title)
            _figures.plain_log(ax.yaxis)
            noise_axis(ax, study.oracle.schedule, ratio, 5)
            for time in (speciation, collapse):
                if time is not None:
                    ax.axvline(1.0 / time.rho, color=COLOURS[-1], linestyle=":", linewidth=1.4)

    text = (
        "Given x_t, each training row has a posterior probability of being the one that was noised. Early it is "
        "spread over the whole set; once it has collapsed onto one row, the field points at that row and the rest of "
        "the way is fixed."
    )
    caption = (
        f"Median and 80 % range over {number(study.n)} forward samples at each noise level: effective number of rows, "
        "and the logarithm of the heaviest row's weight over the second heaviest's."
    )
    level = share(COLLAPSED)
    caption += " Dotted: speciation (α/σ)² Λ₁ = 1, Λ₁ the largest eigenvalue of the covariance"
    spoken = (
        f"The main direction of the data stands out of the noise at t = {speciation.time:.3f} "
        f"(σ/α = {1.0 / speciation.rho:.3g})"
    )
    if collapse is None:
        where = "never: some rows differ by rounding only"
        conclusion = f"{spoken}; the posterior never settles on one row, as some rows differ by rounding only."
    else:
        caption += f", and collapse, where the mean entropy falls below {level} of its initial value"
        where = f"t = {collapse.time:.3f} ± {2 * collapse.stderr:.1g} (σ/α = {1.0 / collapse.rho:.3g})"
        conclusion = (
            f"{spoken}. From t = {collapse.time:.3f} (σ/α = {1.0 / collapse.rho:.3g}) on a noisy sample belongs to one "
            f"training row: the posterior over the {number(study.oracle.N)} rows has lost all but {level} of its "
            "entropy."
        )
    chart = Chart(draw, "Posterior concentration against time", caption + ".", columns=2)
    return Part(
        "posterior",
        "When one row takes over",
        numbers,
        [Paragraph(text), chart],
        [conclusion],
        [("posterior collapses at", where)],
    )
