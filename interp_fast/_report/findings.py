"""What a report finds: everything that is computed, before anything is drawn or said."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from .study import Study, quantiles

__all__ = ["BRIDGE", "COLLAPSED", "NORMS", "RUNS", "STEPS", "Concentration", "Findings", "Path", "Proof", "find"]

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]
Tell = Callable[[str, float], None]

COLLAPSED = 0.05  # share of the prior's entropy below which the posterior counts as collapsed
RUNS, STEPS = 32, 25  # of certificates and errors
NORMS = (0.0, 0.25, 0.5, 0.9, 1.1, 2.0)  # of the error, in units of the radius
BRIDGE = "σ² = 1 − t"
_MOMENTS = 10
_COUNTS = (10, 20, 40, 80, 160)


@dataclass(frozen=True)
class Concentration:
    """The posterior at the noise levels, column by column, and when it settles (None: never)."""

    columns: dict[str, list[Any]]
    speciation: itf.theory.SpeciationTime
    collapse: itf.theory.CollapseTime | None


@dataclass(frozen=True)
class Path:
    """Moments of one sample's way: the states and the posterior at each."""

    times: list[float]
    states: Array
    posteriors: list[itf.Posterior]


@dataclass(frozen=True)
class Proof:
    """Runs of a deterministic table, and what is certain about their ends."""

    steps: itf.StepTable
    run: itf.Samples
    bound: itf.theory.DiscretizationBound


@dataclass(frozen=True)
class Findings:
    """All of it. ``unseen``: how held-out rows relate to the training rows; ``landings``, ``errors``: case by case."""

    study: Study
    unseen: itf.Memorization | None
    loss: itf.OptimalLoss
    posterior: Concentration
    runs: dict[str, itf.Samples]
    paths: list[Path]
    copies: dict[str, itf.Memorization]
    landings: list[dict[str, Any]]
    proof: Proof
    errors: list[dict[str, Any]]

    @property
    def unit(self) -> float:
        """The radius within which a sample with an error counts as memorized."""
        return self.study.radius or 1e-2 * self.study.oracle.R


def find(study: Study, progress: Tell) -> Findings:
    """Compute everything."""

    def stage(k: int) -> Tell:
        return lambda what, share: progress(what, (k + share) / 7)

    unseen = None
    if study.holdout is not None:
        unseen = itf.memorization(study.holdout, study.oracle, radius=study.radius, rng=study.seed)
    stage(0)("smallest loss", 0.0)
    loss = itf.optimal_loss(study.oracle, study.noise_levels()[0], 2 * study.n, rng=study.seed)
    posterior = _posterior(study, stage(1))
    runs = _runs(study, stage(2))
    paths = _paths(study, posterior.collapse) if study.data.shape is not None else []
    copies = _copies(study, runs, stage(3))
    landings = _landings(study, stage(4))
    stage(5)("certificates", 0.0)
    proof = _proof(study)
    errors = _errors(study, stage(6))
    return Findings(study, unseen, loss, posterior, runs, paths, copies, landings, proof, errors)


def _posterior(study: Study, tell: Tell) -> Concentration:
    times, _ = study.noise_levels()
    columns: dict[str, list[Any]] = {name: [] for name in ("ess", "gap", "entropy", "entropy_stderr", "own_row")}
    for k, t in enumerate(times.tolist()):
        tell("posterior", 0.8 * k / len(times))
        x, index = study.oracle.draw(study.n, t, rng=study.seed)
        post = study.oracle.posterior(x, t)
        columns["ess"].append(quantiles(post.ess))
        columns["gap"].append(quantiles(post.gap))
        columns["entropy"].append(float(np.mean(post.entropy)))
        columns["entropy_stderr"].append(float(np.std(post.entropy, ddof=1) / math.sqrt(study.n)))
        columns["own_row"].append(float(np.mean(post.index == index)))
    tell("collapse time", 0.8)
    try:
        collapse = itf.theory.collapse_time(study.oracle, study.n, level=COLLAPSED, rng=study.seed)
    except ValueError:  # rows too near to each other to be told apart
        collapse = None
    return Concentration(columns, itf.theory.speciation_time(study.oracle), collapse)


def _runs(study: Study, tell: Tell) -> dict[str, itf.Samples]:
    runs = {}
    for k, (name, steps) in enumerate(study.tables.items()):

        def report(done: int, rows: int, name: str = name, k: int = k) -> None:
            tell(f"samples: {name}", (k + done / rows) / len(study.tables))

        runs[name] = itf.sample(study.oracle, steps, study.n, rng=study.seed, progress=report)
    return runs


def _paths(study: Study, collapse: itf.theory.CollapseTime | None) -> list[Path]:
    """Two paths of the first sampler."""
    steps = next(iter(study.tables.values()))
    run = itf.sample(study.oracle, steps, 2, rng=study.seed, keep="path")
    assert run.path is not None
    assert run.path_times is not None
    # There is little to see once the posterior has collapsed.
    last = len(run.path_times) - 1
    until = min(int(np.searchsorted(run.path_times, (collapse and collapse.time) or 1.0)), last - 1)
    chosen = np.unique([*np.linspace(0, max(until, 0), _MOMENTS).astype(int), last])
    times = run.path_times[chosen].tolist()
    return [
        Path(times, path, [study.oracle.posterior(x, t) for x, t in zip(path, times, strict=True)])
        for path in run.path[:, chosen]
    ]


def _copies(study: Study, runs: dict[str, itf.Samples], tell: Tell) -> dict[str, itf.Memorization]:
    copies = {}
    for k, (name, run) in enumerate(runs.items()):
        tell(f"memorization: {name}", k / len(runs))
        copies[name] = itf.memorization(
            run.x, study.oracle, holdout=study.holdout, radius=study.radius, rng=study.seed
        )  # fmt: skip
    return copies


@dataclass(frozen=True)
class _Case:
    title: str
    solver: str
    schedule: itf.Schedule
    table: Callable[[itf.Schedule, int], itf.StepTable]


_CASES = (
    _Case(BRIDGE, "Euler", itf.LatentBridge(1.0), itf.euler),
    _Case("linear", "Euler", itf.Linear(), itf.euler),
    _Case("trigonometric", "Euler", itf.Trigonometric(), itf.euler),
    _Case(f"{BRIDGE}, ε = ½", "Euler–Maruyama", itf.LatentBridge(1.0), lambda s, K: itf.euler_maruyama(s, K, 0.5)),
    _Case("linear, ε = σ/2", "Euler–Maruyama", itf.Linear(), lambda s, K: itf.euler_maruyama(s, K, ("sigma", 0.5))),
)


def _landings(study: Study, tell: Tell) -> list[dict[str, Any]]:
    """Distance per coordinate of the endpoint to its row, measured and by the law of the steps."""
    results = []
    for i, case in enumerate(_CASES):
        oracle = study.oracle.with_schedule(case.schedule)
        columns: dict[str, Any] = {"h": [], "measured": [], "law": []}
        for j, K in enumerate(_COUNTS):
            tell(f"step sizes: {case.title}", (i + j / len(_COUNTS)) / len(_CASES))
            steps = case.table(case.schedule, K)
            run = itf.sample(oracle, steps, study.few, rng=study.seed)
            size = float(np.sqrt(np.mean(study.data.rows[run.index].astype(np.float64) ** 2)))
            columns["h"].append(1.0 / K)
            columns["measured"].append(study.residual(run))
            law = itf.theory.endpoint_law(case.schedule, steps)
            columns["law"].append(math.hypot(law.std, law.bias * size))
        results.append({"solver": case.solver, "schedule": repr(case.schedule), "case": case.title, **columns})
    return results


def _proof(study: Study) -> Proof:
    steps = itf.ddim(study.oracle.schedule, STEPS)
    start = study.oracle.draw(RUNS, 0.0, rng=study.seed)[0]
    run = itf.sample(study.oracle, steps, x0=start)
    return Proof(steps, run, itf.theory.discretization_bound(study.oracle, steps, start))


def _errors(study: Study, tell: Tell) -> list[dict[str, Any]]:
    """Errors of known size added to the field."""
    unit = study.radius or 1e-2 * study.oracle.R
    scale = study.oracle.R / math.sqrt(study.oracle.d)
    ddim = itf.ddim(study.oracle.schedule, STEPS)
    kinds: dict[str, tuple[itf.StepTable, Callable[[float], Any]]] = {
        "random, ddim": (ddim, itf.perturb.constant),
        "smooth, ddim": (ddim, lambda norm: itf.perturb.smooth(norm, scale)),
    }
    if "euler_maruyama" in study.tables:
        kinds["random, euler_maruyama"] = (study.tables["euler_maruyama"], itf.perturb.constant)
    results: list[dict[str, Any]] = []
    for k, (kind, (steps, make)) in enumerate(kinds.items()):
        for j, norm in enumerate(NORMS):
            tell(f"errors: {kind}", (k + j / len(NORMS)) / len(kinds))
            error = make(norm * unit) if norm else None
            run = itf.sample(study.oracle, steps, study.few, rng=study.seed, error=error, terms=True)
            assert run.terms is not None
            terms = {name: _rms(getattr(run.terms, name)) for name in ("selection", "estimation", "noise")}
            apart = np.linalg.norm(run.terms.total, axis=1)
            off = np.abs(run.terms.total - (run.x - study.data.rows[run.index].astype(np.float64)))
            results.append(
                {
                    "kind": kind,
                    "norm": norm * unit,
                    "memorized": float(np.mean(apart < unit)),
                    "distance": quantiles(apart),
                    **terms,
                    "identity": float(np.max(off)),
                }
            )
    return results


def _rms(vectors: Float) -> float:
    return float(np.sqrt(np.mean(np.sum(vectors**2, axis=1))))
