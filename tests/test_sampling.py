"""Whole runs against a plain loop over the rows of the table; their records and laws; models in place of fields."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import oracle
import problems
import pytest
from scipy import stats

import interp_fast as itf

PENTAGON = 2 * np.stack([np.cos(2 * np.pi * np.arange(5) / 5), np.sin(2 * np.pi * np.arange(5) / 5)], 1)
LINEAR = itf.Linear()
SOLVERS = {
    "euler": itf.euler,
    "euler_maruyama": lambda s, t: itf.euler_maruyama(s, t, ("sigma", 0.2)),
    "ddim": itf.ddim,
    "ddim eta": lambda s, t: itf.ddim(s, t, eta=0.6),
    "ddpm": itf.ddpm,
    "exponential": lambda s, t: itf.exponential(s, t, churn=0.5),
    "heun": itf.heun,
    "exponential_heun": itf.exponential_heun,
    "multistep": itf.multistep,
}


@functools.cache
def normals(n, d, rows, rng, backend="reference"):
    """The noise of a run, (rows, n, d): from a table whose rows put out nothing but their noise."""
    grid = np.linspace(0, 1, rows + 1)
    nothing, ones = np.zeros(rows), np.ones(rows)
    table = itf.StepTable(grid, grid, 1 - grid, nothing, nothing, nothing, ones, ones.astype(bool))
    flow = itf.Field(np.zeros((1, d)), backend=backend)
    return itf.sample(flow, table, x0=np.zeros((n, d)), rng=rng, keep="path").path[:, 1:].swapaxes(0, 1)


def loop(rows, table, x0, xi, *, weights=None, bandwidth=0.0):
    """All committed states (P, n, d) and the argmax at every row (R, n)."""
    base = cur = x0.astype(float)
    previous = np.zeros_like(base)
    states, index = [base], []
    for r in range(len(table.A)):
        alpha, sigma = table.alpha[r], table.sigma[r]
        ref = oracle.posterior(rows, cur, alpha, sigma, weights, bandwidth=bandwidth)
        s2 = sigma**2 + (alpha * bandwidth) ** 2
        D = sigma**2 / s2 * ref.mean + alpha * bandwidth**2 / s2 * cur
        cur = table.A[r] * base + table.B[r] * D + table.C[r] * previous + table.S[r] * xi[r]
        previous = D
        index.append(ref.index)
        if table.commit[r]:
            base = cur
            states.append(base)
    return np.array(states), np.array(index)


@pytest.mark.parametrize("schedule", [LINEAR, itf.VP(), itf.VEGeometric(0.01, 5)], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", SOLVERS)
def test_against_a_plain_loop(engine, dtype, solver, schedule):
    """Final states, paths, argmax times and indices of every solver on every engine, with weights."""
    rng = np.random.default_rng(21)
    rows, weights = (1.5 * rng.standard_normal((43, 5)) + 1).astype(dtype), rng.uniform(0.2, 1, 43)
    table = SOLVERS[solver](schedule, 9)
    x0 = schedule(0.0).sigma * rng.standard_normal((7, 5))
    flow = itf.Field(rows, schedule, weights=weights, backend=engine.backend)
    out = itf.sample(flow, table, x0=x0, rng=itf.NoiseKey(99), keep="path")
    states, index = loop(rows, table, x0, normals(7, 5, len(table.A), itf.NoiseKey(99)), weights=weights)
    context = f"{solver}, {schedule}, {dtype}, {engine}"
    tight = {"rtol": 0, "atol": 2e-4 if dtype == "float32" else 1e-9}
    np.testing.assert_allclose(out.path.swapaxes(0, 1), states, err_msg=context, **tight)
    np.testing.assert_allclose(out.x, states[-1], err_msg=context, **tight)
    np.testing.assert_array_equal(out.path_times, table.times[np.append(True, table.commit)])
    squared = ((states[-1][:, None] - table.alpha[-1] * rows.astype(float)) ** 2).sum(2)
    np.testing.assert_array_equal(out.index, squared.argmin(1), err_msg=context)
    stays = np.logical_and.accumulate((index == index[-1])[::-1], axis=0)[::-1]
    np.testing.assert_array_equal(out.commit_time, table.times[stays.argmax(0)], err_msg=context)


@pytest.mark.parametrize("solver", ["ddim", "heun", "ddpm"])
def test_smoothed_data(backend, solver):
    table = SOLVERS[solver](LINEAR, 8)
    flow = itf.Field(PENTAGON, bandwidth=0.3, backend=backend)
    x0 = np.random.default_rng(22).standard_normal((6, 2))
    out = itf.sample(flow, table, x0=x0, rng=itf.NoiseKey(1))
    states, _ = loop(PENTAGON, table, x0, normals(6, 2, len(table.A), itf.NoiseKey(1)), bandwidth=0.3)
    np.testing.assert_allclose(out.x, states[-1], rtol=0, atol=1e-10)


def test_state_is_float64(backend):
    """float32 rows far from 0 at small sigma: a float32 state would lose x - alpha x_i at every step."""
    rows = problems.problem("shifted").rows.astype(np.float32)
    times = np.concatenate([np.linspace(0, 0.9, 10), 1 - np.logspace(-1.5, -6, 30)])
    table = itf.exponential(LINEAR, times, churn=1.0)
    x0 = np.random.default_rng(23).standard_normal((3, 24))
    out = itf.sample(itf.Field(rows, backend=backend), table, x0=x0, rng=itf.NoiseKey(2), keep="path")
    states, _ = loop(rows, table, x0, normals(3, 24, len(table.A), itf.NoiseKey(2)))
    states = states.swapaxes(0, 1)
    assert out.x.dtype == out.path.dtype == np.float32
    late = np.abs(out.path[:, -20:] - states[:, -20:])
    assert np.all(late <= 0.5 * np.spacing(np.abs(out.path[:, -20:])) + 1e-6)


def test_keep(backend, dtype):
    """No path, every committed state, or every so many of them, the first and the last always there."""
    flow = itf.Field(PENTAGON.astype(dtype), backend=backend)
    for table in (itf.ddpm(LINEAR, 10), itf.heun(LINEAR, 10)):
        points = table.times[np.append(True, table.commit)]
        run = {keep: itf.sample(flow, table, 4, rng=3, keep=keep) for keep in ("final", "path", 1, 3, 5, 100)}
        assert run["final"].path is None
        assert run["final"].path_times is None
        full = run["path"].path
        assert full.shape == (4, 11, 2)
        assert full.dtype == dtype
        np.testing.assert_array_equal(full[:, -1], run["path"].x)
        for keep, chosen in ((1, range(11)), (3, [0, 3, 6, 9, 10]), (5, [0, 5, 10]), (100, [0, 10])):
            np.testing.assert_array_equal(run[keep].path, full[:, list(chosen)])
            np.testing.assert_array_equal(run[keep].path_times, points[list(chosen)])
        for other in run.values():
            np.testing.assert_array_equal(other.x, run["final"].x)


def test_start(dtype):
    """x0=None draws N(0, sigma[0]^2), wherever the table starts; x0 is taken as given; n may repeat its length."""
    flow = itf.Field(PENTAGON.astype(dtype), itf.VELinear(40))
    for times, sigma in ((4, 40.0), ([0.75, 0.9, 1.0], 10.0)):
        first = itf.sample(flow, itf.ddim(flow.schedule, times), 5000, rng=4, keep="path").path[:, 0]
        assert stats.kstest(first.ravel() / sigma, "norm").pvalue > 1e-3
    x0, _ = flow.draw(6, 0.75, rng=5)
    table = itf.ddim(flow.schedule, [0.75, 0.9, 1.0])
    out = itf.sample(flow, table, 6, x0=x0, keep="path")
    np.testing.assert_array_equal(out.path[:, 0], x0)
    np.testing.assert_array_equal(out.x, itf.sample(flow, table, x0=x0).x)


def test_random_sources():
    """One seed, one answer; a Generator moves on; no source means a new answer each time."""
    flow, table = itf.Field(PENTAGON, backend="reference"), itf.ddpm(LINEAR, 3)

    def run(rng):
        return itf.sample(flow, table, 8, rng=rng, keep="path").path

    np.testing.assert_array_equal(run(6), run(6))
    np.testing.assert_array_equal(run(np.random.SeedSequence(6)), run(6))
    np.testing.assert_array_equal(run(np.random.default_rng(6)), run(6))
    generator = np.random.default_rng(6)
    assert not np.array_equal(run(generator), run(generator))
    assert not np.array_equal(run(None), run(None))
    path = run(7)
    assert not np.any(np.isclose(path[:, 0], path[:, 1]))


def test_shards_and_resumption(engine, dtype):
    """Sample i is sample first_sample + i of the whole; a table cut in two and a state handed on continue the run."""
    rows = problems.problem("gauss").rows[:200].astype(dtype)
    flow, table = itf.Field(rows, backend=engine.backend), itf.ddpm(LINEAR, 12)
    whole = itf.sample(flow, table, 40, rng=itf.NoiseKey(8))
    parts = [itf.sample(flow, table, m, rng=itf.NoiseKey(8, first)).x for first, m in ((0, 1), (1, 16), (17, 23))]
    np.testing.assert_allclose(np.concatenate(parts), whole.x, rtol=0, atol=1e-4 if dtype == "float32" else 1e-9)
    first_half = dataclasses.replace(
        table, times=table.times[:7], alpha=table.alpha[:7], sigma=table.sigma[:7],
        **{name: getattr(table, name)[:6] for name in ("A", "B", "C", "S", "commit")},
    )  # fmt: skip
    run = itf.sample(flow, table, 40, rng=itf.NoiseKey(8), keep="path")
    half = itf.sample(flow, first_half, 40, rng=itf.NoiseKey(8))
    np.testing.assert_array_equal(half.x, run.path[:, 6])


def test_record(engine):
    flow, table = itf.Field(PENTAGON, backend=engine.backend, threads=2), itf.heun(LINEAR, 6)
    out = itf.sample(flow, table, 5, rng=9)
    assert {k: out.stats[k] for k in ("backend", "isa", "threads", "evaluations")} == {
        "backend": engine.backend, "isa": engine.isa, "threads": 2, "evaluations": 11,
    }  # fmt: skip
    assert 0 < out.stats["work"] <= 1.05
    assert out.stats["seconds"] > 0
    assert out.certificate.shape == out.commit_time.shape == (5,)
    assert np.all((out.certificate >= 0) & (out.certificate <= 2.0**-46))
    assert (out.index.dtype, out.x.dtype, out.certificate.dtype, out.commit_time.dtype) == ("int64", *["float64"] * 3)
    np.testing.assert_array_equal(itf.sample(flow, table, 5, rng=9, tol=0).certificate, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        out.x = 0
    assert set(out.to_dict()) >= {"x", "index", "path", "path_times", "commit_time", "certificate", "stats"}
    assert 0 < len(str(out)) < 2000


def test_out(backend, dtype):
    """The samples are written where the caller wants them."""
    flow, table = itf.Field(PENTAGON.astype(dtype), backend=backend), itf.ddim(LINEAR, 4)
    mine = np.empty((3, 2), dtype)
    out = itf.sample(flow, table, 3, rng=1, out=mine)
    assert out.x is mine
    np.testing.assert_array_equal(mine, itf.sample(flow, table, 3, rng=1).x)


def test_index_of_equal_rows(backend):
    """The nearest row, the lowest number among equal ones; also when no run lands on alpha = 1."""
    rows = np.repeat(PENTAGON, 3, axis=0)
    flow = itf.Field(rows, backend=backend)
    out = itf.sample(flow, itf.ddim(LINEAR, np.linspace(0, 0.8, 9)), 50, rng=10)
    squared = ((out.x[:, None] - 0.8 * PENTAGON) ** 2).sum(2)
    np.testing.assert_array_equal(out.index, 3 * squared.argmin(1))


def test_progress(capsys):
    flow, table = itf.Field(PENTAGON, backend="reference"), itf.ddim(LINEAR, 7)
    quiet = itf.sample(flow, table, 4, rng=1)
    assert capsys.readouterr().err == ""
    shown = itf.sample(flow, table, 4, rng=1, progress=True)
    assert capsys.readouterr().err.rstrip().endswith("7 of 7")
    np.testing.assert_array_equal(shown.x, quiet.x)


# Laws


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "multistep"])
def test_samples_are_training_rows_by_weight(solver):
    """Exact recovery: runs land on rows, each as often as it weighs."""
    weights = np.array([0.1, 0.3, 0.2, 0.25, 0.15])
    flow = itf.Field(PENTAGON, weights=weights)
    out = itf.sample(flow, SOLVERS[solver](LINEAR, 64), 4000, rng=11)
    assert np.abs(out.x - PENTAGON[out.index]).max() < 1e-12
    assert np.abs(np.bincount(out.index, minlength=5) / 4000 - weights).sum() / 2 < 0.04


def test_brownian_bridge_leaves_sqrt_h():
    """Euler-Maruyama on sigma^2 = 1 - t with epsilon = 1/2 misses the row by N(0, h) exactly."""
    flow = itf.Field(np.zeros((1, 3)), itf.LatentBridge(1.0))
    out = itf.sample(flow, itf.euler_maruyama(flow.schedule, 50, 0.5), 4000, rng=12)
    assert stats.kstest(out.x.ravel() * np.sqrt(50), "norm").pvalue > 1e-3


def test_noise_is_standard_normal():
    """Over samples, rows and coordinates; and independent between neighbours in each."""
    xi = normals(100, 8, 40, 13, "auto")
    assert stats.kstest(xi.ravel(), "norm").pvalue > 1e-3
    for axis in range(3):
        size = xi.shape[axis]
        here, next_to = np.take(xi, range(size - 1), axis), np.take(xi, range(1, size), axis)
        assert abs(np.corrcoef(here.ravel(), next_to.ravel())[0, 1]) < 4 / np.sqrt(here.size)


# Models


@pytest.mark.parametrize("predicts", ["velocity", "score", "noise", "denoiser"])
@pytest.mark.parametrize("schedule", [LINEAR, itf.VP(), itf.VEGeometric(0.01, 5)], ids=lambda s: type(s).__name__)
def test_a_model_that_is_the_oracle(predicts, schedule):
    """Whatever it predicts, a model that answers as the field does converts and samples as the field does."""
    flow = itf.Field(PENTAGON, schedule)
    model = itf.Model(getattr(flow, predicts), schedule, predicts=predicts)
    rng = np.random.default_rng(14)
    for t in (0.3, np.array([0.2, 0.5, 0.7, 0.9])):
        x = 2 * rng.standard_normal((4, 2))
        for name in ("velocity", "score", "noise", "denoiser"):
            want = getattr(flow, name)(x, t)
            np.testing.assert_allclose(getattr(model, name)(x, t), want, rtol=1e-9, atol=1e-9 * np.abs(want).max())
    x0 = schedule(0.05).sigma * rng.standard_normal((6, 2))
    for solver in ("ddpm", "heun", "multistep"):
        table = SOLVERS[solver](schedule, np.linspace(0.05, 1, 9))
        mine, exact = (itf.sample(f, table, x0=x0, rng=15, keep="path") for f in (model, flow))
        np.testing.assert_allclose(mine.path, exact.path, rtol=0, atol=1e-8)
        np.testing.assert_array_equal(mine.path_times, exact.path_times)
        assert mine.index is None
        assert mine.stats["evaluations"] == len(table.A)


def test_what_a_model_gets():
    """float32 queries and starting points reach fn as float32, others as float64; t is a float, or (M,) when it was."""
    seen = []

    def fn(x, t):
        seen.append((x.dtype, x.shape, type(t), np.shape(t)))
        return x

    model = itf.Model(fn, LINEAR, predicts="denoiser")
    model.denoiser(np.ones((3, 2), np.float32), 0.5)
    model.denoiser(np.ones((3, 2)), [0.1, 0.2, 0.3])
    itf.sample(model, itf.ddim(LINEAR, 1), x0=np.ones((3, 2), np.float32))
    itf.sample(model, itf.ddim(LINEAR, 1), x0=np.ones((3, 2)))
    assert seen[0] == (np.float32, (3, 2), float, ())
    assert seen[1] == (np.float64, (3, 2), np.ndarray, (3,))
    assert seen[2] == (np.float32, (3, 2), float, ())
    assert seen[3] == (np.float64, (3, 2), float, ())


def test_where_a_prediction_says_nothing():
    """At alpha = 0 neither noise nor score determine D: an error with the time, unless the row does not use D."""
    flow = itf.Field(PENTAGON)
    x0 = np.ones((2, 2))
    for predicts in ("score", "noise"):
        model = itf.Model(getattr(flow, predicts), LINEAR, predicts=predicts)
        with pytest.raises(ValueError, match=r"\b0\.0\b|t = 0\b"):
            itf.sample(model, itf.ddim(LINEAR, 4), x0=x0)
    grid = np.array([0.0, 0.5, 1.0])
    unused = itf.StepTable(grid, grid, 1 - grid, [0.5, 0.0], [0.0, 1.0], [0.0, 0.0], [0.0, 0.0], [True, True])
    out = itf.sample(model, unused, x0=x0)
    np.testing.assert_allclose(out.x, flow.denoiser(0.5 * x0, 0.5), rtol=1e-9)


@pytest.mark.parametrize("rows", [PENTAGON, PENTAGON[:, :1]], ids=["d2", "d1"])
def test_samples_print_export_and_plot(rows):
    import matplotlib as mpl

    mpl.use("agg")
    out = itf.sample(itf.Field(rows), itf.ddpm(LINEAR, 6), 4, rng=0, keep="path", terms=True)
    assert repr(out).startswith("Samples\n  x ")
    assert "evaluations 6," in repr(out)
    assert set(out.to_dict()) == set(out.__dataclass_fields__)
    ax = out.plot()
    assert len(ax.lines) == 5  # four paths and the samples
    np.testing.assert_array_equal(ax.lines[-1].get_xdata(), out.x[:, 0])
    sizes = out.terms.plot()
    np.testing.assert_allclose(sizes.lines[2].get_xdata()[-1], np.linalg.norm(out.terms.noise, axis=1).max())
    assert out.plot(ax) is ax
    for axes in (ax, sizes):
        mpl.pyplot.close(axes.figure)


@pytest.mark.parametrize("rng", [7, itf.NoiseKey(7, 40), np.random.default_rng(3)], ids=["int", "key", "generator"])
def test_a_run_goes_on_from_the_key_it_names(rng):
    field = itf.Field(PENTAGON)
    steps = itf.ddpm(field.schedule, 8)
    begun = itf.sample(field, steps, 5, rng=rng)
    first = rng.first_sample if isinstance(rng, itf.NoiseKey) else 0
    whole = itf.sample(field, steps, 9, rng=itf.NoiseKey(begun.stats["key"], first))
    more = itf.sample(field, steps, 4, rng=itf.NoiseKey(begun.stats["key"], first + 5))
    np.testing.assert_allclose(whole.x, np.concatenate([begun.x, more.x]), rtol=1e-6, atol=1e-6)
