"""``interp-fast report``: what the exact field of a training set generates, memorizes and costs, as one page.

With files of samples: whether these are copies of the training set.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from .. import _figures
from .._cluster import Elsewhere
from .._datasets import Dataset, InputError
from .._text import number
from .._typing import Backend
from . import certificates, conclusions, copies, data, errors, loss, memorization, posterior, samples, step_sizes
from .evidence import gather
from .findings import Findings, find
from .parts import Bullets, Part, Table, template
from .study import Study

__all__ = ["Report", "of_samples", "study"]

PARTS: tuple[Callable[[Findings], Part], ...] = (
    data.part,
    loss.part,
    posterior.part,
    samples.part,
    memorization.part,
    step_sizes.part,
    certificates.part,
    errors.part,
)

_NEIGHBOURS = 2000  # rows, and held-out rows, whose nearest training rows are looked up


@dataclass(frozen=True)
class Report:
    """The page, the content of report.json, the arrays of samples.npz, and the verdict, name beside value."""

    page: str
    results: dict[str, Any]
    samples: dict[str, npt.NDArray[Any]]
    verdict: list[tuple[str, str]]


def study(
    data: Dataset,
    schedule: itf.Schedule,
    *,
    n: int,
    steps: int,
    backend: Backend,
    threads: int | None,
    workers: Elsewhere | None = None,
    seed: int,
    progress: Callable[[str, float], None],
) -> Report:
    """Run all parts on a training set."""
    _figures.require_matplotlib()
    page = template()
    if len(data.rows) < 3:
        msg = f"a report needs at least 3 training rows; got {len(data.rows)}."
        raise InputError(msg)
    began = time.perf_counter()
    if workers is None:
        oracle = itf.Field(data.rows, schedule, backend=backend, threads=threads)
    else:
        oracle = workers.field(data, schedule, backend=backend)
    if oracle.R == 0:
        msg = "a report needs rows that differ; all of these are equal."
        raise InputError(msg)
    progress("nearest rows", 0.0)
    tables, left_out = _tables(schedule, steps)
    found = find(
        Study(
            data=data,
            oracle=oracle,
            n=n,
            seed=seed,
            near=itf.nearest(_some(data.rows, seed), oracle, k=2).distance[:, 1],  # the nearest row is the row itself
            holdout=None if data.holdout is None else _some(data.holdout, seed),
            tables=tables,
            left_out=left_out,
        ),
        progress,
    )
    parts = [part(found) for part in PARTS]
    progress("", 1.0)
    seconds = time.perf_counter() - began
    # What the report is about comes first.
    conclusions = [s for part in sorted(parts, key=lambda p: p.key != "memorization") for s in part.conclusions]
    many = f"{oracle.threads} threads" if workers is None else f"{workers.count} workers"
    made_by = f"{oracle.backend}{f' ({oracle.isa})' if oracle.isa else ''}, {many}, {seconds:.0f} s"
    verdict = [line for part in parts for line in part.verdict] + [("computed by", made_by)]
    summary = Part("", "In short", {}, [Bullets(conclusions), Table(verdict)], summary=True)
    lead = f"What the exact field of {data.name} generates, memorizes and costs; {schedule!r} schedule, seed {seed}."
    text = page.render(
        title=f"Memorization report: {data.name}",
        lead=lead,
        parts=[summary, *parts],
        footer=f"interp_fast {itf.__version__}; {made_by}.",
    )
    arrays = {f"{name}_{what}": value for name, run in found.runs.items() for what, value in _arrays(run, data).items()}
    results = {part.key: part.numbers for part in parts} | {"conclusions": conclusions, "verdict": dict(verdict)}
    return Report(text, results, arrays, verdict)


def of_samples(
    files: Sequence[str],
    data: Dataset,
    *,
    holdout: str | None,
    features: tuple[str, Callable[[Any], Any]] | None,
    **options: Any,
) -> Report:
    """Compare the samples of files with a training set; ``options`` as in memorization."""
    _figures.require_matplotlib()
    page = template()
    e = gather(files, data, holdout=holdout, features=features, **options)
    parts = [part(e) for part in copies.PARTS]
    said = conclusions.summary(e)
    verdict = [line for part in parts for line in part.verdict]
    names = files[0] if len(files) == 1 else f"{len(files)} files of samples"
    count = sum(len(one.result.d1) for one in e.found)
    rows = f"{e.drawn}, of those" if e.drawn else f"each of the {number(len(data.rows))} items"
    lead = (
        f"{number(count)} item{'s' * (count != 1)} that a model made, its samples, compared with {rows} that it "
        f"was trained on, the training rows: {data.name}. All words are explained below."
    )
    text = page.render(
        title=f"Does the model copy? {names}",
        lead=lead,
        parts=[Part("", "In short", {}, [Bullets(said), copies.answers(e)], summary=True), *parts],
        footer=f"interp_fast {itf.__version__}; command: interp-fast report --samples.",
    )
    results = {part.key: part.numbers for part in parts if part.numbers}
    return Report(text, results | {"conclusions": said, "verdict": dict(verdict)}, {}, verdict)


def _arrays(run: itf.Samples, data: Dataset) -> dict[str, npt.NDArray[Any]]:
    assert run.index is not None
    return {"x": run.x.reshape(len(run.x), *data.event), "index": run.index, "row": data.numbers[run.index]}


def _some(rows: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    """Up to _NEIGHBOURS of the rows, drawn at random."""
    if len(rows) <= _NEIGHBOURS:
        return rows
    return rows[np.random.default_rng(seed).choice(len(rows), _NEIGHBOURS, replace=False)]


def _tables(schedule: itf.Schedule, steps: int) -> tuple[dict[str, itf.StepTable], dict[str, str]]:
    makers: dict[str, Callable[[], itf.StepTable]] = {
        "euler": lambda: itf.euler(schedule, steps),
        "heun": lambda: itf.heun(schedule, steps),
        "ddim": lambda: itf.ddim(schedule, steps),
        "euler_maruyama": lambda: itf.euler_maruyama(schedule, steps, "sigma"),
        "ddpm": lambda: itf.ddpm(schedule, steps),
    }
    tables: dict[str, itf.StepTable] = {}
    left_out = {}
    for name, make in makers.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # an unstable table is not worth running
                table = make()
        except (ValueError, UserWarning) as exc:
            left_out[name] = str(exc)
            continue
        twin = next((other for other, made in tables.items() if _same(made, table)), None)
        if twin is None:
            tables[name] = table
        else:
            left_out[name] = f"On this schedule it is the same table of steps as {twin}."
    return tables, left_out


def _same(a: itf.StepTable, b: itf.StepTable) -> bool:
    return len(a) == len(b) and all(np.allclose(getattr(a, c), getattr(b, c), rtol=0, atol=1e-12) for c in "ABCS")
