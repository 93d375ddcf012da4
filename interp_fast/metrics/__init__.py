"""How samples relate to a training set: distances to its rows, copies, coverage."""

from ._memorization import Memorization, memorization
from ._points import read_points
from ._shares import wilson
from ._units import fitting_layout

__all__ = ["Memorization", "fitting_layout", "memorization", "read_points", "wilson"]
