"""``_core.pyi`` is the compiled module: the same names, the same arguments."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import interp_fast
from interp_fast import _core

STUB = ast.parse((Path(interp_fast.__file__).parent / "_core.pyi").read_text("utf-8"))


def declared(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Public names of a module or a class of the stub; those that hold no value at run time begin with _."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found[node.name] = node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = node
    return {name: node for name, node in found.items() if name in ("__init__", "__version__") or name[0] != "_"}


def arguments(node: ast.FunctionDef) -> list[str]:
    """Their names, those after * by keyword only."""
    by_keyword = [argument.arg for argument in node.args.kwonlyargs]
    return [argument.arg for argument in node.args.args] + ["*", *by_keyword] * bool(by_keyword)


def compiled_arguments(function: object) -> list[str]:
    """From the first line of the docstring, where pybind11 writes the signature."""
    line = inspect.getdoc(function).splitlines()[0]
    (parsed,) = ast.parse(f"def {line}: ...").body
    assert isinstance(parsed, ast.FunctionDef)
    return arguments(parsed)


FUNCTIONS = {name: node for name, node in declared(STUB.body).items() if isinstance(node, ast.FunctionDef)}
METHODS = {
    f"{owner}.{name}": node
    for owner, cls in declared(STUB.body).items()
    if isinstance(cls, ast.ClassDef)
    for name, node in declared(cls.body).items()
}


def test_names_are_those_of_the_module():
    there = {name for name in dir(_core) if not name.startswith("_")} | {"__version__"}
    assert set(declared(STUB.body)) == there


@pytest.mark.parametrize("owner", sorted({name.partition(".")[0] for name in METHODS}))
def test_classes_have_the_members_of_the_stub(owner):
    there = {name for name in vars(getattr(_core, owner)) if not name.startswith("_")} | {"__init__"}
    assert {name.partition(".")[2] for name in METHODS if name.startswith(owner + ".")} == there


@pytest.mark.parametrize("name", [*FUNCTIONS, *METHODS])
def test_arguments_are_those_of_the_module(name):
    node = (FUNCTIONS | METHODS)[name]
    function = _core
    for part in name.split("."):
        function = getattr(function, part)
    assert arguments(node) == compiled_arguments(function)
