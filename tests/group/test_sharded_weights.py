"""Weights divided among processes are trained as whole ones are, and whole in checkpoints and artefacts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import group_jobs
import numpy as np
import pytest
from group_workers import Workers
from safetensors.numpy import load_file
from test_group_training import ROUNDING, difference, weights

from opsin.config import resolve
from opsin.errors import ConfigError
from opsin.group import ALONE, Group
from opsin.runs import Run
from opsin.training.engine.shards import is_sharded

SHARDED = {"shard_weights": True, "channels_last": None, "precision": "auto"}
MASKS: dict[str, Any] = {
    "model": "tiny",
    "filters": None,
    "dense": None,
    "batch_norm": None,
    "subset": "train=41,val=21",
    "batch_size": 16,
    "epochs": 1,
    "optimizer": "muon",
    "lr": 0.01,
    "ema": 0.9,
    "clip": 0.5,
    "l2": 1e-4,
    "checkpoint_activations": True,
    "accumulate": 2,
}


def checkpoint(run: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what the last checkpoint holds."""
    folder = Path(run) / "checkpoints"
    tensors = load_file(folder / (folder / "LAST").read_text() / "tensors.safetensors")
    return {key: value.shape for key, value in tensors.items()}


@pytest.mark.parametrize(
    ("source", "settings"), [("digits", {}), ("digits", {"optimizer": "adamw", "lr": 0.001}), ("digit_masks", MASKS)]
)
def test_divided_weights_are_trained_as_whole_ones(
    source: str, settings: dict[str, Any], workers: Workers, tmp_path: Path
) -> None:
    whole = workers.run(2, group_jobs.trained, source, tmp_path, "whole", settings)[0]
    divided = workers.run(2, group_jobs.trained, source, tmp_path, "divided", settings | SHARDED)[0]
    assert Run(divided).log.epochs[-1].val == pytest.approx(Run(whole).log.epochs[-1].val, rel=1e-3, abs=1e-4)
    assert difference(whole, divided) < 100 * ROUNDING
    assert checkpoint(divided) == checkpoint(whole)


def test_a_process_holds_its_part_of_the_weights(workers: Workers) -> None:
    held, count, left = zip(*workers.run(3, group_jobs.parts_held), strict=True)
    assert sum(held) == count[0]
    assert max(held) < 0.36 * count[0]
    assert not any(left)


def test_divided_weights_go_on_from_a_checkpoint_with_the_bits_of_an_unbroken_run(
    workers: Workers, tmp_path: Path
) -> None:
    settings = SHARDED | {"ema": 0.9}
    whole = workers.run(2, group_jobs.trained, "digits", tmp_path, "unbroken", settings)[0]
    workers.run(2, group_jobs.terminated, "digits", tmp_path, "broken", settings, 5)
    again = workers.run(2, group_jobs.trained, "digits", tmp_path, "broken", settings | {"resume": True})[0]
    assert difference(whole, again) == 0


def test_divided_weights_go_on_in_one_process(workers: Workers, tmp_path: Path) -> None:
    workers.run(2, group_jobs.terminated, "digits", tmp_path, "broken", SHARDED, 5)
    resumed = workers.run(1, group_jobs.trained, "digits", tmp_path, "broken", SHARDED | {"resume": True})[0]
    # one process would choose its precision by timing: on a busy machine bfloat16
    whole = workers.run(1, group_jobs.trained, "digits", tmp_path, "whole", SHARDED | {"precision": "float32"})[0]
    assert difference(whole, resumed) < ROUNDING


def test_divided_weights_are_frozen_as_whole_ones(lone: Path, workers: Workers, tmp_path: Path) -> None:
    settings = {"weights": str(lone), "finetune": "top:1", "head_start": False, "epochs": 1}
    whole = workers.run(2, group_jobs.trained, "digits", tmp_path, "whole", settings)[0]
    divided = workers.run(2, group_jobs.trained, "digits", tmp_path, "divided", settings | SHARDED)[0]
    assert difference(whole, divided) < ROUNDING
    first = "backbone.blocks.0.conv.weight"
    assert np.array_equal(weights(divided)[first], weights(lone)[first])
    assert not np.array_equal(weights(divided)["heads.logits.weight"], weights(lone)["heads.logits.weight"])


@pytest.mark.parametrize("settings", [{"compile": True}, {"finetune": "gradual"}, {"finetune": "staged"}])
def test_what_divided_weights_cannot_do_is_refused(settings: dict[str, Any]) -> None:
    config, pair = resolve({"shard_weights": True} | settings), Group(rank=1, size=2)
    with pytest.raises(ConfigError, match="divided weights"):
        is_sharded(config, pair)
    assert not is_sharded(config, ALONE)
    assert is_sharded(resolve({"shard_weights": True}), pair)


def test_a_refused_run_leaves_nothing(workers: Workers, tmp_path: Path) -> None:
    answers = workers.run(2, group_jobs.trained, "digits", tmp_path, "refused", SHARDED | {"compile": True})
    assert answers[0].startswith("ConfigError: divided weights")
    assert not (tmp_path / "refused").exists()
