"""Does a model memorize its training set? Its loss, its samples, and what an error of it can and cannot do."""

from ._audit import Audit, audit
from ._fate import fate
from ._verdict import MEANING

__all__ = ["MEANING", "Audit", "audit", "fate"]
