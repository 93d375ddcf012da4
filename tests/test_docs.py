"""The pages say what is so: their snippets run, files and names are there, numbers are the stored ones."""

from __future__ import annotations

import inspect
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

import interp_fast as itf
from interp_fast import _core, steps

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "HACKING.md")] + sorted(ROOT.glob("docs/*.md"))
SHOWN_BEFORE = {"quickstart.md": ["README.md"]}  # what a page includes
PUBLIC = {
    f"{module.__name__}.{name}"
    for module in (itf, itf.grid, itf.perturb, itf.theory, itf.experiments)
    for name in module.__all__
    if not inspect.ismodule(getattr(module, name))
} | {f"interp_fast.torch.{name}" for name in ("Denoiser", "Noise", "Targets", "Velocity")}  # which loads torch
PUBLIC |= {"interp_fast.distributed.Field"}  # which loads Dask


def snippets(page: Path) -> list[str]:
    """Its Python, and before it that of the pages it includes."""
    pages = [ROOT / name for name in SHOWN_BEFORE.get(page.name, [])] + [page]
    return [code for p in pages for code in re.findall(r"```python\n(.*?)```", p.read_text("utf-8"), flags=re.DOTALL)]


@pytest.fixture
def isa():
    """A snippet chooses an instruction set: not for the tests after it."""
    before = _core.isa()
    yield
    _core.set_isa(before)


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page)], ids=lambda page: page.name)
def test_snippets_run(page, isa):
    """In order, in one namespace."""
    namespace: dict[str, object] = {}
    for number, code in enumerate(snippets(page)):
        exec(compile(code, f"{page.name}, snippet {number}", "exec"), namespace)
    if page.name == "README.md":
        assert namespace["out"].x.shape == (256, 64)  # what the text says beside it


def test_pages_have_snippets():
    shown = {page.name for page in PAGES if snippets(page)}
    assert shown >= {"README.md", "CONTRIBUTING.md", "quickstart.md", "solvers.md", "accuracy.md"}


@pytest.mark.parametrize("page", [*PAGES, ROOT / "csrc" / "README.md"], ids=lambda page: str(page.relative_to(ROOT)))
def test_files_are_there(page):
    """Links, and what stands in backticks and looks like a file, from the root of the repository."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    named = set(re.findall(r"`((?:interp_fast|csrc|tests|bench|docs|\.ci)/[\w./*-]+|\w+\.(?:md|json|toml|txt))`", text))
    missing = [name for name in named if not any(ROOT.glob(name.rstrip("/")))]
    linked = set(re.findall(r"\]\(([^)#:]+)\)", text))
    missing += [name for name in linked if not (page.parent / name).exists()]
    assert not missing
    assert named or linked or page.parent.name == "docs"


def test_map_is_of_this_house():
    """Every module and folder that the map names is there, and it leaves no folder out."""
    text = (ROOT / "HACKING.md").read_text("utf-8")
    tree = text.split("```\n")[1]
    python = tree.split("\ncsrc/")[0]
    named = set(re.findall(r"[\w*]+\.py|[\w]+/", python)) - {"interp_fast/", "csrc/"}
    for name in named:
        assert any((ROOT / "interp_fast").rglob(name.rstrip("/"))), name
    folders = {path.parent.name + "/" for path in (ROOT / "interp_fast").glob("*/__init__.py")}
    assert folders <= named


def test_lists_of_what_to_add_name_what_is_there():
    """Every name in backticks in them stands in some source."""
    text = (ROOT / "HACKING.md").read_text("utf-8").split("<!-- how to add -->")[1]
    names = set(re.findall(r"`([A-Za-z_]\w+)", re.sub(r"`[^`]*[/*][^`]*`", "", text)))
    assert len(names) > 20
    files = [p for folder in ("interp_fast", "csrc", "tests", "bench") for p in (ROOT / folder).rglob("*.[pch]*")]
    sources = "\n".join(p.read_text("utf-8") for p in files if p.suffix in (".py", ".cpp", ".h"))
    sources += (ROOT / "CMakeLists.txt").read_text("utf-8")
    assert not names - set(re.findall(r"\w+", sources))


def test_reference_is_complete():
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    named = re.findall(r"\.\. auto(?!module)\w+:: ([\w.]+)", text)
    assert sorted(named) == sorted(PUBLIC), "docs/reference.md must name what is public, once"


def test_solvers_and_schedules_are_listed():
    text = (ROOT / "docs" / "solvers.md").read_text("utf-8")
    schedules = [name for name in itf.__all__ if isinstance(getattr(itf, name), type(itf.Schedule))]
    schedules = [name for name in schedules if issubclass(getattr(itf, name), itf.Schedule) and name != "Schedule"]
    assert len(schedules) > 8
    for name in [*schedules, *(set(steps.__all__) - {"StepTable"})]:
        assert re.search(rf"^\| .*`{name}\b", text, flags=re.MULTILINE), name


def test_published_speed_is_what_was_stored(tmp_path):
    """Tables, and the words of the pictures, are those that the script makes now."""
    script = runpy.run_path(str(ROOT / "bench" / "performance.py"))
    results = script["stored"]()
    for page, text in script["pages"](results).items():
        assert page.read_text("utf-8") == text, f"run bench/performance.py: {page.name} is not what it makes"
    pictures = script["regimes"](next(iter(results.values())))
    assert {path.stem for path in script["PICTURES"].glob("*.svg")} == set(pictures)
    for name, cells in pictures.items():
        script["draw"](cells, tmp_path / "new.svg")
        new, old = (_words(path) for path in (tmp_path / "new.svg", script["PICTURES"] / f"{name}.svg"))
        assert new == old
        assert "cpp" in new


def test_published_costs_of_files_are_what_was_stored():
    script = runpy.run_path(str(ROOT / "bench" / "out_of_core.py"))
    assert script["PAGE"].read_text("utf-8") == script["page"](), "run bench/out_of_core.py --page"


def _words(picture: Path) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.parse(picture).iter("{http://www.w3.org/2000/svg}text")]


def test_hooks_are_the_first_minute_of_the_gate():
    """pre-commit and .ci/run call the same tools the same way."""
    gate = (ROOT / ".ci" / "run").read_text("utf-8")
    entries = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    assert len(entries) == 4
    for entry in entries:
        assert re.search(rf"^{re.escape(entry)}( |$)", gate, flags=re.MULTILINE), entry
