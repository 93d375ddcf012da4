"""Parquet of numbers as rows: with pyarrow what was written, without it one sentence."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from interp_fast._cli import main
from interp_fast._datasets import InputError, read_rows

ROWS = np.random.default_rng(0).standard_normal((12, 5))


def test_without_pyarrow_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    assert main(["memorization", "rows.parquet", "digits"]) == 2
    said = capsys.readouterr().err
    wanted = "rows.parquet needs pyarrow, which is not installed: pip install pyarrow, or save the table as .npy."
    assert said == f"interp-fast: error: {wanted}\n"


@pytest.fixture
def write(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    from pyarrow import parquet

    def write(columns, **options):
        parquet.write_table(pa.table(columns), tmp_path / "rows.parquet", **options)
        return str(tmp_path / "rows.parquet")

    return write


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int32, np.int64])
def test_columns(write, dtype):
    rows = (10 * ROWS).astype(dtype)
    got, _ = read_rows(write({f"c{k}": rows[:, k] for k in range(5)}, row_group_size=5))
    assert got.dtype == (dtype if dtype in (np.float64, np.float32) else np.float64)
    assert np.array_equal(got, rows)


@pytest.mark.parametrize("kind", ["list_", "large_list", "fixed"])
def test_lists(write, kind):
    import pyarrow as pa

    numbers = pa.list_(pa.float32(), 5) if kind == "fixed" else getattr(pa, kind)(pa.float32())
    column = pa.array(ROWS.astype(np.float32).tolist(), numbers)
    got, _ = read_rows(write({"x": column}, row_group_size=5))
    assert np.array_equal(got, ROWS.astype(np.float32))


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"a": [1.0, None], "b": [1.0, 2.0]}, "its column a has 1 missing values"),
        (
            {"a": [1.0, 2.0], "label": ["cat", "dog"]},
            "its column label holds string and must hold numbers; leave it out",
        ),
        ({"a": [[1.0, 2.0], [3.0]]}, "its column a has lists of several lengths"),
        ({"a": [[1.0, None], [3.0, 4.0]]}, "its column a has 1 missing values"),
        ({"a": [[1.0], [3.0]], "b": [1.0, 2.0]}, "its column a holds list"),
        ({"a": np.empty(0), "b": np.empty(0)}, "must hold an array of shape"),
    ],
)
def test_what_is_no_table_of_numbers(write, columns, sentence):
    with pytest.raises(InputError) as caught:
        read_rows(write(columns))
    assert sentence in str(caught.value)


def test_broken(write, tmp_path):
    path = write({"a": [1.0]})
    (tmp_path / "rows.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:50])
    with pytest.raises(InputError, match="could not be read as Parquet"):
        read_rows(path)
