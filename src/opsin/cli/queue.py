"""`opsin queue`: commands that are run in order, within limits."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import WHOLE, JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line, print_note, stdout_console
from opsin.errors import ConfigError

if TYPE_CHECKING:
    from opsin.jobs.store import Job

app = cyclopts.App(name="queue", help="Put commands into a queue, run them within limits, list them.")
FolderOption = Annotated[str, Parameter(name="--queue", help="Folder of the queue.")]
CoresOption = Annotated[int, WHOLE, Parameter(help="Cores that it may take, as threads.")]
GB = 1e9


@app.command
def add(
    *command: Annotated[str, Parameter(allow_leading_hyphen=True, help="A command of Opsin, without `opsin`.")],
    queue: FolderOption = "queue",
    cores: CoresOption = 1,
    memory_gb: Annotated[float, Parameter(help="GB of memory that it may take; 0 is not limited.")] = 0.0,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Append a command: `opsin queue add --cores 2 -- train digits --name a`."""
    from opsin.jobs.store import Queue

    job = Queue(queue).add(command, cores=cores, memory_bytes=_bytes(memory_gb))
    if json_:
        print_json(job.to_json())
    elif not quiet:
        print_line(f"job {job.number}")
    return 0


@app.command
def run(
    *,
    queue: FolderOption = "queue",
    cores: Annotated[int | None, Parameter(help="Cores of all jobs together; by default all.")] = None,
    memory_gb: Annotated[float, Parameter(help="GB of memory of all jobs together; 0 is not limited.")] = 0.0,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Run jobs in order until none is waiting; lost and interrupted ones continue. Exit code 3 if one failed."""
    if sys.platform == "win32" or not hasattr(signal, "SIGKILL"):
        raise ConfigError("a queue is run where processes can hand on locks", got=sys.platform, expected="Linux, macOS")
    from opsin.jobs.runner import Runner
    from opsin.jobs.store import Queue

    jobs = Queue(queue)
    limit = (os.cpu_count() or 1) if cores is None else cores
    runner = Runner(
        jobs, cores=limit, memory_bytes=_bytes(memory_gb), say=lambda line: None if quiet else print_note(line)
    )
    failed = runner.run()
    if json_:
        print_json({"jobs": [job.to_json() for job in jobs.jobs()]})
    return 3 if failed else 0


@app.command(name="list")
def list_jobs(
    *, queue: FolderOption = "queue", json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0
) -> int:
    """List all jobs with their limits and states."""
    from opsin.jobs.store import Queue

    jobs = Queue(queue).jobs()
    if json_:
        print_json({"jobs": [job.to_json() for job in jobs]})
    else:
        _print(jobs)
    return 0


def _bytes(memory_gb: float) -> int:
    if not 0 <= memory_gb < float("inf"):
        raise ConfigError("setting `memory_gb` is out of range", got=memory_gb, expected="0 or more")
    return int(memory_gb * GB)


def _print(jobs: list[Job]) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for title in ("job", "state", "cores", "GB", "tries", "command", "note"):
        table.add_column(title)
    for job in jobs:
        memory = f"{job.memory_bytes / GB:g}" if job.memory_bytes else ""
        cells = (
            str(job.number),
            job.state,
            str(job.cores),
            memory,
            str(job.tries),
            shlex.join(job.arguments),
            job.note,
        )
        table.add_row(*cells)
    stdout_console(highlight=False).print(table)
