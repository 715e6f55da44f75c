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
from opsin.data.readers.labels import check_class_names, check_labels, with_unused
from opsin.data.samples import Dataset as LoadedDataset
from opsin.data.samples import holds_masks
from opsin.data.torch_datasets import MapStyle, arrays_of
from opsin.data.transport import is_address
from opsin.errors import ConfigError
from opsin.io.remote import is_remote
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
        root: folder of the catalogue's data sets; by default the environment variable OPSIN_DATA.
        config: selection of samples; None means the defaults of `DataConfig`.
        task: refuse a set that is not for this task.
        typed: False for a source that a file names, not the user: an address is then only looked up in the cache.
        report: shows progress.
        drawn: False keeps the publisher's splits; an undivided set is then all `test`.

    Raises:
        DataError: the data set is missing, or its labels or splits are invalid.
        ConfigError: a setting does not fit the set.
        InputError: a file of the set is damaged.
    """
    config = config or DataConfig()
    found = find(source, root=root, config=config, task=task, typed=typed, report=report)
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
    splits, notes, near_kept = splits_of(found, config, drawn=drawn, report=report)
    check_labels(splits, found.classes, where=where)
    return Dataset(
        name=found.name,
        task=found.task,
        classes=with_unused(found.classes, splits, config.unused_classes),
        splits={name: splits[name] for name in SPLITS if name in splits},
        layout=found.layout,
        published=found.published,
        undivided=found.pool is not None,
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
    def from_arrays(cls, arrays: Mapping[str, object] | None = None, /, **named: Any) -> Dataset:
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


def source_name(source: str | Path | Mapping[str, object]) -> str:
    """Name of the data in a run: a catalogue name, an absolute path, or "arrays"."""
    if isinstance(source, Mapping):
        return "arrays"
    return (
        str(source)
        if str(source) in ENTRIES or is_address(source) or is_hub_name(source) or is_remote(source)
        else str(Path(source).absolute())
    )
