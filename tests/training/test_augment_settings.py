"""Settings of augmentation that do not fit the data are refused before a run is made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from opsin.cli import main
from opsin.errors import ConfigError
from opsin.training import train


@pytest.fixture(autouse=True)
def no_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPSIN_DATA", raising=False)
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    "settings", [{"policy": "rand_augment"}, {"policy": "trivial_augment_wide"}, {"mixup": 0.2}], ids=str
)
@pytest.mark.parametrize("data", ["digit_masks", "digit_scenes"])
def test_what_boxes_and_masks_cannot_follow_is_refused_before_a_run_is_made(
    data: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        train(data, scenes=40, epochs=1, out=tmp_path / "runs", quiet=True, **settings)
    assert not (tmp_path / "runs").exists()


def test_the_command_line_names_the_present_name_of_a_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "--policy", "randaugment", "--runs", str(tmp_path / "runs")]) == 2
    assert "`random_ops`" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_help_lists_the_policies(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("random_ops", "rand_augment", "trivial_augment_wide"))
