"""The index of a data set in shards: what the set is, what each shard holds, and where each sample lies.

OUT/
  index.json            the data card: task, classes, and for each split its shards with samples, bytes and SHA-256
  train.npz, val.npz    the table of a split: a row for each sample (`Table`)
  train-000000.tar …    the shards, WebDataset: KEY.jpg or KEY.npy beside KEY.cls or KEY.json, and KEY.mask.png
  classes.txt           names of the classes, for other readers
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.config.checks import from_dict
from opsin.data.digests import DIGEST_BYTES
from opsin.data.targets import IN_MEMORY
from opsin.errors import AnnotationError, ConfigError
from opsin.io.shards import DO_WRITE_AGAIN, ShardFile
from opsin.text import printable
from opsin.types import SPLITS, TaskName

INDEX = "index.json"
CLASSES = "classes.txt"
NAME = "opsin shards"
FORMAT = f"{NAME} 1"
PLAIN_NAME = re.compile(r"[\w-]+(?:\.[\w-]+)+", re.ASCII)
TYPES = {
    "shard": np.int32,
    "places": np.int64,
    "sizes": np.int32,
    "digests": np.uint8,
    "names": np.uint8,
    "ends": np.int64,
    "masks": np.int64,
}


@dataclass(frozen=True, kw_only=True)
class SplitIndex:
    """One split in shards.

    Attributes:
        samples: number of samples.
        channels: 3 for RGB, 1 for grey.
        raw: images are `.npy` files of pixels, not image files.
        masks: each sample has a mask.
        table: the file that holds a row for each sample.
        shards: in the order in which they were written.
        counts: samples of each class; None where targets name no classes.
        levels: how many pixels of each channel have each value, `[C][256]`, where all images have one size.
    """

    samples: int
    channels: int
    raw: bool
    masks: bool
    table: ShardFile
    shards: tuple[ShardFile, ...]
    counts: tuple[int, ...] | None = None
    levels: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Index:
    """The data card of a set in shards, as `Dataset` has it, and its splits by name."""

    name: str
    task: TaskName
    classes: tuple[str, ...]
    splits: dict[str, SplitIndex]
    published: bool = False
    near_copies_kept: bool = False
    description: str = ""
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Plain JSON."""
        return {"format": FORMAT, **asdict(self)}


def is_index(values: object) -> bool:
    """Whether plain JSON is an index of shards, of whatever version."""
    return isinstance(values, Mapping) and str(values.get("format")).startswith(NAME)


def index_of(values: object, where: object) -> Index:
    """The index in plain JSON.

    Raises:
        AnnotationError: no index of shards, of another version, or with fields that are missing, unknown or wrong.
    """
    where = printable(where)
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        got = printable(values.get("format")) if isinstance(values, Mapping) else type(values).__name__
        raise AnnotationError("not an index of shards", where=where, got=got, expected=FORMAT, do=DO_WRITE_AGAIN)
    try:
        index = from_dict(Index, {key: value for key, value in values.items() if key != "format"}, where=where)
    except (ConfigError, TypeError) as error:
        got = printable(error)[:300]
        raise AnnotationError("the index of shards is damaged", where=where, got=got, do=DO_WRITE_AGAIN) from error
    files = [file.name for split in index.splits.values() for file in (split.table, *split.shards)]
    outside = [name for name in files if PLAIN_NAME.fullmatch(name) is None]
    unknown = [name for name in index.splits if name not in SPLITS]
    channels = {split.channels for split in index.splits.values()}
    if outside or unknown or not channels or channels - {1, 3}:
        got = printable(", ".join([*outside, *unknown]) or f"channels {channels}")[:300]
        expected = f"files beside it, the splits {', '.join(SPLITS)}, 1 or 3 channels"
        raise AnnotationError("the index of shards is damaged", where=where, got=got, expected=expected)
    return index


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """A row for each of N samples of a split.

    Attributes:
        shard: int32 [N], the number of its shard.
        places: int64 [N, 3], offset, length and CRC-32 of its image (`Member`).
        sizes: int32 [N, 2], height and width of the image, upright.
        digests: uint8 [N, 16], a hash of its decoded pixels.
        names, ends: its id: UTF-8 uint8 [total], and int64 [N], where each ends.
        masks: int64 [N, 3], the same of its mask; None without masks.
        targets: those in memory, by kind; boxes are in pixels of the whole image.
    """

    shard: NDArray[np.int32]
    places: NDArray[np.int64]
    sizes: NDArray[np.int32]
    digests: NDArray[np.uint8]
    names: NDArray[np.uint8]
    ends: NDArray[np.int64]
    masks: NDArray[np.int64] | None
    targets: Mapping[str, Array]

    def arrays(self) -> dict[str, Array]:
        """The arrays of a table's file."""
        found = {name: rows for name, rows in vars(self).items() if isinstance(rows, np.ndarray)}
        return found | {f"target_{kind}": rows for kind, rows in self.targets.items()}


def table_of(arrays: Mapping[str, Array], split: SplitIndex, where: object) -> Table:
    """The table in the arrays of its file.

    Raises:
        AnnotationError: arrays that are missing, of another shape or type, or that point outside of the shards.
    """
    num, text = split.samples, arrays.get("names", np.empty(0, np.uint8)).size
    shapes: dict[str, tuple[int, ...]] = {"shard": (num,), "places": (num, 3), "sizes": (num, 2), "ends": (num,)}
    shapes |= {"digests": (num, DIGEST_BYTES), "names": (text,)} | ({"masks": (num, 3)} if split.masks else {})
    wrong = [name for name, shape in shapes.items() if name not in arrays or arrays[name].shape != shape]
    wrong += [name for name in shapes if name not in wrong and arrays[name].dtype != TYPES[name]]
    targets = {kind: arrays[f"target_{kind}"] for kind in IN_MEMORY if f"target_{kind}" in arrays}
    wrong += [kind for kind, rows in targets.items() if len(rows) != num]
    wrong += [name for name in arrays if name not in shapes and name.removeprefix("target_") not in targets]
    if wrong:
        where = printable(where)
        raise AnnotationError("the table of shards is damaged", where=where, got=", ".join(wrong), do=DO_WRITE_AGAIN)
    _check_places(arrays, split, where)
    return Table(
        shard=arrays["shard"],
        places=arrays["places"],
        sizes=arrays["sizes"],
        digests=arrays["digests"],
        names=arrays["names"],
        ends=arrays["ends"],
        masks=arrays["masks"] if split.masks else None,
        targets=targets,
    )


def _check_places(rows: Mapping[str, Array], split: SplitIndex, where: object) -> None:
    """Refuse rows that point outside of the shards, or ids outside of their text."""
    sizes = np.array([shard.num_bytes for shard in split.shards], np.int64)
    known = bool(((rows["shard"] >= 0) & (rows["shard"] < len(sizes))).all())
    parts = [rows[name][:, :2] for name in ("places", "masks") if name in rows]
    ends = np.concatenate([[0], rows["ends"]])
    inside = known and all(bool(((part >= 0).all(1) & (part.sum(1) <= sizes[rows["shard"]])).all()) for part in parts)
    if not inside or (np.diff(ends) < 0).any() or ends[-1] != len(rows["names"]) or (rows["sizes"] < 1).any():
        what = "the table of shards points outside of them"
        raise AnnotationError(what, where=printable(where), do=DO_WRITE_AGAIN)
