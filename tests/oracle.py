"""Slow answers that share nothing with the package: direct differences, log-sum-exp, extended precision.

Everything is computed in ``np.longdouble`` (64 bits of mantissa and exponents to 1e-4932 on x86, never less than
float64), query by query, from the rows and the queries as given. :func:`posterior_mp` redoes one query with 60 digits.
"""

from __future__ import annotations

import functools
import hashlib
import math
from fractions import Fraction
from types import SimpleNamespace

import mpmath
import numpy as np

LONG = np.longdouble
EPS = np.finfo(LONG).eps
DIGITS = 60


def log_weights(n, weights=None):
    """Logarithms of the weights, normalised to sum 1; -inf for weight 0."""
    w = np.ones(n, LONG) if weights is None else np.asarray(weights).astype(LONG)
    with np.errstate(divide="ignore"):
        return np.log(w) - np.log(w.sum())


def _digest(*values):
    """What values are known by: their content."""
    digest = hashlib.sha1(usedforsecurity=False)
    for value in values:
        a = np.asarray(np.nan if value is None else value)
        digest.update(f"{a.dtype} {a.shape} ".encode() + a.tobytes())
    return digest.digest()


def remembered(function):
    """Answers by the content of the arguments: every engine is judged by the same ones. They are read, not changed."""
    known = {}

    @functools.wraps(function)
    def wrapper(*arguments, **options):
        key = (_digest(*arguments, *options.values()), tuple(options))
        if key not in known:
            known[key] = function(*arguments, **options)
        return known[key]

    return wrapper


@remembered
def radius(rows, weights=None):
    """(weighted mean, weighted rms distance to it)."""
    rows = np.asarray(rows).astype(LONG)
    w = np.exp(log_weights(len(rows), weights))
    mean = w @ rows
    return mean.astype(float), float(np.sqrt(w @ ((rows - mean) ** 2).sum(1)))


@functools.cache
def _known(training_set):
    """Answers about one training set, by query."""
    return {}


def posterior(rows, x, alpha, sigma, weights=None, *, bandwidth=0.0, u=None, remember=True):
    """Every posterior output at the queries ``x`` (M, d), as a namespace of float64 arrays.

    ``log_weight`` (M, N) holds the logarithms of all posterior weights and ``kappa`` (M,) the squared distance to the
    heaviest row in units of 2 S: what the conditioning of a tie depends on. Answers are remembered by the content of
    what is given: every engine, and every batch, is judged by the same ones.
    """
    rows, x = np.asarray(rows), np.asarray(x)
    alpha, sigma = (np.broadcast_to(np.asarray(a, float), len(x)) for a in (alpha, sigma))
    queries = list(zip(x, alpha, sigma, [None] * len(x) if u is None else u, strict=True))
    known = _known(_digest(rows, weights, bandwidth)) if remember else {}
    keys = [_digest(*query) for query in queries]
    new = {key: query for key, query in zip(keys, queries, strict=True) if key not in known}
    if new:
        wide, prior = rows.astype(LONG), log_weights(len(rows), weights)
        reach = np.sqrt((wide**2).sum(1).max())
        known |= {key: _answer(wide, prior, reach, LONG(bandwidth), *query) for key, query in new.items()}
    return SimpleNamespace(**{name: np.array([known[key][name] for key in keys]) for name in known[keys[0]]})


def _answer(rows, prior, reach, bandwidth, x, alpha, sigma, u):
    """One query of :func:`posterior`: its outputs by name."""
    x, alpha, sigma = (np.asarray(a).astype(LONG) for a in (x, alpha, sigma))
    spread = sigma * sigma + (alpha * alpha) * (bandwidth * bandwidth)
    distance = ((x - alpha * rows) ** 2).sum(1)
    score = prior - distance / (2 * spread)
    top = score.max()
    lead = score - top
    # Roundings of coordinates and of squares, counted in nats: where they matter, more bits decide.
    doubt = 2 * EPS * ((x**2).sum() + (alpha * reach) ** 2) / spread
    near = np.flatnonzero(lead > -200 - 2 * doubt)
    if len(near) > 1 and doubt > 1e-15:
        lead[near] = _lead_twice(rows[near], x, alpha, spread, prior[near])
        near = np.flatnonzero(lead > -200 - 2 * EPS * doubt)
        if len(near) > 1 and EPS * doubt > 1e-15:
            lead[near] = _lead_exact(rows[near], x, alpha, spread, prior[near])
    if doubt > 1e-15:
        best = np.argmax(lead)
        distance[best] = _distance_exact(rows[best], x, alpha)
        top = prior[best] - distance[best] / (2 * spread)
    out = _summary(rows, lead, top, None if u is None else np.asarray(u).astype(LONG))
    out["kappa"] = distance[out["index"]] / (2 * spread)
    out["log_density"] = out["log_norm"] - LONG(len(x)) / 2 * np.log(2 * LONG(math.pi) * spread)
    return {name: np.asarray(value).astype(np.int64 if name == "index" else float) for name, value in out.items()}


def _summary(rows, lead, top, u):
    """The outputs of one query from its log weights relative to the largest, ``top``; nothing is subtracted from 1."""
    best = int(np.argmax(lead))
    others = np.delete(lead, best)
    rest = np.exp(others).sum()
    log_w = lead - np.log1p(rest)
    w = np.exp(log_w)
    away = rows - rows[best]  # exactly 0 for the heaviest row: the sums below are sums of off-weights
    shift = w @ away
    spread = away - shift
    used = w > 0
    out = {
        "mean": rows[best] + shift,
        "log_norm": top + np.log1p(rest),
        "index": best,
        "gap": -others.max(initial=-np.inf),
        "log_rest": _logsumexp(others) - np.log1p(rest),
        "ess": 1 / (w**2).sum(),
        "entropy": -(w[used] * log_w[used]).sum(),
        "variance": (w * (spread**2).sum(1)).sum(),
        "log_weight": log_w,
    }
    if u is not None:
        out["product"] = (w * (spread @ u)) @ spread
    return out


def _lead_exact(rows, x, alpha, spread, prior):
    """Log weights relative to the largest, from differences of squared distances in whole numbers over a power of 2."""
    distinct, which = np.unique(rows.astype(float), axis=0, return_inverse=True)
    query, scale = [Fraction(float(v)) for v in x], Fraction(float(alpha))
    squares = [
        sum((q - scale * Fraction(v)) ** 2 for q, v in zip(query, row, strict=True)) for row in distinct.tolist()
    ]
    least = min(squares)
    farther = np.array([_rounded(square - least) for square in squares])
    score = prior - farther[which.ravel()] / (2 * spread)
    return score - score.max()


def _rounded(value):
    """A fraction as a LONG."""
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    value /= Fraction(2) ** exponent
    high = float(value)
    return np.ldexp(LONG(high) + LONG(float(value - Fraction(high))), exponent)


def _lead_twice(rows, x, alpha, spread, prior):
    """Log weights relative to the largest, from differences of squared distances of twice the precision.

    |x - a|^2 - |x - b|^2 = (b - a) . (2 x - a - b) for rows a = alpha x_i: products of differences, which leave out
    what all squares have in common, however far the query is.
    """
    first = np.argmax(prior - ((x - alpha * rows) ** 2).sum(1) / (2 * spread))
    high, low = np.zeros((2, len(rows)), LONG)
    for q, column in zip(x, rows.T, strict=True):
        apart, apart_low = _two_sum(column[first], -column)
        both, both_low = _two_sum(column[first], column)
        scaled, scaled_low = _two_product(alpha, both)
        away, away_low = _two_sum(2 * q, -scaled)
        away_low = away_low - (scaled_low + alpha * both_low)
        term, term_low = _two_product(apart, away)
        high, lost = _two_sum(high, term)
        low += lost + (term_low + (apart * away_low + apart_low * away))
    score = prior - alpha * (high + low) / (2 * spread)
    return score - score.max()


def _distance_exact(row, x, alpha):
    """|x - alpha row|^2 of one row, to the last bits also where x was made by rounding alpha row."""
    scaled, scaled_low = _two_product(alpha, row)
    away, away_low = _two_sum(x, -scaled)
    return ((away + (away_low - scaled_low)) ** 2).sum()


def _two_sum(a, b):
    """a + b = total + what it lost, exactly (Knuth)."""
    total = a + b
    back = total - a
    return total, (a - (total - back)) + (b - back)


def _two_product(a, b):
    """a b = product + what it lost, exactly (Dekker 1971)."""
    product = a * b
    a_high, b_high = _upper_half(a), _upper_half(b)
    a_low, b_low = a - a_high, b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _upper_half(a):
    scaled = (LONG(2) ** ((np.finfo(LONG).nmant + 2) // 2) + 1) * a
    return scaled - (scaled - a)


def _logsumexp(a):
    top = a.max(initial=-np.inf)
    return top if top == -np.inf else top + np.log(np.exp(a - top).sum())


def fields(post, x, c, *, bandwidth=0.0):
    """Denoiser, velocity, score, noise and divergence from a :func:`posterior` and the four coefficients ``c``."""
    x = np.asarray(x).astype(LONG)
    d = x.shape[1]
    alpha, sigma, alpha_dot, sigma_dot = (
        np.broadcast_to(np.asarray(v, float), len(x)).astype(LONG)[:, None]
        for v in (c.alpha, c.sigma, c.alpha_dot, c.sigma_dot)
    )
    delta2 = LONG(bandwidth) ** 2
    spread = sigma**2 + alpha**2 * delta2
    residual = x - alpha * post.mean.astype(LONG)
    denoiser = (sigma**2 / spread) * post.mean + (alpha * delta2 / spread) * x
    noise = sigma * residual / spread
    variance = (sigma**2 / spread)[:, 0] ** 2 * post.variance + d * (delta2 * sigma**2 / spread)[:, 0]
    eta = (sigma_dot / sigma)[:, 0]
    kappa = alpha_dot[:, 0] - alpha[:, 0] * eta
    data = kappa * (alpha / sigma**2)[:, 0] * variance
    out = {
        "denoiser": denoiser,
        "velocity": alpha_dot * denoiser + sigma_dot * noise,
        "score": -residual / spread,
        "noise": noise,
        "divergence": d * eta + data,
        "divergence_data": data,
    }
    return SimpleNamespace(**{name: a.astype(float) for name, a in out.items()})


@remembered
def posterior_mp(rows, x, alpha, sigma, weights=None):
    """:func:`posterior` of one query (d,) with 60 digits; every float64 given is taken as the number it is."""
    with mpmath.workdps(DIGITS):
        mpf = mpmath.mpf
        n, d = rows.shape
        points = [[mpf(float(v)) for v in row] for row in rows]
        q = [mpf(float(v)) for v in x]
        alpha, sigma = mpf(float(alpha)), mpf(float(sigma))
        w = [mpf(1)] * n if weights is None else [mpf(float(v)) for v in weights]
        total = mpmath.fsum(w)
        distance = [mpmath.fsum((q[j] - alpha * p[j]) ** 2 for j in range(d)) for p in points]
        score = [
            mpmath.log(v / total) - s / (2 * sigma**2) if v else mpf("-inf") for v, s in zip(w, distance, strict=True)
        ]
        best = max(range(n), key=lambda i: (score[i], -i))
        off = [mpmath.exp(s - score[best]) if i != best else mpf(0) for i, s in enumerate(score)]
        rest = mpmath.fsum(off)
        w = [(v if i != best else mpf(1)) / (1 + rest) for i, v in enumerate(off)]
        mean = [mpmath.fsum(w[i] * points[i][j] for i in range(n)) for j in range(d)]
        log_norm = score[best] + mpmath.log1p(rest)
        runner_up = max((s for i, s in enumerate(score) if i != best), default=mpf("-inf"))
        out = {
            "log_norm": log_norm,
            "log_density": log_norm - mpf(d) / 2 * mpmath.log(2 * mpmath.pi * sigma**2),
            "gap": score[best] - runner_up,
            "log_rest": mpmath.log(rest / (1 + rest)) if rest else mpf("-inf"),
            "ess": 1 / mpmath.fsum(v * v for v in w),
            "entropy": -mpmath.fsum(v * mpmath.log(v) for v in w if v),
            "variance": mpmath.fsum(w[i] * (points[i][j] - mean[j]) ** 2 for i in range(n) for j in range(d) if w[i]),
        }
        return SimpleNamespace(
            index=best, mean=np.array([float(v) for v in mean]), weight=np.array([float(v) for v in w]),
            noise=np.array([float((a - alpha * b) / sigma) for a, b in zip(q, mean, strict=True)]),
            kappa=float(distance[best] / (2 * sigma**2)), **{name: float(v) for name, v in out.items()},
        )  # fmt: skip


def naive_denoiser(rows, x, alpha, sigma, form):
    """The plain formula in the type of ``rows``, what one writes first; ``form`` is "direct" or "expanded"."""
    t = rows.dtype.type
    x, a, s = x.astype(t), t(alpha), t(sigma)
    if form == "direct":
        score = np.stack([-((q - a * rows) ** 2).sum(1) for q in x]) / (2 * s * s)
    else:
        score = (a * (x @ rows.T) - a * a * (rows**2).sum(1) / 2) / (s * s)
    w = np.exp(score - score.max(1, keepdims=True))
    return (w / w.sum(1, keepdims=True)) @ rows


def philox(counter, key, rounds=10):
    """Philox4x32: four 32-bit words from a counter of four and a key of two (Salmon et al. 2011)."""
    mask = 0xFFFFFFFF
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & mask, (p0 >> 32) ^ c3 ^ k1, p0 & mask
        k0, k1 = (k0 + 0x9E3779B9) & mask, (k1 + 0xBB67AE85) & mask
    return c0, c1, c2, c3


def normal(key, sample, row, coordinate):
    """One standard normal by Box-Muller from Philox words, with the C library's log, cos and sin."""
    counter = (coordinate // 4, row, sample & 0xFFFFFFFF, sample >> 32)
    words = philox(counter, (key & 0xFFFFFFFF, key >> 32))
    pair = words[:2] if coordinate % 4 < 2 else words[2:]
    length = math.sqrt(-2 * math.log((pair[0] + 0.5) * 2.0**-32))
    return length * (math.cos, math.sin)[coordinate % 2](2 * math.pi * pair[1] * 2.0**-32)
