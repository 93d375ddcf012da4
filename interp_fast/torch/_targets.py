"""Exact regression targets as a data set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from .._random import RandomSource
from .._typing import Kind
from ..field import Field, oracle_of
from ..training import Times, targets

__all__ = ["Targets"]


class Targets(torch.utils.data.IterableDataset):
    """Batches of (x_t, t, target[, label]) as tensors, for ``DataLoader(targets, batch_size=None)``.

    :func:`interp_fast.targets` as a data set.

    With ``num_workers`` each worker makes its share of one stream, and all together the batches that one process makes,
    in the same order. They divide the field's threads among them: leave processors to the network by
    ``Field(..., threads=)``. Workers that are forked share the rows, and what is prepared of them once the field was
    evaluated; those that are spawned get a copy. A field of backend "numba" that was evaluated must not be forked.

    Labels come as int64 numbers: those of the field, or where these are strings the places in ``field.classes``.

    Parameters
    ----------
    field, batch, kind, times, n, rng
        Those of :func:`interp_fast.targets`. Workers that are spawned pickle a callable ``times``.

    Examples
    --------
    >>> import torch, interp_fast as itf
    >>> field = itf.Field(torch.randn(100, 2))
    >>> loader = torch.utils.data.DataLoader(itf.torch.Targets(field, 64, n=3, rng=0), batch_size=None)
    >>> [tuple(v.shape) for x, t, v in loader]
    [(64, 2), (64, 2), (64, 2)]
    """

    def __init__(
        self,
        field: Field,
        batch: int,
        *,
        kind: Kind = "velocity",
        times: Times = "uniform",
        n: int | None = None,
        rng: RandomSource = None,
    ) -> None:
        super().__init__()
        self.batches = targets(field, batch, kind=kind, times=times, n=n, rng=rng)
        self._threads = field.threads

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        worker = torch.utils.data.get_worker_info()
        part, parts = (0, 1) if worker is None else (worker.id, worker.num_workers)
        if worker is not None:  # whose field is its own
            oracle_of(self.batches.field).training_set.threads = max(1, self._threads // parts)
        return map(self._tensors, self.batches.share(part, parts))

    def _tensors(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        classes = self.batches.field.classes
        if classes is not None:
            numbers = np.searchsorted(classes, batch[3]) if classes.dtype.kind == "U" else batch[3].astype(np.int64)
            batch = (*batch[:3], numbers)
        return tuple(map(torch.as_tensor, batch))
