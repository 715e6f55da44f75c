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
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.data.parallel import for_each
from opsin.data.samples import Annotated, Bytes, Dataset, Ints, PackedRows, Pixels, Samples, Source, holds_masks
from opsin.data.shards.source import ShardPixels, ShardSource
from opsin.data.targets import KINDS
from opsin.errors import DataError, InputError, NameTakenError, WriteError
from opsin.io.caches import CACHE_VARIABLE
from opsin.io.caches import default_cache as default_cache
from opsin.io.files import atomic_folder, read_json, remove_folder, sha256_file, write_json
from opsin.io.temporary import remove_abandoned
from opsin.ops.resize import fit_image, fit_mask, resampled_size
from opsin.types import SizePolicy, SplitName

Progress = Callable[[int, int], None]
"""Called with the samples done and the samples in all."""

_OTHER_CACHE = f"set {CACHE_VARIABLE} to a writable folder"
FORMAT = 2
FULL_CHECK_BYTES = 1 << 30
"""Packed files up to this size are hashed on opening; of larger ones the length is checked."""
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
) -> dict[SplitName, Samples]:
    """Decode and resize each split into one array.

    Args:
        size: the frame that images are fitted into; None keeps a size shared by all images.
        cache: folder for packed files (see `default_cache`); None packs into memory.
        progress: called from time to time with (samples done, samples in total).
        skip_unreadable: number of unreadable samples per split to skip; they are named in `skipped`.
        splits: which splits; None is all.

    Raises:
        DataError: images of several sizes without a policy; unreadable files (all are listed); a box that a crop
            cuts away.
    """
    chosen = {name: source for name, source in dataset.splits.items() if splits is None or name in splits}
    total, done = sum(len(source) for source in chosen.values()), 0
    packed: dict[SplitName, Samples] = {}
    for name, source in chosen.items():
        advance = _offset(progress, done, total)
        policy = size or _own_size(source, f"{dataset.name}/{name}")
        rows = _rows(source, policy, cache, advance, about=f"{dataset.name}, {name}")
        packed[name] = _samples(source, policy, rows, name, skip_unreadable)
        advance(len(source))
        done += len(source)
    return packed


def with_rows(source: Source, size: SizePolicy | None, *, cache: Path | None = None, about: str) -> Source:
    """The source with all its samples decoded at one size: packing any of them at that size copies rows.

    Args:
        size: the frame into which images are fitted; None keeps a size that all images share.
        cache: folder for packed files; None packs into memory.
        about: what the rows are of, for the cache's list.

    Raises:
        DataError: images of several sizes without a policy.
    """
    if isinstance(source, ShardSource):
        return source
    policy = size or _own_size(source, about)
    rows = _rows(source, policy, cache, lambda done: None, about=about)
    if rows.images is getattr(source, "images", None) or not isinstance(source, Annotated):
        return source
    row_of = np.full(len(source), -1, np.int64)
    row_of[rows.kept] = np.arange(len(rows.kept))
    packed = PackedRows(
        policy=policy,
        images=np.asarray(rows.images),
        decoded=rows.decoded,
        sizes=rows.sizes,
        row_of=row_of,
        failures=dict(rows.failures),
    )
    return replace(source, packed=packed, numbers_packed=np.arange(len(source)))


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


@dataclass(frozen=True, kw_only=True, eq=False)
class _Rows:
    """Decoded rows of one split, without unreadable ones.

    `decoded`: targets that are decoded with the images, by kind. `kept` int64 `[M]` are the sample numbers of the rows;
    `failures` pairs each lost sample number with its reason.
    """

    images: Pixels
    decoded: Mapping[str, Bytes]
    sizes: NDArray[np.int32]
    kept: Ints
    failures: list[tuple[int, str]]
    notes: tuple[str, ...] = ()


def _rows(
    source: Source, policy: SizePolicy, cache: Path | None, advance: Callable[[int], None], *, about: str
) -> _Rows:
    """Rows from memory, from shards, from the cache, or decoded now."""
    if isinstance(source, ShardSource) and not source.has_masks:
        return _in_shards(source, policy)
    images = getattr(source, "images", None)
    if images is not None and source.size == (policy.height, policy.width) and policy.crop_share == 1:
        sizes = np.tile(np.array(source.size, np.int32), (len(source), 1))
        decoded = {kind: rows for kind, rows in source.targets.items() if KINDS[kind].with_images}
        return _Rows(images=images, decoded=decoded, sizes=sizes, kept=np.arange(len(source)), failures=[])
    if cache is None:
        return _decode(source, policy, np.empty, advance)
    folder = cache / "packed" / _key(source, policy)
    cached, note = _open(folder)
    if cached is not None:
        return cached
    if note:
        remove_folder(folder)
    # another process may pack the same content meanwhile: the first complete entry is kept, and is equivalent
    with suppress(NameTakenError):
        _write(folder, source, policy, advance, about)
    written, problem = _open(folder)
    if written is None:
        raise DataError(
            "packed samples cannot be read back from the cache",
            where=folder,
            got=problem,
            do=f"check the disk; {_OTHER_CACHE}",
        )
    return _Rows(**{**vars(written), "notes": (*written.notes, *([note] if note else []))})


def _in_shards(source: ShardSource, policy: SizePolicy) -> _Rows:
    """Rows that are decoded when they are looked at: nothing is written, and nothing kept in memory."""
    return _Rows(
        images=ShardPixels(source, policy),
        decoded={},
        sizes=source.sizes,
        kept=np.arange(len(source)),
        failures=[],
    )


def _key(source: Source, policy: SizePolicy) -> str:
    text = json.dumps([FORMAT, source.content, source.channels, asdict(policy)])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _decode(source: Source, policy: SizePolicy, allocate: Callable[..., Any], advance: Callable[[int], None]) -> _Rows:
    """Decode all samples in parallel into arrays that `allocate(shape, dtype)` makes; copy known ones."""
    known = getattr(source, "packed", None)
    if known is not None and known.policy == policy:
        return _copy(known, source.numbers_packed, allocate)  # type: ignore[attr-defined]
    num_samples, frame = len(source), (policy.height, policy.width)
    images = allocate((num_samples, source.channels, *frame), np.uint8)
    masks = allocate((num_samples, *frame), np.uint8) if num_samples and holds_masks(source) else None
    sizes = np.zeros((num_samples, 2), np.int32)
    failures: list[tuple[int, str]] = []
    notes: list[str] = []
    sides = resampled_size(policy)

    def decode_one(i: int) -> None:
        try:
            decoded = source.read(i, sides)
            mask = source.mask(i, decoded)
        except InputError as error:
            failures.append((i, error.what))
            return
        notes.extend(decoded.notes)
        images[i], sizes[i] = fit_image(decoded.pixels, policy, decoded.size), decoded.size
        if masks is not None and mask is not None:
            masks[i] = fit_mask(mask, policy)

    for_each(decode_one, num_samples, advance)
    kept = np.setdiff1d(np.arange(num_samples), [i for i, _ in failures])
    for row, i in enumerate(kept if failures else ()):
        images[row], sizes[row] = images[i], sizes[i]
        if masks is not None:
            masks[row] = masks[i]
    return _Rows(
        images=images[: len(kept)],
        decoded={} if masks is None else {"masks": masks[: len(kept)]},
        sizes=sizes[: len(kept)],
        kept=kept,
        failures=sorted(failures),
        notes=counted(notes),
    )


def _copy(known: PackedRows, numbers: Ints, allocate: Callable[..., Any]) -> _Rows:
    """The rows of these samples in arrays that `allocate(shape, dtype)` makes."""
    rows = known.row_of[numbers]
    kept = np.flatnonzero(rows >= 0)

    def copied(pixels: Bytes) -> Bytes:
        made: Bytes = allocate((len(kept), *pixels.shape[1:]), np.uint8)
        for i, row in enumerate(rows[kept]):
            made[i] = pixels[row]
        return made

    failures = [(int(i), known.failures[int(numbers[i])]) for i in np.flatnonzero(rows < 0)]
    return _Rows(
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


def _write(folder: Path, source: Source, policy: SizePolicy, advance: Callable[[int], None], about: str) -> None:
    """Decode into a new cache folder, which is created atomically."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as new:
        names = iter(("images.bin", "masks.bin"))

        def mapped(shape: tuple[int, ...], dtype: type[np.uint8]) -> Any:
            return _reserved(new / next(names), shape, dtype)

        rows = _decode(source, policy, mapped, advance)
        arrays = {
            "images.bin": rows.images,
            "masks.bin": rows.decoded.get("masks"),
            "sizes.bin": rows.sizes,
            "kept.bin": rows.kept,
        }
        (new / "sizes.bin").write_bytes(rows.sizes.astype("<i4").tobytes())
        (new / "kept.bin").write_bytes(rows.kept.astype("<i8").tobytes())
        files: dict[str, Any] = {}
        for name, array in arrays.items():
            if array is not None:
                if isinstance(array, np.memmap):
                    array.flush()
                os.truncate(new / name, array.nbytes)
                files[name] = {"shape": list(array.shape), "bytes": array.nbytes, "sha256": sha256_file(new / name)}
        manifest = {"format": FORMAT, "about": about, "files": files, "failures": rows.failures, "notes": rows.notes}
        write_json(new / "manifest.json", manifest)


def _reserved(path: Path, shape: tuple[int, ...], dtype: type[np.uint8]) -> Any:
    """A writable memory map whose disk space is allocated first, so that a full disk raises an error, no signal."""
    num_bytes = int(np.prod(shape))
    if num_bytes == 0:
        path.touch()
        return np.empty(shape, dtype)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        else:
            file.truncate(num_bytes)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def _open(folder: Path) -> tuple[_Rows | None, str]:
    """Packed rows of a cache folder, or None with the reason in words (empty when there simply is none)."""
    if not folder.is_dir():
        return None, ""
    try:
        manifest = read_json(folder / "manifest.json")
        arrays = {name: _mapped(folder / name, entry) for name, entry in manifest["files"].items()}
        return _Rows(
            images=arrays["images.bin"],
            decoded={"masks": arrays["masks.bin"]} if "masks.bin" in arrays else {},
            sizes=arrays["sizes.bin"],
            kept=arrays["kept.bin"],
            failures=[(int(i), str(reason)) for i, reason in manifest["failures"]],
            notes=tuple(map(str, manifest["notes"])),
        ), ""
    except (OSError, InputError, KeyError, TypeError, ValueError) as error:
        reason = f"a damaged cache entry was packed again: {folder.name} ({error})".splitlines()[0]
        return None, reason


def _mapped(path: Path, entry: dict[str, Any]) -> Any:
    """A read-only memory map of a packed file that agrees with its manifest entry.

    Raises:
        ValueError: it does not agree.
    """
    num_bytes = path.stat().st_size
    if num_bytes != entry["bytes"]:
        raise ValueError(f"{path.name} has {num_bytes} bytes, not {entry['bytes']}")
    if num_bytes <= FULL_CHECK_BYTES and sha256_file(path) != entry["sha256"]:
        raise ValueError(f"{path.name} does not match its hash")
    dtype = {"sizes.bin": "<i4", "kept.bin": "<i8"}.get(path.name, "u1")
    if num_bytes == 0:
        return np.empty(entry["shape"], dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=tuple(entry["shape"]))


def _samples(source: Source, policy: SizePolicy, rows: _Rows, split: str, skip_unreadable: int) -> Samples:
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


def _fitted(source: Source, sizes: NDArray[np.int32], policy: SizePolicy) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The targets of a source fitted to the frame, by kind, and notes."""
    found: dict[str, NDArray[Any]] = {}
    notes: list[str] = []
    for kind, rows in source.targets.items():
        if not KINDS[kind].with_images:
            found[kind], said = KINDS[kind].fit(rows, sizes, policy, source.ids)
            notes += said
    return found, notes
