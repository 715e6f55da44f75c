"""What every test shares: the same random numbers in every run, so that a failure can be had again."""

import random

import hypothesis
import numpy as np
import pytest
import torch

# new examples are looked for by scripts/fuzz; a time limit would fail on a busy machine
hypothesis.settings.register_profile("opsin", derandomize=True, deadline=None)
hypothesis.settings.load_profile("opsin")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
