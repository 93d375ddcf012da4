"""Rows on many machines: a field whose rows the workers of a Dask cluster read and keep.

Needs ``dask`` and ``distributed``, and ``zarr`` for zarr stores: ``pip install 'interp_fast[distributed]'``.
"""

from __future__ import annotations

try:
    import distributed as _dask
except ImportError as exc:
    _msg = f"interp_fast.distributed needs Dask ({exc}): pip install 'interp_fast[distributed]'."
    raise ImportError(_msg) from None

from ._field import Field

__all__ = ["Field"]

del _dask
