"""Named training sets, and the queries that are hard for them. Everything is made on demand from fixed seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import oracle


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows (N, d) in float64 that float32 holds exactly unless the name says otherwise, and weights or None."""

    name: str
    rows: np.ndarray
    weights: np.ndarray | None = None

    def __repr__(self) -> str:
        return self.name


def _rng(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def _gauss(n: int, d: int, name: str) -> np.ndarray:
    return _rng(name).standard_normal((n, d)).astype(np.float32).astype(np.float64)


@cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Scikit-learn's, read from its file once: rows (1797, 64) in [-1, 1], and what they show. Not to be changed."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.data / 8.0 - 1.0, bunch.target


def _near_duplicates() -> np.ndarray:
    """300 pairs 2^-10 apart (just under 1e-3) on a grid of 2^-12: rows and midpoints are exact, also with 100 added."""
    rng = _rng("near_duplicates")
    first = np.round(rng.standard_normal((300, 24)) * 4096) / 4096
    second = first.copy()
    second[np.arange(300), rng.integers(0, 24, 300)] += 2.0**-10
    return np.concatenate([first, second])


def _clump() -> np.ndarray:
    """A tight clump and one row far away: R says nothing about the clump, where errors do not average."""
    rows = _gauss(301, 33, "clump") * 0.01
    rows[150] += 20.0
    return rows.astype(np.float32).astype(np.float64)


def _heavy_weights() -> np.ndarray:
    return 10.0 ** -_rng("weights").uniform(0, 300, 777)


def _bits() -> np.ndarray:
    """Corners of a cube: distances tie exactly, and a few rows are there twice."""
    return (_rng("bits").random((200, 12)) < 0.5).astype(np.float64)


# odd sizes on purpose: nothing here is a multiple of a block, a tile or a vector
_MAKERS: dict[str, Callable[[], tuple[np.ndarray, np.ndarray | None]]] = {
    "gauss": lambda: (_gauss(777, 37, "gauss"), None),
    "digits": lambda: (digits()[0], None),
    "near_duplicates": lambda: (_near_duplicates(), None),
    "shifted": lambda: (_near_duplicates() + 100.0, None),
    "heavy_weights": lambda: (_gauss(777, 37, "gauss"), _heavy_weights()),
    "wide": lambda: (_gauss(91, 1100, "wide"), None),
    "clump": lambda: (_clump(), None),
    "line": lambda: (_gauss(513, 1, "line"), None),
    "bits": lambda: (_bits(), None),
    "long": lambda: (_gauss(5003, 7, "long"), None),
    "equal": lambda: (np.tile(_gauss(1, 19, "equal"), (40, 1)), None),
    "one": lambda: (_gauss(1, 19, "one"), None),
}

NAMES = tuple(_MAKERS)
RATIOS = (20.0, 5.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)  # sigma / alpha
REGIMES = {"spread": (0.5, 1.0), "mixed": (5.0, 50.0), "collapsed": (1.0, 1.1)}  # median ess; "spread" as a share of N


@cache
def problem(name: str) -> Problem:
    rows, weights = _MAKERS[name]()
    return Problem(name, rows, weights)


def forward(rows: np.ndarray, alpha: float, sigma: float, m: int, seed: int, weights=None) -> np.ndarray:
    """m draws of alpha x_i + sigma z."""
    rng = np.random.default_rng(seed)
    p = None if weights is None else weights / weights.sum()
    index = rng.choice(len(rows), m, p=p)
    return alpha * rows[index].astype(float) + sigma * rng.standard_normal((m, rows.shape[1]))


@oracle.remembered
def closest_pairs(rows: np.ndarray, m: int) -> list[tuple[int, int]]:
    """Up to m pairs of different rows, among the closest of (a subset of) the data."""
    rows = np.asarray(rows, float)[:1200]
    squared = ((rows[:, None, :8] - rows[None, :, :8]) ** 2).sum(2)  # the nearest in eight coordinates are near enough
    i, j = np.triu_indices(len(rows), 1)
    order = np.argsort(squared[i, j], kind="stable")[: 50 * m]
    exact = ((rows[i[order]] - rows[j[order]]) ** 2).sum(1)
    order = order[np.argsort(np.where(exact > 0, exact, np.inf), kind="stable")[:m]]
    return [(int(a), int(b)) for a, b in zip(i[order], j[order], strict=True)]


@cache
def queries(name: str, dtype: str, alpha: float, sigma: float) -> np.ndarray:
    """Four forward samples, three midpoints of close rows and two rows, then the same rounded to float32: (18, d)."""
    p = problem(name)
    rows = p.rows.astype(dtype).astype(float)
    pairs = closest_pairs(rows, 3) or [(0, 0)]
    middle = [(rows[i] + rows[j]) / 2 for i, j in pairs]
    still = alpha * np.concatenate([middle, rows[[len(rows) // 2, len(rows) - 1]]])
    x = np.concatenate([forward(rows, alpha, sigma, 9 - len(still), 5, p.weights), still])
    return np.concatenate([x, x.astype(np.float32)])  # a float32 query is a point like any other


def _effective_size(p: Problem, x: np.ndarray, ratio: float) -> float:
    """Good enough to find a regime by: float64."""
    score = -((x - p.rows) ** 2).sum(1) / (2 * ratio**2)
    if p.weights is not None:
        score += np.log(p.weights)
    w = np.exp(score - score.max())
    return float(w.sum() ** 2 / (w**2).sum())


@cache
def regime_ratio(name: str, regime: str) -> float:
    """sigma / alpha at which the median effective sample size of forward samples lies in the middle of the regime."""
    p = problem(name)
    wanted = {"spread": 0.7 * len(p.rows), "mixed": 16.0, "collapsed": 1.01}[regime]
    a, b = np.log(1e-4), np.log(1e4)
    while b - a > 0.01:
        middle = (a + b) / 2
        ratio = float(np.exp(middle))
        x = forward(p.rows, 1.0, ratio, 15, 3, p.weights)
        ess = [_effective_size(p, q, ratio) for q in x]
        a, b = (middle, b) if np.median(ess) < wanted else (a, middle)
    return float(np.exp((a + b) / 2))


def _equally_far(rows: np.ndarray, chosen: list[int]) -> np.ndarray:
    """The point next to the middle of these rows that is as far from each of them."""
    first, others = rows[chosen[0]], rows[chosen[1:]] - rows[chosen[0]]
    step = np.linalg.lstsq(others, 0.5 * (others**2).sum(1), rcond=None)[0]
    return first + step


@oracle.remembered
def far_ties(values: np.ndarray, alpha: float, sigma: float, weights=None, seed=0) -> np.ndarray:
    """Queries (up to 10, d) whose two or three heaviest rows are as far away as each other, and weigh as much.

    Midpoints, other points of the bisector, points as far from three rows.
    """
    rng = np.random.default_rng(seed)
    n, d = values.shape
    log_w = np.zeros(n) if weights is None else np.log(weights)
    squared = ((values[:, None] - values[None]) ** 2).sum(2)
    squared[squared == 0] = np.inf  # a row, and its copies
    found: dict[str, list[np.ndarray]] = {"middle": [], "bisector": [], "three": []}
    for i in rng.permutation(n):
        j = int(np.argmin(squared[i]))
        k = int(np.argsort(squared[i] + squared[j])[0])
        apart = values[j] - values[i]
        across = rng.standard_normal(d)
        across -= across @ apart / (apart @ apart) * apart
        across *= 0.1 * np.linalg.norm(apart) / max(np.linalg.norm(across), 1e-9)
        middle = (values[i] + values[j]) / 2
        points = {"middle": (middle, [i, j]), "bisector": (middle + across, [i, j])}
        if d > 1:
            points["three"] = (_equally_far(values, [i, j, k]), [i, j, k])
        for kind, (y, rows) in points.items():
            others = np.delete(np.arange(n), rows)
            others = others[(values[others] != values[rows[0]]).any(1) & (values[others] != values[rows[1]]).any(1)]
            far = ((values - y) ** 2).sum(1)
            if len(found[kind]) == 3 or far[others].min() < 1.02 * far[rows].max():
                continue
            if len(rows) == 2:  # where both weigh as much
                y = y + sigma**2 * (log_w[i] - log_w[j]) / (alpha**2 * (apart @ apart)) * apart
            found[kind].append(alpha * y)
    return np.array(sum(found.values(), []))
