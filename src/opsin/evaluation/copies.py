"""Copies of training images among samples: a score on them is too high.

Exact copies are equal, pixel for pixel, at the network's input size; near ones show the same scene
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
from opsin.data.samples import Dataset, Pixels, Samples
from opsin.errors import DataError, RefusedError
from opsin.io.images import DecodedImage, Sides
from opsin.progress import QUIET, Bar, Reporter
from opsin.runs import Run, dataset_of
from opsin.types import SizePolicy

Flags = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Which of N samples are copies of training images; no sample is in both.

    `exact`: bool [N], those with an equal training image. `near`: bool [N], those with only a near copy;
    None if near copies were not searched for.
    """

    exact: Flags
    near: Flags | None

    @property
    def others(self) -> NDArray[np.int64]:
        """Indices of the samples without a copy, int64 [n]."""
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
        run: the run with the training images.
        size: size policy of the network's input.
        root: folder of the catalogue's data sets; None takes the run's.
        dataset: the run's own data set if already loaded.
        report: shows progress.

    Raises:
        RefusedError: they are missing, have changed, or cannot be read.
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
    """As `training_samples`, but refused without training images.

    Raises:
        DataError: there are no training images to compare with.
    """
    try:
        return training_samples(run, size, root, dataset=dataset, report=report)
    except RefusedError as error:
        raise DataError(
            f"copies of training images cannot be searched for: {error.what}",
            where=error.where,
            got=error.got,
            expected="the images that the run was trained on",
            do="restore them, or score without `--copies`",
        ) from error


def find_copies(samples: Samples, trained: Samples, *, search_near: bool = True, report: Reporter = QUIET) -> Copies:
    """Which of `samples` have an exact or near copy among `trained`.

    Near copies are not searched for in greyscale images: drawn digits are similar without being copies.

    Args:
        samples: N packed samples that are scored.
        trained: the training samples, packed to the same size.
        search_near: search for near copies too, which takes longer.
        report: shows progress.
    """
    rgb = samples.images.shape[1] != trained.images.shape[1]
    ours, theirs = _Rows(samples.images, rgb=rgb), _Rows(trained.images, rgb=rgb)
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
    """A note on exact copies of training images; None if there are none.

    Args:
        run: the run with the training images.
        samples: packed images that are to be scored, of a data set that is not the run's own.
        size: size policy of both.
        root: folder of the catalogue's data sets; None takes the run's.
    """
    try:
        trained = training_samples(run, size, root)
    except RefusedError as error:
        return f"it is unknown whether training images are among these: {error.what}"
    count = int(find_copies(samples, trained, search_near=False).exact.sum())
    if not count:
        return None
    return f"{count:,} of {len(samples.images):,} images are exact copies of training images: the scores are too high"


def _scanned(images: _Rows, near: bool, bar: Bar) -> Scan:
    """Digests, and thumbnails for near copies."""
    before = bar.done
    return scan(images, thumbs=near, advance=lambda done: bar.at(before + done))


class _Rows:
    """Packed images [N, C, H, W], one at a time, unchanged or as RGB."""

    def __init__(self, images: Pixels, *, rgb: bool) -> None:
        self.images, self.rgb = images, rgb

    def __len__(self) -> int:
        return len(self.images)

    def read(self, i: int, sides: Sides | None = None, bits: int = 8) -> DecodedImage:
        """Image `i`."""
        image = np.asarray(self.images[i])
        return DecodedImage(pixels=np.broadcast_to(image, (3, *image.shape[1:])) if self.rgb else image)
