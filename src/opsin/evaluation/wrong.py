"""The folder of an evaluation, with pictures of misclassified samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from opsin.data.samples import Pixels
from opsin.io.files import atomic_folder, write_atomically, write_json
from opsin.io.images import encode_png
from opsin.io.tables import write_table
from opsin.ops.depth import at_depth

if TYPE_CHECKING:
    from opsin.evaluation.evaluation import Evaluation

MAX_PICTURES = 100


def write_evaluation(found: Evaluation, images: Pixels, folder: Path) -> None:
    """Write an evaluation as files: evaluation.json, the confusion and the wrong samples as CSV, and their pictures.

    Args:
        found: what to write.
        images: [N, C, H, W], the samples as the network sees them; the first `MAX_PICTURES` wrong ones are drawn.
        folder: a new folder.

    Raises:
        NameTakenError: it exists.
        WriteError: it cannot be written.
    """
    with atomic_folder(folder) as new:
        write_json(new / "evaluation.json", found.to_json())
        if confusion := found.details.get("confusion"):
            rows = [[name, *row] for name, row in zip(found.classes, confusion, strict=True)]
            write_table(new / "confusion.csv", ["true \\ predicted", *found.classes], rows)
        if found.wrong:
            keys = list(found.wrong[0])
            write_table(new / "wrong.csv", keys, ([entry[key] for key in keys] for entry in found.wrong))
        (new / "wrong").mkdir()
        for number, entry in enumerate(found.wrong[:MAX_PICTURES], 1):
            image = at_depth(np.asarray(images[entry["index"]]), 8)
            write_atomically(new / "wrong" / f"{number:03d}.png", encode_png(image))
