"""Shares and their confidence intervals."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["Interval", "wilson"]

Interval = tuple[float, float]


def wilson(share: float, n: int, confidence: float) -> Interval:
    """Confidence interval of a probability, from the share of successes in n trials."""
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 / n * (share * (1 - share) + z2 / (4 * n))) / (1 + z2 / n)
    return min(share, middle - half), max(share, middle + half)
