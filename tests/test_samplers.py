"""Samplers of other packages, as they are, driven by the field as a torch module: they end on rows of the data.

Each is skipped where its package is not installed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import load_digits

import interp_fast as itf

torch = pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.filterwarnings("default")  # theirs are not ours

DIGITS = (load_digits().data / 8 - 1).astype(np.float32)
FIELD = itf.Field(DIGITS)
N = 16


def needs(package):
    """The package, or a skip that says which is missing."""
    return pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)


def start(*shape, scale=1.0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(N, *shape, generator=generator, dtype=dtype)


def assert_on_rows(x):
    x = np.asarray(x.detach(), float).reshape(N, -1)
    distance = np.sqrt(((x[:, None] - DIGITS[None]) ** 2).sum(2)).min(1)
    assert distance.max() <= 1e-2 * FIELD.R


@pytest.mark.parametrize("method", ["euler", "midpoint", "dopri5"])
def test_flow_matching(method):
    solver = needs("flow_matching.solver").ODESolver(itf.torch.Velocity(FIELD, clip=1e-3))
    step = None if method == "dopri5" else 0.02
    grid = torch.tensor([0.0, 1.0])
    assert_on_rows(solver.sample(x_init=start(1, 8, 8), step_size=step, method=method, time_grid=grid))


@pytest.mark.parametrize("exact", [True, False])
def test_flow_matching_likelihood(exact):
    """log p of smoothed rows along the flow, in nats per dimension; the estimated divergence is right on average."""
    solver_of = needs("flow_matching.solver").ODESolver
    rows = np.random.default_rng(0).standard_normal((40, 3))
    field = itf.Field(rows, bandwidth=0.3)
    x = torch.from_numpy(field.draw(8, 1.0, rng=1)[0])
    log_p0 = torch.distributions.Independent(torch.distributions.Normal(torch.zeros(3).double(), 1.0), 1).log_prob
    solver = solver_of(itf.torch.Velocity(field, clip=1e-9))
    torch.manual_seed(0)
    kind, tol = (torch.float64, 1e-8) if exact else (torch.float32, 1e-4)  # its estimate knows float32 alone
    grid = torch.tensor([1.0, 0.0], dtype=kind)
    _, got = solver.compute_likelihood(
        x.to(kind), log_p0, step_size=None, method="dopri5", exact_divergence=exact, time_grid=grid, atol=tol, rtol=tol
    )
    squares = ((x.numpy()[:, None] - rows) ** 2).sum(2)
    want = logsumexp(-squares / (2 * 0.3**2), axis=1) - np.log(40) - 1.5 * np.log(2 * np.pi * 0.3**2)
    np.testing.assert_allclose(field.log_density(x.numpy(), 1.0), want, rtol=1e-12)
    if exact:
        np.testing.assert_allclose(got.numpy(), want, rtol=0, atol=3e-3)
    else:
        assert np.abs((got.numpy() - want).mean()) < 2


@pytest.mark.parametrize("method", ["dopri5", "rk4"])
def test_torchdiffeq(method):
    odeint = needs("torchdiffeq").odeint
    options = {"step_size": 0.02} if method == "rk4" else {}
    grid = torch.tensor([0.0, 1.0])
    assert_on_rows(
        odeint(itf.torch.Velocity(FIELD, order="tx", clip=1e-3), start(64), grid, method=method, options=options)[-1]
    )


def test_torchdiffeq_likelihood():
    """With the divergence from the field itself."""
    odeint = needs("torchdiffeq").odeint
    rows = np.random.default_rng(0).standard_normal((40, 3))
    field = itf.Field(rows, bandwidth=0.3)
    velocity = itf.torch.Velocity(field, order="tx", clip=1e-9)
    x = torch.from_numpy(field.draw(8, 1.0, rng=1)[0])

    def flow(t, state):
        divergence = field.divergence(state[0].numpy(), min(max(float(t), 0.0), 1.0))
        return velocity(t, state[0]), -torch.from_numpy(divergence)

    grid = torch.tensor([1.0, 0.0], dtype=torch.float64)
    source, change = odeint(flow, (x, torch.zeros(8).double()), grid, atol=1e-8, rtol=1e-8)
    got = -0.5 * (source[-1] ** 2).sum(1) - 1.5 * np.log(2 * np.pi) - change[-1]
    np.testing.assert_allclose(got.numpy(), field.log_density(x.numpy(), 1.0), rtol=0, atol=3e-3)


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
def test_diffusers(name, betas):
    diffusers = needs("diffusers")
    options = {} if name == "DPMSolverMultistep" else {"clip_sample": False}
    scheduler = getattr(diffusers, f"{name}Scheduler")(beta_schedule=betas, **options)
    ends = {"beta_start": scheduler.config.beta_start, "beta_end": scheduler.config.beta_end}
    table = itf.Discrete.ddpm("cosine") if betas.startswith("squared") else itf.Discrete.ddpm(betas, **ends)
    np.testing.assert_allclose(scheduler.alphas_cumprod.numpy(), table.alphas_cumprod, rtol=1e-4)
    noise = itf.torch.Noise(FIELD, scheduler.alphas_cumprod)
    scheduler.set_timesteps(50)
    generator = torch.Generator().manual_seed(1)
    x = start(1, 8, 8) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        model_input = scheduler.scale_model_input(x, t)
        extra = {"generator": generator} if name == "DDPM" else {}
        x = scheduler.step(noise(model_input, t).sample, t, x, **extra).prev_sample
    assert_on_rows(x)


@pytest.mark.parametrize("name", ["sample_euler", "sample_heun", "sample_dpmpp_2m", "sample_euler_ancestral"])
def test_k_diffusion(name):
    sampling = needs("k_diffusion.sampling")
    sigmas = sampling.get_sigmas_karras(20, 0.002, 80.0)
    sample = getattr(sampling, name)
    assert_on_rows(sample(itf.torch.Denoiser(FIELD), start(1, 8, 8, scale=80.0), sigmas, disable=True))


@pytest.mark.parametrize(("gam", "mu"), [(1.0, 0.0), (1.0, 0.5), (2.0, 0.0)])
def test_smalldiffusion(gam, mu):
    diffusion = needs("smalldiffusion.diffusion")
    torch.manual_seed(0)
    sigmas = diffusion.ScheduleLogLinear(200, 0.002, 40.0).sample_sigmas(40)
    *_, x = diffusion.samples(itf.torch.Noise(FIELD), sigmas, gam=gam, mu=mu, batchsize=N)
    assert_on_rows(x)
