"""Not run but read by mypy: what type checkers tell a user. An ignored error that is none is an error."""

from typing import Any, assert_type

import numpy as np
import numpy.typing as npt

import interp_fast as itf


class Tensor:
    """As type checkers see those of torch."""

    requires_grad: bool

    def detach(self) -> "Tensor":
        return self

    def __array__(self) -> npt.NDArray[Any]:
        return np.zeros(1)


def fields(x: npt.NDArray[np.float64], tensor: Tensor) -> None:
    field = itf.Field(x, backend="cpp")
    assert_type(field.velocity(x, 0.5), npt.NDArray[Any])
    assert_type(field.denoiser([[0.0, 1.0]], t=0.5), npt.NDArray[Any])
    assert_type(field.score(tensor, 0.5), Tensor)
    assert_type(field.jvp(tensor, 0.5, u=tensor), Tensor)
    assert_type(field.at(1.0, 0.5).noise(x), npt.NDArray[Any])
    assert_type(itf.Model(lambda x, t: x, itf.Linear(), predicts="score").velocity(tensor, 0.5), Tensor)
    field.velocity(x)  # type: ignore[call-overload]
    itf.Field(x, backend="gpu")  # type: ignore[arg-type]


def names(field: itf.Field, x: npt.NDArray[np.float32]) -> None:
    itf.Model(lambda x, t: x, itf.Linear(), predicts="eps")  # type: ignore[arg-type]
    itf.optimal_loss(field, 5, 16, kind="epsilon")  # type: ignore[arg-type]
    itf.memorization(x, x, metric="manhattan")  # type: ignore[arg-type]
    itf.Discrete.ddpm("quadratic")  # type: ignore[arg-type]
    itf.targets(field, 8, kind="epsilon")  # type: ignore[arg-type]
    steps = itf.ddim(itf.Linear(), 5)
    itf.sample(field, steps, 3, keep="all")  # type: ignore[arg-type]
    samples = itf.sample(field, steps, 3, keep=2)
    assert_type(samples.x, Any)  # of the kind of the data
