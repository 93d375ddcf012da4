"""Tensors of any shape: what comes back is a tensor of it; networks and modules see pictures."""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf

torch = pytest.importorskip("torch")

EVENT = (2, 3, 4)
RNG = np.random.default_rng(3)
X = RNG.standard_normal((30, *EVENT)).astype("f4")
Q = RNG.standard_normal((5, *EVENT)).astype("f4")
FIELD, FLAT = itf.Field(X), itf.Field(X.reshape(30, -1))
LINEAR = itf.Linear()


def test_answers_are_tensors_of_that_shape():
    field, q = itf.Field(torch.from_numpy(X)), torch.from_numpy(Q)
    want = FLAT.velocity(Q.reshape(5, -1), 0.6).reshape(Q.shape)
    for x in (q, q.to(memory_format=torch.channels_last)):
        got = field.velocity(x, 0.6)
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), want)
    assert field.jvp(q, 0.6, q).shape == q.shape
    assert field.posterior(q, 0.6).mean.shape == q.shape
    assert isinstance(field.log_density(q[0], 0.6), torch.Tensor)
    out = itf.sample(field, itf.ddim(LINEAR, 3), x0=q, keep="path", terms=True)
    assert (out.x.shape, out.path.shape, out.terms.total.shape) == (q.shape, (5, 4, *EVENT), q.shape)
    assert all(isinstance(v, torch.Tensor) for v in (out.x, out.path, out.terms.total, out.index))
    assert isinstance(itf.theory.trapping(field, q, 0.9).leakage, torch.Tensor)
    np.testing.assert_array_equal(itf.nearest(q, field).index, itf.nearest(Q.reshape(5, -1), FLAT).index)
    last = torch.from_numpy(X).to(memory_format=torch.channels_last)
    np.testing.assert_array_equal(itf.Field(last).velocity(q, 0.6).numpy(), want)
    halves = itf.Field(torch.from_numpy(X).bfloat16())
    assert halves.velocity(q, 0.6).shape == q.shape
    with pytest.raises(ValueError, match=r"channels last. Pass x.movedim\(-1, -3\)"):
        field.velocity(q.movedim(1, -1), 0.6)


def test_modules():
    """A field of pictures takes pictures or flat points and refuses others; a flat field takes any shape."""
    x, flat = torch.from_numpy(Q), torch.from_numpy(Q).reshape(5, -1)
    for module in (itf.torch.Denoiser, itf.torch.Velocity, itf.torch.Noise):
        want = module(FLAT)(flat, 0.5)
        for field, given in ((FIELD, x), (FIELD, flat), (FLAT, x), (FLAT, x.movedim(1, -1))):
            got = module(field)(given, 0.5)
            assert got.shape == given.shape
            if given is not x and field is FLAT:
                continue
            torch.testing.assert_close(got.reshape(5, -1), want)
        assert module(FIELD)(x[0], 0.5).shape == EVENT
        with pytest.raises(ValueError, match=r"x must have shape .*channels last. Pass x.movedim\(-1, -3\)"):
            module(FIELD)(x.movedim(1, -1), 0.5)
    assert itf.torch.Noise(FIELD).rand_input(4).shape == (4, *EVENT)
    linear = itf.Gaussian(FIELD)
    assert itf.torch.Denoiser(linear)(x, 0.5).shape == x.shape
    point = x.double()[:1].requires_grad_()
    assert torch.autograd.gradcheck(itf.torch.Denoiser(itf.Field(X.astype("f8"))), (point, 0.7))


class Pictures(torch.nn.Module):
    """A convolution, which takes nothing but pictures."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = torch.nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x, t):
        assert x.shape[1:] == EVENT
        return self.inner(x)


def test_networks_see_pictures():
    net = Pictures()
    model = itf.Model(net, LINEAR)
    want = net(torch.from_numpy(Q), 0.5).detach().numpy()
    np.testing.assert_allclose(model.velocity(Q, 0.5), want, atol=1e-6)
    assert isinstance(model.velocity(torch.from_numpy(Q), 0.5), torch.Tensor)
    assert itf.compare(model, FIELD, [0.5], 8, rng=0).mse.shape == (1,)
    assert itf.sample(model, itf.ddim(LINEAR, 3), 4, oracle=FIELD, rng=0).x.shape == (4, *EVENT)
    named = itf.Model.from_flow_matching(net, event=EVENT)
    for x in (Q, Q.reshape(5, -1)):
        got = named.velocity(x, 0.5)
        assert got.shape == x.shape
        np.testing.assert_allclose(got.reshape(Q.shape), want, atol=1e-6)
    assert named.velocity(Q[0], 0.5).shape == EVENT
    assert itf.sample(named, itf.ddim(LINEAR, 3), 4, rng=0).x.shape == (4, *EVENT)
    with pytest.raises(ValueError, match=r"channels last. Pass np.moveaxis\(x, -1, -3\)"):
        named.velocity(np.moveaxis(Q, 1, -1), 0.5)
    # What the network and the data say of a point is held against each other.
    last = itf.Field(np.moveaxis(X, 1, -1))
    with pytest.raises(ValueError, match=r"event must be the shape of the points, \(3, 4, 2\).*got \(2, 3, 4\)"):
        itf.compare(named, last, [0.5], 4, rng=0)
    assert itf.compare(named, FLAT, [0.5], 4, rng=0).mse.shape == (1,)
    assert itf.compare(named, itf.Field(X[:, :, None]), [0.5], 4, rng=0).mse.shape == (1,)


@pytest.mark.parametrize("name", ["t", "x"])
def test_tensors_elsewhere(name):
    where = {"x": torch.from_numpy(Q), "t": torch.full((5,), 0.5)}
    where[name] = where[name].to("meta")
    with pytest.raises(TypeError, match=rf"{name} lives on meta, where tensors have no numbers; pass {name} on a "):
        FIELD.velocity(**where)


@pytest.mark.parametrize(
    ("fn", "kind", "match"),
    [
        (
            lambda x, t: (x, x),
            TypeError,
            r"output must be one array; got a tuple of 2. Let fn\(x, t\) return the array",
        ),
        (lambda x, t: [x], ValueError, r"output must be a float array of the shape of x, \(5, 2, 3, 4\)"),
        (lambda x, t: x[:, :1], ValueError, r"output must .*\(5, 2, 3, 4\); got float32 \(5, 1, 3, 4\)"),
        (lambda x, t: x.reshape(5, -1), ValueError, r"output must .*\(5, 2, 3, 4\); got float32 \(5, 24\)"),
        (lambda x, t: None, ValueError, r"output must be a float array"),
        (lambda x, t: type("Out", (), {"sample": x})(), TypeError, r"output must be one array; got Out.*\.sample"),
        (
            lambda x, t: torch.from_numpy(x).requires_grad_(),
            TypeError,
            r"output is a tensor that requires grad.*detach",
        ),
    ],
    ids=["tuple", "list", "fewer", "flat", "none", "record", "grad"],
)
def test_wrong_answers(fn, kind, match):
    with pytest.raises(kind, match=match):
        itf.Model(fn, LINEAR).velocity(Q, 0.5)
