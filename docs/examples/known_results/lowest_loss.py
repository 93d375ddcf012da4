"""
The lowest loss a diffusion model can reach
===========================================

A diffusion model's loss does not go to 0, so its value does not say how well it is trained: what matters is its
distance from the lowest loss possible, which depends on the data and the noise level. Xu et al. (2025) estimate that
curve for image data sets and read trained models against it.

**Shown.** The lowest denoising loss over the noise level sigma / alpha for training sets of several sizes, its form in
three parametrisations, and a check that has one number for an answer: the area under the curve, in the right measure,
is the logarithm of the number of rows (Guo, Shamai and Verdu 2005).

**Differs.** Theirs are larger pictures in colour and have trained models beside them; here it is digits (at full size
Fashion-MNIST) and the curve alone, every posterior over all rows.

**Cost.** Three seconds; at full size some ten minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress

import interp_fast as itf

X = images()
sizes, n = ((600, 6000, 60000), 2000) if FULL else ((18, 180, 1797), 200)
schedule = itf.Linear()
ratio = np.geomspace(100, 0.01, 25) * X.std()  # sigma / alpha
times = np.asarray(schedule.time_of(ratio))
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")

# %%
# More rows leave more to guess, at every noise level. The curve is known with an interval, not only a standard error.

for size in progress(sizes, "training sets"):
    found = itf.optimal_loss(itf.Field(X[:size], schedule), times, n, rng=0)
    left.loglog(ratio, found.loss / X.shape[1], label=f"{size} rows")
    left.fill_between(ratio, *found.interval.T / X.shape[1], alpha=0.2)
    area = np.trapezoid(found.loss / ratio**2, -np.log(ratio)) + found.loss[0] / ratio[0] ** 2 / 2
    print(f"{size:>6} rows: area {area:.3f}, log N = {np.log(size):.3f}")
left.set(xlabel="sigma / alpha", ylabel="lowest loss per pixel", ylim=(1e-5, 2))
left.legend()
assert abs(area / np.log(size) - 1) < 0.05

# %%
# The same bracket, E tr C, times the square of what the parametrisation multiplies an error of the denoiser by.

for kind in ("denoiser", "velocity", "noise"):
    scaled = itf.optimal_loss(itf.Field(X[: sizes[1]], schedule), times, n, kind=kind, rng=0)
    right.loglog(ratio, scaled.loss / X.shape[1], label=kind)
right.set(xlabel="sigma / alpha", title=f"in three parametrisations, {sizes[1]} rows", ylim=(1e-5, 10))
right.legend()
finish(figure)
