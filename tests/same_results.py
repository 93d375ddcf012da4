"""A fixed list of calls, and whether two builds answer it with the same bits.

    python tests/same_results.py save FILE            the answers of the package that is imported, as an .npz
    python tests/same_results.py compare FILE [FILE]  with those of another file, else of the package imported

For changes that must change no result: save before, compare after. One line for each answer that differs, with the
largest difference and the largest value; exit code 1 if there is any. Answers depend on the processor, on NumPy and on
SciPy: compare on one machine.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import problems
from engines import ENGINES, Engine

import interp_fast as itf

POSTERIOR = (
    "mean", "log_norm", "log_density", "ess", "entropy", "variance", "index", "gap", "log_rest", "top_index",
    "top_weight", "work", "dropped", "certificate",
)  # fmt: skip
STORED = ("float64", "float32", "float16", "uint8")
RATIOS = (19.0, 2.0, 0.5, 0.1, 1e-2, 1e-3)


def _t(ratio: float) -> float:
    return 1 / (1 + ratio)


def _rows(name: str, stored: str) -> np.ndarray:
    rows = problems.problem(name).rows
    if stored != "uint8":
        return rows.astype(stored)
    low, high = rows.min(), rows.max()
    return np.round((rows - low) * (255 / max(high - low, 1e-300))).astype(np.uint8)


def fields(engine: Engine) -> Iterator[tuple[str, Any]]:
    """Posteriors of every data set and storage type, with and without tolerance, few and many queries."""
    for name in problems.NAMES:
        for stored in STORED:
            if stored == "float16" and name != "gauss":
                continue
            rows = _rows(name, stored)
            field = itf.Field(
                rows, itf.Linear(), weights=problems.problem(name).weights, backend=engine.backend, threads=2
            )
            rows = rows / 127.5 - 1 if stored == "uint8" else rows.astype(float)
            for ratio in RATIOS:
                t = _t(ratio)
                x = problems.forward(rows, t, 1 - t, 21, 5)
                pair = problems.closest_pairs(rows, 3) if len(rows) > 2 else []
                if pair:
                    x = np.concatenate([x, [t * (rows[i] + rows[j]) / 2 for i, j in pair]])
                for m in (len(x), 1):
                    key = f"{name} {stored} {ratio:g} {m}"
                    yield f"{key} denoiser", field.denoiser(x[:m], t)
                    post = field.posterior(x[:m], t, top=min(3, len(rows)))
                    for output in POSTERIOR:
                        yield f"{key} {output}", getattr(post, output)
                    yield f"{key} jvp", field.jvp(x[:m], t, x[:m][::-1] - 0.5)
                    yield f"{key} divergence", field.divergence(x[:m], t)
                    yield f"{key} entropy alone", field.posterior(x[:m], t).entropy


def runs(engine: Engine) -> Iterator[tuple[str, Any]]:
    """Trajectories, fused and watched."""
    schedule = itf.Linear()
    for name, stored in (("digits", "float32"), ("long", "float64"), ("bits", "uint8")):
        field = itf.Field(_rows(name, stored), schedule, backend=engine.backend, threads=2)
        tables = {
            "euler": itf.euler(schedule, 8), "ddpm": itf.ddpm(schedule, 8), "heun": itf.heun(schedule, 5),
            "em": itf.euler_maruyama(schedule, 8, "sigma2"), "ab": itf.multistep(schedule, 6),
        }  # fmt: skip
        for title, table in tables.items():
            out = itf.sample(field, table, 9, rng=3)
            yield f"{name} {title} x", out.x
            yield f"{name} {title} index", out.index
            yield f"{name} {title} commit", out.commit_time
            yield f"{name} {title} certificate", out.certificate
        out = itf.sample(
            field, tables["em"], 7, rng=4, keep="path", terms=True, attribution=True,
            error=itf.perturb.smooth(0.1, 1.0),
        )  # fmt: skip
        yield f"{name} path", out.path
        yield f"{name} attribution", out.attribution.toarray()
        for term in ("selection", "estimation", "noise", "total"):
            yield f"{name} {term}", getattr(out.terms, term)
        model = itf.Model(field.velocity, schedule, predicts="velocity")
        yield f"{name} model x", itf.sample(model, tables["euler"], 5, rng=5, oracle=field).x


def numbers(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """The numbers of a result object."""
    for name, entry in value.to_dict().items():
        array = np.asarray(entry)
        if array.dtype.kind in "fiub":
            yield f"{key} {name}", array


def products(engine: Engine) -> Iterator[tuple[str, Any]]:
    """Losses, audits, memorization and theory."""
    schedule, rng = itf.Linear(), np.random.default_rng(6)
    rows = _rows("digits", "float32")
    field = itf.Field(rows[:500], schedule, backend=engine.backend, threads=2)
    yield from numbers(itf.optimal_loss(field, [0.1, 0.4, 0.7, 0.9], 256, rng=7), "optimal_loss")
    noisy = itf.Model(lambda x, t: field.denoiser(x, t) * 0.99, schedule, predicts="denoiser")
    yield from numbers(itf.audit(noisy, field, [0.2, 0.5, 0.8], 64, steps=itf.ddim(schedule, 9), rng=8), "audit")
    samples = rows[500:560] + 0.01 * rng.standard_normal((60, rows.shape[1]))
    yield from numbers(itf.memorization(samples, rows[:500], holdout=rows[600:700], rng=9), "memorization")
    x, _ = field.draw(16, 0.7, rng=10)
    steps = itf.euler(schedule, 12)
    table = itf.euler_maruyama(schedule, 9, 0.3)
    theory = itf.theory
    yield from numbers(theory.trapping(field, x, 0.7), "trapping")
    yield from numbers(theory.dominance(field, 1e-3), "dominance")
    yield from numbers(theory.endpoint_law(schedule, table), "endpoint_law")
    yield from numbers(theory.discretization_bound(field, steps, x), "discretization_bound")
    yield from numbers(theory.estimation_bound(field, steps, np.full((12, 3, field.d), 0.01)), "estimation_bound")
    yield from numbers(theory.amplification(field, steps, x[:4]), "amplification")
    yield from numbers(theory.speciation_time(field), "speciation")
    yield from numbers(theory.collapse_time(field, rng=11), "collapse")
    yield from numbers(theory.margin_condition(field, x, 0.7, 0.05), "margin")


def tables() -> Iterator[tuple[str, Any]]:
    """Schedules and step tables: no backend."""
    schedules = [itf.Linear(), itf.Trigonometric(), itf.SqrtVP(), itf.LatentBridge(), itf.VP(), itf.VEGeometric()]
    schedules += [itf.VELinear(), itf.EncoderDecoder()]
    times = np.linspace(0.06, 0.94, 9)
    for schedule in schedules:
        name = type(schedule).__name__
        for part, value in zip(itf.Coefficients._fields, schedule(times), strict=True):
            yield f"{name} {part}", value
        for solver in ("euler", "heun", "ddim", "ddpm", "exponential", "exponential_heun", "multistep"):
            table = getattr(itf, solver)(schedule, times)
            for part in ("times", "A", "B", "C", "S", "commit"):
                yield f"{name} {solver} {part}", getattr(table, part)
            for part in ("propagator", "noise_std", "error_weights", "curvature_defect"):
                yield f"{name} {solver} {part}", getattr(table, part)()


def answers() -> dict[str, np.ndarray]:
    warnings.simplefilter("ignore")
    found = {f"tables: {key}": np.asarray(value) for key, value in tables()}
    for engine in ENGINES:
        with engine.forced():
            for part in (fields, runs, products):
                print(f"{engine}: {part.__name__}", file=sys.stderr)
                found |= {f"{engine}: {key}": np.asarray(value) for key, value in part(engine)}
    return found


def differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[str]:
    lines = [f"{key}: only on one side" for key in sorted(a.keys() ^ b.keys())]
    for key in sorted(a.keys() & b.keys()):
        one, other = a[key], b[key]
        if one.shape != other.shape or one.dtype != other.dtype:
            lines.append(f"{key}: {one.dtype} {one.shape} against {other.dtype} {other.shape}")
        elif one.tobytes() != other.tobytes():
            with np.errstate(all="ignore"):
                off = np.nanmax(np.abs(one.astype(float) - other)) if one.size else 0.0
            lines.append(f"{key}: differs by up to {off:.3g}, largest {np.nanmax(np.abs(other.astype(float))):.3g}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=["save", "compare"])
    parser.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args()
    if options.command == "save":
        np.savez(options.files[0], **answers())
        return 0
    first, *second = (dict(np.load(file)) for file in options.files)
    lines = differences(first, second[0] if second else answers())
    print("\n".join(lines) or f"{len(first)} answers, the same bits")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
