"""What a search may change: default spaces, spaces from a file, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opsin import config as settings_of
from opsin.errors import ConfigError
from opsin.models.registry import resolve_options
from opsin.studies.default_spaces import BUILDERS, Base, default_space, named_space
from opsin.studies.space import (
    Choices,
    Range,
    given_values,
    read_space,
    settings_for,
    with_given,
)
from opsin.training.setup.preparing import resolve_settings


def base_of(data: str = "digits", **settings: object) -> Base:
    resolved = resolve_settings(data, root=None, recipe=None, settings=settings)
    return Base(dataset=resolved.dataset, config=resolved.config)


def written(folder: Path, text: str) -> Path:
    path = folder / "space.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("data", "model"),
    [
        ("digits", "plain"),
        ("digits", "small"),
        ("digits", "resnet18"),
        ("digit_scenes", "tiny"),
        ("digit_masks", "unet"),
    ],
)
def test_every_default_space_holds_the_settings_as_they_are_and_only_valid_ones(data: str, model: str) -> None:
    base = base_of(data, model=model, **({"scenes": 300, "scene_digits": "digits"} if data == "digit_scenes" else {}))
    space = with_given(default_space(base), base.settings)
    first = given_values(space, base.settings)
    assert set(first) == {part.name for part in space}
    unchanged = settings_of.resolve(settings_of.flat(base.config), settings_for(space, first))
    assert resolve_options(model, unchanged.model, decoder=data == "digit_masks") == resolve_options(
        model, base.config.model, decoder=data == "digit_masks"
    )
    assert (unchanged.train, unchanged.augment) == (base.config.train, base.config.augment)
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = {part.name: drawn(part, generator) for part in space}
        config = settings_of.resolve(settings_of.flat(base.config), settings_for(space, values))
        resolve_options(model, config.model, decoder=data == "digit_masks")


def drawn(part: Choices | Range, generator: np.random.Generator) -> float | int | str:
    if isinstance(part, Choices):
        return str(generator.choice(list(part.choices)))
    return float(generator.uniform(part.low, part.high))


def test_digits_are_never_mirrored() -> None:
    (augment,) = named_space("augment", base_of("digits", model="plain"))
    assert isinstance(augment, Choices)
    assert {settings["flip"] for settings in augment.choices.values()} == {0.0}


def test_no_two_levels_of_augmentation_are_the_same() -> None:
    (augment,) = named_space("augment", base_of("digit_scenes", scenes=300, scene_digits="digits"))
    assert isinstance(augment, Choices)
    assert len({str(settings) for settings in augment.choices.values()}) == len(augment.choices)


def test_named_parameters_are_searched_alone() -> None:
    space = named_space("lr, filters,dropout", base_of("digits", model="plain"))
    assert [part.name for part in space] == ["lr", "filters", "conv_dropout", "dropout"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("lrr", "did you mean `lr`"),
        ("lr,lr", "named twice"),
        ("mask_loss", "does not apply here"),
        ("dense", "does not apply"),
    ],
)
def test_names_that_cannot_be_searched_are_refused(names: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        named_space(names, base_of("digits", model="small"))


def test_a_file_gives_ranges_and_choices(tmp_path: Path) -> None:
    text = "lr = { low = 1e-4, high = 0.1, log = true }\nepochs = { low = 2, high = 9 }\nfilters = [[8], [8, 16]]\n"
    space = read_space(written(tmp_path, text), base_of("digits", model="plain").config)
    assert space[:2] == (
        Range(name="lr", low=1e-4, high=0.1, log=True),
        Range(name="epochs", low=2, high=9, whole=True),
    )
    assert settings_for(space, {"lr": 0.01, "epochs": 3.0, "filters": "8,16"}) == {
        "lr": 0.01,
        "epochs": 3,
        "filters": [8, 16],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space is empty"),
        ("lr = [", "not valid TOML"),
        ("lrate = [0.1, 0.2]", "unknown setting"),
        ("lr = 0.1", "cannot be read"),
        ("lr = [0.1]", "cannot be read"),
        ("lr = { low = 0.1, high = 0.01 }", "range of `lr`"),
        ("lr = { low = 0.0, high = 0.01, log = true }", "range of `lr`"),
        ("dropout = [0.1, 1.5]", "out of range"),
        ("optimizer = ['sgd', 'adm']", "no such choice"),
        ("val_fraction = [0.1, 0.2]", "not searched"),
        ("seed = [0, 1]", "not searched"),
        ("subset = ['train=10', 'train=20']", "not searched"),
    ],
)
def test_spaces_that_cannot_be_searched_are_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        read_space(written(tmp_path, text), base_of("digits", model="plain").config)


def test_a_range_is_widened_to_hold_the_value_at_hand() -> None:
    (widened,) = with_given([Range(name="lr", low=0.1, high=1.0, log=True)], {"lr": 0.01})
    assert widened == Range(name="lr", low=0.01, high=1.0, log=True)
    with pytest.raises(ConfigError, match="cannot include"):
        with_given([Range(name="weight_decay", low=0.1, high=1.0, log=True)], {"weight_decay": 0.0})


def test_every_parameter_that_can_be_named_has_a_builder_that_answers() -> None:
    base = base_of("digits", model="plain")
    assert all(isinstance(build(base), list) for build in BUILDERS.values())
