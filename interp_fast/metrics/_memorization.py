"""How samples relate to a training set: distances to its rows, copies, coverage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._results import Record, axes
from ._cells import centers, copying_score, mann_whitney, subset
from ._points import read_points, training_set, two_nearest
from ._shares import Interval, wilson
from ._support import Balls
from ._units import warn_of_units

__all__ = ["Memorization", "memorization"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True, repr=False, eq=False)
class Memorization(Record):
    """What :func:`memorization` returns; what was not asked for is None.

    Attributes
    ----------
    d1, d2 : (n,)
        Distances of each sample to its nearest and second nearest row.
    index : (n,) int64
        The nearest row, the lowest at ties.
    ratio : (n,)
        d1 / d2; 0 where d1 = 0.
    copied : float
        Share of samples with ratio < ``threshold``; ``copied_interval`` is its confidence interval.
    threshold : float
        The ``ratio`` asked for.
    within : float or None
        Share of samples with d1 < ``radius``; ``within_interval`` is its confidence interval.
    radius : float or None
    precision, recall : float or None
        Share of samples in the support of the data, and of rows in the support of the samples, each estimated by balls
        out to the k-th nearest neighbour; None when there are not k + 1 points to make balls of.
    holdout_ratio : (h,) or None
        d1 / d2 of the held-out rows.
    holdout_copied : float or None
        Share of held-out rows with ratio < ``threshold``: what ``copied`` is without copying.
    c_t : float or None
        Copying score: a z statistic; very negative when samples are nearer to the data than held-out rows are.
    authenticity : float or None
        Share of samples farther from their nearest row than that row is from its own nearest row.
    """

    d1: Float
    d2: Float
    index: Int
    ratio: Float
    copied: float
    copied_interval: Interval
    threshold: float
    within: float | None
    within_interval: Interval | None
    radius: float | None
    precision: float | None
    recall: float | None
    holdout_ratio: Float | None
    holdout_copied: float | None
    c_t: float | None
    authenticity: float | None

    def plot(self, ax: Any = None) -> Any:
        """Histogram of d1 / d2, of samples and held-out rows, with the threshold; returns the axes (matplotlib)."""
        ax = axes(ax)
        bins = np.linspace(0, 1, 41)
        for ratio, label in ((self.ratio, "samples"), (self.holdout_ratio, "held-out rows")):
            if ratio is not None:
                ax.hist(ratio, bins, weights=np.full(len(ratio), 1 / len(ratio)), alpha=0.6, label=label)
        ax.axvline(self.threshold, color="black", linestyle="--", label=f"{self.copied:.1%} of samples below")
        ax.set(xlabel="distance to nearest row / to second nearest row", ylabel="share")
        ax.legend()
        return ax


def memorization(
    samples: Any,
    data: Any,
    *,
    radius: float | None = None,
    ratio: float = 1 / 3,
    holdout: Any = None,
    k: int = 5,
    cells: int = 1,
    confidence: float = 0.95,
    rng: _random.RandomSource = None,
) -> Memorization:
    """How far samples are from the rows of a training set, and how many are copies.

    A sample counts as copied when its nearest row is much nearer than its second nearest, d1 / d2 < ``ratio``.
    Distances are Euclidean, in float64, from the values as given. Equal rows count as two: a copy of a row that the
    data hold twice has d1 = d2 and shows in ``within``, not in ``copied``.

    Parameters
    ----------
    samples : (n, d) array
    data : (N, d) array
        float32, float64, uint8, float16 or bfloat16. uint8 rows have the values 2/255 * byte - 1, as in :class:`Field`;
        uint8 samples are read the same way and need uint8 data.
    radius : float, optional
        A sample with d1 < radius counts as ``within``.
    ratio : float, default 1/3
    holdout : (h, d) array, optional
        Rows of the same kind that were not trained on: the control. Adds holdout_copied, c_t, authenticity.
    k : int, default 5
        Balls of precision and recall reach to the k-th nearest neighbour.
    cells : int, default 1
        c_t compares samples and held-out rows within each of so many k-means cells of the data.
    confidence : float, default 0.95
        Of the intervals (Wilson 1927). To resample a share is to draw a binomial number, so a bootstrap would say the
        same, but for a width of 0 when none or all of the samples are copied.
    rng : None, int, SeedSequence, Generator or NoiseKey
        Chooses the rows where not all are used, and the first centres of the cells.

    Returns
    -------
    Memorization

    Raises
    ------
    TypeError, ValueError
        With the name of the argument.

    Warns
    -----
    UserWarning
        Samples or held-out rows fill another of the ranges 0 ... 255, [0, 1], [-1, 1] than the data do, or a part of
        the samples is far nearer to the data when their channels, or rows and columns, change places.

    Notes
    -----
    ``precision`` is the share of samples in any ball around a row, ``recall`` the share of rows in any ball around a
    sample. At most 5 000 rows and 5 000 samples, chosen by ``rng``, make balls, and those rows alone count in recall;
    both depend on the numbers of rows and samples, so compare values for equal sizes only.

    ``c_t`` is the Mann-Whitney z, with midranks and tie correction, of the samples' distances to the data against those
    of the held-out rows. With several cells it is the mean over the cells that hold both, weighted by their shares of
    the data; at most 5 000 rows place the centres.

    Costs 2 N d flops for each sample and held-out row, as many again for each copied-from row with a holdout, and at
    most 2e8 d for precision and recall. Nothing of size n x N is allocated.

    References
    ----------
    T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019.
    C. Meehan, K. Chaudhuri, S. Dasgupta, "A non-parametric test to detect data-copying in generative models", AISTATS
    2020. A. Alaa et al., "How faithful is your synthetic data? Sample-level metrics for evaluating and auditing
    generative models", ICML 2022. T. Yoon et al., "Diffusion probabilistic models generalize when they fail to
    memorize", ICML workshop 2023 (the ratio).

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> rep = itf.memorization(np.array([[0.1, 0.0], [0.5, 0.5]]), X, radius=0.2)
    >>> rep.index, rep.ratio.round(3), rep.copied, rep.within
    (array([0, 0]), array([0.111, 1.   ]), 0.5, 0.5)
    """
    rows, scale, _ = _arrays.rows(data, "data")
    x = read_points(samples, "samples", rows)
    held = None if holdout is None else read_points(holdout, "holdout", rows)
    radius = None if radius is None else _arrays.number(radius, "radius", least=0.0)
    ratio = _arrays.number(ratio, "ratio", least=0.0)
    k = _arrays.count(k, "k", 1)
    cells = _arrays.count(cells, "cells", 1, rows.shape[0])
    if not 0 < _arrays.number(confidence, "confidence") < 1:
        msg = f"confidence must lie in (0, 1); got {confidence}."
        raise ValueError(msg)
    source = _random.noise_key(rng)
    training = training_set(rows, scale)

    index, d1, d2 = two_nearest(training, x)
    quotient = _quotient(d1, d2)
    copied = float(np.mean(quotient < ratio))
    within = None if radius is None else float(np.mean(d1 < radius))
    chosen = training.stored(subset(training.n, source, 0))
    warn_of_units("samples", x, training, chosen)
    around_rows = Balls.around(chosen, scale, k)
    around_samples = Balls.around(x[subset(len(x), source, 1)], None, k)
    held_ratio = c_t = authenticity = None
    if held is not None:
        _, held_d1, held_d2 = two_nearest(training, held)
        warn_of_units("holdout", held, training, chosen)
        held_ratio = _quotient(held_d1, held_d2)
        if cells == 1:
            c_t = mann_whitney(d1, held_d1)
        else:
            c_t = copying_score(training, centers(training, cells, source), x, d1, held, held_d1)
        nearest, where = np.unique(index, return_inverse=True)
        authenticity = float(np.mean(d1 > two_nearest(training, training.values(nearest))[2][where]))
    return Memorization(
        d1=d1,
        d2=d2,
        index=index,
        ratio=quotient,
        copied=copied,
        copied_interval=wilson(copied, len(x), confidence),
        threshold=ratio,
        within=within,
        within_interval=None if within is None else wilson(within, len(x), confidence),
        radius=radius,
        precision=None if around_rows is None else around_rows.share(x),
        recall=None if around_samples is None else around_samples.share(_arrays.widen(chosen, scale)),
        holdout_ratio=held_ratio,
        holdout_copied=None if held_ratio is None else float(np.mean(held_ratio < ratio)),
        c_t=c_t,
        authenticity=authenticity,
    )


def _quotient(d1: Float, d2: Float) -> Float:
    return np.divide(d1, d2, out=np.zeros_like(d1), where=d1 > 0)
