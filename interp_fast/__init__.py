"""The exact velocity, score and denoiser of a stochastic interpolant on a finite training set.

Time runs from t = 0 (noise) to t = 1 (data); x_t = alpha_t x_1 + sigma_t z. Start with :class:`Field`,
:func:`euler` and :func:`sample`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import grid, perturb
from ._partial import Partial, merge
from ._random import NoiseKey
from .field import Field, Posterior
from .losses import OptimalLoss, optimal_loss
from .model import Model
from .sampling import Samples, Terms, sample
from .schedules import (
    VP,
    Coefficients,
    Custom,
    Discrete,
    EncoderDecoder,
    LatentBridge,
    Linear,
    Schedule,
    SqrtVP,
    Trigonometric,
    VEGeometric,
    VELinear,
    schedule,
)
from .steps import (
    StepTable,
    ddim,
    ddpm,
    euler,
    euler_maruyama,
    exponential,
    exponential_heun,
    heun,
    multistep,
)

if TYPE_CHECKING:
    from . import theory
    from .auditing import Audit, audit
    from .comparing import Comparison, compare
    from .gaussians import Gaussian, GaussianMixture
    from .metrics import Background, Memorization, Neighbours, memorization, nearest
    from .training import targets

__version__ = "0.2.0"

__all__ = [
    "VP",
    "Audit",
    "Background",
    "Coefficients",
    "Comparison",
    "Custom",
    "Discrete",
    "EncoderDecoder",
    "Field",
    "Gaussian",
    "GaussianMixture",
    "LatentBridge",
    "Linear",
    "Memorization",
    "Model",
    "Neighbours",
    "NoiseKey",
    "OptimalLoss",
    "Partial",
    "Posterior",
    "Samples",
    "Schedule",
    "SqrtVP",
    "StepTable",
    "Terms",
    "Trigonometric",
    "VEGeometric",
    "VELinear",
    "audit",
    "compare",
    "ddim",
    "ddpm",
    "euler",
    "euler_maruyama",
    "experiments",
    "exponential",
    "exponential_heun",
    "grid",
    "heun",
    "memorization",
    "merge",
    "multistep",
    "nearest",
    "optimal_loss",
    "perturb",
    "sample",
    "schedule",
    "targets",
    "theory",
]


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__", "__version__"]


# Name -> module of what is loaded when it is first used.
_LATER = {
    "Audit": "auditing",
    "Background": "metrics",
    "Comparison": "comparing",
    "Gaussian": "gaussians",
    "GaussianMixture": "gaussians",
    "Memorization": "metrics",
    "Neighbours": "metrics",
    "audit": "auditing",
    "compare": "comparing",
    "distributed": "distributed",
    "experiments": "experiments",
    "memorization": "metrics",
    "nearest": "metrics",
    "targets": "training",
    "theory": "theory",
    "torch": "torch",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        module = importlib.import_module(f".{_LATER[name]}", __name__)
        return module if name == _LATER[name] else getattr(module, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
