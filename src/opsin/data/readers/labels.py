"""Checks of labels before anything is trained on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from opsin.arrays import Array
from opsin.data.samples import Ints, Source, class_counts
from opsin.data.targets import KINDS
from opsin.errors import ConfigError, DataError
from opsin.text import is_text, printable
from opsin.types import SplitName

NUM_NAMED = 10
"""Largest number of samples or names in a message."""


def whole_labels(values: Array, *, where: str) -> Ints:
    """Labels as int64 `[N]`; `[N, 1]` is treated as `[N]`.

    Raises:
        DataError: not one number per sample, NaN, fractional or negative.
    """
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "iufb":
        one_hot = values.ndim == 2 and values.dtype.kind in "iufb"
        raise DataError(
            "labels are not one number per sample",
            where=where,
            got=f"{values.dtype} {list(values.shape)}",
            expected="whole numbers [N]",
            do="convert one-hot rows to class indices with argmax(axis=1)" if one_hot else None,
        )
    wrong = (
        ~np.isfinite(values) | (values != np.floor(values)) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    )
    wrong |= np.where(wrong, False, values < 0)
    if wrong.any():
        raise DataError(
            f"{wrong.sum():,} labels are not class numbers",
            where=f"{where}, samples {_first(np.flatnonzero(wrong))}",
            got=_first(np.unique(values[wrong])),
            expected="whole numbers from 0",
        )
    return values.astype(np.int64)


def check_class_names(classes: Sequence[str], *, where: object) -> None:
    """Refuse class names that cannot be stored: a run would fail on writing them, after training.

    Raises:
        DataError: a name that is not Unicode, or is given twice.
    """
    wrong = [name for name in classes if not is_text(name)]
    if wrong:
        raise DataError(
            "class names that are not UTF-8",
            where=printable(where),
            got=", ".join(printable(name) for name in wrong[:NUM_NAMED]),
            expected="names in UTF-8, since they are stored with the network and shown with predictions",
            do="rename the class folders: `convmv -f latin1 -t utf8 -r FOLDER` shows what it would do",
        )
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise DataError(
            "class names that are given twice",
            where=printable(where),
            got=", ".join(printable(name) for name in twice[:NUM_NAMED]),
            expected="a name for each class",
        )


def check_labels(splits: Mapping[SplitName, Source], classes: Sequence[str], *, where: object) -> None:
    """Refuse labels that training cannot use.

    Raises:
        DataError: an empty split, a label outside the classes, fewer than two classes (unless the target is more than
            a class), or a class without a training sample. A class that is absent from val or test is tolerated: its
            scores are "n/a" there.
    """
    for name, source in splits.items():
        if len(source) == 0:
            raise DataError(f"split `{name}` is empty", where=where, expected="at least one sample")
        _check_range(name, source, classes, where)
    if len(classes) < 2 and not all(any(KINDS[k].of_one_class for k in s.targets) for s in splits.values()):
        raise DataError(
            "there is only one class, so there is nothing to learn",
            where=where,
            got=f"classes: {', '.join(classes) or 'none'}",
            expected="two classes or more",
        )
    if "train" in splits:
        _check_no_empty_class(splits["train"], classes, where)


def with_unused(classes: tuple[str, ...], splits: Mapping[SplitName, Source], count: int) -> tuple[str, ...]:
    """The classes of a set, and `count` more of which it has no image.

    Raises:
        ConfigError: the samples are not of one class each.
    """
    if count and any(set(source.targets) != {"labels"} for source in splits.values()):
        what, expected = "setting `unused_classes` is for images of one class each", "labels alone"
        raise ConfigError(what, got=count, expected=expected, do="leave it out")
    return (*classes, *(f"unused {place}" for place in range(1, count + 1)))


def _check_range(name: str, source: Source, classes: Sequence[str], where: object) -> None:
    for kind, rows in source.targets.items():
        wrong = KINDS[kind].wrong(rows, len(classes))
        if len(wrong):
            expected = KINDS[kind].expected(len(classes))
            raise DataError(
                f"{len(wrong):,} {kind} of split `{name}` {KINDS[kind].fault}",
                where=f"{where}: {', '.join(source.ids[i] for i in wrong[:NUM_NAMED])}",
                got=_first(np.unique(rows[wrong])),
                expected=expected,
            )


def _check_no_empty_class(train: Source, classes: Sequence[str], where: object) -> None:
    counts = class_counts(train, len(classes))
    empty = np.flatnonzero([] if counts is None else counts == 0)
    if len(empty):
        names = ", ".join(classes[k] for k in empty[:NUM_NAMED])
        raise DataError(
            f"{len(empty)} of {len(classes)} classes have no training sample",
            where=where,
            got=f"empty: {names}" + (", …" if len(empty) > NUM_NAMED else ""),
            expected="at least one training sample in each class",
            do="add images of these classes, or remove the classes; class indices start at 0",
        )


def _first(values: Array) -> str:
    shown = ", ".join(str(value) for value in values[:NUM_NAMED])
    return shown + (", …" if len(values) > NUM_NAMED else "")
