"""The exact field behind a :class:`Field`: float64 in, float64 out, arguments already checked."""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._accuracy import noise_ratio
from ._random import NoiseKey, subkey, uniforms
from ._schedule import Schedule
from ._shape import Form, Shape
from ._tensors import beside, blank, column
from ._training_set import TrainingSet
from .backends.merging import Place
from .backends.reference import smoothed

__all__ = ["Oracle", "Point"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]

# A draw of x_t is not so many times as far from the middle as draws are; bytes of images are, in [-1, 1]. Queries of a
# wrong unit are all wrong: a few tell. In the plane and in space one looks at a field from afar on purpose.
_FAR, _LOOKED_AT, _PLOTTED = 30.0, 16, 3

_OFF_WEIGHTS = frozenset({"ess", "entropy", "variance", "gap", "log_rest", "jvp"})
_SILENT = nullcontext()


def _any(values: Any) -> bool:
    """Whether a number, or one of an array, is not 0."""
    return bool(np.count_nonzero(values) if isinstance(values, np.ndarray) else values)


class Point(NamedTuple):
    """The schedule at the queries' times: (M,) each, or floats where one time is that of all.

    t is NaN where no time is meant, but a level; S is the variance that the logits and the density see. What is the
    same for all queries is formed once, as floats: of one query NumPy's calls would be most of the work.
    """

    t: Any
    alpha: Any
    sigma: Any
    alpha_dot: Any
    sigma_dot: Any
    s2: Any
    drift: Any  # sigma sigma_dot
    pull: Any  # alpha bandwidth^2

    @classmethod
    def at(cls, schedule: Schedule, bandwidth: float, t: Any) -> Point:
        """A time, of which all are floats, or (M,), known to lie in [0, 1]."""
        time = np.asarray(t)
        t = time if time.ndim else time.item()
        inside = isinstance(t, float) and 0.0 < t < 1.0  # away from the ends nothing is infinite
        with _SILENT if inside else np.errstate(divide="ignore", invalid="ignore"):
            c = schedule._at(time)
            _arrays.check_size(c.sigma, "sigma")
            smoothing = c.alpha * bandwidth
            s2, drift = c.sigma * c.sigma + smoothing * smoothing, c.sigma * c.sigma_dot
            if bandwidth > 0 and np.any(end := (c.sigma == 0) & (s2 > 0)):
                # 0 * inf where sigma^2 vanishes linearly; sigma sigma_dot is continuous: take it next to the end.
                before = schedule._at(np.asarray(np.nextafter(t, 0.0)))
                drift = np.where(end, before.sigma * before.sigma_dot, drift)[()]
        return cls(t, *c, s2, drift, c.alpha * bandwidth**2)

    @classmethod
    def of(cls, schedule: Schedule, bandwidth: float, t: Any, m: int) -> Point:
        """A time or m of them, (m,) each."""
        return cls.at(schedule, bandwidth, t).each(m)

    def each(self, m: int) -> Point:
        """Of m queries, (m,) each."""
        columns = np.empty((len(self), m))
        for row, value in zip(columns, self, strict=True):
            row[...] = value
        return Point(*columns)

    @classmethod
    def still(cls, alpha: Float, sigma: Float, bandwidth: float) -> Point:
        """Levels (M,) at which no time passes."""
        none = np.zeros_like(alpha)
        s2 = sigma**2 + (alpha * bandwidth) ** 2
        return cls(np.full_like(alpha, math.nan), alpha, sigma, none, none, s2, none, alpha * bandwidth**2)

    @property
    def rate(self) -> Any:
        """(dS/dt) / 2; NaN where alpha^2 starts linearly, 0 * inf: what needs the rate refuses."""
        with np.errstate(invalid="ignore"):
            return self.drift + self.pull * self.alpha_dot

    @property
    def ratio(self) -> Any:
        """sigma / alpha as logits see them, sqrt(S) / alpha; inf where alpha = 0."""
        return noise_ratio(self.alpha, self.s2)

    def of_queries(self, some: Int) -> Point:
        """Of some of the queries."""
        return Point(*(values[some] for values in self))

    def place(self, x: Float) -> Place:
        """Where queries are, for parts that are merged."""
        return Place(x, self.alpha, self.s2)

    # What follows from the posterior mean of the rows (M, d), where S > 0, of tensors where these are: in place of the
    # mean, as far as that goes, since memory that is new costs more than the arithmetic

    def velocity(self, x: Any, mean: Any) -> Any:
        self.forbid(~np.isfinite(self.alpha_dot), "velocity is infinite")
        with np.errstate(over="ignore"):
            away = column(self.alpha, x) * mean
            away -= x
            velocity = mean
            velocity *= column(self.alpha_dot * (self.sigma * self.sigma / self.s2), x)
            if _any(self.pull):  # the denoiser of smoothed rows, whose terms do not cancel
                velocity += column(self.alpha_dot * (self.pull / self.s2), x) * x
            away *= column(self.drift / self.s2, x)
            velocity -= away
        return velocity

    def score(self, x: Any, mean: Any) -> Any:
        score = mean
        score *= column(self.alpha, x)
        score -= x
        score /= column(self.s2, x)
        return score

    def noise(self, x: Any, mean: Any) -> Any:
        mean *= column(self.alpha, x)
        noise = x - mean
        noise *= column(self.sigma / self.s2, x)
        return noise

    def divergence(self, d: int, variance: Any) -> Any:
        """Of the velocity, by the posterior variance (M,) of the rows."""
        self.forbid(~np.isfinite(self.alpha_dot), "divergence is infinite")
        # With S = sigma^2 + alpha^2 delta^2 and (dS/dt)/2 = rate; sigma rate' is written without dividing by sigma.
        slope = self.alpha_dot * self.s2 - self.alpha * self.rate
        s2 = beside(self.s2, variance)
        return beside(d * self.rate / self.s2, variance) + beside(self.alpha * slope, variance) * (variance / s2) / s2

    def forbid(self, where: Any, what: str) -> None:
        """ValueError naming the first time of those ``where`` something is not defined."""
        if _any(where):
            t = float(np.asarray(self.t)[where][0])
            place = "sigma must be > 0: the" if math.isnan(t) else f"t must avoid {t!r}: the"
            msg = f"{place} {what}{'' if math.isnan(t) else ' there'}. Evaluate next to it or use denoiser."
            raise ValueError(msg)


@dataclass(frozen=True)
class Oracle:
    """A training set under a schedule; ``tol`` is that of the field, None: at rounding."""

    training_set: TrainingSet
    schedule: Schedule
    tol: float | None

    @property
    def bandwidth(self) -> float:
        return self.training_set.bandwidth

    @property
    def form(self) -> Form:
        """Of results about no points of the caller's."""
        return Form(self.training_set.type, self.training_set.kind, self.event)

    @property
    def event(self) -> Shape:
        return self.training_set.event

    @property
    def d(self) -> int:
        return self.training_set.d

    @property
    def cut(self) -> float:
        """Nats below the maximum from which rows may be left out where errors of D count in units of R."""
        return float(self.training_set.cut(self.tol))

    def point(self, t: Any, m: int) -> Point:
        """The schedule at a time or at m of them."""
        return Point.of(self.schedule, self.bandwidth, t, m)

    def at(self, t: Any) -> Point:
        """The schedule at a time, as floats, or at (M,)."""
        return Point.at(self.schedule, self.bandwidth, t)

    def still(self, alpha: Float, sigma: Float) -> Point:
        """Levels (M,) at which no time passes."""
        return Point.still(alpha, sigma, self.bandwidth)

    def warn_of_scale(self, p: Point, x: Any, name: str = "x") -> None:
        """UserWarning when queries cannot be draws of x_t by orders of magnitude: another unit, or range of values."""
        moments = self.training_set.moments
        if len(x) == 0 or moments.radius == 0 or self.d <= _PLOTTED:
            return
        for i in range(0, len(x), -(-len(x) // _LOOKED_AT)):
            alpha, s2 = (v if isinstance(v, float) else float(v[i]) for v in (p.alpha, p.s2))
            point = x[i]
            usual = math.sqrt((alpha * moments.radius) ** 2 + self.d * s2)
            if math.sqrt(float(point @ point)) <= _FAR * usual:
                return
            middle = alpha * moments.center
            away = point - beside(middle, point)
            distance = math.sqrt(float(away @ away))
            if distance <= _FAR * math.hypot(usual, float(np.linalg.norm(middle))) + 2 * alpha * moments.reach:
                return
        _arrays.warn(
            f"{name} cannot hold draws of x_t: |x - alpha mean| is {distance:.1e}, and sqrt(alpha^2 R^2 + d sigma^2) "
            f"is {usual:.1e}. Bring {name} to the units and the range of values of the data."
        )

    def start(self, n: int, sigma: float, source: NoiseKey) -> Float:
        """n draws of N(0, sigma^2), where trajectories start: (n, d)."""
        z = self.training_set.normals(subkey(source.key, "start"), source.first_sample, 0, n=n)
        z *= sigma
        return z

    def draw(self, p: Point, n: int, source: NoiseKey) -> tuple[Float, Int]:
        """n draws of x_t, (n, d), and their rows."""
        key, data = subkey(source.key, "draw"), self.training_set
        index = data.chosen(uniforms(key, source.first_sample, 1, n=n))
        return self.interpolate(p, index, data.normals(key, source.first_sample, 0, n=n)), index

    def interpolate(self, p: Point, index: Int, z: Float) -> Float:
        """x_t of rows ``index``, in place of the normals ``z``."""
        z *= np.sqrt(p.s2)[:, None]
        z += p.alpha[:, None] * self.training_set.values(index)
        return z

    def evaluate(self, p: Point, x: Any, *want: str, u: Any = None, top: int = 0) -> dict[str, Any]:
        """Outputs of the posterior, as accurate as single queries need them; see the kernel contract for names.

        Beside the queries, which may be a tensor where the training set takes tensors.
        """
        out = self._empty(x, want)
        if "dropped" in want:
            out |= {"top_index": blank(x, (len(x), top), integer=True), "top_weight": blank(x, (len(x), top))}
            if self.training_set.bounds_rounding:
                out["rounding"] = np.full(len(x), math.inf)
        levels = np.empty((3, len(x)))
        cut = self.training_set.cut(self.tol, p.ratio, off_weights=not _OFF_WEIGHTS.isdisjoint(want))
        levels[0], levels[1], levels[2] = p.alpha, p.sigma, cut
        self.training_set.posterior(x, levels[0], levels[1], levels[2], out, u)
        return out

    def average(self, p: Point, x: Float, *want: str) -> dict[str, Float]:
        """Outputs that go into averages: accurate to tol R or tol R^2, without the digits that single queries need."""
        out = self._empty(x, want)
        self.training_set.posterior(x, p.alpha, p.sigma, self.cut, out)
        return out

    def _empty(self, x: Any, want: tuple[str, ...]) -> dict[str, Any]:
        labels = self.training_set.labels
        widths = {"mean": self.d, "jvp": self.d, "mass": 0 if labels is None else len(labels.classes)}
        shapes = {name: (len(x), widths[name]) if name in widths else (len(x),) for name in want}
        return {name: blank(x, shape, integer=name == "index") for name, shape in shapes.items()}

    def smooth(self, p: Point, x: Any, mean: Any) -> Any:
        """D of the smoothed data, from the posterior mean."""
        if self.bandwidth == 0:
            return mean
        p = p.each(len(x))
        with np.errstate(over="ignore"):
            return smoothed(mean, x, column(p.alpha, x), column(p.sigma, x), self.bandwidth)

    def own(self, p: Point) -> Float:
        """sigma^2 / S: the share of the posterior mean in D. With C that of the rows, the covariance of the smoothed
        data is own^2 C + bandwidth^2 own 1.
        """
        own: Float = np.divide(p.sigma**2, p.s2, out=np.ones_like(p.s2), where=p.s2 > 0)
        return own

    def log_density(self, p: Point, x: Any, log_norm: Any, index: Any) -> Any:
        """log p_t; where S = 0 +inf on the row ``index`` and -inf elsewhere."""
        if not _any(p.s2 == 0):
            return self.training_set.log_density(log_norm, p.s2)
        p = p.each(len(x))
        still = p.s2 == 0
        density = self.training_set.log_density(log_norm, np.where(still, 1.0, p.s2))
        some = beside(np.flatnonzero(still), x)
        rows = column(p.alpha[still], x) * self.training_set.values(index[some])
        density[some] = -math.inf
        density[some[(rows == x[some]).all(axis=1)]] = math.inf
        return density
