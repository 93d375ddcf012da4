"""
How far a Gaussian explains the score
=====================================

Wang and Vastola (2024) ask how much of a diffusion model's score simpler fields explain: that of the mean alone, of a
Gaussian, of a mixture, of the training set itself. Early, a Gaussian explains nearly all of it, whatever the network
has learned; only late do finer models matter.

**Shown.** The explained share of the variance over the noise level, for two scores: the exact one of the training set,
and the same seen from held-out rows, which is what generalization has to do with.

**Differs.** Theirs are scores of trained networks; here all scores are exact. Digits (at full size Fashion-MNIST), a
mixture of 10 Gaussians fitted by scikit-learn.

**Cost.** Three seconds; at full size some ten minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, images, progress
from sklearn.mixture import GaussianMixture

import interp_fast as itf

X = images()
train, held_out = X[: 4 * len(X) // 5], X[4 * len(X) // 5 :]
schedule, n, components = itf.Linear(), 1000 if FULL else 100, 10
ratio = np.geomspace(30, 0.03, 21) * X.std()  # sigma / alpha
times = np.asarray(schedule.time_of(ratio))

# %%
# Models from coarse to fine: a point at the mean, isotropic, Gaussian, a mixture.

mixture = GaussianMixture(components, reg_covar=1e-3, tol=0.1, random_state=0)
mixture.fit(train[:: 3 if FULL else 1].astype(np.float64))
models = {
    "mean": itf.Gaussian.of(train.mean(axis=0), 0.0, schedule),
    "isotropic": itf.Gaussian.of(train.mean(axis=0), train.var(axis=0).mean(), schedule),
    "Gaussian": itf.Gaussian(train, schedule),
    f"mixture of {components}": itf.GaussianMixture.from_sklearn(mixture, schedule),
}
field = itf.Field(train, schedule)

# %%
# All are held against a score at the same points. From that of held-out rows the exact field of the training rows is,
# late, further than the Gaussian.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
cases = {"score of the training rows": (field, models)}
cases["score of held-out rows"] = (itf.Field(held_out, schedule), models | {"training rows": field})
for ax, (title, (truth, fields)) in zip(axes, progress(cases.items(), "scores"), strict=True):
    near = itf.compare(models["Gaussian"], truth, times, n, kind="score", baselines=fields, rng=0)
    for name, found in near.baselines.items():
        ax.semilogx(ratio, found.r2, ".-", label=name)
    print(f"{title}: the Gaussian explains 90 % down to sigma / alpha = {ratio[near.r2 > 0.9].min():.2f}")
    ax.set(title=title, xlabel="sigma / alpha", ylim=(-0.5, 1.05))
    ax.invert_xaxis()
    ax.legend(fontsize="small")
axes[0].set_ylabel("explained share of the variance")
finish(figure)
