"""What parts of a report are made of, as data, and the page that a template makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any, ClassVar

from .. import _figures
from .._datasets import InputError

__all__ = ["Block", "Bullets", "Chart", "Gallery", "Html", "Paragraph", "Part", "Strip", "Table", "template"]


class Html(str):
    """A fragment that is HTML already: a picture, a chart."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


@dataclass(frozen=True)
class Paragraph:
    text: str
    note: bool = False
    kind: ClassVar[str] = "paragraph"


@dataclass(frozen=True)
class Bullets:
    texts: Sequence[str]
    kind: ClassVar[str] = "bullets"


@dataclass(frozen=True)
class Table:
    """Cells; without a header a list of facts, name beside value."""

    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()
    caption: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Chart:
    """What ``draw(*axes)`` draws; ``label`` is read out to those who do not see it."""

    draw: Callable[..., None]
    label: str
    caption: str
    size: tuple[float, float] = (8.6, 3.5)
    columns: int = 1
    kind: ClassVar[str] = "chart"

    @property
    def svg(self) -> Html:
        return Html(_figures.chart(self.draw, self.label, size=self.size, columns=self.columns))


@dataclass(frozen=True)
class Gallery:
    """Groups of pictures, each over a line of text."""

    items: Sequence[tuple[Sequence[Html], str]]
    caption: str
    kind: ClassVar[str] = "gallery"


@dataclass(frozen=True)
class Strip:
    """Rows of pictures or words, each with a title at its left."""

    rows: Sequence[tuple[str, Sequence[str]]]
    caption: str
    kind: ClassVar[str] = "strip"


Block = Paragraph | Bullets | Table | Chart | Gallery | Strip


@dataclass(frozen=True)
class Part:
    """One part of a report: numbers for report.json under ``key``, blocks for the page, words for the summary."""

    key: str
    title: str
    numbers: dict[str, Any]
    blocks: Sequence[Block]
    conclusions: Sequence[str] = ()
    verdict: Sequence[tuple[str, str]] = ()
    summary: bool = field(default=False, kw_only=True)


def template() -> Any:
    """The page to be: no scripts, fonts or pictures from elsewhere; all text is escaped. InputError without Jinja2."""
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as exc:
        msg = f"a report needs Jinja2, which is not installed ({exc}): pip install 'interp_fast[report]'."
        raise InputError(msg) from None

    def whole(value: Any) -> Any:
        """A ratio is not broken over two lines."""
        if isinstance(value, str) and not hasattr(value, "__html__"):
            return Html(escape(value).replace("σ/α", "σ/&NoBreak;α"))
        return value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=whole, keep_trailing_newline=True
    )  # fmt: skip
    return environment.from_string(files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
