"""Which combinations of its parameters a test runs where nobody asks for all."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import TypeVar

__all__ = ["covering"]

T = TypeVar("T", bound=Hashable)


def covering(combinations: Mapping[T, Collection[Hashable]]) -> list[T]:
    """Some that show each value once.

    One by one the most values that are new; of as many those seen least; of these the most that were not seen together.
    """
    seen: Counter[Hashable] = Counter()
    left, chosen = dict(combinations), []
    values = set(itertools.chain.from_iterable(combinations.values()))

    def news(key: T) -> tuple[int, int, int]:
        counts = [seen[value] for value in left[key]]
        return counts.count(0), -sum(counts), sum(not seen[pair] for pair in _pairs(left[key]))

    while not values <= seen.keys():
        best = max(left, key=news)
        chosen.append(best)
        shown = left.pop(best)
        seen.update(itertools.chain(shown, _pairs(shown)))
    return chosen


def _pairs(values: Collection[Hashable]) -> Iterator[frozenset[Hashable]]:
    return map(frozenset, itertools.combinations(values, 2))
