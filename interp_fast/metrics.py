"""How samples relate to a training set: distances to its rows, copies, coverage."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _pictures, _random, backends
from ._results import Record, axes
from ._training_set import TrainingSet

__all__ = ["Memorization", "fitting_layout", "memorization"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Interval = tuple[float, float]

# Rows used where a cost would grow with the square of the data (precision and recall) or repeat passes (k-means).
_MOST_ROWS = 5_000
_LLOYD_ROUNDS = 30
_LOOKED_AT = 64  # samples that tell of a layout


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
    x = _points(samples, "samples", rows)
    held = None if holdout is None else _points(holdout, "holdout", rows)
    radius = None if radius is None else _arrays.number(radius, "radius", least=0.0)
    ratio = _arrays.number(ratio, "ratio", least=0.0)
    k = _arrays.count(k, "k", 1)
    cells = _arrays.count(cells, "cells", 1, rows.shape[0])
    if not 0 < _arrays.number(confidence, "confidence") < 1:
        msg = f"confidence must lie in (0, 1); got {confidence}."
        raise ValueError(msg)
    source = _random.noise_key(rng)
    training = _training_set(rows, scale)

    index, d1, d2 = _two_nearest(training, x)
    quotient = _quotient(d1, d2)
    copied = float(np.mean(quotient < ratio))
    within = None if radius is None else float(np.mean(d1 < radius))
    chosen = training.stored(_subset(training.n, source, 0))
    _warn_of_units("samples", x, training, chosen)
    around_rows = _Balls.around(chosen, scale, k)
    around_samples = _Balls.around(x[_subset(len(x), source, 1)], None, k)
    held_ratio = c_t = authenticity = None
    if held is not None:
        _, held_d1, held_d2 = _two_nearest(training, held)
        _warn_of_units("holdout", held, training, chosen)
        held_ratio = _quotient(held_d1, held_d2)
        if cells == 1:
            c_t = _mann_whitney(d1, held_d1)
        else:
            c_t = _copying_score(training, _centers(training, cells, source), x, d1, held, held_d1)
        nearest, where = np.unique(index, return_inverse=True)
        authenticity = float(np.mean(d1 > _two_nearest(training, training.values(nearest))[2][where]))
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


def _points(points: Any, name: str, rows: npt.NDArray[Any], *, scale: tuple[float, float] | None = None) -> Float:
    """(m, d) float64 values of samples or held-out rows; ``scale`` that of byte ``rows`` unless it is the default."""
    stored, own, _ = _arrays.rows(points, name)
    if stored.shape[1] != rows.shape[1]:
        msg = f"{name} must have the {rows.shape[1]} columns of data; got shape {stored.shape}."
        raise ValueError(msg)
    if own is not None and rows.dtype != np.uint8:
        msg = f"{name} must not be uint8 when data is {rows.dtype}; convert it to the units of data."
        raise ValueError(msg)
    wide = np.ascontiguousarray(_arrays.widen(stored[:], None if own is None else scale or own))
    _arrays.check_finite(wide, name)
    return wide


def _warn_of_units(name: str, x: Float, training: TrainingSet, rows: npt.NDArray[Any]) -> None:
    """UserWarning when distances between x and the data, of which ``rows`` are some, cannot mean anything."""
    beyond = _pictures.OVERSHOOT if name == "samples" else _pictures.BEYOND
    mine = _pictures.find_range(x, beyond)
    theirs = _pictures.find_range(_arrays.widen(rows, None)) if training.scale is None else _pictures.SIGNED
    if mine is not None and theirs is not None and mine != theirs:
        read = " (bytes are read as 2/255 byte - 1)" if training.scale is not None else ""
        msg = (
            f"the values of {name} lie {_pictures.show(mine)} and those of data {_pictures.show(theirs)}{read}: "
            "distances between them mean nothing; bring both to one range."
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    elif found := fitting_layout(x, training):
        msg = f"{name} are far nearer to data when they are taken to be laid out {found[0]}; bring both to one layout."
        warnings.warn(msg, UserWarning, stacklevel=3)


def fitting_layout(x: npt.NDArray[Any], data: TrainingSet | npt.NDArray[Any]) -> tuple[str, Int] | None:
    """A layout in which x fits the data far better than as it is, and the columns that bring it to that of the data."""
    training = data if isinstance(data, TrainingSet) else _training_set(data)
    some = np.ascontiguousarray(x[:: -(-len(x) // _LOOKED_AT)], np.float64)
    given = None
    for name, columns in _pictures.layouts(training.d).items():
        given = training.nearest(some)[1][:, 0] if given is None else given
        moved = training.nearest(np.take(some, columns, axis=1))[1][:, 0]
        if _pictures.fits_far_better(np.sqrt(moved), np.sqrt(given)):
            return name, columns
    return None


def _training_set(rows: npt.NDArray[Any], scale: tuple[float, float] | None = None) -> TrainingSet:
    return TrainingSet(
        rows,
        _arrays.log_weights(None, rows.shape[0]),
        scale=scale,
        kind=lambda a: a,
        bandwidth=0.0,
        backend="auto",
        threads=backends.default_threads(),
        low_memory=False,
    )


def _two_nearest(training: TrainingSet, x: Float) -> tuple[Int, Float, Float]:
    """The nearest row and the distances to it and to the second nearest; inf when there is one row."""
    index, squared = training.nearest(x, min(2, training.n))
    distance = np.sqrt(squared)
    return index[:, 0], distance[:, 0], distance[:, 1] if distance.shape[1] == 2 else np.full(len(x), np.inf)


def _quotient(d1: Float, d2: Float) -> Float:
    return np.divide(d1, d2, out=np.zeros_like(d1), where=d1 > 0)


def wilson(share: float, n: int, confidence: float) -> Interval:
    """Confidence interval of a probability, from the share of successes in n trials."""
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 / n * (share * (1 - share) + z2 / (4 * n))) / (1 + z2 / n)
    return min(share, middle - half), max(share, middle + half)


def _subset(n: int, source: _random.NoiseKey, stream: int) -> Int:
    """At most _MOST_ROWS of the numbers below n, chosen at random; ascending."""
    if n <= _MOST_ROWS:
        return np.arange(n)
    u = _random.uniforms(_random.subkey(source.key, "subset"), 0, stream, n=n)
    return np.sort(np.argpartition(u, _MOST_ROWS)[:_MOST_ROWS])


@dataclass(frozen=True)
class _Balls:
    """Balls around points, as points of one more coordinate.

    x lies in a ball when min_i |x - x_i|^2 - r_i^2 <= 0. With h_i^2 = reach - r_i^2 and reach = max r_i^2 that is
    min_i |(x, 0) - (x_i, h_i)|^2 <= reach: a search for the nearest point. Beside a large h the rounding of a small
    ball is lost, so the balls come in parts, whose radii lie within a factor 16.
    """

    parts: tuple[tuple[TrainingSet, float], ...]  # lifted points and reach

    @classmethod
    def around(cls, points: npt.NDArray[Any], scale: tuple[float, float] | None, k: int) -> _Balls | None:
        """Balls out to the k-th nearest other point; None when there are not so many."""
        if len(points) <= k:
            return None
        wide = _arrays.widen(points, scale)
        # The point itself, at distance 0, is one of the k + 1 nearest or equal to all of them.
        squared = _training_set(points, scale).nearest(wide, k + 1)[1][:, k]
        size = np.where(squared > 0, np.frexp(squared)[1] // 8, -(1 << 20))
        parts = []
        for some in (size == which for which in np.unique(size)):
            reach = float(squared[some].max())
            parts.append((_training_set(np.column_stack([wide[some], np.sqrt(reach - squared[some])])), reach))
        return cls(tuple(parts))

    def share(self, x: Float) -> float:
        """Share of x (m, d) that lie in a ball; the rim counts."""
        flat = np.column_stack([x, np.zeros(len(x))])
        out = np.arange(len(x))
        for lifted, reach in reversed(self.parts):  # the large ones leave less to look for
            if len(out):
                out = out[lifted.nearest(flat[out])[1][:, 0] > reach * (1 + 1e-12)]
        return (len(x) - len(out)) / len(x)


def _centers(training: TrainingSet, cells: int, source: _random.NoiseKey) -> Float:
    """Centres of k-means cells: at most ``cells``, one for each different row."""
    from scipy.cluster.vq import kmeans2

    points = training.values(_subset(training.n, source, 2))
    cells = min(cells, len(np.unique(points, axis=0)))
    seed = np.random.default_rng(_random.subkey(source.key, "subset"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cell that has become empty keeps its centre
        centers: Float = kmeans2(points, cells, iter=_LLOYD_ROUNDS, minit="++", seed=seed)[0]
    return centers


def _copying_score(
    training: TrainingSet, centers: Float, x: Float, d1: Float, held: Float, held_d1: Float
) -> float | None:
    """C_T: mean over cells of the Mann-Whitney z, weighted by shares of data; None when no cell holds both kinds."""
    cells = _training_set(centers)
    share = np.zeros(len(centers))
    for block in _arrays.blocks(training.rows):
        label = cells.nearest(training.read(block))[0][:, 0]
        share += np.bincount(label, minlength=len(centers))
    cell_of_x, cell_of_held = cells.nearest(x)[0][:, 0], cells.nearest(held)[0][:, 0]
    total = weight = 0.0
    for c in range(len(centers)):
        near, control = d1[cell_of_x == c], held_d1[cell_of_held == c]
        if len(near) and len(control):
            total += share[c] * _mann_whitney(near, control)
            weight += share[c]
    return total / weight if weight > 0 else None


def _mann_whitney(a: Float, b: Float) -> float:
    """Standardized number of pairs with a > b (ties count half); 0 when all values are equal."""
    m, n = len(a), len(b)
    b = np.sort(b)
    pairs = 0.5 * float(np.sum(np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")))
    tied = np.unique(np.concatenate([a, b]), return_counts=True)[1].astype(np.float64)
    variance = m * n / 12 * (m + n + 1 - float(np.sum(tied**3 - tied)) / ((m + n) * (m + n - 1)))
    return (pairs - m * n / 2) / math.sqrt(variance) if variance > 0 else 0.0
