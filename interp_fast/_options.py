"""What may stand on the command line: values of options, each with its sentence when it is none."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import interp_fast as itf

from ._datasets import InputError, Shape

__all__ = ["Parser", "above_0", "count", "joined", "number_or_file", "schedule", "shape", "times", "value_range"]


def joined(argv: Sequence[str]) -> list[str]:
    """``--range -1,1`` as one word: the value looks like an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--range":
            words[-1] += f"={word}"
        else:
            words.append(word)
    return words


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, printed where all errors are. Options may stand between the names of files."""

    _between = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._subparsers is not None or self._between:
            return super().parse_known_args(args, namespace)
        self._between = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._between = False

    def error(self, message: str) -> NoReturn:
        msg = f"{message} (see {self.prog} --help)."
        raise InputError(msg)


def count(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            msg = f"{text!r} is not an integer of at least {least}"
            raise argparse.ArgumentTypeError(msg)
        return int(text)

    return parse


def above_0(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        msg = f"{text!r} is not a number above 0"
        raise argparse.ArgumentTypeError(msg)
    return value


def number_or_file(text: str) -> int | str:
    return count(2)(text) if text.isdecimal() else text


def times(text: str) -> int | list[float]:
    if text.isdecimal():
        return int(text)
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        msg = f"{text!r} is neither a number of times nor a list such as 0.3,0.6,0.9"
        raise argparse.ArgumentTypeError(msg) from None


def schedule(text: str) -> itf.Schedule:
    try:
        return itf.schedule(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc).rstrip(".")) from None


def value_range(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        msg = f"{text!r} is not of the form LOW,HIGH"
        raise argparse.ArgumentTypeError(msg)
    return low, high


def shape(text: str) -> Shape:
    parts = text.lower().split("x")
    if not all(part.isdecimal() for part in parts):
        msg = f"{text!r} is not of the form HEIGHTxWIDTH"
        raise argparse.ArgumentTypeError(msg)
    return tuple(int(part) for part in parts)
