"""Row sources: anything with shape, dtype and row slices gives the answers of the same rows in memory."""

import numpy as np
import oracle
import problems
import pytest
from support.sources import Source

import interp_fast as itf
from interp_fast import _arrays


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(_arrays, "_BLOCK_BYTES", 8 * 5 * 7)  # blocks of 7 rows of 5
    monkeypatch.setattr(_arrays, "stretches", _arrays.blocks)


def _problem(dtype):
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, 5)).astype(dtype)
    rows[[9, 23]] = rows[2]  # equal rows in three blocks
    weights = rng.random(40)
    weights[:8] = weights[30:] = 0.0  # the first block and the last ones weigh nothing
    weights[2] = 0.3
    x = np.concatenate([rows[[2, 11]].astype(float), rng.standard_normal((3, 5))])
    return rows, weights, x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("t", [0.0, 0.1, 0.6, 0.99, 1 - 1e-4, 1.0])
def test_posterior_is_that_of_the_rows_in_memory(small_blocks, dtype, weighted, t):
    rows, weights, x = _problem(dtype)
    source = Source(rows)
    options = {"weights": weights if weighted else None, "backend": "reference"}
    streamed, memory = itf.Field(source, **options), itf.Field(rows, **options)
    got, want = streamed.posterior(x, t, top=4), memory.posterior(x, t, top=4)
    assert source.largest <= 7
    for name in ("mean", "log_norm", "log_density", "ess", "entropy", "variance", "gap", "log_rest", "top_weight"):
        np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_array_equal(got.index, want.index)
    heavy = want.top_weight > 1e-12
    np.testing.assert_array_equal(got.top_index[heavy], want.top_index[heavy])


def test_fields_samples_and_neighbours_are_those_of_the_rows_in_memory(small_blocks):
    rows, _, x = _problem(np.float64)
    streamed, memory = itf.Field(Source(rows), bandwidth=0.1), itf.Field(rows, bandwidth=0.1)
    np.testing.assert_allclose(streamed.jvp(x, 0.6, x[::-1].copy()), memory.jvp(x, 0.6, x[::-1].copy()), rtol=1e-9)
    np.testing.assert_allclose(streamed.divergence(x, 0.6), memory.divergence(x, 0.6), rtol=1e-9)
    steps = itf.ddpm(itf.Linear(), 12)
    a, b = (itf.sample(f, steps, 6, rng=4) for f in (streamed, memory))
    np.testing.assert_allclose(a.x, b.x, rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(a.index, b.index)
    np.testing.assert_array_equal(a.commit_time, b.commit_time)
    first, second = streamed.draw(5, 0.5, rng=1), memory.draw(5, 0.5, rng=1)
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_allclose(first[0], second[0], rtol=1e-12)


def test_far_rows_of_different_blocks_tie(small_blocks, backend, dtype):
    """Blocks are compared by differences of distances, which rounding would decide: all but a millionth of them."""
    rows = np.random.default_rng(4).uniform(-20, 20, (40, 5)).astype(dtype)
    rows[[13, 33]] = rows[2]  # equal rows in three blocks
    t = 1 - 1e-4
    alpha, sigma = float(itf.Linear()(t).alpha), float(itf.Linear()(t).sigma)
    x = problems.far_ties(rows.astype(float), alpha, sigma)
    field = itf.Field(Source(rows), backend=backend)
    post, ref = field.posterior(x, t, top=3), oracle.posterior(rows, x, alpha, sigma)
    tight = 1e-5 if dtype == "float32" else 1e-10
    want = oracle.fields(ref, x, itf.Linear()(t))
    error = np.linalg.norm(field.noise(x, t) - want.noise, axis=1)
    assert (error <= 10 * tight * np.maximum(1, np.linalg.norm(want.noise, axis=1))).all()
    for name in ("ess", "entropy", "variance", "gap", "log_rest"):
        np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=tight, atol=tight, err_msg=name)
    np.testing.assert_allclose(post.top_weight, -np.sort(-np.exp(ref.log_weight), axis=1)[:, :3], atol=tight)
    blocks = post.top_index[:, :2] // 7
    assert (blocks[:, 0] != blocks[:, 1]).any()


def test_subset_and_isa_are_those_of_the_rows_in_memory(backend):
    rows, _, x = _problem(np.float64)
    streamed, memory = itf.Field(Source(rows), backend=backend), itf.Field(rows, backend=backend)
    assert streamed.isa == memory.isa
    chosen = [-1, 3, -40]
    np.testing.assert_array_equal(
        streamed.subset(chosen).denoiser(x, 0.9), itf.Field(rows[chosen], backend=backend).denoiser(x, 0.9)
    )


def test_bad_rows_in_a_source_are_named(small_blocks):
    rows, _, _ = _problem(np.float32)
    rows[17, 3] = np.nan
    with pytest.raises(ValueError, match="data must be finite; got nan in row 17, column 3"):
        itf.Field(Source(rows))


class Wrapped:
    """Something that only NumPy can look into."""

    def __init__(self, rows):
        self._rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._rows, dtype)


def frozen(block):
    block = block.copy()
    block.flags.writeable = False
    return block


def shifted(block):
    """The same numbers at an odd address."""
    raw = np.zeros(block.nbytes + 1, np.uint8)
    out = raw[1:].view(block.dtype).reshape(block.shape)
    out[...] = block
    return out


BUFFER = np.empty(40 * 5)


def buffered(block):
    """Every slice is read into the same memory."""
    out = BUFFER.view(block.dtype)[: block.size].reshape(block.shape)
    out[...] = block
    return out


LAYOUTS = {
    "columns": np.asfortranarray,
    "big-endian": lambda block: block.astype(block.dtype.newbyteorder(">")),
    "big-endian columns": lambda block: np.asfortranarray(block.astype(block.dtype.newbyteorder(">"))),
    "reversed columns": lambda block: block[..., ::-1].copy()[..., ::-1],
    "read-only": frozen,
    "unaligned": shifted,
    "one buffer": buffered,
    "__array__": Wrapped,
    "__array__ of columns": lambda block: Wrapped(np.asfortranarray(block)),
    "no mask": np.ma.masked_array,
}


class Laid(Source):
    """Slices come in a layout of their own."""

    def __init__(self, rows, layout):
        super().__init__(rows)
        self._layout, block = layout, layout(rows[:1])
        self.dtype = getattr(block, "dtype", rows.dtype)

    def __getitem__(self, rows):
        return self._layout(super().__getitem__(rows))


def test_views_are_those_of_the_rows_in_memory(small_blocks):
    """Each query sees other rows; the middle of two rows and rows that are there three times want their own digits."""
    rows, _, points = _problem(np.float64)
    points = np.concatenate([points, [(rows[5] + rows[6]) / 2]])
    labels, left_out = np.arange(40) % 3, np.array([2, 11, 0, 1, 2, 5])

    def views(data):
        field = itf.Field(data, labels=labels, backend="reference")
        return (
            field.without(left_out), field.without(left_out, groups=labels), field.given(1), field.given(labels[:6]),
            field.guided(labels[:6], 2.0), field.tempered(2.0),
        )  # fmt: skip

    streamed, memory = views(Source(rows)), views(rows)
    for t in (0.0, 0.6, 1 - 1e-4, 1.0):
        for got, want in zip(streamed, memory, strict=True):
            x = points * max(t, 0.1)
            np.testing.assert_allclose(got.denoiser(x, t), want.denoiser(x, t), rtol=1e-9, atol=1e-10)
    a, b = (itf.sample(fields[0], itf.ddpm(itf.Linear(), 3), 6, rng=1) for fields in (streamed, memory))
    np.testing.assert_allclose(a.x, b.x, rtol=1e-9, atol=1e-10)
    np.testing.assert_array_equal(a.index, b.index)


@pytest.mark.parametrize("inner", ["cpp", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_of_slices_does_not_matter(small_blocks, layout, dtype, inner):
    """Of all that reads rows: moments, the sweep, single rows, subsets, metrics."""
    rows, _, x = _problem("float64")
    rows = (255 * (rows - rows.min()) / np.ptp(rows)).astype(dtype) if dtype == "uint8" else rows.astype(dtype)
    plain, laid = Source(rows), Laid(rows, LAYOUTS[layout])
    want, got = itf.Field(plain, backend=inner), itf.Field(laid, backend=inner)
    assert got.R == want.R == pytest.approx(itf.Field(rows).R, rel=1e-12)
    a, b = got.posterior(x, 0.7, top=3), want.posterior(x, 0.7, top=3)
    assert a.mean.dtype == (np.float64 if dtype == "float64" else np.float32)
    for name in ("mean", "log_density", "index", "top_index", "gap"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
    np.testing.assert_allclose(a.mean, itf.Field(rows, backend=inner).denoiser(x, 0.7), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(got.draw(9, 0.5, rng=1)[0], want.draw(9, 0.5, rng=1)[0])
    np.testing.assert_array_equal(got.subset([5, 3, 30]).denoiser(x, 0.9), want.subset([5, 3, 30]).denoiser(x, 0.9))
    np.testing.assert_array_equal(itf.theory.speciation_time(got).time, itf.theory.speciation_time(want).time)
    mine, theirs = (itf.memorization(x, source, holdout=x, cells=2, rng=0) for source in (laid, plain))
    np.testing.assert_array_equal(mine.d1, theirs.d1)
    assert (mine.c_t, mine.precision, mine.recall) == (theirs.c_t, theirs.precision, theirs.recall)


def test_slices_of_bfloat16(small_blocks):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    rows, _, x = _problem("float32")
    rows = rows.astype(ml_dtypes.bfloat16)
    got, want = itf.Field(Source(rows)).denoiser(x, 0.7), itf.Field(rows).denoiser(x, 0.7)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("slices", "words"),
    [
        (lambda block: block[:-1], r"data\[0:7\] must be float32 of shape \(7, 5\).*got float32 \(6, 5\)"),
        (lambda block: np.concatenate([block, block]), r"data\[0:7\].*\(14, 5\)"),
        (lambda block: block[:, :4], r"data\[0:7\].*\(7, 4\)"),
        (lambda block: block.T, r"data\[0:7\].*\(5, 7\)"),
        (lambda block: block.astype(float), r"data\[0:7\] must be float32.*got float64"),
        (lambda block: block.astype(int), r"data\[0:7\] must be float32.*got int64"),
        (lambda block: np.ma.masked_array(block, block > 1), r"data\[0:7\] has masked entries.*filled"),
        (lambda block: object(), r"data\[0:7\] must be float32.*got object"),
        (lambda block: None, r"data\[0:7\] must be float32.*got object"),
    ],
)
def test_slices_that_are_not_what_was_announced(small_blocks, slices, words):
    rows, _, _ = _problem(np.float32)
    rows[3, 2] = 2.0
    source = Laid(rows, lambda block: block)
    source._layout = slices
    with pytest.raises(ValueError, match=words):
        itf.Field(source)


@pytest.mark.parametrize("layout", ["big-endian", "unaligned", "reversed columns", "no mask"])
def test_the_layout_of_arrays_does_not_matter(layout, backend, dtype):
    """Rows in memory, queries, directions, starting points and errors; the caller's arrays stay as they are."""
    rows, weights, x = _problem(dtype)
    other = LAYOUTS[layout]
    x = np.ascontiguousarray(x, dtype)
    want = itf.Field(rows, weights=weights, backend=backend)
    got = itf.Field(other(rows), weights=other(weights), backend=backend)
    np.testing.assert_array_equal(got.denoiser(other(x), 0.7), want.denoiser(x, 0.7))
    np.testing.assert_array_equal(got.jvp(other(x), 0.7, other(x)), want.jvp(x, 0.7, x))
    steps, error = itf.ddim(want.schedule, 3), np.full((3, *x.shape), 0.1)
    a, b = (itf.sample(f, steps, x0=f_x, error=e) for f, f_x, e in ((got, other(x), other(error)), (want, x, error)))
    np.testing.assert_array_equal(a.x, b.x)
    assert type(a.x) is np.ndarray
    assert a.x.dtype == dtype
