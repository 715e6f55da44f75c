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
from dataclasses import dataclass, field, make_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from opsin.cli.output import typed_command
from opsin.config import GROUPS, AugmentConfig, DataConfig, FinetuneConfig, ModelConfig, TrainConfig, former_names
from opsin.config.data import OF_DATA
from opsin.data.readers.layouts import help_text
from opsin.tasks.default_words import default_words

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


def _texts(kind: type, tokens: typing.Sequence[Any]) -> tuple[str, ...]:
    """`age,height` as names."""
    return tuple(part for token in tokens for part in token.value.split(",") if part)


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


def optional(*kinds: type[Any], without: str = "") -> type[Any]:
    """One class of the fields of all `kinds`, each None unless given; `--help` lists each kind under its heading.

    `without`: a setting for which the verb has its own option.
    """
    members = [
        (name, option, field(default=None)) for kind in kinds for name, option in OPTIONS[kind] if name != without
    ]
    made = make_dataclass("Settings", members, frozen=True, kw_only=True)
    made.__module__ = __name__  # cyclopts treats classes of the module `types` as builtins
    return made


def _options(kind: type[Any]) -> tuple[tuple[str, Any], ...]:
    """The fields of a group of settings by name, as annotated types of options."""
    what, _, fields = inspect.cleandoc(kind.__doc__ or "").partition("\n\nParameters\n----------\n")
    described = {name: " ".join(text.split()) for name, text in FIELD.findall(fields)}
    panel = Group(PANELS[kind], help=what, sort_key=list(PANELS).index(kind))
    hints = typing.get_type_hints(kind)
    return tuple(
        (
            f.name,
            Annotated[_option_type(hints[f.name], f), Parameter(group=panel, help=_with_default(described[f.name], f))],
        )
        for f in dataclasses.fields(kind)
    )


def _with_default(description: str, of: dataclasses.Field[Any]) -> str:
    """The description of a setting with what it is where nobody says it."""
    plain = None if of.default is dataclasses.MISSING or OF_DATA in of.metadata else of.default
    words = default_words(of.name, plain)
    return f"{description} [default: {words}]" if words else description


def _option_type(hint: object, of: dataclasses.Field[Any]) -> Any:
    bare = _without_none(hint)
    if former_names(of):
        return Annotated[bare | None, UNCHECKED]
    if typing.get_origin(bare) is tuple:
        return _tuple_option(typing.get_args(bare)[0])
    if bare is int:
        return Annotated[int | None, WHOLE]
    return bare | None


def _tuple_option(member: type) -> Any:
    if member is str:
        return Annotated[tuple[str, ...] | None, Parameter(n_tokens=1, converter=_texts)]
    return Annotated[tuple[int, ...] | None, Parameter(n_tokens=1, converter=_numbers)]


def _without_none(hint: object) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return next(argument for argument in typing.get_args(hint) if argument is not type(None))
    return hint


OPTIONS = {kind: _options(kind) for kind in PANELS}
"""Names and annotated types of the options of each group, made once."""
DataOptions = optional(DataConfig)
ModelOptions = optional(ModelConfig)
AugmentOptions = optional(AugmentConfig)
Settings = optional(*GROUPS.values())
NONE_GIVEN = Settings()
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


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """What every verb takes that makes many runs for one question."""

    root: RootOption = None
    task: TaskOption = None
    recipe: RecipeOption = None
    name: StudyName = None
    json_: JsonFlag = False
    quiet: QuietFlag = False

    def call(self, settings: Any) -> dict[str, Any]:
        """Arguments of the study's function, the given `settings` of its runs among them."""
        own = {"root": self.root, "recipe": self.recipe, "name": self.name, "quiet": self.quiet}
        return own | {"command": typed_command()} | ({"task": self.task} if self.task else {}) | given(settings)


PLAIN_STUDY = StudyOptions()
TtaOption = Annotated[
    str | None,
    Parameter(
        name="--tta",
        help="Test-time augmentation: average the predictions over several views of each image: flip, shift, scale, "
        "turn (by quarters), or several, e.g. flip,scale.",
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
