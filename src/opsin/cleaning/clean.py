"""`opsin clean`: from a data set to suspects, their page and the table of verdicts; from verdicts to a new data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from opsin.cleaning.probabilities import Judged, Way, judge, labels_of
from opsin.cleaning.suspects import OUTLYING, Suspect, different_copies, unlike_class, wrong_labels
from opsin.cleaning.verdicts import apply_verdicts, read_verdicts, write_verdicts
from opsin.config import DataConfig
from opsin.data.load import load
from opsin.data.pack import pack, usable_cache
from opsin.data.quality.copies import MAX_NEAR
from opsin.data.quality.near import THUMB, near_pairs
from opsin.data.samples import Dataset, Ints
from opsin.errors import ConfigError, NameTakenError
from opsin.evaluation.record import thumbnails
from opsin.io.files import writing
from opsin.progress import Reporter
from opsin.report.suspects import write_suspects_page
from opsin.runs import RUNS_FOLDER, Run, dataset_of
from opsin.studies.folds import Development, development
from opsin.tasks import get_task
from opsin.types import JsonDict, SizePolicy

if TYPE_CHECKING:
    from opsin.ops.label_noise import LabelNoise

SECTIONS = {
    "label": ("Labels that are likely wrong", "More likely wrong than right, most certain first."),
    "copy": ("Copies with different labels", "The same picture, or scene, under two classes: one is wrong."),
    "unlike": ("Images unlike their class", "Farther from the images of their class than nearly all others."),
}
"""Sections of the page, by reason of suspicion."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cleaning:
    """Suspects among the development samples of a data set.

    `data`: its name. `samples`: number of samples checked. `suspects`: worst first. `noise`: estimated share
    of wrong labels. `probabilities`: float [M, K] of the samples `rows`, out of fold. `words`: their
    origin. `page`, `verdicts`: written files. `notes`: caveats.
    """

    data: str
    samples: int
    suspects: tuple[Suspect, ...]
    noise: float
    rows: Ints
    probabilities: NDArray[np.floating]
    words: str
    page: Path
    verdicts: Path
    notes: tuple[str, ...] = ()

    def to_json(self) -> JsonDict:
        """As plain JSON."""
        return {
            "data": self.data,
            "samples": self.samples,
            "noise": self.noise,
            "suspects": [suspect.to_json() for suspect in self.suspects],
            "way": self.words,
            "page": str(self.page),
            "verdicts": str(self.verdicts),
            "notes": list(self.notes),
        }


def clean(
    data: Dataset | Run | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None = None,
    subset: str | None = None,
    way: Way = "auto",
    folds: int = 5,
    seed: int = 0,
    skip_unreadable: int | None = None,
    page: Path | str = "suspects.html",
    verdicts: Path | str = "verdicts.csv",
    out: Path | str = RUNS_FOLDER,
    quiet: bool = False,
    **settings: Any,
) -> Cleaning:
    """Find labels that are likely wrong, copies with different labels, and images unlike their class.

    Every sample of train and val is predicted by a network that has not seen it; test stays sealed. Writes a page that
    shows the suspects worst first, and a table of verdicts to edit; `apply` writes a new data set from it.

    Args:
        data: a run, catalogue name, path, arrays, or a loaded data set, of classes.
        root: folder of the catalogue's data sets.
        subset: first n samples of a split, e.g. `train=10000`.
        way: `features` of a pretrained network with a regression for each fold, `train`: a network for each fold, or
            `auto`: features for colour images, unless settings are given.
        folds: their number.
        seed: of the folds and of the networks.
        skip_unreadable: go on when at most this many images cannot be read; None takes the run's, and 0 of data.
        page, verdicts: files to write; a table of verdicts that exists is not overwritten.
        out: folder for the runs of `train`.
        quiet: no progress.
        settings: settings of the networks of `train`, any field of the groups in `opsin.config`.

    Raises:
        RefusedError: cleanlab is not installed, the data have no classes, or the table exists.
    """
    if Path(verdicts).exists():
        do = "choose another --verdicts, or --apply it"
        raise NameTakenError("the table of verdicts exists already", where=verdicts, do=do)
    report = Reporter(quiet=quiet)
    pool, name = development_of(data, root=root, subset=subset, report=report)
    chosen = {**settings_of_run(data), **settings} if way == "train" else settings
    skip = unreadable_of(data) if skip_unreadable is None else skip_unreadable
    judged = judge(pool, way=way, folds=folds, seed=seed, skip_unreadable=skip, out=out, settings=chosen, quiet=quiet)
    report.message(f"judged by {judged.words}")
    labels = labels_of(pool)[judged.rows]
    wrong, noise = wrong_labels(judged, labels)
    copies, notes = _copies(pool, judged, labels, report)
    unlike = (
        np.zeros(len(labels), bool) if judged.features is None else unlike_class(judged.features, labels) > OUTLYING
    )
    if judged.features is None:
        notes = (*notes, "images unlike their class are found only from features: --by features")
    suspects = _suspects(pool, judged, labels, noise, wrong=wrong, copies=copies, unlike=unlike)
    accuracy = float((judged.probabilities.argmax(1) == labels).mean())
    words = (
        f"{len(suspects):,} of {len(labels):,} samples to check; about {noise.noise:.1%} of the labels are wrong, if "
        f"errors are equal for all classes. Predictions out of fold: {judged.words}, right in {accuracy:.1%}."
    )
    for path in (Path(page), Path(verdicts)):
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
    write_verdicts(Path(verdicts), suspects)
    _write_page(Path(page), pool, suspects, name=name, words=words, verdicts=Path(verdicts))
    return Cleaning(
        data=pool.dataset.name,
        samples=len(labels),
        suspects=suspects,
        noise=noise.noise,
        rows=judged.rows,
        probabilities=judged.probabilities,
        words=words,
        page=Path(page),
        verdicts=Path(verdicts),
        notes=notes,
    )


def apply(
    data: Dataset | Run | str | Path | Mapping[str, Any],
    *,
    verdicts: Path | str,
    out: Path | str,
    root: Path | str | None = None,
    subset: str | None = None,
) -> Path:
    """Write a new data set from a table of verdicts; images and labels of the old one are unchanged.

    Args:
        data, root, subset: as for `clean`.
        verdicts: the edited table.
        out: the new table, which `opsin train` takes.

    Raises:
        NameTakenError: `out` exists.
        DataError: the verdicts belong to other data.
    """
    pool, _ = development_of(data, root=root, subset=subset, report=Reporter(quiet=True))
    return apply_verdicts(pool, read_verdicts(Path(verdicts), pool), Path(out))


def development_of(
    data: Dataset | Run | str | Path | Mapping[str, Any],
    *,
    root: Path | str | None,
    subset: str | None,
    report: Reporter,
) -> tuple[Development, str]:
    """The samples of train and val, and the data's name on the command line.

    Raises:
        ConfigError: the data have no classes.
    """
    if isinstance(data, Run):
        dataset, name = dataset_of(data, root), str(data.path)
    elif isinstance(data, Dataset):
        dataset, name = data, data.source or data.name
    else:
        dataset = load(data, root=root, config=DataConfig(subset=subset), report=report)
        name = dataset.source
    if not get_task(dataset.task).one_class:
        what = "cleaning needs one class per image"
        raise ConfigError(what, where=dataset.name, got=dataset.task, expected="one class for each image")
    return development(dataset, report=report), name


def settings_of_run(data: object) -> dict[str, Any]:
    """The settings of a run, for training further networks like it; none for data."""
    if not isinstance(data, Run):
        return {}
    from opsin.config import flat
    from opsin.training.setup.resolving import APPLIED_AFTER_LOADING

    of_data = set(vars(DataConfig())) - set(APPLIED_AFTER_LOADING)
    left_out = {"source", "root", "task", "seed"} | of_data
    return {key: value for key, value in flat(data.config).items() if key not in left_out}


def unreadable_of(data: object) -> int:
    """How many images of each split a run was allowed to leave out; none of data."""
    return data.config.data.skip_unreadable if isinstance(data, Run) else 0


def _copies(
    pool: Development, judged: Judged, labels: Ints, report: Reporter
) -> tuple[dict[int, tuple[int, ...]], tuple[str, ...]]:
    """For each predicted sample its copies with other labels, as indices among the predicted samples."""
    found: dict[int, set[int]] = {}
    copies, notes = pool.copies, []
    if copies is not None:
        groups = (copies.exact if copies.near is None else copies.near)[judged.rows]
        for rows in different_copies(groups, labels):
            _add_pairs(found, [(int(a), int(b)) for a in rows for b in rows if a < b], labels)
    if copies is None or copies.near is None:
        if pool.source.channels == 3 and len(labels) <= MAX_NEAR:
            whole = replace(pool.dataset, splits={"train": pool.source.take(judged.rows)})
            size = SizePolicy(height=THUMB, width=THUMB)
            thumbs = pack(whole, size, cache=usable_cache())["train"].images
            with report.bar("searching for copies", len(labels)) as bar:
                pairs = near_pairs(np.array(thumbs), advance=bar.at)
            _add_pairs(found, list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)), labels)
        else:
            why = "greyscale images" if pool.source.channels != 3 else f"more than {MAX_NEAR:,} images"
            notes.append(f"near copies with different labels were not searched for: {why}")
    return {i: tuple(sorted(others)) for i, others in found.items()}, tuple(notes)


def _add_pairs(found: dict[int, set[int]], pairs: Sequence[tuple[int, int]], labels: Ints) -> None:
    for a, b in pairs:
        if labels[a] != labels[b]:
            found.setdefault(a, set()).add(b)
            found.setdefault(b, set()).add(a)


def _suspects(
    pool: Development,
    judged: Judged,
    labels: Ints,
    noise: LabelNoise,
    *,
    wrong: NDArray[np.bool_],
    copies: Mapping[int, tuple[int, ...]],
    unlike: NDArray[np.bool_],
) -> tuple[Suspect, ...]:
    """All suspects: likely wrong labels first, then copies, then images unlike their class."""
    classes, best = pool.dataset.classes, judged.probabilities.argmax(1)
    chosen = [i for i in range(len(labels)) if wrong[i] or unlike[i] or i in copies]
    chosen.sort(key=lambda i: (not wrong[i], i not in copies, -noise.wrong[i]))

    def suspect(i: int) -> Suspect:
        row = int(judged.rows[i])
        reasons = (("label", wrong[i]), ("copy", i in copies), ("unlike", unlike[i]))
        return Suspect(
            row=row,
            id=pool.source.ids[row],
            split=pool.origin[row],
            label=classes[labels[i]],
            suggestion=classes[best[i]],
            probability=float(judged.probabilities[i, best[i]]),
            quality=float(judged.probabilities[i, labels[i]]),
            wrong=float(noise.wrong[i]),
            reasons=tuple(name for name, holds in reasons if holds),
            copies=tuple(pool.source.ids[judged.rows[j]] for j in copies.get(i, ())),
        )

    return tuple(suspect(i) for i in chosen)


def _write_page(
    page: Path, pool: Development, suspects: Sequence[Suspect], *, name: str, words: str, verdicts: Path
) -> None:
    groups = []
    for reason, (title, note) in SECTIONS.items():
        members = [suspect for suspect in suspects if reason in suspect.reasons]
        cards = ((thumbnails(pool.source.image(s.row)[None])[0], _card(s)) for s in members)
        groups.append((f"{title} ({len(members):,})", note, cards))
    write_suspects_page(page, groups, name=pool.dataset.name, data=name, words=words, verdicts=verdicts)


def _card(suspect: Suspect) -> JsonDict:
    likely = "label" in suspect.reasons
    return {
        **suspect.to_json(),
        "probability": f"{suspect.probability:.0%}",
        "wrong": f"{suspect.wrong:.0%}" if likely else "",
        "copies": ", ".join(suspect.copies),
    }
