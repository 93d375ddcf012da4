"""How many processors this process may use: affinity, and the CPU quota of its control groups."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["usable"]


def usable(root: Path = Path("/")) -> int:
    """Processors of the affinity mask, at most the quota of any control group around this process, at least 1.

    ``root`` is where the files of the system are.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *map(_quota, _groups(root))])))


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the control groups around this process that may hold a quota, each with those it lies in."""
    try:
        mounts = [line.split() for line in (root / "proc/self/mountinfo").read_text().splitlines()]
        member = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except (OSError, ValueError):
        return
    paths = {controller: path for _, names, path in member for controller in names.split(",")}  # "": version 2
    for fields in mounts:
        # number, parent, device, what part of the hierarchy is mounted, where, options ..., "-", type, source, options
        mounted, where = fields[3:5]
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        path = (
            paths.get("") if kind == "cgroup2" else paths.get("cpu") if kind == "cgroup" and "cpu" in options else None
        )
        if path is None:
            continue
        inside = Path(path).relative_to(mounted) if Path(path).is_relative_to(mounted) else Path()
        top = root / where.lstrip("/")
        yield from (top / part for part in (inside, *inside.parents))


def _quota(group: Path) -> float:
    """Processors granted by one control group, rounded up; inf when it sets no limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 and int(period) > 0 else math.inf
    except (OSError, ValueError):  # "max", or no such file
        return math.inf
