"""From sources to packed samples: decoded once, in parallel, into one array of one size.

Images of another size or in files are decoded straight into a memory-mapped file in the cache folder, so a set larger
than memory streams, and the second epoch and the second run decode nothing. The cache is keyed by the content of the
files and the size policy, and checked by its manifest on opening; ids, labels and boxes always come from the source.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike, NDArray

from opsin.arrays import Arrays
from opsin.data.packed_files import FORMAT, Allocate, Rows, mapped_arrays, open_rows, write_rows
from opsin.data.parallel import for_each
from opsin.data.samples import Bytes, Dataset, Ints, Samples, Source, holds_masks
from opsin.data.shards.source import ShardPixels, ShardSource
from opsin.data.sources import Annotated, PackedRows
from opsin.data.targets import KINDS
from opsin.errors import DataError, InputError, NameTakenError, WriteError
from opsin.io.caches import CACHE_VARIABLE
from opsin.io.caches import default_cache as default_cache
from opsin.io.files import atomic_folder, remove_folder
from opsin.io.images import DecodedImage, is_enough
from opsin.io.temporary import remove_abandoned
from opsin.ops.depth import DTYPES
from opsin.ops.resize import fit_image, fit_mask, resampled_size
from opsin.types import SizePolicy, SplitName

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""

_OTHER_CACHE = f"set {CACHE_VARIABLE} to a writable folder"
NUM_NAMED = 20


def usable_cache() -> Path:
    """The cache folder, created if missing; incomplete files of killed processes are removed.

    Raises:
        WriteError: it cannot be written.
    """
    folder = default_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = error.strerror or type(error).__name__
        raise WriteError("the cache folder cannot be created", where=folder, got=got, do=_OTHER_CACHE) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise WriteError("the cache cannot be written", where=folder, got="no permission", do=_OTHER_CACHE)
    remove_abandoned(folder, ("*", "*/*"))
    return folder


def pack(
    dataset: Dataset,
    size: SizePolicy | None,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    skip_unreadable: int = 0,
    splits: Sequence[SplitName] | None = None,
    larger: Mapping[SplitName, SizePolicy] | None = None,
) -> dict[SplitName, Samples]:
    """Decode and resize each split into one array.

    Args:
        size: the frame that images are fitted into; None keeps a size shared by all images.
        cache: folder for packed files (see `default_cache`); None packs into memory.
        progress: called from time to time with (samples done, samples in total).
        skip_unreadable: number of unreadable samples per split to skip; they are named in `skipped`.
        splits: which splits; None is all.
        larger: a second size at which a split is packed too, from the same decoding (`Samples.larger`).

    Raises:
        DataError: images of several sizes without a policy; unreadable files (all are listed); a box that a crop
            cuts away.
    """
    chosen = {name: source for name, source in dataset.splits.items() if splits is None or name in splits}
    total, done = sum(len(source) for source in chosen.values()), 0
    packed: dict[SplitName, Samples] = {}
    for name, source in chosen.items():
        advance = _offset(progress, done, total)
        policies = [size or _own_size(source, f"{dataset.name}/{name}")]
        policies += [larger[name]] if larger and name in larger else []
        found = _rows(source, policies, cache, advance, about=f"{dataset.name}, {name}")
        made = [_samples(source, *pair, name, skip_unreadable) for pair in zip(policies, found, strict=True)]
        packed[name] = made[0] if len(made) == 1 else replace(made[0], larger=made[1])
        advance(len(source))
        done += len(source)
    return packed


def with_rows(
    source: Source,
    size: SizePolicy | None,
    *,
    cache: Path | None = None,
    about: str,
    larger: SizePolicy | None = None,
) -> Source:
    """The source with all its samples decoded at one size: packing any of them at that size copies rows.

    Args:
        size: the frame into which images are fitted; None keeps a size that all images share.
        larger: a second size at which they are decoded too.
        cache: folder for packed files; None packs into memory.
        about: what the rows are of, for the cache's list.

    Raises:
        DataError: images of several sizes without a policy.
    """
    if isinstance(source, ShardSource) or not isinstance(source, Annotated):
        return source
    policies = [size or _own_size(source, about), *([larger] if larger else [])]
    found = _rows(source, policies, cache, lambda done: None, about=about)
    packed = tuple(
        _packed_rows(rows, policy, len(source))
        for policy, rows in zip(policies, found, strict=True)
        if rows.images is not getattr(source, "images", None)
    )
    return replace(source, packed=packed, numbers_packed=np.arange(len(source))) if packed else source


def _packed_rows(rows: Rows, policy: SizePolicy, num_samples: int) -> PackedRows:
    row_of = np.full(num_samples, -1, np.int64)
    row_of[rows.kept] = np.arange(len(rows.kept))
    return PackedRows(
        policy=policy,
        images=np.asarray(rows.images),
        decoded=rows.decoded,
        sizes=rows.sizes,
        row_of=row_of,
        failures=dict(rows.failures),
    )


def _offset(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    def advance(done: int) -> None:
        if progress is not None:
            progress(min(before + done, total), total)

    return advance


def _own_size(source: Source, where: str) -> SizePolicy:
    if source.size is None:
        raise DataError(
            "image files may differ in size, and no input size is given",
            where=where,
            do="give the network's input size: --input-size 64",
        )
    return SizePolicy(height=source.size[0], width=source.size[1])


def _rows(
    source: Source,
    policies: Sequence[SizePolicy],
    cache: Path | None,
    advance: Callable[[int], None],
    *,
    about: str,
) -> list[Rows]:
    """Rows at each size, from memory, from the cache, or decoded now: once for all sizes that are missing."""
    found: dict[SizePolicy, Rows] = {}
    notes: dict[SizePolicy, str] = {}
    for policy in policies:
        rows, notes[policy] = _known_rows(source, policy, cache)
        if rows is not None:
            found[policy] = rows
    missing = [policy for policy in policies if policy not in found]
    if cache is None:
        decoded = _decode(source, missing, [_empty] * len(missing), advance) if missing else []
        found |= dict(zip(missing, decoded, strict=True))
        return [found[policy] for policy in policies]
    folders = {policy: _folder(cache, source, policy) for policy in missing}
    for policy, folder in folders.items():
        if notes[policy]:
            remove_folder(folder)
    # another process may pack the same content meanwhile: the first complete entry is kept, and is equivalent
    with suppress(NameTakenError):
        _write(folders, source, advance, about)
    for policy, folder in folders.items():
        if not folder.is_dir():  # it was given up when the other's name was taken
            with suppress(NameTakenError):
                _write({policy: folder}, source, advance, about)
        found[policy] = _read_back(folder, notes[policy])
    return [found[policy] for policy in policies]


def _empty(shape: tuple[int, ...], dtype: DTypeLike) -> Bytes:
    return np.empty(shape, dtype)


def _known_rows(source: Source, policy: SizePolicy, cache: Path | None) -> tuple[Rows | None, str]:
    """Rows that need no decoding, of memory or of the cache; or None, with what is wrong with those of the cache."""
    if isinstance(source, ShardSource) and not source.has_masks:
        return _in_shards(source, policy), ""
    images = getattr(source, "images", None)
    if images is not None and source.size == (policy.height, policy.width) and policy.crop_share == 1:
        sizes = np.tile(np.array(source.size, np.int32), (len(source), 1))
        decoded = {kind: rows for kind, rows in source.targets.items() if KINDS[kind].with_images}
        return Rows(images=images, decoded=decoded, sizes=sizes, kept=np.arange(len(source)), failures=[]), ""
    return (None, "") if cache is None else open_rows(_folder(cache, source, policy))


def _read_back(folder: Path, note: str) -> Rows:
    """Rows that were written just now, with a note on what they replace."""
    written, problem = open_rows(folder)
    if written is None:
        raise DataError(
            "packed samples cannot be read back from the cache",
            where=folder,
            got=problem,
            do=f"check the disk; {_OTHER_CACHE}",
        )
    return replace(written, notes=(*written.notes, *([note] if note else [])))


def _folder(cache: Path, source: Source, policy: SizePolicy) -> Path:
    return cache / "packed" / _key(source, policy)


def _in_shards(source: ShardSource, policy: SizePolicy) -> Rows:
    """Rows that are decoded when they are looked at: nothing is written, and nothing kept in memory.

    Raises:
        DataError: 16 bits are asked for, of which a set in shards has no digests and no levels.
    """
    if policy.bits != 8:
        raise DataError(
            "16 bits a channel are not read from shards",
            where=source.ids[0] if len(source) else None,
            got=f"{policy.bits} bits",
            expected="8 bits",
            do="use the files that the shards were made of; or train with --bits 8",
        )
    return Rows(
        images=ShardPixels(source, policy),
        decoded={},
        sizes=source.sizes,
        kept=np.arange(len(source)),
        failures=[],
    )


def _key(source: Source, policy: SizePolicy) -> str:
    text = json.dumps([FORMAT, source.content, source.channels, policy.to_dict()])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _decode(
    source: Source, policies: Sequence[SizePolicy], allocate: Sequence[Allocate], advance: Callable[[int], None]
) -> list[Rows]:
    """All samples at each size, in arrays of that size's `allocate`: copied where they are known, or decoded once."""
    known = {rows.policy: rows for rows in getattr(source, "packed", ())}
    if policies and all(policy in known for policy in policies):
        pairs = zip(policies, allocate, strict=True)
        return [_copy(known[policy], source.numbers_packed, make) for policy, make in pairs]  # type: ignore[attr-defined]
    frames = [_Frames(source, policy, make) for policy, make in zip(policies, allocate, strict=True)]
    failures: list[tuple[int, str]] = []
    notes: list[str] = []

    def decode_one(i: int) -> None:
        try:
            decoded = source.read(i, frames[0].sides, frames[0].policy.bits)
            mask = source.mask(i, decoded)
            seen = [frame.enough(source, i, decoded) for frame in frames]
        except InputError as error:
            failures.append((i, error.what))
            return
        notes.extend(decoded.notes)
        for frame, pixels in zip(frames, seen, strict=True):
            frame.put(i, pixels, mask)

    for_each(decode_one, len(source), advance)
    return [frame.rows(sorted(failures), counted(notes)) for frame in frames]


class _Frames:
    """The arrays of one size, filled a sample at a time from several threads."""

    def __init__(self, source: Source, policy: SizePolicy, allocate: Allocate) -> None:
        self.policy, self.sides, num_samples = policy, resampled_size(policy), len(source)
        frame = (policy.height, policy.width)
        self.images: Bytes = allocate((num_samples, source.channels, *frame), DTYPES[policy.bits])
        masked = num_samples and holds_masks(source)
        self.masks: Bytes | None = allocate((num_samples, *frame), np.uint8) if masked else None
        self.sizes = np.zeros((num_samples, 2), np.int32)

    def enough(self, source: Source, i: int, decoded: DecodedImage) -> DecodedImage:
        """`decoded`, or sample `i` decoded again where that is a smaller version than this size is made from."""
        reduction = round(decoded.size[0] / decoded.pixels.shape[1])
        enough = reduction == 1 or is_enough(decoded.size, self.sides(*decoded.size), reduction)
        return decoded if enough else source.read(i, self.sides, self.policy.bits)

    def put(self, i: int, decoded: DecodedImage, mask: Bytes | None) -> None:
        """Fit sample `i` into its row."""
        self.images[i], self.sizes[i] = fit_image(decoded.pixels, self.policy, decoded.size), decoded.size
        if self.masks is not None and mask is not None:
            self.masks[i] = fit_mask(mask, self.policy)

    def rows(self, failures: list[tuple[int, str]], notes: tuple[str, ...]) -> Rows:
        """The rows of the samples that could be read, moved up."""
        images, masks, sizes = self.images, self.masks, self.sizes
        kept = np.setdiff1d(np.arange(len(images)), [i for i, _ in failures])
        for row, i in enumerate(kept if failures else ()):
            images[row], sizes[row] = images[i], sizes[i]
            if masks is not None:
                masks[row] = masks[i]
        return Rows(
            images=images[: len(kept)],
            decoded={} if masks is None else {"masks": masks[: len(kept)]},
            sizes=sizes[: len(kept)],
            kept=kept,
            failures=failures,
            notes=notes,
        )


def _copy(known: PackedRows, numbers: Ints, allocate: Allocate) -> Rows:
    """The rows of these samples in arrays that `allocate(shape, dtype)` makes."""
    rows = known.row_of[numbers]
    kept = np.flatnonzero(rows >= 0)

    def copied(pixels: Bytes) -> Bytes:
        made: Bytes = allocate((len(kept), *pixels.shape[1:]), pixels.dtype)
        for i, row in enumerate(rows[kept]):
            made[i] = pixels[row]
        return made

    failures = [(int(i), known.failures[int(numbers[i])]) for i in np.flatnonzero(rows < 0)]
    return Rows(
        images=copied(known.images),
        decoded={kind: copied(pixels) for kind, pixels in known.decoded.items()},
        sizes=known.sizes[rows[kept]],
        kept=kept,
        failures=failures,
    )


def counted(notes: Sequence[str]) -> tuple[str, ...]:
    """Each distinct note once, with its number of images.

    >>> counted(["mode CMYK converted", "first of 12 frames", "mode CMYK converted"])
    ('2 images: mode CMYK converted', '1 image: first of 12 frames')
    """
    return tuple(f"{count:,} image{'s' * (count > 1)}: {note}" for note, count in Counter(notes).most_common())


def _write(folders: Mapping[SizePolicy, Path], source: Source, advance: Callable[[int], None], about: str) -> None:
    """Decode into new cache folders, one for each size, which are created atomically."""
    if not folders:
        return
    with ExitStack() as stack:
        new: list[Path] = []
        for folder in folders.values():
            folder.parent.mkdir(parents=True, exist_ok=True)
            new.append(stack.enter_context(atomic_folder(folder)))
        found = _decode(source, list(folders), [mapped_arrays(path) for path in new], advance)
        for path, rows in zip(new, found, strict=True):
            write_rows(path, rows, about)


def _samples(source: Source, policy: SizePolicy, rows: Rows, split: str, skip_unreadable: int) -> Samples:
    """Rows with their ids and targets; more failures than `skip_unreadable` are refused."""
    if len(rows.failures) > skip_unreadable:
        raise unreadable(source, rows.failures, split, skip_unreadable)
    kept = source if len(rows.kept) == len(source) else source.take(np.asarray(rows.kept))
    targets, target_notes = _fitted(kept, rows.sizes, policy)
    skipped = tuple(source.ids[i] for i, _ in rows.failures)
    notes = (*rows.notes, *target_notes, *([f"{len(skipped)} unreadable samples were skipped"] if skipped else []))
    return Samples(
        images=rows.images,
        ids=kept.ids,
        sizes=rows.sizes,
        notes=notes,
        skipped=skipped,
        larger=None,
        **targets,
        **rows.decoded,
    )


def unreadable(source: Source, failures: Sequence[tuple[int, str]], split: str, allowed: int) -> DataError:
    """The refusal of a split of which more samples cannot be read than are allowed: it lists all of them."""
    lines = [f"{source.ids[i]}: {reason}" for i, reason in failures]
    return DataError(
        f"{len(failures)} of {len(source)} images of split `{split}` cannot be read",
        where="\n    " + "\n    ".join(lines),
        expected=f"at most {allowed} unreadable",
        do=f"remove or repair them, or skip them: --skip-unreadable {len(failures)}",
    )


def _fitted(source: Source, sizes: NDArray[np.int32], policy: SizePolicy) -> tuple[Arrays, list[str]]:
    """The targets of a source fitted to the frame, by kind, and notes."""
    found: Arrays = {}
    notes: list[str] = []
    for kind, rows in source.targets.items():
        if not KINDS[kind].with_images:
            found[kind], said = KINDS[kind].fit(rows, sizes, policy, source.ids)
            notes += said
    return found, notes
