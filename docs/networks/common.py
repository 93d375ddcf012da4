"""What the examples share: pictures, a small U-Net, how it is trained, and a figure."""

import argparse
import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn

FASHION = Path("/usr/share/datasets/fashion-mnist")  # of Debian's dataset-fashion-mnist


def options(name, updates=800):
    parser = argparse.ArgumentParser()
    parser.add_argument("--updates", type=int, default=updates, help="of a network")
    parser.add_argument("--data", type=Path, default=FASHION, help="folder of Fashion-MNIST's files")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(f"{name}.png"), help="the figure")
    torch.manual_seed(0)
    return parser.parse_args()


def pictures(folder, part="train", n=2000):
    """The first n pictures of Fashion-MNIST, 16 x 16 with a margin, in [-1, 1]: (n, 256) float32."""
    packed = (folder / f"{part}-images-idx3-ubyte.gz").read_bytes()
    data = np.frombuffer(gzip.decompress(packed), np.uint8, offset=16)
    wide = np.pad(data[: n * 784].reshape(n, 28, 28), ((0, 0), (2, 2), (2, 2)))
    return (wide.reshape(n, 16, 2, 16, 2).mean((2, 4)) / 127.5 - 1).reshape(n, 256).astype(np.float32)


class Block(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.first = nn.Conv2d(i, o, 3, stride, padding=1)
        self.second = nn.Conv2d(o, o, 3, padding=1)
        self.norm, self.time = nn.GroupNorm(4, o), nn.Linear(64, 2 * o)

    def forward(self, x, time):
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        x = self.norm(self.first(x)) * (1 + scale) + shift
        return self.second(nn.functional.silu(x))


class UNet(nn.Module):
    """(x (m, 1, 16, 16), t (m,)) -> (m, 1, 16, 16), at 16, 8 and 4 pixels; sees t by a few waves."""

    def __init__(self, w=(16, 32, 64)):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU())
        self.down = nn.ModuleList([Block(1, w[0]), Block(w[0], w[1], 2), Block(w[1], w[2], 2), Block(w[2], w[2])])
        self.up = nn.ModuleList([Block(w[2] + w[1], w[1]), Block(w[1] + w[0], w[0])])
        self.last = nn.Conv2d(w[0], 1, 3, padding=1)

    def forward(self, x, t):
        waves = t[:, None] * np.pi * 2.0 ** torch.arange(-2, 6, device=t.device, dtype=t.dtype)
        time = self.embed(torch.cat([waves.sin(), waves.cos()], dim=1))
        a = self.down[0](x, time)
        b = self.down[1](a, time)
        c = self.down[3](self.down[2](b, time), time)
        for block, skip in zip(self.up, (b, a), strict=True):
            c = block(torch.cat([nn.functional.interpolate(c, scale_factor=2), skip], dim=1), time)
        return self.last(c)


def train(net, loss, updates, at=None):
    """Adam on the mean of ``loss()``; returns the network with its weights averaged over the last fifty updates."""
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=updates)
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98))
    for update in range(updates):
        optimizer.zero_grad()
        loss().mean().backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(net)
        if at is not None:
            at(update + 1, average.module)
    return average.module


def flow_loss(net, rows, batch=64):
    """|net(x_t, t) - (x_1 - z)|^2 at x_t = t x_1 + (1 - t) z: what flow matching minimises."""
    data = torch.from_numpy(rows).reshape(-1, 1, 16, 16)

    def loss():
        x, z, t = data[torch.randint(len(data), (batch,))], torch.randn(batch, 1, 16, 16), torch.rand(batch)
        s = t[:, None, None, None]
        return (net(s * x + (1 - s) * z, t) - (x - z)) ** 2

    return loss


def explained(ax, model, fields, held, schedule, times):
    """The share of the variance of a network's score that other fields explain, on held-out pictures."""
    z = np.random.default_rng(0).standard_normal(held.shape, np.float32)
    c, shares = schedule(times), {name: [] for name in fields}
    for t, alpha, sigma in zip(times, c.alpha, c.sigma, strict=True):
        x = np.float32(alpha) * held + np.float32(sigma) * z
        predicted = model.noise(x, t)  # -sigma times the score
        spread = ((predicted - predicted.mean(0)) ** 2).sum()
        for name, field in fields.items():
            shares[name].append(1 - ((field.noise(x, t) - predicted) ** 2).sum() / spread)
    for name, share in shares.items():
        ax.semilogx(c.sigma / c.alpha, share, marker=".", label=f"by the {name} field")
    ax.set(xlabel="noise level σ / α", ylabel="explained share of the network's score", ylim=(-0.55, 1.05))
    ax.legend()
    return shares
