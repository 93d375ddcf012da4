"""
Where a network fails to learn the exact velocity
=================================================

The minimiser of flow matching copies its training set; networks trained on many rows do not copy, so somewhere they
must miss it. Bertrand et al. (2025) show where: figure 2 is the distance of a network from the exact velocity over time
and over the size of the training set; figure 3 follows the exact velocity until a time tau and the network after.

**Shown.** Left, the mean square distance for three training sets, at x_t of training and of held-out rows, over the
variance of the exact velocity. Right, of samples that switch at tau, how many end at the row of the exact run or copy.

**Differs.** Theirs are large networks on pictures in colour; here it is a perceptron of two layers on digits (at full
size Fashion-MNIST), and d1 / d2 < 1/3 is a copy. So briefly trained it misses the field late, too, and blurs copies.

**Cost.** Eight seconds, nearly all of it training; at full size some ten minutes.
"""

import matplotlib.pyplot as plt
import numpy as np
from _setting import FULL, Network, finish, images, progress

import interp_fast as itf

X = images()
sizes, updates, width, n = ((100, 1000, 10000), 8000, 512, 1000) if FULL else ((16, 64, 256), 500, 128, 150)
held_out, times = X[-len(X) // 4 :], np.linspace(0.05, 0.95, 19)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")

# %%
# From t = 0.4 on, a network is farther from the exact velocity the more rows there are. At held-out rows (dotted),
# which it has not seen, it is also where it is near on its own.

for size, colour in zip(progress(sizes, "training sets"), plt.cm.viridis(np.linspace(0, 0.8, 3)), strict=True):
    network = Network(X[:size], width).train(updates)
    field = itf.Field(X[:size], itf.Linear())
    for at, line in (("train", "-"), ("holdout", ":")):
        near = itf.compare(network.model, field, times, n, at=at, holdout=held_out if at == "holdout" else None, rng=0)
        left.semilogy(times, 1 - near.r2, line, color=colour, label=f"{size} rows, {at}")
    if size == sizes[1]:
        shown = network, field
left.set(xlabel="t (0 noise, 1 data)", ylabel="|network - exact|² / variance of exact")

# %%
# Two runs in a row: ``x0`` of the second is where the first ended.

network, field = shown
start, switch = field.draw(n, 0.0, rng=1)[0], np.linspace(0.02, 0.98, 13)
ends = itf.sample(field, itf.euler(field.schedule, 66), x0=start).index
found = []
for tau in progress(switch, "times of the switch"):
    early, late = (itf.euler(field.schedule, np.linspace(*span, 33)) for span in ((0, tau), (tau, 1)))
    x = itf.sample(network.model, late, x0=itf.sample(field, early, x0=start).x).x
    near = itf.memorization(x, field, k=None)
    found.append((np.mean(near.index == ends), near.copied))
    print(f"exact until t = {tau:.2f}: {found[-1][0]:.0%} end at the exact run's row, {found[-1][1]:.0%} are copies")
right.plot(switch, found, marker=".", label=("at the row of the exact run", "copies"))
right.set(xlabel="tau: exact before, network after", ylabel="share of samples", ylim=(-0.03, 1.03))
for ax in (left, right):
    ax.legend(fontsize="small")
finish(figure)
