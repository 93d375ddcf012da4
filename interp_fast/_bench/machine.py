"""The machine: the facts that a time means nothing without, and what its limits make of a problem."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from .._arrays import result_type
from ..backends import available
from .peers import OURS, PEERS
from .problem import Regime

__all__ = ["bound", "bytes_bound", "machine"]


def bound(limits: Mapping[str, float], regime: Regime, dtype: str, products: int = 2) -> float:
    """Seconds of the dense work at the machine's limits: two products and the exponentials, or one read of the rows.

    Once posteriors are sharp the second product vanishes and ``products=1`` is the yardstick: 2 M N d flops alone.
    """
    result = result_type(dtype).name
    pairs = regime.M * regime.N
    arithmetic = 2 * products * pairs * regime.d / limits[f"fma_{result}"]
    if products == 2:
        arithmetic += pairs / limits[f"exp_{result}"]
    memory = regime.N * regime.d * np.dtype(dtype).itemsize / limits["read"]
    return max(1, regime.steps) * max(arithmetic, memory)


def bytes_bound(limits: Mapping[str, float], regime: Regime) -> float | None:
    """Seconds of one product on rows and queries rounded to bytes, where the processor multiplies such: how fast the
    rows that matter late can be told from the others.
    """
    if "dot_int8" not in limits:
        return None
    rows = regime.N * regime.d
    return max(1, regime.steps) * max(2 * regime.M * rows / limits["dot_int8"], rows / limits["read"])


def machine(threads: int, names: Sequence[str] = ()) -> dict[str, Any]:
    """Facts that a time means nothing without; ``names`` are the peers whose versions count."""
    versions = {"interp_fast": __version__}
    packages = metadata.packages_distributions()
    for module in ("numpy", "scipy", "numba", *(PEERS[name].module for name in names if name not in OURS)):
        for package in packages.get(module, [])[:1]:
            versions[package] = metadata.version(package)
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    isa = build = None
    if "cpp" in available():
        from .. import _core

        isa, build = _core.isa(), _core.build
    return {
        "cpu": model,
        "isa": isa,
        "build": build,
        "threads": threads,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }
