"""When one training row has won, for good or at a step: certificates, and the bound on where a run then lands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _arrays, _shape
from .._results import Record
from .._step_table import StepTable
from ..backends import State
from ..field import Field, oracle_of
from ._cells import SPARE, STARTED, cells, nearest_points, points_of, shrinkage, without_noise

__all__ = ["DiscretizationBound", "MarginCondition", "Trapping", "discretization_bound", "margin_condition", "trapping"]

Float = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False, eq=False)
class Trapping(Record):
    """What :func:`trapping` returns.

    Attributes
    ----------
    index : (M,) int64
        The nearest point, by its lowest row.
    trapped : (M,) bool
        The certificate holds: every later state of a run stays with this point.
    leakage : (M,)
        Bound on |D - x_index| at x, and at every later state of a trapped run; inf outside the cell.
    q : float
    """

    index: Any
    trapped: Any
    leakage: Any
    q: float


def trapping(field: Field, x: Any, t: Any, q: float = 0.25, *, error: float = 0.0) -> Trapping:
    """Has the run through x at time t chosen its training row for good? A certificate, one-sided: False proves nothing.

    With y = x / alpha, rho = alpha / sigma, D_ij = |x_i - x_j| and i the nearest point, it holds when y lies in the
    Voronoi cell of x_i shrunk by 2q, (y - x_i).(x_j - x_i) <= q D_ij^2 for all j, and

        leakage + error <= q min_j D_ij,    leakage = sum_{j != i} (pi_j / pi_i) D_ij exp(-rho^2 D_ij^2 (1/2 - q)).

    Then under every deterministic table that is exact for constant D and has A, B, C >= 0 (``ddim``,
    ``exponential_heun``; ``euler`` and ``heun`` where alpha = t and h <= 1 - t) all later states stay in the cell, the
    heaviest row stays i, and |D - x_i| <= leakage: states are convex combinations of points of a convex set.

    Parameters
    ----------
    field : Field
        Of bandwidth 0. Equal rows are one point.
    x : (M, d) or (d,) array, or of the field's event
    t : float or (M,)
    q : float in (0, 1/2)
        Small q: a small cell, soon certain of what it holds. Large q: a large cell, certain later.
    error : float
        A model whose denoiser is within ``error`` of the oracle's is trapped too.

    Raises
    ------
    ValueError
        The bandwidth is not 0, or an argument is out of range.

    Notes
    -----
    4 N d flops and N exponentials for each query. A relative 1e-6 is kept in hand for rounding.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> itf.theory.trapping(field, np.array([[0.3, 0.2], [1.0, 0.0]]), 0.5).trapped
    array([ True, False])
    """
    data = points_of(field, "trapping")
    q, error = shrinkage(q), _arrays.number(error, "error", least=0.0)
    wide, form = _shape.queries(x, field.event, device=field.device)
    times, _ = _arrays.times(t, len(wide))
    c = field.schedule(np.array(np.broadcast_to(times, len(wide))))
    index = nearest_points(data, wide, c.alpha)
    with np.errstate(divide="ignore"):
        rho = c.alpha / c.sigma
    started = c.alpha > STARTED
    y = wide / np.where(started, c.alpha, 1.0)[:, None]
    found = cells(data, index, y, rho[:, None], q)
    inside = found.inside & started
    leakage = np.where(inside, found.leakage[:, 0], np.inf)
    trapped = inside & (leakage + error <= q * found.nearest * (1.0 - SPARE))
    return Trapping(form.each(data.number(found.index)), form.each(trapped), form.each(leakage), q)


@dataclass(frozen=True, repr=False, eq=False)
class MarginCondition(Record):
    """What :func:`margin_condition` returns.

    Attributes
    ----------
    holds : (M,) bool
    gap : (M,)
        Log of the heaviest weight over the runner-up's, in nats.
    required : float
        log(1 / sqrt(h)).
    margin : (M,)
        The gap in squared distance, 2 S gap with S = sigma^2 + alpha^2 bandwidth^2.
    leakage : (M,)
        Bound on the distance of the posterior mean from the heaviest row, 2 reach (N - 1) exp(-gap).
    """

    holds: Any
    gap: Any
    required: float
    margin: Any
    leakage: Any


def margin_condition(field: Field, x: Any, t: Any, h: float) -> MarginCondition:
    """Is the gap of the posterior at least log(1 / sqrt(h)), so that the runner-up's weight is at most sqrt(h)?

    The condition of Li, Lin and Yu (2026) for steps of size h, free of their schedule. Where it holds, D is within
    diam (N - 1) sqrt(h) of the heaviest row. It cannot hold at alpha = 0, where all weights are those of the data.

    Parameters
    ----------
    field : Field
        With a bandwidth the statement is about the posterior of the training rows.
    x : (M, d) or (d,) array, or of the field's event
    t : float or (M,)
    h : float
        Step size in (0, 1].

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]))
    >>> itf.theory.margin_condition(field, np.array([0.3, 0.2]), 0.6, h=0.01).holds
    np.True_
    """
    step = _arrays.number(h, "h", most=1.0)
    if step <= 0:
        msg = f"h must lie in (0, 1], the size of a step; got {h}."
        raise ValueError(msg)
    data = oracle_of(field).training_set
    post = field.posterior(_arrays.as_array(x, "x", device=field.device)[0], t)
    c = field.schedule(np.asarray(t, np.float64))
    s2 = np.asarray(c.sigma) ** 2 + (np.asarray(c.alpha) * field.bandwidth) ** 2
    required = -0.5 * math.log(step)
    with np.errstate(invalid="ignore"):
        margin = np.where(s2 > 0, 2.0 * s2 * post.gap, np.nan)[()]
    leakage = 2.0 * data.moments.reach * (field.N - 1) * np.exp(-post.gap)
    return MarginCondition(post.gap >= required, post.gap, required, margin, leakage)


@dataclass(frozen=True, repr=False, eq=False)
class DiscretizationBound(Record):
    """What :func:`discretization_bound` returns.

    Attributes
    ----------
    bound : (M,)
        On |x_R - alpha_R x_index|; inf where not valid.
    valid : (M,) bool
        The run was trapped at some committed state, and the table keeps what is trapped.
    index : (M,) int64
        The point it is trapped at, by its lowest row; -1 where not valid.
    time : (M,)
        When; nan where not valid.
    q : float
    """

    bound: Any
    valid: Any
    index: Any
    time: Any
    q: float


def discretization_bound(field: Field, steps: StepTable, x: Any, q: float = 0.25) -> DiscretizationBound:
    """Bound on the distance of a deterministic run's endpoint from its training row.

    The oracle's run from x is followed to the first committed state m at which it is trapped (see :func:`trapping`) at
    some x_i; from there, with eps(rho) the leakage in the cell and Phi the products of A over later committed rows,

        |x_R - alpha_R x_i| <= |Phi_m| |x_m - alpha_m x_i|
                               + sum_{r >= m} |Phi_r| (|B_r| eps(rho_r) + |C_r| eps(rho_{r-1})).

    For Euler with sigma^2 = 1 - t the first term is at most sqrt(h / (pi (1 - t_m))) |x_m - alpha_m x_i|: the sqrt(h)
    law, with its constant and no assumption. On ``Linear`` it is 0.

    Parameters
    ----------
    field : Field
        Of bandwidth 0.
    steps : StepTable
        From the trapped state on, rows must be deterministic, exact for constant D, and have A >= 0 and B + C >= 0;
        where C < 0 (``multistep``) the leakage must be smaller by (B + C) / (|B| + |C|). Otherwise nothing is valid.
        Noise of rows before is left out of the run.
    x : (M, d) or (d,) array, or of the field's event
        Starting points at ``steps.times[0]``.
    q : float in (0, 1/2)

    Notes
    -----
    Up to 8 N d flops for each query and row of the table.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> bridge = itf.LatentBridge(1.0)
    >>> field = itf.Field(np.array([[0.0, 0.0], [4.0, 0.0]]), bridge)
    >>> x0, steps = np.array([[0.5, 1.0]]), itf.euler(bridge, 50)
    >>> rep = itf.theory.discretization_bound(field, steps, x0)
    >>> out = itf.sample(field, steps, x0=x0)
    >>> bool(np.linalg.norm(out.x - [4.0, 0.0] * out.index) <= rep.bound[0] < 0.2)
    True
    """
    data = points_of(field, "discretization_bound")
    q = shrinkage(q)
    wide, form = _shape.queries(x, field.event, device=field.device)
    path, rows, n = without_noise(steps), len(steps), len(wide)
    rho = np.divide(steps.alpha, steps.sigma, out=np.full(rows + 1, np.inf), where=steps.sigma > 0)
    strain = _strain(steps)
    bound, time, index = np.full(n, np.inf), np.full(n, np.nan), np.full(n, -1)
    state, cut = State.start(wide), data.cut(field.tol)
    phi = np.abs(steps.propagator())
    here = np.full(n, -1)  # whose cell the evaluated state lies in; -1: none, or not looked at
    for m in range(rows):
        lead = m - 1 if steps.C[m] != 0 else m
        above, here, open_ = here, np.full(n, -1), np.flatnonzero(index < 0)
        if (m == 0 or steps.commit[m - 1]) and steps.alpha[m] > STARTED and np.isfinite(strain[m]) and len(open_):
            at = state.base[open_]
            y = at / steps.alpha[m]
            nearest = nearest_points(data, at, np.full(len(at), steps.alpha[m]))
            found = cells(data, nearest, y, np.full((len(at), 1), rho[lead]), q)
            enters = found.inside & (strain[m] * found.leakage[:, 0] <= q * found.nearest * (1.0 - SPARE))
            if lead < m:
                enters &= above[open_] == found.index
            here[open_] = np.where(found.inside, found.index, -1)
            won = open_[enters]
            if len(won):
                index[won], time[won] = found.index[enters], steps.times[m]
                later = np.tile(rho[lead:rows], (len(won), 1))
                leakage = np.zeros((len(won), rows))
                leakage[:, lead:] = cells(data, found.index[enters], y[enters], later, q).leakage
                inputs = np.abs(steps.B) * leakage
                inputs[:, 1:] += np.abs(steps.C[1:]) * leakage[:, :-1]
                residual = np.linalg.norm(at[enters] - steps.alpha[m] * data.values(index[won]), axis=1)
                keep = abs(float(np.prod(steps.A[m:][steps.commit[m:]])))
                bound[won] = (keep * residual + inputs[:, m:] @ phi[m:]) * (1.0 + SPARE)
        if (index >= 0).all():
            break
        data.run_steps(state, path, m, m + 1, key=None, first_sample=0, error=None, cut=cut)
    known = np.where(index >= 0, data.number(index), -1)
    return DiscretizationBound(form.each(bound), form.each(index >= 0), form.each(known), form.each(time), q)


def _strain(steps: StepTable) -> Float:
    """(R,) How far rows >= r can stretch the leakage, max (|B| + |C|) / (B + C); inf where one may leave the cell."""
    pull, size = steps.B + steps.C, np.abs(steps.B) + np.abs(steps.C)
    good = (steps.S == 0) & (steps.A >= 0) & (pull >= 0) & (np.abs(steps._defects()) <= 1e-12 * steps.alpha[1:])
    good &= (pull > 0) | (size == 0)
    stretch = np.where(good, np.divide(size, pull, out=np.ones_like(pull), where=pull > 0), np.inf)
    worst: Float = np.maximum.accumulate(stretch[::-1])[::-1]
    return worst
