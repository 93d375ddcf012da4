"""What a command shows while it works, and files that appear when it ends well."""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ._datasets import InputError, file_of
from ._shell import say

__all__ = ["Progress", "warnings_as_lines", "written"]


class Progress:
    """What a command does and how far it is: a bar of tqdm on a terminal and in notebooks, nothing when piped.

    ``progress(what, share)`` shows it, a share of 1 takes it away; so does the end of a ``with`` block.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._what = ""

    def __call__(self, what: str, share: float) -> None:
        if share >= 1:
            self.close()
            return
        if self._bar is None:
            self._bar = _bar()
        if self._bar is not None:
            self._bar.set_description_str(what, refresh=False)
            self._bar.update(round(1000 * share) - self._bar.n)
            if what != self._what:
                self._bar.refresh()
            self._what = what

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bar() -> Any:
    """A bar of a thousand parts; None where tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    tqdm.monitor_interval = 0  # no thread of its own
    return tqdm(total=1000, disable=None, leave=False, bar_format="  {percentage:3.0f}% |{bar:24}| {desc}")


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
