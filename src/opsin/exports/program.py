"""The network as it is exported: preprocessing in front, the task's decoding behind, as one module and one graph.

uint8 [B, C, H, W]  ──  range, mean, colour ── network ── decode  ──>  probabilities, boxes, masks
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from opsin.arrays import Array
from opsin.artifact import Artifact
from opsin.errors import RefusedError
from opsin.io.tensors import read_tensors
from opsin.tasks import get_task

INPUT = "images"
NUM_TRACED = 2
"""Images in the batch that the graph is traced with: a batch of one would become a constant."""


class WholeNetwork(nn.Module):
    """From bytes to predictions, as `Predictor.run` computes them."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__()
        self.network = artifact.network.cpu().eval()
        self.preprocess = artifact.preprocess
        self.task = get_task(artifact.task)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Predictions of images [B, C, H, W] at the network's size, as the task's `decode` gives them."""
        return self.task.decode(self.network(self.preprocess(images)))


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A network as a graph.

    `program`: the graph, of any number of images at once. `example`: [2, C, H, W], uint8 or, of a network of 16 bits,
    float32. `outputs`: names, in order.
    """

    program: ExportedProgram
    example: Tensor
    outputs: tuple[str, ...]


def trace(artifact: Artifact) -> Traced:
    """The graph of a network with its preprocessing and decoding.

    Raises:
        RefusedError: the network's computation depends on values of its input, so no graph is valid for every image.
    """
    contract = artifact.preprocess
    shape = (NUM_TRACED, contract.channels, contract.size.height, contract.size.width)
    dtype = torch.uint8 if contract.size.bits == 8 else torch.float32
    example, whole = torch.zeros(shape, dtype=dtype), WholeNetwork(artifact).eval()
    try:
        with torch.no_grad():
            outputs = tuple(whole(example))
            program = torch.export.export(whole, (example,), dynamic_shapes={INPUT: {0: Dim("batch")}})
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError, ValueError) as error:
        raise RefusedError(
            "this network cannot be exported",
            where=artifact.spec.name,
            got=str(error).partition("\n")[0],
            expected="a network that computes the same layers for every image",
            do="for a network of your own: remove conditions on values from `forward`",
        ) from error
    return Traced(program=program, example=example, outputs=outputs)


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Images with the outputs of the network when it was saved.

    `images`: uint8 or float32 [n, C, H, W]. `predictions`: by name, arrays of n rows, decoded.
    """

    images: Tensor
    predictions: Mapping[str, Array]


def golden_of(artifact: Artifact, tensors: Mapping[str, Tensor]) -> Golden:
    """The golden images of an artefact, and their decoded outputs.

    Args:
        artifact: the artefact whose task decodes.
        tensors: tensors of golden.safetensors.
    """
    outputs = {key.removeprefix("outputs."): value for key, value in tensors.items() if key.startswith("outputs.")}
    decoded = get_task(artifact.task).decode(outputs)
    return Golden(images=tensors["images"], predictions={key: value.numpy() for key, value in decoded.items()})


def read_golden(folder: Path, artifact: Artifact) -> Golden:
    """The golden images in the model folder of a run."""
    return golden_of(artifact, read_tensors(folder / "golden.safetensors")[0])
