"""Out-of-fold probabilities of every development sample: from features, or by training.

By features: one pass of a pretrained network over all images, then a logistic regression for each fold on its
features. That takes minutes for 10,000 photos, and is better than a network trained from scratch on so few. For
greyscale images a network is trained for each fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from opsin.config import DataConfig
from opsin.data.pack import usable_cache
from opsin.data.samples import Dataset, Ints
from opsin.errors import DataError
from opsin.progress import QUIET, Reporter
from opsin.studies.cross_validation import cross_validate
from opsin.studies.folds import Development, draw_folds
from opsin.training.features import compute_features
from opsin.training.setup.preparing import prepare_from

Way = Literal["auto", "features", "train"]
SIDE_PX = 160
"""Input side of the pretrained network: at 96 px 10 % fewer wrong labels are found, at 224 px each image
costs twice as much."""
DECAY = 0.1
"""Weight decay of the regression, on features of standard deviation 1; of 0.1, 0.03 and 0.01 the likeliest on noisy
CIFAR-10 labels out of fold."""
MOST_ITERATIONS = 60
SMALLEST_SD = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """Probabilities floating [N, K] of the development samples `rows` int64 [N], which were readable.

    `features`: float32 [N, F] of the pretrained network, or None. `words`: their origin.
    """

    rows: Ints
    probabilities: NDArray[np.floating]
    features: NDArray[np.float32] | None
    words: str


def judge(
    pool: Development,
    *,
    way: Way,
    folds: int,
    seed: int,
    skip_unreadable: int,
    out: Path | str,
    settings: Mapping[str, Any],
    quiet: bool,
) -> Judged:
    """Out-of-fold probabilities of the development samples of a data set.

    Args:
        pool: all samples but those of test.
        way: `features` of a pretrained network, `train` for each fold, or `auto`: features for colour images.
        folds: their number.
        seed: seed of folds and networks.
        skip_unreadable: as in `DataConfig`.
        out: folder for the runs of `train`.
        settings: settings of these runs.
        quiet: no progress.
    """
    chosen = way if way != "auto" else "features" if pool.source.channels == 3 and not settings else "train"
    if chosen == "train":
        return _by_training(pool, folds=folds, seed=seed, out=out, settings=settings, quiet=quiet)
    return _by_features(pool, folds=folds, seed=seed, skip_unreadable=skip_unreadable, report=Reporter(quiet=quiet))


def _by_training(
    pool: Development, *, folds: int, seed: int, out: Path | str, settings: Mapping[str, Any], quiet: bool
) -> Judged:
    found = cross_validate(pool.dataset, folds=folds, seed=seed, out=out, quiet=quiet, **settings).out_of_fold
    place = {name: row for row, name in enumerate(pool.source.ids)}
    return Judged(
        rows=np.array([place[name] for name in found.ids], np.int64),
        probabilities=found.predictions["probabilities"],
        features=None,
        words=f"a network trained for each of {folds} folds",
    )


def _by_features(pool: Development, *, folds: int, seed: int, skip_unreadable: int, report: Reporter) -> Judged:
    drawn = replace(pool.dataset.config or DataConfig(), split_seed=seed)
    fold, _ = draw_folds(pool, folds, drawn)
    whole: Dataset = replace(pool.dataset, splits={"train": pool.source})
    settings = {
        "weights": "package",
        "finetune": "head",
        "input_size": SIDE_PX,
        "fit": "squash",
        "allow_leaks": True,
        "skip_unreadable": skip_unreadable,
    }
    prepared = prepare_from(whole, root=None, recipe=None, settings=settings, report=QUIET)
    made = compute_features(
        prepared.artifact,
        prepared.splits,
        prepared.config,
        device=prepared.device,
        cache=usable_cache(),
        report=report,
    )
    lost = set(prepared.splits["train"].skipped)
    rows = np.array([row for row, name in enumerate(pool.source.ids) if name not in lost], np.int64)
    features = np.array(made.train[0].images, np.float32)  # a copy: torch does not accept read-only memory maps
    labels = labels_of(pool)[rows]
    probabilities = np.zeros((len(rows), len(pool.dataset.classes)))
    with report.bar("fitting folds", folds) as bar:
        for number in range(folds):
            held = fold[rows] == number
            probabilities[held] = regression(
                features[~held], labels[~held], features[held], num_classes=probabilities.shape[1]
            )
            bar.advance()
    words = f"a regression on frozen features of {prepared.config.model.model} at {SIDE_PX} px, {folds} folds"
    return Judged(rows=rows, probabilities=probabilities, features=features, words=words)


def labels_of(pool: Development) -> Ints:
    """The labels of all development samples, int64 [N].

    Raises:
        DataError: there are none.
    """
    if pool.source.labels is None:
        raise DataError("these samples have no labels", where=pool.dataset.name, expected="one class per image")
    return pool.source.labels


def regression(
    features: NDArray[np.float32], labels: Ints, others: NDArray[np.float32], *, num_classes: int
) -> NDArray[np.float64]:
    """Probabilities [M, K] of `others` [M, F] by a logistic regression on features [N, F] and labels [N]."""
    mean, sd = features.mean(0), features.std(0) + SMALLEST_SD
    seen, target = torch.from_numpy((features - mean) / sd), torch.from_numpy(labels)
    weight = torch.zeros(num_classes, seen.shape[1], requires_grad=True)
    bias = torch.zeros(num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=MOST_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        total = torch.nn.functional.cross_entropy(seen @ weight.T + bias, target)
        total = total + DECAY / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        logits = torch.from_numpy((others - mean) / sd) @ weight.T + bias
        return logits.double().softmax(1).numpy()
