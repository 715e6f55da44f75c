"""The number of threads of one run: chosen, recorded, and kept when it is resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from opsin.config import RunConfig
from opsin.progress import Reporter
from opsin.runs import Run
from opsin.training.engine import machine, threads
from opsin.training.engine.loop import Trainer
from opsin.training.engine.precision import Choice
from opsin.training.engine.threads import OtherWork, ThreadChoice, ThreadWatch, counted
from opsin.training.setup.prepared import Prepared, timed_step


@dataclass
class Cores:
    """The CPU at the start of a run: available threads, and the load of other processes."""

    most: int = field(default_factory=torch.get_num_threads)
    other_work: OtherWork = field(default_factory=OtherWork)


def keep_threads(run: Run, config: RunConfig) -> None:
    """Take the number of threads that `run` was begun with, unless the user gives one or this machine is too small."""
    recorded = run.environment.threads
    if not config.train.threads and isinstance(recorded, int) and 1 <= recorded <= machine.most_threads():
        torch.set_num_threads(recorded)


def choose_threads(
    prepared: Prepared, choice: Choice, cores: Cores, report: Reporter, *, resume: bool
) -> ThreadChoice | None:
    """The chosen number of threads, which is set; None where the user chose it.

    A resumed run has its number already. With frozen features a step is too short to be worth a timing.
    """
    if prepared.features is not None or not threads.is_open(prepared.config.train, prepared.device, cores.most):
        return None
    busy_cores = cores.other_work.cores()
    if resume:
        return ThreadChoice(threads=torch.get_num_threads(), busy_cores=busy_cores)
    chosen = threads.choose(cores.most, _make_step(prepared, choice), busy_cores)
    if chosen.threads != cores.most:
        report.message(threads.reason(chosen, cores.most))
    return chosen


def watch_threads(
    trainer: Trainer, prepared: Prepared, choice: Choice, cores: Cores, chosen: ThreadChoice
) -> ThreadWatch:
    """Watch the pace of `trainer`; a new choice is printed and logged with its first step."""

    def changed(new: ThreadChoice) -> None:
        step = trainer.state.step
        message = f"from step {step} on: {threads.reason(new, cores.most)}"
        trainer.report.message(message)
        trainer.journal.event("threads", message, **new.record())

    return ThreadWatch(
        most=cores.most,
        chosen=chosen,
        make_step=_make_step(prepared, choice),
        changed=changed,
        other_work=cores.other_work,
    )


def go_on_with_threads(trainer: Trainer, begun_with: object) -> None:
    """Use the number of threads of the checkpoint, with a message if it differs.

    Args:
        trainer: restored, if there was a checkpoint.
        begun_with: the number in environment.json before this resumption, for checkpoints without one.
    """
    recorded, given = trainer.state.threads or begun_with, trainer.settings.threads
    if not isinstance(recorded, int) or recorded < 1:
        return
    if not given and recorded <= machine.most_threads():
        torch.set_num_threads(recorded)
    present, step = torch.get_num_threads(), trainer.state.step
    if present == recorded:
        return
    message = (
        f"from step {step} on with {counted(present)} instead of {recorded}: "
        f"the result is not bit for bit that of an uninterrupted run; `--threads {recorded}` keeps it"
    )
    trainer.report.message(f"warning: {message}")
    trainer.journal.event("threads", message, threads=present, before=recorded)


def _make_step(prepared: Prepared, choice: Choice) -> Callable[[], Callable[[], object]]:
    size = min(prepared.config.train.batch_size, len(prepared.splits["train"].images))
    return lambda: timed_step(prepared, choice.precision, size)
