"""What a result, a schedule and a module say of themselves: JSON, names, ``dir``."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

import interp_fast as itf

X = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def refuse(name):
    raise AssertionError(name)


def test_json_has_no_infinities():
    """At t = 1 the posterior of a row has an infinite gap: the dict keeps it, JSON has null there."""
    post = itf.Field(X).posterior(X[0], 1.0)
    assert post.to_dict()["gap"] == np.inf
    stored = json.loads(post.to_json(), parse_constant=refuse)
    assert stored["gap"] is None
    assert stored["mean"] == [0.0, 0.0]
    assert stored["index"] == 0


def test_every_result_is_json():
    field = itf.Field(X)
    steps = itf.ddim(field.schedule, 8)
    out = itf.sample(field, steps, 3, rng=0, terms=True, attribution=True)
    results = [
        out,
        out.terms,
        steps,
        itf.optimal_loss(field, [0.0, 0.5], 4, rng=0),
        itf.memorization(out.x, X, rng=0),
        itf.theory.dominance(field, 0.1),
        itf.theory.endpoint_law(field.schedule, steps),
    ]
    for result in results:
        assert set(json.loads(result.to_json(), parse_constant=refuse)) == set(result.to_dict())


def bent(t):
    return t**2


def test_functions_are_called_by_their_names():
    """No addresses: a schedule of functions and a model print the same in every process."""
    schedule = itf.Custom(bent, lambda t: 1 - t**2)
    assert repr(schedule) == "Custom(alpha=bent, sigma=<lambda>)"
    assert repr(itf.Model(bent, schedule)) == f"Model(bent, {schedule!r}, predicts='velocity')"

    class Network:
        def __call__(self, x, t):
            return x

    assert repr(itf.Model(Network(), itf.Linear())) == "Model(Network, Linear(), predicts='velocity')"


@pytest.mark.parametrize("module", [itf, itf.grid, itf.perturb, itf.theory, itf.experiments], ids=lambda m: m.__name__)
def test_dir_lists_the_public_names(module):
    listed = {name for name in dir(module) if not name.startswith("__")}
    assert listed == set(module.__all__)
    assert not any(
        inspect.ismodule(getattr(module, name)) for name in listed - {"experiments", "grid", "perturb", "theory"}
    )
