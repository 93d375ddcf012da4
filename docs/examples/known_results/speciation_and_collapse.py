"""
Speciation and collapse
=======================

Biroli et al. (2024) find two times in the generation of data that form classes: at *speciation* a path chooses its
class, which the largest eigenvalue of the covariance foretells; at *collapse* it chooses a training row, which the
entropy of the posterior over rows tells. Between them a sample of the exact field is not yet a copy. For collapse to
come late, the number of rows must grow exponentially with the dimension.

**Shown.** For two Gaussian classes, the probability that two paths from one state end in the same class, over time, in
three dimensions with the predicted time; and the mean entropy of the posterior for training sets of growing size.

**Differs.** Theirs use the time of an Ornstein-Uhlenbeck process and also networks on image sets; here the schedule is
linear (only sigma / alpha matters) and both quantities are those of exact posteriors.

**Cost.** Three seconds; at full size minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, finish, progress

import interp_fast as itf

n, dimensions, sizes = 500, (16, 64, 256), ((100, 10**4, 10**6) if FULL else (50, 500, 5000))
schedule, times = itf.Linear(), np.linspace(0.01, 0.6, 30)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")

# %%
# Classes at (1, ..., 1) and (-1, ..., -1), with unit variance: speciation where (alpha / sigma)² (d + 1) = 1, the
# earlier the higher the dimension. A state leads two paths, drawn anew, to classes of the same posterior.

for d, colour in zip(progress(dimensions, "dimensions"), plt.cm.viridis(np.linspace(0, 0.8, 3)), strict=True):
    pair = itf.GaussianMixture([0.5, 0.5], [np.ones(d), -np.ones(d)], [1.0, 1.0], schedule)
    same = [np.mean(np.sum(pair.posterior(pair.draw(n, t, rng=0)[0], t).weight ** 2, axis=1)) for t in times]
    speciation = float(schedule.time_of(np.sqrt(d + 1)))
    left.plot(times, same, color=colour, label=f"d = {d}")
    left.axvline(speciation, color=colour, linestyle=":")
    print(f"d = {d:>4}: speciation at t = {speciation:.3f}, same class there {np.interp(speciation, times, same):.2f}")
left.set(xlabel="t (0 noise, 1 data)", title="two paths end in one class")
left.legend()

# %%
# Rows drawn from the same law in 32 dimensions: collapse comes later with more of them, slowly.

pair = itf.GaussianMixture([0.5, 0.5], [np.ones(32), -np.ones(32)], [1.0, 1.0], schedule)
collapses = []
for size in progress(sizes, "training sets"):
    field = itf.Field(pair.draw(size, 1.0, rng=1)[0].astype(np.float32), schedule)
    found = itf.theory.collapse_time(field, 100, rng=0)
    entropy = [np.mean(field.posterior(field.draw(100, t, rng=0)[0], t).entropy) for t in times]
    (line,) = right.plot(times, np.array(entropy) / np.log(size), label=f"{size} rows")
    right.axvline(found.time, color=line.get_color(), linestyle=":")
    collapses.append(found.time)
    print(f"{size:>7} rows: collapse at t = {found.time:.3f} +- {2 * found.stderr:.3f}")
right.set(xlabel="t", title="entropy of the posterior over log N, d = 32")
right.legend()
assert collapses == sorted(collapses)
finish(figure)
