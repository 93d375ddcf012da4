"""Some of the queries of a field that takes a fixed number of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

__all__ = ["Chosen"]


class Chosen:
    """``flow`` about the queries ``some`` of ``x``; rows are numbered by their place in ``rows``."""

    def __init__(self, flow, x, some, rows):
        self.flow, self.x, self.some, self.rows = flow, x, some, np.asarray(rows)
        self.schedule = flow.schedule

    def __getattr__(self, name):
        def method(x, t, *more, **options):
            assert np.array_equal(x, self.x[self.some])
            full = [self._all(value) for value in more]
            return self._take(getattr(self.flow, name)(self.x, t, *full, **options))

        return method

    def _all(self, u):
        full = np.ones(self.x.shape)
        full[self.some] = u
        return full

    def _take(self, answer):
        if not hasattr(answer, "top_index"):
            return answer[self.some]
        known = {name: getattr(answer, name)[self.some] for name in vars(answer) if getattr(answer, name) is not None}
        for name in ("index", "top_index"):
            assert np.isin(known[name], self.rows).all()
            known[name] = np.searchsorted(self.rows, known[name])
        return replace(answer, **known)
