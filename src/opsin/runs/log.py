"""The log of a run: one event per line, append-only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from opsin.errors import ConfigError, RunError
from opsin.ledger import Looks, looks_of_event
from opsin.runs.codec import from_json
from opsin.runs.records import Epoch, Event

if TYPE_CHECKING:
    import pandas as pd

LOG = "log.jsonl"


class Log(Sequence[Event]):
    """The events of a run, in order.

    >>> log = Log([Event(event="start"), Event(event="epoch", step=8, extra={"epoch": 1, "val": {"accuracy": 0.5}})])
    >>> len(log), log[0].event, log.epochs[0].val["accuracy"]
    (2, 'start', 0.5)

    Args:
        events: the events.
        where: the file, for messages.
    """

    def __init__(self, events: Iterable[Event] = (), *, where: Path | str = LOG) -> None:
        self._events, self._where = tuple(events), str(where)

    @overload
    def __getitem__(self, index: int) -> Event: ...
    @overload
    def __getitem__(self, index: slice) -> Log: ...
    def __getitem__(self, index: int | slice) -> Event | Log:
        return Log(self._events[index], where=self._where) if isinstance(index, slice) else self._events[index]

    def __len__(self) -> int:
        return len(self._events)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Log({len(self._events)} events, {len(self.epochs)} of them epochs)"

    @property
    def epochs(self) -> tuple[Epoch, ...]:
        """The epochs in the log, in order.

        Raises:
            RunError: a field of one is damaged.
        """
        told = [event for event in self._events if event.event == "epoch"]
        return tuple(_epoch(event, f"{self._where}: epoch {event['epoch']}") for event in told)

    @property
    def test_openings(self) -> int:
        """Number of openings of the test split, in this run or in the one it was made from."""
        return sum(int(e.event == "test_opened") + _count(e.get("test_openings")) for e in self._events)

    @property
    def looks(self) -> Looks | None:
        """Openings of the test split over all runs, as counted at this run's last one; None if there was none."""
        opened = [event for event in self._events if event.event == "test_opened"]
        return looks_of_event(opened[-1]) if opened else None

    def to_pandas(self) -> pd.DataFrame:
        """The epochs as a table: one row per epoch, columns `epoch`, `lr`, …, `train.loss`, `val.accuracy`, ….

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            do = "`pip install pandas`; `run.log.epochs` has the same numbers without it"
            raise ConfigError("a table of the log needs pandas", do=do) from error
        return pd.DataFrame([_row(event) for event in self._events if event.event == "epoch"])


def _row(event: Event) -> dict[str, object]:
    """An epoch as one row: `train` and `val` become columns of their own."""
    row: dict[str, object] = {}
    for key, value in event.items():
        if isinstance(value, Mapping):
            row |= {f"{key}.{name}": item for name, item in value.items()}
        elif key != "event":
            row[key] = value
    return row


def read_log(path: Path) -> Log:
    """The log in a file; empty where there is none. A last line that a crash cut off is not part of it.

    Raises:
        RunError: a line is not an event.
    """
    lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
    return Log([read_event(line, f"{path}, line {i}") for i, line in enumerate(lines[:-1], 1) if line], where=path)


def read_event(line: bytes, where: str) -> Event:
    """One line of a log.

    Raises:
        RunError: it is not an event.
    """
    try:
        told = json.loads(line)
        if not isinstance(told["event"], str) or (told["event"] == "epoch" and type(told["epoch"]) is not int):
            raise TypeError
        return from_json(Event, told, where)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        got, expected = line[:80].decode(errors="replace"), 'an event, {"event": …}'
        do = "remove the line: the run remains usable without it"
        raise RunError("the log of the run is damaged", where=where, got=repr(got), expected=expected, do=do) from error


def is_event(line: bytes) -> bool:
    """Whether a line of a log can be read."""
    try:
        read_event(line, LOG)
    except RunError:
        return False
    return True


def _epoch(event: Event, where: str) -> Epoch:
    return from_json(Epoch, {key: value for key, value in event.items() if key != "event"}, where)


def _count(value: object) -> int:
    """The number of openings in an event."""
    return value if isinstance(value, int) and value > 0 else 0
