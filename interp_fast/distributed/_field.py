"""A field whose rows are on many machines."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, backends, field
from .._oracle import Oracle
from .._schedule import Schedule, check_schedule
from .._training_set import TrainingSet
from .._typing import Backend
from ..backends.merging import Place
from ..schedules import Linear
from ._shards import Distributed, Shards
from ._sources import check_source

__all__ = ["Field"]

Float = npt.NDArray[np.float64]

_LATER = ("given", "guided", "class_posterior", "without", "tempered")


class Field(field.Field):
    """The exact field of rows that the workers of a Dask cluster hold: the methods of :class:`interp_fast.Field`.

    Each worker reads its shards from ``source`` and keeps them; queries go to all shards, and the posteriors over these
    are merged in a fixed tree, as :func:`interp_fast.merge` does. ``interp_fast.sample``, ``optimal_loss``,
    ``compare``, ``memorization`` and all that takes a field take this one.

    Parameters
    ----------
    client : distributed.Client, or what it is made of: a cluster, or the address of a scheduler
    source : path, list of paths, array of rows in slices, or function
        A .npy file or a zarr store; .npy files with the rows one after another; something with shape, dtype and slices
        of rows that pickles without its rows, as a zarr array does; or a function of the shard number that returns the
        rows of that shard. Workers read it themselves: paths are those of a file system that all of them see.
    schedule : Schedule, default Linear()
    shards : int, optional
        Shard i of K has the rows i N // K to (i + 1) N // K. Default, by the data alone: each file of a list; else
        shards of at most 256 MiB, and up to 16 of 1024 rows or more. A function needs it.
    weights, bandwidth, scale, tol, low_memory, backend
        As for :class:`interp_fast.Field`; ``weights`` (N,), not all 0 in any shard; ``backend`` of the workers.
    timeout : float, default 300
        Seconds that a call waits while the cluster has no worker that takes work; None: for ever.

    Attributes
    ----------
    shards : int
    client : distributed.Client

    Raises
    ------
    TypeError, ValueError, OSError
        Naming the argument; or the shard, its file and its bad row; or the worker of another version of interp_fast,
        or of another instruction set, on which bits would depend.
    RuntimeError
        The client is closed, the cluster was restarted, a shard ends every worker that reads it, or there was no worker
        for ``timeout`` seconds.

    Notes
    -----
    A shard has the bits of ``interp_fast.Field(rows).partial(x, t, first_row=first)``, and the whole those of their
    merge; queries that are ``unsettled`` then are asked for again with ``precise=``. Up to 1024 queries are one block,
    of several of which are under way at once. No bit depends on the workers: on their number, on threads, on one that
    ends, whose shards others read again, or on when they join. Noise is that of :func:`interp_fast.sample` on one
    machine.

    A call costs what it costs on one machine, shared by the workers, and some 30 ms; merging sends d + 22 numbers for
    each query and shard. Workers hold their rows and what is prepared of them (``low_memory``), and use the threads
    that INTERP_FAST_NUM_THREADS, or OMP_NUM_THREADS, gives each of them, shared by the tasks they run at once.
    ``subset`` brings the chosen rows here; classes, orbits, ``without`` and ``tempered`` are for fields on one machine.

    A copy in another process connects to the same scheduler and has workers read the rows again.

    Examples
    --------
    >>> import numpy as np, tempfile, interp_fast as itf
    >>> from distributed import Client, LocalCluster
    >>> X = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(folder + "/rows.npy", X)
    ...     with LocalCluster(processes=False, dashboard_address=":0") as cluster, Client(cluster) as client:
    ...         field = itf.distributed.Field(client, folder + "/rows.npy", itf.Linear(), shards=3)
    ...         x, index = field.draw(5, 0.8, rng=0)
    ...         near = np.abs(field.denoiser(x, 0.8) - itf.Field(X).denoiser(x, 0.8)).max()
    >>> bool(near < 1e-5)
    True
    """

    def __init__(
        self,
        client: Any,
        source: Any,
        schedule: Schedule | None = None,
        *,
        shards: int | None = None,
        weights: Any = None,
        bandwidth: float = 0.0,
        scale: tuple[float, float] | None = None,
        backend: Backend = "auto",
        tol: float | None = None,
        low_memory: bool = False,
        timeout: float | None = 300.0,
    ) -> None:
        timeout = None if timeout is None else _arrays.number(timeout, "timeout", above=0.0)
        tol = None if tol is None else _arrays.number(tol, "tol", least=0.0)
        schedule = check_schedule(Linear() if schedule is None else schedule)
        options = {
            "bandwidth": _arrays.number(bandwidth, "bandwidth", least=0.0),
            "scale": scale,
            "backend": backend,
            "low_memory": bool(low_memory),
        }
        source = check_source(source)
        weights = None if weights is None else _arrays.reals(weights, "weights")
        rows = Shards(client, source, shards, weights, options, timeout)
        self._oracle = Oracle(_Set(rows, weights, options), schedule, tol)

    @property
    def shards(self) -> int:
        rows: Shards = self._oracle.training_set.rows
        return rows.count

    @property
    def client(self) -> Any:
        rows: Shards = self._oracle.training_set.rows
        return rows.client

    def close(self) -> None:
        """Have the workers forget the rows, and close the client if it was made here, of an address or a cluster."""
        rows: Shards = self._oracle.training_set.rows
        rows.close()

    def __repr__(self) -> str:
        return f"distributed.{super().__repr__()[:-1]}, shards={self.shards})"

    def _plain(self, what: str) -> Any:
        if what in _LATER:
            msg = f"{what} is for rows on one machine; got a distributed.Field. Use subset(rows)."
            raise ValueError(msg)
        return super()._plain(what)


class _Set(TrainingSet):
    """Rows on workers. What is left out is the shards' own to decide, by the tolerance of the field."""

    rows: Shards

    def __init__(self, rows: Shards, weights: Float | None, options: dict[str, Any]) -> None:
        setting = rows.setting
        super().__init__(
            rows,
            _arrays.log_weights(weights, rows.shape[0]),
            scale=rows.scale,
            kind=_same,
            bandwidth=options["bandwidth"],
            backend=rows.backend,
            threads=backends.default_threads(),
            low_memory=options["low_memory"],
            event=rows.event,
            moments=backends.Moments(setting.center, setting.center, setting.radius, setting.reach),
        )
        self.log_mass = setting.log_mass  # to the bit what a merge of partials has

    def _open(self, backend: str) -> None:
        super()._open("auto")
        self.name, self.backend = self.rows.backend, Distributed(self.backend, self.rows)

    def cut(self, tol: float | None, ratio: Float | None = None, *, off_weights: bool = False) -> Any:
        tolerance = math.nan if tol is None else tol
        return tolerance if ratio is None else np.full_like(ratio, tolerance)

    def measured(self, place: Place, sigma: Float, wanted: Any, *, first: int = 0, **options: Any) -> dict[str, Any]:
        options = {"u": None, "wanted": tuple(wanted)} | options
        found = self.rows.measured(place.x, place.alpha, sigma, place.s2, options.pop("precise"), options)
        found["index"] += first
        found["top_index"] += first
        return found


def _same(rows: Any) -> Any:
    return rows
