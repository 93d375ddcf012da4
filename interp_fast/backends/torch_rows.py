"""Rows on a device of torch, and what products with them tell of logits."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch

from .._accuracy import PROMISES, Promise
from .._arrays import result_type
from . import Float, Moments, torch_device
from .exact_sums import less_product

__all__ = ["LONGEST", "Data", "Queries", "prepare", "roundoff"]

# The longest row that float32 holds beside others, in units, in which no row of any weight is longer than 1: products
# with vectors of length 1 stay below sqrt(d) 2^100 < 2^128. Where rows are as short as its inverse, the parts of
# products that are subnormal numbers, below 2^-126, are still less than their rounding, 2^-24 2^-100.
LONGEST = 2.0**100
# Coordinates that one chain of float32 additions runs over, and rows; beyond, sums of chains are added. Chains of equal
# numbers have a bias, which grows with them.
_CHAIN, _PIECE, _ROWS = 128, 128, 1024


@dataclass(frozen=True)
class Data:
    """What is kept of a training set on its device.

    Attributes
    ----------
    rows : (N, d) as stored
    log_w, squares : (N,) float64
        Logarithms of the weights, and |x_i - center|^2.
    centred : (N, d) or None
        (x_i - center) / unit in the type of products; None: formed anew in each call, block by block.
    center : (d,) float64
    unit : float
        A power of two about as large as the reach: no product of float32 numbers overflows.
    """

    rows: Any
    log_w: Any
    squares: Any
    centred: Any
    center: Any
    unit: float
    reach: float
    radius: float
    scale: tuple[float, float] | None
    bandwidth: float
    promise: Promise

    @property
    def device(self) -> torch.device:
        found: torch.device = self.rows.device
        return found

    @property
    def type(self) -> torch.dtype:
        """Of products: that of the rows, float32 for those that are only stored in fewer bits."""
        return torch.float64 if self.rows.dtype == torch.float64 else torch.float32

    @property
    def tolerated(self) -> float:
        """What rounding a logit may cost the noise prediction: a quarter of what is promised."""
        return self.promise.noise / 4

    def values(self, select: Any) -> Any:
        """Rows in float64, exactly."""
        wide = self.rows[select].to(torch.float64)
        if self.scale is not None:
            wide = self.scale[0] * wide
            wide += self.scale[1]
        return wide

    def blocks(self, kind: torch.dtype) -> Iterator[tuple[slice, Any]]:
        """Centred rows in units of ``unit``, some thousand at a time."""
        n, d = self.rows.shape
        size = max(1, min(_ROWS, torch_device.workspace(self.device) // (16 * d)))
        for first in range(0, n, size):
            block = slice(first, min(first + size, n))
            if self.centred is not None and self.centred.dtype == kind:
                yield block, self.centred[block]
            else:
                yield block, in_range((self.values(block) - self.center) / self.unit, kind)


def prepare(
    rows: npt.NDArray[Any] | Any,
    log_w: Float,
    moments: Moments,
    scale: tuple[float, float] | None,
    bandwidth: float,
    low_memory: bool,
    device: torch.device,
) -> Data:
    """``rows`` as stored: an array, or what holds a ``tensor``. A centred copy is made where there is room for it."""
    kind = result_type(rows.dtype)
    given = (rows.tensor if hasattr(rows, "tensor") else torch_device.stored(rows)).to(device)
    unit = 2.0 ** math.ceil(math.log2(moments.reach)) if moments.reach > 0 else 1.0
    data = Data(
        given, torch_device.tensor(log_w, device), torch.empty(len(log_w), dtype=torch.float64, device=device), None,
        torch_device.tensor(moments.center, device), unit, moments.reach, moments.radius, scale, bandwidth,
        PROMISES[kind.name],
    )  # fmt: skip
    kept = None
    if not low_memory and given.dtype == data.type and torch_device.fits(device, given.nbytes):
        kept = torch.empty(given.shape, dtype=data.type, device=device)
    for block, centred in data.blocks(torch.float64):
        data.squares[block] = (centred * centred).sum(dim=1) * unit**2
        if kept is not None:
            kept[block] = in_range(centred, data.type)
    return Data(**{**vars(data), "centred": kept})


def in_range(centred: Any, kind: torch.dtype) -> Any:
    """Of rows of no weight, which may be as long as they like, a float32 number, too: infinity times 0 is none.

    Any other number times 0 will do. Where such rows count (:func:`.torch_sweep.nearest`), none is cut off.
    """
    return centred.to(kind) if kind == torch.float64 else centred.clamp(-LONGEST, LONGEST).to(kind)


def roundoff(kind: torch.dtype) -> float:
    return 2.0**-53 if kind == torch.float64 else 2.0**-24


@dataclass(frozen=True)
class Queries:
    """Queries on the device: x (M, d), and alpha, S and cut (M,), u (M, d) or None, all float64.

    ``limit``: all are of S = 0, where only the nearest rows count; ``still``: all are of alpha = 0.
    """

    x: Any
    alpha: Any
    s2: Any
    cut: Any
    u: Any
    limit: bool = False
    still: bool = False

    def __len__(self) -> int:
        return len(self.x)

    def some(self, select: Any) -> Queries:
        u = None if self.u is None else self.u[select]
        return Queries(self.x[select], self.alpha[select], self.s2[select], self.cut[select], u, self.limit, self.still)

    def logits(self, data: Data, kind: torch.dtype) -> tuple[Any, Any, Any]:
        """Logits (M, N) by products of this type, what they may be off by at most, and by usually, (M,).

        At S = 0 they are the nearness of the rows alone, -c/2; at alpha = 0 the weights alone, however far x is.
        """
        if self.still:
            return data.log_w.repeat(len(self), 1), torch.zeros_like(self.s2), torch.zeros_like(self.s2)
        y = less_product(self.x, self.alpha[:, None], data.center)
        size = y.norm(dim=1)
        own = torch.where(size > 0, size, torch.ones_like(size))
        s2 = torch.ones_like(self.s2) if self.limit else self.s2
        h = self.alpha / s2
        logits = products((y / own[:, None]).to(kind), data, kind)
        logits *= (h * own * data.unit)[:, None]
        logits.addcmul_((0.5 * self.alpha * h)[:, None], data.squares[None, :], value=-1.0)
        logits -= (0.5 * size * size / s2)[:, None]
        logits += torch.where(data.log_w > -math.inf, 0.0 * data.squares, -math.inf) if self.limit else data.log_w
        d, u = self.x.shape[1], roundoff(kind)
        reach = self.alpha * data.reach
        sums = (8 + math.sqrt(d)) * 2.0**-53 * (size + reach) ** 2 / s2
        # At most: every rounding of the longest chain the same way. Usually, of a row along y: algorithms of
        # products add `chain` numbers one by one, and the partial sums grow to |y| |x_i| chain / d.
        chain = min(d, _CHAIN) if kind == torch.float32 else d
        most = (chain + d / chain + 16) * u * size * reach / s2 if kind == torch.float32 else 0.0
        usual = 0.5 * max(1.0, chain / (2 * math.sqrt(3 * d))) * u * size * reach / s2 + sums / 8
        return logits, torch.where(self.alpha > 0, most + sums, 0.0), torch.where(self.alpha > 0, usual, 0.0)


def products(y: Any, data: Data, kind: torch.dtype) -> Any:
    """y . (x_i - center) / unit as float64 (M, N)."""
    n, d = data.rows.shape
    whole = torch.empty((len(y), n), dtype=torch.float64, device=data.device)
    step = _CHAIN if kind == torch.float32 else d
    for block, centred in data.blocks(kind):
        part = torch.mm(y[:, :step], centred[:, :step].T)
        for first in range(step, d, step):
            part.addmm_(y[:, first : first + step], centred[:, first : first + step].T)
        whole[:, block] = part
    return whole


def weighted(e: Any, data: Data, kind: torch.dtype, u: Any) -> tuple[Any, Any, Any]:
    """sum_i e_i c_i of the centred rows c_i, for e (M, N); and with u sum_i e_i (c_i . u), sum_i e_i (c_i . u) c_i."""
    m, d = len(e), data.rows.shape[1]
    total = torch.zeros((m, d), dtype=torch.float64, device=data.device)
    along, pull = torch.zeros_like(total[:, 0]), torch.zeros_like(total)
    own = torch.ones_like(along)
    if u is not None:
        length = u.norm(dim=1)
        own = torch.where(length > 0, length, own)
        u = (u / own[:, None]).to(kind)
    for block, centred in data.blocks(kind):
        part = e[:, block].to(kind)
        total += _sum(part, centred)
        if u is not None:
            of_u = torch.mm(u, centred.T) * part
            along += of_u.sum(dim=1, dtype=torch.float64)
            pull += _sum(of_u, centred)
    unit = data.unit
    return total * unit, along * (own * unit), pull * (own * unit * unit)[:, None]


def _sum(weights: Any, rows: Any) -> Any:
    """weights @ rows in float64, of chains of no more than _PIECE rows."""
    pieces = len(rows) // _PIECE
    whole = pieces * _PIECE
    total = torch.mm(weights[:, whole:], rows[whole:]).to(torch.float64)
    if pieces:
        each = weights[:, :whole].unflatten(1, (pieces, _PIECE)).transpose(0, 1)
        total += torch.bmm(each, rows[:whole].unflatten(0, (pieces, _PIECE))).sum(dim=0, dtype=torch.float64)
    return total
