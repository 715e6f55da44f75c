"""Which samples are copies of images that the run was trained on: a score on them is too good.

Exact copies are equal, pixel for pixel, at the network's input size; near ones show the same shot
(`data/quality/near.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.data.pack import default_cache, pack
from opsin.data.quality.near import near_pairs
from opsin.data.quality.scan import Scan, scan
from opsin.data.samples import ArraySource, Bytes, Dataset, Samples, numbered_ids
from opsin.errors import DataError, RefusedError
from opsin.progress import QUIET, Bar, Reporter
from opsin.runs import Run, dataset_of
from opsin.types import SizePolicy

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Which of N samples were trained on, no sample in both.

    `exact`: bool [N], those with an equal training image. `near`: bool [N], those that have only one of the same shot;
    None where near copies were not searched.
    """

    exact: Flags
    near: Flags | None

    @property
    def others(self) -> NDArray[np.int64]:
        """Numbers of the samples that have no copy, int64 [n]."""
        return np.flatnonzero(~self.exact if self.near is None else ~(self.exact | self.near))


def training_samples(
    run: Run,
    size: SizePolicy,
    root: Path | str | None = None,
    *,
    dataset: Dataset | None = None,
    report: Reporter = QUIET,
) -> Samples:
    """The images that a run was trained on, packed.

    Args:
        run: whose training images.
        size: how they are brought to the network's input.
        root: where catalogue sets lie; None takes the run's.
        dataset: the run's own data set where it is loaded already.
        report: shows progress.

    Raises:
        RefusedError: they are not there, have changed since, or cannot be read.
    """
    own = dataset_of(run, root) if dataset is None else dataset
    skip = run.config.data.skip_unreadable
    with report.bar("training images", len(own.splits["train"])) as bar:
        packed = pack(
            own,
            size,
            cache=default_cache(),
            splits=["train"],
            skip_unreadable=skip,
            progress=lambda done, _: bar.at(done),
        )
    return packed["train"]


def required_training_samples(
    run: Run,
    size: SizePolicy,
    root: Path | str | None = None,
    *,
    dataset: Dataset | None = None,
    report: Reporter = QUIET,
) -> Samples:
    """The same for somebody who has asked for copies: without training images there is no answer.

    Raises:
        DataError: there are no training images to compare with.
    """
    try:
        return training_samples(run, size, root, dataset=dataset, report=report)
    except RefusedError as error:
        raise DataError(
            f"copies of training images cannot be looked for: {error.what}",
            where=error.where,
            got=error.got,
            expected="the images that the run was trained on",
            do="bring them back as they were, or score without `--copies`",
        ) from error


def find_copies(samples: Samples, trained: Samples, *, search_near: bool = True, report: Reporter = QUIET) -> Copies:
    """Which of `samples` have an exact or near copy among `trained`.

    Near copies are not searched where images have one channel: drawn digits are alike without being copies.

    Args:
        samples: N packed samples that are scored.
        trained: the training samples, packed to the same size.
        search_near: look for near copies too, which takes longer.
        report: shows progress.
    """
    ours, theirs = _same_channels(samples.images, trained.images)
    near = search_near and samples.images.shape[1] == trained.images.shape[1] == 3
    with report.bar("copies", len(ours) * (2 if near else 1) + len(theirs)) as bar:
        old = _scanned(theirs, near, bar)
        new = _scanned(ours, near, bar)
        known = set(old.digests)
        exact = np.array([value in known for value in new.digests], np.bool_)
        if new.thumbs is None or old.thumbs is None:
            return Copies(exact=exact, near=None)
        before = bar.done
        pairs = near_pairs(new.thumbs, old.thumbs, advance=lambda done: bar.at(before + done))
    return Copies(exact=exact, near=np.isin(np.arange(len(ours)), pairs.first) & ~exact)


def copies_note(run: Run, samples: Samples, size: SizePolicy, root: Path | str | None = None) -> str | None:
    """What a reader of the scores must know of exact copies of training images; None where there are none.

    Args:
        run: whose training images.
        samples: packed images that are to be scored, of a data set that is not the run's own.
        size: how both were brought to the network's input.
        root: where catalogue sets lie; None takes the run's.
    """
    try:
        trained = training_samples(run, size, root)
    except RefusedError as error:
        return f"it is not known whether training images are among these: {error.what}"
    count = int(find_copies(samples, trained, search_near=False).exact.sum())
    if not count:
        return None
    return f"{count:,} of {len(samples.images):,} images were trained on, pixel for pixel: the scores are too good"


def _scanned(images: Bytes, near: bool, bar: Bar) -> Scan:
    """Digests, and thumbnails for near copies, of images uint8 [N, C, H, W]."""
    before = bar.done
    source = ArraySource(ids=numbered_ids("", len(images)), images=images)
    return scan(source, thumbs=near, advance=lambda done: bar.at(before + done))


def _same_channels(first: Bytes, second: Bytes) -> tuple[Bytes, Bytes]:
    """Both as they are, or as RGB where one of them is grey; views, nothing is copied."""
    if first.shape[1] == second.shape[1]:
        return first, second
    return _rgb(first), _rgb(second)


def _rgb(images: Bytes) -> Bytes:
    return np.broadcast_to(images, (len(images), 3, *images.shape[2:]))
