"""Retraining on a cleaned data set: agreement of the new network with the verdicts, and the change of the scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from opsin.artifact import load as load_artifact
from opsin.cleaning.clean import development_of, settings_of_run
from opsin.cleaning.verdicts import read_verdicts
from opsin.data.load import load
from opsin.data.pack import pack, usable_cache
from opsin.data.samples import Dataset
from opsin.inference.predictor import Predictor
from opsin.progress import Reporter
from opsin.report import write_report
from opsin.runs import RUNS_FOLDER, Run, next_name
from opsin.tasks.targets import Targets
from opsin.training import train
from opsin.types import JsonDict, Score, scores_to_json


@dataclass(frozen=True, kw_only=True)
class Flip:
    """A sample with a verdict: its old label, the verdict, and the predictions of the old and new networks."""

    row: int
    id: str
    label: str
    verdict: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Retrained:
    """`run`: trained on the cleaned data. `flips`: verdicts on which the two networks differ. `agrees`: number of
    relabelled samples predicted with the new label by the new and the old one, and their number. `scores`: both
    networks on val with the labels as cleaned."""

    run: Run
    flips: tuple[Flip, ...]
    agrees: tuple[int, int, int]
    score: str
    scores: Mapping[str, Score]

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        after, before, total = self.agrees
        return {
            "run": str(self.run.path),
            "flips": [asdict(flip) for flip in self.flips],
            "relabelled": {"n": total, "agreed_before": before, "agree_after": after},
            "score": self.score,
            "scores": scores_to_json(self.scores),
        }

    def lines(self) -> Iterator[str]:
        """The same as text."""
        after, before, total = self.agrees
        yield f"{self.score} on the cleaned val: before {self.scores['before']}, after {self.scores['after']}"
        yield f"new labels of {total} relabelled samples: predicted for {before} before, for {after} after"
        for flip in self.flips:
            yield f"{flip.id}: {flip.verdict}; before {flip.before}, after {flip.after}"


def retrain(
    before: Run,
    data: Path,
    *,
    verdicts: Path,
    out: Path | str = RUNS_FOLDER,
    root: Path | str | None = None,
    quiet: bool = False,
) -> Retrained:
    """Train with a run's settings on the cleaned data set, and compare both networks.

    Relabelled training images are seen in training: that the new network agrees with their new labels shows that they
    can be learned, not that they are right. The val scores are on one val, with the labels as cleaned.

    Args:
        before: the run whose data were cleaned.
        data: the new data set, as `apply` writes it.
        verdicts: the table of verdicts.
        out: folder of runs.
        root: folder of the catalogue's data sets.
        quiet: no progress.
    """
    name = next_name(f"{before.name}-cleaned", out)
    seed = before.config.train.seed
    after = train(data, name=name, out=out, quiet=quiet, seed=seed, **settings_of_run(before))
    write_report(after)
    pool, _ = development_of(before, root=root, subset=None, report=Reporter(quiet=True))
    decided = read_verdicts(verdicts, pool)
    rows = np.array(sorted({*decided.relabel, *decided.drop, *decided.keep}), np.int64)
    judged = replace(pool.dataset, splits={"train": pool.source.take(rows)})
    said = {key: _labels(run, judged) for key, run in (("before", before), ("after", after))}
    rows = rows[[pool.source.ids[row] in said["before"] for row in rows]]  # of others the images cannot be read
    names = [pool.source.ids[row] for row in rows]
    given = [pool.dataset.classes[label] for label in np.asarray(pool.source.labels)[rows]]
    words = [_word(decided.relabel.get(int(row)), int(row) in decided.drop) for row in rows]
    flips = tuple(
        Flip(row=int(row), id=name, label=label, verdict=word, before=said["before"][name], after=said["after"][name])
        for row, name, label, word in zip(rows, names, given, words, strict=True)
        if said["before"][name] != said["after"][name]
    )
    new_labels = {name: decided.relabel.get(int(row)) for row, name in zip(rows, names, strict=True)}
    changed = {name: label for name, label in new_labels.items() if label is not None}
    agrees = [sum(said[key][name] == label for name, label in changed.items()) for key in ("after", "before")]
    score, scores = _val_scores(before, after, data)
    return Retrained(run=after, flips=flips, agrees=(agrees[0], agrees[1], len(changed)), score=score, scores=scores)


def _word(label: str | None, dropped: bool) -> str:
    return f"relabel={label}" if label is not None else "drop" if dropped else "keep"


def _labels(run: Run, dataset: Dataset) -> dict[str, str]:
    """What a run's network says of the samples of train that can be read, by id."""
    artifact = load_artifact(run.model_folder)
    size, skip = artifact.preprocess.size, run.config.data.skip_unreadable
    samples = pack(dataset, size, cache=usable_cache(), splits=["train"], skip_unreadable=skip)["train"]
    if not len(samples):
        return {}
    found = Predictor(artifact).samples(samples)["probabilities"].argmax(1)
    return {name: artifact.classes[k] for name, k in zip(samples.ids, found, strict=True)}


def _val_scores(before: Run, after: Run, data: Path) -> tuple[str, dict[str, Score]]:
    """The main score of both networks on val of the cleaned data."""
    cleaned = load(data, config=after.config.data)
    found: dict[str, Score] = {}
    name = ""
    for key, run in (("before", before), ("after", after)):
        predictor = Predictor(load_artifact(run.model_folder))
        size = predictor.artifact.preprocess.size
        skip = run.config.data.skip_unreadable
        samples = pack(cleaned, size, cache=usable_cache(), splits=["val"], skip_unreadable=skip)["val"]
        name = predictor.task.main_score
        scores = predictor.task.scores(predictor.samples(samples), Targets.of(samples), predictor.artifact.classes)
        found[key] = scores[name]
    return name, found
