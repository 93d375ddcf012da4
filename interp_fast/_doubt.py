"""Whether a model looks as if it were asked in another range of values or direction of time than it was trained in.

Near the data end x is a point of the data with a little noise. Whoever leaves that noise in, D = x / alpha, has in any
parametrization the loss of a network to which the noise is news. A model that was trained for these inputs stays below
it; one that takes them for others does not.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from . import _random
from ._oracle import Oracle
from .losses import draws
from .model import Model
from .schedules import Discrete

__all__ = ["doubt"]

Float = npt.NDArray[np.float64]

_LATE = (
    5.0  # alpha R over sigma sqrt(d) where it is looked: what is there is plain to see, and noise is left to take out
)
# In shares of the loss of noise: what needs no second look, and what an inexact network does not explain.
_FINE, _WRONG = 0.5, 2.0
_BETTER = 0.25  # times run the other way when that leaves this share of the loss


def doubt(model: object, oracle: Oracle, n: int, source: _random.NoiseKey) -> str | None:
    """What looks wrong with how a trained model is asked, in a sentence; None when nothing does.

    Asks for n points at a time of its own, up to three times; a model that fails there is not doubted.
    """
    radius = oracle.training_set.moments.radius
    if not isinstance(model, Model) or radius == 0:
        return None
    curve, form = model.schedule, oracle.form
    wanted = math.log(_LATE * math.sqrt(oracle.d) / radius)
    t = float(curve.time_at(np.clip(wanted, curve.lam(0.0), curve.lam(1.0))))
    if isinstance(curve, Discrete):
        t = float(curve.t_of(int(np.rint(curve.level_of(t)))))
    if not 0 < t < 1:
        return None
    key = _random.NoiseKey(_random.subkey(source.key, "doubt"), source.first_sample)
    _, x, index, point = next(draws(oracle, t, n, key, 0))
    x = x.astype(form.dtype).astype(np.float64)
    goal = oracle.smooth(point, x, oracle.training_set.values(index))
    noise = float(np.sum((x / point.alpha[:, None] - goal) ** 2))

    def share(at: float, sign: float) -> float:
        denoiser = model.to_denoiser(sign * model.predict(x, at, form), x, t, curve(t))
        return float(np.sum((denoiser - goal) ** 2)) / noise

    signs = (1.0, -1.0) if model.predicts == "velocity" else (1.0,)
    try:
        found = share(t, 1.0)
        if found <= _FINE:
            return None
        other, sign = min((share(1.0 - t, sign), sign) for sign in signs)
    except Exception:  # nobody has asked for these times
        return None
    words = f"the model's velocity loss near the data end, t = {t:.3g}, is {found:.2g} times that of noise"
    if other < min(_BETTER * found, _FINE):
        return (
            f"{words}, and {other:.2g} times at 1 - t: its time looks as if it ran the other way; here t = 0 is noise "
            f"and t = 1 data, as in fn = lambda x, t: {'-' if sign < 0 else ''}net(x, 1 - t)."
        )
    if found > _WRONG:
        return (
            f"{words}: it looks as if it were made for another range of values, another direction of time or other "
            "data; x is in the units of the data, and t = 0 is noise, t = 1 data."
        )
    return None
