"""Two training steps, and a forward pass, on tensors without contents: their allocations and placement.

The steps allocate what those of `opsin.training.engine.step` do, in the same order. The second one matters too: the
optimizer state, allocated at the end of the first, fills its free blocks, so the second one is placed elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from opsin.batches.batch import Batch
from opsin.models.parts.network import Network
from opsin.models.wrappers.recompute import recomputing
from opsin.planning.ledger import Ledger, Workspace, allocate
from opsin.planning.request import Request, autocast, batch_of, build_meta, feature_length, head_outputs, loss_of, run

SIMULATED_PARTS = 2
"""Number of parts of a batch that are simulated; further ones repeat the second."""
OPTIMIZERS = {
    "sgd": (0, 0),
    "adam": (2, 0),
    "adamw": (2, 0),
    "nadam": (2, 1),
    "rmsprop": (1, 1),
    "muon": (1, 0),
}
"""Copies of the weights that an optimizer keeps (without momentum for sgd and rmsprop), and that a step makes."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """Allocations of two training steps, in bytes.

    Attributes:
        at_peak: live memory at the peak, by kind.
        fragments: lower bound of the heap fragmentation of a process that keeps freed memory.
        inputs, activations: those of the forward pass, at its end.
        gradients: those of all weights.
        saved: activations by the layer that saved them.
        features: length of an image's feature vector for training heads; 0 for training on images.
    """

    at_peak: Mapping[str, int]
    fragments: int
    inputs: int
    activations: int
    gradients: int
    saved: Mapping[str, int]
    features: int


def inference_peak(request: Request) -> int:
    """Peak of a forward pass over one part of the batch, without gradients."""
    network = build_meta(request)
    with FakeTensorMode(), Ledger(workspace_of) as ledger, torch.no_grad():
        allocate(network).eval()
        ledger.kind = "activations"
        ledger.forget_peak()
        images = _images(request, request.part, torch.float32).contiguous(memory_format=torch.channels_last)
        with autocast(request.precision):
            run(network, images)
    peak: int = ledger.peak
    return peak


def train_twice(request: Request) -> Trained:
    """Two training steps from the start of a run."""
    network = build_meta(request)
    with FakeTensorMode(), Ledger(workspace_of) as ledger:
        training = _Training(request, ledger, network)
        for _ in range(2):
            training.step()
        at_peak = {kind: size for kind, size in ledger.at_peak.items() if size}
        features = training.following.images.shape[1] if request.cached else 0
        fragments = max(0, ledger.heap.resident - ledger.peak)
    return Trained(at_peak=at_peak, fragments=fragments, **training.sizes, saved=training.saved, features=features)


def optimizer_copies(request: Request) -> tuple[int, int]:
    """Copies of the trainable weights that the optimizer keeps, and those that a step makes for a moment."""
    kept, temporary = OPTIMIZERS[request.optimizer]
    has_momentum = request.optimizer in ("sgd", "rmsprop") and request.momentum > 0
    return kept + has_momentum, temporary


def workspace_of(func: Any, args: tuple[Any, ...], result: Any) -> Workspace:
    """Temporary memory of the operations that allocate much.

    The gradient of a batch norm is allocated twice on a CPU; only one of them is written.
    """
    aten = torch.ops.aten
    if func is aten.native_batch_norm_backward.default:
        return Workspace(result[0].untyped_storage().nbytes(), written=False)
    if func is aten.convolution.default:
        return Workspace(_columns_bytes(args[0], args[1], result, args[3:7]))
    if func is aten.convolution_backward.default:
        return Workspace(_columns_bytes(args[1], args[2], args[0], args[4:8]))
    return Workspace(0)


def _columns_bytes(images: Tensor, weight: Tensor, outputs: Tensor, how: Sequence[Any]) -> int:
    """Bytes of the unfolded columns of a half-precision convolution, for the whole batch.

    Only if the processor has no such arithmetic: torch then computes a matrix product instead of oneDNN's kernel.

    Args:
        images, weight, outputs: of the convolution; images [B, C, H, W].
        how: stride, padding, dilation, transposed.
    """
    stride, padding, dilation, transposed = how
    half = images.dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    pointwise = set(weight.shape[2:]) == {1} and set(stride) == {1} and set(padding) == {0}
    if not half or transposed or pointwise or set(dilation) != {1}:
        return 0
    pixels = outputs.shape[0] * prod(outputs.shape[2:])
    return int(pixels * prod(weight.shape[1:]) * images.element_size())


class _Training:
    """A run without contents. `sizes` and `saved` are those of the first forward pass and the last gradients."""

    def __init__(self, request: Request, ledger: Ledger, network: nn.Module) -> None:
        self.request, self.ledger = request, ledger
        self.network = allocate(network).train()
        self.weights = [p for p in self.network.parameters() if p.requires_grad]
        for parameter in self.weights:
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda p: ledger.relabel(p.grad, "gradients")
            )
        self.sizes: dict[str, int] = {}
        self.saved: dict[str, int] = {}
        self.state: list[Tensor] = []
        ledger.forget_peak()
        if request.cached:
            self._compute_features()
        ledger.kind = "loader"
        self.following = self._gathered()

    def _compute_features(self) -> None:
        """The pass over all images that computes the cached features."""
        self.ledger.kind = "activations"
        network = self.network.eval()
        assert isinstance(network, Network)
        images = _images(self.request, self.request.feature_batch, torch.float32)
        with torch.no_grad():
            network.backbone(network.normalize(images.contiguous(memory_format=torch.channels_last)))
        network.train()

    def _gathered(self) -> Batch:
        """A batch of the loader: uint8 images (16 bits: float32), or features float32 [B, F], with targets."""
        request = self.request
        dtype = torch.uint8 if request.bits == 8 else torch.float32
        batch = batch_of(request, _images(request, request.batch, dtype, request.loaded_size))
        if not self.request.cached:
            return batch
        return replace(batch, images=torch.empty(len(batch), feature_length(self.network)))

    def step(self) -> None:
        """The allocations of `Stepper.step`."""
        self.ledger.kind = "loader"
        batch, self.following = self.following, self._gathered()
        augmented = self._augmented(batch)
        for part in augmented.split(self.request.accumulate)[:SIMULATED_PARTS]:
            self._backward(part)
        self.sizes["gradients"] = self.ledger.live["gradients"]
        self._change_weights()

    def _augmented(self, batch: Batch) -> Batch:
        """The batch in float32; larger images are resampled to the input's size, and freed."""
        images = batch.images.to(torch.float32, copy=not self.request.cached)
        if self.request.larger is None:
            return replace(batch, images=images)
        return batch_of(self.request, _images(self.request, self.request.batch, torch.float32))

    def _backward(self, part: Batch) -> None:
        """The passes over one part."""
        outputs = self._outputs(part.images)
        if not self.saved:
            self.saved = {name: size for name, size in self.ledger.owners.items() if name}
            self.sizes["activations"] = self.ledger.live["activations"]
        self.ledger.kind = "workspace"
        outputs = {name: output.float() for name, output in outputs.items()}
        loss_of(self.request, outputs, part).backward()  # type: ignore[no-untyped-call]

    def _outputs(self, part: Tensor) -> Mapping[str, Tensor]:
        """The forward pass; the preprocessed images stay alive only if a layer saves them."""
        self.ledger.kind = "inputs"
        images = part if self.request.cached else part.clone().contiguous(memory_format=torch.channels_last)
        self.sizes["inputs"] = self.ledger.live["inputs"]
        self.ledger.kind = "activations"
        again = self.request.checkpoint_activations
        recompute = recomputing(self.network, keep_random_state=False) if again else nullcontext()
        watching = self.ledger.watching(self.network, folds=self.request.pinned)
        with watching, recompute, autocast(self.request.precision):
            return (head_outputs if self.request.cached else run)(self.network, images)

    def _change_weights(self) -> None:
        """The allocations of the optimizer, permanent ones in the first step."""
        kept, temporary = optimizer_copies(self.request)
        if not self.state:
            self.ledger.kind = "optimizer"
            self.state = self._copies(kept)
        self.ledger.kind = "workspace"
        self._copies(temporary)
        for parameter in self.weights:
            parameter.grad = None

    def _copies(self, number: int) -> list[Tensor]:
        return [torch.empty_like(p.detach()) for p in self.weights for _ in range(number)]


def _images(request: Request, number: int, dtype: torch.dtype, size: tuple[int, int] | None = None) -> Tensor:
    """Images [N, C, H, W] without contents, of `size` or the input's."""
    spec = request.spec
    return torch.empty(number, spec.channels, *(size or (spec.height, spec.width)), dtype=dtype)
