"""The shell around a command: characters it does not have, readers that leave, signals that end the process."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

__all__ = ["say", "shell"]

_PLAIN = {"α": "alpha", "σ": "sigma", "ε": "epsilon", "×": "x", "±": "+-", "–": "-", "−": "-", "√": "sqrt"}


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What is printed for characters that the terminal does not have."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    alike = (_PLAIN.get(c, unicodedata.normalize("NFKD", c)).replace("\N{FRACTION SLASH}", "/") for c in found)
    return "".join(text.encode("ascii", "ignore").decode() or "?" for text in alike), error.end


@contextmanager
def shell() -> Iterator[None]:
    """While it lasts any text can be printed, and the signals that end a process raise SystemExit.

    Left alone these end it on the spot, and temporary files stay behind. Signals that are ignored (nohup) or handled by
    somebody else remain so.
    """
    codecs.register_error("interp_fast", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="interp_fast")
    main = threading.current_thread() is threading.main_thread()
    ours = [name for name in ("SIGTERM", "SIGHUP") if main and hasattr(signal, name)]
    caught = [s for s in (getattr(signal, name) for name in ours) if signal.getsignal(s) is signal.SIG_DFL]
    for number in caught:
        signal.signal(number, _end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
        for stream in (sys.stdout, sys.stderr):
            say("", stream, end="")


def say(text: str, stream: Any = None, end: str = "\n") -> None:
    """Print ``text`` on ``stream``, by default stdout, to whoever still reads."""
    stream = sys.stdout if stream is None else stream
    try:
        print(text, file=stream, end=end, flush=True)
    except BrokenPipeError:  # what is left in the stream must lead somewhere, or Python complains when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _end(number: int, _: Any) -> NoReturn:
    raise SystemExit(128 + number)
