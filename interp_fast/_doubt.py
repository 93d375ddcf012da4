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
from ._oracle import Oracle, Point
from ._typing import Kind
from .losses import draws
from .model import Model
from .schedules import Discrete

__all__ = ["doubt", "suspect"]

Float = npt.NDArray[np.float64]

# alpha R over sigma sqrt(d) where it is looked: what is there is plain to see, and noise is left to take out.
_LATE = 5.0
# In shares of the loss of noise, which is R^2 / 25 there: an error that needs no look, a loss that needs no second one,
# and one that no inexact network has, as its error is all but the spread of the data.
_SMALL, _FINE, _WRONG = 0.1, 0.5, 20.0
_BETTER = 0.25  # times run the other way when that leaves this share of the loss


def suspect(error: Float, times: Float, oracle: Oracle, kind: Kind = "denoiser") -> bool:
    """Whether mean squared errors of a kind (K,) give reason to look, by the last time that has data and noise."""
    c = oracle.schedule(times)
    some = np.flatnonzero((c.sigma > 0) & (c.alpha > 0))
    if len(some) == 0:
        return False
    k, one = int(some[-1]), np.ones((1, 1))
    p = Point.of(oracle.schedule, 0.0, float(times[k]), 1)
    gain = 1.0 if kind == "denoiser" else float(getattr(p, kind)(0.0 * one, one)[0, 0])  # of an error of D
    return bool(error[k] > _SMALL * oracle.d * (gain * float(p.sigma[0] / p.alpha[0])) ** 2)


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
    if isinstance(curve, Discrete):  # networks of diffusers know the levels alone
        t = float(curve.t_of(round((1.0 - t) * (len(curve.alphas_cumprod) - 1))))
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
