"""A model under study, seen through the methods of the oracle."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _shape
from ._networks import Network, is_network
from ._results import as_html, called
from ._schedule import Schedule, check_schedule
from ._shape import Form, Shape
from ._typing import Kind, in_kind
from .schedules import Discrete, Linear, VEGeometric, VELinear

__all__ = ["Model", "Predictor"]

Float = npt.NDArray[np.float64]
Extras = dict[str, Any] | None

_PREDICTS = ("velocity", "score", "noise", "denoiser")
_DIFFUSERS: dict[str, Kind] = {"epsilon": "noise", "v_prediction": "denoiser", "sample": "denoiser"}


def _named(name: str, value: Any) -> dict[str, Any]:
    return {} if value is None else {name: value}


# How networks are called. Functions of this module, with what they need bound by ``partial``: a model pickles with its
# network.


def _plain(net: Any, x: Any, t: Any, label: Any) -> Any:
    return net(x, t)


def _call_edm(extras: dict[str, Any], net: Any, x: Any, sigma: Any, label: Any) -> Any:
    if label is not None and (known := getattr(net, "label_dim", None)):
        label = x.new_zeros(len(x), known).scatter_(1, label[:, None], 1.0)
    return net(x, sigma, **_named("class_labels", label), **extras)


def _call_flow_matching(extras: dict[str, Any], net: Any, x: Any, t: Any, label: Any) -> Any:
    return net(x=x, t=t, **_named("y", label), **extras)


def _call_torchcfm(extras: dict[str, Any], net: Any, x: Any, t: Any, label: Any) -> Any:
    if type(net).__name__ == "torch_wrapper":  # of torchcfm: it repeats one time for all points
        import torch

        return net.model(torch.cat([x, t[:, None]], dim=1))
    return net(t, x, **_named("y", label), **extras)


def _call_diffusers(extras: dict[str, Any], net: Any, x: Any, level: Any, label: Any) -> Any:
    answer = net(x, level, **_named("class_labels", label), **extras)
    return answer[0] if isinstance(answer, tuple) else getattr(answer, "sample", answer)


def _call_smalldiffusion(extras: dict[str, Any], net: Any, x: Any, sigma: Any, label: Any) -> Any:
    null = getattr(getattr(net, "cond_embed", None), "null_cond", None)
    if label is None and null is not None:
        label = sigma.new_full((len(x),), null).long()
    return net(x, sigma, **_named("cond", label), **extras)


def _rescaled(schedule: Schedule, x: Float, t: Float) -> tuple[Float, Float]:
    """(x / alpha, sigma / alpha), for networks that know x_1 + sigma z alone."""
    c = schedule(t)
    if not c.alpha.all():
        msg = f"t must avoid {float(t[c.alpha == 0][0])!r}: there is no data in x, and sigma / alpha is infinite."
        raise ValueError(msg)
    return x / c.alpha[:, None], c.sigma / c.alpha


def _at_level(curve: Discrete, x: Float, t: Float) -> tuple[Float, Any]:
    return x, curve.level_of(t)


def _of_v(curve: Discrete, v: Float, x: Float, t: Float) -> Float:
    """D of a prediction of v = alpha z - sigma x_1."""
    c = curve(t[:, None])
    denoiser: Float = c.alpha * x - c.sigma * v
    return denoiser


class Predictor:
    """What predicts a velocity, score, noise or denoiser at (x, t) under a schedule: a model, or a law in closed form.

    Attributes
    ----------
    fn : callable
    schedule : Schedule
    predicts : {"velocity", "score", "noise", "denoiser"}
    event : tuple of int or None
        Shape of a point; None: any, a function does not say.
    """

    fn: Callable[..., Any]
    schedule: Schedule
    predicts: Kind
    event: Shape | None

    def predict(self, x: Float, t: Any, form: Form) -> Float:
        """What ``fn`` returns for (M, d) float64 queries shown to it in a form, checked, in float64."""
        return _shape.answers(self.fn(form.shown(x), t), form, len(x), "the model's output", "fn(x, t)")

    def to_denoiser(self, prediction: Float, x: Float, t: Any, c: Any) -> Float:
        """D from a prediction at (x, t), for schedule coefficients ``c`` that broadcast against x."""
        if self.predicts == "denoiser":
            return prediction
        if self.predicts == "velocity":
            # (sigma v - sigma_dot x) / (alpha_dot sigma - alpha sigma_dot): D without dividing by sigma.
            top, divisor = c.sigma * prediction - c.sigma_dot * x, c.alpha_dot * c.sigma - c.alpha * c.sigma_dot
        elif self.predicts == "score":
            top, divisor = x + c.sigma**2 * prediction, c.alpha
        else:
            top, divisor = x - c.sigma * prediction, c.alpha
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            denoiser: Float = top / divisor
        bad = ~(np.isfinite(divisor) & np.isfinite(denoiser).all(axis=-1, keepdims=True))
        if np.any(bad):
            time = np.broadcast_to(t, np.shape(bad)[:1])[np.ravel(bad)][0] if np.ndim(t) else t
            msg = (
                f"t must avoid {float(time)!r}: there a {self.predicts} does not determine the denoiser. "
                f"Start the times elsewhere or let the model predict the denoiser."
            )
            raise ValueError(msg)
        return denoiser


class Model(Predictor):
    """A trained velocity, score, noise or denoiser network (any callable), with the methods of :class:`Field`.

    Parameters
    ----------
    fn : callable
        ``fn(x, t)`` -> array of x's shape. It gets x (M, d), or (M, *event) where the queries, the starting points or
        the rows of the field it is compared with have that shape, as float32 when they are, else float64, and t as a
        float, or (M,) when t was; tensors when the queries are. t = 0 is noise, t = 1 data. A torch module gets tensors
        of its own type on its own device, t always as (M,), in batches, without gradients and in evaluation mode. See
        ``from_edm`` and its siblings for networks that are called in another way.
    schedule : Schedule
        The one the model was trained with.
    predicts : {"velocity", "score", "noise", "denoiser"}

    Notes
    -----
    Conversions, with eta = sigma_dot / sigma and kappa = alpha_dot - alpha eta:
    D = (v - eta x) / kappa = (x + sigma^2 s) / alpha = (x - sigma z) / alpha. Where the divisor is 0 the prediction
    does not determine D: ValueError naming the time.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> model = itf.Model(lambda x, t: -x, itf.Linear(), predicts="score")
    >>> model.denoiser(np.array([[1.0, 2.0]]), 0.5)
    array([[1.5, 3. ]])
    """

    def __init__(self, fn: Callable[..., Any], schedule: Schedule, predicts: Kind = "velocity") -> None:
        if not callable(fn):
            msg = f"fn must be callable as fn(x, t); got {fn!r}."
            raise TypeError(msg)
        if predicts not in _PREDICTS:
            msg = f"predicts must be one of {', '.join(_PREDICTS)}; got {predicts!r}."
            raise ValueError(msg)
        if is_network(fn):
            fn = Network(fn, _plain)
        self.fn, self.schedule, self.predicts = fn, check_schedule(schedule), predicts
        self.event = fn.event if isinstance(fn, Network) else None

    def __repr__(self) -> str:
        return f"Model({called(self.fn)}, {self.schedule!r}, predicts={self.predicts!r})"

    def _repr_html_(self) -> str:
        facts = (("fn", called(self.fn)), ("predicts", self.predicts), ("schedule", self.schedule))
        return as_html("Model", [*facts, *([] if self.event is None else [("event", self.event)])])

    # Networks of other packages

    @classmethod
    def from_edm(cls, net: Any, schedule: Schedule | None = None, *, extras: Extras = None, **options: Any) -> Model:
        """D = net(x / alpha, sigma / alpha, class_labels), as EDM's networks are; default schedule VELinear(80).

        Parameters
        ----------
        net : torch.nn.Module
            Called with tensors of its own type on its own device, in batches, without gradients, in evaluation mode.
        schedule : Schedule, optional
        extras : dict, optional
            Further arguments by name.
        event : tuple of int, optional
            The shape of a point. Default: what the network says of itself (here img_channels and img_resolution), else
            that of the points.
        device : optional
            Default: that of the parameters.
        labels : int or (M,) ints, optional
            Handed over one-hot where the network has a ``label_dim``.
        guidance : float, optional
            s in f + s (f_label - f).
        """
        curve = check_schedule(VELinear(80.0) if schedule is None else schedule)
        if (size := getattr(net, "img_resolution", None)) is not None:
            options = {"event": (net.img_channels, size, size)} | options
        call = partial(_call_edm, extras or {})
        return cls(Network(net, call, before=partial(_rescaled, curve), **options), curve, "denoiser")

    @classmethod
    def from_flow_matching(
        cls, net: Any, schedule: Schedule | None = None, *, extras: Extras = None, **options: Any
    ) -> Model:
        """v = net(x=x, t=t), as flow_matching and SiT call them; labels as ``y``; default schedule Linear.

        Parameters are those of :meth:`from_edm`.
        """
        call = partial(_call_flow_matching, extras or {})
        return cls(Network(net, call, **options), Linear() if schedule is None else schedule)

    @classmethod
    def from_torchcfm(
        cls, net: Any, schedule: Schedule | None = None, *, extras: Extras = None, **options: Any
    ) -> Model:
        """v = net(t, x), as torchcfm, torchdyn and torchdiffeq call them; labels as ``y``; default schedule Linear.

        Parameters are those of :meth:`from_edm`.
        """
        call = partial(_call_torchcfm, extras or {})
        return cls(Network(net, call, **options), Linear() if schedule is None else schedule)

    @classmethod
    def from_diffusers(cls, unet: Any, scheduler: Any, *, extras: Extras = None, **options: Any) -> Model:
        """``unet(x, timestep).sample`` at the levels of a scheduler, by whose config it is epsilon, v or the sample.

        The schedule is ``Discrete(scheduler.alphas_cumprod)``, and the model answers at the times of its levels alone:
        build tables from ``model.schedule.t_of(levels)``. Labels go as ``class_labels``; the event is that of the
        network's config. Parameters are those of :meth:`from_edm`.
        """
        curve = Discrete(scheduler.alphas_cumprod)
        kind = getattr(scheduler.config, "prediction_type", "epsilon")
        if kind not in _DIFFUSERS:
            msg = f"scheduler must predict one of {', '.join(_DIFFUSERS)}; got {kind!r}."
            raise ValueError(msg)
        config = getattr(unet, "config", None)
        size, channels = getattr(config, "sample_size", None), getattr(config, "in_channels", None)
        if size is not None and channels is not None:
            options = {"event": (channels, *((size, size) if isinstance(size, int) else size))} | options
        call, before = partial(_call_diffusers, extras or {}), partial(_at_level, curve)
        after = partial(_of_v, curve) if kind == "v_prediction" else None
        return cls(Network(unet, call, before=before, after=after, **options), curve, _DIFFUSERS[kind])

    @classmethod
    def from_smalldiffusion(cls, net: Any, schedule: Any, *, extras: Extras = None, **options: Any) -> Model:
        """eps = net(x / alpha, sigma / alpha, cond), as smalldiffusion's networks are; labels as ``cond``.

        ``schedule`` is one of this package, or theirs, which becomes ``VEGeometric`` between its ends. The event is the
        network's ``input_dims``. Parameters are those of :meth:`from_edm`.
        """
        if hasattr(schedule, "sigmas"):
            schedule = VEGeometric(float(min(schedule.sigmas)), float(max(schedule.sigmas)))
        curve = check_schedule(schedule)
        if (dims := getattr(net, "input_dims", None)) is not None:
            options = {"event": tuple(dims)} | options
        call = partial(_call_smalldiffusion, extras or {})
        return cls(Network(net, call, before=partial(_rescaled, curve), **options), curve, "noise")

    @in_kind
    def denoiser(self, x: Any, t: Any) -> Any:
        """D = E[x_1 | x_t = x] as the model has it, (M, d)."""
        return self._answer(x, t, lambda x, d, c: d)

    @in_kind
    def velocity(self, x: Any, t: Any) -> Any:
        """alpha_dot D + sigma_dot (x - alpha D) / sigma, (M, d); fn itself when it predicts the velocity."""
        return self._answer(
            x, t, lambda x, d, c: c.alpha_dot * d + c.sigma_dot * (x - c.alpha * d) / c.sigma, "velocity"
        )  # fmt: skip

    @in_kind
    def score(self, x: Any, t: Any) -> Any:
        """(alpha D - x) / sigma^2, (M, d)."""
        return self._answer(x, t, lambda x, d, c: (c.alpha * d - x) / c.sigma**2, "score")

    @in_kind
    def noise(self, x: Any, t: Any) -> Any:
        """(x - alpha D) / sigma, (M, d)."""
        return self._answer(x, t, lambda x, d, c: (x - c.alpha * d) / c.sigma, "noise")

    def _answer(self, x: Any, t: Any, formula: Callable[[Float, Float, Any], Float], what: str = "denoiser") -> Any:
        wide, form = _shape.queries(x, self.event)
        times, scalar = _arrays.times(t, len(wide))
        result = self.predict(wide, float(times) if scalar else form.kind(times), form)
        if self.predicts != what:
            c = self.schedule(times if scalar else times[:, None])
            if what != "denoiser" and np.any(c.sigma == 0):
                msg = f"t must avoid 1: the {what} does not exist where sigma = 0. Evaluate next to it or use denoiser."
                raise ValueError(msg)
            result = formula(wide, self.to_denoiser(result, wide, times, c), c)
        return form.points(result.astype(form.dtype))
