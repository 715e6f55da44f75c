"""What a report of classification says in words."""

from __future__ import annotations

import pytest

from opsin.tasks.classify.report import calibration_verdict


@pytest.mark.parametrize(
    ("confidence", "accuracy", "count", "words"),
    [
        (0.9, 0.7, 400, "overconfident: confidence and accuracy differ by 20.0 percentage points"),
        (0.7, 0.9, 400, "underconfident"),
        (0.7, 1.0, 4, "within chance for 4 samples"),  # the standard error is sqrt(0.21 / 4) = 0.23
        (0.905, 0.9, 400, "to within one percentage point"),
    ],
)
def test_confidence_is_judged_by_more_than_chance_explains(confidence, accuracy, count, words):
    curve = {"confidence": [confidence, None], "accuracy": [accuracy, None], "count": [count, 0]}
    assert words in calibration_verdict(curve)
