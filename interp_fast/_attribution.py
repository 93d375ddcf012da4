"""How much of each training row a sample is made of.

Unrolled over its committed rows a table gives x_R = Phi x_0 + sum_r W_r D_r + noise, and D_r = sum_i w_ri x_i, so that
x_R = Phi x_0 + sum_i omega_i x_i + noise with omega = sum_r W_r w_r; the W_r are numbers of the table. Rows of the
table with W_r = 0 (all but the last of a deterministic run onto sigma = 0) need no weights at all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._step_table import StepTable
from ._training_set import TrainingSet
from ._weights import weights

__all__ = ["Attribution"]

Float = npt.NDArray[np.float64]

# Each row of the table may leave out this much of omega, in units of alpha at the end.
_ROUNDING = 2.0**-53
_BLOCK = 1 << 23  # weights formed at a time


class Attribution:
    """The sum omega of a run, row by row of the table; weights are formed in float64 whatever the backend.

    Attributes
    ----------
    omega : (n, N) scipy.sparse.csr_array
    dropped : (n,)
        Sum of the |W_r w_ri| that were left out.
    """

    def __init__(self, data: TrainingSet, steps: StepTable, n: int) -> None:
        from scipy import sparse

        self._data, self._steps, self._weights = data, steps, steps.error_weights()
        self.omega: Any = sparse.csr_array((n, data.n))
        self.dropped = np.zeros(n)

    def add(self, r: int, x: Float, mean: Float) -> None:
        """Add row r of the table at the states x; ``mean`` (n, d) becomes the sum with the weights that were kept."""
        from scipy import sparse

        factor = float(self._weights[r])
        scale = _ROUNDING * float(self._steps.alpha[-1])
        if abs(factor) <= scale:
            self.dropped += abs(factor)
            return
        alpha, sigma = float(self._steps.alpha[r]), float(self._steps.sigma[r])
        least, size = scale / (self._data.n * abs(factor)), max(1, _BLOCK // self._data.n)
        parts = []
        for first in range(0, len(x), size):
            block = slice(first, first + size)
            w = weights(self._data, x[block], np.full(len(x[block]), alpha), np.full(len(x[block]), sigma))
            small = w < least
            self.dropped[block] += abs(factor) * np.where(small, w, 0.0).sum(axis=1)
            w[small] = 0.0
            mean[block] = self._combine(w)
            parts.append(sparse.csr_array(w))
        self.omega = self.omega + factor * sparse.vstack(parts, format="csr")

    def _combine(self, w: Float) -> Float:
        mean = np.zeros((len(w), self._data.d))
        for block in _arrays.blocks(self._data.rows):
            used = np.flatnonzero(w[:, block].any(axis=0))
            if len(used):
                mean += w[:, block][:, used] @ self._data.values(block.start + used)
        return mean
