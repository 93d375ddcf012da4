"""``compare`` on models with a known error, against averages over draws of its own."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from scipy.special import softmax

import interp_fast as itf

ROWS = np.random.default_rng(0).standard_normal((40, 2))
FIELD = itf.Field(ROWS)
TIMES = np.array([0.0, 0.3, 0.7, 0.9])
X1 = ROWS[:, :1]
CONSTANT = np.array([0.3, -0.1])
ANGLE = 0.4
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
PLANTED = {
    "constant": lambda f: f + CONSTANT,
    "proportional": lambda f: 1.2 * f,
    "rotated": lambda f: f @ TURN.T,
}


@oracle.remembered
def direct(t, n, kind="velocity", seed=0, rows=ROWS):
    """n values of the oracle's answer at x_t of ``rows``, and of the target, by plain sums."""
    rng = np.random.default_rng(seed)
    data, z = rows[rng.integers(0, len(rows), n)], rng.standard_normal((n, 2))
    x, s = t * data + (1 - t) * z, 1 - t
    w = softmax(-((x[:, None] - t * ROWS) ** 2).sum(2) / (2 * s**2), axis=1)
    mean = w @ ROWS
    forms = {
        "velocity": lambda d, z: d - z,
        "denoiser": lambda d, z: d,
        "noise": lambda d, z: z,
        "score": lambda d, z: -z / s,
    }
    return forms[kind](mean, (x - t * mean) / s), forms[kind](data, z)


def planted(name, kind="velocity", schedule=None):
    change = PLANTED[name]
    field = FIELD if schedule is None else FIELD.with_schedule(schedule)
    return itf.Model(lambda x, t: change(getattr(field, kind)(x, t)), field.schedule, predicts=kind)


@pytest.mark.parametrize("name", PLANTED)
def test_planted_errors_are_recovered(name):
    """Within 3 standard errors in 99 % of the numbers, within 4 in all."""
    away = []
    for kind, seed in itertools.product(("velocity", "denoiser", "noise", "score"), range(4)):
        options = {"at": "holdout", "holdout": ROWS}  # the same points, without the time for the lowest loss
        found = itf.compare(planted(name, kind), FIELD, TIMES, 400, kind=kind, rng=seed, **options)
        for k, t in enumerate(TIMES):
            exact, _ = direct(t, 2500, kind, seed=[seed, k])
            got = PLANTED[name](exact)
            error = ((got - exact) ** 2).sum(1)
            total = ((exact - exact.mean(0)) ** 2).sum(1)
            size = np.linalg.norm(got, axis=1) * np.linalg.norm(exact, axis=1)
            cosine = (got * exact).sum(1) / np.where(size > 0, size, 1.0)
            r2 = 1 - error.mean() / total.mean() if total.mean() > 1e-12 else np.nan
            spread = (error - (1 - r2) * total).std() / max(total.mean(), 1e-12)
            for value, stderr, want, own in (
                (found.mse[k], found.mse_stderr[k], error.mean(), error.std()),
                (found.cosine[k], found.cosine_stderr[k], cosine.mean(), cosine.std()),
                (found.r2[k], found.r2_stderr[k], r2, spread),
            ):
                if np.isfinite(want):
                    away.append(abs(value - want) / np.hypot(stderr, own / 50 + 1e-9 * (1 + abs(want))))
    assert len(away) > 180
    assert np.mean(np.array(away) > 3) <= 0.01
    assert max(away) < 4


@pytest.mark.parametrize("kind", ["denoiser", "score"])
def test_cosines_late(kind):
    """Where hardly a query sees that they differ: the standard error is not what few draws happen to show."""
    t, n = 0.95, 400
    exact, _ = direct(t, 50000, kind, seed=9)
    got = exact + CONSTANT
    cosine = (got * exact).sum(1) / (np.linalg.norm(got, axis=1) * np.linalg.norm(exact, axis=1))
    for seed in range(4):
        found = itf.compare(planted("constant", kind), FIELD, [t], n, kind=kind, at="holdout", holdout=ROWS, rng=seed)
        assert found.cosine_stderr[0] > 0.7 * cosine.std() / np.sqrt(n)
        assert abs(found.cosine[0] - cosine.mean()) < 4 * found.cosine_stderr[0]


def test_standard_errors_are_those_of_repetitions():
    options = {"at": "holdout", "holdout": ROWS}
    runs = [itf.compare(planted("rotated"), FIELD, [0.5], 200, rng=seed, **options) for seed in range(40)]
    for name in ("mse", "r2", "cosine"):
        values = np.array([getattr(run, name)[0] for run in runs])
        claimed = np.array([getattr(run, f"{name}_stderr")[0] for run in runs])
        if name != "cosine":  # which is the same everywhere
            assert 0.65 < values.std() / claimed.mean() < 1.5
        assert np.abs(values.mean() - values[0]) < 5 * claimed[0] + 1e-12


@pytest.mark.parametrize("kind", ["velocity", "denoiser", "noise"])
def test_losses_on_training_and_held_out_rows(kind):
    held = np.random.default_rng(7).standard_normal((30, 2))
    t = 0.6
    for at, rows, options in (("train", ROWS, {}), ("holdout", held, {"holdout": held})):
        found = itf.compare(planted("constant", kind), FIELD, [t], 4000, kind=kind, at=at, rng=1, **options)
        exact, target = direct(t, 40000, kind, seed=3, rows=rows)
        got = exact + CONSTANT
        losses = ((got - target) ** 2).sum(1), ((exact - target) ** 2).sum(1)
        for name, values in zip(("loss", "optimal"), losses, strict=True):
            stderr = np.hypot(getattr(found, f"{name}_stderr")[0], values.std() / 200)
            assert abs(getattr(found, name)[0] - values.mean()) < 4 * stderr, (at, name)
        stderr = np.hypot(found.excess_stderr[0], (losses[0] - losses[1]).std() / 200)
        assert abs(found.excess[0] - (losses[0] - losses[1]).mean()) < 4 * stderr
        np.testing.assert_allclose(found.mse, CONSTANT @ CONSTANT, rtol=1e-12)
    assert (found.kind, found.at) == (kind, "holdout")
    best = itf.compare(planted("constant"), FIELD, [t], 400, rng=1)
    np.testing.assert_allclose(best.excess, best.mse)
    np.testing.assert_allclose(best.loss - best.optimal, best.excess, atol=4 * best.loss_stderr[0])


def test_runs():
    """The states are those of ``sample``; nothing is drawn of rows, so there are no losses."""
    steps = itf.heun(FIELD.schedule, 6)
    model = planted("constant", "denoiser")
    seen = []
    watched = itf.Model(lambda x, t: seen.append((t, x.copy())) or model.denoiser(x, t), FIELD.schedule, "denoiser")
    found = itf.compare(watched, FIELD, None, 8, at="model", steps=steps, kind="denoiser", rng=5)
    np.testing.assert_array_equal(found.times, steps.times[:-1])
    np.testing.assert_allclose(found.mse, CONSTANT @ CONSTANT, rtol=1e-10)
    assert found.loss is found.optimal is found.excess is found.loss_stderr is None
    compared = seen[::2]  # once for the numbers and once for the run, in turn
    path = itf.sample(model, steps, x0=compared[0][1], rng=5, keep="path").path
    committed = np.flatnonzero(np.append(True, steps.commit[:-1]))
    for place, r in enumerate(committed):
        np.testing.assert_allclose(compared[r][1], path[:, place], rtol=1e-12)
    on_oracle = itf.compare(model, FIELD, None, 8, at="oracle", rng=5)
    assert len(on_oracle.times) == 50
    np.testing.assert_array_equal(itf.compare(FIELD, FIELD, None, 8, at="model", steps=steps).mse, np.zeros(len(steps)))
    with pytest.raises(ValueError, match="times must be None on a run"):
        itf.compare(model, FIELD, [0.5], 8, at="model")


def test_quantiles():
    found = itf.compare(planted("proportional"), FIELD, [0.5], 500, rng=2)
    np.testing.assert_allclose(found.quantiles["cosine"], 1.0)
    assert found.levels.tolist() == [0.05, 0.15, 0.5, 0.85, 0.95]
    exact, _ = direct(0.5, 20000)
    want = np.quantile(0.04 * (exact**2).sum(1), found.levels)
    np.testing.assert_allclose(found.quantiles["mse"][0], want, rtol=0.25)


def test_baselines():
    linear, mixture = itf.Gaussian(FIELD), itf.GaussianMixture([1, 1], ROWS[:2], [1.0, 1.0], FIELD.schedule)
    baselines = {"linear": linear, "mixture": mixture, "oracle": FIELD, "half": FIELD.subset(np.arange(20))}
    found = itf.compare(planted("rotated"), FIELD, TIMES, 300, baselines=baselines, rng=0)
    assert list(found.baselines) == list(baselines)
    for name, given in baselines.items():
        alone = itf.compare(given, FIELD, TIMES, 300, rng=0)
        np.testing.assert_array_equal(found.baselines[name].mse, alone.mse)
        assert found.baselines[name].baselines == {}
    assert (found.baselines["oracle"].mse == 0).all()
    assert (found.baselines["oracle"].cosine == 1).all()
    plot = pytest.importorskip("matplotlib.pyplot")
    ax = found.plot()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["model", *baselines]
    plot.close("all")
    assert "baselines" in found.to_dict()
    assert found.to_json().startswith("{")


@pytest.mark.parametrize("d", [1, 2, 4])
def test_gaussian_baseline_of_gaussian_rows(d):
    """The linear field is what the oracle of more and more Gaussian rows tends to: the distance falls as 1 / N."""
    spread = np.random.default_rng(3).standard_normal((d, d)) / d + np.eye(d)
    t = np.array([0.5, 1 / 1.3])  # sigma / alpha: 1 and 0.3
    found = []
    for n in (1000, 100_000):
        rows = np.random.default_rng(1).standard_normal((n, d)) @ spread
        field = itf.Field(rows)
        options = {"kind": "denoiser", "at": "holdout", "holdout": rows[:500], "rng": 0}
        found.append(itf.compare(itf.Gaussian(field), field, t, 500, **options))
        limit = itf.compare(itf.Gaussian.of(np.zeros(d), spread.T @ spread, field.schedule), field, t, 500, **options)
    few, many = found
    assert (many.r2 > 0.99).all()
    assert (limit.r2 > 0.99).all()
    assert (many.cosine > 0.99).all()
    assert (many.mse < few.mse / 20).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_schedules_smoothed_rows_and_types(dtype):
    field = itf.Field(ROWS.astype(dtype), bandwidth=0.2)
    exact = field.with_schedule(itf.VP())
    model = itf.Model(exact.noise, itf.VP(), "noise")
    found = itf.compare(model, field, 4, 100, rng=0)
    assert (found.mse <= 1e-9 + 1e-20).all()
    assert found.mse.shape == (4,)
    same = itf.compare(model, field, 4, 100, rng=itf.NoiseKey(3))
    np.testing.assert_array_equal(same.mse, itf.compare(model, field, 4, 100, rng=itf.NoiseKey(3)).mse)


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda m: itf.compare(m, FIELD, [0.5], 10, kind="mean"), ValueError, "kind must be one of denoiser"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, at="test"), ValueError, "at must be one of train, holdout"),
        (lambda m: itf.compare(m, FIELD, [0.5], 1), ValueError, "n must be >= 2"),
        (lambda m: itf.compare(m, FIELD, None, 10), ValueError, "times must be given unless"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, at="holdout"), ValueError, "holdout must be given"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, at="holdout", holdout=X1), ValueError, "holdout must have"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, steps=itf.euler(itf.Linear(), 3)), ValueError, "steps belongs to"),
        (lambda m: itf.compare(m, FIELD, [0.5, 1.0], 10), ValueError, r"t must avoid 1\.0: the velocity does not"),
        (lambda m: itf.compare(m.velocity, FIELD, [0.5], 10), TypeError, "model must be a Model or a Field"),
        (lambda m: itf.compare(m, m, [0.5], 10), TypeError, "field must be a Field; got Model"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, baselines=[m]), TypeError, "baselines must be a dict"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, baselines={"a": 3}), TypeError, r"baselines\['a'\] must be"),
        (lambda m: itf.compare(m, FIELD, [0.5], 10, baselines={1: m}), TypeError, "baselines must have names"),
        (
            lambda m: itf.compare(m, FIELD, [0.5], 10, baselines={"vp": itf.Gaussian(ROWS, itf.VP())}),
            ValueError, r"baselines\['vp'\] must have the schedule of the model, Linear\(\); got VP",
        ),
        (
            lambda m: itf.compare(planted("constant", "score"), FIELD, [0.0], 10),
            ValueError, r"t must avoid 0\.0: there a score does not determine",
        ),
    ],
)  # fmt: skip
def test_bad_input(call, kind, match):
    with pytest.raises(kind, match=match):
        call(planted("constant"))
