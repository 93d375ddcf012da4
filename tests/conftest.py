"""Fixtures: every backend and every instruction set this machine runs, the result types, and the report header."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import pytest
import scipy

import interp_fast as itf
from interp_fast import backends


@dataclass(frozen=True)
class Engine:
    """A backend, and for cpp one of its instruction sets."""

    backend: str
    isa: str | None = None

    def __str__(self) -> str:
        return self.backend if self.isa is None else f"{self.backend}-{self.isa}"


def _engines() -> list[Engine]:
    found = []
    for name in backends.available():
        if name == "cpp":
            from interp_fast import _core

            found += [Engine(name, isa) for isa in _core.supported()]
        else:
            found.append(Engine(name))
    return found


ENGINES = _engines()


@pytest.fixture(params=ENGINES, ids=str)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """One backend, with its instruction set forced for the length of the test."""
    chosen: Engine = request.param
    if chosen.isa is None:
        yield chosen
        return
    from interp_fast import _core

    before = _core.isa()
    _core.set_isa(chosen.isa)
    yield chosen
    _core.set_isa(before)


@pytest.fixture
def backend(engine: Engine) -> str:
    return engine.backend


@pytest.fixture(params=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20261124)


def pytest_report_header() -> list[str]:
    field = itf.Field(np.zeros((1, 1)))
    return [
        f"numpy {np.__version__}, scipy {scipy.__version__}, numba {numba.__version__}, {platform.machine()}",
        f"engines: {', '.join(map(str, ENGINES))}; auto: {field.backend}, isa {field.isa}, threads {field.threads}",
    ]
