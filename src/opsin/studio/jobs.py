"""Trainings and labs that the studio has begun: processes of `opsin`, whose run folders tell how they go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from opsin.io.files import writing
from opsin.server.refusal import RequestError
from opsin.text import printable_lines

MAX_JOBS = 2
"""Processes at the same time: a machine that trains more of them ends all of them later."""
STOP = signal.SIGTERM
"""Asks a job to stop, as Ctrl-C does. What a script has begun in the background ignores SIGINT, and so do its jobs."""
STOP_S = 60.0
"""How long a job that is asked to stop may take for its checkpoint when the studio ends."""
TAIL_BYTES = 16_384
"""Of what a job has printed, so much of the end is shown."""


@dataclass(eq=False)
class Job:
    """A process of `opsin`: what it is called, its output, when it began (a reading of `time.time`)."""

    name: str
    process: subprocess.Popen[bytes]
    output: Path
    began: float = field(default_factory=time.time)

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    @property
    def lines(self) -> list[str]:
        """The last lines that it has printed, without what could steer a terminal."""
        with suppress(OSError), self.output.open("rb") as file:
            file.seek(max(0, self.output.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace").replace("\r", "\n")
            return [line for line in printable_lines(text).splitlines() if line.strip()]
        return []


class Jobs:
    """The jobs of a studio by name, the ended ones too.

    Args:
        folder: where their outputs are written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: dict[str, Job] = {}
        self._lock = Lock()

    def start(self, name: str, arguments: Sequence[str]) -> Job:
        """Run `opsin ARGUMENTS` in a process of its own.

        Raises:
            RequestError: 409, one of this name or too many are running.
        """
        with self._lock:
            running = self.running()
            if any(job.name == name for job in running):
                raise RequestError(409, "this is running already", got=name)
            if len(running) >= MAX_JOBS:
                names = ", ".join(job.name for job in running)
                raise RequestError(409, "enough is being trained", got=names, do="wait for one, or stop it")
            output = self._folder / f"{name}.txt"
            with writing(output):
                self._folder.mkdir(parents=True, exist_ok=True)
                with output.open("wb") as file:
                    process = subprocess.Popen(
                        [sys.executable, "-m", "opsin", *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,  # Ctrl-C in the studio's terminal is the studio's to hand on
                        env=os.environ | {"PYTHONUNBUFFERED": "1"},
                    )
            self._jobs[name] = Job(name=name, process=process, output=output)
            return self._jobs[name]

    def get(self, name: str) -> Job | None:
        """The job of this name that was begun last; None where there was none."""
        return self._jobs.get(name)

    def running(self) -> list[Job]:
        """Those that have not ended."""
        return [job for job in self._jobs.values() if job.exit_code is None]

    def stop(self, name: str) -> None:
        """Ask a job to end, as Ctrl-C does: a training writes a checkpoint first.

        Raises:
            RequestError: 404, none of this name is running here.
        """
        job = self.get(name)
        if job is None or job.exit_code is not None:
            raise RequestError(404, "nothing of this name was started here and runs", got=name[:100])
        job.process.send_signal(STOP)

    def close(self) -> None:
        """Ask all to end, and wait for their checkpoints."""
        jobs = self.running()
        for job in jobs:
            job.process.send_signal(STOP)
        deadline = time.monotonic() + STOP_S
        for job in jobs:
            try:
                job.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(job.process.pid, signal.SIGKILL)  # its workers too
                job.process.wait()
