"""The end of a run: the artefact, the scores with their intervals, the predictions, the gallery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from opsin import artifact as artifacts
from opsin.answering import Answering, answering_of, watched_distances
from opsin.arrays import Arrays
from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.loader import gather
from opsin.config import RunConfig
from opsin.data.samples import Samples
from opsin.diagnosis.prospects import prospects
from opsin.evaluation.record import split_pictures, thumbnails
from opsin.evaluation.scoring import evaluate_predictions
from opsin.inference.cautious import feature_bank
from opsin.inference.predictor import Predictor
from opsin.models.table import count_parameters
from opsin.models.wrappers.views import check_views
from opsin.ops.selection import best_of_optimism
from opsin.progress import QUIET, Reporter, duration
from opsin.runs import AugmentedScores, Run, RunWriter, SplitScores, Summary
from opsin.score_notes import notes_of, selection
from opsin.tasks.base import Task
from opsin.tasks.targets import Targets
from opsin.training.engine import machine
from opsin.training.engine.loop import Trainer
from opsin.training.request import Request
from opsin.training.setup.prepared import Prepared
from opsin.types import SplitName, plain_number

NUM_GOLDEN = 4
GOLDEN_PX = 1 << 16
"""Largest number of pixels of the golden images: a pixel-wise network stores an output for each."""
NUM_SHOWN = 12
NUM_VIEWS = 4


def finish(trainer: Trainer, prepared: Prepared, writer: RunWriter, request: Request, report: Reporter) -> None:
    """Write the results of a finished run, the scores last."""
    run, splits, command = writer.run, prepared.splits, request.command
    trainer.network.load_state_dict(trainer.final_weights())
    artifact = trainer.artifact_of(trainer.network)
    unchanged = run.summary.step == trainer.state.step
    earlier = dict(run.scores)
    scored, rules = score_splits(writer, trainer, splits, open_test=request.open_test, command=command, report=report)
    if trainer.task.keeps_fitted and "val" in scored:
        fitted = {key: plain_number(value) for key, value in scored["val"].fitted.items()}
        artifact = replace(artifact, meta={**artifact.meta, "fitted": fitted})
    artifacts.save(run.model_folder, replace(artifact, answering=rules), golden_images=golden_images(splits["train"]))
    scored |= _with_views(trainer, splits, scored, earlier.get("val"))
    shown = data_pictures(splits["train"], trainer.config, trainer.task, artifact.classes)
    for split, scores in scored.items():
        samples, predictions = splits[split], run.predictions(split)
        shown |= split_pictures(trainer.task, split, scores, predictions, Targets.of(samples), samples.images)
    writer.gallery(shown)
    writer.summary(summary(run, trainer, command=command, data_name=prepared.dataset.name))
    entries = _entries(run, trainer, scored, earlier, unchanged=unchanged, report=report)
    writer.scores(entries)
    if (warning := no_better_than_guessing(run, trainer)) is not None:
        writer.event("no_better_than_guessing", step=trainer.state.step, message=warning)
        report.message(f"warning: {warning}")
    writer.event("finish", step=trainer.state.step, message=trainer.state.stopped or "finished")
    _tell(trainer, run, scored, entries, report)


def _tell(
    trainer: Trainer,
    run: Run,
    scored: Mapping[SplitName, SplitScores],
    entries: Mapping[str, SplitScores],
    report: Reporter,
) -> None:
    """Say what came out, and what would bring more."""
    for split, scores in scored.items():
        name = trainer.task.main_score
        report.message(f"{split}: {name} {scores.scores[name]} on {scores.n:,} samples")
        entry = entries[split]
        for note in notes_of(entry.details, entry.selection, name, entry[name], test_as_val=bool(entry.test_as_val)):
            report.message(f"  {note}")
    for found in prospects(run):
        report.message(f"what would bring more: {found}")
    report.message(f"{duration(trainer.state.seconds)} of training; report: `opsin report {run.path}`")


def _entries(
    run: Run,
    trainer: Trainer,
    scored: Mapping[SplitName, SplitScores],
    earlier: Mapping[str, SplitScores],
    *,
    unchanged: bool,
    report: Reporter,
) -> dict[str, SplitScores]:
    """The scores to store: the present ones, and of `earlier` ones those of the same weights."""
    entries: dict[str, SplitScores] = {str(split): scores for split, scores in scored.items()}
    if (copies := earlier["val"].without_copies if "val" in earlier else None) and unchanged:
        entries["val"] = replace(entries["val"], without_copies=copies)
    elif copies:
        report.message(f"val without copies was scored before the last steps: `opsin evaluate {run.path} --copies`")
    if trainer.settings.restore_best and "val" in entries:
        chosen = selection([(epoch.epoch, epoch.val) for epoch in run.log.epochs], trainer.task.main_score)
        chosen = chosen and replace(chosen, optimism=optimism_of(run, trainer, entries["val"]))
        entries["val"] = replace(entries["val"], selection=chosen)
    if trainer.config.data.test_as_val and "val" in entries:
        entries["val"] = replace(entries["val"], test_as_val=True)
    kept_test = earlier.get("test") if unchanged else None
    if test := entries.get("test") or kept_test:
        entries["test"] = replace(test, opened=run.log.test_openings)
    return entries


def _with_views(
    trainer: Trainer,
    splits: Mapping[SplitName, Samples],
    scored: Mapping[SplitName, SplitScores],
    earlier: SplitScores | None,
) -> dict[SplitName, SplitScores]:
    """Val scored over the same views as before the run was resumed; empty without any."""
    views = check_views(earlier.tta.views if earlier and earlier.tta else ())
    if not views or "val" not in scored:
        return {}
    predictor = Predictor(trainer.artifact_of(trainer.network), device=trainer.device, views=views)
    samples = splits["val"]
    scores = trainer.task.scores(predictor.samples(samples), Targets.of(samples), trainer.artifact.classes)
    return {"val": replace(scored["val"], tta=AugmentedScores(views=views, scores=scores))}


def optimism_of(run: Run, trainer: Trainer, found: SplitScores) -> float | None:
    """Approximate optimism of the best epoch's score; None if unknown."""
    name = trainer.task.main_score
    values = [value for epoch in run.log.epochs if not math.isnan(value := epoch.val.get(name, math.nan))]
    value = best_of_optimism(values, found.scores[name])
    return None if math.isnan(value) else round(value, 6)


def no_better_than_guessing(run: Run, trainer: Trainer) -> str | None:
    """A warning if the training loss ended above ln K, that of a uniform prediction.

    Overlap losses are not likelihoods, and are skipped.
    """
    epochs = run.log.epochs
    last = epochs[-1].train if epochs else {}
    names = ("class_loss", "cross_entropy", "loss")
    name = next((key for key in names if not math.isnan(last.get(key, math.nan))), None)
    guessing = trainer.task.guessing_loss(len(trainer.artifact.classes))
    if guessing is None or name is None or last[name] <= guessing[0]:
        return None
    chance, words = guessing
    return (
        f"the training loss ended at {last[name]:.3g}, above the {chance:.3g} of guessing ({words}): "
        f"the network has learned nothing; try a lower --lr (it was {trainer.settings.lr:g}), and check the labels"
    )


def golden_images(samples: Samples) -> Tensor:
    """A few images, uint8 or float32 [n, C, H, W], whose outputs an artefact stores for verification."""
    height, width = samples.images.shape[2:]
    count = max(1, min(NUM_GOLDEN, len(samples.images), GOLDEN_PX // (height * width)))
    return gather(samples, torch.arange(count)).images


def score_splits(
    writer: RunWriter,
    trainer: Trainer,
    splits: Mapping[SplitName, Samples],
    *,
    open_test: bool,
    command: str,
    report: Reporter = QUIET,
) -> tuple[dict[SplitName, SplitScores], Answering | None]:
    """Scores of val, and of test when it is opened; val statistics for abstention. Writes predictions to the run."""
    predictor = Predictor(trainer.artifact_of(trainer.network), device=trainer.device)
    wanted: list[SplitName] = [split for split in ("val", "test") if split in splits and (split == "val" or open_test)]
    run = writer.run
    content = run.data.test_content
    if trainer.config.data.test_as_val:
        writer.record_test_opening(command, content=content, title="used as val")
    if "test" in wanted:
        writer.record_test_opening(command, content=content)
    found: dict[SplitName, SplitScores] = {}
    unchanged = run.summary.step == trainer.state.step
    kept: Arrays = {f"test/{key}": value for key, value in run.predictions("test").items()} if unchanged else {}
    fitted: Mapping[str, float] | None = None
    rules: Answering | None = None
    bank = (
        feature_bank(predictor, splits["train"], trainer.settings.seed)
        if "val" in wanted and trainer.task.card.decides_class
        else None
    )
    for split in wanted:
        targets = Targets.of(splits[split])
        with watched_distances(predictor.network, bank if split == "val" else None) as distances:
            predictions = predictor.samples(splits[split], report=report, title=f"scoring {split}")
        if split == "val":
            rules = answering_of(predictions, targets, distances=distances, bank=bank)
        scores = evaluate_predictions(
            trainer.task, predictions, targets, trainer.artifact.classes, fitted=fitted if split == "test" else None
        )
        fitted, found[split] = scores.fitted, scores
        kept |= {f"{split}/{key}": value for key, value in (predictions | targets.arrays()).items()}
    writer.predictions(kept)
    return found, rules


def data_pictures(train: Samples, config: RunConfig, task: Task, classes: Sequence[str]) -> Arrays:
    """Thumbnails of training samples, unmodified and augmented, so that the report needs no data set."""
    count = min(NUM_SHOWN, len(train.images))
    shown = np.linspace(0, len(train.images) - 1, count).astype(np.int64)
    batch = gather(train, torch.from_numpy(shown))
    larger, size = gather(train.to_augment, torch.from_numpy(shown)), (batch.images.shape[2], batch.images.shape[3])
    seen = [
        augment(larger, config.augment, seed=config.train.seed, epoch=epoch, num_classes=len(classes), size=size)
        for epoch in range(NUM_VIEWS)
    ]
    views = np.stack([pictured(view, task, classes) for view in seen], axis=1)
    views = views.reshape(-1, *views.shape[2:])
    arrays: Arrays = {"samples": thumbnails(pictured(batch, task, classes))}
    if train.labels is not None:
        arrays["samples_labels"] = train.labels[shown]
    arrays["augmented"] = thumbnails(views).reshape(count, NUM_VIEWS, *arrays["samples"].shape[1:])
    return arrays


def pictured(batch: Batch, task: Task, classes: Sequence[str]) -> np.ndarray:
    """The images of a batch with their targets drawn, uint8 [n, 3, H, W]."""
    images = batch.images.to(torch.float32).round().clamp(0, 255).to(torch.uint8).numpy()
    arrays = batch.mapped(lambda _, rows: rows.numpy())
    targets = Targets(ids=[str(i) for i in batch.index.tolist()], **arrays)
    return np.stack([task.draw_target(image, targets, i, classes).pixels for i, image in enumerate(images)])


def summary(run: Run, trainer: Trainer, *, command: str, data_name: str) -> Summary:
    """The summary of the run."""
    parameters, trainable = count_parameters(trainer.network)
    return Summary(
        run=str(run.path),
        task=trainer.task.name,
        data=data_name,
        model=trainer.artifact.spec.name,
        parameters=parameters,
        trainable=trainable,
        epochs=trainer.state.epoch,
        step=trainer.state.step,
        seconds=round(trainer.state.seconds, 2),
        cpu_seconds=round(trainer.state.cpu_seconds, 2),
        best_epoch=trainer.state.best_epoch,
        peak_memory_bytes=machine.peak_memory_bytes(),
        command=command,
        stopped=trainer.state.stopped or "finished",
        test_openings=run.log.test_openings,
    )
