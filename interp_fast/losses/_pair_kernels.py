"""Compiled loops over all pairs of points: the nearest of each, the distances of the others in bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.numba_noise import jit

__all__ = ["BINS", "bin_of", "floors", "pick", "tally"]

# Bins of squared distances, eight to an octave, are told apart by the leading bits of a float32. The first and the last
# are open; of a bin nothing but its lower end is used.
BINS = 64
_SHIFT = 20
_LOOK = 64  # so many distances at once are asked whether one of them belongs into the list
_CHAINS = 4  # sums of a bin, so that no addition waits for the one before


def bin_of(squares: Any, lowest: int) -> Any:
    """Numbers of the bins of float32 squared distances >= 0; ``lowest``: the bits of the lower end of bin 1."""
    return np.clip((squares.view(np.int32) - lowest >> _SHIFT) + 1, 0, BINS - 1)


def floors(lowest: int) -> Any:
    """Lower ends of the bins, (BINS,) float64 squared distances."""
    bits = np.int32(lowest) + (np.arange(BINS - 1, dtype=np.int32) << _SHIFT)
    return np.concatenate([[0.0], bits.view(np.float32).astype(np.float64)])


@jit()
def _sort_by_distance(products: Any, own: Any, others: Any, lowest: int, squares: Any, bins: Any) -> None:
    # All of 32 bits, as many at once as there is room for: a plain 2 would be 64 wide.
    two, one, low, shift = np.float32(2), np.int32(1), np.int32(lowest), np.int32(_SHIFT)
    for k in range(len(others)):
        squares[k] = max(own + others[k] - two * products[k], np.float32(0))
    bits = squares.view(np.int32)
    for k in range(len(others)):
        bins[k] = min(max(np.int32(np.int32(bits[k] - low) >> shift) + one, np.int32(0)), np.int32(BINS - 1))


@jit()
def tally(
    products: Any, own: Any, others: Any, rows: int, columns: int, weight: Any, root: Any, lowest: int, near: Any,
    square: Any, mass: Any, cap: Any,
) -> None:  # fmt: skip
    """Takes points ``columns`` ... into the lists and bins of points ``rows`` ..., from their inner products (B, C).

    ``own`` (B,) and ``others`` (C,) are squared norms, ``weight`` and its ``root`` (P,) those of all points. ``near``
    and ``square`` (B, m) list the nearest so far (-1, inf: none yet). Of all others ``mass`` (B, BINS) sums the roots
    and ``cap`` (B, BINS, or 0 where weights are equal) min(weight of the point, its own).
    """
    size = len(others)
    squares, bins = np.empty(size, np.float32), np.empty(size, np.int32)
    roots, sums = root[columns : columns + size], np.empty((_CHAINS, BINS + 1))
    for i in range(len(own)):
        _sort_by_distance(products[i], own[i], others, lowest, squares, bins)
        itself = rows + i - columns
        if 0 <= itself < size:
            squares[itself], bins[itself] = np.inf, BINS
        worst = np.argmax(square[i])
        for first in range(0, size, _LOOK):
            last, limit, closer = min(first + _LOOK, size), square[i, worst], 0
            for k in range(first, last):
                closer += squares[k] < limit
            if closer == 0:
                continue
            for k in range(first, last):
                if squares[k] < square[i, worst]:
                    # Into the list; what was farthest there goes to its bin.
                    far = np.empty(1, np.float32)
                    far[0], j = square[i, worst], near[i, worst]
                    near[i, worst], square[i, worst], bins[k] = columns + k, squares[k], BINS
                    worst = np.argmax(square[i])
                    if j >= 0:
                        b = min(max((far.view(np.int32)[0] - lowest >> _SHIFT) + 1, 0), BINS - 1)
                        mass[i, b] += root[j]
                        if cap.shape[1] > 0:
                            cap[i, b] += min(weight[j], weight[rows + i])
        _add_by_bin(bins, roots, sums, mass[i])
        if cap.shape[1] > 0:
            _add_by_bin(bins, np.minimum(weight[columns : columns + size], weight[rows + i]), sums, cap[i])


@jit()
def _add_by_bin(bins: Any, values: Any, sums: Any, total: Any) -> None:
    """Adds the values of each bin to ``total`` (BINS,); those of bin BINS go nowhere. ``sums`` is for its use."""
    sums[:] = 0.0
    whole = len(bins) // _CHAINS * _CHAINS
    for k in range(0, whole, _CHAINS):
        for c in range(_CHAINS):
            sums[c, bins[k + c]] += values[k + c]
    for k in range(whole, len(bins)):
        sums[0, bins[k]] += values[k]
    for b in range(BINS):
        for c in range(_CHAINS):
            total[b] += sums[c, b]


@jit()
def pick(
    products: Any, own: Any, others: Any, itself: int, near: Any, share: Any, lowest: int, wanted: int, u: float
) -> tuple[int, float]:
    """The point at which a uniform ``u`` falls among those of bin ``wanted`` that are not ``near``, by their ``share``.

    ``products`` (P,) are with point ``itself``. Returns its number, -1 where there is none, and the sum of all shares.
    """
    squares, bins = np.empty(len(others), np.float32), np.empty(len(others), np.int32)
    _sort_by_distance(products, own, others, lowest, squares, bins)
    bins[itself] = -1
    for k in near:
        bins[k] = -1
    total = 0.0
    for k in range(len(bins)):
        if bins[k] == wanted:
            total += share[k]
    chosen, running = -1, 0.0
    for k in range(len(bins)):
        if bins[k] == wanted and share[k] > 0:
            chosen, running = k, running + share[k]
            if running > u * total:
                break
    return chosen, total
