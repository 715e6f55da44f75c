"""A path that a user gives as a data set, on its way from recognition to its reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from opsin.config import DataConfig
from opsin.errors import DataError
from opsin.io.files import read_json
from opsin.io.tables import read_table
from opsin.types import TaskName

COCO_KEYS = {"images", "annotations", "categories"}
EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A file or folder that is there; its table or JSON is parsed once, whoever asks.

    Attributes:
        path: the file or folder.
        config: which samples, and what their numbers mean.
        task: what the user asks for; None leaves it to the layout.
    """

    path: Path
    config: DataConfig
    task: TaskName | None = None

    @property
    def form(self) -> str:
        """ "folder", or the suffix of a file in lower case."""
        return "folder" if self.path.is_dir() else self.path.suffix.lower()

    @cached_property
    def rows(self) -> list[dict[str, str]]:
        """The rows of a CSV file.

        Raises:
            AnnotationError: it is no readable table.
        """
        return read_table(self.path)

    @property
    def columns(self) -> list[str]:
        """The columns of a CSV file, in its order."""
        return list(self.rows[0])

    @cached_property
    def content(self) -> Any:
        """The value in a JSON file.

        Raises:
            AnnotationError: it is no readable JSON.
        """
        return read_json(self.path)

    @cached_property
    def listed(self) -> Place | None:
        """The COCO file of a folder or of its `annotations/`, or its table of boxes; None where it holds neither.

        Raises:
            DataError: there are several.
            AnnotationError: a `.json` or `.csv` is damaged.
        """
        folder = self.path
        paths = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*.csv")])
        found = [place for place in (replace(self, path=path) for path in paths) if _annotates(place)]
        if len(found) > 1:
            raise DataError(
                "there are several annotation files",
                where=folder,
                got=", ".join(place.path.relative_to(folder).as_posix() for place in found),
                do="give the path of one of them instead of the folder",
            )
        return found[0] if found else None


def _annotates(place: Place) -> bool:
    if place.form == ".csv":
        return set(EDGES) <= set(place.columns)
    return isinstance(place.content, Mapping) and set(place.content) >= COCO_KEYS
