"""The client of a Dask cluster: where it comes from, and waiting for what workers compute."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import dask
import distributed
from distributed.comm import parse_address
from distributed.comm.addressing import parse_host_port

__all__ = ["connected", "connected_to", "large", "results"]

_LOOK = 2.0  # seconds between looks at the workers while a call waits


def connected_to(given: Any) -> tuple[Any, bool]:
    """A client, and whether it was made here, of a cluster or an address."""
    if isinstance(given, distributed.Client):
        return given, False
    if isinstance(given, str):
        _check_address(given)
    if isinstance(given, (str, distributed.deploy.cluster.Cluster)):
        return distributed.Client(given, set_as_default=False), True
    msg = f"client must be a distributed.Client, a cluster or the address of a scheduler; got {type(given).__name__}."
    raise TypeError(msg)


def _check_address(address: str) -> None:
    """ValueError for one without a port, before there is a client of it, which would be waited for at the end."""
    scheme, place = parse_address(address)
    try:
        if scheme in ("tcp", "tls"):
            parse_host_port(place)
    except ValueError as exc:
        msg = f"client must be the address of a scheduler, as 'tcp://host:8786'; got {address!r} ({exc})."
        raise ValueError(msg) from None


def connected(address: str) -> tuple[Any, bool]:
    """A client of this scheduler, and whether it was made here: a worker has one, and so has who made a default one."""
    try:
        distributed.get_worker()
    except ValueError:
        pass
    else:
        return distributed.get_client(address), False
    try:
        current = distributed.Client.current()
    except ValueError:
        current = None
    if current is not None and current.scheduler.address == address:
        return current, False
    return distributed.Client(address, set_as_default=False), True


def results(client: Any, futures: list[Any], timeout: float | None) -> list[Any]:
    """What futures come to; what is left of them is called off when one fails.

    RuntimeError once there was no worker to compute them for ``timeout`` seconds.
    """
    try:
        found: list[Any] = client.sync(_gathered, client, futures, timeout)
    except distributed.KilledWorker as exc:
        msg = (
            f"{_task(exc.task)} ended all workers that tried it, {exc.last_worker.address} as the last: not enough "
            "memory, or rows that the reader does not survive. Take more shards, or workers with more memory."
        )
        raise RuntimeError(msg) from exc
    except distributed.client.FutureCancelledError as exc:
        why = " ".join(str(exc).split())
        msg = f"the cluster has forgotten the rows ({why}): it was restarted, or lost. Make the field anew."
        raise RuntimeError(msg) from exc
    except BaseException:
        client.cancel(futures)
        raise
    return found


async def _gathered(client: Any, futures: list[Any], timeout: float | None) -> Any:
    gathering = asyncio.ensure_future(client.gather(futures, asynchronous=True))
    gathering.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen, should nobody wait any more
    lost, look = time.monotonic(), _LOOK if timeout is None else min(_LOOK, timeout / 4)
    while not (await asyncio.wait([gathering], timeout=look))[0]:
        hindrance = await _hindrance(client)
        if hindrance is None:
            lost = time.monotonic()
        elif timeout is not None and time.monotonic() - lost > timeout:
            msg = f"{hindrance} for {timeout:g} s. Start workers, with cluster.scale(n) say, or wait longer: timeout=."
            raise RuntimeError(msg)
    return gathering.result()


async def _hindrance(client: Any) -> str | None:
    """Why no worker computes anything, in words; None if one does, or may."""
    try:
        workers = (await client.scheduler.identity(n_workers=-1))["workers"]
    except OSError as exc:
        return f"the scheduler has not answered ({exc})"
    if not workers:
        return "the cluster has had no worker"
    if any(one["status"] == "running" or one["metrics"]["task_counts"].get("executing") for one in workers.values()):
        return None
    kinds = " and ".join(sorted({one["status"] for one in workers.values()}))
    return f"all {len(workers)} workers of the cluster have been {kinds}, for want of memory perhaps,"


def _task(key: Any) -> str:
    what, _, number = str(key).partition("-")
    return f"{what} of shard {number.rpartition('-')[2]}" if what in ("shard", "part", "nearest") else f"a {what}"


def large() -> Any:
    """Queries are as large as they are: no advice about sizes of graphs."""
    return dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"})
