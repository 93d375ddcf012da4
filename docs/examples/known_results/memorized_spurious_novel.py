"""
From memorized over spurious to novel
=====================================

Pham et al. (2025) see diffusion models as associative memories: with few training rows a model recalls them; with more
than it can store it first produces *spurious* samples, which many runs end at and no row is near; with many, novel
ones.

**Shown.** The three shares over the number of rows for a model of fixed capacity whose field is known in closed form: a
mixture of 16 Gaussians with full covariances, fitted by k-means. One row in a cluster is memorized; two or three span a
line or plane, where samples crowd away from the rows; many fill their surroundings.

**Differs.** Theirs are trained networks on pictures in colour; here a model's capacity is its number of clusters, and a
sample is spurious when another one is three times nearer than any row (``Memorization.classes``). Only the order of the
phases carries over. Digits (at full size Fashion-MNIST).

**Cost.** Four seconds; at full size minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress
from sklearn.cluster import KMeans

import interp_fast as itf

X = images().astype(np.float64)
n, capacity = (4000, 64) if FULL else (600, 16)
sizes = capacity * np.array([0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 40, 100])
sizes = sizes[sizes <= len(X)].astype(int)
schedule = itf.Linear()


def model(rows):
    """The mixture over clusters of rows; a covariance has the rank of its cluster, none for a single row."""
    label = KMeans(min(capacity, len(rows)), n_init=2, random_state=0).fit_predict(rows)
    clusters = [rows[label == k] for k in np.unique(label)]
    covariances = [np.cov(c.T, bias=True) if len(c) > 1 else np.zeros((rows.shape[1],) * 2) for c in clusters]
    return itf.GaussianMixture([len(c) for c in clusters], [c.mean(axis=0) for c in clusters], covariances, schedule)


# %%
# Draws at t = 1, from the law itself: what a run with many steps ends on.

shares = []
for size in progress(sizes, "training sets"):
    x, _ = model(X[:size]).draw(n, 1.0, rng=0)
    found = itf.memorization(x, X[:size], k=None)
    shares.append((found.memorized, found.spurious, found.novel))
    print(f"{size:>6} rows: memorized {shares[-1][0]:.2f}, spurious {shares[-1][1]:.2f}, novel {shares[-1][2]:.2f}")

figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
ax.plot(sizes, shares, ".-", label=["memorized", "spurious", "novel"])
ax.axvline(capacity, color="0.6", linestyle=":")
ax.set(xscale="log", xlabel="training rows (dotted: components of the model)", ylabel="share of samples")
ax.legend()
peaks = np.argmax(shares, axis=0)
assert peaks[0] < peaks[1] < peaks[2]
finish(figure)
