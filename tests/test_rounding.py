"""``Posterior.rounding``: never below the error of a mean as it is handed out, and not much above it."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from engines import ENGINES, Engine
from support.kernel import blank, posterior, prepare
from test_digits import CORNERS, SCALE, forward, images, random_problem, value
from test_tiles import TILED

import interp_fast as itf
from interp_fast import backends

KERNEL = backends.get("cpp")[1]
DIGITS = 60
BITS = 300  # of weights
pytestmark = pytest.mark.filterwarnings("ignore:x cannot hold draws of x_t")  # some problems are all far away


@pytest.fixture(params=TILED)
def isa(request):
    with Engine("cpp", request.param).forced():
        yield request.param


def whole(values):
    """Numbers as whole numbers, and of which power of two they are multiples."""
    fraction, exponent = np.frexp(np.asarray(values, float))
    digits = np.rint(np.ldexp(fraction, 53)).astype(np.int64).astype(object)
    least = int(exponent[fraction != 0].min(initial=53))
    shift = np.where(fraction != 0, exponent - least, 0).astype(object)
    return digits << shift, least - 53


def errors_of(means, values, x, alpha, sigma, weights=None):
    """|mean - exact mean| for some queries: whole numbers throughout, but for exponentials and roots of 60 digits."""
    rows, of_rows = whole(values)
    a, of_alpha = whole([alpha])
    scaled = a[0] * rows
    errors = []
    with mpmath.workdps(DIGITS):
        s2 = mpmath.mpf(float(sigma)) ** 2
        logs = [
            mpmath.log(float(w)) if w else -mpmath.inf for w in (np.ones(len(rows)) if weights is None else weights)
        ]
        for got, query in zip(np.asarray(means, float), x, strict=True):
            q, of_query = whole(query)
            least = min(of_query, of_rows + of_alpha)
            apart = (q << (of_query - least)) - (scaled << (of_rows + of_alpha - least))
            logits = [
                log - mpmath.ldexp(int(c), 2 * least) / (2 * s2) for log, c in zip(logs, (apart**2).sum(1), strict=True)
            ]
            top = max(logits)
            w = np.array([int(mpmath.floor(mpmath.ldexp(mpmath.exp(v - top), BITS))) for v in logits], object)
            exact = [mpmath.ldexp(int(v), of_rows) / int(w.sum()) for v in w @ rows]
            apart2 = mpmath.fsum((mpmath.mpf(float(v)) - e) ** 2 for v, e in zip(got, exact, strict=True))
            errors.append(float(mpmath.sqrt(apart2)))
    return np.array(errors)


def problems_of(make, seeds):
    """What is made of each seed, as rows, queries, alpha = 1 - sigma and weights; unless all rows that weigh
    anything are equal."""
    for seed in seeds:
        rows, x, alpha, *_, weights = make(seed)
        used = rows if weights is None else rows[weights > 0]
        if (used[1:] != used[:1]).any():
            yield f"{make.__name__}({seed})", rows, np.ascontiguousarray(x), alpha, weights


def judged(mean, bound, values, x, alpha, sigma, weights=None, most=2):
    """Errors of some of the means that there is a bound for, and the bounds."""
    known = np.flatnonzero(np.isfinite(bound))
    some = known[np.linspace(0, len(known) - 1, min(most, len(known))).astype(int)]
    return errors_of(mean[some], values, x[some], alpha, sigma, weights), bound[some]


def of_field(rows, x, alpha, weights=None, most=2):
    """Of means as they are handed out, over R."""
    field = itf.Field(rows, itf.Linear(), weights=weights, backend="cpp", threads=1)
    post = field.posterior(x, alpha)
    bounds = post.rounding + post.certificate
    errors, bounds = judged(post.mean, bounds, value(rows), x, alpha, 1 - alpha, weights, most)
    return errors / field.R, bounds


def of_kernel(rows, x, alpha, weights=None, most=2, names=("mean",)):
    """Of means in float64, dense: nothing but the bound of the kernel itself."""
    out = blank(len(x), x.shape[1], names=names) | {"rounding": np.full(len(x), np.inf)}
    post = posterior(KERNEL, prepare(KERNEL, rows, weights, scale=SCALE), x, alpha, 1 - alpha, out=out)
    return judged(post.mean, post.rounding, value(rows), x, alpha, 1 - alpha, weights, most)


def few_rows(seed):
    """Rows that differ in one or two places, and queries that are away from them there: errors do not average out. Far
    away in a place where rows are alike a query has few digits left for the other."""
    rng = np.random.default_rng([31, seed])
    n, d = int(rng.integers(2, 5)), 48
    here, there = rng.choice(d, 2, replace=False)
    rows = np.repeat(rng.integers(0, 256, (1, d)), n, axis=0)
    rows[:, here] = rng.integers(0, 256, n)
    if rng.random() < 0.5:
        rows[:, there] = rng.integers(0, 256, n)
    alpha = 2.0 ** -int(rng.integers(1, 5))
    x = np.repeat(alpha * value(np.rint(rows.mean(0)))[None], 24, axis=0)
    x[:, here] += 0.3 * rng.standard_normal(24)
    x[:, there] += 10 ** rng.uniform(-1, 3) * rng.standard_normal(24)
    weights = np.exp(-rng.uniform(0, 18) * np.arange(n) / n) if rng.random() < 0.7 else None
    return rows.astype(np.uint8), x, alpha, weights


def check_random_problems(seeds):
    """Bounds hold, of means as the kernel has them and as they are handed out; some are nearly reached."""
    tightest, problems, bounded = 0.0, 0, 0
    for make in (random_problem, few_rows):
        for number, (name, *problem) in enumerate(problems_of(make, seeds)):
            names = ("mean", "gap", "log_rest", "variance") if number % 2 else ("mean",)
            for errors, bounds in (of_field(*problem, most=1), of_kernel(*problem, most=1, names=names)):
                assert (errors <= bounds).all(), f"{name}: {errors}, {bounds}"
            problems, bounded = problems + 1, bounded + (len(bounds) > 0)
            tightest = max(tightest, (errors / bounds).max(initial=0.0))
    assert bounded > problems / 2, (bounded, problems)
    assert tightest > 0.2, tightest


@pytest.mark.parametrize("seeds", [range(30), pytest.param(range(30, 100), marks=pytest.mark.wide)], ids=str)
def test_random_problems(isa, seeds):
    check_random_problems(seeds)


@pytest.mark.long
def test_many_random_problems(isa):
    check_random_problems(range(100, 1200))


@pytest.mark.parametrize("name", CORNERS)
def test_corners(isa, name):
    """From noise that hides everything to noise that hides nothing; also points between rows, and far from all."""
    rows, weights = CORNERS[name]
    values, rng = value(rows), np.random.default_rng(6)
    equal = (rows[1:] == rows[:1]).all()
    for ratio in (20.0, 2.0, 0.1, 1e-4):
        x, alpha, _ = forward(values, ratio, 18, weights)
        x[:3] = alpha * (values[:1] + values[-1:]) / 2
        x[3] = alpha * values.mean(0)
        x[4:6] = 1e6 * rng.standard_normal((2, x.shape[1]))
        if equal:
            post = itf.Field(rows, itf.Linear(), weights=weights, backend="cpp", threads=1).posterior(x, alpha)
            assert (post.rounding == 0).all()
            continue
        errors, bounds = of_field(rows, x, alpha, weights, most=3)
        assert (errors <= bounds).all(), (ratio, errors, bounds)
        assert (bounds > 0).all()
        assert len(bounds) > 0 or ratio < 20 or weights is not None  # one row may weigh all


def median_ratio(n, d):
    """Of bounds and errors, over queries and times."""
    rows, ratios = images(n, d), []
    for ratio in (15.0, 5.0, 2.0):
        x, alpha, _ = forward(value(rows), ratio, 20)
        errors, bounds = of_field(rows, x, alpha, most=3)
        ratios += list(bounds / errors)
    assert len(ratios) == 9
    return np.median(ratios)


@pytest.mark.parametrize(("n", "d"), [(300, 784), (900, 64)])
def test_not_much_above_the_error(isa, n, d):
    """Cauchy-Schwarz costs about the square root of the number of rows, or of dimensions."""
    assert median_ratio(n, d) < 100


@pytest.mark.long
def test_not_much_above_the_error_of_many_rows(isa):
    assert median_ratio(50_000, 64) < 1000


def test_threads(isa):
    rows = images(1100, 65)
    x, alpha, _ = forward(value(rows), 5.0, 40)
    one, two = (itf.Field(rows, backend="cpp", threads=n).posterior(x, alpha).rounding for n in (1, 2))
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)


def test_views(isa):
    """Of a class in units of its own R, like the certificate; nothing is known of weights to a power or left out."""
    rows, labels = images(400, 64), np.arange(400) % 2
    x, alpha, _ = forward(value(rows), 10.0, 40)
    field = itf.Field(rows, itf.Linear(), labels=labels, backend="cpp", threads=1)
    got = field.given(np.arange(40) % 2).posterior(x, alpha).rounding
    for code in (0, 1):
        alone = itf.Field(rows[labels == code], itf.Linear(), backend="cpp", threads=1)
        np.testing.assert_array_equal(got[code::2], alone.posterior(x[code::2], alpha).rounding)
    assert np.isfinite(got).all()
    assert np.isinf(field.without(np.arange(40)).posterior(x, alpha).rounding).all()
    assert np.isinf(field.tempered(2.0).posterior(x, alpha).rounding).all()


@pytest.mark.parametrize("engine", ENGINES, ids=str)
def test_other_arithmetic(engine):
    """Without tiles, or of rows that are no bytes, nor near a grid of them, nothing is known."""
    rows = images(200, 64)
    x, alpha, _ = forward(value(rows), 10.0, 20)
    bytes_of_kinds = [] if engine.isa == "amx" else [rows, value(rows).astype("f4")]
    for data in (value(rows), np.sqrt(2 + value(rows)).astype("f4"), *bytes_of_kinds):
        with engine.forced():
            assert np.isinf(itf.Field(data, backend=engine.backend).posterior(x, alpha).rounding).all()
