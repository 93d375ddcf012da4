"""Fixtures: every backend and every instruction set this machine runs, the result types; which combinations run."""

from __future__ import annotations

import contextlib
import platform
import signal
from collections.abc import Iterator

import numba
import numpy as np
import pytest
import scipy
from engines import ENGINES, Engine
from support.combinations import covering

import interp_fast as itf
from interp_fast import _processors

TORCH_MODES = ("medium", "autocast", "inference_mode")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torch-mode", choices=TORCH_MODES, help="what torch is told meanwhile: no test may notice")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Of ``-n auto``: as many as processors may be used here, quotas of containers counted."""
    return _processors.usable()


@pytest.fixture(autouse=True)
def torch_mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """What ``--torch-mode`` says, for the length of a test."""
    mode = request.config.getoption("--torch-mode")
    if mode is None:
        yield
        return
    import torch

    before = torch.get_float32_matmul_precision()
    modes = {"autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16), "inference_mode": torch.inference_mode}
    torch.set_float32_matmul_precision("medium" if mode == "medium" else before)
    try:
        with modes.get(mode, contextlib.nullcontext)():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture(params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """One backend, with its instruction set forced for the length of the test."""
    with request.param.forced() as chosen:
        yield chosen


@pytest.fixture
def backend(engine: Engine) -> str:
    return engine.backend


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261124)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Also where a shell has started the tests in the background, which ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _values(item: pytest.Item) -> set[tuple[object, ...]]:
    """Of the parameters of a test: what a list of ``parametrize`` gives together is one value."""
    parameters = dict(item.callspec.params)  # type: ignore[attr-defined]
    found = set()
    for mark in item.iter_markers("parametrize"):
        names = mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0]
        found.add(tuple((name.strip(), id(parameters.pop(name.strip()))) for name in names))
    return found | {(name, id(value)) for name, value in parameters.items()}


def _wide(items: list[pytest.Item]) -> list[pytest.Item]:
    """Combinations of the parameters of a test beyond some that show each value, each engine among them, once."""
    tests: dict[str, dict[pytest.Item, set[tuple[object, ...]]]] = {}
    for item in items:
        if hasattr(item, "callspec") and not {"long", "wide"} & {mark.name for mark in item.iter_markers()}:
            tests.setdefault(item.nodeid.partition("[")[0], {})[item] = _values(item)
    shown = {item for combinations in tests.values() for item in covering(combinations)}
    return [item for combinations in tests.values() for item in combinations if item not in shown]


@pytest.hookimpl(tryfirst=True)  # before -m is looked at
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("keyword") or any("[" in argument for argument in config.args):  # what is named runs
        return
    for item in _wide(items):
        item.add_marker("wide")


def pytest_report_header() -> list[str]:
    field = itf.Field(np.zeros((1, 1)))
    return [
        f"numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}, {platform.machine()}",
        f"engines: {', '.join(map(str, ENGINES))}; auto: {field.backend}, isa {field.isa}, threads {field.threads}",
    ]
