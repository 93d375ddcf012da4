"""Certificates put to the test on images: what is proved about a run is compared with what becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import perturb, theory
from .._datasets import load
from .._figures import COLOURS
from ..field import Field
from ..sampling import sample
from ..schedules import LatentBridge
from ..steps import ddim, euler, exponential_heun
from ._base import Experiment, Table, Tools

__all__ = ["Certificates"]


@dataclass(frozen=True)
class Certificates(Experiment):
    """Trapping, leakage, endpoint and skipped-work certificates of the oracle, each against what it bounds."""

    name = "certificates"
    title = "certificates given, and those that did not hold"

    data: str = "digits"
    samples: int = 64
    steps: int = 25
    q: float = 0.4
    error: float = 0.02
    tol: float = 1e-3

    def run(self, tools: Tools) -> tuple[Table, dict[str, Any], Callable[[Any], None]]:
        rows = load(self.data, holdout="0", seed=tools.seed).rows
        dense, loose = (
            Field(rows, backend=tools.backend, threads=tools.threads, tol=tol) for tol in (0.0, self.tol)
        )  # fmt: skip
        # Rounding of D and of samples, which no certificate covers.
        spare = (1e-5 if rows.dtype.itemsize < 8 else 1e-10) * dense.R
        runs = {
            "ddim": (ddim, 0.0),
            "exponential_heun": (exponential_heun, 0.0),
            "ddim with error": (ddim, self.error * dense.R),
        }
        table, first, bounds = Table(), {}, []
        for i, (name, (solver, size)) in enumerate(runs.items()):
            planted = perturb.constant(size) if size else None
            steps = solver(dense.schedule, self.steps)
            out = sample(dense, steps, self.samples, rng=tools.seed, error=planted, keep="path")
            assert out.index is not None
            assert out.path is not None
            assert out.path_times is not None
            states = left = leaked = missed = 0
            first[name] = np.full(self.samples, np.inf)
            for k, t in enumerate(out.path_times[1:-1].tolist(), 1):
                tools.progress(f"{name}, t = {t:.2f}", (i + k / len(out.path_times)) / (len(runs) + 1))
                found = theory.trapping(dense, out.path[:, k], t, self.q, error=size)
                held = np.flatnonzero(found.trapped)
                if not len(held):
                    continue
                index, leakage = found.index[held], found.leakage[held]
                row = rows[index].astype(np.float64)
                leak = np.linalg.norm(dense.posterior(out.path[held, k], t).mean - row, axis=1)
                distance = np.linalg.norm(out.x[held] - row, axis=1)
                states += len(held)
                left += int(np.count_nonzero(out.index[held] != index))
                leaked += int(np.count_nonzero(leak > leakage + spare))
                # The last step lands on D: the error, up to the leakage.
                missed += int(np.count_nonzero(np.abs(distance - size) > leakage + spare))
                first[name][held] = np.minimum(first[name][held], t)
                bounds.append(np.stack([leakage, leak]))
            table.add(
                run=name, certified=states, runs=np.isfinite(first[name]).sum(), other_row=left, leakage=leaked,
                endpoint=missed,
            )  # fmt: skip

        tools.progress("euler, sigma^2 = 1 - t", len(runs) / (len(runs) + 1))
        bridge = dense.with_schedule(LatentBridge(1.0))
        start, steps = bridge.draw(self.samples, 0.0, rng=tools.seed)[0], euler(bridge.schedule, self.steps)
        out = sample(bridge, steps, x0=start)
        proof = theory.discretization_bound(bridge, steps, start, self.q)
        assert out.index is not None
        valid = np.flatnonzero(proof.valid)
        distance = np.linalg.norm(out.x[valid] - rows[proof.index[valid]].astype(np.float64), axis=1)
        missed = int(np.count_nonzero(distance > proof.bound[valid] + spare))
        # Its residue may exceed half the way to the next row: no statement about the nearest row, or about D.
        table.add(run="euler, sigma^2 = 1 - t", certified=len(valid), runs=len(valid), other_row=None, leakage=None,
                  endpoint=missed)  # fmt: skip

        above, work = 0, []
        for t in np.linspace(0.1, 0.95, 18):
            x = dense.draw(self.samples, t, rng=tools.seed)[0]
            post, exact = loose.posterior(x, t), dense.posterior(x, t)
            off = np.linalg.norm(post.mean.astype(np.float64) - exact.mean, axis=1)
            above += int(np.count_nonzero(off > post.certificate * dense.R + spare))
            work.append(post.work)
        broken = [row[name] for row in table.rows for name in ("other_row", "leakage", "endpoint") if row[name]]
        findings = {
            "certificates given": int(table.column("certified").sum()),
            "certificates broken": sum(broken),
            f"answers at tol {self.tol:g}": 18 * self.samples,
            "of these beyond their certificate": above,
            "share of dense work they took": np.mean(work),
        }

        def draw(figure: Any) -> None:
            left_ax, right_ax = figure.subplots(1, 2)
            times = np.linspace(0, 1, self.steps + 1)
            for (name, when), colour in zip(first.items(), COLOURS, strict=False):
                share = [np.mean(when <= t) for t in times]
                left_ax.step(times, share, where="post", label=name, color=colour)
            left_ax.set(xlabel="t", ylabel="share of runs that are certified", ylim=(-0.03, 1.03))
            left_ax.legend(loc="upper left")
            if bounds:
                bound, leak = np.maximum(np.concatenate(bounds, axis=1), 1e-2 * spare)
                right_ax.plot(bound, leak, ".", markersize=2, color=COLOURS[0])
                right_ax.plot([spare, bound.max()], [spare, bound.max()], color=COLOURS[5], linewidth=0.8)
            right_ax.set(xscale="log", yscale="log", xlabel="bound on the leakage", ylabel="|D - row|")

        return table, findings, draw
