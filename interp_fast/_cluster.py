"""Commands on more processes than one: the options, and the client while a command runs."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from ._datasets import Dataset, InputError, load
from ._options import count

__all__ = ["Elsewhere", "cluster_arguments", "elsewhere"]

_ROWS, _MOST = 1024, 16  # shards of at least so many rows, and how many at most: a matter of the data alone


@dataclass(frozen=True)
class Elsewhere:
    """Workers that read a training set by themselves, each its own shards."""

    client: Any
    spec: str
    options: dict[str, Any]

    @property
    def count(self) -> int:
        return len(self.client.nthreads())

    def field(self, data: Dataset, schedule: itf.Schedule, **options: Any) -> itf.Field:
        """The field of a training set that was loaded by the same name and options."""
        shards = min(_MOST, -(-len(data.rows) // _ROWS))
        source = _Portion(self.spec, tuple(self.options.items()), shards)
        field: itf.Field = itf.distributed.Field(self.client, source, schedule, shards=shards, **options)
        return field


@dataclass(frozen=True)
class _Portion:
    """A function of the shard number."""

    spec: str
    options: tuple[tuple[str, Any], ...]
    shards: int

    def __call__(self, number: int) -> npt.NDArray[Any]:
        rows = _rows(self.spec, self.options)
        return np.array(rows[number * len(rows) // self.shards : (number + 1) * len(rows) // self.shards])


@functools.lru_cache(maxsize=1)
def _rows(spec: str, options: tuple[tuple[str, Any], ...]) -> npt.NDArray[Any]:
    return load(spec, **dict(options)).rows


def cluster_arguments(parser: Any) -> None:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--workers", type=count(1), metavar="N", help="share the work among N processes")
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="share it among the workers of a Dask cluster, which read DATA themselves",
    )


@contextmanager
def elsewhere(arguments: Any, **options: Any) -> Iterator[Elsewhere | None]:
    """The workers that were asked for, until the command ends; ``options`` as of :func:`load`."""
    if arguments.workers is None and arguments.scheduler is None:
        yield None
        return
    if arguments.threads is not None:
        msg = "--threads is for one process; with --workers or --scheduler set INTERP_FAST_NUM_THREADS for the workers."
        raise InputError(msg)
    try:
        import dask
        import distributed
    except ImportError:
        msg = "--workers and --scheduler need Dask: pip install 'interp_fast[distributed]'."
        raise InputError(msg) from None
    spec = arguments.data if arguments.data in ("digits", "fashion-mnist") else os.path.abspath(arguments.data)  # noqa: PTH100
    options = {name: _absolute(value) for name, value in options.items()}
    if arguments.scheduler is not None:
        with distributed.Client(arguments.scheduler, timeout="15s", set_as_default=False) as client:
            yield Elsewhere(client, spec, options)
        return
    quiet = {"dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with (
        # Workers that were killed are started again, which may take longer than Dask's 15 s on a busy machine.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "5 minutes"}),
        distributed.LocalCluster(n_workers=arguments.workers, threads_per_worker=1, **quiet) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield Elsewhere(client, spec, options)


def _absolute(value: Any) -> Any:
    """Names of files as the workers find them."""
    return os.path.abspath(value) if isinstance(value, str) and os.path.exists(value) else value  # noqa: PTH100, PTH110
