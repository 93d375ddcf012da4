"""Shares and their confidence intervals."""

from __future__ import annotations

__all__ = ["Interval", "clopper_pearson"]

Interval = tuple[float, float]


def clopper_pearson(successes: int, n: int, confidence: float) -> Interval:
    """Confidence interval of a probability from successes in n trials; covers at least as often as it says.

    The ends are those p of which so many or more, and so few or fewer, successes have probability (1 - confidence) / 2
    (Clopper and Pearson 1934): quantiles of Beta(s, n - s + 1) and Beta(s + 1, n - s).
    """
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high
