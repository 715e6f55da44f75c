"""Cross-validation: every development sample is predicted by a network that has not seen it.

folds (`folds.py`) -> a run each -> predictions of what it holds out -> scores with intervals
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from opsin.arrays import Arrays
from opsin.artifact import load as load_artifact
from opsin.data.pack import pack, usable_cache, with_rows
from opsin.data.samples import Dataset, Ints
from opsin.devices import pick_device
from opsin.inference.predictor import Predictor
from opsin.io.arrays import read_npz, write_npz
from opsin.io.files import write_json
from opsin.io.tables import write_table
from opsin.progress import Reporter
from opsin.report import write_report
from opsin.runs import RUNS_FOLDER, Run
from opsin.studies.folder import open_study, pinned, trained
from opsin.studies.folds import Fold, development, draw_folds, folds_of
from opsin.tasks import get_task
from opsin.tasks.base import Task
from opsin.tasks.targets import Targets, predictions_in
from opsin.training.setup.larger import larger_policy
from opsin.training.setup.resolving import resolve_settings, size_policy
from opsin.types import JsonDict, Score, scores_to_json

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class OutOfFold:
    """Predictions of N development samples, each by the network that has not seen it, in the order of these samples.

    Attributes:
        ids: display name of each sample.
        origin: split of the data set, train or val, that each comes from.
        fold: int64 [N], number of the fold that each was held out in.
        predictions: arrays of N rows, as the task has them: `probabilities` float32 [N, K], `boxes`, `masks`.
        targets: the N targets.
        classes: K names.
    """

    ids: tuple[str, ...]
    origin: tuple[str, ...]
    fold: Ints
    predictions: Arrays
    targets: Targets
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def arrays(self) -> Arrays:
        """The named arrays of out_of_fold.npz."""
        about: Arrays = {"fold": self.fold, "origin": np.asarray(self.origin, dtype=np.str_)}
        return {**self.predictions, **self.targets.arrays(), **about}


@dataclass(frozen=True, kw_only=True, eq=False)
class CrossValidation:
    """Result of a cross-validation.

    Attributes:
        path: its folder.
        folds: number of folds.
        main_score: name of the main score.
        scores: mean of each score over folds, with its 95 % interval.
        pooled: scores of all out-of-fold predictions together, with 95 % intervals over samples.
        by_fold: scores of each fold.
        out_of_fold: predictions of every development sample.
        runs: one for each fold.
        notes: caveats for readers of the scores.
    """

    path: Path
    folds: int
    main_score: str
    scores: Mapping[str, Score]
    pooled: Mapping[str, Score]
    by_fold: tuple[Mapping[str, float], ...]
    out_of_fold: OutOfFold
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        return {
            "study": str(self.path),
            "folds": self.folds,
            "samples": len(self.out_of_fold),
            "main_score": self.main_score,
            "scores": scores_to_json(self.scores),
            "pooled": scores_to_json(self.pooled),
            "by_fold": [dict(scores) for scores in self.by_fold],
            "predictions": str(self.path / "out_of_fold.npz"),
            "table": str(self.path / "out_of_fold.csv"),
            "runs": [str(run.path) for run in self.runs],
            "notes": list(self.notes),
        }


def cross_validate(
    data: Dataset | str | Path | Mapping[str, Any],
    *,
    folds: int = 5,
    seed: int = 0,
    root: Path | str | None = None,
    recipe: str | None = None,
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = False,
    command: str = "opsin.cross_validate(...)",
    **settings: Any,
) -> CrossValidation:
    """Train on all folds but one and predict that one, for each fold in turn.

    The folds are drawn from train and val; test stays sealed. Groups and copies stay together, and class
    shares are kept. Of the other folds, `val_fraction` is held out again as val, for choices during training.

    Args:
        data: catalogue name, path, arrays, or a loaded data set.
        folds: their number, 2 or more.
        seed: seed of the folds, and of each run's weights, order and augmentation.
        root: folder of the catalogue's data sets.
        recipe: a TOML file of settings, or the name of a built-in one.
        name: name of the study; an existing study with the same settings continues.
        out: folder in which the study's folder is made; it holds a run for each fold.
        quiet: no progress.
        command: the command line as typed, kept in the runs.
        settings: any field of the groups in `opsin.config`.

    Raises:
        RefusedError: settings, data or the name are refused.
        InterruptedRunError: stopped by the user; the same call with `name` continues.
    """
    report = Reporter(quiet=quiet)
    resolved = resolve_settings(data, root=root, recipe=recipe, settings={**settings, "seed": seed}, report=report)
    dataset, base = resolved.dataset, pinned(resolved.config)
    drawn_by = replace(resolved.config.data, split_seed=seed)
    pool = development(dataset, report=report)
    size, described = size_policy(dataset, resolved.config), f"{dataset.name}, train and val"
    larger = larger_policy(dataset, resolved.config)
    pool = replace(pool, source=with_rows(pool.source, size, cache=usable_cache(), about=described, larger=larger))
    fold, notes = draw_folds(pool, folds, drawn_by)
    about = {"data": dataset.fingerprint(), "folds": folds, "seed": seed, "settings": base}
    study = open_study("cross-validation", name=name, stem=f"cv-{dataset.name}", out=out, about=about)
    for note in notes:
        report.message(f"note: {note}")
    task = get_task(dataset.task).for_scoring(resolved.config.train)
    runs, parts, kept = [], [], []
    with report.bar("folds", folds) as bar:
        for one in folds_of(pool, fold, drawn_by):
            run = trained(study.path, f"fold-{one.number + 1}", one.dataset, base, root=root, command=command)
            part, rows = _held_out(run, one)
            runs.append(run)
            parts.append(part)
            kept.append(rows)
            report.message(_line(task, part, one.number + 1, folds, dataset.classes))
            bar.advance(note=f"fold {one.number + 1}")
    found = _in_order(parts, kept, fold, pool.origin, dataset.classes)
    return _result(study.path, task, found, parts, tuple(runs), notes, folds)


def _held_out(run: Run, fold: Fold) -> tuple[Arrays, Ints]:
    """Predictions and targets of a fold's held-out samples, stored in its run; and their rows among all samples."""
    file = run.path / "held_out.npz"
    if file.is_file():
        found = read_npz(file)
        return {key: array for key, array in found.items() if key != "rows"}, found["rows"]
    artifact = load_artifact(run.model_folder)
    skip = run.config.data.skip_unreadable
    whole = _only(fold)
    samples = pack(whole, artifact.preprocess.size, cache=usable_cache(), skip_unreadable=skip)["val"]
    lost = set(samples.skipped)
    rows = np.array([row for row, name in zip(fold.rows, fold.held_out.ids, strict=True) if name not in lost], np.int64)
    device = pick_device(run.config.train.device)
    predictions = Predictor(artifact, device=device).samples(samples)
    arrays = predictions | Targets.of(samples).arrays()
    write_npz(file, arrays | {"rows": rows})
    write_report(run)
    return arrays, rows


def _only(fold: Fold) -> Dataset:
    return replace(fold.dataset, splits={"val": fold.held_out})


def _split(arrays: Arrays) -> tuple[Arrays, Targets]:
    """Predictions and targets that lie beside each other."""
    return predictions_in(arrays), Targets.from_arrays(arrays)


def _line(task: Task, part: Arrays, number: int, folds: int, classes: Sequence[str]) -> str:
    value = _values(task, part, classes)[task.main_score]
    title = task.score_kinds[task.main_score].short_title
    return f"fold {number} of {folds}  {title} {value:.4f} on {len(part['ids']):,} samples"


def _values(task: Task, part: Arrays, classes: Sequence[str]) -> dict[str, float]:
    predictions, targets = _split(part)
    found = task.scores(predictions, targets, classes, intervals=False)
    return {key: score.value for key, score in found.items()}


def _in_order(
    parts: Sequence[Arrays], kept: Sequence[Ints], fold: Ints, origin: Sequence[str], classes: tuple[str, ...]
) -> OutOfFold:
    """The parts of all folds in the order of the development samples."""
    rows = np.concatenate(kept)
    order = np.argsort(rows, kind="stable")
    whole = {key: np.concatenate([part[key] for part in parts])[order] for key in parts[0]}
    predictions, targets = _split(whole)
    rows = rows[order]
    return OutOfFold(
        ids=tuple(targets.ids),
        origin=tuple(origin[row] for row in rows),
        fold=fold[rows],
        predictions=predictions,
        targets=targets,
        classes=classes,
    )


def _result(
    path: Path,
    task: Task,
    found: OutOfFold,
    parts: Sequence[Arrays],
    runs: tuple[Run, ...],
    notes: tuple[str, ...],
    folds: int,
) -> CrossValidation:
    by_fold = tuple(_values(task, part, found.classes) for part in parts)
    sizes = [len(part["ids"]) for part in parts]
    scores = {key: mean_over_folds([values[key] for values in by_fold], sizes) for key in by_fold[0]}
    result = CrossValidation(
        path=path,
        folds=folds,
        main_score=task.main_score,
        scores=scores,
        pooled=task.scores(found.predictions, found.targets, found.classes),
        by_fold=by_fold,
        out_of_fold=found,
        runs=runs,
        notes=notes,
    )
    _write(result)
    return result


def mean_over_folds(values: Sequence[float], sizes: Sequence[int]) -> Score:
    """The mean of one score over K folds, with its 95 % interval.

    Folds share most of their training samples, so their scores are not independent: the variance of the mean is taken
    as (1 / K + n_test / n_train) times that between folds.

    Args:
        values: K scores; a NaN (undefined in a fold) is left out.
        sizes: K numbers of samples.

    Source: Nadeau and Bengio 2003, "Inference for the generalization error", equation 8 (corrected resampled t).

    >>> mean_over_folds([0.8, 0.9], [50, 50]).value.__round__(2)
    0.85
    """
    known: NDArray[np.float64] = np.array([value for value in values if not math.isnan(value)])
    if len(known) == 0:
        return Score(math.nan)
    mean = float(known.mean())
    if len(known) == 1:
        return Score(mean)
    share = float(np.mean([size / (sum(sizes) - size) for size in sizes]))
    error = math.sqrt(float(known.var(ddof=1)) * (1 / len(known) + share))
    half = float(special.stdtrit(len(known) - 1, (1 + LEVEL) / 2)) * error
    return Score(mean, mean - half, mean + half)


def _write(found: CrossValidation) -> None:
    """Write out_of_fold.npz, out_of_fold.csv and cross_validation.json."""
    write_npz(found.path / "out_of_fold.npz", found.out_of_fold.arrays())
    names, rows = _table(found.out_of_fold)
    write_table(found.path / "out_of_fold.csv", names, rows)
    write_json(found.path / "cross_validation.json", found.to_dict())


def _table(found: OutOfFold) -> tuple[list[str], list[list[object]]]:
    """A row for each sample: its path, and for classes its label and the probability of it."""
    names = ["id", "split", "fold"]
    rows: list[list[object]] = [
        [name, split, int(fold) + 1] for name, split, fold in zip(found.ids, found.origin, found.fold, strict=True)
    ]
    labels, probabilities = found.targets.labels, found.predictions.get("probabilities")
    if labels is None or probabilities is None:
        return names, rows
    best = probabilities.argmax(axis=1)
    for row, label, guess, shares in zip(rows, labels, best, probabilities, strict=True):
        sure, given = float(f"{shares[guess]:.6g}"), float(f"{shares[label]:.6g}")
        row += [found.classes[label], found.classes[guess], sure, given]
    return [*names, "label", "predicted", "probability", "probability_of_label"], rows
