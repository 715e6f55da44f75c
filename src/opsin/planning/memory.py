"""Memory of prediction and of training, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from torch import Tensor, nn

from opsin.models.parts.network import Network
from opsin.models.table import LayerTable, layer_table
from opsin.planning.passes import inference_peak, optimizer_copies, train_twice
from opsin.planning.request import Request, build_meta
from opsin.types import JsonDict

BYTES = 4
"""Bytes of one weight, gradient or optimizer state: all are float32."""
GATHERED_BYTES, AUGMENTED_BYTES = 1 + 1, 4
"""Bytes of one image value: in the training batch and in the gathered one; in the augmented one."""
MOST_KEPT = 2.1
"""Largest measured ratio of memory held to live memory, of a training that keeps freed memory (docs/results.md)."""
IN_PLACE = ("ReLU", "BatchNorm2d", "BatchNorm1d", "Dropout", "Dropout2d", "Flatten")
"""Layers that the textbook count treats as in place."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Memory in bytes; printed megabytes are 10^6 bytes.

    Attributes:
        inference_bytes: to predict one image: the weights, and the inputs and outputs of the layer where they are
            largest ("two live layers"); activations, norms and dropout work in place.
        inference_as_run_bytes: the same for a whole batch as Opsin runs it.
        live_bytes: live memory at the peak of a training step; with `keep_memory` off the process holds no more.
        kept_bytes: lower bound with `keep_memory` on: live memory and fragments.
        training_bytes: the one of these two for the request.
        most_bytes: largest by measurement: `live_bytes`, or `MOST_KEPT` times that with `keep_memory`.
        parts: sizes of weights, gradients, optimizer, inputs, activations (saved for the backward pass), loader
            (uint8 batches, and the one that was augmented), workspace (temporary, at the peak) and fragments (freed
            heap fragmentation; none where freed memory is returned). Not all of them exist at once.
        at_peak: live memory by kind at the peak; adds up to `training_bytes`.
        textbook_bytes: weights, and inputs and outputs of all layers of a batch; layers of `IN_PLACE` in place.
        saved: bytes of activations that each layer saves for the backward pass.
    """

    inference_bytes: int
    inference_as_run_bytes: int
    live_bytes: int
    kept_bytes: int
    training_bytes: int
    most_bytes: int
    parts: Mapping[str, int]
    at_peak: Mapping[str, int]
    textbook_bytes: int
    saved: Mapping[str, int]

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        return {
            "inference_bytes": self.inference_bytes,
            "inference_as_run_bytes": self.inference_as_run_bytes,
            "live_bytes": self.live_bytes,
            "kept_bytes": self.kept_bytes,
            "training_bytes": self.training_bytes,
            "most_bytes": self.most_bytes,
            "activations_inputs_weights_bytes": self.textbook_bytes,
            "parts": dict(self.parts),
            "at_peak": dict(self.at_peak),
        }


def table_of(request: Request) -> LayerTable:
    """Layers, parameters and work of the network of a request, without allocating it."""
    spec = request.spec
    network = build_meta(request)
    with_head = _Headless(network) if isinstance(network, Network) and not network.heads else network
    return layer_table(with_head, spec.channels, spec.height, spec.width)


def memory_of(request: Request, layers: LayerTable | None = None) -> Memory:
    """Forecast of the memory of a request on a CPU, without allocating it.

    Raises:
        ConfigError: no such network, or images too small for it.
    """
    layers = layers or table_of(request)
    trained = train_twice(request)
    live = sum(trained.at_peak.values())
    fragments = trained.fragments if request.keep_memory else 0
    weights = BYTES * layers.parameters
    parts = {
        "weights": weights,
        "gradients": trained.gradients,
        "optimizer": optimizer_bytes(request, layers),
        "inputs": trained.inputs,
        "activations": trained.activations,
        "loader": request.batch * _loaded_bytes(request, trained.features),
        "workspace": trained.at_peak.get("workspace", 0),
        "fragments": fragments,
    }
    return Memory(
        inference_bytes=weights + BYTES * _two_live_layers(layers),
        inference_as_run_bytes=inference_peak(request),
        live_bytes=live,
        kept_bytes=live + trained.fragments,
        training_bytes=live + fragments,
        most_bytes=round(MOST_KEPT * live) if request.keep_memory else live,
        parts=parts,
        at_peak={**trained.at_peak, "fragments": fragments} if request.keep_memory else trained.at_peak,
        textbook_bytes=weights + BYTES * request.batch * layer_numbers(layers),
        saved=trained.saved,
    )


def _loaded_bytes(request: Request, features: int) -> int:
    """Bytes of one sample in the training batch, in the gathered one, in the augmented one."""
    if request.cached:
        return 2 * BYTES * features
    spec, gathered = request.spec, GATHERED_BYTES * prod(request.loaded_size)
    masks = gathered if request.task.pixelwise else 0
    gathered *= 1 if request.bits == 8 else BYTES
    return spec.channels * (gathered + AUGMENTED_BYTES * spec.height * spec.width) + masks


def optimizer_bytes(request: Request, layers: LayerTable) -> int:
    """Bytes of the optimizer's state."""
    kept, _ = optimizer_copies(request)
    return kept * BYTES * layers.trainable


def layer_numbers(layers: LayerTable) -> int:
    """Number of values in the input and the outputs of all layers that write new ones, for one image."""
    outputs = (prod(row.output_shape) for row in layers.rows if row.kind not in IN_PLACE)
    return prod(layers.input_shape) + sum(outputs)


def _two_live_layers(layers: LayerTable) -> int:
    """Largest number of values in the input and output of one layer, for one image."""
    inputs, most = prod(layers.input_shape), 0
    for row in layers.rows:
        if row.kind not in IN_PLACE:
            outputs = prod(row.output_shape)
            most = max(most, inputs + outputs)
            inputs = outputs
    return most


class _Headless(nn.Module):
    """A network that outputs the features of its backbone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.normalize, self.backbone = network.normalize, network.backbone

    def forward(self, images: Tensor) -> Tensor:
        """Features float [B, num_features] of images float [B, C, H, W]."""
        features: Tensor = self.backbone(self.normalize(images))
        return features
