"""Verdicts of the audit: on any times, in words, beside held-out rows, and what settles an open one."""

from __future__ import annotations

import math

import numpy as np
import problems
import pytest

import interp_fast as itf

PENTAGON = 2 * np.array([[math.cos(a), math.sin(a)] for a in 2 * math.pi / 5 * np.arange(5)])
SPACING = 4 * math.sin(math.pi / 5)


def digits():
    """Two halves of scikit-learn's digits, which share no row."""
    rows = problems.digits()[0].astype(np.float32)[np.random.default_rng(0).permutation(1797)]
    return rows[:898], rows[898:]


def exact(field):
    return itf.Model(field.denoiser, field.schedule, "denoiser")


def off(field, sizes):
    """A model whose error has norm sizes[i] at the i-th query of a call, in a direction of its own."""

    def denoiser(x, t):
        g = np.random.default_rng(1).normal(size=x.shape)
        size = np.resize(sizes, len(x))[:, None]
        return field.denoiser(x, t) + (size * g / np.linalg.norm(g, axis=1, keepdims=True)).astype(x.dtype)

    return itf.Model(denoiser, field.schedule, "denoiser")


ANY_TIMES = [[0.3, 0.6, 0.9], [0.2, 0.5, 0.8], 3, 0.5, [0.0, 1.0], 1.0]
SOME_SCHEDULES = [(itf.Linear(), ANY_TIMES), (itf.VP(), ANY_TIMES[::2]), (itf.VEGeometric(), ANY_TIMES[1::2])]


@pytest.mark.parametrize(
    ("times", "schedule"), [(times, schedule) for schedule, some in SOME_SCHEDULES for times in some], ids=str
)
def test_the_exact_field_memorizes_on_any_times(times, schedule):
    rows, unseen = (half[:300] for half in digits())
    field = itf.Field(rows, schedule)
    rep = itf.audit(exact(field), field, times, 40, holdout=unseen, rng=0)
    want = np.arange(3) / 3 if times == 3 else np.atleast_1d(times)
    np.testing.assert_array_equal(rep.times, want)
    assert rep.memorizes is True
    assert rep.verdict == "overfitting"
    assert rep.memorized == 1
    assert rep.holdout_within < 0.1
    assert repr(rep).startswith("memorizes: 40 of 40 samples (100 %")
    assert "more samples are copies than likeness explains" in rep.summary
    assert "its denoiser" not in rep.summary  # is the exact one
    for name in ("loss", "optimal", "optimal_stderr", "excess", "excess_stderr", "below"):
        assert getattr(rep, name).shape == want.shape, name
    np.testing.assert_allclose(rep.loss, rep.optimal, atol=1e-6 * field.R**2)


def test_the_exact_denoiser_of_other_images_does_not_memorize():
    seen, unseen = digits()
    field, other = itf.Field(seen), itf.Field(unseen)
    rep = itf.audit(exact(other), field, [0.3, 0.6, 0.9], 100, holdout=unseen, rng=0)
    assert rep.memorizes is False
    assert rep.verdict == "underfitting"
    assert rep.displaced_interval[0] >= rep.level
    lines = rep.summary.splitlines()
    assert lines[0].startswith("does not memorize: 0 of 100 samples (0 %, 90 % interval 0 to 2.63 %)")
    assert "keeps 100 % (97.4 to 100 %) off every row" in lines[0]
    assert lines[1].startswith("Of held-out rows 0 % (0 to 0.3 %)")
    assert "of the spread of the rows" in lines[2]
    assert "how good its samples are is another question" in lines[3]
    assert rep.samples_needed is rep.deciding_radii is None
    # The same model against the rows it has.
    assert itf.audit(exact(other), other, [0.3, 0.6, 0.9], 100, rng=0).memorizes is True


def test_losses_are_taken_where_they_are_asked_for():
    """The verdict, its bound and the samples are those of the table; times change the losses alone."""
    field = itf.Field(PENTAGON)
    model = off(field, [0.3])
    reps = [itf.audit(model, field, times, 60, rng=3) for times in (5, [0.3], [0.2, 0.98])]
    assert len({(r.memorized, r.displaced, r.verdict) for r in reps}) == 1
    for rep in reps:
        assert rep.bound == pytest.approx(0.3, rel=1e-6)
        assert rep.bound_times.tolist() == pytest.approx([0.98])
        np.testing.assert_allclose(rep.excess, 0.09, rtol=1e-9)


def test_every_evaluation_is_made_once():
    """Queries that the model gets: n for each time, for each row of the table, and where an error has a weight."""
    field, calls = itf.Field(PENTAGON), []

    def denoiser(x, t):
        calls.append((t, len(x)))
        return field.denoiser(x, t)

    model = itf.Model(denoiser, field.schedule, "denoiser")
    itf.audit(model, field, [0.3, 0.6], 20, rng=0)
    assert len(calls) == 50 + 2 + 1
    assert {m for _, m in calls} == {20}
    calls.clear()
    itf.audit(model, field, [0.5, 0.75], 20, steps=itf.ddim(field.schedule, 4), rng=0)
    assert sorted(t for t, _ in calls) == [0, 0.25, 0.5, 0.5, 0.75, 0.75]


@pytest.mark.parametrize("n", [5, 10, 20])
def test_what_is_said_to_settle_it_settles_it(n):
    """As many samples as were asked for, with the same shares, decide; so do the two radii."""
    field = itf.Field(PENTAGON)
    for size, answer in ((0.7, True), (0.9, False)):
        few = itf.audit(off(field, [size]), field, 3, n, rng=1)
        assert few.memorizes is None
        assert few.verdict == "undetermined"
        assert few.samples_needed == 25
        word = "memorizes" if answer else "does not memorize"
        assert f"About 25 samples would show that it {word}," in few.summary
        for more, want in ((24, None), (25, answer)):
            assert itf.audit(off(field, [size]), field, 3, more, rng=1).memorizes is want
        assert few.deciding_radii == (0, math.inf)


def test_radii_that_decide():
    field, sizes = itf.Field(PENTAGON), np.linspace(0.5, 1.1, 60)
    rep = itf.audit(off(field, sizes), field, 3, 60, rng=1)
    assert rep.memorizes is None
    assert rep.memorized == pytest.approx(np.mean(sizes < SPACING / 3))
    assert rep.samples_needed is None
    assert "No number of samples settles it: neither share exceeds 90 %." in rep.summary
    low, high = rep.deciding_radii
    assert (
        f"with a radius below {low:.3g} that it does not memorize, with a radius of {high:.3g} or more" in rep.summary
    )
    assert "(used: 0.784 at the median)" in rep.summary
    for radius, want in ((low * (1 - 1e-9), False), (low * (1 + 1e-9), None), (high * (1 - 1e-9), None), (high, True)):
        again = itf.audit(off(field, sizes), field, 3, 60, radius=radius, rng=1)
        assert again.memorizes is want, radius
        assert again.deciding_radii == ((low, high) if want is None else None)


def test_what_the_solver_leaves_is_not_blamed_on_the_model():
    field = itf.Field(0.2 * PENTAGON, itf.LatentBridge())
    rep = itf.audit(exact(field), field, 5, 60, steps=itf.euler(field.schedule, 5), rng=0)
    assert rep.memorizes is None
    assert "is not the model's error alone: selection" in rep.summary
    assert "more steps of itf.ddim help" in rep.summary
    assert itf.audit(exact(field), field, 5, 60, steps=itf.ddim(field.schedule, 800), rng=0).memorizes is True


def test_held_out_rows_within_the_radius():
    """The share that brute force finds, for one radius and for a third of the way from each row to the next."""
    seen, unseen = (half[:200] for half in digits())
    field = itf.Field(seen)
    d = np.linalg.norm(unseen.astype(float)[:, None] - seen.astype(float), axis=2)
    rows = np.linalg.norm(seen.astype(float)[:, None] - seen.astype(float), axis=2)
    np.fill_diagonal(rows, np.inf)
    near = d.min(axis=1) <= rows.min(axis=1)[d.argmin(axis=1)] / 3
    assert itf.audit(exact(field), field, 1, 30, holdout=unseen, rng=0).holdout_within == near.mean()
    radius = float(np.quantile(d.min(axis=1), 0.4))
    rep = itf.audit(exact(field), field, 1, 30, holdout=unseen, radius=radius, rng=0)
    assert rep.holdout_within == np.mean(d.min(axis=1) <= radius)
    assert rep.holdout_within_interval[0] < rep.holdout_within < rep.holdout_within_interval[1]
    assert itf.audit(exact(field), field, 1, 30, rng=0).holdout_within is None
    # A radius that takes in the unseen rows too shows no copying.
    wide = itf.audit(exact(field), field, 1, 30, holdout=unseen, radius=9.0, rng=0)
    assert wide.holdout_within == 1
    assert "lie that near: that is no sign of copying" in wide.summary


def test_held_out_bytes_have_the_values_of_the_rows():
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (50, 12)).astype(np.uint8)
    unseen = np.concatenate([rows[:10], 255 - rows[:30]])
    for scale in (None, (1.0, 0.0)):
        field = itf.Field(rows, scale=scale)
        rep = itf.audit(exact(field), field, 2, 30, holdout=unseen, radius=1e-3, rng=0)
        assert rep.holdout_within == 0.25
    with pytest.raises(ValueError, match="holdout must not be uint8"):
        itf.audit(exact(itf.Field(PENTAGON)), itf.Field(PENTAGON), 2, 30, holdout=rows[:, :2])


@pytest.mark.parametrize("rows", [[[1.0, 2.0, 3.0]], 4 * [[1.0, 2.0, 3.0]], [[0.0, 0.0, 0.0]]], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_different_row(rows, dtype):
    """There is no distance to take a radius from: only what equals the row is a copy of it."""
    field = itf.Field(np.array(rows, dtype))
    assert itf.audit(exact(field), field, 3, 30, rng=0).memorizes is True
    rep = itf.audit(off(field, [0.01]), field, 3, 30, holdout=np.array(rows, dtype) + 1, rng=0)
    assert rep.memorizes is None
    assert rep.memorized == rep.displaced == rep.holdout_within == rep.memorized_bound == 0
    assert "No second row differs" in rep.summary
    assert "inf" not in rep.summary
    assert itf.audit(off(field, [0.01]), field, 3, 30, radius=0.02, rng=0).memorizes is True
    assert itf.audit(off(field, [0.01]), field, 3, 30, radius=0.005, rng=0).memorizes is False


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("predicts", ["denoiser", "velocity"])
def test_radius_0_is_equality_up_to_rounding(predicts, dtype):
    field = itf.Field((PENTAGON + 10).astype(dtype))
    model = itf.Model(getattr(field, predicts), field.schedule, predicts)
    rep = itf.audit(model, field, 3, 30, radius=0, rng=0)
    assert rep.memorizes is True
    assert "equal to a training row up to rounding" in rep.summary
    assert itf.audit(off(field, [1e-3]), field, 3, 30, radius=0, rng=0).memorizes is False


def test_copies_of_some_rows_are_not_passed_over():
    """A model that does not memorize may still copy: the share stands in the first sentence, and what it means."""
    field, sizes = itf.Field(PENTAGON), np.r_[0.0, np.ones(39)]
    rep = itf.audit(off(field, sizes), field, 3, 400, holdout=np.full((50, 2), 0.1), rng=0)
    assert rep.memorizes is False
    assert rep.summary.startswith("does not memorize: 10 of 400 samples (2.5 %")
    assert "Of held-out rows 0 % (0 to 5.13 %) lie that near: the difference may be chance" in rep.summary
    many = itf.audit(off(field, sizes), field, 3, 400, holdout=np.full((5000, 2), 0.1), rng=0)
    assert "more samples are copies than likeness explains" in many.summary


def test_smoothed_rows_at_both_ends():
    field = itf.Field(PENTAGON, bandwidth=0.1)
    rep = itf.audit(exact(field), field, [0.0, 0.5, 1.0], 200, rng=0)
    assert rep.memorizes is True
    np.testing.assert_allclose(rep.loss, rep.optimal, atol=1e-10)
    assert rep.optimal[[0, 2]].tolist() == pytest.approx([4 + 2 * 0.01, 0])


def test_title_of_the_figure():
    import matplotlib

    matplotlib.use("Agg")
    field = itf.Field(PENTAGON)
    rep = itf.audit(off(field, [1.0]), field, [0.3, 0.6], 30, holdout=PENTAGON[:1], rng=0)
    ax = rep.plot()
    assert ax.get_title() == "does not memorize: copied 0 %, of held-out rows 100 %"
    assert len(ax.collections) == 2  # the band of the optimum, the error bars of the excess
    matplotlib.pyplot.close(ax.figure)
