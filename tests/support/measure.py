"""Every output of a field against the oracle, in the units of what is promised."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import oracle

from interp_fast._accuracy import PROMISES

__all__ = ["EPS", "Errors", "difference", "measure", "norm"]

EPS = 2.0**-53


@dataclass
class Errors:
    """Collects what is out of bounds, to report all of it at once with the worst query."""

    context: str
    found: list[str] = field(default_factory=list)

    def check(self, name, error, bound):
        error, bound = np.broadcast_arrays(error, bound)
        bad = ~(error <= bound)
        if bad.any():
            worst = int(np.argmax(np.where(np.isnan(error), np.inf, error / bound)))
            self.found.append(f"{name}[{worst}]: error {error[worst]:.2e}, allowed {bound[worst]:.2e}, {bad.sum()} bad")

    def close(self):
        assert not self.found, f"{self.context}\n  " + "\n  ".join(self.found)


def norm(a):
    return np.linalg.norm(np.asarray(a, float), axis=-1)


def difference(a, b):
    """|a - b|, with equal infinities counting as equal."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.where(a == b, 0.0, np.abs(np.subtract(a, b, where=a != b, out=np.zeros_like(a))))


def measure(errors, oracle_rows, weights, flow, x, t, *, result, bandwidth=0.0):
    """Every output of ``flow`` at (x, t) against the oracle on ``oracle_rows``.

    In float64 the denoiser that x - alpha D is formed with is rounded once.
    """
    tol = PROMISES[result]
    c = flow.schedule(t)
    alpha, sigma = float(c.alpha), float(c.sigma)
    u = np.random.default_rng(1).standard_normal(x.shape)
    ref = oracle.posterior(oracle_rows, x, alpha, sigma, weights, bandwidth=bandwidth, u=u)
    want = oracle.fields(ref, x, c, bandwidth=bandwidth)
    _, radius = oracle.radius(oracle_rows, weights)
    noise_bound = tol.noise * np.maximum(norm(want.noise), 1)
    if result == "float64":
        noise_bound = noise_bound + 2 * EPS * norm(x) / sigma
    kappa = float(c.alpha_dot - c.alpha * c.sigma_dot / c.sigma)
    errors.check("noise", norm(flow.noise(x, t) - want.noise), noise_bound)
    errors.check("score", sigma * norm(flow.score(x, t) - want.score), noise_bound)
    errors.check("velocity", alpha / sigma / abs(kappa) * norm(flow.velocity(x, t) - want.velocity), noise_bound)
    mean_bound = tol.denoiser * np.maximum(norm(want.denoiser), radius)
    errors.check("denoiser", norm(flow.denoiser(x, t) - want.denoiser), mean_bound)
    density_bound = tol.of_density(ref.log_density)
    errors.check("log_density", difference(flow.log_density(x, t), ref.log_density), density_bound)

    tiny = np.finfo(result).tiny
    kept = (sigma**2 / (sigma**2 + alpha**2 * bandwidth**2)) ** 2
    scale = alpha / sigma**2
    data = np.abs(want.divergence_data)
    div_bound = (
        tol.off_weights * data + 4 * EPS * (np.abs(want.divergence) + abs(x.shape[1] * c.sigma_dot / c.sigma)) + tiny
    )
    errors.check("divergence", difference(flow.divergence(x, t), want.divergence), div_bound)
    smoothed = bandwidth**2 * np.sqrt(kept) * u
    pushed = scale * (kept * ref.product + smoothed)
    push_bound = (
        scale * (kept * tol.off_weights * ref.variance + tol.off_weights * norm(smoothed)) * norm(u) + 40 * tiny
    )
    errors.check("jvp", norm(flow.jvp(x, t, u) - pushed), push_bound)

    post = flow.posterior(x, t, top=min(4, len(oracle_rows)))
    mean_bound = tol.denoiser * np.maximum(norm(ref.mean), radius)
    errors.check("mean", norm(post.mean - ref.mean), mean_bound)
    density_bound = tol.of_density(ref.log_norm)
    errors.check("log_norm", difference(post.log_norm, ref.log_norm), density_bound)
    for name in ("gap", "log_rest"):
        value = getattr(ref, name)
        size = np.where(np.isinf(value), 0.0, np.abs(value))
        errors.check(name, difference(getattr(post, name), value), tol.off_weights * np.maximum(1, 1e-3 * size))
    for name in ("ess", "entropy", "variance"):
        value = getattr(ref, name)
        errors.check(name, difference(getattr(post, name), value), tol.off_weights * value + 1e-300)
    query = np.arange(len(x))
    top = np.exp(ref.log_weight.max(1))
    errors.check("index", top - np.exp(ref.log_weight[query, post.index]), 4 * tol.weight)
    best = -np.sort(-np.exp(ref.log_weight), axis=1)[:, : post.top_weight.shape[1]]
    errors.check("top_weight", np.abs(post.top_weight - best).max(1), tol.weight)
    chosen = np.take_along_axis(np.exp(ref.log_weight), post.top_index, 1)
    errors.check("top_index", np.abs(chosen - best).max(1), 2 * tol.weight)
    errors.check("repeated top_index", [len(row) - len(set(row)) for row in post.top_index.tolist()], 0)
    errors.check("dropped", post.dropped, tol.weight)
    errors.check("certificate", post.certificate, tol.skipped)
    errors.check("work", post.work, 1.05)
    return ref
