"""Permutations of the coordinates that a training set is closed under."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays

__all__ = ["images"]


def images(data: Any, orbit: Any) -> tuple[Any, npt.NDArray[np.int64]]:
    """Data as flat rows, and the elements (G, d) of their orbit, the identity first; without an orbit as they are."""
    if orbit is None:
        return data, np.zeros((1, 0), np.int64)
    if isinstance(orbit, str):
        if orbit != "hflip":
            msg = f"orbit must be 'hflip' or a list of permutations (d,); got {orbit!r}."
            raise ValueError(msg)
        shape = tuple(getattr(data, "shape", ()) or np.shape(data))
        if len(shape) not in (3, 4):
            msg = f"orbit='hflip' needs images (N, H, W) or (N, C, H, W); got data of shape {shape}."
            raise ValueError(msg)
        flat = np.arange(int(np.prod(shape[1:])))
        elements = [flat.reshape(shape[1:])[..., ::-1].reshape(-1)]
    else:
        elements = [_permutation(p, k) for k, p in enumerate(orbit)]
        shape = tuple(getattr(data, "shape", ()) or np.shape(data))
        flat = np.arange(int(np.prod(shape[1:])))
    for k, p in enumerate(elements):
        if len(p) != len(flat) or not np.array_equal(np.sort(p), flat):
            msg = f"orbit[{k}] must be a permutation of 0 ... {len(flat) - 1}; got one of {len(p)} numbers."
            raise ValueError(msg)
    if len(shape) > 2:
        data = data.reshape(shape[0], -1)
    return data, np.stack([flat, *elements]).astype(np.int64)


def _permutation(p: Any, k: int) -> npt.NDArray[Any]:
    array, _ = _arrays.as_array(p, f"orbit[{k}]")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        msg = f"orbit[{k}] must be a vector of ints, a permutation of the coordinates; got {array.dtype} {array.shape}."
        raise TypeError(msg)
    return array
