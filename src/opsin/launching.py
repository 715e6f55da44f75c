"""Starts a command several times on this machine, as a group that trains together.

PyTorch's elastic agent does it (torch.distributed.elastic, what torchrun runs): a process that dies ends the others,
and all are started again. Several machines are torchrun's: `torchrun --nnodes … -m opsin train …` on each of them.

    launcher ── fork server, which imports PyTorch once ── process 0, process 1, … and again after one has died
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from opsin import interrupts
from opsin.config import require
from opsin.errors import GroupError
from opsin.processes import LEAD, NOTES_VARIABLE

MAX_RESTARTS = 3
"""How often a group is started again in one call."""
MAX_PROCESSES = 1024
SHOWN_LINES = 3
GRACE_S = 60
"""How long a process whose launcher was killed may take to stop with a checkpoint."""
THREADS_VARIABLE = "OMP_NUM_THREADS"
PRELOADED = ["opsin.api.training"]
"""What the processes are forked with: importing it in each of them would take most of the time of their start."""
Command = Callable[[list[str]], int]


def launch(command: Command, arguments: Sequence[str], devices: int, *, began: float | None = None) -> int:
    """Run `command(arguments)` in `devices` processes that know of each other by torchrun's variables.

    Args:
        command: a function of a module; it is imported in each process.
        arguments: of the command.
        devices: number of processes.
        began: value of `time.monotonic` from which a budget of the command counts; by default now.

    Returns:
        The exit code of the first that did not succeed, the lead's before the others'; 0 if all did.

    Raises:
        ConfigError: fewer than one process, or more than there are GPUs.
        GroupError: processes died, again and again.
    """
    _check(devices)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=MAX_RESTARTS,
        start_method=_start_method(),
    )
    if _leaves_signals_alone():
        config = replace(config, signals_to_handle="SIGQUIT")
    notes = _notes(time.monotonic() if began is None else began)
    with _cores_shared(devices), notes, _quiet_agent(), interrupts.handled_by(_PassOn()):
        environment = {name: os.environ[name] for name in (THREADS_VARIABLE, NOTES_VARIABLE)}
        try:
            codes = elastic_launch(config, _run)(environment, command, list(arguments))
        except SignalException as signal:
            raise KeyboardInterrupt(signal.sigval.name) from signal
        except ChildFailedError as error:
            raise _as_group_error(error) from error
    return next((code for rank in sorted(codes) if (code := codes[rank])), 0)


def _leaves_signals_alone() -> bool:
    """Whether this PyTorch's agent can be told which signals are its own, so that `interrupts.NAMES` are ours.

    It sends them on, too, but then waits half a minute for processes that wait for it: to have read what they gave.
    """
    return any(field.name == "signals_to_handle" for field in fields(LaunchConfig))


class _PassOn:
    """Sends signals on to the processes that were started, which stop after the step in progress.

    A terminal sends Ctrl-C to all of them itself: to them ours is the second signal, which they remember. The third
    here, or one before there are any processes, ends this one and so all.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        started = multiprocessing.active_children()
        if self.count > interrupts.PATIENT_SIGNALS or not started:
            raise interrupts.Interrupted(signal.Signals(number).name)
        for process in started:
            process.terminate()


def _run(environment: dict[str, str], command: Command, arguments: list[str]) -> int:
    """Run the command in a process whose fork server may have been started for an earlier group."""
    threading.Thread(target=_stop_without_launcher, daemon=True).start()
    os.environ.update(environment)
    torch.set_num_threads(int(environment[THREADS_VARIABLE]))
    return command(arguments)


def _stop_without_launcher() -> None:
    """Stop this process once its launcher has died: nobody would end it, or start it again."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _start_method() -> str:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return "spawn"
    multiprocessing.set_forkserver_preload(PRELOADED)
    return "forkserver"


def _check(devices: int) -> None:
    require(1 <= devices <= MAX_PROCESSES, "devices", devices, f"1 to {MAX_PROCESSES:,}")
    gpus = torch.cuda.device_count()
    require(not gpus or devices <= gpus, "devices", devices, f"at most {gpus}, as there are as many GPUs here")


@contextmanager
def _cores_shared(devices: int) -> Iterator[None]:
    """The processes that are started inside the block have their share of the cores, unless a share is given."""
    name = THREADS_VARIABLE
    if name in os.environ:
        yield
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ[name] = str(max(1, cores // devices))
    try:
        yield
    finally:
        del os.environ[name]


@contextmanager
def _notes(began: float) -> Iterator[None]:
    """The processes that are started inside the block have a file for what they need when they are started again."""
    with TemporaryDirectory(prefix="opsin-group-") as folder:
        path = Path(folder) / "notes.json"
        path.write_text(json.dumps({"began": began + time.time() - time.monotonic()}))
        os.environ[NOTES_VARIABLE] = str(path)
        try:
            yield
        finally:
            del os.environ[NOTES_VARIABLE]


@contextmanager
def _quiet_agent() -> Iterator[None]:
    """The agent tells of failures alone, and once."""
    logger = logging.getLogger("torch.distributed.elastic")
    before, logger.level = logger.level, logging.CRITICAL
    try:
        yield
    finally:
        logger.level = before


def _as_group_error(error: ChildFailedError) -> GroupError:
    rank, failure = error.get_first_failure()
    what = f"process {rank} of the group died {MAX_RESTARTS + 1} times, and the others with it"
    lines = str(failure.message).strip().splitlines()[-SHOWN_LINES:]
    who = "the lead" if rank == LEAD else "a follower"
    got = f"{who}, exit code {failure.exitcode}: {' '.join(line.strip() for line in lines)}"
    return GroupError(what, got=got, do="`--resume` with the run's --name goes on from its last checkpoint")
