"""How long a run is said to take."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from opsin.training.planning import _forecast_seconds


@pytest.mark.parametrize(("epochs", "minutes", "seconds"), [(12, None, 200.0), (12, 1.0, 60.0), (1, None, 2.0)])
def test_the_plan_for_photos_counts_while_its_epochs_were_kept(
    epochs: int, minutes: float | None, seconds: float
) -> None:
    """Else the timing of steps does: 100 images an epoch at 50 images/s."""
    prepared = SimpleNamespace(
        config=SimpleNamespace(train=SimpleNamespace(epochs=epochs, minutes=minutes)),
        plan={"plan": {"epochs": 12, "seconds": 200.0}},
        splits={"train": SimpleNamespace(images=range(100))},
    )
    timing = {"precision": "float32", "channels_last": True, "images_per_second": 50.0}
    choice = SimpleNamespace(precision=SimpleNamespace(dtype="float32", channels_last=True), timings=[timing])
    assert _forecast_seconds(cast("Any", prepared), cast("Any", choice)) == seconds
