"""Networks of torch as functions of NumPy arrays: their own type, device, batches, mode and way of being called."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._shape import Shape

__all__ = ["Network", "is_network"]

_BATCH = 512


def is_network(fn: Any) -> bool:
    """Whether ``fn`` is a module of torch; without loading it."""
    module = getattr(getattr(sys.modules.get("torch"), "nn", None), "Module", None)
    return module is not None and isinstance(fn, module)


class Network:
    """A network, called with points (M, ...) and a time or times; it answers in their shape.

    Parameters
    ----------
    net : torch.nn.Module or callable
    call : callable (net, x, level, label) -> tensor
        How the network is called: x (m, *event), level (m,) of x's type or int64, label (m,) int64, or None for none.
    before : callable (x, t) -> (x, level), optional
        What the network is asked at points x (M, d) and times t (M,), float64; default the same.
    after : callable (answer, x, t) -> answer, optional
        What is made of the answers (M, d) float64.
    event : tuple of int, optional
        Shape of one point for the network; default that of the points.
    device : optional
        Default: that of the parameters.
    labels : int or (M,) ints, optional
    guidance : float, optional
        s in f + s (f_label - f).
    """

    def __init__(
        self,
        net: Any,
        call: Callable[..., Any],
        *,
        before: Callable[[Any, Any], tuple[Any, Any]] | None = None,
        after: Callable[[Any, Any, Any], Any] | None = None,
        event: Any = None,
        device: Any = None,
        labels: Any = None,
        guidance: float | None = None,
    ) -> None:
        if not callable(net):
            msg = f"the network must be callable; got {net!r}."
            raise TypeError(msg)
        self.net, self._call, self._before, self._after = net, call, before, after
        self.event = None if event is None else tuple(_arrays.count(v, "event", 1) for v in np.atleast_1d(event))
        self._device = device
        self._labels = None if labels is None else _labels(labels)
        self._guidance = None if guidance is None else _arrays.number(guidance, "guidance")
        if guidance is not None and labels is None:
            msg = "guidance needs labels=: the class to guide to."
            raise ValueError(msg)

    @property
    def __name__(self) -> str:
        return type(self.net).__name__

    def __call__(self, x: Any, t: Any) -> npt.NDArray[Any]:
        import torch

        given = _arrays.as_array(x, "x")[0]
        points = given.astype(np.float64).reshape(len(given), math.prod(given.shape[1:]))
        times, event = np.full(len(given), np.asarray(t, np.float64)), self._shape(given.shape[1:])
        asked, level = (points, times) if self._before is None else self._before(points, times)
        labels = None if self._labels is None else self._for(len(points))
        like = self._parameter()
        dtype = like.dtype if like is not None else torch.from_numpy(given[:0]).dtype
        device = self._device if self._device is not None else "cpu" if like is None else like.device
        answers = [np.empty((0, points.shape[1]))]
        with torch.no_grad(), _evaluating(self.net):
            for first in range(0, len(points), _BATCH):
                part = slice(first, first + _BATCH)
                # Rounded before they are moved: some devices have no float64.
                batch = torch.from_numpy(asked[part]).to(dtype).to(device).reshape(-1, *event)
                place = torch.from_numpy(level[part]).to(torch.int64 if level.dtype == np.int64 else dtype).to(device)
                label = None if labels is None else torch.from_numpy(labels[part]).to(device)
                answer = _checked(self._call(self.net, batch, place, label), batch)
                if self._guidance is not None:
                    free = _checked(self._call(self.net, batch, place, None), batch)
                    answer = free + self._guidance * (answer - free)
                answers.append(answer.cpu().double().numpy().reshape(len(batch), -1))
        answer = np.concatenate(answers)
        return (answer if self._after is None else self._after(answer, points, times)).reshape(given.shape)

    def _parameter(self) -> Any:
        """The first floating parameter or buffer."""
        for kind in ("parameters", "buffers"):
            for value in getattr(self.net, kind, tuple)():
                if value.is_floating_point():
                    return value
        return None

    def _shape(self, given: Shape) -> Shape:
        if self.event is None:
            return given
        if math.prod(self.event) != math.prod(given):
            msg = f"event must have {math.prod(given)} numbers, as the points do; got {self.event}."
            raise ValueError(msg)
        mine, theirs = ([n for n in shape if n > 1] for shape in (self.event, given))
        if len(given) > 1 and mine != theirs:
            msg = (
                f"event must be the shape of the points, {given}, which are not flat; got {self.event}. Bring the data "
                "to the layout of the network, or make them flat in its order."
            )
            raise ValueError(msg)
        return self.event

    def _for(self, m: int) -> npt.NDArray[np.int64]:
        assert self._labels is not None
        if self._labels.shape not in ((), (m,)):
            msg = f"labels must be an int or have shape ({m},), one for each point; got {self._labels.shape}."
            raise ValueError(msg)
        return np.full(m, self._labels)


def _labels(labels: Any) -> npt.NDArray[np.int64]:
    array = _arrays.here(labels, "labels")
    if array.dtype.kind not in "iu" or array.ndim > 1:
        msg = f"labels must be an int or a vector of ints; got {array.dtype} of shape {array.shape}."
        raise TypeError(msg)
    return array.astype(np.int64)


def _checked(answer: Any, x: Any) -> Any:
    import torch

    if not isinstance(answer, torch.Tensor):
        got = (
            f"a {type(answer).__name__} of {len(answer)}"
            if isinstance(answer, (tuple, list))
            else type(answer).__name__
        )
        msg = f"the network must return a tensor; got {got}. Wrap it, e.g. lambda x, t: net(x, t)[0]."
        raise TypeError(msg)
    if answer.shape != x.shape:
        msg = f"the network must return the shape of x, {tuple(x.shape)}; got {tuple(answer.shape)}."
        if answer.numel() == x.numel():
            msg += " Say the shape of a point with event=."
        raise ValueError(msg)
    return answer


@contextmanager
def _evaluating(net: Any) -> Iterator[None]:
    """Evaluation mode while it lasts; every part back to its own mode after it."""
    modes = [(part, part.training) for part in net.modules()] if is_network(net) else []
    if modes:
        net.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
