"""Five points in the plane, schedules, and the posterior by direct distances and a softmax."""

from __future__ import annotations

import numpy as np

import interp_fast as itf

ANGLES = 2 * np.pi * np.arange(5) / 5
PENTAGON = 2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
WEIGHTS = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
BRIDGE, BRIDGE2 = itf.LatentBridge(1.0), itf.LatentBridge(2.0)  # sigma^2 = 1 - t and 1 - t^2
SCHEDULES = [itf.Linear(), itf.Trigonometric(), BRIDGE, BRIDGE2, itf.VP()]


def weights(rows, x, alpha, sigma, prior=None):
    """Posterior weights (M, N)."""
    squares = ((x[:, None, :] - alpha * rows) ** 2).sum(axis=2)
    with np.errstate(divide="ignore"):
        logits = -squares / (2 * sigma**2) + (0 if prior is None else np.log(prior))
    w = np.exp(logits - logits.max(axis=1, keepdims=True))
    return w / w.sum(axis=1, keepdims=True)


def distances(rows):
    return np.sqrt(((rows[:, None] - rows) ** 2).sum(axis=2))


def off_the_rows(out, rows=PENTAGON):
    return np.linalg.norm(out.x - rows[out.index], axis=1)
