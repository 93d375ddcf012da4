"""Posteriors of rows that many jobs hold: one file a job, and what they say together."""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import interp_fast as itf

from ._datasets import InputError, load
from ._options import count, schedule
from ._terminal import written

__all__ = ["merge_arguments", "merge_files", "partial_arguments", "partial_file"]

Shard = tuple[int, int, int]  # number, of how many, and how many rows there are in all

_SHARD = "shard.npy"


def partial_arguments(parser: argparse.ArgumentParser, data: str) -> None:
    parser.add_argument("data", metavar="DATA", help=data)
    parser.add_argument("--data-dir", metavar="DIR", help="where the idx files of fashion-mnist are")
    parser.add_argument("--queries", required=True, metavar="Q.npz", help="arrays x (M, d) and t, a number or (M,)")
    parser.add_argument("--shard", required=True, metavar="I/K", help="rows I N // K to (I + 1) N // K, I from 0")
    parser.add_argument("--out", type=Path, required=True, metavar="PART.npz", help="the file of this job")
    parser.add_argument("--schedule", type=schedule, default="linear", metavar="NAME", help="default: linear")
    parser.add_argument("--backend", default="auto", help="cpp, numba, reference or auto (default)")
    parser.add_argument("--top", type=count(0), default=0, metavar="K", help="list the K heaviest rows (default 0)")
    parser.add_argument("--precise", action="store_true", help="the second round, in float64: it settles what can be")


def merge_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", nargs="+", type=Path, metavar="PART.npz", help="the files of all shards")
    parser.add_argument("--out", type=Path, required=True, metavar="POSTERIOR.npz", help="where the posterior goes")


def partial_file(arguments: Any) -> tuple[dict[str, Any], str]:
    """Write the posterior over one shard of a training set; what is in the file, and the same in words."""
    number, of = _shard(arguments.shard)
    x, t = _queries(arguments.queries)
    with written(arguments.out, reads=(arguments.data, arguments.queries)) as path:
        rows, first, n = _rows(arguments, number, of)
        field = itf.Field(rows, arguments.schedule, backend=arguments.backend, threads=arguments.threads)
        part = field.partial(x, t, arguments.top, first_row=first, precise=arguments.precise or None)
        part.save(path)
        with zipfile.ZipFile(path, "a") as file, file.open(_SHARD, "w") as member:
            np.lib.format.write_array(member, np.array([number, of, n]))
    done = {
        "out": str(arguments.out), "shard": arguments.shard, "rows": [first, first + len(rows)],
        "queries": part.unsettled.size, "d": field.d, "precise": bool(arguments.precise),
    }  # fmt: skip
    return done, f"rows {first} to {first + len(rows) - 1} of {n}\n\nWritten: {arguments.out}"


def merge_files(arguments: Any) -> tuple[dict[str, Any], str]:
    """Write the posterior over the rows of all parts; how many queries are unsettled, and the same in words."""
    files = [str(path) for path in arguments.parts]
    with written(arguments.out, reads=files) as path:
        parts, shards = zip(*map(_read, files), strict=True)
        _check_complete(files, shards)
        try:
            whole = itf.merge(parts)
        except ValueError as exc:
            raise InputError(re.sub(r"parts\[(\d+)\]", lambda m: files[int(m[1])], str(exc))) from None
        unsettled = np.asarray(whole.unsettled)
        with path.open("wb") as file:
            np.savez(file, **vars(whole.posterior()), unsettled=unsettled)
    done = {
        "out": str(arguments.out), "parts": len(files), "rows": shards[0][2],
        "queries": int(unsettled.size), "unsettled": int(unsettled.sum()),
    }  # fmt: skip
    text = f"{done['rows']} rows in {done['parts']} parts; {done['unsettled']} of {done['queries']} queries unsettled"
    again = "\nRun the parts again with --precise to settle them." if unsettled.any() else ""
    return done, f"{text}{again}\n\nWritten: {arguments.out}"


def _shard(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if found is None or not int(found[1]) < int(found[2]):
        msg = f"--shard must be I/K, 0 <= I < K, as 3/64; got {text}."
        raise InputError(msg)
    return int(found[1]), int(found[2])


def _queries(name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """The arrays x and t of an .npz file."""
    try:
        with Path(name).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return file["x"], file["t"]
    except OSError:
        msg = f"there is no file {name} of queries."
        raise InputError(msg) from None
    except (KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as exc:
        msg = f"{name} must be an .npz file with arrays x (M, d) and t; got one without them ({exc})."
        raise InputError(msg) from None


def _rows(arguments: Any, number: int, of: int) -> tuple[npt.NDArray[Any], int, int]:
    """The rows of a shard, as they are stored; the first of them; how many there are in all."""
    path = Path(arguments.data)
    if path.suffix == ".npy" and path.is_file():  # read no more than these
        try:
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as exc:
            msg = f"{path} must be a whole .npy file of numbers; got one that is not ({exc})."
            raise InputError(msg) from None
        if stored.ndim < 2:
            msg = f"{path} must hold rows (N, d) or images (N, height, width); got shape {stored.shape}."
            raise InputError(msg)
    else:
        stored = load(arguments.data, data_dir=arguments.data_dir, holdout="0").rows
    n = len(stored)
    if of > n:
        msg = f"--shard must be one of at most {n}, the number of rows of {arguments.data}; got {arguments.shard}."
        raise InputError(msg)
    first, stop = number * n // of, (number + 1) * n // of
    return np.array(stored[first:stop]), first, n


def _read(name: str) -> tuple[itf.Partial, Shard]:
    if not Path(name).is_file():
        msg = f"there is no file {name}."
        raise InputError(msg)
    try:
        part = itf.Partial.load(name)
        with zipfile.ZipFile(name) as file, file.open(_SHARD) as member:
            number, of, n = np.lib.format.read_array(member).tolist()
    except KeyError:
        msg = f"{name} was not written by interp-fast partial; it does not say which shard it is."
        raise InputError(msg) from None
    except ValueError as exc:
        raise InputError(str(exc).replace("Partial.save", "interp-fast partial")) from None
    return part, (number, of, n)


def _check_complete(files: list[str], shards: tuple[Shard, ...]) -> None:
    """InputError naming a file that is of another run or there twice, or the shards that are missing."""
    held: dict[int, str] = {}
    for name, (number, of, n) in zip(files, shards, strict=True):
        if (of, n) != shards[0][1:]:
            msg = (
                f"{name} is one of {of} shards of {n} rows, and {files[0]} one of {shards[0][1]} shards of "
                f"{shards[0][2]} rows: they do not belong together."
            )
            raise InputError(msg)
        if number in held:
            msg = f"{name} and {held[number]} are both shard {number}/{of}."
            raise InputError(msg)
        held[number] = name
    missing = sorted(set(range(shards[0][1])) - held.keys())
    if missing:
        listed = ", ".join(f"{k}/{shards[0][1]}" for k in missing[:8]) + (", ..." if len(missing) > 8 else "")
        msg = f"the parts of these shards are missing: {listed}. Run interp-fast partial for them first."
        raise InputError(msg)
