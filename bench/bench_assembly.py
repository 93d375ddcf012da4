"""The inner loops of the compiled kernels as the compiler left them: wide vectors, and nothing spilled to the stack.

A spilled accumulator halves the speed of a product, and no test of results would tell. Needs objdump and x86-64.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from interp_fast import _core

_FUNCTION = re.compile(r"^([0-9a-f]+) <(.*)>:$")
_INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
_JUMP = re.compile(r"^([0-9a-f]+) <")
_LOOP = re.compile(r"::(scores|int8_scores|find_rows|add_rows|add_along|gemv_dot|gemv_add)(_of_panel)?<")
_REGISTER = {"vnni": "%zmm", "v4": "%zmm", "v3": "%ymm"}
# How many loops there are at least: of two types and two widths of a panel, or of the one type and width of int8,
# where rows are found with weights and without.
_FLOATS = {"scores floats": 4, "add_rows floats": 4, "add_along floats": 4, "gemv_dot floats": 2, "gemv_add floats": 2}
_BYTES = {"int8_scores bytes": 1, "find_rows bytes": 2}
_PRODUCTS = {"vnni": _BYTES, "v4": _FLOATS, "v3": _FLOATS | _BYTES}


def _module() -> Path:
    """The module as it was linked: an installed one has lost its symbols, the build folder of a checkout keeps them."""
    installed = Path(_core.__file__)
    return max(Path(__file__).parents[1].glob(f"build/*/{installed.name}"), key=os.path.getmtime, default=installed)


@functools.cache
def _disassembly() -> list[str]:
    command = ["objdump", "--disassemble", "--demangle", "--no-show-raw-insn", "--section=.text", str(_module())]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def _loops(isa: str) -> Iterator[tuple[str, list[str]]]:
    """Innermost loops of the functions of one instruction set, as (function, instructions)."""
    name, body = "", list[tuple[int, str]]()
    for line in [*_disassembly(), "0 <end>:"]:
        if match := _FUNCTION.match(line):
            if f"interp_fast::{isa}::" in name:
                yield from ((name, loop) for loop in _innermost(body))
            name, body = match[2], []
        elif match := _INSTRUCTION.match(line):
            body.append((int(match[1], 16), f"{match[2]} {match[3]}"))


def _innermost(body: list[tuple[int, str]]) -> list[list[str]]:
    position = {address: k for k, (address, _) in enumerate(body)}
    spans = []
    for k, (_, text) in enumerate(body):
        operation, _, target = text.partition(" ")
        # Loops end with a condition: a plain jump back comes from a rare case that was moved out of the way.
        if operation.startswith("j") and operation != "jmp" and (match := _JUMP.match(target)):
            start = position.get(int(match[1], 16), k + 1)
            if start <= k:
                spans.append((start, k))
    inner = [s for s in spans if not any(s != o and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
    return [[text for _, text in body[first : last + 1]] for first, last in inner]


if shutil.which("objdump") and platform.machine() == "x86_64":

    @pytest.mark.parametrize("isa", list(_REGISTER))
    def test_products_keep_their_accumulators_in_registers(isa):
        seen = Counter[str]()
        for name, loop in _loops(isa):
            fused = [text for text in loop if text.startswith(("vfmadd", "vpdpbusd", "vpmaddubsw"))]
            if not (match := _LOOP.search(name)) or len(fused) < 8:
                continue
            seen[f"{match[1]} {'floats' if fused[0].startswith('vfmadd') else 'bytes'}"] += 1
            stack = [text for text in loop if "(%rsp" in text or "(%rbp" in text]
            assert not stack, f"{name} spills: {stack}"
            assert all(_REGISTER[isa] in text for text in fused), f"{name} is not vectorised: {fused}"
        assert seen >= Counter(_PRODUCTS[isa]), seen
