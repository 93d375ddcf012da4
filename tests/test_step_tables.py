"""What tables of steps refuse, warn of and check, and how they print."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from support.tables import EXACT, SOLVERS, law, on_solvers

from interp_fast.schedules import (
    VP,
    Custom,
    EncoderDecoder,
    LatentBridge,
    Linear,
    SqrtVP,
    Trigonometric,
    VEGeometric,
    VELinear,
)
from interp_fast.steps import (
    StepTable,
    ddim,
    ddpm,
    euler,
    euler_maruyama,
    exponential,
    exponential_heun,
    heun,
    multistep,
)


@pytest.mark.parametrize(
    ("schedule", "diffusion"),
    [(Linear(), 0.5), (Linear(), lambda t: np.sqrt(1 - t)), (Trigonometric(), 0.1), (VELinear(), 500.0), (VP(), 1.0)],
)
def test_an_unstable_diffusion_is_named(schedule, diffusion):
    with pytest.warns(
        UserWarning, match="diffusion is too strong for Euler-Maruyama.*multiplies errors by.*exponential"
    ):
        table = euler_maruyama(schedule, 64, diffusion)
    assert table.noise_std()[-1] > 0.05


@pytest.mark.parametrize(
    ("schedule", "diffusion"),
    [
        (Linear(), ("sigma", 0.25)),
        (Linear(), "sigma"),
        (Linear(), ("sigma", 2)),
        (Linear(), "sigma2"),
        (LatentBridge(), 0.5),
        (Trigonometric(), "sigma"),
        (VP(), "reversal"),
        (VEGeometric(), "reversal"),
        (VELinear(), "reversal"),
    ],
)
def test_a_stable_diffusion_is_silent(schedule, diffusion):
    euler_maruyama(schedule, 64, diffusion)


def test_multistep_falls_back_where_lambda_is_not_finite():
    table = multistep(Linear(), 6)
    plain = ddim(Linear(), 6)
    for r in (0, 1, 5):  # the first; the one before which lambda was -inf; the one onto sigma = 0
        assert (table.B[r], table.C[r]) == (plain.B[r], 0.0)
    assert (table.C[2:5] < 0).all()
    lam = Linear().lam(table.times)
    r = (lam[2:5] - lam[1:4]) / (lam[3:6] - lam[2:5])
    np.testing.assert_allclose(table.B[2:5], (1 + 1 / (2 * r)) * plain.B[2:5], rtol=1e-13)
    np.testing.assert_allclose(table.C[2:5], -plain.B[2:5] / (2 * r), rtol=1e-13)
    knots = [0, 0.375, 0.625, 1]  # lambda stands still between the middle two
    pause = Custom(lambda t: np.interp(t, knots, [0, 0.4, 0.4, 1]), lambda t: np.interp(t, knots, [1, 0.6, 0.6, 0]))
    table = multistep(pause, 16)
    assert (table.C != 0).nonzero()[0].tolist() == [2, 3, 4, 5, 11, 12, 13, 14]
    np.testing.assert_allclose(table.curvature_defect(), 0, atol=1e-15)


def test_encoder_decoder_from_pure_noise():
    """alpha = 0 and lambda = -inf up to t = 1/2: D does not enter, and any churn redraws the noise."""
    schedule, times = EncoderDecoder(), np.linspace(0.0, 0.5, 5)
    for build in (euler, ddim, exponential_heun, multistep, heun):
        table = build(schedule, times)
        assert not table.B.any()
        assert not table.C.any()
    np.testing.assert_allclose(ddim(schedule, times).A, table.sigma[1:][table.commit] / schedule(times[:-1]).sigma)
    fresh = ddpm(schedule, times)
    assert not fresh.A.any()
    np.testing.assert_array_equal(fresh.S, fresh.sigma[1:])


@pytest.mark.parametrize("build", [euler, heun])
def test_infinite_velocity_is_refused(build):
    with pytest.raises(
        ValueError, match=rf"times: {build.__name__} cannot step from t = 0, where the velocity of SqrtVP"
    ):
        build(SqrtVP(), 8)
    build(SqrtVP(), np.linspace(1e-3, 1, 8))
    with pytest.raises(ValueError, match=r"euler_maruyama cannot step from t = 0.*ddim"):
        euler_maruyama(SqrtVP(), 8, "sigma")


@pytest.mark.parametrize("schedule", [Linear(), Trigonometric(), EncoderDecoder(), SqrtVP()], ids=repr)
def test_the_reversal_is_refused_where_alpha_is_zero(schedule):
    with pytest.raises(ValueError, match=r"diffusion must be finite and >= 0.*got inf at t = 0\. Start later"):
        euler_maruyama(schedule, 8, "reversal")


@pytest.mark.parametrize(
    ("times", "error", "match"),
    [
        (0, ValueError, r"times .*must be >= 1; got 0"),
        (-3, ValueError, "times .*got -3"),
        (2.5, TypeError, "times .*must be an int; got 2.5"),
        (True, TypeError, "times .*must be an int"),
        (None, TypeError, "times .*must be an int"),
        ([0.0, 0.5, 0.4, 1.0], ValueError, r"times must increase.*got 0.5 followed by 0.4"),
        ([0.0, 0.5, 0.5, 1.0], ValueError, "times must increase"),
        ([1.0, 0.0], ValueError, "times must increase from noise"),
        ([0.0, np.nan, 1.0], ValueError, r"times must lie in \[0, 1\].*nan"),
        ([-0.1, 1.0], ValueError, "times must lie"),
        ([0.0, 1.1], ValueError, "times must lie"),
        ([0.5], ValueError, r"times must be an int K or a vector.*\(1,\)"),
        (np.zeros((2, 2)), ValueError, "times must be an int K or a vector"),
        (["a", "b"], TypeError, "times must be a real number"),
    ],
)
@on_solvers
def test_times_are_checked(solver, times, error, match):
    with pytest.raises(error, match=match):
        SOLVERS[solver](Linear(), times)


def test_times_of_other_types():
    for times in (np.int64(2), [0, 0.5, 1], np.array([0, 0.5, 1], np.float32), (0, 0.5, 1)):
        assert euler(Linear(), times).times.tolist() == [0.0, 0.5, 1.0]
    assert euler(Linear(), np.array([0, 1], np.int32)).times.dtype == np.float64


@pytest.mark.parametrize(
    ("diffusion", "error", "match"),
    [
        (-0.1, ValueError, "diffusion must be finite and >= 0.*got -0.1 at t = 0"),
        (np.inf, ValueError, "diffusion must be finite"),
        (lambda t: 0.5 - t, ValueError, "diffusion must be.*got -0.25 at t = 0.75"),
        (lambda t: t / 0 if np.isscalar(t) else np.where(t > 0.6, np.nan, t), ValueError, "got nan at t = 0.75"),
        (("sigma", -1), ValueError, "diffusion must be finite and >= 0"),
        (lambda t: np.ones(3), ValueError, r"diffusion\(t\) must have the shape of its argument, \(4,\); got \(3,\)"),
        ("beta", ValueError, "diffusion must be 'sigma', 'sigma2', 'reversal'.*got 'beta'"),
        (("sigma", 1, 2), ValueError, "diffusion must be"),
        (("sigma", "x"), TypeError, "factor of diffusion must be a number"),
        (None, TypeError, "diffusion must be a number"),
        (True, TypeError, "diffusion must be a number"),
    ],
)
def test_diffusion_is_checked(diffusion, error, match):
    with pytest.raises(error, match=match):
        euler_maruyama(Linear(), 4, diffusion)


@pytest.mark.parametrize("value", [-0.1, np.nan, np.inf])
def test_churn_and_eta_are_checked(value):
    with pytest.raises(ValueError, match="churn must be finite and >= 0"):
        exponential(Linear(), 4, value)
    with pytest.raises(ValueError, match="eta must be finite and >= 0 and <= 1"):
        ddim(Linear(), 4, value)
    with pytest.raises(ValueError, match="eta must be finite"):
        ddim(Linear(), 4, 1.5)


GOOD = {
    "times": [0.0, 0.5, 0.5, 1.0],
    "alpha": [0.0, 0.5, 0.5, 1.0],
    "sigma": [1.0, 0.5, 0.5, 0.0],
    "A": [0.5, 0.5, 0.0],
    "B": [0.5, 0.25, 1.0],
    "C": [0.0, 0.25, 0.0],
    "S": [0.0, 0.1, 0.0],
    "commit": [False, True, True],
}


@pytest.mark.parametrize(
    ("column", "value", "match"),
    [
        ("C", [0.1, 0.25, 0.0], "C must be 0 in the first row, which has none above; got 0.1 at index 0"),
        ("S", [0.1, 0.1, 0.0], "S must be 0 in rows that are not committed; got 0.1 at index 0"),
        ("S", [0.0, -0.1, 0.0], "S must be >= 0; got -0.1 at index 1"),
        ("commit", [False, True, False], "commit must be True in the last row; got False at index 2"),
        ("sigma", [1.0, 0.5, 0.0, 0.0], "sigma must be > 0 where a row evaluates; got 0.0 at index 2"),
        ("sigma", [1.0, 0.5, 0.5, -1.0], "sigma must be >= 0; got -1.0 at index 3"),
        ("alpha", [0.0, 0.5, 0.4, 1.0], "alpha must not fall relative to sigma; got 0.4 at index 2"),
        ("alpha", [-0.1, 0.5, 0.5, 1.0], "alpha must be >= 0; got -0.1 at index 0"),
        ("times", [0.0, 0.5, 0.4, 1.0], "times must not decrease; got 0.4 at index 2"),
        ("times", [0.0, 0.5, 0.5, 1.5], r"times must lie in \[0, 1\]; got 1.5 at index 3"),
        ("A", [0.5, np.nan, 0.0], "A must be finite; got nan at index 1"),
        ("alpha", [0.0, 0.5, 0.5, np.inf], "alpha must be finite; got inf at index 3"),
        ("B", [0.5, 0.25], r"B must have shape \(3,\) for 3 rows; got \(2,\)"),
        ("times", [0.0, 0.5, 1.0], r"times must have shape \(4,\) for 3 rows; got \(3,\)"),
        ("commit", [], r"commit must be a vector with an entry for each row; got shape \(0,\)"),
        ("commit", True, r"commit must be a vector"),
    ],
)
def test_tables_check_themselves(column, value, match):
    StepTable(**GOOD)
    with pytest.raises(ValueError, match=f"^mine: {match}"):
        StepTable(**{**GOOD, column: value}, name="mine")
    if column == "B":
        with pytest.raises(TypeError, match="B must be a real number"):
            StepTable(**{**GOOD, "B": ["a", "b", "c"]})


def test_tables_are_frozen_records():
    given = np.array(GOOD["A"])
    table = StepTable(**{**GOOD, "A": given})
    given[0] = 9.0
    assert table.A[0] == 0.5  # a copy
    for name in GOOD:
        column = getattr(table, name)
        assert column.dtype == (bool if name == "commit" else np.float64)
        with pytest.raises(ValueError, match="read-only"):
            column[0] = 0
    with pytest.raises(AttributeError):
        table.A = given
    with pytest.raises(ValueError, match="S must be >= 0"):
        replace(table, S=[0.0, 0.0, -1.0])
    assert len(table) == 3
    data = json.loads(json.dumps(table.to_dict()))
    assert data == {"name": "steps", **GOOD}
    np.testing.assert_array_equal(StepTable(**data).B, table.B)


def test_noise_levels_whose_ratio_is_no_number_are_refused():
    """0 / 0 of two levels that are one subnormal number, and a warning of NumPy before any field said why."""
    with pytest.raises(ValueError, match="sigma must be 0 or between"):
        ddim(VELinear(5e-324), 4)


def test_a_long_table_prints_short():
    text = str(ddim(Linear(), 1000))
    assert text.splitlines()[0] == "StepTable ddim: 1000 rows, 1000 committed"
    assert len(text.splitlines()) < 15
    assert re.search(r"^ +999 +0.999 +0.999 +0.001 +0 +1 +0 +0 +True$", text, re.MULTILINE)
    assert text.splitlines()[-1].split() == ["1000", "1", "1", "0"]
    assert len(str(heun(Linear(), 3)).splitlines()) == 2 + 6
    assert repr(euler(Linear(), 3)) == str(euler(Linear(), 3))


@on_solvers
def test_a_hundred_thousand_steps(solver):
    table = SOLVERS[solver](VP(), 100_000)
    for column in (table.propagator(), table.noise_std(), table.error_weights(), table.curvature_defect()):
        assert np.isfinite(column).all()
    if solver in EXACT:
        assert np.abs(table.curvature_defect()).max() < 1e-15
        assert law(table, 1.0, table.sigma[0]) == pytest.approx((1.0, 0.0), abs=1e-12)
