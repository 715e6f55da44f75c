from __future__ import annotations

import json
from pathlib import Path

import pytest

from opsin.config import (
    AugmentConfig,
    RunConfig,
    TrainConfig,
    flat,
    from_dict,
    from_stored,
    resolve,
    setting_names,
    to_dict,
)
from opsin.errors import ConfigError
from opsin.training.setup.defaults import read_recipe


def test_a_later_layer_wins_over_an_earlier_one() -> None:
    config = resolve({"epochs": 5, "flip": 0.5}, {"epochs": 7})
    assert (config.train.epochs, config.augment.flip) == (7, 0.5)


def test_a_config_survives_json_and_back() -> None:
    config = resolve({"filters": [16, 32], "minutes": 2, "subset": "train=10", "source": "digits"})
    assert from_dict(RunConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert resolve(flat(config)) == config


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"epoch": 3}, "epochs"),
        ({"batchsize": 3}, "batch_size"),
        ({"optimizer": "adamx"}, "adam"),
        ({"model.__class__": "os.system"}, "model"),
    ],
)
def test_what_is_unknown_is_refused_with_the_nearest_valid_name(settings: dict[str, object], hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(settings)
    assert hint in str(caught.value) or "--help" in str(caught.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": "3"},
        {"epochs": 3.5},
        {"epochs": True},
        {"tensorboard": 1},
        {"filters": "16"},
        {"filters": ["16"]},
        {"lr": None},
    ],
)
def test_a_value_of_the_wrong_type_is_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="wrong type"):
        resolve(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"lr": 0.0}, {"lr": float("nan")}, {"lr": float("inf")}, {"epochs": 0}, {"val_fraction": 1.0}, {"flip": 1.5},
        {"rotate": -1.0}, {"momentum": 1.0}, {"dropout": 1.0}, {"filters": [0]}, {"kernel_size": 2}, {"crop_area": 0.0},
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_with_what_is_expected(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="out of range") as caught:
        resolve(settings)
    assert caught.value.expected


def test_setting_names_are_unique_over_the_groups() -> None:
    names = setting_names()
    assert len(names) == len(set(names))


def test_a_former_name_of_a_choice_is_refused_with_its_present_name() -> None:
    with pytest.raises(ConfigError, match="was renamed") as refused:
        resolve({"policy": "randaugment"})
    assert "`random_ops`" in str(refused.value)
    assert "settings.augment.policy" in str(refused.value)


def test_a_former_name_in_the_config_of_a_run_is_read_as_its_present_name(tmp_path: Path) -> None:
    stored = to_dict(RunConfig())
    stored["augment"] |= {"policy": "randaugment", "policy_strength": 0.5}
    assert from_stored(stored, where="config.json").augment == AugmentConfig(policy="random_ops", policy_strength=0.5)
    recipe = tmp_path / "config.json"
    recipe.write_text(json.dumps(stored))
    assert read_recipe(str(recipe))["policy"] == "random_ops"
    assert stored["augment"]["policy"] == "randaugment"


@pytest.mark.parametrize("stored", [{"augment": "randaugment"}, {"augment": {"policy": 3}}, {"augmentation": {}}])
def test_a_stored_config_that_is_none_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        from_stored(stored, where="config.json")


def test_a_policy_that_is_none_is_refused_where_a_config_is_made() -> None:
    with pytest.raises(ConfigError, match="policy"):
        AugmentConfig(policy="randaugment")  # type: ignore[arg-type]


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TrainConfig().epochs = 3  # type: ignore[misc]


def test_augmentation_is_off_by_default() -> None:
    assert AugmentConfig(crop_area=1.0) == AugmentConfig()
    assert not any(
        value for name, value in to_dict(AugmentConfig()).items()
        if name not in ("shift_fill", "crop_area", "policy", "policy_ops", "policy_strength")
    )  # fmt: skip


def test_an_input_size_alone_means_a_square_whatever_width_an_earlier_layer_had() -> None:
    photos = {"input_size": 112, "input_width": 176}
    assert resolve(photos, {"input_size": 64}).data.input_width is None
    assert resolve(photos, {"input_size": 64, "input_width": 96}).data.input_width == 96
    assert resolve(photos, {"epochs": 2}).data.input_width == 176


def test_the_resolutions_of_an_input_size_go_with_it():
    photos = {"input_size": 96, "resolutions": (64, 96)}
    assert resolve(photos, {"input_size": 128}).train.resolutions is None
    assert resolve(photos, {"input_size": 128, "resolutions": (96, 128)}).train.resolutions == (96, 128)
    assert resolve(photos, {"epochs": 2}).train.resolutions == (64, 96)


@pytest.mark.parametrize(
    "text", ["epochs = " + "[" * 5000 + "]" * 5000, "[epochs" + ".a" * 5000 + "]\nx = 1", "a.a" * 9]
)
def test_a_recipe_that_is_nested_deep_is_refused(text: str, tmp_path: Path) -> None:
    recipe = tmp_path / "deep.toml"
    recipe.write_text(text)
    with pytest.raises(ConfigError) as refused:
        resolve(read_recipe(str(recipe)))
    assert len(str(refused.value)) < 2000


def test_a_nested_value_is_refused_for_every_kind_of_setting() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    for name in ("epochs", "optimizer", "filters", "model", "flip"):
        with pytest.raises(ConfigError):
            resolve({name: deep})
