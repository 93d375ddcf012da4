"""What a command shows while it works, and files that appear when it ends well."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ._datasets import InputError, file_of
from ._shell import say

__all__ = ["Progress", "warnings_as_lines", "written"]


class Progress:
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
def written(target: Path, files: Sequence[str] | None = None, reads: Sequence[str | None] = ()) -> Iterator[Path]:
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
def warnings_as_lines() -> Iterator[None]:
    """Warnings for the user, a line each on stderr."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in said:
        say(f"interp-fast: warning: {warning.message}", sys.stderr)
