"""Samplers of other packages, as they are, driven by the field as a torch module: they end on rows of the data.

Each is skipped where its package is not installed.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from support.torchvision import without_operators

import interp_fast as itf
from interp_fast._datasets import InputError, load
from interp_fast.field import oracle_of

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours

N = 16


def digits():
    return (load_digits().data / 8 - 1).astype(np.float32)


def clothes():
    """2000 pictures of Fashion-MNIST, 16 x 16: means of 2 x 2 pixels with a margin."""
    try:
        pictures = load("fashion-mnist", limit=2000).rows.reshape(-1, 28, 28)
    except InputError as error:
        pytest.skip(str(error))
    wide = np.pad(pictures.astype(np.float32), ((0, 0), (2, 2), (2, 2)), constant_values=-1.0)
    return wide.reshape(-1, 16, 2, 16, 2).mean((2, 4)).reshape(-1, 256)


@pytest.fixture(params=[digits, clothes], scope="module")
def field(request):
    return itf.Field(request.param())


def needs(package):
    """The package, or a skip that says which is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        without_operators()
        return pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)


def start(field, *, flat=False, scale=1.0):
    side = round(field.d**0.5)
    shape = (field.d,) if flat else (1, side, side)
    return scale * torch.randn(N, *shape, generator=torch.Generator().manual_seed(0))


def assert_on_rows(x, field):
    x = np.asarray(x.detach(), np.float32).reshape(N, -1)
    nearest = itf.nearest(x, field, 1)
    rows = oracle_of(field).training_set.values(nearest.index[:, 0])
    assert np.linalg.norm(x - rows, axis=1).max() <= 1e-2 * field.R


@pytest.mark.parametrize("method", ["euler", "midpoint", "dopri5"])
def test_flow_matching(method, field):
    solver = needs("flow_matching.solver").ODESolver(itf.torch.Velocity(field, clip=1e-3))
    step = None if method == "dopri5" else 0.02
    grid = torch.tensor([0.0, 1.0])
    assert_on_rows(solver.sample(x_init=start(field), step_size=step, method=method, time_grid=grid), field)


def smoothed(name):
    """A field with a bandwidth, draws of its data, and their density by plain sums."""
    if name == "digits":
        rows, width, n = digits()[:300].astype(float), 0.5, 2
    else:
        rows, width, n = np.random.default_rng(0).standard_normal((40, 3)), 0.3, 8
    field = itf.Field(rows, bandwidth=width)
    x = field.draw(n, 1.0, rng=1)[0]
    squares = ((x[:, None] - rows) ** 2).sum(2)
    count, d = rows.shape
    want = logsumexp(-squares / (2 * width**2), axis=1) - np.log(count) - 0.5 * d * np.log(2 * np.pi * width**2)
    np.testing.assert_allclose(field.log_density(x, 1.0), want, rtol=1e-12)
    return field, torch.from_numpy(x), want


@pytest.mark.parametrize(("rows", "exact"), [("normal", True), ("normal", False), ("digits", True)])
def test_flow_matching_likelihood(rows, exact):
    """log p of smoothed rows along the flow, in nats per dimension; the estimated divergence is right on average."""
    solver_of = needs("flow_matching.solver").ODESolver
    field, x, want = smoothed(rows)
    log_p0 = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(field.d).double(), 1.0), 1).log_prob
    solver = solver_of(itf.torch.Velocity(field, clip=1e-9))
    torch.manual_seed(0)
    kind, tol = (torch.float64, 1e-6) if exact else (torch.float32, 1e-4)  # its estimate knows float32 alone
    grid = torch.tensor([1.0, 0.0], dtype=kind)
    _, got = solver.compute_likelihood(
        x.to(kind), log_p0, step_size=None, method="dopri5", exact_divergence=exact, time_grid=grid, atol=tol, rtol=tol
    )
    if exact:
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-3 * field.d)
    else:
        assert np.abs((got.numpy() - want).mean()) < 2


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_torchdiffeq(method, field):
    odeint = needs("torchdiffeq").odeint
    options = {"step_size": 0.02} if method == "rk4" else {}
    grid = torch.tensor([0.0, 1.0])
    velocity = itf.torch.Velocity(field, order="tx", clip=1e-3)
    assert_on_rows(odeint(velocity, start(field, flat=True), grid, method=method, options=options)[-1], field)


@pytest.mark.parametrize("rows", ["normal", "digits"])
def test_torchdiffeq_likelihood(rows):
    """With the divergence from the field itself."""
    odeint = needs("torchdiffeq").odeint
    field, x, want = smoothed(rows)
    velocity = itf.torch.Velocity(field, order="tx", clip=1e-9)

    def flow(t, state):
        divergence = field.divergence(state[0].numpy(), min(max(float(t), 0.0), 1.0))
        return velocity(t, state[0]), -torch.from_numpy(divergence)

    grid = torch.tensor([1.0, 0.0], dtype=torch.float64)
    source, change = odeint(flow, (x, torch.zeros(len(x)).double()), grid, atol=1e-7, rtol=1e-7)
    got = -0.5 * (source[-1] ** 2).sum(1) - 0.5 * field.d * np.log(2 * np.pi) - change[-1]
    np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=1e-3 * field.d)


def test_torchcfm():
    """Its matcher makes the very targets whose mean given x_t the field is."""
    matcher = needs("torchcfm.conditional_flow_matching").ConditionalFlowMatcher(sigma=0.0)
    torch.manual_seed(0)
    rows = torch.tensor([[0.0, 0.0], [1.0, 2.0]]).repeat(20000, 1)
    t, x, u = matcher.sample_location_and_conditional_flow(torch.randn(40000, 2), rows, t=torch.full((40000,), 0.5))
    error = itf.torch.Velocity(itf.Field(rows[:2]), order="tx")(t, x) - u
    for moment in (error, error * x, error * x**2):
        assert (moment.mean(0).abs() < 4 * moment.std(0) / 200).all()


@pytest.mark.parametrize("name", ["DDIM", "DDPM", "DPMSolverMultistep"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
def test_diffusers(name, betas, field):
    diffusers = needs("diffusers")
    options = {} if name == "DPMSolverMultistep" else {"clip_sample": False}
    scheduler = getattr(diffusers, f"{name}Scheduler")(beta_schedule=betas, **options)
    ends = {"beta_start": scheduler.config.beta_start, "beta_end": scheduler.config.beta_end}
    table = itf.Discrete.ddpm("cosine") if betas.startswith("squared") else itf.Discrete.ddpm(betas, **ends)
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), table.alphas_cumprod, rtol=1e-4)
    noise = itf.torch.Noise(field, scheduler.alphas_cumprod)
    scheduler.set_timesteps(50)
    generator = torch.Generator().manual_seed(1)
    x = start(field) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t)
        extra = {"generator": generator} if name == "DDPM" else {}
        x = scheduler.step(noise(model_input, t).sample, t, x, **extra).prev_sample
    assert_on_rows(x, field)


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpmpp_2m", "sample_euler_ancestral"])
def test_k_diffusion(name, field):
    sampling = needs("k_diffusion.sampling")
    sigmas = sampling.get_sigmas_karras(20, 0.002, 80.0)
    sample = getattr(sampling, name)
    assert_on_rows(sample(itf.torch.Denoiser(field), start(field, scale=80.0), sigmas, disable=True), field)


@pytest.mark.parametrize(("gam", "mu"), [(1.0, 0.0), (1.0, 0.5), (2.0, 0.0)])
def test_smalldiffusion(gam, mu, field):
    diffusion = needs("smalldiffusion.diffusion")
    torch.manual_seed(0)
    sigmas = diffusion.ScheduleLogLinear(200, 0.002, 40.0).sample_sigmas(40)
    *_, x = diffusion.samples(itf.torch.Noise(field), sigmas, gam=gam, mu=mu, batchsize=N)
    assert_on_rows(x, field)
