"""The verdict of an audit in words, and what would settle one that is open."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["CONFIDENCE", "MEANING", "TWO_SIDED", "deciding_radii", "samples_needed", "sentences", "title", "wilson"]

Float = npt.NDArray[np.float64]

# The paper's terms: a model underfits when it does not reach the memorizing optimum, however good its samples are.
MEANING = {"overfitting": "memorizes", "underfitting": "does not memorize", "undetermined": "undetermined"}

# Every limit that enters a verdict is one-sided; a two-sided interval of the second level ends at two of them.
CONFIDENCE = 0.95
TWO_SIDED = 2 * CONFIDENCE - 1


def wilson(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Confidence interval of a probability, from the share of successes in n trials (Wilson 1927)."""
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 / n * (share * (1 - share) + z2 / (4 * n))) / (1 + z2 / n)
    return min(share, middle - half), max(share, middle + half)


def samples_needed(share: float, level: float) -> int | None:
    """How many samples of which ``share`` succeed show a probability of ``level``; None where no number does."""
    if share <= level:
        return None
    z = NormalDist().inv_cdf(CONFIDENCE)
    return math.ceil(z**2 * level * (1 - level) / (share - level) ** 2)


def deciding_radii(clear: Float, distance: Float, level: float) -> tuple[float, float]:
    """Below the first radius enough samples are displaced to show ``level``, from the second on enough are memorized.

    0 and inf where there is none. ``clear`` (n,) are the radii up to which each sample is displaced, ``distance`` (n,)
    those from which it is memorized.
    """
    n = len(distance)
    enough = [k for k in range(1, n + 1) if wilson(k / n, n, TWO_SIDED)[0] >= level]
    if not enough:
        return 0.0, math.inf
    return max(0.0, float(np.sort(clear)[n - enough[0]])), float(np.sort(distance)[enough[0] - 1])


def title(a: Any) -> str:
    """The verdict on an audit ``a`` and the share of copies, for a figure."""
    held = "" if a.holdout_within is None else f", of held-out rows {_percent(a.holdout_within)}"
    return f"{MEANING[a.verdict]}: copied {_percent(a.memorized)}{held}"


def sentences(a: Any) -> list[str]:
    """What an audit ``a`` found: the verdict and the shares it rests on, the loss, what would settle it."""
    doubts = [] if a.doubt is None else [f"Be careful: {a.doubt}"]
    return [_shares(a), *doubts, *_likeness(a), _excess(a), *(_open(a) if a.memorizes is None else _remark(a))]


def _shares(a: Any) -> str:
    n = len(a.terms.total)
    low, high = a.memorized_interval
    text = (
        f"{MEANING[a.verdict]}: {round(a.memorized * n)} of {n} samples ({_percent(a.memorized)}, "
        f"{_percent(TWO_SIDED)} interval {100 * low:.3g} to {_percent(high)}) are copies, {_nearness(a)}"
    )
    if a.memorizes is True and a.memorized_interval[0] < a.level:
        text += f"; the bound on the model's error alone makes that at least {_percent(a.memorized_bound)}"
    elif a.memorizes is not True:
        text += f"; the model's error alone keeps {_share(a.displaced, a.displaced_interval)} off every row"
    return text + "."


def _nearness(a: Any) -> str:
    if np.ndim(a.radius) == 0:
        return f"within {a.radius:.3g} of a training row" if a.radius > 0 else "equal to a training row up to rounding"
    if np.isinf(a.radius).any():
        return "equal to the one training row there is up to rounding"
    return "within a third of the way from a training row to its nearest neighbour"


def _likeness(a: Any) -> list[str]:
    """The same share of held-out rows, and what that makes of the samples'."""
    if a.holdout_within is None:
        return []
    text = f"Of held-out rows {_share(a.holdout_within, a.holdout_within_interval)} lie that near"
    if a.memorized == 0:
        return [text + "."]
    if a.memorized_interval[0] > a.holdout_within_interval[1]:
        return [text + ": more samples are copies than likeness explains."]
    if a.holdout_within >= a.memorized:
        return [text + ": that is no sign of copying; a smaller radius may tell."]
    return [text + ": the difference may be chance; more samples and held-out rows would tell."]


def _excess(a: Any) -> str:
    k = int(np.argmax(a.excess))
    error, at = math.sqrt(a.excess[k]), f"at t = {a.times[k]:.3g}"
    if error <= 1e-6 * a.R:
        return "Its loss is the lowest possible at every time looked at: up to rounding it is the exact denoiser."
    scale = f", {_percent(error / a.R)} of the spread of the rows" if a.R > 0 else ""
    return (
        f"Its loss is above the lowest possible by up to {a.excess[k]:.3g} +- {a.excess_stderr[k]:.2g} ({at}, where "
        f"{a.optimal[k]:.3g} is the lowest): its denoiser is off the exact one by {error:.3g} there{scale}."
    )


def _remark(a: Any) -> list[str]:
    if a.memorizes:
        return []
    return [
        f'The verdict "{a.verdict}" says that it does not reach the memorizing optimum; how good its samples are is '
        f"another question."
    ]


def _open(a: Any) -> list[str]:
    """What would settle it."""
    texts, rest, single = [], 1 - a.memorized - a.displaced, bool(np.isinf(a.radius).any())
    if single:
        texts.append(
            "No second row differs, so that there is no distance between rows to take a radius from: give one."
        )
    elif a.samples_needed is not None:
        which = "memorizes" if a.memorized > a.displaced else "does not memorize"
        texts.append(
            f"About {a.samples_needed} samples would show that it {which}, should the shares stay as they are."
        )
    else:
        texts.append(f"No number of samples settles it: neither share exceeds {_percent(a.level)}.")
        if rest > 1 - a.level:
            rms = [math.sqrt(np.sum(np.square(term)) / len(term)) for term in (a.terms.selection, a.terms.noise)]
            texts.append(
                f"What keeps the other {_percent(rest)} off is not the model's error alone: selection {rms[0]:.3g} and "
                f"noise {rms[1]:.3g} (root mean squares) come from steps, or a bandwidth; more steps of itf.ddim help."
            )
    low, high = a.deciding_radii
    radii = [f"a radius below {low:.3g} that it does not memorize"] if low > 0 else []
    if math.isfinite(high):
        radii.append(f"a radius of {high:.3g} or more that it does")
    if radii:
        used = f" (used: {np.median(a.radius):.3g}" + (" at the median)" if np.ndim(a.radius) else ")")
        texts.append(f"These samples show with {', with '.join(radii)}{'' if single else used}.")
    return texts


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _share(share: float, limits: tuple[float, float]) -> str:
    return f"{_percent(share)} ({100 * limits[0]:.3g} to {_percent(limits[1])})"
