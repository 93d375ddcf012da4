"""The commands, in one file because they share their options and their errors.

Each is a function of parsed arguments that returns the exit code: 0 ok, 1 failed, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import interp_fast as itf

from ._cluster import cluster_arguments, elsewhere
from ._copies import background, compare, draw, table
from ._datasets import KINDS, Dataset, InputError, load
from ._figures import require_matplotlib
from ._functions import features_of, function_of
from ._jobs import merge_arguments, merge_files, partial_arguments, partial_file
from ._options import Parser, above_0, count, joined, number_or_file, schedule, shape, times, value_range
from ._pictures import show
from ._results import to_json
from ._shell import say, shell
from ._terminal import Progress, warnings_as_lines, written
from ._text import columns

if TYPE_CHECKING:
    from ._report import Report

__all__ = ["main"]

OK, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

_SOLVERS: dict[str, Callable[..., itf.StepTable]] = {
    "euler": itf.euler,
    "heun": itf.heun,
    "ddim": itf.ddim,
    "ddpm": itf.ddpm,
    "euler-maruyama": lambda schedule, times: itf.euler_maruyama(schedule, times, "sigma"),
    "exponential": lambda schedule, times: itf.exponential(schedule, times, churn=1.0),
    "exponential-heun": itf.exponential_heun,
    "multistep": itf.multistep,
}
_TYPES = ("float32", "float64", "uint8")  # that bench times


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    with shell():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(joined(sys.argv[1:] if argv is None else argv))
        with Progress() as arguments.progress:
            return int(arguments.command(arguments))
    except SystemExit as exc:  # --help and --version
        return int(exc.code or 0)
    except KeyboardInterrupt:
        say("\ninterp-fast: interrupted; nothing was written.", sys.stderr)
        return INTERRUPTED
    except (TypeError, ValueError, OSError, MemoryError) as exc:
        say(f"interp-fast: error: {' '.join(str(exc).split()) or type(exc).__name__}", sys.stderr)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    basic = Parser(add_help=False)
    basic.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")

    seeded = Parser(add_help=False)
    seeded.add_argument("--seed", type=count(0), default=0, metavar="N", help="of every random number (default 0)")

    threaded = Parser(add_help=False)
    threaded.add_argument("--threads", type=count(1), metavar="N", help="default: all this process may use")

    common = Parser(add_help=False, parents=[basic, seeded, threaded])
    common.add_argument("--backend", default="auto", help="cpp, numba, reference, torch or auto (default)")

    training = Parser(add_help=False)
    group = training.add_argument_group("training set")
    group.add_argument("--data-dir", metavar="DIR", help="where the idx files of fashion-mnist are")
    group.add_argument("--rows", type=count(1), metavar="N", help="use N of its rows, drawn at random")
    group.add_argument(
        "--schedule",
        type=schedule,
        default="linear",
        metavar="NAME",
        help="linear (default), trigonometric, sqrt-vp, latent-bridge, vp, ...",
    )
    group.add_argument("--steps", type=count(1), default=50, metavar="K", help="steps of a sampler (default 50)")

    parser = Parser(
        prog="interp-fast", description="The exact field of a stochastic interpolant on a finite training set."
    )
    parser.add_argument("--version", action="version", version=f"interp_fast {itf.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, command: Callable[[Any], int], parents: list[Parser]) -> argparse.ArgumentParser:
        text = (command.__doc__ or "").strip().splitlines()[0]
        own = commands.add_parser(name, parents=parents, help=text, description=text)
        own.set_defaults(command=command)
        return own

    add("check", _check, [common])

    data = f"digits, fashion-mnist, {KINDS}"
    report = add("report", _report, [common, training])
    report.add_argument("data", nargs="?", metavar="DATA", help=f"{data} (default: digits)")
    report.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR", help="folder to write (default: report)"
    )
    report.add_argument(
        "--samples",
        "-n",
        nargs="+",
        type=number_or_file,
        default=[128],
        metavar="N | FILE",
        help="samples of each sampler (default 128); or files of a model's samples, which the report then is about",
    )
    report.add_argument("--holdout", metavar="X", help="a file of unseen rows, or the share of the rows to set aside")
    report.add_argument("--shape", type=shape, metavar="HxW", help="draw rows as pictures of this size")
    cluster_arguments(report)

    _add_comparing(report.add_argument_group("with files of samples"))

    sample = add("sample", _sample, [common, training])
    sample.add_argument("data", metavar="DATA", help=data)
    sample.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where the samples go")
    sample.add_argument("--samples", "-n", type=count(1), default=64, metavar="N", help="how many (default 64)")
    sample.add_argument("--solver", choices=_SOLVERS, default="euler", help="default: euler")

    audit = add("audit", _audit, [common, training])
    audit.add_argument("model", metavar="MODEL.py:fn", help="a function fn(x, t) -> array in a Python file")
    audit.add_argument("data", metavar="DATA", help=data)
    audit.add_argument(
        "--predicts", choices=("velocity", "score", "noise", "denoiser"), default="velocity", help="default: velocity"
    )
    audit.add_argument("--samples", "-n", type=count(2), default=256, metavar="N", help="trajectories (default 256)")
    audit.add_argument(
        "--times", type=times, default=20, metavar="T", help="of the losses: T1,T2,... or how many (default 20)"
    )
    audit.add_argument("--holdout", metavar="FILE", help="rows that were not trained on")
    audit.add_argument("--radius", type=float, help="a sample this near to a row is a copy")
    audit.add_argument("--level", type=float, default=0.9, help="share to be shown (default 0.9)")

    memorization = add("memorization", _memorization, [basic, seeded])
    memorization.add_argument("samples", nargs="+", metavar="SAMPLES", help=f"{KINDS}; several, e.g. of checkpoints")
    memorization.add_argument("data", metavar="DATA", help=data)
    memorization.add_argument("--data-dir", metavar="DIR", help="where the idx files of fashion-mnist are")
    memorization.add_argument("--holdout", metavar="FILE", help="rows that were not trained on")
    _add_comparing(memorization)
    memorization.add_argument(
        "--out", type=Path, metavar="FILE.png", help="picture of the shares over the numbers in the names of the files"
    )

    partial_arguments(add("partial", _partial, [basic, threaded]), data)
    merge_arguments(add("merge", _merge, [basic]))

    experiments = add("experiments", _experiments, [common])
    experiments.add_argument(
        "name", nargs="?", choices=itf.experiments.NAMES, metavar="NAME",
        help=f"one of {', '.join(itf.experiments.NAMES)} (default: all of them)",
    )  # fmt: skip
    experiments.add_argument(
        "--out", type=Path, default=Path("experiments"), metavar="DIR", help="folder to write (default: experiments)"
    )

    bench = add("bench", _bench, [basic, threaded])
    bench.add_argument("--quick", action="store_true", help="four small float32 problems: a minute or two")
    bench.add_argument(
        "--regime", nargs="+", metavar="NAME", help="some of the regimes (default: all; four with --quick)"
    )
    bench.add_argument(
        "--types",
        nargs="+",
        choices=_TYPES,
        metavar="TYPE",
        help=f"of the rows: some of {', '.join(_TYPES)} (default: all; float32 with --quick)",
    )
    bench.add_argument(
        "--ratios", nargs="+", type=float, metavar="R", help="sigma / alpha of evaluations (default: 19 0.01 0.001)"
    )
    bench.add_argument("--peers", nargs="+", metavar="NAME", help="some of our backends and libraries (default: all)")
    bench.add_argument("--out", type=Path, metavar="DIR", help="folder for bench.json, bench.txt, bench.md, bench.png")
    bench.add_argument("--markdown", action="store_true", help="print the table of docs/performance.md")
    return parser


def _add_comparing(parser: Any) -> None:
    """How samples are compared with a training set."""
    parser.add_argument("--radius", type=above_0, help="a sample this near to a row is a copy")
    parser.add_argument(
        "--range", type=value_range, metavar="LO,HI", help="of all values; bytes become it (default: what is found)"
    )
    parser.add_argument(
        "--ratio", type=above_0, default=1 / 3, help="of the distances to the nearest two rows (default 1/3)"
    )
    parser.add_argument(
        "--features", metavar="MODULE:FUNCTION", help="measure distances between features(rows), also FILE.py:FUNCTION"
    )
    parser.add_argument("--metric", choices=("euclidean", "cosine"), default="euclidean")
    parser.add_argument(
        "--k", type=count(0), default=5, metavar="K", help="neighbour that balls reach to (default 5; 0: none)"
    )


# Commands


def _check(arguments: Any) -> int:
    """Compare every backend with the float64 reference: error, speed, instruction set, threads."""
    from ._check import check

    result = check(arguments.backend, arguments.threads, arguments.seed, arguments.progress)
    _show(arguments, result.to_dict(), str(result))
    return OK if result.ok else FAILED


def _report(arguments: Any) -> int:
    """Study a training set: what its exact field generates, memorizes and costs; writes a page, numbers and samples."""
    given = arguments.samples
    if arguments.data is None and len(given) == 2 and isinstance(given[0], int):  # -n 64 DATA
        arguments.data = given.pop()
    if len(given) > 1 and any(isinstance(one, int) for one in given):
        msg = f"--samples must be one number, or files of samples; got {' '.join(map(str, given))}."
        raise InputError(msg)
    if isinstance(given[0], str):
        return _report_of_samples(arguments, given)
    _refuse(arguments, _COMPARING, "belongs to a report about --samples FILE; leave it out.")
    from ._report import study

    arguments.data = arguments.data or "digits"
    files = ("report.html", "report.json", "samples.npz")
    reads = (arguments.data, arguments.holdout)
    options = _options(arguments, shape=arguments.shape, holdout=arguments.holdout)
    with written(arguments.out, files, reads) as folder, elsewhere(arguments, **options) as workers:
        report = study(
            load(arguments.data, **options),
            arguments.schedule,
            workers=workers,
            n=given[0],
            steps=arguments.steps,
            backend=arguments.backend,
            threads=arguments.threads,
            seed=arguments.seed,
            progress=arguments.progress,
        )
        np.savez(folder / "samples.npz", **report.samples)  # type: ignore[arg-type]
        return _write(arguments, report, folder, files)


_COMPARING = {"radius": None, "range": None, "ratio": 1 / 3, "features": None, "metric": "euclidean", "k": 5}
_STUDYING = {
    "steps": 50, "schedule": itf.Linear(), "backend": "auto", "threads": None, "workers": None, "scheduler": None,
}  # fmt: skip


def _report_of_samples(arguments: Any, samples: list[str]) -> int:
    from ._report import of_samples

    if arguments.data is None:
        msg = "a report about samples needs the training set: interp-fast report DATA --samples FILE..., DATA first."
        raise InputError(msg)
    _refuse(arguments, _STUDYING, "belongs to a report about a training set, without files of samples; leave it out.")
    files = ("report.html", "report.json")
    reads = [*samples, arguments.data, arguments.holdout]
    features = None if arguments.features is None else (arguments.features, features_of(arguments.features))
    with written(arguments.out, files, reads) as folder:
        with warnings_as_lines():
            report = of_samples(
                samples,
                _load(arguments, shape=arguments.shape, holdout="0", value_range=arguments.range),
                holdout=arguments.holdout,
                features=features,
                value_range=arguments.range,
                progress=arguments.progress,
                radius=arguments.radius,
                ratio=arguments.ratio,
                k=arguments.k or None,
                metric=arguments.metric,
                rng=arguments.seed,
            )
        return _write(arguments, report, folder, files)


def _refuse(arguments: Any, defaults: dict[str, Any], why: str) -> None:
    """InputError when an option that would be ignored was given."""
    for name, default in defaults.items():
        if getattr(arguments, name) != default:
            msg = f"--{name} {why}"
            raise InputError(msg)


def _write(arguments: Any, report: Report, folder: Path, files: tuple[str, ...]) -> int:
    (folder / "report.html").write_text(report.page, encoding="utf-8")
    (folder / "report.json").write_text(to_json(report.results), encoding="utf-8")
    verdict = columns(report.verdict) + f"\n\nWritten: {', '.join([str(arguments.out / files[0]), *files[1:]])}"
    _show(arguments, report.results, verdict)
    return OK


def _sample(arguments: Any) -> int:
    """Draw samples with the exact field of a training set; writes x, index, row, commit_time to an .npz file."""
    if arguments.out.suffix != ".npz":
        msg = f"--out must be a file that ends in .npz; got {arguments.out}."
        raise InputError(msg)
    with written(arguments.out, reads=(arguments.data,)) as path:
        data = _load(arguments, holdout="0")
        field = itf.Field(data.points, arguments.schedule, backend=arguments.backend, threads=arguments.threads)
        steps = _SOLVERS[arguments.solver](field.schedule, arguments.steps)
        out = itf.sample(
            field, steps, arguments.samples, rng=arguments.seed,
            progress=lambda done, rows: arguments.progress(arguments.solver, done / rows),
        )  # fmt: skip
        assert out.index is not None
        assert out.commit_time is not None
        np.savez(path, x=out.x, index=out.index, row=data.numbers[out.index], commit_time=out.commit_time)
    result = {name: value for name, value in out.to_dict().items() if name != "x" and value is not None}
    _show(
        arguments,
        {"out": str(arguments.out), "n": len(out.x), "d": field.d, **result},
        f"{out!r}\n\nWritten: {arguments.out}",
    )
    return OK


def _audit(arguments: Any) -> int:
    """Judge whether a model memorizes its training set, from its loss and its samples."""
    path, colon, name = arguments.model.rpartition(":")
    if not colon:
        msg = f"MODEL must be a Python file and the name of a function in it, as model.py:fn; got {arguments.model}."
        raise InputError(msg)
    data = _load(arguments, holdout=arguments.holdout or "0")
    field = itf.Field(data.points, arguments.schedule, backend=arguments.backend, threads=arguments.threads)
    model = itf.Model(function_of(Path(path), name), field.schedule, predicts=arguments.predicts)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        result = itf.audit(
            model, field, arguments.times, arguments.samples, steps=itf.ddim(field.schedule, arguments.steps),
            holdout=data.holdout, radius=arguments.radius, level=arguments.level, rng=arguments.seed,
            progress=lambda done, of: arguments.progress("audit", done / of),
        )  # fmt: skip
    for warning in said:
        say(f"interp-fast: warning: {warning.message}", sys.stderr)
    _show(arguments, result.to_dict(), repr(result))
    return OK


def _memorization(arguments: Any) -> int:
    """Compare samples with a training set: which are copies, near another sample, new; how well they cover it."""
    if arguments.out is not None:
        require_matplotlib()
    reads = [*arguments.samples, arguments.data, arguments.holdout]
    features = None if arguments.features is None else features_of(arguments.features)
    with nullcontext() if arguments.out is None else written(arguments.out, reads=reads) as picture:
        with warnings_as_lines():
            data = _load(arguments, holdout="0", value_range=arguments.range)
            found, _ = compare(
                arguments.samples, data, holdout=arguments.holdout, features=features, value_range=arguments.range,
                progress=arguments.progress, radius=arguments.radius, ratio=arguments.ratio, k=arguments.k or None,
                metric=arguments.metric, rng=arguments.seed,
            )  # fmt: skip
        if picture is not None:
            draw(found, picture)
    said = list(dict.fromkeys(words for one in found for words in one.made_alike))
    words = [*said, f"all values {show(data.range)}", ""] if data.range else said
    each = [one.result.to_dict() | {"made_alike": one.made_alike} for one in found]
    if len(found) == 1:
        text = "\n".join([*words, repr(found[0].result), "", background(found[0].result)])
        _show(arguments, each[0] | {"range": data.range}, text.rstrip())
    else:
        files = [{"file": one.file} | result for one, result in zip(found, each, strict=True)]
        _show(arguments, {"range": data.range, "files": files}, "\n".join([*words, table(found)]))
    return OK


def _partial(arguments: Any) -> int:
    """Evaluate the posterior over one shard of a training set; writes a file that merge takes, the same every time."""
    _show(arguments, *partial_file(arguments))
    return OK


def _merge(arguments: Any) -> int:
    """Merge the files of all shards; writes the posterior over all rows, and which queries are unsettled."""
    _show(arguments, *merge_files(arguments))
    return OK


def _experiments(arguments: Any) -> int:
    """Run the paper's experiments, or one of them; writes a table, the numbers and a picture of each."""
    names = itf.experiments.NAMES if arguments.name is None else (arguments.name,)
    with written(arguments.out, ()) as folder:
        results = [
            itf.experiments.run(
                name, folder, seed=arguments.seed, backend=arguments.backend, threads=arguments.threads,
                progress=arguments.progress,
            )
            for name in names
        ]  # fmt: skip
    text = "\n\n".join(map(repr, results))
    files = ", ".join(str(arguments.out / f"{name}.*") for name in names)
    _show(arguments, {result.name: result.to_dict() for result in results}, f"{text}\n\nWritten: {files}")
    return OK


def _bench(arguments: Any) -> int:
    """Time this machine's limits, every backend and the other libraries that are installed, side by side."""
    from ._bench import QUICK, RATIOS, REGIMES, run
    from ._bench.peers import PEERS, installed

    sizes = QUICK if arguments.quick else REGIMES
    for name in arguments.regime or ():
        if name not in sizes:
            msg = f"--regime must be among {', '.join(sizes)}; got {name!r}."
            raise InputError(msg)
    # Most of a short run is starting processes, once for each set of rows: these four share two sets.
    names = arguments.regime or (("images", "one-query", "trajectory", "d2") if arguments.quick else sizes)
    regimes = {name: sizes[name] for name in names}
    effort = {"rounds": 3} if arguments.quick else {}
    peers = arguments.peers
    if arguments.quick and peers is None:  # direct differences are slow, and KeOps compiles for every shape
        peers = [name for name in installed() if PEERS[name].products]
    types = arguments.types or (_TYPES[:1] if arguments.quick else _TYPES)
    if arguments.out is not None:
        require_matplotlib()
    with nullcontext() if arguments.out is None else written(arguments.out, ()) as folder:
        result = run(
            regimes,
            peers=peers,
            ratios=arguments.ratios or ((RATIOS[0], RATIOS[-1]) if arguments.quick else RATIOS),
            types=types,
            threads=arguments.threads,
            progress=arguments.progress,
            **effort,
        )
        if folder is not None:
            (folder / "bench.json").write_text(to_json(result.to_dict()), encoding="utf-8")
            (folder / "bench.txt").write_text(f"{result}\n", encoding="utf-8")
            (folder / "bench.md").write_text(f"{result.markdown()}\n", encoding="utf-8")
            result.plot(folder / "bench.png")
    _show(arguments, result.to_dict(), result.markdown() if arguments.markdown else str(result))
    return OK if result.ok else FAILED


def _load(arguments: Any, **options: Any) -> Dataset:
    return load(arguments.data, **_options(arguments, **options))


def _options(arguments: Any, **options: Any) -> dict[str, Any]:
    """Of :func:`load`."""
    limit = getattr(arguments, "rows", None)
    return {"data_dir": arguments.data_dir, "limit": limit, "seed": arguments.seed, **options}


def _show(arguments: Any, result: dict[str, Any], text: str) -> None:
    say(to_json(result) if arguments.json else text)
