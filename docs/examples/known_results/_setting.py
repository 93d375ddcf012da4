"""What the examples of this folder share: their size, the pictures, a small network, where a figure goes."""

import sys
import warnings
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import interp_fast as itf

FULL = "--full" in sys.argv[1:]


def images():
    """Pictures in [-1, 1] in random order, (N, d) float32: digits, at full size Fashion-MNIST as Debian packages it."""
    if FULL:
        from interp_fast._datasets import load

        rows = load("fashion-mnist").rows
    else:
        from sklearn.datasets import load_digits

        rows = (load_digits().data / 8 - 1).astype(np.float32)
    return rows[np.random.default_rng(0).permutation(len(rows))]


def progress(items, what):
    """The items; at full size with a progress bar."""
    if not FULL:
        return items
    from tqdm import tqdm

    return tqdm(items, what)


def finish(figure, name=None):
    """At full size, save the figure under a name, by default that of the script."""
    if FULL:
        path = f"{name or Path(sys.argv[0]).stem}.png"
        figure.savefig(path, dpi=150)
        print(f"figure: {path}")


class Network:
    """A velocity (D - x) / (1 - t) on the linear schedule, D a perceptron trained on the rows; a Model by ``model``."""

    def __init__(self, rows, width=128):
        from sklearn.neural_network import MLPRegressor

        self.rows, self.rng = rows, np.random.default_rng(0)
        self.net = MLPRegressor(
            hidden_layer_sizes=2 * (width,), batch_size=128, learning_rate_init=2e-3, random_state=0
        )
        self.model = itf.Model(self.velocity, itf.Linear(), predicts="velocity")

    def train(self, updates):
        """Adam on the denoising loss, 128 draws an update, more of them late; returns the network."""
        with threadpool_limits(1), warnings.catch_warnings():  # threads would only wait for each other
            warnings.simplefilter("ignore")  # scikit-learn would rather go on
            for _ in range(updates // 10):
                t = 1.05 - 1.05 * (0.05 / 1.05) ** self.rng.random((1280, 1))
                x1 = self.rows[self.rng.integers(len(self.rows), size=1280)]
                self.net.partial_fit(self.inputs(t * x1 + (1 - t) * self.rng.standard_normal(x1.shape), t), x1)
        return self

    @staticmethod
    def inputs(x, t):
        waves = [f(np.pi * k * t) for k in (1, 2, 4) for f in (np.sin, np.cos)]
        return np.concatenate([x / np.sqrt(t**2 + (1 - t) ** 2), t, *waves], axis=1, dtype=np.float32)

    def velocity(self, x, t):
        with threadpool_limits(1):
            return (self.net.predict(self.inputs(x, np.full((len(x), 1), t))) - x) / (1 - t)
