"""What samples are to a training set: copies, near copies, new; how well they cover it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _random
from .._progress import reporter
from .._results import Record, axes
from .._typing import Metric
from ._cells import copying_score
from ._classes import nearest_in_class, read_labels
from ._features import features_of, length
from ._points import Points, check_metric, own_squares, read_data, read_points, training_set, two_nearest
from ._shares import Interval, clopper_pearson
from ._support import support
from ._units import warn_of_units

__all__ = ["Background", "Memorization", "memorization"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

_LEVELS = tuple(percent / 100 for percent in (0, 0.1, *range(1, 100), 99.9, 100))


@dataclass(frozen=True, repr=False, eq=False)
class Background(Record):
    """Distances between rows of the data: what d1 is where nothing is copied.

    Attributes
    ----------
    levels : (L,)
        Shares: 0, every per cent, 1, and 0.001 of both ends.
    distances : (L,)
        Quantiles, at these levels, of the distance of each row to its nearest other row; inf when there is one row.
    """

    levels: Float
    distances: Float

    def plot(self, ax: Any = None) -> Any:
        """The share of rows with another row within a distance; returns the axes. Needs matplotlib."""
        ax = axes(ax)
        ax.plot(self.distances, self.levels)
        ax.set(xlabel="distance to the nearest other row", ylabel="share of rows")
        return ax


@dataclass(frozen=True, repr=False, eq=False)
class Memorization(Record):
    """What :func:`memorization` returns; what was not asked for is None.

    Attributes
    ----------
    d1, d2 : (n,)
        Distances of each sample to its nearest and second nearest row; with labels, of its class.
    index : (n,) int64
        The nearest row, the lowest at ties; with labels, of the sample's class.
    ratio : (n,)
        d1 / d2; 0 where d1 = 0.
    copied : float
        Share of samples with ratio < ``threshold``; ``copied_interval`` is its confidence interval, as ``..._interval``
        is that of every share.
    threshold : float
        The ``ratio`` asked for.
    within : float or None
        Share of samples with d1 < ``radius``.
    radius : float or None
    sample_distance : (n,)
        Distance s1 of each sample to its nearest other sample; inf when there is one.
    classes : (n,) str
        "memorized": ratio < ``threshold``, or with a radius d1 < ``radius`` instead. "spurious": not memorized, and
        s1 < ``threshold`` d1, or with a radius s1 < ``radius``: near another sample and not near a row. Else "novel".
    memorized, spurious, novel : float
        Shares of the classes; they sum to 1.
    background : Background or None
        Distances between rows, to read d1 against.
    precision, recall : float or None
        Share of samples in the support of the data, and of rows in the support of the samples, each estimated by balls
        out to the k-th nearest neighbour; None when there are not k + 1 points to make balls of.
    density, coverage : float or None
        Mean number of balls around rows that hold a sample, over k (1 when the samples have the law of the rows); share
        of rows whose ball holds a sample.
    authenticity : float
        Share of samples farther from their nearest row than that row is from its own nearest row.
    holdout_ratio : (h,) or None
        d1 / d2 of the held-out rows.
    holdout_copied : float or None
        Share of held-out rows with ratio < ``threshold``: what ``copied`` is without copying.
    c_t : float or None
        Copying score: a z statistic; very negative when samples are nearer to the data than held-out rows are.
    metric : str
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
    sample_distance: Float
    classes: npt.NDArray[np.str_]
    memorized: float
    memorized_interval: Interval
    spurious: float
    spurious_interval: Interval
    novel: float
    novel_interval: Interval
    background: Background | None
    precision: float | None
    recall: float | None
    density: float | None
    coverage: float | None
    authenticity: float
    holdout_ratio: Float | None
    holdout_copied: float | None
    c_t: float | None
    metric: str

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
    k: int | None = 5,
    cells: int = 1,
    confidence: float = 0.95,
    metric: Metric = "euclidean",
    features: Any = None,
    labels: Any = None,
    sample_labels: Any = None,
    progress: Any = None,
    rng: _random.RandomSource = None,
) -> Memorization:
    """How far samples are from the rows of a training set, which are copies, and how well they cover it.

    A sample counts as copied when its nearest row is much nearer than its second nearest, d1 / d2 < ``ratio``.
    Distances are exact, in float64, from the values as given. Equal rows count as two: a copy of a row that the data
    hold twice has d1 = d2 and shows in ``within``, not in ``copied``.

    Parameters
    ----------
    samples : (n, d) or (n, *event) array
        Of the shape of the data, or flat.
    data : (N, d) or (N, *event) array or Field
        float32, float64, uint8, float16 or bfloat16. uint8 rows have the values 2/255 * byte - 1, as in :class:`Field`;
        uint8 samples are read the same way and need uint8 data. Of a Field the rows are used, not their weights or
        bandwidth, and it remembers distances between them: pass one to compare many sets of samples with the same rows.
    radius : float, optional
        A sample with d1 < radius counts as ``within``, and as memorized in ``classes`` whatever its ratio.
    ratio : float, default 1/3
    holdout : (h, d) or (h, *event) array, optional
        Rows of the same kind that were not trained on: the control. Adds holdout_ratio, holdout_copied, c_t.
    k : int or None, default 5
        Balls of precision, recall, density and coverage reach to the k-th nearest neighbour. None leaves these and the
        background out: all that compares every row with every other.
    cells : int, default 1
        c_t compares samples and held-out rows within each of so many k-means cells of the data.
    confidence : float, default 0.95
        Of the intervals (Clopper and Pearson 1934), which cover at least so often.
    metric : {"euclidean", "cosine"}
        |x - y|, or 1 - <x, y> / (|x| |y|), which rescaled copies keep at 0.
    features : callable or tuple of arrays, optional
        The space to measure distances in: ``features(rows)`` -> (m, f) array, called with at most 256 rows at a time of
        ``samples``, ``data`` and ``holdout`` as they are given, in their shape, or the arrays for
        (samples, data) or (samples, data, holdout).
    labels, sample_labels : (N,) and (n,) arrays of ints or strings, optional
        Classes: d1, d2, index, and what is made of them (ratio, copied, within, classes) are among the rows of the
        sample's class. All else is over all rows.
    progress : bool or callable, optional
        Called as progress(done, rows), counting rows and samples in every pass; True writes a line on stderr.
    rng : None, int, SeedSequence, Generator or NoiseKey
        Chooses the rows that place the cells, and their first centres.

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
    With B(p) the ball around a point out to its k-th nearest other point of its set (rows x_i, samples y_j), over all
    rows and samples:

    * ``precision`` = share of samples in any B(x_i), ``recall`` = share of rows in any B(y_j), balls with their rims
      (Kynkaanniemi et al. 2019);
    * ``density`` = sum_j #{i: y_j in B(x_i)} / (k n), ``coverage`` = share of rows with a sample in B(x_i), balls
      without their rims, as in their authors' program (Naeem et al. 2020).

    Distances equal to 5e-13, relatively, are at a rim. All four depend on the numbers of rows and samples: compare
    values for equal sizes only.

    ``authenticity`` is the share of samples with d(y, x) > d(x, its nearest other row), x the row nearest to y (Alaa et
    al. 2022). ``c_t`` is the Mann-Whitney z, with midranks and tie correction, of the samples' distances to the data
    against those of the held-out rows (Meehan et al. 2020). With several cells it is the mean over the cells that hold
    both, weighted by their shares of the data; at most 5 000 rows place the centres. Classes follow Yoon et al. (2023)
    and Pham et al. (2025), who call spurious what samplers converge to beside the rows.

    Costs searches of 2 d flops for each pair of a sample and a row, of two samples and, unless k is None, of two rows,
    and as much again for each sample and row in float64. Nothing of size n x N, n x n or N x N is allocated, and rows
    that are read in slices (as a Field's) stay where they are.

    References
    ----------
    T. Kynkaanniemi et al., "Improved precision and recall metric for assessing generative models", NeurIPS 2019.
    M. F. Naeem et al., "Reliable fidelity and diversity metrics for generative models", ICML 2020. C. Meehan, K.
    Chaudhuri, S. Dasgupta, "A non-parametric test to detect data-copying in generative models", AISTATS 2020. A. Alaa
    et al., "How faithful is your synthetic data? Sample-level metrics for evaluating and auditing generative models",
    ICML 2022. T. Yoon et al., "Diffusion probabilistic models generalize when they fail to memorize", ICML workshop
    2023 (the ratio). B. Pham et al., "Memorization to generalization: Emergence of diffusion models from associative
    memory", 2025 (the classes). C. Clopper, E. Pearson, "The use of confidence or fiducial limits illustrated in the
    case of the binomial", Biometrika 26, 1934.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> rep = itf.memorization(np.array([[0.1, 0.0], [5.0, 5.0], [5.1, 5.0], [0.5, 0.5]]), X, radius=0.2)
    >>> rep.index, rep.ratio.round(1), rep.copied, rep.within
    (array([0, 1, 1, 0]), array([0.1, 1. , 1. , 1. ]), 0.25, 0.25)
    >>> rep.classes.tolist()
    ['memorized', 'spurious', 'spurious', 'novel']
    """
    radius = None if radius is None else _arrays.number(radius, "radius", least=0.0)
    ratio = _arrays.number(ratio, "ratio", least=0.0)
    k = None if k is None else _arrays.count(k, "k", 1)
    if not 0 < _arrays.number(confidence, "confidence") < 1:
        msg = f"confidence must lie in (0, 1); got {confidence}."
        raise ValueError(msg)
    check_metric(metric)
    source = _random.noise_key(rng)
    if holdout is None and isinstance(features, tuple) and len(features) == 3:
        holdout = features[2]
    given = {"samples": samples, "data": data} | ({} if holdout is None else {"holdout": holdout})
    if features is not None:
        tell = _Meter(progress, {name: length(points, name) for name, points in given.items()}, k, labels, features)
        given = features_of(features, given, tell)
    title = "" if features is None else "features of "
    rows = read_data(given.pop("data"), f"{title}data")
    read = {name: read_points(points, f"{title}{name}", rows)[:2] for name, points in given.items()}
    if features is None:
        tell = _Meter(
            progress, {"data": rows.n} | {name: stored.shape[0] for name, (stored, _) in read.items()}, k, labels
        )
        for name, (stored, scale) in read.items():
            warn_of_units(name, stored, scale, rows)
    classes = read_labels(labels, sample_labels, rows.n, read["samples"][0].shape[0])
    cells = _arrays.count(cells, "cells", 1, rows.n)
    among = Points.of(rows, metric, "data")
    points = {name: Points.of(training_set(*of, rows), metric, name) for name, of in read.items()}
    x, held = points["samples"], points.get("holdout")

    whole_index, whole = two_nearest(x, among, tell)
    index, squares = (whole_index, whole) if classes is None else nearest_in_class(x, among, classes, tell)
    d1, d2 = among.distance(squares).T
    quotient = _quotient(d1, d2)
    s = own_squares(x, k, tell)
    s1 = among.distance(s[:, 0])
    near = quotient < ratio if radius is None else d1 < radius
    echo = ~near & (s1 < (ratio * d1 if radius is None else radius))
    held_ratio = c_t = None
    if held is not None:
        held_d1, held_d2 = among.distance(two_nearest(held, among, tell)[1]).T
        held_ratio = _quotient(held_d1, held_d2)
        c_t = copying_score(among, cells, x, among.distance(whole[:, 0]), held, held_d1, source)
    if k is None:
        balls = background = None
        hit, where = np.unique(whole_index, return_inverse=True)
        own = np.full(len(hit), np.inf)
        if among.n > 1:
            own = among.nearest(among.values(hit), 2)[1][:, 1]
        own = own[where]
    else:
        between = own_squares(among, k, tell)
        balls = support(among, x, between[:, 1], s[:, 1], k, tell)
        apart = np.sort(among.distance(between[:, 0]))
        background = Background(np.array(_LEVELS), _quantiles(apart))
        own = between[whole_index, 0]
    return Memorization(
        d1=d1,
        d2=d2,
        index=rows.number(index),
        ratio=quotient,
        **_share("copied", quotient < ratio, confidence),
        threshold=ratio,
        **_share("within", None if radius is None else d1 < radius, confidence),
        radius=radius,
        sample_distance=s1,
        classes=np.where(near, "memorized", np.where(echo, "spurious", "novel")),
        **_share("memorized", near, confidence),
        **_share("spurious", echo, confidence),
        **_share("novel", ~near & ~echo, confidence),
        background=background,
        precision=None if balls is None else balls.precision,
        recall=None if balls is None else balls.recall,
        density=None if balls is None else balls.density,
        coverage=None if balls is None else balls.coverage,
        authenticity=float(np.mean(whole[:, 0] > own)),
        holdout_ratio=held_ratio,
        holdout_copied=None if held_ratio is None else float(np.mean(held_ratio < ratio)),
        c_t=c_t,
        metric=metric,
    )


class _Meter:
    """Counts the rows and samples that every pass is done with."""

    def __init__(self, progress: Any, sizes: dict[str, int], k: int | None, labels: Any, features: Any = None) -> None:
        self._report = reporter(progress, "memorization: row")
        over_rows = 2 * (k is not None) + (labels is not None)
        self._done, self._total = 0, 2 * sizes["samples"] + sizes.get("holdout", 0) + over_rows * sizes["data"]
        self._total += sum(sizes.values()) if callable(features) else 0

    def __call__(self, rows: int) -> None:
        self._done += rows
        if self._report:
            self._report(self._done, self._total)


def _quotient(d1: Float, d2: Float) -> Float:
    return np.divide(d1, d2, out=np.zeros_like(d1), where=d1 > 0)


def _quantiles(ascending: Float) -> Float:
    if np.isinf(ascending[0]):
        return np.full(len(_LEVELS), np.inf)
    quantiles: Float = np.quantile(ascending, _LEVELS)
    return quantiles


def _share(name: str, hits: npt.NDArray[np.bool_] | None, confidence: float) -> dict[str, Any]:
    """A share and its interval, by their names; None for both when nothing was asked."""
    if hits is None:
        return {name: None, f"{name}_interval": None}
    count = int(np.count_nonzero(hits))
    return {name: count / len(hits), f"{name}_interval": clopper_pearson(count, len(hits), confidence)}
