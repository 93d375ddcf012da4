from typing import Any

import numpy as np
import numpy.typing as npt

from .backends import Moments, State
from .steps import StepTable

__version__: str
build: str
accuracy: dict[str, dict[str, float]]

_Float = npt.NDArray[np.float64]
_Int = npt.NDArray[np.int64]

class Data:
    def __init__(
        self,
        rows: npt.NDArray[Any],
        log_w: _Float,
        moments: Moments,
        scale: tuple[float, float] | None,
        bandwidth: float,
        low_memory: bool,
        threads: int,
    ) -> None: ...

def isa() -> str: ...
def set_isa(name: str) -> None: ...
def supported() -> list[str]: ...
def amx_obstacle() -> str: ...
def integers(
    rows: npt.NDArray[np.uint8], queries: npt.NDArray[np.int8], offsets: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]: ...
def limits(memory: npt.NDArray[np.uint8], threads: int) -> dict[str, float]: ...
def posterior(
    x: _Float,
    data: Data,
    alpha: _Float,
    sigma: _Float,
    cut: _Float,
    u: _Float | None,
    out: dict[str, Any],
    threads: int,
) -> None: ...
def nearest(x: _Float, data: Data, alpha: float, index: _Int, squared_distance: _Float, threads: int) -> None: ...
def normals(key: int, first_sample: int, row: int, out: _Float, threads: int) -> None: ...
def run_steps(
    state: State,
    data: Data,
    table: StepTable,
    rows: tuple[int, int],
    noise: tuple[int, int],
    error: _Float | None,
    cut: float,
    threads: int,
) -> None: ...
