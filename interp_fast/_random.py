"""Counter-based normals: the definition that every backend reproduces bit for bit.

The normal of (key, sample, row, coordinate) comes from one Philox4x32-10 block (Salmon et al., SC 2011) with the 64-bit
key and the counter (coordinate // 4, row, sample low word, sample high word). Its four words give four normals by the
Box-Muller transform: with u = (word + 1/2) 2**-32, words 0 and 1 give sqrt(-2 log u0) (cos, sin)(2 pi u1) for the first
two coordinates of the block, words 2 and 3 give the other two. Logarithm, sine and cosine are polynomials in float64
with a fixed order of operations and no fused multiply-add, so the value is the same on every machine. The uniforms have
32 bits, so no normal exceeds 6.76 in absolute value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["NoiseKey", "RandomSource", "noise_key", "normals", "philox", "subkey", "uniforms"]

_U = np.uint64
_LOW = _U(0xFFFFFFFF)
_HALF = _U(32)
_ROUNDS = 10

# The streams of one call; each has a key of its own, so that no two ever share a counter.
_PURPOSES = ("start", "steps", "draw", "perturb", "subset", "queries", "pairs", "optimum", "doubt", "times")


@dataclass(frozen=True)
class NoiseKey:
    """An explicit address in the noise: sample i of a call is sample ``first_sample + i`` of the whole.

    Passing the same key with different ``first_sample`` shards a run or resumes it: every part draws the noise it would
    have had in one run. An int given as ``rng`` is a seed from which a key is drawn, not the key: NoiseKey(7) is
    another stream than 7. ``sample`` names the key it used in ``stats["key"]``.

    Parameters
    ----------
    key : int
        0 <= key < 2**64.
    first_sample : int, default 0
        0 <= first_sample < 2**63.

    Raises
    ------
    ValueError
        A number is out of range.

    Examples
    --------
    >>> import interp_fast as itf
    >>> itf.NoiseKey(7, first_sample=100)
    NoiseKey(key=7, first_sample=100)
    """

    key: int
    first_sample: int = 0

    def __post_init__(self) -> None:
        for name, limit in (("key", 2**64), ("first_sample", 2**63)):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
                msg = f"{name} must be an int; got {value!r}."
                raise TypeError(msg)
            if not 0 <= value < limit:
                msg = f"{name} must lie in [0, 2**{limit.bit_length() - 1}); got {value}."
                raise ValueError(msg)
            object.__setattr__(self, name, int(value))


RandomSource: TypeAlias = int | np.random.SeedSequence | np.random.Generator | NoiseKey | None


def noise_key(rng: RandomSource) -> NoiseKey:
    """The key that ``rng`` stands for; a Generator advances once per call.

    Raises
    ------
    TypeError, ValueError
        ``rng`` is not None, an int >= 0, a SeedSequence, a Generator or a NoiseKey.
    """
    if isinstance(rng, NoiseKey):
        return rng
    try:
        generator = np.random.default_rng(rng)
    except (TypeError, ValueError) as exc:
        msg = f"rng must be None, an int >= 0, a SeedSequence, a Generator or a NoiseKey; got {rng!r}."
        raise type(exc)(msg) from None
    return NoiseKey(int(generator.integers(0, 2**64, dtype=np.uint64, endpoint=False)))


def philox(
    counter: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], key: int
) -> tuple[npt.NDArray[np.uint64], ...]:
    """Philox4x32-10: four 32-bit words (in uint64 arrays) for broadcastable counters and one 64-bit key."""
    c0, c1, c2, c3 = (np.asarray(word, _U) for word in counter)
    k0, k1 = key & 0xFFFFFFFF, key >> 32
    for _ in range(_ROUNDS):
        p0, p1 = _U(0xD2511F53) * c0, _U(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ _U(k0), p1 & _LOW, (p0 >> _HALF) ^ c3 ^ _U(k1), p0 & _LOW
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def subkey(key: int, purpose: str) -> int:
    """The key of one stream of a call, by one Philox block at a counter that no normal uses."""
    word = philox((_PURPOSES.index(purpose), 0, 0xFFFFFFFF, 0xFFFFFFFF), key)
    return int(word[0]) | int(word[1]) << 32


def _blocks(key: int, first_sample: int, row: int, n: int, blocks: int) -> tuple[npt.NDArray[np.uint64], ...]:
    sample = (np.arange(n, dtype=_U) + _U(first_sample))[:, None]
    return philox((np.arange(blocks, dtype=_U)[None, :], row, sample & _LOW, sample >> _HALF), key)


def uniforms(key: int, first_sample: int, row: int, *, n: int) -> npt.NDArray[np.float64]:
    """One uniform on (0, 1) with 53 bits for each of n samples: (n,)."""
    high, low, *_ = (word[:, 0] for word in _blocks(key, first_sample, row, n, 1))
    return ((((high << _HALF) | low) >> _U(12)).astype(np.float64) + 0.5) * 2.0**-52


def _minus_two_log(word: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """-2 log((word + 1/2) 2**-32): exponent split around sqrt(1/2), then the atanh series of the mantissa."""
    u = (word.astype(np.float64) + 0.5) * 2.0**-32
    bits = u.view(np.int64)
    exponent = (bits - 0x3FE6A09E667F3BCD) >> 52
    f = (bits - (exponent << 52)).view(np.float64) - 1.0
    s = f / (f + 2.0)
    z = s * s
    p = np.full_like(z, 0.14798198605116586)
    for c in (0.15313837699209373, 0.1818357216161805, 0.22222198432149784, 0.2857142874366239, 0.3999999999940941,
              0.6666666666666735):  # fmt: skip
        p = p * z + c
    return -2.0 * (exponent.astype(np.float64) * 0.6931471805599453 + (s * (p * z) + 2.0 * s))


def _sin_cos(word: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(sin, cos)(2 pi word 2**-32): quadrant of the word, then polynomials on [-pi/4, pi/4)."""
    w = word.astype(np.uint32)
    quadrant = (w + np.uint32(0x20000000)) >> np.uint32(30)
    a = (w - (quadrant << np.uint32(30))).view(np.int32).astype(np.float64) * 1.4629180792671596e-09
    z = a * a
    p = np.full_like(z, 1.58962301576546568060e-10)
    for c in (-2.50507477628578072866e-8, 2.75573136213857245213e-6, -1.98412698295895385996e-4,
              8.33333333332211858878e-3, -1.66666666666666307295e-1):  # fmt: skip
        p = p * z + c
    sin = a + (a * z) * p
    p = np.full_like(z, -1.13585365213876817300e-11)
    for c in (2.08757008419747316778e-9, -2.75573141792967388112e-7, 2.48015872888517045348e-5,
              -1.38888888888730564116e-3, 4.16666666666665929218e-2):  # fmt: skip
        p = p * z + c
    cos = (1.0 - 0.5 * z) + (z * z) * p
    odd = (quadrant & np.uint32(1)).astype(bool)
    sin, cos = np.where(odd, cos, sin), np.where(odd, sin, cos)
    return (
        np.where((quadrant & np.uint32(2)).astype(bool), -sin, sin),
        np.where(((quadrant + np.uint32(1)) & np.uint32(2)).astype(bool), -cos, cos),
    )


def normals(key: int, first_sample: int, row: int, *, n: int, d: int) -> npt.NDArray[np.float64]:
    """Standard normals (n, d) float64 of samples ``first_sample`` ... ``first_sample + n - 1`` at one ``row``."""
    words = _blocks(key, first_sample, row, n, -(-d // 4))
    r0, r1 = np.sqrt(_minus_two_log(words[0])), np.sqrt(_minus_two_log(words[2]))
    s0, c0 = _sin_cos(words[1])
    s1, c1 = _sin_cos(words[3])
    return np.ascontiguousarray(np.stack([r0 * c0, r0 * s0, r1 * c1, r1 * s1], axis=-1).reshape(n, -1)[:, :d])
