"""Dense passes over rows of bytes by exact products of digits: what is promised of every output, with each engine."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from engines import Engine
from support.kernel import blank, posterior, prepare
from test_tiles import TILED

from interp_fast import backends

SCALE = (2 / 255, -1.0)
NAMES = ("mean", "log_norm", "gap", "log_rest", "ess", "entropy", "variance", "jvp", "index")


@pytest.fixture(params=[Engine("cpp", isa) for isa in TILED], ids=str)
def kernel(request):
    with request.param.forced():
        yield backends.get("cpp")[1]


def images(n, d, seed=0):
    """Bytes with a smooth spread, as images have: a few directions that matter and some noise."""
    rng = np.random.default_rng(seed)
    loads = rng.standard_normal((6, d)) * 40
    rows = 128 + rng.standard_normal((n, 6)) @ loads / 2 + 8 * rng.standard_normal((n, d))
    return np.clip(np.rint(rows), 0, 255).astype(np.uint8)


def compare(kernel, rows, ratio, m=40, weights=None, seed=1, threads=2):
    rng = np.random.default_rng(seed)
    values = SCALE[0] * rows.astype(float) + SCALE[1]
    n, d = values.shape
    alpha = 1 / (1 + ratio)
    sigma = 1 - alpha
    used = np.flatnonzero(np.ones(n) if weights is None else weights)
    x = alpha * values[rng.choice(used, m)] + sigma * rng.standard_normal((m, d))
    u = rng.standard_normal((m, d))
    data = prepare(kernel, rows, weights, scale=SCALE, threads=threads)
    out = posterior(kernel, data, x, alpha, sigma, u=u, out=blank(m, d, top=min(3, n), names=NAMES), threads=threads)
    ref = oracle.posterior(values, x, alpha, sigma, weights, u=u)
    ref.u = u
    return out, ref, values


@pytest.mark.parametrize("ratio", [20.0, 5.0, 2.0])
@pytest.mark.parametrize(("n", "d"), [(1700, 100), (37, 64), (600, 30)])
def test_outputs(kernel, n, d, ratio):
    out, ref, values = compare(kernel, images(n, d), ratio)
    radius = np.sqrt(((values - values.mean(0)) ** 2).sum(1).mean())
    error = np.linalg.norm(out.mean - ref.mean, axis=1)
    print(n, d, ratio, "mean", error.max() / radius, "log_norm", np.abs(out.log_norm - ref.log_norm).max())
    assert np.all(error <= 7e-7 * np.maximum(np.linalg.norm(ref.mean, axis=1), radius))
    assert np.all(np.abs(out.log_norm - ref.log_norm) <= 1e-6)
    for name in ("ess", "entropy", "variance"):
        np.testing.assert_allclose(getattr(out, name), getattr(ref, name), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(out.gap, ref.gap, atol=1e-3)
    np.testing.assert_allclose(out.log_rest, ref.log_rest, atol=1e-3)
    allowed = 1e-3 * ref.variance * np.linalg.norm(ref.u, axis=1)
    assert np.all(np.linalg.norm(out.jvp - ref.product, axis=1) <= allowed)
    clear = ref.gap > 1e-6
    np.testing.assert_array_equal(out.index[clear], ref.index[clear])


def test_threads_and_weights(kernel):
    """The same bits with any number of threads; rows of weight 0 among weights over 300 decades."""
    weights = np.where(np.arange(1300) % 7 == 2, 0.0, 10.0 ** np.linspace(-300, 0, 1300))
    one, two = (compare(kernel, images(1300, 65), 5.0, weights=weights, threads=threads)[0] for threads in (1, 3))
    ref = compare(kernel, images(1300, 65), 5.0, weights=weights)[1]
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    np.testing.assert_allclose(one.mean, ref.mean, atol=5e-6)
    assert np.all(np.abs(one.log_norm - ref.log_norm) <= 1e-6)


@pytest.mark.parametrize("byte", [0, 255])
def test_extreme_bytes(kernel, byte):
    """All but one row alike, all bytes as small or as large as they can be."""
    rows = np.full((900, 70), byte, np.uint8)
    rows[3] = 255 - byte
    out, ref, values = compare(kernel, rows, 20.0)
    np.testing.assert_allclose(out.mean, ref.mean, atol=5e-6 * np.linalg.norm(values[3] - values[0]))
    assert np.all(np.abs(out.log_norm - ref.log_norm) <= 1e-6)
