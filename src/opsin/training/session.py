"""One run from data to scores: what `opsin train` does.

prepared (`preparing.py`) -> precision -> Trainer -> artefact, scores, gallery
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

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
from opsin.runs import RUNS_FOLDER, Run, RunWriter, free_path, next_name
from opsin.training.engine import checkpoints, machine
from opsin.training.engine.budget import Budget
from opsin.training.engine.checkpoints import Checkpoint
from opsin.training.engine.hooks import Callback, check_callbacks
from opsin.training.engine.loop import Trainer, command_to_resume
from opsin.training.engine.own_parts import OwnParts, split_parts
from opsin.training.engine.restarts import RestartNotes
from opsin.training.engine.shards import is_sharded
from opsin.training.engine.threads import counted
from opsin.training.finish import finish
from opsin.training.head_start import fit_head
from opsin.training.planning import forecast_of
from opsin.training.preflight.checks import preflight
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

CONTINUED = ("epochs", "minutes", "patience", "checkpoint_minutes", "threads")
"""Settings that a resumed run may change."""


def train(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    resume: bool = False,
    open_test: bool = False,
    quiet: bool = False,
    command: str = "opsin.train(...)",
    began: float | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Run:
    """Train one network, score it on val, and leave a run folder.

    In a program that torchrun has launched several times, all call it with the same arguments and train together.

    Args:
        data: catalogue name, path, arrays, or a loaded data set.
        root: folder of the catalogue's data sets.
        recipe: a TOML file of settings, or the name of a built-in one.
        name: name of the run; by default made of data set, network and a number.
        out: folder of run folders.
        resume: continue the run `name` from its last checkpoint; with larger `epochs`, or with `minutes` more, also
            after it has finished. It keeps its settings: changed ones, also from `recipe`, are refused. It keeps the
            number of threads too, unless `threads` is given: only with the same number is the result bit for bit that
            of an uninterrupted run.
        open_test: also score the test split, once; this is recorded.
        quiet: no progress.
        command: the command line as typed, stored in the run.
        began: value of `time.monotonic` from which `minutes` count; by default now.
        callbacks: called during training, and may stop it (`Callback`).
        settings: any field of the groups in `opsin.config`; also user-defined parts (`OwnParts`): `model` as a
            module, `optimizer` as a function of the parameters, `loss` and `augment`.

    Raises:
        RefusedError: settings, data or the run's name are invalid; nothing was written.
        InterruptedRunError: stopped by Ctrl-C, SIGTERM or SIGHUP once there was a run; `resume` continues.
        DivergedError: the loss or a gradient is not finite.
    """
    check_callbacks(callbacks)
    plain_settings, own = split_parts(settings)
    with interrupts.raised(), machine.threads_restored(), joined() as group, group.followers_told():
        if not group.leads:
            return follow(data, root=root, own=own, group=group)
        return _to_its_end(
            data,
            root=root,
            recipe=recipe,
            name=name,
            out=out,
            resume=resume,
            open_test=open_test,
            report=Reporter(quiet=quiet),
            command=command,
            settings=absolute(plain_settings, out),
            own=own,
            began=time.monotonic() if began is None else began,
            callbacks=callbacks,
            group=group,
        )


def _to_its_end(data: Dataset | str | Path | Mapping[str, Any], *, out: Path | str, **given: Any) -> Run:
    """Train; a run that has ended or was refused is not taken up when its group is started again."""
    notes = RestartNotes(out)
    try:
        run = _train(data, out=out, **given)
    except (RefusedError, CheckFailedError):
        notes.forget()
        raise
    notes.forget()
    return run


def _train(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None,
    recipe: str | None,
    name: str | None,
    out: Path | str,
    resume: bool,
    open_test: bool,
    report: Reporter,
    command: str,
    settings: Mapping[str, Any],
    own: OwnParts,
    began: float,
    callbacks: Sequence[Callback],
    group: Group,
) -> Run:
    notes = RestartNotes(out)
    began = notes.began(began)
    if earlier := notes.read().get("run"):  # the group was started again, since one of its processes died
        name, resume = str(earlier), True
    cores = Cores()
    layer = read_recipe(recipe) if recipe else {}
    minutes = settings.get("minutes", None if resume else layer.get("minutes"))
    budget = None if minutes is None else Budget(seconds=60 * float(minutes), began=began)
    if resume:
        run = _existing(name, out)
        writer = RunWriter(run)
        with writer.locked():  # before the data is read; held until the end
            for message in writer.repair():
                report.message(message)
        source = data.source if isinstance(data, Dataset) else source_name(data)
        config = _continued(run, source, settings, layer)
        dataset = loaded(data, root or config.root, config)
        if writer.checkpoints_folder.is_dir():
            _check_same_parts(run, own)
        keep_threads(run, config)
        prepared = prepare(dataset, config, report)
        if run.data:
            _check_same_data(run, dataset)
            check_same_weights(run, prepared.origin)
        else:  # stopped between creating the folder and writing this file
            writer.data(describe_data(prepared))
        writer.config(config)
    else:
        if name is not None:
            free_path(name, out)  # refuse before the images are packed
        prepared = prepare_from(data, root=root, recipe=recipe, settings=settings, report=report, budget=budget)
        dataset, config = prepared.dataset, prepared.config
        is_sharded(config, group)  # refuses what weights in parts cannot do
        writer = RunWriter.create(config, name=name or next_name(f"{dataset.name}-{config.model.model}", out), out=out)
        notes.keep({"run": str(writer.path), "began": began + time.time() - time.monotonic()})
        writer.data(describe_data(prepared))
        if prepared.origin is not None:
            writer.weights(prepared.origin.record)
        if prepared.plan is not None:
            writer.event("plan", **prepared.plan)
    prepared = with_own_parts(prepared, own)
    if own:
        writer.event("own_parts", parts=own.names(), withdrawn=own.withdrawn(), message=own.message())
        report.message(f"note: {own.message()}")
    with writer.locked(), _told_how_to_go_on(writer.run, prepared.config):
        return _fit(
            prepared,
            writer,
            report,
            resume=resume,
            open_test=open_test,
            command=command,
            cores=cores,
            budget=budget,
            callbacks=callbacks,
            group=group,
        )


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


def _fit(
    prepared: Prepared,
    writer: RunWriter,
    report: Reporter,
    *,
    resume: bool,
    open_test: bool,
    command: str,
    cores: Cores,
    budget: Budget | None,
    callbacks: Sequence[Callback],
    group: Group,
) -> Run:
    run, say = writer.run, partial(_log_fallback, writer)
    checkpoint = checkpoints.load(writer.checkpoints_folder, report=report, say=say) if resume else None
    prepared = with_features(prepared, report, started=checkpoint is not None, budget=budget if group.alone else None)
    choice = recorded_choice(run) if resume else None
    sharded = is_sharded(prepared.config, group)
    choice = choice or choose_precision(prepared, sharded=sharded)
    earlier_threads = run.environment.threads if resume else None
    thread_choice = choose_threads(prepared, choice, cores, report, resume=resume) if group.alone else None
    write_environment(writer, prepared.device, choice, thread_choice)
    checked = sharded or any(event.event == "preflight" for event in run.log)
    if prepared.config.train.preflight and not checked:
        writer.event("preflight", **preflight(prepared, choice.precision, report))
        if forecast := forecast_of(prepared, choice):
            writer.event("forecast", **forecast)
            report.message(forecast["message"])
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
        open_test=open_test,
        budget=budget,
        callbacks=callbacks,
    )
    if thread_choice:
        trainer.journal.callbacks.append(watch_threads(trainer, prepared, choice, cores, thread_choice))
    _announce(prepared, trainer, writer, report)
    if resume:
        _go_on(trainer, writer, report, checkpoint and shared_checkpoint(group, checkpoint))
        go_on_with_threads(trainer, earlier_threads)
    take_parts(trainer, parts)
    trainer.fit()
    finish(
        run=run,
        writer=writer,
        trainer=trainer,
        splits=prepared.splits,
        open_test=open_test,
        command=command,
        data_name=prepared.dataset.name,
        report=report,
    )
    return run


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
