"""Rows that are to be compared with a training set, brought to its range and layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._datasets import Dataset, matched
from ._pictures import Range
from .metrics import fitting_layout

__all__ = ["comparable"]


def comparable(spec: str, data: Dataset, name: str, value_range: Range | None) -> tuple[npt.NDArray[Any], list[str]]:
    """Rows of a file or a folder of images in the range and layout of ``data``, and what was done, in words.

    Where shapes do not tell of a layout, distances do. ``name`` is what the rows are, ``value_range`` that of both.
    """
    given, said = matched(spec, data.pictures, data.name, name, value_range)
    if found := fitting_layout(given.rows, data.rows):
        said.append(f"{name}: laid out {found[0]}, as distances tell; reordered as in the data")
        return np.take(given.rows, found[1], axis=1), said
    return given.rows, said
