"""
How much the target varies over time
====================================

Given x_t, the target of flow matching is a random velocity; its variance is what stochastic gradients suffer from.
StableVelocity shows its quantiles over time: near noise many rows share x_t, near data one is left and the variance all
but vanishes.

**Shown.** Median and the 15 % and 85 % quantiles of the variance of v given x_t, for training sets of growing size and
for rows of growing dimension: with the dimension the fall comes earlier and is steeper.

**Differs.** Every variance is exact, over all rows; data are digits (at full size Fashion-MNIST) and Gaussian rows.

**Cost.** Two seconds; at full size minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress

import interp_fast as itf

X = images()
n, sizes = (1000, (600, 6000, 60000)) if FULL else (100, (18, 180, 1797))
schedule, times = itf.Linear(), np.linspace(0.02, 0.98, 25)


def curve(ax, rows, label):
    """Quantiles of kappa^2 tr C at draws of x_t, per coordinate; the median's value at each time."""
    field, found = itf.Field(rows, schedule), []
    for t in times:
        c = schedule(t)
        kappa = c.alpha_dot - c.alpha * c.sigma_dot / c.sigma
        variance = kappa**2 * field.posterior(field.draw(n, t, rng=0)[0], t).variance / rows.shape[1]
        found.append(np.quantile(variance, (0.15, 0.5, 0.85)))
    low, median, high = np.array(found).T
    ax.semilogy(times, median, label=label)
    ax.fill_between(times, low, high, alpha=0.2, linewidth=0)
    return median


# %%
# The number of rows moves the fall a little.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
for size in progress(sizes, "training sets"):
    curve(left, X[:size], f"{size} rows")
left.set(xlabel="t (0 noise, 1 data)", ylabel="Var(v | x_t) per coordinate", ylim=(1e-8, 30))
left.legend()

# %%
# The dimension moves it much.

rng = np.random.default_rng(0)
for d in progress((2, 16, 128, 1024), "dimensions"):
    medians = curve(right, rng.standard_normal((sizes[-1] // 2, d), np.float32), f"Gaussian, d = {d}")
    print(f"d = {d:>4}: the median is above 1 % of the data's variance until t = {times[medians > 0.01].max():.2f}")
right.set(xlabel="t", title=f"{sizes[-1] // 2} rows")
right.legend()
finish(figure)
