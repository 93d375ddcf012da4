"""The README's Python snippets run, in order, in one namespace."""

import re
from pathlib import Path


def test_snippets_run():
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    snippets = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(snippets) >= 3
    namespace: dict[str, object] = {}
    for number, snippet in enumerate(snippets):
        exec(compile(snippet, f"README.md, snippet {number}", "exec"), namespace)
    assert namespace["out"].x.shape == (256, 64)  # what the text says beside it
