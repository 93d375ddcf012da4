"""Whether samples are copies of training rows, as far as their numbers and those of held-out rows tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import interp_fast as itf

from .._copies import Baseline, Compared

__all__ = ["DOUBT", "Judgement", "by_chance", "copied", "equal", "judge", "leaked"]

DOUBT = 0.025  # of a one-sided test, over all files together


@dataclass(frozen=True)
class Judgement:
    """An answer, and what it rests on.

    ``answer``: "yes"; "chance" (no more copies than by chance), "none" (no copies) or "open", for ``reasons``:
    "holdout" (copies, and no held-out rows to tell chance by), "leak" (held-out rows that are training rows), "repeats"
    (near copies of rows that have equal ones, which the rule does not count), "k" (equal samples, and nobody looked
    whether training rows are equal). ``chance``: the probability of at least so many copies, were samples and held-out
    rows alike; None without the latter. ``equality``: "yes" because samples are equal to rows, not for the number of
    copies.
    """

    answer: str
    chance: float | None
    equality: bool
    reasons: tuple[str, ...] = ()


def judge(one: Compared, baseline: Baseline, files: int) -> Judgement:
    """Samples of one of several files."""
    r, control, count = one.result, baseline.control, copied(one.result)
    doubt = DOUBT / files
    chance = None if control is None else by_chance(count, len(r.d1), copied(control), len(control.d1))
    if chance is not None and chance < doubt:
        return Judgement("yes", chance, equality=False)
    if _equal_beyond_nature(r, baseline, doubt):
        return Judgement("yes", chance, equality=True)
    reasons = {
        "holdout": control is None and count + one.veiled > 0,
        "leak": count > 0 and leaked(baseline) > 0,
        "repeats": one.veiled > 0,
        "k": equal(r) > 0 and baseline.repeated is None,
    }
    given = tuple(reason for reason, holds in reasons.items() if holds)
    return Judgement("open" if given else "chance" if count else "none", chance, equality=False, reasons=given)


def leaked(baseline: Baseline) -> int:
    """How many held-out rows are equal to a training row, if more than training rows equal to others explain."""
    control, repeated = baseline.control, baseline.repeated
    held = 0 if control is None else equal(control)
    if control is None or not held or not repeated:
        return held
    return held if by_chance(held, len(control.d1), repeated, baseline.rows) < DOUBT else 0


def _equal_beyond_nature(r: itf.Memorization, baseline: Baseline, doubt: float) -> bool:
    """Whether more samples are equal to a row than held-out rows are, and than rows are to other rows.

    Where nobody looked, or where as large a share of these is, items of this kind may be equal by nature.
    """
    found, n, control, repeated = equal(r), len(r.d1), baseline.control, baseline.repeated
    held = [] if control is None else [(equal(control), len(control.d1))]
    if not found or (repeated is None and not held):
        return False
    if repeated is None:
        return by_chance(found, n, *held[0]) < doubt
    # Numbers do not meet by chance: where no training rows are equal, one is enough.
    beside = [*held, (repeated, baseline.rows)]
    return all(others == 0 or by_chance(found, n, others, of) < doubt for others, of in beside)


def by_chance(count: int, n: int, held: int, of: int) -> float:
    """Probability of at least so many copies among the samples, as of all copies here, if both kinds are as likely."""
    from scipy.stats import hypergeom

    return float(hypergeom.sf(count - 1, n + of, count + held, n))  # Fisher's exact test


def copied(r: itf.Memorization) -> int:
    return int(np.sum(r.classes == "memorized"))


def equal(r: itf.Memorization) -> int:
    return int(np.sum(r.d1 == 0))
