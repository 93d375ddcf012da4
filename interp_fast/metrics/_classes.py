"""Nearest rows among those of a sample's class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays
from ._points import Points, Tell, training_set

__all__ = ["nearest_in_class", "read_labels"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


def read_labels(labels: Any, sample_labels: Any, n: int, samples: int) -> tuple[Array, Array] | None:
    """Checked labels of rows and samples; None when neither are given."""
    if labels is None and sample_labels is None:
        return None
    if labels is None or sample_labels is None:
        given, missing = ("labels", "sample_labels") if sample_labels is None else ("sample_labels", "labels")
        msg = f"{given} needs {missing}, too: samples are compared with the rows of their class."
        raise ValueError(msg)
    read = _labels(labels, "labels", n, "row of data"), _labels(sample_labels, "sample_labels", samples, "sample")
    if (read[0].dtype.kind == "U") != (read[1].dtype.kind == "U"):
        msg = f"sample_labels must be of the kind of labels; got {read[1].dtype} and {read[0].dtype}."
        raise TypeError(msg)
    unknown = ~np.isin(read[1], read[0])
    if unknown.any():
        which = int(np.argmax(unknown))
        label = read[1][which].item()
        msg = f"sample_labels must be among labels; got {label!r} of sample {which}, a class without rows."
        raise ValueError(msg)
    return read


def _labels(labels: Any, name: str, n: int, what: str) -> Array:
    array = _arrays.here(labels, name)
    if array.dtype == object and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.dtype.kind not in "iuU":
        msg = f"{name} must be ints or strings; got {array.dtype}."
        raise TypeError(msg)
    if array.shape != (n,):
        msg = f"{name} must have shape ({n},), one for each {what}; got {array.shape}."
        raise ValueError(msg)
    return array


def nearest_in_class(x: Points, data: Points, labels: tuple[Array, Array], tell: Tell) -> tuple[Int, Float]:
    """``two_nearest`` among the rows of each sample's class: number and squared distances, inf in classes of one row.

    Rows that are read in slices are read once.
    """
    of_rows, of_samples = labels
    asked = {label: np.flatnonzero(of_samples == label) for label in np.unique(of_samples)}
    index, squares = np.full((x.n, 2), -1), np.full((x.n, 2), np.inf)
    source = _arrays.is_source(data.set.rows)
    for block in _arrays.blocks(data.set.rows) if source else [slice(0, data.n)]:
        stored, here = data.set.rows[block], of_rows[block]
        for label in np.unique(here):
            if label not in asked:
                continue
            mine, theirs = asked[label], np.flatnonzero(here == label)
            part = training_set(stored[theirs], data.set.scale, data.set)
            found, squared = _nearest(x, mine, part, data)
            both = np.concatenate([squares[mine], squared], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :2]
            numbers = np.concatenate([index[mine], block.start + theirs[found]], axis=1)
            index[mine] = np.take_along_axis(numbers, order, axis=1)
            squares[mine] = np.take_along_axis(both, order, axis=1)
        tell(block.stop - block.start)
    return index[:, 0], squares


def _nearest(x: Points, mine: Int, part: Any, data: Points) -> tuple[Int, Float]:
    """The two rows of a part that are nearest to some of the samples."""
    k = min(2, part.n)
    index, squares = np.empty((len(mine), k), np.int64), np.empty((len(mine), k))
    some = Points(data.given, part) if data.cosine else Points(part, part)
    for block in _arrays.blocks(np.broadcast_to(0.0, (len(mine), part.d))):
        index[block], squares[block] = some.nearest(x.values(mine[block]), k)
    return index, squares
