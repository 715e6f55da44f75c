"""Memory that is free now, so that a decoder is not asked for more."""

from __future__ import annotations

import os
from pathlib import Path

KERNEL = Path("/proc/meminfo")
CONTAINER = Path("/sys/fs/cgroup")


def available_memory() -> int | None:
    """Bytes that can be allocated without swapping, within the limit of a container; None where nobody says."""
    known = [free for free in (_of_kernel(), _of_container()) if free is not None]
    return min(known, default=_half_of_machine())


def _of_kernel() -> int | None:
    """Source: proc(5), MemAvailable."""
    try:
        lines = KERNEL.read_text().splitlines()
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    except (OSError, ValueError, IndexError):
        return None


def _of_container() -> int | None:
    """Source: cgroup v2, memory.max, memory.current and inactive_file of memory.stat."""
    try:
        limit = int((CONTAINER / "memory.max").read_text())  # the text "max": no limit
        used = int((CONTAINER / "memory.current").read_text())
        stat = dict(line.split() for line in (CONTAINER / "memory.stat").read_text().splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None


def _half_of_machine() -> int | None:
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
