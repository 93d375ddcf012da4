"""What an error tells one to pass instead is accepted: for arrays, lists, tensors, row sources, files."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.sparse

import interp_fast as itf
from interp_fast import _arrays

PICTURES = np.random.default_rng(4).uniform(-1, 1, (6, 2, 2, 3))
NUMBERS = np.arange(12).reshape(6, 2)
FIELD = itf.Field(NUMBERS.astype(np.float64), backend="reference")


class Store:
    """A row source as zarr 3 has them: no reshape, no astype, no length."""

    def __init__(self, rows):
        self.rows, self.shape, self.dtype = rows, rows.shape, rows.dtype

    def __getitem__(self, block):
        return self.rows[block]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.rows, dtype)


def remedy(call, data, name):
    """What is accepted in place of ``data``: the last words of the error, run as they stand."""
    with pytest.raises((TypeError, ValueError)) as caught:
        call(data)
    message = str(caught.value)
    assert message.startswith(f"{name} ")
    found = re.search(r"Pass (.*)\.$", message)
    assert found, message
    return call(eval(found[1], {"np": np, name: data}))


@pytest.mark.parametrize(
    "data",
    [
        NUMBERS,
        NUMBERS.tolist(),
        Store(NUMBERS),
        scipy.sparse.csr_array(NUMBERS / 2),
        scipy.sparse.coo_matrix(NUMBERS / 2),
    ],
    ids=["ints", "lists of ints", "store of ints", "sparse", "sparse matrix"],
)
def test_data(data):
    assert remedy(itf.Field, data, "data").N == 6


@pytest.mark.parametrize(
    "x", [NUMBERS, NUMBERS.tolist(), NUMBERS.astype(np.float16), scipy.sparse.csr_array(NUMBERS / 2)]
)
def test_queries(x):
    assert remedy(lambda x: FIELD.denoiser(x, 0.5), x, "x").shape == (6, 2)


@pytest.mark.parametrize(
    "x",
    [np.moveaxis(PICTURES, -1, 1), np.moveaxis(PICTURES, -1, 1)[0], np.moveaxis(PICTURES, -1, 1).reshape(6, 3, 4)],
    ids=["channels first", "one of them", "rows and columns together"],
)
def test_shapes(x):
    field = itf.Field(PICTURES)
    assert remedy(lambda x: field.denoiser(x, 0.5), x, "x").shape[-3:] == field.event
    torch = pytest.importorskip("torch")
    assert (
        remedy(lambda x: itf.torch.Denoiser(field)(x, 0.5), torch.from_numpy(x.copy()), "x").shape[-3:] == field.event
    )


@pytest.mark.parametrize("kind", ["half", "ints", "bfloat16", "grad", "data set"])
def test_tensors(kind):
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(NUMBERS).float()
    if kind in ("data set", "ints"):
        data = {
            "data set": lambda: torch.utils.data.TensorDataset(tensor, tensor),
            "ints": tensor.long,
        }[kind]()
        assert remedy(itf.Field, data, "data").N == 6
    if kind in ("half", "ints", "bfloat16", "grad"):
        x = {
            "half": tensor.half, "ints": tensor.long, "bfloat16": tensor.bfloat16,
            "grad": tensor.clone().requires_grad_,
        }[kind]()  # fmt: skip
        with pytest.raises(TypeError, match=r"^x .*pass x\.|^x .*Pass x\.") as caught:
            FIELD.denoiser(x, 0.5)
        found = re.search(r"[Pp]ass (x\..*)\.$", str(caught.value))
        assert isinstance(FIELD.denoiser(eval(found[1], {"x": x}), 0.5), torch.Tensor)


class Dataset:
    """What a training loop draws pairs from."""

    def __len__(self):
        return 6

    def __getitem__(self, i):
        return NUMBERS[i], i


@pytest.mark.parametrize("data", [Dataset(), {"x": NUMBERS}], ids=["data set", "dict"])
def test_what_holds_arrays_and_is_none(data):
    with pytest.raises(TypeError, match=f"^data must be an array; got {type(data).__name__}. Pass .*rows"):
        itf.Field(data)
    with pytest.raises(TypeError, match=f"^x must be an array; got {type(data).__name__}"):
        FIELD.denoiser(data, 0.5)


@pytest.mark.parametrize("data", ["rows", None, [["a", "b"]], np.array(["2020"], "M8")], ids=str)
def test_what_holds_no_numbers(data):
    with pytest.raises(TypeError, match=r"^x must be float32 or float64; .* Pass an array or a tensor of numbers\.$"):
        FIELD.denoiser(data, 0.5)


def test_a_path_is_the_array_in_the_file(tmp_path):
    """Read in stretches; also as samples. What is no such file is named."""
    rows = NUMBERS.astype(np.float32)
    path = tmp_path / "rows.npy"
    np.save(path, rows)
    want = itf.Field(rows).denoiser(rows, 0.5)
    for given in (path, str(path)):
        field = itf.Field(given)
        np.testing.assert_array_equal(field.denoiser(rows, 0.5), want)
        assert field.R == itf.Field(rows).R
    assert isinstance(_arrays.rows(path)[0], _arrays.Source)
    np.testing.assert_array_equal(itf.memorization(path, path, rng=0).d1, 0)
    np.savez(tmp_path / "rows.npz", rows)
    with pytest.raises(ValueError, match=r"^data must be .*\.npy file .*rows\.npz"):
        itf.Field(tmp_path / "rows.npz")
    with pytest.raises(FileNotFoundError, match=r"nothing\.npy"):
        itf.Field(tmp_path / "nothing.npy")
