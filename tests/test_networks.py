"""Networks of torch as models: called in the way of their package, with their type, device, mode and batches."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest

import interp_fast as itf

torch = pytest.importorskip("torch", reason="torch is not installed")

ROWS = np.random.default_rng(0).standard_normal((30, 12)).astype(np.float32)
FIELD = itf.Field(ROWS)
X = FIELD.draw(5, 0.5, rng=1)[0]


class Net(torch.nn.Module):
    """A linear network with dropout that remembers how it was called."""

    def __init__(self, dtype=torch.float32, answer=lambda y: y, **facts):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((1,), 0.5, dtype=dtype))
        self.drop = torch.nn.Dropout(0.9)
        self.calls, self.answer = [], answer
        for name, value in facts.items():
            setattr(self, name, value)

    def forward(self, *arguments, **named):
        self.calls.append((arguments, named))
        self.state = (self.training, self.drop.training, torch.is_grad_enabled())
        x = named["x"] if "x" in named else max(arguments, key=lambda a: a.numel())
        return self.answer(self.drop(self.weight * x))


def last(net):
    (arguments, named), *_ = net.calls[::-1]
    return arguments, named


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("given", [np.float32, np.float64])
@pytest.mark.parametrize("t", [0.5, np.full(5, 0.5)], ids=["one", "each"])
def test_a_plain_module_works(dtype, given, t):
    net = Net(dtype)
    net.drop.eval()  # a mode of its own, which must be there afterwards
    model = itf.Model(net, itf.Linear(), "denoiser")
    x = X.astype(given)
    got = model.denoiser(x, t)
    assert got.dtype == given
    want = (0.5 * torch.from_numpy(x).to(dtype)).double().numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6)
    (seen, time), _ = last(net)
    assert (seen.dtype, time.dtype, tuple(time.shape)) == (dtype, dtype, (5,))
    assert net.state == (False, False, False)
    assert (net.training, net.drop.training) == (True, False)
    assert model.denoiser(torch.from_numpy(x), t).dtype == torch.from_numpy(x).dtype
    assert not model.denoiser(torch.from_numpy(x), t).requires_grad


def test_modes_come_back_after_an_error():
    net = Net(answer=lambda y: y[:, :3])
    model = itf.Model(net, itf.Linear())
    with pytest.raises(ValueError, match=r"the network must return the shape of x, \(5, 12\); got \(5, 3\)"):
        model.velocity(X, 0.5)
    assert net.training
    assert net.drop.training


def test_batches():
    net = Net()
    x = np.random.default_rng(1).standard_normal((1200, 12))
    got = itf.Model.from_flow_matching(net, event=(3, 2, 2), labels=np.arange(1200)).velocity(
        x, np.linspace(0, 1, 1200)
    )
    np.testing.assert_allclose(got, 0.5 * x.astype(np.float32), rtol=1e-6)
    assert [len(named["x"]) for _, named in net.calls] == [512, 512, 176]
    assert torch.cat([named["y"] for _, named in net.calls]).tolist() == list(range(1200))
    assert net.calls[0][1]["x"].shape == (512, 3, 2, 2)
    assert itf.Model(net, itf.Linear()).velocity(x[:0], 0.5).shape == (0, 12)


@pytest.mark.parametrize("schedule", [None, itf.Linear(), itf.VP()])
def test_edm(schedule):
    """D = net(x / alpha, sigma / alpha): with the level from the time in float64, whatever the network's type."""
    net = Net(img_channels=3, img_resolution=2, label_dim=4)
    model = itf.Model.from_edm(net, schedule, labels=2)
    curve = itf.VELinear(80.0) if schedule is None else schedule
    t = 1 - 1e-5
    c = curve(t)
    got = model.denoiser(X, t)
    np.testing.assert_allclose(got, 0.5 * X / c.alpha, rtol=1e-6)
    (seen, sigma), named = last(net)
    assert seen.shape == (5, 3, 2, 2)
    np.testing.assert_allclose(sigma, np.full(5, c.sigma / c.alpha), rtol=1e-6)
    assert named["class_labels"].tolist() == [[0, 0, 1, 0]] * 5
    if schedule == itf.Linear():
        with pytest.raises(ValueError, match=r"t must avoid 0\.0: there is no data in x"):
            model.denoiser(X, 0.0)


def test_edm_without_labels():
    net = Net()
    itf.Model.from_edm(net, extras={"augment": 1}).denoiser(X, 0.5)
    assert last(net)[1] == {"augment": 1}


def test_flow_matching_and_torchcfm():
    net = Net()
    got = itf.Model.from_flow_matching(net, extras={"label": 7}).velocity(X, 0.25)
    np.testing.assert_allclose(got, 0.5 * X, rtol=1e-6)
    arguments, named = last(net)
    assert arguments == ()
    assert named["label"] == 7
    assert named["t"].tolist() == [0.25] * 5
    itf.Model.from_torchcfm(net, labels=3, event=(2, 6)).velocity(X, 0.25)
    (t, x), named = last(net)
    assert t.tolist() == [0.25] * 5
    assert x.shape == (5, 2, 6)
    assert named["y"].tolist() == [3] * 5


def test_the_wrapper_of_torchcfm():
    class torch_wrapper(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, t, x):
            return self.model(torch.cat([x, t.repeat(len(x))[:, None]], 1))

    inner = torch.nn.Linear(13, 12)
    times = np.linspace(0, 1, 5)
    got = itf.Model.from_torchcfm(torch_wrapper(inner)).velocity(X, times)
    with torch.no_grad():
        want = inner(torch.from_numpy(np.column_stack([X, times])).float())
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("form", ["object", "tuple", "tensor"])
def test_diffusers(prediction, form):
    """The oracle's own prediction in each convention comes back as the oracle."""
    curve = itf.Discrete.ddpm()
    oracle = itf.Field(ROWS.astype(float), curve)
    seen = []

    class UNet(torch.nn.Module):
        config = SimpleNamespace(sample_size=2, in_channels=3)

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

        def forward(self, x, timestep):
            seen.append((tuple(x.shape), timestep.dtype, timestep.tolist()))
            t = curve.t_of(timestep.numpy())
            flat, c = x.reshape(len(x), -1).numpy(), curve(t)
            denoised, noise = oracle.denoiser(flat, t), oracle.noise(flat, t)
            alpha, sigma = c.alpha[:, None], c.sigma[:, None]
            answer = {"epsilon": noise, "sample": denoised, "v_prediction": alpha * noise - sigma * denoised}[
                prediction
            ]
            answer = torch.from_numpy(answer).reshape(x.shape)
            return {"object": SimpleNamespace(sample=answer), "tuple": (answer,), "tensor": answer}[form]

    scheduler = SimpleNamespace(
        alphas_cumprod=torch.from_numpy(curve.alphas_cumprod.copy()),
        config=SimpleNamespace(prediction_type=prediction),
    )
    model = itf.Model.from_diffusers(UNet(), scheduler)
    assert model.schedule == curve
    t = curve.t_of([999, 700, 300, 20, 0])
    x = oracle.draw(5, t, rng=3)[0]
    np.testing.assert_allclose(model.denoiser(x, t), oracle.denoiser(x, t), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(model.noise(x, t), oracle.noise(x, t), rtol=1e-9, atol=1e-8)
    assert seen[0] == ((5, 3, 2, 2), torch.int64, [999, 700, 300, 20, 0])
    with pytest.raises(ValueError, match=r"t must be the time of a level; got 0\.1234 next to .*schedule\.t_of"):
        model.denoiser(x, 0.1234)
    steps = itf.ddim(curve, curve.t_of(np.linspace(999, 0, 21).round()))
    out = itf.sample(model, steps, 6, oracle=oracle, rng=0)
    assert np.linalg.norm(out.x - ROWS[out.index], axis=1).max() < 0.1 * oracle.R


def test_smalldiffusion():
    theirs = SimpleNamespace(sigmas=torch.logspace(-2, 1, 50))
    net = Net(input_dims=(3, 2, 2), cond_embed=SimpleNamespace(null_cond=10))
    model = itf.Model.from_smalldiffusion(net, theirs)
    low, high = model.schedule.sigma_min, model.schedule.sigma_max
    assert (low, high) == pytest.approx((0.01, 10.0), rel=1e-6)
    np.testing.assert_allclose(model.noise(X, 0.5), 0.5 * X, rtol=1e-6)
    (x, sigma), named = last(net)
    assert x.shape == (5, 3, 2, 2)
    np.testing.assert_allclose(sigma, [0.1**0.5] * 5, rtol=1e-5)
    assert named["cond"].tolist() == [10] * 5
    net = Net()
    model = itf.Model.from_smalldiffusion(net, itf.VP())
    c = itf.VP()(0.7)
    np.testing.assert_allclose(model.noise(X, 0.7), 0.5 * X / c.alpha, rtol=1e-6)
    assert last(net)[1] == {}


def test_guidance():
    class Labelled(torch.nn.Module):
        def forward(self, x, t, y=None):
            return x if y is None else x + y[:, None]

    model = itf.Model.from_flow_matching(Labelled(), labels=[0, 1, 2, 3, 4], guidance=3.0)
    np.testing.assert_allclose(model.velocity(X, 0.5), X + 3 * np.arange(5)[:, None], rtol=1e-6)
    with pytest.raises(ValueError, match=r"labels must be an int or have shape \(3,\).*\(5,\)"):
        model.velocity(X[:3], 0.5)


def test_our_own_modules_are_models():
    """Out by one door and in by another; a module without parameters works in the type of the points."""
    for model in (
        itf.Model(itf.torch.Velocity(FIELD), FIELD.schedule),
        itf.Model.from_torchcfm(itf.torch.Velocity(FIELD, order="tx")),
        itf.Model.from_flow_matching(itf.torch.Velocity(FIELD)),
        itf.Model.from_edm(itf.torch.Denoiser(FIELD), FIELD.schedule),
        itf.Model.from_smalldiffusion(itf.torch.Noise(FIELD), FIELD.schedule),
    ):
        t = np.array([0.1, 0.3, 0.5, 0.7, 0.95])
        x = FIELD.draw(5, t, rng=2)[0].astype(np.float64)
        np.testing.assert_allclose(model.denoiser(x, t), FIELD.denoiser(x, t), rtol=1e-5, atol=1e-5)


class Sum(torch.nn.Module):
    """Called in any way."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, *arguments, **named):
        x, t = sorted([*arguments, *(named[k] for k in ("x", "t") if k in named)], key=lambda a: -a.ndim)
        return self.weight * x + t[:, None] / 1000 + named.get("shift", 0.0)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_models_pickle_with_their_networks(prediction):
    """Other processes get them: workers that are spawned, joblib."""
    curve = itf.Discrete.ddpm()
    scheduler = SimpleNamespace(alphas_cumprod=curve.alphas_cumprod, config=SimpleNamespace(prediction_type=prediction))
    extras = {"shift": 0.25}
    for model in (
        itf.Model(Sum(), itf.Linear()),
        itf.Model.from_edm(Sum(), itf.VP(), extras=extras),
        itf.Model.from_flow_matching(Sum(), extras=extras),
        itf.Model.from_torchcfm(Sum(), extras=extras),
        itf.Model.from_diffusers(Sum(), scheduler, extras=extras),
        itf.Model.from_smalldiffusion(Sum(), itf.VP(), extras=extras),
    ):
        t = float(curve.t_of(500))
        other = pickle.loads(pickle.dumps(model))
        assert repr(other) == repr(model)
        np.testing.assert_array_equal(other.denoiser(X, t), model.denoiser(X, t))


def test_models_in_runs_and_audits():
    model = itf.Model(Net(), FIELD.schedule, "denoiser")
    out = itf.sample(model, itf.ddim(FIELD.schedule, 5), x0=X, oracle=FIELD)
    assert out.x.shape == X.shape
    assert itf.audit(model, FIELD, [0.3, 0.6], 30, rng=0).loss.shape == (2,)


@pytest.mark.parametrize(
    ("call", "kind", "match"),
    [
        (lambda: itf.Model(Net(answer=lambda y: (y, y)), itf.Linear()), TypeError, "return a tensor; got a tuple"),
        (lambda: itf.Model(Net(answer=lambda y: y.T), itf.Linear()), ValueError, r"shape of x, \(5, 12\).*event="),
        (lambda: itf.Model.from_edm(Net(), event=(5, 5)), ValueError, r"x must have shape \(M, 5, 5\).*\(5, 12\)"),
        (lambda: itf.Model(Net(answer=lambda y: y * torch.nan), itf.Linear()), ValueError, "output must be finite"),
        (lambda: itf.Model.from_edm(Net(), guidance=2.0), ValueError, "guidance needs labels="),
        (lambda: itf.Model.from_edm(Net(), labels=[0.5]), TypeError, "labels must be an int"),
        (lambda: itf.Model.from_edm(3), TypeError, "the network must be callable; got 3"),
        (
            lambda: itf.Model.from_diffusers(
                Net(), SimpleNamespace(alphas_cumprod=[0.9, 0.1], config=SimpleNamespace(prediction_type="flow"))
            ),
            ValueError, "scheduler must predict one of epsilon, v_prediction, sample; got 'flow'"
        ),
    ],
)  # fmt: skip
def test_bad_input(call, kind, match):
    with pytest.raises(kind, match=match):
        call().denoiser(X, 0.5)
