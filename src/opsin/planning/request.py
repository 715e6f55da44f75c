"""The plan request: a network with its heads, and its training settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from opsin.batches.batch import Batch
from opsin.config import FinetuneConfig, OptimizerName, TrainConfig
from opsin.errors import ConfigError
from opsin.inference.predictor import BATCH_SIZE, PIXELS_AT_ONCE
from opsin.models.building import build_network
from opsin.models.freezing import freeze_below, pin_norms
from opsin.models.parts.network import Network
from opsin.models.registry import SEGMENTERS, ModelSpec
from opsin.tasks import Task, get_task, plain_task, task_names

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A network, and its training settings.

    Attributes:
        spec: the backbone, and the shape of its images.
        task: the task, which defines heads and loss.
        num_outputs: length of the logits; 0 plans the backbone without its heads.
        bits: of a channel of these images: of 16, batches are float32.
        larger: height and width of the images that batches are augmented from, where they are packed larger.
        batch: images in a step of the optimizer, in `accumulate` parts.
        precision: of the forward and backward passes.
        keep_memory: whether the C allocator keeps freed memory, the default of training.
        sections: number of trained upper sections of the backbone, in addition to the heads; None trains all.
        pinned: whether norms of the backbone stay in inference mode, as those of pretrained networks do.
        cached: whether heads are trained on features computed once.
    """

    spec: ModelSpec
    task: Task = field(default_factory=plain_task)
    num_outputs: int = 10
    bits: int = 8
    larger: tuple[int, int] | None = None
    batch: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.9
    precision: str = "float32"
    checkpoint_activations: bool = False
    keep_memory: bool = True
    sections: int | None = None
    pinned: bool = False
    cached: bool = False

    @property
    def loaded_size(self) -> tuple[int, int]:
        """Height and width of the images of a batch before they are augmented."""
        return self.larger or (self.spec.height, self.spec.width)

    @property
    def part(self) -> int:
        """Images that pass the network at once."""
        return -(-self.batch // self.accumulate)

    @property
    def feature_batch(self) -> int:
        """Images whose features are computed at once, where these are `cached`."""
        return min(BATCH_SIZE, max(1, PIXELS_AT_ONCE // (self.spec.height * self.spec.width)))


def task_settings(name: str, config: TrainConfig) -> Task:
    """The task of this name with the losses of `config`; class weights, which need data, are left out."""
    task: Any = get_task(name)
    shared = {f.name for f in fields(task)} & {f.name for f in fields(config)} - {"class_weights"}
    made: Task = replace(task, **{key: getattr(config, key) for key in shared})
    return made


def trained_parts(config: FinetuneConfig, *, task: str, epochs: int, pretrained: bool) -> dict[str, Any]:
    """The fields of `Request` for the trained parts, in the epochs with most of them.

    Args:
        config: which sections are trained when.
        task: its name.
        epochs: of the run.
        pretrained: whether the network starts from weights of another training.
    """
    sections = config.top
    if config.finetune == "head":
        sections = 0
    elif config.finetune == "gradual":
        sections = 1 + max(0, epochs - 1 - config.head_epochs) // config.unfreeze_every
    cached = config.finetune == "head" and get_task(task).one_class
    return {"sections": sections, "cached": cached, "pinned": pretrained and not config.train_norms}


def build(request: Request) -> nn.Module:
    """The network of a request as it is trained: with the heads of its task, if any, and frozen parts.

    Raises:
        ConfigError: no such network, an option that it does not have, or images too small for it.
    """
    if not request.num_outputs:
        return build_network(request.spec, {})
    network = request.task.build(request.spec, request.num_outputs)
    backbone = getattr(network, "backbone", None)
    if request.sections is not None or request.pinned:
        if not isinstance(backbone, nn.Module):
            raise ConfigError(
                "this network has no pretrained weights", got=request.spec.name, do="leave --weights and --finetune out"
            )
        if request.pinned:
            pin_norms(backbone)
    if request.sections is not None:
        freeze_below(network, request.sections)
    return network


def build_meta(request: Request) -> nn.Module:
    """The same on the meta device: shapes without memory."""
    with torch.device("meta"):
        return build(request)


def run(network: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
    """Outputs of `network`, or its features where it has no heads."""
    if isinstance(network, Network) and not network.heads:
        return {"features": network.backbone(network.normalize(images))}
    outputs: Mapping[str, Tensor] = network(images)
    return outputs


def head_outputs(network: nn.Module, features: Tensor) -> Mapping[str, Tensor]:
    """Outputs of the heads for features float [B, F]."""
    assert isinstance(network, Network)
    return {name: head(features) for name, head in network.heads.items()}


def feature_length(network: nn.Module) -> int:
    """Length of the features that the heads of `network` take."""
    assert isinstance(network, Network)
    return network.backbone.num_features


def batch_of(request: Request, images: Tensor) -> Batch:
    """Images [B, C, H, W] with blank targets of the task."""
    count, (height, width) = len(images), images.shape[2:]
    targets: dict[str, Any] = request.task.blank_targets(count, height, width, request.num_outputs)
    return Batch(images=images, index=torch.zeros(count, dtype=torch.int64), **targets)


def loss_of(request: Request, outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """The loss of the task, a scalar; without heads the mean of the features."""
    if "features" in outputs:
        return outputs["features"].mean()
    return request.task.planned_loss(outputs, batch)


def task_for(name: str, given: str | None) -> str:
    """The default task of a network: the only one it supports, or classification.

    Raises:
        ConfigError: it does not support the task `given`.
    """
    masks = next(task for task in task_names() if get_task(task).pixelwise)
    if given is not None and name in SEGMENTERS and not get_task(given).pixelwise:
        raise ConfigError("this network predicts masks, not labels or boxes", where="--task", got=given, expected=masks)
    if given is not None:
        return given
    return masks if name in SEGMENTERS or name == "unet" else plain_task().name


def autocast(precision: str) -> torch.autocast:
    """The context of a forward pass in `precision`."""
    if precision == "float32":
        return torch.autocast("cpu", enabled=False)
    return torch.autocast("cpu", dtype=DTYPES[precision])
