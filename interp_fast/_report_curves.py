"""Parts of a report that need no sampler: the training set, the smallest loss, the posterior over rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from . import _figures, _html
from ._figures import COLOURS, INK
from ._study import Part, Study, crossing, number, quantiles, share

__all__ = ["data", "optimal_loss", "posterior"]

Float = npt.NDArray[np.float64]

_PICTURES = 24
_COLLAPSED = 0.05  # share of the prior's entropy below which the posterior counts as collapsed


def data(study: Study) -> Part:
    """Size, spread, nearest-neighbour distances, a look at some rows."""
    given, oracle, unseen = study.data, study.oracle, study.unseen
    held_out = 0 if given.holdout is None else len(given.holdout)
    equal = float(np.mean(study.near == 0))
    numbers = {
        "name": given.name,
        "source": given.source,
        "N": oracle.N,
        "d": oracle.d,
        "dtype": str(given.rows.dtype),
        "shape": given.shape,
        "R": oracle.R,
        "looked_up": len(study.near),
        "nearest_distance": quantiles(study.near),
        "duplicates": equal,
        "radius": study.radius,
        "holdout": given.holdout_source,
        "holdout_N": held_out,
        "holdout_nearest_distance": None if unseen is None else quantiles(unseen.d1),
    }
    nearest = "median {1:.3g}; 80 % between {0:.3g} and {2:.3g}".format(*quantiles(study.near))
    facts = [
        ("source", given.source),
        ("training rows N", number(oracle.N)),
        ("numbers in a row d", number(oracle.d)),
        ("rms distance to the mean R", number(oracle.R)),
        ("distance to the nearest other row", nearest),
        ("rows with an exact duplicate", share(equal)),
        ("hold-out", f"{given.holdout_source}, {number(held_out)} rows" if held_out else "none"),
    ]
    fragments = [_html.table(facts)]
    if given.shape is not None:
        chosen = np.linspace(0, oracle.N - 1, min(_PICTURES, oracle.N)).astype(int)
        pictures = [((study.picture(given.rows[i]),), str(given.numbers[i])) for i in chosen]
        fragments.append(_html.figure(_html.gallery(pictures), "Some training rows, with their numbers in the source."))

    def draw(ax: Any) -> None:
        both = study.near if unseen is None else np.concatenate([study.near, unseen.d1])
        bins = np.linspace(0.0, float(both.max()) or 1.0, 60)
        ax.hist(study.near, bins, density=True, alpha=0.5, color=COLOURS[0], label="training rows, to another row")
        if unseen is not None:
            ax.hist(unseen.d1, bins, density=True, histtype="step", linewidth=1.5, color=INK, label="held-out rows")
        ax.set(xlabel="distance to the nearest training row", yticks=[])
        ax.legend()

    caption = f"Nearest-neighbour distances of {number(len(study.near))} training rows"
    if unseen is not None:
        caption += f" and of {number(len(unseen.d1))} held-out rows, which are what new samples would look like"
    fragments.append(_html.figure(_figures.chart(draw, "Nearest-neighbour distances", size=(8.6, 2.6)), caption + "."))
    verdict = [("training set", f"{given.name}: {number(oracle.N)} rows of {number(oracle.d)} numbers")]
    return Part("data", numbers, _html.section("The training set", fragments), [], verdict)


def optimal_loss(study: Study) -> Part:
    """L*(t), the loss that no model can beat, over the noise levels."""
    times, ratio = study.noise_levels()
    study.progress("smallest loss", 0.0)
    best = itf.optimal_loss(study.oracle, times, 2 * study.n, rng=study.seed)
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
        _noise_axis(ax, study.oracle.schedule, ratio)

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
    fragments = [
        _html.paragraph(text),
        _html.figure(_figures.chart(draw, "Smallest denoiser loss against time"), caption),
        _html.table(lines, ("t", "σ/α", "L*", "standard error", "of R²")),
    ]
    half = crossing(lam, best.loss / square, 0.5)
    conclusions = []
    if half is not None:
        conclusions.append(
            "The smallest denoiser loss on these rows falls to half of their variance R² at "
            f"t = {study.oracle.schedule.time_at(half):.3f} (σ/α = {math.exp(-half):.3g})."
        )
    return Part("optimal_loss", numbers, _html.section("The loss no model can beat", fragments), conclusions)


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
            _noise_axis(ax, study.oracle.schedule, ratio, 5)
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
    fragments = [_html.paragraph(text), _html.figure(chart, caption + ".")]
    return Part(
        "posterior",
        numbers,
        _html.section("When one row takes over", fragments),
        [conclusion],
        [("posterior collapses at", where)],
    )


def _noise_axis(ax: Any, schedule: itf.Schedule, ratio: Float, count: int = 8) -> None:
    """A horizontal axis in sigma/alpha, noise at the left, with times above."""
    ax.set_xscale("log")
    ax.set_xlim(ratio[0] * 1.05, ratio[-1] / 1.05)
    ax.set_xlabel("σ/α")
    _figures.plain_log(ax.xaxis, (1, 2, 5))
    top = ax.secondary_xaxis("top")
    nodes = ratio[:: len(ratio) // count]
    top.set_xticks(nodes, [f"{t:.3g}" for t in np.atleast_1d(schedule.time_at(-np.log(nodes)))])
    top.minorticks_off()
    top.set_xlabel("t")
