"""Posteriors of parts: merged, they are those of the whole, for settled queries at once and for all after one more."""

from __future__ import annotations

import copy
import pickle
import zipfile

import numpy as np
import oracle
import problems
import pytest
from support.measure import Errors, measure, norm
from support.sources import Source

import interp_fast as itf
from interp_fast import _arrays
from interp_fast._accuracy import PROMISES
from interp_fast.backends import merging
from interp_fast.field import oracle_of

LINEAR = itf.Linear()
LONG = pytest.mark.long
MORE = ("digits", "heavy_weights", "clump", "bits", "wide", "equal")
METHODS = ("denoiser", "velocity", "score", "noise", "log_density", "divergence")


class Merged:
    """A merged Partial where a field is expected: about those of its queries that are wanted."""

    schedule = LINEAR

    def __init__(self, whole, some, jvp):
        self.whole, self.some, self.jvp = whole, some, jvp

    def __getattr__(self, name):
        return lambda x, t: getattr(self.whole, name)()[self.some]

    def posterior(self, x, t, top):
        post = self.whole.posterior()
        named = {name: values[self.some] for name, values in vars(post).items()}
        return itf.Posterior(**named | {name: named[name][:, :top] for name in ("top_index", "top_weight")})


def cut(rows, weights, k, **options):
    """Fields of k parts, and where each begins."""
    edges = [i * len(rows) // k for i in range(k + 1)]
    return [
        (itf.Field(rows[a:b], LINEAR, weights=None if weights is None else weights[a:b], **options), a)
        for a, b in zip(edges, edges[1:], strict=False)
        if b > a
    ]


def merged(fields, x, t, top=0, precise=None):
    return itf.merge([field.partial(x, t, top, first_row=first, precise=precise) for field, first in fields])


def check(rows, weights, whole, field, x, t, result, context):
    """Settled queries as accurate as those of a field."""
    some = np.flatnonzero(~whole.unsettled)
    if len(some):
        errors = Errors(context)
        measure(errors, rows, weights, Merged(whole, some, field.jvp), x[some], t, result=result)
        errors.close()


@pytest.mark.parametrize("ratio", [5.0, 1.0, 1e-2, *(pytest.param(r, marks=LONG) for r in (20.0, 0.1, 1e-4))])
@pytest.mark.parametrize("name", ["near_duplicates", *(pytest.param(n, marks=LONG) for n in MORE)])
def test_merged_answers(engine, name, dtype, ratio):
    """Parts of 1, 2, 7 and 64, near and equal rows apart, weights over 300 decades; then all with precise parts."""
    p = problems.problem(name)
    rows, weights = p.rows.astype(dtype), p.weights
    if name == "equal":
        weights = np.arange(1.0, len(rows) + 1)
    t = 1 / (1 + ratio)
    c = LINEAR(t)
    x = problems.queries(name, dtype, float(c.alpha), float(c.sigma))[:9]
    field = itf.Field(rows, LINEAR, weights=weights, backend=engine.backend)
    for k in (1, 7, 64) if engine.backend == "cpp" else (2,):
        parts = cut(rows, weights, k, backend=engine.backend)
        context = f"{name} in {k}, {ratio}, {dtype}, {engine}"
        whole = merged(parts, x, t, 4)
        check(rows, weights, whole, field, x, t, dtype, context)
        if whole.unsettled.any():
            again = merged(parts, x, t, 4, whole.unsettled)
            assert not again.unsettled.any()
            check(rows, weights, again, field, x, t, dtype, context + ", again")
    precise = merged(parts, x, t, 4, True)
    assert not precise.unsettled.any()
    check(rows, weights, precise, field, x, t, dtype, context + ", precise")


def test_far_ties_of_parts(engine, dtype):
    """Rows of different parts that tie at a distance of which float64 does not see the differences."""
    rows = np.random.default_rng(4).uniform(-20, 20, (40, 5)).astype(dtype)
    rows[[13, 33]] = rows[2]
    t = 1 - 1e-4
    c = LINEAR(t)
    x = problems.far_ties(rows.astype(float), float(c.alpha), float(c.sigma))
    field = itf.Field(rows, LINEAR, backend=engine.backend)
    parts = cut(rows, None, 6, backend=engine.backend)
    whole = merged(parts, x, t, 4)
    check(rows, None, whole, field, x, t, dtype, "at once")
    again = merged(parts, x, t, 4, whole.unsettled)
    assert not again.unsettled.any()
    check(rows, None, again, field, x, t, dtype, "again")


def test_ties_of_near_pairs_across_parts(engine, dtype):
    """Each part holds a pair that is near in itself, far from those of the others, and as heavy: the rounding that a
    part may leave in its mass is what would move the whole."""
    rng = np.random.default_rng(2)
    first = rng.standard_normal((6, 8)) * 30
    first *= 60 / norm(first)[:, None]
    rows = np.repeat(first, 2, axis=0)
    rows[1::2] += rng.standard_normal((6, 8)) * 1e-3
    rows = rows.astype(dtype)
    x = rng.standard_normal((9, 8)) * 1e-3
    field = itf.Field(rows, LINEAR, backend=engine.backend)
    for ratio in (3.0, 0.5, 0.1, 1e-2, 1e-3):
        t = 1 / (1 + ratio)
        parts = cut(rows, None, 6, backend=engine.backend)
        whole = merged(parts, x, t, 4)
        check(rows, None, whole, field, x, t, dtype, f"at once, {ratio}")
        again = merged(parts, x, t, 4, True)
        assert not again.unsettled.any()
        check(rows, None, again, field, x, t, dtype, f"again, {ratio}")


def test_variance_of_near_copies_in_different_parts(engine):
    """As small as the square of 1e-9: the difference of means that are known to 1e-16."""
    rng = np.random.default_rng(0)
    rows = np.tile(rng.standard_normal((10, 6)), (4, 1))
    rows[10:] += 1e-9 * rng.standard_normal((30, 6))
    t = 1 / (1 + 1e-3)
    x = t * (rows[:9] + 1e-4 * rng.standard_normal((9, 6)))
    parts = [(itf.Field(rows[a : a + 20], backend=engine.backend), a) for a in (0, 20)]
    assert merged(parts, x, t).unsettled.all()
    post = merged(parts, x, t, precise=True).posterior()
    c = LINEAR(t)
    want = oracle.posterior(rows, x, float(c.alpha), float(c.sigma)).variance
    np.testing.assert_allclose(post.variance, want.astype(float), rtol=PROMISES["float64"].off_weights)


@pytest.mark.parametrize("count", [3, 5, 9])
def test_variance_of_near_copies_in_many_parts(engine, count):
    """What a merge rounds of a mean counts in the next one."""
    rng = np.random.default_rng(3)
    rows = 1.0 + 1e-9 * rng.standard_normal((count, 6))
    x, t = rng.standard_normal((4, 6)), 0.3
    parts = cut(rows, None, count, backend=engine.backend)
    whole = merged(parts, x, t)
    whole = merged(parts, x, t, precise=whole.unsettled) if whole.unsettled.any() else whole
    want = oracle.posterior(rows, x, 0.3, 0.7).variance.astype(float)
    np.testing.assert_allclose(whole.posterior().variance, want, rtol=PROMISES["float64"].off_weights)


def test_far_ties_of_parts_are_known_or_said_not_to_be(engine):
    """Copies tie at any distance; of others parts know no more than two floats."""
    rows = np.random.default_rng(5).standard_normal((6, 3))
    x, t = np.zeros((1, 3)), 1 - 1e-13
    for other, unknown in ((rows, False), (-rows, True)):
        both = np.concatenate([rows, other])
        parts = cut(both, None, 2, backend=engine.backend)
        for precise in (None, True):
            whole = merged(parts, x, t, precise=precise)
            assert whole.unsettled.all() == unknown
        nearest = rows[np.argmin((rows**2).sum(axis=1))]
        np.testing.assert_allclose(whole.denoiser()[0], 0 * nearest if unknown else nearest, atol=1e-12)


def test_variance_of_rows_that_differ_in_a_last_bit(engine, monkeypatch):
    """In parts and blocks of a file: rounding made the means equal whose difference is a third of the variance."""
    rows = np.ones((6, 3))
    rows[1, 0], rows[2], rows[5] = 1 + 2.0**-52, 1 + 1e-3, 1 - 1e-3
    t = 1 / (1 + 1.25e-4)
    x, c = t * np.ones((1, 3)), LINEAR(t)
    want = oracle.posterior(rows, x, float(c.alpha), float(c.sigma)).variance.astype(float)
    parts = [(itf.Field(rows[a : a + 3], backend=engine.backend), a) for a in (0, 3)]
    whole = merged(parts, x, t)
    whole = merged(parts, x, t, precise=whole.unsettled) if whole.unsettled.any() else whole
    np.testing.assert_allclose(whole.posterior().variance, want, rtol=1e-9)
    monkeypatch.setattr(_arrays, "_BLOCK_BYTES", 8 * 3 * 3)
    monkeypatch.setattr(_arrays, "stretches", _arrays.blocks)
    read = itf.Field(Source(rows), backend=engine.backend).posterior(x, t)
    np.testing.assert_allclose(read.variance, want, rtol=1e-9)


@pytest.mark.parametrize("name", ["digits", "near_duplicates", pytest.param("clump", marks=LONG)])
def test_masses_are_no_worse_than_their_doubt(engine, dtype, name):
    """The logarithm of the mass over the heaviest weight, against direct differences in long double: an estimate."""
    rows = problems.problem(name).rows.astype(dtype)[:600]
    data = oracle_of(itf.Field(rows, backend=engine.backend)).training_set
    wide, promise, m = rows.astype(np.longdouble), PROMISES[dtype], 12
    for ratio in (5.0, 2.0, 1.0, 0.5, 0.1):
        t = 1 / (1 + ratio)
        x = problems.forward(rows, t, 1 - t, m, 1)
        x[:3] = (x[:3] + x[3:6]) / 2
        place = merging.Place(x, np.full(m, t), np.full(m, (1 - t) ** 2))
        logits = np.stack([-((one - t * wide) ** 2).sum(axis=1) for one in x.astype(np.longdouble)])
        logits /= 2 * np.longdouble(1 - t) ** 2
        for wanted in (["mean"], ["mean", "variance", "ess"], []):
            out = merging.blank(wanted, x, 1)
            cut = data.cut(None, np.full(m, ratio), off_weights="log_rest" in out)
            data.posterior(x, place.alpha, np.full(m, 1 - t), cut, out)
            found = merging.part(
                out, place, data.given, data.values,
                promise=promise, top=1, moments=data.moments, roundoff=data.roundoff,
            )  # fmt: skip
            heaviest = np.take_along_axis(logits, found["top_index"], axis=1)
            error = -found["log_top"] - np.log(np.exp(logits - heaviest).sum(axis=1))
            slack = 2e-9 if dtype == "float32" else 1e-13
            assert (np.abs(error) <= 2 * found["doubt"] + slack).all(), (ratio, wanted, error, found["doubt"])


def test_real_images_settle(dtype):
    """Of forward queries few need a second round, at any noise."""
    rows = problems.problem("digits").rows.astype(dtype)
    shares = []
    for ratio in (20.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.2, 0.1, 1e-2, 1e-3):
        t = 1 / (1 + ratio)
        x = problems.forward(rows, t, 1 - t, 40, 1)
        shares.append(float(merged(cut(rows, None, 7), x, t).unsettled.mean()))
    assert max(shares) <= 0.15
    assert np.mean(shares) < 0.05


def test_the_order_of_parts_changes_no_bit(backend, dtype):
    rows = problems.problem("near_duplicates").rows.astype(dtype)
    x = problems.forward(rows, 0.8, 0.2, 12, 1)
    parts = [f.partial(x, 0.8, 3, first_row=a) for f, a in cut(rows, None, 7, backend=backend)]
    want = itf.merge(parts)
    for seed in range(3):
        other = itf.merge([parts[k] for k in np.random.default_rng(seed).permutation(7)])
        assert other.rows == want.rows == ((0, 600),)
        for a, b in zip(vars(other.posterior()).values(), vars(want.posterior()).values(), strict=True):
            np.testing.assert_array_equal(a, b)
        for name in METHODS:
            np.testing.assert_array_equal(getattr(other, name)(), getattr(want, name)())


def test_equal_rows_of_different_parts_tie(engine, dtype):
    """To the lowest row, gap 0, in lists in row order: near and far, at every noise and at t = 1, fast and precise."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 7)).astype(dtype)
    rows[[4, 21, 29]] = rows[11]
    parts = cut(rows, None, 4, backend=engine.backend)
    x = np.concatenate([rows[[11]].astype(float), rows[[11]] + 1e-3 * rng.standard_normal((2, 7))])
    for t in (0.9, 0.99, 1 - 1e-5, 1.0):
        for precise in (None, True):
            for order in (parts, parts[::-1]):
                post = merged(order, t * x, t, 5, precise).posterior()
                np.testing.assert_array_equal(post.index, 4)
                np.testing.assert_array_equal(post.gap, 0)
                np.testing.assert_array_equal(post.top_index[:, :4], [[4, 11, 21, 29]] * 3)
                np.testing.assert_allclose(post.top_weight[:, :4], post.top_weight[:, :1] * np.ones(4), rtol=1e-12)


def test_both_ends(engine, dtype):
    rows = np.array([[0, 0], [1, 0], [1, 0], [4, 4], [0, 0.5]], dtype)
    weights = np.array([1.0, 1, 3, 5, 0])
    x = np.array([[1.0, 0.0], [0.5, 0.0], [3.0, 4.0]])
    parts = cut(rows, weights, 1, backend=engine.backend) + [
        (itf.Field(rows, LINEAR, weights=weights * 2, backend=engine.backend), 5)
    ]
    both = itf.Field(np.tile(rows, (2, 1)), weights=np.concatenate([weights, 2 * weights]), backend="reference")
    for t in (0.0, 1.0):
        for precise in (None, True):
            whole = merged(parts, x, t, 3, precise)
            assert not whole.unsettled.any()
            got, want = whole.posterior(), both.posterior(x, t, 3)
            for name in ("mean", "log_norm", "log_density", "ess", "entropy", "variance", "gap", "log_rest"):
                np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=1e-6, atol=1e-12, err_msg=name)
            np.testing.assert_array_equal(got.index, want.index)
            np.testing.assert_allclose(got.top_weight, want.top_weight, atol=1e-12)
    with pytest.raises(ValueError, match="score does not exist where sigma = 0"):
        merged(parts, x, 1.0).score()


@pytest.mark.parametrize("bandwidth", [0.0, 0.3])
def test_no_answer_changes_another(bandwidth):
    """What is formed in place of the mean is formed of a copy, and x is left alone."""
    rng = np.random.default_rng(0)
    field, x = itf.Field(rng.standard_normal((9, 4)), LINEAR, bandwidth=bandwidth), rng.standard_normal((3, 4))
    part, before = field.partial(x, 0.5), x.copy()
    first = {name: getattr(part, name)().copy() for name in METHODS}
    for name in reversed(METHODS):
        np.testing.assert_array_equal(getattr(part, name)(), first[name], err_msg=name)
    np.testing.assert_array_equal(x, before)


def test_masses_are_the_weights_as_given(backend):
    """Also where their sum overflows, and of subsets, classes and orbits."""
    rows = np.random.default_rng(0).standard_normal((12, 3))
    x = rows[:2] * 0.5
    for weights in (np.full(12, 1e308), np.arange(1.0, 13.0)):
        want = itf.Field(rows, weights=weights, backend=backend)
        whole = itf.merge([want.subset(np.arange(a, a + 4)).partial(x, 0.5, first_row=a) for a in (0, 4, 8)])
        np.testing.assert_allclose(whole.denoiser(), want.denoiser(x, 0.5), rtol=1e-12)
        np.testing.assert_allclose(whole.log_density(), want.log_density(x, 0.5), rtol=1e-12)
    labels = np.arange(12) % 2
    field = itf.Field(rows, labels=labels, backend=backend)
    whole = itf.merge([field.given(c).partial(x, 0.5, first_row=6 * c) for c in (0, 1)])
    np.testing.assert_allclose(whole.denoiser(), field.denoiser(x, 0.5), rtol=1e-12)
    orbit = [[2, 1, 0]]
    parts = [itf.Field(rows[a : a + 6], orbit=orbit, backend=backend).partial(x, 0.5, first_row=2 * a) for a in (0, 6)]
    np.testing.assert_allclose(
        itf.merge(parts).denoiser(), itf.Field(rows, orbit=orbit, backend=backend).denoiser(x, 0.5), rtol=1e-12
    )


@pytest.mark.parametrize("storage", ["uint8", "float16"])
def test_storage_types_bandwidths_and_levels(engine, storage):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 255, (60, 12)).astype(storage)
    options = {"bandwidth": 0.3, "backend": engine.backend}
    field = itf.Field(rows, LINEAR, **options)
    x = rng.standard_normal((5, 12))
    whole = itf.merge([f.at(0.7, 0.4).partial(x, 2, first_row=a) for f, a in cut(rows, None, 3, **options)])
    np.testing.assert_allclose(whole.denoiser(), field.at(0.7, 0.4).denoiser(x), rtol=2e-5, atol=1e-5)
    t = np.linspace(0.2, 1.0, 5)
    whole = merged(cut(rows, None, 3, **options), x, t)
    for name in METHODS:
        np.testing.assert_allclose(getattr(whole, name)(), getattr(field, name)(x, t), rtol=1e-4, atol=1e-4)
    one = merged(cut(rows, None, 3, **options), x[0], 0.5, 2)
    assert one.denoiser().shape == (12,)
    assert one.posterior().top_index.shape == (2,)
    assert one.unsettled.shape == ()


def test_lists_of_parts_with_fewer_rows(backend):
    """A part lists what it has, the whole as many as were asked for."""
    rows = np.random.default_rng(0).standard_normal((9, 3))
    parts = cut(rows, None, 9, backend=backend)
    assert parts[0][0].partial(rows[:2], 0.5, 4).posterior().top_index.shape == (2, 1)
    post = merged(parts, rows[:2], 0.5, 4).posterior()
    np.testing.assert_array_equal(post.top_index, itf.Field(rows).posterior(rows[:2], 0.5, 4).top_index)
    assert merged(parts, rows[:2], 0.5).posterior().top_index.shape == (2, 0)


def test_files(tmp_path, dtype):
    """What is read is what was written, without pickles; merges of files have the bits of those in memory."""
    rows = problems.problem("digits").rows[:200].astype(dtype)
    x = problems.forward(rows, 0.7, 0.3, 6, 1)
    parts = [f.partial(x, 0.7, 2, first_row=a) for f, a in cut(rows, None, 3)]
    for k, part in enumerate(parts):
        part.save(tmp_path / f"p{k}.npz")
    read = [itf.Partial.load(tmp_path / f"p{k}.npz") for k in (2, 0, 1)]
    want, got = itf.merge(parts), itf.merge(read)
    for name in METHODS:
        np.testing.assert_array_equal(getattr(got, name)(), getattr(want, name)())
    np.testing.assert_array_equal(got.posterior().top_index, want.posterior().top_index)
    assert got.rows == want.rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p0.npz", "p1.npz", "p2.npz"]
    before = (tmp_path / "p1.npz").read_bytes()
    parts[1].save(str(tmp_path / "p1.npz"))
    assert (tmp_path / "p1.npz").read_bytes() == before
    (tmp_path / "cut.npz").write_bytes(before[: len(before) // 2])
    np.savez(tmp_path / "other.npz", x=x)
    np.save(tmp_path / "array.npy", x)
    for name in ("cut.npz", "other.npz", "array.npy"):
        with pytest.raises(ValueError, match=f"{name} is no file of Partial.save"):
            itf.Partial.load(tmp_path / name)
    flipped = bytearray(before)
    with zipfile.ZipFile(tmp_path / "p1.npz") as archive:
        entry = archive.getinfo("part_mean.npy")
    flipped[entry.header_offset + entry.compress_size] ^= 255  # among the numbers: not all of a header is read
    (tmp_path / "flipped.npz").write_bytes(flipped)
    with pytest.raises(ValueError, match=r"flipped.npz is no file of Partial.save"):
        itf.Partial.load(tmp_path / "flipped.npz")
    assert all(name.endswith(".npy") for name in zipfile.ZipFile(tmp_path / "p0.npz").namelist())


def test_partials_are_copied_and_sent():
    part = itf.Field(np.eye(3)).partial(np.eye(3), 0.5, 2)
    for other in (pickle.loads(pickle.dumps(part)), copy.deepcopy(part), copy.copy(part)):
        np.testing.assert_array_equal(other.denoiser(), part.denoiser())
        assert repr(other) == repr(part)


F, SMOOTH, LONGER = itf.Field(np.eye(4)), itf.Field(np.eye(4), bandwidth=0.1), itf.Field(np.eye(5))
Q = np.ones((3, 4))


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda a: itf.merge([]), ValueError, "parts must hold at least one Partial"),
        (lambda a: itf.merge([a, F]), TypeError, r"parts\[1\] must be a Partial; got Field"),
        (lambda a: itf.merge([a, a]), ValueError, r"different rows; parts\[0\] and parts\[1\] both have rows 0 to 3"),
        (lambda a: itf.merge([a, F.partial(Q, 0.5, first_row=2)]), ValueError, "both have rows 2 to 3"),
        (lambda a: itf.merge([a, F.partial(Q[:2], 0.5, first_row=4)]), ValueError, "different numbers of queries"),
        (lambda a: itf.merge([a, F.partial(Q * 2, 0.5, first_row=4)]), ValueError, "different queries x"),
        (lambda a: itf.merge([a, F.partial(Q, 0.4, first_row=4)]), ValueError, "different times t"),
        (lambda a: itf.merge([a, F.with_schedule(itf.VP()).partial(Q, 0.5, first_row=4)]), ValueError, "schedules"),
        (lambda a: itf.merge([a, itf.Field(np.eye(4, dtype="f4")).partial(Q, 0.5, first_row=4)]), ValueError, "types"),
        (lambda a: itf.merge([a, SMOOTH.partial(Q, 0.5, first_row=4)]), ValueError, "different bandwidths"),
        (lambda a: itf.merge([a, LONGER.partial(np.ones((3, 5)), 0.5, first_row=4)]), ValueError, "dimensions d"),
        (lambda a: F.partial(Q, 0.5, first_row=-1), ValueError, "first_row must be >= 0; got -1"),
        (lambda a: F.partial(Q, 0.5, precise=[1, 0, 1]), ValueError, r"precise must be True or a mask \(3,\)"),
        (lambda a: F.partial(Q, 0.5, precise=[True]), ValueError, r"precise must be True or a mask \(3,\)"),
        (lambda a: F.tempered(2.0).partial(Q, 0.5), ValueError, "partial must be asked of a Field"),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, kind, words):
    with pytest.raises(kind, match=words):
        call(F.partial(Q, 0.5))


def test_versions_are_compared():
    a, b = F.partial(Q, 0.5), F.partial(Q, 0.5, first_row=4)
    b._setting = type(b._setting)(**{**vars(b._setting), "version": "9.9"})
    with pytest.raises(ValueError, match=r"different versions of interp_fast: .* and 9\.9"):
        itf.merge([a, b])
    assert a._setting.version == itf.__version__
