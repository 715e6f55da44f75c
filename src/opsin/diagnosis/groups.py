"""Scores by group: by folder, size, brightness or a CSV column.

Shapes: N samples, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from opsin.artifact import load as load_artifact
from opsin.comparison.outcomes import Outcomes, outcomes_of
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Samples
from opsin.diagnosis.outcome_scores import score_of
from opsin.errors import ConfigError, DataError, nearest
from opsin.io.tables import read_table
from opsin.ops.depth import brightness
from opsin.runs import Run, dataset_of
from opsin.score_notes import lowest
from opsin.types import LUMA, JsonDict, Score, SplitName, plain_score

FEW = 30
"""Groups with fewer samples are small: they are marked, and not called the worst unless all are."""
NUM_BINS = 4
MOST_GROUPS = 200


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """The main score of one group of `n` samples; `small` if fewer than `FEW`."""

    name: str
    n: int
    score: Score
    small: bool


@dataclass(frozen=True, kw_only=True)
class GroupScores:
    """The main score by group, worst first.

    `overall`: of all samples. `worst`: the group with the lowest score that is not small (or of all if
    all are small), None with only one group. `clear`: its interval, widened because it is the lowest of several,
    is below the score of all the other samples.
    """

    run: str
    split: str
    by: str
    score: str
    n: int
    overall: Score
    groups: tuple[GroupScore, ...]
    worst: GroupScore | None
    clear: bool

    def to_json(self) -> JsonDict:
        """As plain JSON; None for undefined."""
        return {
            **{key: getattr(self, key) for key in ("run", "split", "by", "score", "n", "clear")},
            "overall": plain_score(self.overall),
            "worst": None if self.worst is None else _plain(self.worst),
            "groups": [_plain(group) for group in self.groups],
        }


def scores_by(
    run: Run | Path | str,
    by: str,
    *,
    split: SplitName = "val",
    table: Path | str | None = None,
    root: Path | str | None = None,
) -> GroupScores:
    """The main score of each group of a split, from the predictions stored in the run.

    Args:
        run: the run, its folder or its name.
        by: `folder` (of each file), `size` (quarters by area of the original images), `brightness` (quarters), or a
            column of a CSV file.
        split: val, or test once it has been opened.
        table: a CSV file that has the column, and in another one the samples' paths as the run knows them; None takes
            the CSV that the run was trained on.
        root: folder of the catalogue's data sets; None takes the run's.

    Raises:
        RunError: the run has no predictions on that split.
        ConfigError: no such column; or the samples cannot be distinguished by it.
        DataError: the data set has changed since training.
    """
    opened = run if isinstance(run, Run) else Run.open(run)
    outcomes = outcomes_of(opened, split)
    names = _names(opened, by, split, None if table is None else Path(table), root)
    different = sorted(set(names), key=_natural)
    if len(different) > MOST_GROUPS:
        expected = f"at most {MOST_GROUPS}"
        raise ConfigError(
            "too many groups: each has too few samples", got=f"{len(different)} by {by}", expected=expected
        )
    members = {name: np.flatnonzero([name == other for other in names]) for name in different}
    groups = sorted((_group(outcomes, name, rows) for name, rows in members.items()), key=_lowest_first)
    worst = next((group for group in groups if not group.small), groups[0]) if len(groups) > 1 else None
    return GroupScores(
        run=opened.name,
        split=split,
        by=by,
        score=outcomes.score,
        n=len(outcomes.parts),
        overall=score_of(outcomes),
        groups=tuple(groups),
        worst=worst,
        clear=worst is not None and _is_below_the_rest(outcomes, worst, members[worst.name], len(groups)),
    )


def _group(outcomes: Outcomes, name: str, rows: NDArray[np.int64]) -> GroupScore:
    own = replace(outcomes, parts=outcomes.parts[rows])
    return GroupScore(name=name, n=len(rows), score=score_of(own), small=len(rows) < FEW)


def _is_below_the_rest(outcomes: Outcomes, worst: GroupScore, rows: NDArray[np.int64], choices: int) -> bool:
    """Whether the lowest of `choices` groups is lower than by chance: its upper end, Bonferroni-corrected."""
    rest = replace(outcomes, parts=np.delete(outcomes.parts, rows, axis=0))
    mirrored = Score(-worst.score.value, -worst.score.high, -worst.score.low)
    return -lowest(mirrored, choices) < score_of(rest).value


def _lowest_first(group: GroupScore) -> tuple[bool, float]:
    undefined = np.isnan(group.score.value)
    return undefined, 0.0 if undefined else group.score.value


def _names(run: Run, by: str, split: SplitName, table: Path | None, root: Path | str | None) -> list[str]:
    """The group of each sample of the stored predictions."""
    ids = [str(name) for name in run.predictions(split)["ids"]]
    if table is not None:
        return _column(table, by, ids)
    if by == "folder":
        return _told_apart([str(PurePosixPath(name.replace("\\", "/")).parent) for name in ids], by)
    if by in _MEASURES:
        samples = _samples(run, split, root)
        return _quarters(_MEASURES[by](samples), by)
    path = Path(run.config.source)
    if path.suffix.lower() != ".csv":
        known = ("folder", *_MEASURES)
        close = nearest(by, known)
        do = f"did you mean `{close}`?" if close else "name the CSV file that has the column: --by-table FILE"
        raise ConfigError("samples cannot be grouped by this name", got=by, expected=", ".join(known), do=do)
    return _column(path, by, ids)


def _told_apart(names: list[str], by: str) -> list[str]:
    if len(set(names)) == 1:
        raise ConfigError(f"all samples have the same {by}", got=names[0], do="group by something else")
    return names


def _column(path: Path, by: str, ids: Sequence[str]) -> list[str]:
    """The value of a column of a CSV file for each sample."""
    rows = read_table(path)
    if by not in rows[0]:
        do = "name another CSV file that has it: --by-table FILE"
        raise ConfigError("the CSV file has no such column", where=path, got=by, expected=", ".join(rows[0]), do=do)
    values = _by_id(rows, by)
    missing = [name for name in ids if name not in values]
    if missing:
        got = ", ".join(missing[:5])
        raise DataError("samples of the run are not in the CSV file", where=path, got=got, expected="each in one row")
    return _told_apart([values[name] for name in ids], by)


def _by_id(rows: Sequence[Mapping[str, str]], by: str) -> dict[str, str]:
    """The column's value by every cell of its row that may be the sample's id (its path, or its name)."""
    return {cell: row[by] for row in rows for key, cell in row.items() if key != by and cell}


def _samples(run: Run, split: SplitName, root: Path | str | None) -> Samples:
    size = load_artifact(run.model_folder).preprocess.size
    skip = run.config.data.skip_unreadable
    return pack(dataset_of(run, root), size, cache=default_cache(), splits=[split], skip_unreadable=skip)[split]


def _areas(samples: Samples) -> NDArray[np.float64]:
    """Geometric mean of the original sides in pixels, float64 [N]."""
    sides: NDArray[np.float64] = np.sqrt(np.asarray(samples.sizes, np.float64).prod(axis=1))
    return sides


def _brightness(samples: Samples) -> NDArray[np.float64]:
    """Mean luma of each image, 0 to 255, float64 [N]."""
    means = np.array([brightness(image).astype(np.float64).mean(axis=(1, 2)) for image in samples.images], np.float64)
    weights = np.array(LUMA if means.shape[1] == 3 else (1.0,))
    luma: NDArray[np.float64] = (means * weights).sum(axis=1)
    return luma


_MEASURES: Mapping[str, Callable[[Samples], NDArray[np.float64]]] = {"size": _areas, "brightness": _brightness}
"""The values by which samples are divided into quarters."""


def _quarters(values: NDArray[np.float64], by: str) -> list[str]:
    """Each value's quarter, named by its ends; equal values are never separated."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, NUM_BINS + 1)))
    if len(edges) < 3:
        raise ConfigError(f"all samples have the same {by}", got=f"{values[0]:.4g}", do="group by something else")
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return [f"{edges[i]:.4g} to {edges[i + 1]:.4g}" for i in places]


def _natural(name: str) -> tuple[float, str]:
    head = name.split(" ", 1)[0]
    try:
        return float(head), name
    except ValueError:
        return float("inf"), name


def _plain(group: GroupScore) -> JsonDict:
    return {"name": group.name, "n": group.n, "small": group.small, "score": plain_score(group.score)}
