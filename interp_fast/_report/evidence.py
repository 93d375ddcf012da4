"""What a report about a model's samples finds: everything that is computed, before anything is drawn or said."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

import interp_fast as itf

from .. import _figures
from .._copies import Baseline, Compared, Pair, compare, in_order, within
from .._datasets import Dataset, InputError
from .._text import number
from .judgement import Judgement, judge, leaked
from .parts import Html

__all__ = ["EQUAL_PAIRS", "Evidence", "gather"]

PAIRS = 12
EQUAL_PAIRS = 6  # of them at distance 0, while there are others: copies that were changed are looked at, too


@dataclass(frozen=True)
class Evidence:
    """Samples of one or more files, in order, beside a training set.

    ``holdout``: where the held-out rows come from; ``features``: the name of the function that distances are measured
    through; ``k``: the neighbour that balls reach to.
    """

    data: Dataset
    found: Sequence[Compared]
    baseline: Baseline
    holdout: str | None
    features: str | None
    pairs: Sequence[Pair]
    k: int | None

    @property
    def background(self) -> itf.Background | None:
        return self.found[0].result.background

    @property
    def control(self) -> itf.Memorization | None:
        return self.baseline.control

    @property
    def rule(self) -> itf.Memorization:
        """One of the results, for the settings that all of them share."""
        return self.found[0].result

    @cached_property
    def judgements(self) -> list[Judgement]:
        """Of each file."""
        return [judge(one, self.baseline, len(self.found)) for one in self.found]

    @property
    def leaked(self) -> int:
        """How many held-out rows are training rows."""
        return leaked(self.baseline)

    @property
    def by_numbers(self) -> bool:
        """Whether at distance 0 is equal, number for number."""
        return self.features is None and self.rule.metric == "euclidean"

    @property
    def drawn(self) -> str:
        """Which training rows were compared, where that is not all of them."""
        data = self.data
        if len(data.rows) == data.available:
            return ""
        return f"{number(len(data.rows))} of {number(data.available)} rows, drawn at random"

    def name(self, one: Compared) -> str:
        """In a table; in a sentence with what is in the file."""
        return "the samples" if len(self.found) == 1 else one.file

    def samples_of(self, one: Compared) -> str:
        return "the samples" if len(self.found) == 1 else f"the samples of {one.file}"

    @property
    def typical(self) -> float | None:
        """Half of the training rows have another one within this distance."""
        return None if self.background is None else within(self.background, 0.5)

    def farther(self, distance: float) -> float | None:
        """At least so large is the share of training rows whose nearest other row is farther than ``distance``."""
        if self.background is None:
            return None
        at = int(np.searchsorted(self.background.distances, distance, side="right"))
        if at == len(self.background.levels):
            return 0.0
        n = len(self.data.rows)  # a quantile lies between two rows, of which the lower one may be no farther
        return 1 - math.ceil(float(self.background.levels[at]) * (n - 1) - 1e-9) / n

    def draw(self, values: Any, label: str) -> Html:
        """A row as a picture, its grey levels those of the data."""
        some = self.data.rows[:: max(1, len(self.data.rows) // 1000)]
        return Html(_figures.picture(self.data.drawn(values), (float(some.min()), float(some.max())), label))


def gather(
    files: Sequence[str],
    data: Dataset,
    *,
    holdout: str | None,
    features: tuple[str, Callable[[Any], Any]] | None,
    **options: Any,
) -> Evidence:
    """Compare all; ``options`` as in ``compare``."""
    if len(data.rows) < 2:
        msg = "a report about samples needs at least 2 training rows; got 1."
        raise InputError(msg)
    name, function = features or (None, None)
    found, baseline = compare(files, data, holdout=holdout, features=function, pairs=PAIRS, **options)
    assert baseline is not None
    found = in_order(found)
    near = found[0].result.radius is not None
    pairs = sorted((p for one in found for p in one.pairs), key=lambda p: (p.distance, p.ratio)[:: 1 if near else -1])
    best: dict[int, Pair] = {}
    for p in pairs:
        best.setdefault(p.row, p)
    pairs = list(best.values())
    others = sum(p.distance > 0 for p in pairs)
    equal = max(EQUAL_PAIRS, PAIRS - others)
    places = np.cumsum([p.distance == 0 for p in pairs])
    shown = [p for p, place in zip(pairs, places, strict=True) if p.distance > 0 or place <= equal]
    return Evidence(data, found, baseline, holdout, name, shown[:PAIRS], options.get("k"))
