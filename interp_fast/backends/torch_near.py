"""The rows that count of each query, one by one: differences in float64, and in pairs of floats where rounding those
would decide the answer."""

from __future__ import annotations

import math
from typing import Any

import torch

from . import reference, torch_device
from .exact_sums import two_product, two_sum
from .torch_rows import Data, Queries

__all__ = ["State", "exactly_squared", "farther", "listed", "near", "squared"]

# Spread over variance beyond which digits went into the distance from the point: at four deviations two bits of a mean,
# four of a variance.
_FAR = 16.0
# Pairs of floats leave so much of what differences are formed of. Logits are known well where that is so many nats of
# them, or so much of a difference.
_KNOWN, _TELLING, _ROUNDING = 2.0**-100, 2.0**-36, 2.0**-40
State = dict[str, Any]  # what is known of each query once its rows are summed up; see :func:`near`


def squared(q: Queries, data: Data, index: Any) -> Any:
    """|x - alpha x_i|^2 of the rows ``index`` (M, K), by differences in float64: (M, K)."""
    c = torch.empty(index.shape, dtype=torch.float64, device=data.device)
    for block in _blocks(q, index, 4):
        rows = data.values(index[:, block])
        rows *= -q.alpha[:, None, None]
        rows += q.x[:, None, :]
        c[:, block] = (rows * rows).sum(dim=-1)
    return c


def exactly_squared(q: Queries, data: Data, index: Any) -> Any:
    """The same, rounded once."""
    x, c = q.x[:, None, :], torch.empty(index.shape, dtype=torch.float64, device=data.device)
    for block in _blocks(q, index, 16):
        away, low = _away(x, *two_product(q.alpha[:, None, None], data.values(index[:, block])))
        square, rest = two_product(away, away)
        c[:, block] = _sum(square, rest + low * (2 * away + low))
    return c


def farther(q: Queries, data: Data, index: Any, base: Any) -> Any:
    """|x - alpha x_i|^2 less that of the row ``base`` (M, 1): so well that logits are known to 2^-36 or to a rounding.

    alpha (x_b - x_i) . ((x - alpha x_i) + (x - alpha x_b)), all of it in pairs of floats; no operation is fused, as
    torch runs each by itself. What these do not tell the reference does.
    """
    x, alpha = q.x[:, None, :], q.alpha[:, None, None]
    found = torch.empty(index.shape, dtype=torch.float64, device=data.device)
    unknown = torch.empty_like(found)
    base_row = data.values(base)
    there = two_product(alpha, base_row)
    first, first_low = _away(x, *there)
    for block in _blocks(q, index, 24):
        rows = data.values(index[:, block])
        here = two_product(alpha, rows)
        away, low = _away(x, *here)
        both, both_low = two_sum(away, first)
        both_low = both_low + (low + first_low)
        apart, apart_low = two_sum(base_row, -rows)  # first: alpha times rows that are close would be rounded twice
        delta, delta_low = two_product(alpha, apart)
        delta_low = delta_low + alpha * apart_low
        high, rest = two_product(delta, both)
        found[:, block] = _sum(high, rest + (delta * both_low + delta_low * (both + both_low)))
        unknown[:, block] = _KNOWN * (delta * (x.abs() + here[0].abs() + there[0].abs())).abs().sum(dim=-1)
    told = (unknown <= _TELLING * 2 * q.s2[:, None]) | (found.abs() > unknown / _ROUNDING)
    for m in torch.nonzero(~told.all(dim=1))[:, 0].tolist():
        some = torch.nonzero(~told[m])[:, 0]
        host = [rows.cpu().numpy() for rows in (q.x[m], data.values(index[m, some]), data.values(base[m])[0])]
        better = reference.exact_differences(host[0], float(q.alpha[m]), *host[1:])
        found[m, some] = torch.from_numpy(better).to(data.device)
    return found


def _away(x: Any, product: Any, product_low: Any) -> tuple[Any, Any]:
    """x less a product, in pairs."""
    away, low = two_sum(x, -product)
    return away, low - product_low


def _sum(high: Any, low: Any) -> Any:
    """Of pairs, over coordinates, added in halves."""
    while (d := high.shape[-1]) > 1:
        half = (d + 1) // 2
        total, lost = two_sum(high[..., : d - half], high[..., half:])
        lost = lost + (low[..., : d - half] + low[..., half:])
        high = torch.cat([total, high[..., d - half : half]], dim=-1)
        low = torch.cat([lost, low[..., d - half : half]], dim=-1)
    return high[..., 0] + low[..., 0]


def _blocks(q: Queries, index: Any, arrays: int) -> list[slice]:
    """Of rows, so that this many arrays of them fit into the workspace."""
    (m, k), d = index.shape, q.x.shape[1]
    size = max(1, torch_device.workspace(q.x.device) // (8 * arrays * m * d))
    return [slice(first, min(first + size, k)) for first in range(0, k, size)]


def near(q: Queries, data: Data, index: Any, want: set[str], k: int) -> State:
    """The state of queries of which the rows ``index`` (M, K), increasing, are all that count.

    With e_i = exp(l_i - l of the runner-up) of the rows beside the heaviest one: ``top`` (M,) its number, ``score`` its
    c and ``log_w`` its weight, ``lead`` = l of the runner-up less its own, ``rest`` = sum e, ``rest2`` = sum e^2,
    ``heat`` = -sum e log e; about its row, or the mean where that is an outlier among many, ``point``: ``shift`` = sum
    e_i (x_i - point), ``spread`` = sum e_i |x_i - point|^2, ``along`` and ``pull``; and ``listed``, the k heaviest with
    their logits less its own.
    """
    found, lead, apart = _summed(q, data, index, want, k, exact=q.limit)
    if q.limit:
        return found
    again = torch.nonzero(_matters(q, data, index, found, lead, apart, want))[:, 0]
    if len(again):
        better, _, _ = _summed(q.some(again), data, index[again], want, k, exact=True)
        for name, values in found.items():
            values[again] = better[name]
    return found


def _summed(q: Queries, data: Data, index: Any, want: set[str], k: int, *, exact: bool) -> tuple[State, Any, Any]:
    """The state; and of each row its logit, less that of the heaviest, and |x_i - x_top|^2."""
    c = squared(q, data, index)
    log_w = data.log_w[index]
    seen = log_w > -math.inf
    nearest = torch.where(seen, c, math.inf).argmin(dim=1, keepdim=True)
    apart = _told(q, data, index, nearest, seen) if exact else c - c.gather(1, nearest)
    if q.limit:
        least = torch.where(seen, apart, math.inf).amin(dim=1, keepdim=True)
        logits = torch.where(apart == least, log_w, -math.inf)
    else:
        logits = log_w - apart / (2 * q.s2)[:, None]
    at = logits.argmax(dim=1, keepdim=True)  # the first of equal ones
    off = logits.scatter(1, at, -math.inf)
    highest = off.amax(dim=1, keepdim=True)
    e = torch.where(off > -math.inf, (off - highest).exp(), 0.0)
    top = index.gather(1, at)
    x_top = data.values(top[:, 0])
    lead = logits - logits.gather(1, at)
    found: State = {
        "top": top[:, 0], "score": c.gather(1, at)[:, 0], "log_w": log_w.gather(1, at)[:, 0],
        "lead": (highest - logits.gather(1, at))[:, 0], "point": x_top, "next": c.gather(1, off.argmax(1, True))[:, 0],
    }  # fmt: skip
    found |= weights_summed(e, want)
    about, apart = _vectors(q, data, index, e, x_top, want)
    found |= about
    _, _, scale = scales(found)
    spread = scale * about["spread"]
    lost = spread > _FAR * (spread - (scale[:, None] * about["shift"]).square().sum(dim=1))
    if len(far := torch.nonzero(lost & (scale > 0))[:, 0]):  # again about the mean, the heaviest row included
        found["point"][far] += scale[far, None] * about["shift"][far]
        e = e.scatter(1, at, (-found["lead"]).exp()[:, None])[far]
        better, _ = _vectors(q.some(far), data, index[far], e, found["point"][far], want)
        for name, values in better.items():
            found[name][far] = values
    return found | listed(index, lead, k), lead, apart


def _told(q: Queries, data: Data, index: Any, nearest: Any, seen: Any) -> Any:
    """How much farther rows are than one within a nat of the nearest that is seen: the one that is by distances in
    float64 may be so far from that that they leave no digits to the weights."""
    apart = farther(q, data, index, index.gather(1, nearest))
    for _ in range(reference.ROUNDS):
        first = torch.where(seen, apart, math.inf).argmin(dim=1, keepdim=True)
        some = torch.nonzero(apart.gather(1, first)[:, 0] < -2 * q.s2)[:, 0]
        if len(some) == 0:
            break
        apart[some] = farther(q.some(some), data, index[some], index[some].gather(1, first[some]))
    return apart


def _vectors(q: Queries, data: Data, index: Any, e: Any, point: Any, want: set[str]) -> tuple[State, Any]:
    """``shift``, ``spread``, ``along`` and ``pull`` about a point for each query; and |x_i - point|^2 of each row."""
    found = {"shift": torch.zeros_like(point), "along": torch.zeros_like(q.s2), "pull": torch.zeros_like(point)}
    apart = torch.empty_like(e)
    for block in _blocks(q, index, 4):
        delta = data.values(index[:, block]) - point[:, None, :]
        part = e[:, None, block]
        apart[:, block] = (delta * delta).sum(dim=-1)
        if want & {"mean", "variance", "scatter", "jvp"}:
            found["shift"] += torch.bmm(part, delta)[:, 0]
        if q.u is not None:
            of_u = torch.bmm(delta, q.u[:, :, None])[:, :, 0] * part[:, 0]
            found["along"] += of_u.sum(dim=1)
            found["pull"] += torch.bmm(of_u[:, None, :], delta)[:, 0]
    return found | {"spread": (e * apart).sum(dim=1)}, apart


def scales(state: State) -> tuple[Any, Any, Any]:
    """exp(lead), the inverse of the largest weight, and what turns sums of e into sums of weights."""
    ratio = state["lead"].exp()
    total = 1.0 + ratio * state["rest"]
    return ratio, total, ratio / total


def weights_summed(e: Any, want: set[str]) -> State:
    """``rest``, ``rest2`` and ``heat``."""
    found = {"rest": e.sum(dim=1)}
    found["rest2"] = (e * e).sum(dim=1) if "ess" in want else torch.zeros_like(found["rest"])
    found["heat"] = -torch.xlogy(e, e).sum(dim=1) if "entropy" in want else torch.zeros_like(found["rest"])
    return found


def listed(index: Any, lead: Any, k: int) -> State:
    """The k heaviest of rows in increasing order, and their logits less that of the heaviest."""
    if k == 0:
        return {}
    lead, order = lead.sort(dim=1, descending=True, stable=True)
    return {"listed_index": index.gather(1, order[:, :k]), "listed": lead[:, :k].contiguous()}


def _matters(q: Queries, data: Data, index: Any, found: State, lead: Any, apart: Any, want: set[str]) -> Any:
    """Where rounding the distances may cost more of an answer than it may, as in the reference."""
    nats = math.log(index.shape[1]) + data.log_w[index].amax(dim=1) - found["log_w"]
    of_top, of_next = (_rounding(q, c + 2 * q.s2 * nats) for c in (found["score"], found["next"]))
    slack = reference.SLACK * of_top[:, None]
    others = lead.scatter(1, lead.argmax(1, True), -math.inf)
    p = (others + slack).clamp(max=0.0).exp() / (lead - slack).exp().sum(dim=1, keepdim=True).clamp(min=1.0)
    spread = (p * apart).sum(dim=1).sqrt()
    bad = of_top * q.alpha * spread / q.s2.sqrt() > data.tolerated
    bad |= of_top * spread > data.promise.denoiser * data.radius / 4  # where noise predictions see nothing of it
    if want & {"gap", "log_rest", "ess", "entropy", "variance", "jvp"}:
        bad |= of_next > data.tolerated * (-1e-3 * found["lead"]).clamp(min=1.0)
    return bad & (found["lead"] > -math.inf)


def _rounding(q: Queries, c: Any) -> Any:
    """What float64 leaves in a logit at the squared distance c, as in the reference."""
    size = q.x.norm(dim=1)
    away = c.sqrt() + 2.0**-53 * size
    return 2.0**-53 * away * (away + 2 * size) / (2 * q.s2)
