"""Changes of an ablation: what is dropped and swapped, and what is refused."""

from __future__ import annotations

import pytest

from opsin.config import RunConfig, resolve
from opsin.errors import ConfigError
from opsin.studies.changes import OFF, parse_drops, parse_swaps, together
from opsin.training.setup.defaults import OPTIMIZERS

BASE: RunConfig = resolve(
    {"model": "plain", "filters": [8], "shift": 2, "flip": 0.5, "ema": 0.99, "dropout": 0.2, "schedule": "one-cycle"}
)


def test_dropping_augmentation_switches_all_of_it_off() -> None:
    (change,) = parse_drops(["augment"], BASE)
    assert resolve({"shift": 2, "flip": 0.5, "mixup": 0.2}, change.settings).augment == RunConfig().augment


def test_every_part_that_can_be_dropped_has_a_valid_value_when_off() -> None:
    for name, value in OFF.items():
        resolve({name: value})


def test_parts_are_named_with_commas_and_hyphens() -> None:
    assert [change.name for change in parse_drops(["augment,ema", "batch-norm"], BASE)] == [
        "no augment",
        "no ema",
        "no batch_norm",
    ]


def test_an_optimizer_brings_the_rate_that_it_is_used_with_unless_one_is_given() -> None:
    plain, own = parse_swaps(["optimizer=sgd", "optimizer=sgd+lr=0.2"], BASE)
    assert plain.settings == {"optimizer": "sgd", **OPTIMIZERS["sgd"]}
    assert own.settings == plain.settings | {"lr": 0.2}


def test_another_network_leaves_the_knobs_of_this_one_behind() -> None:
    (change,) = parse_swaps(["model=small"], BASE)
    assert change.settings["model"] == "small"
    assert change.settings["filters"] is None


def test_all_together_is_the_sum_of_the_changes() -> None:
    changes = [*parse_drops(["ema"], BASE), *parse_swaps(["filters=16,32", "lr=0.1"], BASE)]
    assert together(changes).settings == {"ema": 0.0, "filters": [16, 32], "lr": 0.1}


@pytest.mark.parametrize(
    ("text", "message"),
    [("agument", "did you mean `augment`"), ("clip", "off already"), ("skips", "has no `skips`")],
)
def test_drops_without_a_meaning_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_drops([text], BASE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optimizer", "cannot be read"),
        ("optimiser=sgd", "did you mean `optimizer`"),
        ("optimizer=sgdd", "no such choice"),
        ("lr=-1", "out of range"),
        ("epochs=1.5", "wrong type"),
        ("schedule=one-cycle", "changes nothing"),
        ("split_seed=3", "cannot be swapped"),
        ("seed=3", "cannot be swapped"),
        ("skips=false", "has no `skips`"),
    ],
)
def test_swaps_without_a_meaning_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_swaps([text], BASE)
