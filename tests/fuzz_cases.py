"""Random problems for the fuzzer: every choice is a small generator, and one integer seed makes them all.

To add a kind of rows, queries, weights or layout, add a function to its table.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import platform
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import oracle

import interp_fast as itf

STORAGE = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "uint8": np.dtype(np.uint8),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
BYTE_SCALES = (None, (1.0, 0.0), (0.013, 7.0), (-0.5, 3.0), (1e-30, 0.0), (1e25, -3e26), (1e-3, 1e3))


def log_uniform(rng, low, high):
    """A power of ten."""
    return float(10.0 ** rng.uniform(low, high))


def chance(rng, p):
    return bool(rng.random() < p)


# Rows of unit size, (n, d) float64


def gauss(rng, n, d):
    return rng.standard_normal((n, d))


def offset(rng, n, d):
    return gauss(rng, n, d) + log_uniform(rng, 0, 9) * rng.standard_normal(d)


def outlier(rng, n, d):
    rows = gauss(rng, n, d)
    rows[rng.integers(n)] *= log_uniform(rng, 1, 12)
    return rows


def far_rows(rng, n, d):
    """Some rows along one direction, the others close together."""
    rows = log_uniform(rng, -3, 0) * gauss(rng, n, d)
    some = rng.random(n) < rng.choice([0.0, 0.01, 0.1, 0.5])
    some[rng.integers(n)] = True
    rows[some] = log_uniform(rng, 0, 3) * rng.uniform(0.5, 1, (some.sum(), 1)) * gauss(rng, 1, d)
    return rows


def two_groups(rng, n, d):
    return gauss(rng, n, d) + log_uniform(rng, 0, 9) * rng.integers(0, 2, (n, 1))


def mixed_columns(rng, n, d):
    return gauss(rng, n, d) * 10.0 ** rng.uniform(-rng.choice([2, 8, 30]), 0, d)


def clumps(rng, n, d):
    centers = gauss(rng, max(1, n // 20), d)
    return centers[rng.integers(0, len(centers), n)] + log_uniform(rng, -9, -1) * gauss(rng, n, d)


def equal(rng, n, d):
    return np.tile(gauss(rng, 1, d), (n, 1))


def collinear(rng, n, d):
    return rng.standard_normal((n, 1)) * gauss(rng, 1, d) + chance(rng, 0.5) * gauss(rng, 1, d)


def student(rng, n, d):
    return rng.standard_t(rng.choice([1.0, 2.0, 4.0]), (n, d))


def grid(rng, n, d):
    """Few values: distances tie, rows repeat."""
    return rng.integers(0, rng.choice([2, 4, 256]), (n, d)) / 8.0


def sparse(rng, n, d):
    """Zeros but for one entry."""
    rows = np.zeros((n, d))
    rows[rng.integers(n), rng.integers(d)] = 1
    return rows


def sphere(rng, n, d):
    """As far from the origin as each other."""
    rows = gauss(rng, n, d)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3)


def permuted(rng, n, d):
    """As far as each other from the diagonal, but for a last coordinate some digits further down."""
    first = (rng.integers(-8, 9, d) / 8, rng.standard_normal(d), 1 + 2.0**-52 * rng.integers(0, 64, d))[rng.integers(3)]
    rows = rng.permuted(np.tile(first, (n, 1)), axis=1) * rng.choice([-1.0, 1.0], (n, 1))
    rows[:, -1] = log_uniform(rng, -40, 0) * rng.integers(0, 4, n)
    return rows


ROWS = (gauss, offset, outlier, far_rows, two_groups, mixed_columns, clumps, equal, collinear, student, grid, sparse,
        sphere, permuted)  # fmt: skip


# Weights, (n,) or None


def no_weights(rng, n):
    return None


def even_weights(rng, n):
    return rng.uniform(0.1, 1, n)


def uneven_weights(rng, n):
    return 10.0 ** -rng.uniform(0, rng.choice([20, 300]), n)


def missing_weights(rng, n):
    weights = rng.uniform(0, 1, n) * (rng.random(n) < rng.choice([0.9, 0.3]))
    weights[rng.integers(n)] = 1
    return weights


WEIGHTS = (no_weights, no_weights, no_weights, even_weights, uneven_weights, missing_weights)


# Layouts: the same rows as another object


class Source:
    """Rows that are read slice by slice: a shape, a type and slices, and nothing else."""

    def __init__(self, rows, order="C"):
        self.shape, self.dtype, self._rows, self._order = rows.shape, rows.dtype, rows, order

    def __getitem__(self, rows):
        return np.array(self._rows[rows], order=self._order)


def strided(a):
    wide = np.zeros((2 * a.shape[0], 3 * a.shape[1]), a.dtype)
    wide[::2, ::3] = a
    return wide[::2, ::3]


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def mapped(a):
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, a)
        file.flush()
        return np.load(file.name, mmap_mode="r").view(a.dtype)  # a file does not know bfloat16


def swapped(a):
    return a.astype(a.dtype.newbyteorder())


LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": strided,
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "swapped": swapped,
    "read-only": read_only,
    "memmap": mapped,
    "source": Source,
    "source, Fortran": lambda a: Source(a, "F"),
    "source, swapped": lambda a: Source(swapped(a)),
    "unaligned": lambda a: np.frombuffer(b"." + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
}
ARRAYS = ("C", "Fortran", "strided", "backwards", "swapped", "read-only", "unaligned")  # what a query may be


@dataclass(frozen=True, eq=False)
class Case:
    """A training set, how it is handed over and how it is asked; ``rng`` draws the questions."""

    seed: int
    kind: str
    rows: str
    storage: str
    layout: str
    stored: np.ndarray  # as its type keeps it, contiguous
    values: np.ndarray  # what that means, float64
    scale: tuple[float, float] | None
    weights: np.ndarray | None
    bandwidth: float
    tol: float | None
    low_memory: bool
    threads: tuple[int, ...]  # the first answers; the others must give its bits
    flush: bool
    unit: float  # a length of the data: of all of them, of one coordinate, or of a near pair

    @classmethod
    @np.errstate(all="ignore")
    def draw(cls, seed: int, shares: dict[str, float], *, small: bool = False) -> Case:
        rng = np.random.default_rng([seed, 0])
        kind = str(rng.choice(list(shares), p=list(shares.values())))
        n, d = shape(rng, small=small)
        maker = ROWS[rng.integers(len(ROWS))]
        rows = maker(rng, n, d)
        if n > 1 and chance(rng, 0.3):  # copies
            rows[rng.integers(0, n, rng.integers(1, n))] = rows[rng.integers(n)]
        storage = str(rng.choice(list(STORAGE), p=[0.35, 0.35, 0.12, 0.09, 0.09]))
        stored, scale = store(rng, rows, storage)
        if n > 1 and chance(rng, 0.2):
            nudge(rng, stored)
        values = widen(stored, scale)
        layout = "C" if chance(rng, 0.5) or n > 30_000 else str(rng.choice(list(LAYOUTS)))
        unit = length(rng, values)
        extreme = np.abs(values).max() < 1e-30 or not 1e-30 < unit < 1e30
        return cls(
            seed, kind, maker.__name__, storage, layout, stored, values, scale,
            weights=WEIGHTS[rng.integers(len(WEIGHTS))](rng, n),
            bandwidth=unit * log_uniform(rng, -4, 1) if chance(rng, 0.2) else 0.0,
            tol=(None, None, None, 0.0, 1e-3)[rng.integers(5)],
            low_memory=chance(rng, 0.15),
            threads=((1,), (2,), (3,), (2, 1), (1, 3))[rng.integers(5)],
            flush=chance(rng, 0.1) and not extreme and CAN_FLUSH,
            unit=unit,
        )  # fmt: skip

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, 1])

    @property
    def n(self) -> int:
        return len(self.values)

    @property
    def d(self) -> int:
        return self.values.shape[1]

    @property
    def result(self) -> str:
        return "float64" if self.storage == "float64" else "float32"

    @functools.cached_property
    def radius(self) -> float:
        return oracle.radius(self.values, self.weights)[1]

    def out_of_range(self, *lengths: Any) -> bool:
        """Whether sizes leave the range that is promised to work, so that a refusal would be in order."""
        sizes = np.abs(np.concatenate([np.ravel(a) for a in (*lengths, self.values.max(), self.values.min())]))
        used = self.values if self.weights is None else self.values[self.weights > 0]
        spread = np.abs(used - used[:1]).max()  # what only rows of no weight are beyond says nothing about it
        sizes = np.append(sizes, [self.unit, self.radius, self.bandwidth, spread])
        return bool((sizes > 1e74).any() or ((sizes > 0) & (sizes < 1e-74)).any())

    def field(
        self, backend: str, schedule: itf.Schedule | None = None, threads: int | None = None, **more: Any
    ) -> itf.Field:
        return itf.Field(
            LAYOUTS[self.layout](self.stored), schedule, weights=self.weights, bandwidth=self.bandwidth,
            scale=self.scale, backend=backend, threads=threads or self.threads[0], tol=self.tol,
            low_memory=self.low_memory, **more,
        )  # fmt: skip

    def of_rows(self, rows: Any) -> Case:
        """The training set of some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return dataclasses.replace(self, stored=self.stored[rows], values=self.values[rows], weights=weights)

    def __str__(self) -> str:
        weights = "no weights" if self.weights is None else f"weights from {self.weights.min():.0e}"
        options = (f"low_memory {self.low_memory}", f"threads {self.threads}", f"flush {self.flush}")
        return (
            f"{self.rows} {self.values.shape} {self.storage} {self.layout}, |x| <= {np.abs(self.values).max():.3g}, "
            f"unit {self.unit:.3g}, {weights}, bandwidth {self.bandwidth:.3g}, tol {self.tol}, {', '.join(options)}"
        )


def shape(rng, *, small):
    """(N, d); large N only in few dimensions."""
    low, high = [(0, 1), (1, 2.3), (2.3, 4), (4, 5.5), (5.5, 6.5)][
        rng.choice(5, p=[0.4, 0.6, 0, 0, 0] if small else [0.25, 0.55, 0.17, 0.025, 0.005])
    ]
    n = int(log_uniform(rng, low, high))
    most = min(784, max(1, (2000 if small else 2_000_000) // n))
    d = int(rng.integers(1, 9)) if chance(rng, 0.6) else int(log_uniform(rng, 0.9, 2 if chance(rng, 0.7) else 2.9))
    return n, min(d, most)


def store(rng, rows, storage):
    """Rows in one of the storage types at some scale, as (stored, scale)."""
    if storage == "uint8":
        low, high = rows.min(), rows.max()
        stored = np.round((rows - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
        return stored, BYTE_SCALES[rng.integers(len(BYTE_SCALES))]
    low, high = {"float64": (-300, 300), "float16": (-7, 4)}.get(storage, (-45, 38))
    kind = STORAGE[storage]
    size = float(rng.choice([1.0, 1.0, log_uniform(rng, -4, 4), log_uniform(rng, low, high)]))
    limit = float(ml_dtypes.finfo(kind).max)
    return np.clip(rows * size, -limit, limit).astype(kind), None


def widen(stored, scale):
    if stored.dtype != np.uint8:
        return stored.astype(np.float64)
    a, b = (2 / 255, -1.0) if scale is None else scale
    return a * stored.astype(np.float64) + b


def nudge(rng, stored):
    """Make some rows copies of others but for the last bit of one coordinate."""
    bits = stored.view(f"u{stored.dtype.itemsize}")
    for _ in range(int(rng.integers(1, 4))):
        i, j, column = *rng.integers(0, len(stored), 2), rng.integers(stored.shape[1])
        bits[i] = bits[j]
        bits[i, column] ^= 1


def length(rng, values):
    """What sigma is measured in."""
    n, d = values.shape
    if chance(rng, 0.3):  # of a near pair
        some = values[rng.integers(0, n, min(n, 60))].astype(np.longdouble)
        squares = ((some[:, None] - some) ** 2).sum(2)
        near = squares[squares > 0]
        if len(near):
            return float(np.sqrt(near.min())) or 1.0
    spread = np.ptp(values[:, rng.integers(d)] / 4) if chance(rng, 0.3) else oracle.radius(values)[1]
    return float(spread) or float(np.abs(values).max()) or 1.0


# Questions: levels of noise and points to ask at


def levels(rng, case, m):
    """(alpha, sigma), (m,) each, at the level of the kernels."""
    alpha = np.full(m, rng.choice([1.0, 0.5, log_uniform(rng, -6, 6)]))
    low, high = ((-3, 1), (-6, 6), (-1, 0.5))[rng.integers(3)]
    ratio = 10.0 ** (rng.uniform(low, high, m) if chance(rng, 0.4) else np.full(m, rng.uniform(low, high)))
    sigma = alpha * (case.unit * ratio)
    if chance(rng, 0.1):
        sigma[:: int(rng.integers(1, 4))] = 0
    if chance(rng, 0.1):
        alpha[:: int(rng.integers(1, 4))] = 0
    sigma[(alpha == 0) & (sigma == 0)] = case.unit
    return alpha, sigma


EDGES = (0.0, -0.0, 5e-324, 1e-308, 1e-17, 1e-6, 1 - 1e-9, 1 - 2.0**-53, 1.0)
SCHEDULES = (
    itf.Linear(), itf.Trigonometric(), itf.SqrtVP(), itf.LatentBridge(), itf.VP(), itf.VEGeometric(), itf.VELinear(),
    itf.EncoderDecoder(), itf.Custom(lambda t: t**2, lambda t: 1 - t),
)  # fmt: skip


def clock(rng, case, m):
    """(schedule, t), t a number or (m,)."""
    way = rng.random()
    if way < 0.2:
        return SCHEDULES[rng.integers(len(SCHEDULES))], float(rng.choice(EDGES))
    if way < 0.35:
        t = rng.choice([*EDGES, *rng.random(9)], m)
        return SCHEDULES[rng.integers(len(SCHEDULES))], t
    if way < 0.5:
        return SCHEDULES[rng.integers(len(SCHEDULES))], float(rng.random())
    low, high = ((-3, 1), (-6, 6), (-1, 0.5))[rng.integers(3)]
    ratio = case.unit * 10.0 ** (rng.uniform(low, high, m) if chance(rng, 0.4) else rng.uniform(low, high))
    if way < 0.8 and np.all(ratio > 1e-8):
        return itf.Linear(), 1 / (1 + ratio)
    most = max(float(np.max(ratio)) * log_uniform(rng, 0.01, 3), np.finfo(float).tiny)
    return itf.VELinear(most), 1 - ratio / most


def points(rng, case, alpha, sigma):
    """Queries (m, d): draws, rows, middles of two rows, points far away, beyond a row, the origin; one kind or all."""
    m, n, d = len(alpha), *case.values.shape
    i, j = rng.integers(0, n, (2, m))
    near = rng.integers(0, n, min(n, 40))
    squares = ((case.values[i[0]] / 2 - case.values[near] / 2) ** 2).sum(1)
    j[0] = near[np.argmin(np.where(squares > 0, squares, np.inf))]
    first, second = case.values[i], case.values[j]
    a, s = alpha[:, None], sigma[:, None]
    z = rng.standard_normal((m, d))
    kinds = np.stack([
        a * first + s * z,
        a * first,
        a * (first / 2 + second / 2),
        a * first + (case.unit * log_uniform(rng, 0, 6)) * z,
        0 * z,
        a * first + (s / 1000) * z,
        a * (rng.uniform(1, 8, (m, 1)) * (first / 8)) * 8,
    ])  # fmt: skip
    kind = rng.choice(7, m, p=[0.36, 0.1, 0.22, 0.12, 0.02, 0.08, 0.1])
    if chance(rng, 0.5):
        kind[:] = kind[0]
    x = kinds[kind, np.arange(m)]
    x[~np.isfinite(x)] = 0
    if chance(rng, 0.2) and np.abs(x).max() < 3e38:
        x = x.astype(np.float32)
    return x


# Subnormal numbers flushed to 0 in the calling thread, as other libraries leave it

CAN_FLUSH = sys.platform == "linux" and platform.machine() == "x86_64"


@contextlib.contextmanager
def flushing(on):
    """FTZ and DAZ, bits of MXCSR: the last word of glibc's fenv_t. Yields; fails if the callee left another mode."""
    if not on:
        yield
        return
    libm = ctypes.CDLL("libm.so.6")
    before, mode, after = ((ctypes.c_uint32 * 8)() for _ in range(3))
    libm.fegetenv(before)
    libm.fegetenv(mode)
    mode[7] |= 0x8040
    libm.fesetenv(mode)
    try:
        yield
    finally:
        libm.fegetenv(after)
        libm.fesetenv(before)
    if (after[7] ^ mode[7]) & 0x8040:
        msg = "the mode of subnormal numbers was changed"
        raise AssertionError(msg)
