"""The contract of an exported file: classes, scores, its input and its outputs."""

from __future__ import annotations

from collections.abc import Mapping

import opsin
from opsin.artifact import Artifact
from opsin.types import JsonDict, Score, scores_to_json

FORMAT = 1
MEANINGS = {
    "probabilities": "float32 [B, K]: of each class",
    "numbers": "float32 [B, M]: in the order of `classes`",
    "boxes": "float32 [B, 4]: x1, y1, x2, y2 in pixels of the input",
    "masks": "uint8 [B, H, W]: class of each pixel",
    "uncertainty": "uint8 [B, H, W]: entropy of each pixel in 15ths of its largest value",
}
"""Description of each output."""


def contract_of(
    artifact: Artifact, outputs: tuple[str, ...], *, name: str, scores: Mapping[str, Mapping[str, Score]]
) -> JsonDict:
    """The contract as plain JSON.

    Args:
        artifact: the network.
        outputs: names of what it predicts.
        name: name of the run.
        scores: scores by split and name.
    """
    contract = artifact.preprocess
    size = contract.size
    order = "grey (ITU-R BT.601)" if contract.channels == 1 else "red, green, blue"
    values = "uint8 {}, 0 to 255" if size.bits == 8 else "float32 {}, 0 to 255: 16 bits divided by 257"
    shape = f"[B, {contract.channels}, {size.height}, {size.width}]"
    return {
        "format": FORMAT,
        "opsin": opsin.__version__,
        "name": name,
        "task": artifact.task,
        "architecture": artifact.spec.name,
        "classes": list(artifact.classes),
        "input": f"images: {values.format(shape)}, {order}",
        "size": size.to_dict(),
        "outputs": {key: MEANINGS.get(key, "") for key in outputs},
        "preprocess": contract.to_dict(),
        "scores": {split: scores_to_json(found) for split, found in scores.items()},
    }
