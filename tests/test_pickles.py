"""Whatever a user holds can be sent to another process and copied: fields, models, schedules, tables, results."""

from __future__ import annotations

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from engines import BACKENDS

import interp_fast as itf

X = np.random.default_rng(5).standard_normal((40, 3)).astype(np.float32)
QUERIES = X[:4] * 0.5


def bent(t):
    return t**2


def flat(t):
    return 1 - t**2


def drift(x, t):
    return -x


class Rows:
    """A row source."""

    def __init__(self, rows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, block):
        return self.rows[block]


def denoise(field):
    return field.denoiser(QUERIES, 0.6)


def copies(thing):
    return [pickle.loads(pickle.dumps(thing)), copy.deepcopy(thing), copy.copy(thing)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (X, {"weights": np.arange(1.0, 41.0), "bandwidth": 0.1, "tol": 0.0, "threads": 1, "low_memory": True}),
        (X.astype(np.float64), {"schedule": itf.VP(0.2, 15.0)}),
        (np.arange(120, dtype=np.uint8).reshape(40, 3), {"scale": (0.1, -4.0)}),
        (Rows(X), {}),
    ],
    ids=["options", "float64", "bytes", "source"],
)
def test_a_copy_of_a_field_is_the_field(backend, rows, options):
    """The same bits, before and after rows were prepared; every property as it was."""
    field = itf.Field(rows, backend=backend, **options)
    before = copies(field)
    want = denoise(field)
    for other in [*before, *copies(field)]:
        assert denoise(other).tobytes() == want.tobytes()
        for name in ("N", "d", "R", "backend", "isa", "threads", "bandwidth", "tol", "schedule"):
            assert getattr(other, name) == getattr(field, name)
        np.testing.assert_array_equal(other.weights, field.weights)


def test_tensors_come_back_as_tensors():
    torch = pytest.importorskip("torch")
    field = pickle.loads(pickle.dumps(itf.Field(torch.from_numpy(X))))
    assert isinstance(field.draw(2, 0.5, rng=0)[0], torch.Tensor)


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_another_process_gets_the_field(start):
    field = itf.Field(X, threads=2)
    want = denoise(field)  # the pool of threads runs before the other process starts
    with multiprocessing.get_context(start).Pool(1) as pool:
        # A method goes by its field: the other process need not find this file.
        found = pool.apply_async(field.denoiser, (QUERIES, 0.6)).get(timeout=120)
    np.testing.assert_array_equal(found, want)


@pytest.mark.filterwarnings("ignore:the model.s velocity loss near the data end")  # it is no model of these data
def test_everything_else_too():
    """Schedules, tables, models, errors, keys and all results."""
    field = itf.Field(X)
    steps = itf.ddim(field.schedule, 8)
    model = itf.Model(drift, field.schedule, predicts="denoiser")
    samples = itf.sample(field, steps, 6, rng=0, keep="path", terms=True, attribution=True)
    things = [
        *(itf.schedule(name) for name in ("linear", "vp", "latent-bridge", "ve-geometric", "encoder-decoder")),
        itf.Custom(bent, flat),
        itf.Discrete([0.9, 0.5, 0.2]),
        steps,
        model,
        itf.Gaussian(X, field.schedule),
        itf.GaussianMixture([0.4, 0.6], X[:2], [1.0, 2.0], field.schedule),
        itf.perturb.constant(0.5),
        itf.perturb.inverse_density(0.1, cap=1.0),
        itf.NoiseKey(3, 4),
        field.posterior(QUERIES, 0.5, top=2),
        samples,
        itf.optimal_loss(field, [0.3, 0.6], 8, rng=0),
        itf.memorization(samples.x, X, holdout=QUERIES, rng=0),
        itf.audit(model, field, [0.3], 4, steps=itf.euler(field.schedule, 4), rng=0),
        itf.theory.trapping(field, QUERIES, 0.9),
        itf.theory.speciation_time(field),
        itf.theory.collapse_time(field, 16, rng=0),
    ]
    for thing in things:
        for other in copies(thing):
            assert repr(other) == repr(thing)


@pytest.mark.parametrize("view", ["given", "guided", "without", "tempered", "orbit", "partial"])
def test_views_and_parts_go_to_other_processes(view):
    field = itf.Field(X, labels=np.arange(40) % 4, orbit=[[2, 1, 0]])
    made = {
        "given": lambda: field.given([0, 1, 2, 3]),
        "guided": lambda: field.guided([0, 1, 2, 3], 2.0),
        "without": lambda: field.without([0, 1, 2, 3]),
        "tempered": lambda: field.tempered(2.0),
        "orbit": lambda: field,
        "partial": lambda: field.partial(QUERIES, 0.6),
    }[view]()
    arguments = () if view == "partial" else (QUERIES, 0.6)
    want = made.denoiser(*arguments)
    for other in copies(made):
        np.testing.assert_array_equal(other.denoiser(*arguments), want)


def test_joblib_and_spawn_take_methods_of_views():
    joblib = pytest.importorskip("joblib")
    view = itf.Field(X, labels=np.arange(40) % 4).guided([0, 1, 2, 3], 2.0)
    want = view.denoiser(QUERIES, 0.6)
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(view.denoiser)(QUERIES, 0.6) for _ in range(3))
    for other in found:
        np.testing.assert_array_equal(other, want)
