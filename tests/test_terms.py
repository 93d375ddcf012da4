"""The exact accounting of a run: three terms, attribution, and models compared with an oracle."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

import interp_fast as itf
from interp_fast.field import oracle_of

ANGLES = 2 * np.pi * np.arange(5) / 5
PENTAGON = 2.0 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
WEIGHTS = np.array([0.1, 0.3, 0.2, 0.25, 0.15])

SCHEDULES = [itf.Linear(), itf.Trigonometric(), itf.LatentBridge(1.0), itf.VP(), itf.VEGeometric(0.01, 8.0)]
SOLVERS = {
    "euler": lambda s: itf.euler(s, 25),
    "euler_maruyama": lambda s: itf.euler_maruyama(s, 25, "sigma2"),
    "ddim": lambda s: itf.ddim(s, 25),
    "ddim_half": lambda s: itf.ddim(s, 25, eta=0.5),
    "ddpm": lambda s: itf.ddpm(s, 25),
    "exponential": lambda s: itf.exponential(s, 25, churn=0.5),
    "heun": lambda s: itf.heun(s, 13),
    "exponential_heun": lambda s: itf.exponential_heun(s, 13),
    "multistep": lambda s: itf.multistep(s, 25),
}


def errors(kind, steps, n, d):
    return {
        "none": None,
        "array": 0.2 * np.random.default_rng(5).normal(size=(len(steps), n, d)),
        "callable": lambda x, t, r: 0.1 * np.cos(3 * x + t + r),
        "kind": itf.perturb.constant(0.3),
    }[kind]


@pytest.mark.parametrize("kind", ["none", "array", "callable", "kind"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_terms_sum_to_the_deviation(backend, solver, kind):
    for schedule in SCHEDULES:
        field = itf.Field(PENTAGON, schedule, weights=WEIGHTS, backend=backend)
        steps = SOLVERS[solver](schedule)
        out = itf.sample(field, steps, 3, rng=1, error=errors(kind, steps, 3, 2), terms=True)
        terms = out.terms
        assert terms.total.dtype == np.float64
        np.testing.assert_allclose(terms.selection + terms.estimation + terms.noise, terms.total, atol=1e-12)
        deviation = out.x - steps.alpha[-1] * PENTAGON[out.index]
        np.testing.assert_allclose(terms.total, deviation, rtol=0, atol=1e-12 * max(1.0, steps.sigma[0]))
        if kind == "none":
            assert not terms.estimation.any()
        if not steps.S.any():
            assert not terms.noise.any()


@pytest.mark.parametrize("solver", SOLVERS)
def test_terms_follow_their_definitions(solver):
    """Each term against the state and D recorded row by row in a loop of its own."""
    schedule = itf.LatentBridge(1.0)
    field = itf.Field(PENTAGON, schedule, backend="reference")
    steps = SOLVERS[solver](schedule)
    n, seen, given = 6, [], errors("array", steps, 6, 2)

    def watch(x, t, r):
        seen.append(field.denoiser(x, t))
        return given[r]

    out = itf.sample(field, steps, n, rng=4, error=watch, terms=True)
    target = PENTAGON[out.index]
    x0 = itf.sample(field, steps, n, rng=4, keep="path").path[:, 0]
    selection, estimation = x0 - steps.alpha[0] * target, np.zeros((n, 2))
    nothing = np.zeros((n, 2))
    for r in range(len(steps)):
        if not steps.commit[r]:
            continue
        before, slip = (seen[r - 1], given[r - 1]) if r else (target, nothing)
        selection = steps.A[r] * selection + steps.B[r] * (seen[r] - target) + steps.C[r] * (before - target)
        selection = selection + steps.curvature_defect()[r] * target
        estimation = steps.A[r] * estimation + steps.B[r] * given[r] + steps.C[r] * slip
    np.testing.assert_allclose(out.terms.selection, selection, rtol=0, atol=1e-12)
    np.testing.assert_allclose(out.terms.estimation, estimation, rtol=0, atol=1e-12)
    by_weights = np.einsum("r,rnd->nd", steps.error_weights(), given)
    np.testing.assert_allclose(out.terms.estimation, by_weights, rtol=0, atol=1e-12)


def test_terms_do_not_change_the_samples(backend):
    field = itf.Field(PENTAGON, itf.VP(), backend=backend)
    steps = itf.ddpm(field.schedule, 20)
    given = errors("array", steps, 5, 2)
    plain = itf.sample(field, steps, 5, rng=2, error=given)
    np.testing.assert_array_equal(itf.sample(field, steps, 5, rng=2, error=given, terms=True).x, plain.x)
    by_call = itf.sample(field, steps, 5, rng=2, error=lambda x, t, r: given[r], terms=True)
    np.testing.assert_allclose(by_call.x, plain.x, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(by_call.commit_time, plain.commit_time)


def test_noise_term_has_the_variance_of_the_recursion():
    field = itf.Field(np.eye(5, 400), itf.LatentBridge(1.0))
    steps = itf.euler_maruyama(field.schedule, 40, 0.5)
    out = itf.sample(field, steps, 30, rng=0, terms=True)
    assert out.terms.noise.std() == pytest.approx(steps.noise_std()[-1], rel=0.03)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_attribution_rebuilds_the_sample(solver, dtype):
    for schedule in SCHEDULES:
        rows = PENTAGON.astype(dtype)
        field = itf.Field(rows, schedule, weights=WEIGHTS)
        steps = SOLVERS[solver](schedule)
        x0 = np.random.default_rng(0).normal(size=(7, 2)).astype(dtype) * steps.sigma[0].astype(dtype)
        out = itf.sample(
            field, steps, x0=x0, rng=1, error=errors("array", steps, 7, 2), terms=True, attribution=True
        )  # fmt: skip
        assert sparse.issparse(out.attribution)
        assert out.attribution.format == "csr"
        assert out.attribution.shape == (7, 5)
        wide = rows.astype(np.float64)
        x = out.terms.total + steps.alpha[-1] * wide[out.index]
        phi = np.prod(steps.A[steps.commit])
        rebuilt = phi * x0.astype(np.float64) + out.attribution @ wide + out.terms.estimation + out.terms.noise
        np.testing.assert_allclose(rebuilt, x, rtol=0, atol=1e-12 * max(1.0, steps.sigma[0]))
        assert out.attribution_dropped.max() <= len(steps) * 2.0**-53


def test_attribution_of_ddim_is_a_convex_combination():
    field = itf.Field(PENTAGON, itf.Trigonometric())
    middle = itf.ddim(field.schedule, np.linspace(0, 0.6, 13))  # ends before the posterior has settled
    out = itf.sample(field, middle, 200, rng=0, attribution=True)
    shares = out.attribution.toarray() / middle.alpha[-1]
    assert shares.min() >= 0
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-13)
    assert (shares.max(axis=1) < 0.9).any()  # the test sees mixtures


def test_attribution_where_products_lose_digits():
    """Near-duplicate rows far from the origin at small sigma: the weights must come from differences of the rows."""
    rng = np.random.default_rng(0)
    rows = 100.0 + rng.normal(size=(60, 40))
    rows[30:] = rows[:30] + 3e-5 * rng.normal(size=(30, 40))
    field = itf.Field(rows)
    t0 = 1 - 1e-4
    steps = itf.ddim(field.schedule, np.array([t0, 1 - 0.9e-4, 1 - 0.8e-4]))
    x0, _ = field.draw(12, t0, rng=0)
    out = itf.sample(field, steps, x0=x0, attribution=True)
    post = [field.posterior(x0, t0, top=60)]
    post.append(field.posterior(itf.sample(field, steps, x0=x0, keep="path").path[:, 1], steps.times[1], top=60))
    wanted = np.zeros((12, 60))
    for weight, p in zip(steps.error_weights(), post, strict=True):
        np.add.at(wanted, (np.arange(12)[:, None], p.top_index), weight * p.top_weight)
    assert (post[0].top_weight[:, 0] < 0.999).any()
    np.testing.assert_allclose(out.attribution.toarray(), wanted, atol=1e-9)


def test_attribution_drops_what_rounding_would():
    rng = np.random.default_rng(0)
    field = itf.Field(rng.normal(size=(3000, 8)))
    out = itf.sample(field, itf.ddim(field.schedule, 10), 20, rng=0, attribution=True)
    assert out.attribution.nnz < 20 * 20  # the last row of the table decides, and its posterior has concentrated
    np.testing.assert_allclose(out.attribution @ oracle_of(field).training_set.rows, out.x, atol=1e-12)


def test_a_perfect_model_has_no_error():
    field = itf.Field(PENTAGON, itf.Linear())
    steps = itf.heun(field.schedule, 10)
    for predicts in ("velocity", "denoiser"):
        model = itf.Model(getattr(field, predicts), field.schedule, predicts=predicts)
        out = itf.sample(model, steps, 6, rng=3, oracle=field, terms=True, attribution=True)
        twin = itf.sample(field, steps, 6, rng=3, terms=True)
        np.testing.assert_allclose(out.x, twin.x, atol=1e-10)
        np.testing.assert_allclose(out.terms.estimation, 0, atol=1e-10)
        np.testing.assert_array_equal(out.index, twin.index)
        np.testing.assert_array_equal(out.commit_time, twin.commit_time)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_wrong_model_against_the_oracle(solver):
    field = itf.Field(PENTAGON, itf.LatentBridge(1.0))
    steps = SOLVERS[solver](field.schedule)
    slip = lambda x, t: 0.1 * np.sin(2 * x + t)  # noqa: E731
    model = itf.Model(lambda x, t: field.denoiser(x, t) + slip(x, t), field.schedule, predicts="denoiser")
    out = itf.sample(model, steps, 6, rng=3, oracle=field, terms=True)
    twin = itf.sample(field, steps, 6, rng=3, error=lambda x, t, r: slip(x, t), terms=True)
    np.testing.assert_allclose(out.x, twin.x, atol=1e-10)
    for name in ("selection", "estimation", "noise", "total"):
        np.testing.assert_allclose(getattr(out.terms, name), getattr(twin.terms, name), atol=1e-10)
    alone = itf.sample(model, steps, rng=3, x0=itf.sample(field, steps, 6, rng=3, keep="path").path[:, 0])
    np.testing.assert_array_equal(alone.x, out.x)
    assert alone.index is None
    assert alone.commit_time is None


def test_an_error_is_added_to_a_model_too():
    field = itf.Field(PENTAGON)
    steps = itf.ddim(field.schedule, 12)
    model = itf.Model(field.denoiser, field.schedule, predicts="denoiser")
    kind = itf.perturb.constant(0.25)
    out = itf.sample(model, steps, 6, rng=3, oracle=field, error=kind, terms=True)
    np.testing.assert_allclose(out.x, itf.sample(field, steps, 6, rng=3, error=kind).x, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(out.terms.estimation, axis=1), 0.25, atol=1e-10)


def test_a_model_takes_the_type_of_the_oracle():
    field = itf.Field(PENTAGON.astype(np.float32))
    seen = set()

    def fn(x, t):
        seen.add(x.dtype)
        return field.velocity(x, t)

    out = itf.sample(itf.Model(fn, field.schedule), itf.euler(field.schedule, 5), 3, rng=0, oracle=field)
    assert seen == {np.dtype(np.float32)}
    assert out.x.dtype == np.float32


def test_terms_with_a_bandwidth():
    field = itf.Field(PENTAGON, itf.Linear(), bandwidth=0.2)
    steps = itf.ddim(field.schedule, 20)
    for error in (None, itf.perturb.constant(0.1)):
        out = itf.sample(field, steps, 6, rng=0, terms=True, error=error)
        np.testing.assert_allclose(out.terms.total, out.x - PENTAGON[out.index], atol=1e-12)
    by_call = itf.sample(field, steps, 6, rng=0, error=lambda x, t, r: np.zeros_like(x))
    np.testing.assert_allclose(by_call.x, itf.sample(field, steps, 6, rng=0).x, atol=1e-12)


def test_results_print_and_export():
    field = itf.Field(PENTAGON)
    out = itf.sample(field, itf.ddim(field.schedule, 5), 2, rng=0, terms=True, attribution=True)
    assert "selection, estimation, noise, total" in repr(out)
    values = out.to_dict()
    assert np.shape(values["terms"]["total"]) == (2, 2)
    assert values["attribution"]["shape"] == [2, 5]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"terms": True}, "oracle"),
        ({"attribution": True}, "oracle"),
        ({"oracle": PENTAGON}, "oracle"),
        ({"error": np.zeros((4, 3, 2))}, "error must have shape"),
        ({"error": np.zeros((5, 3, 2), int)}, "error must be a float array"),
        ({"error": np.full((5, 3, 2), np.nan)}, "error must be finite"),
        ({"error": lambda x, t, r: x[:1]}, "error"),
        ({"error": lambda x, t, r: x * np.inf}, "error"),
        ({"error": itf.perturb.inverse_density(0.1, 1.0)}, "oracle"),
    ],
)
def test_refused_for_a_model(options, words):
    model = itf.Model(lambda x, t: x, itf.Linear())
    with pytest.raises((TypeError, ValueError), match=words):
        itf.sample(model, itf.euler(itf.Linear(), 5), x0=np.ones((3, 2)), **options)


def test_refused_for_a_field():
    field = itf.Field(PENTAGON, bandwidth=0.1)
    steps = itf.ddim(field.schedule, 5)
    with pytest.raises(ValueError, match="bandwidth"):
        itf.sample(field, steps, 3, attribution=True)
    with pytest.raises(ValueError, match="oracle"):
        itf.sample(field, steps, 3, oracle=field)


def test_errors_cannot_write_into_the_state():
    field = itf.Field(PENTAGON)

    def careless(x, t, r):
        x += 1.0
        return x

    steps = itf.ddim(field.schedule, 5)
    want = itf.sample(field, steps, 3, rng=1, error=lambda x, t, r: x + 1.0)
    np.testing.assert_array_equal(itf.sample(field, steps, 3, rng=1, error=careless).x, want.x)
