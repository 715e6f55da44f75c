"""The table of labels beside the photos of a folder: `path,label`, and `split` where the folder is divided."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opsin.errors import DataError
from opsin.io.tables import read_table, write_table
from opsin.io.walking import natural_key
from opsin.studio.labelled import Place, remove
from opsin.studio.photos import split_of
from opsin.studio.remembered import Remembered


class LabelTable:
    """The table of one folder of photos."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._file: Remembered[Mapping[str, str]] = Remembered(place.labels, _read, {})

    def labels(self) -> Mapping[str, str]:
        """Labels by the paths of photos, test included where the folders told them.

        Raises:
            DataError: the table has other columns than the studio writes.
        """
        return self._file.content()

    def set_label(self, path: str, label: str | None) -> None:
        """Give a photo a label, or take it away with None."""
        labels = {known: given for known, given in self.labels().items() if known != path}
        self.write(labels if label is None else {**labels, path: label})

    def write(self, labels: Mapping[str, str]) -> None:
        """Write the whole table; remove it where nothing is labelled."""
        if not labels:
            remove(self._place.labels)
            return
        order = sorted(labels, key=natural_key)
        splits = {path: split_of(path.removeprefix(self._place.path(""))) for path in order}
        if all(splits.values()):
            write_table(self._place.labels, ("path", "label", "split"), ((p, labels[p], splits[p]) for p in order))
        else:
            write_table(self._place.labels, ("path", "label"), ((path, labels[path]) for path in order))


def _read(path: Path) -> Mapping[str, str]:
    rows = read_table(path)
    if not {"path", "label"} <= set(rows[0]) <= {"path", "label", "split"}:
        raise DataError("the table of labels was changed", where=path, got=list(rows[0]), expected="path,label")
    return {row["path"]: row["label"] for row in rows}
