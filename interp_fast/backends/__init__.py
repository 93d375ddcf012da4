"""The kernel contract: six functions, the same in every backend.

Every backend is a module with these functions. ``reference`` (NumPy, float64, direct differences) is the definition;
a fast backend is a private way to the same answer within the accuracy table of the README.

``prepare(rows, log_w, *, moments, scale, bandwidth, low_memory, threads) -> data``
    What the backend wants to keep of a training set; opaque to everybody else. ``rows`` is (N, d), contiguous along
    rows, already validated, kept by reference; its values are ``scale[0] * rows + scale[1]`` when ``scale`` is given
    (integer storage). ``log_w`` is (N,) float64, the logarithm of weights that sum to 1, -inf for weight 0.
    ``moments`` is the :class:`Moments` of the rows. ``bandwidth`` delta >= 0 smooths the data: see below.

``posterior(x, data, alpha, sigma, *, u=None, cut, out, threads) -> None``
    The posterior over rows of M queries. ``x`` (M, d) and ``alpha, sigma, cut`` (M,) are C-contiguous float64. With
    S = sigma^2 + alpha^2 delta^2 and l_i = log_w_i - |x - alpha x_i|^2 / (2 S), w = softmax(l). Fills those of the
    following that the dict ``out`` holds (C-contiguous, not aliased with ``x``):

    ==============  ===============  ================================================================================
    mean            (M, d) float64   sum_i w_i x_i
    log_norm        (M,) float64     logsumexp_i l_i
    index           (M,) int64       argmax_i l_i, the lowest row at ties
    gap             (M,) float64     l of the argmax minus the runner-up's; inf when there is no other row of weight > 0
    log_rest        (M,) float64     log(1 - w_max), summed over the other rows; -inf when there is none
    ess             (M,) float64     1 / sum_i w_i^2
    entropy         (M,) float64     -sum_i w_i log w_i, in nats
    variance        (M,) float64     sum_i w_i |x_i - mean|^2
    scatter         (M,) float64     the same for averages over queries: to 2^-16 R^2 (2^-36 for float64 rows) and what
                                     ``cut``, counted from the maximum, leaves out; not to a share of itself
    top_index       (M, k) int64     the k heaviest rows, heaviest first, lowest row first at ties; k <= N
    top_weight      (M, k) float64   their weights
    jvp             (M, d) float64   C u = sum_i w_i ((x_i - mean) . u) (x_i - mean), for the direction ``u`` (M, d)
    dropped         (M,) float64     bound on the posterior mass of rows left out (0 for dense work)
    work            (M,) float64     multiply-adds done / dense multiply-adds
    rounding        (M,) float64     bound on |mean - exact mean| from rounding; only asked, beside a mean, of a backend
                                     whose ``bounds_rounding`` is true, which leaves queries without one as they are
    ==============  ===============  ================================================================================

    ``cut`` is a threshold in nats: rows whose l is proved to lie more than ``cut`` below the maximum may be left out
    (inf: dense, only weights that vanish in the arithmetic are). Where an output is made of the off-weights (gap,
    log_rest, ess, entropy, variance, jvp) the threshold counts from the runner-up. alpha = 0 gives w = the weights.
    S = 0 is the limit: the nearest rows, ties (exactly equal distances in the arithmetic used) by weight; then
    log_norm is -inf and gap is 0 at ties and inf otherwise. A query whose only rows have weight 0 does not occur.

``run_steps(state, data, table, first, last, *, key, first_sample, error, cut, threads) -> None``
    Rows first <= r < last of a :class:`~interp_fast.steps.StepTable`, in place on ``state`` (:class:`State`)::

        D     = smoothed mean at (cur; alpha[r], sigma[r]),  (sigma^2/S) mean + (alpha delta^2/S) cur;  + error[r]
        out   = A[r] base + B[r] D + C[r] previous + S[r] xi          xi = normals(key, first_sample + i, r)
        cur, previous = out, D;   if commit[r]: base = out

    ``key`` is an int below 2**64, ``error`` an (R, n, d) float64 array or None. The sums of ``state.terms`` follow the
    same rows. Running [a, b) and then [b, c) gives the bits of running [a, c).

``nearest(x, data, *, alpha, out, threads) -> None``
    The k rows nearest to each query, by |x - alpha x_i| in float64 from the rows as given, whatever their weight;
    k from ``out["index"]`` (M, k) int64 and ``out["squared_distance"]`` (M, k) float64, nearest first, the lowest row
    at ties. ``alpha`` is a float.

``normals(key, first_sample, row, out, *, threads) -> None``
    out[i, j] = the standard normal of (key, first_sample + i, row, j), the bits of :func:`interp_fast._random.normals`.

``roundoff(stored) -> float``
    Unit roundoff of the arithmetic that logits of rows of this dtype may be left in, 2^-24 or 2^-53.

Results are the same bits for any ``threads``. Nothing of size M x N is allocated. ``threads`` is a positive int.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import _processors
from .._arrays import Source, blocks, check_finite, check_size, widen

__all__ = ["Moments", "State", "available", "broken", "default_threads", "get", "of_sum_one", "pooled"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# Best first: the order of "auto", which never comes to torch, that is for devices and takes seconds to load.
_MODULES = {"cpp": "cpp", "numba": "numba_kernels", "reference": "reference", "torch": "torch_kernels"}
_READERS = 4  # threads that read rows at construction
_CACHED = (
    1 << 21
)  # bytes of them in float64 that are summed at a time, so that they are still in cache: a quarter of the time


@dataclass(frozen=True)
class Moments:
    """What one pass over the rows tells.

    Attributes
    ----------
    center : (d,)
        Plain mean of the rows of non-zero weight: the origin of every internal product.
    mean : (d,)
        Weighted mean: the denoiser where alpha = 0.
    radius : float
        R, the weighted rms distance to ``mean``; exactly 0 when all rows of non-zero weight are equal.
    reach : float
        Upper bound of the distance of a row of non-zero weight to ``center``, within a factor 2; of rows that are read
        in stretches, somewhat more.
    parts : tuple of Moments
        Of each stretch of a row source, with its weights of sum 1 again; empty for rows in memory.
    """

    center: Float
    mean: Float
    radius: float
    reach: float
    parts: tuple[Moments, ...] = ()

    @classmethod
    def of(
        cls,
        rows: Any,
        log_w: Float,
        scale: tuple[float, float] | None,
        report: Callable[[int, int], None] | None = None,
        threads: int = 1,
        offset: int = 0,
    ) -> Moments:
        """One pass over the rows in float64; ValueError naming the first row that is not finite, from ``offset`` on.

        ``report`` gets (rows read, rows). Any number of threads gives the same bits.
        """
        if isinstance(rows, Source):
            return cls._of_stretches(rows, log_w, scale, report, threads)
        used = log_w > -np.inf
        # Sums are taken about the mean of the first rows: no cancellation on shifted data; the detour over one of
        # them makes every sum exactly 0 when all rows of any weight are equal. Weighted sums are taken about the
        # heaviest row: as R^2 >= w_max sum w |x|^2 there, no weights cost more than a factor N, nor does the mean.
        start = int(np.argmax(log_w))
        even = bool((log_w == log_w[start]).all())
        in_memory = isinstance(rows, np.ndarray)  # others need not bear to be read by several threads
        parts = blocks(rows, _CACHED if in_memory else None)
        first = slice(start, start + parts[0].stop)
        head = widen(rows[first], scale)
        if not used[first].all():
            head = head[used[first]]
        with np.errstate(invalid="ignore", over="ignore"):
            origin = head[0] + np.mean(head - head[0], axis=0)
        if not np.isfinite(origin).all():
            origin = np.zeros_like(origin)
        heaviest = origin if even else head[0].copy()
        del head  # here and below: two blocks at a time, not five, is what a field costs when it is made

        def sums_of(block: slice) -> tuple[Float, Float, float, float, float]:
            values = widen(rows[block], scale)
            check_finite(values, "data", offset + block.start)
            w, used_here = np.exp(log_w[block]), used[block]
            away = np.subtract(values, origin, out=values if even else None)
            squares = np.einsum("ij,ij->i", away, away)
            farthest, tiny = float(np.max(squares[used_here], initial=0.0)), 0.0
            if farthest == 0:  # rows are equal, or differ by so little that the squares vanish
                tiny = float(np.abs(away[used_here]).max(initial=0.0))
            total = used_here.astype(np.float64) @ away
            if not even:
                np.subtract(values, heaviest, out=away)
                squares = np.einsum("ij,ij->i", away, away)
            return total, w @ away, float(w @ squares), farthest, tiny

        total, weighted, second, farthest, tiny = np.zeros_like(origin), np.zeros_like(origin), 0.0, 0.0, 0.0
        for block, some in zip(parts, _in_order(sums_of, parts, threads if in_memory else 1), strict=True):
            total += some[0]
            weighted += some[1]
            second += some[2]
            farthest, tiny = max(farthest, some[3]), max(tiny, some[4])
            if report is not None:
                report(block.stop, len(log_w))
        shift = total / np.count_nonzero(used)
        reach = math.sqrt(farthest) + math.sqrt(float(shift @ shift))
        check_size(reach or tiny, "the distance of the rows of data to their mean")
        # Rows that differ differ, also when the weights of all but one are too small for the sum.
        radius = max(math.sqrt(max(0.0, second - float(weighted @ weighted))), 2.0**-530 * reach)
        return cls(origin + shift, heaviest + weighted, radius, reach)

    @classmethod
    def _of_stretches(
        cls,
        rows: Source,
        log_w: Float,
        scale: tuple[float, float] | None,
        report: Callable[[int, int], None] | None,
        threads: int,
    ) -> Moments:
        """The same of rows that are read once, from those of each stretch."""
        parts, whole = [], None
        for cut, stretch in rows.ahead():

            def tell(done: int, _: int, start: int = cut.start) -> None:
                if report is not None:
                    report(start + done, len(log_w))

            own, mass = of_sum_one(log_w[cut])
            found = cls.of(stretch, own, scale, tell, threads, offset=cut.start)
            parts.append(found)
            if mass > -math.inf:
                one = _Pool(found, mass, int(np.count_nonzero(own > -np.inf)))
                whole = one if whole is None else whole.joined(one)
            del stretch
        assert whole is not None
        return replace(whole.moments, parts=tuple(parts))


def of_sum_one(log_w: Float) -> tuple[Float, float]:
    """Log weights of some rows with sum 1 again, even where they have none, and the logarithm of the sum they had."""
    mass = float(np.logaddexp.reduce(log_w))
    return (log_w - mass if mass > -np.inf else np.full(len(log_w), -np.log(len(log_w)))), mass


def pooled(
    log_mass: tuple[float, float], means: tuple[Float, Float], radii: tuple[float, float]
) -> tuple[float, Float, float]:
    """Log mass, mean and rms distance to it of two sets of rows together."""
    (log_a, log_b), (a, b), (r_a, r_b) = log_mass, means, radii
    total = float(np.logaddexp(log_a, log_b))
    w_a, w_b = np.exp(log_a - total), np.exp(log_b - total)
    apart = b - a
    mean = a + w_b * apart if w_a >= w_b else b - w_a * apart
    return total, mean, float(np.sqrt(w_a * r_a**2 + w_b * r_b**2 + w_a * w_b * float(apart @ apart)))


@dataclass(frozen=True)
class _Pool:
    """Moments of some rows, the logarithm of their mass, and how many of them weigh something."""

    moments: Moments
    log_mass: float
    used: int

    def joined(self, other: _Pool) -> _Pool:
        a, b, used = self.moments, other.moments, self.used + other.used
        total, mean, radius = pooled((self.log_mass, other.log_mass), (a.mean, b.mean), (a.radius, b.radius))
        center = a.center + (other.used / used) * (b.center - a.center)
        reach = max(one.reach + float(np.linalg.norm(one.center - center)) for one in (a, b))
        check_size(reach, "the distance of the rows of data to their mean")
        return _Pool(Moments(center, mean, max(radius, 2.0**-530 * reach), reach), total, used)


def _in_order(of: Callable[[slice], Any], parts: list[slice], threads: int) -> Iterator[Any]:
    """``of`` of each part, by so many threads, in the order of the parts."""
    if threads == 1 or len(parts) == 1:
        yield from map(of, parts)
        return
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(min(threads, _READERS))
    try:
        yield from pool.map(of, parts)
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class State:
    """Everything a run carries from one row of the table to the next; all arrays are C-contiguous and owned.

    Attributes
    ----------
    base, cur, previous : (n, d) float64
        The step's base, the latest output, and D of the row just above (0 before the first row).
    index : (n,) int64
        Argmax of the posterior at the latest evaluation, -1 before the first.
    since : (n,) int64
        First row of the table from which that argmax has stayed.
    dropped, work : (n,) float64
        Largest bound on dropped mass and summed work over the rows run so far.
    terms : (3, n, d) float64 or None
        Selection (with 0 in place of the reference row), estimation and noise sums.
    previous_error : (n, d) float64 or None
        The error added to ``previous``; kept when ``terms`` is.
    """

    base: Float
    cur: Float
    previous: Float
    index: Int
    since: Int
    dropped: Float
    work: Float
    terms: Float | None = None
    previous_error: Float | None = None

    @classmethod
    def start(cls, x0: Float, *, terms: bool = False) -> State:
        """The state before row 0, from (n, d) float64 starting points."""
        n = len(x0)
        base = np.array(x0, np.float64, order="C")
        sums = np.zeros((3, *base.shape)) if terms else None
        if sums is not None:
            sums[0] = base
        return cls(
            base, base.copy(), np.zeros_like(base), np.full(n, -1, np.int64), np.zeros(n, np.int64), np.zeros(n),
            np.zeros(n), sums, np.zeros_like(base) if terms else None,
        )  # fmt: skip

    def observe(self, r: int, out: dict[str, Any]) -> None:
        """What the posterior at row r says about the run: since when its argmax stays, mass dropped, work done."""
        self.since[out["index"] != self.index] = r
        self.index[:] = out["index"]
        np.maximum(self.dropped, out["dropped"], out=self.dropped)
        self.work += out["work"]


def _load(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{_MODULES[name]}")


def available() -> list[str]:
    """Names of the backends that load here, best first; torch, which takes seconds to load, where it is installed."""
    found = []
    for name in _MODULES:
        try:
            if name != "torch":
                _load(name)
            elif importlib.util.find_spec("torch") is None:
                continue
        except ImportError:
            continue
        found.append(name)
    return found


def get(name: str, device: Any = None) -> tuple[str, Any]:
    """The backend called ``name`` ("auto": the best available) as (name, its six functions).

    ``device`` is that of the backend torch (None: the CPU).

    Raises
    ------
    TypeError
        The name is no string.
    ValueError
        The name is unknown, or that backend does not load here; the message lists what is available. The device will
        not do.
    """
    if name == "auto":
        for candidate in _MODULES:
            try:
                module = _load(candidate)
            except ImportError:
                continue
            if candidate != "cpp":
                _warn_of_broken(candidate)
            return candidate, module
    if not isinstance(name, str):
        msg = f"backend must be a name; got {name!r}."
        raise TypeError(msg)
    if name in _MODULES:
        try:
            module = _load(name)
        except ImportError as exc:
            reason = str(exc)
            if name == "torch" and importlib.util.find_spec("torch") is None:
                reason = "torch is not installed: pip install 'interp_fast[torch]'"
        else:
            return name, module.Kernels(device) if name == "torch" else module
    else:
        reason = "there is no such backend"
    msg = f"backend must be one of {['auto', *available()]}; got {name!r} ({reason})."
    raise ValueError(msg)


def broken() -> str | None:
    """Why the compiled backend, which ought to be here, does not load; None when it does or was left out on purpose.

    It was left out when the package was installed without it. It is amiss when its file does not load, and in a folder
    of sources, which Python prefers to the installed package when it is started there.
    """
    package = Path(__file__).parents[1]
    try:
        _load("cpp")
    except ImportError as exc:
        if importlib.util.find_spec("interp_fast._core") is not None:
            return f"the compiled backend does not load ({exc}); install interp_fast again for this Python."
        if (package.parent / "csrc").is_dir():
            return (
                f"the sources in {package} are in use, which have no compiled backend; start Python in another folder "
                "to use the installed package, or build them: pip install -e ."
            )
    return None


@cache
def _warn_of_broken(used: str) -> None:
    """Once in a process: what "auto" fell back to."""
    if reason := broken():
        warnings.warn(f"backend {used!r} is used, which is slower: {reason}", UserWarning, stacklevel=2)


def default_threads() -> int:
    """INTERP_FAST_NUM_THREADS, else OMP_NUM_THREADS, else the processors this process may use.

    Raises
    ------
    ValueError
        INTERP_FAST_NUM_THREADS is not a positive integer.
    """
    text = os.environ.get("INTERP_FAST_NUM_THREADS")
    if text is not None:
        if not text.isdecimal() or int(text) < 1:
            msg = f"INTERP_FAST_NUM_THREADS must be a positive integer; got {text!r}."
            raise ValueError(msg)
        return int(text)
    shared = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if shared.isdecimal() and int(shared) > 0:
        return int(shared)
    return _processors.usable()
