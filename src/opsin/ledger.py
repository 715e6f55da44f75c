"""Who has looked at a test split, over all runs of a user: a file for each split in the cache folder.

A run counts its own looks. Ten runs that each looked once have looked ten times, and the best of ten is chosen by test;
so looks are counted for the images too, wherever they lie and however they are called. `opsin cache` leaves the ledger
alone: it is no cache, and cannot be made anew.
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
    """How often a test split was looked at, and by how many runs."""

    looks: int
    runs: int

    def words(self) -> str:
        """As a person says it.

        >>> Looks(looks=3, runs=2).words()
        'third look at this test split, by 2 runs'
        """
        which = ORDINALS[self.looks - 1] if 1 <= self.looks <= len(ORDINALS) else f"{self.looks}th"
        return f"{which} look at this test split, by {self.runs} run{'s' if self.runs != 1 else ''}"


def record_look(content: str, *, run: Path, command: str) -> Looks | None:
    """Write down that a run has looked at the test split with these images, before its scores exist.

    Args:
        content: SHA-256 over the images of the split.
        run: folder of the run.
        command: the command line as typed.

    Returns:
        The looks by now; None where the cache folder cannot be written: the run's own log still counts.
    """
    path = _path(content)
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"time": stamp, "run": str(run.resolve()), "command": command}) + "\n"
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        # one write at the end of the file: processes that look at once do not tear each other's lines
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
            os.fsync(handle)
        finally:
            os.close(handle)
        return looks_at(content)
    return None


def looks_at(content: str) -> Looks:
    """The looks at the test split with these images so far; a damaged line counts as a look of an unknown run."""
    try:
        lines = _path(content).read_bytes().splitlines()
    except OSError:
        return Looks(looks=0, runs=0)
    return Looks(looks=len(lines), runs=len({_run_of(line) for line in lines}))


def looks_of_event(event: Mapping[str, Any]) -> Looks | None:
    """The looks that an event `test_opened` of a run's log tells of; None where it was not counted."""
    looks, runs = event.get("looks"), event.get("looking_runs")
    return Looks(looks=looks, runs=runs) if isinstance(looks, int) and isinstance(runs, int) else None


def _run_of(line: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        return str(json.loads(line)["run"])
    return ""


def _path(content: str) -> Path:
    return default_cache() / "openings" / f"{content}.jsonl"
