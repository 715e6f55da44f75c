"""From a name, a path or arrays to a data set with its splits drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from opsin.config import DataConfig
from opsin.data.catalogue import ENTRIES
from opsin.data.dividing import splits_of
from opsin.data.finding import find
from opsin.data.hub import is_hub_name
from opsin.data.readers.labels import check_class_names, check_labels
from opsin.data.samples import Dataset as LoadedDataset
from opsin.data.samples import holds_masks
from opsin.data.torch_datasets import MapStyle, arrays_of
from opsin.data.transport import is_address
from opsin.errors import ConfigError
from opsin.progress import QUIET, Reporter
from opsin.types import SPLITS


def load(
    source: str | Path | Mapping[str, Any],
    *,
    root: str | Path | None = None,
    config: DataConfig | None = None,
    task: str | None = None,
    drawn: bool = True,
    typed: bool = True,
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
        source: a catalogue name; a path in any layout that is recognized (`opsin data layouts`), or an archive of one;
            an address of such an archive; or a mapping of arrays.
        root: where catalogue sets lie; else the environment variable OPSIN_DATA.
        config: which samples; the defaults of `DataConfig` when None.
        task: refuse a set that is not for this task.
        typed: False for a source that a file names, not the user: an address is then only looked up in the cache.
        report: shows progress.
        drawn: False leaves the set as its publisher divides it; an undivided set is then all `test`.

    Raises:
        DataError: the set is not there, or its labels or splits cannot be used.
        ConfigError: a setting does not fit the set.
        InputError: a file of the set is damaged.
    """
    config = config or DataConfig()
    found = find(source, root=root, config=config, task=task, typed=typed, report=report)
    if task is not None and task != found.task:
        raise ConfigError(f"`{found.name}` is for another task", got=task, expected=found.task)
    if config.classes != "all" and not any(map(holds_masks, (*found.splits.values(), *filter(None, [found.pool])))):
        raise ConfigError("setting `classes` is for data sets with masks", got=config.classes, expected="all")
    where = found.root or found.name
    check_class_names(found.classes, where=where)
    caution = ENTRIES[found.name].caution if found.published and found.name in ENTRIES else ""
    splits, notes, near_kept = splits_of(found, config, drawn=drawn, report=report)
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
    """A data set that is ready to be trained on; `opsin.load` gives one, and so do arrays and PyTorch's data sets."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any] | None = None, /, **named: Any) -> Dataset:
        """A data set of arrays in memory.

        Args:
            arrays: by name: `images` uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]; `labels` int [N] or texts [N];
                `boxes` float [N, 4], xyxy in pixels; `masks` uint8 [N, H, W]; `classes`, the names; `groups` and `ids`
                [N]. With the name of a split before or behind (`train_images`, `x_test`) the splits are given, without
                it they are drawn.
            named: the same as keywords.

        >>> import numpy as np
        >>> images = np.zeros((40, 8, 8), np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None]
        >>> Dataset.from_arrays(images=images, labels=np.arange(40) % 2)
        Dataset(arrays: classify, 2 classes, train 32, val 4, test 4)

        Raises:
            DataError: names, shapes or values that do not go together.
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
        """A data set of PyTorch's map-style data sets, read into memory once.

        Args:
            train: gives (image, label) by number (`opsin.data.torch_datasets.arrays_of`), without normalization and
                without random changes: both are Opsin's.
            val, test: the same; what is not given is drawn from `train` (val), or left out (test).
            classes: names; by default `train.classes`, where it has them.

        Raises:
            DataError: samples that are no pairs of an image and a label, or images of several sizes.
        """
        parts = {"train": train, "val": val, "test": test}
        named = classes if classes is not None else getattr(train, "classes", None)
        arrays: dict[str, Any] = {} if named is None else {"classes": list(named)}
        for split, part in parts.items():
            if part is not None:
                arrays |= {f"{split}_{key}": value for key, value in arrays_of(part, split=split).items()}
        return load(arrays)


def source_name(source: str | Path | Mapping[str, Any]) -> str:
    """What a run calls its data: a catalogue name as it is, a path from the root of the file system, or "arrays"."""
    if isinstance(source, Mapping):
        return "arrays"
    return (
        str(source)
        if str(source) in ENTRIES or is_address(source) or is_hub_name(source)
        else str(Path(source).absolute())
    )
