"""Small studies on scikit-learn's digits."""

from __future__ import annotations

from typing import Any

import pytest

QUICK: dict[str, Any] = {
    "model": "plain",
    "filters": [8],
    "epochs": 2,
    "batch_size": 64,
    "optimizer": "adam",
    "lr": 0.003,
    "subset": "train=300",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "preflight": False,
}


@pytest.fixture
def quick() -> dict[str, Any]:
    """Settings that train on digits in half a second."""
    return dict(QUICK)
