"""Rows of float32 and 16 bits that are bytes on a grid, up to rounding: bytes stand for them where rows are looked for,
and in sums if they are near enough; answers are those of the values as given."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import oracle
import pytest
from engines import Engine
from support.kernel import INF, blank, posterior, prepare
from support.measure import Errors, norm
from test_digits import by_digits, check, forward, images
from test_rounding import judged
from test_tiles import MULTIPLY, TILED

import interp_fast as itf
from interp_fast import backends

KERNEL = backends.get("cpp")[1]
ITSELF = (1.0, 0.0)
# Where the numbers of a byte lie beside a grid, in steps: so far that it shows, not so far that no sums are made.
ASIDE = np.random.default_rng(12).uniform(-3e-5, 3e-5, 256)
ASIDE[0] = 0

GRIDS = {
    "/255": lambda byte: (byte / 255).astype("f4"),
    "2/255 - 1": lambda byte: (byte * (2 / 255) - 1).astype("f4"),
    "/127.5": lambda byte: (byte / 127.5).astype("f4"),
    "standardized": lambda byte: ((byte / 255 - 0.1307) / 0.3081).astype("f4"),
    "whole": lambda byte: byte.astype("f4"),
    "a few": lambda byte: (0.1 + byte // 64 * 0.3).astype("f4"),
    "float16": lambda byte: (byte / 256).astype("f2"),
    "bfloat16": lambda byte: byte.astype(ml_dtypes.bfloat16),
}
# Near enough to bytes to be looked at as such, or not even that: no sums.
APART = {
    "float16, /255": lambda byte: (byte / 255).astype("f2"),
    "far aside": lambda byte: ((byte + 3000 * ASIDE[byte]) / 255).astype("f4"),
    "one value off": lambda byte: with_one((byte / 255).astype("f4"), 0.5 / 255),
    "one value just off": lambda byte: with_one((byte / 255).astype("f4"), 0.05 / 255),
    "one value far off": lambda byte: with_one((byte / 255).astype("f4"), 3.0),
    "two grids": lambda byte: np.where(np.arange(byte.shape[1]) % 2, byte / 255, byte / 77).astype("f4"),
    "float64": lambda byte: byte / 255,
}


def with_one(rows, more):
    rows[45, 7] += np.float32(more)  # a row that no sample of a few sees
    return rows


@pytest.fixture(params=TILED)
def isa(request):
    with Engine("cpp", request.param).forced():
        yield request.param


def noisy(rows, ratio, m, seed=1):
    """Queries, alpha and sigma, at sigma/alpha in halves of the range of the rows."""
    values = rows.astype(float)
    return forward(values, ratio * np.ptp(values) / 2, m, seed=seed)


@pytest.mark.parametrize("name", GRIDS)
def test_sums(isa, name):
    """By digits, every output as promised, and rounding has a bound."""
    rows = GRIDS[name](images(300, 64))
    errors = Errors(name)
    for ratio in (20.0, 2.0, 0.1):
        x, alpha, sigma = noisy(rows, ratio, 20)
        check(errors, rows, x, alpha, sigma, scale=ITSELF, some=slice(6))
        if ratio == 20:
            assert by_digits(isa, rows, x, alpha, sigma, scale=ITSELF, names=("mean",)).all()
    errors.close()
    x, alpha, _ = noisy(rows, 15.0, 20)
    field = itf.Field(rows, itf.Linear(), backend="cpp", threads=1)
    post = field.posterior(x, alpha)
    assert np.isfinite(post.rounding).all()
    wrong, bounds = judged(post.mean, post.rounding + post.certificate, rows.astype(float), x, alpha, 1 - alpha)
    assert (wrong / field.R <= bounds).all()
    assert np.median(bounds) < 100 * np.median(wrong / field.R)
    less = itf.Field(rows, itf.Linear(), backend="cpp", threads=1, low_memory=True).posterior(x, alpha)
    assert np.isinf(less.rounding).all()  # there is no copy in bytes


@pytest.mark.parametrize("name", APART)
def test_no_sums(isa, name):
    rows = APART[name](images(300, 64))
    errors = Errors(name)
    for ratio in (20.0, 2.0, 0.1):
        x, alpha, sigma = noisy(rows, ratio, 20)
        check(errors, rows, x, alpha, sigma, scale=ITSELF, some=slice(6))
    errors.close()
    x, alpha, _ = noisy(rows, 20.0, 20)
    assert np.isinf(itf.Field(rows, itf.Linear(), backend="cpp", threads=1).posterior(x, alpha).rounding).all()


def corner_rows():
    few = (images(90, 65) / 255).astype("f4")
    off = few.copy()
    off[::7] += np.random.default_rng(3).standard_normal(off[::7].shape).astype("f4")
    weights = np.where(np.arange(90) % 7 == 0, 0.0, 1.0)
    grey = np.repeat(((np.arange(256) + ASIDE)[::4] / 255).astype("f4")[:, None], 400, axis=1)
    return {
        "one": (few[:1], None),
        "two": (few[:2], None),
        "equal": (np.repeat(few[:1], 40, axis=0), None),
        "black": (np.zeros((40, 64), "f4"), None),
        "one white": (np.eye(40, 64, dtype="f4") // 40 + np.eye(40, 1, dtype="f4"), None),
        "light ones off it": (off, weights),
        "far from 0": (few + np.float32(1000), None),
        "tiny": (few * np.float32(1e-36), None),
        "grey": (grey, None),
    }


CORNERS = corner_rows()


@pytest.mark.parametrize("name", CORNERS)
def test_corners(isa, name):
    """Also queries between rows, along the line through all of them, and far away."""
    rows, weights = CORNERS[name]
    values, rng = rows.astype(float), np.random.default_rng(6)
    size, alpha = np.ptp(values) or 1.0, 0.5
    errors = Errors(name)
    for ratio in (20.0, 2.0, 0.1, 1e-3):
        sigma = alpha * ratio * size
        x = alpha * values[rng.integers(0, len(values), 18)] + sigma * rng.standard_normal((18, values.shape[1]))
        x[:2] = alpha * (values[0] + values[-1:]) / 2
        x[2:5] = alpha * values[-1] * np.array([[1.5], [10], [100]])
        x[5:7] = 1e6 * size * rng.standard_normal((2, x.shape[1]))
        check(errors, rows, x, alpha, sigma, weights, scale=ITSELF, some=slice(9))
    errors.close()


def nearly_alike(seed):
    """Two to four rows far apart in one place and a step or two in another, where queries are far away: a hair that
    numbers lie beside the grid tells on the weights."""
    rng = np.random.default_rng([41, seed])
    n, d = int(rng.integers(2, 5)), 64
    byte = np.zeros((n, d), int)
    byte[:, 3] = np.linspace(rng.integers(0, 20), rng.integers(235, 256), n)
    byte[:, 5] = rng.integers(0, 250) + rng.permutation(n)
    values, alpha, sigma = byte / 255, 0.5, 2.0 ** rng.uniform(-2, 1)
    x = np.repeat(alpha * values.mean(0)[None], 24, axis=0)
    x[:, 5] += 10 ** rng.uniform(0, 2.5, 24) * sigma**2
    return byte, x, alpha, sigma


def bounded(rows, x, alpha, sigma, scale=None):
    out = blank(len(x), x.shape[1], names=("mean", "variance")) | {"rounding": np.full(len(x), INF)}
    return posterior(KERNEL, prepare(KERNEL, rows, scale=scale), x, alpha, sigma, out=out)


def test_bounds_hold_beside_the_grid(isa):
    """They are those of bytes, and more: by the distance from the grid, and by what that makes of logits."""
    tightest, count = 0.0, 0
    for seed in range(24):
        byte, x, alpha, sigma = nearly_alike(seed)
        rows = ((byte + ASIDE[byte]) / 255).astype("f4")
        values = rows.astype(float)
        post = bounded(rows, x, alpha, sigma)
        wrong, bounds = judged(post.mean, post.rounding, values, x, alpha, sigma, most=4)
        assert (wrong <= bounds).all(), (seed, wrong, bounds)
        tightest, count = max(tightest, (wrong / bounds).max(initial=0)), count + len(bounds)
        known = np.isfinite(post.rounding)
        more = post.rounding[known] - bounded(byte.astype(np.uint8), x, alpha, sigma, (1 / 255, 0.0)).rounding[known]
        apart = norm(values - byte / 255).max()
        of_logits = alpha * norm(x - alpha * values.mean(0))[known] * apart / sigma**2
        assert (more >= 0.3 * apart).all()
        assert (more >= 0.3 * of_logits * np.sqrt(post.variance[known])).all()
    assert count > 72
    assert tightest > 0.2, tightest


@pytest.mark.parametrize("isa", MULTIPLY)
@pytest.mark.parametrize("name", ["/255", "float16, /255", "far aside", "one value just off", "bfloat16"])
def test_nearest_rows(isa, name):
    """Rows of clumps that differ in a few steps: bounds of what bytes leave out keep all that may be nearest."""
    rng = np.random.default_rng(3)
    byte = np.repeat(images(30, 37), 30, axis=0)
    byte = np.clip(byte + rng.integers(-1, 2, byte.shape) * (rng.random(byte.shape) < 0.1), 0, 255).astype(np.uint8)
    rows = (GRIDS | APART)[name](byte)
    values = rows.astype(float)
    step = np.ptp(values) / 255
    x = values[rng.integers(0, len(rows), 40)] + 0.3 * step * rng.standard_normal((40, 37))
    squared = ((x[:, None].astype(oracle.LONG) - values) ** 2).sum(2)
    with Engine("cpp", isa).forced():
        data = prepare(KERNEL, rows)
        for k in (1, 3):
            index, found = np.full((40, k), -7), np.full((40, k), np.nan)
            KERNEL.nearest(x, data, alpha=1.0, out={"index": index, "squared_distance": found}, threads=2)
            np.testing.assert_allclose(found, np.sort(squared, axis=1)[:, :k].astype(float), rtol=1e-11)
            apart = np.take_along_axis(squared, index, 1).astype(float)
            np.testing.assert_allclose(apart, found, rtol=1e-11)
