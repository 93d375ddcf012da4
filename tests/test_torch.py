"""The field as torch modules: against the field by hand, and their gradients against differences and direct sums."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from problems import problem

import interp_fast as itf
from interp_fast.field import oracle_of

torch = pytest.importorskip("torch", reason="torch is not installed")
gradcheck = torch.autograd.gradcheck

ROWS = problem("gauss").rows[:60, :6]
FIELD = itf.Field(ROWS, itf.Trigonometric())
DOUBLE = torch.float64
TYPES = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}


def modules(field, **options):
    """name -> (module, what the field says by hand at float64 x and level)."""
    return {
        "denoiser": (itf.torch.Denoiser(field), lambda x, s: field.at(1.0, s).denoiser(x)),
        "velocity": (itf.torch.Velocity(field, **options), field.velocity),
        "noise": (itf.torch.Noise(field), lambda x, s: field.at(1.0, s).noise(x)),
        "level": (
            lambda x, k: itf.torch.Noise(field, itf.Discrete.ddpm())(x, k).sample,
            lambda x, k: field.with_schedule(itf.Discrete.ddpm()).noise(x, itf.Discrete.ddpm().t_of(k)),
        ),
    }


LEVELS = {"denoiser": [0.0, 0.3, 7.0], "velocity": [0.0, 0.4, 0.97], "noise": [0.01, 0.3, 7.0], "level": [999, 500, 0]}
each = pytest.mark.parametrize("name", LEVELS)


@each
@pytest.mark.parametrize("rows", [np.float64, np.float32, np.uint8])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_modules_are_the_field_by_hand(name, rows, dtype):
    """The values as given, computed in float64 and rounded once; each level alone and as one of a batch."""
    data = np.clip(ROWS * 40 + 128, 0, 255).astype(rows) if rows == np.uint8 else ROWS.astype(rows)
    field = itf.Field(data, itf.Trigonometric(), bandwidth=0.0)
    module, by_hand = modules(field)[name]
    x = torch.from_numpy(FIELD.draw(3, 0.6, rng=1)[0]).to(dtype)
    given = x.to(DOUBLE).numpy()
    level = np.array(LEVELS[name], float)
    want = by_hand(given, level)
    narrow = 0.0 if rows == np.float64 else 2.0**-23  # the field itself rounds to float32
    bound = (TYPES[dtype] + narrow) * np.abs(want) + 1e-12 * np.maximum(np.linalg.norm(want, axis=1, keepdims=True), 1)
    got = module(x, torch.from_numpy(level))
    assert got.dtype == dtype
    assert (np.abs(got.to(DOUBLE).numpy() - want) <= bound).all()
    for m, one in enumerate(LEVELS[name]):
        scalars = one, torch.tensor(one, dtype=DOUBLE), torch.tensor([one], dtype=DOUBLE), np.float64(one)
        for answer in (*(module(x, value)[m] for value in scalars), module(x[m], one)):
            alone = answer.to(DOUBLE).numpy()  # another batch: the same to tolerance
            assert (np.abs(alone - want[m]) <= 2 * bound[m] + (1e-5 if narrow else 0.0)).all()
    assert torch.equal(module(x, torch.from_numpy(level)[:, None]), got)


@each
def test_layouts_and_shapes(name):
    """Images, channels last, slices, tensors that share memory; M = 1 and no point at all."""
    module, _ = modules(FIELD)[name]
    x = torch.from_numpy(FIELD.draw(4, 0.6, rng=1)[0])
    level = LEVELS[name][1]
    flat = module(x, level)
    images = x.reshape(4, 1, 2, 3)
    last = images.contiguous(memory_format=torch.channels_last)
    wide = torch.zeros(4, 1, 2, 6, dtype=DOUBLE)
    wide[..., ::2] = images
    for given in (images, last, wide[..., ::2]):
        got = module(given, level)
        assert got.shape == given.shape
        assert torch.equal(got.reshape(4, 6), flat)
    per_sample = torch.full((4, 1, 1, 1), float(level), dtype=DOUBLE)
    assert torch.equal(module(images, per_sample).reshape(4, 6), flat)
    assert torch.equal(module(images[:1], level)[0], flat[0].reshape(1, 2, 3))
    assert module(x[:0], level).shape == (0, 6)
    with torch.inference_mode():
        assert torch.equal(module(x, level), flat)
    with torch.no_grad():
        assert torch.equal(module(x, level), flat)


def test_limits_at_no_noise():
    x = torch.from_numpy(ROWS[:2] * 1.01)
    np.testing.assert_array_equal(itf.torch.Denoiser(FIELD)(x, 0.0), ROWS[:2])
    smooth = itf.Field(ROWS, bandwidth=0.3)
    velocity = itf.torch.Velocity(smooth)(x, 1.0)  # nothing is singular with a bandwidth
    np.testing.assert_allclose(velocity, smooth.velocity(x.numpy(), 1.0), rtol=1e-13)
    np.testing.assert_array_equal(itf.torch.Noise(smooth)(x, 0.0), np.zeros((2, 6)))


def points(ratio, seed=0):
    """Draws at sigma / alpha, the middle of two rows and a point near it, alpha = 1."""
    rng = np.random.default_rng(seed)
    near = np.argsort(((ROWS - ROWS[0]) ** 2).sum(1))[1]
    draws = ROWS[rng.integers(0, 60, 3)] + ratio * rng.standard_normal((3, 6))
    middle = (ROWS[0] + ROWS[near]) / 2
    return np.concatenate([draws, [middle, middle + 0.2 * ratio * rng.standard_normal(6)]])


def leaf(a):
    return torch.tensor(a, dtype=DOUBLE, requires_grad=True)


@pytest.mark.parametrize("ratio", [5.0, 1.0, 0.2, 0.05, 0.01])
@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
def test_gradcheck(ratio, bandwidth):
    """In x, sigma and t at once, next to ties too."""
    weights = np.random.default_rng(1).uniform(0.1, 1, 60)
    field = itf.Field(ROWS, itf.LatentBridge(), bandwidth=bandwidth, weights=weights)
    x, sigma = points(ratio), np.full(5, ratio)
    eps = 1e-6 * min(ratio, 1.0) ** 0.5  # between truncation at ties and rounding
    assert gradcheck(itf.torch.Denoiser(field), (leaf(x), leaf(sigma)), eps=eps)
    assert gradcheck(itf.torch.Noise(field), (leaf(x), leaf(sigma)), eps=eps)
    t = field.schedule.time_of(ratio)
    alpha = field.schedule(t).alpha
    assert gradcheck(itf.torch.Velocity(field), (leaf(alpha * x), leaf(np.full(5, t))), eps=eps)
    assert gradcheck(itf.torch.Velocity(field, order="tx"), (leaf(t), leaf(alpha * x)), eps=eps)
    noise = itf.torch.Noise(field, [0.9, 0.5, 0.1])
    assert gradcheck(lambda x: noise(x, 1).sample, (leaf(x),), eps=eps)


@pytest.mark.parametrize(
    "schedule",
    [itf.Linear(), itf.Trigonometric(), itf.SqrtVP(), itf.LatentBridge(0.5), itf.VP(), itf.VEGeometric(0.01, 3.0),
     itf.VELinear(3.0), itf.EncoderDecoder(), itf.Discrete([0.99, 0.5, 0.1]),
     itf.Custom(lambda t: t**2, lambda t: 1 - t)],
    ids=lambda s: type(s).__name__,
)  # fmt: skip
def test_gradients_in_time_on_every_schedule(schedule):
    field = itf.Field(ROWS, schedule)
    for t in (0.31, 0.77):
        x = field.draw(3, t, rng=2)[0]
        assert gradcheck(itf.torch.Velocity(field), (leaf(x), leaf(t)), eps=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("ratio", [2.0, 0.3, 0.02, 1e-3])
def test_gradients_against_direct_sums(engine, dtype, ratio):
    """dD/dsigma = (-2 C r + T) / sigma^3 and dD/dx = C / sigma^2, from all weights in extended precision."""
    rows = ROWS.astype(dtype)
    x = points(ratio)
    g = np.random.default_rng(3).standard_normal(x.shape)
    w = np.exp(oracle.posterior(rows, x, 1.0, ratio).log_weight.astype(np.longdouble))
    e = rows[None].astype(np.longdouble) - (w @ rows)[:, None]
    along = (e * g[:, None]).sum(2)
    squares = (e**2).sum(2)
    r = x - w @ rows
    across = (e * r[:, None]).sum(2)
    in_x = ((w * along)[..., None] * e).sum(1) / ratio**2
    in_sigma = (w * along * (squares - 2 * across)).sum(1) / ratio**3
    leaves = leaf(x), leaf(np.full(5, ratio))
    field = itf.Field(rows, backend=engine.backend)
    found = torch.autograd.grad(itf.torch.Denoiser(field)(*leaves), leaves, torch.from_numpy(g))
    b = 1e-3 if dtype == "float32" else 1e-9
    size = np.linalg.norm(g, axis=1)
    variance = (w * squares).sum(1)
    assert (np.linalg.norm(found[0].numpy() - in_x, axis=1) <= b * variance / ratio**2 * size + 1e-300).all()
    scale = (w * squares**1.5).sum(1) / ratio**3 + variance * np.linalg.norm(r, axis=1) / ratio**3
    assert (np.abs(found[1].numpy() - in_sigma) <= b * scale * size + 1e-300).all()


def test_third_moments_of_narrow_posteriors():
    """Two rows that differ by 1e-7 of the reach of the data, and a late tie between far rows."""
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((40, 3))
    rows[1] = rows[0] + 1e-7 * rng.standard_normal(3)
    for x, sigma in (((0.4 * rows[0] + 0.6 * rows[1])[None], 1e-7), (((rows[2] + rows[3]) / 2)[None], 3e-5)):
        w = np.exp(oracle.posterior(rows, x, 1.0, sigma).log_weight.astype(np.longdouble))
        e = rows[None].astype(np.longdouble) - (w @ rows)[:, None]
        g = rng.standard_normal((1, 3))
        want = (w * (e**2).sum(2) * (e * g[:, None]).sum(2)).sum(1)
        got = itf._weights.third_moment(oracle_of(itf.Field(rows)).training_set, x, np.ones(1), np.full(1, sigma), g)
        scale = (w * (e**2).sum(2) ** 1.5).sum(1)
        assert (np.abs(got - want) <= 1e-9 * scale).all()


def test_gradients_flow_into_the_type_of_x():
    x = torch.from_numpy(points(0.5)).to(torch.bfloat16).requires_grad_()
    itf.torch.Denoiser(FIELD)(x, 0.5).sum().backward()
    assert x.grad.dtype == torch.bfloat16
    wide = x.detach().double().requires_grad_()
    itf.torch.Denoiser(FIELD)(wide, 0.5).sum().backward()
    np.testing.assert_allclose(x.grad.double(), wide.grad, rtol=2.0**-8, atol=1e-30)


def test_second_derivatives_are_refused_and_nothing_else():
    """create_graph alone passes, as exact divergences of other packages set it; a second backward says why not."""
    x, t = leaf(FIELD.draw(4, 0.5, rng=0)[0]), leaf(0.5)
    velocity = itf.torch.Velocity(FIELD)(x, t)
    divergence = sum(
        torch.autograd.grad(velocity[:, i].sum(), x, create_graph=True)[0][:, i] for i in range(FIELD.d)
    )  # fmt: skip
    np.testing.assert_allclose(divergence.detach(), FIELD.divergence(x.detach().numpy(), 0.5), rtol=1e-12)
    for wrt in (x, t):
        with pytest.raises(NotImplementedError, match="second derivatives of the field"):
            torch.autograd.grad(divergence.sum(), wrt, retain_graph=True)
    first = torch.autograd.grad(velocity.sum(), t, create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="second derivatives"):
        torch.autograd.grad(first, t)


def test_no_gradient_at_no_noise():
    x = leaf(ROWS[:2])
    with pytest.raises(ValueError, match="sigma must be > 0: the gradient of the posterior mean does not exist"):
        itf.torch.Denoiser(FIELD)(x, 0.0).sum().backward()
    smooth = itf.torch.Velocity(itf.Field(ROWS, itf.SqrtVP(), bandwidth=0.1))
    t = leaf(1.0)
    with pytest.raises(ValueError, match=r"t must avoid 1\.0: the schedule has no second derivative"):
        smooth(x.detach(), t).sum().backward()


def test_clip():
    x = torch.from_numpy(FIELD.draw(3, 0.6, rng=1)[0])
    velocity = itf.torch.Velocity(FIELD, clip=0.01)
    got = velocity(x, torch.tensor([-0.1, 1.0, 1.3]))
    want = itf.torch.Velocity(FIELD)(x, torch.tensor([0.0, 0.99, 0.99], dtype=DOUBLE))
    assert torch.equal(got, want)
    t = leaf([0.5, 1.0, -1.0])
    velocity(x, t).sum().backward()
    assert t.grad[1:].tolist() == [0, 0]
    assert t.grad[0] != 0


def test_order_and_extras():
    x, t = torch.from_numpy(FIELD.draw(3, 0.6, rng=1)[0]), torch.tensor(0.6, dtype=DOUBLE)
    want = itf.torch.Velocity(FIELD)(x, t)
    assert torch.equal(itf.torch.Velocity(FIELD, order="tx")(t, x), want)
    assert torch.equal(itf.torch.Velocity(FIELD, order="tx")(x=x, t=t), want)
    assert torch.equal(itf.torch.Velocity(FIELD)(x, t=t), want)
    assert torch.equal(itf.torch.Velocity(FIELD)(x, t, y=None, labels=None), want)
    assert torch.equal(itf.torch.Velocity(FIELD, ignore=("args",))(x, t, args={}), want)
    assert torch.equal(itf.torch.Velocity(FIELD, ignore="args")(x, t, args={}), want)


def test_noise_in_both_forms():
    x = torch.from_numpy(FIELD.draw(3, 0.6, rng=1)[0])
    noise = itf.torch.Noise(FIELD, torch.tensor([0.99, 0.5, 0.1]))
    assert torch.equal(noise(x, 1, return_dict=False)[0], noise(x, torch.tensor(1)).sample)
    assert torch.equal(noise(x, torch.tensor([1, 1, 1])).sample, noise(x, timestep=1).sample)
    free = itf.torch.Noise(FIELD)
    assert free.rand_input(5).shape == (5, 6)
    sigma = torch.tensor(0.5)
    assert torch.equal(free.predict_eps_cfg(x, sigma, None, 1.5), free(x, sigma))
    assert torch.equal(free.predict_eps(x, sigma), free(x, sigma, cond=None))


def test_modules_are_modules():
    denoiser = itf.torch.Denoiser(FIELD)
    assert list(denoiser.parameters()) == []
    assert denoiser.eval()(torch.zeros(1, 6), 1.0).shape == (1, 6)
    assert repr(denoiser) == f"Denoiser({FIELD!r})"
    assert denoiser.round_sigma([1.0, 2.0]).tolist() == [1.0, 2.0]


X = torch.zeros(3, 6)
BAD = {
    "array": (lambda m: m["denoiser"](np.zeros((3, 6)), 1.0), TypeError, "x must be a tensor; got ndarray"),
    "int": (lambda m: m["denoiser"](X.int(), 1.0), TypeError, r"x must be of a floating type; .*x\.float"),
    "shape": (lambda m: m["velocity"](torch.zeros(3, 7), 0.5), ValueError, r"x must have .*6 numbers.*\(3, 7\)"),
    "scalar": (lambda m: m["velocity"](torch.tensor(0.5), 0.5), ValueError, r"x must have shape .*got \(\)"),
    "nan": (lambda m: m["noise"](X * torch.nan, 0.5), ValueError, r"x must be finite; got nan in row 0"),
    "sigma -": (lambda m: m["denoiser"](X, -0.1), ValueError, r"sigma must be finite and >= 0; got -0\.1"),
    "sigma nan": (lambda m: m["denoiser"](X, torch.tensor([1, torch.nan, 1])), ValueError, "sigma must .*nan"),
    "sigma 0": (lambda m: m["noise"](X, 0), ValueError, "sigma must be finite and > 0.*got 0"),
    "sigma shape": (lambda m: m["noise"](X, torch.ones(2)), ValueError, r"sigma must .*3 points.*got \(2,\)"),
    "sigma wide": (lambda m: m["noise"](X, torch.ones(1, 3)), ValueError, r"sigma must .*got \(1, 3\)"),
    "sigma bool": (lambda m: m["noise"](X, torch.ones(3) > 0), TypeError, "sigma must be a real number.*bool"),
    "sigma kind": (lambda m: m["noise"](X, "1"), TypeError, "sigma must be a real number"),
    "classes": (lambda m: m["denoiser"](X, 1.0, torch.zeros(3)), ValueError, "class_labels must be None.*no labels"),
    "y": (lambda m: m["velocity"](X, 0.5, y=torch.zeros(3)), ValueError, "y must be None: the field has no labels"),
    "cond": (lambda m: m["noise"](X, 0.5, cond=torch.zeros(3)), ValueError, "cond must be None"),
    "extra": (lambda m: m["velocity"](X, 0.5, mask=1), TypeError, r"no argument 'mask'.*ignore=\('mask',\)"),
    "t = 1": (lambda m: m["velocity"](X, 1.0), ValueError, r"t must avoid 1\.0: the velocity does not.*clip=1e-3"),
    "t > 1": (lambda m: m["velocity"](X, 1.001), ValueError, r"t must lie in \[0, 1\].*1\.001.*clip"),
    "t < 0": (lambda m: m["velocity"](X, torch.tensor(-1e-7)), ValueError, r"t must lie in \[0, 1\].*clip"),
    "t nan": (lambda m: m["velocity"](X, torch.nan), ValueError, r"t must lie in \[0, 1\].*nan"),
    "once": (lambda m: m["velocity"](X), TypeError, "called with x and t, once each; got 1 without"),
    "twice": (lambda m: m["velocity"](X, 0.5, t=0.5), TypeError, "called with x and t, once each"),
    "thrice": (lambda m: m["velocity"](X, 0.5, 0.5), TypeError, "called with x and t, once each; got 3"),
    "order": (lambda m: itf.torch.Velocity(FIELD, order="yx"), ValueError, "order must be 'xt' or 'tx'; got 'yx'"),
    "clip": (lambda m: itf.torch.Velocity(FIELD, clip=0), ValueError, r"clip must lie in \(0, 1\); got 0"),
    "field": (lambda m: itf.torch.Denoiser(ROWS), TypeError, "field must be a Field; got ndarray"),
    "level": (lambda m: m["level"](X, 1000), ValueError, r"timestep must lie in \[0, 999\].*got 1000"),
    "level -": (lambda m: m["level"](X, torch.tensor(-1)), ValueError, r"timestep must lie in \[0, 999\].*got -1"),
    "level grad": (lambda m: m["level"](X, leaf(3.0)), TypeError, "timestep is a tensor that requires grad"),
    "infinite": (
        lambda m: itf.torch.Velocity(itf.Field(ROWS, itf.SqrtVP()))(X, 0.0), ValueError, "t must avoid 0.0.*infinite"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, kind, match = BAD[name]
    with pytest.raises(kind, match=match):
        call({name: module for name, (module, _) in modules(FIELD).items()})
