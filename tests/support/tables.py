"""Schedules and solvers that tables of steps are tested with, and a table unrolled by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from interp_fast.schedules import (
    VP,
    EncoderDecoder,
    LatentBridge,
    Linear,
    SqrtVP,
    Trigonometric,
    VEGeometric,
    VELinear,
)
from interp_fast.steps import (
    ddim,
    ddpm,
    euler,
    euler_maruyama,
    exponential,
    exponential_heun,
    heun,
    multistep,
)

SCHEDULES = [
    Linear(),
    Trigonometric(),
    SqrtVP(),
    LatentBridge(),
    LatentBridge(2.0),
    VP(),
    VEGeometric(0.01, 20.0),
    VELinear(20.0),
    EncoderDecoder(),
]
SOLVERS = {
    "euler": euler,
    "euler_maruyama": lambda schedule, times: euler_maruyama(schedule, times, ("sigma", 0.3)),
    "ddim": ddim,
    "ddim half": lambda schedule, times: ddim(schedule, times, 0.5),
    "ddpm": ddpm,
    "exponential": lambda schedule, times: exponential(schedule, times, 0.3),
    "heun": heun,
    "exponential_heun": exponential_heun,
    "multistep": multistep,
}
EXACT = [name for name in SOLVERS if name not in {"euler", "euler_maruyama", "heun"}]
on_schedules = pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
on_solvers = pytest.mark.parametrize("solver", SOLVERS)


def inside(K, first=0.1, last=0.9):
    """Uneven times that start after every singularity and end before 1."""
    return first + (last - first) * (np.arange(K + 1) / K) ** 1.2


def quiet(build, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return build(*args)


def unroll(table, x0, D, xi, *, states=False):
    """Run a table on x0 with D(r, x, alpha, sigma) and noise xi[r], by the definition of a row."""
    base = current = x0
    above = np.zeros_like(x0)
    seen = []
    for r in range(len(table)):
        d = D(r, current, table.alpha[r], table.sigma[r])
        current = table.A[r] * base + table.B[r] * d + table.C[r] * above + table.S[r] * xi[r]
        above = d
        seen.append(current)
        if table.commit[r]:
            base = current
    return seen if states else base


def law(table, y, start):
    """Mean and variance, per coordinate, at the end of a table with constant D = y, started on its law."""
    mean, variance = table.alpha[0] * y, start**2
    base_mean, base_variance = mean, variance
    for a, b, c, s, commit in zip(table.A, table.B, table.C, table.S, table.commit, strict=True):
        if commit:
            base_mean, base_variance = a * base_mean + (b + c) * y, a * a * base_variance + s * s
    return base_mean, base_variance
