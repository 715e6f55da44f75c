"""Memory of prediction and of training, part by part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from opsin.config import OptimizerName
from opsin.models.network import Network
from opsin.models.registry import ModelSpec, build_network
from opsin.models.table import LayerTable, layer_table
from opsin.plan.ledger import Ledger, to_channels_last

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BYTES = 4
"""Of one weight, gradient or optimizer state: all are kept in float32."""
LOADED_BATCHES = 2
"""Batches of uint8 images that exist at once: the one that is trained on, and the one that the loader gathers."""
IN_PLACE = ("ReLU", "BatchNorm2d", "BatchNorm1d", "Dropout", "Dropout2d", "Flatten")
"""Layers that the textbook's count lets work in the memory of their input."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is planned: a network, and how it is trained.

    `num_outputs`: length of the logits; 0 plans the backbone without its head. `batch`: images in a step of the
    optimizer, in `accumulate` parts. `precision`: of the forward and backward passes.
    """

    spec: ModelSpec
    num_outputs: int = 10
    batch: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    precision: str = "float32"
    checkpoint_activations: bool = False

    @property
    def part(self) -> int:
        """Images that pass the network at once."""
        return -(-self.batch // self.accumulate)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes; megabytes in what is printed are millions of bytes.

    Attributes:
        inference_bytes: to predict one image: the weights, and the inputs and outputs of the one layer where they are
            largest ("two live layers"); activations, norms and dropout work in place.
        inference_as_run_bytes: the same for a whole batch as our code runs it.
        training_bytes: peak of a training step.
        parts: sizes of weights, gradients, optimizer, inputs, activations (saved for the backward pass), loader
            (uint8 batches) and workspace (temporary). Not all of them exist at once.
        at_peak: what exists at the peak; adds up to `training_bytes`.
        textbook_bytes: weights, and inputs and outputs of all layers of a batch; layers of `IN_PLACE` in place.
        saved: bytes of activations that each layer leaves for the backward pass.
    """

    inference_bytes: int
    inference_as_run_bytes: int
    training_bytes: int
    parts: Mapping[str, int]
    at_peak: Mapping[str, int]
    textbook_bytes: int
    saved: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "inference_bytes": self.inference_bytes,
            "inference_as_run_bytes": self.inference_as_run_bytes,
            "training_bytes": self.training_bytes,
            "activations_inputs_weights_bytes": self.textbook_bytes,
            "parts": dict(self.parts),
            "at_peak": dict(self.at_peak),
        }


@dataclass(frozen=True, kw_only=True)
class _Pass:
    """What a forward and a backward pass allocate: bytes at the peak by kind, and of each kind in all."""

    at_peak: Mapping[str, int]
    inputs: int
    activations: int
    gradients: int
    saved: Mapping[str, int]


def build(request: Request) -> Network:
    """The network of a request, without heads where none is wanted."""
    return build_network(request.spec, {"logits": request.num_outputs} if request.num_outputs else {})


def run(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Outputs of `network`, or its features where it has no heads."""
    if network.heads:
        return network(images)  # type: ignore[no-any-return]
    return {"features": network.backbone(network.normalize(images))}


def table_of(request: Request) -> LayerTable:
    """Layers, parameters and work of the network of a request, without allocating it."""
    spec = request.spec
    with torch.device("meta"):
        network = build(request)
    with_head = network if network.heads else _Headless(network)
    return layer_table(with_head, spec.channels, spec.height, spec.width)


def memory_of(request: Request, layers: LayerTable | None = None) -> Memory:
    """Memory that a request needs on a CPU, forecast without allocating it.

    Raises:
        ConfigError: no such network, or images too small for it.
    """
    layers = layers or table_of(request)
    with FakeTensorMode():
        as_run = _inference_peak(request)
        measured = _train_once(request)
    loader = LOADED_BATCHES * request.batch * _image_numbers(request.spec)
    weights = BYTES * layers.parameters
    state, temporary = optimizer_bytes(request, layers)
    in_backward = {**measured.at_peak, "optimizer": state, "loader": loader}
    in_step = {"weights": weights, "gradients": measured.gradients, "optimizer": state, "loader": loader}
    in_step["workspace"] = temporary
    at_peak = max(in_backward, in_step, key=lambda parts: sum(parts.values()))
    parts = {
        "weights": weights,
        "gradients": measured.gradients,
        "optimizer": state,
        "inputs": measured.inputs,
        "activations": measured.activations,
        "loader": loader,
        "workspace": at_peak.get("workspace", 0),
    }
    return Memory(
        inference_bytes=weights + BYTES * _two_live_layers(layers),
        inference_as_run_bytes=as_run,
        training_bytes=sum(at_peak.values()),
        parts=parts,
        at_peak=at_peak,
        textbook_bytes=weights + BYTES * request.batch * _layer_numbers(layers),
        saved=measured.saved,
    )


def optimizer_bytes(request: Request, layers: LayerTable) -> tuple[int, int]:
    """Bytes of the optimizer's state, and of what one of its steps needs for a moment."""
    trainable = BYTES * layers.trainable
    moving = int(request.momentum > 0)
    copies, temporary = {
        "sgd": (moving, 0),
        "adam": (2, 0),
        "adamw": (2, 0),
        "nadam": (2, 1),
        "rmsprop": (1 + moving, 1),
        "muon": (1, 0),
    }[request.optimizer]
    return copies * trainable, temporary * trainable


def _inference_peak(request: Request) -> int:
    """Peak of a forward pass over one part of the batch, without gradients."""
    with Ledger() as ledger, torch.no_grad():
        network = build(request).eval()
        ledger.kind = "activations"
        ledger.forget_peak()
        with _autocast(request.precision):
            run(network, _seen(request))
    peak: int = ledger.peak
    return peak


def _train_once(request: Request) -> _Pass:
    """One forward and one backward pass."""
    with Ledger() as ledger:
        network = build(request).train()
        to_channels_last(network)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                    lambda p: ledger.relabel(p.grad, "gradients")
                )
        ledger.kind = "inputs"
        ledger.forget_peak()
        images = _seen(request)
        inputs = ledger.live["inputs"]
        ledger.kind = "activations"
        with ledger.watching(network), _autocast(request.precision):
            outputs = _forward(request, network, images)
        saved = {name: size for name, size in ledger.owners.items() if name}
        activations = ledger.live["activations"]
        ledger.kind = "workspace"
        _loss(outputs).backward()  # type: ignore[no-untyped-call]
        gradients = ledger.live["gradients"]
    return _Pass(at_peak=ledger.at_peak, inputs=inputs, activations=activations, gradients=gradients, saved=saved)


def _forward(request: Request, network: Network, images: Tensor) -> dict[str, Tensor]:
    """The forward pass of training: as a whole recomputed in the backward pass, if asked for."""
    if not request.checkpoint_activations:
        return run(network, images)
    outputs: dict[str, Tensor] = checkpoint(
        lambda batch: run(network, batch), images, use_reentrant=False, preserve_rng_state=False
    )
    return outputs


def _seen(request: Request) -> Tensor:
    """One part of a batch as the network sees it: float32 [B, C, H, W] without contents, channels last."""
    spec = request.spec
    images = torch.zeros(request.part, spec.channels, spec.height, spec.width)
    return images.contiguous(memory_format=torch.channels_last)


def _loss(outputs: Mapping[str, Tensor]) -> Tensor:
    """A loss that needs the memory of cross-entropy."""
    losses = [
        output.float().log_softmax(dim=1).mean() if name == "logits" else output.float().mean()
        for name, output in outputs.items()
    ]
    return torch.stack(losses).sum()


def _autocast(precision: str) -> torch.autocast:
    dtype = DTYPES[precision]
    return torch.autocast("cpu", dtype=None if precision == "float32" else dtype, enabled=precision != "float32")


def _image_numbers(spec: ModelSpec) -> int:
    return spec.channels * spec.height * spec.width


def _layer_numbers(layers: LayerTable) -> int:
    """Numbers in the input and in the outputs of all layers together, for one image."""
    outputs = (prod(row.output_shape) for row in layers.rows if row.kind not in IN_PLACE)
    return prod(layers.input_shape) + sum(outputs)


def _two_live_layers(layers: LayerTable) -> int:
    """Most numbers in the input and the output of one layer together, for one image."""
    inputs, most = prod(layers.input_shape), 0
    for row in layers.rows:
        if row.kind not in IN_PLACE:
            outputs = prod(row.output_shape)
            most = max(most, inputs + outputs)
            inputs = outputs
    return most


class _Headless(nn.Module):
    """A network that gives the features of its backbone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.normalize, self.backbone = network.normalize, network.backbone

    def forward(self, images: Tensor) -> Tensor:
        """Features float [B, num_features] of images float [B, C, H, W]."""
        features: Tensor = self.backbone(self.normalize(images))
        return features
