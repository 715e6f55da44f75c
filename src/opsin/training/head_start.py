"""The head before the first epoch: a logistic regression on frozen features, in a second.

The gradients of a random head would first distort the pretrained layers; those of a fitted head are small. Its weight
decay is chosen on val. If training does not improve val, the run ends with this head and the unchanged pretrained
layers.

Source: Kumar et al. 2022, arXiv 2202.10054: a linear head first, then fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opsin.batches.batch import Batch
from opsin.data.samples import Samples
from opsin.errors import ConfigError
from opsin.models.parts.network import Network
from opsin.tasks.base import Task
from opsin.tasks.targets import Targets
from opsin.training.features import Features, head_predictions

DECAYS = (0.1, 0.03, 0.01, 3e-3, 1e-3)
"""Weight decays to try, on features of standard deviation 1; without val the first is used."""
MOST_ITERATIONS, FEWEST_ITERATIONS = 60, 10
WORK = 3e12
"""Largest number of multiplications for one decay: about ten seconds on two cores."""
SMALLEST_SD = 1e-3


@dataclass(frozen=True, kw_only=True)
class HeadStart:
    """Scores of the fitted head on val (empty without one), and the best weight decay."""

    val: Mapping[str, float]
    decay: float
    tried: Mapping[str, float]


def fit_head(
    network: nn.Module, task: Task, features: Features, classes: tuple[str, ...], device: torch.device
) -> HeadStart:
    """Fit the linear head `logits` of `network` on features, in place; of all decays the best on val is kept.

    Raises:
        ConfigError: the head is not linear.
    """
    head = _linear_head(network)
    batch = _all(features, device)
    mean, sd = batch.images.mean(0), batch.images.std(0) + SMALLEST_SD
    batch = _with_images(batch, (batch.images - mean) / sd)
    best: tuple[float, float] | None = None
    kept: dict[str, Tensor] = {}
    chosen, scores, tried = DECAYS[0], dict[str, float](), dict[str, float]()
    weight = torch.zeros_like(head.weight)
    bias = torch.zeros(len(weight), device=device)
    for decay in DECAYS:
        weight, bias = _fitted(task, batch, weight, bias, decay)
        _set(head, weight / sd, bias - (weight / sd) @ mean)
        if features.val is None:
            return HeadStart(val={}, decay=decay, tried={})
        found = _val_scores(network, task, features.val, classes, device)
        tried[f"{decay:g}"] = found[task.main_score]
        rank = (found[task.main_score], -found.get("loss", 0.0))
        if best is None or rank > best:
            best, chosen, scores = rank, decay, found
            kept = {key: value.clone() for key, value in head.state_dict().items()}
    head.load_state_dict(kept)
    return HeadStart(val=scores, decay=chosen, tried=tried)


def _linear_head(network: nn.Module) -> nn.Linear:
    found = network.heads["logits"] if isinstance(network, Network) else None
    layers = [] if found is None else [layer for layer in found.modules() if isinstance(layer, nn.Linear)]
    if len(layers) != 1 or layers[0].bias is None:
        got, do = f"{len(layers)} dense layers in the head", "leave --head-start out"
        raise ConfigError("a head start needs a head of one linear layer with a bias", got=got, do=do)
    return layers[0]


def _all(features: Features, device: torch.device) -> Batch:
    """All features of train, mirrored ones included, in one batch."""
    parts = [*features.train, *([features.mirrored] if features.mirrored is not None else [])]
    images = torch.cat([torch.from_numpy(np.array(part.images)) for part in parts])
    targets: dict[str, Any] = {
        kind: torch.cat([torch.from_numpy(np.array(part.targets[kind])) for part in parts]) for kind in parts[0].targets
    }
    return Batch(images=images, index=torch.arange(len(images)), **targets).to(device)


def _with_images(batch: Batch, images: Tensor) -> Batch:
    return replace(batch, images=images)


def _fitted(task: Task, batch: Batch, weight: Tensor, bias: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Weights [K, F] and bias [K] that minimize the task's loss plus `decay`/2 times the squared weights."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    iterations = int(WORK / (12 * batch.images.numel() * len(bias)))  # an iteration is some 2 passes of 6 products
    iterations = min(max(iterations, FEWEST_ITERATIONS), MOST_ITERATIONS)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = batch.images @ weight.T + bias
        total = task.loss({"logits": logits}, batch)["loss"] + decay / 2 * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


@torch.no_grad()
def _set(head: nn.Linear, weight: Tensor, bias: Tensor) -> None:
    head.weight.copy_(weight)
    head.bias.copy_(bias)


def _val_scores(
    network: nn.Module, task: Task, val: Samples, classes: tuple[str, ...], device: torch.device
) -> dict[str, float]:
    predictions: Any = head_predictions(network, task, val, device)
    scores = task.scores(predictions, Targets.of(val), classes, intervals=False)
    return {key: score.value for key, score in scores.items()}
