"""The audit of a data set: unreadable files, duplicates, leaks, class balance, sizes, masks and boxes.

An image of val or test that is also in train makes the score too high. Exact copies (equal decoded pixels) across
splits are refused in a user's own data and reported in published sets; near copies are reported.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from opsin.data.pack import counted
from opsin.data.parallel import for_each
from opsin.data.quality.box_audit import box_findings
from opsin.data.quality.copies import MAX_NEAR
from opsin.data.quality.findings import IMBALANCE, NUM_NAMED, Finding, Severity
from opsin.data.quality.mask_audit import MaskCounts, mask_findings
from opsin.data.quality.near import THUMB, near_pairs
from opsin.data.samples import Bytes, Dataset, FileSource, Ints, Samples, Source, holds_masks
from opsin.errors import DataError, InputError
from opsin.io.files import sha256_file
from opsin.io.images import DecodedImage, is_gray
from opsin.ops.resize import fit_image
from opsin.types import SizePolicy, SplitName

THUMB_POLICY = SizePolicy(height=THUMB, width=THUMB)
LOOKED_AT_PX = 1024


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


@dataclass(frozen=True, kw_only=True, eq=False)
class Scan:
    """Result of one pass over a split: `thumbs` uint8 `[N, 3, 32, 32]` or None, `sizes` int32 `[N, 2]`."""

    digests: list[bytes | None]
    thumbs: Bytes | None
    sizes: NDArray[np.int32]
    num_grey: int
    failures: list[tuple[int, str]]
    notes: tuple[str, ...] = ()


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
        message = "near duplicates were not searched for: greyscale drawings are similar without being copies"
        findings.append(Finding(kind="near-duplicates", severity="info", message=message))
    findings += [*_balance(dataset), *_sizes(scans), *mask_findings(dataset, masks)]
    findings += box_findings(dataset, {name: scan.sizes for name, scan in scans.items()})
    notes = [*dataset.notes, *(f"{name}: {note}" for name, scan in scans.items() for note in scan.notes)]
    findings += [Finding(kind="note", severity="info", message=note) for note in notes]
    return Audit(findings=tuple(findings), exact_in_train=exact, near_in_train=near_in_train, masks=masks)


def _looked_at(height: int, width: int) -> tuple[int, int]:
    """Sides at which images are compared: the largest JPEGs need not be decoded whole."""
    return min(height, LOOKED_AT_PX), min(width, LOOKED_AT_PX)


def scan(
    source: Source,
    *,
    thumbs: bool,
    advance: Callable[[int], None] | None = None,
    also: Callable[[int, DecodedImage], None] | None = None,
) -> Scan:
    """Decode each image of a split once, in parallel: digest, size, thumbnail; unreadable ones with their reasons.

    Args:
        thumbs: make thumbnails.
        advance: called from time to time with the number of images that are done.
        also: called from several threads with each image and its number; a sample for which it raises an `InputError`
            is unreadable too.
    """
    num_samples = len(source)
    digests: list[bytes | None] = [None] * num_samples
    pictures = np.zeros((num_samples, 3, THUMB, THUMB), np.uint8) if thumbs else None
    sizes = np.zeros((num_samples, 2), np.int32)
    grey = np.zeros(num_samples, bool)
    failures: list[tuple[int, str]] = []
    notes: list[str] = []

    def look(i: int) -> None:
        try:
            decoded = source.read(i, _looked_at)
            pixels = decoded.pixels
            notes.extend(decoded.notes)
            digests[i], sizes[i], grey[i] = digest(pixels), decoded.size, is_gray(pixels)
            if pictures is not None:
                pictures[i] = fit_image(pixels, THUMB_POLICY)
            if also is not None:
                also(i, decoded)
        except InputError as error:
            failures.append((i, _reason(error)))

    for_each(look, num_samples, advance)
    return Scan(
        digests=digests,
        thumbs=pictures,
        sizes=sizes,
        num_grey=int(grey.sum()),
        failures=sorted(failures),
        notes=counted(notes),
    )


def _reason(error: InputError) -> str:
    """The problem, with the found and the expected value where the sentence lacks them."""
    if error.got is None or error.expected is None or str(error.got) in error.what:
        return error.what
    return f"{error.what}: {error.got} instead of {error.expected}"


def digest(pixels: Bytes) -> bytes:
    """A hash of the shape and pixels of one image; equal only for equal images."""
    hashed = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=16)
    hashed.update(np.ascontiguousarray(pixels).data)
    return hashed.digest()


def check_leaks(
    dataset: Dataset, *, allow_leaks: bool = False, samples: Mapping[SplitName, Samples] | None = None
) -> tuple[Finding, ...]:
    """Exact copies across splits: refused in a user's own data, reported in published sets or where they are allowed.

    Args:
        allow_leaks: report instead of refusing.
        samples: packed splits to use instead of decoding again; equality is then that of the network's input.

    Raises:
        DataError: a leak in a user's own data.
        InputError: an image cannot be read (without `samples`).
    """
    digests = {name: [digest(image) for image in split.images] for name, split in (samples or {}).items()}
    if samples is None:
        digests = {
            name: [digest(source.image(i)) for i in range(len(source))] for name, source in dataset.splits.items()
        }
    return _leaks(dataset, digests, samples, allow_leaks=allow_leaks)


def check_files(dataset: Dataset, *, allow_leaks: bool = False) -> None:
    """Refuse equal files in two splits of a user's own data, before anything is decoded.

    Only files that share their length with another are read.

    Raises:
        DataError: such files; the splits are named.
    """
    if allow_leaks or dataset.published:
        return
    sources = {name: source for name, source in dataset.splits.items() if isinstance(source, FileSource)}
    lengths = {name: [_length(path) for path in source.paths] for name, source in sources.items()}
    shared = Counter(length for values in lengths.values() for length in values)
    digests = {
        name: [_file_digest(p) if shared[n] > 1 else None for p, n in zip(source.paths, lengths[name], strict=True)]
        for name, source in sources.items()
    }
    _leaks(dataset, digests, None, allow_leaks=False)


def _length(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_size
    return -1


def _file_digest(path: Path) -> bytes | None:
    with suppress(InputError, OSError):  # named when the split is packed
        return bytes.fromhex(sha256_file(path))
    return None


def near_in_packed(dataset: Dataset, samples: Mapping[SplitName, Samples]) -> Finding:
    """A finding on near copies across the splits that a run is about to use.

    In a user's own data near copies of training images are searched for here, unless the splits were drawn without any.
    For published sets, and where the search would be slow or uninformative, the finding says that none was made.
    """
    if dataset.near_copies_kept:
        return Finding(kind="near-leak", severity="info", message="near copies across splits: none, by the draw")
    images = {name: part.images for name, part in samples.items()}
    train, others = images["train"], {name: part for name, part in images.items() if name != "train"}
    count = sum(len(part) for part in images.values())
    if dataset.published or count > MAX_NEAR or train.shape[1] != 3 or min(train.shape[2:]) < THUMB:
        message = "near copies across splits were not searched for: `opsin data audit` does"
        return Finding(kind="near-leak", severity="info", message=message)
    thumbs = _thumbnails(train)
    found = {name: near_pairs(_thumbnails(part), thumbs) for name, part in others.items()}
    counts = {name: len(np.unique(pairs.first)) for name, pairs in found.items()}
    if not any(counts.values()):
        return Finding(kind="near-leak", severity="info", message="near copies across splits: none found")
    shares = ", ".join(f"{n:,} of {len(others[name]):,} images of {name}" for name, n in counts.items() if n)
    named = [
        f"{name}: {samples[name].ids[i]} ~ train: {samples['train'].ids[j]}"
        for name, pairs in found.items()
        for i, j in zip(pairs.first[:NUM_NAMED], pairs.second[:NUM_NAMED], strict=True)
    ]
    return Finding(
        kind="near-leak",
        severity="warning",
        message=f"{shares} show the same scene as an image of train: scores are too high",
        count=sum(counts.values()),
        samples=tuple(named[:NUM_NAMED]),
    )


def _thumbnails(images: Bytes) -> Bytes:
    return np.stack([fit_image(image, THUMB_POLICY) for image in images]) if len(images) else images[:, :, :0, :0]


def _leaks(
    dataset: Dataset,
    digests: Mapping[SplitName, list[bytes | None]] | Mapping[SplitName, list[bytes]],
    samples: Mapping[SplitName, Samples] | None,
    *,
    allow_leaks: bool,
) -> tuple[Finding, ...]:
    leaks = [f for f in exact_duplicates(dataset, digests, samples, allow_leaks=allow_leaks) if f.kind == "leak"]
    if leaks and not (allow_leaks or dataset.published):
        raise DataError(
            leaks[0].message,
            where="\n    " + "\n    ".join(leaks[0].samples),
            expected="each image in one split only: scores on training images are too high",
            do="remove the copies (`opsin data audit` lists them), or permit them: --allow-leaks",
        )
    return tuple(leaks)


def copies_in_train(
    digests: Mapping[SplitName, list[bytes | None]] | Mapping[SplitName, list[bytes]],
) -> dict[SplitName, Ints]:
    """By split, the numbers of samples whose exact copy is in train."""
    train = set(digests.get("train", ())) - {None}
    return {
        name: np.array([i for i, value in enumerate(values) if value in train], np.int64)
        for name, values in digests.items()
        if name != "train"
    }


def exact_duplicates(
    dataset: Dataset,
    digests: Mapping[SplitName, list[bytes | None]] | Mapping[SplitName, list[bytes]],
    samples: Mapping[SplitName, Samples] | None = None,
    *,
    allow_leaks: bool = False,
) -> list[Finding]:
    """Findings on equal images: across splits (`leak`), within a split, and copies whose labels differ.

    Args:
        samples: the packed splits the digests are of, if not the data set: packed splits may lack unreadable samples.
        allow_leaks: copies across splits of a user's own data are not an error.
    """
    rows: Mapping[SplitName, Samples | Source] = samples or dataset.splits
    places: dict[bytes, list[tuple[SplitName, int]]] = defaultdict(list)
    for name, values in digests.items():
        for i, value in enumerate(values):
            if value is not None:
                places[value].append((name, i))
    copies = [places_of for places_of in places.values() if len(places_of) > 1]
    across = [c for c in copies if len({name for name, _ in c}) > 1]
    within = [c for c in copies if len({name for name, _ in c}) < len(c)]
    conflicts = [c for c in copies if len({_label(rows, *place) for place in c}) > 1]
    leak_severity: Severity = "warning" if dataset.published or allow_leaks else "error"
    kinds: tuple[tuple[str, Severity, list[list[tuple[SplitName, int]]], str, str], ...] = (
        ("leak", leak_severity, across, "image lies in", "more than one split, pixel for pixel"),
        ("duplicates", "warning", within, "image lies in", "one split more than once, pixel for pixel"),
        ("conflicting-labels", "warning", conflicts, "image has", "copies, pixel for pixel, with different labels"),
    )
    return [
        Finding(
            kind=kind,
            severity=severity,
            message=f"{_counted(len(groups), one)} {rest}",
            count=len(groups),
            samples=_named(rows, groups),
        )
        for kind, severity, groups, one, rest in kinds
        if groups
    ]


def _counted(count: int, one: str) -> str:
    """A number with its noun and verb, as `1 image lies in` or `2 images lie in`."""
    many = {"image lies in": "images lie in", "image has": "images have", "sample of": "samples of"}
    return f"{count:,} {one if count == 1 else many[one]}"


def _label(rows: Mapping[SplitName, Samples | Source], split: SplitName, i: int) -> int | None:
    labels = rows[split].labels
    return None if labels is None else int(labels[i])


def _named(rows: Mapping[SplitName, Samples | Source], groups: list[list[tuple[SplitName, int]]]) -> tuple[str, ...]:
    """Each group of copies in words: "train: a.jpg = test: b.jpg"."""
    return tuple(" = ".join(f"{name}: {rows[name].ids[i]}" for name, i in group) for group in groups[:NUM_NAMED])


def _readability(dataset: Dataset, name: SplitName, scan: Scan) -> list[Finding]:
    if not scan.failures:
        return []
    ids = dataset.splits[name].ids
    allowed = dataset.config.skip_unreadable if dataset.config is not None else 0
    return [
        Finding(
            kind="unreadable",
            severity="warning" if len(scan.failures) <= allowed else "error",
            message=f"{_counted(len(scan.failures), 'sample of')} {name} cannot be read",
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
    for name, scan in scans.items():
        assert scan.thumbs is not None  # scanned with thumbs
        pairs = near_pairs(scan.thumbs, advance=advance)
        findings += _near_finding(dataset, name, name, pairs.first, pairs.second, len(scan.thumbs))
        train = scans["train"].thumbs if "train" in scans and name != "train" else None
        if train is not None:
            pairs = near_pairs(scan.thumbs, train, advance=advance)
            if not np.isin(pairs.first, exact[name]).all():  # exact copies are reported already, as a leak
                findings += _near_finding(dataset, name, "train", pairs.first, pairs.second, len(scan.thumbs))
            in_train[name] = np.union1d(pairs.first, exact[name])
    return findings, in_train


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
