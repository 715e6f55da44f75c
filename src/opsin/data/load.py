"""From a name, a path or arrays to a data set with its splits drawn."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from opsin import plugins
from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES, Entry
from opsin.data.pack import default_cache
from opsin.data.quality.copies import MAX_NEAR, Copies, find_copies
from opsin.data.readers.found import Found
from opsin.data.readers.labels import check_class_names, check_labels
from opsin.data.samples import Dataset as LoadedDataset
from opsin.data.samples import FileSource, Source, holds_masks
from opsin.data.splits import divide, first_samples, hold_out, parse_subset
from opsin.data.torch_datasets import MapStyle, arrays_of
from opsin.errors import ConfigError, DataError, nearest
from opsin.progress import QUIET, Reporter
from opsin.score_notes import TEST_AS_VAL
from opsin.text import path_of
from opsin.types import SPLITS, SplitName

ROOT_VARIABLE = "OPSIN_DATA"
MADE = {
    "digit_scenes": ("digit_scenes:read_scenes", ()),
    "digit_masks": ("digit_masks:read_digit_masks", ("scenes",)),
    "digit_tags": ("digit_tags:read_digit_tags", ("scenes", "scene_digits")),
}
"""Generated data sets: the module in `data.made` and its function of root and settings; the scene settings it
accepts, all where none are named."""


def load(
    source: str | Path | Mapping[str, Any],
    *,
    root: str | Path | None = None,
    config: DataConfig | None = None,
    task: str | None = None,
    drawn: bool = True,
    report: Reporter = QUIET,
) -> Dataset:
    """A data set with its splits.

    A published test split is kept; `val` is drawn from `train` by `split_seed`. An undivided set gets all three
    splits drawn: 10 % test, `val_fraction` val. `subset` applies to published splits before `val` is drawn, and to
    drawn splits after it.

    Splits are drawn so that copies stay together: exact ones, and in sets of files near ones (`data/quality/near.py`).

    >>> load("digits").channels
    1

    Args:
        source: a catalogue name; a folder, in any layout that is recognized; a CSV, COCO `.json` or `.npz` file; or a
            mapping of arrays.
        root: folder of the catalogue's data sets; by default the environment variable OPSIN_DATA.
        config: selection of samples; None means the defaults of `DataConfig`.
        task: refuse a set that is not for this task.
        report: shows progress.
        drawn: False keeps the publisher's splits; an undivided set is then all `test`.

    Raises:
        DataError: the data set is missing, or its labels or splits are invalid.
        ConfigError: a setting does not fit the set.
        InputError: a file of the set is damaged.
    """
    config = config or DataConfig()
    found = find(source, root=root, config=config, task=task)
    if task is not None and task != found.task:
        raise ConfigError(
            f"`{found.name}` does not fit this task",
            where="--task",
            got=task,
            expected=found.task,
            do="leave out --task",
        )
    if config.classes != "all" and not any(map(holds_masks, (*found.splits.values(), *filter(None, [found.pool])))):
        raise ConfigError(
            "setting `classes` applies only to data sets with masks",
            got=config.classes,
            expected="all",
            do="leave out --classes",
        )
    where = found.root or found.name
    check_class_names(found.classes, where=where)
    caution = ENTRIES[found.name].caution if found.published and found.name in ENTRIES else ""
    splits, notes, near_kept = _splits(found, config, drawn=drawn, report=report)
    check_labels(splits, found.classes, where=where)
    return Dataset(
        name=found.name,
        task=found.task,
        classes=found.classes,
        splits={name: splits[name] for name in SPLITS if name in splits},
        layout=found.layout,
        published=found.published,
        root=found.root,
        notes=(*found.notes, *notes, *filter(None, [caution])),
        description=found.description,
        source=source_name(source),
        given_root=None if root is None else str(Path(root).absolute()),
        config=config,
        near_copies_kept=near_kept,
    )


class Dataset(LoadedDataset):
    """A data set ready for training, from `opsin.load`, arrays or PyTorch data sets."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any] | None = None, /, **named: Any) -> Dataset:
        """A data set of arrays in memory.

        Args:
            arrays: by name: `images` uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]; `labels` int [N] or strings [N];
                `boxes` float [N, 4], xyxy in pixels; `masks` uint8 [N, H, W]; `classes`, the names; `groups` and `ids`
                [N]. With a split's name as prefix or suffix (`train_images`, `x_test`) the splits are given, otherwise
                they are drawn.
            named: the same as keywords.

        >>> import numpy as np
        >>> images = np.zeros((40, 8, 8), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None]
        >>> Dataset.from_arrays(images=images, labels=np.arange(40) % 2)
        Dataset(arrays: classify, 2 classes, train 32, val 4, test 4)

        Raises:
            DataError: names, shapes or values are inconsistent.
        """
        return load({**(arrays or {}), **named})

    @classmethod
    def from_torch(
        cls,
        train: MapStyle,
        *,
        val: MapStyle | None = None,
        test: MapStyle | None = None,
        classes: Sequence[str] | None = None,
    ) -> Dataset:
        """A data set from PyTorch map-style data sets, read into memory once.

        Args:
            train: yields (image, label) by index (`opsin.data.torch_datasets.arrays_of`), without normalization and
                augmentation: Opsin does both.
            val, test: the same; a missing val is drawn from `train`, a missing test is left out.
            classes: names; by default `train.classes`, where it has them.

        Raises:
            DataError: samples that are not pairs of an image and a label, or images of several sizes.
        """
        parts = {"train": train, "val": val, "test": test}
        named = classes if classes is not None else getattr(train, "classes", None)
        arrays: dict[str, Any] = {} if named is None else {"classes": list(named)}
        for split, part in parts.items():
            if part is not None:
                arrays |= {f"{split}_{key}": value for key, value in arrays_of(part, split=split).items()}
        return load(arrays)

    def _repr_html_(self) -> str:
        from opsin.data.show import dataset_html

        return dataset_html(self)


def source_name(source: str | Path | Mapping[str, Any]) -> str:
    """Name of the data in a run: a catalogue name, an absolute path, or "arrays"."""
    if isinstance(source, Mapping):
        return "arrays"
    return str(source) if str(source) in ENTRIES else str(Path(source).absolute())


def find(
    source: str | Path | Mapping[str, Any],
    *,
    root: str | Path | None,
    config: DataConfig,
    task: str | None = None,
) -> Found:
    """Recognize and read a data set as its publisher divides it; `task` decides where a folder could serve two.

    Raises:
        DataError: the path does not exist, or its layout is unknown.
    """
    if isinstance(source, Mapping):
        return _from_arrays(source, config, name="arrays", where="arrays")
    if str(source) in MADE and config.label_level is None:
        place, taken = MADE[str(source)]
        if taken:
            _refuse_scene_settings(config, taken)
        module, function = place.split(":")
        made: Found = getattr(import_module(f"opsin.data.made.{module}"), function)(root, config)
        return made
    _refuse_scene_settings(config)
    if str(source) in ENTRIES:
        entry = ENTRIES[str(source)]
        if entry.task == "segment":
            from opsin.data.readers.mask_files import PUBLISHED

            folder = locate(entry, root)
            return PUBLISHED[entry.name](folder, config, name=entry.name, published=True)
        from opsin.data.readers.publishers import read_entry

        return read_entry(entry, locate(entry, root), config.label_level)
    if config.label_level is not None:
        raise ConfigError(
            "setting `label_level` applies only to catalogue sets with several",
            got=config.label_level,
            do="leave out --label-level",
        )
    return _from_outside(Path(source)) or _find_custom(Path(source), config, task)


def _from_outside(path: Path) -> Found | None:
    """The data set at `path` as read by the first registered layout that recognizes it."""
    if not path.exists():
        return None
    readers = (plugins.find("layouts", name) for name in plugins.names("layouts"))
    return next((found for reader in readers if reader and (found := reader(path)) is not None), None)


def _refuse_scene_settings(config: DataConfig, taken: tuple[str, ...] = ()) -> None:
    """Refuse scene settings, except those in `taken`, for data sets that are not generated."""
    names = [f for f in fields(config) if f.name.startswith("scene") and f.name not in taken]
    given = [f.name for f in names if getattr(config, f.name) != f.default]
    if given:
        raise ConfigError(
            f"setting `{given[0]}` applies only to `digit_scenes`", got=", ".join(given), do="leave it out"
        )


def _from_arrays(
    arrays: Mapping[str, Any], config: DataConfig, *, name: str, where: str, root: Path | None = None
) -> Found:
    """A data set of arrays, its boxes in pixels."""
    from opsin.data.readers.arrays import read_arrays
    from opsin.data.readers.box_files import with_pixel_boxes

    checked, notes = with_pixel_boxes(arrays, config, where)
    found = read_arrays(checked, name=name, where=where, root=root)
    return replace(found, notes=(*found.notes, *notes))


def _find_custom(path: Path, config: DataConfig, task: str | None) -> Found:
    """User data at `path`, which a run may have stored as text."""
    from opsin.data.readers.number_files import read_numbers
    from opsin.data.readers.tag_files import read_tags

    if not path.exists():
        if path_of(str(path)).exists():
            return _find_custom(path_of(str(path)), config, task)
        raise _nothing_at(path)
    if (tagged := read_tags(path, task)) is not None:
        return tagged
    if (numbered := read_numbers(path, config, task)) is not None:
        return numbered
    if (annotated := _annotated(path, config, task)) is not None:
        return annotated
    if path.is_dir():
        from opsin.data.readers.annotation_files import annotation_file
        from opsin.data.readers.folders import read_folder

        listed = annotation_file(path) if task != "classify" else None
        return read_folder(path) if listed is None else _find_custom(listed, config, task)
    if path.suffix.lower() == ".csv":
        from opsin.data.readers.folders import read_csv

        return read_csv(path)
    if path.suffix.lower() == ".npz":
        from opsin.io.arrays import read_npz

        return _from_arrays(read_npz(path), config, name=path.stem, where=str(path), root=path)
    raise DataError(
        "Opsin cannot read this file as a data set",
        where=path,
        got=path.suffix or "no suffix",
        expected="a folder of class folders, a .csv of paths and labels, a .json of COCO, or an .npz",
    )


def _annotated(path: Path, config: DataConfig, task: str | None) -> Found | None:
    """A data set with masks or boxes; with both, the one that `task` requests or the likelier one, with a note."""
    from opsin.data.readers.box_files import holds_boxes, read_boxes
    from opsin.data.readers.coco_masks import holds_polygons, read_coco_masks
    from opsin.data.readers.mask_files import read_masks

    if task == "classify":
        return None
    if path.is_dir():
        if task == "localize":
            return read_boxes(path, config) or read_masks(path, config)
        if (masks := read_masks(path, config)) is not None:
            also = ("there are boxes too: `--task localize` uses them",)
            return replace(masks, notes=(*masks.notes, *also)) if task is None and holds_boxes(path) else masks
        return read_boxes(path, config)
    if task == "segment" and (drawn := read_coco_masks(path, config)) is not None:
        return drawn
    boxes = read_boxes(path, config)
    if boxes is not None and task is None and holds_polygons(path):
        return replace(boxes, notes=(*boxes.notes, "there are outlines too: `--task segment` uses them"))
    return boxes


def locate(entry: Entry, root: str | Path | None) -> Path | None:
    """The folder of a catalogue set under `root` or OPSIN_DATA; None for a set that needs no files.

    Raises:
        DataError: no root is given, or the folder does not exist.
    """
    if not entry.folder:
        return None
    base = root if root is not None else os.environ.get(ROOT_VARIABLE)
    if base is None:
        raise DataError(
            f"`{entry.name}` needs files, and their folder is not given",
            expected=f"--root DIR or the environment variable {ROOT_VARIABLE}; DIR contains {entry.folder}/",
            do=how_to_get(entry, "DIR"),
        )
    folder = Path(base).expanduser() / entry.folder
    if not folder.is_dir():
        raise DataError(
            f"the files of `{entry.name}` were not found",
            where=folder,
            expected=f"a folder with {entry.layout}",
            do=how_to_get(entry, base),
        )
    return folder


def how_to_get(entry: Entry, root: object) -> str:
    """One sentence on how a user gets the files of a catalogue set."""
    if entry.files and all(file.sha256 for file in entry.files):
        return f"opsin data fetch {entry.name} --root {root}"
    urls = ", ".join(file.url for file in entry.files)
    return f"fetch by hand and unpack under {root}: {urls} (their SHA-256 is unknown, so Opsin does not fetch them)"


def _nothing_at(path: Path) -> DataError:
    close = nearest(str(path), ENTRIES)
    return DataError(
        "no data set of this name, and no such file or folder",
        where=path.absolute(),
        got=str(path),
        expected=f"one of {', '.join(ENTRIES)}, or a path",
        do=f"did you mean `{close}`?" if close else "`opsin data list` shows the catalogue",
    )


def _splits(
    found: Found, config: DataConfig, *, drawn: bool, report: Reporter
) -> tuple[dict[SplitName, Source], list[str], bool]:
    """The splits, notes on how they were made, and whether near copies were kept within splits."""
    subset, near_kept = parse_subset(config.subset), False
    notes: list[str] = []
    if found.pool is not None:
        if config.test_as_val:
            do = "leave it out: a val is drawn"
            raise ConfigError("`test_as_val` needs a published test split", got="an undivided set", do=do)
        if not drawn:
            return first_samples({"test": found.pool}, subset), ["undivided data set, used as test"], False
        check_labels({"train": found.pool}, found.classes, where=found.root or found.name)
        splits, near_kept = _draw_together(divide, found.pool, config, notes, report)
        splits = first_samples(splits, subset)
        notes.append(f"train, val and test were drawn with {_manner(found.pool, config)}")
    else:
        before = {name: size for name, size in subset.items() if name in found.splits}
        splits = first_samples(found.splits, before)
        if drawn and config.test_as_val:
            splits = _test_as_val(splits, found)
            notes.append(TEST_AS_VAL)
        if drawn and "train" in splits and "val" not in splits:
            if found.published:  # drawn as in earlier versions, so that published results hold
                splits |= hold_out(splits["train"], config)
            else:
                splits |= _draw_together(hold_out, splits["train"], config, notes, report)[0]
            notes.append(f"val was drawn from train with {_manner(splits['train'], config)}")
        splits = first_samples(splits, {name: size for name, size in subset.items() if name not in before})
    if subset:
        notes.append(f"subset {config.subset}: the first samples in the publisher's order")
    return splits, notes, near_kept


def _test_as_val(splits: Mapping[SplitName, Source], found: Found) -> dict[SplitName, Source]:
    """Train unchanged, and test in place of val.

    Raises:
        ConfigError: there is no test split.
    """
    if "train" not in splits or "test" not in splits:
        got = ", ".join(splits)
        raise ConfigError(
            "`test_as_val` needs a published test split", where=found.root or found.name, got=got, do="leave it out"
        )
    return {"train": splits["train"], "val": splits["test"]}


Draw = Callable[[Source, DataConfig, Copies | None], dict[SplitName, Source]]


def _draw_together(
    draw: Draw, source: Source, config: DataConfig, notes: list[str], report: Reporter
) -> tuple[dict[SplitName, Source], bool]:
    """Splits with copies kept together, and whether that includes near copies; `notes` are added."""
    if source.groups is not None:
        return draw(source, config, None), False
    copies = find_copies(source, cache=default_cache(), report=report)
    exact = replace(copies, near=None)
    if copies.num_exact:
        number = copies.num_exact
        subject = "1 sample is an exact copy" if number == 1 else f"{number:,} samples are exact copies"
        notes.append(f"{subject} of another: copies were kept in one split")
    if copies.near is None:
        if isinstance(source, FileSource):
            notes.append(f"near copies were not searched for: more than {MAX_NEAR:,} images")
        return draw(source, config, exact), False
    if not copies.num_near:
        return draw(source, config, copies), True
    splits, plain = _drawn(draw, source, config, copies), draw(source, config, exact)
    if splits is None or any(2 * len(splits[name]) < len(plain[name]) for name in plain):
        notes.append(
            f"{copies.num_near:,} images have near copies (video frames?), in chains too long to keep in one "
            "split: scores will be too high. Divide the images yourself, or give a table with a column `group`"
        )
        return plain, False
    subject = "images have near copies" if copies.num_near > 1 else "image has near copies"
    notes.append(f"{copies.num_near:,} {subject}: they were kept in one split")
    return splits, True


def _drawn(draw: Draw, source: Source, config: DataConfig, copies: Copies) -> dict[SplitName, Source] | None:
    with suppress(DataError):
        return draw(source, config, copies)
    return None


def _manner(source: Source, config: DataConfig) -> str:
    kind = "whole groups, " if source.groups is not None else "class shares kept, " if config.stratify else ""
    return f"{kind}seed {config.split_seed}"
