"""Runs the jobs of a queue in order, in parallel where cores and memory allow it.

No job overtakes another: a large one at the front waits until there is room, and so do those behind it. Cores are
passed on as numbers of threads; memory is polled, and a job above its limit is terminated, with a checkpoint.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from opsin.errors import ConfigError
from opsin.jobs.store import DONE, FAILED, RUNNING, WAITING, Job, Queue
from opsin.units import bytes_text

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_END = 60.0
"""A job that is asked to end has so long for its checkpoint."""
LAST_LINE_BYTES = 2000
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Started:
    """A job at work: its process, and the lock that it holds.

    `over`: bytes that it took where that was above its limit; `asked_at`: when it was asked to end for that.
    """

    job: Job
    process: subprocess.Popen[bytes]
    lock: int
    over: int = 0
    asked_at: float = 0.0


class Runner:
    """Runs the jobs of one queue.

    Args:
        queue: other runners may work on it too, each with its own limits.
        cores: limit of all running jobs together.
        memory_bytes: likewise; 0 is no limit.
        say: called with a line for each job that starts or ends.
    """

    def __init__(self, queue: Queue, *, cores: int, memory_bytes: int = 0, say: Callable[[str], None]) -> None:
        if cores < 1 or memory_bytes < 0:
            raise ConfigError(
                "a limit is out of range", got=(cores, memory_bytes), expected="1 core or more, 0 bytes or more"
            )
        self.queue, self.cores, self.memory_bytes, self.say = queue, cores, memory_bytes, say
        self.started: list[Started] = []

    def run(self) -> list[Job]:
        """Run jobs until none is waiting or running; returns those that failed.

        An interruption terminates the running jobs, which write checkpoints, and returns them to the queue.
        """
        failed: list[Job] = []
        try:
            while self._start_what_fits() or self.started:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                failed += [job for job in self._look() if job.state == FAILED]
        except BaseException:
            self._end_all()
            raise
        return failed

    def _start_what_fits(self) -> bool:
        """Start jobs from the front; returns whether one still waits that could be started later."""
        for job in self.queue.jobs():
            if job.state not in (WAITING, RUNNING) or any(one.job.number == job.number for one in self.started):
                continue
            if (lock := self.queue.take(job.number)) is None:
                continue  # at work elsewhere
            if not self._could_fit(job):
                os.close(lock)
                failed = self.queue.change(job, state=FAILED, note="asks for more than all that this queue may take")
                self.say(_line(failed))
            elif self._fits(job):
                self._start(job, lock)
            else:
                os.close(lock)
                return True
        return False

    def _could_fit(self, job: Job) -> bool:
        return job.cores <= self.cores and (not self.memory_bytes or job.memory_bytes <= self.memory_bytes)

    def _fits(self, job: Job) -> bool:
        cores = sum(one.job.cores for one in self.started) + job.cores
        memory = sum(one.job.memory_bytes for one in self.started) + job.memory_bytes
        return cores <= self.cores and (not self.memory_bytes or memory <= self.memory_bytes)

    def _start(self, job: Job, lock: int) -> None:
        note = "went on after it was lost" if job.state == RUNNING else ""
        job = self.queue.change(job, state=RUNNING, tries=job.tries + 1, code=None, note=note)
        with self.queue.path(job.number, "log").open("ab") as log:
            process = subprocess.Popen(
                job.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | dict.fromkeys(THREADS, str(job.cores)),
                pass_fds=(lock,),
                start_new_session=True,  # signals reach it, and all that it starts, through this process alone
            )
        self.started.append(Started(job, process, lock))
        self.say(_line(job))

    def _look(self) -> list[Job]:
        """The jobs that have ended since the last look."""
        ended = []
        for one in list(self.started):
            taken = resident_bytes(one.process.pid) if one.job.memory_bytes else 0
            if taken > one.job.memory_bytes and not one.over:
                one.over, one.asked_at = taken, time.monotonic()
                _ask_to_end(one.process)
            if one.over and one.process.poll() is None and time.monotonic() > one.asked_at + SECONDS_TO_END:
                os.killpg(one.process.pid, signal.SIGKILL)
            if one.process.poll() is not None:
                ended.append(self._ended(one))
        return ended

    def _ended(self, one: Started) -> Job:
        self.started.remove(one)
        os.close(one.lock)
        code = one.process.returncode
        note = "" if code == 0 else _said_last(self.queue.path(one.job.number, "log"))
        if one.over:
            note = f"took {bytes_text(one.over)} of memory, and had said {bytes_text(one.job.memory_bytes)}"
        job = self.queue.change(one.job, state=DONE if code == 0 else FAILED, code=code, note=note)
        self.say(_line(job))
        return job

    def _end_all(self) -> None:
        """End the jobs at work; they wait for the next call."""
        for one in self.started:
            _ask_to_end(one.process)
        until = time.monotonic() + SECONDS_TO_END
        for one in self.started:
            try:
                one.process.wait(max(until - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                os.killpg(one.process.pid, signal.SIGKILL)
                one.process.wait()
            os.close(one.lock)
            self.queue.change(one.job, state=WAITING, note="interrupted")
        self.started = []


def resident_bytes(session: int) -> int:
    """Memory that the processes of a session hold; 0 where the system does not tell (it does on Linux).

    Source: proc_pid_stat(5): field 6 is the session, field 24 the resident pages.
    """
    pages = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            values = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(values[3]) == session:
            pages += int(values[21])
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else 0


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)


def _said_last(log: Path) -> str:
    """The last line that a command printed, or the first of an error of Opsin's, which ends with what to do."""
    if not log.is_file():
        return ""
    lines = log.read_bytes()[-LAST_LINE_BYTES:].decode(errors="replace").strip().splitlines()
    told = [line for line in lines if line.startswith("opsin: ")] if lines and lines[-1].startswith("  do:") else lines
    return told[-1].strip() if told else ""


def _line(job: Job) -> str:
    note = f": {job.note}" if job.note else ""
    return f"job {job.number} {job.state}{note}"
