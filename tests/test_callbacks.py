"""What is handed to the caller's functions is theirs: they may keep it and change it."""

from __future__ import annotations

import numpy as np

import interp_fast as itf
from interp_fast.perturb import Perturbation

X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
FIELD = itf.Field(X)
STEPS = itf.ddpm(FIELD.schedule, 6)


def test_states_that_an_error_keeps_are_those_of_the_path():
    kept = []

    def error(x, t, r):
        kept.append(x)
        return 0 * x

    out = itf.sample(FIELD, STEPS, 5, rng=0, error=error, keep="path")
    np.testing.assert_array_equal(np.stack(kept, axis=1), out.path[:, :-1])

    class Keep(Perturbation):
        def at(self, visit):
            kept.append(visit.x)
            return 0 * visit.x

    kept.clear()
    itf.sample(FIELD, STEPS, 5, rng=0, error=Keep(), keep="path")
    np.testing.assert_array_equal(np.stack(kept, axis=1), out.path[:, :-1])


def test_functions_that_work_in_place_change_nothing_else():
    """Errors, models, schedules, diffusions."""
    want = itf.sample(FIELD, STEPS, 5, rng=0, error=lambda x, t, r: 0.1 * x).x

    def error(x, t, r):
        x *= 0.1
        return x

    np.testing.assert_array_equal(itf.sample(FIELD, STEPS, 5, rng=0, error=error).x, want)

    def model(x, t):
        x *= -0.5
        return x

    a, b = (itf.Model(f, FIELD.schedule, "denoiser") for f in (model, lambda x, t: -0.5 * x))
    start = np.ones((4, 2))
    np.testing.assert_array_equal(itf.sample(a, STEPS, x0=start, rng=1).x, itf.sample(b, STEPS, x0=start, rng=1).x)

    def square(t):
        t *= t
        return t

    def rest(t):
        t *= -1
        t += 1
        return t

    times = np.linspace(0, 1, 7)
    curve, plain = itf.Custom(square, rest), itf.Custom(lambda t: t**2, lambda t: 1 - t)
    for got, wanted in zip(curve(times), plain(times), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9)
    a, b = (itf.euler_maruyama(itf.Linear(), 6, f) for f in (rest, lambda t: 1 - t))
    for name in ("times", "A", "B", "S"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
