"""What exact targets cost beside the network that learns them: all 60,000 rows of Fashion-MNIST, and a small U-Net.

    python bench/targets.py [--batch 256] [--repeats 3] [--threads N]

Seconds of a batch, least of some repeats: its targets by the law of their times, and a step of the network (forward,
backward, Adam) on as many samples. Time on the clock says what a worker delivers on an idle machine, time of the
processors what it takes from others. Needs torch and Fashion-MNIST (apt install dataset-fashion-mnist).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import interp_fast as itf
from interp_fast import backends
from interp_fast._bench.machine import machine
from interp_fast._datasets import load

sys.path.append(str(Path(__file__).parent.parent / "docs" / "networks"))
from common import UNet  # noqa: E402


def least(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Seconds on the clock and of all processors."""
    action()
    found = []
    for _ in range(repeats):
        clock, own = time.perf_counter(), time.process_time()
        action()
        found.append((time.perf_counter() - clock, time.process_time() - own))
    return min(c for c, _ in found), min(o for _, o in found)


def steps(batch: int) -> Iterator[float]:
    net = UNet()
    optimizer = torch.optim.Adam(net.parameters())
    x, t, v = torch.randn(batch, 1, 28, 28), torch.rand(batch), torch.randn(batch, 1, 28, 28)
    while True:
        optimizer.zero_grad()
        loss = ((net(x, t) - v) ** 2).mean()
        loss.backward()
        optimizer.step()
        yield loss.item()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=backends.default_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = load("fashion-mnist", holdout="0").rows
    field = itf.Field(rows, threads=options.threads)
    actions = {f"step of the network ({sum(p.numel() for p in UNet().parameters()):,} weights)": steps(options.batch)}
    for law in ("uniform", "logit-normal", "log-normal"):
        actions[f"targets, times {law}"] = iter(itf.targets(field, options.batch, times=law, rng=0))
    for t in (0.05, 0.5, 0.9):
        actions[f"targets, t = {t}"] = iter(itf.targets(field, options.batch, times=t, rng=0))
    print(f"{machine(options.threads)}\n{len(rows):,} rows of {field.d}, batches of {options.batch}")
    print(f"{'':44} clock, s  processors, s  samples a processor-second")
    for name, action in actions.items():
        clock, own = least(lambda action=action: next(action), options.repeats)  # type: ignore[misc]
        print(f"{name:44} {clock:8.3f} {own:14.3f} {options.batch / own:27,.0f}", flush=True)


if __name__ == "__main__":
    main()
