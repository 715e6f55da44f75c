"""One run from data to scores: what `opsin train` does.

prepared (`preparing.py`) -> precision -> Trainer -> artefact, scores, gallery
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from opsin import config as settings_of
from opsin import interrupts
from opsin.config import RunConfig
from opsin.data.load import source_name
from opsin.data.samples import Dataset
from opsin.errors import CheckFailedError, InterruptedRunError, RefusedError, RunError
from opsin.group import Group, joined
from opsin.models.table import count_parameters
from opsin.progress import Reporter
from opsin.runs import Run, RunWriter, free_path, next_name
from opsin.training.engine import checkpoints, machine
from opsin.training.engine.budget import Budget
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.hooks import check_callbacks
from opsin.training.engine.loop import Trainer, command_to_resume
from opsin.training.engine.own_parts import OwnParts, split_parts
from opsin.training.engine.precision import Choice
from opsin.training.engine.restarts import RestartNotes
from opsin.training.engine.shards import is_sharded
from opsin.training.engine.threads import counted
from opsin.training.finish import finish
from opsin.training.head_start import fit_head
from opsin.training.planning import forecast_of
from opsin.training.preflight.checks import preflight
from opsin.training.request import Request
from opsin.training.run_threads import Cores, choose_threads, go_on_with_threads, keep_threads, watch_threads
from opsin.training.setup.defaults import read_recipe
from opsin.training.setup.origin import absolute, check_same_weights
from opsin.training.setup.prepared import (
    Prepared,
    choose_precision,
    describe_data,
    recorded_choice,
    write_environment,
)
from opsin.training.setup.preparing import prepare, prepare_from, with_own_parts
from opsin.training.together import follow, hand_over, loaded, shared_checkpoint, take_parts
from opsin.training.trainers import made_trainer, with_features

if TYPE_CHECKING:
    from opsin.training.request import Data

CONTINUED = ("epochs", "minutes", "patience", "checkpoint_minutes", "threads")
"""Settings that a resumed run may change."""


@dataclass(frozen=True, kw_only=True)
class _Session:
    """One call of `train`.

    `request`: as asked, but for its `settings`, which are without user-defined parts and with absolute paths. `own`:
    these parts. `recipe`: settings of the recipe. `budget`: of this call. `cores`: the CPU before anything was done.
    `group`: the processes that train together. `notes`: what outlasts a start of the whole group.
    """

    data: Data
    request: Request
    own: OwnParts
    recipe: Mapping[str, Any]
    report: Reporter
    budget: Budget | None
    cores: Cores
    group: Group
    notes: RestartNotes
    began: float


def train(data: Data, **given: Any) -> Run:
    """Train one network as `opsin.train` does, without a report: `given` are the fields of `Request`, and settings."""
    return carry_out(data, Request.of(given))


def carry_out(data: Data, request: Request) -> Run:
    """Train one network, score it on val, and leave a run folder.

    In a program that torchrun has launched several times, all call it with the same arguments and train together. A
    resumed run keeps its number of threads, unless `threads` is given: only with the same number is the result bit for
    bit that of an uninterrupted run.

    Args:
        data: catalogue name, path, arrays, or a loaded data set.
        request: what was asked for.

    Raises:
        RefusedError: settings, data or the run's name are invalid; nothing was written.
        InterruptedRunError: stopped by Ctrl-C, SIGTERM or SIGHUP once there was a run; `resume` continues.
        DivergedError: the loss or a gradient is not finite.
    """
    check_callbacks(request.callbacks)
    plain_settings, own = split_parts(request.settings)
    with interrupts.raised(), machine.threads_restored(), joined() as group, group.followers_told():
        if not group.leads:
            return follow(data, root=request.root, own=own, group=group)
        request = replace(request, settings=absolute(plain_settings, request.out))
        return _to_its_end(data, request, own, group)


def _to_its_end(data: Data, request: Request, own: OwnParts, group: Group) -> Run:
    """Train; a run that has ended or was refused is not taken up when its group is started again."""
    began = time.monotonic() if request.began is None else request.began
    notes = RestartNotes(request.out)
    try:
        run = _train(_opened(data, request, own, group, began))
    except (RefusedError, CheckFailedError):
        notes.forget()
        raise
    notes.forget()
    return run


def _opened(data: Data, request: Request, own: OwnParts, group: Group, began: float) -> _Session:
    """The session of a request, or of the run that its group was started again for."""
    report, notes = Reporter(quiet=request.quiet), RestartNotes(request.out)
    began = notes.began(began)
    if earlier := notes.read().get("run"):  # the group was started again, since one of its processes died
        request = replace(request, name=str(earlier), resume=True)
    cores = Cores()
    recipe = read_recipe(request.recipe) if request.recipe else {}
    minutes = request.settings.get("minutes", None if request.resume else recipe.get("minutes"))
    return _Session(
        data=data,
        request=request,
        own=own,
        recipe=recipe,
        report=report,
        budget=None if minutes is None else Budget(seconds=60 * float(minutes), began=began),
        cores=cores,
        group=group,
        notes=notes,
        began=began,
    )


def _train(session: _Session) -> Run:
    own, report = session.own, session.report
    prepared, writer = _continued_run(session) if session.request.resume else _new_run(session)
    prepared = with_own_parts(prepared, own)
    if own:
        writer.event("own_parts", parts=own.names(), withdrawn=own.withdrawn(), message=own.message())
        report.message(f"note: {own.message()}")
    with writer.locked(), _told_how_to_go_on(writer.run, prepared.config):
        return _fit(session, prepared, writer)


def _continued_run(session: _Session) -> tuple[Prepared, RunWriter]:
    """The run to resume, repaired and locked, and what its trainer needs; other data or settings are refused."""
    data, request, report = session.data, session.request, session.report
    run = _existing(request.name, request.out)
    writer = RunWriter(run)
    with writer.locked():  # before the data is read; held until the end
        for message in writer.repair():
            report.message(message)
    source = data.source if isinstance(data, Dataset) else source_name(data)
    config = _continued(run, source, request.settings, session.recipe)
    dataset = loaded(data, request.root or config.root, config)
    if writer.checkpoints_folder.is_dir():
        _check_same_parts(run, session.own)
    keep_threads(run, config)
    prepared = prepare(dataset, config, report)
    if run.data:
        _check_same_data(run, dataset)
        check_same_weights(run, prepared.origin)
    else:  # stopped between creating the folder and writing this file
        writer.data(describe_data(prepared))
    writer.config(config)
    return prepared, writer


def _new_run(session: _Session) -> tuple[Prepared, RunWriter]:
    """The folder of a new run, and what its trainer needs."""
    request = session.request
    if request.name is not None:
        free_path(request.name, request.out)  # refuse before the images are packed
    prepared = prepare_from(
        session.data,
        root=request.root,
        recipe=request.recipe,
        settings=request.settings,
        report=session.report,
        budget=session.budget,
    )
    dataset, config = prepared.dataset, prepared.config
    is_sharded(config, session.group)  # refuses what weights in parts cannot do
    name = request.name or next_name(f"{dataset.name}-{config.model.model}", request.out)
    writer = RunWriter.create(config, name=name, out=request.out)
    session.notes.keep({"run": str(writer.path), "began": session.began + time.time() - time.monotonic()})
    writer.data(describe_data(prepared))
    if prepared.origin is not None:
        writer.weights(prepared.origin.record)
    if prepared.plan is not None:
        writer.event("plan", **prepared.plan)
    return prepared, writer


@contextmanager
def _told_how_to_go_on(run: Run, config: RunConfig) -> Iterator[None]:
    """Context that adds the command to resume to an interruption outside the training loop."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise InterruptedRunError(
            f"stopped by {str(interrupt) or 'Ctrl-C'}",
            where=run.path,
            do=f"`{command_to_resume(run, config)}` continues it",
        ) from interrupt


def _fit(session: _Session, prepared: Prepared, writer: RunWriter) -> Run:
    """Everything from the prepared data to the scores, in this order: decide, check, train, score."""
    run, report, group, resume = writer.run, session.report, session.group, session.request.resume
    say = partial(_log_fallback, writer)
    checkpoint = checkpoints.load(writer.checkpoints_folder, report=report, say=say) if resume else None
    budget = session.budget if group.alone else None
    prepared = with_features(prepared, report, started=checkpoint is not None, budget=budget)
    sharded = is_sharded(prepared.config, group)
    choice = (recorded_choice(run) if resume else None) or choose_precision(prepared, sharded=sharded)
    earlier_threads = run.environment.threads if resume else None
    thread_choice = choose_threads(prepared, choice, session.cores, report, resume=resume) if group.alone else None
    write_environment(writer, prepared.device, choice, thread_choice)
    _check(prepared, choice, writer, report, sharded=sharded)
    start = _head_start(prepared, writer, report) if checkpoint is None else {}
    parts = int(RestartNotes(run.path.parent).read().get("parts", 1))
    hand_over(group, writer, prepared, choice.precision, start=start, resumed=checkpoint is not None, parts=parts)
    trainer = made_trainer(
        prepared,
        writer,
        report,
        precision=choice.precision,
        start=start,
        group=group,
        open_test=session.request.open_test,
        budget=session.budget,
        callbacks=session.request.callbacks,
    )
    if thread_choice:
        trainer.journal.callbacks.append(watch_threads(trainer, prepared, choice, session.cores, thread_choice))
    _announce(prepared, trainer, writer, report)
    if resume:
        _go_on(trainer, writer, report, checkpoint and shared_checkpoint(group, checkpoint))
        go_on_with_threads(trainer, earlier_threads)
    take_parts(trainer, parts)
    trainer.fit()
    finish(trainer, prepared, writer, session.request, report)
    return run


def _check(prepared: Prepared, choice: Choice, writer: RunWriter, report: Reporter, *, sharded: bool) -> None:
    """The checks before the first step, once in a run, and the forecast of its memory and time."""
    checked = sharded or any(event.event == "preflight" for event in writer.run.log)
    if not prepared.config.train.preflight or checked:
        return
    writer.event("preflight", **preflight(prepared, choice.precision, report))
    if forecast := forecast_of(prepared, choice):
        writer.event("forecast", **forecast)
        report.message(forecast["message"])


def _log_fallback(writer: RunWriter, message: str) -> None:
    writer.event("checkpoint_fallback", message=message)


def _go_on(trainer: Trainer, writer: RunWriter, report: Reporter, checkpoint: Checkpoint | None) -> None:
    if checkpoint is not None:
        trainer.restore(checkpoint)
    else:
        writer.rewind(0)
    trainer.journal.event("resume", f"resumed at step {trainer.state.step}")
    report.message(f"resumed at step {trainer.state.step} of {trainer.total_steps}")


def _head_start(prepared: Prepared, writer: RunWriter, report: Reporter) -> Mapping[str, float]:
    """Fit the head on the features, if the run has a head start; returns its scores on val."""
    if not prepared.config.finetune.head_start:
        return {}
    assert prepared.features is not None
    artifact = prepared.artifact
    network = artifact.network.to(prepared.device)
    found = fit_head(network, prepared.task, prepared.features, artifact.classes, prepared.device)
    name = prepared.task.main_score
    scored = f": val {name} {found.val[name]:.4f}" if found.val else ""
    message = f"head fitted on frozen features, weight decay {found.decay:g}{scored}"
    writer.event("head_start", val=found.val, decay=found.decay, tried=found.tried, message=message)
    report.message(message)
    return found.val


def _announce(prepared: Prepared, trainer: Trainer, writer: RunWriter, report: Reporter) -> None:
    total, trainable = count_parameters(trainer.network)
    sizes = ", ".join(f"{name} {len(samples.images):,}" for name, samples in prepared.splits.items())
    report.message(
        f"run {writer.path}: {prepared.dataset.name} ({sizes}), {prepared.artifact.spec.name}, {total:,} parameters"
    )
    chosen = trainer.stepper.precision
    memory_format = "channels last" if chosen.channels_last else "channels first"
    threads = counted(torch.get_num_threads())
    size = trainer.group.size
    processes = f"{size} processes, each " if size > 1 else ""
    report.message(f"{processes}{prepared.device}, {threads}, {chosen.dtype}, {memory_format}")
    writer.event(
        "start",
        parameters=total,
        trainable=trainable,
        steps_per_epoch=trainer.steps_per_epoch,
        epochs=trainer.settings.epochs,
        **({"processes": size} if size > 1 else {}),
    )


def _existing(name: str | None, out: Path | str) -> Run:
    if name is None:
        raise RunError("`--resume` needs the name of the run", do="give --name NAME")
    return Run.open(name, out=out)


def _continued(run: Run, source: str, settings: Mapping[str, Any], recipe: Mapping[str, Any]) -> RunConfig:
    """The stored config with the settings that a resumed run may change; other changes are refused."""
    stored = run.config
    if Path(source) != Path(stored.source):
        raise RunError(
            "this run was trained on other data",
            where=run.path,
            got=source,
            expected=stored.source,
            do="give its data, or start a new run",
        )
    present = settings_of.flat(stored)
    asked = {**recipe, **settings}
    changed = [
        key for key, value in asked.items() if key not in CONTINUED and present.get(key) != settings_of.plain(value)
    ]
    if changed:
        do = f"a resumed run may change {', '.join(CONTINUED)}; start a new run for the rest"
        raise RunError("a resumed run keeps its settings", where=run.path, got=", ".join(changed), do=do)
    return settings_of.resolve({**present, **settings})


def _check_same_parts(run: Run, own: OwnParts) -> None:
    """Refuse other user-defined parts than those that the run has been trained with so far."""
    recorded = [event["parts"] for event in run.log if event.event == "own_parts"]
    own.check_resumed(cast("Mapping[str, str]", recorded[-1] if recorded else {}), where=str(run.path))


def _check_same_data(run: Run, dataset: Dataset) -> None:
    got, expected = dataset.fingerprint(), run.data.fingerprint
    if got != expected:
        do = "restore the data, or start a new run"
        raise RunError("the data has changed since this run began", where=run.path, got=got, expected=expected, do=do)
