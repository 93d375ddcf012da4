"""
How stochastic is the target of flow matching?
==============================================

A network that learns flow matching sees the velocity of one pair, u = x_1 - x_0, and what it is to learn is its mean
over all rows given x_t, the exact velocity. Bertrand et al. (2025, figure 1) compare the two by their cosine: in high
dimension they agree from early on, so little is stochastic about the target.

**Shown.** Histograms of the cosine at five times, for rows of the plane and for pictures; and the share of draws with a
cosine above 0.9 over time, for pictures of growing resolution.

**Differs.** Theirs goes to larger pictures in colour; here it is digits (at full size Fashion-MNIST), and lower
resolutions are means of blocks. Every velocity is exact.

**Cost.** Two seconds; at full size (60,000 rows) minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress
from sklearn.datasets import make_moons

import interp_fast as itf

n, times = (2000 if FULL else 400), np.linspace(0.04, 0.96, 24)


def cosines(rows, t):
    """Of draws of x_t: the cosine of the exact velocity and of the one that the draw was made with."""
    field = itf.Field(rows, itf.Linear())
    x, row = field.draw(n, t, rng=0)
    pair, exact = (rows[row] - x) / (1 - t), field.velocity(x, t)  # the first is x_1 - x_0
    return np.sum(exact * pair, axis=1) / (np.linalg.norm(exact, axis=1) * np.linalg.norm(pair, axis=1))


# %%
# In the plane pairs of all directions meet until late; those of pictures agree with their mean ever better.

X = images()
moons = make_moons(len(X), noise=0.05, random_state=0)[0]
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained")
for ax, (name, rows) in zip(axes, {"two moons": moons, f"pictures, d = {X.shape[1]}": X}.items(), strict=False):
    for t, colour in zip((0.1, 0.2, 0.4, 0.6, 0.8), plt.cm.viridis(np.linspace(0, 0.9, 5)), strict=True):
        ax.hist(cosines(rows, t), np.linspace(-1, 1, 41), histtype="step", density=True, color=colour, label=f"t = {t}")
    ax.set(title=name, xlabel="cosine of pair and exact velocity", yscale="log")
axes[0].legend(fontsize="small")

# %%
# The more pixels the earlier. Very early the noise, which both share, makes cosines large whatever the data are.

for small in progress((2, 4, 7, 14, 28) if FULL else (2, 4, 8), "resolutions"):
    step = round(X.shape[1] ** 0.5) // small
    rows = X.reshape(-1, small, step, small, step).mean(axis=(2, 4)).reshape(len(X), -1)
    agree = np.array([np.mean(cosines(rows, t) > 0.9) for t in times])
    axes[2].plot(times, agree, label=f"d = {small**2}")
    late = max(times[agree < 0.9], default=0)
    print(f"d = {small**2:>4}: t = {late:.2f} is the last time with fewer than nine tenths of the cosines above 0.9")
axes[2].set(xlabel="t (0 noise, 1 data)", title="share with a cosine above 0.9", ylim=(0, 1.03))
axes[2].legend(fontsize="small", loc="lower left")
finish(figure)
