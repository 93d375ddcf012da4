"""What one pass over the rows tells of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._results import Record

__all__ = ["Posterior"]


@dataclass(frozen=True, repr=False, eq=False)
class Posterior(Record):
    """The posterior over training rows, p(row | x, t), of M queries; of a single query (d,) without the leading axis.

    Attributes
    ----------
    mean : (M, d)
        Posterior mean of the training rows, sum_i w_i x_i.
    log_norm : (M,)
        logsumexp of l_i = log w_i - |x - alpha x_i|^2 / (2 S), S = sigma^2 + alpha^2 bandwidth^2.
    log_density : (M,)
        log p_t(x) = log_norm - (d/2) log(2 pi S).
    ess, entropy : (M,)
        Effective sample size 1 / sum w^2 and entropy in nats.
    variance : (M,)
        Trace of the posterior covariance, sum_i w_i |x_i - mean|^2.
    index : (M,) int64
        The heaviest row, the lowest at ties.
    gap : (M,)
        Log of its weight over the runner-up's.
    log_rest : (M,)
        log(1 - w_max), summed over the other rows and never subtracted.
    top_index, top_weight : (M, top)
        The heaviest rows and their weights.
    work : (M,)
        Multiply-adds done, as a fraction of the dense two products.
    dropped : (M,)
        Bound on the posterior mass of rows left out.
    certificate : (M,)
        Bound on |mean - dense mean| / R from skipped work.
    rounding : (M,)
        Bound on |mean - exact mean| / R from rounding, that of the mean as it is here included: rigorous where the
        products are exact integers (backend cpp on processors with AMX: rows of bytes, 17 queries or more, times at
        which many rows count). inf: none is known of the arithmetic that was used, whose rounding is measured instead
        (see the page on accuracy). 0 when all rows are equal.
    """

    mean: Any
    log_norm: Any
    log_density: Any
    ess: Any
    entropy: Any
    variance: Any
    index: Any
    gap: Any
    log_rest: Any
    top_index: Any
    top_weight: Any
    work: Any
    dropped: Any
    certificate: Any
    rounding: Any
