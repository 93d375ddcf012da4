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

__all__ = ["Attribution"]

Float = npt.NDArray[np.float64]

# Each row of the table may leave out this much of omega, in units of alpha at the end.
_ROUNDING = 2.0**-53
# Logits from the product form are used where its rounding stays below this many nats.
_LOGIT_ERROR = 1e-12
# Rows this many nats below the top are below rounding in any sum: e^-80 times 1e18 rows.
_WINDOW = 80.0
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
            w = self._posterior(x[block], alpha, sigma)
            small = w < least
            self.dropped[block] += abs(factor) * np.where(small, w, 0.0).sum(axis=1)
            w[small] = 0.0
            mean[block] = self._combine(w)
            parts.append(sparse.csr_array(w))
        self.omega = self.omega + factor * sparse.vstack(parts, format="csr")

    def _posterior(self, x: Float, alpha: float, sigma: float) -> Float:
        """Posterior weights (m, N) of a block of states.

        Logits come from products of centred rows; where their rounding would show, those of the rows that can matter
        are formed again from differences of the rows as given.
        """
        data, moments = self._data, self._data.moments
        rest = x - alpha * moments.center
        logits = np.empty((len(x), data.n))
        for block in _arrays.blocks(data.rows):
            rows = data.read(block)
            rows -= moments.center
            squares = np.einsum("ij,ij->i", rows, rows)
            logits[:, block] = (rest @ rows.T - 0.5 * alpha * squares) * (alpha / sigma**2)
        logits += data.log_w
        error = 2.0**-50 * (np.linalg.norm(rest, axis=1) + alpha * moments.reach) ** 2 / sigma**2
        for m in np.flatnonzero(error > _LOGIT_ERROR):
            near = np.flatnonzero(logits[m] >= logits[m].max() - _WINDOW - 2 * error[m])
            logits[m] = -np.inf
            for piece in _arrays.blocks(np.broadcast_to(x[m], (len(near), data.d))):
                difference = x[m] - alpha * data.values(near[piece])
                squares = np.einsum("ij,ij->i", difference, difference)
                logits[m, near[piece]] = data.log_w[near[piece]] - squares / (2 * sigma**2)
        logits -= logits.max(axis=1, keepdims=True)
        w = np.exp(logits, out=logits)
        w /= w.sum(axis=1, keepdims=True)
        return w

    def _combine(self, w: Float) -> Float:
        mean = np.zeros((len(w), self._data.d))
        for block in _arrays.blocks(self._data.rows):
            used = np.flatnonzero(w[:, block].any(axis=0))
            if len(used):
                mean += w[:, block][:, used] @ self._data.values(block.start + used)
        return mean
