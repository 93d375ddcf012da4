"""Pictures of the report: charts as inline SVG in the colours of the page, rows of data as PNG."""

from __future__ import annotations

import base64
import html
import io
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from ._datasets import InputError

__all__ = ["COLOURS", "INK", "chart", "picture", "plain_log", "require_matplotlib", "style"]

Float = npt.NDArray[np.float64]

# Readable on white and on near-black. INK becomes the colour of the page's text.
INK = "#000000"
COLOURS = ("#3a7fc1", "#dd7a2f", "#2f9e77", "#c5528f", "#8f74d1", "#8a8f98")

_STYLE: Any = {
    "axes.grid": True,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": "cycler('color', " + repr(list(COLOURS)) + ")",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9.5,
    "grid.alpha": 0.16,
    "grid.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
}


def require_matplotlib() -> None:
    """InputError unless charts and pictures can be drawn."""
    try:
        try:
            import matplotlib.figure
        except ValueError:  # MPLBACKEND names one that this Python does not have, as a notebook's; no window is opened
            os.environ.pop("MPLBACKEND", None)
            import matplotlib.figure  # noqa: F401
        import PIL.Image  # noqa: F401
    except ImportError as exc:
        msg = f"pictures need matplotlib, which is not installed ({exc}): pip install 'interp_fast[report]'."
        raise InputError(msg) from None


@contextmanager
def style(**settings: Any) -> Iterator[None]:
    """Matplotlib in our style while it lasts, whatever the user's matplotlibrc says; to draw in and to save in."""
    require_matplotlib()
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE | settings)
        yield


def chart(draw: Callable[..., None], label: str, *, size: tuple[float, float] = (8.6, 3.5), columns: int = 1) -> str:
    """Inline SVG of what ``draw(*axes)`` draws; ``label`` is read out to those who do not see it."""
    buffer = io.StringIO()
    # The salt keeps the ids of two charts on one page apart, and makes them the same in every run.
    with style(**{"svg.hashsalt": label}):
        from matplotlib.figure import Figure

        figure = Figure(figsize=size, layout="constrained")
        draw(*figure.subplots(1, columns, squeeze=False)[0])
        figure.savefig(
            buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"([^>]*?) width="[^"]*"', r"\1\2", svg, count=1)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href").replace(INK, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{html.escape(label)}"', 1)


def plain_log(axis: Any, ticks: tuple[int, ...] = (1,)) -> None:
    """A logarithmic axis marked at ``ticks`` times powers of ten, with numbers such as 0.01."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axis.set_major_locator(LogLocator(subs=ticks, numticks=20))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def picture(values: npt.NDArray[Any], limits: tuple[float, float], label: str = "") -> str:
    """An <img> of (height, width) or (height, width, 3) values, grey levels between ``limits``."""
    from PIL import Image

    low, high = limits
    scaled = (np.asarray(values, np.float64) - low) * (255.0 / (high - low))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(scaled, 0, 255).round().astype(np.uint8)).save(buffer, "png", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f'<img alt="{html.escape(label)}" src="data:image/png;base64,{data}">'
