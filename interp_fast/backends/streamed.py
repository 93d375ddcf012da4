"""Any backend over rows that are read block by block: zarr, h5py and whatever else has shape, dtype and row slices.

Each block is widened to float64, handed to the inner backend, and the posteriors of the blocks are merged in row order.
Widening is what makes the merge right: whether float32 scores are good enough can only be judged on the whole
posterior (two blocks whose rows tie with each other look harmless one by one), float64 scores always are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._arrays import blocks, widen
from . import Float, Moments, State
from .reference import CLOSE, TOLERATED, UNDERFLOW, exact_differences, logit_rounding, run_rows

__all__ = ["Streamed"]

_NEEDED = ("log_norm", "index", "gap", "log_rest")


@dataclass(frozen=True)
class _Data:
    rows: Any
    log_w: Float
    moments: Moments
    scale: tuple[float, float] | None
    bandwidth: float
    threads: int


class Streamed:
    """The kernel contract over a row source, by an inner backend."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def isa(self) -> str | None:
        return self.inner.isa() if hasattr(self.inner, "isa") else None

    def prepare(
        self,
        rows: Any,
        log_w: Float,
        *,
        moments: Moments,
        scale: tuple[float, float] | None,
        bandwidth: float,
        low_memory: bool,
        threads: int,
    ) -> _Data:
        return _Data(rows, log_w, moments, scale, bandwidth, threads)

    def normals(self, *args: Any, **kwargs: Any) -> None:
        self.inner.normals(*args, **kwargs)

    def run_steps(self, state: State, data: _Data, table: Any, first: int, last: int, **options: Any) -> None:
        run_rows(self.posterior, self.normals, state, data, table, first, last, **options)

    def _blocks(self, data: _Data) -> Iterator[tuple[slice, Float, Any]]:
        """Row block, its values, and what the inner backend prepares of them."""
        for block in blocks(data.rows):
            log_w = data.log_w[block]
            mass = float(np.logaddexp.reduce(log_w))
            weighted = log_w - mass if mass > -np.inf else np.full(len(log_w), -np.log(len(log_w)))
            values = widen(data.rows[block], data.scale)
            yield (
                block,
                values,
                self.inner.prepare(
                    values,
                    weighted,
                    moments=Moments.of(values, weighted, None),
                    scale=None,
                    bandwidth=data.bandwidth,
                    low_memory=True,
                    threads=data.threads,
                ),
            )

    def nearest(self, x: Float, data: _Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
        index, squared = out["index"], out["squared_distance"]
        k = index.shape[1]
        index[:], squared[:] = -1, np.inf
        for block, values, prepared in self._blocks(data):
            shape = (len(x), min(k, len(values)))
            part = {"index": np.empty(shape, np.int64), "squared_distance": np.empty(shape)}
            self.inner.nearest(x, prepared, alpha=alpha, out=part, threads=threads)
            both = np.concatenate([squared, part["squared_distance"]], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :k]
            index[:] = np.take_along_axis(np.concatenate([index, part["index"] + block.start], axis=1), order, axis=1)
            squared[:] = np.take_along_axis(both, order, axis=1)

    def posterior(
        self,
        x: Float,
        data: _Data,
        alpha: Float,
        sigma: Float,
        *,
        u: Float | None = None,
        cut: Float,
        out: dict[str, Any],
        threads: int,
    ) -> None:
        k = max(1, out["top_index"].shape[1] if "top_index" in out else 0)
        s2 = sigma**2 + (alpha * data.bandwidth) ** 2
        merged: dict[str, Any] = {}
        for block, values, prepared in self._blocks(data):
            part = _empty(out, x, min(k, len(values)))
            self.inner.posterior(x, prepared, alpha, sigma, u=u, cut=cut, out=part, threads=threads)
            _list(part, x, values, data.log_w[block], alpha, s2)
            part["index"] += block.start
            part["top_index"] += block.start
            part["rows"] = len(values)
            if merged:
                ahead, level = _compare(merged, part, x, data, alpha, s2)
                merged = _merge(merged, part, ahead, level, u) | _merge_lists(merged, part, k, ahead, x, s2)
            else:
                merged = part
        if "top_weight" in out:
            merged["top_weight"] = np.exp(merged["top_logit"] + merged["log_top"][:, None])
        merged["log_norm"][s2 == 0] = -np.inf
        for name, array in out.items():
            array[:] = merged[name]


def _list(part: dict[str, Any], x: Float, values: Float, log_w: Float, alpha: Float, s2: Float) -> None:
    """What merging takes of a block: its top row and those listed after it.

    top_logit, top_c, top_log_w (M, k): of the listed rows, their logits over that of the first; log_top: the log weight
    of that in the block; distance: its c, at infinity when it has no weight at S = 0; log_norm: at S = 0 of the tied
    rows' weights.
    """
    index, weight = part["top_index"], part["top_weight"]
    with np.errstate(divide="ignore"):
        part["log_top"] = np.log(weight[:, 0])
        logits: Float = np.log(weight) - part["log_top"][:, None]
    c = np.stack([np.sum((x - alpha[:, None] * values[rows]) ** 2, axis=1) for rows in index.T], axis=1)
    apart = np.divide(c - c[:, :1], 2 * s2[:, None], out=np.full_like(c, np.inf), where=s2[:, None] > 0)
    light = weight == 0  # rows whose weight underflows still have an order
    with np.errstate(invalid="ignore"):
        logits[light] = (log_w[index] - log_w[index[:, :1]] - apart)[light]
    part["top_logit"] = np.where(np.isnan(logits), -np.inf, logits)
    part["top_c"], part["top_log_w"] = c, log_w[index]
    part["log_w"], part["distance"] = log_w[index[:, 0]], c[:, 0].copy()
    part["distance"][np.isneginf(part["log_w"]) & (s2 == 0)] = np.inf
    part["log_norm"] = part["log_w"] - part["log_top"]
    part["log_norm"] -= np.divide(c[:, 0], 2 * s2, out=np.zeros(len(c)), where=s2 > 0)


def _empty(out: dict[str, Any], x: Float, k: int) -> dict[str, Any]:
    """Arrays for the posterior of one block: those of ``out`` and what merging them takes."""
    m = len(x)
    part = {name: np.empty_like(array) for name, array in out.items()}
    part["top_index"], part["top_weight"] = np.empty((m, k), np.int64), np.empty((m, k))
    part |= {name: np.empty(m, np.int64 if name == "index" else np.float64) for name in _NEEDED}
    if part.keys() & {"variance", "scatter", "jvp"}:
        part["mean"] = np.empty_like(x)
    return part


def _compare(
    a: dict[str, Any], b: dict[str, Any], x: Float, data: _Data, alpha: Float, s2: Float
) -> tuple[Float, npt.NDArray[np.bool_]]:
    """How far the top rows of ``b`` are above those of ``a``, in logits, and where they are as near at S = 0.

    Exact where rounding would decide: far rows of different blocks tie as those of one block do. At S = 0 the nearer
    row is ahead by infinity, and of rows as near as each other all that counts is the weight.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        farther, nearest = b["distance"] - a["distance"], np.minimum(a["distance"], b["distance"])
        by_weight = b["log_w"] - a["log_w"]
        apart = np.linalg.norm(b["mean"] - a["mean"], axis=1) if "mean" in a else np.zeros(len(x))
        error = logit_rounding(x, nearest, s2)
        harmful = error * np.maximum(1.0, apart * alpha / np.sqrt(s2)) > TOLERATED
        doubtful = harmful & (np.abs(by_weight - farther / (2 * s2)) <= UNDERFLOW + 2**7 * error)
        doubtful = np.where(s2 > 0, doubtful, np.abs(farther) <= CLOSE * nearest)
        for m in np.flatnonzero(doubtful):
            one, two = (widen(np.asarray(data.rows[i : i + 1]), data.scale)[0] for i in (a["index"][m], b["index"][m]))
            farther[m] = exact_differences(x[m], alpha[m], [two], one)[0]
        level = (s2 == 0) & ~(farther != 0)
        ahead = by_weight - np.where(level, 0.0, farther / (2 * s2))
    ahead[np.isnan(ahead)] = 0.0  # neither has weight
    return ahead, level & np.isfinite(nearest)


def _merge(
    a: dict[str, Any], b: dict[str, Any], ahead: Float, level: npt.NDArray[np.bool_], u: Float | None
) -> dict[str, Any]:
    """The posterior over two disjoint sets of rows, all of ``a`` before ``b``, from the two posteriors."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = ahead - b["log_top"] + a["log_top"]  # of log_norm
        log_a, log_b = -np.logaddexp(0.0, difference), -np.logaddexp(0.0, -difference)
        w_a, w_b = np.exp(log_a), np.exp(log_b)
        wins = ahead <= 0
        between = np.where(level, 0.0, np.abs(ahead))
        out: dict[str, Any] = {
            "rows": a["rows"] + b["rows"],
            "log_norm": np.where(difference > 0, b["log_norm"] - log_b, a["log_norm"] - log_a),
            "log_top": np.where(wins, a["log_top"] + log_a, b["log_top"] + log_b),
            "gap": np.minimum(between, np.where(wins, a["gap"], b["gap"])),
            "log_rest": np.where(
                wins, np.logaddexp(a["log_rest"] + log_a, log_b), np.logaddexp(b["log_rest"] + log_b, log_a)
            ),
        }
        for name in ("index", "log_w", "distance"):
            out[name] = np.where(wins, a[name], b[name])
        if "entropy" in a:
            own = np.where(w_a > 0, -w_a * log_a, 0.0) + np.where(w_b > 0, -w_b * log_b, 0.0)
            out["entropy"] = w_a * a["entropy"] + w_b * b["entropy"] + own
        if "ess" in a:
            out["ess"] = 1.0 / (w_a**2 / a["ess"] + w_b**2 / b["ess"])
    if "mean" in a:
        apart = b["mean"] - a["mean"]
        heavy = (w_a >= w_b)[:, None]
        out["mean"] = np.where(heavy, a["mean"] + w_b[:, None] * apart, b["mean"] - w_a[:, None] * apart)
        for name in a.keys() & {"variance", "scatter"}:
            out[name] = w_a * a[name] + w_b * b[name] + w_a * w_b * np.einsum("ij,ij->i", apart, apart)
        if "jvp" in a and u is not None:
            across = (w_a * w_b * np.einsum("ij,ij->i", apart, u))[:, None] * apart
            out["jvp"] = w_a[:, None] * a["jvp"] + w_b[:, None] * b["jvp"] + across
    if "dropped" in a:
        out["dropped"] = w_a * a["dropped"] + w_b * b["dropped"]
    if "work" in a:
        out["work"] = (a["rows"] * a["work"] + b["rows"] * b["work"]) / out["rows"]
    return out


def _merge_lists(a: dict[str, Any], b: dict[str, Any], k: int, ahead: Float, x: Float, s2: Float) -> dict[str, Any]:
    """The k heaviest of the listed rows."""
    below = np.maximum(ahead, 0.0)[:, None], np.maximum(-ahead, 0.0)[:, None]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        lists = {name: np.concatenate([a[name], b[name]], axis=1) for name in ("top_index", "top_c", "top_log_w")}
        lists["top_logit"] = np.concatenate([a["top_logit"] - below[0], b["top_logit"] - below[1]], axis=1)
        # Straight from distances equal rows of different blocks are equal to the bit, where these have the digits.
        log_w, c = (np.where(ahead <= 0, a[name], b[name])[:, None] for name in ("log_w", "distance"))
        direct = (lists["top_log_w"] - log_w) - (lists["top_c"] - c) / (2 * s2[:, None])
        good = logit_rounding(x, c[:, 0], s2) <= TOLERATED
    np.copyto(lists["top_logit"], np.where(np.isnan(direct), -np.inf, direct), where=good[:, None])
    order = np.argsort(-lists["top_logit"], axis=1, kind="stable")[:, :k]
    return {name: np.take_along_axis(listed, order, axis=1) for name, listed in lists.items()}
