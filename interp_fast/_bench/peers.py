"""What ``interp-fast bench`` times: our backends and other libraries.

One table, :data:`PEERS`. A peer's ``setup(rows, threads)`` prepares a training set and returns its :class:`Calls`; the
denoiser is taken at the linear schedule, alpha = t and sigma = 1 - t, in the type of the results. The other
libraries are called as a careful user would: prepared norms, no Python loop but over blocks of queries. They work on
float copies of integer rows.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..backends import available
from ..field import Field
from ..sampling import sample
from ..schedules import Linear
from ..steps import euler

__all__ = ["OURS", "PEERS", "Calls", "Peer", "installed"]

Array = npt.NDArray[Any]
Denoiser = Callable[[Array, float], Array]

OURS = ("cpp", "numba", "reference")
_QUERIES = 64  # of one block: its scores are the largest array the matrix-product peers make
_NEIGHBOURS = 100


@dataclass(frozen=True)
class Calls:
    """What a prepared peer can do.

    Attributes
    ----------
    denoiser : (x, t) -> (M, d)
    check : (x, t) -> dict, or None
        Ours: ``noise`` (M, d) as the field returns it, and ``work``, the mean share of the dense work done. Compiled
        ones and NumPy: ``kernels``, what was chosen for this processor.
    sample : (x0, K) -> (M, d), or None
        Ours only: the endpoint of K Euler steps. The others are called in a loop.
    others : dict of (x, t) -> Any
        What else is timed of small sets, by name: other outputs of ours; the formula of PyTorch of all queries at once.
    """

    denoiser: Denoiser
    check: Callable[[Array, float], dict[str, Any]] | None = None
    sample: Callable[[Array, int], Array] | None = None
    others: Mapping[str, Callable[[Array, float], Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Peer:
    """A library and the call of it.

    Attributes
    ----------
    label, module
        What is called, and what must be importable for it.
    setup
        rows, threads -> :class:`Calls`.
    types
        Floating types it works in.
    products
        Whether it forms distances by matrix products; direct differences are too slow for large problems.
    exact
        Whether it sums over all rows.
    """

    label: str
    module: str
    setup: Callable[[Array, int], Calls]
    types: tuple[str, ...] = ("float32", "float64")
    products: bool = True
    exact: bool = True


def installed(names: Sequence[str] | None = None) -> list[str]:
    """Names of the peers that can run here, in the order of the table.

    Raises
    ------
    ValueError
        One of ``names`` is unknown, or is not installed.
    """
    ours = available()
    found = [
        name
        for name, peer in PEERS.items()
        if (name in ours if name in OURS else importlib.util.find_spec(peer.module) is not None)
    ]
    for name in names or ():
        if name not in found:
            msg = f"peers must be among those installed, {found}; got {name!r}."
            raise ValueError(msg)
    return found if names is None else [name for name in found if name in names]


def _ours(backend: Any) -> Callable[[Array, int], Calls]:
    def setup(rows: Array, threads: int) -> Calls:
        ours = Field(rows, Linear(), backend=backend, threads=threads)

        def check(x: Array, t: float) -> dict[str, Any]:
            work = float(np.mean(ours.posterior(x, t).work))
            return {"noise": ours.noise(x, t), "work": work, "kernels": ours.isa}

        def endpoint(x0: Array, steps: int) -> Array:
            return np.asarray(sample(ours, euler(ours.schedule, steps), x0=x0).x)

        def denoiser(x: Array, t: float) -> Array:
            return np.asarray(ours.denoiser(x, t))

        return Calls(denoiser, check, endpoint, {"velocity": ours.velocity, "posterior": ours.posterior})

    return setup


def _half_norms(rows: Array) -> Array:
    return np.asarray(0.5 * np.einsum("ij,ij->i", rows, rows, dtype=np.float64))


def _logit_scales(t: float) -> tuple[float, float]:
    """a, b of the logits a x . x_i - b |x_i|^2 / 2 (the term in x alone falls out of the softmax)."""
    return t / (1 - t) ** 2, (t / (1 - t)) ** 2


def _numpy(rows: Array, threads: int) -> Calls:
    half, kind = _half_norms(rows), rows.dtype.type
    scores = np.empty((_QUERIES, len(rows)), rows.dtype)

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        bias = (b * half).astype(kind)
        mean = np.empty_like(x)
        for first in range(0, len(x), _QUERIES):
            block = x[first : first + _QUERIES]
            p = np.matmul(block * kind(a), rows.T, out=scores[: len(block)])
            p -= bias
            p -= p.max(axis=1, keepdims=True)
            np.exp(p, out=p)
            mean[first : first + _QUERIES] = (p @ rows) / p.sum(axis=1, keepdims=True)
        return mean

    return Calls(denoiser, lambda x, t: {"kernels": _blas()})


def _blas() -> str | None:
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return None
    kernels = {
        f"{lib['internal_api']} {lib.get('architecture', '')}" for lib in threadpool_info() if lib["user_api"] == "blas"
    }
    return ", ".join(sorted(kernels))


def _scipy(rows: Array, threads: int) -> Calls:
    from scipy.special import softmax

    half, kind = _half_norms(rows), rows.dtype.type

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        bias = (b * half).astype(kind)
        blocks = [x[first : first + _QUERIES] for first in range(0, len(x), _QUERIES)]
        return np.concatenate([softmax((block * kind(a)) @ rows.T - bias, axis=1) @ rows for block in blocks])

    return Calls(denoiser)


def _torch(rows: Array, threads: int) -> Calls:
    import torch

    torch.set_num_threads(threads)
    data, half = torch.from_numpy(rows), torch.from_numpy(_half_norms(rows))

    def means(x: Array, t: float, queries: int) -> list[Any]:
        a, b = _logit_scales(t)
        with torch.inference_mode():
            bias = (-b * half).to(data.dtype)
            blocks = torch.from_numpy(x).split(queries)
            return [torch.softmax(torch.addmm(bias, block, data.T, alpha=a), dim=1) @ data for block in blocks]

    def denoiser(x: Array, t: float) -> Array:
        return np.asarray(torch.cat(means(x, t, _QUERIES)).numpy())

    return Calls(denoiser, others={"at once": lambda x, t: means(x, t, len(x))})


def _torch_attention(rows: Array, threads: int) -> Calls:
    """Fused attention; the bias rides in one more dimension of queries and keys, so that no mask of M x N is needed."""
    import torch

    torch.set_num_threads(threads)
    n, d = rows.shape
    data = torch.from_numpy(rows)
    keys, values = data.new_zeros(1, 1, n, d + 1), data.new_zeros(1, 1, n, d + 1)
    keys[0, 0, :, :d] = values[0, 0, :, :d] = data
    keys[0, 0, :, d] = torch.from_numpy(_half_norms(rows))

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        with torch.inference_mode():
            queries = data.new_full((1, 1, len(x), d + 1), -b)
            queries[0, 0, :, :d] = torch.from_numpy(x) * a
            mean = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, scale=1.0)
            return np.asarray(mean[0, 0, :, :d].numpy())

    return Calls(denoiser)


def _jax(rows: Array, threads: int) -> Calls:
    import jax

    data, half, kind = jax.numpy.asarray(rows), jax.numpy.asarray(_half_norms(rows).astype(rows.dtype)), rows.dtype.type

    def formula(x: Any, data: Any, half: Any, a: Any, b: Any) -> Any:
        return jax.nn.softmax((a * x) @ data.T - b * half, axis=1) @ data

    mean = jax.jit(formula)

    def denoiser(x: Array, t: float) -> Array:
        a, b = _logit_scales(t)
        return np.asarray(mean(x, data, half, kind(a), kind(b)))

    return Calls(denoiser)


def _keops(rows: Array, threads: int) -> Calls:
    """Differences, reduced on the fly: accurate where the products are not."""
    from pykeops.numpy import LazyTensor

    data, kind = LazyTensor(rows[None]), rows.dtype.type

    def denoiser(x: Array, t: float) -> Array:
        y = LazyTensor(np.ascontiguousarray(x / kind(t))[:, None])
        logits = -((y - data) ** 2).sum(-1) * float(0.5 * (t / (1 - t)) ** 2)
        return np.asarray(logits.sumsoftmaxweight(data, axis=1))

    return Calls(denoiser)


def _faiss(rows: Array, threads: int) -> Calls:
    """Softmax over the nearest rows only: right once the posterior is sharp."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatL2(rows.shape[1])
    index.add(rows)
    k = min(_NEIGHBOURS, len(rows))

    def denoiser(x: Array, t: float) -> Array:
        distance, near = index.search(x / np.float32(t), k)
        p = np.exp((distance - distance[:, :1]) * np.float32(-0.5 * (t / (1 - t)) ** 2))
        p /= p.sum(axis=1, keepdims=True)
        return np.asarray(np.einsum("mk,mkd->md", p, rows[near]))

    return Calls(denoiser)


PEERS = {
    **{name: Peer(f"interp_fast, {name}", __name__, _ours(name), products=name != "reference") for name in OURS},
    "numpy": Peer("NumPy, two products and a softmax in place", "numpy", _numpy),
    "scipy": Peer("SciPy, special.softmax between two products", "scipy", _scipy),
    "torch": Peer("PyTorch, addmm, softmax, matmul", "torch", _torch),
    "torch-sdpa": Peer("PyTorch, scaled_dot_product_attention", "torch", _torch_attention),
    "jax": Peer("JAX, jit", "jax", _jax),
    "keops": Peer("KeOps, LazyTensor.sumsoftmaxweight", "pykeops", _keops, products=False),
    "faiss": Peer(f"FAISS, IndexFlatL2, {_NEIGHBOURS} nearest rows", "faiss", _faiss, ("float32",), exact=False),
}
