"""Any backend over the orbit of its rows under permutations of the coordinates, none of which is stored.

As |x - alpha g X| = |g^-1 x - alpha X|, the posterior over the images of all rows under one element is that over the
rows themselves at another query; those of the elements are merged.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._accuracy import PROMISES
from .._arrays import result_type, widen
from . import Float, Int, Moments, dense, reference
from .merging import Place, blank, fill, finish, part, reduce, unsettled
from .outer import Outer

__all__ = ["Images", "Orbit"]

_TOGETHER = 512  # queries, at other elements, that read the rows once


class Images:
    """Rows (n, d) under each of G permutations: row e n + i is rows[i, elements[e]]. Read in slices or by numbers."""

    def __init__(self, rows: Any, elements: Int) -> None:
        self.rows, self.elements, self.dtype = rows, elements, rows.dtype
        self.inverses = np.argsort(elements, axis=1)
        self.shape = (len(elements) * rows.shape[0], rows.shape[1])

    def __getitem__(self, select: slice | Any) -> npt.NDArray[Any]:
        n = self.rows.shape[0]
        if isinstance(select, slice):
            start, stop, _ = select.indices(self.shape[0])
            cuts = range(start // n, -(-stop // n))
            spans = [(e, slice(max(start - e * n, 0), min(stop - e * n, n))) for e in cuts]
            return np.concatenate([self.rows[span][:, self.elements[e]] for e, span in spans])
        element, row = np.divmod(np.asarray(select, np.int64), n)
        return np.take_along_axis(self.rows[row], self.elements[element], axis=1)


@dataclass(frozen=True)
class _Data:
    images: Images
    log_w: Float
    moments: Moments
    scale: tuple[float, float] | None
    bandwidth: float
    inner: Any

    def values(self, element: Int, index: Int) -> Float:
        return widen(np.take(self.images.rows[index], element, axis=1), self.scale)


class Orbit(Outer):
    """The kernel contract over :class:`Images`, by a backend for their rows."""

    def prepare(
        self,
        rows: Images,
        log_w: Float,
        *,
        moments: Moments,
        scale: tuple[float, float] | None,
        bandwidth: float,
        low_memory: bool,
        threads: int,
    ) -> _Data:
        one = log_w[: rows.rows.shape[0]] + np.log(len(rows.elements))
        inner = self.inner.prepare(
            rows.rows, one, moments=Moments.of(rows.rows, one, scale), scale=scale, bandwidth=bandwidth,
            low_memory=low_memory, threads=threads,
        )  # fmt: skip
        return _Data(rows, log_w, moments, scale, bandwidth, inner)

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
        images, place = data.images, Place(x, alpha, sigma**2 + (alpha * data.bandwidth) ** 2)
        n = images.rows.shape[0]
        top = max(1, out["top_index"].shape[1] if "top_index" in out else 0)
        promise, parts = PROMISES[result_type(images.dtype).name], []
        count, m = len(images.elements), len(x)
        together = max(1, _TOGETHER // max(1, m))
        for cut_off in (slice(e, min(e + together, count)) for e in range(0, count, together)):
            elements, inverses = images.elements[cut_off], images.inverses[cut_off]
            k = len(elements)
            queries = np.concatenate([np.take(x, inverse, axis=1) for inverse in inverses])
            found = blank(out, queries, min(top, n))
            direction = None if u is None else np.concatenate([np.take(u, inverse, axis=1) for inverse in inverses])
            self.inner.posterior(
                queries, data.inner, np.tile(alpha, k), np.tile(sigma, k),
                u=direction, cut=np.tile(cut, k), out=found, threads=threads,
            )  # fmt: skip
            for i, element in enumerate(elements):
                here = {name: array[i * m : (i + 1) * m] for name, array in found.items()}
                for name in here.keys() & {"mean", "jvp"}:
                    here[name] = np.take(here[name], element, axis=1)
                parts.append(
                    part(
                        here, place, data.log_w[:n], functools.partial(data.values, element),
                        promise=promise, top=top, first=(cut_off.start + i) * n, moments=data.moments,
                        roundoff=self.roundoff(images.dtype),
                    )
                )  # fmt: skip
        whole = reduce(parts, place, u)
        fill(out, finish(whole, place, 0.0), slice(None))
        again = np.flatnonzero(unsettled(whole, place, promise, data.moments.radius, out))
        if len(again):
            rows = reference.Data(images, data.log_w, data.moments, data.scale, data.bandwidth)  # type: ignore[arg-type]
            some = {name: array[again] for name, array in out.items()}
            direction = None if u is None else u[again]
            dense.posterior(x[again], rows, alpha[again], sigma[again], u=direction, out=some)
            fill(out, some, again)

    def nearest(self, x: Float, data: _Data, *, alpha: float, out: dict[str, Any], threads: int) -> None:
        k, n = out["index"].shape[1], data.images.rows.shape[0]
        index, squared = [], []
        for e, inverse in enumerate(data.images.inverses):
            shape = (len(x), min(k, n))
            found = {"index": np.empty(shape, np.int64), "squared_distance": np.empty(shape)}
            self.inner.nearest(np.take(x, inverse, axis=1), data.inner, alpha=alpha, out=found, threads=threads)
            index.append(found["index"] + e * n)
            squared.append(found["squared_distance"])
        both, numbers = np.concatenate(squared, axis=1), np.concatenate(index, axis=1)
        order = np.argsort(both, axis=1, kind="stable")[:, :k]
        out["index"][:] = np.take_along_axis(numbers, order, axis=1)
        out["squared_distance"][:] = np.take_along_axis(both, order, axis=1)
