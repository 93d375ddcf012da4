"""What every kind of the fuzzer's questions shares: a list of what is wrong, how much is asked, and asking a field."""

from __future__ import annotations

import collections
import re
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import fuzz_judges as judges
import numpy as np
from fuzz_cases import clock, flushing, log_uniform, points

import interp_fast as itf

HOME = Path(itf.__file__).parent
REFUSAL = (ValueError, TypeError)
MOST = 4_000_000  # coordinates that the oracle looks at in a case
METHODS = ("denoiser", "noise", "score", "velocity", "divergence", "log_density")
STATISTICS = ("mean", "log_norm", "log_density", "ess", "entropy", "variance", "index", "gap", "log_rest", "top_index",
              "top_weight", "work", "dropped", "certificate")  # fmt: skip


@dataclass
class Report:
    """Sentences about what is wrong, and how often each refusal was seen."""

    context: str = ""
    found: list[str] = field(default_factory=list)
    refused: collections.Counter = field(default_factory=collections.Counter)

    def wrong(self, sentence):
        if sentence is not None:
            self.found.append(f"{self.context}{sentence}")

    def ask(self, what, call, *, may_refuse=False, must_refuse=False):
        """The answer, or None after an error: a refusal that is in order, or a finding."""
        try:
            with np.errstate(divide="warn", over="warn", invalid="warn"), warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                warnings.simplefilter("ignore", UserWarning)  # advice
                answer = call()
        except REFUSAL as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{type(error).__name__}: {error}"
            ours = Path(last.filename).is_relative_to(HOME) and (last.line or "").startswith("raise")
            if ours:
                self.refused[re.sub(r"[-+]?(\d+\.?\d*(e[-+]?\d+)?|\binf|\bnan)", "#", message)] += 1
            if not ours or not (may_refuse or must_refuse):
                self.wrong(f"{what}: {message} (line {last.lineno} of {Path(last.filename).name})")
            return None
        except Exception as error:  # whatever comes is a finding
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.wrong(f"{what}: {type(error).__name__}: {error} (line {last.lineno} of {Path(last.filename).name})")
            return None
        if must_refuse:
            self.wrong(f"{what}: accepted")
        return answer

    def ask_all(self, calls, refusals, far, *, flush):
        """What the calls answer, by name; a posterior as "posterior.mean" and so on. ``far``: any may refuse."""
        out = {}
        for name, call in calls.items():
            with flushing(flush):
                answer = self.ask(name, call, may_refuse=refusals.get(name, far))
            if answer is not None:
                out[name] = answer
        post = out.pop("posterior", None)
        return out | ({} if post is None else {f"posterior.{name}": getattr(post, name) for name in STATISTICS})

    def judge_fields(self, outputs, truth, pick):
        """Answers of a field, as :meth:`ask_all` names them, to the queries ``pick`` that ``truth`` is about."""
        for name, value in outputs.items():
            table = judges.POSTERIOR if name.startswith("posterior.") else judges.FIELDS
            self.wrong(judges.excess(name, table[name.removeprefix("posterior.")], value, truth, pick))

    def same_bits(self, outputs, others, threads):
        for name in outputs.keys() ^ others.keys():
            self.wrong(f"{name}: answered with {threads} threads alone, or refused there alone")
        for name in outputs.keys() & others.keys():
            if not np.array_equal(outputs[name], others[name], equal_nan=True):
                self.wrong(f"{name}: other bits with {threads} threads")


def judged(rng, case, m):
    """Which of m queries the oracle answers."""
    most = max(1, MOST // case.values.size)
    return np.arange(m) if m <= most else np.sort(rng.choice(m, most, replace=False))


def how_many(rng, case, engine):
    """Queries: up to a few hundred, few where each costs much."""
    m = int(log_uniform(rng, 0, 2.4))
    most = max(1, 30_000_000 // case.values.size)
    m = min(m, most)
    return min(m, max(1, 100_000 // case.values.size)) if engine.backend == "reference" else m


def coefficients(schedule, t, m):
    """alpha, sigma and their derivatives, (m,) each."""
    names = ("alpha", "sigma", "alpha_dot", "sigma_dot")
    return SimpleNamespace(**{n: np.broadcast_to(np.asarray(getattr(schedule(t), n), float), m) for n in names})


def listed(rng, case):
    """How many of the heaviest rows are asked for."""
    top = int(rng.choice([0, 1, 5, case.n])) if case.n < 300 else int(rng.integers(6))
    return min(top, case.n)


def question(case, engine):
    """Queries of a field: (schedule, t, coefficients, x, directions u, how many of the heaviest rows)."""
    rng = case.rng
    m = how_many(rng, case, engine)
    schedule, t = clock(rng, case, m)
    c = coefficients(schedule, t, m)
    x = points(rng, case, c.alpha, c.sigma)
    return schedule, t, c, x, rng.standard_normal(x.shape), listed(rng, case)


def smooth(case, c, t, pick):
    """Those of the queries ``pick`` for which there is a density."""
    s2 = c.sigma**2 + (c.alpha * case.bandwidth) ** 2
    some = (c.sigma[pick] > 0) & (s2[pick] > 0)
    if case.flush:  # a subnormal time is 0 to some, and is not to others
        told = np.broadcast_to(t, len(c.sigma))[pick]
        some &= (told == 0) | (told >= np.finfo(float).tiny)
    return pick[some]


def refused(case, schedule, c, t, x, u):
    """Whether each method may refuse, and whether any may, which the others go by."""
    s2 = c.sigma**2 + (c.alpha * case.bandwidth) ** 2
    singular, far = bool((s2 == 0).any()), case.out_of_range(x, c.sigma)
    with flushing(case.flush):  # a subnormal time may be zero to the field
        steep = not np.isfinite(schedule(t).alpha_dot).all()
    refusals = {name: far or singular for name in ("noise", "score", "divergence", "jvp", "velocity")}
    refusals |= {"velocity": far or singular or steep, "divergence": far or singular or steep}
    for name, size in sizes(case, c, x, u).items():
        refusals[name] = refusals.get(name, far) or bool((size > judges.PROMISES[case.result].largest / 10).any())
    return refusals, far


def sizes(case, c, x, u):
    """What vectors may come to, roughly: they must fit the result type."""
    long, norm = judges.LONG, judges.norm
    c = SimpleNamespace(**{name: np.abs(value).astype(long) for name, value in vars(c).items()})
    row, s2 = long(norm(case.values).max()), c.sigma**2 + (c.alpha * case.bandwidth) ** 2
    residual = norm(x) + c.alpha * row
    return {
        "denoiser": row + residual / c.alpha * (case.bandwidth > 0),
        "noise": residual / np.sqrt(s2),
        "score": residual / s2,
        "velocity": c.alpha_dot * row
        + (c.sigma_dot + c.alpha_dot) * residual * np.maximum(c.sigma, c.alpha) / s2
        + c.alpha_dot * residual * c.alpha * long(case.bandwidth) ** 2 / s2,
        "jvp": c.alpha / s2 * (row**2 + long(case.bandwidth) ** 2) * norm(u),
    }
