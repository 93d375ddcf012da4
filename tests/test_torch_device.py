"""What crosses between the host and a device of torch: queries and answers do not, and of rows that do not fit there
each stretch does once in a call. Tensors on the CPU stand for those elsewhere: what moves numbers is the same."""

from __future__ import annotations

import numpy as np
import problems
import pytest

import interp_fast as itf
from interp_fast.backends.streamed import Held

torch = pytest.importorskip("torch", reason="torch is not installed")

from interp_fast.backends import torch_device  # noqa: E402

LINEAR = itf.Linear()
ROWS = problems.problem("digits").rows[:300]
METHODS = ("denoiser", "velocity", "score", "noise", "log_density", "divergence")


# Queries and answers


@pytest.fixture
def crossings(monkeypatch):
    """How many numbers each array had that was read from a tensor, or made one."""
    seen = []

    def counting(tensor_of, size_of):
        def call(argument, *more):
            seen.append(size_of(argument))
            return tensor_of(argument, *more)

        return call

    monkeypatch.setattr(torch.Tensor, "numpy", counting(torch.Tensor.numpy, torch.Tensor.numel))
    monkeypatch.setattr(torch, "from_numpy", counting(torch.from_numpy, np.size))
    return seen


def answers(field, x, u):
    """Every method of a field, at one time and at several, at levels and at the end."""
    t = np.linspace(0.2, 0.9, len(x)) if x.ndim > 1 else 0.7
    found = {f"{name} at {time}": getattr(field, name)(x, time) for name in METHODS for time in (0.7, t)}
    found["jvp"] = field.jvp(x, t, u)
    level = field.at(1.0, 0.4)
    found |= {f"level {name}": getattr(level, name)(x) for name in ("denoiser", "score", "noise")}
    for name, time in (("posterior", t), ("end", 1.0)):
        found |= {f"{name} {key}": value for key, value in vars(field.posterior(x, time, 2)).items()}
    return found | {"D at the end": field.denoiser(x, 1.0), "p at the end": field.log_density(x, 1.0)}


@pytest.mark.parametrize("bandwidth", [0.0, 0.2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_queries_stay_where_they_are(crossings, dtype, bandwidth):
    """The same bits as of arrays, while no more than some numbers for each query cross."""
    flow = itf.Field(ROWS.astype(dtype), backend="torch", bandwidth=bandwidth, labels=np.arange(300) % 3)
    x, _ = flow.draw(6, 0.7, rng=1)
    x[0] = ROWS[3].astype(dtype)  # where log p is infinite at the end
    u = np.random.default_rng(2).standard_normal(x.shape).astype(dtype)
    for field in (flow, flow.given(1)):
        for q, v in ((x, u), (x[1], u[1])):
            wanted, (q_there, v_there) = answers(field, q, v), (torch.from_numpy(q), torch.from_numpy(v))
            crossings.clear()
            got = answers(field, q_there, v_there)
            assert 0 < max(crossings) <= 2 * len(x) < field.d
            for name, value in wanted.items():
                assert isinstance(got[name], torch.Tensor), name
                assert got[name].numpy().dtype == np.asarray(value).dtype, name
                np.testing.assert_array_equal(got[name].numpy(), value, err_msg=name)


def test_gradients_in_points_stay_too(crossings):
    flow = itf.Field(ROWS, backend="torch")
    x = torch.from_numpy(flow.draw(4, 0.6, rng=1)[0]).requires_grad_()
    itf.torch.Denoiser(flow)(x.detach(), 0.7)  # prepares the rows
    crossings.clear()
    (found,) = torch.autograd.grad(itf.torch.Denoiser(flow)(x, 0.7).sum(), x)
    assert 0 < max(crossings) <= len(x)
    plain = itf.Field(ROWS, backend="reference").at(1.0, 0.7)
    np.testing.assert_allclose(found, plain.jvp(x.detach().numpy(), np.ones(x.shape)), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("mode", ["inference_mode", "no_grad", "autocast", "medium", "default device"])
def test_modes_of_torch_change_no_bit(mode):
    flow = itf.Field(ROWS.astype(np.float32), backend="torch")
    x = torch.from_numpy(flow.draw(5, 0.7, rng=1)[0])
    wanted = [flow.velocity(x, 0.7), flow.posterior(x, 0.7, 2).top_weight, flow.jvp(x, 0.7, x)]
    modes = {
        "inference_mode": torch.inference_mode, "no_grad": torch.no_grad,
        "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16), "default device": lambda: torch.device("meta"),
    }  # fmt: skip
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium" if mode == "medium" else before)
        with modes.get(mode, torch.enable_grad)():
            got = [flow.velocity(x, 0.7), flow.posterior(x, 0.7, 2).top_weight, flow.jvp(x, 0.7, x)]
    finally:
        torch.set_float32_matmul_precision(before)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_layouts_of_tensors():
    """Channels last, slices, transposed: as the same numbers in a row. Queries are not written to."""
    flow = itf.Field(ROWS.astype(np.float32).reshape(300, 1, 8, 8), backend="torch")
    x = torch.from_numpy(flow.draw(4, 0.7, rng=1)[0])
    wanted, before = flow.velocity(x, 0.7), x.clone()
    apart = torch.zeros(8, 1, 8, 16)
    apart[::2, ..., ::2] = x
    turned = x.transpose(2, 3).contiguous().transpose(2, 3)
    for given in (x.to(memory_format=torch.channels_last), apart[::2, ..., ::2], turned, torch.nn.Parameter(x, False)):
        assert torch.equal(flow.velocity(given, 0.7), wanted)
    assert torch.equal(flow.velocity(x.reshape(4, 64), 0.7), wanted.reshape(4, 64))
    assert torch.equal(x, before)
    assert flow.velocity(x[:0], 0.7).shape == (0, 1, 8, 8)
    mixed = flow.jvp(x, 0.7, before.numpy()), flow.jvp(before.numpy(), 0.7, x)
    assert isinstance(mixed[0], torch.Tensor)
    assert isinstance(mixed[1], np.ndarray)
    np.testing.assert_array_equal(*mixed)


def test_bad_queries_on_a_device():
    flow = itf.Field(ROWS.astype(np.float32), backend="torch")
    x = torch.zeros(3, 64)
    bad = {
        "x must be finite; got nan in row 1, column 2": torch.where(torch.arange(192).view(3, 64) == 66, torch.nan, x),
        r"x must have shape \(M, 64\) or \(64,\); got \(3, 7\)": x[:, :7],
        r"x must have shape .*; got \(\)": torch.tensor(1.0),
        r"x must be at most 2\*\*250 .* in size; got 1e\+80": torch.full((3, 64), 1e80, dtype=torch.float64),
    }
    for match, given in bad.items():
        with pytest.raises(ValueError, match=match):
            flow.velocity(given, 0.5)
    kinds = {
        r"x must be float32 or float64; got int64\. Pass x\.float\(\)": x.long(),
        r"x must be float32 or float64; got float16\. Pass x\.float\(\)": x.half(),
        r"x is bfloat16, which queries cannot be; pass x\.float\(\)": x.bfloat16(),
        r"x is a tensor that requires grad.*x\.detach\(\)": x.clone().requires_grad_(),
    }
    for match, given in kinds.items():
        with pytest.raises(TypeError, match=match):
            flow.velocity(given, 0.5)
    with pytest.raises(ValueError, match=r"u must have the shape of x, \(3, 64\); got \(2, 64\)"):
        flow.jvp(x, 0.5, x[:2])
    with pytest.raises(ValueError, match=r"t must avoid 1\.0: the velocity does not exist where sigma = 0"):
        flow.velocity(x, 1.0)
    with pytest.warns(UserWarning, match="x cannot hold draws"):
        flow.velocity(x + 1e6, 0.5)
    large = itf.Field(torch.full((2, 64), 3e38), backend="torch")
    with pytest.raises(ValueError, match=r"score must stay within 3\.4e\+38, the range of float32 results"):
        large.score(x.double(), 0.999)


# Rows that do not fit


STRETCH = 5 << 10  # bytes: of float32 rows of 64 coordinates, twenty


@pytest.fixture
def full(monkeypatch):
    """A device with room for some of the rows; and how many rows were sent there, in each stretch."""
    sent, send = [], torch_device.send

    def counted(rows, device):
        sent.append(len(rows))
        return send(rows, device)

    monkeypatch.setattr(torch_device, "_ON_CPU", 28 * STRETCH)
    monkeypatch.setattr(torch_device, "free", lambda device: 32 * STRETCH)
    monkeypatch.setattr(torch_device, "send", counted)
    return sent


def stored(dtype):
    if dtype == "bfloat16":
        return torch.from_numpy(ROWS).bfloat16()
    return np.clip((ROWS + 1) * 100, 0, 255).astype(np.uint8) if dtype == "uint8" else ROWS.astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16", "bfloat16"])
def test_rows_that_do_not_fit(full, monkeypatch, dtype):
    """They go there stretch by stretch, each once in a call, as they are stored; answers are those of rows that fit."""
    rows, w, labels = stored(dtype), np.linspace(1, 3, 300), np.arange(300) // 100
    options = {"backend": "torch", "weights": w, "labels": labels}
    flow = itf.Field(rows, **options)
    with monkeypatch.context() as roomy:
        roomy.setattr(torch_device, "free", lambda device: None)
        here = itf.Field(rows, **options)
    data = flow._oracle.training_set
    assert isinstance(data.rows, Held)
    given = rows.view(torch.int16).numpy().view(np.uint16) if dtype == "bfloat16" else rows
    assert np.shares_memory(data.rows[3:9], given)
    assert not isinstance(here._oracle.training_set.rows, Held)
    x, index = here.draw(6, 0.7, rng=1)
    u = np.ones_like(x)
    tight = 1e-9 if dtype == "float64" else 1e-4
    for t in (0.0, 0.5, np.linspace(0.3, 0.95, 6), 1.0):
        full.clear()
        got, want = flow.posterior(x, t, 3), here.posterior(x, t, 3)
        assert full == [len(data.rows[cut]) for cut, _ in data.rows.ahead()]
        assert sum(full) == 300
        assert max(full) * data.rows.dtype.itemsize * 64 <= STRETCH
        for name in ("mean", "log_norm", "ess", "gap", "top_weight"):
            np.testing.assert_allclose(getattr(got, name), getattr(want, name), rtol=tight, atol=tight, err_msg=name)
        np.testing.assert_array_equal(got.index, want.index)
    np.testing.assert_allclose(flow.jvp(x, 0.6, u), here.jvp(x, 0.6, u), rtol=10 * tight, atol=tight)
    np.testing.assert_array_equal(itf.nearest(x, flow).index, itf.nearest(x, here).index)
    np.testing.assert_allclose(flow.R, here.R, rtol=1e-12)
    steps = itf.ddpm(LINEAR, 3)
    outs = [itf.sample(one, steps, 3, rng=2).x for one in (flow, here)]
    np.testing.assert_allclose(*outs, rtol=0, atol=tight)
    full.clear()
    of_class = flow.given(1).velocity(x, 0.7)
    assert sum(full) == (100 if data.rows.dtype.itemsize > 2 else 0)  # a class of fewer bits fits again
    np.testing.assert_allclose(of_class, here.given(1).velocity(x, 0.7), rtol=tight, atol=tight)
    seen = flow.without(index).denoiser(x, 0.7)
    np.testing.assert_allclose(seen, here.without(index).denoiser(x, 0.7), rtol=tight, atol=tight)


def test_images_of_rows_that_do_not_fit(full, monkeypatch):
    rows = ROWS.astype(np.float32).reshape(300, 8, 8)
    flow = itf.Field(rows, orbit="hflip", backend="torch", low_memory=True)
    plain = itf.Field(rows, orbit="hflip", backend="reference")
    x, _ = plain.draw(3, 0.6, rng=1)
    np.testing.assert_allclose(flow.velocity(x, 0.6), plain.velocity(x, 0.6), rtol=1e-4, atol=1e-4)
    assert sum(full) == 300  # read once, for the queries at both elements


def test_tensors_that_do_not_fit(full):
    """Of the host, rows on it or queries: answers in kind."""
    flow = itf.Field(torch.from_numpy(ROWS), backend="torch", device="cpu")
    x, _ = flow.draw(3, 0.7, rng=1)
    assert isinstance(x, torch.Tensor)
    got = flow.velocity(x, 0.7)
    assert isinstance(got, torch.Tensor)
    want = itf.Field(ROWS, backend="reference").velocity(x.numpy(), 0.7)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    assert sum(full) == 300


def test_a_copy_that_does_not_fit_is_not_made(monkeypatch):
    """Of rows that do: the same bits, from what is formed anew in each call."""
    rows = ROWS.astype(np.float32)
    kept = itf.Field(rows, backend="torch")
    want = kept.denoiser(rows[:3], 0.7)
    room = rows.nbytes + 16 * len(rows)
    monkeypatch.setattr(torch_device, "free", lambda device: torch_device.workspace(device) + room)
    whole = itf.Field(rows, backend="torch")
    assert isinstance(whole._oracle.training_set.rows, np.ndarray)
    monkeypatch.setattr(torch_device, "free", lambda device: torch_device.workspace(device) + rows.nbytes - 1)
    np.testing.assert_array_equal(whole.denoiser(rows[:3], 0.7), want)
    assert kept._oracle.training_set.prepared.centred is not None
    assert whole._oracle.training_set.prepared.centred is None


def test_rows_wait_for_each_other(monkeypatch):
    """On CUDA: copied in a stream of their own from pinned memory; what uses them waits, and holds on to them."""
    told = []

    class Stream:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            told.append(f"in {self.name}")

        def __exit__(self, *exc):
            told.append(f"out of {self.name}")

        def record_event(self):
            return "arrived"

        def wait_event(self, event):
            told.append(f"{self.name} waits until {event}")

    class Rows:
        device = "cuda:0"

        def pin_memory(self):
            told.append("pinned")
            return self

        def to(self, device, non_blocking):
            told.append(f"copied to {device}, {non_blocking}")
            return self

        def record_stream(self, stream):
            told.append(f"held by {stream.name}")

    rows = Rows()
    monkeypatch.setattr(torch_device, "stored", lambda array: rows)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream("copies"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream("products"))
    torch_device._copies.cache_clear()
    try:
        sent = torch_device.send(np.zeros((2, 3), np.float32), torch.device("cuda:0"))
        assert told == ["in copies", "pinned", "copied to cuda:0, True", "out of copies"]
        told.clear()
        assert sent.tensor is rows
        assert told == ["products waits until arrived", "held by products"]
    finally:
        torch_device._copies.cache_clear()
