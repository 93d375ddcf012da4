"""What the fuzzer holds answers to: for each output its error and the promised bound, query by query.

Everything is formed in ``np.longdouble``, so that no size that float64 holds is too large or small for a square.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import oracle
from fuzz_cases import Case

from interp_fast import _accuracy
from interp_fast._accuracy import OFF_WEIGHT_NATS

LONG = np.longdouble
EPS = 2.0**-53


@dataclass(frozen=True)
class Promise:
    """The accuracy table of the README for one result type."""

    noise: float
    mean: float
    density: float
    slope: float
    second: float
    weight: float
    certificate: float
    scatter: float
    rounding: float  # half a unit in the last place of a result
    least: float  # spacing of subnormal results
    largest: float


_LIMITS = {"float32": (2.0**-24, 2.0**-149, 3.4e38), "float64": (EPS, 5e-324, 1.79e308)}
PROMISES = {
    name: Promise(
        p.noise, p.denoiser, p.density, p.density_slope, p.off_weights, p.weight, p.skipped, p.scatter, *_LIMITS[name]
    )
    for name, p in _accuracy.PROMISES.items()
}


@dataclass(frozen=True, eq=False)
class Truth:
    """The oracle's posterior of the queries ``at`` that are judged, and what its bounds are made of, (m,) each."""

    case: Case
    x: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray
    u: np.ndarray
    cut: np.ndarray  # nats
    c: Any = None  # alpha, sigma, alpha_dot, sigma_dot (m,), where a schedule was asked
    beside: float = 0.0  # of a view: the largest coordinate of the centre of the whole, which means are counted from

    @functools.cached_property
    def ref(self) -> SimpleNamespace:
        case = self.case
        options = {"bandwidth": case.bandwidth, "u": self.u, "remember": False}  # every case would be kept
        return oracle.posterior(case.values, self.x, self.alpha, self.sigma, case.weights, **options)

    @functools.cached_property
    def want(self) -> SimpleNamespace:
        return oracle.fields(self.ref, self.x, self.c, bandwidth=self.case.bandwidth)

    @functools.cached_property
    def promise(self) -> Promise:
        promise = PROMISES[self.case.result]
        # What the caller's mode flushes to 0 is 0 where results are rounded to their type.
        return replace(promise, least=float(np.finfo(self.case.result).tiny)) if self.case.flush else promise

    @functools.cached_property
    def s2(self):
        return self.sigma.astype(LONG) ** 2 + (self.alpha.astype(LONG) * LONG(self.case.bandwidth)) ** 2

    @functools.cached_property
    def size(self):
        """Of the numbers that x - alpha D is the difference of."""
        return norm(self.x) + self.alpha * norm(self.ref.mean)

    @functools.cached_property
    def spread(self):
        return np.sqrt(self.ref.variance.astype(LONG))

    @functools.cached_property
    def skipped(self):
        """What ``tol`` allows in units of R, and in a weight relative to all others."""
        return self.case.tol or 0.0

    @functools.cached_property
    def once(self):
        """What rounding alpha x_i once does to a log weight of a row that counts."""
        gap = np.where(np.isinf(self.ref.gap), 0, self.ref.gap)
        reach = np.sqrt(2 * self.ref.kappa) + np.sqrt(2 * gap)
        return 2 * EPS * self.size / np.sqrt(self.s2) * reach

    @functools.cached_property
    def second(self):
        return self.promise.second + 2 * self.skipped + 2 * self.once  # of squares of weights, too

    @functools.cached_property
    def relative(self):
        """:attr:`second` of weights instead of their logarithms."""
        return np.expm1(np.minimum(self.second, 1000))

    @functools.cached_property
    def tie(self):
        """What kappa roundings of float64 do to a log weight: no excuse, but the reason of many a finding."""
        return 8 * EPS * self.ref.kappa


def norm(a):
    return np.sqrt((np.asarray(a).astype(LONG) ** 2).sum(-1))


def distance(got, want, largest=np.inf):
    """|got - want| as a vector, or of numbers; equal infinities are equal, and so is what no result can hold."""
    got, want = np.asarray(got).astype(LONG), np.asarray(want).astype(LONG)
    same = (got == want) | ((np.abs(want) > 0.999 * largest) & (np.abs(got) > 0.99 * largest))
    away = np.where(same, 0, got - np.where(same, 0, want))
    return norm(away) if away.ndim == 2 else np.abs(away)


# Posteriors: (error, bound)


def mean(got, t):
    p, ref = t.promise, t.ref
    least = (p.least + 4 * EPS * t.beside) * np.sqrt(t.case.d)
    scale = np.maximum(norm(ref.mean), t.case.radius)
    # A mean of off-weights alone is as good as those: nothing in units of the noise prediction.
    return distance(got, ref.mean), (p.mean + p.rounding + t.once) * scale + t.skipped * t.case.radius + least


def log_norm(got, t, value=None):
    value = t.ref.log_norm if value is None else value
    return distance(got, value), np.maximum(t.promise.density, t.promise.slope * np.abs(value)) + t.once + 2 * t.skipped


def log_density(got, t):
    return log_norm(got, t, t.ref.log_density)


def in_nats(name):
    def judge(got, t):
        value = getattr(t.ref, name)
        size = np.where(np.isinf(value), 0.0, np.abs(value))
        return distance(got, value), t.second * np.maximum(1, 1e-3 * size)

    return judge


def relative(name):
    def judge(got, t):
        value = getattr(t.ref, name)
        return distance(got, value), t.relative * value

    return judge


def lost(t):
    """Variance of rows so light that they may be left out, or be no number at all.

    Off-weights are resolved down to rows as near to the top one as e^-20 of the data's reach; and the contract lets a
    variance vanish beside e^-300. Nor is there an order of rows where rounding once may turn it about.
    """
    skipped = np.exp(LONG(-OFF_WEIGHT_NATS)) * (t.case.tol or t.promise.certificate) * LONG(t.case.radius) ** 2
    share = np.where(t.once > 1, 1, np.exp(LONG(-600)))
    return skipped + share * (np.ptp(t.case.values.astype(LONG), axis=0) ** 2).sum() + 1e-300


def entropy(got, t):
    error, bound = relative("entropy")(got, t)
    return error, bound + np.where(t.once > 1, np.log(t.case.n), 1e-300)  # the order of rows may be any there


def variance(got, t):
    error, bound = relative("variance")(got, t)
    return error, bound + lost(t)


def scatter(got, t):
    reach = np.ptp(t.case.values.astype(LONG), axis=0)
    left_out = t.case.n * np.exp(-t.cut) * (reach**2).sum()
    mean = (4 * EPS * norm(t.ref.mean)) ** 2  # which is a float64, however small R may be
    size = np.maximum(t.ref.variance, LONG(t.case.radius) ** 2)
    promised = t.promise.scatter + t.once + t.tie  # it goes into averages
    return distance(got, t.ref.variance), promised * size + mean + left_out + 1e-300


def product(got, t):
    """C u of the kernels."""
    bound = (t.relative * t.ref.variance + lost(t)) * norm(t.u) + 1e-300
    return distance(got, t.ref.product), bound


def index(got, t):
    query = np.arange(len(got))
    short = np.exp(t.ref.log_weight.max(1)) - np.exp(t.ref.log_weight[query, got])
    return short, 4 * t.promise.weight + t.once


def lowest_index(got, t):
    """Rows that share all bits and the weight of an earlier one lose against it."""
    values, weights = t.case.values, t.case.weights
    heavy = np.ones(t.case.n) if weights is None else weights
    first = [np.argmax((values == values[i]).all(1) & (heavy == heavy[i])) for i in got]
    return np.abs(got - np.array(first)), np.zeros(len(got))


def top_weight(got, t):
    best = -np.sort(-np.exp(t.ref.log_weight), axis=1)[:, : got.shape[1]]
    # Of its logit and of the log-normalizer, each rounded.
    return np.abs(got - best).max(1, initial=0), t.promise.weight + 2 * t.once + 2 * t.skipped


def top_index(got, t):
    weight = np.exp(t.ref.log_weight)
    best = -np.sort(-weight, axis=1)[:, : got.shape[1]]
    repeated = np.array([len(row) != len(set(row.tolist())) for row in got])
    chosen = np.take_along_axis(weight, got, 1)
    return np.abs(chosen - best).max(1, initial=0) + repeated, 2 * (t.promise.weight + t.once)


def dropped(got, t):
    return np.where(got >= 0, got, np.inf), max(t.promise.weight, t.skipped)


def certificate(got, t):
    return got, t.promise.certificate if t.case.tol is None else t.case.tol


def work(got, t):
    return np.where(got >= 0, got, np.inf), 1.05


POSTERIOR = {
    "mean": mean, "log_norm": log_norm, "log_density": log_density, "gap": in_nats("gap"),
    "log_rest": in_nats("log_rest"), "ess": relative("ess"), "entropy": entropy,
    "variance": variance, "scatter": scatter, "product": product, "index": index,
    "top_weight": top_weight, "top_index": top_index, "dropped": dropped, "certificate": certificate, "work": work,
}  # fmt: skip


# Fields: errors in units of the noise prediction


def noise_units(t, error, value, unit):
    """Errors of a vector that is ``unit`` times an error of the noise prediction."""
    p, z = t.promise, norm(t.want.noise)
    scale = np.sqrt(t.s2)
    bound = p.noise * np.maximum(z, 1) + 4 * EPS * t.size / scale + t.skipped * t.case.radius * t.alpha / scale
    returned = p.rounding * norm(value) + p.least * np.sqrt(t.case.d)
    return error, 1.01 * bound * unit + returned


def noise(got, t):
    return noise_units(t, distance(got, t.want.noise, t.promise.largest), t.want.noise, 1)


def score(got, t):
    unit = 1 / np.where(t.sigma > 0, t.sigma, np.sqrt(t.s2))
    return noise_units(t, distance(got, t.want.score, t.promise.largest), t.want.score, unit)


def data_speed(t):
    """kappa, what the velocity moves along the denoiser."""
    return t.c.alpha_dot.astype(LONG) - t.c.alpha.astype(LONG) * t.c.sigma_dot / t.c.sigma


def velocity(got, t):
    c, kappa = t.c, data_speed(t)
    unit = np.abs(kappa) * t.sigma / np.where(t.alpha > 0, t.alpha, 1)
    of_mean = t.promise.mean * np.maximum(norm(t.want.denoiser), t.case.radius) + t.skipped * t.case.radius
    moved = np.where(t.alpha > 0, 0, of_mean * np.abs(kappa))
    # It is a sum of these two, some roundings each, which are no better than float64 where a bandwidth smooths far
    # beyond sigma.
    terms = 4 * EPS * (np.abs(c.sigma_dot / c.sigma.astype(LONG)) * norm(t.x) + np.abs(kappa) * norm(t.want.denoiser))
    error, bound = noise_units(t, distance(got, t.want.velocity, t.promise.largest), t.want.velocity, unit)
    return error, bound + moved + terms


def denoiser(got, t):
    p = t.promise
    scale = np.maximum(norm(t.want.denoiser), t.case.radius)
    least = (p.least + 4 * EPS * t.beside) * np.sqrt(t.case.d)
    return distance(got, t.want.denoiser, p.largest), (p.mean + p.rounding) * scale + t.skipped * t.case.radius + least


def divergence(got, t):
    c = t.c
    drift = np.abs(t.case.d * c.sigma_dot / c.sigma.astype(LONG))
    smooth = np.abs(t.want.divergence_data)
    least = 1e-300 * (1 + (LONG(t.case.bandwidth) ** 2 + LONG(t.case.radius) ** 2) / t.s2)  # alpha may be subnormal
    least = least + np.abs(data_speed(t)) * t.alpha / t.s2 * lost(t)
    bound = t.relative * smooth + 8 * EPS * (np.abs(t.want.divergence) + drift + smooth) + least
    return distance(got, t.want.divergence, 1.79e308), bound


def jvp(got, t):
    kept = (t.sigma.astype(LONG) ** 2 / t.s2) ** 2
    smoothed = (LONG(t.case.bandwidth) ** 2 * t.alpha / t.s2)[:, None] * t.u
    scale = t.alpha / t.sigma.astype(LONG) ** 2 * kept
    want = scale[:, None] * t.ref.product + smoothed
    p = t.promise
    bound = scale * (t.relative * t.ref.variance + lost(t)) * norm(t.u)
    bound = bound + p.second * norm(smoothed) + p.rounding * norm(want)
    return distance(got, want, p.largest), bound + max(p.least, 1e-300) * np.sqrt(t.case.d)


FIELDS = {
    "denoiser": denoiser, "noise": noise, "score": score, "velocity": velocity, "divergence": divergence,
    "log_density": log_density, "jvp": jvp,
}  # fmt: skip


def excess(name, judge, got, truth, pick=slice(None)):
    """What is out of bounds in one output, as a sentence; None when nothing is. NaN is out of bounds."""
    with np.errstate(all="ignore"):
        error, bound = np.broadcast_arrays(*judge(np.asarray(got)[pick], truth))
        bad = ~(error <= bound)
        if not bad.any():
            return None
        worst = int(np.argmax(np.where(bad, np.where(np.isnan(error), np.inf, error / bound), -1)))
        far = " (a far tie?)" if truth.tie[worst] > truth.promise.second / 100 else ""
        return (
            f"{name}: error {error[worst]:.2e}, allowed {bound[worst]:.2e}{far}, {bad.sum()} of {len(bad)} queries, "
            f"alpha {truth.alpha[worst]:.4g}, sigma {truth.sigma[worst]:.4g}, kappa {truth.ref.kappa[worst]:.2g}, "
            f"ess {truth.ref.ess[worst]:.4g}"
        )


# At sigma = 0 without a bandwidth: the limit


def limit(out, t):
    """Sentences about the answers ``out`` where S = 0: the nearest rows share by weight."""
    case, wrong = t.case, []
    values = case.values.astype(LONG)
    heavy = oracle.log_weights(case.n, case.weights)
    for m in range(len(t.x)):
        away = norm(t.x[m].astype(LONG) - LONG(t.alpha[m]) * values)
        away[np.isneginf(heavy)] = np.inf
        doubt = 8 * EPS * (norm(t.x[m]) + t.alpha[m] * np.abs(values).max())
        near = np.flatnonzero(away <= away.min() * (1 + 1e-12) + doubt)
        alike = bool((values[near] == values[near[0]]).all())
        rounding = t.promise.mean * max(norm(values[near[0]]), case.radius) + t.promise.least * np.sqrt(case.d)
        width = norm(values[near] - values[near[0]]).max() + rounding
        if "mean" in out and not norm(out["mean"][m] - values[near[0]]) <= width:
            wrong.append(f"mean[{m}] at sigma = 0: {out['mean'][m]} is no average of rows {near}")
        if "index" in out and out["index"][m] not in near:
            wrong.append(f"index[{m}] at sigma = 0: {out['index'][m]} is none of {near}")
        if "log_norm" in out and out["log_norm"][m] != -np.inf:
            wrong.append(f"log_norm[{m}] at sigma = 0: {out['log_norm'][m]}")
        if "gap" in out and alike and out["gap"][m] != (0 if len(near) > 1 else np.inf):
            wrong.append(f"gap[{m}] at sigma = 0: {out['gap'][m]} with the nearest rows {near}")
        share = np.exp(heavy[near] - heavy[near].max())
        ess = share.sum() ** 2 / (share**2).sum()
        if "ess" in out and alike and not abs(out["ess"][m] - ess) <= 1e-3 * ess:
            wrong.append(f"ess[{m}] at sigma = 0: {out['ess'][m]}, not {ess}")
        if "variance" in out and alike and not out["variance"][m] <= 4 * doubt**2 + 1e-300:
            wrong.append(f"variance[{m}] at sigma = 0: {out['variance'][m]} of equal rows")
    return wrong
