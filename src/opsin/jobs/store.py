"""The queue as files, so that it outlives the processes that work on it.

    queue/0001.json     the command, its limits and its state
    queue/0001.log      output of the command
    queue/0001.lock     held by the command and by the process that started it: free once both have ended

A job in the state "running" whose lock is free was lost: its machine or its processes died. It is run again.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from opsin.config.checks import from_dict
from opsin.errors import ConfigError, InputError, RunError
from opsin.io.files import read_json, write_json, writing
from opsin.types import JsonDict

if sys.platform != "win32":
    import fcntl

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
STATES = (WAITING, RUNNING, DONE, FAILED)
QUEUE_FOLDER = Path("queue")
NAMES = ("--name",)
RUNS = ("--runs", "--out")
_FILE = re.compile(r"([0-9]{4,9})\.json")


@dataclass(frozen=True, kw_only=True)
class Job:
    """A command, its limits and its state.

    `arguments`: of `opsin`. `cores`, `memory_bytes`: its limits; 0 bytes is no limit. `tries`: number of starts.
    `code`: exit code of the last start. `note`: why it failed, or was started again.
    """

    number: int
    arguments: tuple[str, ...]
    cores: int = 1
    memory_bytes: int = 0
    state: str = WAITING
    tries: int = 0
    code: int | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ConfigError("setting `state` is out of range", got=self.state, expected=", ".join(STATES))

    def to_json(self) -> JsonDict:
        """As `--json` prints it."""
        return asdict(self)

    def option(self, names: Sequence[str]) -> str | None:
        """The value of an option of the command, by any of its names; None where it is not given."""
        for place, word in enumerate(self.arguments):
            name, sign, value = word.partition("=")
            if name in names:
                return value if sign else next(iter(self.arguments[place + 1 :]), None)
        return None

    @property
    def run(self) -> Path | None:
        """Where the run lies that the command trains; None where it trains none."""
        if self.arguments[:1] != ("train",):
            return None
        return Path(self.option(RUNS) or "runs") / (self.option(NAMES) or "")

    def command(self) -> list[str]:
        """The command line; a training whose run exists is resumed."""
        resume = self.run is not None and (self.run / "config.json").is_file() and "--resume" not in self.arguments
        return [sys.executable, "-m", "opsin", *self.arguments, *(["--resume"] if resume else [])]


class Queue:
    """The jobs of a folder."""

    def __init__(self, folder: Path | str = QUEUE_FOLDER) -> None:
        self.folder = Path(folder)

    def add(self, arguments: Sequence[str], *, cores: int = 1, memory_bytes: int = 0) -> Job:
        """Append a command.

        Raises:
            ConfigError: no command, a training without a name, or limits out of range.
        """
        if not arguments:
            raise ConfigError("add which command?", expected="one of Opsin's: `opsin queue add -- train digits …`")
        if cores < 1 or memory_bytes < 0:
            raise ConfigError(
                "a limit is out of range", got=(cores, memory_bytes), expected="1 core or more, 0 bytes or more"
            )
        job = Job(number=0, arguments=tuple(arguments), cores=cores, memory_bytes=memory_bytes)
        if job.run is not None and not job.option(NAMES):
            do = "give --name NAME: under it the training goes on when it was interrupted"
            raise ConfigError("a training in a queue needs a name", got=" ".join(arguments), do=do)
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        job = replace(job, number=self._claimed())
        self.write(job)
        return job

    def jobs(self) -> list[Job]:
        """All jobs, in their order.

        Raises:
            RunError: a file of the queue is damaged.
        """
        return [self.read(number) for number in self._numbers()]

    def read(self, number: int) -> Job:
        """One job.

        Raises:
            RunError: its file is damaged.
        """
        path = self.path(number, "json")
        try:
            return from_dict(Job, {**_object(path), "number": number}, where=str(path))
        except (ConfigError, InputError, TypeError) as error:
            do = "remove the file: the queue can do without it"
            raise RunError(
                "a job of the queue is damaged", where=path, got=str(error).splitlines()[0], do=do
            ) from error

    def write(self, job: Job) -> None:
        """Replace a job's file, whole."""
        write_json(self.path(job.number, "json"), job.to_json())

    def change(self, job: Job, **values: Any) -> Job:
        """Replace some values of a job."""
        changed = replace(job, **values)
        self.write(changed)
        return changed

    def path(self, number: int, kind: str) -> Path:
        """A file of a job: "json", "log" or "lock"."""
        return self.folder / f"{number:04d}.{kind}"

    def take(self, number: int) -> int | None:
        """The open lock of a job, to be inherited by its command; None if another process holds it."""
        handle = os.open(self.path(number, "lock"), os.O_RDWR | os.O_CREAT, 0o644)
        if sys.platform == "win32":  # has no such locks: there one process works on a queue
            return handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return None
        return handle

    def _numbers(self) -> list[int]:
        found = (_FILE.fullmatch(path.name) for path in self.folder.glob("*.json"))
        return sorted(int(match[1]) for match in found if match)

    def _claimed(self) -> int:
        """A number that no other process has: who makes its lock file first, has it."""
        number = max(self._numbers(), default=0) + 1
        while True:
            try:
                os.close(os.open(self.path(number, "lock"), os.O_CREAT | os.O_EXCL, 0o644))
            except FileExistsError:
                number += 1
            else:
                return number


def _object(path: Path) -> JsonDict:
    value = read_json(path)
    if not isinstance(value, dict) or not {field.name for field in fields(Job)} >= set(value):
        raise TypeError("not the fields of a job")
    return value
