"""Bounds, certificates and times of the oracle, and laws of tables of steps.

Notation: y = x / alpha, rho = alpha / sigma, D the denoiser, D_ij = |x_i - x_j|; A, B, C, S, Phi, W and c are columns
and derived numbers of a :class:`StepTable`. Bounds are in exact arithmetic, with a relative 1e-6 in hand for rounding.
"""

from ._certificates import (
    DiscretizationBound,
    MarginCondition,
    Trapping,
    discretization_bound,
    margin_condition,
    trapping,
)
from ._endpoint import EndpointLaw, endpoint_law
from ._errors import (
    Amplification,
    Concentrability,
    EstimationBound,
    amplification,
    concentrability,
    estimation_bound,
)
from ._times import CollapseTime, Dominance, SpeciationTime, collapse_time, dominance, speciation_time

__all__ = [
    "Amplification",
    "CollapseTime",
    "Concentrability",
    "DiscretizationBound",
    "Dominance",
    "EndpointLaw",
    "EstimationBound",
    "MarginCondition",
    "SpeciationTime",
    "Trapping",
    "amplification",
    "collapse_time",
    "concentrability",
    "discretization_bound",
    "dominance",
    "endpoint_law",
    "estimation_bound",
    "margin_condition",
    "speciation_time",
    "trapping",
]


def __dir__() -> list[str]:
    return __all__
