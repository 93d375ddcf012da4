"""One version, and one list of requirements, wherever a release is described."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import interp_fast as itf

ROOT = Path(__file__).parent.parent
RECIPE = (ROOT / "packaging" / "conda" / "recipe.yaml").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def test_one_version():
    said = {
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## ([\d.]+)",
        "packaging/conda/recipe.yaml": r'^  version: "(.+)"$',
    }
    for name, pattern in said.items():
        found = re.search(pattern, (ROOT / name).read_text("utf-8"), flags=re.MULTILINE)
        assert found, name
        assert found[1] == itf.__version__, name


def test_a_date_of_release_is_that_of_the_changelog():
    """None before there is a release."""
    heading = re.search(r"^## .*$", (ROOT / "CHANGELOG.md").read_text("utf-8"), flags=re.MULTILINE)[0]
    released = re.search(r"^date-released: (\S+)$", (ROOT / "CITATION.cff").read_text("utf-8"), flags=re.MULTILINE)
    assert ("unreleased" in heading) == (released is None)
    assert released is None or released[1] in heading


def test_recipe_asks_for_what_the_project_does():
    def section(name):
        block = re.search(rf"^  {name}:\n((?:    .*\n)+)", RECIPE, flags=re.MULTILINE)
        return {line.removeprefix("- ").replace(" ", "") for line in map(str.strip, block[1].splitlines())}

    assert section("run") == {"python", *PROJECT["project"]["dependencies"]}
    assert section("host") == {"python", "pip", *PROJECT["build-system"]["requires"]}
    least = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f'match(python, "<{least}")' in RECIPE


def test_wheels_are_of_the_same_pythons_everywhere():
    minors = re.findall(r"cp3(\d+)", PROJECT["tool"]["cibuildwheel"]["build"])
    local = re.search(r"for minor in ([\d ]+);", (ROOT / "packaging" / "wheels").read_text("utf-8"))
    assert local[1].split() == minors
