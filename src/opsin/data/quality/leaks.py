"""Copies of images: across splits, where they make scores too good, and within one; what training refuses of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from opsin.data.digests import DIGEST_BYTES, digest, digests_of_copies
from opsin.data.quality.copies import MAX_NEAR
from opsin.data.quality.findings import NUM_NAMED, Finding, Severity
from opsin.data.quality.near import THUMB, near_pairs
from opsin.data.quality.scan import THUMB_POLICY
from opsin.data.samples import Bytes, Dataset, Ints, Pixels, Samples, Source
from opsin.data.shards.source import ShardSource
from opsin.data.sources import FileSource
from opsin.errors import DataError
from opsin.ops.resize import fit_image
from opsin.types import SplitName


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
    if sharded := {name: source for name, source in dataset.splits.items() if isinstance(source, ShardSource)}:
        return _leaks(dataset, _shared_digests(sharded), None, allow_leaks=allow_leaks)
    if samples is None:
        every = {name: [digest(source.image(i)) for i in range(len(source))] for name, source in dataset.splits.items()}
        return _leaks(dataset, every, None, allow_leaks=allow_leaks)
    packed = digests_of_copies([split.images for split in samples.values()])
    digests = dict(zip(samples, packed, strict=True))
    return _leaks(dataset, digests, samples, allow_leaks=allow_leaks)


def _shared_digests(sources: Mapping[SplitName, ShardSource]) -> dict[SplitName, list[bytes | None]]:
    """Hashes of the images that lie in several splits; None for all others, of which there may be millions."""
    kept = {
        name: np.ascontiguousarray(source.digests).view(f"V{DIGEST_BYTES}")[:, 0] for name, source in sources.items()
    }
    every, counts = np.unique(np.concatenate([np.unique(rows) for rows in kept.values()]), return_counts=True)
    shared = every[counts > 1]
    return {
        name: [row.tobytes() if found else None for row, found in zip(rows, np.isin(rows, shared), strict=True)]
        if len(shared)
        else []
        for name, rows in kept.items()
    }


def check_files(dataset: Dataset, *, allow_leaks: bool = False) -> None:
    """Refuse equal files in two splits of a user's own data, before anything is decoded.

    Raises:
        DataError: such files; the splits are named.
    """
    if allow_leaks or dataset.published:
        return
    sources = {name: source for name, source in dataset.splits.items() if isinstance(source, FileSource)}
    digests = {
        name: [bytes.fromhex(digest) if digest else None for digest in source.facts.digests]
        for name, source in sources.items()
    }
    _leaks(dataset, digests, None, allow_leaks=False)


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


def _thumbnails(images: Pixels) -> Bytes:
    found = [fit_image(image, THUMB_POLICY) for image in images]
    return np.stack(found) if found else np.empty((0, 3, THUMB, THUMB), np.uint8)


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
    known = [value for values in digests.values() for value in values if value is not None]
    if len(set(known)) == len(known):
        return []
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
            message=f"{in_words(len(groups), one)} {rest}",
            count=len(groups),
            samples=_named(rows, groups),
        )
        for kind, severity, groups, one, rest in kinds
        if groups
    ]


def in_words(count: int, one: str) -> str:
    """A number with its noun and verb, as `1 image lies in` or `2 images lie in`."""
    many = {"image lies in": "images lie in", "image has": "images have", "sample of": "samples of"}
    return f"{count:,} {one if count == 1 else many[one]}"


def _label(rows: Mapping[SplitName, Samples | Source], split: SplitName, i: int) -> int | None:
    labels = rows[split].labels
    return None if labels is None else int(labels[i])


def _named(rows: Mapping[SplitName, Samples | Source], groups: list[list[tuple[SplitName, int]]]) -> tuple[str, ...]:
    """Each group of copies in words: "train: a.jpg = test: b.jpg"."""
    return tuple(" = ".join(f"{name}: {rows[name].ids[i]}" for name, i in group) for group in groups[:NUM_NAMED])
