"""The client's side: rows that workers hold, and what they say of queries, gathered in a fixed tree."""

from __future__ import annotations

import itertools
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
from ._client import connected, connected_to, large, results
from ._sources import Portion, divided
from ._worker import Asked, Facts

__all__ = ["Distributed", "Shards"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

BLOCK = 1024  # queries that are asked together
_IN_FLIGHT = 4  # blocks
_SMALL = 1 << 20  # bytes of questions that are sent with each task; larger ones are a task of their own, made once


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
        self,
        client: Any,
        source: Any,
        shards: int | None,
        weights: Float | None,
        options: dict[str, Any],
        timeout: float | None,
    ) -> None:
        self._source, self._weights, self._options, self._timeout = source, weights, options, timeout
        self._client, self._own = connected_to(client)
        self._held: list[Any] | None = None
        self._new_names()
        self._check_client()
        self._address = self._client.scheduler.address
        self._check_versions()
        self._portions = self._divided(shards)
        self.count = len(self._portions)
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

    def _divided(self, shards: int | None) -> list[Portion]:
        if callable(self._source):
            if shards is None:
                msg = "shards must be given when source is a function: source(i) is called for i = 0 ... shards - 1."
                raise ValueError(msg)
            return [Portion(self._source, k) for k in range(_arrays.count(shards, "shards", 1))]
        [found] = self._results([self._client.submit(divided, self._source, shards, pure=False)])
        return list(found)

    def _load(self) -> None:
        self._held = self._map(
            "shard", _worker.load, self._portions, self._weights_of(),
            shards=self.count, options=self._options, version=self._version,
        )  # fmt: skip

    def _weights_of(self) -> list[Float | None]:
        """Those of the rows of each shard."""
        if self._weights is None:
            return [None] * self.count
        edges = np.array([0, *(portion.stop for portion in self._portions)])
        if callable(self._source):
            edges = np.concatenate([[0], np.cumsum(self._results(self._map("size", _worker.length, self._portions)))])
        given = self._weights
        _arrays.log_weights(given, int(edges[-1]))
        for k in range(self.count):
            if not given[edges[k] : edges[k + 1]].any():
                msg = f"weights must not all be 0 in a shard; those of shard {k} are. Take fewer shards."
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

    def _new_names(self) -> None:
        """Of tasks, which no other field has."""
        self._token, self._calls = uuid.uuid4().hex, itertools.count()

    # A copy in another process reads the rows again, there where the workers of the same scheduler are.

    def __getstate__(self) -> dict[str, Any]:
        here = ("_client", "_own", "_held", "_calls")
        return {name: value for name, value in vars(self).items() if name not in here}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._client, self._held, self._own = None, None, False
        self._new_names()

    @property
    def _shards(self) -> list[Any]:
        """What the workers hold."""
        if self._held is None:
            if self._client is None:
                self._client, self._own = connected(self._address)
            self._load()
        assert self._held is not None
        return self._held

    @property
    def client(self) -> Any:
        return self._client

    def close(self) -> None:
        self._held = None
        if self._own and self._client is not None:
            self._client.close()

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
        return self._gathered("nearest", _worker.near, _worker.nearer, _worker.Sought(x, k, alpha, self._kind))

    # Questions

    def measured(
        self, x: Float, alpha: Float, sigma: Float, s2: Float, precise: Any, options: dict[str, Any]
    ) -> dict[str, Any]:
        """All rows as one part in the sense of :mod:`..backends.merging`; ``precise``: (M,), as for a training set."""

        def ask(block: slice) -> Any:
            return self._ask(x, alpha, sigma, s2, block, precise[block], options)

        found = [one for _, one in self._each_block(len(x), ask)]
        if any("mean_low" in one for one in found):  # of blocks with precise queries
            for one in found:
                one.setdefault("mean_low", np.zeros_like(one["mean"]))
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
        asked = Asked(
            x[block], alpha[block], sigma[block], s2[block], None if u is None else u[block], precise,
            kind=self._kind, **{name: value for name, value in options.items() if name != "u"},
        )  # fmt: skip
        return self._gathered("part", _worker.measured, _worker.joined, asked)

    @property
    def _kind(self) -> tuple[str, str, str | None]:
        return (self._version, self.backend, self.isa)

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
            if waiting:  # it was given up
                self._client.cancel([future for _, future, _ in waiting])

    # Dask

    def _map(self, what: str, call: Callable[..., Any], *lists: Any, **same: Any) -> list[Any]:
        """A future for each of the arguments in lists."""
        self._check_client()
        name = self._name(what)
        keys = [f"{name}-{k}" for k in range(len(lists[0]))]
        with large():
            futures: list[Any] = self._client.map(call, *lists, key=keys, pure=False, **same)
        return futures

    def _gathered(self, what: str, call: Callable[..., Any], join: Callable[..., Any], question: Any) -> Any:
        """A future of what all shards say of a question, neighbours joined in pairs, level by level.

        The question is a task of the graph, which the scheduler keeps: no worker that ends takes it along. A small one
        is part of each task that asks it, which spares a turn of the scheduler.
        """
        shards, name = self._shards, self._name(what)
        self._check_client()
        graph: dict[str, Any] = {}
        asked = question
        if (2 * self.count - 1) * sum(getattr(value, "nbytes", 0) for value in vars(question).values()) > _SMALL:
            asked = f"question-{name}"
            graph[asked] = (_worker.same, question)
        for k, (shard, first) in enumerate(zip(shards, self.firsts.tolist(), strict=False)):
            graph[f"{name}-{k}"] = (call, shard, first, asked)

        def joined(a: str, b: str) -> str:
            key = f"merge-{name}-{len(graph)}"
            graph[key] = (join, a, b, asked)
            return key

        whole = in_pairs([f"{name}-{k}" for k in range(self.count)], joined)
        with large():
            return self._client.get(graph, whole, sync=False)

    def _name(self, what: str) -> str:
        return f"{what}-{self._token}-{next(self._calls)}"

    def _results(self, futures: list[Any]) -> list[Any]:
        return results(self._client, futures, self._timeout)


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
