"""Train small velocity networks on digits and audit them: does the model copy, and what keeps it from copying?

For each size of training set and length of training, the network's loss is compared with the lowest loss any model can
reach on that training set (known in closed form), and its samples with the training rows. With training, the excess
loss falls, the verdict moves from underfitting to overfitting, and the measured share of memorized samples follows.

    python docs/examples/audit_a_trained_model.py [--quick] [--out audit.png]

Needs scikit-learn and matplotlib: pip install 'interp_fast[report]'.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

import interp_fast as itf

SCHEDULE = itf.Linear()
BATCH = 256


def features(x: np.ndarray, t: float | np.ndarray) -> np.ndarray:
    """What the network sees of (x, t): x in units of its own spread, and t through a few waves."""
    t = np.broadcast_to(np.asarray(t, float), (len(x),))[:, None]
    waves = [f(np.pi * k * t) for k in (1, 2, 4) for f in (np.sin, np.cos)]
    return np.concatenate([x / np.sqrt(t**2 + (1 - t) ** 2), t, *waves], axis=1)


class Network:
    """A velocity regressed by flow matching: at x_t = t x_1 + (1 - t) z the target is x_1 - z."""

    def __init__(self, width: int, seed: int) -> None:
        self.net = MLPRegressor(
            hidden_layer_sizes=(width, width), batch_size=BATCH, learning_rate_init=1e-3, random_state=seed
        )
        self.rng = np.random.default_rng(seed)

    def train(self, rows: np.ndarray, updates: int) -> None:
        for _ in range(max(1, updates // 8)):
            t = self.rng.random(8 * BATCH)
            x1 = rows[self.rng.integers(len(rows), size=len(t))]
            z = self.rng.standard_normal(x1.shape)
            x = t[:, None] * x1 + (1 - t)[:, None] * z
            self.net.partial_fit(features(x, t), x1 - z)

    def __call__(self, x: np.ndarray, t: float | np.ndarray) -> np.ndarray:
        return self.net.predict(features(x, t))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small runs, for a first look")
    parser.add_argument("--out", type=Path, default=Path("audit.png"), help="the figure")
    options = parser.parse_args()
    sizes, lengths = ((16,), (100, 2000)) if options.quick else ((16, 64, 256), (100, 1000, 5000, 20000))
    warnings.simplefilter("ignore", ConvergenceWarning)

    digits = (load_digits().data / 8 - 1)[np.random.default_rng(0).permutation(1797)]
    print("  rows  updates  excess at t=0.5   bound  memorized  displaced  verdict")
    curves = {}
    for size in sizes:
        rows = digits[:size]
        oracle = itf.Field(rows, SCHEDULE)
        network, done = Network(width=256 if options.quick else 512, seed=0), 0
        for length in lengths:
            network.train(rows, length - done)
            done = length
            model = itf.Model(network, SCHEDULE, predicts="velocity")
            audit = itf.audit(model, oracle, 20, 200, rng=1)
            middle = int(np.argmin(np.abs(audit.times - 0.5)))
            print(f"{size:>6} {length:>8} {audit.excess[middle]:>16.4f} {audit.bound:>7.2f} {audit.memorized:>10.2f} "
                  f"{audit.displaced:>10.2f}  {audit.verdict}", flush=True)  # fmt: skip
            curves[size, length] = audit
    draw(curves, options.out)


def draw(curves: dict, path: Path) -> None:
    """Excess loss over t for every training length, one panel a size, beside the memorized share."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = sorted({size for size, _ in curves})
    figure, axes = plt.subplots(1, len(sizes) + 1, figsize=(4 * len(sizes) + 4, 3.6), layout="constrained")
    for ax, size in zip(axes, sizes, strict=False):
        for (s, length), audit in curves.items():
            if s == size:
                ax.plot(audit.times, audit.excess, label=f"{length} updates: {audit.verdict}")
        ax.plot(audit.times, audit.optimal, color="black", linestyle=":", label="lowest loss possible")
        ax.set(title=f"{size} training rows", xlabel="t (0 noise, 1 data)", yscale="log", ylim=(1e-4, None))
        ax.legend(fontsize="x-small")
        axes[-1].plot(*zip(*[(n, a.memorized) for (s, n), a in curves.items() if s == size], strict=True), marker="o",
                      label=f"{size} rows")  # fmt: skip
    axes[0].set_ylabel("excess loss of the denoiser")
    axes[-1].set(title="samples that copy a training row", xlabel="updates", xscale="log", ylim=(-0.02, 1.02))
    axes[-1].legend(fontsize="x-small")
    figure.savefig(path, dpi=150)
    print(f"figure: {path}")


if __name__ == "__main__":
    main()
