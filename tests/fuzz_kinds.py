"""What the fuzzer asks of a case, kind by kind, and how errors are taken.

A kind is a function (case, engine, report): it draws its question from ``case.rng``, so that every engine is asked the
same, and reports what is wrong. To add one, write the function and name it in ``KINDS``.
"""

from __future__ import annotations

from types import SimpleNamespace

import fuzz_judges as judges
import numpy as np
from fuzz_cases import ARRAYS, LAYOUTS, Case, Source, clock, flushing, levels, log_uniform, points
from fuzz_judges import LONG, Truth, norm
from fuzz_report import METHODS, Report, how_many, judged, question, refused, smooth
from fuzz_views import views

import interp_fast as itf
from interp_fast import _random, backends
from interp_fast.field import oracle_of

SMALLEST = 2.0**-537  # distance whose square is a number


def judge_all(report, table, outputs, truth, pick):
    for name, got in outputs.items():
        report.wrong(judges.excess(name, table[name], got, truth, pick))


# Kernels: any subset of the outputs of the contract

VECTORS = ("mean", "jvp")
PER_QUERY = ("log_norm", "index", "gap", "log_rest", "ess", "entropy", "variance", "scatter", "dropped", "work")
LISTS = ("top_index", "top_weight")  # come together
SETS = (("mean",), ("mean", "index", "dropped", "work"), ("log_norm", "index"), ("scatter",), ("mean", "scatter"))
OFF_WEIGHTS = {"ess", "entropy", "variance", "gap", "log_rest", "jvp"}


def subset(rng):
    """Names of outputs: a set that the package asks for itself, one alone, all, or any."""
    names = np.array([*VECTORS, *PER_QUERY, "lists"])
    way = rng.integers(4)
    if way == 0:
        return SETS[rng.integers(len(SETS))]
    share = (1.0, 0.2, 0.5)[rng.integers(3)]
    chosen = [rng.choice(names)] if way == 1 else names[rng.random(len(names)) < share]
    return tuple(name for part in chosen for name in (LISTS if part == "lists" else (str(part),)))


def kernel(case, engine, report):
    rng = case.rng
    m = how_many(rng, case, engine)
    alpha, sigma = levels(rng, case, m)
    x = points(rng, case, alpha, sigma).astype(np.float64)
    u = rng.standard_normal(x.shape)
    names, k = subset(rng), int(rng.choice([0, 1, 2, 5, case.n])) if case.n < 50 else int(rng.integers(6))
    k = min(k, case.n)
    dense = rng.random() < 0.2
    pick = judged(rng, case, m)

    def run(threads):
        training = oracle_of(case.field(engine.backend, threads=threads)).training_set
        with np.errstate(divide="ignore", invalid="ignore"):
            s = np.sqrt(sigma**2 + (alpha * case.bandwidth) ** 2)
            cut = np.full(m, np.inf) if dense else training.cut(case.tol, s / alpha)
        cut = cut + 40 * bool(OFF_WEIGHTS & set(names))
        out = {name: np.full(m, 0 if name == "index" else np.nan, np.int64 if name == "index" else float)
               for name in names}  # fmt: skip
        out |= {name: np.full_like(x, np.nan) for name in VECTORS if name in names}
        kinds = {"top_index": np.int64, "top_weight": float}
        out |= {name: np.zeros((m, k), kind) for name, kind in kinds.items() if name in names}
        with flushing(case.flush):
            training.posterior(x, alpha, sigma, cut, out, u if "jvp" in names else None)
        return out, cut

    refusal = case.out_of_range(x, sigma)
    answer = report.ask("posterior of the kernels", lambda: run(case.threads[0]), may_refuse=refusal)
    if answer is None:
        return
    out, cut = answer
    smooth = sigma[pick] ** 2 + (alpha[pick] * case.bandwidth) ** 2 > 0
    part = pick[smooth]
    if len(part):
        truth = Truth(case, x[part], alpha[part], sigma[part], u[part], cut[part])
        outputs = {"product" if name == "jvp" else name: value for name, value in out.items()}
        judge_all(report, judges.POSTERIOR, outputs, truth, part)
        if "index" in out:
            report.wrong(judges.excess("index of equal rows", judges.lowest_index, out["index"], truth, part))
    at_end(report, case, x, alpha, sigma, out, pick[~smooth])
    for threads in case.threads[1:]:
        report.same_bits(out, run(threads)[0], threads)


def at_end(report, case, x, alpha, sigma, out, where):
    """Judge queries with sigma = 0; those that nothing says are 0 too."""
    if len(where):
        truth = Truth(case, x[where], alpha[where], sigma[where], x[where], sigma[where])
        for sentence in judges.limit({name: np.asarray(value)[where] for name, value in out.items()}, truth):
            report.wrong(sentence)


# Fields: every method


def methods(case, engine, report):
    rng = case.rng
    schedule, t, c, x, u, top = question(case, engine)
    m = len(x)
    asked = [name for name in METHODS if rng.random() < 0.7]
    layout = str(rng.choice(ARRAYS))
    given, single = LAYOUTS[layout](x), m == 1 and rng.random() < 0.5
    given = given[0] if single else given
    t = float(np.ravel(t)[0]) if single else t
    pick = judged(rng, case, m)
    refusals, far = refused(case, schedule, c, t, x, u)

    def run(threads, field_report):
        flow = field_report.ask("Field", lambda: case.field(engine.backend, schedule, threads), may_refuse=far)
        if flow is None:
            return {}
        calls = {name: lambda name=name: getattr(flow, name)(given, t) for name in asked}
        calls["jvp"] = lambda: flow.jvp(given, t, u[0] if single else u)
        calls["posterior"] = lambda: flow.posterior(given, t, top)
        out = field_report.ask_all(calls, refusals, far, flush=case.flush)
        return {name: np.asarray(value)[None] if single else np.asarray(value) for name, value in out.items()}

    out = run(case.threads[0], report)
    for name, value in out.items():
        vector = name in ("denoiser", "noise", "score", "velocity", "jvp", "posterior.mean")
        kind = case.result if vector else "int64" if name.endswith("index") else "float64"
        if value.dtype != kind or value.shape[:1] != (m,) or (vector and value.shape != (m, case.d)):
            report.wrong(f"{name}: {value.dtype} {value.shape}")
    wide = x.astype(np.float64)
    part = smooth(case, c, t, pick)
    if len(part):
        here = SimpleNamespace(**{name: value[part] for name, value in vars(c).items()})
        truth = Truth(case, wide[part], here.alpha, here.sigma, u[part], np.full(len(part), np.inf), here)
        report.judge_fields(out, truth, part)
    if case.bandwidth == 0:
        sharp = pick[c.sigma[pick] == 0]
        post = {n.removeprefix("posterior."): v for n, v in out.items() if n.startswith("posterior.")}
        at_end(report, case, wide, c.alpha, c.sigma, post, sharp)
        at_end(report, case, wide, c.alpha, c.sigma, {"mean": out["denoiser"]} if "denoiser" in out else {}, sharp)
    for threads in case.threads[1:]:
        report.same_bits(out, run(threads, report), threads)


def slow(rng, case, low, high):
    """A schedule that suits the size of the data: noise of 10^low to 10^high times that where it is no common one."""
    if 1e-6 < case.unit < 1e6:
        return itf.Linear()
    width = case.unit * log_uniform(rng, low, high)
    return itf.VELinear(width if 0 < width < np.inf else 1.0)


# Trajectories: row by row, from the states that the kernels keep in float64

SOLVERS = {
    "euler": itf.euler, "heun": itf.heun, "ddim": itf.ddim, "ddpm": itf.ddpm, "exponential": itf.exponential,
    "exponential_heun": itf.exponential_heun, "multistep": itf.multistep,
    "euler_maruyama": lambda schedule, times: itf.euler_maruyama(schedule, times, "sigma"),
    "churn": lambda schedule, times: itf.exponential(schedule, times, churn=0.5),
}  # fmt: skip


def trajectory(case, engine, report):
    rng = case.rng
    schedule = slow(rng, case, -2, 3)
    solver = str(rng.choice(list(SOLVERS)))
    times = np.sort(rng.random(int(rng.integers(2, 5))))
    if rng.random() < 0.6:
        times[-1] = 1.0
    if rng.random() < 0.5:
        times[0] = 0.0
    n = min(int(log_uniform(rng, 0, 2)), max(1, 3_000_000 // case.values.size))
    n = min(n, max(1, 30_000 // case.n)) if engine.backend == "reference" else n
    pick = judged(rng, case, 4 * n)[: max(1, n // 3)] % n
    key = _random.NoiseKey(int(rng.integers(2**63)), int(rng.integers(2**40)))
    far = case.out_of_range(np.array([getattr(schedule, "sigma_max", 1.0)]))
    steps = report.ask(solver, lambda: SOLVERS[solver](schedule, times), may_refuse=far)
    if steps is None:
        return
    x0 = points(rng, case, np.full(n, steps.alpha[0]), np.full(n, steps.sigma[0]))
    farthest = max(np.abs(x0).max(), np.abs(case.values).max(), case.bandwidth, steps.sigma.max())
    growth = np.prod(np.maximum(1, (np.abs(steps.A) + np.abs(steps.B) + np.abs(steps.C)).astype(LONG)))
    far |= bool(farthest > 1e74 or farthest * growth > judges.PROMISES[case.result].largest / 100)

    def run(threads):
        flow = case.field(engine.backend, schedule, threads)
        with flushing(case.flush):
            return flow, itf.sample(flow, steps, x0=x0, rng=key, keep="path")

    answer = report.ask("sample", lambda: run(case.threads[0]), may_refuse=far)
    if answer is None:
        return
    flow, out = answer
    training = oracle_of(flow).training_set
    state = backends.State.start(x0)
    noise_key = _random.subkey(key.key, "steps")
    for r in range(len(steps)):
        base, cur, previous = state.base.copy(), state.cur.copy(), state.previous.copy()
        with flushing(case.flush):
            training.run_steps(
                state, steps, r, r + 1, key=noise_key, first_sample=key.first_sample, error=None,
                cut=training.cut(case.tol),
            )  # fmt: skip
        row = SimpleNamespace(**{name: getattr(steps, name)[r] for name in ("alpha", "sigma", "A", "B", "C", "S")})
        xi = _random.normals(noise_key, key.first_sample, r, n=n, d=case.d)
        known = row.A * base + row.C * previous + row.S * xi
        alpha, sigma = np.full(len(pick), row.alpha), np.full(len(pick), row.sigma)
        if row.sigma == 0 and case.bandwidth == 0:
            at_end(report, case, cur, np.full(n, row.alpha), np.zeros(n), {"index": state.index}, pick)
            continue
        truth = Truth(case, cur[pick], alpha, sigma, cur[pick], np.full(len(pick), np.inf))
        own = (LONG(row.sigma) ** 2 / truth.s2)[:, None]
        pull = (LONG(row.alpha) * LONG(case.bandwidth) ** 2 / truth.s2)[:, None]
        want = known[pick] + row.B * (own * truth.ref.mean + pull * cur[pick])

        def judge(got, t, known=known, row=row, want=want, pull=pull, base=base, previous=previous):
            _, bound = judges.mean(t.ref.mean, t)
            size = abs(row.A) * norm(base[pick]) + abs(row.C) * norm(previous[pick]) + norm(known[pick])
            size += abs(row.B) * (pull[:, 0] * norm(t.x) + norm(t.ref.mean))
            return norm(got - want), abs(row.B) * bound + 8 * judges.EPS * size

        report.wrong(judges.excess(f"row {r} of {solver}", judge, state.cur, truth, pick))
        report.wrong(judges.excess(f"index in row {r} of {solver}", judges.index, state.index, truth, pick))
    with flushing(case.flush):  # as samples are rounded
        last = state.base.astype(case.result)
    if not np.array_equal(out.x, last, equal_nan=True):
        report.wrong(f"{solver}: row by row gives other bits than the run")
    away = norm(state.base[pick][:, None].astype(LONG) - LONG(steps.alpha[-1]) * case.values)
    doubt = 8 * judges.EPS * (norm(state.base[pick]) + steps.alpha[-1] * np.abs(case.values).max())
    if not (away[np.arange(len(pick)), out.index[pick]] <= away.min(1) * (1 + 1e-12) + doubt).all():
        report.wrong(f"{solver}: index is not the nearest row")
    for threads in case.threads[1:]:
        names = ("x", "path", "index", "commit_time", "certificate")
        both = ({name: getattr(one, name) for name in names} for one in (out, run(threads)[1]))
        report.same_bits(*both, threads)


# Neighbours, draws and losses


def neighbours(case, engine, report):
    rng = case.rng
    m = how_many(rng, case, engine)
    alpha = float(rng.choice([1.0, 1.0, 0.5, 0.0, log_uniform(rng, -6, 6)]))
    x = points(rng, case, np.full(m, alpha), np.full(m, case.unit * log_uniform(rng, -6, 1))).astype(np.float64)
    k = min(case.n, int(rng.integers(1, 7)))
    pick = judged(rng, case, m)
    far = case.out_of_range(x)

    def judge(got_index, got, alpha, k):
        away = norm(x[pick][:, None].astype(LONG) - LONG(alpha) * case.values)
        order = np.argsort(away, axis=1, kind="stable")[:, :k]
        best = np.take_along_axis(away, order, 1)
        doubt = 1e-13 * best + 4 * judges.EPS * alpha * np.abs(case.values).max() * (alpha not in (0, 1))
        # What the caller's mode flushes to 0 may be 0.
        doubt = doubt + max(SMALLEST, np.finfo(case.result).tiny if case.flush else 0.0)
        chosen = np.take_along_axis(away, got_index[pick], 1)
        if not (np.abs(chosen - best) <= 2 * doubt * np.sqrt(case.d)).all():
            report.wrong(f"index: not the nearest {k} rows, alpha {alpha:.4g}")
        if not (np.abs(got[pick] - best) <= 2 * doubt * np.sqrt(case.d)).all():
            report.wrong(f"distance: off by {np.abs(got[pick] - best).max():.2e} of {best.max():.2e}")
        if alpha == 1:
            first = (case.values[got_index[pick, 0]][:, None] == case.values).all(2).argmax(1)
            if not np.array_equal(first, got_index[pick, 0]):
                report.wrong("index: not the lowest of equal rows")

    def search(threads):
        training = oracle_of(case.field(engine.backend, threads=threads)).training_set
        with flushing(case.flush):
            return training.nearest(x, k, alpha)

    answer = report.ask("nearest", lambda: search(case.threads[0]), may_refuse=far)
    if answer is not None:
        judge(answer[0], np.sqrt(answer[1]), alpha, k)
        for threads in case.threads[1:]:
            other = search(threads)
            report.same_bits({"index": answer[0], "squares": answer[1]},
                      {"index": other[0], "squares": other[1]}, threads)  # fmt: skip
    if engine.backend != backends.available()[0] or case.storage == "uint8":  # what memorization takes
        return
    if case.n > 20_000:  # it compares all rows with each other
        return
    samples = LAYOUTS[str(rng.choice(ARRAYS))](x)
    data = LAYOUTS[case.layout](case.stored)
    copies = report.ask("memorization", lambda: itf.memorization(samples, data, k=k, rng=0), may_refuse=far)
    if copies is not None and len(pick) == m:
        two = min(2, case.n)
        distances = np.stack([copies.d1, copies.d2], 1)[:, :two]
        judge(np.repeat(copies.index[:, None], 1, 1), distances[:, :1], 1.0, 1)
        second = np.sort(norm(x[:, None].astype(LONG) - case.values), axis=1)[:, 1:2]
        if two == 2 and not (np.abs(distances[:, 1:] - second) <= 1e-12 * second + SMALLEST).all():
            report.wrong("memorization: d2 is not the second distance")
        support(report, case, x, k, copies.precision)


def support(report, case, x, k, precision):
    """The share of samples in balls around rows, where no rim is near."""
    if precision is None or case.n > 300:
        return
    values = case.values.astype(LONG)
    radii = np.sort(norm(values[:, None] - values), axis=1)[:, k]
    away = norm(x[:, None].astype(LONG) - values)
    rims = (radii * (1 - 1e-9) - SMALLEST, radii * (1 + 1e-9) + SMALLEST)
    low, high = ((away <= rim).any(1).mean() for rim in rims)
    if not low - 1e-12 <= precision <= high + 1e-12:
        report.wrong(f"memorization: precision {precision}, not {low} to {high}")


def draws(case, engine, report):
    rng = case.rng
    n = min(int(log_uniform(rng, 0, 2)), max(1, 3_000_000 // case.d))
    schedule, t = clock(rng, case, n)
    c = schedule(t)
    key = _random.NoiseKey(int(rng.integers(2**63)), int(rng.integers(2**40)))
    far = case.out_of_range(np.ravel(c.sigma))
    farthest = max(np.abs(case.values).max(), case.bandwidth, np.max(c.sigma))
    far |= bool(farthest > judges.PROMISES[case.result].largest / 100)
    answer = report.ask("draw", lambda: case.field(engine.backend, schedule).draw(n, t, rng=key), may_refuse=far)
    if answer is None:
        return
    x, index = answer
    z = _random.normals(_random.subkey(key.key, "draw"), key.first_sample, 0, n=n, d=case.d)
    alpha, sigma = (np.broadcast_to(v, n).astype(LONG)[:, None] for v in (c.alpha, c.sigma))
    want = alpha * case.values[index] + np.sqrt(sigma**2 + (alpha * LONG(case.bandwidth)) ** 2) * z
    promise = judges.PROMISES[case.result]
    size = np.abs(alpha * case.values[index]) + np.abs(want)
    once = 4 * judges.EPS * size + 1.01 * promise.rounding * np.abs(want) + promise.least
    bad = ~((np.abs(x - want) <= once) | (np.abs(want) > promise.largest))
    if bad.any():
        report.wrong(f"draw: {x[bad][0]} is not {want[bad][0]}")
    if case.weights is not None and (case.weights[index] == 0).any():
        report.wrong("draw: a row of weight 0")


def losses(case, engine, report):
    """Ends are exact, and everywhere else the loss is no NaN and no more than without any knowledge."""
    rng = case.rng
    if case.values.size > 3000:
        return
    schedule = slow(rng, case, -1, 2)
    times = np.unique(rng.choice([0.0, 0.25, 0.5, 0.75, 0.99, 1.0, rng.uniform()], int(rng.integers(1, 4))))
    kind = str(rng.choice(["denoiser", "denoiser", "noise", "velocity", "score"]))
    far = case.out_of_range(np.array([getattr(schedule, "sigma_max", 1.0)]))
    ends = bool((schedule(times).sigma == 0).any()) and kind != "denoiser"
    flow = report.ask("Field", lambda: case.field(engine.backend, schedule), may_refuse=far)
    if flow is None:
        return
    best = report.ask(
        "optimal_loss", lambda: itf.optimal_loss(flow, times, 32, kind=kind, rng=0), may_refuse=far or ends
    )
    if best is None or kind != "denoiser":
        return
    most = case.radius**2 + case.d * LONG(case.bandwidth) ** 2
    for t, loss, stderr in zip(times, best.loss, best.stderr, strict=True):
        c = schedule(t)
        exact = most if c.alpha == 0 else 0.0 if c.sigma == 0 else None
        rounding = (8 * judges.EPS * np.abs(case.values).max()) ** 2  # of the mean that R is counted from
        if exact is not None and not (abs(loss - exact) <= 1e-9 * exact + rounding and stderr == 0):
            report.wrong(f"optimal_loss at t = {t}: {loss} +- {stderr}, not {exact}")
        if not 0 <= loss <= most * (1 + 1e-9) + 8 * stderr:
            report.wrong(f"optimal_loss at t = {t}: {loss} +- {stderr}, R^2 = {most}")


# Arguments that must be refused


def refusals(case, engine, report):
    rng = case.rng
    x = np.ones((3, case.d))
    bad = x.copy()
    bad[rng.integers(3), rng.integers(case.d)] = rng.choice([np.nan, np.inf, -np.inf])
    rows = case.values.copy()
    rows[rng.integers(case.n), rng.integers(case.d)] = rng.choice([np.nan, np.inf])
    flow = report.ask("Field", lambda: case.field(engine.backend), may_refuse=case.out_of_range())
    if flow is None:
        return
    build = {"backend": engine.backend, "weights": case.weights}
    calls = {
        "data that is not finite": lambda: itf.Field(rows, **build),
        "a source that is not finite": lambda: itf.Field(Source(rows), **build),
        "integers": lambda: itf.Field(np.ones(rows.shape, str(rng.choice(["i8", "i4", "u2", "?", "c16"]))), **build),
        "weights of another length": lambda: itf.Field(case.stored, weights=np.ones(case.n + 1)),
        "a negative weight": lambda: itf.Field(case.stored, weights=-np.ones(case.n)),
        "a query that is not finite": lambda: flow.posterior(bad, 0.5),
        "a query of another width": lambda: flow.noise(np.ones((3, case.d + 1)), 0.5),
        "a query of three axes": lambda: flow.noise(x[None], 0.5),
        "a time outside": lambda: flow.denoiser(x, float(rng.choice([-1e-300, 1 + 1e-15, np.nan, np.inf]))),
        "times of another length": lambda: flow.denoiser(x, [0.5, 0.5]),
        "a list longer than the rows": lambda: flow.posterior(x, 0.5, top=case.n + 1),
        "a direction of another shape": lambda: flow.jvp(x, 0.5, np.ones((2, case.d))),
        "no samples": lambda: flow.draw(0, 0.5),
        "a row that is not there": lambda: flow.subset([case.n]),
        "a masked array": lambda: flow.denoiser(np.ma.masked_array(x, x > 0), 0.5),
        "masked data": lambda: itf.Field(np.ma.masked_array(case.stored, case.values == case.values[0, 0])),
    }
    for name, call in calls.items():
        with np.errstate(invalid="ignore"):
            report.ask(name, call, must_refuse=True)


# How often each kind comes, relative to the others
KINDS = {
    "kernel": (kernel, 0.4), "methods": (methods, 0.25), "trajectory": (trajectory, 0.15),
    "neighbours": (neighbours, 0.1), "draws": (draws, 0.03), "losses": (losses, 0.04), "refusals": (refusals, 0.03),
    "views": (views, 0.15),
}  # fmt: skip
TOTAL = sum(share for _, share in KINDS.values())
SHARES = {name: share / TOTAL for name, (_, share) in KINDS.items()}


def run(case: Case, engines) -> Report:
    """A case on some engines. Numbers of all sizes are formed here: floating-point warnings count in ``ask`` alone."""
    report = Report()
    for engine in engines:
        report.context = f"{engine}: "
        with np.errstate(all="ignore"), engine.forced():
            KINDS[case.kind][0](case, engine, report)
    return report
