"""The exact field until tau, a network after it: how late can a network still turn away from a copy?

    python docs/networks/hybrid.py [--updates 800] [--out hybrid.png]

Runs start as those of the exact field, which end on training pictures, and go on from tau as those of a U-Net trained
by flow matching (Bertrand et al., 2025, figure 3). The later the network takes over, the nearer they end to a training
picture.
"""

import matplotlib.pyplot as plt
import numpy as np
from common import UNet, flow_loss, options, pictures, train

import interp_fast as itf

arguments = options("hybrid")
rows = pictures(arguments.data)
net = UNet()
model = itf.Model.from_flow_matching(train(net, flow_loss(net, rows), arguments.updates), event=(1, 16, 16))
field = itf.Field(rows, model.schedule)
times, n = np.linspace(0, 1, 26), 60
start = np.random.default_rng(0).standard_normal((n, 256), np.float32)

taus, ends, copied, distance = (0, 5, 9, 13, 17, 20, 23, 25), [], [], []  # numbers of times
for k in taus:
    x = start
    if k > 0:
        x = itf.sample(field, itf.ddim(field.schedule, times[: k + 1]), x0=x).x
    if k < 25:
        x = itf.sample(model, itf.ddim(field.schedule, times[k:]), x0=x).x
    found = itf.memorization(x, field, k=None)
    ends.append(x)
    copied.append(found.copied)
    distance.append(np.median(found.d1))
    print(f"tau = {times[k]:.2f}: {copied[-1]:4.0%} copied, {distance[-1]:.2f} from the nearest training picture")

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
left.plot(times[list(taus)], copied, marker="o", label="copied (share)")
left.plot(times[list(taus)], np.array(distance) / field.R, marker="o", label="distance to the nearest picture / R")
left.set(xlabel="τ: exact field before, network after", ylim=(-0.05, 1.05))
left.legend()
board = np.stack([x[:10].reshape(10, 16, 16) for x in ends]).transpose(0, 2, 1, 3).reshape(16 * len(ends), 160)
right.imshow(board, cmap="gray", vmin=-1, vmax=1, aspect="auto")
right.set_yticks(16 * np.arange(len(ends)) + 8, [f"τ = {times[k]:.2f}" for k in taus])
right.set_xticks([])
figure.savefig(arguments.out, dpi=110)
