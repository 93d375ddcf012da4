"""Permutations of the coordinates that a training set is closed under."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._shape import Shape

__all__ = ["elements"]


def elements(event: Shape, orbit: Any) -> npt.NDArray[np.int64] | None:
    """The elements (G, d) of the orbit of rows of this shape, the identity first; None without one."""
    if orbit is None:
        return None
    flat = np.arange(math.prod(event))
    if isinstance(orbit, str):
        if orbit != "hflip":
            msg = f"orbit must be 'hflip' or a list of permutations (d,); got {orbit!r}."
            raise ValueError(msg)
        if len(event) not in (2, 3):
            shape = ", ".join(["N", *map(str, event)])
            msg = f"orbit='hflip' needs images (N, H, W) or (N, C, H, W); got data of shape ({shape})."
            raise ValueError(msg)
        others = [flat.reshape(event)[..., ::-1].reshape(-1)]
    else:
        others = [_permutation(p, k) for k, p in enumerate(orbit)]
    for k, p in enumerate(others):
        if len(p) != len(flat) or not np.array_equal(np.sort(p), flat):
            msg = f"orbit[{k}] must be a permutation of 0 ... {len(flat) - 1}; got one of {len(p)} numbers."
            raise ValueError(msg)
    return np.stack([flat, *others]).astype(np.int64)


def _permutation(p: Any, k: int) -> npt.NDArray[Any]:
    array, _ = _arrays.as_array(p, f"orbit[{k}]")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = f"orbit[{k}] must be a vector of ints, a permutation of the coordinates; got {array.dtype} {array.shape}."
        raise TypeError(msg)
    return array
