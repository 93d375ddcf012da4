"""
The memorized share over training size and smoothness
=====================================================

Gu et al. (2023) and Bonnaire et al. (2025) count the copies among a diffusion model's samples: their share falls with
the number of training rows and rises with the length of training, and the length at which it rises grows with the
number of rows.

**Shown.** The same map for a model in closed form: the field of a kernel density estimate, each row replaced by N(row,
bandwidth^2). Its bandwidth stands for what training has not resolved yet, large early and small late. A sample is a
copy when d1 / d2 < 1/3.

**Differs.** This is no network and there is no training: bandwidth says how fine a law is learned, not after how many
updates, and with it new samples are noisy rows, not new digits. Networks that are trained for growing lengths on
growing sets, and audited, are in ``docs/examples/audit_a_trained_model.py``. Digits (at full size Fashion-MNIST).

**Cost.** Two seconds; at full size some minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress

import interp_fast as itf

X = images()
n, sizes = (2000, (60, 600, 6000, 60000)) if FULL else (300, (18, 60, 180, 600, 1797))
schedule = itf.Linear()

# %%
# Samples at t = 1 are exact draws: a run of the smoothed field ends on the same law. The first line says how near that
# is.

smooth = itf.Field(X[: sizes[1]], schedule, bandwidth=0.05)
runs = itf.sample(smooth, itf.multistep(schedule, 100), n, rng=0).x
draws = smooth.draw(n, 1.0, rng=1)[0]
spread = [np.median(itf.nearest(x, X[: sizes[1]], 1).distance) / (0.05 * np.sqrt(X.shape[1])) for x in (runs, draws)]
print(f"distance to the nearest row over bandwidth sqrt(d): runs {spread[0]:.3f}, draws {spread[1]:.3f}")

# %%
# With more rows the second nearest is nearer, and a finer law is needed before samples are copies.

bandwidths = np.geomspace(0.5, 0.01, 16)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
half = []
for size in progress(sizes, "training sets"):
    plain, shares = itf.Field(X[:size], schedule), []
    for bandwidth in bandwidths:
        x = itf.Field(X[:size], schedule, bandwidth=bandwidth).draw(n, 1.0, rng=0)[0]
        shares.append(itf.memorization(x, plain, k=None).copied)
    left.semilogx(1 / bandwidths, shares, ".-", label=f"{size} rows")
    half.append(1 / np.interp(0.5, shares, bandwidths))
    print(f"{size:>6} rows: half of the samples are copies at bandwidth {1 / half[-1]:.3f}")
left.set(xlabel="1 / bandwidth (finer: later in training)", ylabel="share of copies")
left.legend()
right.semilogx(sizes, half, "o-")
right.set(xlabel="training rows", ylabel="1 / bandwidth at half copies")
assert half[-1] > half[0]
finish(figure)
