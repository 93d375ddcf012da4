"""How far a long call is: what its argument ``progress`` means."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["reporter"]


def reporter(progress: Any, what: str) -> Callable[[int, int], None] | None:
    """A function of (done, total): the caller's, one that writes "``what`` done of total" on stderr, or none."""
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress  # type: ignore[no-any-return]
    if progress is not True:
        name = what.rpartition(" ")[2]
        msg = f"progress must be True, False or a callable as progress(done, {name}s); got {progress!r}."
        raise TypeError(msg)

    def line(done: int, total: int) -> None:
        sys.stderr.write(f"\r{what} {done} of {total}" + ("\n" if done == total else ""))
        sys.stderr.flush()

    return line
