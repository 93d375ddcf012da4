"""The rows nearest to samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import _arrays
from .._results import Record, axes
from .._typing import Metric
from ._points import Points, check_metric, read_data, read_points, training_set

__all__ = ["Neighbours", "nearest"]


@dataclass(frozen=True, repr=False, eq=False)
class Neighbours(Record):
    """What :func:`nearest` returns, of the samples' kind of array.

    Attributes
    ----------
    index : (n, k) int64
        The nearest rows of each sample, from near to far; the lowest first at ties.
    distance : (n, k) float64
    """

    index: Any
    distance: Any

    def plot(self, ax: Any = None) -> Any:
        """The share of samples within a distance of their nearest row, and of their k-th; returns the axes."""
        ax = axes(ax)
        distance = np.sort(np.asarray(self.distance), axis=0)
        share = np.arange(1, len(distance) + 1) / len(distance)
        for k in sorted({0, distance.shape[1] - 1}):
            ax.plot(distance[:, k], share, label=f"row {k + 1} of the nearest")
        ax.set(xlabel="distance to a row", ylabel="share of samples")
        ax.legend()
        return ax


def nearest(samples: Any, data: Any, k: int = 5, *, metric: Metric = "euclidean") -> Neighbours:
    """The k rows nearest to each sample, exactly.

    Parameters
    ----------
    samples : (n, d) or (n, *event) array
    data : (N, d) or (N, *event) array or Field
        As in :func:`memorization`. Rows that are read in slices stay where they are.
    k : int, default 5
        At most N.
    metric : {"euclidean", "cosine"}
        |x - y|, or 1 - <x, y> / (|x| |y|), for which a row that is 0 is an error.

    Returns
    -------
    Neighbours

    Raises
    ------
    TypeError, ValueError
        With the name of the argument.

    Notes
    -----
    Rows are found by products in the type of the data (float64 with "cosine"), with a bound on what rounding can hide;
    those that may count are measured as differences in float64. 2 N d flops a sample; beside the result little is held,
    however many samples and rows there are.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 3.0], [1.0, 0.0], [4.0, 0.0]])
    >>> found = itf.nearest(np.array([[0.0, 0.0]]), X, k=2)
    >>> found.index, found.distance
    (array([[1, 0]]), array([[1., 3.]]))
    >>> itf.nearest(np.array([[5.0, 0.0]]), X, k=2, metric="cosine").distance
    array([[0., 0.]])
    """
    check_metric(metric)
    rows = read_data(data)
    k = _arrays.count(k, "k", 1, rows.n)
    stored, scale, kind = read_points(samples, "samples", rows)
    among = Points.of(rows, metric, "data")
    x = Points.of(training_set(stored, scale, rows), metric, "samples")
    index, distance = np.empty((x.n, k), np.int64), np.empty((x.n, k))
    for block, found, squared in x.search(among, k, lambda rows: None):
        index[block], distance[block] = found, among.distance(squared)
    return Neighbours(kind(rows.number(index)), kind(distance))
