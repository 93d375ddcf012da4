"""The posterior mean and a schedule as differentiable functions of float64 tensors, on the device of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from .._tensors import beside

__all__ = ["Curve", "Mean", "array"]


def array(tensor: Any) -> Any:
    """The numbers of a tensor, as NumPy has them."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy())


class Mean(torch.autograd.Function):
    """(x (M, d), alpha (M,), sigma (M,), field, warn) -> the posterior mean of the rows (M, d)."""

    @staticmethod
    def forward(ctx: Any, x: Any, alpha: Any, sigma: Any, field: Any, warn: bool) -> Any:
        ctx.save_for_backward(x, alpha, sigma)
        ctx.field = field
        levels = array(alpha), array(sigma)
        if getattr(field, "_takes_tensors", False):
            return field._average(x.detach(), *levels, warn)
        return beside(field._average(array(x), *levels, warn), x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, alpha, sigma = ctx.saved_tensors
        levels = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        in_x, in_alpha, in_sigma = _Pullback.apply(x, alpha, sigma, grads[0], ctx.field, levels)
        return in_x, in_alpha, in_sigma, None, None


class _Pullback(torch.autograd.Function):
    """The gradient of :class:`Mean`. It has none of its own: that takes moments nobody has computed."""

    @staticmethod
    def forward(ctx: Any, x: Any, alpha: Any, sigma: Any, g: Any, field: Any, levels: bool) -> Any:
        given = (x, g) if getattr(field, "_takes_tensors", False) and not levels else (array(x), array(g))
        found = field._pullback(given[0], array(alpha), array(sigma), given[1], levels=levels)
        return tuple(None if value is None else beside(value, x) for value in found)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        msg = (
            "second derivatives of the field are not computed; detach what was differentiated once, or take the "
            "divergence from field.divergence."
        )
        raise NotImplementedError(msg)


class Curve(torch.autograd.Function):
    """(t (M,), field) -> alpha, S, alpha_dot and (dS/dt) / 2 with S = sigma^2 + alpha^2 bandwidth^2, and sigma."""

    @staticmethod
    def forward(ctx: Any, t: Any, field: Any) -> Any:
        ctx.save_for_backward(t)
        ctx.field = field
        p = field._point(array(t))
        return tuple(beside(column, t) for column in (p.alpha, p.s2, p.alpha_dot, p.rate, p.sigma))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _CurveGradient.apply(ctx.saved_tensors[0], ctx.field, *grads), None


class _CurveGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Any, field: Any, *grads: Any) -> Any:
        time = array(t)
        p = field._point(time)
        with np.errstate(divide="ignore", invalid="ignore"):
            alpha_2, sigma_2 = field.schedule._second(time, 1.0 - time)
            rate_dot = p.sigma_dot**2 + p.sigma * sigma_2
            rate_dot = rate_dot + field.bandwidth**2 * (p.alpha_dot**2 + p.alpha * alpha_2)
            slopes = (p.alpha_dot, 2 * p.rate, alpha_2, rate_dot, p.sigma_dot)
            in_t = sum(array(g) * slope for g, slope in zip(grads, slopes, strict=True))
        if not np.isfinite(in_t).all():
            bad = float(time[~np.isfinite(in_t)][0])
            msg = f"t must avoid {bad!r}: the schedule has no second derivative there. Evaluate next to it."
            raise ValueError(msg)
        return beside(in_t, t)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        msg = "second derivatives of the field in t are not computed; detach what was differentiated once."
        raise NotImplementedError(msg)
