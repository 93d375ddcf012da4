"""Class labels in the torch modules: each query answered by the rows of its class, built by hand."""

from __future__ import annotations

import numpy as np
import pytest

import interp_fast as itf

torch = pytest.importorskip("torch")

ROWS = np.random.default_rng(0).standard_normal((30, 4))
NAMES = np.array([2, 5, 9])
FIELD = itf.Field(ROWS, labels=NAMES[np.arange(30) % 3])
X = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 4)))
WANTED = torch.tensor([5, 2, 9, 5, 2, 2])
ONE_HOT = torch.eye(3)[torch.tensor([1, 0, 2, 1, 0, 0])]


def by_hand(method, level, classes=WANTED, x=X):
    """Of a separate field of the rows of each query's class, or of all rows where that is None."""
    out = []
    for one, c in zip(x.numpy(), classes, strict=True):
        rows = ROWS if c is None else ROWS[NAMES[np.arange(30) % 3] == int(c)]
        at = itf.Field(rows)
        out.append(
            getattr(at.at(1.0, level) if method != "velocity" else at, method)(one, *[level][method != "velocity" :])
        )
    return torch.from_numpy(np.array(out))


@pytest.mark.parametrize(
    "labels", [WANTED, ONE_HOT, WANTED.int(), ONE_HOT.double()], ids=["int64", "floats", "int32", "doubles"]
)
def test_each_query_sees_its_class(labels):
    denoiser = itf.torch.Denoiser(FIELD)
    torch.testing.assert_close(denoiser(X, 0.7, labels), by_hand("denoiser", 0.7), rtol=1e-12, atol=1e-12)
    noise = itf.torch.Noise(FIELD)
    torch.testing.assert_close(noise(X, 0.7, cond=labels), by_hand("noise", 0.7), rtol=1e-12, atol=1e-12)
    velocity = itf.torch.Velocity(FIELD, order="tx")
    for name in ("y", "labels"):
        got = velocity(0.6, X, **{name: labels})
        torch.testing.assert_close(got, by_hand("velocity", 0.6), rtol=1e-12, atol=1e-12)
    levels = itf.torch.Noise(FIELD, itf.Discrete.ddpm())
    same = [
        itf.torch.Noise(FIELD.given(int(c)), itf.Discrete.ddpm())(x[None], 300).sample
        for x, c in zip(X, WANTED, strict=True)
    ]
    torch.testing.assert_close(levels(X, 300, class_labels=labels).sample, torch.cat(same), rtol=1e-12, atol=1e-12)


def test_a_row_of_zeros_is_unconditional():
    labels = ONE_HOT.clone()
    labels[[1, 4]] = 0
    classes = [None if k in (1, 4) else c for k, c in enumerate(WANTED)]
    got = itf.torch.Denoiser(FIELD)(X, 0.7, labels)
    torch.testing.assert_close(got, by_hand("denoiser", 0.7, classes), rtol=1e-12, atol=1e-12)
    none = itf.torch.Denoiser(FIELD)(X, 0.7, torch.zeros(6, 3))
    assert torch.equal(none, itf.torch.Denoiser(FIELD)(X, 0.7))


def test_guidance_as_smalldiffusion_has_it():
    noise = itf.torch.Noise(FIELD)
    one, all_rows = by_hand("noise", 0.7), by_hand("noise", 0.7, [None] * 6)
    got = noise.predict_eps_cfg(X, 0.7, WANTED, 2.0)
    torch.testing.assert_close(got, one + 2.0 * (one - all_rows), rtol=1e-11, atol=1e-11)
    assert torch.equal(noise.predict_eps_cfg(X, 0.7, None, 2.0), noise(X, 0.7))


def test_gradients_in_points_and_levels():
    denoiser, velocity = itf.torch.Denoiser(FIELD), itf.torch.Velocity(FIELD)
    x, level = X.clone().requires_grad_(), torch.full((6,), 0.8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, s: denoiser(x, s, ONE_HOT), (x, level))
    assert torch.autograd.gradcheck(lambda x, t: velocity(x, t, y=WANTED), (x, level))


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (torch.tensor([5, 2, 9, 5, 2, 3]), r"class_labels must name classes .*; got 3\."),
        (torch.tensor([5, 2]), r"class_labels must have shape \(6,\), or \(6, 3\) one-hot; got \(2,\)\."),
        (2 * ONE_HOT, "class_labels must be one-hot"),
        (torch.ones(6, 3), "class_labels must be one-hot"),
    ],
    ids=["unknown", "short", "twos", "several"],
)
def test_bad_labels(labels, match):
    with pytest.raises(ValueError, match=match):
        itf.torch.Denoiser(FIELD)(X, 0.7, labels)


def test_two_names_for_labels():
    with pytest.raises(ValueError, match="y and labels say the same; pass one"):
        itf.torch.Velocity(FIELD)(X, 0.5, y=WANTED, labels=WANTED)
