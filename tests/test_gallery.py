"""The gallery of known results: every page is short and says what it shows, how it differs and what it costs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "examples" / "known_results"
PAGES = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_page_says_what_it_is(page):
    text = page.read_text("utf-8")
    assert len(text.splitlines()) <= 60
    said = ast.get_docstring(ast.parse(text)) or ""
    title, rule = said.splitlines()[:2]
    assert rule == "=" * len(title)
    assert re.findall(r"^\*\*(\w+)\.\*\*", said, flags=re.MULTILINE) == ["Shown", "Differs", "Cost"]
    assert "FULL" in text
    assert "finish(" in text


def test_there_are_pages():
    assert len(PAGES) >= 10
