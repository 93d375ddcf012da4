"""The field as torch modules, called as the networks of other packages are.

=================  ==========================================  =====================================================
module             call                                        of
=================  ==========================================  =====================================================
``Denoiser``       ``(x, sigma, class_labels=None)`` -> D      EDM, k-diffusion, deepinv; x = x_1 + sigma z
``Velocity``       ``(x, t, **extras)`` -> v                   flow_matching, SiT; ``order="tx"``: torchcfm, torchdyn,
                                                               torchdiffeq
``Noise``          ``(sample, timestep).sample`` -> eps        diffusers, with its ``alphas_cumprod``
``Noise``          ``(x, sigma, cond=None)`` -> eps            smalldiffusion, without
=================  ==========================================  =====================================================

They take any floating type, device and layout, compute in float64 (on the CPU, or the device of a field of backend
"torch") and round once, to the type of x and on its device. Points have the shape of the field's, or are flat; those
of a flat field may have any shape. Times and levels are a number, (1,), (M,) or (M, 1, ..., 1). Gradients in x, sigma
and t are exact; second ones are refused.

Labels, of fields that have them, are (M,) classes by name, or (M, C) floats, one-hot in the order of ``field.classes``,
where a row of zeros is unconditional.

``Targets`` is a data set of the values that networks should learn.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from .. import _arrays
from .._shape import split
from .._tensors import beside, check_numbers
from ..schedules import Discrete
from ._autograd import Curve, Mean, array
from ._targets import Targets

__all__ = ["Denoiser", "Noise", "Targets", "Velocity"]

_DOORS = {"xt": ("x", "t"), "tx": ("t", "x")}


class _Oracle(torch.nn.Module):
    """What the modules share: a field, and the way from the caller's tensors to float64 and back."""

    def __init__(self, field: Any) -> None:
        super().__init__()
        if not hasattr(field, "_pullback"):
            msg = f"field must be a Field; got {type(field).__name__}. Build one as itf.Field(data, schedule)."
            raise TypeError(msg)
        self.field = field

    def extra_repr(self) -> str:
        return repr(self.field)

    def _points(self, x: Any, name: str) -> Any:
        """The points as (M, d) float64: in the shape of the field's points or flat, and of a flat field in any."""
        if not isinstance(x, torch.Tensor):
            msg = f"{name} must be a tensor; got {type(x).__name__}. Pass torch.as_tensor({name})."
            raise TypeError(msg)
        if not x.is_floating_point():
            msg = f"{name} must be of a floating type; got {x.dtype}. Pass {name}.float()."
            raise TypeError(msg)
        event, d, single = self.field.event, self.field.d, x.ndim == 1
        if len(event) > 1:
            single, _ = split(tuple(x.shape), event, name, tensor=True)
        elif x.ndim == 0 or x.numel() != (1 if single else len(x)) * d:
            msg = f"{name} must have shape (M, ...) with {d} numbers a point, or ({d},); got {tuple(x.shape)}."
            raise ValueError(msg)
        return _wide(x, self._home, name).reshape(1 if single else len(x), d)

    @property
    def _home(self) -> Any:
        """Where the field computes."""
        return getattr(self.field, "device", None) or torch.device("cpu")

    @staticmethod
    def _back(result: Any, x: Any) -> Any:
        return result.reshape(x.shape).to(x.dtype).to(x.device)

    def _mean(self, x: Any, alpha: Any, sigma: Any, labels: dict[str, Any], *, warn: bool = True) -> Any:
        """The posterior mean of the rows, or of those of a class; ``labels`` by the name of the argument."""
        given = {name: value for name, value in labels.items() if value is not None}
        if len(given) > 1:
            msg = f"{' and '.join(given)} say the same; pass one of them."
            raise ValueError(msg)
        if not given:
            return Mean.apply(x, alpha, sigma, self.field, warn)
        codes = self._codes(*next(iter(given.items())), len(x))
        mean = torch.zeros_like(x)
        for c in np.unique(codes):
            some = beside(np.flatnonzero(codes == c), x)
            field = self.field if c < 0 else self.field.given(self.field.classes[c])
            mean = mean.index_copy(0, some, Mean.apply(x[some], alpha[some], sigma[some], field, warn))
        return mean

    def _codes(self, name: str, value: Any, m: int) -> Any:
        """Places in ``field.classes`` (m,), -1 for none."""
        classes = getattr(self.field, "classes", None)  # a Gaussian has no such thing
        if classes is None:
            msg = f"{name} must be None: the field has no labels."
            raise ValueError(msg)
        given = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        if given.shape == (m, len(classes)) and given.dtype.kind == "f":
            if not ((given == 0) | (given == 1)).all() or (given.sum(axis=1) > 1).any():
                msg = f"{name} must be one-hot, with rows of zeros where there is no class; got other numbers."
                raise ValueError(msg)
            return np.where(given.any(axis=1), given.argmax(axis=1), -1)
        if given.shape != (m,):
            msg = f"{name} must have shape ({m},), or ({m}, {len(classes)}) one-hot; got {given.shape}."
            raise ValueError(msg)
        unknown = ~np.isin(given, classes)
        if unknown.any():
            msg = f"{name} must name classes of the field, as in field.classes; got {given[unknown][0].item()!r}."
            raise ValueError(msg)
        return np.searchsorted(classes, given)

    def _noise(self, x: Any, alpha: Any, sigma: Any, labels: dict[str, Any]) -> Any:
        """(x - alpha m) sigma / S, for float64 x (M, d), alpha and sigma (M,), sigma > 0."""
        mean = self._mean(x, alpha, sigma, labels)
        s2 = sigma**2 + (alpha * self.field.bandwidth) ** 2
        return (x - alpha[:, None] * mean) * (sigma / s2)[:, None]


class Denoiser(_Oracle):
    """D(x, sigma) = E[x_1 | x_1 + sigma z = x] as a module: ``denoiser(x, sigma, class_labels=None)``.

    The nearest row at sigma = 0. The schedule of the field does not matter. EDM's sampler also asks for ``sigma_min``,
    ``sigma_max`` and ``round_sigma``.

    Examples
    --------
    >>> import torch, interp_fast as itf
    >>> field = itf.Field(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    >>> denoiser = itf.torch.Denoiser(field)
    >>> denoiser(torch.tensor([[0.5, 0.1], [9.0, 0.0]], dtype=torch.bfloat16), 0.5).tolist()
    [[0.5, 0.0], [1.0, 0.0]]
    """

    sigma_min, sigma_max = 0.0, float("inf")

    @staticmethod
    def round_sigma(sigma: Any) -> Any:
        """``sigma`` itself, as a tensor: every level is one of this field."""
        return torch.as_tensor(sigma)

    def forward(self, x: Any, sigma: Any, class_labels: Any = None) -> Any:
        wide = self._points(x, "x")
        level = _levels(sigma, wide, "sigma")
        _check_sigma(level, zero=True)
        mean = self._mean(wide, torch.ones_like(level), level, {"class_labels": class_labels})
        if (width := self.field.bandwidth) > 0:
            s2 = level**2 + width**2
            mean = (level**2 / s2)[:, None] * mean + (width**2 / s2)[:, None] * wide
        return self._back(mean, x)


class Velocity(_Oracle):
    """The velocity in the time of the field's schedule, 0 noise and 1 data: ``velocity(x, t, **extras)``.

    Parameters
    ----------
    field : Field
    order : {"xt", "tx"}
        Of arguments without a name.
    clip : float, optional
        Times above 1 - clip are answered at 1 - clip and those below 0 at 0. At t = 1 the velocity does not exist, and
        adaptive solvers step beyond their interval: without ``clip`` both are errors.
    ignore : iterable of str
        Further keyword arguments to accept and leave out; others are errors.

    Examples
    --------
    >>> import torch, interp_fast as itf
    >>> field = itf.Field(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    >>> velocity = itf.torch.Velocity(field, order="tx", clip=1e-3)
    >>> velocity(torch.tensor(0.0), torch.tensor([[1.0, 1.0]])).tolist()
    [[-0.5, -1.0]]
    """

    def __init__(self, field: Any, order: str = "xt", clip: float | None = None, *, ignore: Iterable[str] = ()) -> None:
        super().__init__(field)
        if order not in _DOORS:
            msg = f"order must be 'xt' or 'tx'; got {order!r}."
            raise ValueError(msg)
        if clip is not None and not 0 < float(clip) < 1:
            msg = f"clip must lie in (0, 1); got {clip!r}."
            raise ValueError(msg)
        self.order, self.clip = order, clip
        self.ignore = frozenset([ignore] if isinstance(ignore, str) else ignore)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        names = _DOORS[self.order]
        given = dict(zip(names, arguments, strict=False))
        twice = given.keys() & named.keys()
        given |= {name: named.pop(name) for name in names if name in named}
        if len(arguments) > 2 or twice or len(given) < 2:
            got = f"{len(arguments)} without a name and {sorted(named | given)}"
            msg = f"the velocity is called with {names[0]} and {names[1]}, once each; got {got}."
            raise TypeError(msg)
        labels: dict[str, Any] = {name: named.pop(name) for name in ("y", "labels") if name in named}
        if unknown := sorted(named.keys() - self.ignore):
            msg = f"the velocity knows no argument {unknown[0]!r}; to have it left out pass ignore={tuple(unknown)}."
            raise TypeError(msg)
        x = given["x"]
        wide = self._points(x, "x")
        t = self._times(_levels(given["t"], wide, "t"))
        alpha, s2, alpha_dot, rate, sigma = Curve.apply(t, self.field)
        for bad, what in ((s2 == 0, "does not exist where sigma = 0"), (~alpha_dot.isfinite(), "is infinite")):
            if bad.any():
                remedy = "Pass clip=1e-3, or evaluate next to it." if self.clip is None else "Evaluate next to it."
                msg = f"t must avoid {float(t.detach()[bad][0])!r}: the velocity {what} there. {remedy}"
                raise ValueError(msg)
        # With clip it is called by solvers that try steps, which may lead anywhere.
        mean = self._mean(wide, alpha, sigma, labels, warn=self.clip is None)
        residual = wide - alpha[:, None] * mean
        return self._back(alpha_dot[:, None] * mean + (rate / s2)[:, None] * residual, x)

    def _times(self, t: Any) -> Any:
        plain = t.detach()
        if self.clip is not None and not plain.isnan().any():
            return t.clamp(0.0, 1.0 - self.clip)
        outside = ~((plain >= 0) & (plain <= 1))
        if outside.any():
            msg = (
                f"t must lie in [0, 1], 0 noise and 1 data; got {float(plain[outside][0])}. Solvers that step beyond "
                "their interval need clip=1e-3, say."
            )
            raise ValueError(msg)
        return t


class Noise(_Oracle):
    """The noise E[z | x], as networks of diffusers or of smalldiffusion predict it.

    With ``alphas_cumprod``, ``noise(sample, timestep).sample``: of x = sqrt(abar) x_1 + sqrt(1 - abar) z at the level
    ``timestep``, which need not be whole (see :class:`Discrete`); ``return_dict=False`` gives a tuple. Without,
    ``noise(x, sigma, cond=None)``: of x = x_1 + sigma z, with ``rand_input``, ``predict_eps`` and ``predict_eps_cfg``.

    Parameters
    ----------
    field : Field
        Its schedule does not matter.
    alphas_cumprod : (T,) tensor or array, or a Discrete, optional
        That of the scheduler.

    Examples
    --------
    >>> import torch, interp_fast as itf
    >>> field = itf.Field(torch.tensor([[0.0, 0.0], [1.0, 0.0]]))
    >>> noise = itf.torch.Noise(field, itf.Discrete.ddpm())
    >>> noise(torch.tensor([[0.0, 1.0]]), 999).sample.numpy().round(3)
    array([[-0.003,  1.   ]], dtype=float32)
    """

    def __init__(self, field: Any, alphas_cumprod: Any = None) -> None:
        super().__init__(field)
        known = alphas_cumprod is None or isinstance(alphas_cumprod, Discrete)
        self.levels = alphas_cumprod if known else Discrete(alphas_cumprod)

    def forward(
        self, sample: Any, timestep: Any, cond: Any = None, class_labels: Any = None, return_dict: bool = True
    ) -> Any:
        labels = {"cond": cond, "class_labels": class_labels}
        if self.levels is None:
            return self._back(self._at_sigma(sample, timestep, labels), sample)
        noise = self._back(self._at_level(sample, timestep, labels), sample)
        return SimpleNamespace(sample=noise) if return_dict else (noise,)

    def _at_sigma(self, x: Any, sigma: Any, labels: dict[str, Any]) -> Any:
        wide = self._points(x, "x")
        level = _levels(sigma, wide, "sigma")
        _check_sigma(level, zero=self.field.bandwidth > 0)
        return self._noise(wide, torch.ones_like(level), level, labels)

    def _at_level(self, sample: Any, timestep: Any, labels: dict[str, Any]) -> Any:
        wide = self._points(sample, "sample")
        k = _levels(timestep, wide, "timestep")
        if k.requires_grad:
            msg = "timestep is a tensor that requires grad, but levels are numbered, not timed; pass timestep.detach()."
            raise TypeError(msg)
        last = len(self.levels.alphas_cumprod) - 1
        outside = ~((k >= 0) & (k <= last))
        if outside.any():
            msg = f"timestep must lie in [0, {last}], 0 the least noise; got {float(k[outside][0]):g}."
            raise ValueError(msg)
        c = self.levels(np.asarray(self.levels.t_of(array(k))))
        return self._noise(wide, beside(c.alpha, wide), beside(c.sigma, wide), labels)

    def rand_input(self, batchsize: int) -> Any:
        """Standard normals of the shape of a batch of points, as samplers of smalldiffusion start from."""
        return torch.randn(batchsize, *self.field.event)

    def predict_eps(self, x: Any, sigma: Any, cond: Any = None) -> Any:
        """The noise, by the name that smalldiffusion calls."""
        return self(x, sigma, cond=cond)

    def predict_eps_cfg(self, x: Any, sigma: Any, cond: Any, cfg_scale: float) -> Any:
        """eps + cfg_scale (eps - eps without the class), eps that of ``cond``; without labels there is no guidance."""
        conditional = self(x, sigma, cond=cond)
        if cond is None or cfg_scale == 0:
            return conditional
        return conditional + cfg_scale * (conditional - self(x, sigma))


def _wide(value: Any, home: Any, name: str) -> Any:
    """float64 where the field computes; moved first, as some devices have no float64."""
    check_numbers(value, name)
    return value.to(home).to(torch.float64)


def _levels(value: Any, like: Any, name: str) -> Any:
    """Times or levels, one for each of the points ``like`` (M, d), as (M,) float64 on their device."""
    m = len(like)
    if isinstance(value, torch.Tensor):
        if value.dtype == torch.bool or value.is_complex():
            msg = f"{name} must be a real number or a tensor of them; got {value.dtype}."
            raise TypeError(msg)
        wide = _wide(value, like.device, name)
    else:
        wide = beside(np.asarray(_arrays.reals(value, name)), like)
    if wide.numel() == 1:
        return wide.reshape(1).expand(m)
    if wide.ndim == 0 or wide.numel() != m or len(wide) != m:
        msg = (
            f"{name} must be a number or one for each of the {m} points, ({m},) or ({m}, 1, ..., 1); "
            f"got {tuple(wide.shape)}."
        )
        raise ValueError(msg)
    return wide.reshape(m)


def _check_sigma(sigma: Any, *, zero: bool) -> None:
    plain = sigma.detach()
    good = plain.isfinite() & ((plain >= 0) if zero else (plain > 0))
    if not good.all():
        why = "" if zero else ", as the noise does not exist without it"
        msg = f"sigma must be finite and {'>=' if zero else '>'} 0{why}; got {float(plain[~good][0])}."
        raise ValueError(msg)
