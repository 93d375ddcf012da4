"""What every result object has in common: frozen, printed as a short table, turned into a dict of plain values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

__all__ = ["Record", "as_html", "axes", "called", "plain", "to_json"]


def plain(value: Any) -> Any:
    """``value`` in plain Python: arrays as lists, records as dicts."""
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if hasattr(value, "tocsr"):
        return {name: plain(getattr(value, name)) for name in ("shape", "indptr", "indices", "data")}
    return value.tolist() if hasattr(value, "tolist") else value


def to_json(value: Any) -> str:
    """``value`` as JSON, which has no infinities: what is not finite becomes null."""
    import json

    return json.dumps(_finite(plain(value)), indent=1, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cell(value: Any) -> str:
    if hasattr(value, "__array__"):
        value = np.asarray(value)[()]
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_cell, value)) + ")"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_cell(item)}" for name, item in value.items())
    if isinstance(value, Record):
        return ", ".join(f.name for f in fields(value))
    if isinstance(value, (float, np.floating)):
        return f"{value:.6g}"
    shape = getattr(value, "shape", None)
    if not shape:
        return str(value)
    if value.ndim == 1 and len(value) <= 6 and value.dtype.kind in "fiub":
        return "[" + ", ".join(_cell(v) for v in value.tolist()) + "]"
    text = f"{value.dtype} {tuple(shape)}"
    if value.dtype.kind in "fiu" and 0 not in shape:
        text += f", {value.min():.6g} .. {value.max():.6g}"
    return text


def as_html(title: str, facts: Iterable[tuple[str, Any]]) -> str:
    """A small table of names and values for notebooks."""
    from html import escape

    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(_cell(value))}</td></tr>" for name, value in facts)
    return f'<table><caption style="text-align:left">{escape(title)}</caption><tbody>{rows}</tbody></table>'


@dataclass(frozen=True, repr=False, eq=False)
class Record:
    """A frozen result. ``print`` shows one line for each attribute that is set; a notebook shows them as a table."""

    def _facts(self) -> list[tuple[str, Any]]:
        values = [(f.name, getattr(self, f.name)) for f in fields(self)]
        return [(name, value) for name, value in values if value is not None]

    def _repr_html_(self) -> str:
        return as_html(type(self).__name__, self._facts())

    def __repr__(self) -> str:
        shown = [(name, _cell(value)) for name, value in self._facts()]
        width = max((len(name) for name, _ in shown), default=0)
        return "\n".join([type(self).__name__, *(f"  {name:<{width}}  {text}" for name, text in shown)])

    def to_dict(self) -> dict[str, Any]:
        """Attribute name -> plain Python value (arrays as nested lists; None where not computed)."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self)}

    def to_json(self) -> str:
        """``to_dict`` as JSON, which has no infinities: what is not finite becomes null."""
        return to_json(self)


def called(function: Any) -> str:
    """The name of a function; of a callable object what it says of itself, or its type."""
    speaks = any("__repr__" in vars(kind) for kind in type(function).__mro__[:-1])
    return str(getattr(function, "__name__", repr(function) if speaks else type(function).__name__))


def axes(ax: Any) -> Any:
    """``ax``, or new axes of matplotlib when it is None."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError:
        msg = "plot needs matplotlib; install it, e.g. as interp_fast[report]."
        raise ImportError(msg) from None
    return pyplot.subplots()[1]
