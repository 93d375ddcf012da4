"""Any backend over rows that are read stretch by stretch: files, zarr, h5py and what else has shape, dtype and slices.

Each block is handed to the inner backend as it is stored, and the posteriors of the blocks are merged in row order.
Queries in which rounding inside the blocks may decide between them are answered again in float64 (:mod:`.dense`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._accuracy import PROMISES, Promise
from .._arrays import Source, result_type, widen
from . import Float, Int, Moments, dense, of_sum_one, reference
from .merging import Place, blank, fill, finish, merge, part, unsettled
from .outer import Outer

__all__ = ["Held", "Streamed"]


class Held(Source):
    """Rows in memory that are handed on ``stretch`` bytes at a time, to a device that has no room for all of them.

    Slices of them are no copies.
    """

    def __init__(self, rows: npt.NDArray[Any], stretch: int) -> None:
        super().__init__(rows, "data")
        self.stretch = stretch

    def __getitem__(self, select: slice | npt.ArrayLike) -> npt.NDArray[Any]:
        found: npt.NDArray[Any] = self.source[select]
        return found


@dataclass(frozen=True)
class _Data:
    rows: Any
    log_w: Float
    moments: Moments
    scale: tuple[float, float] | None
    bandwidth: float
    threads: int

    @property
    def promise(self) -> Promise:
        return PROMISES[result_type(self.rows.dtype).name]


@dataclass(frozen=True)
class _Block:
    """Rows in memory, their log weights (of sum 1 again) and moments; ``sent``: what the inner backend gets of them."""

    start: int
    rows: npt.NDArray[Any]
    sent: Any
    log_w: Float
    moments: Moments


def _values(rows: npt.NDArray[Any], scale: tuple[float, float] | None, index: Int) -> Float:
    return widen(rows[index], scale)


class Streamed(Outer):
    """The kernel contract over a row source, by an inner backend.

    One that computes elsewhere says by ``send`` how rows get there: those of the next block go while one is worked on.
    """

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

    def _blocks(self, data: _Data, *, inside: bool = True) -> Iterator[_Block]:
        """All of them; those that are not worked on ``inside`` the inner backend are not sent there."""
        moments, send = iter(data.moments.parts), getattr(self.inner, "send", None) if inside else None
        for cut, (rows, sent) in data.rows.ahead(lambda rows: (rows, rows if send is None else send(rows))):
            yield _Block(cut.start, rows, sent, of_sum_one(data.log_w[cut])[0], next(moments))
            del rows, sent

    def _prepare(self, data: _Data, block: _Block) -> Any:
        return self.inner.prepare(
            block.sent,
            block.log_w,
            moments=block.moments,
            scale=data.scale,
            bandwidth=data.bandwidth,
            low_memory=True,
            threads=data.threads,
        )

    def nearest(self, x: Float, data: _Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
        index, squared = out["index"], out["squared_distance"]
        k = index.shape[1]
        index[:], squared[:] = -1, np.inf
        for block in self._blocks(data):
            shape = (len(x), min(k, len(block.rows)))
            found = {"index": np.empty(shape, np.int64), "squared_distance": np.empty(shape)}
            self.inner.nearest(x, self._prepare(data, block), alpha=alpha, out=found, threads=threads)
            both = np.concatenate([squared, found["squared_distance"]], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :k]
            index[:] = np.take_along_axis(np.concatenate([index, found["index"] + block.start], axis=1), order, axis=1)
            squared[:] = np.take_along_axis(both, order, axis=1)
            del block

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
        place = Place(x, alpha, sigma**2 + (alpha * data.bandwidth) ** 2)
        whole = self._sweep(place, data, sigma, u, cut, out, threads)
        fill(out, finish(whole, place, 0.0))
        again = np.flatnonzero(unsettled(whole, place, data.promise, data.moments.radius, out))
        if len(again):
            some = Place(x[again], alpha[again], place.s2[again])
            wanted = {name: array[again] for name, array in out.items()}
            direction = None if u is None else u[again]
            fill(out, finish(self._sweep(some, data, sigma[again], direction, None, wanted, threads), some, 0.0), again)

    def _sweep(
        self, place: Place, data: _Data, sigma: Float, u: Float | None, cut: Float | None, out: Any, threads: int
    ) -> dict[str, Any]:
        """The merged posterior of all blocks; in float64 without a ``cut``."""
        top = max(1, out["top_index"].shape[1] if "top_index" in out else 0)
        whole: dict[str, Any] = {}
        for block in self._blocks(data, inside=cut is not None):
            # With off-weights no block leaves a row that dominates it to rounding: that is cheaper than a second round.
            here = blank({*out, "log_rest"}, place.x, min(top, len(block.rows)))
            moments = rows = prepared = None
            if cut is None:
                here |= {"mean_low": np.zeros_like(place.x)} if "mean" in here else {}
                rows = reference.Data(block.rows, block.log_w, block.moments, data.scale, data.bandwidth)
                dense.posterior(place.x, rows, place.alpha, sigma, u=u, out=here)
            else:
                moments, prepared = block.moments, self._prepare(data, block)
                self.inner.posterior(place.x, prepared, place.alpha, sigma, u=u, cut=cut, out=here, threads=threads)
            found = part(
                here, place, data.log_w[block.start : block.start + len(block.rows)],
                functools.partial(_values, block.rows, data.scale),
                promise=data.promise, top=top, first=block.start, moments=moments,
                roundoff=self.roundoff(block.rows.dtype),
            )  # fmt: skip
            whole = merge(whole, found, place, u) if whole else found
            del block, rows, prepared  # before the next one comes
        return whole
