"""Every backend against the kernel contract: shapes, out=, read-only and strided rows, ties, limits, odd sizes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from support.kernel import INF, PER_QUERY, blank, posterior, prepare

from interp_fast import backends
from interp_fast._accuracy import PROMISES
from interp_fast.backends import State


@pytest.fixture
def kernel(engine):
    return backends.get(engine.backend)[1]


def assert_close(post, ref, *, rel, scale, context):
    """All outputs of one call against the oracle: ``rel`` on statistics, ``rel`` times ``scale`` on vectors."""
    for name in ("ess", "entropy", "variance"):
        got, want = getattr(post, name), getattr(ref, name)
        allowed = rel * want + 1e-300 + (rel * rel * scale**2 if name == "variance" else 0)
        assert np.all(np.abs(got - want) <= allowed), (context, name, got, want)
    assert np.all(np.abs(post.scatter - ref.variance) <= rel * scale**2), (
        context,
        "scatter",
        post.scatter,
        ref.variance,
    )
    for name in ("log_norm", "gap", "log_rest"):
        got, want = getattr(post, name), getattr(ref, name)
        allowed = rel * np.maximum(1, np.abs(want))
        with np.errstate(invalid="ignore"):
            assert np.all((got == want) | (np.abs(got - want) <= allowed)), (context, name, got, want)
    assert np.all(np.abs(post.mean - ref.mean) <= rel * scale), (context, "mean", post.mean, ref.mean)
    weight = np.exp(ref.log_weight)
    query = np.arange(len(weight))
    assert np.all(weight.max(1) - weight[query, post.index] <= rel), (context, "index")


@pytest.mark.parametrize("d", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130])
def test_lengths_around_vector_widths(kernel, dtype, d):
    """Every tail: N, M and d one below, at and above the widths of vectors, tiles and blocks."""
    rng = np.random.default_rng(d)
    rel = 2e-4 if dtype == "float32" else 1e-10
    sizes = [(1, 1), (2, 3), (3, 2), (7, 16), (8, 5), (9, 1), (15, 17), (16, 16), (17, 4), (31, 33), (33, 7), (64, 3)]
    sizes += [(63, 15), (65, 31), (127, 2), (129, 9), (255, 65), (257, 1), (d, 3)]
    for n, m in sizes:
        rows = rng.standard_normal((n, d)).astype(dtype)
        weights = rng.uniform(0.5, 2, n)
        x = rng.standard_normal((m, d))
        u = rng.standard_normal((m, d))
        top = min(3, n)
        out = blank(m, d, top, ("mean", "jvp", "index", *PER_QUERY))
        sigma = np.sqrt(d) / 2  # several rows share the posterior, whatever d is
        post = posterior(kernel, prepare(kernel, rows, weights), x, 0.7, sigma, u=u, out=out)
        ref = oracle.posterior(rows, x, 0.7, sigma, weights, u=u)
        context = (n, m, d)
        assert_close(post, ref, rel=rel, scale=np.sqrt(d) + 1, context=context)
        bound = rel * ref.variance * np.linalg.norm(u, axis=1) + 1e-300
        assert np.all(np.linalg.norm(post.jvp - ref.product, axis=1) <= bound), (context, "jvp")
        best = np.sort(np.exp(ref.log_weight), axis=1)[:, ::-1][:, :top]
        assert np.all(np.abs(post.top_weight - best) <= rel), (context, "top_weight")
        assert np.all(post.top_index[:, 0] == post.index), context


@pytest.mark.parametrize("far", [30.0, 3e5, 1e6, 1e9])
def test_the_scatter_beside_a_far_row_of_little_weight(kernel, dtype, far):
    """It is a difference of squares about the center of all rows, which one row is enough to move away."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((300, 8)).astype(dtype)
    rows[7] *= far
    weights = 10.0 ** -rng.uniform(0, 20, 300)  # nothing averages out
    weights[7] = 1e-4 / far
    x = rng.standard_normal((20, 8))
    promised = PROMISES[dtype].scatter
    for sigma in (1e4 * far, 5.0):
        out = blank(20, 8, names=("scatter",))
        got = posterior(kernel, prepare(kernel, rows, weights), sigma * x, 1.0, sigma, out=out).scatter
        want = oracle.posterior(rows, sigma * x, 1.0, sigma, weights).variance
        assert np.all(np.abs(got - want) <= promised * np.maximum(want, oracle.radius(rows, weights)[1] ** 2)), sigma


@pytest.mark.parametrize("name", ["mean", "jvp", "index", *PER_QUERY, "top"])
def test_each_output_alone(kernel, dtype, name):
    """``out`` says what is wanted: any one output is what it is among all of them, bit for bit or to rounding."""
    rng = np.random.default_rng(3)
    rows, x, u = rng.standard_normal((70, 6)).astype(dtype), rng.standard_normal((5, 6)), rng.standard_normal((5, 6))
    data = prepare(kernel, rows)
    everything = blank(5, 6, 4, ("mean", "jvp", "index", *PER_QUERY))
    posterior(kernel, data, x, 0.8, 0.6, u=u, out=everything)
    alone = blank(5, 6, 4 if name == "top" else 0, (name,))
    posterior(kernel, data, x, 0.8, 0.6, u=u if name == "jvp" else None, out=alone)
    assert alone
    for key, value in alone.items():
        np.testing.assert_allclose(value, everything[key], rtol=1e-5 if dtype == "float32" else 1e-10, err_msg=key)


@pytest.mark.parametrize(("n", "d"), [(90, 13), (300, 7), (300, 2)])
def test_layouts_of_rows(kernel, dtype, n, d):
    """Read-only, strided, backward, at an odd address: rows contiguous along d, and all the same answer."""
    rng = np.random.default_rng(4)
    plain = rng.standard_normal((n, d)).astype(dtype)
    frozen = plain.copy()
    frozen.flags.writeable = False
    strided = np.zeros((2 * n, d + 4), dtype)[::2, 2:-2]
    strided[:] = plain
    flat = np.zeros(n * d + 1, dtype)[1:]
    flat[:] = plain.ravel()
    x = rng.standard_normal((4, d))
    x.flags.writeable = False
    ref = oracle.posterior(plain, x, 0.9, 0.8)
    backward = plain[::-1].copy()[::-1]
    for layout in (plain, frozen, strided, backward, flat.reshape(n, d)):
        for low_memory in (False, True):
            post = posterior(kernel, prepare(kernel, layout, low_memory=low_memory), x, 0.9, 0.8, out=blank(4, d))
            assert_close(post, ref, rel=2e-4 if dtype == "float32" else 1e-10, scale=4.0, context=layout.strides)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (4, 1)])
def test_backward_along_an_axis_of_length_1(kernel, dtype, shape):
    """Such arrays are contiguous, and yet have a negative stride."""
    plain = np.arange(1.0, 1 + np.prod(shape)).reshape(shape).astype(dtype)
    rows = plain[tuple(slice(None, None, -1 if size == 1 else 1) for size in shape)]
    assert min(rows.strides) < 0
    x = np.full((2, shape[1]), 1.5)
    wanted = oracle.posterior(plain, x, 0.9, 0.8)
    post = posterior(kernel, prepare(kernel, rows), x, 0.9, 0.8, out=blank(2, shape[1]))
    assert_close(post, wanted, rel=2e-4 if dtype == "float32" else 1e-10, scale=4.0, context=shape)


@pytest.mark.parametrize("d", [3, 20])
def test_scatter_of_next_to_no_weight(kernel, dtype, d):
    """Where equal rows have all weight but 1e-240 of it, R and the scatter are what the other row makes of that."""
    rows, weights = np.zeros((9, d), dtype), np.full(9, 0.1)
    rows[3], weights[3] = 1.0, 1e-240
    x = np.vstack([np.full(d, 0.2), np.full(d, 0.6)])
    post = posterior(kernel, prepare(kernel, rows, weights), x, 0.9, 0.8, out=blank(2, d, names=("mean", "scatter")))
    want = oracle.posterior(rows, x, 0.9, 0.8, weights)
    np.testing.assert_allclose(post.scatter, want.variance, rtol=2.0**-16 if dtype == "float32" else 2.0**-36)


def test_nearer_rows_without_weight_at_the_end(kernel, dtype):
    """At sigma = 0 the nearest row of weight > 0 has all weight, in lists too."""
    rows, x = np.array([[0], [5], [1], [3]], dtype), np.array([[0.1], [4.5]])
    prepared = prepare(kernel, rows, weights=np.array([0.0, 0.0, 0.2, 0.8]))
    post = posterior(kernel, prepared, x, 1.0, 0.0, out=blank(2, 1, 2))
    np.testing.assert_array_equal(post.index, [2, 3])
    np.testing.assert_array_equal(post.top_index[:, 0], [2, 3])
    np.testing.assert_array_equal(post.top_weight, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(post.mean, [[1], [3]])


def test_no_queries(kernel, dtype):
    rows = np.ones((3, 2), dtype)
    post = posterior(kernel, prepare(kernel, rows), np.empty((0, 2)), 0.5, 0.5, out=blank(0, 2))
    assert post.mean.shape == (0, 2)


def test_ties_go_to_the_lowest_row(kernel, dtype):
    """Equal rows count as rows: gap 0, ess and entropy of the formula, lists in row order, top list through ties."""
    rows = np.array([[5, 5], [1, 0], [1, 0], [9, 9], [1, 0]], dtype)
    x = np.array([[1.0, 0.0], [0.9, -0.1]])
    post = posterior(kernel, prepare(kernel, rows), x, 1.0, 0.05, out=blank(2, 2, 4))
    np.testing.assert_array_equal(post.index, [1, 1])
    np.testing.assert_array_equal(post.gap, [0, 0])
    np.testing.assert_array_equal(post.top_index[:, :3], [[1, 2, 4]] * 2)
    np.testing.assert_allclose(post.top_weight[:, :3], 1 / 3, rtol=1e-12)
    np.testing.assert_allclose(post.ess, 3, rtol=1e-12)
    np.testing.assert_allclose(post.entropy, np.log(3), rtol=1e-12)
    np.testing.assert_allclose(post.log_rest, np.log(2 / 3), rtol=1e-12)
    np.testing.assert_array_equal(post.mean, [[1, 0]] * 2)


def test_equal_rows_of_unequal_weight(kernel, dtype):
    rows = np.array([[1, 0], [1, 0], [4, 0]], dtype)
    post = posterior(kernel, prepare(kernel, rows, [1, 3, 0]), np.array([[1.0, 0.0]]), 1.0, 0.1, out=blank(1, 2, 2))
    assert post.index[0] == 1
    np.testing.assert_allclose(post.gap, np.log(3), rtol=1e-12)
    np.testing.assert_array_equal(post.top_index, [[1, 0]])
    np.testing.assert_allclose(post.top_weight, [[0.75, 0.25]], rtol=1e-12)


def test_rows_of_weight_zero_do_not_exist(kernel, dtype):
    """The nearest row weighs nothing: no output knows it, whether sigma is large, small or 0, or alpha is 0."""
    rows = np.array([[0, 0], [1, 1], [0, 0], [3, 3]], dtype)
    data = prepare(kernel, rows, [0, 1, 0, 2])
    kept = prepare(kernel, rows[[1, 3]], [1, 2])
    x = np.array([[0.1, 0.1], [2.0, 2.0], [0.0, 0.0]])
    for alpha, sigma in ((0.7, 2.0), (1.0, 0.01), (1.0, 0.0), (0.0, 1.0)):
        post = posterior(kernel, data, x, alpha, sigma, out=blank(3, 2))
        want = posterior(kernel, kept, x, alpha, sigma, out=blank(3, 2))
        np.testing.assert_array_equal(post.index, np.array([1, 3])[want.index])
        for name in ("mean", "log_norm", "gap", "log_rest", "ess", "entropy", "variance"):
            got, expected = getattr(post, name), getattr(want, name)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-12, err_msg=f"{name} {alpha} {sigma}")


def test_one_row(kernel, dtype):
    rows = np.array([[1.5, -2.0, 0.25]], dtype)
    x = np.array([[1.0, 2.0, 3.0], [1.5, -2.0, 0.25]])
    for alpha, sigma in ((0.6, 0.8), (0.0, 1.0), (1.0, 0.0)):
        post = posterior(
            kernel,
            prepare(kernel, rows),
            x,
            alpha,
            sigma,
            u=x,
            out=blank(2, 3, 1, ("mean", "jvp", "index", *PER_QUERY)),
        )
        np.testing.assert_array_equal(post.mean, np.repeat(rows, 2, 0))
        for name, value in {"index": 0, "gap": INF, "log_rest": -INF, "ess": 1, "entropy": 0, "variance": 0}.items():
            np.testing.assert_array_equal(getattr(post, name), value, err_msg=name)
        np.testing.assert_array_equal(post.jvp, 0)
        np.testing.assert_array_equal(post.top_weight, 1)
        want = -((x - alpha * rows) ** 2).sum(1) / (2 * sigma**2) if sigma else [-INF, -INF]
        np.testing.assert_allclose(post.log_norm, want, rtol=1e-6, atol=1e-12)


def test_alpha_zero_gives_the_weights(kernel, dtype):
    rng = np.random.default_rng(5)
    rows, weights = rng.standard_normal((50, 3)).astype(dtype) + 30, rng.uniform(0, 1, 50)
    w = weights / weights.sum()
    x = rng.standard_normal((3, 3)) * 5
    post = posterior(kernel, prepare(kernel, rows, weights), x, 0.0, 1.3, out=blank(3, 3, 2))
    mean = w @ rows.astype(float)
    np.testing.assert_allclose(post.mean, np.tile(mean, (3, 1)), rtol=1e-6)
    np.testing.assert_allclose(post.ess, 1 / (w**2).sum(), rtol=1e-6)
    np.testing.assert_allclose(post.log_norm, -(x**2).sum(1) / (2 * 1.3**2), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(post.index, np.argmax(w))
    np.testing.assert_allclose(post.variance, w @ ((rows.astype(float) - mean) ** 2).sum(1), rtol=1e-6)


def test_sigma_zero_is_the_limit(kernel, dtype):
    """The nearest rows share by weight; exactly equal distances are ties."""
    rows = np.array([[1, 0], [-1, 0], [0, 8], [1, 0]], dtype)
    data = prepare(kernel, rows, [1, 2, 4, 3])
    x = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 8.0]])
    post = posterior(kernel, data, x, 1.0, 0.0, out=blank(3, 2, 2))
    np.testing.assert_allclose(post.mean, [[(1 - 2 + 3) / 6, 0], [1, 0], [0, 8]], rtol=1e-12)
    np.testing.assert_array_equal(post.log_norm, -INF)
    np.testing.assert_allclose(post.ess, [36 / (1 + 4 + 9), 16 / 10, 1], rtol=1e-12)
    np.testing.assert_array_equal(post.gap, [0, 0, INF])
    np.testing.assert_allclose(post.log_rest, [np.log(0.5), np.log(0.25), -INF], rtol=1e-12)
    np.testing.assert_allclose(post.variance, [8 / 9, 0, 0], rtol=1e-12, atol=1e-12)


def test_queries_of_different_times(kernel, dtype):
    """alpha, sigma and cut belong to a query: a mixed call is the calls one by one."""
    rng = np.random.default_rng(7)
    rows = rng.standard_normal((200, 10)).astype(dtype)
    data = prepare(kernel, rows)
    alpha = np.array([0.0, 0.1, 0.5, 0.9, 1.0, 0.7, 1.0])
    sigma = np.array([1.0, 0.9, 0.5, 1e-3, 0.0, 20.0, 1e-2])
    x = alpha[:, None] * rows[:7] + sigma[:, None] * rng.standard_normal((7, 10))
    out = blank(7, 10)
    kernel.posterior(x, data, alpha, sigma, cut=np.full(7, INF), out=out, threads=1)
    for m in range(7):
        one = posterior(kernel, data, x[m : m + 1], alpha[m], sigma[m], out=blank(1, 10))
        for name in ("mean", "log_norm", "gap", "ess", "entropy"):
            tight = 1e-5 if dtype == "float32" else 1e-10
            np.testing.assert_allclose(
                out[name][m], getattr(one, name)[0], rtol=tight, atol=tight, err_msg=f"{name} {m}"
            )


@pytest.mark.parametrize("cut", [12.0, 25.0, 60.0])
def test_cut_leaves_out_no_more_than_it_says(kernel, dtype, cut):
    """Rows within ``cut`` nats count; what is dropped is bounded by ``dropped`` and by N exp(-cut)."""
    rng = np.random.default_rng(8)
    rows = np.concatenate([rng.standard_normal((300, 20)), 3 + rng.standard_normal((300, 20))]).astype(dtype)
    data = prepare(kernel, rows)
    for sigma in (0.3, 1.0, 3.0):
        x = rows[::60].astype(float) + sigma * rng.standard_normal((10, 20))
        post = posterior(kernel, data, x, 1.0, sigma, cut=cut, out=blank(10, 20))
        ref = oracle.posterior(rows, x, 1.0, sigma)
        assert np.all(post.dropped >= 0)
        assert np.all(post.dropped <= 600 * np.exp(-cut) * 1.01)
        reach = np.sqrt(((rows.astype(float) - ref.mean[:, None]) ** 2).sum(2)).max(1)
        rounding = 1e-5 if dtype == "float32" else 1e-11
        assert np.all(np.linalg.norm(post.mean - ref.mean, axis=1) <= post.dropped * reach + rounding * reach)
        assert np.all(
            np.abs(post.log_norm - ref.log_norm)
            <= 1.1 * post.dropped + rounding * np.abs(ref.log_norm) + 1e-3 * (dtype == "float32")
        )
        lost = 600 * np.exp(-cut)  # off-weight statistics count the cut from the runner-up
        for name in ("variance", "entropy"):
            value = getattr(ref, name)
            assert np.all(
                np.abs(getattr(post, name) - value) <= value * (1e3 * lost + (1e-3 if dtype == "float32" else 1e-9))
            )


def test_scale_of_bytes(kernel):
    rng = np.random.default_rng(9)
    rows = rng.integers(0, 256, (80, 11)).astype(np.uint8)
    scale = (0.25, -30.0)
    values = 0.25 * rows.astype(float) - 30
    x = values[:4] + rng.standard_normal((4, 11))
    for sigma in (20.0, 0.5):
        post = posterior(kernel, prepare(kernel, rows, scale=scale), x, 1.0, sigma, out=blank(4, 11))
        assert_close(post, oracle.posterior(values, x, 1.0, sigma), rel=1e-3, scale=60.0, context=sigma)


def table_of(columns, alpha, sigma):
    """The columns a backend reads of a step table."""
    names = ("A", "B", "C", "S", "commit")
    fields = {
        name: np.array([row[k] for row in columns], bool if name == "commit" else float) for k, name in enumerate(names)
    }
    return SimpleNamespace(
        alpha=np.array(alpha, float), sigma=np.array(sigma, float), times=np.array(alpha, float), **fields
    )


# every feature of a row: noise, an uncommitted row, C on the rows after a committed and an uncommitted one
TABLE = table_of(
    [(0.9, 0.1, 0, 0, 1), (0.8, 0.3, 0, 0, 0), (0.8, 0.2, 0.1, 0.05, 1), (0.7, 0.4, -0.1, 0.2, 1), (0.5, 0.5, 0, 0, 1)],
    [0.0, 0.2, 0.5, 0.6, 0.9, 1.0],
    [1.0, 0.8, 0.5, 0.4, 0.1, 0.0],
)


def run(kernel, data, table, x0, pieces, *, error=None, first_sample=0, threads=1):
    state = State.start(x0, terms=True)
    options = {"key": 2**63 + 11, "first_sample": first_sample, "error": error, "cut": INF, "threads": threads}
    for first, last in pieces:
        kernel.run_steps(state, data, table, first, last, **options)
    return state


@pytest.mark.parametrize("bandwidth", [0.0, 0.2])
def test_run_steps_is_the_table(kernel, dtype, bandwidth):
    """Against a loop over the rows of the table with the oracle's D, errors added and noise drawn word by word."""
    rng = np.random.default_rng(10)
    n, d = 5, 6
    rows = rng.standard_normal((40, d)).astype(dtype)
    x0, error = rng.standard_normal((n, d)), 0.1 * rng.standard_normal((5, n, d))
    data = prepare(kernel, rows, bandwidth=bandwidth)
    state = run(kernel, data, TABLE, x0, [(0, 5)], error=error, first_sample=2**32 - 2)

    base, cur = x0.copy(), x0.copy()
    previous = previous_clean = previous_error = np.zeros((n, d))
    terms = np.stack([x0, 0 * x0, 0 * x0])
    index, since = np.full(n, -1), np.zeros(n, int)
    for r in range(5):
        alpha, sigma = TABLE.alpha[r], TABLE.sigma[r]
        ref = oracle.posterior(rows, cur, alpha, sigma, bandwidth=bandwidth)
        s2 = sigma**2 + (alpha * bandwidth) ** 2
        clean = sigma**2 / s2 * ref.mean + alpha * bandwidth**2 / s2 * cur
        xi = np.array([[oracle.normal(2**63 + 11, 2**32 - 2 + i, r, j) for j in range(d)] for i in range(n)])
        a, b, c, s = TABLE.A[r], TABLE.B[r], TABLE.C[r], TABLE.S[r]
        out = a * base + b * (clean + error[r]) + c * previous + s * xi
        since[ref.index != index] = r
        index = ref.index
        if TABLE.commit[r]:
            terms = a * terms + [b * clean + c * previous_clean, b * error[r] + c * previous_error, s * xi]
            base = out
        cur, previous, previous_clean, previous_error = out, clean + error[r], clean, error[r]

    close = {"rtol": 0, "atol": 3e-5 if dtype == "float32" else 1e-11}
    np.testing.assert_allclose(state.base, base, **close)
    np.testing.assert_allclose(state.cur, cur, **close)
    np.testing.assert_allclose(state.previous, previous, **close)
    np.testing.assert_allclose(state.terms, terms, **close)
    np.testing.assert_allclose(state.terms.sum(0), state.base, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(state.index, index)
    np.testing.assert_array_equal(state.since, since)
    assert np.all(state.work <= 5 * 1.05)


def test_run_steps_in_pieces(kernel, dtype):
    """Cutting a run at any row changes no bit of anything it carries."""
    rng = np.random.default_rng(11)
    rows = rng.standard_normal((300, 17)).astype(dtype)
    data = prepare(kernel, rows)
    x0 = rng.standard_normal((19, 17))
    whole = run(kernel, data, TABLE, x0, [(0, 5)])
    for pieces in ([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)], [(0, 2), (2, 5)], [(0, 0), (0, 3), (3, 5)]):
        cut = run(kernel, data, TABLE, x0, pieces)
        for name in ("base", "cur", "previous", "index", "since", "dropped", "work", "terms"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name), err_msg=f"{name} {pieces}")


def test_run_steps_needs_no_key_without_noise(kernel, dtype):
    table = table_of([(0.5, 0.5, 0, 0, 1)], [0.5, 1.0], [0.5, 0.0])
    rows = np.array([[1.0, 2.0], [3.0, 4.0]], dtype)
    state = State.start(np.zeros((2, 2)))
    kernel.run_steps(state, prepare(kernel, rows), table, 0, 1, key=0, first_sample=0, error=None, cut=INF, threads=1)
    ref = oracle.posterior(rows, np.zeros((2, 2)), 0.5, 0.5)
    np.testing.assert_allclose(state.cur, 0.5 * ref.mean, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_nearest(kernel, dtype, k):
    """Brute force in extended precision: order, ties to the lowest row, weights ignored, near duplicates resolved."""
    rng = np.random.default_rng(12)
    rows = (rng.standard_normal((333, 21)) + 50).astype(dtype)
    rows[200] = rows[3]
    rows[201] = rows[5]
    rows[201, 0] = np.nextafter(rows[5, 0], np.asarray(100, dtype))
    data = prepare(kernel, rows, np.where(np.arange(333) % 2, 1.0, 0.0))
    for alpha in (1.0, 0.5, 0.0):
        x = np.concatenate([alpha * rows[[3, 5, 201]].astype(float), alpha * 50 + rng.standard_normal((6, 21))])
        index, squared = np.full((9, k), -7), np.full((9, k), np.nan)
        kernel.nearest(x, data, alpha=alpha, out={"index": index, "squared_distance": squared}, threads=1)
        exact = ((x[:, None].astype(oracle.LONG) - oracle.LONG(alpha) * rows.astype(oracle.LONG)) ** 2).sum(2)
        order = np.argsort(exact, axis=1, kind="stable")[:, :k]
        if alpha != 0.5:  # alpha x_i is rounded for no row here
            np.testing.assert_array_equal(index, order)
        want = np.take_along_axis(exact, index, 1).astype(float)
        np.testing.assert_allclose(squared, want, rtol=1e-12, atol=1e-24)
        assert np.all(np.diff(squared, axis=1) >= 0)


@pytest.mark.parametrize("d", [1, 3, 4, 7, 8, 17])
def test_normals_are_the_definition(kernel, d):
    """Bit for bit, at addresses that need both words of a key and of a sample."""
    from interp_fast import _random

    for key, first, row in ((0, 0, 0), (2**64 - 1, 2**32 - 3, 7), (123456789, 2**62, 2**31)):
        out = np.full((6, d), np.nan)
        kernel.normals(key, first, row, out, threads=1)
        np.testing.assert_array_equal(out, _random.normals(key, first, row, n=6, d=d))
        want = [[oracle.normal(key, first + i, row, j) for j in range(d)] for i in range(6)]
        np.testing.assert_allclose(out, want, rtol=0, atol=5e-15)


def test_philox_known_answers():
    """The three published vectors of Philox4x32-10, for the oracle and for the package."""
    from interp_fast import _random

    vectors = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ]
    for counter, key, words in vectors:
        assert oracle.philox(counter, key) == words
        assert tuple(int(w) for w in _random.philox(counter, key[0] | key[1] << 32)) == words
