"""Finding the annotation file of a folder of photos."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from opsin.data.readers.box_files import EDGES
from opsin.errors import DataError
from opsin.io.files import read_json
from opsin.io.tables import read_table

COCO_KEYS = {"images", "annotations", "categories"}


def annotation_file(folder: Path) -> Path | None:
    """The COCO file of a folder or of its `annotations/`, or its table of boxes; None if it has neither.

    Raises:
        DataError: there are several.
        AnnotationError: a `.json` or `.csv` is damaged.
    """
    candidates = sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json"), *folder.glob("*.csv")])
    found = [path for path in candidates if _annotates(path)]
    if len(found) > 1:
        raise DataError(
            "there are several annotation files",
            where=folder,
            got=", ".join(path.relative_to(folder).as_posix() for path in found),
            do="give the path of one of them instead of the folder",
        )
    return found[0] if found else None


def _annotates(path: Path) -> bool:
    if path.suffix == ".csv":
        return set(EDGES) <= set(read_table(path)[0])
    content = read_json(path)
    return isinstance(content, Mapping) and set(content) >= COCO_KEYS
