"""Pixel counts of masks, one mask at a time, and findings on them.

Unpaired files are refused by the readers; masks that are unreadable or do not fit their photos count as unreadable
images. What remains is in the pixels: void, rare or absent classes, empty masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from opsin.data.quality.findings import IMBALANCE, NUM_NAMED, Finding, Severity, percent
from opsin.data.samples import Dataset, Source, chunks
from opsin.io.images import DecodedImage
from opsin.types import VOID, JsonDict, SplitName

ROWS = 256
"""Rows of a mask counted at once: counting widens each pixel to 8 bytes."""
MUCH_VOID = 0.5
"""Share of void pixels from which they are a warning."""


class MaskCounts:
    """Pixel counts of the masks of one split. No mask is kept.

    Attributes:
        num_masks: number of masks counted.
        pixels: int64 `[256]`, pixels of each class and of VOID.
        images: int64 `[256]`, number of masks that contain each of them.
        all_void: indices of the samples without a labelled pixel.
        first_alone: indices of the samples whose labelled pixels are all of class 0.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.num_masks = 0
        self.pixels = np.zeros(256, np.int64)
        self.images = np.zeros(256, np.int64)
        self.all_void: list[int] = []
        self.first_alone: list[int] = []
        self._lock = Lock()

    def add(self, i: int, image: DecodedImage) -> None:
        """Count the mask of sample `i`, whose image is decoded already; thread-safe.

        Raises:
            InputError: the mask cannot be read, or does not fit its image.
        """
        mask = self.source.mask(i, image)
        if mask is None:
            return
        held = sum(
            (np.bincount(mask[rows].ravel(), minlength=256) for rows in chunks(len(mask), ROWS)), self.pixels * 0
        )
        with self._lock:
            self.num_masks += 1
            self.pixels += held
            self.images += held > 0
            if not held[:VOID].any():
                self.all_void.append(i)
            elif not held[1:VOID].any():
                self.first_alone.append(i)

    @property
    def void_share(self) -> float:
        """Share of void pixels; 0 without masks."""
        return float(self.pixels[VOID] / max(1, self.pixels.sum()))

    def shares(self, num_classes: int) -> NDArray[np.float64]:
        """Share of each class in the labelled pixels: float64 `[K]`, zeros where nothing is labelled."""
        found: NDArray[np.float64] = self.pixels[:num_classes] / max(1, int(self.pixels[:VOID].sum()))
        return found

    def about(self, classes: tuple[str, ...]) -> JsonDict:
        """The counts as plain JSON."""
        shares = self.shares(len(classes))
        return {
            "masks": self.num_masks,
            "void_share": self.void_share,
            "all_void": len(self.all_void),
            "classes": [
                {"class": name, "pixels": int(self.pixels[k]), "share": float(shares[k]), "images": int(self.images[k])}
                for k, name in enumerate(classes)
            ],
        }


def mask_findings(dataset: Dataset, counts: Mapping[SplitName, MaskCounts]) -> list[Finding]:
    """Findings on masks that could be read; `counts` by split, none for a data set without masks."""
    found = [*_void(counts), *_absent_classes(dataset, counts)]
    for name, held in counts.items():
        found += [*_empty_masks(dataset, name, held), *_balance(dataset, name, held)]
    return found


def _void(counts: Mapping[SplitName, MaskCounts]) -> list[Finding]:
    shares = {name: held.void_share for name, held in counts.items()}
    if not any(shares.values()):
        return []
    severity: Severity = "warning" if max(shares.values()) >= MUCH_VOID else "info"
    message = "void pixels: " + ", ".join(f"{percent(share)} of {name}" for name, share in shares.items())
    count = sum(int(held.pixels[VOID]) for held in counts.values())
    return [Finding(kind="void", severity=severity, message=message, count=count)]


def _absent_classes(dataset: Dataset, counts: Mapping[SplitName, MaskCounts]) -> list[Finding]:
    """Classes in no mask, and classes only in masks of other splits."""
    numbers = range(len(dataset.classes))
    absent = {name: {k for k in numbers if not held.images[k]} for name, held in counts.items() if held.num_masks}
    if not absent:
        return []
    never = set.intersection(*absent.values())
    found = [_absent(dataset, "absent-class", never, "no pixel in any mask")]
    for name, missing in absent.items():
        effect = "the network cannot learn them" if name == "train" else "scores there are n/a"
        found.append(_absent(dataset, "empty-class", missing - never, f"no pixel in {name}: {effect}"))
    return [finding for finding in found if finding.count]


def _absent(dataset: Dataset, kind: str, missing: set[int], what: str) -> Finding:
    verb = "has" if len(missing) == 1 else "have"
    message = f"{len(missing)} of {len(dataset.classes)} classes {verb} {what}"
    names = tuple(dataset.classes[k] for k in sorted(missing)[:NUM_NAMED])
    return Finding(kind=kind, severity="warning", message=message, count=len(missing), samples=names)


def _empty_masks(dataset: Dataset, name: SplitName, held: MaskCounts) -> list[Finding]:
    """Masks that are entirely void, and masks of background only."""
    kinds: list[tuple[str, Severity, list[int], str]] = [("void-masks", "warning", held.all_void, "void")]
    if dataset.classes[0] == "background":
        kinds.append(("empty-masks", "info", held.first_alone, "background"))
    ids = dataset.splits[name].ids
    return [
        Finding(
            kind=kind,
            severity=severity,
            message=f"{len(numbers):,} of {held.num_masks:,} masks of {name} "
            f"{'contains' if len(numbers) == 1 else 'contain'} only {what}",
            count=len(numbers),
            samples=tuple(ids[i] for i in sorted(numbers)[:NUM_NAMED]),
        )
        for kind, severity, numbers, what in kinds
        if numbers
    ]


def _balance(dataset: Dataset, name: SplitName, held: MaskCounts) -> list[Finding]:
    """Shares of the rarest and of the most frequent class in the labelled pixels of train."""
    shares = held.shares(len(dataset.classes))
    present = np.flatnonzero(shares)
    if name != "train" or len(present) < 2:
        return []
    low, high = present[shares[present].argmin()], present[shares[present].argmax()]
    severity: Severity = "warning" if shares[high] >= IMBALANCE * shares[low] else "info"
    ends = [f"{percent(shares[k])} ({dataset.classes[k]})" for k in (low, high)]
    message = f"classes have {ends[0]} to {ends[1]} of the labelled pixels of train"
    return [Finding(kind="pixel-balance", severity=severity, message=message, count=len(present))]
