"""Readers of images with masks: VOC 2012's layout, CamVid's, and folders of image and mask pairs.

| layout | recognized by |
|---|---|
| VOC 2012 | `ImageSets/Segmentation/*.txt` beside `SegmentationClass/` and `JPEGImages/` |
| CamVid | `train/` beside `trainannot/`, and so for val and test |
| pairs | `images/` beside `masks/` (or names like them), at once, or inside train/val/test, or holding them |

A mask is a PNG of class numbers, read as stored, never through its palette. A file and its mask have the same stem.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.config import DataConfig
from opsin.data.catalogue import CAMVID_CLASSES, VOC_CLASSES
from opsin.data.parallel import HASHING_THREADS
from opsin.data.readers.found import Found
from opsin.data.readers.mask_sources import FOREGROUND_CLASSES, NUM_NAMED, SPLIT_FOLDERS, MaskSource, Meaning, as_found
from opsin.data.readers.place import Place
from opsin.data.samples import Source
from opsin.errors import AnnotationError, DataError
from opsin.io.images import IMAGE_SUFFIXES, read_mask
from opsin.io.tables import read_lines
from opsin.io.walking import natural_key
from opsin.types import SPLITS, VOID, SplitName

CAMVID_VOID = 11
"""Value of unlabelled pixels in CamVid's masks."""
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "JPEGImages")
MASK_FOLDERS = ("masks", "mask", "SegmentationClass", "segmentation", "labels", "annotations")


def is_voc(place: Place) -> bool:
    """Whether a folder is VOC 2012's, with masks."""
    return _voc_folder(place.path) is not None


def _voc_folder(root: Path) -> Path | None:
    for folder in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (folder / "ImageSets" / "Segmentation").is_dir() and (folder / "SegmentationClass").is_dir():
            return folder
    return None


def read_voc_place(place: Place) -> Found:
    """VOC 2012's masks, as `read_voc`."""
    return read_voc(_voc_folder(place.path) or place.path, place.config, name=place.path.resolve().name)


def is_camvid(place: Place) -> bool:
    """Whether a folder is laid out as CamVid."""
    return (place.path / "train").is_dir() and (place.path / "trainannot").is_dir()


def read_camvid_place(place: Place) -> Found:
    """A folder in CamVid's layout, as `read_camvid`."""
    return read_camvid(place.path, place.config, name=place.path.resolve().name)


def holds_pairs(place: Place) -> bool:
    """Whether a folder holds images beside masks.

    Raises:
        DataError: masks of another format than PNG, or none.
    """
    return bool(_pair_folders(place.path))


def read_voc(folder: Path, config: DataConfig, *, name: str, published: bool = False) -> Found:
    """The splits that `ImageSets/Segmentation` lists."""
    meaning = Meaning.of(VOC_CLASSES).of_config(config)
    splits: dict[SplitName, Source] = {}
    for split in SPLITS:
        listed = folder / "ImageSets" / "Segmentation" / f"{split}.txt"
        stems = read_lines(listed) if listed.is_file() else []
        masks = [folder / "SegmentationClass" / f"{stem}.png" for stem in stems]
        if split == "test" and not all(mask.is_file() for mask in masks):
            continue  # the masks of the challenge's test split are not published
        if stems:
            images = [folder / "JPEGImages" / f"{stem}.jpg" for stem in stems]
            splits[split] = _source(images, masks, stems, meaning, folder)
    there = {path.stem for path in (folder / "SegmentationClass").glob("*.png")}
    lone = len(there.difference(*(source.ids for source in splits.values())))
    notes = (f"{lone} masks not listed in ImageSets/Segmentation were ignored",) if lone else ()
    layout = "VOC 2012's layout: palette masks, 255 is void"
    return as_found(folder, name, meaning, splits, layout, published=published, notes=notes)


def read_camvid(folder: Path, config: DataConfig, *, name: str, published: bool = False) -> Found:
    """CamVid in the layout of SegNet's authors: 11 classes; value 11 is unlabelled."""
    pairs = {split: _paired(folder / split, folder / f"{split}annot") for split in SPLITS if (folder / split).is_dir()}
    whole = Meaning.of(CAMVID_CLASSES, void=(CAMVID_VOID, VOID))
    layout = f"CamVid's layout: train beside trainannot; {CAMVID_VOID} is void"
    notes: tuple[str, ...] = ()
    if not published:
        values = _values([mask for _, masks in pairs.values() for mask in masks])
        if max((v for v in values if v != VOID), default=0) > CAMVID_VOID:
            whole, notes = _meaning_of_values(values, folder, config)
            layout = "CamVid's layout with other classes: train beside trainannot"
    meaning = whole.of_config(config)
    splits = {
        split: _source(images, masks, [f"{split}/{path.stem}" for path in images], meaning, folder)
        for split, (images, masks) in pairs.items()
    }
    return as_found(folder, name, meaning, splits, layout, published=published, notes=notes)


def read_pairs(place: Place) -> Found:
    """Folders of images and masks, divided or not.

    Raises:
        DataError: an image or a mask stands alone, or the masks hold no class numbers.
        ConfigError: `classes` is foreground, but there is no background.
    """
    root, config = place.path, place.config
    pairs = _pair_folders(root)
    files = {split: _paired(images, masks) for split, (images, masks) in pairs.items()}
    whole, notes = _meaning_of_values(_values([mask for _, masks in files.values() for mask in masks]), root, config)
    meaning = whole.of_config(config)
    sources = {
        split: _source(images, masks, [p.relative_to(root).as_posix() for p in images], meaning, root)
        for split, (images, masks) in files.items()
    }
    names = ", ".join(sorted({f"{a.relative_to(root)}/ with {b.relative_to(root)}/" for a, b in pairs.values()}))
    pool = sources.pop(None, None)
    splits = {split: sources[split] for split in SPLITS if split in sources}
    return as_found(
        root, root.resolve().name, meaning, splits, f"pairs of images and masks: {names}", pool, notes=notes
    )


def _pair_folders(root: Path) -> dict[SplitName | None, tuple[Path, Path]]:
    """Folders of images and of masks by split; under None where there are no splits."""
    found: dict[SplitName | None, tuple[Path, Path]] = {}
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            if pair := _one_pair(root / name):
                found[split] = pair
    if found:
        return found
    whole = _one_pair(root)
    if whole is None:
        return {}
    images, masks = whole
    for split, names in SPLIT_FOLDERS.items():
        for name in names:
            if (images / name).is_dir() and (masks / name).is_dir():
                found[split] = (images / name, masks / name)
    return found or {None: whole}


def _one_pair(folder: Path) -> tuple[Path, Path] | None:
    images = [folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()]
    masks = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    drawn = [path for path in masks if next(path.rglob("*.png"), None) is not None]
    if images and not drawn:
        for place in masks:
            _refuse_other_masks(place)
    return (images[0], drawn[0]) if images and drawn else None


def _refuse_other_masks(folder: Path) -> None:
    """Refuse masks of other formats, which would be taken for a class of photos; other files are accepted."""
    others = sorted(p.name for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if others or next(folder.iterdir(), None) is None:
        raise DataError(
            "masks of another format than PNG" if others else "the folder of masks is empty",
            where=folder,
            got=", ".join(others[:NUM_NAMED]) or None,
            expected="for each image a PNG of class numbers, with the same name",
            do="save them as 8-bit PNG; JPEG changes the numbers of pixels" if others else None,
        )


def _paired(images: Path, masks: Path) -> tuple[list[Path], list[Path]]:
    """Image files and their masks, in natural order.

    Raises:
        DataError: an image without a mask, or a mask without an image.
    """
    pictures = {p.stem: p for p in images.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES} if images.is_dir() else {}
    drawn = {p.stem.removesuffix("_mask"): p for p in masks.iterdir() if p.suffix.lower() == ".png"}
    lone = sorted(set(pictures) ^ set(drawn), key=natural_key)
    if lone or not pictures:
        raise DataError(
            f"{len(lone)} images or masks have no partner" if lone else "there are no images",
            where=f"{images}, {masks}: {', '.join(lone[:NUM_NAMED])}",
            expected="for each image a PNG of the same name, and vice versa",
        )
    stems = sorted(pictures, key=natural_key)
    return [pictures[stem] for stem in stems], [drawn[stem] for stem in stems]


def _values(masks: Sequence[Path]) -> set[int]:
    """All values in the masks."""
    present = np.zeros(256, bool)

    def look(path: Path) -> NDArray[np.uint8]:
        return np.unique(read_mask(path).indices)

    with ThreadPoolExecutor(HASHING_THREADS) as pool:
        for values in pool.map(look, masks):
            present[values] = True
    return {int(value) for value in np.flatnonzero(present)}


def _meaning_of_values(values: set[int], root: Path, config: DataConfig) -> tuple[Meaning, tuple[str, ...]]:
    """Meaning of the values where the layout does not define it: names from `classes.txt`, else numbers; and notes."""
    listed = root / "classes.txt"
    if listed.is_file():
        names = read_lines(listed)
        if not 0 < len(set(names)) == len(names) <= VOID:
            expected = f"a different name in each line, the background first, {VOID} at most"
            raise AnnotationError(
                "the list of classes is invalid", where=listed, got=f"{len(names)} names", expected=expected
            )
        return Meaning.of(names), (f"class names from {listed.name}; mask value 255 is void",)
    if values == {0, VOID}:
        table = Meaning.of(FOREGROUND_CLASSES).table.copy()
        table[VOID] = 1
        note = "the masks contain only 0 and 255: 255 is treated as the foreground, not as void"
        return Meaning(classes=FOREGROUND_CLASSES, table=table), (note,)
    highest = max((value for value in values if value != VOID), default=0)
    if highest == 1:
        return Meaning.of(FOREGROUND_CLASSES), ("mask values: 0 is background, 1 foreground, 255 void",)
    if config.classes == "all" and 2 * len(values - {VOID}) <= highest:
        found = ", ".join(str(value) for value in sorted(values)[:NUM_NAMED])
        raise DataError(
            "most values up to the largest are unused, so the mask values are probably not class indices",
            where=root,
            got=f"values {found}{', …' if len(values) > NUM_NAMED else ''}",
            expected=f"class numbers from 0, {VOID} for void",
            do="renumber the masks, list every class in classes.txt, or merge all but 0: --classes foreground",
        )
    names = ["background", *(str(value) for value in range(1, highest + 1))]
    note = f"no classes.txt: classes are the mask values 0 (background) to {highest}; 255 is void"
    return Meaning.of(names), (note,)


def _source(
    images: Sequence[Path], masks: Sequence[Any], ids: Sequence[str], meaning: Meaning, where: Path
) -> MaskSource:
    missing = [p for p in (*images, *masks) if isinstance(p, Path) and not p.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} files of the data set are missing",
            where=f"{where}: {', '.join(path.name for path in missing[:NUM_NAMED])}",
            expected="an image and a mask for each sample",
        )
    return MaskSource(paths=list(images), drawn=list(masks), ids=list(ids), meaning=meaning)


PUBLISHED: dict[str, Callable[..., Found]] = {"voc2012": read_voc, "camvid": read_camvid}
"""Readers of the catalogue's sets with masks."""
