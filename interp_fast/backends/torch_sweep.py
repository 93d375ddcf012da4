"""Posteriors of queries on a device of torch: products over all rows, and what they leave open decided row by row.

Products are formed in the type of the rows (float32 for what is stored in fewer bits) and give logits and what these
may be off by. Queries of which few rows can count are answered from those rows alone (:mod:`.torch_near`). For the
others the heaviest rows are scored anew, the sums over all rows are formed by a second product, and both are kept where
what rounding costs is far below what is promised; else products in float64 follow, and where even these will not do,
row by row again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import torch

from . import torch_device
from .torch_near import State, exactly_squared, listed, near, scales, squared, weights_summed
from .torch_rows import LONGEST, Data, Queries, roundoff, weighted

__all__ = ["batches", "chunk", "nearest", "posterior"]

FEW, SHARE = 32, 64  # so many rows, or one of so many, are few: a second product over all would cost more
_HEAD = 8  # rows scored anew beside those that are asked for
_LISTED = 64  # of longer lists every row that counts is scored by itself
_UNDERFLOW = 745.0  # nats below which a weight vanishes
_OFF = frozenset({"gap", "log_rest", "ess", "entropy", "variance", "jvp"})
_VECTORS = frozenset({"mean", "variance", "scatter", "jvp"})


def chunk(device: torch.device, n: int, d: int, k: int) -> int:
    """Queries whose logits, of n rows, are held at a time."""
    return max(1, torch_device.workspace(device) // (8 * max(4 * n, 4 * d * min(n, max(2, k) + _HEAD))))


def posterior(q: Queries, data: Data, want: set[str], k: int) -> dict[str, Any]:
    """The outputs ``want`` of the kernel contract, with lists of ``k`` rows, as tensors on the device."""
    m, (n, d) = len(q), data.rows.shape
    out: dict[str, Any] = {}
    todo = torch.arange(m, device=data.device)
    for kind in [torch.float64] if q.still else dict.fromkeys((data.type, torch.float64)):
        left = []
        for some in todo.split(chunk(data.device, n, d, k)):
            here = q if len(some) == m else q.some(some)
            for at, state in _chunk(here, data, kind, want, k):
                if state is None:
                    left.append(some[at])
                else:
                    _put(out, some[at], outputs(here.some(at), data, state, want, k), m)
        if not left:
            break
        todo = torch.cat(left)
    return out


def _put(out: dict[str, Any], some: Any, answer: dict[str, Any], m: int) -> None:
    for name, values in answer.items():
        if name not in out:
            out[name] = torch.empty((m, *values.shape[1:]), dtype=values.dtype, device=values.device)
        out[name][some] = values


def _chunk(q: Queries, data: Data, kind: torch.dtype, want: set[str], k: int) -> list[tuple[Any, State | None]]:
    """Which of some queries there is a state of now; None where products of this type will not do."""
    n, last_way = len(data.log_w), kind == torch.float64
    logits, most, usual = q.logits(data, kind)
    size = min(n, max(2, k) + _HEAD)
    if q.still:  # all rows are as near: by weight, the lowest at ties
        head = data.log_w.sort(descending=True, stable=True).indices[:size].expand(len(q), size)
    else:
        head = logits.topk(size, dim=1).indices
    reach = torch.zeros_like(q.cut) if q.limit else q.cut.clamp(max=_UNDERFLOW)
    last = min(n, max(2, k) if k > 0 or _OFF & want else 1) - 1
    if _OFF & want and n > 1:  # a copy of the heaviest row says nothing about the variance, and cuts nothing
        two = head[:, :2]
        nearness = logits.gather(1, two) - data.log_w[two]
        reach = torch.where((nearness[:, 0] - nearness[:, 1]).abs() > 2 * most, reach, _UNDERFLOW)
    floor = logits.gather(1, head[:, 0 if q.limit else last][:, None])[:, 0] - 2 * most - reach
    count = ((logits >= floor[:, None]) & (logits > -math.inf)).sum(dim=1)
    known = [max(c, min(n, max(2, k))) for c in count.tolist()]  # what is done next depends on it
    few = n if k > _LISTED else max(FEW, n // SHARE)
    narrow, wide = [m for m, c in enumerate(known) if c <= few], [m for m, c in enumerate(known) if c > few]
    found: list[tuple[Any, State | None]] = []
    if wide and q.limit:
        narrow, wide, left = ([*narrow, *wide], [], []) if last_way else (narrow, [], wide)
        if left:
            found.append((_index(left, data), None))
    if wide:
        at = _index(wide, data)
        state, good = _summed(q.some(at), data, kind, logits[at], head[at], most[at], usual[at], want, k)
        accepted = good.tolist()
        fine = [place for place, yes in enumerate(accepted) if yes]
        bad = [m for m, yes in zip(wide, accepted, strict=True) if not yes]
        if fine:
            kept = _index(fine, data)
            found.append((at[kept], {name: values[kept] for name, values in state.items()}))
        if bad and last_way:
            narrow += bad
        elif bad:
            found.append((_index(bad, data), None))
    for batch in batches(narrow, known, q.x.shape[1], data.device):
        at, rows = _index(batch, data), known[batch[-1]]
        index = logits[at].topk(rows, dim=1).indices.sort(dim=1).values
        state = near(q.some(at), data, index, want, k)
        lost = (n - count[at]) * (-reach[at]).exp()
        state["dropped"] = torch.where(reach[at] < _UNDERFLOW, lost, 0.0).clamp(max=0.0 if q.limit else 1.0)
        state["live"] = torch.full_like(lost, rows)
        found.append((at, state))
    return found


def _index(places: list[int], data: Data) -> Any:
    return torch.tensor(places, dtype=torch.int64, device=data.device)


def batches(places: list[int], rows: list[int], d: int, device: torch.device) -> Iterator[list[int]]:
    """Places by how many rows count there, fewest first: as many as fit with those of the last, and at least one."""
    places, fits = sorted(places, key=lambda m: rows[m]), torch_device.workspace(device) // (32 * d)
    first = 0
    for end in range(1, len(places) + 1):
        if end == len(places) or (end + 1 - first) * rows[places[end]] > fits:
            yield places[first:end]
            first = end


def _summed(
    q: Queries, data: Data, kind: torch.dtype, logits: Any, head: Any, most: Any, usual: Any, want: set[str], k: int
) -> tuple[State, Any]:
    """The state by sums over all rows, and where it is good enough. ``logits`` is used up."""
    n = logits.shape[1]
    lowest = logits.gather(1, head[:, -1:])[:, 0]
    last = logits.gather(1, head[:, min(n, max(2, k)) - 1][:, None])[:, 0]
    good = (lowest < last - 2 * most) | q.still if head.shape[1] < n else torch.ones_like(most, dtype=torch.bool)
    index = head.sort(dim=1).values
    c = exactly_squared(q, data, index)  # next to logits that know alpha x_i without its rounding
    own = data.log_w[index]
    if not q.still:
        own -= c / (2 * q.s2)[:, None]
    logits.scatter_(1, index, own)
    at = own.argmax(dim=1, keepdim=True)
    top = index.gather(1, at)
    highest = own.gather(1, at)
    logits.scatter_(1, top, -math.inf)
    following = logits.amax(dim=1, keepdim=True)
    e = logits.sub_(following).exp_()
    x_top = data.values(top[:, 0])
    state: State = {
        "top": top[:, 0], "score": c.gather(1, at)[:, 0], "log_w": data.log_w[top[:, 0]],
        "lead": (following - highest)[:, 0], "point": x_top,
    }  # fmt: skip
    state |= weights_summed(e, want)
    rest = state["rest"]
    total, along, pull = weighted(e, data, kind, q.u)
    at_top = x_top - data.center
    state["shift"] = total - rest[:, None] * at_top
    own_square = (at_top * at_top).sum(dim=1)
    state["spread"] = torch.mv(e, data.squares) + rest * own_square - 2 * (at_top * total).sum(dim=1)
    state["along"], state["pull"] = along, pull
    if q.u is not None:
        of_top = (at_top * q.u).sum(dim=1)
        state["along"] = along - rest * of_top
        state["pull"] = pull - at_top * along[:, None] - of_top[:, None] * state["shift"]
    state |= listed(index, own - highest, k)
    state["dropped"], state["live"] = torch.zeros_like(rest), torch.full_like(rest, n)
    return state, good & _accepted(q, data, kind, state, lowest, highest[:, 0], usual, want)


def _accepted(
    q: Queries, data: Data, kind: torch.dtype, state: State, lowest: Any, highest: Any, usual: Any, want: set[str]
) -> Any:
    """Where roundings of logits of rows beside the head cost far less than is promised."""
    promise, (_, total, scale) = data.promise, scales(state)
    variance = scale * state["spread"] - (scale[:, None] * state["shift"]).square().sum(dim=1)
    good = usual <= promise.density / 8
    heaviest = (lowest - highest).exp() / total  # of the rows beside the head
    moved = usual * (heaviest * variance.clamp(min=0.0)).sqrt()
    # And what rounding leaves of the rows themselves, which are counted from the center.
    away = (state["point"] - data.center).square().sum(dim=1).sqrt() * state["rest"]
    moved += roundoff(kind) * scale * (away + (state["rest"] * state["spread"].clamp(min=0.0)).sqrt())
    s = q.s2.sqrt() / q.alpha  # sigma / alpha
    good &= moved <= torch.minimum(0.05 * promise.noise * s, torch.full_like(s, 0.1 * promise.denoiser * data.radius))
    if want & {"variance", "jvp"}:
        # Sums about the center leave this much of rows that are so near to the heaviest one, or to each other.
        narrow = 2.0**8 * roundoff(kind) / promise.off_weights * data.reach**2
        good &= (state["spread"] >= narrow * state["rest"]) & (variance >= narrow * scale * state["rest"])
    if "scatter" in want:  # a difference of squares about the center, three of them, each rounded
        # 16 roundings, against a quarter of the promise; with more, more queries would go to float64.
        squares = state["spread"] + state["rest"] * (state["point"] - data.center).square().sum(dim=1)
        good &= 16 * roundoff(kind) * scale * squares <= promise.scatter / 4 * variance.clamp(min=data.radius**2)
    return good


def outputs(q: Queries, data: Data, state: State, want: set[str], k: int) -> dict[str, Any]:
    """The outputs of the kernel contract from states."""
    if "log_norm" in want:  # has the distance of the heaviest row to itself, far from the origin too
        state["score"] = exactly_squared(q, data, state["top"][:, None])[:, 0]
    ratio, total, scale = scales(state)
    lead, rest = state["lead"], state["rest"]
    out = {"index": state["top"], "dropped": state["dropped"], "ess": total**2 / (1.0 + ratio**2 * state["rest2"])}
    log_total = (ratio * rest).log1p()
    if q.limit:
        out["log_norm"] = torch.full_like(lead, -math.inf)
        out["gap"] = torch.zeros_like(lead).masked_fill_(lead == -math.inf, math.inf)
    else:
        out["log_norm"] = state["log_w"] - state["score"] / (2 * q.s2) + log_total
        out["gap"] = 0.0 - lead
    out["log_rest"] = rest.log() + lead - log_total
    heat = torch.where(ratio > 0, scale * (state["heat"] - lead * rest), 0.0)
    out["entropy"] = log_total + heat
    out["work"] = (1.0 + state["live"] / len(data.log_w)) / 2
    if want & _VECTORS:
        shift = scale[:, None] * state["shift"]
        out["mean"] = state["point"] + shift
        variance = (scale * state["spread"] - (shift * shift).sum(dim=1)).clamp(min=0.0)
        out["variance"] = out["scatter"] = variance
        if q.u is not None:
            out["jvp"] = scale[:, None] * state["pull"] - (scale * state["along"])[:, None] * shift
    if k > 0:
        out["top_index"], out["top_weight"] = _lists(state, total, len(data.log_w), k)
    return {name: out[name] for name in want if name in out}


def _lists(state: State, total: Any, n: int, k: int) -> tuple[Any, Any]:
    """The k heaviest rows and their weights; the lowest rows follow where no more have any, or could."""
    index, lead = state["listed_index"], state["listed"]
    for m in torch.nonzero(lead[:, -1] == -math.inf)[:, 0].tolist():
        held = index[m][lead[m] > -math.inf]
        lowest = torch.arange(min(n, k + len(held)), device=index.device)
        index[m, len(held) :] = lowest[~torch.isin(lowest, held)][: k - len(held)]
    return index, lead.exp() / total[:, None]


def nearest(x: Any, data: Data, alpha: float, k: int) -> tuple[Any, Any]:
    """The rows i with alpha x_i nearest to queries (M, d), and the squared distances: (M, k) each."""
    (m, d), n = x.shape, len(data.log_w)
    # Rows of no weight count here, and may be far longer than those that `reach` and `unit` are about.
    longest = math.sqrt(float(data.squares.max()))
    everyone = dataclasses.replace(data, log_w=torch.zeros_like(data.log_w), reach=max(data.reach, longest))
    held = 1 / LONGEST <= longest / data.unit <= LONGEST
    ones = torch.ones(m, dtype=torch.float64, device=data.device)
    q = Queries(x, alpha * ones, 0.0 * ones, ones, None, limit=True, still=alpha == 0)
    index = torch.empty((m, k), dtype=torch.int64, device=data.device)
    squares = torch.empty((m, k), dtype=torch.float64, device=data.device)
    todo, few = torch.arange(m, device=data.device), max(FEW, n // SHARE, k)
    for kind in dict.fromkeys((data.type if held else torch.float64, torch.float64)):
        left = []
        for some in todo.split(chunk(data.device, n, d, k)):
            here = q.some(some)
            logits, most, _ = here.logits(everyone, kind)
            floor = logits.topk(k, dim=1).values[:, -1] - 2 * most
            known = [max(c, k) for c in (logits >= floor[:, None]).sum(dim=1).tolist()]
            later = [place for place, c in enumerate(known) if c > few] if kind != torch.float64 else []
            if later:
                left.append(some[_index(later, data)])
            for batch in batches(sorted(set(range(len(known))) - set(later)), known, d, data.device):
                at = _index(batch, data)
                rows = logits[at].topk(known[batch[-1]], dim=1).indices.sort(dim=1).values
                c, order = squared(here.some(at), data, rows).sort(dim=1, stable=True)
                index[some[at]], squares[some[at]] = rows.gather(1, order[:, :k]), c[:, :k]
        if not left:
            break
        todo = torch.cat(left)
    return index, squares
