"""How far a long call is: what its argument ``progress`` means."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["reporter"]


def reporter(progress: Any, what: str) -> Callable[[int, int], None] | None:
    """A function of (done, total): the caller's, one that writes "``what`` done of total, time left", or none."""
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress  # type: ignore[no-any-return]
    if progress is not True:
        name = what.rpartition(" ")[2]
        msg = f"progress must be True, False or a callable as progress(done, {name}s); got {progress!r}."
        raise TypeError(msg)

    began, longest = time.monotonic(), 0

    def line(done: int, total: int) -> None:
        nonlocal longest
        left = (time.monotonic() - began) * (total - done) / max(done, 1)
        text = f"{what} {done} of {total}" + (f", {left:.0f} s left" if done < total else "")
        sys.stderr.write("\r" + text.ljust(longest) + ("\n" if done == total else ""))
        sys.stderr.flush()
        longest = len(text)

    return line
