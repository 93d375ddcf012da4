"""One self-contained page: a template, tables, galleries. No scripts, fonts or pictures from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from string import Template

__all__ = ["bullets", "figure", "gallery", "page", "paragraph", "section", "strip", "table"]

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1c2126; --soft: #5b646e; --line: #d9dee3;
  --page: #ffffff; --tint: #f4f6f8; --mark: #3a7fc1; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #dfe4ea; --soft: #98a2ad; --line: #343b43; --page: #14181c; --tint: #1c2228; --mark: #6aa9e4; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 3rem 1.5rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 3.2rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line);
  letter-spacing: -.01em; }
p, ul { max-width: 46rem; margin: .7rem 0; }
ul { padding-left: 1.2rem; } li { margin: .45rem 0; }
.lead, .note, figcaption, caption { color: var(--soft); }
.note, figcaption, caption { font-size: .86rem; line-height: 1.45; }
.lead { font-size: 1.05rem; margin-top: 0; text-wrap: balance; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 1.1rem 0; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; max-width: 46rem; }
th, td { text-align: right; padding: .32rem .6rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; white-space: normal; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
table.facts td:last-child { text-align: left; white-space: normal; }
.summary { background: var(--tint); border-left: 3px solid var(--mark); border-radius: 0 6px 6px 0;
  padding: .5rem 1.4rem .7rem; margin: 1.6rem 0; }
.summary ul { max-width: none; }
.summary h2 { border: 0; margin: .7rem 0 0; padding: 0; }
figure { margin: 1.3rem 0; }
figure > svg { display: block; width: 100%; height: auto; max-width: 52rem; }
svg text { font-family: inherit !important; fill: currentColor; }
.gallery { display: flex; flex-wrap: wrap; gap: .9rem .7rem; margin: 1rem 0 .5rem; }
.gallery > div { text-align: center; font-size: .72rem; line-height: 1.35;
  color: var(--soft); font-variant-numeric: tabular-nums; }
.gallery img { height: 3.6rem; image-rendering: pixelated; border-radius: 3px; margin: 0 1px; }
.strip { display: grid; grid-template-columns: 5.5rem repeat(var(--columns), auto); justify-content: start;
  align-items: center; gap: .25rem; font-size: .78rem; color: var(--soft); overflow-x: auto; margin: 1rem 0 .5rem; }
.strip img { height: 3.6rem; image-rendering: pixelated; border-radius: 3px; display: block; }
footer { margin-top: 4rem; color: var(--soft); font-size: .84rem; }
code { font: .88em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="lead">$lead</p>
$body
<footer>$footer</footer>
</main>
</body>
</html>
""")


def _text(plain: str) -> str:
    """Plain text as HTML; a ratio is not broken over two lines."""
    return html.escape(plain).replace("σ/α", "σ/&NoBreak;α")


def page(title: str, lead: str, body: Iterable[str], footer: str) -> str:
    """The whole document from fragments of HTML; the other texts are plain."""
    texts = {"title": title, "lead": lead, "footer": footer}
    return _PAGE.substitute({name: _text(text) for name, text in texts.items()}, body="\n".join(body))


def section(title: str, fragments: Iterable[str], *, kind: str = "") -> str:
    """A titled part of the page."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<section{attribute}>\n<h2>{_text(title)}</h2>\n" + "\n".join(fragments) + "\n</section>"


def paragraph(text: str, *, kind: str = "") -> str:
    """A paragraph of plain text."""
    attribute = f' class="{kind}"' if kind else ""
    return f"<p{attribute}>{_text(text)}</p>"


def bullets(texts: Iterable[str]) -> str:
    """A list of plain sentences."""
    return "<ul>\n" + "\n".join(f"<li>{_text(text)}</li>" for text in texts) + "\n</ul>"


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = (), caption: str = "") -> str:
    """Plain cells; without a header a list of facts, name beside value."""
    head = "<tr>" + "".join(f"<th>{_text(cell)}</th>" for cell in header) + "</tr>" if header else ""
    body = "\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    below = f"<caption>{_text(caption)}</caption>" if caption else ""
    kind = "" if header else ' class="facts"'
    return f'<div class="wide"><table{kind}>{below}\n{head}\n{body}\n</table></div>'


def figure(content: str, caption: str) -> str:
    """A chart or gallery (HTML) over a plain caption."""
    return f"<figure>\n{content}\n<figcaption>{_text(caption)}</figcaption>\n</figure>"


def gallery(items: Iterable[tuple[Sequence[str], str]]) -> str:
    """Groups of pictures, each over a line of plain text."""
    cells = (f"<div>{''.join(pictures)}<br>{_text(text)}</div>" for pictures, text in items)
    return '<div class="gallery">' + "\n".join(cells) + "</div>"


def strip(rows: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Rows of pictures (HTML) or plain words, each with a plain title at its left."""
    rows = list(rows)
    cells = []
    for title, items in rows:
        cells.append(f"<span>{_text(title)}</span>")
        cells += [item if item.startswith("<img") else f"<span>{_text(item)}</span>" for item in items]
    return f'<div class="strip" style="--columns: {len(rows[0][1])}">' + "\n".join(cells) + "</div>"
