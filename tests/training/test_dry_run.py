"""`train --dry-run` says what training then does, and writes nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from opsin.cli import main
from opsin.training import train
from opsin.training.dry_run import dry_run

SETTINGS = {"epochs": 1, "subset": "train=100,val=40", "model": "plain", "filters": [4]}
TYPED = ["--epochs", "1", "--subset", "train=100,val=40", "--model", "plain", "--filters", "4"]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "digits", "--dry-run", *TYPED]) == 0
    told = capsys.readouterr().out
    assert "digits-plain-1; nothing was written" in told
    assert "train 100, val 40, test 180" in told
    assert "plain, random weights, input 1x8x8" in told
    assert re.search(r"forecast: about .+ at the speed just measured, start-up", told)
    assert [line.split()[2:] for line in told.splitlines() if line.startswith("  --filters")] == [["you"]]
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_tells_the_settings_that_the_run_then_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--dry-run", "--json", "--quiet", *TYPED]) == 0
    found = json.loads(capsys.readouterr().out)
    run = train("digits", name="done", quiet=True, **SETTINGS)
    stored = json.loads((run.path / "config.json").read_text())
    values = {key: value for group in stored.values() if isinstance(group, dict) for key, value in group.items()}
    assert {key: entry["value"] for key, entry in found["settings"].items() if key in values} == values
    assert found["network"]["parameters"] == run.summary.parameters
    assert found["data"]["splits"] == {name: split.n for name, split in run.data.splits.items()}
    assert found["forecast"]["seconds"] > 0
    assert found["forecast"]["memory_bytes"][0] > 0


def test_each_setting_names_the_layer_that_decided_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("epochs = 3\nlr = 0.02\n")
    found = dry_run("digits", recipe="mine.toml", epochs=2, model="plain", filters=[4]).settings()
    told = {key: found[key]["from"] for key in ("epochs", "lr", "shift", "seed")}
    assert told == {"epochs": "you", "lr": "recipe mine.toml", "shift": "chosen for the data", "seed": "default"}


def test_a_budget_bounds_the_forecast() -> None:
    assert dry_run("digits", epochs=5000, minutes=0.5, model="plain", filters=[4]).seconds == 30


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--resume", "--name", "x"], "--resume"),
        (["--model", "no-such"], "no-such"),
        (["--name", "taken"], "taken"),
        (["--box-weight", "2"], "box_weight"),
    ],
)
def test_a_dry_run_refuses_what_training_refuses(
    arguments: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    assert main(["train", "digits", "--dry-run", *arguments]) == 2
    assert named in capsys.readouterr().err
