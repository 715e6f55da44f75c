"""Predictions as a table: one row per image, one column per class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from opsin.errors import ConfigError
from opsin.io.foreign import FOREIGN_SUFFIXES
from opsin.io.images import IMAGE_SUFFIXES
from opsin.io.tables import write_table
from opsin.text import text_of
from opsin.types import Prediction

BOX = ("x1", "y1", "x2", "y2")


def check_table_name(file: Path) -> None:
    """Refuse a table name that could overwrite an image, before anything is predicted.

    Raises:
        ConfigError: the name is that of an image, or of a folder.
    """
    if file.suffix.lower() in IMAGE_SUFFIXES | set(FOREIGN_SUFFIXES):
        do = "name the table first, e.g. --csv predictions.csv"
        raise ConfigError("the table would overwrite an image of this name", got=str(file), do=do)
    if file.is_dir():
        raise ConfigError("the name of the table is that of a folder", got=str(file), do=f"--csv {file}/table.csv")


def write_predictions(
    file: Path, predictions: Sequence[Prediction], classes: Sequence[str], *, box: bool, prefix: str = "p_"
) -> None:
    """Write predictions as CSV: file, label, score, the box in pixels of the image, and `p_CLASS` for each class.

    Args:
        file: the table; an existing one is replaced.
        predictions: one row each.
        classes: K names, in the order of each prediction's `shares`; of masks these are shares of the pixels.
        box: whether the network predicts boxes: columns x1, y1, x2, y2.
        prefix: prefix of each class's column name.

    Raises:
        ConfigError: the table is one of the images.
        WriteError: it cannot be written.
    """
    if file.resolve() in {Path(prediction.file).resolve() for prediction in predictions}:
        raise ConfigError("the table would overwrite an image", got=str(file), do="give it another name")
    names = ["file", "label", "score", *(BOX if box else ()), *_columns(classes, prefix)]
    write_table(file, names, (_row(prediction, box) for prediction in predictions))


def _columns(classes: Sequence[str], prefix: str) -> list[str]:
    """Column names of the classes, numbered where two classes share a name, like ImageNet's two cranes."""
    count = Counter(classes)
    numbered = (name if count[name] == 1 else f"{name} ({number})" for number, name in enumerate(classes))
    return [prefix + name for name in numbered]


def _row(prediction: Prediction, box: bool) -> list[object]:
    numbers = [prediction.score, *((prediction.box or ()) if box else ()), *prediction.shares]
    return [text_of(prediction.file), prediction.label, *(float(f"{number:.6g}") for number in numbers)]
