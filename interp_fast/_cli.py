"""The commands. Each is a function of parsed arguments that returns the exit code: 0 ok, 1 failed, 2 bad input."""

from __future__ import annotations

import argparse
import functools
import importlib.util
import math
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

import interp_fast as itf

from ._compare import comparable
from ._datasets import Dataset, InputError, Shape, file_of, load
from ._pictures import show
from ._results import to_json
from ._terminal import say, terminal

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
    with terminal():
        return _main(argv)


def _main(argv: Sequence[str] | None) -> int:
    try:
        arguments = _parser().parse_args(_joined(sys.argv[1:] if argv is None else argv))
        return int(arguments.command(arguments))
    except SystemExit as exc:  # --help and --version
        return int(exc.code or 0)
    except KeyboardInterrupt:
        say("\ninterp-fast: interrupted; nothing was written.", sys.stderr)
        return INTERRUPTED
    except (TypeError, ValueError, OSError, MemoryError) as exc:
        say(f"interp-fast: error: {' '.join(str(exc).split()) or type(exc).__name__}", sys.stderr)
        return BAD_INPUT


def _joined(argv: Sequence[str]) -> list[str]:
    """``--range -1,1`` as one word: the value looks like an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--range":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class _Parser(argparse.ArgumentParser):
    """Errors are one sentence, printed where all errors are."""

    def error(self, message: str) -> NoReturn:
        msg = f"{message} (see {self.prog} --help)."
        raise InputError(msg)


def _parser() -> argparse.ArgumentParser:
    basic = _Parser(add_help=False)
    basic.add_argument("--json", action="store_true", help="print the result as JSON, and nothing else, on stdout")

    seeded = _Parser(add_help=False)
    seeded.add_argument("--seed", type=_count(0), default=0, metavar="N", help="of every random number (default 0)")

    threaded = _Parser(add_help=False)
    threaded.add_argument("--threads", type=_count(1), metavar="N", help="default: all this process may use")

    common = _Parser(add_help=False, parents=[basic, seeded, threaded])
    common.add_argument("--backend", default="auto", help="cpp, numba, reference or auto (default)")

    training = _Parser(add_help=False)
    group = training.add_argument_group("training set")
    group.add_argument("--data-dir", metavar="DIR", help="where the idx files of fashion-mnist are")
    group.add_argument("--rows", type=_count(1), metavar="N", help="use N of its rows, drawn at random")
    group.add_argument(
        "--schedule",
        type=_schedule,
        default="linear",
        metavar="NAME",
        help="linear (default), trigonometric, sqrt-vp, latent-bridge, vp, ...",
    )
    group.add_argument("--steps", type=_count(1), default=50, metavar="K", help="steps of a sampler (default 50)")

    parser = _Parser(
        prog="interp-fast", description="The exact field of a stochastic interpolant on a finite training set."
    )
    parser.add_argument("--version", action="version", version=f"interp_fast {itf.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def add(name: str, command: Callable[[Any], int], parents: list[_Parser]) -> argparse.ArgumentParser:
        text = (command.__doc__ or "").strip().splitlines()[0]
        own = commands.add_parser(name, parents=parents, help=text, description=text)
        own.set_defaults(command=command)
        return own

    add("check", _check, [common])

    data = "digits, fashion-mnist, a .npy, .npz or idx(.gz) file, or a folder of images"
    report = add("report", _report, [common, training])
    report.add_argument("data", nargs="?", default="digits", metavar="DATA", help=f"{data} (default: digits)")
    report.add_argument(
        "--out", type=Path, default=Path("report"), metavar="DIR", help="folder to write (default: report)"
    )
    report.add_argument(
        "--samples", "-n", type=_count(2), default=128, metavar="N", help="samples of each sampler (default 128)"
    )
    report.add_argument("--holdout", metavar="X", help="a file of unseen rows, or the share of the rows to set aside")
    report.add_argument("--shape", type=_shape, metavar="HxW", help="draw rows as pictures of this size")

    sample = add("sample", _sample, [common, training])
    sample.add_argument("data", metavar="DATA", help=data)
    sample.add_argument("--out", type=Path, required=True, metavar="FILE.npz", help="where the samples go")
    sample.add_argument("--samples", "-n", type=_count(1), default=64, metavar="N", help="how many (default 64)")
    sample.add_argument("--solver", choices=_SOLVERS, default="euler", help="default: euler")

    audit = add("audit", _audit, [common, training])
    audit.add_argument("model", metavar="MODEL.py:fn", help="a function fn(x, t) -> array in a Python file")
    audit.add_argument("data", metavar="DATA", help=data)
    audit.add_argument(
        "--predicts", choices=("velocity", "score", "noise", "denoiser"), default="velocity", help="default: velocity"
    )
    audit.add_argument("--samples", "-n", type=_count(2), default=256, metavar="N", help="trajectories (default 256)")
    audit.add_argument(
        "--times", type=_times, default=20, metavar="T", help="of the losses: T1,T2,... or how many (default 20)"
    )
    audit.add_argument("--holdout", metavar="FILE", help="rows that were not trained on")
    audit.add_argument("--radius", type=float, help="a sample this near to a row is a copy")
    audit.add_argument("--level", type=float, default=0.9, help="share to be shown (default 0.9)")

    memorization = add("memorization", _memorization, [basic, seeded])
    memorization.add_argument("samples", metavar="SAMPLES", help="a .npy, .npz or idx file, or a folder of images")
    memorization.add_argument("data", metavar="DATA", help=data)
    memorization.add_argument("--data-dir", metavar="DIR", help="where the idx files of fashion-mnist are")
    memorization.add_argument("--holdout", metavar="FILE", help="rows that were not trained on")
    memorization.add_argument("--radius", type=float, help="a sample this near to a row is a copy")
    memorization.add_argument(
        "--range", type=_range, metavar="LO,HI", help="of all values; bytes become it (default: what is found)"
    )
    memorization.add_argument(
        "--ratio", type=float, default=1 / 3, help="of the distances to the nearest two rows (default 1/3)"
    )

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
    bench.add_argument("--markdown", action="store_true", help="print the table of the README")
    return parser


def _count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            msg = f"{text!r} is not an integer of at least {least}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return parse


def _times(text: str) -> int | list[float]:
    if text.isdecimal():
        return int(text)
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        msg = f"{text!r} is neither a number of times nor a list such as 0.3,0.6,0.9"
        raise argparse.ArgumentTypeError(msg) from None


def _schedule(text: str) -> itf.Schedule:
    try:
        return itf.schedule(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc).rstrip(".")) from None


def _range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        msg = f"{text!r} is not of the form LOW,HIGH"
        raise argparse.ArgumentTypeError(msg)
    return low, high


def _shape(text: str) -> Shape:
    parts = text.lower().split("x")
    if not all(part.isdecimal() for part in parts):
        msg = f"{text!r} is not of the form HEIGHTxWIDTH"
        raise argparse.ArgumentTypeError(msg)
    return tuple(int(part) for part in parts)


# Commands


def _check(arguments: Any) -> int:
    """Compare every backend with the float64 reference: error, speed, instruction set, threads."""
    from ._check import check

    result = check(arguments.backend, arguments.threads, arguments.seed, _Progress())
    _show(arguments, result.to_dict(), str(result))
    return OK if result.ok else FAILED


def _report(arguments: Any) -> int:
    """Study a training set: what its exact field generates, memorizes and costs; writes a page, numbers and samples."""
    from ._report import study

    files = ("report.html", "report.json", "samples.npz")
    with _written(arguments.out, files, (arguments.data, arguments.holdout)) as folder:
        report = study(
            _load(arguments, shape=arguments.shape, holdout=arguments.holdout),
            arguments.schedule,
            n=arguments.samples,
            steps=arguments.steps,
            backend=arguments.backend,
            threads=arguments.threads,
            seed=arguments.seed,
            progress=_Progress(),
        )
        (folder / "report.html").write_text(report.page, encoding="utf-8")
        (folder / "report.json").write_text(to_json(report.results), encoding="utf-8")
        np.savez(folder / "samples.npz", **report.samples)  # type: ignore[arg-type]
    verdict = _columns(report.verdict) + f"\n\nWritten: {', '.join([str(arguments.out / files[0]), *files[1:]])}"
    _show(arguments, report.results, verdict)
    return OK


def _sample(arguments: Any) -> int:
    """Draw samples with the exact field of a training set; writes x, index, row, commit_time to an .npz file."""
    if arguments.out.suffix != ".npz":
        msg = f"--out must be a file that ends in .npz; got {arguments.out}."
        raise InputError(msg)
    with _written(arguments.out, reads=(arguments.data,)) as path:
        data = _load(arguments, holdout="0")
        field = itf.Field(data.rows, arguments.schedule, backend=arguments.backend, threads=arguments.threads)
        steps = _SOLVERS[arguments.solver](field.schedule, arguments.steps)
        show = _Progress()
        out = itf.sample(
            field, steps, arguments.samples, rng=arguments.seed,
            progress=lambda done, rows: show(arguments.solver, done / rows),
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
    field = itf.Field(data.rows, arguments.schedule, backend=arguments.backend, threads=arguments.threads)
    function, show, done = _function(Path(path), name), _Progress(), 0
    losses = arguments.times if isinstance(arguments.times, int) else len(arguments.times)

    def counted(x: Any, t: float) -> Any:
        nonlocal done
        done += len(x)
        show("audit", min(1.0, done / (arguments.samples * (losses + arguments.steps))))  # draws of x_t, trajectories
        return function(x, t)

    model = itf.Model(counted, field.schedule, predicts=arguments.predicts)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        result = itf.audit(
            model, field, arguments.times, arguments.samples, steps=itf.ddim(field.schedule, arguments.steps),
            holdout=data.holdout, radius=arguments.radius, level=arguments.level, rng=arguments.seed,
        )  # fmt: skip
    for warning in said:
        say(f"interp-fast: warning: {warning.message}", sys.stderr)
    _show(arguments, result.to_dict(), repr(result))
    return OK


def _function(path: Path, name: str) -> Callable[..., Any]:
    """A function of a Python file that may import its neighbours; errors in it name their line."""
    if not path.is_file():
        msg = f"there is no file {path}."
        raise InputError(msg)

    def guard(call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as exc:
            frames = traceback.extract_tb(exc.__traceback__)
            lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == path.resolve()]
            where = f" in line {lines[-1]}" if lines else ""
            msg = f"{path}{where} raised {type(exc).__name__}: {exc}"
            raise InputError(msg) from exc

    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = f"{path} is not a Python file: its name must end in .py."
        raise InputError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        guard(spec.loader.exec_module, module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"{path} has no function {name!r}."
        raise InputError(msg)
    return functools.partial(guard, function)


def _memorization(arguments: Any) -> int:
    """Compare samples with a training set: nearest rows, share of copies, precision and recall."""
    data = _load(arguments, holdout="0", value_range=arguments.range)
    samples, said = comparable(arguments.samples, data, "samples", arguments.range)
    held, more = comparable(arguments.holdout, data, "holdout", arguments.range) if arguments.holdout else (None, [])
    said += more
    progress = _Progress()
    progress(f"{len(samples)} samples against {len(data.rows)} rows", 0.0)
    with _warnings_as_lines():
        result = itf.memorization(
            samples, data.rows, holdout=held, radius=arguments.radius, ratio=arguments.ratio, rng=arguments.seed
        )
    progress("", 1.0)
    words = [*said, f"all values {show(data.range)}", ""] if data.range else said
    _show(arguments, result.to_dict() | {"range": data.range, "made_alike": said}, "\n".join([*words, repr(result)]))
    return OK


def _experiments(arguments: Any) -> int:
    """Run the paper's experiments, or one of them; writes a table, the numbers and a picture of each."""
    names = itf.experiments.NAMES if arguments.name is None else (arguments.name,)
    with _written(arguments.out, ()) as folder:
        results = [
            itf.experiments.run(
                name, folder, seed=arguments.seed, backend=arguments.backend, threads=arguments.threads,
                progress=_Progress(),
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
    from ._figures import require_matplotlib
    from ._peers import PEERS, installed

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
    with nullcontext() if arguments.out is None else _written(arguments.out, ()) as folder:
        result = run(
            regimes,
            peers=peers,
            ratios=arguments.ratios or ((RATIOS[0], RATIOS[-1]) if arguments.quick else RATIOS),
            types=types,
            threads=arguments.threads,
            progress=_Progress(lines=True),
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
    limit = getattr(arguments, "rows", None)
    return load(arguments.data, data_dir=arguments.data_dir, limit=limit, seed=arguments.seed, **options)


# Output


class _Progress:
    """One line on a terminal: what is being done and how far it is. Elsewhere nothing, or a line each (``lines``)."""

    def __init__(self, *, lines: bool = False) -> None:
        self._shown, self._lines = 0, lines

    def __call__(self, what: str, share: float) -> None:
        if sys.stderr.isatty():
            bar = "#" * round(24 * share)
            line = f"  [{bar:<24}] {what}"
            sys.stderr.write("\r" + line.ljust(self._shown) + ("\r" + " " * len(line) + "\r") * (share >= 1))
            sys.stderr.flush()
            self._shown = len(line)
        elif self._lines and share < 1:
            say(f"{share:4.0%}  {what}", sys.stderr)


@contextmanager
def _written(target: Path, files: Sequence[str] | None = None, reads: Sequence[str | None] = ()) -> Iterator[Path]:
    """A path to make a file or a folder at, which becomes ``target`` when the block ends well and vanishes otherwise.

    A folder is made when there are ``files``, those that are sure to be in it; they replace those of the same name,
    others in it stay. Nothing that the command ``reads`` is replaced.
    """
    folder = files is not None
    if folder and target.exists() and not target.is_dir():
        msg = f"--out {target} is a file and must be a folder; choose another name."
        raise InputError(msg)
    if not target.parent.is_dir():
        msg = f"--out {target} cannot be written because there is no folder {target.parent}; make it first."
        raise InputError(msg)
    for path in [target] if files is None else [target / name for name in files]:
        for source in filter(None, reads):
            if path.exists() and file_of(source).exists() and path.samefile(file_of(source)):
                msg = f"--out {target} would replace {source}, which the command reads; choose another name."
                raise InputError(msg)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as work:
        made = Path(work) / target.name
        if folder:
            made.mkdir()
        yield made
        if not folder:
            made.replace(target)
            return
        target.mkdir(exist_ok=True)
        for path in made.iterdir():
            path.replace(target / path.name)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Warnings for the user, a line each on stderr."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in said:
        say(f"interp-fast: warning: {warning.message}", sys.stderr)


def _show(arguments: Any, result: dict[str, Any], text: str) -> None:
    say(to_json(result) if arguments.json else text)


def _columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
