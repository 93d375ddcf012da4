"""The backend torch on a device: is it as accurate there as promised, and how long does it take beside other ways?

    PYTHONPATH=. python bench/device.py --device cuda --out device.json

Needs Python, NumPy, SciPy, torch and this checkout; neither the compiled core nor numba nor pytest. Takes less than
eight minutes: what is left then is skipped, and said. The errors are those against float64 direct differences; half of
what is timed here is fast and wrong, so that no time stands without one. ``--quick``: small sizes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import interp_fast as itf
from interp_fast import _random
from interp_fast._accuracy import PROMISES, Promise
from interp_fast.backends import torch_noise
from interp_fast.backends.torch_kernels import Kernels

LINEAR = itf.Linear()
RATIOS = (20.0, 5.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)
TIMED = (19.0, 5.0, 2.0, 0.2)
TYPES = ("float32", "float64", "uint8", "float16", "bfloat16")
STRETCHES = "uint8 in stretches"
SECONDS = 460.0
CHUNK = 64  # queries of the chunked softmax


def images(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Bytes near a curved sheet in d dimensions; every fifth row is another one with one number changed by 1."""
    rng = np.random.default_rng(seed)
    latent = rng.standard_normal((n, 12)).astype(np.float32)
    values = np.tanh(latent @ rng.standard_normal((12, d)).astype(np.float32) / 3)
    rows = np.clip(np.round((values + 1) * 127.5), 1, 254).astype(np.uint8)
    copies = np.arange(4, n, 5)
    rows[copies] = rows[copies - 1]
    rows[copies, rng.integers(0, d, len(copies))] += 1
    return rows


def queries(values: np.ndarray, t: float, m: int, seed: int = 1) -> np.ndarray:
    """Forward samples, and midpoints of near copies and rows themselves."""
    rng = np.random.default_rng(seed)
    x = t * values[rng.integers(0, len(values), m)] + (1 - t) * rng.standard_normal((m, values.shape[1]))
    still = [values[3:40:10], (values[3:40:10] + values[4:41:10]) / 2]
    x[: min(8, m // 2)] = t * np.concatenate(still)[: min(8, m // 2)]
    return x


def errors(field: Any, exact: Any, x: np.ndarray, t: float, promise: Promise) -> dict[str, Any]:
    """Largest errors, in the units of what is promised, and whether that is kept."""
    z, want = (np.asarray(f.noise(x, t), np.float64) for f in (field, exact))
    d, mean = (np.asarray(f.denoiser(x, t), np.float64) for f in (field, exact))
    size = np.maximum(np.linalg.norm(mean, axis=1), exact.R)
    density = field.log_density(x, t), exact.log_density(x, t)
    noise = np.linalg.norm(z - want, axis=1) - 2.0**-52 * np.linalg.norm(x, axis=1) / (1 - t)
    row: dict[str, Any] = {
        "noise": float((noise / np.maximum(np.linalg.norm(want, axis=1), 1)).clip(0).max()),
        "denoiser": float((np.linalg.norm(d - mean, axis=1) / size).max()),
        "log_density": float(np.abs(density[0] - density[1]).max()),
    }
    allowed = promise.of_density(density[1])
    fine = row["noise"] <= promise.noise and row["denoiser"] <= promise.denoiser
    return row | {"ok": bool(fine and (np.abs(density[0] - density[1]) <= allowed).all())}


def accuracy(device: torch.device, n: int, d: int, deadline: float) -> list[dict[str, Any]]:
    """The accuracy table, by type of the rows and sigma / alpha; it ends where no time is left.

    Bytes once more as rows of the host that the device is said to have no room for, which go there in stretches.
    """
    found, stored = [], images(n, d)
    for kind in TYPES:
        rows = torch.from_numpy(stored).to(device)
        if kind != "uint8":
            rows = (rows.to(torch.float64) / 127.5 - 1).to(getattr(torch, kind))
        scale = (1 / 127.5, -1.0) if kind == "uint8" else None
        values = (rows.to(torch.float64) / 127.5 - 1 if kind == "uint8" else rows.to(torch.float64)).cpu().numpy()
        given = stored if kind == "uint8" else values
        fields = {kind: itf.Field(rows, LINEAR, backend="torch", device=device, scale=scale)}
        if kind == "uint8":
            with no_room():
                fields[STRETCHES] = itf.Field(stored, LINEAR, backend="torch", device=device, scale=scale)
        exact = itf.Field(given, LINEAR, backend="reference", scale=scale)
        for ratio in RATIOS:
            if time.perf_counter() > deadline:
                return found
            t = 1 / (1 + ratio)
            promise = PROMISES["float64" if kind == "float64" else "float32"]
            x = queries(values, t, 12)
            found += [
                {"rows": name, "ratio": ratio, **errors(one, exact, x, t, promise)} for name, one in fields.items()
            ]
    return found


@contextlib.contextmanager
def no_room() -> Iterator[None]:
    """Rows of the host go to a device in stretches, four or five of them."""
    kept = Kernels.stretch
    Kernels.stretch = lambda self, rows: rows.nbytes // 4  # type: ignore[method-assign]
    try:
        yield
    finally:
        Kernels.stretch = kept  # type: ignore[method-assign]


def same_noise(device: torch.device) -> bool:
    """Whether the device has the bits of the definition."""
    got = torch_noise.normals(11, 2**32 - 100, 3, n=2000, d=50, device=device).cpu().numpy()
    return bool((got == _random.normals(11, 2**32 - 100, 3, n=2000, d=50)).all())


# Times


def timed(call: Callable[[], Any], device: torch.device, rounds: int) -> tuple[float, float | None]:
    """Median milliseconds of a call, by events where the device has them, and the most memory it took (GiB)."""
    call()
    cuda, times = device.type == "cuda", []
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    for _ in range(rounds):
        if cuda:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            call()
            last.record()
            torch.cuda.synchronize(device)
            times.append(first.elapsed_time(last))
        else:
            began = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - began))
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if cuda else None
    return statistics.median(times), peak


def attention(x: Any, rows: Any, alpha: float, sigma: float) -> Any:
    """torch's own, in float32: the bias folded into one more dimension."""
    q = torch.cat([x, torch.ones_like(x[:, :1])], dim=1) * (alpha / sigma**2)
    k = torch.cat([rows, -0.5 * alpha * rows.square().sum(dim=1, keepdim=True)], dim=1)
    v = torch.nn.functional.pad(rows, (0, 1))
    made = torch.nn.functional.scaled_dot_product_attention(q[None, None], k[None, None], v[None, None], scale=1.0)
    return made[0, 0, :, :-1]


def chunked(x: Any, rows: Any, alpha: float, sigma: float) -> Any:
    """The twenty lines that most people write."""
    half = 0.5 * alpha * rows.square().sum(dim=1)
    parts = []
    for some in x.split(CHUNK):
        logits = (some @ rows.T - half) * (alpha / sigma**2)
        parts.append(logits.softmax(dim=1) @ rows)
    return torch.cat(parts)


def keops(x: Any, rows: Any, alpha: float, sigma: float) -> Any:
    from pykeops.torch import LazyTensor

    away = ((LazyTensor(x[:, None, :]) - alpha * LazyTensor(rows[None, :, :])) ** 2).sum(-1)
    return (-away / (2 * sigma**2)).sumsoftmaxweight(LazyTensor(rows[None, :, :]), axis=1)


def times(device: torch.device, m: int, n: int, d: int, rounds: int, deadline: float) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def skipped(ratio: float) -> bool:
        """Whether no time is left, which is noted: what errors are counted from takes the most at large sizes."""
        late = time.perf_counter() > deadline
        if late:
            row = {"queries": m, "rows": n, "d": d, "ratio": ratio, "name": "all", "skipped": "no time left"}
            found.append(row)
        return late

    if skipped(TIMED[0]):
        return found
    stored = images(n, d)
    rows = (torch.from_numpy(stored).to(device).to(torch.float32) / 127.5 - 1).contiguous()
    fields = {
        "interp_fast": itf.Field(rows, LINEAR, backend="torch", device=device),
        "interp_fast, uint8": itf.Field(torch.from_numpy(stored).to(device), LINEAR, backend="torch", device=device),
    }
    few = min(4, m)
    exact = itf.Field(rows.cpu().numpy(), LINEAR, backend="reference")
    for ratio in TIMED:
        if skipped(ratio):
            break
        t = 1 / (1 + ratio)
        alpha, sigma = t, 1 - t
        wide = queries(rows[: 4 * m + 50].cpu().numpy().astype(np.float64), t, m)
        x = torch.from_numpy(wide.astype(np.float32)).to(device)
        want = exact.noise(x[:few].cpu().numpy(), t).astype(np.float64)
        calls: dict[str, Callable[[], Any]] = {name: partial(flow.denoiser, x, t) for name, flow in fields.items()}
        calls |= {way.__name__: partial(way, x, rows, alpha, sigma) for way in (attention, chunked, keops)}
        for name, call in calls.items():
            row: dict[str, Any] = {"queries": m, "rows": n, "d": d, "ratio": ratio, "name": name}
            found.append(row)
            if time.perf_counter() > deadline:
                row["skipped"] = "no time left"
                continue
            try:
                row["milliseconds"], row["peak_gib"] = timed(call, device, rounds)
                if name in fields:
                    z = fields[name].noise(x[:few], t).cpu().numpy().astype(np.float64)
                else:
                    z = (x[:few].double() - alpha * call()[:few].double()).cpu().numpy() / sigma
                size = np.maximum(np.linalg.norm(want, axis=1), 1)
                row["error_of_noise"] = float((np.linalg.norm(z - want, axis=1) / size).max())
            except ImportError:
                row["skipped"] = "not installed"
            except (torch.OutOfMemoryError, MemoryError):
                row["skipped"] = "out of memory"
    return found


def trajectory(device: torch.device, samples: int, n: int, d: int, steps: int) -> dict[str, Any]:
    """A run of Euler steps; on CUDA also the share of a run of ten that no kernel fills."""
    rows = torch.from_numpy(images(n, d)).to(device).to(torch.float32) / 127.5 - 1
    field = itf.Field(rows, LINEAR, backend="torch", device=device)
    itf.sample(field, itf.euler(LINEAR, 2), samples, rng=0)
    began = time.perf_counter()
    out = itf.sample(field, itf.euler(LINEAR, steps), samples, rng=0)
    row = {"samples": samples, "rows": n, "d": d, "steps": steps, "seconds": time.perf_counter() - began}
    row["work"] = out.stats["work"]
    if device.type == "cuda":
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            began = time.perf_counter()
            itf.sample(field, itf.euler(LINEAR, 10), samples, rng=0)
            wall = time.perf_counter() - began
        busy = sum(event.self_device_time_total for event in seen.key_averages()) * 1e-6
        row["share_outside_kernels"] = 1 - busy / wall
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="write the results here, as JSON")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run?")
    options = parser.parse_args()
    began = time.perf_counter()
    device = itf.Field(np.zeros((1, 1)), backend="torch", device=options.device).device
    result: dict[str, Any] = {
        "interp_fast": itf.__version__, "torch": torch.__version__, "python": platform.python_version(),
        "device": str(device),
        "name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "settings": "torch.set_float32_matmul_precision('medium') while accuracy is measured, 'highest' for times",
    }  # fmt: skip
    torch.set_float32_matmul_precision("medium")
    result["same_noise"] = same_noise(device)
    shape = (300, 64) if options.quick else (2000, 256)
    result["accuracy"] = accuracy(device, *shape, began + 0.6 * SECONDS)
    torch.set_float32_matmul_precision("highest")
    print(f"noise has the bits of the definition: {result['same_noise']}")
    for row in result["accuracy"]:
        print("{rows:>18} {ratio:8.4g}  z {noise:.1e}  D {denoiser:.1e}  log p {log_density:.1e}  {ok}".format(**row))
    small = options.quick or device.type == "cpu"
    sizes = (
        [(8, 1000, 32)]
        if options.quick
        else [(64, 5000, 784)]
        if small
        else [(256, 50_000, 784), (1024, 200_000, 3072)]
    )
    result["times"] = []
    for m, n, d in sizes:
        result["times"] += times(device, m, n, d, 2 if small else 10, began + 0.75 * SECONDS)
    for row in result["times"]:
        told = row.get("skipped") or "{milliseconds:9.2f} ms, error {error_of_noise:.1e}".format(**row)
        print("({queries}, {rows}, {d}) sigma/alpha {ratio:g}  {name:20}".format(**row), told)
    if time.perf_counter() < began + 0.85 * SECONDS:
        run = (4, 200, 16, 5) if options.quick else (32, 2000, 784, 20) if small else (4096, 50_000, 784, 100)
        result["trajectory"] = trajectory(device, *run)
        print(result["trajectory"])
    result["seconds"] = time.perf_counter() - began
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=1))
    ok = result["same_noise"] and all(row["ok"] for row in result["accuracy"])
    left = (len(TYPES) + 1) * len(RATIOS) - len(result["accuracy"])
    if left > 0:
        print(f"no time was left for {left} rows of the accuracy table: try it on a machine that does less else")
    print("ok" if ok and left == 0 else "so far ok" if ok else "FAILED", f"in {result['seconds']:.0f} s")
    return 0 if ok and left == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
