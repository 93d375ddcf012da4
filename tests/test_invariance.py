"""What must not change an answer: threads (not one bit), batch splits, layouts, row order, engine (to tolerance)."""

from __future__ import annotations

import functools

import fuzz_cases
import numpy as np
import oracle
import problems
import pytest
from engines import ENGINES
from scipy import stats

import interp_fast as itf
from interp_fast import _random, backends
from interp_fast.field import oracle_of

LINEAR = itf.Linear()
TIGHT = {"float32": 2e-5, "float64": 1e-10}
STATISTICS = ("log_norm", "log_density", "ess", "entropy", "variance", "gap", "log_rest")
# sizes that need several groups, a ragged last tile, more than one slab of rows; more chunks than one of dimensions
SHAPES = {
    "few queries": (5000, 24, 3),
    "many queries": (700, 24, 333),
    "many and wide": (150, 130, 290),
    "wide": (120, 900, 40),
    "flat": (3001, 2, 100),
}
RATIOS = (3.0, 0.3, 1e-3)


def case(shape, dtype, seed=0):
    n, d, m = SHAPES[shape]
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((n, d)) * np.linspace(1, 0.1, d)).astype(dtype)
    return rows, rng.integers(0, n, m), rng.standard_normal((m, d))


def few_of(engine, index, z):
    """All queries; of the reference, which answers one after another, the first few."""
    return (index[:7], z[:7]) if engine.backend == "reference" else (index, z)


def everything(flow, x, t, u=None):
    """All outputs of a field at (x, t), by name."""
    out = {
        name: getattr(flow, name)(x, t)
        for name in ("denoiser", "velocity", "score", "noise", "log_density", "divergence")
    }
    out["jvp"] = flow.jvp(x, t, x if u is None else u)
    post = flow.posterior(x, t, top=3)
    names = (*STATISTICS, "mean", "index", "top_index", "top_weight", "work", "dropped", "certificate")
    return out | {f"posterior.{name}": getattr(post, name) for name in names}


@pytest.mark.parametrize("shape", SHAPES)
def test_threads_change_no_bit_of_a_field(engine, dtype, shape):
    rows, index, z = case(shape, dtype)
    if engine.backend == "reference":  # has no threads: a few queries show that it accepts the argument
        index, z = index[:3], z[:3]
    fields = [itf.Field(rows, backend=engine.backend, threads=threads) for threads in (1, 2, 3, 16)]
    for ratio in RATIOS:
        t = 1 / (1 + ratio)
        x = t * rows[index] + (1 - t) * z
        one, *others = [everything(flow, x, t, z) for flow in fields]
        for other in others:
            for name, value in one.items():
                np.testing.assert_array_equal(other[name], value, err_msg=f"{name} {ratio} {engine}")


@pytest.mark.parametrize("weighted", [False, True])
def test_threads_change_no_bit_of_the_moments(weighted):
    """Several blocks of rows, the last one short; the first bad row is named, whichever thread meets one first."""
    rng = np.random.default_rng(0)
    rows, weights = rng.standard_normal((5500, 1024)).astype(np.float32), rng.random(5500) if weighted else None
    one, *others = [itf.Field(rows, weights=weights, threads=threads) for threads in (1, 2, 7)]
    want, _ = oracle.radius(rows[:, :3], weights)
    np.testing.assert_allclose(oracle_of(one).training_set.moments.mean[:3], want, atol=1e-13)
    for other in others:
        mine, theirs = (oracle_of(field).training_set.moments for field in (one, other))
        assert (mine.radius, mine.reach) == (theirs.radius, theirs.reach)
        np.testing.assert_array_equal(mine.center, theirs.center)
        np.testing.assert_array_equal(mine.mean, theirs.mean)
    rows[5400, 3], rows[2100, 7] = np.nan, np.inf
    with pytest.raises(ValueError, match="got inf in row 2100, column 7"):
        itf.Field(rows, threads=3)


@pytest.mark.parametrize("solver", ["heun", "ddpm"])
def test_threads_change_no_bit_of_a_sample(engine, dtype, solver):
    rows, _, _ = case("many queries", dtype)
    table = {"heun": itf.heun, "ddpm": itf.ddpm}[solver](LINEAR, 10)
    n = 3 if engine.backend == "reference" else 150
    one, two, three = (
        itf.sample(itf.Field(rows, backend=engine.backend, threads=threads), table, n, rng=1, keep="path")
        for threads in (1, 2, 3)
    )
    for other in (two, three):
        for name in ("x", "path", "index", "commit_time", "certificate"):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name), err_msg=f"{name} {engine}")


def test_a_call_repeated(engine, dtype):
    """Work is handed out dynamically, results are not: the same call gives the same bits, whatever ran before it."""
    rows, index, z = case("many queries", dtype)
    index, z = few_of(engine, index, z)
    flow = itf.Field(rows, backend=engine.backend, threads=2)
    x = 0.5 * rows[index] + 0.5 * z
    first = flow.velocity(x, 0.5)
    flow.velocity(x[:7], 0.9)
    flow.posterior(x, 0.99)
    for _ in range(3):
        np.testing.assert_array_equal(flow.velocity(x, 0.5), first)


@pytest.mark.parametrize("shape", SHAPES)
def test_batch_split(engine, dtype, shape):
    """A query's answer does not depend on its company."""
    rows, index, z = case(shape, dtype)
    index, z = few_of(engine, index, z)
    flow = itf.Field(rows, backend=engine.backend)
    m = len(z)
    for ratio in RATIOS:
        t = 1 / (1 + ratio)
        x = t * rows[index] + (1 - t) * z
        whole = flow.noise(x, t)
        cuts = [0, 1, m // 3, m - 1, m]
        parts = [flow.noise(x[a:b], t) for a, b in zip(cuts, cuts[1:], strict=False)]
        scale = np.maximum(np.linalg.norm(whole, axis=1, keepdims=True), 1)
        worst = np.abs((np.concatenate(parts) - whole) / scale).max()
        assert worst <= 10 * TIGHT[dtype], (ratio, worst)
        order = np.random.default_rng(1).permutation(m)
        assert np.abs((flow.noise(x[order], t) - whole[order]) / scale[order]).max() <= 10 * TIGHT[dtype]


def assert_same_answers(got, want, dtype, context, rows_map=None):
    """Two posteriors agree to rounding; row numbers where no two weights are nearly equal."""
    rel = 100 * TIGHT[dtype]
    for name in STATISTICS:
        a, b = getattr(got, name), getattr(want, name)
        np.testing.assert_allclose(a, b, rtol=rel, atol=rel, err_msg=f"{name} {context}")
    scale = np.abs(want.mean).max() + 1
    np.testing.assert_allclose(got.mean, want.mean, rtol=0, atol=TIGHT[dtype] * scale, err_msg=str(context))
    clear = want.gap > 1e-3
    index = got.index if rows_map is None else rows_map[got.index]
    np.testing.assert_array_equal(index[clear], want.index[clear], err_msg=str(context))


@pytest.mark.parametrize("shape", SHAPES)
def test_row_order(engine, dtype, shape):
    rows, index, z = case(shape, dtype)
    index, z = few_of(engine, index, z)
    weights = np.random.default_rng(2).uniform(0.1, 1, len(rows))
    order = np.random.default_rng(3).permutation(len(rows))
    flow = itf.Field(rows, weights=weights, backend=engine.backend)
    other = itf.Field(rows[order], weights=weights[order], backend=engine.backend)
    for ratio in RATIOS:
        t = 1 / (1 + ratio)
        x = t * rows[index] + (1 - t) * z
        assert_same_answers(other.posterior(x, t), flow.posterior(x, t), dtype, (shape, ratio), order)


class Source:
    """A data set larger than memory: it has a shape, a type and row slices, and nothing else."""

    def __init__(self, rows):
        self.shape, self.dtype, self._rows = rows.shape, rows.dtype, rows

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        return self._rows[rows].copy()


@pytest.mark.parametrize("stored", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("kind", ["low_memory", "memmap", "source"])
def test_storage_of_rows(engine, kind, stored, tmp_path):
    """No packed copy, or rows on disk: the same answers to rounding, and the same rows in samples."""
    rows, index, z = case("few queries", "float64")
    rows = np.round(rows * 32 + 128).clip(0, 255).astype(np.uint8) if stored == "uint8" else rows.astype(stored)
    plain = itf.Field(rows, backend=engine.backend)
    if kind == "memmap":
        np.save(tmp_path / "rows.npy", rows)
        other = itf.Field(np.load(tmp_path / "rows.npy", mmap_mode="r"), backend=engine.backend)
    elif kind == "source":
        other = itf.Field(Source(rows), backend=engine.backend)
    else:
        other = itf.Field(rows, backend=engine.backend, low_memory=True)
    values = rows.astype(float) * (2 / 255) - 1 if stored == "uint8" else rows
    result = "float64" if stored == "float64" else "float32"
    for ratio in RATIOS:
        t = 1 / (1 + ratio)
        x = t * values[index] + (1 - t) * z
        assert_same_answers(other.posterior(x, t), plain.posterior(x, t), result, (kind, stored, ratio))
    table = itf.ddim(LINEAR, 8)
    n = 3 if engine.backend == "reference" else 20
    a, b = (itf.sample(flow, table, n, rng=4) for flow in (plain, other))
    np.testing.assert_allclose(a.x, b.x, rtol=0, atol=1e-3 if result == "float32" else 1e-8)


@functools.cache
def of_a_backend(shape, dtype, backend, isa):
    """A few posteriors, and whole runs of an ODE and an SDE."""
    rows, index, z = case(shape, dtype)
    rows, index, z = rows[:1500], index[:40] % min(1500, len(rows)), z[:40]
    flow, times = itf.Field(rows, backend=backend), [1 / (1 + ratio) for ratio in RATIOS]
    posteriors = [flow.posterior(t * rows[index] + (1 - t) * z, t) for t in times]
    return posteriors, [itf.sample(flow, table, 12, rng=5) for table in (itf.heun(LINEAR, 6), itf.ddpm(LINEAR, 6))]


@pytest.mark.parametrize("engine", [one for one in ENGINES if one.backend != "reference"], ids=str, indirect=True)
@pytest.mark.parametrize("shape", SHAPES)
def test_engines_agree(engine, dtype, shape):
    """Every other engine against the reference."""
    posteriors, runs = of_a_backend(shape, dtype, engine.backend, engine.isa)
    wanted, wanted_runs = of_a_backend(shape, dtype, "reference", None)
    for ratio, got, want in zip(RATIOS, posteriors, wanted, strict=True):
        assert_same_answers(got, want, dtype, (shape, ratio, str(engine)))
    for a, b in zip(runs, wanted_runs, strict=True):
        np.testing.assert_allclose(a.x, b.x, rtol=0, atol=1e-3 if dtype == "float32" else 1e-8)
        np.testing.assert_array_equal(a.index, b.index)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_noise_is_the_same_bits_everywhere(engine, threads):
    """For every engine, thread count and split over samples: the float64 values of the definition."""
    kernel = backends.get(engine.backend)[1]
    key, first, row, n, d = 2**63 + 12345, 2**32 - 50, 17, 301, 41
    want = _random.normals(key, first, row, n=n, d=d)
    out = np.full((n, d), np.nan)
    kernel.normals(key, first, row, out, threads=threads)
    np.testing.assert_array_equal(out, want)
    for a, b in ((0, 1), (1, 50), (50, 301)):
        part = np.full((b - a, d), np.nan)
        kernel.normals(key, first + a, row, part, threads=threads)
        np.testing.assert_array_equal(part, want[a:b])


def test_noise_against_its_law():
    """A million normals by Kolmogorov-Smirnov, their first moments, and no two addresses alike."""
    z = _random.normals(2024, 0, 0, n=10_000, d=100)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        spread = np.sqrt(stats.norm.moment(2 * power) - moment**2) / 1000
        assert abs((z**power).mean() - moment) < 4 * spread
    rows = np.stack(
        [
            _random.normals(key, first, row, n=50, d=8)
            for key, first, row in ((1, 0, 0), (2, 0, 0), (1, 50, 0), (1, 0, 1))
        ]
    )
    assert len(np.unique(rows)) == rows.size
    np.testing.assert_allclose(rows[0, 3, 5], oracle.normal(1, 3, 0, 5), rtol=0, atol=5e-15)


@pytest.mark.parametrize("name", ["shifted", "near_duplicates"])
def test_translation(engine, dtype, name):
    """A distance from the origin is no distance between rows: adding 100 to everything changes rounding only."""
    rows = problems.problem("near_duplicates").rows
    shift = 100.0 if name == "shifted" else 0.0
    flow = itf.Field((rows + shift).astype(dtype), backend=engine.backend)
    for ratio in (1.0, 1e-3):
        t = float(np.float32(1 / (1 + ratio)))
        z = np.random.default_rng(6).standard_normal((8, 24))
        x = t * (rows[:8] + shift) + (1 - t) * z
        ref = oracle.posterior(rows + shift, x, t, 1 - t)
        np.testing.assert_allclose(flow.posterior(x, t).ess, ref.ess, rtol=1e-3 if dtype == "float32" else 1e-9)


@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
@pytest.mark.parametrize("schedule", fuzz_cases.SCHEDULES, ids=lambda schedule: repr(schedule)[:24])
def test_one_time_is_that_of_each_query(backend, schedule, bandwidth):
    """A time alone goes other ways than one for each: the same answers and refusals, at the ends as well."""
    rng = np.random.default_rng(0)
    rows, labels = rng.standard_normal((30, 3)), np.arange(30) % 2
    field = itf.Field(rows, schedule, bandwidth=bandwidth, labels=labels, backend=backend)
    x, u, codes = rng.standard_normal((2, 3)), rng.standard_normal((2, 3)), [0, 1]
    calls = {name: getattr(field, name) for name in ("denoiser", "velocity", "score", "noise", "divergence")}
    calls |= {f"{name} of classes": getattr(field.given(codes), name) for name in ("denoiser", "log_density")}
    calls |= {"jvp": lambda x, t: field.jvp(x, t, u), "ess": lambda x, t: field.posterior(x, t).ess}
    calls |= {"density": lambda x, t: field.posterior(x, t).log_density, "classes": field.class_posterior}

    def answer(call, t):
        try:
            return call(x, t)
        except ValueError as refusal:
            return str(refusal)

    for t in (0.0, 5e-324, 1e-200, 0.3, 0.5, 1 - 2.0**-53, 1.0):
        for name in ("denoiser", "velocity", "score", "noise", "divergence"):  # of no queries, without complaint
            assert len(calls[name](x[:0], t)) == 0
        for name, call in calls.items():
            alone, each = answer(call, t), answer(call, np.full(2, t))
            if isinstance(each, str):
                assert alone == each, (name, t)
            else:
                np.testing.assert_allclose(alone, each, rtol=1e-9, err_msg=f"{name} at {t}")
