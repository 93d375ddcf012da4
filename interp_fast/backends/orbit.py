"""Any backend over the orbit of its rows under permutations of the coordinates, whose images are not stored.

As |x - alpha g X| = |g^-1 x - alpha X|, the posterior over the images of all rows under one element is that over the
rows themselves at another query; those of the elements are merged.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from .._accuracy import PROMISES
from .._arrays import result_type, widen
from . import Float, Int, Moments, dense, reference
from .merging import CHAINED, Place, blank, fill, finish, part, plain_squares, reduce, unsettled
from .outer import Outer
from .reference import logit_rounding

__all__ = ["Images", "Orbit", "images"]

# Queries, at other elements, that read the rows once, and those of a backend that compares what it finds at each
# element: fewer would read the rows more often, more are more memory, d numbers each and their answers.
_TOGETHER, _COMPARED = 512, 4096
# Numbers in all images up to which they are stored: merging costs more than so many do.
_STORED = 1 << 22
_OF_ONE = {"mean", "index", "dropped", "work"}  # what can be told of the images under one element alone


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
            return np.concatenate([np.take(self.rows[span], self.elements[e], axis=1) for e, span in spans])
        element, row = np.divmod(np.asarray(select, np.int64), n)
        return np.take_along_axis(self.rows[row], self.elements[element], axis=1)


def images(rows: Any, elements: Int, *, low_memory: bool) -> Any:
    """All images of the rows: an array of them where that is small and they are one, without ``low_memory``."""
    if len(elements) == 1:
        return rows
    formed = Images(rows, elements)
    small = isinstance(rows, np.ndarray) and rows.size * len(elements) <= _STORED
    return formed[:] if small and not low_memory else formed


@dataclass(frozen=True)
class _Data:
    images: Images
    log_w: Float
    moments: Moments
    scale: tuple[float, float] | None
    bandwidth: float
    inner: Any

    @property
    def rows(self) -> int:
        """How many are stored."""
        return int(self.images.rows.shape[0])

    def values(self, element: Int, index: Int) -> Float:
        return widen(np.take(self.images.rows[index], element, axis=1), self.scale)


@dataclass(frozen=True)
class _Asked:
    """Queries, and how they are asked about the rows.

    ``compared``: at each element rows are left out that count for nothing beside those at another.
    """

    place: Place
    sigma: Float
    u: Float | None
    cut: Float
    threads: int
    compared: bool

    def some(self, select: Any) -> _Asked:
        place, u = self.place, None if self.u is None else self.u[select]
        place = Place(place.x[select], place.alpha[select], place.s2[select])
        return replace(self, place=place, sigma=self.sigma[select], u=u, cut=self.cut[select])


def _at(x: Float, inverses: Int) -> Float:
    """The queries at each of some elements, one element after another."""
    out = np.empty((len(inverses), *x.shape))
    for moved, inverse in zip(out, inverses, strict=True):
        np.take(x, inverse, axis=1, out=moved, mode="clip")  # any other mode writes elsewhere first
    return out.reshape(-1, x.shape[1])


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
        compared = getattr(self.inner, "knows_parts", False) and out.keys() <= _OF_ONE
        size = max(1, _COMPARED // len(data.images.elements)) if compared else max(1, len(x))
        place = Place(x, alpha, sigma**2 + (alpha * data.bandwidth) ** 2)
        asked = _Asked(place, sigma, u, cut, threads, compared)
        for some in (slice(first, first + size) for first in range(0, len(x), size)):
            self._posterior(asked.some(some), data, {name: array[some] for name, array in out.items()})

    def _posterior(self, asked: _Asked, data: _Data, out: dict[str, Any]) -> None:
        m = len(asked.place.x)
        top = max(1, out["top_index"].shape[1] if "top_index" in out else 0)
        found = self._each(asked, data, blank(out, asked.place.x[:0], min(top, data.rows)))
        rest = np.arange(m)
        if out.keys() <= _OF_ONE and len(found) > 1:
            rest = self._alone(found, asked, data, out)
        if len(rest) == 0:
            return
        some: Any = slice(None) if len(rest) == m else rest
        asked = asked.some(some)
        place = asked.place
        promise, parts = PROMISES[result_type(data.images.dtype).name], []
        for e, (element, answer) in enumerate(zip(data.images.elements, found, strict=True)):
            here = {name: array[some] for name, array in answer.items()}
            for name in here.keys() & {"mean", "jvp"}:
                here[name] = np.take(here[name], element, axis=1)
            parts.append(
                part(
                    here, place, data.log_w[: data.rows], functools.partial(data.values, element),
                    promise=promise, top=top, first=e * data.rows, moments=data.moments,
                    roundoff=self.roundoff(data.images.dtype),
                )
            )  # fmt: skip
        whole = reduce(parts, place, asked.u)
        if asked.compared and "dropped" in out:  # of shares of the whole, not of the mass at each
            whole["dropped"] = np.minimum(sum(answer["dropped"][some] for answer in found), 1.0)
        fill(out, finish(whole, place, 0.0), some)
        again = np.flatnonzero(unsettled(whole, place, promise, data.moments.radius, out))
        if len(again):
            rows = reference.Data(data.images, data.log_w, data.moments, data.scale, data.bandwidth)  # type: ignore[arg-type]
            exact = {name: array[rest[again]] for name, array in out.items()}
            asked = asked.some(again)
            dense.posterior(asked.place.x, rows, asked.place.alpha, asked.sigma, u=asked.u, out=exact)
            fill(out, exact, rest[again])

    def _each(self, asked: _Asked, data: _Data, kinds: dict[str, Any]) -> list[dict[str, Any]]:
        """Answers about the rows for the queries at each element; ``kinds``: the arrays wanted, of no query."""
        answers: list[dict[str, Any]] = []
        place, u = asked.place, asked.u
        m, count = len(place.x), len(data.images.elements)
        together = count if asked.compared else max(1, _TOGETHER // max(1, m))
        for first in range(0, count, together):
            inverses = data.images.inverses[first : first + together]
            k = len(inverses)
            found = {name: np.empty((k * m, *array.shape[1:]), array.dtype) for name, array in kinds.items()}
            self.inner.posterior(
                _at(place.x, inverses), data.inner, np.tile(place.alpha, k), np.tile(asked.sigma, k),
                u=None if u is None else _at(u, inverses), cut=np.tile(asked.cut, k), out=found, threads=asked.threads,
                **({"parts": k} if asked.compared else {}),
            )  # fmt: skip
            answers += [{name: array[i * m : (i + 1) * m] for name, array in found.items()} for i in range(k)]
        return answers

    def _alone(self, found: list[dict[str, Any]], asked: _Asked, data: _Data, out: dict[str, Any]) -> Int:
        """Answer the queries in which the rows under all other elements may be left out; which are the others?"""
        place = asked.place
        top = np.stack([one["index"] for one in found])
        c = np.stack([
            plain_squares(np.take(place.x, inverse, axis=1), place.alpha, widen(data.images.rows[rows], data.scale))
            for rows, inverse in zip(top, data.images.inverses, strict=True)
        ])  # fmt: skip
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            logits = data.log_w[top] - c / (2 * place.s2)
            lead = np.sort(logits, axis=0)
            lead = lead[-1] - lead[-2] - 2 * CHAINED * logit_rounding(place.x, c.max(axis=0), place.s2)
            alone = lead >= asked.cut  # not where S = 0
        best = np.argmax(logits, axis=0)
        for e, (one, element) in enumerate(zip(found, data.images.elements, strict=True)):
            some = np.flatnonzero(alone & (best == e))
            if len(some) == 0:
                continue
            if "mean" in out:
                out["mean"][some] = np.take(one["mean"][some], element, axis=1)
            if "index" in out:
                out["index"][some] = one["index"][some] + e * data.rows
            if "dropped" in out:
                others = data.rows * (len(found) - 1) * np.exp(-lead[some])
                out["dropped"][some] = np.minimum(one["dropped"][some] + others, 1.0)
            if "work" in out:
                out["work"][some] = np.mean([each["work"][some] for each in found], axis=0)
        rest: Int = np.flatnonzero(~alone)
        return rest

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
