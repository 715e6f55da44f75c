"""What `--help` says of defaults is what training takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from opsin.config import GROUPS, flat, resolve, setting_names
from opsin.data.load import load
from opsin.tasks.cards import built_in_names, part_of
from opsin.tasks.default_words import default_words
from opsin.training.setup.defaults import defaults_for


@pytest.mark.parametrize(("name", "task"), [("digits", "classify"), ("digit_masks", "segment")])
def test_the_defaults_that_are_shown_are_those_that_training_takes(name: str, task: str) -> None:
    shown = part_of(task, "defaults").shown_defaults()[name]
    taken = defaults_for(load(name))
    assert {key: taken[key] for key in shown} == shown


@pytest.mark.parametrize("task", built_in_names())
def test_every_task_shows_settings_that_there_are(task: str) -> None:
    kinds = part_of(task, "defaults").shown_defaults()
    assert kinds
    assert {key for settings in kinds.values() for key in settings} <= set(setting_names())


def test_one_value_for_all_data_is_told_alone_and_others_with_their_data() -> None:
    assert default_words("val_fraction", 0.1) == "0.1; 0.0833 for mnist; 0.05 for cifar10 and cifar100"
    assert default_words("patience", 0) == "0"
    assert default_words("minutes", None) == ""
    assert "7 for mnist" in default_words("epochs", 10)
    assert "10 to 100, by the number of images, for masks" in default_words("epochs", 10)


def test_a_kind_on_which_tasks_differ_names_the_task_that_is_unlike_the_others() -> None:
    assert "0.05 for small images (regress) and photos from scratch (regress)" in default_words("lr", 1e-3)


def test_the_help_of_train_shows_the_default_of_every_setting_that_has_one() -> None:
    script = "from opsin.cli import main; main(['train', '--help']); import sys; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    told = " ".join(done.stdout.replace("│", " ").split())
    plain = flat(resolve())
    usual = [name for kind in GROUPS.values() for name in vars(kind()) if plain[name] is not None]
    missing = [name for name in usual if default_words(name, plain[name])[:12] not in told]
    assert missing == []
    assert told.count("[default: ") >= len(usual)
