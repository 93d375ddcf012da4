"""
The exact denoiser from the nearest rows only
=============================================

Exact denoisers over many rows are often approximated: by the k rows nearest to the query, found with an index, or by a
random part of the rows. The posterior says what is lost: early it is spread over all rows, late one row holds it. So
the first is right late and wrong early, the second the other way round.

**Shown.** The relative error of the velocity that k nearest rows, or k rows drawn at random, give in place of all, over
time, and the number of rows that hold 99 % of the posterior.

**Differs.** No program is run here: both approximations are computed as their definitions say, the nearest rows by
exact search (an approximate index adds its own misses). Digits (at full size Fashion-MNIST).

**Cost.** Two seconds; at full size some minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress

import interp_fast as itf

X = images()
n, counts = 60, (10, 100, 1000) if FULL else (5, 50, 500)
field, times = itf.Field(X, itf.Linear()), np.linspace(0.02, 0.98, 25)


def over(rows, x, t):
    """The velocity at x (n, d) by the posterior over some rows (n, k, d) of each query."""
    logits = -np.sum((x[:, None] - t * rows) ** 2, axis=2) / (2 * (1 - t) ** 2)
    w = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (np.einsum("nk,nkd->nd", w / w.sum(axis=1, keepdims=True), rows) - x) / (1 - t)


# %%
# The error is counted against the part of the velocity that varies, by its root mean square.

rng, needed = np.random.default_rng(0), []
errors = {(kind, k): [] for kind in ("nearest", "random") for k in counts}
for t in progress(times, "times"):
    x, _ = field.draw(n, t, rng=0)
    exact = field.velocity(x, t)
    scale = np.sqrt(np.mean(np.sum((exact - exact.mean(axis=0)) ** 2, axis=1)))
    near = itf.nearest(x / t, X, max(counts)).index
    for (kind, k), error in errors.items():
        chosen = near[:, :k] if kind == "nearest" else rng.integers(len(X), size=(1, k)).repeat(n, axis=0)
        error.append(np.sqrt(np.mean(np.sum((over(X[chosen], x, t) - exact) ** 2, axis=1))) / scale)
    weights = field.posterior(x, t, top=max(counts)).top_weight
    needed.append(np.median(1 + np.sum(np.cumsum(weights, axis=1) < 0.99, axis=1)))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
for (kind, k), error in errors.items():
    left.semilogy(times, error, "-" if kind == "nearest" else ":", color=f"C{counts.index(k)}", label=f"{k} {kind}")
    print(f"{k:>5} {kind}: error {error[0]:.2g} at t = {times[0]:.2f}, {error[-3]:.2g} at t = {times[-3]:.2f}")
left.set(xlabel="t (0 noise, 1 data)", ylabel="relative error of the velocity", ylim=(1e-7, 3))
left.legend(fontsize="small")
right.semilogy(times, needed)
right.set(xlabel="t", title=f"rows with 99 % of the posterior (up to {max(counts)})")
finish(figure)
