"""A validated training set on its backend: what fields, samplers and reports share."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _accuracy, _arrays, backends
from ._labels import Labels
from ._shape import Shape
from ._tensors import Resident, beside, is_tensor, to_array
from .backends import dense, reference
from .backends.merging import Place, blank, part
from .backends.orbit import Images, Orbit
from .backends.outer import Outer
from .backends.streamed import Held, Streamed

__all__ = ["TrainingSet", "points"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


class TrainingSet:
    """Validated rows, their weights and moments, and what the backend prepares of them at first use.

    Attributes
    ----------
    event : tuple of int
        The shape of a row where it comes from; default flat.
    given, log_w : (N,)
        Logarithms of the weights as given, and of sum 1; ``log_mass`` is the logarithm of the sum that they had.
    device : torch.device or None
        Where the backend "torch" computes.
    numbers : (N,) or None
        What the rows are called where they are handed out, in increasing order; None: 0 ... N - 1. ``called`` is how
        many numbers there are.
    """

    view = ""  # of queries that do not see all rows alike: what it is called; see _views
    temperature = 1.0
    length: int | None = None  # how many queries it is made for

    def __init__(
        self,
        rows: Any,
        given: Float,
        *,
        scale: tuple[float, float] | None,
        kind: Callable[[Any], Any],
        bandwidth: float,
        backend: str,
        threads: int,
        low_memory: bool,
        event: Shape | None = None,
        report: Callable[[int, int], None] | None = None,
        labels: Labels | None = None,
        numbers: Int | None = None,
        moments: backends.Moments | None = None,
        device: Any = None,
    ) -> None:
        _arrays.check_size(bandwidth, "bandwidth")
        self.rows, self.given, self.scale, self.kind = rows, given, scale, kind
        self.log_w, self.log_mass = _arrays.normalized(given)
        self.bandwidth, self.threads, self.low_memory = bandwidth, threads, low_memory
        self.event = (int(rows.shape[1]),) if event is None else event
        self.labels, self.numbers, self.called = labels, numbers, len(given)
        base = rows.rows if isinstance(rows, Images) else rows
        if isinstance(base, Resident):
            backend, device = "torch" if backend == "auto" else backend, device or base.device
        if backend == "torch" and isinstance(base, np.ndarray):
            stretch = backends.get(backend, device)[1].stretch(base)
            if stretch is not None:
                base = Held(base, stretch)
                self.rows = rows = Images(base, rows.elements) if isinstance(rows, Images) else base
        self._device = device
        if moments is None:
            readers = 1 if low_memory else threads  # each has two blocks of rows in float64
            moments = backends.Moments.of(rows, self.log_w, scale, report, readers)
        self.moments = moments
        self.type = _arrays.result_type(rows.dtype)
        self._promise = _accuracy.PROMISES[self.type.name]
        self._farthest = float(np.abs(self.moments.center).max()) + self.moments.reach
        self._open(backend)

    def _open(self, backend: str) -> None:
        self.name, self.backend = backends.get(backend, self._device)
        self.device = getattr(self.backend, "device", None)
        if not self.in_memory:
            self.backend = Streamed(self.backend)
        if isinstance(self.rows, Images):
            self.backend = Orbit(self.backend)
        self._lock = threading.Lock()
        self._prepared: Any = None
        self.memo: dict[Any, Any] = {}  # what was found out about the rows and may be asked for again

    # A copy, in this process or another, opens the backend of the same name and prepares the rows anew.

    def __getstate__(self) -> dict[str, Any]:
        made = ("backend", "_lock", "_prepared", "memo")
        return {name: value for name, value in vars(self).items() if name not in made}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open(self.name)

    @property
    def prepared(self) -> Any:
        if self._prepared is not None:
            return self._prepared
        with self._lock:
            if self._prepared is None:
                self._prepared = self.backend.prepare(
                    self.rows,
                    self.log_w,
                    moments=self.moments,
                    scale=self.scale,
                    bandwidth=self.bandwidth,
                    low_memory=self.low_memory,
                    threads=self.threads,
                )
            return self._prepared

    @property
    def isa(self) -> str | None:
        isa: str | None = getattr(self.backend, "isa", lambda: None)()
        return isa

    @property
    def bounds_rounding(self) -> bool:
        """Whether the backend may know a bound on the rounding of a mean."""
        return getattr(self.backend, "bounds_rounding", False)

    @property
    def weighs_classes(self) -> bool:
        """Whether a posterior may have the outputs "mass" and "class_mean": what the rows of each class weigh, (M, C),
        and the mean of those of one class for each query, (M, d).
        """
        return self.labels is not None and getattr(self.backend, "weighs_classes", False)

    @property
    def takes_tensors(self) -> bool:
        """Whether queries and answers may be tensors on the device."""
        return self.device is not None and not isinstance(self.backend, Outer)

    @property
    def in_memory(self) -> bool:
        return isinstance(self.rows.rows if isinstance(self.rows, Images) else self.rows, (np.ndarray, Resident))

    @property
    def roundoff(self) -> float:
        """Unit roundoff of the arithmetic that logits may be left in."""
        return float(self.backend.roundoff(self.rows.dtype))

    @property
    def d(self) -> int:
        return int(self.rows.shape[1])

    @property
    def n(self) -> int:
        return int(self.rows.shape[0])

    def check_queries(self, m: int, name: str) -> None:
        """Any number of queries will do."""

    def read(self, block: slice) -> Float:
        """A slice of the rows, in float64."""
        return _arrays.widen(self.rows[block], self.scale)

    def stored(self, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Rows by number, as they are stored."""
        chosen: npt.NDArray[Any] = self.rows[index]
        return chosen

    def part(self, chosen: Int, *, renumber: bool) -> TrainingSet:
        """Some of the rows, in any order: a set of its own, numbered anew or as they are here."""
        first, n = int(chosen[0]), len(chosen)
        together = np.array_equal(chosen, np.arange(first, first + n))
        if isinstance(self.rows, Resident):
            rows: Any = self.rows.take(slice(first, first + n) if together else chosen)
        else:
            rows = self.rows[first : first + n] if together and isinstance(self.rows, (np.ndarray, Held)) else None
        part = TrainingSet(
            self.stored(chosen) if rows is None else rows,
            self.given[chosen],
            scale=self.scale,
            kind=self.kind,
            bandwidth=self.bandwidth,
            backend=self.name,
            threads=self.threads,
            low_memory=self.low_memory,
            event=self.event,
            labels=None if self.labels is None else self.labels.of_rows(chosen),
            numbers=None if renumber else self.number(chosen),
            device=self.device,
        )
        part.called = part.n if renumber else self.called
        return part

    def held(self) -> TrainingSet:
        """The same rows in memory."""
        return self if self.in_memory else self.part(np.arange(self.n), renumber=True)

    def of_class(self, code: int) -> TrainingSet:
        """The rows of one class, made once."""
        found: TrainingSet = self._once(
            ("class", code), lambda codes: self.part(np.flatnonzero(codes == code), renumber=False)
        )
        return found

    def number(self, index: Any) -> Any:
        """What rows are called where they are handed out."""
        if self.numbers is None:
            return index
        return beside(self.numbers[to_array(index)], index)  # M numbers cross over, not the N that rows may be called

    def values(self, index: Any) -> Any:
        """Rows by number, in float64; beside the numbers, where these are a tensor."""
        if is_tensor(index):
            return self.prepared.values(index)
        return _arrays.widen(self.stored(index), self.scale)

    def posterior(
        self,
        x: Any,
        alpha: Float,
        sigma: Float,
        cut: Any,
        out: dict[str, Any],
        u: Any = None,
        class_of: Int | None = None,
    ) -> None:
        """Fill ``out`` by the backend; see the kernel contract.

        ``class_of``: of each query, whose "class_mean" is left as it is where one pass over all rows does not tell it.
        """
        self.check_size(alpha, sigma)
        cut = cut if isinstance(cut, np.ndarray) else np.full(len(x), cut)
        known: dict[str, Int] = {}
        if self.labels is not None and not {"mass", "class_mean"}.isdisjoint(out):
            known["codes"] = self.labels.codes
        if class_of is not None and "class_mean" in out:
            order = self._by_class()
            known |= {"class_of": class_of} if order is None else {"class_of": class_of, "by_class": order}
        self.backend.posterior(x, self.prepared, alpha, sigma, u=u, cut=cut, out=out, threads=self.threads, **known)

    @property
    def class_by_class(self) -> bool:
        """Whether that is how labelled rows are stored."""
        return bool(self._once("class_by_class", lambda codes: (codes[1:] >= codes[:-1]).all()))

    def _by_class(self) -> Int | None:
        """An order of the rows in which classes lie together; None if that is how they lie."""
        if self.class_by_class:
            return None
        order: Int = self._once("by_class", lambda codes: np.argsort(codes, kind="stable"))
        return order

    def _once(self, key: Any, find: Callable[[Int], Any]) -> Any:
        """What was found out about the classes of the rows, at first asking."""
        with self._lock:
            if key not in self.memo:
                assert self.labels is not None
                self.memo[key] = find(self.labels.codes)
            return self.memo[key]

    def measured(
        self,
        place: Place,
        sigma: Float,
        wanted: Iterable[str],
        *,
        top: int,
        tol: float | None,
        precise: npt.NDArray[np.bool_],
        first: int = 0,
        u: Float | None = None,
    ) -> dict[str, Any]:
        """A part in the sense of :mod:`.backends.merging`, of rows numbered from ``first``; ``precise``: in float64."""
        asked, top = top, max(1, top)
        x, alpha, s2 = place.x, place.alpha, place.s2
        out = blank(wanted, x, min(top, self.n))
        fast, slow = np.flatnonzero(~precise), np.flatnonzero(precise)
        if len(fast):
            ratio = _accuracy.noise_ratio(alpha, s2)
            here = {name: array[fast] for name, array in out.items()}
            cut = self.cut(tol, ratio[fast], off_weights="log_rest" in out)
            self.posterior(x[fast], alpha[fast], sigma[fast], cut, here, None if u is None else u[fast])
            for name, array in out.items():
                array[fast] = here[name]
        if len(slow):
            self.check_size(alpha, sigma)
            here = {name: array[slow] for name, array in out.items()}
            rows = reference.Data(self.rows, self.log_w, self.moments, self.scale, self.bandwidth)
            if "mean" in out:
                out["mean_low"] = np.zeros_like(x)
                here["mean_low"] = np.zeros_like(x[slow])
            dense.posterior(x[slow], rows, alpha[slow], sigma[slow], u=None if u is None else u[slow], out=here)
            for name, array in here.items():
                out[name][slow] = array
        found = part(
            out, place, self.given, self.values, promise=self._promise, top=top, first=first, moments=self.moments,
            roundoff=self.roundoff,
        )  # fmt: skip
        for name in found.keys() & {"doubt", "spoiled", "blur"}:
            found[name][precise] = 0.0
        found["precise"][precise] = True
        found["top"] = asked
        return found

    def run_steps(self, state: backends.State, table: Any, first: int, last: int, **options: Any) -> None:
        """Rows first <= r < last of a step table, in place on ``state``."""
        self.check_size(table.alpha[first:last], table.sigma[first:last])
        self.backend.run_steps(state, self.prepared, table, first, last, threads=self.threads, **options)

    def check_size(self, alpha: Float, sigma: Float) -> None:
        """ValueError where squares of what a query is compared with overflow, or those of its noise vanish."""
        _arrays.check_size(sigma, "sigma")
        farthest = (alpha.item() if alpha.size == 1 else float(alpha.max(initial=0.0))) * self._farthest
        if farthest > _arrays.LARGEST:
            _arrays.check_finite(np.array([farthest]), "alpha times data")

    def nearest(self, x: Float, k: int = 1, alpha: float = 1.0) -> tuple[npt.NDArray[np.int64], Float]:
        """Numbers and squared distances (M, k) of the rows i with alpha x_i nearest to the queries, lowest at ties."""
        index, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
        out = {"index": index, "squared_distance": squared}
        self.backend.nearest(x, self.prepared, alpha=alpha, out=out, threads=self.threads)
        return index, squared

    def log_density(self, log_norm: Any, s2: Any) -> Any:
        """log p_t from logsumexp of the logits: log_norm - (d/2) log(2 pi S), for S > 0."""
        return log_norm - beside(0.5 * self.d * np.log(2 * math.pi * s2), log_norm)

    def chosen(self, u: Float) -> npt.NDArray[np.int64]:
        """Rows drawn by weight, from uniforms in (0, 1)."""
        cumulative = np.cumsum(np.exp(self.log_w))
        index: npt.NDArray[np.int64] = np.searchsorted(cumulative, u * cumulative[-1], side="right")
        return index

    def normals(self, key: int, first_sample: int, row: int, *, n: int) -> Float:
        """Standard normals (n, d) float64 from the counter-based stream of ``key``."""
        out = np.empty((n, self.d))
        self.backend.normals(key, first_sample, row, out, threads=self.threads)
        return out

    def certificate(self, dropped: Any) -> Any:
        """Bound on |D - dense D| / R when posterior mass ``dropped`` was left out: 2 reach dropped / R."""
        reach, radius = self.moments.reach, self.moments.radius
        return dropped * (2 * (reach / radius) if radius > 0 else 0.0)

    def in_radii(self, distance: Float) -> Float:
        """A distance over R; 0 when all rows are equal, where there is none."""
        radius = self.moments.radius
        return distance / radius if radius > 0 else np.zeros_like(distance)

    def cut(self, tol: float | None, ratio: Float | None = None, *, off_weights: bool = False) -> Any:
        """Nats below the maximum from which rows may be left out; see :func:`interp_fast._accuracy.cut`."""
        moments = self.moments
        nats = _accuracy.cut(tol, ratio, self._promise, self.n, moments.reach, moments.radius)
        return nats + _accuracy.OFF_WEIGHT_NATS if off_weights else nats


def points(data: TrainingSet) -> tuple[Int, Float]:
    """Lowest rows of the distinct points, and the logarithm of the weight of each: (N,), -inf for all other rows."""
    first: dict[bytes, int] = {}
    weight = np.zeros(data.n)
    for block in _arrays.blocks(data.rows):
        values = data.read(block)
        values += 0.0  # -0 and 0 are equal
        for j in np.flatnonzero(data.log_w[block] > -np.inf):
            row = int(block.start + j)
            weight[first.setdefault(blake2b(values[j].tobytes(), digest_size=16).digest(), row)] += np.exp(
                data.log_w[row]
            )
    with np.errstate(divide="ignore"):
        return np.array(sorted(first.values())), np.log(weight)
