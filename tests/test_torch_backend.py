"""What is the torch backend's own: devices, precision settings, rows that stay where they are, sums over all rows.

That it keeps the kernel contract and the accuracy table is for the tests of all backends to say, among which it is
wherever torch is installed. Tensors on the CPU stand for those elsewhere: what moves numbers is the same.
"""

from __future__ import annotations

import pickle
import re
import threading
from fractions import Fraction

import numpy as np
import oracle
import problems
import pytest
from support.kernel import PER_QUERY, blank, posterior, prepare
from support.measure import Errors, measure

import interp_fast as itf
from interp_fast import _arrays, _check, _random, _tensors, backends
from interp_fast.backends import State

torch = pytest.importorskip("torch", reason="torch is not installed")

from interp_fast.backends import (  # noqa: E402
    torch_device,
    torch_kernels,
    torch_near,
    torch_noise,
    torch_rows,
    torch_sweep,
)  # fmt: skip

LINEAR = itf.Linear()
KERNELS = backends.get("torch")[1]


def field(dtype="float32", **options):
    return itf.Field(problems.problem("long").rows.astype(dtype), backend="torch", **options)


@pytest.fixture
def elsewhere(monkeypatch):
    """Tensors on the CPU are taken for tensors on a device of their own."""
    for module in (_arrays, _tensors):
        monkeypatch.setattr(module, "is_elsewhere", _tensors.is_tensor)


# Devices


def test_device_of_a_field():
    rows = np.zeros((3, 2), np.float32)
    assert itf.Field(rows, backend="torch").device == torch.device("cpu")
    assert itf.Field(rows, backend="torch", device="cpu").device == torch.device("cpu")
    assert itf.Field(rows, backend="reference").device is None
    assert itf.Field(torch.zeros(3, 2), device="cpu").backend != "torch"  # of "auto", a tensor on that device
    assert itf.Field(rows).backend != "torch"
    view = itf.Field(rows, backend="torch", labels=[0, 1, 1]).given([0, 1])
    assert view.device == torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda:97", "mps", "meta", "nonsense", 1.5])
def test_devices_that_will_not_do(device):
    with pytest.raises(ValueError, match=r"^device must .*; got .*\.$") as caught:
        itf.Field(np.zeros((3, 2)), backend="torch", device=device)
    assert len(str(caught.value)) < 250


def test_device_without_its_backend():
    for backend in ("auto", "reference"):
        with pytest.raises(ValueError, match=r"device='cpu' with backend='.*'\. Pass backend='torch'"):
            itf.Field(np.zeros((3, 2)), backend=backend, device="cpu")


def test_device_without_float64(monkeypatch):
    def zeros(*shape, dtype, device):
        if dtype == torch.float64:
            msg = "Cannot convert a MPS Tensor to float64 dtype"
            raise TypeError(msg)

    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(ValueError, match=r"must compute in float64, .* 'mps' does not\. .*data\.cpu\(\)"):
        torch_device.allowed("mps")


def test_what_torch_says_of_a_device_is_told_whole():
    with pytest.raises(ValueError, match=r"got 'mps' \(Could not run 'aten::empty.memory_format' .* 'MPS' backend\)\."):
        torch_device.allowed("mps")


def test_tensors_of_another_device(monkeypatch):
    flow = field()
    monkeypatch.setattr(flow._oracle.training_set, "device", torch.device("cuda:0"))
    x = torch.zeros(2, flow.d)
    for call in (lambda: flow.velocity(x, 0.5), lambda: itf.sample(flow, itf.euler(LINEAR, 3), x0=x)):
        with pytest.raises(TypeError, match=r"lives on cpu and the field on cuda:0; pass x0?\.to\('cuda:0'\)"):
            call()


def test_tensors_without_numbers():
    """Those of the device meta: ``.cpu()`` and ``.to()`` fail there."""
    flow, rows = field(), torch.empty(3, 2, device="meta")
    x = torch.empty(2, flow.d, device="meta")
    for name, call in {
        "x": lambda: flow.velocity(x, 0.5), "x0": lambda: itf.sample(flow, itf.euler(LINEAR, 3), x0=x),
        "data": lambda: itf.Field(rows, backend="torch"), "samples": lambda: itf.memorization(rows, np.zeros((3, 2))),
    }.items():  # fmt: skip
        with pytest.raises(
            TypeError, match=rf"^{name} lives on meta, where tensors have no numbers; pass {name} on a "
        ):
            call()
    with pytest.raises(TypeError, match="^data lives on meta, where tensors have no numbers"):
        itf.Field(rows)


def test_torch_that_is_not_there(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(backends, "_load", missing)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'interp_fast\[torch\]'"):
        itf.Field(np.zeros((2, 2)), backend="torch")


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
)


def raising(error):
    def fails(*arguments, **options):
        raise error

    return fails


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=["cuda", "cpu", "mps"])
def test_out_of_memory(monkeypatch, error):
    flow, fresh = field(), field()
    monkeypatch.setattr(torch_rows.Queries, "logits", raising(error))
    monkeypatch.setattr(torch_device, "free", lambda device: 1 << 20)
    words = r"rows \(5003, 7\) .* GiB, 3 queries .* workspace .* for \d+ queries at a time; .* free, enough for (\d+)"
    with pytest.raises(MemoryError, match=words) as caught:
        flow.denoiser(np.zeros((3, 7)), 0.5)
    fits = int(re.search(words, str(caught.value)).group(1))
    assert 1 <= fits < torch_sweep.chunk(flow.device, 5003, 7, 0)
    monkeypatch.setattr(torch_kernels, "prepare", raising(error))
    with pytest.raises(
        MemoryError, match=r"rows \(5003, 7\) 0.00013 GiB.* are free\. .*low_memory=True .*stretch by stretch: make it"
    ):
        fresh.denoiser(np.zeros((3, 7)), 0.5)
    monkeypatch.setattr(torch_noise, "normals", raising(error))
    with pytest.raises(MemoryError, match=r"noise \(9, 7\) 4.69e-07 GiB"):
        flow.draw(9, 0.5)


def test_other_errors_of_torch_are_its_own(monkeypatch):
    monkeypatch.setattr(torch_rows.Queries, "logits", raising(RuntimeError("unspecified launch failure")))
    with pytest.raises(RuntimeError, match="unspecified launch failure"):
        field().denoiser(np.zeros((3, 7)), 0.5)


def test_memory_that_no_machine_has():
    """The sentence of the allocator on the CPU is one of those that are known."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert torch_device.is_of_memory(caught.value)


def test_check_tells_of_devices(monkeypatch):
    """Each device of torch is checked; of those without float64, and of slow float64, it says so."""
    right = torch_device.allowed

    def allowed(device):
        if device == "mps:0":
            msg = "device must compute in float64; 'mps:0' does not. Leave device out, and pass data.cpu()."
            raise ValueError(msg)
        return right("cpu" if device == "cuda:0" else device)

    def timed(name, threads, seed, device):
        return itf.Field(np.zeros((2, 2)), backend=name, device=device), 0.1

    times = {torch.device("cpu"): 32.0}
    monkeypatch.setattr(torch_device, "found", lambda: ["cpu", "cuda:0", "mps:0"])
    monkeypatch.setattr(torch_device, "allowed", allowed)
    monkeypatch.setattr(torch_device, "slowness", lambda device: times[device])
    monkeypatch.setattr(_check, "_timed", timed)
    monkeypatch.setattr(_check, "_RATIOS", (1.0,))
    result = _check.check("torch", None, 0, lambda *_: None)
    found = [(b.name, b.device, b.ok, b.slow is not None) for b in result.backends]
    assert found == [("torch", "cpu", True, False), ("torch", "cuda:0", True, True), ("reference", None, True, False)]
    with pytest.raises(ValueError, match="float64") as refused:
        allowed("mps:0")
    assert result.missing == {"torch on mps:0": str(refused.value)}
    text = str(result)
    assert "\ntorch on cuda:0: ok (" in text
    assert text.count("\n  float64 takes 32 times as long as float32 here: ") == 1
    assert "\ntorch on mps:0: not available (device must compute in float64; " in text
    times[torch.device("cpu")] = 2.0
    assert _check._slow("torch", "cuda:0") is None


def test_slowness_of_a_device(monkeypatch):
    """The best of what products take; the settings of torch do not make float32 look fast."""
    assert torch_device.found()[0] == "cpu"
    assert 0 < torch_device.slowness(torch.device("cpu"), 64) < np.inf
    ticks = iter([*(0, 9), *(0, 2), *(0, 1), *(0, 2)] + [*(0, 99), *(0, 40), *(0, 32), *(0, 33)])
    monkeypatch.setattr(torch_device.time, "perf_counter", lambda: next(ticks))
    assert torch_device.slowness(torch.device("cpu"), 2) == 32.0


def test_a_workspace_bounds_what_is_held(monkeypatch):
    """Chunks of queries, of rows and of rows that count: any size gives the answers of any other."""
    flow, rng = field(), np.random.default_rng(0)
    x = problems.forward(problems.problem("long").rows, 0.7, 0.3, 40, 2)
    u = rng.standard_normal(x.shape)
    want = flow.posterior(x, 0.7, top=3), flow.jvp(x, 0.7, u), flow.posterior(x, 1.0)
    monkeypatch.setattr(torch_device, "_ON_CPU", 1 << 16)
    assert torch_sweep.chunk(flow.device, 5003, 7, 0) == 1
    got = flow.posterior(x, 0.7, top=3), flow.jvp(x, 0.7, u), flow.posterior(x, 1.0)
    for a, b in zip(got, want, strict=True):
        for name, value in (a.to_dict() if hasattr(a, "to_dict") else {"jvp": a}).items():
            other = b.to_dict()[name] if hasattr(b, "to_dict") else b
            np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-6, err_msg=name)


# Whatever torch is told


def settings():
    return (
        torch.get_float32_matmul_precision(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"), *(b.fp32_precision for b in torch_device._backends()),
    )  # fmt: skip


def calls():
    """Accuracy of a field over rows that are many enough for products, and the state of torch afterwards."""
    flow, before = field(), settings()
    rows = problems.problem("long").rows.astype(np.float32)
    errors = Errors("settings of torch")
    for ratio in (3.0, 0.1):
        c = LINEAR(1 / (1 + ratio))
        x = problems.forward(rows, float(c.alpha), float(c.sigma), 7, 1)
        measure(errors, rows, None, flow, x, 1 / (1 + ratio), result="float32")
    errors.close()
    x = problems.forward(rows, 0.5, 0.5, 4, 1)
    parts = [flow.denoiser(x, 0.5), itf.sample(flow, itf.ddpm(LINEAR, 4), 3, rng=1).x]
    assert settings() == before
    return np.concatenate(parts)


def test_settings_of_torch_change_no_bit():
    plain, seen = calls(), {}
    torch.set_float32_matmul_precision("medium")
    try:
        seen["medium"] = calls()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen["autocast"] = calls()
    with torch.inference_mode():
        seen["inference_mode"] = calls()
    with torch.no_grad():
        seen["no_grad"] = calls()
    torch.set_default_dtype(torch.float16)
    try:
        seen["default dtype"] = calls()
    finally:
        torch.set_default_dtype(torch.float32)
    with torch.device("meta"):
        seen["default device"] = calls()
    for name, got in seen.items():
        np.testing.assert_array_equal(got, plain, err_msg=name)


def test_products_are_exact_while_one_computation_runs():
    """The setting is the process's: of two threads that compute the last to end puts it back."""
    torch.set_float32_matmul_precision("medium")
    inside, leave, cpu = threading.Barrier(3), [threading.Event(), threading.Event()], torch.device("cpu")

    def compute(event):
        with torch_device.exactly(cpu):
            inside.wait()
            event.wait()

    try:
        before = settings()
        threads = [threading.Thread(target=compute, args=(event,)) for event in leave]
        for thread in threads:
            thread.start()
        inside.wait()
        for event, thread in zip(leave, threads, strict=True):
            assert torch.get_float32_matmul_precision() == "highest"
            event.set()
            thread.join()
        assert settings() == before
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_field_prepared_in_inference_mode_is_one_like_others():
    with torch.inference_mode():
        flow = field()
        want = flow.denoiser(np.zeros((2, 7)), 0.5)
    np.testing.assert_array_equal(flow.denoiser(np.zeros((2, 7)), 0.5), want)


# Arithmetic


def test_normals_are_those_of_all_backends():
    """Bit for bit, with samples beyond 2**32 and 2**63, and enough of them for every branch of a square root."""
    for key, first, row, n, d in ((3, 0, 0, 4000, 33), (2**64 - 1, 2**32 - 2, 7, 5, 6), (5, 2**63 - 1, 2**31, 3, 1)):
        want = _random.normals(key, first, row, n=n, d=d)
        got = torch_noise.normals(key, first, row, n=n, d=d, device=torch.device("cpu"))
        np.testing.assert_array_equal(got.numpy(), want)


def test_samples_by_key_are_those_of_other_backends():
    rows = problems.problem("gauss").rows
    outs = [
        itf.sample(itf.Field(rows, backend=name), itf.ddpm(LINEAR, 8), 5, rng=itf.NoiseKey(7, 2**33), terms=True)
        for name in ("torch", "reference")
    ]
    np.testing.assert_allclose(outs[0].x, outs[1].x, rtol=0, atol=1e-9)
    np.testing.assert_allclose(outs[0].terms.noise, outs[1].terms.noise, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(outs[0].index, outs[1].index)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.7, 3.0), (0.9, 0.6), (1.0, 0.05), (0.0, 1.0)])
@pytest.mark.parametrize("weights", [None, "heavy"])
def test_sums_over_all_rows(monkeypatch, dtype, weights, alpha, sigma):
    """As where many rows count, whatever their number: products are kept only where they are good enough."""
    monkeypatch.setattr(torch_sweep, "FEW", 2)
    monkeypatch.setattr(torch_sweep, "SHARE", 10**9)
    rng = np.random.default_rng(2)
    rows = np.concatenate([rng.standard_normal((150, 12)), rng.standard_normal((150, 12)) * 1e-3]).astype(dtype)
    rows[40] = rows[30]
    w = 10.0 ** -rng.uniform(0, 6, 300) if weights else None
    x, u = (
        np.concatenate([problems.forward(rows, alpha, sigma, 6, 4), alpha * rows[30:31]]),
        rng.standard_normal((7, 12)),
    )
    out = blank(7, 12, 4, ("mean", "jvp", "index", *PER_QUERY))
    post = posterior(KERNELS, prepare(KERNELS, rows, w), x, alpha, sigma, u=u, out=out)
    ref = oracle.posterior(rows, x, alpha, sigma, w, u=u)
    rel = 1e-3 if dtype == "float32" else 1e-9
    np.testing.assert_allclose(post.mean, ref.mean, rtol=0, atol=rel / 100)
    for name in ("log_norm", "log_rest", "gap"):
        np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=rel, atol=rel, err_msg=name)
    for name in ("ess", "entropy", "variance"):
        np.testing.assert_allclose(getattr(post, name), getattr(ref, name), rtol=rel, atol=1e-300, err_msg=name)
    assert (
        np.linalg.norm(post.jvp - ref.product, axis=1) <= rel * ref.variance * np.linalg.norm(u, axis=1) + 1e-300
    ).all()
    np.testing.assert_array_equal(post.index, ref.index)
    best = -np.sort(-np.exp(ref.log_weight), axis=1)[:, :4]
    np.testing.assert_allclose(post.top_weight, best, rtol=0, atol=rel / 100)


def test_squares_in_pairs_of_floats():
    """Against exact rationals: rows at 1e6, which float64 cannot tell apart."""
    rng = np.random.default_rng(3)
    rows = 1e6 + rng.standard_normal((5, 7))
    rows[1] = rows[0] + 2.0**-33
    x, alpha = 0.7 * rows.mean(0, keepdims=True) + 3.0, 0.7
    data = prepare(KERNELS, rows)
    tensor = torch.from_numpy
    q = torch_rows.Queries(tensor(x), tensor(np.array([alpha])), tensor(np.ones(1)), tensor(np.ones(1)), None)
    index = torch.arange(5)[None]
    c, rest = torch_near.exactly_squared(q, data, index)[0], torch_near.farther(q, data, index, index[:, 2:3])[0]
    exact = [
        sum((Fraction(a) - Fraction(alpha) * Fraction(b)) ** 2 for a, b in zip(x[0], row, strict=True)) for row in rows
    ]
    for i in range(5):
        assert c[i].item() == float(exact[i])
        apart = exact[i] - exact[2]
        assert abs(Fraction(rest[i].item()) - apart) <= abs(apart) * Fraction(2) ** -52 + Fraction(2) ** -80


def test_rows_are_not_written_to():
    for dtype in (np.float32, np.float64, np.uint8):
        rows = (problems.problem("gauss").rows * 20 + 100).astype(dtype)
        before = rows.copy()
        rows.flags.writeable = False  # torch warns of such arrays, which would be an error here
        flow = itf.Field(rows, backend="torch")
        x = flow.draw(5, 0.7, rng=0)[0]
        flow.posterior(x, 0.7)
        itf.sample(flow, itf.euler(LINEAR, 3), 2, rng=0)
        np.testing.assert_array_equal(rows, before)


# Rows that stay on their device


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16", "bfloat16"])
def test_tensors_on_a_device(elsewhere, dtype):
    """A field takes the device of its rows by itself; queries and answers are tensors there; values as anywhere."""
    digits = problems.problem("digits").rows[:400].reshape(400, 1, 8, 8)
    rows = torch.from_numpy((digits + 1) * 100 if dtype == "uint8" else digits).to(getattr(torch, dtype))
    labels, w = np.arange(400) % 3, np.linspace(1, 2, 400)
    flow = itf.Field(rows, weights=w, labels=labels)
    assert (flow.backend, flow.device, flow.event) == ("torch", torch.device("cpu"), (1, 8, 8))
    assert isinstance(flow._oracle.training_set.rows, _tensors.Resident)
    plain = rows.numpy() if dtype != "bfloat16" else rows
    with pytest.MonkeyPatch.context() as undone:
        undone.setattr(_arrays, "is_elsewhere", lambda obj: False)
        here = itf.Field(plain, weights=w, labels=labels, backend="torch")
    x, index = flow.draw(6, 0.7, rng=1)
    assert isinstance(x, torch.Tensor)
    pairs = [(flow, here), (flow.given(1), here.given(1)), (flow.subset([3, 5, 9]), here.subset([3, 5, 9]))]
    pairs.append((flow.without(index), here.without(index)))
    for mine, theirs in pairs:
        assert mine.device == torch.device("cpu")
        got = mine.velocity(x, 0.7)
        assert isinstance(got, torch.Tensor)
        np.testing.assert_array_equal(got.numpy(), theirs.velocity(x.numpy(), 0.7))
    steps = itf.ddpm(LINEAR, 4)
    np.testing.assert_array_equal(itf.sample(flow, steps, 3, rng=2).x, itf.sample(here, steps, 3, rng=2).x)
    again = pickle.loads(pickle.dumps(flow))
    np.testing.assert_array_equal(again.velocity(x, 0.7), flow.velocity(x, 0.7))


def test_other_backends_refuse_rows_on_a_device(elsewhere):
    with pytest.raises(ValueError, match=r"backend must be 'torch' or 'auto' for data on cpu; got 'reference'"):
        itf.Field(torch.zeros(3, 2), backend="reference")


def test_rows_on_a_device_are_checked(elsewhere):
    with pytest.raises(TypeError, match="data must be float32, float64, uint8, float16 or bfloat16; got int64"):
        itf.Field(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"data must have shape \(N, d\)"):
        itf.Field(torch.zeros(3))
    with pytest.raises(ValueError, match=r"data must be finite; got nan in row 1, column 0"):
        itf.Field(torch.tensor([[0.0], [float("nan")]]))
    with pytest.raises(TypeError, match=r"requires grad.*data\.detach\(\)"):
        itf.Field(torch.zeros(3, 2, requires_grad=True))


def test_doors_on_a_device(elsewhere):
    """Copies among samples, lowest losses, audits, targets and parts over rows that stay on their device."""
    rows = torch.from_numpy(problems.problem("digits").rows[:120].astype(np.float32))
    flow, plain = itf.Field(rows), itf.Field(rows.numpy(), backend="reference")
    samples = rows[:20] + 0.01
    mine, theirs = itf.memorization(samples, rows), itf.memorization(samples.numpy(), rows.numpy())
    np.testing.assert_array_equal(mine.index, theirs.index)
    np.testing.assert_allclose(mine.d1, theirs.d1, rtol=1e-6)
    loss = [itf.optimal_loss(one, 3, 40, rng=0).loss for one in (flow, plain)]
    np.testing.assert_allclose(loss[0], loss[1], rtol=1e-5)
    parts = [itf.Field(rows[i : i + 60]).partial(samples, 0.8, first_row=i) for i in (0, 60)]
    np.testing.assert_allclose(itf.merge(parts).denoiser(), plain.denoiser(samples.numpy(), 0.8), atol=1e-5)
    batches = [next(iter(itf.targets(one, 4, n=1, rng=0))) for one in (flow, plain)]
    np.testing.assert_allclose(batches[0][2], batches[1][2], atol=1e-4)
    model = itf.Model(flow.velocity, LINEAR)
    found = itf.compare(model, flow, [0.3, 0.6], 16, rng=0)
    np.testing.assert_allclose(found.mse, 0, atol=1e-8)


def test_state_is_carried_whole(monkeypatch):
    """A run in pieces has the bits of one in one go, terms and all; and nothing of it is read before the end."""
    data = prepare(KERNELS, problems.problem("gauss").rows[:, :5])
    table, x0 = itf.heun(LINEAR, 4), np.random.default_rng(1).standard_normal((6, 5))
    options = {"key": 3, "first_sample": 0, "error": None, "cut": 40.0, "threads": 1}
    whole, pieces = State.start(x0, terms=True), State.start(x0, terms=True)
    reads = []
    read = torch_device.read
    monkeypatch.setattr(torch_device, "read", lambda values: (reads.append(values), read(values))[1])
    KERNELS.run_steps(whole, data, table, 0, len(table), **options)
    assert len(reads) == len([a for a in vars(whole).values() if a is not None])
    for first in range(len(table)):
        KERNELS.run_steps(pieces, data, table, first, first + 1, **options)
    for name, array in vars(whole).items():
        np.testing.assert_array_equal(getattr(pieces, name), array, err_msg=name)


def test_modules_and_their_gradients():
    """On the field's device from end to end: values and gradients are those over any other backend."""
    rows = problems.problem("gauss").rows[:60, :6]
    flows = [itf.Field(rows, itf.Trigonometric(), labels=np.arange(60) % 2, backend=b) for b in ("torch", "reference")]
    x0 = torch.from_numpy(flows[1].draw(4, 0.6, rng=1)[0])
    found = []
    for flow in flows:
        x, t, s = x0.clone().requires_grad_(), torch.full((4,), 0.6, dtype=torch.float64, requires_grad=True), 0.4
        sigma = torch.full((4,), s, dtype=torch.float64, requires_grad=True)
        values = [
            itf.torch.Velocity(flow)(x, t),
            itf.torch.Denoiser(flow)(x, sigma, class_labels=torch.tensor([0, 1, 1, 0])),
            itf.torch.Noise(flow, itf.Discrete.ddpm())(x, 500).sample,
        ]
        total = sum((value * value).sum() for value in values[::2]) + itf.torch.Denoiser(flow)(x, sigma).square().sum()
        found.append([*(v.detach() for v in values), *torch.autograd.grad(total, (x, t, sigma))])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)
    # Tensors of inference mode must not be written to outside of it, where the backend computes.
    for mode in (torch.inference_mode(), torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16)):
        with mode:
            again = itf.torch.Velocity(flows[0])(x0.clone(), 0.6), itf.torch.Denoiser(flows[0])(x0.clone(), 0.4)
        np.testing.assert_array_equal(again[0], found[0][0])
        np.testing.assert_allclose(again[1], flows[1].at(1.0, 0.4).denoiser(x0.numpy()), rtol=1e-9, atol=1e-10)
    with pytest.raises(ValueError, match="x must be finite; got nan in row 2"):
        itf.torch.Denoiser(flows[0])(torch.tensor([[0.0] * 6, [0.0] * 6, [float("nan")] * 6]), 0.4)
    with pytest.raises(TypeError, match="x lives on meta, where tensors have no numbers"):
        itf.torch.Denoiser(flows[0])(torch.zeros(2, 6, device="meta"), 0.4)
    with pytest.warns(UserWarning, match="x cannot hold draws"):
        itf.torch.Denoiser(flows[0])(1e6 * torch.ones(40, 6), 0.4)
