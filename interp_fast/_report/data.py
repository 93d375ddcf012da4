"""The part of a report about the training set."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._figures import COLOURS, INK
from .._text import number, share
from .findings import Findings
from .parts import Block, Chart, Gallery, Part, Table
from .study import quantiles

__all__ = ["part"]

_PICTURES = 24


def part(f: Findings) -> Part:
    """Size, spread, nearest-neighbour distances, a look at some rows."""
    study, unseen = f.study, f.unseen
    given, oracle = study.data, study.oracle
    held_out = 0 if given.holdout is None else len(given.holdout)
    equal = float(np.mean(study.near == 0))
    numbers = {
        "name": given.name,
        "source": given.source,
        "N": oracle.N,
        "d": oracle.d,
        "dtype": str(given.rows.dtype),
        "shape": given.shape,
        "R": oracle.R,
        "looked_up": len(study.near),
        "nearest_distance": quantiles(study.near),
        "duplicates": equal,
        "radius": study.radius,
        "holdout": given.holdout_source,
        "holdout_N": held_out,
        "holdout_nearest_distance": None if unseen is None else quantiles(unseen.d1),
    }
    nearest = "median {1:.3g}; 80 % between {0:.3g} and {2:.3g}".format(*quantiles(study.near))
    facts = [
        ("source", given.source),
        ("training rows N", number(oracle.N)),
        ("numbers in a row d", number(oracle.d)),
        ("rms distance to the mean R", number(oracle.R)),
        ("distance to the nearest other row", nearest),
        ("rows with an exact duplicate", share(equal)),
        ("hold-out", f"{given.holdout_source}, {number(held_out)} rows" if held_out else "none"),
    ]
    blocks: list[Block] = [Table(facts)]
    if given.shape is not None:
        chosen = np.linspace(0, oracle.N - 1, min(_PICTURES, oracle.N)).astype(int)
        pictures = [((study.picture(given.rows[i]),), str(given.numbers[i])) for i in chosen]
        blocks.append(Gallery(pictures, "Some training rows, with their numbers in the source."))

    def draw(ax: Any) -> None:
        both = study.near if unseen is None else np.concatenate([study.near, unseen.d1])
        bins = np.linspace(0.0, float(both.max()) or 1.0, 60)
        ax.hist(study.near, bins, density=True, alpha=0.5, color=COLOURS[0], label="training rows, to another row")
        if unseen is not None:
            ax.hist(unseen.d1, bins, density=True, histtype="step", linewidth=1.5, color=INK, label="held-out rows")
        ax.set(xlabel="distance to the nearest training row", yticks=[])
        ax.legend()

    caption = f"Nearest-neighbour distances of {number(len(study.near))} training rows"
    if unseen is not None:
        caption += f" and of {number(len(unseen.d1))} held-out rows, which are what new samples would look like"
    blocks.append(Chart(draw, "Nearest-neighbour distances", caption + ".", size=(8.6, 2.6)))
    verdict = [("training set", f"{given.name}: {number(oracle.N)} rows of {number(oracle.d)} numbers")]
    return Part("data", "The training set", numbers, blocks, [], verdict)
