"""The normals of :mod:`interp_fast._random` on any device of torch, bit for bit.

The same operations in the same order, each rounded by itself: torch runs every one of them as a kernel of its own, so
that none is fused with another. Words of 32 bits are held in int64; products of them are formed in halves, below 2**63.
"""

from __future__ import annotations

from typing import Any

import torch

from .exact_sums import two_product

__all__ = ["normals"]

_ROUNDS = 10
_LOW = 0xFFFFFFFF
_LOG = (0.14798198605116586, 0.15313837699209373, 0.1818357216161805, 0.22222198432149784, 0.2857142874366239,
        0.3999999999940941, 0.6666666666666735)  # fmt: skip
_SIN = (1.58962301576546568060e-10, -2.50507477628578072866e-8, 2.75573136213857245213e-6,
        -1.98412698295895385996e-4, 8.33333333332211858878e-3, -1.66666666666666307295e-1)  # fmt: skip
_COS = (-1.13585365213876817300e-11, 2.08757008419747316778e-9, -2.75573141792967388112e-7,
        2.48015872888517045348e-5, -1.38888888888730564116e-3, 4.16666666666665929218e-2)  # fmt: skip


def normals(key: int, first_sample: int, row: int, *, n: int, d: int, device: torch.device) -> Any:
    """Standard normals (n, d) float64 of samples ``first_sample`` ... ``first_sample + n - 1`` at one ``row``."""
    # Sample numbers reach 2**64 and int64 does not: they are counted in two words from the start.
    count = torch.arange(n, dtype=torch.int64, device=device)[:, None] + (first_sample & _LOW)
    high = ((first_sample >> 32) + (count >> 32)) & _LOW
    block = torch.arange(-(-d // 4), dtype=torch.int64, device=device)[None, :]
    words = _philox((block, torch.full_like(block, row), count & _LOW, high), key)
    r0, r1 = _root(_minus_two_log(words[0])), _root(_minus_two_log(words[2]))
    s0, c0 = _sin_cos(words[1])
    s1, c1 = _sin_cos(words[3])
    return torch.stack([r0 * c0, r0 * s0, r1 * c1, r1 * s1], dim=-1).reshape(n, -1)[:, :d].contiguous()


def _philox(counter: tuple[Any, ...], key: int) -> tuple[Any, ...]:
    c0, c1, c2, c3 = counter
    k0, k1 = key & _LOW, key >> 32
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = _multiplied(0xD2511F53, c0), _multiplied(0xCD9E8D57, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _LOW, (k1 + 0xBB67AE85) & _LOW
    return tuple(word.broadcast_to(torch.broadcast_shapes(c0.shape, c1.shape, c2.shape, c3.shape)) for word in
                 (c0, c1, c2, c3))  # fmt: skip


def _multiplied(factor: int, word: Any) -> tuple[Any, Any]:
    """High and low word of a product of two words."""
    low = factor * (word & 0xFFFF)
    rest = factor * (word >> 16) + (low >> 16)
    return rest >> 16, ((rest & 0xFFFF) << 16) | (low & 0xFFFF)


def _series(coefficients: tuple[float, ...], z: Any) -> Any:
    p = torch.full_like(z, coefficients[0])
    for c in coefficients[1:]:
        p = p * z
        p = p + c
    return p


def _minus_two_log(word: Any) -> Any:
    u = (word.to(torch.float64) + 0.5) * 2.0**-32
    bits = u.view(torch.int64)
    exponent = (bits - 0x3FE6A09E667F3BCD) >> 52
    f = (bits - (exponent << 52)).view(torch.float64) - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = _series(_LOG, z)
    return -2.0 * (exponent.to(torch.float64) * 0.6931471805599453 + (s * (p * z) + 2.0 * s))


def _root(x: Any) -> Any:
    """The square root of x > 0, correctly rounded, as that of torch on the CPU is not: one Newton step in pairs."""
    y = x.sqrt()
    square, rest = two_product(y, y)
    return y + ((x - square) - rest) / (2.0 * y)


def _sin_cos(word: Any) -> tuple[Any, Any]:
    quadrant = ((word + 0x20000000) & _LOW) >> 30
    signed = (word - (quadrant << 30)) & _LOW
    signed = torch.where(signed >= 2**31, signed - 2**32, signed)
    a = signed.to(torch.float64) * 1.4629180792671596e-09
    z = a * a
    sin = a + (a * z) * _series(_SIN, z)
    cos = (1.0 - 0.5 * z) + (z * z) * _series(_COS, z)
    odd = (quadrant & 1) != 0
    sin, cos = torch.where(odd, cos, sin), torch.where(odd, sin, cos)
    return torch.where((quadrant & 2) != 0, -sin, sin), torch.where(((quadrant + 1) & 2) != 0, -cos, cos)
