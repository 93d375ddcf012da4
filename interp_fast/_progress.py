"""How far a long call is: what its argument ``progress`` means."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["reporter"]


def reporter(progress: Any, what: str) -> Callable[[int, int], None] | None:
    """A function of (done, total): the caller's, one that writes "``what`` done of total, time left", or none.

    In a notebook a bar of tqdm takes the place of the line, where it is installed.
    """
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress  # type: ignore[no-any-return]
    if progress is not True:
        name = what.rpartition(" ")[2]
        msg = f"progress must be True, False or a callable as progress(done, {name}s); got {progress!r}."
        raise TypeError(msg)

    if _in_notebook() and (bar := _bar(what)):
        return bar
    began, longest = time.monotonic(), 0

    def line(done: int, total: int) -> None:
        nonlocal longest
        left = (time.monotonic() - began) * (total - done) / max(done, 1)
        text = f"{what} {done} of {total}" + (f", {left:.0f} s left" if done < total else "")
        sys.stderr.write("\r" + text.ljust(longest) + ("\n" if done == total else ""))
        sys.stderr.flush()
        longest = len(text)

    return line


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"


def _bar(what: str) -> Callable[[int, int], None] | None:
    """A bar, made at the first call, when it is known how long it is; None where tqdm is not installed."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    bar: Any = None

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=total, desc=what)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return show
