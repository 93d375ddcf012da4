"""Of the parameters of a test each value is shown."""

from __future__ import annotations

import itertools
from collections import Counter

from support.combinations import covering


def test_each_value_is_shown_in_as_few_combinations_as_there_are_values_of_one_parameter():
    sizes = (4, 2, 12, 7)
    grid = {key: set(enumerate(key)) for key in itertools.product(*map(range, sizes))}
    chosen = covering(grid)
    assert len(chosen) == 12
    for k, size in enumerate(sizes):
        counts = Counter(key[k] for key in chosen)
        assert set(counts) == set(range(size))
        assert max(counts.values()) - min(counts.values()) <= 1
    assert len({key[:2] for key in chosen}) == 8  # values go together in turn


def test_what_is_listed_one_by_one_stays():
    listed = {key: {("case", key), ("engine", key % 2)} for key in range(5)}
    assert sorted(covering(listed)) == [0, 1, 2, 3, 4]
    assert covering({"alone": set()}) == []
