"""Errors with a known law."""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf

SQUARE = np.array([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])


def seen_errors(kind, *, n=50, K=12, rng=0, field=None, schedule=None):
    """The errors of a run (R, n, d), rebuilt from the terms of every prefix of the table, and the states."""
    field = itf.Field(SQUARE, schedule) if field is None else field
    steps = itf.ddim(field.schedule, K)
    whole = itf.sample(field, steps, n, rng=rng, error=kind, keep="path")
    found = []
    for r in range(K):
        # Row r alone, from the state it started at: out - A x - B D = B e.
        x = whole.path[:, r]
        denoiser = field.denoiser(x, steps.times[r])
        found.append((whole.path[:, r + 1] - steps.A[r] * x - steps.B[r] * denoiser) / steps.B[r])
    return np.array(found), whole.path[:, :-1].transpose(1, 0, 2), steps


def test_constant_has_constant_norm_and_uniform_directions():
    e, _, _ = seen_errors(itf.perturb.constant(0.4), n=400)
    np.testing.assert_allclose(np.linalg.norm(e, axis=2), 0.4, rtol=1e-9)
    flat = e.reshape(-1, 2)
    assert np.abs(flat.mean(axis=0)).max() < 4 * 0.4 / np.sqrt(2 * len(flat))
    assert (flat[:, 0] * flat[:, 1]).mean() == pytest.approx(0, abs=4 * 0.08 / np.sqrt(len(flat)))
    assert len(np.unique(flat.round(9), axis=0)) == len(flat)  # fresh for every sample and row


def test_addressed_by_sample_and_apart_from_the_noise():
    field = itf.Field(SQUARE)
    steps = itf.ddpm(field.schedule, 8)
    kind = itf.perturb.constant(0.4)
    whole = itf.sample(field, steps, 7, rng=itf.NoiseKey(5), error=kind)
    part = itf.sample(field, steps, 3, rng=itf.NoiseKey(5, first_sample=4), error=kind)
    np.testing.assert_allclose(part.x, whole.x[4:], atol=1e-13)
    clean = itf.sample(field, steps, 7, rng=itf.NoiseKey(5), terms=True)
    dirty = itf.sample(field, steps, 7, rng=itf.NoiseKey(5), error=kind, terms=True)
    np.testing.assert_array_equal(clean.terms.noise, dirty.terms.noise)


def test_smooth_is_the_stated_field():
    e, x, _ = seen_errors(itf.perturb.smooth(0.3, 0.7))
    np.testing.assert_allclose(e, 0.3 / np.sqrt(2) * np.tanh(x / 0.7), atol=1e-12)
    assert np.linalg.norm(e, axis=2).max() <= 0.3


@pytest.mark.parametrize("schedule", [itf.Linear(), itf.Trigonometric(), itf.SqrtVP(), itf.VP()])
def test_velocity_has_constant_norm_in_its_units(schedule):
    e, _, steps = seen_errors(itf.perturb.velocity(0.5), schedule=schedule)
    for r, t in enumerate(steps.times[:-1]):
        c = schedule(t)
        kappa = c.alpha_dot - c.alpha * c.sigma_dot / c.sigma
        np.testing.assert_allclose(kappa * np.linalg.norm(e[r], axis=1) if np.isfinite(kappa) else 0.5, 0.5, rtol=1e-6)


def test_velocity_error_displaces_by_h_under_euler():
    """Linear schedule: the endpoint is D at the last step plus e^v / kappa = h e^v."""
    field = itf.Field(SQUARE)
    for K in (20, 50):
        out = itf.sample(field, itf.euler(field.schedule, K), 100, rng=0, error=itf.perturb.velocity(0.5))
        np.testing.assert_allclose(np.linalg.norm(out.x - SQUARE[out.index], axis=1), 0.5 / K, rtol=1e-5)


def test_velocity_passes_times_without_data():
    """Encoder-decoder has no data in the velocity up to t = 1/2; Euler does not use D there, a longer step would."""
    field = itf.Field(SQUARE, itf.EncoderDecoder())
    error = itf.perturb.velocity(0.1)
    assert np.isfinite(itf.sample(field, itf.euler(field.schedule, 20), 5, rng=0, error=error).x).all()
    with pytest.raises(ValueError, match=r"t = 0\.5"):
        itf.sample(field, itf.ddim(field.schedule, 20), 5, rng=0, error=error)


def test_inverse_density():
    field = itf.Field(SQUARE)
    e, x, steps = seen_errors(itf.perturb.inverse_density(0.01, 0.6), field=field)
    sizes = np.linalg.norm(e, axis=2)
    for r, t in enumerate(steps.times[:-1]):
        difference = x[r][:, None, :] - t * SQUARE
        squares = (difference**2).sum(axis=2)
        density = np.exp(-squares / (2 * (1 - t) ** 2)).mean(axis=1) / (2 * np.pi * (1 - t) ** 2)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(sizes[r], np.minimum(0.01 / density, 0.6), rtol=1e-6)
    assert (sizes > 0.599).any()
    assert (sizes < 0.1).any()


def test_refused():
    with pytest.raises(ValueError, match="norm"):
        itf.perturb.constant(-1.0)
    with pytest.raises(TypeError, match="norm"):
        itf.perturb.velocity("a")
    with pytest.raises(ValueError, match="scale"):
        itf.perturb.smooth(0.1, 0.0)
    with pytest.raises(ValueError, match="cap"):
        itf.perturb.inverse_density(0.1, 0.0)
    field = itf.Field(SQUARE, itf.Linear())
    with pytest.raises(ValueError, match="steps"):
        itf.sample(field, itf.ddim(itf.VP(), 5), 3, error=itf.perturb.velocity(0.1))
    itf.sample(field, itf.ddim(itf.VP(), 5), 3, error=itf.perturb.constant(0.1))  # takes any table
