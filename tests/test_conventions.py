"""The pages on other packages' conventions: their snippets are short, and run as they stand where the package is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.torchvision import without_operators

import interp_fast as itf

FOLDER = Path(__file__).parent.parent / "docs" / "conventions"
PAGES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")


def snippets(page):
    return re.findall(r"```python\n(.*?)```", (FOLDER / f"{page}.md").read_text("utf-8"), flags=re.DOTALL)


def test_every_page_is_listed():
    index = (FOLDER / "index.md").read_text("utf-8")
    assert len(PAGES) == 6
    for page in PAGES:
        assert f"]({page}.md)" in index
        assert re.search(rf"^{page}$", index, flags=re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_ten_lines(page):
    found = snippets(page)
    assert len(found) == 2
    for code in found:
        assert len([line for line in code.splitlines() if line.strip()]) <= 10
        compile(code, page, "exec")


@pytest.mark.filterwarnings("default")  # theirs are not ours
@pytest.mark.parametrize("page", PAGES)
def test_snippets_run(page):
    """Samples end on rows; the network, here the oracle's own module, is found to be the oracle."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    without_operators()
    torch.manual_seed(0)
    namespace: dict[str, object] = {}
    for number, code in enumerate(snippets(page)):
        try:
            exec(compile(code, f"{page}, snippet {number}", "exec"), namespace)
        except ModuleNotFoundError as missing:
            pytest.skip(f"{missing.name} is not installed")
    field, near = namespace["field"], namespace["near"]
    assert isinstance(field, itf.Field)
    samples = np.asarray(namespace["x"].detach(), np.float32).reshape(16, -1)
    assert itf.nearest(samples, field, 1).distance.max() <= 1e-2 * field.R
    assert (near.r2 > 0.9999).all()
    assert (near.baselines["linear"].r2 <= near.r2).all()
