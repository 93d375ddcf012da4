"""The client's side: rows that workers hold, and what they say of queries, gathered in a fixed tree."""

from __future__ import annotations

import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dask
import distributed
import numpy as np
import numpy.typing as npt

import interp_fast

from .. import _arrays
from .._accuracy import PROMISES
from .._partial import WANTED, Setting
from ..backends import Moments
from ..backends.merging import Place, fill, finish, in_pairs, unsettled
from ..backends.outer import Outer
from . import _worker
from ._sources import default_shards, outline
from ._worker import Asked, Facts

__all__ = ["Distributed", "Shards"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

BLOCK = 1024  # queries that are asked together
_IN_FLIGHT = 4  # blocks


class Shards:
    """Rows on the workers of a cluster: shape, dtype and rows by slices or numbers, and questions to all of them.

    Attributes
    ----------
    setting : Setting
        Of all rows.
    event, scale, backend, isa
        As of a field on a worker.
    """

    def __init__(
        self, client: Any, source: Any, shards: int | None, weights: Float | None, options: dict[str, Any]
    ) -> None:
        self._client, self._source, self._weights, self._options = client, source, weights, options
        self._held: list[Any] | None = None
        self._check_client()
        self._address = client.scheduler.address
        self._check_versions()
        self.count = self._count(shards)
        self._load()
        found: list[Facts] = self._results(self._map("facts", _worker.facts, self._shards))
        self._check_alike(found)
        first = found[0]
        self.event, self.scale, self.backend, self.isa = first.event, first.scale, first.backend, first.isa
        self.dtype = np.dtype(first.dtype)
        self.firsts = np.concatenate([[0], np.cumsum([one.n for one in found])])
        self.shape = (int(self.firsts[-1]), math.prod(self.event))
        self.setting = in_pairs([one.setting for one in found], Setting.merged)

    # Opening

    @property
    def _version(self) -> str:
        return interp_fast.__version__

    def _check_client(self) -> None:
        if getattr(self._client, "asynchronous", False):
            msg = "client must be synchronous; got an asynchronous one. Make it as distributed.Client(address)."
            raise ValueError(msg)
        if self._client.status != "running":
            msg = f"client must be connected; it is {self._client.status}. Make the field anew with another client."
            raise RuntimeError(msg)

    def _check_versions(self) -> None:
        """ValueError naming a worker of another version, or without the package."""

        def version() -> str:  # sent as it is: workers need not have this module
            try:
                import interp_fast
            except ImportError:
                return "none"
            return interp_fast.__version__

        said = self._client.run(version, on_error="ignore")
        for worker, its in said.items():
            if its != self._version:
                msg = (
                    f"workers must have the client's version of interp_fast, {self._version}; got {its} on {worker}. "
                    "Install the same version everywhere."
                )
                raise ValueError(msg)

    def _count(self, shards: int | None) -> int:
        """How many shards there are."""
        if callable(self._source):
            if shards is None:
                msg = "shards must be given when source is a function: source(i) is called for i = 0 ... shards - 1."
                raise ValueError(msg)
            return _arrays.count(shards, "shards", 1)
        [(shape, dtype)] = self._results([self._client.submit(outline, self._source, pure=False)])
        if len(shape) < 2 or 0 in shape:
            msg = f"source must have shape (N, d) or (N, ...), with no 0 in it; got {shape}."
            raise ValueError(msg)
        itemsize, self._rows = np.dtype(dtype).itemsize, shape[0]
        return default_shards(shape, itemsize) if shards is None else _arrays.count(shards, "shards", 1, shape[0])

    def _load(self) -> None:
        numbers = list(range(self.count))
        self._held = self._map(
            "shard", _worker.load, numbers, self._weights_of(numbers),
            source=self._source, shards=self.count, options=self._options, version=self._version,
        )  # fmt: skip

    def _weights_of(self, numbers: list[int]) -> list[Float | None]:
        """Those of the rows of each shard."""
        if self._weights is None:
            return [None] * self.count
        if callable(self._source):
            sizes = self._results(self._map("size", _worker.length, numbers, source=self._source, shards=self.count))
            edges = np.concatenate([[0], np.cumsum(sizes)])
        else:
            edges = np.array([k * self._rows // self.count for k in range(self.count + 1)])
        given = np.exp(_arrays.log_weights(self._weights, int(edges[-1])))
        for k in numbers:
            if not given[edges[k] : edges[k + 1]].any():
                msg = (
                    f"weights must not all be 0 in a shard; those of shard {k} are. Leave its rows out, or take fewer."
                )
                raise ValueError(msg)
        return [given[a:b] for a, b in zip(edges, edges[1:], strict=False)]

    def _check_alike(self, found: list[Facts]) -> None:
        """ValueError naming a shard that has other rows, or a worker that computes in another way."""
        for k, one in enumerate(found):
            for what in ("event", "dtype", "backend", "isa"):
                mine, its = getattr(found[0], what), getattr(one, what)
                if mine == its:
                    continue
                if what in ("event", "dtype"):
                    words = {"event": "shape", "dtype": "type"}[what]
                    msg = f"source must give rows of the same {words}; got {mine} in shard 0 and {its} in shard {k}."
                else:
                    msg = (
                        f"workers must compute alike; got {what} {mine} on {found[0].worker} and {its} on "
                        f"{one.worker}. Set INTERP_FAST_ISA, or backend=, to what all of them have."
                    )
                raise ValueError(msg)

    # A copy in another process reads the rows again, there where the workers of the same scheduler are.

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name not in ("_client", "_held")}
        return state | {"_address": self._address}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._client = self._held = None

    @property
    def _shards(self) -> list[Any]:
        """What the workers hold."""
        if self._held is None:
            self._client = distributed.get_client(self._address)
            self._load()
        assert self._held is not None
        return self._held

    # Rows

    def __getitem__(self, select: slice | Int) -> Array:
        if isinstance(select, slice):
            start, stop, _ = select.indices(self.shape[0])
            select = np.arange(start, stop)
        index = np.asarray(select, np.int64)
        owner = np.searchsorted(self.firsts, index, side="right") - 1
        chosen = np.empty((len(index), self.shape[1]), self.dtype)
        places = [np.flatnonzero(owner == k) for k in np.unique(owner)]
        numbers = [int(owner[place[0]]) for place in places]
        wanted = [index[place] - self.firsts[k] for place, k in zip(places, numbers, strict=True)]
        if numbers:
            futures = self._map("rows", _worker.taken, [self._shards[k] for k in numbers], wanted)
            for place, rows in zip(places, self._results(futures), strict=True):
                chosen[place] = rows
        return chosen

    def nearest(self, x: Float, k: int, alpha: float) -> tuple[Int, Float]:
        """Numbers and squared distances (M, k) of the nearest rows."""
        index, squared = np.empty((len(x), k), np.int64), np.empty((len(x), k))
        for block, (number, away) in self._each_block(len(x), lambda block: self._nearest(x[block], k, alpha)):
            index[block], squared[block] = number, away
        return index, squared

    def _nearest(self, x: Float, k: int, alpha: float) -> Any:
        options = {"x": self._sent(x), "k": k, "alpha": alpha, "kind": self._kind}
        parts = self._map("nearest", _worker.near, self._shards, self._starts, **options)
        return self._tree("nearer", _worker.nearer, parts, k=k)

    # Questions

    def measured(
        self, x: Float, alpha: Float, sigma: Float, s2: Float, precise: Any, options: dict[str, Any]
    ) -> dict[str, Any]:
        """All rows as one part in the sense of :mod:`..backends.merging`; ``precise``: (M,), as for a training set."""

        def ask(block: slice) -> Any:
            return self._ask(x, alpha, sigma, s2, block, precise[block], options)

        found = [one for _, one in self._each_block(len(x), ask)]
        return {
            name: np.concatenate([one[name] for one in found]) if isinstance(value, np.ndarray) else value
            for name, value in found[0].items()
        }

    def settled(
        self, x: Float, alpha: Float, sigma: Float, s2: Float, options: dict[str, Any]
    ) -> Iterator[tuple[slice, dict[str, Any]]]:
        """The same, block by block; blocks with queries that rounding may decide are asked again about these."""
        promise = PROMISES[_arrays.result_type(self.dtype).name]

        def ask(block: slice, precise: Any = None) -> Any:
            mask = np.zeros(block.stop - block.start, np.bool_) if precise is None else precise
            return self._ask(x, alpha, sigma, s2, block, mask, options)

        def again(block: slice, found: dict[str, Any]) -> Any:
            place = Place(x[block], alpha[block], s2[block])
            doubtful = unsettled(found, place, promise, self.setting.radius)
            return ask(block, doubtful) if doubtful.any() else None

        return self._each_block(len(x), ask, again)

    def _ask(
        self, x: Float, alpha: Float, sigma: Float, s2: Float, block: slice, precise: Any, options: dict[str, Any]
    ) -> Any:
        u = options["u"]
        asked = self._sent(
            Asked(
                x[block], alpha[block], sigma[block], s2[block], None if u is None else u[block], precise,
                kind=self._kind, **{name: value for name, value in options.items() if name != "u"},
            )
        )  # fmt: skip
        parts = self._map("part", _worker.measured, self._shards, self._starts, asked=asked)
        return self._tree("merge", _worker.joined, parts, asked=asked)

    @property
    def _kind(self) -> tuple[str, str, str | None]:
        return (self._version, self.backend, self.isa)

    @property
    def _starts(self) -> list[int]:
        """The number of the first row of each shard."""
        starts: list[int] = self.firsts[:-1].tolist()
        return starts

    def _each_block(
        self, m: int, ask: Callable[[slice], Any], again: Callable[[slice, Any], Any] | None = None
    ) -> Iterator[tuple[slice, Any]]:
        """Answers about M queries, block by block, several of which are under way; a second time if ``again`` asks."""
        waiting: deque[tuple[slice, Any, bool]] = deque()
        blocks = iter([slice(i, min(i + BLOCK, m)) for i in range(0, max(m, 1), BLOCK)])
        try:
            while True:
                while len(waiting) < _IN_FLIGHT and (block := next(blocks, None)) is not None:
                    waiting.append((block, ask(block), False))
                if not waiting:
                    return
                block, future, final = waiting[0]
                [found] = self._results([future])
                waiting.popleft()
                second = None if final or again is None else again(block, found)
                if second is None:
                    yield block, found
                else:
                    waiting.append((block, second, True))
        finally:
            self._client.cancel([future for _, future, _ in waiting])

    # Dask

    def _map(self, what: str, call: Callable[..., Any], *lists: Any, **same: Any) -> list[Any]:
        """A future for each of the arguments in lists."""
        self._check_client()
        token = uuid.uuid4().hex
        keys = [f"{what}-{token}-{k}" for k in range(len(lists[0]))]
        with _large():
            futures: list[Any] = self._client.map(call, *lists, key=keys, pure=False, **same)
        return futures

    def _sent(self, thing: Any) -> Any:
        """Something for all workers, which the scheduler keeps: no worker that ends takes it along."""
        self._check_client()
        with _large():
            return self._client.submit(_worker.same, thing, key=f"queries-{uuid.uuid4().hex}")

    def _tree(self, what: str, join: Callable[..., Any], parts: list[Any], **same: Any) -> Any:
        """One future of many, neighbours in pairs, level by level, as in :func:`..backends.merging.in_pairs`."""
        while len(parts) > 1:
            pairs = self._map(what, join, parts[:-1:2], parts[1::2], **same)
            parts = pairs + parts[len(pairs) * 2 :]
        return parts[0]

    def _results(self, futures: list[Any]) -> list[Any]:
        """What futures come to; what is left of them is called off when one fails."""
        try:
            results: list[Any] = self._client.gather(futures)
        except distributed.KilledWorker as exc:
            msg = (
                f"{_task(exc.task)} ended all workers that tried it, {exc.last_worker.address} as the last: not enough "
                "memory, or rows that the reader does not survive. Take more shards, or workers with more memory."
            )
            raise RuntimeError(msg) from exc
        except distributed.client.FutureCancelledError as exc:
            msg = f"the cluster has forgotten the rows ({exc}): it was restarted, or lost. Make the field anew."
            raise RuntimeError(msg) from exc
        except BaseException:
            self._client.cancel(futures)
            raise
        return results


def _task(key: Any) -> str:
    what, _, number = str(key).partition("-")
    return f"{what} of shard {number.rpartition('-')[2]}" if what in ("shard", "part", "nearest") else f"a {what}"


def _large() -> Any:
    """Queries are as large as they are: no advice about sizes of graphs."""
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})


class Distributed(Outer):
    """The kernel contract over :class:`Shards`, which compute by themselves; noise by a backend of the client.

    ``cut`` is the tolerance of the field, NaN for None: each shard makes its own of it.
    """

    def __init__(self, inner: Any, rows: Shards) -> None:
        super().__init__(inner)
        self.rows = rows

    def isa(self) -> str | None:
        return self.rows.isa

    def prepare(self, rows: Shards, log_w: Float, *, moments: Moments, bandwidth: float, **_: Any) -> Prepared:
        return Prepared(rows, bandwidth)

    def posterior(
        self,
        x: Float,
        data: Prepared,
        alpha: Float,
        sigma: Float,
        *,
        u: Float | None = None,
        cut: Float,
        out: dict[str, Any],
        threads: int,
    ) -> None:
        s2 = sigma**2 + (alpha * data.bandwidth) ** 2
        options = {
            "u": u,
            "tol": None if len(cut) == 0 or math.isnan(cut[0]) else float(cut[0]),
            "top": out["top_index"].shape[1] if "top_index" in out else 0,
            "wanted": (*WANTED, *sorted({"jvp", "scatter"} & out.keys())),
        }
        for block, found in data.rows.settled(x, alpha, sigma, s2, options):
            place = Place(x[block], alpha[block], s2[block])
            fill(out, finish(found, place, data.rows.setting.log_mass), block)

    def nearest(self, x: Float, data: Prepared, *, alpha: float, out: dict[str, Any], threads: int) -> None:
        out["index"][:], out["squared_distance"][:] = data.rows.nearest(x, out["index"].shape[1], alpha)


@dataclass(frozen=True)
class Prepared:
    rows: Shards
    bandwidth: float
