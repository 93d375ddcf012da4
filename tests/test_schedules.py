"""Schedules and grids against mpmath, finite differences and their own inverse."""

from __future__ import annotations

import functools
import math

import mpmath as mp
import numpy as np
import pytest

from interp_fast import grid
from interp_fast.schedules import (
    VP,
    Custom,
    Discrete,
    EncoderDecoder,
    LatentBridge,
    Linear,
    Schedule,
    SqrtVP,
    Trigonometric,
    VEGeometric,
    VELinear,
    schedule,
)


def bridge(c):
    return lambda t: (t, mp.sqrt((1 - t) ** 2 + c * t * (1 - t)))


def vp(low, high):
    def pair(t):
        integral = low * (1 - t) + (high - low) * (1 - t) ** 2 / 2
        return mp.exp(-integral / 2), mp.sqrt(1 - mp.exp(-integral))

    return pair


def encoder_decoder(t):
    a, b = mp.cos(mp.pi * t) ** 2 * (t < 0.5), mp.cos(mp.pi * t) ** 2 * (t > 0.5)
    return b, mp.sqrt(a**2 + mp.sin(mp.pi * t) ** 4)


ABAR = [0.9999, 0.97, 0.6, 0.2, 4e-5]


def discrete(t):
    """Logarithms of the levels' signal-to-noise ratios, joined by straight lines."""
    lam = [mp.log(mp.mpf(a) / (1 - mp.mpf(a))) / 2 for a in ABAR]
    place = (1 - t) * (len(ABAR) - 1)
    k = min(int(mp.floor(place)), len(ABAR) - 2)
    at = lam[k] + (place - k) * (lam[k + 1] - lam[k])
    return 1 / mp.sqrt(1 + mp.exp(-2 * at)), 1 / mp.sqrt(1 + mp.exp(2 * at))


# The definitions, written once more in extended precision, and the values at t = 0 and t = 1.
CASES = {
    "linear": (Linear(), lambda t: (t, 1 - t), (0, 1), (1, 0)),
    "trigonometric": (Trigonometric(), lambda t: (mp.sin(mp.pi * t / 2), mp.cos(mp.pi * t / 2)), (0, 1), (1, 0)),
    "sqrt-vp": (SqrtVP(), lambda t: (mp.sqrt(t), mp.sqrt(1 - t)), (0, 1), (1, 0)),
    "bridge-0": (LatentBridge(0.0), bridge(0), (0, 1), (1, 0)),
    "bridge-0.7": (LatentBridge(0.7), bridge(mp.mpf(0.7)), (0, 1), (1, 0)),
    "bridge-1": (LatentBridge(), bridge(1), (0, 1), (1, 0)),
    "bridge-3": (LatentBridge(3), bridge(3), (0, 1), (1, 0)),
    "vp": (VP(), vp(mp.mpf(0.1), 20), None, (1, 0)),
    "vp-constant": (VP(4.0, 4.0), vp(4, 4), None, (1, 0)),
    "ve-geometric": (
        VEGeometric(),
        lambda t: (mp.mpf(1), mp.mpf(0.002) * (80 / mp.mpf(0.002)) ** (1 - t)),
        (1, 80),
        (1, 0.002),
    ),
    "ve-linear": (VELinear(5.0), lambda t: (mp.mpf(1), 5 * (1 - t)), (1, 5), (1, 0)),
    "encoder-decoder": (EncoderDecoder(), encoder_decoder, (0, 1), (1, 0)),
    "discrete": (Discrete(ABAR), discrete, None, (np.sqrt(0.9999), np.sqrt(1 - 0.9999))),
}
TIMES = np.concatenate(
    [
        [1e-300, 1e-17, 1e-9, 1e-4, 0.25, 0.5 - 2**-50, 0.5 + 2**-50, 0.75, 1 - 1e-4, 1 - 1e-9, 1 - 2**-52],
        np.random.default_rng(1).uniform(0, 1, 20),
    ]
)
every = pytest.mark.parametrize("name", CASES)


def inside(name):
    """Times around which the curve is smooth."""
    if name == "discrete":
        return TIMES[np.abs(TIMES * 4 - np.round(TIMES * 4)) > 1e-8]
    return TIMES[(TIMES > 1e-10) & (TIMES < 1 - 1e-12) & (np.abs(TIMES - 0.5) > 1e-10)]


def custom_pairs():
    return [
        (Custom(lambda t: np.sin(np.pi * t / 2), lambda t: np.cos(np.pi * t / 2)), Trigonometric()),
        (Custom(np.sqrt, lambda t: np.sqrt(1 - t)), SqrtVP()),
        (Custom(lambda t: VP()(t).alpha, lambda t: VP()(t).sigma), VP()),
        (Custom(lambda t: 1.0, lambda t: 80.0 * (1 - t)), VELinear()),
    ]


@every
def test_values_have_full_relative_precision_up_to_both_ends(name):
    curve, exact, _, _ = CASES[name]
    got = curve(TIMES)
    with mp.workdps(400):
        pairs = [exact(mp.mpf(float(t))) for t in TIMES]
    for values, k in ((got.alpha, 0), (got.sigma, 1)):
        want = np.array([float(pair[k]) for pair in pairs])
        np.testing.assert_allclose(values, want, rtol=3e-15, atol=0)
    with mp.workdps(50):
        lam = np.array([float(mp.log(a / s)) if a else -np.inf for a, s in pairs])
    np.testing.assert_allclose(curve.lam(TIMES), lam, rtol=1e-15, atol=2e-15)


@functools.cache
def derivatives(name):
    """First and second ones of alpha and sigma at the times inside, by central differences of 80 digits."""
    exact, found = CASES[name][1], []
    with mp.workdps(80):
        h = mp.mpf(10) ** -25
        for t in inside(name):
            three = (exact(mp.mpf(float(t)) + k * h) for k in (-1, 0, 1))
            for before, at, after in zip(*three, strict=True):
                found.append([float((after - before) / (2 * h)), float((after - 2 * at + before) / h**2)])
    return np.array(found).reshape(-1, 2, 2).transpose(2, 1, 0)


@every
def test_derivatives(name):
    got = CASES[name][0](inside(name))
    np.testing.assert_allclose([got.alpha_dot, got.sigma_dot], derivatives(name)[0], rtol=2e-14, atol=1e-14)


@every
def test_second_derivatives(name):
    times = inside(name)
    got = CASES[name][0]._second(times, 1 - times)
    np.testing.assert_allclose(got, derivatives(name)[1], rtol=1e-11, atol=1e-12)


def test_second_derivatives_of_functions():
    t = np.linspace(0.05, 0.95, 19)
    for curve, known in custom_pairs():
        for got, want in zip(curve._second(t, 1 - t), known._second(t, 1 - t), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-7 * np.abs(want).max() + 1e-9 * curve(0.0).sigma)


@every
def test_ends_are_exact(name):
    curve, _, start, end = CASES[name]
    if start is None:
        with mp.workdps(30):
            start = tuple(float(v) for v in CASES[name][1](mp.mpf(0)))
    assert curve(0.0)[:2] == pytest.approx(start, rel=1e-15, abs=0)
    assert curve(1.0)[:2] == end
    ends = curve(np.array([0.0, 1.0]))
    assert not np.isnan(ends).any()
    assert curve.lam(1.0) == (np.inf if end[1] == 0 else pytest.approx(np.log(end[0] / end[1]), rel=1e-15))
    assert (curve.lam(0.0) == -np.inf) == (start[0] == 0)


def test_derivatives_that_diverge_do_so_at_their_end_only():
    assert SqrtVP()(0.0).alpha_dot == np.inf
    assert SqrtVP()(0.0).sigma_dot == -0.5
    for curve in (SqrtVP(), LatentBridge(), LatentBridge(2.0), VP()):
        assert curve(1.0).sigma_dot == -np.inf
        assert np.isfinite(curve(1.0)[:2]).all()
        assert np.isfinite(curve(1 - 2**-53)).all()
    for curve in (Linear(), Trigonometric(), LatentBridge(0.0), VELinear(), VEGeometric(), EncoderDecoder()):
        assert np.isfinite(curve(np.array([0.0, 1.0]))).all()


@every
def test_lambda_rises_and_time_at_inverts_it(name):
    curve = CASES[name][0]
    times = np.sort(np.concatenate([TIMES, np.linspace(0, 1, 257)]))
    lam = curve.lam(times)
    assert (lam[1:] >= lam[:-1] - 1e-14).all()
    if name == "encoder-decoder":
        times = times[times > 0.5]
    back = curve.time_at(curve.lam(times))
    np.testing.assert_allclose(back, times, rtol=0, atol=5e-15)
    resolved = times < 1 - 1e-6  # nearer to 1 a unit in the last place of t moves lambda
    np.testing.assert_allclose(curve.lam(back[resolved]), lam[-len(back) :][resolved], rtol=1e-13, atol=1e-9)


@every
def test_time_at_the_ends(name):
    curve = CASES[name][0]
    assert curve.time_at(curve.lam(1.0)) == 1.0
    first = 0.5 if name == "encoder-decoder" else 0.0  # alpha = 0 lasts until 1/2
    assert curve.time_at(curve.lam(0.0)) == pytest.approx(first, abs=1e-15)


@every
def test_closed_inverse_agrees_with_the_bisection(name):
    curve = CASES[name][0]
    lam = curve.lam(np.linspace(0.51, 0.999, 30))
    np.testing.assert_allclose(Schedule._time_at(curve, lam), curve.time_at(lam), rtol=1e-13)


@every
def test_time_of_inverts_the_noise_level(name):
    curve = CASES[name][0]
    times = np.linspace(0.51, 0.999, 40)
    c = curve(times)
    np.testing.assert_allclose(curve.time_of(c.sigma / c.alpha), times, rtol=0, atol=5e-15)
    assert isinstance(curve.time_of(float(c.sigma[0] / c.alpha[0])), float)
    end = curve(1.0)
    assert curve.time_of(end.sigma / end.alpha) == 1.0


def test_time_of_at_and_beyond_the_ends():
    assert VELinear(80.0).time_of([80.0, np.float32(80.00002), 40, 0]) == pytest.approx([0, 0, 0.5, 1], abs=1e-15)
    assert VEGeometric().time_of(np.float32(0.002)) == pytest.approx(1.0, abs=1e-7)
    assert Linear().time_of(np.inf) == 0.0
    assert Linear().time_of(0) == 1.0
    for curve, sigma in ((VEGeometric(), 0.00199), (VEGeometric(), 0.0), (VELinear(), 81.0), (VP(), np.inf)):
        with pytest.raises(ValueError, match=r"sigma must lie in \[.*, the range of sigma / alpha of V.*; got "):
            curve.time_of([1.0, sigma])
    for sigma in (-1.0, -0.5, np.nan):
        with pytest.raises(ValueError, match=f"sigma must lie in .*got {sigma}"):
            Linear().time_of(sigma)
    with pytest.raises(TypeError, match="sigma must be a real number"):
        Linear().time_of("80")


def test_time_at_clips_rounding():
    last = VEGeometric().lam(1.0)
    assert VEGeometric().time_at(last + 9e-7) == 1.0
    with pytest.raises(ValueError, match="lam must lie"):
        VEGeometric().time_at(last + 2e-6)


def test_time_at_out_of_range():
    with pytest.raises(ValueError, match=r"lam must lie in \[-4.38202663, 6.2146081\], the range of VEG.*got 7"):
        VEGeometric().time_at([0.0, 7.0])
    with pytest.raises(ValueError, match="lam must lie"):
        VP().time_at(-np.inf)
    with pytest.raises(ValueError, match=r"lam must lie.*nan"):
        Linear().time_at(np.nan)
    assert Linear().time_at([-np.inf, 0.0, np.inf]).tolist() == [0.0, 0.5, 1.0]
    assert Linear().time_at(-800.0) == 0.0
    with pytest.raises(ValueError, match=r"\[-4\.38202663, inf\].*got -4\.38203663"):
        VELinear(80.0).time_at(-math.log(80) - 1e-5)


@pytest.mark.parametrize("curve", [VELinear(80.0), VELinear(0.003), VEGeometric(), VP()], ids=repr)
def test_time_at_ends_that_were_rounded(curve):
    """A float32 of an end of the range, or the next one, is that end."""
    for t in (0.0, 1.0):
        end = np.float32(curve.lam(t))
        for lam in (end, np.nextafter(end, np.float32(-99)), np.nextafter(end, np.float32(99))):
            assert curve.time_at(lam) == pytest.approx(t, abs=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8, np.longdouble])
def test_any_real_dtype_and_shape(dtype):
    t = np.array([[0, 1], [1, 0]], dtype)
    for curve, *_ in CASES.values():
        values = curve(t)
        assert {np.asarray(v).dtype for v in values} == {np.dtype(np.float64)}
        assert {v.shape for v in values} == {(2, 2)}
        assert curve(t[0, 1]).alpha == values.alpha[0, 1]
    assert Linear()(np.float32(0.1)).sigma == 1 - float(np.float32(0.1))
    assert all(isinstance(v, float) for v in EncoderDecoder()(np.array(0.25)))
    assert isinstance(Linear().lam(0.5), float)
    assert Linear()(np.zeros((0, 3))).alpha.shape == (0, 3)


@pytest.mark.parametrize("t", [-1e-9, 1 + 1e-9, np.nan, np.inf, [0.5, 2.0]])
def test_times_outside(t):
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        Linear()(t)


@pytest.mark.parametrize("t", ["0.5", 0.5j, None, True])
def test_times_of_another_kind(t):
    with pytest.raises(TypeError, match="t must be a real number"):
        Linear()(t)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: LatentBridge(-1.0), "c must be finite and >= 0; got -1"),
        (lambda: LatentBridge(np.nan), "c must be finite"),
        (lambda: VP(0.0), "beta_min must be finite and > 0"),
        (lambda: VP(3.0, 2.0), "beta_max must be finite and >= 3; got 2"),
        (lambda: VEGeometric(0.0), "sigma_min must be finite and > 0"),
        (lambda: VEGeometric(1.0, 1.0), "sigma_max must be finite and > 1"),
        (lambda: VELinear(np.inf), "sigma_max must be finite"),
    ],
)
def test_parameters_out_of_range(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_parameters_of_another_kind():
    with pytest.raises(TypeError, match="beta_min must be a number"):
        VP("small")


def test_schedules_are_values():
    assert VP() == VP(0.1, 20.0) != VP(0.2)
    assert len({Linear(), Linear(), LatentBridge(), LatentBridge(1.0), LatentBridge(2.0)}) == 3
    assert repr(VELinear()) == "VELinear(sigma_max=80.0)"
    assert eval(repr(VP(0.5))) == VP(0.5)
    with pytest.raises(AttributeError):
        VP().beta_min = 1.0
    with pytest.raises(AttributeError):
        Linear()(0.5).alpha = 1.0
    with pytest.raises(TypeError, match="abstract"):
        Schedule()


def test_by_name():
    made = {type(schedule(n)) for n in ("linear", "trigonometric", "sqrt-vp", "latent-bridge", "vp", "encoder-decoder")}
    assert made == {Linear, Trigonometric, SqrtVP, LatentBridge, VP, EncoderDecoder}
    assert schedule("VE_geometric") == schedule("vegeometric") == VEGeometric()
    assert schedule("ve-linear") == VELinear()
    with pytest.raises(ValueError, match=r"name must be one of linear, .*encoder-decoder; got 'no-such'"):
        schedule("no-such")


def test_encoder_decoder_first_half_is_noise_only():
    values = EncoderDecoder()(np.linspace(0, 0.5, 11))
    assert not values.alpha.any()
    assert not values.alpha_dot.any()
    assert values.sigma[5] == pytest.approx(np.sqrt(0.5))
    assert values.sigma[-1] == 1.0


@pytest.mark.parametrize("pair", range(4))
def test_custom_computes_what_is_missing(pair):
    curve, known = custom_pairs()[pair]
    t = np.concatenate([np.random.default_rng(2).uniform(0, 1, 300), [1e-6, 1 - 1e-6]])
    got, want = curve(t), known(t)
    np.testing.assert_allclose(got.alpha_dot, want.alpha_dot, rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(got.sigma_dot, want.sigma_dot, rtol=1e-8, atol=1e-9)
    for end in (0.0, 1.0):  # one sided; infinite where it is
        np.testing.assert_allclose(curve(end), known(end), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(curve.time_at(known.lam(t)), t, rtol=1e-12, atol=1e-12)
    assert curve(t.reshape(2, -1)).alpha_dot.shape == (2, 151)
    assert isinstance(curve(0.3).sigma_dot, float)


def test_custom_uses_derivatives_given():
    curve = Custom(lambda t: t**2, lambda t: 1 - t, lambda t: 2 * t, lambda t: -1.0)
    assert curve(0.3) == (0.09, 0.7, 0.6, -1.0)
    assert curve == Custom(*(getattr(curve, n) for n in ("alpha", "sigma", "alpha_dot", "sigma_dot")))
    assert len({curve, curve}) == 1


def test_custom_pins_the_zeros_of_its_ends():
    curve = Custom(lambda t: np.cos(np.pi * (1 - t) / 2), lambda t: np.cos(np.pi * t / 2))
    assert np.cos(np.pi / 2) != 0
    assert curve(0.0).alpha == curve(1.0).sigma == 0.0


@pytest.mark.parametrize(
    ("functions", "match"),
    [
        ((lambda t: t, lambda t: 1 - t, lambda t: 2 * t), r"alpha_dot must be the derivative of alpha; got .* at t = "),
        ((lambda t: t, lambda t: 1 - t, None, lambda t: 1.0), "sigma_dot must be the derivative of sigma.*give -1"),
        ((lambda t: t, lambda t: 1 - t, lambda t: t * np.nan), "alpha_dot must be the derivative"),
        ((lambda t: t - 0.1, lambda t: 1 - t), r"alpha must be finite and >= 0; got -0.1 at t = 0"),
        ((lambda t: t, lambda t: 1 / (1 - t)), "sigma must be finite and >= 0; got inf at t = 1"),
        ((lambda t: t, lambda t: np.maximum(0.5 - t, 0)), r"sigma must be > 0 before t = 1; got 0 at t = 0.5"),
        ((lambda t: 1 - t, lambda t: 2 - t), r"alpha must be > 0 at t = 1"),
        ((lambda t: 1 - t / 2, lambda t: 1.0), r"alpha / sigma must not fall; got .* at t = 0.00390625"),
        ((lambda t: np.ones(3), lambda t: 1 - t), "alpha must return an array of the shape of its argument"),
    ],
)
def test_custom_checks_its_functions(functions, match):
    with pytest.raises(ValueError, match=match):
        Custom(*functions)


def test_custom_wants_functions():
    with pytest.raises(TypeError, match="sigma must be a function of time"):
        Custom(lambda t: t, 0.5)


def test_uniform_grid():
    assert grid.uniform(10).tolist() == [k / 10 for k in range(11)]
    with pytest.raises(ValueError, match="K must be >= 1"):
        grid.uniform(0)
    with pytest.raises(TypeError, match="K must be an int"):
        grid.karras(Linear(), 2.5)


@every
def test_log_snr_grid(name):
    curve = CASES[name][0]
    times = grid.log_snr(curve, 20)
    assert times.shape == (21,)
    assert (times[0], times[-1]) == (0.0, 1.0)
    assert (np.diff(times) > 0).all()
    start = 0.501 if name == "encoder-decoder" else 0.001
    np.testing.assert_allclose(times[[1, -2]], [start, 0.999], rtol=1e-11)
    np.testing.assert_allclose(np.diff(curve.lam(times[1:-1]), 2), 0.0, atol=1e-9)
    assert grid.log_snr(curve, 1).tolist() == [0.0, 1.0]
    middle = curve.lam(np.array([start, 0.999])).mean()
    assert curve.lam(grid.log_snr(curve, 2)[1]) == pytest.approx(middle, abs=1e-9)


@every
def test_karras_grid(name):
    curve = CASES[name][0]
    times = grid.karras(curve, 18, sigma_max=4.0)
    assert times.shape == (19,)
    assert times[-1] == 1.0
    assert (np.diff(times) > 0).all()
    end = curve(1.0)
    keep = slice(None) if end.sigma > 0 else slice(-1)  # sigma(1) > 0 belongs to the law
    last = max(0.002, end.sigma / end.alpha)
    ratio = np.exp(-curve.lam(times[keep]))
    top = curve(0.0)
    first = min(4.0, top.sigma / top.alpha if top.alpha else np.inf)
    position = np.linspace(0, 1, len(ratio))
    want = (first ** (1 / 7) + position * (last ** (1 / 7) - first ** (1 / 7))) ** 7
    np.testing.assert_allclose(ratio, want, rtol=1e-9)


def test_karras_grid_ends():
    assert grid.karras(VELinear(), 5)[0] == 0.0
    assert grid.karras(VEGeometric(), 5)[[0, -1]].tolist() == [0.0, 1.0]
    assert grid.karras(Linear(), 5)[0] == pytest.approx(1 / 81)
    for top in np.linspace(1.0, 79.0, 40):  # sigma/alpha = 80 is not on these schedules: they start lower
        assert grid.karras(VELinear(top), 5)[0] == grid.karras(VEGeometric(0.002, top), 5)[0] == 0.0
    assert grid.karras(Linear(), 1) == pytest.approx([1 / 81, 1.0])
    short = VEGeometric(1e-4, 80.0)  # passes 0.002 before its end
    assert short(grid.karras(short, 6)).sigma[[-2, -1]] == pytest.approx([0.002, 1e-4])
    with pytest.raises(ValueError, match="sigma_min and sigma_max must bracket"):
        grid.karras(VELinear(1.0), 5, sigma_max=80.0, sigma_min=2.0)
    with pytest.raises(ValueError, match="sigma_max must be finite and > 1"):
        grid.karras(Linear(), 5, sigma_max=0.5, sigma_min=1.0)
    with pytest.raises(ValueError, match="rho must be finite and > 0"):
        grid.karras(Linear(), 5, rho=0.0)


@pytest.mark.parametrize("steps", [2, 50, 1000])
@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine"])
def test_ddpm_tables(kind, steps):
    """Against products of 40 digits."""
    low, high = (1e-4, 0.02) if kind != "scaled_linear" else (0.00085, 0.012)
    with mp.workdps(40):
        a, b = mp.mpf(low), mp.mpf(high)
        total, want = mp.mpf(1), []
        for k in range(steps):
            share = mp.mpf(k) / (steps - 1)
            if kind == "linear":
                beta = a + share * (b - a)
            elif kind == "scaled_linear":
                beta = (mp.sqrt(a) + share * (mp.sqrt(b) - mp.sqrt(a))) ** 2
            else:
                f = [
                    mp.cos((mp.mpf(i) / steps + mp.mpf("0.008")) / mp.mpf("1.008") * mp.pi / 2) ** 2 for i in (k, k + 1)
                ]
                beta = min(1 - f[1] / f[0], mp.mpf("0.999"))
            total *= 1 - beta
            want.append(total)
        alpha, sigma2 = [float(mp.sqrt(v)) for v in want], [float(1 - v) for v in want]
    curve = Discrete.ddpm(kind, steps, low, high)
    got = curve(curve.t_of(np.arange(steps)))
    np.testing.assert_allclose(got.alpha, alpha, rtol=1e-12)
    assert (np.abs(got.sigma**2 - sigma2) <= 1e-12 * np.sqrt(sigma2)).all()  # of 1 - abar, which cancels
    assert (got.sigma == np.sqrt(1 - curve.alphas_cumprod)).all()
    assert (np.diff(curve.lam(np.linspace(0, 1, 3001))) >= 0).all()


def test_levels_are_hit_from_their_times():
    """Whatever 1 - k / (T - 1) is rounded to, in both directions."""
    curve = Discrete.ddpm()
    k = np.arange(1000)
    got = curve(curve.t_of(k))
    assert (got.alpha == np.sqrt(curve.alphas_cumprod)).all()
    np.testing.assert_allclose(curve.time_at(curve.lam(curve.t_of(k))), curve.t_of(k), rtol=0, atol=1e-15)
    right = curve(curve.t_of(k[1:]) + 1e-9)
    np.testing.assert_allclose(got.alpha_dot[1:], right.alpha_dot, rtol=1e-5)
    assert curve.t_of(1.5) == 1 - 1.5 / 999


def test_discrete_levels_are_values():
    import pickle

    curve = Discrete(ABAR)
    assert curve == Discrete(np.array(ABAR)) != Discrete(ABAR[:3])
    assert hash(curve) == hash(pickle.loads(pickle.dumps(curve)))
    assert repr(curve) == "Discrete(5 levels, alphas_cumprod 0.9999 ... 4e-05)"
    with pytest.raises(ValueError, match="read-only"):
        curve.alphas_cumprod[0] = 0.5


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Discrete([0.5]), r"alphas_cumprod must be a vector of at least 2 levels; got shape \(1,\)"),
        (lambda: Discrete([[0.5, 0.4]]), "alphas_cumprod must be a vector"),
        (lambda: Discrete([1.0, 0.5]), r"alphas_cumprod must lie in \(0, 1\).*got 1.0 at level 0"),
        (lambda: Discrete([0.9, 0.5, 0.0]), r"alphas_cumprod must lie in \(0, 1\).*got 0.0 at level 2"),
        (lambda: Discrete([0.9, np.nan]), r"alphas_cumprod must lie in \(0, 1\).*nan at level 1"),
        (lambda: Discrete([0.1, 0.5]), "alphas_cumprod must fall .*got 0.5 at level 1"),
        (lambda: Discrete([0.5, 0.5]), "alphas_cumprod must fall"),
        (lambda: Discrete.ddpm("sigmoid"), "kind must be one of linear, scaled_linear, cosine; got 'sigmoid'"),
        (lambda: Discrete.ddpm(steps=1), "steps must be >= 2; got 1"),
        (lambda: Discrete.ddpm(beta_start=0), "beta_start must be finite and > 0"),
        (lambda: Discrete.ddpm(beta_end=1e-5), "beta_end must be finite and >= 0.0001"),
        (lambda: Discrete(ABAR).t_of(5), r"k must lie in \[0, 4\].*got 5"),
        (lambda: Discrete(ABAR).t_of(-0.1), r"k must lie in \[0, 4\].*got -0.1"),
    ],
)
def test_levels_that_are_none(make, match):
    with pytest.raises(ValueError, match=match):
        make()
