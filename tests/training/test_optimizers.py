from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from opsin.config import OptimizerName, TrainConfig
from opsin.training.engine.optimizers import add_l2, build_optimizer, orthogonalized, scale_learning_rate


def network() -> nn.Module:
    torch.manual_seed(0)
    parts = nn.ModuleDict(
        {"body": nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten()), "heads": nn.Linear(8 * 36, 4)}
    )
    return parts


def loss_of(parts: Any, images: Tensor) -> Tensor:
    return nn.functional.cross_entropy(parts["heads"](parts["body"](images)), torch.arange(len(images)) % 4)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_every_optimizer_lowers_the_loss(name: OptimizerName) -> None:
    parts = network()
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    optimizer = build_optimizer(parts, TrainConfig(optimizer=name, lr=0.01, lr_other=0.01, weight_decay=0.01))
    first = loss_of(parts, images).item()
    for _ in range(20):
        loss_of(parts, images).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss_of(parts, images).item() < 0.7 * first


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (16, 16)])
def test_orthogonalized_moves_all_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalized(matrix, iterations=5))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_orthogonalized_keeps_the_singular_vectors() -> None:
    matrix = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    middle = u.T @ orthogonalized(matrix, iterations=5) @ vt.T
    assert torch.allclose(middle, torch.diag(middle.diag()), atol=1e-4)


def test_muon_steps_filters_orthogonally_and_the_rest_as_adamw_does() -> None:
    ours, reference = network(), network()
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(optimizer="muon", lr=0.05, lr_other=0.01, momentum=0.6)
    muon = build_optimizer(ours, config)
    filters = reference.get_parameter("body.0.weight")
    others = [p for p in reference.parameters() if p is not filters]
    adamw = torch.optim.AdamW(others, lr=0.01, betas=(0.9, 0.95), weight_decay=0.0)
    loss_of(ours, images).backward()
    loss_of(reference, images).backward()
    muon.step()
    adamw.step()
    for (name, a), b in zip(ours.named_parameters(), reference.parameters(), strict=True):
        if name != "body.0.weight":
            assert torch.allclose(a, b, atol=1e-6), name
    gradient = filters.grad
    assert gradient is not None
    direction = orthogonalized((gradient * 1.6).flatten(1)).view_as(filters)
    expected = filters.detach() * (8**0.5 / filters.detach().norm()) - 0.05 * direction
    assert torch.allclose(ours.get_parameter("body.0.weight"), expected, atol=1e-6)


def test_weight_decay_leaves_biases_and_norms_alone() -> None:
    groups = build_optimizer(network(), TrainConfig(optimizer="adamw", weight_decay=0.1)).param_groups
    decayed = {p.ndim for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    kept = {p.ndim for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    assert decayed == {2, 4}
    assert kept == {1}


def test_frozen_parameters_are_not_handed_to_the_optimizer() -> None:
    parts = network()
    parts.get_parameter("body.0.weight").requires_grad_(False)
    groups = build_optimizer(parts, TrainConfig(optimizer="muon")).param_groups
    assert all(p is not parts.get_parameter("body.0.weight") for g in groups for p in g["params"])


def test_scaling_is_relative_to_the_peak_and_not_compounded() -> None:
    optimizer = build_optimizer(network(), TrainConfig(optimizer="sgd", lr=0.4))
    scale_learning_rate(optimizer, 0.5)
    scale_learning_rate(optimizer, 0.5)
    assert {g["lr"] for g in optimizer.param_groups} == {0.2}


def test_l2_adds_the_gradient_of_the_penalty() -> None:
    parts = network()
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    penalty = sum((p**2).sum() for p in parts.parameters() if p.ndim > 1)
    (loss_of(parts, images) + 0.01 * penalty).backward()
    expected = [p.grad.clone() for p in parts.parameters() if p.grad is not None]
    parts.zero_grad()
    loss_of(parts, images).backward()
    add_l2(parts, 0.01)
    got = [p.grad for p in parts.parameters() if p.grad is not None]
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(got, expected, strict=True))
