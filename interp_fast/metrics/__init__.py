"""How samples relate to a training set: distances to its rows, copies, coverage."""

from ._features import features_of
from ._memorization import Background, Memorization, memorization
from ._nearest import Neighbours, nearest
from ._points import equal_rows, read_points
from ._units import fitting_layout, warn_of_units

__all__ = [
    "Background",
    "Memorization",
    "Neighbours",
    "equal_rows",
    "features_of",
    "fitting_layout",
    "memorization",
    "nearest",
    "read_points",
    "warn_of_units",
]
