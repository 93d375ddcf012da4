"""What is timed: shapes, training sets, queries and the truth about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import BYTE_SCALE, blocks, result_type, widen

__all__ = ["QUICK", "RATIOS", "REGIMES", "Problem", "Regime"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

RATIOS = (19.0, 1e-2, 1e-3)


@dataclass(frozen=True)
class Regime:
    """M queries against N rows in d dimensions; ``steps`` > 0 makes it a trajectory of that many Euler steps."""

    M: int
    N: int
    d: int
    types: tuple[str, ...] = ("float32", "float64")
    steps: int = 0


REGIMES = {
    "images": Regime(256, 50_000, 784),
    "wide": Regime(256, 20_000, 3072),
    "few-rows": Regime(1024, 5000, 784),
    "d64": Regime(256, 50_000, 64),
    "d2": Regime(256, 50_000, 2),
    "one-query": Regime(1, 50_000, 784, ("float32", "float64", "uint8")),
    "trajectory": Regime(256, 50_000, 784, ("float32",), steps=100),
}
QUICK = {
    "images": Regime(64, 5000, 784),
    "wide": Regime(32, 2000, 3072),
    "few-rows": Regime(256, 1000, 784),
    "d64": Regime(256, 5000, 64),
    "d2": Regime(256, 5000, 2),
    "one-query": Regime(1, 5000, 784, ("float32", "float64", "uint8")),
    "trajectory": Regime(32, 5000, 784, ("float32",), steps=20),
}


class Problem:
    """A training set, queries at given sigma / alpha of the linear schedule, and the truth about them.

    The rows are like those of images: near a curved 16-dimensional sheet (blobs for d <= 8), in random order. A fifth
    of them are near copies of other rows, at distances 1.4e-2 and 1.4e-3: late posteriors mix them, and scores formed
    from float32 products show their cancellation there.
    """

    def __init__(self, n: int, d: int, dtype: str, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        if d <= 8:
            rows = 0.5 * rng.standard_normal((n, d)) + rng.integers(-1, 2, (n, 1))
        else:
            rows = np.tanh(0.5 * rng.standard_normal((n, 16)) @ rng.standard_normal((16, d)))
            rows += 0.05 * rng.standard_normal((n, d))
        tenth = n // 10
        for k, distance in enumerate((1.4e-2, 1.4e-3)):
            offset = rng.standard_normal((tenth, d))
            offset *= distance / np.linalg.norm(offset, axis=1, keepdims=True)
            rows[n - (k + 1) * tenth : n - k * tenth] = rows[k * tenth : (k + 1) * tenth] + offset
        order = rng.permutation(n)
        rows = rows[order]
        self._copies = np.flatnonzero(order >= n - 2 * tenth)
        a, b = BYTE_SCALE
        self.rows: Array = (
            np.rint((np.clip(rows, -1, 1) - b) / a).astype(dtype) if dtype == "uint8" else rows.astype(dtype)
        )
        self.mean: Float = self.values(slice(None)).mean(axis=0)
        self.radius = float(
            np.sqrt(sum(np.sum((self.values(piece) - self.mean) ** 2) for piece in blocks(self.rows)) / n)
        )

    def values(self, rows: Any) -> Float:
        return widen(self.rows[rows], BYTE_SCALE if self.rows.dtype == np.uint8 else None)

    def queries(self, m: int, t: float, seed: int = 1) -> Array:
        """Forward samples t x_i + (1 - t) z, in the type of the results; every second x_i is a near copy."""
        rng = np.random.default_rng(seed)
        chosen = rng.integers(0, len(self.rows), m)
        chosen[::2] = rng.choice(self._copies, len(chosen[::2]))
        picked = self.values(chosen)
        return (t * picked + (1 - t) * rng.standard_normal(picked.shape)).astype(result_type(self.rows.dtype))

    def denoiser(self, x: Array, t: float) -> Float:
        """Direct differences in float64, block by block of rows."""
        x = x.astype(np.float64)
        logits = np.empty((len(x), len(self.rows)))
        for piece in blocks(self.rows):
            scaled = t * self.values(piece)
            for m, query in enumerate(x):
                difference = scaled - query
                logits[m, piece] = np.einsum("ij,ij->i", difference, difference)
        logits *= -0.5 / (1 - t) ** 2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return np.asarray(sum(p[:, piece] @ self.values(piece) for piece in blocks(self.rows)))

    def errors(self, answer: Mapping[str, Array], x: Array, truth: Float, t: float) -> dict[str, float]:
        """Largest errors of the denoiser, over max(|D|, R), and of the noise prediction z = (x - t D) / (1 - t), over
        max(|z|, 1); the second is that of score and velocity too. Who returns D only is asked for no more than that.
        """
        x = x.astype(np.float64)
        mean = answer["denoiser"][: len(x)].astype(np.float64)
        true_noise = (x - t * truth) / (1 - t)
        noise = answer["noise"].astype(np.float64) if "noise" in answer else (x - t * mean) / (1 - t)
        pairs = {"noise": (noise, true_noise, 1.0), "denoiser": (mean, truth, self.radius)}
        return {
            name: float(np.max(np.linalg.norm(a - b, axis=1) / np.maximum(np.linalg.norm(b, axis=1), least)))
            for name, (a, b, least) in pairs.items()
        }
