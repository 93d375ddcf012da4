"""The same network under EDM: D(x, sigma) with its preconditioning, its law of sigma and its weights.

    python docs/networks/edm.py [--updates 800] [--out edm.png]

Left: the share of the exact score that the network and the best linear field explain, over sigma, on points of the
training set. Right: the share of the network's score that the linear and the exact field explain on held-out pictures
(Wang & Vastola, 2024).
"""

import matplotlib.pyplot as plt
import numpy as np
import torch
from common import UNet, explained, options, pictures, train

import interp_fast as itf

arguments = options("edm")
rows, held = pictures(arguments.data), pictures(arguments.data, "t10k", 200)
data, spread = torch.from_numpy(rows).reshape(-1, 1, 16, 16), float(rows.std())


class Denoiser(torch.nn.Module):
    img_channels, img_resolution = 1, 16  # by which from_edm knows the shape of a point

    def __init__(self):
        super().__init__()
        self.net = UNet()

    def forward(self, x, sigma, class_labels=None):
        s = sigma.reshape(-1, 1, 1, 1)
        scale = (s**2 + spread**2).rsqrt()
        return (spread * scale) ** 2 * x + s * spread * scale * self.net(scale * x, sigma.log() / 4)


def loss(batch=64):
    x, sigma = data[torch.randint(len(data), (batch,))], torch.exp(1.2 * torch.randn(batch) - 1.2)
    s = sigma.reshape(-1, 1, 1, 1)
    return (net(x + s * torch.randn_like(x), sigma) - x) ** 2 * (s**2 + spread**2) / (s * spread) ** 2


net = Denoiser()
model = itf.Model.from_edm(train(net, loss, arguments.updates))
field = itf.Field(rows, model.schedule)
linear = itf.Gaussian(field)
sigmas = np.geomspace(40.0, 0.04, 11)
times = model.schedule.time_of(sigmas)
near = itf.compare(model, field, times, 100, kind="noise", baselines={"linear": linear}, rng=0)

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for name, found in {"network": near, "linear": near.baselines["linear"]}.items():
    left.semilogx(sigmas, found.r2, marker=".", label=name)
left.set(xlabel="noise level σ", ylabel="explained share of the exact score ($r^2$)", ylim=(-0.55, 1.05))
left.legend()
shares = explained(right, model, {"linear": linear, "exact": field}, held, model.schedule, times)
figure.savefig(arguments.out, dpi=110)
for k, sigma in enumerate(sigmas):
    print(f"sigma = {sigma:6.2f}: of the network {shares['linear'][k]:.3f} linear, {shares['exact'][k]:.3f} exact")
