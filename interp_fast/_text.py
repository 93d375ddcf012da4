"""How numbers are written, and tables of text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["columns", "distance", "interval", "number", "share"]


def number(value: float) -> str:
    """Three digits; integers in full, by thousands."""
    return f"{value:,}".replace(",", "\u202f") if isinstance(value, int) else f"{value:.3g}"


def share(value: float) -> str:
    """Per cent; a share that is not 0 or 1 does not read as one."""
    if 0 < value < 1e-4 or 1 - 1e-4 < value < 1:
        return "< 0.01 %" if value < 0.5 else "> 99.99 %"
    return f"{100 * value:.4g} %" if value > 0.99 else f"{100 * value:.3g} %"


def interval(value: float, ends: tuple[float, float]) -> str:
    """A share with its confidence interval."""
    return f"{share(value)} ({100 * ends[0]:.3g}\u2013{100 * ends[1]:.3g})"


def distance(value: float, floor: float) -> str:
    """Three digits, unless the distance is rounding."""
    return number(value) if value > floor else f"< {floor:.0e}"


def columns(rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """Rows of cells in aligned columns; ``numbers``: all but the first one to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    other = str.rjust if numbers else str.ljust
    lines = ([row[0].ljust(widths[0]), *map(other, row[1:], widths[1:])] for row in rows)
    return "\n".join("  ".join(cells).rstrip() for cells in lines)
