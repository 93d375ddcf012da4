"""What runs on workers: reading a shard, and questions about its rows."""

from __future__ import annotations

import re
import threading
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast

from .. import backends
from .._partial import Setting
from .._training_set import TrainingSet
from ..backends import merging
from ..backends.merging import Place
from ..field import Field, oracle_of
from ._sources import Portion

__all__ = [
    "Asked",
    "Facts",
    "Shard",
    "Sought",
    "facts",
    "joined",
    "length",
    "load",
    "measured",
    "near",
    "nearer",
    "same",
    "taken",
]

_KINDS = (TypeError, ValueError, OSError, ImportError, MemoryError)  # of errors that keep it

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Facts:
    """What the client knows of a shard."""

    event: tuple[int, ...]
    n: int
    dtype: str
    scale: tuple[float, float] | None
    backend: str
    isa: str | None
    version: str
    worker: str
    setting: Setting


@dataclass(frozen=True)
class Asked:
    """Queries (M, d) and what is asked about them; ``kind`` is (version, backend, isa) that are to answer."""

    x: Float
    alpha: Float
    sigma: Float
    s2: Float
    u: Float | None
    precise: npt.NDArray[np.bool_]
    tol: float | None
    top: int
    wanted: tuple[str, ...]
    kind: tuple[str, str, str | None]

    def __dask_tokenize__(self) -> str:
        return uuid.uuid4().hex  # cheap, of what is asked once

    @property
    def place(self) -> Place:
        return Place(self.x, self.alpha, self.s2)


@dataclass(frozen=True)
class Sought:
    """Points whose k nearest rows, scaled by alpha, are sought."""

    x: Float
    k: int
    alpha: float
    kind: tuple[str, str, str | None]

    __dask_tokenize__ = Asked.__dask_tokenize__


class Shard:
    """Some of the rows, read when they are first needed: what is sent is where they are to be read from."""

    def __init__(self, portion: Portion, shards: int, weights: Float | None, options: dict[str, Any]) -> None:
        self.portion, self.shards, self.weights, self.options = portion, shards, weights, options
        self._open()

    def _open(self) -> None:
        self._lock = threading.Lock()
        self._set: TrainingSet | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_set")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()

    def __sizeof__(self) -> int:
        """What is held once queries have come, for the scheduler, at most."""
        if self._set is None:
            return 1 << 10
        rows = self._set.rows
        return int(rows.nbytes * (3.5 if rows.itemsize > 2 else 2.1)) + 64 * len(rows)

    @property
    def set(self) -> TrainingSet:
        with self._lock:
            if self._set is None:
                self._set = self._read()
            return self._set

    def _read(self) -> TrainingSet:
        """The rows, or an error that names the shard, its file and, if one is to blame, the row."""
        try:
            field = Field(self.portion.read(), weights=self.weights, threads=_threads(), **self.options)
            return oracle_of(field).training_set
        except Exception as exc:
            text = str(exc) or type(exc).__name__
            row = re.search(r"in row (\d+)", text)
            if row is not None:
                text = f"{text.replace('data must', 'its rows must').rstrip('.')} ({self.portion.place(int(row[1]))})."
            kind: type[Exception] = next((kind for kind in _KINDS if isinstance(exc, kind)), RuntimeError)
            text = f"{type(exc).__name__}: {text}" if kind is RuntimeError else text
            msg = f"shard {self.portion.number} of {self.shards} ({self.portion}): {text}"
            raise kind(msg) from exc


def _threads() -> int:
    """The worker's own, shared by the tasks that it runs at once."""
    from distributed import get_worker

    try:
        tasks = get_worker().state.nthreads
    except ValueError:  # not on a worker
        tasks = 1
    return max(1, backends.default_threads() // int(tasks))


def _worker() -> str:
    from distributed import get_worker

    return str(get_worker().address)


def length(portion: Portion) -> int:
    """How many rows a shard has."""
    return int(portion.read().shape[0])


def load(portion: Portion, weights: Float | None, shards: int, options: dict[str, Any], version: str) -> Shard:
    """A shard whose rows are here."""
    check_version(version)
    shard = Shard(portion, shards, weights, options)
    shard.set  # noqa: B018, read now, so that its size is known
    return shard


def facts(shard: Shard) -> Facts:
    data = shard.set
    return Facts(
        data.event, data.n, data.rows.dtype.str, data.scale, data.name, data.isa, interp_fast.__version__, _worker(),
        Setting.of(data),
    )  # fmt: skip


def check_version(version: str) -> None:
    """ValueError unless this is the version of the client."""
    if interp_fast.__version__ != version:
        msg = (
            f"workers must have the client's version of interp_fast, {version}; got {interp_fast.__version__} on "
            f"{_worker()}. Install the same version everywhere."
        )
        raise ValueError(msg)


def _check(shard: Shard, kind: tuple[str, str, str | None]) -> TrainingSet:
    """The rows, if they are to be asked here."""
    check_version(kind[0])
    data = shard.set
    if (data.name, data.isa) != kind[1:]:
        msg = (
            f"workers must compute alike; got backend {data.name} ({data.isa}) on {_worker()}, and {kind[1]} "
            f"({kind[2]}) on others. Set INTERP_FAST_ISA, or backend=, to what all of them have."
        )
        raise ValueError(msg)
    return data


def same(thing: Any) -> Any:
    """Something sent, which workers pass on."""
    return thing


def measured(shard: Shard, first: int, asked: Asked) -> dict[str, Any]:
    """The shard as a part of a whole, in which its rows are numbered from ``first``."""
    data = _check(shard, asked.kind)
    return data.measured(
        asked.place, asked.sigma, asked.wanted,
        top=asked.top, tol=asked.tol, precise=asked.precise, first=first, u=asked.u,
    )  # fmt: skip


def joined(a: dict[str, Any], b: dict[str, Any], asked: Asked) -> dict[str, Any]:
    return merging.merge(a, b, asked.place, asked.u)


def near(shard: Shard, first: int, asked: Sought) -> tuple[Int, Float]:
    """Numbers and squared distances of its nearest rows, k or as many as it has."""
    data = _check(shard, asked.kind)
    index, squared = data.nearest(asked.x, min(asked.k, data.n), asked.alpha)
    return index + first, squared


def nearer(a: tuple[Int, Float], b: tuple[Int, Float], asked: Sought) -> tuple[Int, Float]:
    """The k nearest of both, ``a`` first at ties."""
    index, squared = (np.concatenate(both, axis=1) for both in zip(a, b, strict=True))
    order = np.argsort(squared, axis=1, kind="stable")[:, : asked.k]
    return np.take_along_axis(index, order, axis=1), np.take_along_axis(squared, order, axis=1)


def taken(shard: Shard, rows: slice | Int) -> npt.NDArray[Any]:
    """Some of its rows, as they are stored."""
    chosen: npt.NDArray[Any] = shard.set.rows[rows]
    return chosen
