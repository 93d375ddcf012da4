"""Dense passes over rows of bytes by exact products of digits: what is promised of every output, in every corner.

They are taken where there are tiles; their twin in plain C++ gives the same bits anywhere.
"""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from engines import Engine
from support.kernel import blank, posterior, prepare
from support.measure import Errors, difference, measure, norm
from test_tiles import TILED, _core

import interp_fast as itf
from interp_fast import backends
from interp_fast._accuracy import PROMISES

SCALE = (2 / 255, -1.0)
NAMES = ("mean", "log_norm", "gap", "log_rest", "ess", "entropy", "variance", "scatter", "jvp", "index")
# The same tables without tiles. Where amx is tried on a processor without AVX-512, all else is v3 there.
PLAIN = {"amx": "v4" if "v4" in _core.supported() else "v3", "twin": "v3"}
FLOAT32 = PROMISES["float32"]


@pytest.fixture(params=TILED)
def isa(request):
    with Engine("cpp", request.param).forced():
        yield request.param


def images(n, d, seed=0):
    """Bytes with a smooth spread, as images have: a few directions that matter and some noise."""
    rng = np.random.default_rng(seed)
    loads = rng.standard_normal((6, d)) * 40
    rows = 128 + rng.standard_normal((n, 6)) @ loads / 2 + 8 * rng.standard_normal((n, d))
    return np.clip(np.rint(rows), 0, 255).astype(np.uint8)


def forward(values, ratio, m, weights=None, seed=1):
    """Queries from rows of non-zero weight, alpha, and sigma."""
    rng = np.random.default_rng(seed)
    alpha = 1 / (1 + ratio)
    used = np.flatnonzero(np.ones(len(values)) if weights is None else weights)
    x = alpha * values[rng.choice(used, m)] + (1 - alpha) * rng.standard_normal((m, values.shape[1]))
    return x, alpha, 1 - alpha


def value(rows, scale=SCALE):
    return scale[0] * rows.astype(float) + scale[1]


def answer(rows, x, alpha, sigma, weights=None, *, scale=SCALE, threads=2, names=NAMES, cut=np.inf):
    kernel = backends.get("cpp")[1]
    rows, x = np.ascontiguousarray(rows), np.ascontiguousarray(x)
    m, d = x.shape
    u = np.random.default_rng(7).standard_normal((m, d)) if "jvp" in names else None
    data = prepare(kernel, rows, weights, scale=scale, threads=threads)
    out = blank(m, d, top=min(3, len(rows)) if "index" in names else 0, names=names)
    return posterior(kernel, data, x, alpha, sigma, u=u, cut=cut, out=out, threads=threads), u


def by_digits(isa, *arguments, **options):
    """Which queries are answered by digits: those whose bits differ without tiles."""
    with Engine("cpp", isa).forced():
        tiled = answer(*arguments, **options)[0].mean
    with Engine("cpp", PLAIN[isa]).forced():
        return (tiled != answer(*arguments, **options)[0].mean).any(axis=1)


def check(errors, rows, x, alpha, sigma, weights=None, *, scale=SCALE, some=slice(None)):
    """Every output of some queries, computed among all of them, against the oracle."""
    out, u = answer(rows, x, alpha, sigma, weights, scale=scale)
    values = value(rows, scale)
    x, u = x[some], u[some]
    ref = oracle.posterior(values, x, alpha, sigma, weights, u=u)
    _, radius = oracle.radius(values, weights)
    apart = norm(out.mean[some] - ref.mean)
    noise = norm(x - alpha * ref.mean) / sigma
    errors.check("mean", apart, FLOAT32.denoiser * np.maximum(norm(ref.mean), radius))
    errors.check("noise", alpha / sigma * apart, FLOAT32.noise * np.maximum(noise, 1) + 2e-16 * norm(x) / sigma)
    errors.check("log_norm", difference(out.log_norm[some], ref.log_norm), FLOAT32.of_density(ref.log_norm))
    for name in ("gap", "log_rest"):
        want = getattr(ref, name)
        size = np.where(np.isinf(want), 0.0, np.abs(want))
        errors.check(name, difference(getattr(out, name)[some], want), FLOAT32.off_weights * np.maximum(1, size / 1e3))
    for name in ("ess", "entropy", "variance"):
        want = getattr(ref, name)
        errors.check(name, difference(getattr(out, name)[some], want), FLOAT32.off_weights * want + 1e-300)
    allowed = FLOAT32.off_weights * ref.variance * norm(u) + 1e-300
    errors.check("jvp", norm(out.jvp[some] - ref.product), allowed)
    known = np.maximum(FLOAT32.off_weights * ref.variance, 2.0**-16 * radius**2) + 1e-300
    errors.check("scatter", difference(out.scatter[some], ref.variance), known)
    w = np.exp(ref.log_weight)
    taken = np.take_along_axis(w, out.index[some][:, None], 1)[:, 0]
    errors.check("index", w.max(1) - taken, 4 * FLOAT32.weight)
    best = -np.sort(-w, axis=1)[:, : out.top_weight.shape[1]]
    errors.check("top_weight", np.abs(out.top_weight[some] - best).max(1), FLOAT32.weight)
    return out, ref


@pytest.mark.parametrize("ratio", [20.0, 5.0, 2.0])
@pytest.mark.parametrize(("n", "d"), [(1700, 100), (37, 64), (600, 50)])
def test_outputs(isa, n, d, ratio):
    rows = images(n, d)
    x, alpha, sigma = forward(value(rows), ratio, 40)
    errors = Errors(f"{n} x {d}, {ratio}")
    out, ref = check(errors, rows, x, alpha, sigma, some=slice(12))
    radius = oracle.radius(value(rows))[1]
    errors.check("mean, closer", norm(out.mean[:12] - ref.mean), 7e-7 * np.maximum(norm(ref.mean), radius))
    for name in ("ess", "entropy", "variance"):
        errors.check(name, difference(getattr(out, name)[:12], getattr(ref, name)), 1e-4 * getattr(ref, name))
    taken = by_digits(isa, rows, x, alpha, sigma, names=("mean",))
    if taken.any():  # scores are not rounded
        errors.check("log_norm, closer", difference(out.log_norm[:12], ref.log_norm)[taken[:12]], 1e-6)
    errors.close()
    assert taken.all() or ratio < 5


def test_they_are_taken(isa):
    """For many queries, where many rows count, of rows of bytes that are long enough."""
    rows = images(900, 64)
    x, alpha, sigma = forward(value(rows), 10.0, 40)
    assert by_digits(isa, rows, x, alpha, sigma, names=("mean",)).all()
    assert by_digits(isa, rows, x, alpha, sigma).all()
    assert not by_digits(isa, rows, x[:16], alpha, sigma, names=("mean",)).any()
    assert not by_digits(isa, rows[:, :40], x[:, :40], alpha, sigma, names=("mean",)).any()


def corner_rows():
    rng = np.random.default_rng(5)
    few = images(150, 70)
    bits = np.where(rng.random((90, 64)) < 0.5, 0, 255).astype(np.uint8)
    pairs = np.repeat(images(60, 65, 2), 2, axis=0)
    pairs[1::2, 3] ^= 1
    grey = np.repeat(rng.integers(0, 256, (120, 1)), 65, axis=1).astype(np.uint8)
    one_white = np.zeros((140, 66), np.uint8)
    one_white[3] = 255
    decades = 10.0 ** np.linspace(-300, 0, 150)
    outlier = few.copy()
    outlier[1:] = np.clip(outlier[:1].astype(int) + rng.integers(0, 2, few[1:].shape), 0, 255)
    outlier[75:] = rng.integers(0, 256, outlier[75:].shape)
    return {
        "few": (few, None),
        "one": (few[:1], None),
        "two": (few[:2], None),
        "a block less one": (images(511, 64, 3), None),
        "a block and one": (images(513, 64, 4), None),
        "weight 0": (few, np.where(np.arange(150) % 7 == 2, 0.0, 1.0)),
        "a block of weight 0": (images(600, 64, 6), np.where(np.arange(600) < 520, 0.0, 1.0)),
        "decades": (few, rng.permutation(decades)),
        "decades in order": (few, decades),
        "equal": (np.repeat(few[:1], 70, axis=0), None),
        "two of many": (few[np.arange(150) % 2], None),
        "black": (np.zeros((80, 64), np.uint8), None),
        "one white": (one_white, None),
        "one not quite black": (np.minimum(one_white, 1), None),
        "one black": (255 - one_white, None),
        "bits": (bits, None),
        "pairs": (pairs, None),
        "grey": (grey, None),
        "light ones far away": (outlier, np.where(np.arange(150) < 75, 1.0, 1e-7)),
    }


CORNERS = corner_rows()


@pytest.mark.parametrize("name", CORNERS)
def test_corners(isa, name):
    """From noise that hides everything to noise that hides nothing; also points between rows, and far from all."""
    rows, weights = CORNERS[name]
    values = value(rows)
    rng = np.random.default_rng(6)
    radius = max(oracle.radius(values, weights)[1], 1e-3)
    for ratio in (20.0, 2.0, 0.1, 1e-4):
        x, alpha, sigma = forward(values, ratio, 18, weights)
        i, j = rng.integers(0, len(rows), (2, 3))
        x[:3] = alpha * (values[i] + values[j]) / 2
        i = np.arange(3) % len(rows)
        x[3:6] = alpha * (values[i] + values[np.minimum(i + 1, len(rows) - 1)]) / 2
        x[6] = alpha * values.mean(0)
        x[7] = 0.25
        far = rng.standard_normal((2, x.shape[1]))
        x[8:10] = 1e6 * radius * far / norm(far)[:, None]
        errors = Errors(f"{name}, {ratio}")
        check(errors, rows, x, alpha, sigma, weights, some=slice(11))
        errors.close()


@pytest.mark.parametrize("scale", [(-0.5, 3.0), (1e-30, 0.0), (1e20, 7e21), (1.0, 1e4)])
def test_scales(isa, scale):
    """Bytes that stand for numbers of any size."""
    rows = images(200, 65)
    values = value(rows, scale)
    size = oracle.radius(values)[1]
    errors = Errors(f"{scale}")
    for ratio in (3.0, 0.3):
        x = values[:20] + ratio * size * np.random.default_rng(1).standard_normal((20, 65))
        check(errors, rows, x, 1.0, ratio * size, scale=scale, some=slice(6))
    errors.close()


def test_queries_at_the_centre(isa):
    """Nothing is known of a query there but its place: not even a unit for its digits."""
    rows = images(300, 64)
    alpha = 0.25  # a power of two: alpha times a value is exact
    center = value(np.rint(rows.astype(float).mean(0)))
    x = np.repeat(alpha * center[None], 20, axis=0)
    x[1:4, 5] += [1e-300, 1e-17, 5e-324]
    x[4:8] *= 1 + 1e-16
    errors = Errors("at the centre")
    check(errors, rows, x, alpha, 5.0, some=slice(9))
    errors.close()


def test_light_rows_are_not_lost(isa):
    """Rows just too light for a unit of their block, of the same weight at every place or in a pattern, weigh together
    what they weigh."""
    n, d = 2048, 64
    errors = Errors("light rows")
    for step in (2, 233):
        heavy = np.arange(n) % step == 0
        rows = np.where(heavy[:, None], 100, 140).astype(np.uint8).repeat(d, axis=1)
        rows[:, 0] = 120  # neither far from nor at the centre
        values = value(rows)
        x = np.repeat(0.5 * values[:1], 20, axis=0)
        x[:, 1:] += 0.5 * np.linspace(-0.2, 0.2, 20)[:, None]
        for nats in (8.0, 15.0, 17.0):
            sigma = 0.5 * np.sqrt((40 * SCALE[0]) ** 2 * 63 / (2 * nats))
            check(errors, rows, x, 0.5, sigma, some=slice(0, 20, 10))
    errors.close()


def test_threads(isa):
    """The same bits with any number of threads; rows of weight 0 among weights over 300 decades."""
    weights = np.where(np.arange(1100) % 7 == 2, 0.0, 10.0 ** np.linspace(-300, 0, 1100))
    rows = images(1100, 65)
    for chosen in (None, weights):
        x, alpha, sigma = forward(value(rows), 5.0, 75, chosen)
        one, *others = (answer(rows, x, alpha, sigma, chosen, threads=threads)[0] for threads in (1, 2, 3))
        for name in NAMES:
            for other in others:
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.skipif(len(TILED) < 2, reason="there are no tiles")
def test_engines():
    """The tiles of a processor and their twin give the same bits."""
    for n, d, m in ((700, 65, 33), (5000, 100, 40), (40, 130, 70)):
        rows = images(n, d)
        x, alpha, sigma = forward(value(rows), 8.0, m)
        found = []
        for isa in TILED:
            with Engine("cpp", isa).forced():
                found.append(answer(rows, x, alpha, sigma)[0])
        for name in ("mean", "log_norm", "ess", "entropy", "variance", "jvp"):
            np.testing.assert_array_equal(getattr(found[0], name), getattr(found[1], name), err_msg=name)


@pytest.mark.parametrize("t", [0.0, 1.0])
def test_ends(isa, t):
    rows = images(200, 64)
    values = value(rows)
    field = itf.Field(rows, itf.Linear(), backend="cpp")
    x = np.concatenate([values[:20], (values[:10] + values[10:20]) / 2])
    got = field.denoiser(x, t)
    nearest = ((x[:, None] - values) ** 2).sum(2)
    want = values.mean(0) if t == 0 else np.array([values[c == c.min()].mean(0) for c in nearest])
    np.testing.assert_allclose(got, np.broadcast_to(want, x.shape), atol=3e-7 * np.abs(values).max())


@pytest.mark.parametrize("ratio", [20.0, 2.0, 0.05])
def test_fields(isa, ratio):
    """All that a field says, also of smoothed data."""
    rows = images(400, 64)
    for bandwidth in (0.0, 0.3):
        flow = itf.Field(rows, itf.Linear(), backend="cpp", bandwidth=bandwidth, threads=2)
        x, alpha, _ = forward(value(rows), ratio, 18)
        errors = Errors(f"{ratio}, bandwidth {bandwidth}")
        measure(errors, value(rows), None, flow, x, alpha, result="float32", bandwidth=bandwidth)
        errors.close()


def test_without_a_row(isa):
    """Each query does without a row of its own."""
    rows = images(200, 64)
    left_out = np.arange(20) * 7
    flow = itf.Field(rows, itf.Linear(), backend="cpp", threads=2).without(left_out)
    for ratio in (8.0, 0.5):
        x, alpha, sigma = forward(value(rows), ratio, 20)
        got = flow.denoiser(x, alpha)
        for m in range(0, 20, 4):
            weights = np.ones(200)
            weights[left_out[m]] = 0
            want = oracle.posterior(value(rows), x[m : m + 1], alpha, sigma, weights).mean[0]
            assert norm(got[m] - want) <= 5e-6 * max(norm(want), flow.R)


def random_problem(seed):
    """Rows, queries, alpha, sigma and weights: of any kind, and sizes that are no multiples of anything."""
    rng = np.random.default_rng([97, seed])
    n, d, m = int(rng.choice([1, 3, 40, 63, 65, 190, 530])), int(rng.integers(48, 150)), int(rng.integers(17, 40))
    kind = rng.integers(0, 6)
    if kind == 0:
        rows = images(n, d, seed)
    elif kind == 1:
        rows = rng.integers(0, 256, (n, d))
    elif kind == 2:  # few distinct numbers
        rows = rng.choice([0, 255, rng.integers(0, 256)], (n, d))
    elif kind == 3:  # clumps
        rows = images(5, d, seed)[rng.integers(0, 5, n)].astype(int) + rng.integers(-2, 3, (n, d))
    elif kind == 4:  # grey
        rows = np.repeat(rng.integers(0, 256, (n, 1)), d, axis=1)
    else:  # one far from all others
        rows = np.full((n, d), 255) - rng.integers(0, 3, (n, d))
        rows[n // 2] = rng.integers(0, 256, d)
    rows = np.clip(rows, 0, 255).astype(np.uint8)
    weights = None
    if rng.random() < 0.4:
        weights = 10.0 ** -(rng.choice([1, 7, 300]) * rng.random(n))
        weights[rng.random(n) < rng.choice([0, 0.3])] = 0
        weights[rng.integers(0, n)] = 1
    ratio = 10 ** rng.uniform(-4, 1.3) if rng.random() < 0.3 else 10 ** rng.uniform(-0.7, 1.3)
    x, alpha, sigma = forward(value(rows), ratio, m, weights, seed)
    if rng.random() < 0.2:
        x[::3] = alpha * (value(rows)[rng.integers(0, n, len(x[::3]))] + value(rows)[rng.integers(0, n)]) / 2
    if rng.random() < 0.1:
        x[::4] *= 1e6
    return rows, x, alpha, sigma, weights


def check_random_problems(isa, seeds):
    errors, taken = Errors(f"random problems on {isa}"), 0
    for seed in seeds:
        rows, x, alpha, sigma, weights = random_problem(seed)
        errors.context = f"problem {seed}: {rows.shape}, {len(x)} queries, sigma/alpha {sigma / alpha:.3g}"
        out, _ = check(errors, rows, x, alpha, sigma, weights, some=slice(0, None, 23))
        errors.close()
        with Engine("cpp", PLAIN[isa]).forced():
            taken += (answer(rows, x, alpha, sigma, weights)[0].mean != out.mean).any()
    assert taken > len(seeds) / 4, taken


@pytest.mark.parametrize("seeds", [range(50), pytest.param(range(50, 200), marks=pytest.mark.wide)], ids=str)
def test_random_problems(isa, seeds):
    check_random_problems(isa, seeds)


@pytest.mark.long
def test_many_random_problems(isa):
    check_random_problems(isa, range(200, 2200))
