"""Standard errors of the lowest loss, counted: how often do two of them, and the interval, hold the true value?

    python tests/coverage_losses.py [digits] [small] [large] [--repetitions 200] [--queries 256 2048] [--truth 200000]

One line for each data set, sigma/alpha and number of queries: the relative error of the estimates and of plain draws
alone, what is claimed, and both coverages. The true value is from ``--truth`` queries of the kind that was not taken
(plain draws early, draws at pairs late), with its relative standard error. Exit code 1 when coverage is short, below
92 % of all or by three binomial errors below that anywhere, or when an estimate is "0 +- 0".
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
from pathlib import Path

import numpy as np

import interp_fast as itf
from interp_fast.field import oracle_of
from interp_fast.losses._optimal import _Level

FASHION = Path("/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz")  # Debian's dataset-fashion-mnist
RATIOS = (3.0, 2.0, 1.2, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05)
WANTED = 0.92


def fashion(n: int, side: int = 28) -> np.ndarray:
    images = np.frombuffer(gzip.decompress(FASHION.read_bytes())[16:], np.uint8).reshape(-1, 28, 28)[:n] / 127.5 - 1
    step = 28 // side
    return images.reshape(n, side, step, side, step).mean((2, 4)).reshape(n, -1).astype(np.float32)


def digits() -> np.ndarray:
    from sklearn.datasets import load_digits

    return (load_digits().data / 8 - 1).astype(np.float32)


SETS = {"digits": digits, "small": lambda: fashion(300, 14), "large": lambda: fashion(5000)}


def truth(field: itf.Field, t: float, n: int) -> tuple[float, float]:
    """The mean of the better kind of draws, and its relative standard error."""
    level = _Level(oracle_of(field), t, 1 << 12, itf.NoiseKey(99))
    level.pilot(512)
    size = 2048
    take = level.plain if level.variance["plain"] < level.variance["pairs"] else lambda m, i: level.at_pairs(m, i)[0]
    means = np.array([take(size, 2 + i).mean() for i in range(max(2, n // size))])
    return means.mean(), means.std(ddof=1) / math.sqrt(len(means)) / means.mean()


def of_plain(field: itf.Field, t: float, value: float) -> float:
    """Relative standard deviation of a plain draw: of many, or as pairs tell it where these miss what is rare."""
    level = _Level(oracle_of(field), t, 7, itf.NoiseKey(5))
    plain = np.array([level.plain(256, 2 * i).mean() for i in range(50)])
    level.pilot(4096)
    return max(16 * plain.std() / value, math.sqrt(level.variance["plain"]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sets", nargs="*", default=list(SETS), help=f"of {', '.join(SETS)}")
    parser.add_argument("--repetitions", type=int, default=200)
    parser.add_argument("--queries", type=int, nargs="+", default=[256, 2048])
    parser.add_argument("--truth", type=int, default=200_000)
    parser.add_argument("--ratios", type=float, nargs="+", default=RATIOS)
    options = parser.parse_args()
    least = WANTED - 3 * math.sqrt(WANTED * (1 - WANTED) / options.repetitions)
    held, short = [], []
    print("data sigma/alpha n | L*/R2 (true to) | error: chosen, claimed, plain | within 2 stderr, interval | pairs")
    for name in options.sets:
        field = itf.Field(SETS[name]())
        times = np.array([float(field.schedule.time_at(-math.log(ratio))) for ratio in options.ratios])
        known = [truth(field, t, options.truth) for t in times]
        plain = [of_plain(field, t, value) for t, (value, _) in zip(times, known, strict=True)]
        for n in options.queries:
            runs = [itf.optimal_loss(field, times, n, rng=seed) for seed in range(options.repetitions)]
            for k, (ratio, (value, error)) in enumerate(zip(options.ratios, known, strict=True)):
                loss, stderr = np.array([r.loss[k] for r in runs]), np.array([r.stderr[k] for r in runs])
                low, high = np.array([r.interval[k] for r in runs]).T
                off = math.sqrt(np.mean((loss - value) ** 2))
                share = float(np.mean(np.abs(loss - value) <= 2 * stderr + 2 * error * value))
                rigorous = float(np.mean((low <= value * (1 + 2 * error)) & (value * (1 - 2 * error) <= high)))
                pairs = float(np.mean([r.method[k] == "pairs" for r in runs]))
                print(
                    f"{name} {ratio:g} {n} | {value / field.R**2:.3g} ({error:.1g})",
                    f"{off / value:.3g}, {math.sqrt(np.mean(stderr**2)) / value:.3g}, {plain[k] / math.sqrt(n):.3g}",
                    f"{share:.3f}, {rigorous:.3f} | {pairs:.2f}",
                    sep=" | ",
                    flush=True,
                )
                held.append(share)
                if share < least or rigorous < 0.95 or (stderr == 0).any():
                    short.append((name, ratio, n))
    print(f"all: {np.mean(held):.3f} within two standard errors; wanted {WANTED}; short at {short or 'none'}")
    return int(bool(short) or np.mean(held) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
