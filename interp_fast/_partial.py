"""Posteriors over some of the rows, which merge to that over all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _arrays, _npz
from ._accuracy import PROMISES
from ._oracle import Point
from ._posterior import Posterior
from ._shape import Form
from ._training_set import TrainingSet
from .backends import pooled
from .backends.merging import Place, finish, in_pairs, unsettled
from .backends.merging import merge as merge_two
from .backends.reference import smoothed

__all__ = ["WANTED", "Partial", "merge", "partial_of"]

Float = npt.NDArray[np.float64]

WANTED = ("mean", "ess", "entropy", "variance", "dropped", "work")
_POINT = ("t", "alpha", "sigma", "alpha_dot", "sigma_dot", "s2", "drift", "pull")
_SETTINGS = ("bandwidth", "type", "version", "log_mass", "radius", "reach")


@dataclass(frozen=True)
class Setting:
    """What else there is to know of the rows and the queries.

    Attributes
    ----------
    type : str
        Of the results.
    log_mass, center, radius, reach
        Logarithm of the sum of the weights; mean of the rows, weighted rms and largest distance to it.
    """

    bandwidth: float
    type: str
    version: str
    log_mass: float
    radius: float
    reach: float
    center: Float

    @classmethod
    def of(cls, data: TrainingSet) -> Setting:
        from . import __version__  # not before the package is loaded

        moments = data.moments
        return cls(
            bandwidth=data.bandwidth, type=data.type.name, version=__version__, log_mass=data.log_mass,
            radius=moments.radius, reach=moments.reach + float(np.linalg.norm(moments.center - moments.mean)),
            center=moments.mean,
        )  # fmt: skip

    def merged(self, other: Setting) -> Setting:
        """Of the rows of both."""
        log_mass, center, radius = pooled(
            (self.log_mass, other.log_mass), (self.center, other.center), (self.radius, other.radius)
        )
        reach = max(s.reach + float(np.linalg.norm(s.center - center)) for s in (self, other))
        return replace(self, log_mass=log_mass, center=center, radius=radius, reach=reach)


class Partial:
    """The posterior over some of the rows, ready to be merged; what :meth:`Field.partial` and :func:`merge` return.

    Answers are those of a Field of these rows. Rows are numbered from ``first_row`` on in the order they had, and the
    mass of a part is the sum of the weights its field was given (its number of rows without weights).

    Attributes
    ----------
    first_row : int
        The lowest row.
    rows : tuple of (first, stop)
        Which rows these are.
    unsettled : (M,) bool
        Queries for which rounding within the parts may decide the whole. Ask every part for these again, as
        ``field.partial(x, t, precise=unsettled)``, and merge once more: then none is, but for what seems to tie at
        distances of 10^9 sigma and more, of which parts know some 29 digits. A settled query is as accurate as that of
        a Field.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X, x = np.array([[0.0], [1.0], [5.0], [6.0]]), np.array([[1.5]])
    >>> parts = [itf.Field(X[i : i + 2]).partial(x, 0.5, first_row=i) for i in (0, 2)]
    >>> whole = itf.merge(parts)
    >>> whole.rows, whole.denoiser().round(4), itf.Field(X).denoiser(x, 0.5).round(4)
    (((0, 4),), array([[3.]]), array([[3.]]))
    """

    def __init__(
        self,
        x: Float,
        point: Point,
        found: dict[str, Any],
        rows: tuple[tuple[int, int], ...],
        setting: Setting,
        form: Form,
    ) -> None:
        self._x, self._point, self._found, self.rows, self._setting, self._form = x, point, found, rows, setting, form

    @property
    def first_row(self) -> int:
        return self.rows[0][0]

    @property
    def unsettled(self) -> Any:
        return self._form.each(unsettled(self._found, self._place, PROMISES[self._setting.type], self._setting.radius))

    def __repr__(self) -> str:
        rows = ", ".join(f"{first} ... {stop - 1}" for first, stop in self.rows[:4])
        more = ", ..." if len(self.rows) > 4 else ""
        return f"Partial(rows {rows}{more}, M={len(self._x)}, d={self._x.shape[1]}, {self._setting.type})"

    # Answers

    def denoiser(self) -> Any:
        """E[x_1 | x_t = x], (M, d); with a bandwidth, of the smoothed data."""
        return self._vector(self._smooth(), "denoiser")

    def velocity(self) -> Any:
        """alpha_dot D + sigma_dot (x - alpha D) / sigma, (M, d)."""
        return self._formula("velocity", Point.velocity)

    def score(self) -> Any:
        """(alpha D - x) / sigma^2, (M, d)."""
        return self._formula("score", Point.score)

    def noise(self) -> Any:
        """(x - alpha D) / sigma, (M, d)."""
        return self._formula("noise", Point.noise)

    def log_density(self) -> Any:
        """log p_t(x) over these rows, (M,) float64."""
        return self._form.each(self._log_density(self._finished()["log_norm"]))

    def divergence(self) -> Any:
        """Divergence of the velocity, (M,) float64."""
        self._point.forbid(self._point.s2 == 0, "divergence does not exist where sigma = 0")
        return self._form.each(self._point.divergence(self._x.shape[1], self._found["variance"]))

    def posterior(self) -> Posterior:
        """Every output; see :class:`Posterior`."""
        out, top = self._finished(), self._found["top"]
        out["log_density"] = self._log_density(out["log_norm"])
        radius = self._setting.radius
        out["certificate"] = out["dropped"] * (2 * self._setting.reach / radius if radius > 0 else 0.0)
        out["rounding"] = np.full(len(self._x), math.inf if radius > 0 else 0.0)
        mean = self._vector(out["mean"], "the posterior mean")
        out |= {name: out[name][:, :top] for name in ("top_index", "top_weight")}
        others = Posterior.__dataclass_fields__.keys() - {"mean"}
        return Posterior(mean=mean, **{name: self._form.each(out[name]) for name in others})

    # Files

    def save(self, path: Any) -> None:
        """Write it to ``path``, an .npz file without pickles: queries, times, coefficients, row ranges, moments.

        The file appears whole or not at all.
        """
        arrays = {"x": self._x, "rows": np.array(self.rows, np.int64), "center": self._setting.center}
        arrays |= {"shape": np.array(self._form.shape, np.int64), "single": np.array(self._form.single)}
        arrays |= {f"at_{name}": getattr(self._point, name) for name in _POINT}
        arrays |= {f"set_{name}": np.array(getattr(self._setting, name)) for name in _SETTINGS}
        arrays |= {f"part_{name}": np.asarray(value) for name, value in sorted(self._found.items())}
        _npz.save(path, arrays)

    @staticmethod
    def load(path: Any) -> Partial:
        """Read what :meth:`save` wrote; ValueError naming the file when it is cut off or something else."""
        with _npz.read(path, "Partial.save") as held:
            point = Point(**{name: held[f"at_{name}"] for name in _POINT})
            setting = Setting(center=held["center"], **{name: held[f"set_{name}"].item() for name in _SETTINGS})
            parts = (name for name in held if name.startswith("part_"))
            found: dict[str, Any] = {name.removeprefix("part_"): held[name] for name in parts}
            found |= {name: int(found[name]) for name in ("rows", "top")}
            rows = tuple((int(first), int(stop)) for first, stop in held["rows"])
            shape, single = tuple(held["shape"].tolist()), bool(held["single"])
            return Partial(held["x"], point, found, rows, setting, Form(np.dtype(setting.type), _plain, shape, single))

    # Private

    @property
    def _place(self) -> Place:
        return self._point.place(self._x)

    def _finished(self) -> dict[str, Any]:
        return finish(self._found, self._place, self._setting.log_mass)

    def _smooth(self) -> Float:
        mean, p, delta = self._found["mean"], self._point, self._setting.bandwidth
        return mean if delta == 0 else smoothed(mean, self._x, p.alpha[:, None], p.sigma[:, None], delta)

    def _formula(self, what: str, formula: Callable[[Point, Float, Float], Float]) -> Any:
        self._point.forbid(self._point.s2 == 0, f"{what} does not exist where sigma = 0")
        with np.errstate(over="ignore"):
            return self._vector(formula(self._point, self._x, self._found["mean"].copy()), what)

    def _vector(self, values: Float, what: str) -> Any:
        return self._form.points(_arrays.rounded(values, self._setting.type, what))

    def _log_density(self, log_norm: Float) -> Float:
        s2, (m, d) = self._point.s2, self._x.shape
        density: Float = np.empty(m)
        smooth = s2 > 0
        density[smooth] = log_norm[smooth] - 0.5 * d * np.log(2 * np.pi * s2[smooth])
        on_row = self._found["c"] <= (2.0**-52 * np.linalg.norm(self._x, axis=1)) ** 2
        density[~smooth] = np.where(on_row[~smooth], np.inf, -np.inf)
        return density


def _plain(values: Any) -> Any:
    return values


def partial_of(
    data: TrainingSet, x: Float, point: Point, found: dict[str, Any], *, form: Form, first_row: int
) -> Partial:
    """The Partial of all rows of a training set."""
    return Partial(x, point, found, ((first_row, first_row + data.n),), Setting.of(data), form)


def merge(parts: Iterable[Partial]) -> Partial:
    """The posterior over the rows of all parts, from the posteriors over each.

    In the order of ``first_row`` whatever the order given, neighbours in pairs, level by level: the same bits. Rows may
    have gaps; what was merged can be merged again.

    Parameters
    ----------
    parts : iterable of Partial
        Of the same queries, times and schedule, and of different rows. Backends, threads and tol may differ.

    Raises
    ------
    TypeError, ValueError
        Nothing to merge; parts of different queries, times, schedules, bandwidths, types of results or versions, or of
        the same rows: which.

    Notes
    -----
    Costs some 10 d flops for each query and part, wherever the rows are.

    Examples
    --------
    >>> import numpy as np, interp_fast as itf
    >>> X, x = np.arange(8.0)[:, None], np.array([3.2])
    >>> parts = [itf.Field(X[i : i + 2]).partial(x, 0.5, first_row=i) for i in (4, 0, 6, 2)]
    >>> itf.merge(parts).posterior().index
    np.int64(6)
    """
    given = list(parts)
    return merge_named(given, [f"parts[{k}]" for k in range(len(given))])


def merge_named(parts: list[Partial], names: Sequence[str]) -> Partial:
    """:func:`merge`, with what the parts are called in messages."""
    if not parts:
        msg = "parts must hold at least one Partial."
        raise ValueError(msg)
    for part, name in zip(parts, names, strict=True):
        if not isinstance(part, Partial):
            msg = f"{name} must be a Partial; got {type(part).__name__}. Make one as field.partial(x, t)."
            raise TypeError(msg)
        _check_alike(parts[0], part, names[0], name)
    owners = sorted((first, stop, k) for k, part in enumerate(parts) for first, stop in part.rows)
    for (first, stop, k), (start, end, j) in zip(owners, owners[1:], strict=False):
        if start < stop:
            whose = f"{names[k]} and {names[j]} both have"
            msg = f"parts must hold different rows; {whose} rows {start} to {min(stop, end) - 1}, from row {first} on."
            raise ValueError(msg.replace(f", from row {first} on", ""))
    return in_pairs(sorted(parts, key=lambda part: part.first_row), _merge_two)


def _check_alike(a: Partial, b: Partial, a_name: str, b_name: str) -> None:
    """ValueError naming the first thing in which two parts differ that must not."""
    mine, its = a._setting, b._setting
    same: list[tuple[str, Any, Any]] = [
        ("versions of interp_fast", mine.version, its.version),
        ("dimensions d", a._x.shape[1], b._x.shape[1]),
        ("numbers of queries", len(a._x), len(b._x)),
        ("bandwidths", mine.bandwidth, its.bandwidth),
        ("types of results", mine.type, its.type),
    ]
    for what, one, other in same:
        if one != other:
            msg = f"parts must be alike; {a_name} and {b_name} have different {what}: {one} and {other}."
            raise ValueError(msg)
    arrays = [("queries x", a._x, b._x)] + [
        ("times t" if name == "t" else f"schedules ({name} differs)", getattr(a._point, name), getattr(b._point, name))
        for name in ("t", "alpha", "sigma", "alpha_dot", "sigma_dot")
    ]
    for what, one, other in arrays:
        if not np.array_equal(one, other, equal_nan=True):
            msg = f"parts must be alike; {a_name} and {b_name} have different {what}."
            raise ValueError(msg)


def _merge_two(a: Partial, b: Partial) -> Partial:
    rows: list[tuple[int, int]] = []
    for first, stop in sorted(a.rows + b.rows):
        if rows and rows[-1][1] == first:
            rows[-1] = (rows[-1][0], stop)
        else:
            rows.append((first, stop))
    found, setting = merge_two(a._found, b._found, a._place), a._setting.merged(b._setting)
    return Partial(a._x, a._point, found, tuple(rows), setting, a._form)
