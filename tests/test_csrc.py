"""The C++ core as a building: which file includes which, how wide its doors are, and the promise it was built for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from interp_fast import _core, backends
from interp_fast._accuracy import PROMISES

CSRC = Path(__file__).parent.parent / "csrc"
SOURCES = sorted(path for pattern in ("*.h", "*.cpp") for path in CSRC.rglob(pattern))
KERNELS = CSRC / "kernels"
# A template of the standard library compiled for one instruction set could become the copy that all of them run.
C_HEADERS = {"math.h", "stddef.h", "stdint.h", "string.h", "immintrin.h"}
CONTRACT = {"kernels.h"}  # of the kernels with the drivers

LINES = 450
PARAMETERS = 10


def includes(path: Path) -> tuple[set[Path], set[str]]:
    """The project's files, and the others, that a file includes."""
    found = re.findall(r'^\s*#\s*include\s+(["<])(\S+)[">]', path.read_text(), re.MULTILINE)
    own = {(path.parent / name).resolve() for kind, name in found if kind == '"'}
    return own, {name for kind, name in found if kind == "<"}


def unit(path: Path) -> str:
    """A header and the source of the same name are one."""
    return str(path.relative_to(CSRC).with_suffix(""))


def lists(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every list in parentheses, as what stands before it and its items; and so for lists in braces."""
    text = re.sub(r"//[^\n]*|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)'", "0", text)
    closing = {"(": ")", "{": "}", "[": "]"}
    open_lists: list[tuple[str, int, list[int]]] = []
    for at, mark in enumerate(text):
        if mark in closing:
            open_lists.append((mark, at, [at + 1]))
        elif mark == "," and open_lists:
            open_lists[-1][2].append(at + 1)
        elif mark in closing.values() and open_lists:
            kind, start, items = open_lists.pop()
            assert closing[kind] == mark
            before = text[max(0, start - 80) : start].split("\n")[-1] if kind == "(" else kind
            ends = [*(item - 1 for item in items[1:]), at]
            if kind != "[":
                yield before, [text[a:b].strip() for a, b in zip(items, ends, strict=True)]


def test_included_files_exist():
    for path in SOURCES:
        for other in includes(path)[0]:
            assert other in SOURCES, f"{path.name} includes {other.name}"


def test_kernels_are_the_ground():
    """Nothing but C and each other: no drivers, and nothing of the standard library."""
    seen = 0
    for path in SOURCES:
        if path.parent != KERNELS:
            continue
        own, others = includes(path)
        seen += len(own)
        assert {other.parent for other in own} <= {KERNELS}, path.name
        assert others <= C_HEADERS, path.name
    assert seen > 10


def test_drivers_see_the_contract_of_the_kernels_alone():
    for path in SOURCES:
        if path.parent == CSRC:
            assert {other.name for other in includes(path)[0] if other.parent == KERNELS} <= CONTRACT, path.name


def test_floors():
    """No circle, where a header and the source of that name are one; and the ladder is the roof."""
    needs: dict[str, set[str]] = {}
    for path in SOURCES:
        needs.setdefault(unit(path), set()).update(unit(other) for other in includes(path)[0])
    left = {name: others - {name} for name, others in needs.items()}
    while left:
        ground = {name for name, others in left.items() if not others & set(left)}
        assert ground, f"these include each other in a circle: {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in ground}
    above = {path.name for path in SOURCES if CSRC / "posterior.h" in includes(path)[0]}
    assert above == {"bindings.cpp", "posterior.cpp", "steps.cpp"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_sizes(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LINES
    for before, items in lists(text):
        if "{" in before:
            continue
        assert len(items) <= PARAMETERS or re.search(r"\b_mm\w+$", before), f"{before}({len(items)} items)"
        assert sum(bool(re.match(r"(const )?bool\b", item)) for item in items) < 2, f"{before}{items}"
        assert sum(item in {"true", "false"} for item in items) < 2, f"{before}{items}"


def test_the_ladder_is_short():
    assert len((CSRC / "posterior.cpp").read_text().splitlines()) < 150


def test_lists_are_seen():
    """The reader itself."""
    text = 'f(int a, bool b /* , */); g({true, x}, "(,", h(1, 2));'.replace("/* , */", "")
    found = [(before.split()[-1] if before.split() else before, items) for before, items in lists(text)]
    assert ("f", ["int a", "bool b"]) in found
    assert ("{", ["true", "x"]) in found
    assert ("h", ["1", "2"]) in found
    assert any(before.endswith("g") and len(items) == 3 for before, items in found)


def test_the_promise():
    """The constants of the error model keep what is promised, and the contract's word on the scatter."""
    scatter = re.search(r"to (2\^-\d+) R\^2 \((2\^-\d+) for float64 rows\)", backends.__doc__)
    of_scatter = {"float32": scatter[1], "float64": scatter[2]}
    for name, promise in PROMISES.items():
        accuracy = _core.accuracy[name]
        assert accuracy["noise"] == promise.noise
        assert accuracy["per_radius"] < promise.denoiser
        assert accuracy["per_deviation"] < promise.noise
        assert accuracy["logit"] < promise.density
        assert accuracy["top_weight"] < promise.weight
        assert accuracy["scatter"] == promise.scatter == 2.0 ** int(of_scatter[name][2:])
