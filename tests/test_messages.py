"""Wrong arguments: the kind of error, the name of the argument, what came, and what to do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import interp_fast as itf

X = np.arange(12.0).reshape(6, 2)
FIELD = itf.Field(X, backend="reference")
STEPS = itf.ddim(itf.Linear(), 3)
Q = np.ones((3, 2))


def broken(value, row=17, shape=(30, 2), dtype="float64"):
    a = np.ones(shape, dtype)
    a[row, 1] = value
    return a


class Opaque:
    """Something that only NumPy can look into."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


SHORTS = np.full((3, 2), 1000, np.uint16)
DATA = {
    "uint16": (lambda: itf.Field(SHORTS), TypeError, r"data .*uint16.*astype"),
    "uint16 big-endian": (lambda: itf.Field(SHORTS.astype(">u2")), TypeError, r"data .*uint16"),
    "list of uint16": (lambda: itf.Field(list(SHORTS)), TypeError, r"data .*uint16"),
    "uint16 by __array__": (lambda: itf.Field(Opaque(SHORTS)), TypeError, r"data .*uint16"),
    "samples of uint16": (lambda: itf.memorization(list(SHORTS), X), TypeError, r"samples .*uint16"),
    "int16": (lambda: itf.Field(list(SHORTS.astype(np.int16))), TypeError, r"data .*int16"),
    "int8": (lambda: itf.Field(SHORTS.astype(np.int8)), TypeError, r"data .*int8"),
    "nan": (lambda: itf.Field(broken(np.nan)), ValueError, r"data .*row 17"),
    "inf": (lambda: itf.Field(broken(np.inf, dtype="float32")), ValueError, r"data .*row 17"),
    "half inf": (lambda: itf.Field(broken(np.inf, dtype="float16")), ValueError, r"data .*row 17"),
    "int": (lambda: itf.Field(X.astype(int)), TypeError, r"data .*int64.*astype\(np\.float32\)"),
    "bool": (lambda: itf.Field(X > 3), TypeError, r"data .*bool"),
    "complex": (lambda: itf.Field(X.astype(complex)), TypeError, r"data .*complex"),
    "object": (lambda: itf.Field(X.astype(object)), TypeError, r"data .*object"),
    "strings": (lambda: itf.Field([["a", "b"]]), TypeError, r"data"),
    "none": (lambda: itf.Field(None), TypeError, r"data"),
    "no rows": (lambda: itf.Field(np.empty((0, 3))), ValueError, r"data .*\(0, 3\)"),
    "no columns": (lambda: itf.Field(np.empty((3, 0))), ValueError, r"data .*\(3, 0\)"),
    "one axis": (lambda: itf.Field(np.ones(3)), ValueError, r"data .*\(N, d\).*\(3,\)"),
    "an axis of none": (lambda: itf.Field(np.ones((3, 0, 2))), ValueError, r"data .*\(3, 0, 2\)"),
}
FIELD_OPTIONS = {
    "schedule kind": (lambda: itf.Field(X, "linear"), TypeError, r"schedule .*'linear'"),
    "weights negative": (lambda: itf.Field(X, weights=[1, 1, -2, 1, 1, 1]), ValueError, r"weights .*-2.*row 2"),
    "weights nan": (lambda: itf.Field(X, weights=[1, 1, 1, np.nan, 1, 1]), ValueError, r"weights .*nan.*row 3"),
    "weights zero": (lambda: itf.Field(X, weights=np.zeros(6)), ValueError, r"weights .*0"),
    "weights length": (lambda: itf.Field(X, weights=np.ones(5)), ValueError, r"weights .*\(6,\).*\(5,\)"),
    "weights shape": (lambda: itf.Field(X, weights=np.ones((6, 1))), ValueError, r"weights .*\(6, 1\)"),
    "weights kind": (lambda: itf.Field(X, weights=["a"] * 6), TypeError, r"weights"),
    "bandwidth negative": (lambda: itf.Field(X, bandwidth=-0.1), ValueError, r"bandwidth .*-0\.1"),
    "bandwidth nan": (lambda: itf.Field(X, bandwidth=np.nan), ValueError, r"bandwidth .*nan"),
    "bandwidth kind": (lambda: itf.Field(X, bandwidth="wide"), TypeError, r"bandwidth .*'wide'"),
    "scale for floats": (lambda: itf.Field(X, scale=(1, 0)), ValueError, r"scale .*uint8.*float64"),
    "scale zero": (lambda: itf.Field(X.astype(np.uint8), scale=(0, 1)), ValueError, r"scale"),
    "scale kind": (lambda: itf.Field(X.astype(np.uint8), scale=3), TypeError, r"scale .*3"),
    "backend": (lambda: itf.Field(X, backend="cuda"), ValueError, r"backend .*auto.*reference.*'cuda'"),
    "backend kind": (lambda: itf.Field(X, backend=["cpp"]), TypeError, r"backend .*'cpp'"),
    "threads zero": (lambda: itf.Field(X, threads=0), ValueError, r"threads .*0"),
    "threads kind": (lambda: itf.Field(X, threads=1.5), TypeError, r"threads .*1\.5"),
    "tol negative": (lambda: itf.Field(X, tol=-1e-3), ValueError, r"tol .*-0\.001"),
    "tol nan": (lambda: itf.Field(X, tol=np.nan), ValueError, r"tol .*nan"),
    "tol kind": (lambda: itf.Field(X, tol="tight"), TypeError, r"tol .*'tight'"),
    "subset empty": (lambda: FIELD.subset([]), (TypeError, ValueError), r"rows"),
    "subset outside": (lambda: FIELD.subset([0, 6]), ValueError, r"rows .*6"),
    "subset mask": (lambda: FIELD.subset([True, False]), (TypeError, ValueError), r"rows"),
    "subset kind": (lambda: FIELD.subset([0.5]), TypeError, r"rows"),
    "subset weightless": (
        lambda: itf.Field(X, weights=[1, 1, 1, 1, 0, 0]).subset([4, 5]), ValueError, r"weight"
    ),
    "with_schedule": (lambda: FIELD.with_schedule(3), TypeError, r"schedule .*3"),
}  # fmt: skip
METHODS = ("denoiser", "velocity", "score", "noise", "log_density", "divergence", "posterior")
QUERIES = {
    "nan": (broken(np.nan), 0.5, ValueError, r"\bx .*nan.*row 17"),
    "wrong d": (np.ones((3, 5)), 0.5, ValueError, r"\bx .*\(M, 2\).*\(3, 5\)"),
    "one wrong d": (np.ones(3), 0.5, ValueError, r"\bx .*\(3,\)"),
    "three axes": (np.ones((1, 3, 2)), 0.5, ValueError, r"\bx .*\(1, 3, 2\)"),
    "int": (np.ones((3, 2), int), 0.5, TypeError, r"\bx .*int64.*astype"),
    "half": (np.ones((3, 2), np.float16), 0.5, TypeError, r"\bx .*float16"),
    "t below": (Q, -0.1, ValueError, r"\bt .*\[0, 1\].*-0\.1"),
    "t above": (Q, 1.5, ValueError, r"\bt .*\[0, 1\].*1\.5"),
    "t nan": (Q, np.nan, ValueError, r"\bt .*nan"),
    "t length": (Q, [0.1, 0.2], ValueError, r"\bt .*\(3,\).*\(2,\)"),
    "t column": (Q, np.full((3, 1), 0.5), ValueError, r"\bt .*\(3, 1\)"),
    "t kind": (Q, "late", TypeError, r"\bt "),
    "t complex": (Q, 0.5 + 0j, TypeError, r"\bt .*complex"),
    "t one of many": (Q, [0.1, 2.0, 0.3], ValueError, r"\bt .*2\.0"),
}
CALLS = {
    "jvp shape": (lambda: FIELD.jvp(Q, 0.5, np.ones((2, 2))), ValueError, r"\bu .*\(3, 2\).*\(2, 2\)"),
    "jvp nan": (lambda: FIELD.jvp(broken(1.0), 0.5, broken(np.nan)), ValueError, r"\bu .*row 17"),
    "jvp end": (lambda: FIELD.jvp(Q, 1.0, Q), ValueError, r"\bt .*1"),
    "divergence end": (lambda: FIELD.divergence(Q, 1), ValueError, r"\bt .*1"),
    "top negative": (lambda: FIELD.posterior(Q, 0.5, top=-1), ValueError, r"top .*-1"),
    "top above N": (lambda: FIELD.posterior(Q, 0.5, top=7), ValueError, r"top .*6.*7"),
    "top kind": (lambda: FIELD.posterior(Q, 0.5, top=1.0), TypeError, r"top"),
    "draw none": (lambda: FIELD.draw(0, 0.5), ValueError, r"\bn .*0"),
    "draw kind": (lambda: FIELD.draw(2.0, 0.5), TypeError, r"\bn .*2\.0"),
    "draw time": (lambda: FIELD.draw(2, 1.1), ValueError, r"\bt .*1\.1"),
    "draw rng": (lambda: FIELD.draw(2, 0.5, rng="seed"), TypeError, r"rng .*'seed'"),
    "draw negative rng": (lambda: FIELD.draw(2, 0.5, rng=-1), ValueError, r"rng .*-1"),
    "velocity at an infinite slope": (
        lambda: itf.Field(X, itf.SqrtVP(), backend="reference").velocity(Q, 0), ValueError, r"\bt .*0"
    ),
    "key range": (lambda: itf.NoiseKey(-1), ValueError, r"key .*-1"),
    "key kind": (lambda: itf.NoiseKey(1.0), TypeError, r"key .*1\.0"),
    "first_sample range": (lambda: itf.NoiseKey(1, -5), ValueError, r"first_sample .*-5"),
}  # fmt: skip
SAMPLE = {
    "field": (lambda: itf.sample(X, STEPS, 3), TypeError, r"field .*ndarray"),
    "function": (lambda: itf.sample(lambda x, t: x, STEPS, 3), TypeError, r"field .*Model"),
    "steps": (lambda: itf.sample(FIELD, 10, 3), TypeError, r"steps .*int"),
    "neither": (lambda: itf.sample(FIELD, STEPS), ValueError, r"\bn "),
    "n zero": (lambda: itf.sample(FIELD, STEPS, 0), ValueError, r"\bn .*0"),
    "n negative": (lambda: itf.sample(FIELD, STEPS, -3), ValueError, r"\bn .*-3"),
    "n kind": (lambda: itf.sample(FIELD, STEPS, 3.0), TypeError, r"\bn .*3\.0"),
    "n against x0": (lambda: itf.sample(FIELD, STEPS, 4, x0=Q), ValueError, r"\bn .*3.*4"),
    "x0 wrong d": (lambda: itf.sample(FIELD, STEPS, x0=np.ones((3, 5))), ValueError, r"x0 .*\(3, 5\)"),
    "x0 single": (lambda: itf.sample(FIELD, STEPS, x0=np.ones(2)), ValueError, r"x0 .*\(2,\)"),
    "x0 nan": (lambda: itf.sample(FIELD, STEPS, x0=broken(np.nan)), ValueError, r"x0 .*row 17"),
    "x0 int": (lambda: itf.sample(FIELD, STEPS, x0=np.ones((3, 2), int)), TypeError, r"x0 .*int64"),
    "rng": (lambda: itf.sample(FIELD, STEPS, 3, rng=2.5), TypeError, r"rng .*2\.5"),
    "keep name": (lambda: itf.sample(FIELD, STEPS, 3, keep="all"), ValueError, r"keep .*'path'.*'all'"),
    "keep zero": (lambda: itf.sample(FIELD, STEPS, 3, keep=0), ValueError, r"keep .*0"),
    "keep kind": (lambda: itf.sample(FIELD, STEPS, 3, keep=None), TypeError, r"keep"),
    "tol": (lambda: itf.sample(FIELD, STEPS, 3, tol=-1), ValueError, r"tol .*-1"),
    "out shape": (lambda: itf.sample(FIELD, STEPS, 3, out=np.empty((2, 2))), ValueError, r"out .*\(3, 2\).*\(2, 2\)"),
    "out type": (lambda: itf.sample(FIELD, STEPS, 3, out=Q.astype("f4")), ValueError, r"out .*float64.*float32"),
    "out kind": (lambda: itf.sample(FIELD, STEPS, 3, out=[[0.0, 0.0]] * 3), TypeError, r"out .*list"),
    "progress": (lambda: itf.sample(FIELD, STEPS, 3, progress=3), TypeError, r"progress .*3"),
    "model without x0": (lambda: itf.sample(itf.Model(lambda x, t: x, itf.Linear()), STEPS, 3), ValueError, r"x0 "),
    "model of another schedule": (
        lambda: itf.sample(itf.Model(lambda x, t: x, itf.VP()), STEPS, x0=Q), ValueError, r"steps .*VP"
    ),
    "model shape": (
        lambda: itf.sample(itf.Model(lambda x, t: x[:1], itf.Linear()), STEPS, x0=Q),
        ValueError, r"output .*\(3, 2\).*\(1, 2\)",
    ),
    "model nan": (
        lambda: itf.Model(lambda x, t: x * np.nan, itf.Linear()).denoiser(Q, 0.5), ValueError, r"output .*nan"
    ),
    "model fn": (lambda: itf.Model(3, itf.Linear()), TypeError, r"fn .*3"),
    "model schedule": (lambda: itf.Model(lambda x, t: x, 3), TypeError, r"schedule .*3"),
    "model predicts": (
        lambda: itf.Model(lambda x, t: x, itf.Linear(), predicts="x0"), ValueError, r"predicts .*velocity.*'x0'"
    ),
    "model end": (
        lambda: itf.Model(lambda x, t: x, itf.Linear(), predicts="denoiser").score(Q, 1.0), ValueError, r"\bt .*1"
    ),
}  # fmt: skip
MODEL = itf.Model(lambda x, t: x, itf.Linear())
STUDIES = {
    "trapping": (lambda: itf.theory.trapping(MODEL, Q, 0.5), TypeError, r"field .*Model"),
    "margin_condition": (lambda: itf.theory.margin_condition(MODEL, Q, 0.5, 0.1), TypeError, r"field .*Model"),
    "dominance": (lambda: itf.theory.dominance(X, 0.1), TypeError, r"field .*ndarray"),
    "speciation_time": (lambda: itf.theory.speciation_time(X), TypeError, r"field .*ndarray"),
    "collapse_time": (lambda: itf.theory.collapse_time(X), TypeError, r"field .*ndarray"),
    "endpoint_law schedule": (lambda: itf.theory.endpoint_law("linear", STEPS), TypeError, r"schedule .*'linear'"),
    "endpoint_law steps": (lambda: itf.theory.endpoint_law(itf.Linear(), 4), TypeError, r"steps .*int"),
    "discretization_bound field": (
        lambda: itf.theory.discretization_bound(MODEL, STEPS, Q), TypeError, r"field .*Model"
    ),
    "discretization_bound steps": (lambda: itf.theory.discretization_bound(FIELD, 4, Q), TypeError, r"steps .*int"),
    "estimation_bound field": (
        lambda: itf.theory.estimation_bound(MODEL, STEPS, np.ones((3, 1, 2))), TypeError, r"field .*Model"
    ),
    "estimation_bound steps": (
        lambda: itf.theory.estimation_bound(FIELD, 3, np.ones((3, 1, 2))), TypeError, r"steps .*int"
    ),
    "estimation_bound nan": (
        lambda: itf.theory.estimation_bound(FIELD, STEPS, np.full((3, 1, 2), np.nan)), ValueError, r"errors .*nan"
    ),
    "amplification field": (lambda: itf.theory.amplification(MODEL, STEPS, Q), TypeError, r"field .*Model"),
    "amplification steps": (lambda: itf.theory.amplification(FIELD, None, Q), TypeError, r"steps .*None"),
    "concentrability model": (lambda: itf.theory.concentrability(3, FIELD, STEPS, 5), TypeError, r"model .*3"),
    "concentrability field": (lambda: itf.theory.concentrability(MODEL, MODEL, STEPS, 5), TypeError, r"field .*Model"),
    "concentrability steps": (lambda: itf.theory.concentrability(MODEL, FIELD, 5, 5), TypeError, r"steps .*int"),
    "optimal_loss times": (lambda: itf.optimal_loss(FIELD, [], 5), ValueError, r"times .*\(0,\)"),
    "optimal_loss times axes": (lambda: itf.optimal_loss(FIELD, [[0.5, 0.6]], 5), ValueError, r"times .*\(1, 2\)"),
    "audit solver": (lambda: itf.audit(MODEL, FIELD, 4, 5, solver="ddim"), TypeError, r"'solver'.*steps=.*itf\.ddim"),
    "audit steps": (lambda: itf.audit(MODEL, FIELD, 4, 5, steps=50), TypeError, r"steps .*itf\..* int"),
    "audit early end": (
        lambda: itf.audit(MODEL, FIELD, 4, 5, steps=itf.ddim(itf.Linear(), [0, 0.9])), ValueError, r"steps .*1,.*0\.9"
    ),
    "audit no times": (lambda: itf.audit(MODEL, FIELD, [], 5), ValueError, r"times .*\(0,\)"),
    "audit times axes": (lambda: itf.audit(MODEL, FIELD, [[0.5]], 5), ValueError, r"times .*\(1, 1\)"),
    "audit no of times": (lambda: itf.audit(MODEL, FIELD, 0, 5), ValueError, r"times .*0"),
    "audit bool times": (lambda: itf.audit(MODEL, FIELD, True, 5), TypeError, r"times .*got bool"),
    "audit falling times": (lambda: itf.audit(MODEL, FIELD, [0.6, 0.3], 5), ValueError, r"times .*0\.6 before 0\.3"),
    "audit equal times": (lambda: itf.audit(MODEL, FIELD, [0.3, 0.3], 5), ValueError, r"times .*0\.3 before 0\.3"),
    "audit times outside": (lambda: itf.audit(MODEL, FIELD, [0.3, 1.3], 5), ValueError, r"times .*1\.3"),
    "audit times nan": (lambda: itf.audit(MODEL, FIELD, [0.3, np.nan], 5), ValueError, r"times .*nan"),
    "audit holdout d": (
        lambda: itf.audit(MODEL, FIELD, 4, 5, holdout=np.ones((3, 5))), ValueError, r"holdout .*\(3, 5\)"
    ),
    "audit holdout row": (lambda: itf.audit(MODEL, FIELD, 4, 5, holdout=np.ones(2)), ValueError, r"holdout .*\(2,\)"),
    "audit holdout ints": (lambda: itf.audit(MODEL, FIELD, 4, 5, holdout=[[1, 2]]), TypeError, r"holdout .*int64"),
    "audit holdout nan": (
        lambda: itf.audit(MODEL, FIELD, 4, 5, holdout=np.full((3, 2), np.nan)), ValueError, r"holdout .*nan"
    ),
    "audit table of another schedule": (
        lambda: itf.audit(MODEL, FIELD, 4, 5, steps=itf.ddim(itf.VP(), 5)), ValueError, r"steps .*schedule"
    ),
}  # fmt: skip
TABLES = {
    "schedule kind": (lambda: itf.schedule(3), TypeError, r"linear.*got 3"),
    "solver of a name": (lambda: itf.euler("linear", 4), TypeError, r"schedule .*'linear'"),
    "log_snr of a name": (lambda: itf.grid.log_snr("linear", 4), TypeError, r"schedule .*'linear'"),
    "karras of a name": (lambda: itf.grid.karras("linear", 4), TypeError, r"schedule .*'linear'"),
    "schedule name": (lambda: itf.schedule("cubic"), ValueError, r"linear.*'cubic'"),
    "schedule call": (lambda: itf.Linear()(1.5), ValueError, r"\bt .*1\.5"),
    "no steps": (lambda: itf.euler(itf.Linear(), 0), ValueError, r"times .*0"),
    "falling": (lambda: itf.ddim(itf.Linear(), [1.0, 0.0]), ValueError, r"times .*increas"),
    "outside": (lambda: itf.ddim(itf.Linear(), [0.0, 1.2]), ValueError, r"times .*1\.2"),
    "diffusion name": (lambda: itf.euler_maruyama(itf.Linear(), 4, "loud"), ValueError, r"diffusion .*sigma.*'loud'"),
    "reversal at 0": (lambda: itf.euler_maruyama(itf.Linear(), 4, "reversal"), ValueError, r"diffusion .*t = 0"),
    "euler at an infinite slope": (lambda: itf.euler(itf.SqrtVP(), 4), ValueError, r"t = 0"),
    "eta": (lambda: itf.ddim(itf.Linear(), 4, eta=1.5), ValueError, r"eta .*1\.5"),
    "churn": (lambda: itf.exponential(itf.Linear(), 4, churn=-1), ValueError, r"churn .*-1"),
}
M = np.ma.masked_array(X, X == 7)  # one entry of row 3
V = np.ma.masked_array(np.full(6, 0.5), [0, 0, 0, 1, 0, 0])
MASKED = {
    "data": (lambda: itf.Field(M), "data"),
    "data in a list": (lambda: itf.Field(list(M)), "data"),
    "data by __array__": (lambda: itf.Field(Opaque(M)), "data"),
    "data without a value": (lambda: itf.Field(np.ma.masked_all((3, 2))), "data"),
    "weights": (lambda: itf.Field(X, weights=V), "weights"),
    "subset": (lambda: FIELD.subset(np.ma.masked_array([0, 1], [0, 1])), "rows"),
    "posterior": (lambda: FIELD.posterior(M, 0.5), "x"),
    "jvp": (lambda: FIELD.jvp(X, 0.5, M), "u"),
    "t": (lambda: FIELD.denoiser(X, V), "t"),
    "draw": (lambda: FIELD.draw(6, V), "t"),
    "schedule": (lambda: itf.Linear()(V), "t"),
    "lam": (lambda: itf.Linear().time_at(V), "lam"),
    "custom": (lambda: itf.Custom(lambda t: np.ma.masked_array(t, t == 0.25), lambda t: 1 - t), "alpha"),
    "times": (lambda: itf.ddim(itf.Linear(), np.ma.masked_array([0.0, 0.5, 1.0], [0, 1, 0])), "times"),
    "diffusion": (
        lambda: itf.euler_maruyama(itf.Linear(), 4, lambda t: np.ma.masked_array(t, t > 0)),
        r"diffusion\(t\)",
    ),
    "commit": (lambda: dataclasses.replace(STEPS, commit=np.ma.masked_array(STEPS.commit, [0, 0, 1])), "commit"),
    "x0": (lambda: itf.sample(FIELD, STEPS, x0=M), "x0"),
    "error": (lambda: itf.sample(FIELD, STEPS, x0=X, error=np.ma.masked_all((3, 6, 2))), "error"),
    "error of a function": (lambda: itf.sample(FIELD, STEPS, x0=X, error=lambda x, t, r: M), r"error\(x, t, r\)"),
    "out": (lambda: itf.sample(FIELD, STEPS, x0=X, out=np.ma.masked_all((6, 2))), "out"),
    "model": (lambda: itf.Model(lambda x, t: M, itf.Linear()).denoiser(X, 0.5), "output"),
    "samples": (lambda: itf.memorization(M, X), "samples"),
    "rows": (lambda: itf.memorization(X, M), "data"),
    "holdout": (lambda: itf.memorization(X, X, holdout=M), "holdout"),
    "losses": (lambda: itf.optimal_loss(FIELD, V, 4), "times"),
    "trapping": (lambda: itf.theory.trapping(FIELD, M, 0.5), "x"),
    "margin": (lambda: itf.theory.margin_condition(FIELD, M, 0.5, 0.1), "x"),
    "errors": (lambda: itf.theory.estimation_bound(FIELD, STEPS, np.ma.masked_all((3, 4, 2))), "errors"),
    "concentrability": (lambda: itf.theory.concentrability(lambda x, t: M, FIELD, STEPS, 6), r"e\(x, t\)"),
}
CASES = {
    f"{group}: {name}": case
    for group, cases in {
        "data": DATA, "field": FIELD_OPTIONS, "call": CALLS, "sample": SAMPLE, "study": STUDIES, "table": TABLES,
    }.items()
    for name, case in cases.items()
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_message(case):
    call, kind, message = CASES[case]
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize("case", MASKED)
def test_masked_entries_are_refused(case):
    """What lies under a mask is no value."""
    call, name = MASKED[case]
    with pytest.raises(ValueError, match=rf"\b{name} has masked entries.*filled\(value\)"):
        call()


def test_arrays_without_masked_entries_are_arrays():
    whole = np.ma.masked_array(X)
    answer = itf.Field(whole, weights=np.ma.ones(6), backend="reference").denoiser(whole, np.ma.masked_array([0.5] * 6))
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, FIELD.denoiser(X, 0.5))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", QUERIES)
def test_message_of_queries(case, method):
    x, t, kind, message = QUERIES[case]
    with pytest.raises(kind, match=message):
        getattr(FIELD, method)(x, t)


def test_backends_are_listed():
    """An unknown name and the list of what there is."""
    from interp_fast import backends

    with pytest.raises(ValueError, match="backend") as error:
        itf.Field(X, backend="fortran")
    for name in ("auto", *backends.available()):
        assert repr(name) in str(error.value)


def test_messages_are_one_sentence_without_internals():
    """Nothing from inside leaks out: no kernel argument, no line break, no doubled full stop."""
    for name, (call, kind, _) in CASES.items():
        with pytest.raises(kind) as error:
            call()
        text = str(error.value)
        assert "\n" not in text, name
        assert ".." not in text.replace("...", ""), name
        assert text[-1] in ".?!", (name, text)
