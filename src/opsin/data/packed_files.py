"""The files of packed samples in the cache: one folder for each split and size, whole or absent.

| file | holds |
|---|---|
| `images.bin` | uint8 `[N, C, H, W]`; uint16 where 16 bits are kept |
| `masks.bin` | uint8 `[N, H, W]`, where the set has masks |
| `sizes.bin`, `kept.bin` | int32 `[N, 2]`, height and width before packing; int64 `[N]`, sample numbers |
| `manifest.json` | type, shape, length and SHA-256 of each; what could not be read, and why |
| `levels.json` | how many pixels have each value, once that was asked for (`levels.py`) |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from opsin.data.samples import Bytes, Ints, Pixels
from opsin.errors import InputError
from opsin.io.files import read_json, sha256_file, write_json

FORMAT = 2
FULL_CHECK_BYTES = 1 << 30
"""Packed files up to this size are hashed on opening; of larger ones the length is checked."""

DTYPES = {"sizes.bin": "<i4", "kept.bin": "<i8"}
"""What files hold whose manifest, an older one, does not say it; any other holds bytes."""

Allocate = Callable[[tuple[int, ...], DTypeLike], Bytes]
"""Makes an array of `(shape, dtype)`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
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


def mapped_arrays(folder: Path) -> Allocate:
    """Arrays mapped to files of a folder: images first, then masks."""
    names = iter(("images.bin", "masks.bin"))

    def mapped(shape: tuple[int, ...], dtype: DTypeLike) -> Bytes:
        return _reserved(folder / next(names), shape, dtype)

    return mapped


def write_rows(new: Path, rows: Rows, about: str) -> None:
    """Complete a cache folder whose images are in its files already."""
    arrays = {
        "images.bin": rows.images,
        "masks.bin": rows.decoded.get("masks"),
        "sizes.bin": rows.sizes,
        "kept.bin": rows.kept,
    }
    (new / "sizes.bin").write_bytes(rows.sizes.astype("<i4").tobytes())
    (new / "kept.bin").write_bytes(rows.kept.astype("<i8").tobytes())
    files: dict[str, object] = {}
    for name, array in arrays.items():
        if array is not None:
            if isinstance(array, np.memmap):
                array.flush()
            os.truncate(new / name, array.nbytes)
            entry = {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": array.nbytes}
            files[name] = entry | {"sha256": sha256_file(new / name)}
    manifest = {"format": FORMAT, "about": about, "files": files, "failures": rows.failures, "notes": rows.notes}
    write_json(new / "manifest.json", manifest)


def _reserved(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> Bytes:
    """A writable memory map whose disk space is allocated first, so that a full disk raises an error, no signal."""
    num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if num_bytes == 0:
        path.touch()
        return np.empty(shape, dtype)
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        else:
            file.truncate(num_bytes)
    return np.memmap(path, dtype=dtype, mode="r+", shape=shape)


def open_rows(folder: Path) -> tuple[Rows | None, str]:
    """Packed rows of a cache folder, or None with the reason in words (empty when there simply is none)."""
    if not folder.is_dir():
        return None, ""
    try:
        manifest = read_json(folder / "manifest.json")
        arrays = {name: _mapped(folder / name, entry) for name, entry in manifest["files"].items()}
        return Rows(
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
    dtype = entry.get("dtype", DTYPES.get(path.name, "u1"))
    if num_bytes == 0:
        return np.empty(entry["shape"], dtype)
    return np.memmap(path, dtype=dtype, mode="r", shape=tuple(entry["shape"]))
