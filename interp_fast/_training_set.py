"""A validated training set on its backend: what fields, samplers and reports share."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _accuracy, _arrays, backends
from ._labels import Labels
from ._shape import Shape
from .backends.orbit import Images, Orbit
from .backends.streamed import Streamed

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
    ) -> None:
        _arrays.check_size(bandwidth, "bandwidth")
        self.rows, self.given, self.scale, self.kind = rows, given, scale, kind
        self.log_w, self.log_mass = _arrays.normalized(given)
        self.bandwidth, self.threads, self.low_memory = bandwidth, threads, low_memory
        self.event = (int(rows.shape[1]),) if event is None else event
        self.labels, self.numbers, self.called = labels, numbers, len(given)
        self.moments = backends.Moments.of(rows, self.log_w, scale, report, threads)
        self.type = _arrays.result_type(rows.dtype)
        self._promise = _accuracy.PROMISES[self.type.name]
        self._farthest = float(np.abs(self.moments.center).max()) + self.moments.reach
        self._open(backend)

    def _open(self, backend: str) -> None:
        self.name, self.backend = backends.get(backend)
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
    def in_memory(self) -> bool:
        return isinstance(self.rows.rows if isinstance(self.rows, Images) else self.rows, np.ndarray)

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
        part = TrainingSet(
            self.rows[first : first + n] if together and isinstance(self.rows, np.ndarray) else self.stored(chosen),
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
        )
        part.called = part.n if renumber else self.called
        return part

    def of_class(self, code: int) -> TrainingSet:
        """The rows of one class, made once."""
        key = ("class", code)
        with self._lock:
            if key not in self.memo:
                assert self.labels is not None
                self.memo[key] = self.part(np.flatnonzero(self.labels.codes == code), renumber=False)
            found: TrainingSet = self.memo[key]
            return found

    def number(self, index: Int) -> Int:
        """What rows are called where they are handed out."""
        return index if self.numbers is None else self.numbers[index]

    def values(self, index: npt.NDArray[np.int64]) -> Float:
        """Rows by number, in float64."""
        return _arrays.widen(self.stored(index), self.scale)

    def posterior(self, x: Float, alpha: Float, sigma: Float, cut: Any, out: dict[str, Any], u: Any = None) -> None:
        """Fill ``out`` by the backend; see the kernel contract."""
        self.check_size(alpha, sigma)
        cut = cut if isinstance(cut, np.ndarray) else np.full(len(x), cut)
        self.backend.posterior(x, self.prepared, alpha, sigma, u=u, cut=cut, out=out, threads=self.threads)

    def run_steps(self, state: backends.State, table: Any, first: int, last: int, **options: Any) -> None:
        """Rows first <= r < last of a step table, in place on ``state``."""
        self.check_size(table.alpha[first:last], table.sigma[first:last])
        self.backend.run_steps(state, self.prepared, table, first, last, threads=self.threads, **options)

    def check_size(self, alpha: Float, sigma: Float) -> None:
        """ValueError where squares of what a query is compared with overflow, or those of its noise vanish."""
        _arrays.check_size(sigma, "sigma")
        farthest = float(alpha.max(initial=0.0)) * self._farthest
        if farthest > _arrays.LARGEST:
            _arrays.check_finite(np.array([farthest]), "alpha times data")

    def nearest(self, x: Float, k: int = 1, alpha: float = 1.0) -> tuple[npt.NDArray[np.int64], Float]:
        """Numbers and squared distances (M, k) of the rows i with alpha x_i nearest to the queries, lowest at ties."""
        index, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
        out = {"index": index, "squared_distance": squared}
        self.backend.nearest(x, self.prepared, alpha=alpha, out=out, threads=self.threads)
        return index, squared

    def log_density(self, log_norm: Float, s2: Any) -> Float:
        """log p_t from logsumexp of the logits: log_norm - (d/2) log(2 pi S), for S > 0."""
        density: Float = log_norm - 0.5 * self.d * np.log(2 * math.pi * s2)
        return density

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

    def cut(self, tol: float | None, ratio: Float | None = None) -> Any:
        """Nats below the maximum from which rows may be left out; see :func:`interp_fast._accuracy.cut`."""
        moments = self.moments
        return _accuracy.cut(tol, ratio, self._promise, self.n, moments.reach, moments.radius)


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
