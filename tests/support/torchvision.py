"""The torchvision of PyPI, which is built for another device, beside a torch for the CPU."""

from __future__ import annotations

import importlib.util
from typing import Any

_kept: list[Any] = []  # what was defined is gone with its library


def without_operators() -> None:
    """Let packages import it that call none of its operators: the compiled ones, which do not load, get a name."""
    import torch

    if importlib.util.find_spec("torchvision") is None or _kept:
        return
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        _kept.append(torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms", "roi_align"):
            _kept[0].define(f"{name}(Tensor x) -> Tensor")
