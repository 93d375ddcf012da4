"""The engines that tests run on: every backend, and every instruction set of cpp that this machine has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from interp_fast import backends


@dataclass(frozen=True)
class Engine:
    """A backend, and for cpp one of its instruction sets."""

    backend: str
    isa: str | None = None

    def __str__(self) -> str:
        return self.backend if self.isa is None else f"{self.backend}-{self.isa}"

    @contextlib.contextmanager
    def forced(self) -> Iterator[Engine]:
        """The instruction set while it lasts."""
        if self.isa is None:
            yield self
            return
        from interp_fast import _core

        before = _core.isa()
        _core.set_isa(self.isa)
        try:
            yield self
        finally:
            _core.set_isa(before)


def _engines() -> list[Engine]:
    found = []
    for name in backends.available():
        if name == "cpp":
            from interp_fast import _core

            found += [Engine(name, isa) for isa in _core.supported()]
        else:
            found.append(Engine(name))
    return found


ENGINES = _engines()
BACKENDS = backends.available()
if "torch" in BACKENDS:
    import torch

    torch.set_num_threads(1)  # problems are small, and threads that wait for each other cost more than they do
