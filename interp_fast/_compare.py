"""Rows that are to be compared with a training set, brought to its range and layout, their features, equal rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ._datasets import Dataset, matched
from ._pictures import UNSURE, Range
from .metrics import equal_rows, features_of, fitting_layout

__all__ = ["comparable", "equal_rows", "featured"]


def comparable(spec: str, data: Dataset, name: str, value_range: Range | None) -> tuple[npt.NDArray[Any], list[str]]:
    """Rows of a file or a folder of images in the range and layout of ``data``, and what was done, in words.

    Where shapes do not tell of a layout, distances do. ``name`` is what the rows are, ``value_range`` that of both.
    Warns when the range of one side alone is known.
    """
    given, said = matched(spec, data.pictures, data.name, name, value_range)
    for words in said:
        if words.endswith(UNSURE):
            msg = (
                f"{words}: if they are of two ranges, the distances mean nothing; --range LOW,HIGH names that of both."
            )
            warnings.warn(msg, UserWarning, stacklevel=2)
    if found := fitting_layout(given.rows, data.rows):
        said.append(f"{name}: laid out {found[0]}, as distances tell; reordered as in the data")
        return np.take(given.rows, found[1], axis=1), said
    return given.rows, said


def featured(
    features: Any, rows: npt.NDArray[Any], data: Dataset, name: str, tell: Callable[[int], None]
) -> npt.NDArray[Any]:
    """Features of rows, which are shown to the function in the shape that those of ``data`` have in their source."""
    made: npt.NDArray[Any] = features_of(features, {name: rows.reshape(len(rows), *data.layout)}, tell)[name]
    return made
