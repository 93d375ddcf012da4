"""What fields that know of groups of rows cost beside the same field without: given classes, guidance, mirror images.

    python bench/groups.py [--data digits,fashion-mnist] [--queries 64,256] [--ratios 5,2,0.5,0.1] [--rows N]
                           [--repeats 3] [--backend auto] [--threads N]

Seconds of the processors, least of some repeats, calls in turn; in units of ``denoiser`` over all rows at the same
queries. Labels are those of the data, guidance is by the class of the row that a query was drawn from. Fashion-MNIST
comes with ``apt install dataset-fashion-mnist``.
"""

from __future__ import annotations

import argparse
import gzip
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

import interp_fast as itf
from interp_fast import backends
from interp_fast._bench.machine import machine
from interp_fast._datasets import load

FOLDER = Path("/usr/share/datasets/fashion-mnist")
SHAPES = {"fashion-mnist": (28, 28), "digits": (8, 8)}
# What is aimed at, in denoisers.
LIMITS = {"guided": 1.15, "class_posterior": 1.15, "hflip": 2.1}


def labels(name: str) -> np.ndarray:
    if name == "digits":
        return np.asarray(load_digits().target)
    return np.frombuffer(gzip.decompress((FOLDER / "train-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)


def least(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the processors, of calls in turn."""
    found = dict.fromkeys(calls, np.inf)
    for turn in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            if turn > 0:  # what is prepared at first use is
                found[name] = min(found[name], time.process_time() - start)
    return found


def measure(name: str, options: argparse.Namespace) -> None:
    rows = load(name, holdout="0").rows[: options.rows]
    y = labels(name)[: len(rows)].astype(np.int64)
    options_of_all: dict[str, Any] = {"backend": options.backend, "threads": options.threads}
    field = itf.Field(rows, labels=y, **options_of_all)
    mirrored = itf.Field(rows.reshape(len(rows), *SHAPES[name]), orbit="hflip", **options_of_all)
    for m in options.queries:
        for ratio in options.ratios:
            t = 1 / (1 + ratio)
            x, row = field.draw(m, t, rng=1)
            guided = field.guided(y[row], 2.0)
            found = least(
                {
                    "denoiser": partial(field.denoiser, x, t),
                    "given": partial(field.given(y[row]).denoiser, x, t),
                    "guided": partial(guided.denoiser, x, t),
                    "class_posterior": partial(field.class_posterior, x, t),
                    "hflip": partial(mirrored.denoiser, x, t),
                },
                options.repeats,
            )
            unit = found.pop("denoiser")
            costs = {one: seconds / unit for one, seconds in found.items()}
            cells = "".join(f"{c:15.2f}{'*' if c > LIMITS.get(one, c) else ' '}" for one, c in costs.items())
            print(f"{name:14}{len(rows):7}{m:5}{ratio:7g}{unit * 1e3:9.1f} ms{cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=lambda text: text.split(","), default=["digits", "fashion-mnist"])
    parser.add_argument("--queries", type=lambda text: [int(m) for m in text.split(",")], default=[64, 256])
    parser.add_argument("--ratios", type=lambda text: [float(r) for r in text.split(",")], default=[5.0, 2.0, 0.5, 0.1])
    parser.add_argument("--rows", type=int, help="the first of so many; default all")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--threads", type=int, default=backends.default_threads())
    options = parser.parse_args()
    print(f"{machine(options.threads)}\nin denoisers of all rows; *: more than {LIMITS}")
    names = ("given", *LIMITS)
    print(f"{'data':14}{'rows':>7}{'M':>5}{'s/a':>7}{'denoiser':>12}" + "".join(f"{name:>16}" for name in names))
    for name in options.data:
        measure(name, options)


if __name__ == "__main__":
    main()
