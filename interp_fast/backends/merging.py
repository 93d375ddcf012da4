"""Posteriors over disjoint sets of rows, and from them the posterior over all of these rows.

A part is a dict of arrays over the queries: the answers of a backend about some rows (:func:`part`) and what merging
takes. What parts are compared by are the squared distances of their heaviest rows, in sums of two floats from the rows
as given, so that equal rows of different parts tie exactly and far ones as the rows of one part do.

==================  ====================================================================================================
index, mean, ...    as in the kernel contract, of these rows, as far as asked for; index counts the rows of the whole
log_top             log of the largest weight
log_w, c, c_low     of the heaviest row: its log weight as given, and c + c_low = |x - alpha x_i|^2
top_index,          the k heaviest rows and the same of them, (M, k); k >= 1
top_log, top_log_w,
top_c, top_c_low
rows, top           how many there are, and how many are to be listed if there are as many
doubt               what the logarithm of the mass of these rows may be off by: an estimate, with a margin
error               the same of the sets that were merged to this one, as far as they count; 0 before; inf where
                    nobody knows which of them is ahead
precise             whether that is an answer in float64 to be merged with such answers
mean_low            what rounding the mean to its floats leaves of it, if some queries are; 0 of others
blur                what that may have cost the mean otherwise, here and in merges
between             sum of w_k |mean_k - mean|^2 over these sets
blurred             what the blur of their means leaves in the variance
spoiled             the largest w_k doubt_k^2 of them
==================  ====================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from .._accuracy import OFF_WEIGHT_NATS
from . import Float, Int, Moments
from .exact_sums import two_product, two_sum
from .reference import UNDERFLOW, logit_rounding

__all__ = [
    "CHAINED",
    "Place",
    "blank",
    "fill",
    "finish",
    "in_doubt",
    "in_pairs",
    "merge",
    "part",
    "plain_squares",
    "reduce",
    "shares",
    "squares",
    "unsettled",
]

Kind = TypeVar("Kind")

_OFF_WEIGHTS = {"gap", "log_rest", "ess", "entropy", "variance", "jvp"}
_SPREADS = {"variance", "scatter", "jvp"}  # about the mean
# The largest error of the logarithm of a mass, measured on many sets and then some: in rms errors of its logits, what
# these share and what averages over the rows that count; and in units of rounding what summing alone leaves.
_SHARED, _AVERAGED, _SUMS = 1.25, 3.5, 20.0
_CHAIN = 4.0  # what chains of 64 additions leave of |y| |row| / sqrt(d), in roundings
_KEPT = 0.4  # of what is promised of a mean that backends let the rounding of logits take
# Logits with a larger rms error than this are not left in float32, by any backend.
_COARSE = 2.0**-12
# Squares are formed in float64 where that leaves no more than this share of what is promised of a weight in a logit,
# which moves a weight by a quarter of itself: next to nothing. By so many roundings, those of a sum in pairs: the bound
# is log2 d + 5, which no sum comes near in many dimensions: tests measure less than 4.
_WITHIN, CHAINED = 2.0**-5, 16.0
# Two floats know a square to so much of what one does. Where that is more than so many nats of a logit, or than a
# thousandth of it of one of many nats, nobody knows how much two parts weigh in each other's presence.
_KNOWN, _TELLING = 2.0**-47, 2.0**-36
_DEPTH = 50.0  # nats below which a mean sees nothing of a row
_TERMS = 1 << 14  # formed at a time, in cache
_PART = 0.75  # of what is promised that masses may cost
_COUNTS = 1e-9  # a set with a smaller share of the rest and of the variance cannot spoil either


@dataclass(frozen=True)
class Place:
    """Where the queries are, (M, d) and (M,)."""

    x: Float
    alpha: Float
    s2: Float


class _Promise(Protocol):
    @property
    def noise(self) -> float: ...
    @property
    def denoiser(self) -> float: ...
    @property
    def density(self) -> float: ...
    @property
    def off_weights(self) -> float: ...
    @property
    def skipped(self) -> float: ...
    @property
    def weight(self) -> float: ...


def squares(place: Place, rows: Float, within: float = 0.0) -> tuple[Float, Float]:
    """|x - alpha row|^2 of queries and rows (M, d) as sums of two floats, to 2^-47 of the rounding of one.

    Where logits are known ``within`` this from squares in float64, those and 0; the same of equal rows in any case.
    """
    c = plain_squares(place.x, place.alpha, rows)
    c_low = np.zeros_like(c)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        again = np.flatnonzero(~(CHAINED * logit_rounding(place.x, c, place.s2) <= within))
    for some in (again[cut] for cut in _in_cache(len(again), rows.shape[1])):
        c[some], c_low[some] = _squares(place.x[some], place.alpha[some], rows[some])
    return c, c_low


def _in_cache(m: int, d: int) -> Iterator[slice]:
    size = max(1, _TERMS // d)
    return (slice(first, first + size) for first in range(0, m, size))


def plain_squares(x: Float, alpha: Float, rows: Float) -> Float:
    """In the same order everywhere."""
    out = np.empty(len(x))
    for some in _in_cache(*x.shape):
        away = x[some] - alpha[some, None] * rows[some]
        away *= away
        while away.shape[1] > 1:
            half = (away.shape[1] + 1) // 2
            away[:, : away.shape[1] - half] += away[:, half:]
            away = away[:, :half]
        out[some] = away[:, 0]
    return out


def _squares(x: Float, alpha: Float, rows: Float) -> tuple[Float, Float]:
    product, product_low = two_product(alpha[:, None], rows)
    away, away_low = two_sum(x, -product)
    away_low -= product_low
    high, low = two_product(away, away)
    low += away_low * (2 * away + away_low)
    while high.shape[1] > 1:
        half = (high.shape[1] + 1) // 2
        total, lost = two_sum(high[:, : high.shape[1] - half], high[:, half:])
        lost += low[:, : low.shape[1] - half] + low[:, half:]
        middle = slice(high.shape[1] - half, half)  # of an odd number of terms
        high = np.concatenate([total, high[:, middle]], axis=1)
        low = np.concatenate([lost, low[:, middle]], axis=1)
    c, c_low = two_sum(high[:, 0], low[:, 0])
    return c, c_low


def blank(wanted: Iterable[str], x: Float, k: int) -> dict[str, Any]:
    """Arrays for what a backend is asked about a part: what is ``wanted``, and what merging takes."""
    names = {*wanted, "index"} - {"top_index", "top_weight", "log_norm"}
    if names & _OFF_WEIGHTS:
        names |= {"gap", "log_rest", "ess"}
    if "jvp" in names:
        names |= {"variance"}  # which the same is in doubt of
    if names & {"mean", *_SPREADS}:
        names |= {"mean", "scatter"} if "variance" not in names else {"mean"}
    out: dict[str, Any] = {name: np.empty(len(x), np.int64 if name == "index" else np.float64) for name in names}
    out |= {name: np.empty_like(x) for name in names & {"mean", "jvp"}}
    return out | {"top_index": np.empty((len(x), k), np.int64), "top_weight": np.empty((len(x), k))}


def part(
    out: dict[str, Any],
    place: Place,
    log_w: Float,
    values: Callable[[Int], Float],
    *,
    promise: _Promise,
    top: int,
    first: int = 0,
    moments: Moments | None = None,
    roundoff: float = 2.0**-53,
) -> dict[str, Any]:
    """What a backend says of its rows as a part of a whole, in which they are numbered from ``first``.

    ``log_w`` (n,) are the logarithms of the weights as given, ``values(index)`` gives rows in float64, ``moments`` are
    theirs, ``promise`` is what the answers keep and ``roundoff`` that of their logits; without moments nothing is in
    doubt (:mod:`.dense`).
    """
    found, index, m = dict(out), out["top_index"], len(place.x)
    weight = found.pop("top_weight")
    with np.errstate(divide="ignore"):
        found["top_log"] = np.log(weight)
    found["log_top"] = found["top_log"][:, 0].copy()
    scored = [squares(place, values(rows), _WITHIN * promise.weight) for rows in index.T]
    found["top_c"], found["top_c_low"] = (np.stack(column, axis=1) for column in zip(*scored, strict=True))
    found["top_log_w"], found["top_index"] = log_w[index], index + first
    for name in ("index", "log_w", "c", "c_low"):
        found[name] = found["top_" + name][:, 0].copy()
    found["c"][np.isneginf(found["log_w"]) & (place.s2 == 0)] = np.inf
    found |= {"rows": len(log_w), "top": top, "doubt": np.zeros(m)}
    found |= {name: np.zeros(m) for name in ("error", "between", "spoiled")}
    found["precise"] = np.full(m, moments is None)
    if "mean" in found:
        found |= {"blur": np.zeros(m), "blurred": np.zeros(m)}
    if "variance" in found and moments is not None:
        # The mean is the heaviest row and how far it is from there, which costs nothing where that is nothing.
        with np.errstate(divide="ignore", invalid="ignore"):
            beside = np.sqrt(found["variance"] / weight[:, 0])
        found["blur"] = np.fmin(2.0**-53 * np.linalg.norm(found["mean"], axis=1), beside)
    if moments is not None:
        used = log_w[log_w > -np.inf]
        span = float(np.ptp(used)) if len(used) else 0.0
        found["doubt"] = _doubt(found, place, moments, span, roundoff, promise)
        found["spoiled"] = found["doubt"] ** 2
    return found


def _doubt(
    found: dict[str, Any], place: Place, moments: Moments, span: float, roundoff: float, promise: _Promise
) -> Float:
    """Bound on what a backend leaves in the logarithm of the mass of some rows, the heaviest of which is exact.

    The product of y = x - alpha center and a row, in chains of additions, is off by ``roundoff`` times what it comes to
    and times |y| reach / sqrt(d) (rms), its share of a logit by that over S; logits from distances by what rounding
    these leaves. Where off-weights are asked for no backend leaves a row that weighs more than all others to rounding:
    only these carry it, then. ``span``: of the log weights.

    And it is no more than backends let pass: errors of logits move the mean by about what they leave of the mass times
    the deviation of the rows, but for what the rows have in common as the query is rounded (none of which is seen where
    they deviate in many directions); and the heaviest weight is that of an exact row over the mass.
    """
    s2 = np.where(place.s2 > 0, place.s2, np.inf)
    away = np.linalg.norm(place.x - place.alpha[:, None] * moments.center, axis=1)
    reach, d = place.alpha * moments.reach, place.x.shape[1]
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        size = np.maximum(away, 0.5 * reach) * reach
        product = 0.5 * np.abs(away**2 + reach**2 - np.minimum(found["c"], (away + reach) ** 2))  # with such a row
        one = min(0.5, _CHAIN / math.sqrt(d)) * size + 0.5 * np.minimum(product + 0.5 * reach**2, size)
        rms = np.minimum(one, 0.5 * size) / s2 + 0.5 * span
        unit = np.where(0.5 * roundoff * (size / s2 + span) > _COARSE, 2.0**-53, roundoff)
        heaviest = np.exp(np.minimum(found["log_top"], 0.0))
        averaged = _SHARED + _AVERAGED / np.sqrt(found.get("ess", 1.0 / heaviest))
        error = unit * averaged * rms
        passed = promise.weight / heaviest
        if "mean" in found:
            deviation = np.sqrt(found["variance" if "variance" in found else "scatter"])
            common = unit * min(0.5, _CHAIN / math.sqrt(d)) * place.alpha * away * deviation / np.sqrt(heaviest) / s2
            passed = np.minimum(passed, _KEPT * promise.denoiser * moments.radius / deviation + common)
        error = np.fmin(error, passed) + 4 * logit_rounding(place.x, found["c"], s2)
    others = -np.expm1(np.minimum(found["log_top"], 0.0)) if "log_rest" in found else np.ones_like(error)
    error = np.minimum(1.0, 2 * others) * error + np.minimum(1.0, 2**10 * others) * _SUMS * roundoff
    doubt: Float = np.where((place.alpha > 0) & (place.s2 > 0), error, 0.0)
    return doubt


def _ahead(a: dict[str, Any], b: dict[str, Any], s2: Float) -> tuple[Float, npt.NDArray[np.bool_]]:
    """How far the heaviest rows of ``b`` are above those of ``a``, in logits, and where they are as near at S = 0.

    At S = 0 the nearer row is ahead by infinity, and of rows as near as each other all that counts is the weight.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        farther = (b["c"] - a["c"]) + (b["c_low"] - a["c_low"])
        level = (s2 == 0) & ~(farther != 0)
        ahead = (b["log_w"] - a["log_w"]) - np.where(level, 0.0, farther / (2 * s2))
    ahead[np.isnan(ahead)] = 0.0  # neither has weight
    return ahead, level & np.isfinite(np.minimum(a["c"], b["c"]))


def merge(a: dict[str, Any], b: dict[str, Any], place: Place, u: Float | None = None) -> dict[str, Any]:
    """The posterior over two disjoint sets of rows from the two posteriors; at ties those of ``a`` come first."""
    ahead, level = _ahead(a, b, place.s2)
    lower = np.where(a["index"] < b["index"], ahead <= 0, ahead < 0)  # equal rows: the lowest number
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = ahead - b["log_top"] + a["log_top"]  # of the logarithms of the masses
        log_a, log_b = -np.logaddexp(0.0, difference), -np.logaddexp(0.0, -difference)
        w_a, w_b = np.exp(log_a), np.exp(log_b)
        between = np.where(level, 0.0, np.abs(ahead))
        of_rest = np.where(lower, log_b, log_a)  # the mass of the one that has not the heaviest row
        out: dict[str, Any] = {
            "rows": a["rows"] + b["rows"],
            "top": min(a["top"], b["top"]),
            "log_top": np.where(lower, a["log_top"] + log_a, b["log_top"] + log_b),
        }
        share = np.ones_like(w_a)
        if "log_rest" in a:
            own_rest = np.where(lower, a["log_rest"] + log_a, b["log_rest"] + log_b)
            out["gap"] = np.minimum(between, np.where(lower, a["gap"], b["gap"]))
            out["log_rest"] = np.logaddexp(own_rest, of_rest)
            out["ess"] = 1.0 / (w_a**2 / a["ess"] + w_b**2 / b["ess"])
            share = np.exp(of_rest - out["log_rest"])
            share[np.isneginf(out["log_rest"])] = 0.0
        if "entropy" in a:
            own = np.where(w_a > 0, -w_a * log_a, 0.0) + np.where(w_b > 0, -w_b * log_b, 0.0)
            out["entropy"] = w_a * a["entropy"] + w_b * b["entropy"] + own
    for name in ("index", "log_w", "c", "c_low"):
        out[name] = np.where(lower, a[name], b[name])
    out["precise"] = precise = a["precise"] & b["precise"]
    out["between"] = w_a * a["between"] + w_b * b["between"]
    if "mean" in a:
        low_a, low_b = a.get("mean_low", 0.0), b.get("mean_low", 0.0)
        apart = (b["mean"] - a["mean"]) + (low_b - low_a)
        heavy = (w_a >= w_b)[:, None]
        toward = np.where(heavy, w_b[:, None], -w_a[:, None]) * apart
        out["mean"], lost = two_sum(np.where(heavy, a["mean"], b["mean"]), toward)
        if precise.any():
            out["mean_low"] = np.where(precise[:, None], np.where(heavy, low_a, low_b) + lost, 0.0)
        square, blur = np.einsum("ij,ij->i", apart, apart), a["blur"] + b["blur"]
        across = w_a * w_b * square
        out["between"] += across
        out["blur"] = w_a * a["blur"] + w_b * b["blur"] + np.where(precise, 0.0, np.linalg.norm(lost, axis=1))
        out["blurred"] = w_a * a["blurred"] + w_b * b["blurred"] + w_a * w_b * blur * (2 * np.sqrt(square) + blur)
        for name in a.keys() & {"variance", "scatter"}:
            out[name] = w_a * a[name] + w_b * b[name] + across
        if "variance" in a:
            other = across + np.where(lower, w_b * b["variance"], w_a * a["variance"])
            share = np.maximum(share, np.divide(other, out["variance"], out=np.zeros_like(w_a), where=other > 0))
        if "jvp" in a and u is not None:
            along = (w_a * w_b * np.einsum("ij,ij->i", apart, u))[:, None] * apart
            out["jvp"] = w_a[:, None] * a["jvp"] + w_b[:, None] * b["jvp"] + along
    out["doubt"] = w_a * a["doubt"] + w_b * b["doubt"]
    out["spoiled"] = np.maximum(w_a * a["spoiled"], w_b * b["spoiled"])
    own, other = np.where(lower, a["error"], b["error"]), np.where(lower, b["error"], a["error"])
    both = np.maximum(a["doubt"] + b["doubt"], other)
    out["error"] = np.maximum(own, np.where(share > _COUNTS, both, 0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        unknown = np.where(place.s2 > 0, _KNOWN * logit_rounding(place.x, a["c"], place.s2), 0.0)
    off = "log_rest" in a
    counts = between <= (UNDERFLOW if off else _DEPTH) + 2 * unknown  # the other one, as far as anybody knows
    counts |= off & (share > _COUNTS)  # or how far it is below
    hidden = counts & (unknown > _TELLING * np.maximum(1.0, 1e-3 * between)) & (place.alpha > 0)
    if "mean" in a:  # of copies no one has to tell
        hidden &= (between > 0) | (a["mean"] != b["mean"]).any(axis=1)
    out["error"][hidden] = math.inf
    if "dropped" in a:
        out["dropped"] = w_a * a["dropped"] + w_b * b["dropped"]
    if "work" in a:
        out["work"] = (a["rows"] * a["work"] + b["rows"] * b["work"]) / out["rows"]
    a, b = (one | {"top_log": one["top_log"] + log[:, None]} for one, log in ((a, log_a), (b, log_b)))
    return out | _lists(a, b, out, place.s2, unknown > _TELLING)


def reduce(parts: list[dict[str, Any]], place: Place, u: Float | None = None) -> dict[str, Any]:
    """All of them."""
    return in_pairs(parts, lambda a, b: merge(a, b, place, u))


def in_pairs(parts: list[Kind], join: Callable[[Kind, Kind], Kind]) -> Kind:
    """One of many: neighbours are joined in pairs, level by level."""
    while len(parts) > 1:
        pairs = [join(a, b) for a, b in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0]


def shares(parts: list[dict[str, Any]], place: Place) -> Float:
    """Of the parts in the mass of them all, (M, K)."""
    whole = reduce([{name: of for name, of in one.items() if name != "mean"} for one in parts], place)
    tops = {f"top_{name}": np.stack([one[name] for one in parts], axis=1) for name in ("log_w", "c", "c_low")}
    log_share = _logits(tops, whole, place.s2) + whole["log_top"][:, None]
    log_share -= np.stack([one["log_top"] for one in parts], axis=1)
    share: Float = np.exp(log_share)
    share /= share.sum(axis=1, keepdims=True)
    return share


def in_doubt(parts: list[dict[str, Any]], share: Float, promise: _Promise) -> npt.NDArray[np.bool_]:
    """Queries in which these shares may be off by more than what is promised of a weight."""
    doubt = np.stack([one["doubt"] for one in parts], axis=1)
    error = share * (1 - share) * np.sqrt(2) * doubt.max(axis=1, keepdims=True, where=share > _COUNTS, initial=0.0)
    return np.asarray((error > promise.weight * _PART).any(axis=1))


def _lists(
    a: dict[str, Any], b: dict[str, Any], top: dict[str, Any], s2: Float, rough: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """The heaviest of the listed rows, as many as one of the lists had or all that are there, if these are fewer.

    ``rough``: where squares do not tell the rows of a part apart, which the part itself did.
    """
    listed = ("top_index", "top_log", "top_log_w", "top_c", "top_c_low")
    both = {name: np.concatenate([a[name], b[name]], axis=1) for name in listed}
    told = np.where(rough[:, None], both["top_log"], 0.0)
    order = np.lexsort([both["top_index"], -_logits(both, top, s2), -told], axis=1)[:, : max(1, top["top"])]
    return {name: np.take_along_axis(values, order, axis=1) for name, values in both.items()}


def _logits(listed: dict[str, Any], top: dict[str, Any], s2: Float) -> Float:
    """Of listed rows, over that of the heaviest row."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        farther = (listed["top_c"] - top["c"][:, None]) + (listed["top_c_low"] - top["c_low"][:, None])
        logits = (listed["top_log_w"] - top["log_w"][:, None]) - farther / (2 * s2[:, None])
        at_end = np.where(farther == 0, listed["top_log_w"] - top["log_w"][:, None], -np.inf)
    logits = np.where(s2[:, None] > 0, logits, at_end)
    return np.where(np.isnan(logits), -np.inf, logits)


def finish(whole: dict[str, Any], place: Place, log_mass: float) -> dict[str, Any]:
    """The outputs of the kernel contract; ``log_mass`` is the logarithm of the sum of the weights as given."""
    s2 = place.s2
    out = dict(whole)
    with np.errstate(divide="ignore", invalid="ignore"):
        norm = whole["log_w"] - log_mass - whole["c"] / (2 * s2) - whole["log_top"]
    out["log_norm"] = np.where(s2 > 0, norm, -np.inf)
    out["top_weight"] = np.exp(whole["top_log"])
    return out


def fill(out: dict[str, Any], answer: dict[str, Any], some: Any = slice(None)) -> None:
    """Write ``answer`` about ``some`` of the queries."""
    for name, array in out.items():
        array[some] = answer[name][:, : array.shape[1]] if name.startswith("top_") else answer[name]


def unsettled(
    whole: dict[str, Any], place: Place, promise: _Promise, radius: float, wanted: Iterable[str] | None = None
) -> npt.NDArray[np.bool_]:
    """Queries in which what is in doubt of the masses of the parts may cost more than what is promised of the whole:
    of those of its outputs that are ``wanted``, default all.

    Errors of masses, which are independent, move the mean by no more than the deviation of the parts' means times the
    largest sqrt(w_k) doubt_k, and everything else by no more than their own share.
    """
    bad = np.isinf(whole["error"])
    error, largest = np.where(bad, 0.0, whole["error"]), np.exp(whole["log_top"])
    names = {"log_norm", "top_weight", *whole} if wanted is None else {*wanted}
    if "log_norm" in names:
        bad |= error > promise.density / 4
    if names & (_OFF_WEIGHTS | {"scatter"}):
        bad |= error > promise.off_weights / 4
    if names & {"variance", "jvp"}:
        least = math.exp(-OFF_WEIGHT_NATS) * promise.skipped * radius**2  # of rows that light none of it is resolved
        bad |= whole["blurred"] > promise.off_weights / 4 * whole["variance"] + least
    if "top_weight" in names:
        bad |= error * np.minimum(largest, 1 - largest) > promise.weight * _PART
    if "mean" in names:
        moved = np.sqrt(whole["spoiled"] * whole["between"])
        size = np.maximum(np.linalg.norm(whole["mean"], axis=1), radius)
        bad |= moved > _PART * promise.denoiser * size
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = np.linalg.norm(place.x - place.alpha[:, None] * whole["mean"], axis=1) / np.sqrt(place.s2)
            seen = moved * place.alpha / np.sqrt(place.s2) > promise.noise / 4 * np.maximum(noise, 1.0)
        bad |= seen & (place.s2 > 0)
    return np.asarray(bad, np.bool_)
