"""Scoring a run's network on a split of its own data set, or on another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from opsin.arrays import Arrays
from opsin.artifact import Artifact, load_proved
from opsin.config import TrainConfig
from opsin.data.catalogue import ENTRIES
from opsin.data.dividing import undrawn
from opsin.data.load import load
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Dataset, Samples
from opsin.devices import pick_device
from opsin.errors import ConfigError, DataError, NameTakenError, RunError, nearest
from opsin.evaluation.copies import copies_note, find_copies, required_training_samples
from opsin.evaluation.matching import absent_classes, listed, match_classes, size_note
from opsin.evaluation.record import record_extras, record_split
from opsin.evaluation.scoring import evaluate_predictions, scores_without_copies
from opsin.evaluation.wrong import write_evaluation
from opsin.inference.predictor import BATCH_SIZE, Predictor
from opsin.models.wrappers.views import ViewName, check_views
from opsin.progress import QUIET, Reporter
from opsin.runs import AugmentedScores, Run, RunWriter, SplitScores, WithoutCopies, dataset_of
from opsin.runs.codec import to_json
from opsin.runs.dataset import ARRAYS
from opsin.score_notes import notes_of
from opsin.tasks import Task, get_task
from opsin.tasks.targets import Targets
from opsin.types import SPLITS, JsonDict, JsonMapping, Score, SplitName, TaskName, scores_to_json

NEVER_MIRRORED = "views: the network was not trained on mirrored images (`--flip 0`)"
NEVER_TURNED = "views: the network was not trained on turned images (`--quarter-turns 0`)"
NO_NEAR = "near copies were not searched for: greyscale drawings are similar without being copies"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Result of an evaluation.

    `run`: folder of the run. `data`: name of the data set. `split`: its split, or "all" for an undivided
    one. `scores`: by name, with 95 % intervals, NaN where undefined; with the number of samples `n`, `details` as
    plain JSON for reports, the scores `without_copies` of training images and those with test-time augmentation, `tta`,
    where they were asked for: they are attributes of the evaluation too.
    `notes`: changes made to the samples, and caveats. `test_openings`: number of
    openings of the test split so far. `classes`: names of the rows of `details["confusion"]`. `wrong`: every
    misclassified sample, most confident first (`Task.wrong`).
    """

    run: str
    data: str
    split: str
    scores: SplitScores
    notes: tuple[str, ...]
    test_openings: int
    classes: tuple[str, ...] = ()
    wrong: tuple[JsonMapping, ...] = ()

    @property
    def n(self) -> int:
        """Number of samples."""
        return self.scores.n

    @property
    def details(self) -> JsonMapping:
        """Of the task, plain JSON for reports."""
        return self.scores.details

    @property
    def without_copies(self) -> WithoutCopies | None:
        """The scores without copies of training images; None if not requested."""
        return self.scores.without_copies

    @property
    def tta(self) -> AugmentedScores | None:
        """The scores with test-time augmentation; None if not requested."""
        return self.scores.tta

    def to_json(self) -> JsonDict:
        """As plain JSON; of the details the confusion matrix and the scores of each class; None for undefined."""
        plain = {key: getattr(self, key) for key in ("run", "data", "split", "n", "test_openings")}
        return plain | {
            "scores": scores_to_json(self.scores),
            "classes": list(self.classes),
            "confusion": self.details.get("confusion"),
            "per_class": self.details.get("per_class"),
            "wrong": [dict(entry) for entry in self.wrong],
            "without_copies": None if self.without_copies is None else to_json(self.without_copies),
            "tta": None if self.tta is None else to_json(self.tta),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, kw_only=True)
class _Chosen:
    """A split to score. `own`: of the run's own data set. `undivided`: all of a data set without splits."""

    dataset: Dataset
    split: SplitName
    own: bool
    undivided: bool

    @property
    def title(self) -> str:
        """The name of the split in results."""
        return "all" if self.undivided else self.split


def evaluate(
    run: Run | Path | str,
    *,
    split: SplitName | None = None,
    data: Dataset | Path | str | None = None,
    root: Path | str | None = None,
    batch_size: int = BATCH_SIZE,
    device: str = "auto",
    good_iou: float | None = None,
    copies: bool = False,
    tta: Sequence[ViewName] = (),
    folder: Path | str | None = None,
    command: str | None = None,
    report: Reporter = QUIET,
) -> Evaluation:
    """Score a run's network.

    A test split is sealed: opening it is recorded in the run before the scores exist. Scores of the run's own test
    split are stored in the run, and so are scores of its val and test without copies of training images and with
    test-time augmentation; other scores are only returned.

    Args:
        run: the run, its folder or its name.
        split: split to score; None means val, or all samples of another, undivided data set, drawn splits or not.
        data: another data set with the run's classes (matched by name), or None for the run's own.
        root: folder of the catalogue's data sets; None takes the run's.
        batch_size: images in one forward pass.
        device: device of the network; "auto" takes the fastest.
        good_iou: least IoU of a good box (localization); None takes the run's. Scores at another one are not
            stored in the run.
        copies: also score without the samples that have an exact or near copy among the run's training images.
        tta: also score with predictions averaged over these views of each image
            (`opsin.models.wrappers.views`).
        folder: a new folder for the evaluation as files: JSON, confusion matrix and wrong samples as CSV, pictures.
        command: the command line as typed, for the record.
        report: shows the progress of scoring, and of the search for copies.

    Raises:
        RunError: no such run, or it has not finished.
        NameTakenError: `folder` exists.
        ConfigError: no such split, device or view; a split of data that are not divided;
            copies of training images among the training images themselves.
        DataError: the data set has changed since training, lacks the split, or has classes unknown to the run;
            the training images for `copies` are missing.
    """
    opened = _open(run, split, folder)
    settings, fitted = _scoring(opened, good_iou), _fitted_on_val(opened)
    place = pick_device(device)
    predictor = Predictor(load_proved(opened.model_folder, device=place), device=place, batch_size=batch_size)
    artifact, task = predictor.artifact, predictor.task.for_scoring(settings)
    views = check_views(tta)
    averaged = Predictor(artifact, device=place, batch_size=batch_size, views=views) if views else None
    chosen = _choose(opened, split, data, root, task=artifact.task)
    if copies and chosen.own and chosen.split == "train":
        raise ConfigError("train has no copies of training images to leave out", got=split, do="leave --copies out")
    samples = _samples(chosen, opened, artifact)
    policy, own = artifact.preprocess.size, chosen.dataset if chosen.own else None
    trained = required_training_samples(opened, policy, root, dataset=own, report=report) if copies else None
    copied = copies_note(opened, samples, policy, root) if own is None and trained is None else None
    notes = _notes(chosen.dataset, samples, artifact, copied)
    if chosen.title == "test":
        _record_opening(opened, chosen, command)
    title = f"scoring {chosen.title}"
    scored = _Scored(
        task=task,
        samples=samples,
        targets=Targets.of(samples),
        predictions=predictor.samples(samples, report=report, title=title),
        classes=artifact.classes,
    )
    found = scored.found(None if chosen.own and chosen.split == "val" else fitted)
    if trained is not None:
        found, more = scored.without_copies(found, trained, report)
        notes += more
    if averaged is not None:
        predictions = averaged.samples(samples, report=report, title=f"{title}, views averaged")
        found = replace(found, tta=AugmentedScores(views=views, scores=scored.scores(predictions)))
        notes += _notes_of_views(opened, views)
    notes += _notes_of_scores(opened, chosen, found, task.main_score)
    if chosen.own and settings == opened.config.train:
        _keep(opened, chosen.split, found, scored)
    if chosen.title == "test" and (looks := opened.log.looks) is not None:
        notes += (looks.words(),)
    result = Evaluation(
        run=str(opened.path),
        data=chosen.dataset.name,
        split=chosen.title,
        scores=found,
        notes=notes,
        test_openings=opened.log.test_openings,
        classes=artifact.classes,
        wrong=tuple(task.wrong(scored.predictions, scored.targets, artifact.classes, found.details)),
    )
    if folder is not None:
        write_evaluation(result, samples.images, Path(folder))
    return result


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """The samples of a split with their predictions, and how they are scored."""

    task: Task
    samples: Samples
    targets: Targets
    predictions: Arrays
    classes: Sequence[str]

    def found(self, fitted: Mapping[str, float] | None) -> SplitScores:
        """The scores, with what was `fitted` on val; None fits to these predictions."""
        return evaluate_predictions(self.task, self.predictions, self.targets, self.classes, fitted=fitted)

    def scores(self, predictions: Arrays) -> Mapping[str, Score]:
        """The scores of other predictions for the same samples."""
        return self.task.scores(predictions, self.targets, self.classes)

    def without_copies(
        self, found: SplitScores, trained: Samples, report: Reporter
    ) -> tuple[SplitScores, tuple[str, ...]]:
        """`found` with the scores without copies of training images, and notes."""
        known = find_copies(self.samples, trained, report=report)
        without = scores_without_copies(self.task, self.predictions, self.targets, self.classes, known, found.scores)
        return replace(found, without_copies=without), (NO_NEAR,) if known.near is None else ()


def _record_opening(run: Run, chosen: _Chosen, command: str | None) -> None:
    """Record that a test split is opened, before its scores exist."""
    said = f"evaluate(run={run.name!r}, split='test', data={chosen.dataset.name!r})"
    RunWriter(run).record_test_opening(command or said, content=chosen.dataset.splits[chosen.split].content)


def _notes_of_scores(run: Run, chosen: _Chosen, found: SplitScores, main_score: str) -> tuple[str, ...]:
    """What a reader of the scores must know; the epoch was chosen by its score on the val split of the run."""
    recorded = run.scores.get(chosen.split) if chosen.own else None
    selected = recorded.selection if recorded else None
    return tuple(notes_of(found.details, selected, main_score, found.scores[main_score]))


def _notes_of_views(run: Run, views: Sequence[ViewName]) -> tuple[str, ...]:
    """Notes on views that the network was not trained on."""
    augment = run.config.augment
    mirrored = (NEVER_MIRRORED,) if "flip" in views and not augment.flip else ()
    return mirrored + ((NEVER_TURNED,) if "turn" in views and not augment.quarter_turns else ())


def _open(run: Run | Path | str, split: str | None, folder: Path | str | None) -> Run:
    """The run, after refusing an unknown split and a folder that exists."""
    opened = run if isinstance(run, Run) else Run.open(run)
    if split is not None:
        _check_split(split)
    if folder is not None and Path(folder).exists():
        raise NameTakenError("the folder exists already", where=folder, do="choose another name or remove it")
    return opened


def _check_split(split: str) -> None:
    if split not in SPLITS:
        close = nearest(split, SPLITS)
        do = f"did you mean `{close}`?" if close else "choose one of these"
        raise ConfigError("no such split", got=split, expected=", ".join(SPLITS), do=do)


def _keep(run: Run, split: SplitName, found: SplitScores, scored: _Scored) -> None:
    """Store scores of a run's own split in its folder: all of test, of val only what is new."""
    if split == "test":
        record_split(run, split, found, scored.predictions, scored.targets, scored.samples.images)
    elif split == "val":
        record_extras(run, split, found)


def _scoring(run: Run, good_iou: float | None) -> TrainConfig:
    """The settings that scores depend on: those of the run, with the requested ones."""
    settings = run.config.train
    if good_iou is None:
        return settings
    if not get_task(run.task).reads_good_iou:
        raise ConfigError("`--good-iou` needs a network that predicts boxes", got=run.task, do="leave it out")
    return replace(settings, good_iou=good_iou)


def _fitted_on_val(run: Run) -> Mapping[str, float]:
    """Values fitted on val at the end of the run, e.g. the temperature: other splits never refit them."""
    val = run.scores.get("val")
    if val is None or not run.model_folder.is_dir():
        raise RunError("the run has not finished", where=run.path, do=f"`--resume --name {run.name}` continues it")
    return val.fitted


def _choose(
    run: Run, split: SplitName | None, data: Dataset | Path | str | None, root: Path | str | None, *, task: TaskName
) -> _Chosen:
    """The requested split of a data set for the network's task."""
    dataset, own = _dataset(run, data, root)
    if dataset.task != task:
        raise DataError("the data set has another task", where=dataset.name, got=dataset.task, expected=task)
    if split is None and not own and _is_drawn_elsewhere(dataset, run.config.source):
        dataset = undrawn(dataset)
    undivided = not own and tuple(dataset.splits) == ("test",) and not dataset.published
    if undivided and split is not None:
        do = "leave --split out: every sample is scored"
        raise ConfigError("this data set is not divided", where=dataset.name, got=f"split {split}", do=do)
    name: SplitName = "test" if undivided else split or "val"
    if name not in dataset.splits:
        expected = ", ".join(dataset.splits)
        raise DataError(f"the data set has no split `{name}`", where=dataset.name, got=name, expected=expected)
    return _Chosen(dataset=dataset, split=name, own=own, undivided=undivided)


def _samples(chosen: _Chosen, run: Run, artifact: Artifact) -> Samples:
    """The samples of a split in the network's classes and size."""
    skip = run.config.data.skip_unreadable if chosen.own else 0
    size = artifact.preprocess.size
    packed = pack(chosen.dataset, size, cache=default_cache(), splits=[chosen.split], skip_unreadable=skip)
    return match_classes(packed[chosen.split], chosen.dataset.classes, artifact.classes)


def _notes(dataset: Dataset, samples: Samples, artifact: Artifact, copied: str | None) -> tuple[str, ...]:
    """Changes made to the samples, and caveats; `copied` is the note on copies."""
    notes = [*dataset.notes, *samples.notes, size_note(np.asarray(samples.sizes), artifact.preprocess.size), copied]
    channels = samples.images.shape[1]
    if channels != artifact.preprocess.channels:
        notes.append("grey images were converted to RGB" if channels == 1 else "RGB images were converted to grey")
    if absent := absent_classes(samples, artifact.classes):
        notes.append(f"no samples of {len(absent)} classes, whose scores are n/a: {listed(absent)}")
    return tuple(note for note in notes if note)


def _dataset(run: Run, data: Dataset | Path | str | None, root: Path | str | None) -> tuple[Dataset, bool]:
    """The data set to score on, and whether it is the run's own."""
    if data is None:
        return dataset_of(run, root), True
    if isinstance(data, Dataset):
        found = data
    else:
        config = run.config
        same = _same_place(data, config.source)
        # Another data set keeps its own splits: the run's subset and label level do not apply.
        settings = config.data if same else replace(config.data, subset=None, label_level=None)
        found = load(data, root=root or config.root, config=settings, task=run.task, drawn=same)
    return found, found.fingerprint() == run.data.fingerprint


def _is_drawn_elsewhere(dataset: Dataset, source: str) -> bool:
    """Whether the splits are not its publisher's, as of arrays without splits, and it is other data than the run's."""
    same = dataset.source != ARRAYS and _same_place(dataset.source, source)
    return dataset.undivided and not dataset.published and len(dataset.splits) > 1 and not same


def _same_place(data: Path | str, source: str) -> bool:
    """Whether two spellings name the same data: `photos`, `photos/` and `/home/ann/photos`."""
    if str(data) in ENTRIES or source in ENTRIES:
        return str(data) == source
    return Path(data).resolve() == Path(source).resolve()
