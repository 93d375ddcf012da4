"""Classes of rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays

__all__ = ["Labels"]

Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """The class of each row: ``classes[codes[i]]``, the classes sorted.

    Attributes
    ----------
    classes : (C,) array of ints or strings
    codes : (N,) int64
    """

    classes: npt.NDArray[Any]
    codes: Int

    @classmethod
    def of(cls, labels: Any, n: int, copies: int = 1) -> Labels:
        """One label for each of n rows, which are there ``copies`` times over."""
        given = read(labels)
        if given.shape != (n,):
            msg = f"labels must have shape ({n},), one for each row of data; got {given.shape}."
            raise ValueError(msg)
        classes, codes = np.unique(given, return_inverse=True)
        return cls(classes, np.tile(codes.reshape(n).astype(np.int64), copies))

    def of_rows(self, rows: Int) -> Labels:
        """Of some of the rows, with all classes."""
        return replace(self, codes=self.codes[rows])

    def find(self, labels: Any) -> Int:
        """Codes of labels, of any shape; ValueError naming the first that is no class."""
        given = read(labels)
        if (given.dtype.kind == "U") != (self.classes.dtype.kind == "U"):
            msg = (
                f"labels must be among the classes of the field, {_shown(self.classes)}; got {given.flat[0].item()!r}."
            )
            raise ValueError(msg)
        at = np.minimum(np.searchsorted(self.classes, given), len(self.classes) - 1)
        unknown = self.classes[at] != given
        if unknown.any():
            msg = f"labels must be among the classes of the field, {_shown(self.classes)}; got {given[unknown][0]}."
            raise ValueError(msg)
        return np.asarray(at, np.int64)


def read(labels: Any) -> npt.NDArray[Any]:
    """Labels as an array of ints or strings; TypeError for anything else."""
    given = np.asarray(labels) if isinstance(labels, (str, int)) else _arrays.here(labels, "labels")
    if given.dtype.kind == "O" and all(isinstance(label, str) for label in given.flat):
        given = given.astype(np.str_)
    if given.dtype.kind == "T":
        given = given.astype(np.str_)
    if given.dtype.kind not in "iuU":
        msg = f"labels must be ints or strings; got {given.dtype}."
        raise TypeError(msg)
    return given


def _shown(classes: npt.NDArray[Any]) -> str:
    names = [str(c) for c in classes[:6].tolist()]
    return ", ".join(names) + (f", ... ({len(classes)} in all)" if len(classes) > 6 else "")
