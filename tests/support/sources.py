"""Rows behind slices, as files are."""

from __future__ import annotations

__all__ = ["Source"]


class Source:
    """Row slices and nothing else; counts the largest slice that was asked for."""

    def __init__(self, rows):
        self._rows, self.shape, self.dtype, self.largest = rows, rows.shape, rows.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        block = self._rows[rows]
        self.largest = max(self.largest, len(block))
        return block
