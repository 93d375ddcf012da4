"""What a field knows of groups of its rows: classes, rows left out, other weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from . import _arrays
from ._accuracy import PROMISES
from ._oracle import Oracle, Point
from ._partial import WANTED, Partial, partial_of
from ._typing import in_kind
from ._views import SHARP, ByClass, Guided, Tempered, Without
from .backends.merging import in_doubt, shares

__all__ = ["Groups"]

Float = npt.NDArray[np.float64]
Int = npt.NDArray[np.int64]
Own = TypeVar("Own", bound="Groups")  # a Field, and what it makes of itself
_HEAVIEST = 4  # rows that are tried where few are likely to count


class Groups:
    """The part of :class:`Field` that is about groups of rows."""

    _oracle: Oracle
    _queries: Any  # arguments to float64
    if TYPE_CHECKING:

        def _view(self: Own, training_set: Any) -> Own: ...

    @property
    def classes(self) -> npt.NDArray[Any] | None:
        """The classes of the rows, (C,) sorted; None without labels."""
        labels = self._oracle.training_set.labels
        return None if labels is None else labels.classes

    def subset(self: Own, rows: Any) -> Own:
        """The field of some of the rows (indices or a boolean mask): numbered from 0, weights renormalised, its own R.

        Copies the chosen rows, unless they are neighbours; labels go with them, and all classes. See also ``given``.
        """
        data = self._plain("subset")
        chosen = _arrays.here(rows, "rows")
        if chosen.size > 0 and chosen.dtype.kind not in "iub":
            msg = f"rows must be a boolean mask or row numbers; got {chosen.dtype}."
            raise TypeError(msg)
        mask = chosen.dtype == bool
        if chosen.ndim != 1 or (mask and len(chosen) != data.n):
            msg = f"rows must be a boolean mask ({data.n},) or a vector of row numbers; got shape {chosen.shape}."
            raise ValueError(msg)
        if mask:
            chosen = np.flatnonzero(chosen)
        if len(chosen) == 0:
            msg = "rows must name at least one row."
            raise ValueError(msg)
        if chosen.min() < -data.n or chosen.max() >= data.n:
            msg = f"rows must lie in [-{data.n}, {data.n}); got {chosen.min()} to {chosen.max()}."
            raise ValueError(msg)
        chosen = np.arange(data.n)[chosen]  # a row source knows no numbers that count from the end
        if data.log_w[chosen].max() == -math.inf:
            msg = "rows must include a row of weight > 0; all that were chosen weigh nothing."
            raise ValueError(msg)
        return self._view(data.part(chosen, renumber=True))

    def given(self: Own, label: Any) -> Own:
        """The field of one class; or with labels (M,) a field whose query m sees the rows of class ``label[m]`` alone.

        Rows keep their numbers, weights are renormalised. Of one class it is a field like any other, without a copy of
        rows that lie together. With labels it answers M queries: denoiser, velocity, score, noise, log_density,
        divergence, jvp, posterior, and ``sample`` with one label for each sample.

        Parameters
        ----------
        label : a class, or an (M,) array of classes

        Raises
        ------
        TypeError, ValueError
            The field has no labels; a label is no class, or of a class that weighs nothing.

        Notes
        -----
        A query costs 4 N_c d flops at most, N_c the size of its class. The rows of a class are copied when it is first
        asked for, unless they are neighbours.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0], [1.0], [5.0]]), labels=["a", "b", "b"])
        >>> field.given("b").denoiser(np.zeros((1, 1)), 0.0)
        array([[3.]])
        >>> field.given(["a", "b"]).denoiser(np.zeros((2, 1)), 0.0)
        array([[0.],
               [3.]])
        """
        codes = self._codes(label, "given")
        data = self._oracle.training_set
        return self._view(data.of_class(int(codes)) if codes.ndim == 0 else ByClass(data, codes))

    def guided(self: Own, labels: Any, scale: float) -> Own:
        """The field with denoiser D + scale (D_class - D): classifier-free guidance of the oracle.

        Scale 0 is the unconditional field, 1 the conditional one. Velocity, score, noise, divergence and jvp follow
        from that D; a log density and a posterior there are not. ``sample`` takes it as a Field.

        Parameters
        ----------
        labels : (M,) array
            The class of each query, or of each sample.
        scale : float
            Any finite number.

        Notes
        -----
        Costs 4 N d flops a query where one pass over all rows tells both means: with the backend "cpp", rows in memory,
        48 queries or more, classes of 1024 rows or more on average, and d >= 256 or rows stored class by class. Else,
        and for queries in which single rows of the class are too heavy for that, up to 4 N_c d more.

        Ho and Salimans, "Classifier-free diffusion guidance", 2022.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0], [1.0], [5.0]]), labels=[0, 1, 1])
        >>> field.guided([1], 2.0).denoiser(np.zeros((1, 1)), 0.0)
        array([[4.]])
        """
        codes = self._codes(labels, "guided")
        if codes.ndim == 0:
            msg = f"labels must be a vector, one for each query; got {labels!r}. Pass [{labels!r}]."
            raise ValueError(msg)
        return self._view(Guided(self._oracle.training_set, codes, _arrays.number(scale, "scale")))

    @in_kind
    def class_posterior(self, x: Any, t: Any) -> Any:
        """p(class | x_t = x), (M, C) float64 in the order of ``classes``: the Bayes classifier of noisy data.

        At t = 1 the nearest rows, ties by weight. A class of weight 0 has probability 0.

        Notes
        -----
        Costs 2 N d flops a query with the backend "cpp" and rows in memory, at most 4 N d elsewhere: where the heaviest
        rows are all that counts, one call over all rows finds them, else each class is asked for its mass.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0], [1.0], [5.0]]), labels=["a", "b", "b"])
        >>> field.class_posterior(np.array([0.25]), 0.5).round(4)
        array([0.5, 0.5])
        """
        data = self._plain("class_posterior")
        if data.labels is None:
            msg = "class_posterior needs a field with labels; pass labels= to Field."
            raise ValueError(msg)
        p, wide, form = self._queries(x, t)
        if data.weighs_classes:
            out = self._oracle.evaluate(p, wide, "mass")["mass"]
            out /= out.sum(axis=1, keepdims=True)
            return form.each(out)
        p = p.each(len(wide))
        out = np.zeros((len(wide), len(data.labels.classes)))
        codes, some = self._massive(), self._by_heaviest(p, wide, out)
        if len(some):
            out[some[:, None], codes] = self._shares(p.of_queries(some), wide[some], codes)
        return form.each(out)

    def without(self: Own, rows: Any, groups: Any = None) -> Own:
        """A field whose query m does not see row ``rows[m]``; with ``groups``, none of the rows of its group.

        Leave-one-out: the same answers as a field of the other rows, whose weights are renormalised; rows keep their
        numbers. ``sample`` takes it with one row for each sample.

        Parameters
        ----------
        rows : (M,) ints
        groups : (N,) ints, optional
            Query m sees no row j with groups[j] == groups[rows[m]].

        Raises
        ------
        ValueError
            Rows out of range, or nothing of weight > 0 is left.

        Notes
        -----
        Evaluated in float64 whatever the backend: 4 N d flops a query, as products of matrices where rounding allows.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0], [1.0], [5.0]]))
        >>> field.without([0]).denoiser(np.zeros((1, 1)), 0.0)
        array([[3.]])
        """
        data = self._plain("without")
        chosen = _arrays.here(rows, "rows")
        if chosen.ndim != 1 or (chosen.dtype.kind not in "iu" and chosen.size):
            msg = f"rows must be a vector of row numbers, one for each query; got {chosen.dtype} {chosen.shape}."
            raise ValueError(msg)
        chosen = chosen.astype(np.int64)
        local = chosen if data.numbers is None else np.searchsorted(data.numbers, chosen)
        known = (local >= 0) & (local < data.n)
        if data.numbers is not None:
            known &= data.numbers[np.clip(local, 0, data.n - 1)] == chosen
        if not known.all():
            whose = f"lie in [0, {data.n})" if data.numbers is None else "be rows of this class"
            msg = f"rows must {whose}; got {chosen[~known][0]}."
            raise ValueError(msg)
        together = None
        if groups is not None:
            together = _arrays.here(groups, "groups")
            if together.dtype.kind not in "iu" or together.shape != (data.n,):
                got = f"{together.dtype} {together.shape}"
                msg = f"groups must be ints of shape ({data.n},), one for each row; got {got}."
                raise ValueError(msg)
        view = Without(data, local, together)
        view.check_left("rows" if groups is None else "groups")
        return self._view(view)

    def tempered(self: Own, temperature: float) -> Own:
        """The field whose weights are softmax(l / T), l the logits with the weights: the posterior at temperature T.

        Denoiser, velocity, score and noise are formed from that D with the schedule's own sigma. There is no log
        density. ``sample`` takes it as a Field.

        Parameters
        ----------
        temperature : float
            T > 0; 1 is the field itself.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> field = itf.Field(np.array([[0.0], [1.0]]))
        >>> [field.tempered(T).posterior(np.zeros(1), 0.5, top=1).top_weight.round(3)[0] for T in (1.0, 0.1)]
        [np.float64(0.622), np.float64(0.993)]
        """
        data = self._plain("tempered")
        return self._view(Tempered(data, _arrays.number(temperature, "temperature", above=0.0)))

    def partial(self, x: Any, t: Any, top: int = 0, *, first_row: int = 0, precise: Any = None) -> Partial:
        """The posterior over these rows as a part of a larger set, to be merged with others by :func:`merge`.

        Parameters
        ----------
        x, t
            Queries and times, as in ``posterior``.
        top : int
            How many of the heaviest rows to list; a part of fewer rows lists these.
        first_row : int
            The number of the first row in the whole.
        precise : True or (M,) bool, optional
            Queries to be answered in float64, with twice its digits where rounding could decide between rows of
            different parts: those of ``Partial.unsettled`` after a merge.

        Notes
        -----
        Costs what ``posterior`` costs, and where ``precise`` 4 N d flops in float64. A class or a subset counts its
        rows from ``first_row``, too.

        Examples
        --------
        >>> import numpy as np, interp_fast as itf
        >>> X, x = np.array([[0.0], [1.0], [4.0]]), np.zeros((1, 1))
        >>> a, b = itf.Field(X[:2]).partial(x, 0.0), itf.Field(X[2:]).partial(x, 0.0, first_row=2)
        >>> itf.merge([a, b]).denoiser().round(4), a.denoiser()
        (array([[1.6667]]), array([[0.5]]))
        """
        data = self._plain("partial")
        top = _arrays.count(top, "top", 0)
        first = _arrays.count(first_row, "first_row", 0)
        p, wide, form = self._queries(x, t)
        p, mask = p.each(len(wide)), np.zeros(len(wide), np.bool_)
        if precise is not None and precise is not False:
            chosen = np.asarray(precise)
            if chosen.dtype != np.bool_ or chosen.shape not in ((), (len(wide),)):
                msg = f"precise must be True or a mask ({len(wide)},); got {chosen.dtype} {chosen.shape}."
                raise ValueError(msg)
            mask[:] = chosen
        found = data.measured(p.place(wide), p.sigma, WANTED, top=top, tol=self._oracle.tol, precise=mask, first=first)
        return partial_of(data, wide, p, found, form=form, first_row=first)

    # Private

    def _allow(self, what: str, *views: str) -> None:
        """ValueError where these views have no such thing."""
        if self._oracle.training_set.view in views:
            msg = f"a {self._oracle.training_set.view} has no {what}: its D is not that of a density of rows."
            raise ValueError(msg)

    def _plain(self, what: str) -> Any:
        """The training set, which every query sees alike; else ValueError."""
        data = self._oracle.training_set
        if data.view:
            msg = f"{what} must be asked of a Field; got a {data.view}. Ask the field that it was made of."
            raise ValueError(msg)
        return data

    def _codes(self, labels: Any, what: str) -> Any:
        data = self._plain(what)
        if data.labels is None:
            msg = f"{what} needs a field with labels; pass labels= to Field."
            raise ValueError(msg)
        codes = data.labels.find(labels)
        if codes.ndim > 1:
            msg = f"labels must be a class or a vector of classes; got shape {codes.shape}."
            raise ValueError(msg)
        empty = np.setdiff1d(codes, self._massive())
        if len(empty):
            msg = f"labels must name classes of weight > 0; class {data.labels.classes[empty[0]]} weighs nothing."
            raise ValueError(msg)
        return codes

    def _massive(self) -> Int:
        """Codes of the classes of weight > 0."""
        data = self._oracle.training_set
        assert data.labels is not None
        found: Int = np.unique(data.labels.codes[data.log_w > -math.inf])
        return found

    def _by_heaviest(self, p: Point, x: Float, out: Float) -> Int:
        """Fill in the shares of classes (M, C) where a few rows are all that counts; the queries where they are not."""
        data = self._oracle.training_set
        some = np.flatnonzero(p.ratio <= SHARP * data.moments.radius)
        found = self._oracle.evaluate(p.of_queries(some), x[some], "index", "dropped", top=min(_HEAVIEST, data.n))
        weight, rows = found["top_weight"], found["top_index"]
        listed = weight.sum(axis=1)
        assert data.labels is not None
        enough = 1 - listed + found["dropped"] <= PROMISES[data.type.name].weight / 4
        codes = data.labels.codes[rows[enough]]
        np.add.at(out, (some[enough, None], codes), weight[enough] / listed[enough, None])
        rest: Int = np.setdiff1d(np.arange(len(x)), some[enough])
        return rest

    def _shares(self, p: Point, x: Float, codes: Int, *, precise: bool = False) -> Float:
        """Of some classes in the posterior mass, (M, K)."""
        data, place = self._oracle.training_set, p.place(x)
        options: dict[str, Any] = {"top": 1, "tol": self._oracle.tol, "precise": np.full(len(x), precise)}
        parts = [data.of_class(int(c)).measured(place, p.sigma, ("mean",), **options) for c in codes]
        found = shares(parts, place)
        again = np.flatnonzero(in_doubt(parts, found, PROMISES[data.type.name]))
        if len(again):
            found[again] = self._shares(p.of_queries(again), x[again], codes, precise=True)
        return found
