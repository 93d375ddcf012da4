"""The normals of ``interp_fast._random`` in numba: the same words, the same polynomials, the same order of operations.

Compiled without fastmath, so that no multiply-add is fused and no sum reordered: the bits are those of the definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import numba
import numpy as np

__all__ = ["fill_normals", "jit"]

F = TypeVar("F", bound=Callable[..., Any])

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def jit(**options: Any) -> Callable[[F], F]:
    """The one decorator of the compiled functions: cached where there is a folder for it, no GIL, IEEE division."""

    def compiler(function: F) -> F:
        compiled: F = numba.njit(nogil=True, error_model="numpy", **options)(function)
        if not numba.config.DISABLE_JIT:
            with suppress(RuntimeError):  # neither this folder nor the user's can be written
                compiled.enable_caching()  # type: ignore[attr-defined]
        return compiled

    return compiler


@jit()
def _minus_two_log(word: Any) -> Any:
    u = (np.float64(word) + 0.5) * 2.0**-32
    bits = np.float64(u).view(np.int64)
    exponent = (bits - np.int64(0x3FE6A09E667F3BCD)) >> np.int64(52)
    f = np.int64(bits - (exponent << np.int64(52))).view(np.float64) - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = 0.14798198605116586
    p = p * z + 0.15313837699209373
    p = p * z + 0.1818357216161805
    p = p * z + 0.22222198432149784
    p = p * z + 0.2857142874366239
    p = p * z + 0.3999999999940941
    p = p * z + 0.6666666666666735
    return -2.0 * (np.float64(exponent) * 0.6931471805599453 + (s * (p * z) + 2.0 * s))


@jit()
def _sin_cos(word: Any) -> Any:
    quadrant = (np.int64(word) + 0x20000000) >> 30
    a = np.float64(np.int64(word) - (quadrant << 30)) * 1.4629180792671596e-09
    z = a * a
    p = 1.58962301576546568060e-10
    p = p * z - 2.50507477628578072866e-8
    p = p * z + 2.75573136213857245213e-6
    p = p * z - 1.98412698295895385996e-4
    p = p * z + 8.33333333332211858878e-3
    p = p * z - 1.66666666666666307295e-1
    sin = a + (a * z) * p
    p = -1.13585365213876817300e-11
    p = p * z + 2.08757008419747316778e-9
    p = p * z - 2.75573141792967388112e-7
    p = p * z + 2.48015872888517045348e-5
    p = p * z - 1.38888888888730564116e-3
    p = p * z + 4.16666666666665929218e-2
    cos = (1.0 - 0.5 * z) + (z * z) * p
    if quadrant & 1:
        sin, cos = cos, sin
    if quadrant & 2:
        sin = -sin
    if (quadrant + 1) & 2:
        cos = -cos
    return sin, cos


@jit()
def fill_normals(key: Any, first_sample: Any, row: Any, out: Any) -> None:
    """out[i, j] = the normal of (key, first_sample + i, row, j); the numbers are uint64."""
    d = out.shape[1]
    for i in range(out.shape[0]):
        sample = first_sample + np.uint64(i)
        for block in range((d + 3) // 4):
            c0, c1, c2, c3 = np.uint64(block), row, sample & _LOW, sample >> _HALF
            k0, k1 = key & _LOW, key >> _HALF
            for _ in range(10):
                p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
                c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _LOW, (p0 >> _HALF) ^ c3 ^ k1, p0 & _LOW
                k0, k1 = (k0 + np.uint64(0x9E3779B9)) & _LOW, (k1 + np.uint64(0xBB67AE85)) & _LOW
            j = 4 * block
            radius = math.sqrt(_minus_two_log(c0))
            sin, cos = _sin_cos(c1)
            out[i, j] = radius * cos
            if j + 1 < d:
                out[i, j + 1] = radius * sin
            if j + 2 < d:
                radius = math.sqrt(_minus_two_log(c2))
                sin, cos = _sin_cos(c3)
                out[i, j + 2] = radius * cos
                if j + 3 < d:
                    out[i, j + 3] = radius * sin
