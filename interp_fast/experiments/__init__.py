"""The experiments of the study of memorization by closed-form interpolants (Li, Lin and Yu 2026), each a fixed setting.

================  =====================================================================================================
five-points       the oracle's ODE and SDE end on the five training points, in the proportions of their weights
step-size         Euler's endpoint deviation: exact, h^(1/2) or h^2, by how sigma vanishes
noise-schedules   the noise Euler-Maruyama leaves, with latent noise and diffusion, against its exact law
error-injection   how large an error of the denoiser must be before samples are no copies
memorization      copies among samples of image sets as the training set grows
classification    what generated digits teach a classifier
certificates      what is proved about runs, and skipped work, on image sets: none may fail
================  =====================================================================================================

``interp-fast experiments [NAME]`` runs them from the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import _arrays
from .._results import plain
from .._typing import Backend
from ._base import Experiment, ExperimentResult, Tools
from ._certificates import Certificates
from ._images import Classification, Memorization
from ._plane import ErrorInjection, FivePoints, NoiseSchedules, StepSize

__all__ = ["NAMES", "ExperimentResult", "run"]


def __dir__() -> list[str]:
    return __all__


_ALL: dict[str, type[Experiment]] = {
    kind.name: kind
    for kind in (FivePoints, StepSize, NoiseSchedules, ErrorInjection, Memorization, Classification, Certificates)
}
NAMES = tuple(_ALL)


def run(
    name: str,
    out: str | Path | None = None,
    *,
    seed: int = 0,
    backend: Backend = "auto",
    threads: int | None = None,
    progress: Callable[[str, float], None] | None = None,
    **settings: Any,
) -> ExperimentResult:
    """Run an experiment.

    Parameters
    ----------
    name : str
        One of ``experiments.NAMES``.
    out : path, optional
        A folder, made when missing, for NAME.json, NAME.csv and NAME.png.
    seed : int
    backend, threads
        As in :class:`Field`.
    progress : callable, optional
        Gets what is being done and the share that is done.
    **settings
        Instead of the experiment's own, e.g. ``samples=100``.

    Raises
    ------
    ValueError
        There is no such experiment.
    TypeError
        It has no such setting.

    Examples
    --------
    >>> import interp_fast as itf
    >>> result = itf.experiments.run("five-points", samples=50)
    >>> result.findings["recovered, at least"] > 0.9
    True
    """
    if name not in _ALL:
        msg = f"name must be one of {', '.join(NAMES)}; got {name!r}."
        raise ValueError(msg)
    known = _ALL[name].__dataclass_fields__  # type: ignore[attr-defined]
    for setting in settings:
        if setting not in known:
            msg = f"{name} has no setting {setting!r}; it has {', '.join(known)}."
            raise TypeError(msg)
    experiment: Any = _ALL[name](**settings)
    seed, tell = _arrays.count(seed, "seed"), progress or (lambda what, share: None)
    table, findings, draw = experiment.run(Tools(backend, threads, seed, tell))
    tell("done", 1.0)
    result = ExperimentResult(
        name, experiment.title, asdict(experiment), seed, table.rows, plain(findings), draw
    )  # fmt: skip
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        result.save(folder)
    return result
