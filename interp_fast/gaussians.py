"""Fields in closed form beside that of the rows: of a Gaussian, and of a mixture of Gaussians."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _random, _shape
from ._level import Level
from ._oracle import Point
from ._results import Record, as_html
from ._schedule import Schedule, check_schedule
from ._shape import Form, Shape
from ._typing import in_kind
from .field import Field, oracle_of
from .model import Predictor

__all__ = ["ComponentPosterior", "Gaussian", "GaussianMixture"]

Float = npt.NDArray[np.float64]

_ROUNDING = 1e-5  # of covariances that were fitted in float32, some hundred times its roundoff


@dataclass(frozen=True, repr=False, eq=False)
class ComponentPosterior(Record):
    """The posterior over the K components of a mixture, of M queries.

    Attributes
    ----------
    mean : (M, d)
        Posterior mean of x_1.
    weight : (M, K)
        p(component | x_t = x).
    index : (M,) int64
        The heaviest component, the lowest at ties.
    log_density : (M,)
        log p_t(x).
    """

    mean: npt.NDArray[Any]
    weight: Float
    index: npt.NDArray[np.int64]
    log_density: Float


class _Component:
    """N(mean, U diag(values) U^T): U (d, k) with orthonormal columns, values > 0; no variance beyond U."""

    def __init__(self, mean: Float, values: Float, basis: Float, rank: int | None = None) -> None:
        kept = np.flatnonzero(values > len(mean) * 2.0**-52 * values.max(initial=0.0))
        if rank is not None:
            kept = np.sort(kept[np.argsort(-values[kept], kind="stable")[:rank]])
        self.mean, self.values, self.basis = mean, values[kept], np.ascontiguousarray(basis[:, kept])

    @property
    def degenerate(self) -> bool:
        return len(self.values) < len(self.mean)


class _Visit:
    """A component at queries x (M, d) and levels (M,): S_j = alpha^2 values_j + sigma^2 along U, sigma^2 beyond it."""

    def __init__(self, c: _Component, x: Float, p: Point) -> None:
        self.c, self.alpha, self.sigma = c, p.alpha[:, None], p.sigma[:, None]
        away = x - self.alpha * c.mean
        self.y = away @ c.basis
        self.rest = away - self.y @ c.basis.T
        self.s = self.alpha**2 * c.values + self.sigma**2
        with np.errstate(invalid="ignore", divide="ignore"):  # where neither data nor noise count nothing pulls
            self.gain = np.where(self.s > 0, self.alpha * c.values / self.s, 0.0)
        self.mean: Float = c.mean + (self.gain * self.y) @ c.basis.T

    def log_density(self) -> Float:
        d, k = self.c.basis.shape
        density: Float = -0.5 * np.sum(self.y**2 / self.s + np.log(self.s), axis=1) - 0.5 * d * math.log(2 * math.pi)
        if k < d:
            s2 = self.sigma[:, 0] ** 2
            density -= 0.5 * (np.einsum("ij,ij->i", self.rest, self.rest) / s2 + (d - k) * np.log(s2))
        return density

    def variance(self) -> Float:
        """The trace of the posterior covariance, (M,)."""
        variance: Float = np.sum(self.c.values * self.sigma**2 / self.s, axis=1)
        return variance

    def jacobian(self, u: Float) -> Float:
        """d mean / d x times u (M, d); symmetric."""
        product: Float = (self.gain * (u @ self.c.basis)) @ self.c.basis.T
        return product

    def score(self) -> Float:
        """d log_density / d x, (M, d)."""
        score: Float = -((self.y / self.s) @ self.c.basis.T)
        return score - self.rest / self.sigma**2 if self.c.degenerate else score

    def in_levels(self) -> tuple[Float, Float, Float, Float]:
        """d mean / d alpha, d mean / d sigma (M, d); d log_density / d alpha, d log_density / d sigma (M,)."""
        values, (d, k) = self.c.values, self.c.basis.shape
        own = self.c.mean @ self.c.basis
        mean_a = values * (self.sigma**2 - self.alpha**2 * values) / self.s**2 * self.y - self.gain * own
        mean_s = -2 * self.alpha * values * self.sigma / self.s**2 * self.y
        excess = (self.y**2 / self.s - 1) / self.s
        log_a = np.sum(self.y * own / self.s + self.alpha * values * excess, axis=1)
        log_s = np.sum(self.sigma * excess, axis=1)
        if k < d:
            s = self.sigma[:, 0]
            log_a += self.rest @ self.c.mean / s**2
            log_s += np.einsum("ij,ij->i", self.rest, self.rest) / s**3 - (d - k) / s
        return mean_a @ self.c.basis.T, mean_s @ self.c.basis.T, log_a, log_s


class GaussianMixture(Predictor):
    """The field of x_1 ~ sum_k w_k N(mean_k, covariance_k) in closed form, with the methods of :class:`Field`.

    ``sample``, ``audit`` and ``compare`` take it as a :class:`Model` that predicts the denoiser, the torch modules as a
    field. It works in float64; answers have the type and the shape of the queries.

    Parameters
    ----------
    weights : (K,) array
        Non-negative; normalised to sum 1.
    means : (K, d) or (K, *event) array
    covariances : (K, d, d), (K, d), (K, *event) or (K,) array
        Full, diagonal, or one variance for all directions.
    schedule : Schedule

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> pair = itf.GaussianMixture([1, 1], [[-2.0], [2.0]], [0.01, 0.01], itf.Linear())
    >>> pair.denoiser(np.array([[1.0], [0.0]]), 0.5).round(3)
    array([[1.999],
           [0.   ]])
    >>> pair.posterior(np.array([[1.0]]), 0.5).weight.round(2)
    array([[0., 1.]])
    """

    d: int
    event: Shape
    bandwidth = 0.0

    def __init__(self, weights: Any, means: Any, covariances: Any, schedule: Schedule) -> None:
        centers, spread = _arrays.reals(means, "means"), _arrays.reals(covariances, "covariances")
        if centers.ndim < 2 or 0 in centers.shape:  # noqa: PLR2004
            msg = f"means must have shape (K, d); got {centers.shape}."
            raise ValueError(msg)
        event = centers.shape[1:]
        if spread.shape == centers.shape:
            spread = spread.reshape(len(spread), -1)
        centers = centers.reshape(len(centers), -1)
        count, d = centers.shape
        if spread.shape not in ((count,), (count, d), (count, d, d)):
            msg = f"covariances must have shape ({count}, {d}, {d}), ({count}, {d}) or ({count},); got {spread.shape}."
            raise ValueError(msg)
        _arrays.check_finite(centers, "means")
        components = [
            _component(m, c, f"covariances[{k}]") for k, (m, c) in enumerate(zip(centers, spread, strict=True))
        ]
        log_w, _ = _arrays.normalized(_arrays.log_weights(weights, count))
        self._take(log_w, components, schedule, event)

    @classmethod
    def from_sklearn(cls, mixture: Any, schedule: Schedule) -> GaussianMixture:
        """That of a fitted ``sklearn.mixture.GaussianMixture`` or ``BayesianGaussianMixture``.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> from sklearn.mixture import GaussianMixture
        >>> X = np.random.default_rng(0).standard_normal((200, 3))
        >>> itf.GaussianMixture.from_sklearn(GaussianMixture(2, random_state=0).fit(X), itf.Linear())
        GaussianMixture(K=2, d=3, schedule=Linear())
        """
        if not hasattr(mixture, "covariances_"):
            msg = f"mixture must be a fitted mixture of scikit-learn; got {mixture!r}. Call its fit(data) first."
            raise TypeError(msg)
        covariances = mixture.covariances_
        if mixture.covariance_type == "tied":
            covariances = np.broadcast_to(covariances, (len(mixture.means_), *covariances.shape))
        return cls(mixture.weights_, mixture.means_, covariances, schedule)

    def _take(self, log_w: Float, components: Sequence[_Component], schedule: Schedule, event: Shape) -> None:
        self.schedule, self.predicts, self.fn = check_schedule(schedule), "denoiser", self.denoiser
        self._log_w, self._components = log_w, components
        self.d, self.event = len(components[0].mean), event

    def __repr__(self) -> str:
        return f"{type(self).__name__}(K={len(self._components)}, d={self.d}, schedule={self.schedule!r})"

    def _repr_html_(self) -> str:
        facts = (("components", len(self._components)), ("event", self.event), ("schedule", self.schedule))
        return as_html(type(self).__name__, facts)

    def with_schedule(self, schedule: Schedule) -> GaussianMixture:
        """The same law under another schedule."""
        other = object.__new__(type(self))
        other._take(self._log_w, self._components, schedule, self.event)
        return other

    # The field at (x, t)

    @in_kind
    def denoiser(self, x: Any, t: Any) -> Any:
        """E[x_1 | x_t = x], (M, d)."""
        return self._vector(x, t, lambda p, x, mean: mean)

    @in_kind
    def velocity(self, x: Any, t: Any) -> Any:
        """alpha_dot D + sigma_dot (x - alpha D) / sigma, (M, d)."""
        return self._vector(x, t, Point.velocity, "velocity")

    @in_kind
    def score(self, x: Any, t: Any) -> Any:
        """Gradient of log p_t, (M, d)."""
        return self._vector(x, t, Point.score, "score")

    @in_kind
    def noise(self, x: Any, t: Any) -> Any:
        """E[z | x_t = x] = (x - alpha D) / sigma, (M, d)."""
        return self._vector(x, t, Point.noise, "noise")

    def log_density(self, x: Any, t: Any) -> Any:
        """log p_t(x), (M,) float64."""
        p, wide, form = self._queries(x, t)
        self._forbid(p, "log_density", degenerate=True)
        return form.each(np.logaddexp.reduce(self._scores(self._visits(wide, p)), axis=1))

    def divergence(self, x: Any, t: Any) -> Any:
        """Divergence of the velocity, exact, (M,) float64."""
        p, wide, form = self._queries(x, t)
        self._forbid(p, "divergence")
        visits, weight, mean = self._posterior(wide, p)
        variance = np.zeros(len(wide))
        for visit, w in zip(visits, weight.T, strict=True):
            variance += w * (visit.variance() + np.sum((visit.mean - mean) ** 2, axis=1))
        return form.each(p.divergence(self.d, variance))

    @in_kind
    def jvp(self, x: Any, t: Any, u: Any) -> Any:
        """The denoiser's Jacobian times ``u``: (alpha / sigma^2) C u, (M, d). Symmetric: also the vjp."""
        p, wide, form = self._queries(x, t)
        self._forbid(p, "jvp")
        direction = _shape.directions(u, self.event, form, wide)
        product = self._pullback(wide, p.alpha, p.sigma, direction, levels=False)[0]
        return form.points(_arrays.rounded(product, form.dtype, "jvp"))

    def posterior(self, x: Any, t: Any) -> ComponentPosterior:
        """The posterior over components; see :class:`ComponentPosterior`."""
        p, wide, form = self._queries(x, t)
        self._forbid(p, "posterior", degenerate=True)
        visits, weight, mean = self._posterior(wide, p)
        density = np.logaddexp.reduce(self._scores(visits), axis=1)
        rounded = form.points(_arrays.rounded(mean, form.dtype, "the posterior mean"))
        return ComponentPosterior(rounded, *map(form.each, (weight, np.argmax(weight, axis=1), density)))

    def draw(self, n: int, t: Any, rng: _random.RandomSource = None) -> tuple[Float, None]:
        """n exact draws of x_t (n, d); there are no rows to name: None."""
        n = _arrays.count(n, "n", 1)
        p = Point.of(self.schedule, 0.0, _arrays.times(t, n)[0], n)
        source = _random.noise_key(rng)
        key = _random.subkey(source.key, "draw")
        z, inner = (_random.normals(key, source.first_sample, row, n=n, d=self.d) for row in (0, 2))
        total = np.cumsum(np.exp(self._log_w))
        u = _random.uniforms(key, source.first_sample, 1, n=n)
        chosen = np.searchsorted(total, u * total[-1], side="right")
        x = p.sigma[:, None] * z
        for k, c in enumerate(self._components):
            some = chosen == k
            data = c.mean + (inner[some][:, : len(c.values)] * np.sqrt(c.values)) @ c.basis.T
            x[some] += p.alpha[some, None] * data
        return x.reshape(n, *self.event), None

    def at(self, alpha: Any, sigma: Any) -> Level:
        """The field at given levels, as :meth:`Field.at`."""
        return Level(self, alpha, sigma)

    def predict(self, x: Float, t: Any, form: Form) -> Float:
        """D in float64, as runs and comparisons ask a model for it."""
        return self._mean(x, Point.of(self.schedule, 0.0, np.asarray(t, np.float64), len(x)))

    # Private

    def _queries(self, x: Any, t: Any) -> tuple[Point, Float, Form]:
        wide, form = _shape.queries(x, self.event)
        if isinstance(t, Level):
            point = Point.still(*t.of(len(wide)), 0.0)
        else:
            point = Point.of(self.schedule, 0.0, _arrays.times(t, len(wide))[0], len(wide))
        return point, wide, form

    def _vector(self, x: Any, t: Any, formula: Callable[[Point, Float, Float], Float], what: str | None = None) -> Any:
        p, wide, form = self._queries(x, t)
        if what is not None:
            self._forbid(p, what)
        with np.errstate(over="ignore"):
            result = formula(p, wide, self._mean(wide, p).copy())
        return form.points(_arrays.rounded(result, form.dtype, what or "denoiser"))

    def _forbid(self, p: Point, what: str, *, degenerate: bool = False) -> None:
        """ValueError where sigma = 0; with ``degenerate`` only if the law has no density there."""
        if not degenerate or any(c.degenerate for c in self._components):
            p.forbid(p.sigma == 0, f"{what} does not exist where sigma = 0")

    def _mean(self, x: Float, p: Point) -> Float:
        if len(self._components) == 1:
            return _Visit(self._components[0], x, p).mean
        self._forbid(p, "denoiser of a mixture with degenerate components", degenerate=True)
        return self._posterior(x, p)[2]

    def _visits(self, x: Float, p: Point) -> list[_Visit]:
        return [_Visit(c, x, p) for c in self._components]

    def _scores(self, visits: Sequence[_Visit]) -> Float:
        return self._log_w + np.stack([visit.log_density() for visit in visits], axis=1)

    def _posterior(self, x: Float, p: Point) -> tuple[list[_Visit], Float, Float]:
        visits = self._visits(x, p)
        scores = self._scores(visits)
        weight = np.exp(scores - scores.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        mean: Float = sum(w[:, None] * v.mean for v, w in zip(visits, weight.T, strict=True))
        return visits, weight, mean

    def _point(self, t: Float) -> Point:
        return Point.of(self.schedule, 0.0, t, len(t))

    def _average(self, x: Float, alpha: Float, sigma: Float, warn: bool) -> Float:
        _arrays.check_finite(x, "x")
        return self._mean(x, Point.still(alpha, sigma, 0.0))

    def _pullback(
        self, x: Float, alpha: Float, sigma: Float, g: Float, *, levels: bool
    ) -> tuple[Float, Float | None, Float | None]:
        """The gradient of g . mean in x (M, d) and, with ``levels``, in alpha and sigma (M,)."""
        p = Point.still(alpha, sigma, 0.0)
        self._forbid(p, "gradient of the denoiser")
        visits, weight, mean = self._posterior(x, p)
        in_x, in_alpha, in_sigma = np.zeros_like(x), np.zeros(len(x)), np.zeros(len(x))
        for visit, w in zip(visits, weight.T, strict=True):
            apart = np.einsum("ij,ij->i", visit.mean - mean, g)
            in_x += w[:, None] * (visit.jacobian(g) + apart[:, None] * visit.score())
            if levels:
                mean_a, mean_s, log_a, log_s = visit.in_levels()
                in_alpha += w * (np.einsum("ij,ij->i", mean_a, g) + apart * log_a)
                in_sigma += w * (np.einsum("ij,ij->i", mean_s, g) + apart * log_s)
        return (in_x, in_alpha, in_sigma) if levels else (in_x, None, None)


class Gaussian(GaussianMixture):
    """The field of a Gaussian with the mean and covariance of a training set: linear, the Wiener filter.

    Parameters
    ----------
    data : (N, d) or (N, ...) array or Field
        Its covariance is taken over N, or by the weights (and with the bandwidth) of a Field.
    schedule : Schedule
        Default: that of a Field.
    rank : int, optional
        How many of the directions of largest variance to keep; beyond them the variance is 0.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> linear = itf.Gaussian(np.array([[-1.0], [1.0]]), itf.Linear())
    >>> linear.denoiser(np.array([[0.5]]), 0.5)
    array([[0.5]])
    """

    def __init__(self, data: Any, schedule: Schedule | None = None, rank: int | None = None) -> None:
        if schedule is None and not isinstance(data, Field):
            msg = "schedule must be given with rows; only a Field has one of its own."
            raise TypeError(msg)
        field = data if isinstance(data, Field) else Field(data, schedule, backend="reference")
        component = _fitted(field, None if rank is None else _arrays.count(rank, "rank", 0, field.d))
        self._take(np.zeros(1), [component], field.schedule if schedule is None else schedule, field.event)

    @classmethod
    def of(cls, mean: Any, covariance: Any, schedule: Schedule) -> Gaussian:
        """That of a mean (d,) or (*event,) and a covariance (d, d), of the mean's shape, or a number.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> itf.Gaussian.of(np.zeros(2), np.eye(2), itf.Linear()).score(np.array([0.3, 0.4]), 1 / 2)
        array([-0.6, -0.8])
        """
        center, spread = _arrays.reals(mean, "mean"), _arrays.reals(covariance, "covariance")
        event = center.shape
        if center.size == 0 or not event:
            msg = f"mean must have shape (d,); got {center.shape}."
            raise ValueError(msg)
        if spread.shape == event:
            spread = spread.ravel()
        center = center.ravel()
        if spread.shape not in ((), center.shape, center.shape * 2):
            msg = f"covariance must be a number or have shape {center.shape * 2} or {center.shape}; got {spread.shape}."
            raise ValueError(msg)
        _arrays.check_finite(center[None], "mean")
        gaussian = object.__new__(cls)
        gaussian._take(np.zeros(1), [_component(center, spread, "covariance")], schedule, event)
        return gaussian

    def __repr__(self) -> str:
        return f"Gaussian(d={self.d}, rank={len(self._components[0].values)}, schedule={self.schedule!r})"


def _component(mean: Float, covariance: Float, name: str) -> _Component:
    d = len(mean)
    if not np.isfinite(covariance).all():
        msg = f"{name} must be finite."
        raise ValueError(msg)
    if covariance.ndim == 2:
        if np.abs(covariance - covariance.T).max() > _ROUNDING * np.abs(covariance).max():
            msg = f"{name} must be symmetric."
            raise ValueError(msg)
        values, basis = np.linalg.eigh((covariance + covariance.T) / 2)
    else:
        values, basis = np.full(d, covariance), np.eye(d)
    if values.min() < -_ROUNDING * max(values.max(), 0.0) or values.max() < 0:
        msg = f"{name} must have no negative eigenvalue; got {values.min():.6g}."
        raise ValueError(msg)
    return _Component(mean, values, basis)


def _fitted(field: Field, rank: int | None) -> _Component:
    """Mean and covariance of the rows, by their weights: of N < d rows by a decomposition of the rows themselves."""
    data = oracle_of(field).training_set
    mean, w = data.moments.mean, np.exp(data.log_w)
    if data.n < data.d and data.bandwidth == 0:
        away = np.concatenate([(data.read(b) - mean) * np.sqrt(w[b])[:, None] for b in _arrays.blocks(data.rows)])
        _, size, basis = np.linalg.svd(away, full_matrices=False)
        return _Component(mean, size**2, basis.T, rank)
    covariance = data.bandwidth**2 * np.eye(data.d)
    for block in _arrays.blocks(data.rows):
        rows = data.read(block) - mean
        covariance += (rows * w[block][:, None]).T @ rows
    return _Component(mean, *np.linalg.eigh(covariance), rank)
