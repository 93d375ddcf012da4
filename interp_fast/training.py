"""Exact regression targets to train networks on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from . import _arrays, _random
from ._schedule import Schedule
from ._typing import Kind
from .field import Field, check_field, oracle_of

__all__ = ["Batches", "Times", "targets"]

Float = npt.NDArray[np.float64]
Times: TypeAlias = str | npt.ArrayLike | Callable[[np.random.Generator, int], npt.ArrayLike]

_KINDS = ("velocity", "score", "noise", "denoiser")


def _uniform(schedule: Schedule, key: int, first: int, n: int) -> Float:
    return _random.uniforms(key, first, 0, n=n)


def _logit_normal(schedule: Schedule, key: int, first: int, n: int) -> Float:
    t: Float = 1 / (1 + np.exp(-_random.normals(key, first, 0, n=n, d=1)[:, 0]))
    return t


def _log_normal(schedule: Schedule, key: int, first: int, n: int) -> Float:
    low, high = np.exp(-schedule.lam(np.array([1.0, 0.0])))
    sigma = np.exp(1.2 * _random.normals(key, first, 0, n=n, d=1)[:, 0] - 1.2)
    t: Float = np.asarray(schedule.time_of(np.clip(sigma, low, high)))
    return t


_LAWS = {"uniform": _uniform, "logit-normal": _logit_normal, "log-normal": _log_normal}


@dataclass(frozen=True, eq=False)
class Batches:
    """What :func:`targets` returns: batch b holds the samples b * batch ... (b + 1) * batch - 1 of one stream."""

    field: Field
    batch: int
    kind: str
    times: Any
    n: int | None
    source: _random.NoiseKey

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.share(0, 1)

    def __len__(self) -> int:
        if self.n is None:
            msg = "endless batches have no length; pass n=."
            raise TypeError(msg)
        return self.n

    def share(self, part: int, parts: int) -> Iterator[tuple[Any, ...]]:
        """Every ``parts``-th batch from number ``part`` on."""
        return map(self._batch, count(part, parts) if self.n is None else range(part, self.n, parts))

    def _batch(self, b: int) -> tuple[Any, ...]:
        first = self.source.first_sample + b * self.batch
        form = oracle_of(self.field).form
        # Rounded as they are handed out, and before they are used: the target is that of (x_t, t) as given.
        exact = self._times(first)
        t = exact.astype(form.dtype)
        t[(t == 1) & (exact < 1)] = np.nextafter(t.dtype.type(1), t.dtype.type(0))
        x, index = self.field.draw(self.batch, t, rng=_random.NoiseKey(self.source.key, first))
        batch = x, form.kind(t), getattr(self.field, self.kind)(x, t)
        return batch if self.field.classes is None else (*batch, self._labels(index))

    def _labels(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        data = oracle_of(self.field).training_set
        assert data.labels is not None
        local = rows if data.numbers is None else np.searchsorted(data.numbers, rows)
        labels: npt.NDArray[Any] = data.labels.classes[data.labels.codes[local]]
        return labels

    def _times(self, first: int) -> Float:
        key = _random.subkey(self.source.key, "times")
        if isinstance(self.times, str):
            return _LAWS[self.times](self.field.schedule, key, first, self.batch)
        if callable(self.times):
            rng = np.random.Generator(np.random.Philox(key=np.array([key, first], np.uint64)))
            t, _ = _arrays.times(self.times(rng, self.batch), self.batch, "times(rng, batch)")
            return np.full(self.batch, t)
        times: Float = self.times
        return times[(first % len(times) + np.arange(self.batch)) % len(times)]


def targets(
    field: Field,
    batch: int,
    *,
    kind: Kind = "velocity",
    times: Times = "uniform",
    n: int | None = None,
    rng: _random.RandomSource = None,
) -> Batches:
    """Batches of (x_t, t, target[, label]) for training: the target is the field itself, not the draw of one row.

    x_t = alpha x_I + sigma z, and target = E[alpha_dot x_I + sigma_dot z | x_t], say, where ordinary training regresses
    on the bracket: the same minimiser, and no variance of targets. It costs a pass over the rows.

    Parameters
    ----------
    field : Field
    batch : int
        Samples in a batch, B.
    kind : {"velocity", "score", "noise", "denoiser"}
    times : str, callable or array
        The law of t, independent from sample to sample: "uniform" on [0, 1); "logit-normal", t = 1 / (1 + exp(-g)) with
        g ~ N(0, 1) (Esser et al. 2024); "log-normal", log(sigma / alpha) ~ N(-1.2, 1.2^2), cut at the ends of the
        schedule (EDM, Karras et al. 2022). A callable (Generator, B) -> (B,) in [0, 1]; its generator is that of the
        batch. Or an array: sample i gets ``times[i % len(times)]``, e.g. the levels ``schedule.t_of(np.arange(T))``.
    n : int, optional
        Batches. Default: without end.
    rng : None, int, SeedSequence, Generator or NoiseKey
        Sample i of batch b is sample b B + i of the stream, whoever makes it: ``NoiseKey(key, b * B)`` goes on at b.

    Returns
    -------
    iterable of (x_t (B, *event), t (B,), target (B, *event)) or, of a field with labels, (x_t, t, target, label (B,))
        Of the type of the field's results, t too, which is rounded before it is used; target = field.velocity(x_t, t).
        The label is the class of the row that was drawn. The target of a network that is told the class is
        ``field.given(label).velocity(x_t, t)``; that of ``targets(field.given(c), ...)`` is of that class already.
        Every iteration begins with the same batches: several epochs are one stream, not n batches again.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument; at a time where the target does not exist.

    See Also
    --------
    interp_fast.torch.Targets : the same as a data set of torch, whose workers share one stream.

    Notes
    -----
    A batch costs B evaluations of the field: 4 B N d flops at early times, less later.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.random.default_rng(0).standard_normal((100, 2)).astype(np.float32))
    >>> for x, t, v in itf.targets(field, 64, n=2, rng=0):
    ...     print(x.shape, t.dtype, np.array_equal(v, field.velocity(x, t)))
    (64, 2) float32 True
    (64, 2) float32 True
    """
    check_field(field)
    if kind not in _KINDS:
        msg = f"kind must be one of {', '.join(_KINDS)}; got {kind!r}."
        raise ValueError(msg)
    if isinstance(times, str):
        if times not in _LAWS:
            msg = f"times must be one of {', '.join(_LAWS)}, a callable(rng, batch) or an array; got {times!r}."
            raise ValueError(msg)
    elif not callable(times):
        times = _arrays.times(times, None, "times")[0].reshape(-1)
        if len(times) == 0:
            msg = "times must hold at least one time."
            raise ValueError(msg)
    batch = _arrays.count(batch, "batch", 1)
    n = None if n is None else _arrays.count(n, "n", 0)
    return Batches(field, batch, kind, times, n, _random.noise_key(rng))
