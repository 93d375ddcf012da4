"""What notebooks and plain terminals are shown: tables, bars, pictures, and nothing but ASCII."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from test_package import fresh

import interp_fast as itf
from interp_fast import _progress
from interp_fast._results import Record

LINEAR = itf.Linear()
X = np.random.default_rng(0).standard_normal((30, 2, 3))
Q = X[:4] + 0.1
FIELD = itf.Field(X)
MODEL = itf.Model(lambda x, t: FIELD.velocity(x, t) + 0.1, LINEAR)
STEPS = itf.ddim(LINEAR, 5)
LINEAR_FIELD = itf.Gaussian(FIELD)


def results():
    """Every kind of result, by name."""
    copies = itf.memorization(Q, FIELD, holdout=X[:5] + 0.3, k=3)
    out = itf.sample(FIELD, itf.ddpm(LINEAR, 5), 4, rng=0, keep="path", terms=True)
    theory = itf.theory
    found = [
        FIELD.posterior(Q, 0.5), LINEAR_FIELD.posterior(Q, 0.5), copies, copies.background, out, out.terms,
        itf.compare(MODEL, FIELD, [0.3, 0.6], 10, baselines={"linear": LINEAR_FIELD}, rng=0),
        itf.audit(MODEL, FIELD, [0.3, 0.6], 30, holdout=X[:5] + 0.3, rng=0), itf.nearest(Q, FIELD),
        itf.optimal_loss(FIELD, [0.3, 0.6], 20, rng=0), theory.trapping(FIELD, Q, 0.9), theory.dominance(FIELD, 0.1),
        theory.margin_condition(FIELD, Q, 0.9, 0.01), theory.discretization_bound(FIELD, STEPS, Q),
        theory.estimation_bound(FIELD, STEPS, np.full((5, 4, 2, 3), 0.1)), theory.amplification(FIELD, STEPS, Q),
        theory.concentrability(MODEL, FIELD, STEPS, 5, rng=0), theory.endpoint_law(LINEAR, STEPS),
        theory.speciation_time(FIELD), theory.collapse_time(FIELD, 16, rng=0),
    ]  # fmt: skip
    return {type(one).__name__: one for one in found}


RESULTS = results()
# Those with a curve, a distribution or points to see; others are a few numbers, or one for each query.
SEEN = {
    "Samples", "Terms", "Comparison", "Audit", "OptimalLoss", "Memorization", "Background", "Neighbours",
    "Amplification",
    "Concentrability", "EstimationBound", "SpeciationTime", "CollapseTime",
}  # fmt: skip


class Table(HTMLParser):
    """Text of the cells; fails where a tag is left open."""

    def __init__(self, page):
        super().__init__()
        self.cells, self.open = [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("th", "td"):
            self.cells[-1] += data


def test_every_result_is_tried():
    known = set()
    todo = [Record]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        known.add(kind.__name__)
    assert known - {"Record", "ExperimentResult"} <= set(RESULTS) | {name for name in known if name.startswith("_")}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_tables(name):
    """The lines that print shows, as rows; only ASCII anywhere."""
    result = RESULTS[name]
    cells = Table(result._repr_html_()).cells
    lines = [line.split(None, 1) for line in repr(result).splitlines() if line.startswith("  ")]
    assert list(map(list, zip(cells[::2], cells[1::2], strict=True))) == [[k, v] for k, v in lines]
    assert repr(result).isascii()
    assert result._repr_html_().isascii()


def test_an_audit_speaks_first():
    page = RESULTS["Audit"]._repr_html_()
    assert page.startswith(f"<p>{RESULTS['Audit'].summary.split(':')[0]}: ")
    assert "+-" in page


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        (FIELD, {"N": "30", "event": "(2, 3)", "d": "6", "rows": "float64", "schedule": "Linear()"}),
        (LINEAR_FIELD, {"components": "1", "event": "(2, 3)", "schedule": "Linear()"}),
        (MODEL, {"fn": "<lambda>", "predicts": "velocity", "schedule": "Linear()"}),
    ],
    ids=["Field", "Gaussian", "Model"],
)
def test_fields_show_their_facts(field, facts):
    """Escaped: a name may hold what HTML takes for a tag."""
    page = field._repr_html_()
    cells = Table(page).cells
    assert facts.items() <= dict(zip(cells[::2], cells[1::2], strict=True)).items()
    assert "<lambda>" not in page


@pytest.mark.parametrize("name", RESULTS)
def test_plots(name):
    result = RESULTS[name]
    assert hasattr(result, "plot") == (name in SEEN)
    if name in SEEN:
        pytest.importorskip("matplotlib")
        from matplotlib.figure import Figure

        ax = Figure().subplots()
        assert result.plot(ax=ax) is ax
        assert ax.has_data()
        assert ax.get_xlabel()


def test_bars_in_notebooks(monkeypatch, capsys):
    """A bar of tqdm where cells are shown, the line elsewhere and where there is no tqdm."""
    made = []

    class Bar:
        def __init__(self, total, desc):
            self.n, self.total, self.desc, self.closed = 0, total, desc, False
            made.append(self)

        def update(self, more):
            self.n += more

        def close(self):
            self.closed = True

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    itf.sample(FIELD, STEPS, 2, progress=True)
    assert made == []
    assert "sampling: row 5 of 5" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    itf.sample(FIELD, STEPS, 2, progress=True)
    assert [(bar.n, bar.total, bar.desc, bar.closed) for bar in made] == [(5, 5, "sampling: row", True)]
    assert capsys.readouterr().err == ""
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert _progress.reporter(True, "data: row")(1, 1) is None
    assert "data: row 1 of 1" in capsys.readouterr().err


def test_results_print_where_there_is_only_ascii():
    code = """
import numpy as np, interp_fast as itf
field = itf.Field(np.random.default_rng(0).standard_normal((30, 6)))
model = itf.Model(lambda x, t: field.velocity(x, t) + 0.1, itf.Linear())
print(itf.audit(model, field, [0.3, 0.6], 30, rng=0))
print(itf.compare(model, field, [0.3], 10, rng=0), field)
"""
    done = fresh(code, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "+-" in done.stdout
