"""Train small velocity networks on digits and audit them: does the model copy, and what keeps it from copying?

For each size of training set and length of training, the network's loss is compared with the lowest loss any model can
reach on that training set (known in closed form), and its samples with the training rows. With training, the excess
loss falls and the share of memorized samples rises, never below what the bound proves. Few rows are soon memorized;
many are not within these lengths. Nearly every sample that is no copy is shown to be displaced: the network's error
alone keeps it off every row.

    python docs/examples/audit_a_trained_model.py [--quick] [--out audit.png]

About six minutes on one core, half a minute with --quick. Needs scikit-learn and matplotlib:
pip install 'interp_fast[report]'.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import interp_fast as itf

SCHEDULE = itf.Linear()
BATCH, BATCHES = 256, 10  # rows of an update, updates of a call
AVERAGE = 50  # calls whose weights are averaged: steadier than the last ones
ANSWER = {True: "yes", False: "no", None: "undetermined"}
LATE = 0.05  # training times get denser towards t = 1, as 1 / (1 + LATE - t)


class Network:
    """A velocity v = (D - x) / (1 - t) with D regressed on the rows: x_t = t x_1 + (1 - t) z has velocity x_1 - z."""

    def __init__(self, width: int = 256, seed: int = 0) -> None:
        self.net = MLPRegressor(
            hidden_layer_sizes=3 * (width,), batch_size=BATCH, learning_rate_init=2e-3, beta_2=0.99, random_state=seed
        )
        self.mean, self.calls = self.net, 0
        self.rng = np.random.default_rng(seed)

    def train(self, rows: np.ndarray, updates: int) -> None:
        n = BATCH * BATCHES
        for _ in range(updates // BATCHES):
            t = 1 + LATE - (1 + LATE) * (LATE / (1 + LATE)) ** self.rng.random((n, 1), np.float32)
            x1 = rows[self.rng.integers(len(rows), size=n)]
            x = t * x1 + (1 - t) * self.rng.standard_normal(x1.shape, np.float32)
            self.net.partial_fit(features(x, t), x1)
            self.calls += 1
            if self.calls == 1:
                self.mean = copy.deepcopy(self.net)
            for old, new in zip(self._weights(self.mean), self._weights(self.net), strict=True):
                old += (new - old) / min(self.calls, AVERAGE)

    @staticmethod
    def _weights(net: MLPRegressor) -> list[np.ndarray]:
        return net.coefs_ + net.intercepts_

    def __call__(self, x: np.ndarray, t: float) -> np.ndarray:
        return (self.mean.predict(features(x, np.full((len(x), 1), t))) - x) / (1 - t)


def features(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    """What the network sees of (x, t): x in units of its own spread, and t through a few waves."""
    waves = [f(np.pi * k * t) for k in (1, 2, 4) for f in (np.sin, np.cos)]
    return np.concatenate([x / np.sqrt(t**2 + (1 - t) ** 2), t, *waves], axis=1, dtype=np.float32)


def audits(sizes: tuple[int, ...], lengths: tuple[int, ...]) -> Iterator[tuple[int, int, itf.Audit]]:
    """Rows, updates and audit of every network."""
    digits = (load_digits().data / 8 - 1).astype(np.float32)[np.random.default_rng(0).permutation(1797)]
    for size in sizes:
        rows, network, done = digits[:size], Network(), 0
        oracle = itf.Field(rows, SCHEDULE)
        for length in lengths:
            network.train(rows, length - done)
            done = length
            model = itf.Model(network, SCHEDULE, predicts="velocity")
            yield size, length, itf.audit(model, oracle, 20, 400, rng=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small training set, for a first look")
    parser.add_argument("--out", type=Path, default=Path("audit.png"), help="the figure")
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)

    found = {}
    print("  rows  updates  excess at t=0.5   bound  memorized: proved  measured  displaced  memorizes")
    for size, length, audit in audits((16,) if options.quick else (16, 64, 256, 1024),
                                      (30, 300, 4000) if options.quick else (30, 300, 4000, 15000)):  # fmt: skip
        middle = int(np.argmin(np.abs(audit.times - 0.5)))
        print(f"{size:>6} {length:>8} {audit.excess[middle]:>16.4f} {audit.bound:>7.2f} {audit.memorized_bound:>18.2f} "
              f"{audit.memorized:>9.2f} {audit.displaced:>10.2f}  {ANSWER[audit.memorizes]}", flush=True)  # fmt: skip
        found[size, length] = audit
    draw(found, options.out)


def draw(found: dict[tuple[int, int], itf.Audit], path: Path) -> None:
    """Excess loss over t for every training length, one panel a size, beside the memorized share."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted({size for size, _ in found})
    figure, axes = plt.subplots(1, len(sizes) + 1, figsize=(3.6 * len(sizes) + 3.6, 3.6), layout="constrained")
    for ax, size in zip(axes, sizes, strict=False):
        mine = {length: audit for (s, length), audit in found.items() if s == size}
        for length, audit in mine.items():
            ax.plot(audit.times, audit.excess, label=f"{length} updates, memorizes: {ANSWER[audit.memorizes]}")
        ax.plot(audit.times, audit.optimal, color="black", linestyle=":", label="lowest loss possible")
        ax.set(title=f"{size} training rows", xlabel="t (0 noise, 1 data)", yscale="log", ylim=(1e-3, 1e2))
        ax.legend(fontsize="x-small")
        (line,) = axes[-1].plot(list(mine), [a.memorized for a in mine.values()], marker="o", label=f"{size} rows")
        proved = [a.memorized_bound for a in mine.values()]
        axes[-1].plot(list(mine), proved, color=line.get_color(), linestyle=":")
    axes[0].set_ylabel("excess loss of the denoiser")
    axes[-1].set(title="samples memorized (dotted: proved)", xlabel="updates", xscale="log")
    axes[-1].set_ylim(-0.02, 1.02)
    axes[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=150)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
