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
from .reference import run_rows

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
            part["top_logit"], part["distance"] = _logits(part["top_index"], x, values, data.log_w[block], alpha, s2)
            part["log_norm"] = part["top_logit"][:, 0] - np.log(part["top_weight"][:, 0])
            part["index"] += block.start
            part["top_index"] += block.start
            part["rows"] = len(values)
            merged = _merge(merged, part, k, s2 == 0, u) if merged else part
        if "top_weight" in out:
            merged["top_weight"] = np.exp(merged["top_logit"] - merged["log_norm"][:, None])
        merged["log_norm"][s2 == 0] = -np.inf
        for name, array in out.items():
            array[:] = merged[name]


def _logits(
    index: npt.NDArray[np.int64], x: Float, values: Float, log_w: Float, alpha: Float, s2: Float
) -> tuple[Float, Float]:
    """Logits (M, k) of the listed rows, which order equal rows of different blocks exactly, and distances (M,).

    At S = 0 the nearest block takes all, and blocks as near as each other share by the weight of their tied rows: the
    logit is then that weight, the distance that of the top row. Otherwise the distance is 0; rows of weight 0 are at
    infinity.
    """
    logits = log_w[index]
    distance = np.zeros(len(x))
    for column in range(index.shape[1]):
        c = np.sum((x - alpha[:, None] * values[index[:, column]]) ** 2, axis=1)
        logits[:, column] -= np.divide(c, 2 * s2, out=np.zeros_like(c), where=s2 > 0)
        if column == 0:
            distance[s2 == 0] = c[s2 == 0]
        else:
            logits[(s2 == 0) & (c != distance), column] = -np.inf
    distance[np.isneginf(logits[:, 0]) & (s2 == 0)] = np.inf
    return logits, distance


def _empty(out: dict[str, Any], x: Float, k: int) -> dict[str, Any]:
    """Arrays for the posterior of one block: those of ``out`` and what merging them takes."""
    m = len(x)
    part = {name: np.empty_like(array) for name, array in out.items()}
    part["top_index"], part["top_weight"] = np.empty((m, k), np.int64), np.empty((m, k))
    part |= {name: np.empty(m, np.int64 if name == "index" else np.float64) for name in _NEEDED}
    if part.keys() & {"variance", "scatter", "jvp"}:
        part["mean"] = np.empty_like(x)
    return part


def _merge(
    a: dict[str, Any], b: dict[str, Any], k: int, limit: npt.NDArray[np.bool_], u: Float | None
) -> dict[str, Any]:
    """The posterior over two disjoint sets of rows, all of ``a`` before ``b``, from the two posteriors."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = b["log_norm"] - a["log_norm"]
        difference[np.isnan(difference)] = 0.0  # neither set has weight
        nearer = np.nan_to_num(np.sign(a["distance"] - b["distance"]))
        difference = np.where(nearer == 0, difference, nearer * np.inf)
        log_a, log_b = -np.logaddexp(0.0, difference), -np.logaddexp(0.0, -difference)
        w_a, w_b = np.exp(log_a), np.exp(log_b)
        a_logit, b_logit = (
            np.where((nearer * sign > 0)[:, None], -np.inf, p["top_logit"]) for p, sign in ((a, 1), (b, -1))
        )
        wins = a_logit[:, 0] >= b_logit[:, 0]
        between = np.abs(a_logit[:, 0] - b_logit[:, 0])
        between[limit & (nearer == 0) & np.isfinite(a["distance"])] = 0.0  # as near as each other
        out: dict[str, Any] = {
            "rows": a["rows"] + b["rows"],
            "distance": np.minimum(a["distance"], b["distance"]),
            "log_norm": np.where(difference > 0, b["log_norm"] - log_b, a["log_norm"] - log_a),
            "index": np.where(wins, a["index"], b["index"]),
            "gap": np.minimum(between, np.where(wins, a["gap"], b["gap"])),
            "log_rest": np.where(
                wins, np.logaddexp(a["log_rest"] + log_a, log_b), np.logaddexp(b["log_rest"] + log_b, log_a)
            ),
        }
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
    logits = np.concatenate([a_logit, b_logit], axis=1)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    out["top_logit"] = np.take_along_axis(logits, order, axis=1)
    out["top_index"] = np.take_along_axis(np.concatenate([a["top_index"], b["top_index"]], axis=1), order, axis=1)
    return out
