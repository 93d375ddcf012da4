"""Functions that users name on the command line, in files and modules of their own."""

from __future__ import annotations

import functools
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._datasets import InputError

__all__ = ["features_of", "function_of"]


def function_of(path: Path, name: str) -> Callable[..., Any]:
    """A function of a Python file that may import its neighbours; errors in it name their line."""
    if not path.is_file():
        msg = f"there is no file {path}."
        raise InputError(msg)

    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        msg = f"{path} is not a Python file: its name must end in .py."
        raise InputError(msg)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        _guarded(path, spec.loader.exec_module, module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    function = getattr(module, name, None)
    if not callable(function):
        msg = f"{path} has no function {name!r}."
        raise InputError(msg)
    return functools.partial(_guarded, path, function)


def _guarded(path: Path | None, call: Callable[..., Any], *arguments: Any) -> Any:
    """What the user's function returns; InputError with the line of ``path``, or the file and line, that failed."""
    try:
        return call(*arguments)
    except Exception as exc:
        frames = [(Path(frame.filename).resolve(), frame.lineno) for frame in traceback.extract_tb(exc.__traceback__)]
        if path is None:
            path = frames[-1][0]
        lines = [line for file, line in frames if file == path.resolve()]
        where = f" in line {lines[-1]}" if lines else ""
        msg = f"{path}{where} raised {type(exc).__name__}: {exc}"
        raise InputError(msg) from exc


def features_of(spec: str) -> Callable[..., Any]:
    """The function MODULE:NAME, of a module that can be imported from here, or of a file."""
    module, colon, name = spec.rpartition(":")
    if not colon or not module or not name:
        msg = f"--features must be MODULE:FUNCTION or FILE.py:FUNCTION; got {spec!r}."
        raise InputError(msg)
    if module.endswith(".py"):
        return function_of(Path(module), name)
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name, None)
    except Exception as exc:
        msg = f"--features could not import {module}: {type(exc).__name__}: {exc}"
        raise InputError(msg) from exc
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(function):
        msg = f"{module} has no function {name!r}."
        raise InputError(msg)
    return functools.partial(_guarded, None, function)
