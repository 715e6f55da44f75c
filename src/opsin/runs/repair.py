"""Repair of a damaged run before it is resumed: damaged results are removed, since they are rebuilt."""

from __future__ import annotations

from pathlib import Path

from opsin.errors import OpsinError
from opsin.io.files import write_atomically
from opsin.runs.lock import remove
from opsin.runs.log import LOG, is_event
from opsin.runs.reader import PREDICTIONS, SCORES, SUMMARY, read_arrays, read_record, read_scores
from opsin.runs.records import Summary

REMADE = (SCORES, SUMMARY, PREDICTIONS)
"""Files that the end of a training reads, then rewrites."""


def drop_damaged_results(folder: Path) -> list[str]:
    """Remove results that cannot be read; returns one sentence per removed file."""
    said = []
    for file in REMADE:
        try:
            _read(folder / file)
        except OpsinError as error:
            remove(folder / file)
            said.append(f"{file} is damaged ({error.what}); it was removed, and will be rebuilt")
    return said


def drop_damaged_lines(folder: Path) -> tuple[int, int]:
    """Drop lines of the log that cannot be read.

    Returns:
        Their number, and the number of them that recorded an opening of the test split.
    """
    path = folder / LOG
    lines = path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    damaged = [line for line in lines if line and not is_event(line)]
    if damaged:
        kept = [line for line in lines if line and is_event(line)]
        write_atomically(path, b"".join(line + b"\n" for line in kept))
    return len(damaged), sum(b"test_opened" in line for line in damaged)


def _read(path: Path) -> object:
    """Read a file of results.

    Raises:
        OpsinError: it is damaged.
    """
    if path.name == SCORES:
        return read_scores(path)
    return read_arrays(path) if path.suffix == ".npz" else read_record(path, Summary)
