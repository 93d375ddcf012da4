"""The part of a report about the posterior over rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from .. import _figures
from .._figures import COLOURS
from .._text import number, share
from . import html
from .study import Part, Study, noise_axis, quantiles

__all__ = ["posterior"]

Float = npt.NDArray[np.float64]

_COLLAPSED = 0.05  # share of the prior's entropy below which the posterior counts as collapsed


def posterior(study: Study) -> Part:
    """How many rows a noisy sample can still come from."""
    times, ratio = study.noise_levels()
    columns: dict[str, list[Any]] = {name: [] for name in ("ess", "gap", "entropy", "entropy_stderr", "own_row")}
    for k, t in enumerate(times.tolist()):
        study.progress("posterior", 0.8 * k / len(times))
        x, index = study.oracle.draw(study.n, t, rng=study.seed)
        post = study.oracle.posterior(x, t)
        columns["ess"].append(quantiles(post.ess))
        columns["gap"].append(quantiles(post.gap))
        columns["entropy"].append(float(np.mean(post.entropy)))
        columns["entropy_stderr"].append(float(np.std(post.entropy, ddof=1) / math.sqrt(study.n)))
        columns["own_row"].append(float(np.mean(post.index == index)))
    study.progress("collapse time", 0.8)
    try:
        collapse = itf.theory.collapse_time(study.oracle, study.n, level=_COLLAPSED, rng=study.seed)
    except ValueError:  # rows too near to each other to be told apart
        collapse = None
    speciation = itf.theory.speciation_time(study.oracle)
    study.speciation, study.collapse = speciation.time, None if collapse is None else collapse.time
    numbers = columns | {
        "times": times,
        "sigma_over_alpha": ratio,
        "n": study.n,
        "quantiles": (0.1, 0.5, 0.9),
        "collapse_level": _COLLAPSED,
        "collapse_time": study.collapse,
        "collapse_stderr": None if collapse is None else collapse.stderr,
        "speciation_time": study.speciation,
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
    level = share(_COLLAPSED)
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
    chart = _figures.chart(draw, "Posterior concentration against time", size=(8.6, 3.5), columns=2)
    fragments = [html.paragraph(text), html.figure(chart, caption + ".")]
    return Part(
        "posterior",
        numbers,
        html.section("When one row takes over", fragments),
        [conclusion],
        [("posterior collapses at", where)],
    )
