"""The robustness card: the main score of a run's network over changes of its images.

All cells are measured on the same samples, so that they differ only by the change.

Shapes: N samples, M sums of a score, r resamples, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from opsin.arrays import Arrays
from opsin.artifact import load_proved
from opsin.batches.batch import Batch
from opsin.batches.loader import gather
from opsin.comparison.outcomes import outcomes_of_arrays
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Samples
from opsin.data.targets import KINDS, shown_counts
from opsin.devices import pick_device
from opsin.diagnosis.card import Cell, ClassLoss, Curve, RobustnessCard, write_card
from opsin.diagnosis.changes import CHANGES, Change
from opsin.diagnosis.outcome_scores import resampled_scores, score_of
from opsin.diagnosis.stamp import network_stamp
from opsin.errors import ConfigError, DataError, RunError, nearest
from opsin.inference.predictor import BATCH_SIZE, Predictor
from opsin.models.wrappers.views import ViewName, check_views
from opsin.ops.intervals import Floats, Ints, percentile_interval
from opsin.progress import QUIET, Bar, Reporter
from opsin.runs import Run, RunWriter, dataset_of
from opsin.tasks import get_task
from opsin.tasks.cards import card_of
from opsin.tasks.targets import Targets
from opsin.types import Score, SplitName

MOST_SAMPLES = 2000
"""Default number of samples: about fifty passes over them are made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measured:
    """One pass: outcomes of the samples, and scores of each class, float64 [K]."""

    n: int
    score: Score
    resampled: Floats
    classes: Floats


def robustness(
    run: Run | Path | str,
    *,
    split: SplitName = "val",
    changes: Sequence[str] | None = None,
    most_samples: int = MOST_SAMPLES,
    root: Path | str | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    tta: Sequence[ViewName] = (),
    seed: int = 0,
    command: str | None = None,
    report: Reporter = QUIET,
) -> RobustnessCard:
    """Measure the robustness of a run's main score to image changes, and store the card in the run.

    Args:
        run: the run, its folder or its name.
        split: of the run's own data. `test` is sealed: its opening is recorded in the run.
        changes: names from `opsin.diagnosis.changes.CHANGES`; None means all.
        most_samples: of a larger split only this many samples are used, evenly spread.
        root: folder of the catalogue's data sets; None takes the run's.
        batch_size: images in one forward pass.
        device: device of the network.
        tta: predictions are averaged over these views of each changed image (`opsin.models.wrappers.views`).
        seed: seed of random draws.
        command: the command line as typed, for the record.
        report: shows progress.

    Raises:
        RunError: no such run, or it has not finished.
        ConfigError: no such change, split or view.
        DataError: the data set has changed since training, or lacks the split.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    chosen = _changes(changes)
    if not opened.model_folder.is_dir():
        raise RunError("the run has not finished", where=opened.path, do="continue it: `opsin train … --resume`")
    place = pick_device(device)
    views, artifact = check_views(tta), load_proved(opened.model_folder, device=place)
    predictor = Predictor(artifact, device=place, batch_size=batch_size, views=views)
    samples = _samples(opened, split, predictor, root)
    rows = torch.linspace(0, len(samples) - 1, min(most_samples, len(samples))).round().long()
    if split == "test":
        RunWriter(opened).record_test_opening(command or f"robustness(run={opened.name!r}, split='test')")
    passes = 1 + sum(len(change.strengths) for change in chosen)
    with report.bar("robustness", passes * len(rows)) as bar:
        measure = _Measure(opened, predictor, samples, rows, bar, seed)
        clean = measure.of(None, 0.0)
        found = {change.name: [measure.of(change, strength) for strength in change.strengths] for change in chosen}
    card = _card(opened, split, samples, rows, clean, found, seed, views)
    write_card(opened, card)
    return card


class _Measure:
    """Measures passes over the same samples."""

    def __init__(
        self, run: Run, predictor: Predictor, samples: Samples, rows: torch.Tensor, bar: Bar, seed: int
    ) -> None:
        self.predictor, self.samples, self.rows, self.bar, self.seed = predictor, samples, rows, bar, seed
        self.num_classes = len(predictor.artifact.classes)
        self.task = get_task(predictor.artifact.task).for_scoring(run.config.train)

    def of(self, change: Change | None, strength: float) -> _Measured:
        """The score of the samples after a change; None leaves them unmodified."""
        parts = torch.split(self.rows, self.predictor.batch_size)
        found = [self._batch(part, change, strength) for part in parts]
        arrays = {key: np.concatenate([part[key] for part in found]) for key in found[0]}
        arrays = _with_targets_kept(arrays)
        outcomes = outcomes_of_arrays(self.task, arrays, num_classes=self.num_classes)
        resampled = resampled_scores(outcomes)
        return _Measured(
            n=len(outcomes.parts),
            score=score_of(outcomes, resampled),
            resampled=resampled,
            classes=self.task.by_class(outcomes.parts, arrays, self.num_classes),
        )

    def _batch(self, rows: torch.Tensor, change: Change | None, strength: float) -> Arrays:
        batch = gather(self.samples, rows)
        if change is not None:
            batch = change(batch, strength, seed=self.seed)
        predictions = self.predictor.run(batch.images)
        self.bar.advance(len(rows))
        return predictions | _targets(batch, [self.samples.ids[int(i)] for i in rows]).arrays()


def _targets(batch: Batch, ids: Sequence[str]) -> Targets:
    return Targets(ids=ids, **batch.mapped(lambda _, rows: rows.numpy()))


def _with_targets_kept(arrays: Arrays) -> Arrays:
    """Without samples whose target has left the image."""
    kept = np.ones(len(arrays["ids"]), np.bool_)
    for name, rows in Targets.from_arrays(arrays).targets.items():
        kept &= KINDS[name].kept(rows)
    return {key: array[kept] for key, array in arrays.items()}


def _card(
    run: Run,
    split: SplitName,
    samples: Samples,
    rows: torch.Tensor,
    clean: _Measured,
    found: dict[str, list[_Measured]],
    seed: int,
    views: tuple[ViewName, ...],
) -> RobustnessCard:
    named = {change.name: change for change in CHANGES}
    curves = tuple(_curve(named[name], measured) for name, measured in found.items())
    classes = run.data.classes
    counts = shown_counts(Targets.of(samples).take(rows.numpy()).targets, len(classes))
    assert counts is not None  # every kind of target that is predicted by class speaks of them
    means = [np.mean([measured.resampled for measured in found[curve.change]], axis=0) for curve in curves]
    return RobustnessCard(
        run=run.name,
        network=network_stamp(run),
        data=str(run.data.name),
        split=split,
        task=run.task,
        score=_main_score(run),
        n=len(rows),
        n_of_split=len(samples),
        seed=seed,
        clean=clean.score,
        mean=_mean([curve.mean.value for curve in curves], np.mean(means, axis=0)),
        curves=curves,
        classes=_class_losses(classes, counts, clean, found),
        notes=_notes(run, samples, len(rows), views),
        views=views,
    )


def _curve(change: Change, measured: Sequence[_Measured]) -> Curve:
    cells = tuple(
        Cell(strength=strength, n=one.n, score=one.score)
        for strength, one in zip(change.strengths, measured, strict=True)
    )
    values, resampled = [one.score.value for one in measured], np.mean([one.resampled for one in measured], axis=0)
    return Curve(
        change=change.name, unit=change.unit, unchanged=change.unchanged, cells=cells, mean=_mean(values, resampled)
    )


def _mean(values: Sequence[float], resampled: Floats) -> Score:
    """The mean of scores, with the percentiles of its resamples float64 [r]."""
    low, high = percentile_interval(resampled[:, None])
    value = float(np.mean(values))
    return Score(value, min(float(low[0]), value), max(float(high[0]), value))


def _class_losses(
    classes: Sequence[str], counts: Ints, clean: _Measured, found: dict[str, list[_Measured]]
) -> tuple[ClassLoss, ...]:
    """Each class with samples, largest loss first."""
    names = list(found)
    means = np.stack([np.mean([one.classes for one in found[name]], axis=0) for name in names])
    losses = [
        ClassLoss(
            name=classes[k],
            n=int(counts[k]),
            clean=float(clean.classes[k]),
            changed=float(means[:, k].mean()),
            worst_change=names[int(means[:, k].argmin())],
            worst=float(means[:, k].min()),
        )
        for k in range(len(classes))
        if counts[k] and not np.isnan(means[:, k]).any() and not np.isnan(clean.classes[k])
    ]
    return tuple(sorted(losses, key=lambda loss: loss.changed - loss.clean))


def _notes(run: Run, samples: Samples, n: int, views: tuple[ViewName, ...]) -> tuple[str, ...]:
    square = samples.images.shape[2] == samples.images.shape[3]
    notes = (
        f"with test-time augmentation: the mean over views of each image ({', '.join(views)})" if views else "",
        f"{n:,} of {len(samples):,} samples, evenly spread" if n < len(samples) else "",
        "" if square else "the images are not square: turns by 90 and 270 degrees are resampled, and corners cut off",
        *(KINDS[kind].turned_note for kind in samples.targets),
    )
    return tuple(note for note in notes if note)


def _main_score(run: Run) -> str:
    return card_of(run.task).main_score


def _samples(run: Run, split: SplitName, predictor: Predictor, root: Path | str | None) -> Samples:
    dataset = dataset_of(run, root)
    if split not in dataset.splits:
        expected = ", ".join(dataset.splits)
        raise DataError(f"the data set has no split `{split}`", where=dataset.name, got=split, expected=expected)
    size, skip = predictor.artifact.preprocess.size, run.config.data.skip_unreadable
    return pack(dataset, size, cache=default_cache(), splits=[split], skip_unreadable=skip)[split]


def _changes(names: Sequence[str] | None) -> tuple[Change, ...]:
    known = {change.name: change for change in CHANGES}
    for name in names or ():
        if name not in known:
            close = nearest(name, known)
            do = f"did you mean `{close}`?" if close else "leave it out for all changes"
            raise ConfigError("no such change", got=name, expected=", ".join(known), do=do)
    return CHANGES if names is None else tuple(change for change in CHANGES if change.name in names)
