"""The oracle: the exact posterior, denoiser, velocity, score and noise of a finite training set.

One class in one file: most of it is the reference of its methods, which are a line or two each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random, _shape, backends
from ._groups import Groups
from ._labels import Labels
from ._level import Level
from ._oracle import Oracle, Point
from ._orbits import elements
from ._posterior import Posterior
from ._progress import reporter
from ._results import as_html
from ._schedule import Schedule, check_schedule
from ._shape import Form, Shape
from ._sidecar import Sidecar
from ._tensors import column, placed
from ._training_set import TrainingSet
from ._typing import Backend, in_kind
from ._weights import third_moment
from .backends.orbit import images
from .schedules import Linear

__all__ = ["Field", "Posterior"]

Float = npt.NDArray[np.float64]

_STATISTICS = ("log_norm", "ess", "entropy", "variance", "gap", "log_rest", "dropped", "work")


class Field(Groups):
    """The exact field of a training set under a stochastic interpolant.

    For x_t = alpha_t x_I + sigma_t z with I drawn by ``weights`` from the N rows of ``data`` and z ~ N(0, 1)^d, the
    posterior over rows is w = softmax_i(log w_i - |x - alpha x_i|^2 / (2 sigma^2)), and everything else follows from
    D = sum_i w_i x_i and the posterior covariance C. Time runs from t = 0 (noise) to t = 1 (data).

    Parameters
    ----------
    data : (N, d) or (N, ...) array
        float32, float64, uint8, float16 or bfloat16 (as an ``ml_dtypes`` array or a torch tensor). Kept by reference
        and never modified; do not modify it while the field is in use. float64 rows give float64 results, all others
        float32. Any object with ``shape``, ``dtype`` and row slices (zarr, h5py) is read stretch by stretch in every
        call, the next one while one is worked on, and never held in memory (two of 48 MiB are); its trajectories step
        in Python. So are the path of a .npy file, a list of such paths (their rows one after another) and an array that
        is mapped from a file: one that has changed when rows are read is an error that names it.
    schedule : Schedule, default Linear()
    weights : (N,) array, optional
        Non-negative; normalised to sum 1. Default: equal.
    bandwidth : float, default 0
        delta >= 0: every row is replaced by a Gaussian N(x_i, delta^2), i.e. the target is a kernel density estimate.
    scale : (a, b), optional
        For uint8 rows, value = a * byte + b; default (2/255, -1).
    labels : (N,) ints or strings, optional
        The class of each row: see ``given``, ``guided``, ``class_posterior``.
    orbit : "hflip" or list of permutations (d,), optional
        The rows together with their images: mirror images of ``data`` (N, H, W) or (N, C, H, W), or rows[:, p] for
        each p; the identity is implied, and ``N`` counts all images. Row number = element * len(data) + row. Weights
        and labels are one for each row given. Images are stored only of arrays in memory where all of them are 4
        million numbers at most.
    backend : {"auto", "cpp", "numba", "reference", "torch"}
        "auto": "torch" when ``data`` is a tensor on another device than the CPU, else the first of the others that is
        there. "torch" computes on a device of torch, where rows stay; its threads are those of torch.
    device : str or torch.device, optional
        Of the backend "torch"; default that of ``data``. Tensors that are asked about live there, and so do answers.
        Rows of the host that do not fit on a CUDA device are sent there stretch by stretch in every call.
    threads : int, optional
        Default: INTERP_FAST_NUM_THREADS, else OMP_NUM_THREADS, else the processors this process may use. No result
        depends on it. Products of backend "numba" are BLAS's, with threads of its own (OPENBLAS_NUM_THREADS).
    tol : float, optional
        Certified bound on |D computed - D dense| / R, per evaluation, from work that is skipped. None: at rounding
        (2**-20 for float32 results, 2**-46 for float64, tightened where sigma/alpha is small). 0: dense.
    low_memory : bool, default False
        Keep what is prepared beside the rows under 10 % of their size: no copy of them in bytes, which late times are
        screened by where the processor multiplies bytes, and no images of an ``orbit``.
    moments : path, optional
        Of rows in .npy files: an .npz file that keeps what the pass over them at construction finds. It is read in
        place of the rows when it is of these, by the sizes, times and samples of their files, the weights, the scale
        and the version of this package; otherwise it is written, or written anew.
    progress : bool or callable, optional
        Of the one pass over the data that is made here. True: a line on stderr; a callable gets (rows read, rows).

    Attributes
    ----------
    N : int
    event : tuple of int
        The shape of one point, that of ``data[0]``. Points are taken in it, one or (M, *event), or flat, (d,) or
        (M, d), and answered alike; ``M, d`` below stands for either. Where both readings fit, (1, d), the event wins.
    d : int
        Numbers in a point.
    backend : str
    device : torch.device or None
        None unless the backend is "torch".
    isa : str or None
        Instruction set in use ("base", "v3", "v4", "amx"); None unless the backend is "cpp".
    threads : int
    R : float
        Weighted rms distance of the rows to their weighted mean, the unit of ``tol``.

    Raises
    ------
    TypeError, ValueError
        With the name of the argument, what came and what was wanted.

    Warns
    -----
    UserWarning
        By methods that take x, in more than three dimensions: no draw of x_t could lie there, by orders of magnitude
        (|x - alpha mean| is more than 30 times sqrt(alpha^2 (R^2 + |mean|^2) + d sigma^2), and farther than any row),
        as bytes of images against a field in [-1, 1].

    Notes
    -----
    A call costs 4 N d flops for each of M queries when dense and half of that or less once the posterior has
    concentrated; no M x N array is ever formed.

    A field pickles with its rows (a row source when it does itself); the copy prepares them anew.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X = np.array([[0.0, 0.0], [1.0, 0.0]])
    >>> field = itf.Field(X, itf.Linear())
    >>> field.denoiser(np.array([0.25, 0.1]), 0.5).round(6)
    array([0.5, 0. ])
    """

    def __init__(
        self,
        data: Any,
        schedule: Schedule | None = None,
        *,
        weights: Any = None,
        bandwidth: float = 0.0,
        scale: tuple[float, float] | None = None,
        labels: Any = None,
        orbit: Any = None,
        backend: Backend = "auto",
        device: Any = None,
        threads: int | None = None,
        tol: float | None = None,
        low_memory: bool = False,
        moments: Any = None,
        progress: bool | Callable[[int, int], None] | None = None,
    ) -> None:
        tol = None if tol is None else _arrays.number(tol, "tol", least=0.0)
        schedule = check_schedule(Linear() if schedule is None else schedule)
        rows, scale, kind, event = _arrays.rows(data, "data", scale)
        kind = placed(kind, data, backend, device)
        n, given, turns = rows.shape[0], _arrays.log_weights(weights, rows.shape[0]), elements(event, orbit)
        if turns is not None:
            rows, given = images(rows, turns, low_memory=low_memory), np.tile(given, len(turns))
        kept = None if moments is None else Sidecar(moments, rows, given, scale)
        training_set = TrainingSet(
            rows,
            given,
            scale=scale,
            kind=kind,
            bandwidth=_arrays.number(bandwidth, "bandwidth", least=0.0),
            backend=backend,
            threads=backends.default_threads() if threads is None else _arrays.count(threads, "threads", 1),
            low_memory=bool(low_memory),
            event=event,
            report=reporter(progress, "data: row"),
            labels=None if labels is None else Labels.of(labels, n, 1 if turns is None else len(turns)),
            device=device if backend == "torch" else None,
            moments=None if kept is None else kept.read(),
        )
        if kept is not None:
            kept.write(training_set.moments)
        self._oracle = Oracle(training_set, schedule, tol)

    def _view(self, training_set: Any) -> Field:
        return Field._of(replace(self._oracle, training_set=training_set))

    @classmethod
    def _of(cls, oracle: Oracle) -> Field:
        field = object.__new__(cls)
        field._oracle = oracle
        return field

    # What the field is

    @property
    def schedule(self) -> Schedule:
        return self._oracle.schedule

    @property
    def N(self) -> int:
        return self._oracle.training_set.n

    @property
    def d(self) -> int:
        return self._oracle.training_set.d

    @property
    def event(self) -> Shape:
        return self._oracle.event

    @property
    def R(self) -> float:
        return self._oracle.training_set.moments.radius

    @property
    def backend(self) -> str:
        return self._oracle.training_set.name

    @property
    def isa(self) -> str | None:
        return self._oracle.training_set.isa

    @property
    def device(self) -> Any:
        return self._oracle.training_set.device

    @property
    def threads(self) -> int:
        return self._oracle.training_set.threads

    @property
    def bandwidth(self) -> float:
        return self._oracle.training_set.bandwidth

    @property
    def tol(self) -> float | None:
        return self._oracle.tol

    @property
    def weights(self) -> Float:
        """Normalised weights, (N,)."""
        weights: Float = np.exp(self._oracle.training_set.log_w)
        return weights

    def __repr__(self) -> str:
        shape = f"d={self.d}, event={self.event}" if len(self.event) > 1 else f"d={self.d}"
        return (
            f"Field(N={self.N}, {shape}, data={self._oracle.training_set.rows.dtype}, schedule={self.schedule!r}, "
            f"backend={self.backend!r}, threads={self.threads})"
        )

    def _repr_html_(self) -> str:
        names = ("N", "event", "d", "R", "schedule", "bandwidth", "tol", "backend", "device", "isa", "threads")
        rows = ("rows", self._oracle.training_set.rows.dtype)
        return as_html("Field", [rows, *((name, getattr(self, name)) for name in names)])

    def with_schedule(self, schedule: Schedule) -> Field:
        """The same training set under another schedule; shares what was prepared."""
        return type(self)._of(replace(self._oracle, schedule=check_schedule(schedule)))

    # The field at (x, t)

    @in_kind
    def denoiser(self, x: Any, t: Any) -> Any:
        """E[x_1 | x_t = x], (M, d); with a bandwidth, of the smoothed data.

        At t = 1 the limit: the nearest row, ties averaged by weight. Forming x - alpha * denoiser in float32 loses what
        ``score`` and ``noise`` keep.
        """
        return self._vector(x, t, "denoiser", self._oracle.smooth, at_end=True)

    @in_kind
    def velocity(self, x: Any, t: Any) -> Any:
        """E[alpha_dot x_1 + sigma_dot z | x_t = x] = alpha_dot D + sigma_dot (x - alpha D) / sigma, (M, d)."""
        return self._vector(x, t, "velocity", Point.velocity)

    @in_kind
    def score(self, x: Any, t: Any) -> Any:
        """Gradient of log p_t: (alpha D - x) / sigma^2, (M, d)."""
        return self._vector(x, t, "score", Point.score)

    @in_kind
    def noise(self, x: Any, t: Any) -> Any:
        """E[z | x_t = x] = (x - alpha D) / sigma, (M, d)."""
        return self._vector(x, t, "noise", Point.noise)

    def log_density(self, x: Any, t: Any) -> Any:
        """log p_t(x), (M,) float64. At t = 1 without bandwidth +inf on a training row and -inf elsewhere."""
        self._allow("log_density", "guided field", "tempered field")
        point, wide, form = self._queries(x, t, stay=True)
        out = self._oracle.evaluate(point, wide, "log_norm", "index")
        return form.each(self._oracle.log_density(point, wide, **out))

    def divergence(self, x: Any, t: Any) -> Any:
        """Divergence of the velocity, exact: d eta + kappa (alpha / sigma^2) tr C, (M,) float64.

        eta = sigma_dot / sigma and kappa = alpha_dot - alpha eta.
        """
        p, wide, form = self._queries(x, t, stay=True)
        p.forbid(p.s2 == 0, "divergence does not exist where sigma = 0")
        variance = self._oracle.evaluate(p, wide, "variance")["variance"] / self._oracle.training_set.temperature
        return form.each(p.divergence(self.d, variance))

    @in_kind
    def jvp(self, x: Any, t: Any, u: Any) -> Any:
        """The denoiser's Jacobian times ``u``: (alpha / sigma^2) C u, (M, d). Symmetric: also the vjp."""
        p, wide, form = self._queries(x, t, stay=True)
        p.forbid(p.s2 == 0, "jvp does not exist where sigma = 0")
        direction = _shape.directions(u, self.event, form, wide, self.device)
        product = self._oracle.evaluate(p, wide, "jvp", u=direction)["jvp"]
        pull = p.alpha * self.bandwidth**2 / p.s2
        with np.errstate(over="ignore"):
            share = p.sigma / p.s2
            result = column(p.alpha * (share * share), wide) * product + column(pull, wide) * direction
        return form.points(self._round(result, "jvp"))

    def posterior(self, x: Any, t: Any, top: int = 0) -> Posterior:
        """One pass over the rows, every output; see :class:`Posterior`. ``top``: how many of the heaviest rows to list.

        The posterior stays that of the training rows when there is a bandwidth.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]]))
        >>> post = field.posterior(np.array([[0.5, 0.1]]), 0.8, top=2)
        >>> post.top_index, post.top_weight.round(4), post.ess.round(4)
        (array([[1, 0]]), array([[0.8808, 0.1192]]), array([1.2658]))
        """
        self._allow("posterior", "guided field")
        top = _arrays.count(top, "top", 0, self.N)
        point, wide, form = self._queries(x, t, stay=True)
        out = self._oracle.evaluate(point, wide, "mean", "index", *_STATISTICS, top=top)
        data, exact = self._oracle.training_set, out.pop("mean")
        mean = self._round(exact, "the posterior mean")
        rounding = out.pop("rounding") if data.bounds_rounding else np.full(len(wide), math.inf)
        if (rounding < math.inf).any():
            rounding += np.linalg.norm(mean - exact, axis=1)
        out["log_density"] = self._oracle.log_density(point, wide, out["log_norm"], out["index"])
        if data.view == "tempered field":
            out["log_density"][:] = math.nan
        out |= {"certificate": data.certificate(out["dropped"]), "rounding": data.in_radii(rounding)}
        out |= {name: data.number(out[name]) for name in ("index", "top_index")}
        return Posterior(mean=form.points(mean), **{name: form.each(values) for name, values in out.items()})

    def draw(self, n: int, t: Any, rng: _random.RandomSource = None) -> tuple[Any, npt.NDArray[np.int64]]:
        """n exact draws of x_t = alpha x_index + sigma z, index drawn by the weights; t in [0, 1].

        Returns
        -------
        x : (n, d)
            With a bandwidth the rows are smoothed: the standard deviation is sqrt(sigma^2 + alpha^2 bandwidth^2).
        index : (n,) int64

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> X = np.array([[0.0, 0.0], [4.0, 0.0]])
        >>> x, index = itf.Field(X).draw(100, 0.9, rng=0)
        >>> bool(np.abs(x - 0.9 * X[index]).max() < 0.5)
        True
        """
        self._plain("draw")
        n = _arrays.count(n, "n", 1)
        point = self._oracle.point(_arrays.times(t, n)[0], n)
        form, (x, index) = self._oracle.form, self._oracle.draw(point, n, _random.noise_key(rng))
        return form.points(self._round(x, "x")), form.each(self._oracle.training_set.number(index))

    def at(self, alpha: Any, sigma: Any) -> Level:
        """The field at given levels, x = alpha x_I + sigma z, whatever the schedule: numbers or (M,), >= 0.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0, 0.0], [1.0, 0.0]]))
        >>> field.at(1.0, 0.5).denoiser(np.array([0.5, 3.0]))
        array([0.5, 0. ])
        """
        return Level(self, alpha, sigma)

    # Private: what the torch modules are made of

    def _point(self, t: Float) -> Point:
        """The schedule at times (M,)."""
        return self._oracle.point(t, len(t))

    @property
    def _takes_tensors(self) -> bool:
        """Whether :meth:`_average` is asked about, and answers with, float64 tensors on the field's device."""
        return self._oracle.training_set.takes_tensors

    def _average(self, x: Any, alpha: Float, sigma: Float, warn: bool) -> Any:
        """The posterior mean of the rows, unrounded, at given levels (M,); ``warn``: of queries in another unit."""
        _arrays.check_finite(x, "x")
        self._oracle.training_set.check_queries(len(x), "x")
        point = self._oracle.still(alpha, sigma)
        if warn:
            self._oracle.warn_of_scale(point, x)
        return self._oracle.evaluate(point, x, "mean")["mean"]

    def _pullback(
        self, x: Any, alpha: Float, sigma: Float, g: Any, *, levels: bool
    ) -> tuple[Any, Float | None, Float | None]:
        """The gradient of g . :meth:`_average` in x (M, d) and, with ``levels``, in alpha and sigma (M,).

        With T = sum_i w_i |e_i|^2 e_i, e_i = x_i - m, r = x - alpha m: dm/dx = (alpha / S) C,
        dm/dalpha = (C (r - alpha m) - alpha T) / S at fixed S, and dm/dS = (alpha^2 T - 2 alpha C r) / (2 S^2).

        Without ``levels`` x and g may be tensors where :meth:`_average` takes them.
        """
        p = self._oracle.still(alpha, sigma)
        p.forbid(p.s2 == 0, "gradient of the posterior mean does not exist where sigma = 0")
        found = self._oracle.evaluate(p, x, "jvp", *(["mean"] if levels else []), u=g)
        product = found["jvp"]
        in_x = column(p.alpha / p.s2, x) * product
        if not levels:
            return in_x, None, None
        self._plain("a gradient in the level of noise")
        mean, third = found["mean"], np.zeros(len(x))
        if (some := p.alpha > 0).any():
            s = np.sqrt(p.s2)
            third[some] = third_moment(self._oracle.training_set, x[some], p.alpha[some], s[some], g[some])
        along_r = np.einsum("ij,ij->i", product, x - p.alpha[:, None] * mean)
        along_mean = np.einsum("ij,ij->i", product, mean)
        in_s2 = p.alpha * (0.5 * p.alpha * third - along_r) / p.s2**2
        in_alpha = (along_r - p.alpha * (along_mean + third)) / p.s2 + 2 * self.bandwidth**2 * p.alpha * in_s2
        return in_x, in_alpha, 2 * p.sigma * in_s2

    def _queries(self, x: Any, t: Any, *, stay: bool = False) -> tuple[Point, Any, Form]:
        """``stay``: tensors are not read where the backend takes them as they are."""
        stay = stay and self._takes_tensors
        wide, form = _shape.queries(x, self.event, device=self.device, stay=stay)
        self._oracle.training_set.check_queries(len(wide), "x")
        if isinstance(t, Level):
            point = self._oracle.still(*t.of(len(wide)))
        else:
            point = self._oracle.at(_arrays.times(t, len(wide))[0])
            point = point if len(wide) else point.each(0)  # nothing is asked at a time where something is not defined
        self._oracle.warn_of_scale(point, wide)
        return point, wide, form

    def _vector(
        self, x: Any, t: Any, what: str, formula: Callable[[Point, Any, Any], Any], *, at_end: bool = False
    ) -> Any:
        point, wide, form = self._queries(x, t, stay=True)
        if not at_end:
            point.forbid(point.s2 == 0, f"{what} does not exist where sigma = 0")
        mean = self._oracle.evaluate(point, wide, "mean")["mean"]
        return form.points(self._round(formula(point, wide, mean), what))

    def _round(self, result: Any, what: str) -> Any:
        return _arrays.rounded(result, self._oracle.training_set.type, what)


def check_field(field: Any) -> Field:
    """``field`` itself; TypeError unless it is a Field."""
    if not isinstance(field, Field):
        msg = f"field must be a Field; got {type(field).__name__}. Build one as itf.Field(data, schedule)."
        raise TypeError(msg)
    return field


def oracle_of(field: Any, *, views: bool = False) -> Oracle:
    """What the library computes with: the one door into a Field.

    TypeError unless it is one, and ValueError unless its queries all see the same rows alike, or ``views`` will do.
    """
    oracle = check_field(field)._oracle
    if oracle.training_set.view and not views:
        msg = f"field must be a Field, or one of a class or a subset; got a {oracle.training_set.view}."
        raise ValueError(msg)
    return oracle
