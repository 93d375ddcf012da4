"""Calls of the kernel contract, as short as tests need them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle

from interp_fast.backends import Moments

__all__ = ["INF", "PER_QUERY", "blank", "posterior", "prepare"]

INF = np.inf
PER_QUERY = ("log_norm", "gap", "log_rest", "ess", "entropy", "variance", "scatter", "dropped", "work")


def prepare(kernel, rows, weights=None, *, scale=None, bandwidth=0.0, low_memory=False, threads=1):
    values = np.asarray(rows, float) if scale is None else scale[0] * np.asarray(rows, float) + scale[1]
    log_w = oracle.log_weights(len(rows), weights).astype(float)
    used = values[log_w > -INF]
    mean = np.exp(log_w) @ values
    radius = 0.0 if (used == used[0]).all() else float(np.sqrt(np.exp(log_w) @ ((values - mean) ** 2).sum(1)))
    center = used.mean(0)
    moments = Moments(center, mean, radius, float(np.sqrt(((used - center) ** 2).sum(1).max())))
    return kernel.prepare(
        rows, log_w, moments=moments, scale=scale, bandwidth=bandwidth, low_memory=low_memory, threads=threads
    )


def blank(m, d, top=0, names=("mean", "index", *PER_QUERY)):
    """Output arrays full of what must be overwritten."""
    out = {name: np.full(m, np.nan) for name in names if name in PER_QUERY}
    out |= {name: np.full((m, d), np.nan) for name in names if name in ("mean", "jvp")}
    if "index" in names:
        out["index"] = np.full(m, -7)
    if top:
        out |= {"top_index": np.full((m, top), -7), "top_weight": np.full((m, top), np.nan)}
    return out


def posterior(kernel, data, x, alpha, sigma, *, u=None, cut=INF, out, threads=1):
    m = len(x)
    kernel.posterior(
        x, data, np.full(m, float(alpha)), np.full(m, float(sigma)), u=u, cut=np.full(m, float(cut)), out=out,
        threads=threads,
    )  # fmt: skip
    return SimpleNamespace(**out)
