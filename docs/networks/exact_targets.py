"""Training on exact targets against ordinary training: the same minimiser, targets without variance.

    python docs/networks/exact_targets.py [--updates 300] [--out exact_targets.png]

Flow matching regresses on x_1 - z of one row; ``itf.torch.Targets`` gives its mean over all rows that x_t may come
from, the velocity itself, made by a worker while the network trains. Two networks from the same weights, one trained by
each: the mean squared distance to the exact velocity over updates, early, in the middle and late.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
from common import UNet, flow_loss, options, pictures, train
from torch.utils.data import DataLoader

import interp_fast as itf

TIMES = [0.15, 0.4, 0.7]


def distance(net):
    model = itf.Model.from_flow_matching(net, event=(1, 16, 16))
    return itf.compare(model, field, TIMES, 100, at="holdout", holdout=rows, rng=0).mse


def exact_loss(net, rows):
    batches = iter(DataLoader(itf.torch.Targets(field, 64, rng=0), batch_size=None, num_workers=1))

    def loss():
        x, t, velocity = next(batches)
        return (net(x.reshape(-1, 1, 16, 16), t) - velocity.reshape(-1, 1, 16, 16)) ** 2

    return loss


if __name__ == "__main__":  # workers that are spawned import this file
    arguments = options("exact_targets", 300)
    rows = pictures(arguments.data)
    field, first = itf.Field(rows, threads=1), UNet()
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained")
    every = max(1, arguments.updates // 6)
    for name, loss_of in (("ordinary", flow_loss), ("exact targets", exact_loss)):
        net, seen = copy.deepcopy(first), []

        def note(update, averaged, seen=seen):
            if update % every == 0:
                seen.append((update, *distance(averaged)))

        train(net, loss_of(net, rows), arguments.updates, note)
        updates, *found = np.array(seen).T
        for ax, t, mse in zip(axes, TIMES, found, strict=True):
            ax.semilogy(updates, mse, marker=".", label=name)
            ax.set(title=f"t = {t}", xlabel="updates", ylabel="squared distance to the exact velocity")
        print(f"{name:>13}: {np.array2string(np.array(found)[:, -1], precision=2)} at t = {TIMES}")
    axes[0].legend()
    figure.savefig(arguments.out, dpi=110)
