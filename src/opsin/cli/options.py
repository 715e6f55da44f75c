"""Options of the command line, made from the settings of a run: one field, one option, one line of help.

The settings' own classes have a default for every field; the command line must know what the user left out. So one
class is generated from all their fields, with documentation and types; whatever was not given is None.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from dataclasses import field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from opsin.config import GROUPS, AugmentConfig, DataConfig, FinetuneConfig, ModelConfig, TrainConfig, former_names
from opsin.data.readers.layouts import help_text

if TYPE_CHECKING:
    from opsin.models.wrappers.views import ViewName

PANELS: dict[type[Any], str] = {
    DataConfig: "Data",
    ModelConfig: "Network",
    AugmentConfig: "Augmentation",
    TrainConfig: "Training",
    FinetuneConfig: "Transfer learning",
}
"""Under which heading `--help` lists the options of each group of settings."""
FIELD = re.compile(r"^(\w+)\n((?:    .+(?:\n|$))+)", re.MULTILINE)
"""A field and its description, of one line or more, in the docstring of a group of settings."""


def _numbers(kind: type, tokens: typing.Sequence[Any]) -> tuple[int, ...]:
    """`16,32` or `16 32` as numbers."""
    return tuple(_whole(part) for token in tokens for part in token.value.split(",") if part)


def _one_number(kind: type, tokens: typing.Sequence[Any]) -> int:
    return _whole(tokens[0].value)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'"{text}" is not a whole number.') from None


def _as_typed(kind: type, tokens: typing.Sequence[Any]) -> str:
    return str(tokens[0].value)


UNCHECKED = Parameter(n_tokens=1, converter=_as_typed)
"""Marks a choice that the config checks, since it knows former names; cyclopts would suggest the closest one."""
WHOLE = Parameter(n_tokens=1, converter=_one_number)
"""Marks an option that is a whole number: by default cyclopts would round `1.5`."""


def _optional(*kinds: type[Any], without: str = "") -> type[Any]:
    """One class of the fields of all `kinds`, each None unless given; `--help` lists each kind under its heading.

    `without`: a setting for which the verb has its own option.
    """
    members: list[tuple[str, Any, Any]] = []
    for order, kind in enumerate(kinds):
        what, _, fields = inspect.cleandoc(kind.__doc__ or "").partition("\n\nParameters\n----------\n")
        described = {name: " ".join(text.split()) for name, text in FIELD.findall(fields)}
        panel = Group(PANELS[kind], help=what, sort_key=order)
        hints = typing.get_type_hints(kind)
        for f in (f for f in dataclasses.fields(kind) if f.name != without):
            about = Parameter(group=panel, help=described[f.name])
            members.append((f.name, Annotated[_option_type(hints[f.name], f), about], field(default=None)))
    made = make_dataclass("Settings", members, frozen=True, kw_only=True)
    made.__module__ = __name__  # cyclopts treats classes of the module `types` as builtins
    return made


def _option_type(hint: Any, of: dataclasses.Field[Any]) -> Any:
    bare = _without_none(hint)
    if former_names(of):
        return Annotated[bare | None, UNCHECKED]
    if typing.get_origin(bare) is tuple:
        return Annotated[tuple[int, ...] | None, Parameter(n_tokens=1, converter=_numbers)]
    if bare is int:
        return Annotated[int | None, WHOLE]
    return bare | None


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(argument for argument in typing.get_args(hint) if argument is not type(None))
    return hint


DataOptions = _optional(DataConfig)
ModelOptions = _optional(ModelConfig)
AugmentOptions = _optional(AugmentConfig)
Settings = _optional(*GROUPS.values())
NONE_GIVEN = Settings()
SettingsButMinutes = _optional(*GROUPS.values(), without="minutes")
NO_SETTINGS_BUT_MINUTES = SettingsButMinutes()
FLAT = Parameter(name="*")
"""Marks a group whose fields are options of the verb itself."""


def given(*groups: Any) -> dict[str, Any]:
    """The settings that the user gave, as one flat layer for `opsin.config.resolve`."""
    values = (vars(group) for group in groups if group is not None)
    return {key: value for group in values for key, value in group.items() if value is not None}


DataArgument = Annotated[
    str,
    Parameter(
        help="Catalogue name (`opsin data list`), or path in one of these layouts (`opsin data layouts`). "
        + help_text()
    ),
]
JsonFlag = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one JSON document on stdout, everything else on stderr.")
]
QuietFlag = Annotated[bool, Parameter(name="--quiet", negative="", help="No progress and no messages.")]
SeedOption = Annotated[int, WHOLE, Parameter(name="--seed", help="Accepted by every verb; nothing is random here.")]
OutOption = Annotated[str, Parameter(name=("--runs", "--out"), help="Folder of runs; --out is its older spelling.")]
"""Verbs that write a file take `--out FILE`; those that read or make runs take `--runs DIR`."""
StudyName = Annotated[
    str | None,
    Parameter(name="--name", help="Name of the study; an existing study with the same settings continues."),
]
RecipeOption = Annotated[
    str | None, Parameter(name="--recipe", help="Settings from a TOML file, or a built-in recipe by name.")
]
RootOption = Annotated[
    str | None, Parameter(name="--root", help="Folder of the catalogue's data sets [env: OPSIN_DATA].")
]
TaskOption = Annotated[
    str | None,
    Parameter(name="--task", help="Task, where the data fits several."),
]
TtaOption = Annotated[
    str | None,
    Parameter(
        name="--tta",
        help="Test-time augmentation: average the predictions over several views of each image: flip, shift, scale, or "
        "several, e.g. flip,scale.",
    ),
]
DeviceOption = Annotated[str, Parameter(name="--device", help="Device: auto (the fastest), cpu, cuda or mps.")]
SplitOption = Literal["train", "val", "test"]


def views_of(typed: str | None) -> tuple[ViewName, ...]:
    """The views that `--tta` names; none where it was left out.

    Raises:
        ConfigError: no such view, or one twice.
    """
    if typed is None:
        return ()
    from opsin.models.wrappers.views import (
        check_views,  # here, because a command without views need not import torch
    )

    return check_views([name.strip() for name in typed.split(",")])
