"""The generators that layers draw from: set before each step, on the processor and on the device of the run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from opsin.training.engine.randomness import seed_layers


@pytest.mark.parametrize("setter", ["manual_seed_all", "manual_seed"])
def test_the_processor_and_the_device_are_seeded_alike(setter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On CUDA for all its devices; Apple's module has no function for several."""
    seeds: list[int] = []
    module = SimpleNamespace(**{"manual_seed": seeds.append, setter: seeds.append})
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    seed_layers(3, 5, torch.device("cuda"), rank=1)
    on_device = torch.rand(4)
    assert seeds == [torch.initial_seed()]
    seed_layers(3, 5, torch.device("cpu"), rank=1)
    assert len(seeds) == 1
    assert torch.equal(torch.rand(4), on_device)
    seed_layers(3, 6, torch.device("cpu"), rank=1)
    assert not torch.equal(torch.rand(4), on_device)
