"""Small runs on scikit-learn's digits, trained once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opsin.runs import Run
from opsin.training import train

QUICK: dict[str, Any] = {
    "epochs": 3,
    "filters": [8],
    "batch_size": 128,
    "subset": "train=400",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def quick_settings() -> dict[str, Any]:
    """Settings that train on digits for a second."""
    return QUICK


@pytest.fixture
def quick_run(tmp_path: Path) -> Callable[..., Run]:
    """Trains on digits for a second; keyword arguments override the quick settings."""

    def trained(name: str = "quick", **settings: Any) -> Run:
        return train("digits", name=name, out=tmp_path, **(QUICK | settings))

    return trained
