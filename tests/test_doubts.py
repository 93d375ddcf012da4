"""Inputs that cannot be meant: queries of another unit, models of another range of values or direction of time."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import interp_fast as itf

RNG = np.random.default_rng(0)
LINEAR = itf.Linear()
# Pictures in [-1, 1]: smooth, dark at the rim.
_GRID = np.linspace(-1, 1, 8)
_RIM = 1 - np.maximum(np.abs(_GRID)[:, None], np.abs(_GRID))
PICTURES = np.clip(2 * _RIM * RNG.uniform(0.5, 1.5, (60, 1, 1)) * RNG.uniform(0.3, 1, (60, 8, 1)) - 1, -1, 1)
BYTES = np.round((PICTURES + 1) * 127.5)
FIELD = itf.Field(PICTURES)


@pytest.mark.parametrize("t", [0.0, 0.5, 0.999, 1.0])
def test_bytes_against_a_field_of_another_range(t):
    with pytest.warns(
        UserWarning, match=r"x cannot hold draws of x_t: \|x - alpha mean\| is .*sqrt\(alpha.* is "
    ) as said:
        FIELD.denoiser(BYTES, t)
    assert said[0].filename == __file__
    with pytest.warns(UserWarning, match="range of values of the data"):
        FIELD.log_density(BYTES[0], t)
    if 0 < t < 1:
        with pytest.warns(UserWarning, match="x0 cannot hold draws"):
            itf.sample(FIELD, itf.ddim(LINEAR, [t, 1.0]), x0=BYTES)


def test_both_scales_are_named():
    """|x - alpha mu| and sqrt(alpha^2 R^2 + d sigma^2), in two digits."""
    mean = PICTURES.mean(axis=0)
    away, usual = np.linalg.norm(BYTES[0] - 0.5 * mean), np.sqrt((0.5 * FIELD.R) ** 2 + 64 * 0.25)
    with pytest.warns(UserWarning, match="cannot hold draws") as said:
        FIELD.score(BYTES[:1], 0.5)
    assert f"is {away:.1e}, and" in str(said[0].message)
    assert f"is {usual:.1e}." in str(said[0].message)


def test_modules_say_so_too():
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(BYTES)
    for module in (itf.torch.Denoiser, itf.torch.Velocity, itf.torch.Noise):
        with pytest.warns(UserWarning, match="x cannot hold draws") as said:
            module(FIELD)(x, 0.5)
        assert said[0].filename == __file__


@pytest.mark.filterwarnings("error")
def test_steps_that_a_solver_tries_are_no_reason_for_doubt():
    torch = pytest.importorskip("torch")
    itf.torch.Velocity(FIELD, clip=1e-3)(torch.from_numpy(BYTES), 0.5)


def far_and_near():
    """Legitimate queries."""
    spread = itf.Field(np.concatenate([1e-3 * RNG.standard_normal((500, 4)), [[1e6, 0, 0, 0]]]))
    light = itf.Field(np.diag([1.0, 1e9, 0.0, 0.0])[:3], weights=[1, 1e-300, 1])
    moved = itf.Field(PICTURES + 1e4)
    noisy = itf.Field(PICTURES, itf.VELinear(80.0))
    yield "row far from all others", spread, np.array([[1e6, 0.0, 0.0, 0.0]]), 0.999
    yield "midpoint", spread, np.array([[5e5, 0.0, 0.0, 0.0]]), 0.9999
    yield "row that weighs nothing", light, np.array([0.0, 1e9, 0.0, 0.0]), 0.999
    yield "a plane seen from afar", itf.Field(PICTURES[0, :, :2]), np.full((4, 2), 1e5), 0.9
    yield "far from the origin", moved, PICTURES, 0.01
    yield "large noise", noisy, 80 * RNG.standard_normal((4, 8, 8)), 0.0
    yield "ten times too far", FIELD, 10 * PICTURES, 0.9
    yield "one row", itf.Field(np.ones((1, 5))), np.zeros(5), 0.9999
    yield "a good query among others", FIELD, np.concatenate([BYTES[:8], PICTURES[:8]]), 0.5
    yield "none", FIELD, PICTURES[:0], 0.5


@pytest.mark.parametrize("case", list(far_and_near()), ids=lambda case: case[0])
def test_legitimate_queries_are_not_doubted(case):
    _, field, x, t = case
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        field.denoiser(x, t)
        for time in (0.0, 0.3, 0.97, 1.0):
            field.denoiser(field.draw(20, time, rng=0)[0], time)


LINEAR_FIELD = itf.Gaussian(FIELD)
NOISY = FIELD.with_schedule(itf.VELinear(80.0))
LOW = itf.Field((PICTURES + 1) / 2)
HIGH = itf.Field(BYTES)


def model(fn, predicts="velocity", schedule=LINEAR):
    return itf.Model(fn, schedule, predicts=predicts)


WRONG = {
    "time and sign": (
        model(lambda x, t: -FIELD.velocity(x, min(1 - t, 0.99))),
        r"ran the other way.*lambda x, t: -net\(x, 1 - t\)",
    ),
    "time": (
        model(lambda x, t: FIELD.velocity(x, min(1 - t, 0.99))),
        r"ran the other way.*lambda x, t: net\(x, 1 - t\)",
    ),
    "time of noise": (model(lambda x, t: FIELD.noise(x, 1 - t), "noise"), r"ran the other way.*: net\(x, 1 - t\)"),
    "time of score": (model(lambda x, t: FIELD.score(x, 1 - t), "score"), r"ran the other way"),
    "made for [0, 1]": (model(LOW.velocity), "another range of values"),
    "made for bytes": (model(HIGH.denoiser, "denoiser"), "another range of values"),
}
RIGHT = {
    "exact": model(FIELD.velocity),
    "off a little": model(lambda x, t: FIELD.denoiser(x, t) + 0.05, "denoiser"),
    "off in proportion": model(lambda x, t: 1.2 * FIELD.velocity(x, t)),
    "linear": model(LINEAR_FIELD.velocity),
    "learnt nothing": model(lambda x, t: x),
    "closed form": itf.Gaussian(FIELD, rank=2),
    "another schedule": model(NOISY.noise, "noise", itf.VELinear(80.0)),
}


@pytest.mark.filterwarnings("ignore:x cannot hold draws")  # where such a model's own run leads
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_model_is_told(name):
    """By a warning and in words, whatever the times are; the numbers are still there."""
    wrong, match = WRONG[name]
    with pytest.warns(UserWarning, match=f"velocity loss near the data end.*times that of noise.*{match}") as said:
        found = itf.compare(wrong, FIELD, [0.3], 10, rng=0)
    assert said[0].filename == __file__
    assert str(said[0].message) == found.doubt
    assert found.doubt in repr(found)
    with pytest.warns(UserWarning, match=match):
        audit = itf.audit(wrong, FIELD, [0.3], 30, rng=0, steps=itf.ddim(LINEAR, np.linspace(0.02, 1, 9)))
    assert audit.doubt in audit.summary
    assert audit.to_dict()["doubt"] == audit.doubt
    if wrong.predicts == "velocity":
        with pytest.warns(UserWarning, match=match):
            itf.compare(wrong, FIELD, None, 4, at="oracle", steps=itf.ddim(LINEAR, 3), rng=0)


@pytest.mark.parametrize("name", RIGHT)
def test_other_models_are_not(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert itf.compare(RIGHT[name], FIELD, [0.3], 10, rng=0).doubt is None
        audit = itf.audit(
            RIGHT[name], FIELD, [0.3], 30, rng=0, steps=itf.ddim(RIGHT[name].schedule, np.linspace(0.1, 1, 9))
        )
    assert audit.doubt is None
    assert "Be careful" not in audit.summary


def test_nothing_to_doubt_by():
    """One point, or a schedule that never comes near the data."""
    one = itf.Field(np.ones((2, 3)))
    assert itf.compare(model(lambda x, t: x), one, [0.5], 4, rng=0).doubt is None
    levels = itf.Discrete(np.linspace(0.5, 0.1, 12))
    noisy = itf.Field(PICTURES, levels)
    asked = set()

    def fn(x, t):
        asked.add(t)
        return noisy.noise(x, t)

    assert itf.compare(model(fn, "noise", levels), noisy, [0.0], 4, kind="noise", rng=0).doubt is None
    assert all(abs(level - round(level)) < 1e-9 for level in map(float, map(levels.level_of, asked)))


def test_near_models_are_asked_nothing_more():
    """One evaluation for each time, and those of the run."""
    asked = []

    def fn(x, t):
        asked.append(t)
        return FIELD.velocity(x, t) + 0.02

    itf.compare(model(fn), FIELD, [0.3, 0.9], 10, rng=0)
    assert asked == [0.3, 0.9]
    asked.clear()
    itf.audit(model(fn), FIELD, [0.3, 0.9], 30, rng=0, steps=itf.ddim(LINEAR, 4))
    assert sorted(asked) == [0.0, 0.25, 0.3, 0.5, 0.75, 0.75, 0.9]


def test_a_model_that_fails_where_nobody_asked_is_not_doubted():
    """And it is shown as many points as elsewhere: it may know no other number."""
    known = {0.25: FIELD.velocity, 0.5: FIELD.velocity}
    shift = RNG.standard_normal((10, 8, 8))

    def picky(x, t):
        return known[t](x, t)

    def counted(x, t):
        return FIELD.velocity(x, t) + 0.01 * shift

    assert itf.compare(model(picky), FIELD, [0.25, 0.5], 10, rng=0).doubt is None
    assert itf.compare(model(counted), FIELD, [0.25, 0.5], 10, rng=0).doubt is None


def test_models_at_levels():
    """A network of diffusers answers at its levels alone; it is looked at there, and in another range it is told."""
    pytest.importorskip("torch")
    levels = itf.Discrete.ddpm(steps=100)
    scheduler = SimpleNamespace(alphas_cumprod=levels.alphas_cumprod, config=SimpleNamespace(prediction_type="epsilon"))
    times = levels.t_of(np.array([80, 30]))
    for field, told in ((FIELD, False), (LOW, True)):
        net = itf.torch.Noise(field, levels)
        found = itf.Model.from_diffusers(net, scheduler)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            result = itf.compare(found, FIELD, np.sort(times), 10, kind="noise", rng=0)
        assert (result.doubt is not None) == told
        assert len(said) == told
