"""The audit of a data set: unreadable files, duplicates, leaks, class balance, sizes, masks and boxes.

scan (`scan.py`) -> copies (`leaks.py`, `near.py`) -> balance, sizes, masks, boxes -> findings

An image of val or test that is also in train makes the score too good. Exact copies (equal decoded pixels) across
splits are refused in a user's own data and reported in published sets; near copies are reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from opsin.data.quality.box_audit import box_findings
from opsin.data.quality.findings import IMBALANCE, NUM_NAMED, Finding, Severity
from opsin.data.quality.leaks import copies_in_train, exact_duplicates, in_words
from opsin.data.quality.mask_audit import MaskCounts, mask_findings
from opsin.data.quality.near import near_pairs
from opsin.data.quality.scan import Scan, scan
from opsin.data.samples import Dataset, Ints, holds_masks
from opsin.types import SplitName


@dataclass(frozen=True, kw_only=True, eq=False)
class Audit:
    """All findings.

    Attributes:
        exact_in_train: by split, the indices of val and test samples with an exact copy in train.
        near_in_train: by split, the indices of those with a near copy in train, exact ones included.
        masks: by split, the counts of the masks; empty without masks.
    """

    findings: tuple[Finding, ...]
    exact_in_train: Mapping[SplitName, Ints] = field(default_factory=dict)
    near_in_train: Mapping[SplitName, Ints] = field(default_factory=dict)
    masks: Mapping[SplitName, MaskCounts] = field(default_factory=dict)

    @property
    def worst(self) -> Severity:
        """The highest severity among the findings."""
        order: tuple[Severity, ...] = ("error", "warning", "info")
        return next((level for level in order if any(f.severity == level for f in self.findings)), "info")


def audit(dataset: Dataset, *, near: bool = True, progress: Callable[[int, int], None] | None = None) -> Audit:
    """Decode every image and mask once and collect findings.

    Args:
        near: also search for near duplicates; never in greyscale sets, where drawn digits are similar without being
            copies.
        progress: called from time to time with (images done, images in total).
    """
    total = sum(len(source) for source in dataset.splits.values()) * (2 if near and dataset.channels == 3 else 1)
    done = 0

    def advance(num_images: int) -> None:
        if progress is not None:
            progress(min(done + num_images, total), total)

    scans: dict[SplitName, Scan] = {}
    masks = {name: MaskCounts(source) for name, source in dataset.splits.items() if holds_masks(source)}
    for name, source in dataset.splits.items():
        also = masks[name].add if name in masks else None
        scans[name] = scan(source, thumbs=near and dataset.channels == 3, advance=advance, also=also)
        done += len(source)
    findings = [finding for name in scans for finding in _readability(dataset, name, scans[name])]
    digests = {name: scan.digests for name, scan in scans.items()}
    findings += exact_duplicates(
        dataset, digests, allow_leaks=dataset.config is not None and dataset.config.allow_leaks
    )
    exact = copies_in_train(digests)
    near_in_train: dict[SplitName, Ints] = {}
    if near and dataset.channels == 3:
        near_findings, near_in_train = _near_duplicates(dataset, scans, exact, advance)
        findings += near_findings
    elif near:
        findings.append(_not_searched("drawings of one channel are alike without being copies"))
    else:
        findings.append(_not_searched("--near looks for them"))
    findings += [*_balance(dataset), *_sizes(scans), *mask_findings(dataset, masks)]
    findings += box_findings(dataset, {name: scan.sizes for name, scan in scans.items()})
    notes = [*dataset.notes, *(f"{name}: {note}" for name, scan in scans.items() for note in scan.notes)]
    findings += [Finding(kind="note", severity="info", message=note) for note in notes]
    return Audit(findings=tuple(findings), exact_in_train=exact, near_in_train=near_in_train, masks=masks)


def _readability(dataset: Dataset, name: SplitName, scan: Scan) -> list[Finding]:
    if not scan.failures:
        return []
    ids = dataset.splits[name].ids
    allowed = dataset.config.skip_unreadable if dataset.config is not None else 0
    return [
        Finding(
            kind="unreadable",
            severity="warning" if len(scan.failures) <= allowed else "error",
            message=f"{in_words(len(scan.failures), 'sample of')} {name} cannot be read",
            count=len(scan.failures),
            samples=tuple(f"{ids[i]}: {reason}" for i, reason in scan.failures),
        )
    ]


def _near_duplicates(
    dataset: Dataset, scans: Mapping[SplitName, Scan], exact: Mapping[SplitName, Ints], advance: Callable[[int], None]
) -> tuple[list[Finding], dict[SplitName, Ints]]:
    """Near copies within each split, and of val and test in train."""
    findings: list[Finding] = []
    in_train: dict[SplitName, Ints] = {}
    for name, seen in scans.items():
        assert seen.thumbs is not None  # scanned with thumbs
        pairs = near_pairs(seen.thumbs, advance=advance)
        findings += _near_finding(dataset, name, name, pairs.first, pairs.second, len(seen.thumbs))
        train = scans["train"].thumbs if "train" in scans and name != "train" else None
        if train is not None:
            pairs = near_pairs(seen.thumbs, train, advance=advance)
            if not np.isin(pairs.first, exact[name]).all():  # exact copies alone are told of already, as a leak
                findings += _near_finding(dataset, name, "train", pairs.first, pairs.second, len(seen.thumbs))
            in_train[name] = np.union1d(pairs.first, exact[name])
    return findings, in_train


def _not_searched(why: str) -> Finding:
    return Finding(kind="near-duplicates", severity="info", message=f"near duplicates were not searched: {why}")


def _near_finding(
    dataset: Dataset, split: SplitName, other: SplitName, first: Ints, second: Ints, total: int
) -> list[Finding]:
    if not len(first):
        return []
    count = len(np.unique(np.concatenate([first, second]) if split == other else first))
    place, verb = "the same split" if split == other else other, "has" if count == 1 else "have"
    ids, other_ids = dataset.splits[split].ids, dataset.splits[other].ids
    return [
        Finding(
            kind="near-duplicates" if split == other else "near-leak",
            severity="info" if split == other else "warning",
            message=f"{count:,} of {total:,} images of {split} ({count / total:.1%}) {verb} a near copy in {place}",
            count=count,
            samples=tuple(
                f"{split}: {ids[i]} ~ {other}: {other_ids[j]}"
                for i, j in zip(first[:NUM_NAMED], second[:NUM_NAMED], strict=True)
            ),
        )
    ]


def _balance(dataset: Dataset) -> list[Finding]:
    """Class shares in train, and classes missing from a split."""
    findings = []
    for name, counts in dataset.counts().items():
        empty = [dataset.classes[k] for k, count in enumerate(counts) if not count]
        if empty:
            verb = "has" if len(empty) == 1 else "have"
            message = f"{len(empty)} of {len(counts)} classes {verb} no sample in {name}: scores there are n/a"
            findings.append(
                Finding(kind="empty-class", severity="warning", message=message, count=len(empty), samples=tuple(empty))
            )
        present = [count for count in counts if count]
        if name == "train" and present:
            low, high = min(present), max(present)
            severity: Severity = "warning" if high >= IMBALANCE * low else "info"
            span = f"{low:,} to {high:,}" if low < high else f"{low:,}"
            message = f"classes have {span} training samples" + (" each" if low == high else "")
            findings.append(Finding(kind="balance", severity=severity, message=message, count=len(counts)))
    return findings


def _sizes(scans: Mapping[SplitName, Scan]) -> list[Finding]:
    """Image sizes, and how many images are grey."""
    sizes = np.concatenate([scan.sizes for scan in scans.values()])
    sizes = sizes[sizes[:, 0] > 0]
    if not len(sizes):
        return []
    counts = Counter(map(tuple, sizes.tolist()))
    low, high = sizes.min(0), sizes.max(0)
    span = f"{low[0]}x{low[1]}" if len(counts) == 1 else f"{low[0]} to {high[0]} high, {low[1]} to {high[1]} wide"
    grey = sum(scan.num_grey for scan in scans.values())
    common = tuple(f"{count:,} of {height}x{width}" for (height, width), count in counts.most_common(5))
    plural = "" if len(counts) == 1 else "s"
    size_message = f"{len(counts):,} image size{plural} (height x width): {span}"
    return [
        Finding(kind="sizes", severity="info", message=size_message, count=len(counts), samples=common),
        Finding(kind="modes", severity="info", message=f"{grey:,} of {len(sizes):,} images are grey", count=grey),
    ]
