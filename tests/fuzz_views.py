"""Views of a field, and parts that are merged: each query as in the field of the rows it sees, built as such.

A view is a function (rng, case, x, schedule) that draws what it needs and returns a :class:`View`, or None where there
is none. To add one, write the function and name it in ``VIEWS``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import fuzz_judges as judges
import numpy as np
import oracle
from fuzz_cases import Case, chance
from fuzz_report import METHODS, STATISTICS, Report, judged, question, refused, smooth

import interp_fast as itf

# Work counts rows of the whole, and a certificate goes by the reach of all rows where each part may skip by its own.
TOLD = tuple(name for name in STATISTICS if name not in ("work", "certificate"))
FEW = 6  # queries that are judged one by one


@dataclasses.dataclass
class Seen:
    """A training set, the queries that see it, and its rows' numbers in the whole (None: those it has)."""

    case: Case
    some: np.ndarray
    numbers: np.ndarray | None = None


@dataclasses.dataclass
class View:
    """``field`` makes it of (backend, threads); or, of ``parts``, fields of these and where each of them begins."""

    field: Callable[[str, int], itf.Field]
    seen: list[Seen]
    guided: float | None = None  # scale; ``seen`` are then rows of classes
    parts: list[Case] | None = None  # that are merged
    temperature: float = 1.0  # ``seen`` have the weights of that one


class Merged:
    """The Partial of all parts, with the methods of a field; twice asked where it is not settled."""

    def __init__(self, parts, top):
        self.parts, self.top, self.unsettled = parts, top, np.zeros((), bool)

    def whole(self, x, t):
        def merged(precise):
            return itf.merge([f.partial(x, t, self.top, first_row=first, precise=precise) for f, first in self.parts])

        whole = merged(None)
        if whole.unsettled.any():
            whole = merged(whole.unsettled)
        self.unsettled = whole.unsettled
        return whole

    def __getattr__(self, name):
        return lambda x, t, *more: getattr(self.whole(x, t), name)()


def heavy(case):
    return np.ones(case.n, bool) if case.weights is None else case.weights > 0


def without(rng, case, x, schedule):
    """Leave-one-out, or all rows of a group."""
    rows = rng.integers(0, case.n, len(x))
    if chance(rng, 0.5):
        rows[:] = [np.argmin(((case.values[:2000] - q) ** 2).sum(1)) for q in x]
    groups = rng.integers(0, 4, case.n) if chance(rng, 0.3) else None
    left = [np.flatnonzero(groups != groups[i] if groups is not None else np.arange(case.n) != i) for i in rows]
    if not all(heavy(case)[mine].any() for mine in left):
        return None
    of = range(min(FEW, len(x)))
    return View(
        lambda backend, threads: case.field(backend, schedule, threads).without(rows, groups),
        [Seen(case.of_rows(left[q]), np.array([q]), left[q]) for q in of],
    )


def classes(rng, case, m):
    """Labels of the rows and a class of weight > 0 for each of m queries."""
    count = int(rng.choice([1, 2, 5]))
    labels = rng.integers(0, count, case.n) if chance(rng, 0.7) else np.sort(rng.integers(0, count, case.n))
    some = [c for c in np.unique(labels) if heavy(case)[labels == c].any()]
    return labels, rng.choice(some, m)


def by_class(case, labels, of):
    seen = []
    for c in np.unique(of):
        mine = np.flatnonzero(labels == c)
        seen.append(Seen(case.of_rows(mine), np.flatnonzero(of == c), mine))
    return seen


def given(rng, case, x, schedule):
    labels, of = classes(rng, case, len(x))
    label = of[0] if chance(rng, 0.3) else of
    return View(
        lambda backend, threads: case.field(backend, schedule, threads, labels=labels).given(label),
        by_class(case, labels, np.broadcast_to(label, len(x))),
    )


def guided(rng, case, x, schedule):
    labels, of = classes(rng, case, len(x))
    scale = float(rng.choice([0.0, 1.0, 2.0, -0.5]))
    return View(
        lambda backend, threads: case.field(backend, schedule, threads, labels=labels).guided(of, scale),
        by_class(case, labels, of), scale,
    )  # fmt: skip


def orbit(rng, case, x, schedule):
    """Rows and their images under permutations of the coordinates."""
    turns = [rng.permutation(case.d) for _ in range(int(rng.integers(1, 4)))]
    both = dataclasses.replace(
        case,
        stored=np.concatenate([case.stored, *(case.stored[:, p] for p in turns)]),
        values=np.concatenate([case.values, *(case.values[:, p] for p in turns)]),
        weights=None if case.weights is None else np.tile(case.weights, 1 + len(turns)),
    )
    case = dataclasses.replace(case, low_memory=chance(rng, 0.7))  # or the images of small sets are stored
    return View(
        lambda backend, threads: case.field(backend, schedule, threads, orbit=turns), [Seen(both, np.arange(len(x)))]
    )


def parts(rng, case, x, schedule):
    """Rows in parts, each with weight, merged in any order."""
    edges = np.unique(rng.integers(1, case.n + 1, int(rng.choice([1, 3, 12]))))
    edges = [a for a in (0, *edges.tolist()) if a < case.n]
    edges = [a for a, b in zip(edges, [*edges[1:], case.n], strict=True) if a == 0 or heavy(case)[a:b].any()]
    spans = list(zip(edges, [*edges[1:], case.n], strict=True))
    if not heavy(case)[slice(*spans[0])].any():
        return None
    rng.shuffle(spans)
    sets = [(case.of_rows(slice(a, b)), int(a)) for a, b in spans]
    return View(
        lambda backend, threads: [(part.field(backend, schedule, threads), first) for part, first in sets],
        [Seen(case, np.arange(len(x)))], parts=[part for part, _ in sets],
    )  # fmt: skip


def tempered(rng, case, x, schedule):
    """Weights w^(1/T) at the variance T S."""
    temperature = float(rng.choice([1.0, 2.0, 7.0] if case.weights is not None else [0.1, 1.0, 3.0]))
    weights = None if case.weights is None else case.weights ** (1 / temperature)
    cool = dataclasses.replace(case, weights=weights, bandwidth=case.bandwidth * np.sqrt(temperature))
    return View(
        lambda backend, threads: case.field(backend, schedule, threads).tempered(temperature),
        [Seen(cool, np.arange(len(x)))], temperature=temperature,
    )  # fmt: skip


VIEWS = {
    "without": without, "given": given, "guided": guided, "orbit": orbit, "parts": parts, "tempered": tempered,
}  # fmt: skip


def views(case, engine, report):
    rng = case.rng
    schedule, t, c, x, u, top = question(case, engine)
    m = len(x)
    name = str(rng.choice(list(VIEWS)))
    asked = [method for method in METHODS if rng.random() < 0.7]
    with np.errstate(all="ignore"):
        view = VIEWS[name](rng, case, x, schedule)
    if view is None:
        return
    pick = judged(rng, case, m)
    refusals, far = refused(case, schedule, c, t, x, u)
    for of in (*(seen.case for seen in view.seen), *(view.parts or ())):
        more, beyond = refused(of, schedule, c, t, x, u)
        far |= beyond
        refusals = {method: refusals[method] or more[method] for method in refusals}
    top = min(top, *(int(heavy(seen.case).sum()) for seen in view.seen))  # of no weight a list may name any row
    if name in ("guided", "tempered"):
        asked = [method for method in asked if method != "log_density"]

    def run(threads, field_report):
        flow = field_report.ask(name, lambda: view.field(engine.backend, threads), may_refuse=far)
        if flow is None:
            return {}
        flow = Merged(flow, top) if name == "parts" else flow
        calls = {method: lambda method=method: getattr(flow, method)(x, t) for method in asked}
        if name != "parts":
            calls["jvp"] = lambda: flow.jvp(x, t, u)
        if name != "guided":
            calls["posterior"] = lambda: flow.posterior(x, t, top)
        out = field_report.ask_all(calls, dict.fromkeys(METHODS, far) | refusals, far, flush=case.flush)
        return out | ({"unsettled": np.broadcast_to(flow.unsettled, m)} if name == "parts" else {})

    out = run(case.threads[0], report)
    for threads in case.threads[1:]:
        report.same_bits(out, run(threads, report), threads)
    inner = Report(f"{report.context}{name}: ")
    center = max(float(np.abs(oracle.radius(case.values, w)[0]).max()) for w in (None, case.weights))
    for seen in view.seen:
        some = smooth(case, c, t, np.intersect1d(seen.some, pick))[: 4 * FEW]
        if "unsettled" in out and len(some):  # by precise parts, too: ties of rows that are farther than parts can tell
            doubted = some[out["unsettled"][some]]
            some = some[~out["unsettled"][some]]
            if len(doubted):
                truth = of_queries(seen.case, c, x, u, doubted)
                if (2.0**-100 * (truth.ref.kappa + truth.size**2 / truth.s2) < 2.0**-40).any():
                    inner.wrong("unsettled: by precise parts")
        if not len(some):
            continue
        warm = SimpleNamespace(**(vars(c) | {"sigma": c.sigma * np.sqrt(view.temperature)}))
        truth = of_queries(seen.case, warm, x, u, some, beside=0.0 if seen.numbers is None else center)
        if view.guided is not None:
            judge_guided(inner, out, truth, of_queries(case, c, x, u, some), view.guided, some)
            continue
        told = {key: value for key, value in out.items() if key.removeprefix("posterior.") in (*TOLD, *METHODS, "jvp")}
        if name == "tempered":  # fields are made of its D by the schedule's own sigma, and log_norm is no density
            told = {key: value for key, value in told.items() if key[10:] not in ("", "log_norm", "log_density")}
        if seen.numbers is not None:
            told |= {key: locate(inner, key, told[key], seen.numbers, some) for key in told if key.endswith("index")}
        inner.judge_fields(told, truth, some)
    report.found += inner.found


def of_queries(case, c, x, u, some, beside=0.0):
    here = SimpleNamespace(**{name: value[some] for name, value in vars(c).items()})
    cut = np.full(len(some), np.inf)
    return judges.Truth(case, x[some].astype(float), here.alpha, here.sigma, u[some], cut, here, beside)


def locate(report, name, index, numbers, some):
    """Numbers of rows by their place among ``numbers``; those of other rows are wrong."""
    place = np.minimum(np.searchsorted(numbers, index), len(numbers) - 1)
    if not (numbers[place] == index)[some].all():
        report.wrong(f"{name}: a row that the query does not see")
    return place


def judge_guided(report, out, inside, whole, scale, some):
    """D + scale (D_class - D), and what is made of it, as accurate as both."""
    p = judges.PROMISES[whole.case.result]
    for name in out.keys() & set(METHODS):
        first, second = getattr(whole.want, name), getattr(inside.want, name)
        want = first + scale * (second - first)
        bound = abs(1 - scale) * judges.FIELDS[name](first, whole)[1]
        bound = bound + abs(scale) * judges.FIELDS[name](second, inside)[1]
        size = [judges.norm(value) if want.ndim == 2 else np.abs(value) for value in (want, first, second)]
        bound = bound + 8 * judges.EPS * abs(scale) * (size[1] + size[2])
        bound = bound + (p.rounding * size[0] if want.ndim == 2 else 0)
        error = judges.distance(out[name][some], want, p.largest)
        if not (error <= bound).all():
            report.wrong(f"{name}: error {(error / bound).max():.3g} times what is allowed, scale {scale}")
