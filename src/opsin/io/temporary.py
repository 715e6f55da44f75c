"""Temporary names that say who writes there, so that what a killed process left behind is told from work in progress.

    .NAME.HOST-PID-START-RANDOM.tmp

HOST stands for the machine and its space of process numbers (two containers have two), START is when the process
began: a process number is given again, the pair is not.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

PathLike = str | os.PathLike[str]

_OWNER = re.compile(r"\.(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]{1,10})-(?P<start>[0-9]{1,20})-[0-9a-f]{8}\.tmp")
UNKNOWN_OWNER_S = 24 * 3600
"""Age from which on temporary files of earlier versions, whose names tell less, are taken for abandoned."""


def temporary_beside(path: Path) -> Path:
    """A new temporary name in the folder of `path`, owned by this process."""
    pid = os.getpid()
    return path.parent / f".{path.name[:80]}.{_host()}-{pid}-{_start_of(pid) or 0}-{secrets.token_hex(4)}.tmp"


def is_temporary(path: PathLike) -> bool:
    """Whether a name is one that an interrupted write may have left."""
    name = Path(path).name
    return name.startswith(".") and name.endswith(".tmp")


def owner_lives(path: PathLike) -> bool | None:
    """Whether the process that made a temporary name still runs; None where that cannot be known.

    It cannot of another machine's, of another container's, of earlier versions' names, and on Windows.
    """
    found = _OWNER.search(Path(path).name)
    if found is None or found["host"] != _host() or sys.platform == "win32":
        return None
    pid, start = int(found["pid"]), int(found["start"])
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # it is somebody else's, so it is there
    now = _start_of(pid)
    return now is None or start == 0 or now == start


def abandoned(folder: Path, patterns: Iterable[str] = ("*",)) -> list[Path]:
    """Temporary files and folders in `folder` whose owner is gone.

    Args:
        folder: where; nothing is found in one that is not there.
        patterns: of places in it, e.g. "*" for itself and "*/*" for the folders in it.
    """
    found = [path for pattern in patterns for path in folder.glob(pattern) if is_temporary(path)]
    return sorted(path for path in found if _is_abandoned(path))


def remove_abandoned(folder: Path, patterns: Iterable[str] = ("*",)) -> int:
    """Remove what `abandoned` finds; returns how many. What may not be removed stays."""
    found = abandoned(folder, patterns)
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with suppress(OSError):
                path.unlink()
    return sum(not os.path.lexists(path) for path in found)


def _is_abandoned(path: Path) -> bool:
    lives = owner_lives(path)
    if lives is not None or _OWNER.search(path.name):
        return lives is False
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > UNKNOWN_OWNER_S
    return False


def _host() -> str:
    """Eight hexadecimal digits for this machine and its space of process numbers."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _start_of(pid: int) -> int | None:
    """When a process began, in ticks since the machine did; None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(text.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
