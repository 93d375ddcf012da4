"""Every example in a docstring runs and gives what it says, and everything public that is called has one."""

import doctest
import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import interp_fast as itf

MODULES = [
    "interp_fast",
    *(m.name for m in pkgutil.walk_packages(itf.__path__, "interp_fast.") if m.name != "interp_fast.__main__"),
]
PUBLIC = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (itf, itf.grid, itf.perturb, itf.theory, itf.experiments)
    for name in module.__all__
}
FUNCTIONS = {name: function for name, function in PUBLIC.items() if inspect.isfunction(function)}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    if name.removeprefix("interp_fast.").removeprefix("backends.").startswith("torch"):
        pytest.importorskip("torch", reason="torch is not installed")
    runner = doctest.DocTestRunner(verbose=False)
    report = []
    with np.printoptions(precision=8, threshold=1000, edgeitems=3, linewidth=75, suppress=False, legacy=False):
        for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name), name):
            runner.run(test, out=report.append)
    assert not runner.summarize(verbose=False).failed, "".join(report)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_has_an_example(name):
    assert doctest.DocTestParser().get_examples(inspect.getdoc(FUNCTIONS[name]) or ""), name
