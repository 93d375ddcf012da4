"""Views of a training set: queries that do not see all of its rows, or not alike.

A view stands where a :class:`TrainingSet` does, behind a field; its rows have the numbers of the whole.
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._accuracy import PROMISES, noise_ratio
from ._training_set import TrainingSet
from .backends import State, dense, reference
from .backends.reference import run_rows

__all__ = ["SHARP", "ByClass", "Guided", "Tempered", "View", "Without"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
# Up to this sigma / alpha, in radii of the data, few rows are likely to count.
SHARP = 0.1
# What makes sums of their own in a pass over all rows worth while: rows of a class on average, as each slab of a class
# costs a merge of all sums; queries, most of which would be asked again where they are few; and, where rows are not
# stored class by class, their length, as they are then read one at a time, which costs the less the longer they are.
_LARGE, _MANY, _LONG = 1024, 48, 256


class View(ABC):
    """What does not differ from the whole. ``length``: how many queries it is made for, None: any number."""

    view = "view"
    temperature = 1.0
    length: int | None = None
    length_of = "labels"
    numbers = None
    takes_tensors = bounds_rounding = False

    def __init__(self, whole: TrainingSet) -> None:
        self.whole = whole
        self.rows, self.given, self.log_w, self.scale, self.kind = (
            whole.rows, whole.given, whole.log_w, whole.scale, whole.kind
        )  # fmt: skip
        self.bandwidth, self.threads, self.low_memory = whole.bandwidth, whole.threads, whole.low_memory
        self.moments, self.type, self.labels, self.name = whole.moments, whole.type, whole.labels, whole.name
        self.device = whole.device
        self.d, self.n, self.event, self.log_mass = whole.d, whole.n, whole.event, whole.log_mass

    @property
    def isa(self) -> str | None:
        return self.whole.isa

    def check_queries(self, m: int, name: str) -> None:
        """ValueError unless the view is made for ``m`` queries."""
        if self.length is not None and m != self.length:
            msg = f"{name} must have {self.length} rows, one for each of the {self.length_of}; got {m}."
            raise ValueError(msg)

    def number(self, index: Any) -> Any:
        return self.whole.number(index)

    def values(self, index: Any) -> Any:
        return self.whole.values(index)

    def normals(self, key: int, first_sample: int, row: int, *, n: int) -> Float:
        return self.whole.normals(key, first_sample, row, n=n)

    def log_density(self, log_norm: Any, s2: Any) -> Any:
        return self.whole.log_density(log_norm, s2)

    def nearest(self, x: Float, k: int = 1, alpha: float = 1.0) -> tuple[Int, Float]:
        return self.whole.nearest(x, k, alpha)

    def certificate(self, dropped: Any) -> Any:
        return self.whole.certificate(dropped)

    def in_radii(self, distance: Float) -> Float:
        return self.whole.in_radii(distance)

    def cut(self, tol: float | None, ratio: Float | None = None, *, off_weights: bool = False) -> Any:
        return self.whole.cut(tol, ratio, off_weights=off_weights)

    @abstractmethod
    def posterior(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any], u: Any = None) -> None:
        """That of a training set."""

    def run_steps(self, state: State, table: Any, first: int, last: int, **options: Any) -> None:
        """Rows of a step table, by one call of :meth:`posterior` each."""

        def posterior(
            x: Float, data: Any, alpha: Float, sigma: Float, *, cut: Any, out: dict[str, Any], threads: int
        ) -> None:
            self.posterior(x, alpha, sigma, cut, out)

        def normals(key: int, first_sample: int, row: int, out: Float, *, threads: int) -> None:
            out[:] = self.normals(key, first_sample, row, n=len(out))

        run_rows(posterior, normals, state, self, table, first, last, threads=self.threads, **options)


class ByClass(View):
    """Query m sees the rows of class ``codes[m]``."""

    view = "field given labels"

    def __init__(self, whole: TrainingSet, codes: Int) -> None:
        super().__init__(whole)
        self.codes, self.length = codes, len(codes)
        order = np.argsort(codes, kind="stable")
        classes, first = np.unique(codes[order], return_index=True)
        self.queries = list(zip(classes.tolist(), np.split(order, first)[1:], strict=True))  # of each class
        self.bounds_rounding = whole.bounds_rounding

    def _classes(self) -> list[tuple[Int, TrainingSet]]:
        """The queries of each class that there are, and its rows."""
        return [(some, self.whole.of_class(c)) for c, some in self.queries]

    def cut(self, tol: float | None, ratio: Float | None = None, *, off_weights: bool = False) -> Any:
        if ratio is None:
            return max(data.cut(tol, off_weights=off_weights) for _, data in self._classes())
        cut = np.empty(len(self.codes))
        ratio = np.broadcast_to(ratio, len(cut))
        for some, data in self._classes():
            cut[some] = data.cut(tol, ratio[some], off_weights=off_weights)
        return cut

    def certificate(self, dropped: Any) -> Any:
        bound = np.empty(len(self.codes))
        for some, data in self._classes():
            bound[some] = data.certificate(dropped[some])
        return bound

    def in_radii(self, distance: Float) -> Float:
        relative = np.empty_like(distance)
        for some, data in self._classes():
            relative[some] = data.in_radii(distance[some])
        return relative

    def posterior(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any], u: Any = None) -> None:
        cut = np.broadcast_to(cut, len(x))
        for some, data in self._classes():
            here = {name: array[some] for name, array in out.items()}
            k = min(data.n, here["top_index"].shape[1]) if "top_index" in here else 0
            if "top_index" in here:
                here |= {name: np.ascontiguousarray(here[name][:, :k]) for name in ("top_index", "top_weight")}
            data.posterior(x[some], alpha[some], sigma[some], cut[some], here, None if u is None else u[some])
            for name in here.keys() & {"index", "top_index"}:
                here[name] = self._whole_number(data, here[name])
            for name, array in out.items():
                if name.startswith("top_"):
                    array[some, :k] = here[name]
                else:
                    array[some] = here[name]
            if "top_index" in out and k < out["top_index"].shape[1]:  # rows of other classes follow, of weight 0
                others = np.setdiff1d(np.arange(self.n), self._whole_number(data, np.arange(data.n)))
                out["top_index"][some, k:] = others[: out["top_index"].shape[1] - k]
                out["top_weight"][some, k:] = 0.0

    def _whole_number(self, data: TrainingSet, index: Int) -> Int:
        """Rows of a class by their place in the whole."""
        assert data.numbers is not None
        numbers = data.numbers[index]
        return numbers if self.whole.numbers is None else np.searchsorted(self.whole.numbers, numbers)

    def nearest(self, x: Float, k: int = 1, alpha: float = 1.0) -> tuple[Int, Float]:
        index, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
        for some, data in self._classes():
            found, squared[some] = data.nearest(x[some], k, alpha)
            index[some] = self._whole_number(data, found)
        return index, squared

    def run_steps(self, state: State, table: Any, first: int, last: int, **options: Any) -> None:
        """Each class walks with its own queries, fused; with noise, which neighbours have, in stretches of them."""
        ends = np.flatnonzero(np.diff(self.codes)) + 1
        noisy = bool(np.any(table.S > 0))
        stretches = np.split(np.arange(len(self.codes)), ends)
        if noisy and len(stretches) > 2 * len(self.queries):
            super().run_steps(state, table, first, last, **options)
            return
        for some in stretches if noisy else [some for some, _ in self._classes()]:
            data = self.whole.of_class(int(self.codes[some[0]]))
            error = options["error"]
            own = options | {
                "first_sample": options["first_sample"] + int(some[0]),
                "error": None if error is None else np.ascontiguousarray(error[:, some]),
            }
            own["cut"] = float(np.max(own["cut"]))
            part = _taken(state, some)
            data.run_steps(part, table, first, last, **own)
            _put(state, some, part)


def _taken(state: State, some: Int) -> State:
    arrays: dict[str, Any] = {name: a for name, a in vars(state).items() if a is not None}
    return State(**{n: np.ascontiguousarray(a[..., some, :] if a.ndim > 1 else a[some]) for n, a in arrays.items()})


def _put(state: State, some: Int, part: State) -> None:
    for name, array in vars(state).items():
        if array is not None and array.ndim > 1:
            array[..., some, :] = getattr(part, name)
        elif array is not None:
            array[some] = getattr(part, name)


def _unknown_means(x: Float) -> Float:
    """Room for a mean of each query, of which none is known: backends write those that are, the first number of others
    stays NaN.
    """
    means = np.empty_like(x)
    means[:, 0] = np.nan
    return means


def _known(means: Float) -> npt.NDArray[np.bool_]:
    """Which of them have been written."""
    known: npt.NDArray[np.bool_] = ~np.isnan(means[:, 0])
    return known


class Guided(View):
    """D + scale (D_class - D), and what is linear in D with it; the rest is that of the whole."""

    view = "guided field"

    def __init__(self, whole: TrainingSet, codes: Int, scale: float) -> None:
        super().__init__(whole)
        self.of_class, self.strength, self.length = ByClass(whole, codes), scale, len(codes)
        self.codes = codes

    def cut(self, tol: float | None, ratio: Float | None = None, *, off_weights: bool = False) -> Any:
        both = (data.cut(tol, ratio, off_weights=off_weights) for data in (self.whole, self.of_class))
        return np.maximum(*both)

    def posterior(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any], u: Any = None) -> None:
        names, s = out.keys() & {"mean", "jvp", "variance"}, self.strength
        if s == 0 or not names:
            self.whole.posterior(x, alpha, sigma, cut, out, u)
            return
        told, some, others = np.empty((0, self.d)), np.arange(len(x)), np.zeros(len(x))
        if names == {"mean"}:
            told, some, others = self._in_one(x, alpha, sigma, cut, out)
        else:
            self.whole.posterior(x, alpha, sigma, cut, out, u)
        asked: Any = slice(None) if len(some) == len(x) else some  # of all queries nothing is copied
        wanted = names | (out.keys() & {"dropped", "work"})
        guide = {name: np.empty((len(some), *out[name].shape[1:])) for name in wanted}
        own = self.of_class if len(some) == len(x) else ByClass(self.whole, self.codes[asked])
        cut = np.broadcast_to(cut, len(x))
        if len(some):
            own.posterior(x[asked], alpha[asked], sigma[asked], cut[asked], guide, None if u is None else u[asked])
        for name in names:
            out[name][asked] *= 1 - s
            guide[name] *= s
            out[name][asked] += guide[name]
        if len(told):
            known = _known(told)
            here: Any = slice(None) if known.all() else known  # in place, if that is all
            told[here] *= s
            out["mean"][here] *= 1 - s
            out["mean"][here] += told[here]
        if "dropped" in out:
            rest = np.minimum(out["dropped"] + others, 1.0)
            rest[asked] = guide["dropped"]
            out["dropped"] = np.add(abs(1 - s) * out["dropped"], abs(s) * rest, out=out["dropped"])
        if "work" in out:
            share = np.array([self.whole.of_class(int(c)).n for c in own.codes]) / self.n
            out["work"][asked] += share * guide["work"]

    def _in_one(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any]) -> tuple[Float, Int, Float]:
        """Fill ``out`` with what is known of the whole. D_class as far as that pass tells it, see ``_known``; queries
        whose class is still to be asked; and what is as if it had been left out of D_class of the others.

        Where few rows count they often are of the class, and what others weigh bounds the difference of the two: it may
        be no more than the cut lets rows be. Not looked for where there are more classes than coordinates: what these
        weigh would be the larger array. Nor are classes of few rows summed apart, of slabs so short that merging costs
        as much as all else, nor those of few queries, most of which would be asked again.
        """
        whole, moments = self.whole, self.moments
        ratio = noise_ratio(alpha, sigma**2 + (alpha * self.bandwidth) ** 2)
        classes = len(whole.labels.classes)  # type: ignore[union-attr]
        told, others, unknown = np.empty((0, whole.d)), np.zeros(len(x)), np.ones(len(x), np.bool_)
        more: dict[str, Float] = {}
        apart = whole.weighs_classes and whole.n >= _LARGE * classes and len(x) >= _MANY
        if apart and (whole.d >= _LONG or whole.class_by_class):
            more["class_mean"] = told = _unknown_means(x)
        if whole.weighs_classes and classes <= whole.d and np.any(ratio <= SHARP * moments.radius):
            more["mass"] = np.empty((len(x), classes))
        whole.posterior(x, alpha, sigma, cut, out | more, class_of=self.codes)
        if len(told):
            unknown = ~_known(told)
        if "mass" in more:
            more["mass"][np.arange(len(x)), self.codes] = 0.0
            promise = PROMISES[self.type.name]
            # D stands for D_class: an eighth of its promise, of which roundings and rows left out take up to 3/5.
            allowed = np.fmin(promise.denoiser * moments.radius, promise.noise * ratio) / 8
            allowed = np.minimum(allowed, 2 * moments.reach * whole.n * np.exp(-cut))
            others[unknown] = more["mass"].sum(axis=1)[unknown]
            unknown &= ~(2 * moments.reach * others <= allowed)
        return told, np.flatnonzero(unknown), others


class Tempered(View):
    """Weights softmax(l / T): those of the weights w^(1/T) at the variance T S."""

    view = "tempered field"

    def __init__(self, whole: TrainingSet, temperature: float) -> None:
        super().__init__(whole)
        self.temperature = temperature
        alike = whole.bandwidth == 0 and np.ptp(whole.log_w[whole.log_w > -np.inf]) == 0
        if alike:  # then all that changes is the variance
            self.cool = whole
            return
        self.cool = TrainingSet(
            whole.rows,
            whole.log_w / temperature,
            scale=whole.scale,
            kind=whole.kind,
            bandwidth=whole.bandwidth * math.sqrt(temperature),
            backend=whole.name,
            threads=whole.threads,
            low_memory=whole.low_memory,
            event=whole.event,
            device=whole.device,
        )

    def cut(self, tol: float | None, ratio: Float | None = None, *, off_weights: bool = False) -> Any:
        return self.cool.cut(tol, ratio, off_weights=off_weights)

    def certificate(self, dropped: Any) -> Any:
        return self.cool.certificate(dropped)

    def posterior(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any], u: Any = None) -> None:
        self.cool.posterior(x, alpha, math.sqrt(self.temperature) * sigma, cut, out, u)
        if "log_norm" in out:  # the logarithm of the sum of exp(l / T), l with weights of sum 1
            out["log_norm"] += _arrays.normalized(self.whole.log_w / self.temperature)[1]
        if "jvp" in out:  # the Jacobian is alpha / (T S) times C
            out["jvp"] /= self.temperature

    def run_steps(self, state: State, table: Any, first: int, last: int, **options: Any) -> None:
        hot = copy.copy(table)
        object.__setattr__(hot, "sigma", math.sqrt(self.temperature) * table.sigma)
        self.cool.run_steps(state, hot, first, last, **options)


class Without(View):
    """Query m does not see the rows of the group of ``rows[m]``."""

    view = "leave-one-out field"
    length_of = "rows"

    def __init__(self, whole: TrainingSet, rows: Int, groups: Int | None) -> None:
        super().__init__(whole)
        self.left_out, self.groups, self.length = rows, groups, len(rows)
        self._members: dict[int, Int] = {}

    def hidden(self, m: int) -> Int:
        row = int(self.left_out[m])
        if self.groups is None:
            return np.array([row])
        group = int(self.groups[row])
        if group not in self._members:
            self._members[group] = np.flatnonzero(self.groups == group)
        return self._members[group]

    def check_left(self, name: str) -> None:
        """ValueError unless every query sees a row of weight > 0."""
        used = self.whole.log_w > -np.inf
        count = np.count_nonzero(used)
        for m, row in enumerate(self.left_out.tolist()):
            if np.count_nonzero(used[self.hidden(m)]) == count:
                msg = f"{name} must leave rows of weight > 0; nothing is left for query {m}, without row {row}."
                raise ValueError(msg)

    def posterior(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any], u: Any = None) -> None:
        whole = self.whole
        whole.check_size(alpha, sigma)
        data = reference.Data(whole.rows, whole.log_w, whole.moments, whole.scale, whole.bandwidth)
        dense.posterior(x, data, alpha, sigma, u=u, out=out, hidden=self.hidden)
        if "log_norm" in out:  # of weights of sum 1 again
            for m in range(len(x)):
                left = np.exp(whole.log_w[self.hidden(m)]).sum()
                seen = np.delete(whole.log_w, self.hidden(m)) if left > 0.5 else None
                out["log_norm"][m] -= math.log1p(-left) if seen is None else np.logaddexp.reduce(seen)

    def nearest(self, x: Float, k: int = 1, alpha: float = 1.0) -> tuple[Int, Float]:
        index, squared = self.whole.nearest(x, min(2, self.n), alpha)
        for m in range(len(x)):
            seen = np.flatnonzero(~np.isin(index[m], self.hidden(m)))
            if len(seen):
                index[m, 0], squared[m, 0] = index[m, seen[0]], squared[m, seen[0]]
                continue
            best = (math.inf, -1)
            for block in _arrays.blocks(self.rows):
                away = x[m] - alpha * self.whole.read(block)
                c = np.einsum("ij,ij->i", away, away)
                hidden = self.hidden(m) - block.start
                c[hidden[(hidden >= 0) & (hidden < len(c))]] = math.inf
                best = min(best, (float(c.min()), block.start + int(np.argmin(c))))
            squared[m, 0], index[m, 0] = best
        return index[:, :1], squared[:, :1]
