"""Fixtures: every backend and every instruction set this machine runs, the result types, and the report header."""

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

import interp_fast as itf

IN_USE = itf.Field(np.zeros((1, 1))).isa
TORCH_MODES = ("medium", "autocast", "inference_mode")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every", action="store_true", help="every combination of tests marked covering, on all engines")
    parser.addoption("--torch-mode", choices=TORCH_MODES, help="what torch is told meanwhile: no test may notice")


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


def _left_out(items: list[pytest.Item]) -> set[str]:
    """Combinations of the parameters of tests marked ``covering`` that do not run.

    The engines in use here see all of them. Other instruction sets are other compilations of one source, and the
    reference has few ways and is slow: they see every other one. That is each value of every parameter, and of three
    parameters any two values together.
    """
    places: dict[tuple[str, str], dict[str, int]] = {}  # of the values of each parameter of a test
    found = set()
    for item in items:
        if item.get_closest_marker("covering") is None:
            continue
        parameters = dict(item.callspec.params)  # type: ignore[attr-defined]
        engine, test = parameters.pop("engine"), item.nodeid.partition("[")[0]
        odd = ENGINES.index(engine)
        for name, value in parameters.items():
            known = places.setdefault((test, name), {})
            odd += known.setdefault(repr(value), len(known))
        if odd % 2 and (engine.backend == "reference" or engine.isa not in (None, IN_USE)):
            found.add(item.nodeid)
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--every") or any("[" in argument for argument in config.args):  # what is named runs
        return
    left_out = _left_out(items)
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left_out])
    items[:] = [item for item in items if item.nodeid not in left_out]


def pytest_report_header() -> list[str]:
    field = itf.Field(np.zeros((1, 1)))
    return [
        f"numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}, {platform.machine()}",
        f"engines: {', '.join(map(str, ENGINES))}; auto: {field.backend}, isa {field.isa}, threads {field.threads}",
    ]
