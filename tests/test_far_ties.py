"""Rows that are as far from a query as each other, or nearly, at a distance over S of many digits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import oracle
import pytest

import interp_fast as itf
from interp_fast import _weights
from interp_fast._accuracy import PROMISES
from interp_fast.field import oracle_of

# The first two are as far from all points (a, a, z) in the first coordinates, and the last coordinate decides, 40
# digits of the distance further down; no difference of two sums of squares in pairs of floats tells.
DECIDED_LAST = np.array([[3.0, 5.0, 0.0], [5.0, 3.0, 1e-20], [3.0, 5.0, 4e-20], [6.0, 6.0, 0.0]])


@pytest.mark.parametrize("sigma", [0.0, 1e-20, 3e-21])
def test_ties_that_the_last_digits_decide(engine, sigma):
    """Pairs of floats left logits of 10^40 nats and more to rounding, or took them for equal."""
    x = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1e-20], [1.0, 1.0, 0.6e-20], [-7.0, -7.0, 2.4e-20]])
    flow = itf.Field(DECIDED_LAST, itf.VELinear(1.0), backend=engine.backend)
    post = flow.at(1.0, sigma).posterior(x, 4) if sigma else flow.posterior(x, 1.0, 4)
    farther = (DECIDED_LAST[:3, 2] - x[:, 2:]) ** 2
    best = np.argmin(farther, axis=1)
    np.testing.assert_array_equal(post.index, best)
    if sigma:
        w = np.exp((farther.min(axis=1, keepdims=True) - farther) / (2 * sigma**2))
        w /= w.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(post.top_weight[:, :3], -np.sort(-w, axis=1), rtol=1e-9)
    else:
        np.testing.assert_array_equal(post.mean, DECIDED_LAST[best])


def test_middles_of_two_rows(engine):
    """There the factors of a difference cancel, coordinate by coordinate: digits that pairs of floats do not have."""
    alpha, sigma, far = 0.8731049856508399, 5.6e-16, 9.80990793e-26
    rows = np.array([[1.0, -4, 0, -7, 0, 5, far], [-1.0, 7, 0, 0, -5, 4, far / 3], [7.0, 0, -5, -1, 4, 0, far / 3]])
    x = alpha * (rows[:1] + rows[1:2]) / 2
    post = itf.Field(rows, backend=engine.backend).at(alpha, sigma).posterior(x, 3)
    np.testing.assert_allclose(post.top_weight, [[0.5, 0.5, 0.0]], rtol=1e-9)
    np.testing.assert_allclose(post.mean[0], (rows[0] + rows[1]) / 2, rtol=1e-9)


@pytest.mark.parametrize("n", [2, 50])
def test_queries_at_their_own_rounding_from_all_rows(engine, n):
    """The distance from the centre was 0 by rounding alone, and weights did not sum to 1."""
    rows, alpha, sigma = np.full((n, 4), 3.0), 3.7, 1.5311848124867391e-15
    rows[:, 1:] = 1e-27 * np.random.default_rng(0).random((n, 3))
    x = np.array([[11.100000000000001, 0.0, 0.0, 0.0]])  # 3.7 * 3 and 9e-16
    post = itf.Field(rows, backend=engine.backend).at(alpha, sigma).posterior(x, n)
    np.testing.assert_allclose(post.top_weight, 1 / n, rtol=1e-9)
    np.testing.assert_allclose(post.log_rest, np.log1p(-1 / n), rtol=1e-9)


@pytest.mark.parametrize("sigma", [2e-24, 3e-21])
def test_weights_of_far_ties(engine, sigma):
    """Differences from a row that is 10^20 nats and more farther left no digits to the weights of two that tie."""
    rows = np.array([[-7.0, 3, 6, -6, 3e-10], [6, -6, -7, 3, 3e-10], [-6, 6, -7, 3, 2e-10], [-7, 6, 3, -6, 2e-10]])
    weights = np.array([0.25, 0.25, 0.4, 0.1])
    x = np.full((1, 5), -7.0)
    x[:, 4] = 2e-10
    flow = itf.Field(rows, itf.VELinear(1.0), weights=weights, backend=engine.backend)
    post = flow.at(1.0, sigma).posterior(x, 4)
    np.testing.assert_array_equal(post.top_index[0, :2], [2, 3])
    np.testing.assert_allclose(post.top_weight, [[0.8, 0.2, 0, 0]], rtol=1e-12)
    np.testing.assert_allclose(post.mean[0], 0.8 * rows[2] + 0.2 * rows[3], rtol=1e-12)
    w = _weights.weights(oracle_of(flow).training_set, x, np.ones(1), np.full(1, sigma))  # as attributions take them
    np.testing.assert_allclose(w, [[0, 0, 0.8, 0.2]], rtol=1e-12)


@pytest.mark.parametrize("turned", [False, True], ids=["parts", "images"])
def test_ties_that_the_last_digits_decide_across_sets(engine, turned):
    """Of images, and of parts, which know two floats: they say where these do not tell."""
    x, sigma = np.array([[1.0, 1.0, 0.6e-20], [1.0, 1.0, 2.4e-20]]), 1e-20
    if turned:
        kept = [0, 1, 3]
        turns = [[1, 0, 2]]
        flow = itf.Field(DECIDED_LAST[kept], itf.VELinear(1.0), orbit=turns, backend=engine.backend, low_memory=True)
        both = np.concatenate([DECIDED_LAST[kept], DECIDED_LAST[kept][:, turns[0]]])
        np.testing.assert_allclose(
            flow.at(1.0, sigma).denoiser(x), oracle.posterior(both, x, 1.0, sigma).mean, rtol=1e-9
        )
        return
    parts = [itf.Field(rows, itf.VELinear(1.0), backend=engine.backend) for rows in np.split(DECIDED_LAST, [1])]
    whole = itf.merge(
        [part.at(1.0, sigma).partial(x, first_row=first) for part, first in zip(parts, (0, 1), strict=True)]
    )
    assert whole.unsettled.all()


@pytest.mark.parametrize("d", [3, 19])
def test_rows_that_are_equally_far_are_no_copies(engine, d):
    """So far that all squared distances are the same number, 40 rows and one that differs were taken for 41 copies."""
    rows = np.zeros((41, d), np.float32)
    rows[7] = 1
    weights = 10.0 ** -np.linspace(1, 110, 41)
    weights[7] = 1e-120
    field = itf.Field(rows, itf.SqrtVP(), weights=weights, backend=engine.backend)
    x = np.random.default_rng(0).standard_normal((5, d))
    for top in (0, 2, 30):
        post = field.posterior(x, 1e-68, top)  # alpha 1e-34
        np.testing.assert_allclose(post.variance, d * 1e-120 / weights.sum(), rtol=1e-3)


def test_weights_of_equal_rows_seen_from_far_away(engine, dtype):
    """Their distance over S has 36 digits: listed weights were 0 or 1, and a density under ``orbit`` NaN."""
    rng = np.random.default_rng(0)
    rows, sigma = np.tile(70 * rng.standard_normal(8), (113, 1)).astype(dtype), 5.7e-17
    x = rows[:40].astype(float) + 100 * rng.standard_normal((40, 8))
    training = oracle_of(itf.Field(rows, backend=engine.backend)).training_set
    out = {"index": np.empty(40, np.int64), "top_index": np.zeros((40, 1), np.int64), "top_weight": np.empty((40, 1))}
    training.posterior(x, np.ones(40), np.full(40, sigma), np.full(40, np.inf), out, None)
    np.testing.assert_allclose(out["top_weight"], 1 / 113, rtol=0, atol=PROMISES[dtype].weight)


def test_images_of_a_far_query_that_is_its_own(engine):
    """All images of a row are as far from the origin, which sums of squares in another order do not show."""
    rng = np.random.default_rng(0)
    rows, turns = rng.standard_normal((5, 7)), [rng.permutation(7) for _ in range(3)]
    flow = itf.Field(rows, itf.VELinear(1.0), orbit=turns, backend=engine.backend, low_memory=True)
    nearest = rows[np.argmin((rows**2).sum(axis=1))]
    want = np.mean([nearest, *(nearest[p] for p in turns)], axis=0)
    np.testing.assert_allclose(flow.at(1.0, 1e-30).denoiser(np.zeros((1, 7)))[0], want, rtol=1e-10)


def test_rows_on_both_sides_of_a_far_query(engine):
    """As far from it as each other, at a distance over S of 30 digits: products in pairs of floats do not cancel."""
    rows = np.array([[0.375, 0.125], [0.25, 0.0], [0.25, 0.0], [0.125, 0.125], [0.25, 0.25], [1.0, 1.0]])
    t = 1 - 2.0**-53
    x = t * np.array([[0.25, 0.125]])
    post = itf.Field(rows, backend=engine.backend).posterior(x, t, top=5)
    np.testing.assert_allclose(post.mean, [[0.25, 0.1]], rtol=1e-12)
    np.testing.assert_allclose(post.top_weight, 0.2, rtol=1e-12)
    rows = np.array([[1 - 2.0**-24], [1 + 2.0**-24]])  # 7 digits nearer to the query than to the origin
    post = itf.Field(rows, backend=engine.backend).posterior(np.array([[t]]), t, top=2)
    np.testing.assert_allclose(post.top_weight, 0.5, rtol=1e-10)


def test_rows_that_are_as_far_but_for_their_last_digits(engine):
    """Seen from 10^16 radii away rows of other weights are as far in float64: each was given that of the heaviest."""
    rng = np.random.default_rng(0)
    rows, far = rng.standard_normal((400, 8)), rng.standard_normal((30, 8))
    x = 1e16 * far / np.linalg.norm(far, axis=1)[:, None]
    sigma = np.full(30, np.sqrt(1e16 / 5))
    training = oracle_of(itf.Field(rows, backend=engine.backend)).training_set
    out = {"index": np.empty(30, np.int64), "top_index": np.zeros((30, 3), np.int64), "top_weight": np.empty((30, 3))}
    training.posterior(x, np.ones(30), sigma, np.full(30, np.inf), out, None)
    ref = oracle.posterior(rows, x, np.ones(30), sigma)
    want = -np.sort(-np.exp(ref.log_weight), axis=1)[:, :3]
    np.testing.assert_allclose(out["top_weight"], want.astype(float), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(out["index"], ref.index)


def test_rows_that_differ_in_their_last_digits(engine):
    """Products with alpha were rounded before they were taken from each other; two rows took turns as the nearest."""
    digits = 1 + 2.0**-52 * np.arange(4)
    rows = digits[[[0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]]]
    level = itf.Field(rows, itf.VELinear(1.0), backend=engine.backend).at(0.7, 2.0**-53)
    post = level.posterior(np.full((1, 4), -0.3), 4)
    np.testing.assert_allclose(post.top_weight, 0.25, rtol=1e-12)
    rng = np.random.default_rng(1)
    rows = rng.permuted(np.tile(1 + 2.0**-52 * rng.integers(0, 64, 8), (5, 1)), axis=1)
    rows = np.c_[rows, 2.0**-50 * rng.random(5)]
    x = np.array([[*[-0.3] * 8, 0.0]])
    level = itf.Field(rows, itf.VELinear(1.0), backend=engine.backend).at(0.5803260043875634, 1e-25)
    want = -np.sort(-np.exp(oracle.posterior(rows, x, 0.5803260043875634, 1e-25).log_weight), axis=1)
    np.testing.assert_allclose(level.posterior(x, 5).top_weight, want.astype(float), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("seed", "n"), [(370, 3), (1212, 2)])
def test_means_of_rows_that_are_as_far(engine, seed, n):
    """Asked for the mean alone: two of them had logits that were further apart than roundings were thought to be."""
    rng = np.random.default_rng(seed)
    first, alpha = rng.standard_normal(16), rng.uniform(0.5, 2)
    rows = np.array([rng.permutation(first) for _ in range(n)])
    mean = itf.Field(rows, itf.VELinear(1.0), backend=engine.backend).at(alpha, 1e-12).denoiser(np.full((1, 16), 0.3))
    np.testing.assert_allclose(mean[0], rows.mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(("away", "sigma"), [(1.0, 1e-9), (1e3, 1e-12), (1e3, 1e-9)])
def test_weights_of_all_rows_at_far_ties(away, sigma):
    """Far from the origin products of centred rows also carry the rounding of the centre."""
    rng = np.random.default_rng(0)
    rows = rng.permuted(np.tile(away * (1 + sigma / away * rng.standard_normal(12)), (15, 1)), axis=1)
    x = 0.7 * (rows[:1] + rows[1:2]) / 2
    w = _weights.weights(oracle_of(itf.Field(rows)).training_set, x, np.full(1, 0.7), np.full(1, sigma))
    np.testing.assert_allclose(w, np.exp(oracle.posterior(rows, x, 0.7, sigma).log_weight), rtol=0, atol=1e-9)


def test_rows_of_no_weight_that_a_query_is_on(engine):
    """At sigma = 0 the weight that was listed of a row without one was not a number."""
    flow = itf.Field(np.array([[1.0], [2.0], [3.0]]), weights=[0, 1, 1], backend=engine.backend)
    post = flow.posterior(np.array([[1.0]]), 1.0, 3)
    np.testing.assert_array_equal(post.top_index, [[1, 0, 2]])
    np.testing.assert_array_equal(post.top_weight, [[1, 0, 0]])


@pytest.mark.parametrize("sigma", [1e-13, 3.2e-13, 1e-7])
def test_parts_that_are_nearly_as_far(backend, sigma):
    """5 or 50 nats apart in 10^26, of which two floats leave 10^-4: only where that shows are they unsettled."""
    rows, x = np.array([[3.0, 5.0, 0.0], [5.0, 3.0, 1e-12]]), np.array([[1.0, 1.0, 0.0]])
    parts = [itf.Field(row[None], itf.VELinear(1.0), backend=backend).at(1.0, sigma) for row in rows]
    whole = itf.merge([part.partial(x, first_row=i, precise=True) for i, part in enumerate(parts)])
    assert whole.unsettled.tolist() == [sigma < 1e-10]


def test_parts_of_a_query_that_is_a_row_but_for_rounding(backend):
    """Its distance is 0 in float64, which was taken for a distance without rounding: weights were off by 7e-4."""
    alpha, sigma = 0.3, 0.3e-17
    rows = np.array([[1.1, 0.0], [1.1, 3e-17], [5.0, 5.0]])
    x = alpha * rows[:1]
    levels = [itf.Field(row[None], itf.VELinear(1.0), backend=backend).at(alpha, sigma) for row in rows]
    post = itf.merge([level.partial(x, 1, first_row=i, precise=True) for i, level in enumerate(levels)]).posterior()
    w = np.exp(oracle.posterior(rows, x, alpha, sigma).log_weight[0]).astype(float)
    np.testing.assert_allclose(post.top_weight[0, 0], w.max(), rtol=1e-9)
    np.testing.assert_allclose(post.log_rest, np.log1p(-w.max()), rtol=1e-9)


def test_lists_of_parts_at_far_ties(backend):
    """The part has told its rows apart, which two floats of their squares do not: the lighter one came first."""
    rows, x = np.array([[0.1, 0.2, 0.3, 1e-20], [0.3, 0.1, 0.2, 0.0], [1.0, 1.0, 1.0, 0.0]]), np.zeros((1, 4))
    parts = [itf.Field(part, itf.VELinear(1.0), backend=backend).at(1.0, 1e-21) for part in np.split(rows, [2])]
    for top in (1, 2):
        post = itf.merge([p.partial(x, top, first_row=i) for p, i in zip(parts, (0, 2), strict=True)]).posterior()
        np.testing.assert_array_equal(post.top_index[0], [1, 0][:top])
        np.testing.assert_allclose(post.top_weight[0, 0], 1.0)


@pytest.mark.parametrize("away", [1.0, 1e6])
def test_nearest_of_rows_far_from_the_origin(engine, away):
    """At sigma = 0, half-way between two rows: products of alpha and rows were rounded by more than told them apart."""
    rng = np.random.default_rng(5)
    for _ in range(60):
        rows = away * rng.standard_normal(3) + 10.0 ** rng.uniform(-6, 0) * rng.standard_normal((4, 3))
        alpha = rng.uniform(0.05, 1)
        x = alpha * (rows[:1] + rows[1:2]) / 2
        apart = [[Fraction(x[0, k]) - Fraction(alpha) * Fraction(row[k]) for k in range(3)] for row in rows]
        squares = [sum(one**2 for one in row) for row in apart]
        post = itf.Field(rows, itf.VELinear(1.0), backend=engine.backend).at(alpha, 0.0).posterior(x, 1)
        assert post.index[0] == squares.index(min(squares))
