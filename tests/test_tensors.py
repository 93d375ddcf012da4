"""Tensors: taken without a copy, answered in kind. A stand-in has what the package uses of torch's interface."""

import sys
import types

import numpy as np
import pytest

import interp_fast as itf


class Tensor:
    """A CPU tensor over a NumPy array."""

    requires_grad = False
    device = types.SimpleNamespace(type="cpu")

    def __init__(self, a, dtype=None):
        self._a, self.dtype, self.shape, self.ndim = a, dtype or f"torch.{a.dtype}", a.shape, a.ndim

    def numpy(self):
        assert self.dtype != "torch.bfloat16"
        return self._a

    def view(self, dtype):
        return Tensor(self._a.view(np.int16)) if dtype == "torch.int16" else NotImplemented

    def tolist(self):
        return self._a.tolist()

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._a, dtype)

    def __dlpack__(self, **options):
        return self._a.__dlpack__(**options)


class Away(Tensor):
    """A tensor on another device: its numbers are had by a copy of it alone."""

    device = types.SimpleNamespace(type="cuda")

    def cpu(self):
        return Tensor(self._a)

    def numpy(self):
        raise TypeError

    __array__ = __dlpack__ = numpy


Tensor.__module__ = Away.__module__ = "torch"
ROWS = np.random.default_rng(5).standard_normal((12, 3)).astype(np.float32)
X = ROWS[:2] * np.float32(0.5)


@pytest.fixture(autouse=True)
def torch(monkeypatch):
    module = types.ModuleType("torch")
    module.bfloat16, module.int16, module.from_numpy = "torch.bfloat16", "torch.int16", Tensor
    monkeypatch.setitem(sys.modules, "torch", module)


def same(got, wanted):
    assert isinstance(got, Tensor)
    assert got.numpy().dtype == np.asarray(wanted).dtype
    np.testing.assert_array_equal(got.numpy(), wanted)


@pytest.mark.parametrize("x", [X, X[0]], ids=["two", "one"])
def test_answers_to_tensors_are_tensors(x):
    field, tensors = itf.Field(ROWS), itf.Field(Tensor(ROWS))
    for name in ("denoiser", "velocity", "score", "noise", "log_density", "divergence"):
        same(getattr(field, name)(Tensor(x), 0.5), getattr(field, name)(x, 0.5))
        assert not isinstance(getattr(tensors, name)(x, 0.5), Tensor), name  # in the kind of the query
    same(field.jvp(Tensor(x), 0.5, Tensor(x)), field.jvp(x, 0.5, x))
    post, wanted = field.posterior(Tensor(x), 0.5, top=2), field.posterior(x, 0.5, top=2)
    for name, value in vars(wanted).items():
        same(getattr(post, name), value)
    assert repr(post) == repr(wanted)
    assert post.to_dict() == wanted.to_dict()


def test_samples_and_draws_of_tensors_are_tensors():
    field, tensors = itf.Field(ROWS), itf.Field(Tensor(ROWS))
    for got, wanted in zip(tensors.draw(4, 0.3, rng=1), field.draw(4, 0.3, rng=1), strict=True):
        same(got, wanted)
    steps = itf.ddpm(field.schedule, 6)
    options = {"rng": 2, "keep": "path", "terms": True, "attribution": True}
    got, wanted = itf.sample(tensors, steps, 3, **options), itf.sample(field, steps, 3, **options)
    for name in ("x", "index", "path", "path_times", "attribution_dropped", "commit_time", "certificate"):
        same(getattr(got, name), getattr(wanted, name))
    for name, value in vars(wanted.terms).items():
        same(getattr(got.terms, name), value)
    assert "torch" not in repr(got)
    out = np.empty((3, 3), np.float32)
    assert itf.sample(field, steps, rng=2, x0=Tensor(ROWS[:3]), out=Tensor(out)).x.numpy() is out


def test_models_see_tensors():
    seen = []

    def fn(x, t):
        seen.append((type(x), x.dtype, type(t)))
        return Tensor(0.5 * x.numpy())

    model, field = itf.Model(fn, itf.Linear(), "denoiser"), itf.Field(Tensor(ROWS))
    same(model.noise(Tensor(X), 0.5), (X - 0.25 * X) / np.float32(0.5))
    same(model.denoiser(Tensor(X), Tensor(np.array([0.2, 0.3]))), 0.5 * X)
    assert seen == [(Tensor, "torch.float32", float), (Tensor, "torch.float32", Tensor)]
    steps = itf.ddim(field.schedule, 5)
    itf.sample(model, steps, 3, oracle=field, rng=0)
    itf.audit(model, field, 5, 10, holdout=Tensor(X), rng=0)
    itf.theory.concentrability(model, field, steps, 10, rng=0)
    itf.theory.collapse_time(field, 16, rng=0)
    itf.theory.margin_condition(field, Tensor(X), 0.5, 0.1)
    assert {kind for kind, _, _ in seen} == {Tensor}


def test_bfloat16_tensors_are_read_through_their_bits():
    bits = (ROWS.view(np.uint32) >> 16).astype(np.uint16)
    cut = (bits.astype(np.uint32) << 16).view(np.float32)
    data = Tensor(bits.view(np.int16), "torch.bfloat16")
    np.testing.assert_array_equal(itf.Field(data).denoiser(X, 0.9), itf.Field(cut).denoiser(X, 0.9))
    with pytest.raises(TypeError, match=r"x is bfloat16.*x\.float\(\)"):
        itf.Field(ROWS).denoiser(data, 0.5)


def test_tensors_that_cannot_be_read_name_the_remedy(monkeypatch):
    tracked, away = Tensor(X), Away(X)
    tracked.requires_grad = True
    with pytest.raises(TypeError, match=r"x is a tensor that requires grad.*x\.detach\(\)"):
        itf.Field(ROWS).denoiser(tracked, 0.5)
    with pytest.raises(TypeError, match=r"x lives on .*x\.cpu\(\)"):
        itf.Field(ROWS).denoiser(away, 0.5)


def test_shorts_are_no_bfloat16():
    with pytest.raises(TypeError, match=r"data must be float32.*got uint16"):
        itf.Field(Tensor(np.full((3, 2), 1000, np.uint16)))


def test_times_weights_and_labels_live_anywhere():
    """Beside the rows they are small, and where queries are born times are as well."""
    weights, labels, t, row = np.arange(1.0, 13.0), np.arange(12) % 3, np.array([0.2, 0.7]), np.array([3, 5])
    here = itf.Field(ROWS, weights=weights, labels=labels)
    away = itf.Field(ROWS, weights=Away(weights), labels=Away(labels))
    np.testing.assert_array_equal(away.velocity(X, Away(t)), here.velocity(X, t))
    np.testing.assert_array_equal(away.given(Away(row % 3)).denoiser(X, 0.5), here.given(row % 3).denoiser(X, 0.5))
    np.testing.assert_array_equal(away.without(Away(row)).denoiser(X, 0.5), here.without(row).denoiser(X, 0.5))
    with pytest.raises(ValueError, match=r"^t must lie in \[0, 1\]"):
        here.velocity(X, Away(t + 1))
