"""The ledger of test split openings over all runs of a user: a file per split in the cache folder.

A run counts its own openings. Ten runs that each opened the split once have opened it ten times, and the best of ten is
then chosen by test; so openings are also counted by image content, whatever path and name. `opsin data cache` keeps the
ledger: it is not a cache and cannot be rebuilt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opsin.io.caches import default_cache

ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Number of openings of a test split, and of runs that opened it."""

    looks: int
    runs: int

    def words(self) -> str:
        """As text.

        >>> Looks(looks=3, runs=2).words()
        'third look at this test split, by 2 runs'
        """
        which = ORDINALS[self.looks - 1] if 1 <= self.looks <= len(ORDINALS) else f"{self.looks}th"
        return f"{which} look at this test split, by {self.runs} run{'s' if self.runs != 1 else ''}"


def record_look(content: str, *, run: Path, command: str) -> Looks | None:
    """Record that a run opens the test split with these images, before its scores exist.

    Args:
        content: SHA-256 over the images of the split.
        run: folder of the run.
        command: the command line as typed.

    Returns:
        The openings so far; None if the cache folder cannot be written: the run's own log still counts.
    """
    path = _path(content)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"time": stamp, "run": str(run.resolve()), "command": command}) + "\n"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # a single append: concurrent processes do not mix their lines
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        return looks_at(content)
    return None


def looks_at(content: str) -> Looks:
    """The openings of the test split with these images so far; a damaged line counts as one of an unknown run."""
    try:
        lines = _path(content).read_bytes().splitlines()
    except OSError:
        return Looks(looks=0, runs=0)
    return Looks(looks=len(lines), runs=len({_run_of(line) for line in lines}))


def looks_of_event(event: Mapping[str, Any]) -> Looks | None:
    """The openings in an event `test_opened` of a run's log; None if not counted."""
    looks, runs = event.get("looks"), event.get("looking_runs")
    return Looks(looks=looks, runs=runs) if isinstance(looks, int) and isinstance(runs, int) else None


def _run_of(line: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(line)["run"])
    return ""


def _path(content: str) -> Path:
    return default_cache() / "openings" / f"{content}.jsonl"
