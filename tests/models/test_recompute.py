"""Recomputed activations: the same bits of everything, and less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from opsin.config import ModelConfig
from opsin.models.building import build_network
from opsin.models.registry import ModelSpec, resolve_options
from opsin.models.wrappers.recompute import recomputed_sections, recomputing
from opsin.planning.passes import train_twice
from opsin.planning.request import Request


def spec_of(config: ModelConfig) -> ModelSpec:
    return ModelSpec(name=config.model, channels=3, height=16, width=16, options=resolve_options(config.model, config))


def after_one_pass(config: ModelConfig, *, again: bool) -> dict[str, Tensor]:
    """Gradients and buffers after one forward and one backward pass."""
    network = build_network(spec_of(config), {"logits": 10}, seed=0).train()
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        if again:
            with recomputing(network):
                outputs = network(images)
        else:
            outputs = network(images)
        outputs["logits"].square().mean().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert gradients
    return gradients | dict(network.named_buffers())


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(filters=(8, 16), conv_dropout=0.3, dense=(8,)),
        ModelConfig(model="small", filters=(8, 16)),
        ModelConfig(model="tiny"),
    ],
    ids=["plain with dropout", "small", "tiny"],
)
def test_gradients_and_statistics_are_the_same_bits(config: ModelConfig) -> None:
    kept, again = (after_one_pass(config, again=again) for again in (False, True))
    assert kept.keys() == again.keys()
    assert [name for name in kept if not torch.equal(kept[name], again[name])] == []


def test_a_network_is_as_it_was_after_the_pass() -> None:
    network = build_network(spec_of(ModelConfig(filters=(8, 16))), {"logits": 10}, seed=0)
    sections = recomputed_sections(network)
    assert len(sections) == 2
    with recomputing(network):
        assert all("forward" in vars(section) for section in sections)
    assert not any("forward" in vars(section) for section in sections)


def test_the_live_peak_falls_and_fewer_activations_are_kept() -> None:
    kept = Request(spec=spec_of(ModelConfig(filters=(16, 32, 64), second_conv="plain")), batch=32)
    whole, less = train_twice(kept), train_twice(replace(kept, checkpoint_activations=True))
    peaks = [sum(found.at_peak.values()) for found in (whole, less)]
    assert less.activations < whole.activations / 2
    assert peaks[1] < peaks[0]
