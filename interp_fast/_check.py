"""``interp-fast check``: every backend against the float64 reference, in the units of its accuracy promise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from ._accuracy import PROMISES

__all__ = ["BackendCheck", "Check", "check"]

Float = npt.NDArray[np.float64]

_RATIOS = (20.0, 5.0, 1.0, 0.3, 0.1, 1e-2, 1e-3, 1e-4)  # sigma / alpha: from noise to far below the nearest pair
_NAMES = ("cpp", "numba", "reference")
_SLOW = 8  # times as long as float32: cards for computing need one to four, those for games 16 to 64


@dataclass(frozen=True)
class BackendCheck:
    """One backend, of torch on one device: whether it kept the promises, its errors, seconds for the timed call."""

    name: str
    ok: bool
    isa: str | None = None
    threads: int | None = None
    error: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    problem: str | None = None
    unused: str | None = None  # of its instruction sets, and why
    device: str | None = None
    slow: str | None = None  # what this device is slow at

    @property
    def title(self) -> str:
        return self.name if self.device in (None, "cpu") else f"{self.name} on {self.device}"


@dataclass(frozen=True)
class Check:
    """All backends that were found, why the others were not, and what is amiss with a compiled one that ought to be."""

    backends: tuple[BackendCheck, ...]
    missing: dict[str, str]
    broken: str | None = None

    @property
    def ok(self) -> bool:
        return all(backend.ok for backend in self.backends) and self.broken is None

    def to_dict(self) -> dict[str, Any]:
        backends = [vars(backend) for backend in self.backends]
        return {"ok": self.ok, "backends": backends, "missing": self.missing, "broken": self.broken}

    def __str__(self) -> str:
        lines = []
        reference = next((b.seconds for b in self.backends if b.name == "reference"), None)
        for backend in self.backends:
            unused = f" ({backend.unused})" if backend.unused else ""
            isa = f", instruction set {backend.isa}{unused}" if backend.isa else ""
            speed = (
                f", {reference / backend.seconds:.1f}x the speed of the reference"
                if reference and backend.seconds
                else ""
            )
            lines.append(f"{backend.title}: {'ok' if backend.ok else 'FAILED'} (threads {backend.threads}{isa}{speed})")
            for kind, errors in backend.error.items():
                shown = (f"{name} {error:.1e} of {_promised(kind, name):.0e}" for name, error in errors.items())
                lines.append(f"  {kind}  " + "   ".join(shown))
            lines += [f"  {text}" for text in (backend.problem, backend.slow) if text]
        lines += [f"{name}: not available ({reason})" for name, reason in self.missing.items()]
        agree = all(backend.ok for backend in self.backends)
        lines.append(
            "All backends agree with the reference."
            if agree
            else "A backend disagrees with the reference: do not use it."
        )
        return "\n".join(lines if self.broken is None else [*lines, f"FAILED: {self.broken}"])


def check(name: str, threads: int | None, seed: int, progress: Callable[[str, float], None]) -> Check:
    """Compare the backend ``name``, or with "auto" every one that loads here, with the reference."""
    found = itf.backends.available()
    chosen = found if name == "auto" else [itf.backends.get(name)[0], *(["reference"] if name != "reference" else [])]
    cases = [(np.dtype(kind), _problem(np.dtype(kind), seed)) for kind in PROMISES]
    wanted = [_answers(rows.astype(np.float64), queries, "reference", threads, seed) for _, (rows, queries) in cases]
    missing = {n: _reason(n) for n in _NAMES if name == "auto" and n not in found}
    places: list[tuple[str, str | None]] = []
    for backend in chosen:
        for device in _devices(backend):
            if device in (None, "cpu") or not (reason := _reason(backend, device)):
                places.append((backend, device))
            else:
                missing[f"{backend} on {device}"] = reason
    results = []
    for k, (backend, device) in enumerate(places):
        progress(backend, k / len(places))
        results.append(_one(backend, device, cases, wanted, threads, seed))
    progress("", 1.0)
    return Check(tuple(results), missing, itf.backends.broken() if name == "auto" else None)


def _promised(kind: str, quantity: str) -> float:
    """The largest error; that of the log density in units of 1 + slope |value|, statistics are the worst of theirs."""
    name = {"log_density": "density", "statistics": "off_weights"}.get(quantity, quantity)
    return float(getattr(PROMISES[kind], name))


def _reason(name: str, device: str | None = None) -> str:
    """Why a backend, or a device of torch, is not used; empty where it is."""
    try:
        itf.backends.get(name, device)
    except ValueError as exc:
        return str(exc) if device else str(exc).rpartition("(")[2].rstrip(".)")
    return ""


def _devices(name: str) -> list[str | None]:
    """Where a backend can compute; None: it has no choice."""
    try:
        return list(getattr(itf.backends.get(name)[1], "devices", lambda: [None])())
    except ValueError:  # it does not load, which is its own result
        return [None]


def _slow(name: str, device: str | None) -> str | None:
    """What a device other than the CPU is slow at."""
    if device in (None, "cpu") or (times := float(itf.backends.get(name, device)[1].slowness())) <= _SLOW:
        return None
    return (
        f"float64 takes {times:.0f} times as long as float32 here: float64 rows are slow, and so are late times of "
        "others, whose nearest rows are measured in float64."
    )


def _one(
    name: str, device: str | None, cases: list[Any], wanted: list[Any], threads: int | None, seed: int
) -> BackendCheck:
    """A backend that raises has failed; that is a result, not the end of the check."""
    errors: dict[str, dict[str, float]] = {}
    probe = None
    try:
        for (kind, (rows, queries)), reference in zip(cases, wanted, strict=True):
            got = _answers(rows, queries, name, threads, seed, device)
            errors[kind.name] = _errors(got, reference, kind)
        probe, seconds = _timed(name, threads, seed, device)
        broken = [
            f"{kind} {quantity}" for kind, row in errors.items() for quantity, error in row.items()
            if not error <= _promised(kind, quantity)
        ]  # fmt: skip
        unused = getattr(itf.backends.get(name)[1], "unused", lambda: None)
        problem = f"beyond its promise: {', '.join(broken)}" if broken else None
        told = (problem, unused(), device, _slow(name, device))
        return BackendCheck(name, not broken, probe.isa, probe.threads, errors, seconds, *told)
    except Exception as exc:  # noqa: BLE001
        return BackendCheck(name, False, error=errors, problem=f"{type(exc).__name__}: {exc}", device=device)


def _problem(kind: np.dtype[Any], seed: int) -> tuple[npt.NDArray[Any], list[tuple[float, Float]]]:
    """Rows with near duplicates and an exact one, and queries (t, x): forward samples, midpoints of pairs, rows."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((301, 37))
    rows[200:300] = rows[:100]
    rows[np.arange(200, 300), rng.integers(0, 37, 100)] += 1e-3
    rows[300] = rows[0]
    rows = rows.astype(kind)
    wide = rows.astype(np.float64)
    still = np.concatenate([0.5 * (wide[:3] + wide[200:203]), wide[[150, 300]]])
    queries = []
    for ratio in _RATIOS:
        t = 1.0 / (1.0 + ratio)
        moved = t * wide[rng.integers(0, 301, 9)] + (1.0 - t) * rng.standard_normal((9, 37))
        queries.append((t, np.concatenate([moved, t * still])))
    return rows, queries


def _answers(
    rows: npt.NDArray[Any], queries: list[tuple[float, Float]], backend: Any, threads: int | None, seed: int,
    device: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    oracle = itf.Field(rows, itf.Linear(), backend=backend, device=device, threads=threads)
    x = np.concatenate([x for _, x in queries])
    t = np.concatenate([np.full(len(x), t) for t, x in queries])
    start = np.random.default_rng(seed).standard_normal((5, rows.shape[1]))
    tables = (itf.heun(oracle.schedule, 12), itf.ddpm(oracle.schedule, 12))
    return {
        "x": x,
        "sigma": 1.0 - t,
        "R": oracle.R,
        "denoiser": oracle.denoiser(x, t),
        "noise": oracle.noise(x, t),
        "posterior": oracle.posterior(x, t),
        "sample": np.concatenate([itf.sample(oracle, table, x0=start, rng=seed).x for table in tables]),
    }


def _errors(got: dict[str, Any], wanted: dict[str, Any], kind: np.dtype[Any]) -> dict[str, float]:
    def distance(name: str) -> Float:
        return np.asarray(np.linalg.norm(got[name].astype(np.float64) - wanted[name], axis=1), np.float64)

    def norm(name: str) -> Float:
        return np.asarray(np.linalg.norm(wanted[name], axis=1), np.float64)

    mine, theirs, radius = got["posterior"], wanted["posterior"], wanted["R"]
    rounding = np.finfo(np.float64).eps * norm("x") / got["sigma"]
    promise = PROMISES[kind.name]
    density = promise.of_density(theirs.log_density)
    # A variance or entropy below the smallest float may come out as 0.
    relative = [
        np.abs(getattr(mine, s) - getattr(theirs, s)) / (getattr(theirs, s) + 1e-290)
        for s in ("ess", "entropy", "variance")
    ]
    absolute = [
        np.abs(getattr(mine, s) - getattr(theirs, s)) / np.maximum(1.0, 1e-3 * np.abs(getattr(theirs, s)))
        for s in ("gap", "log_rest")
    ]
    worst = {
        "denoiser": distance("denoiser") / np.maximum(norm("denoiser"), radius),
        "noise": np.maximum(distance("noise") - rounding, 0.0) / np.maximum(norm("noise"), 1.0),
        "log_density": promise.density * np.abs(mine.log_density - theirs.log_density) / density,
        "statistics": np.concatenate([*relative, *absolute]),
        "sample": distance("sample") / radius,
    }
    return {name: float(np.max(values)) for name, values in worst.items()}


def _timed(name: Any, threads: int | None, seed: int, device: str | None = None) -> tuple[itf.Field, float]:
    """The field of the timed call, and the best time of a denoiser of 64 queries on 8000 rows of 128 numbers."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((8000, 128), np.float32)
    oracle = itf.Field(rows, itf.Linear(), backend=name, device=device, threads=threads)
    x, _ = oracle.draw(64, 0.2, rng=seed)
    oracle.denoiser(x[:1], 0.2)
    seconds: list[float] = []
    while len(seconds) < 9 and sum(seconds) < 0.3:
        began = time.perf_counter()
        oracle.denoiser(x, 0.2)
        seconds.append(time.perf_counter() - began)
    return oracle, min(seconds)
