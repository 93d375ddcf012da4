"""The numba kernels as plain Python, where an index out of range is an error and an overflow a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import interp_fast as itf


@pytest.mark.long
def test_contract_holds_without_the_jit():
    """The cheap half of the contract's tests: those of many sizes and of long sums take minutes this way."""
    arguments = [
        str(Path(__file__).parent / "test_contract.py"), "-q", "-p", "no:cacheprovider", "-k",
        "numba and not (float32 or lengths or pieces or cut)",
    ]  # fmt: skip
    code = (  # small problems by products, too
        "import sys, numba, pytest; from interp_fast.backends import numba_posterior; numba_posterior._SMALL = 0; "
        f"assert numba.config.DISABLE_JIT; sys.exit(pytest.main({arguments!r}))"
    )
    env = os.environ | {"NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(itf.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) >= 30, run.stdout
    assert "skipped" not in run.stdout
