"""What type checkers know of arguments and answers: names that are accepted, and that answers come in kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

import numpy.typing as npt

__all__ = ["Backend", "Betas", "Kind", "Metric", "in_kind"]

Backend: TypeAlias = Literal["auto", "cpp", "numba", "reference", "torch"]
Betas: TypeAlias = Literal["linear", "scaled_linear", "cosine"]
Kind: TypeAlias = Literal["denoiser", "velocity", "noise", "score"]
Metric: TypeAlias = Literal["euclidean", "cosine"]


class _Tensor(Protocol):
    """What tells a tensor of torch from an array, for those who have torch and for those who have not."""

    @property
    def requires_grad(self) -> bool: ...

    def detach(self) -> Any: ...


S = TypeVar("S")
T = TypeVar("T", bound=_Tensor)
P = ParamSpec("P")


class _InKind(Protocol[P]):
    @overload
    def __call__(self, x: T, *args: P.args, **kwargs: P.kwargs) -> T: ...
    @overload
    def __call__(self, x: npt.ArrayLike, *args: P.args, **kwargs: P.kwargs) -> npt.NDArray[Any]: ...


class _Method(Protocol[P]):
    def __get__(self, instance: Any, owner: Any = None) -> _InKind[P]: ...


def in_kind(method: Callable[Concatenate[S, Any, P], Any]) -> _Method[P]:
    """Marks a method that answers tensors with tensors and everything else with arrays."""
    return cast("_Method[P]", method)
