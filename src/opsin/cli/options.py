"""Options of the command line, made from the settings of a run: one field, one option, one line of help.

The settings' own classes have a default for every field; the command line must know what the user did not say. So one
class is made of all their fields, with their documentation and types, in which everything that was not given is None.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from dataclasses import field, make_dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from opsin.config import GROUPS, AugmentConfig, DataConfig, ModelConfig


def _numbers(kind: type, tokens: typing.Sequence[Any]) -> tuple[int, ...]:
    """`16,32` or `16 32` as numbers."""
    return tuple(_whole(part) for token in tokens for part in token.value.split(",") if part)


def _one_number(kind: type, tokens: typing.Sequence[Any]) -> int:
    return _whole(tokens[0].value)


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f'"{text}" is no whole number.') from None


WHOLE = Parameter(n_tokens=1, converter=_one_number)
"""Marks an option that is a whole number: by default cyclopts would round `1.5`."""


def _optional(*kinds: type[Any]) -> type[Any]:
    """One class of the fields of all `kinds`, each None unless given."""
    members = []
    for kind in kinds:
        hints = typing.get_type_hints(kind)
        members += [
            (f.name, _option_type(f.name, hints[f.name]), field(default=None)) for f in dataclasses.fields(kind)
        ]
    rule = "----------\n"
    documentation = "".join(inspect.cleandoc(kind.__doc__ or "").partition(rule)[2] + "\n" for kind in kinds)
    namespace = {"__doc__": f"Settings of a run.\n\nParameters\n{rule}{documentation}"}
    made = make_dataclass("Settings", members, frozen=True, kw_only=True, namespace=namespace)
    made.__module__ = __name__  # cyclopts takes a class of the module `types` for a builtin
    return made


def _option_type(name: str, hint: Any) -> Any:
    bare = _without_none(hint)
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
FLAT = Parameter(name="*")
"""Marks a group whose fields are options of the verb itself."""


def given(*groups: Any) -> dict[str, Any]:
    """The settings that the user gave, as one flat layer for `opsin.config.resolve`."""
    values = (vars(group) for group in groups if group is not None)
    return {key: value for group in values for key, value in group.items() if value is not None}


JsonFlag = Annotated[
    bool, Parameter(name="--json", negative="", help="One JSON document on stdout, nothing else there.")
]
QuietFlag = Annotated[bool, Parameter(name="--quiet", negative="", help="No progress and no messages.")]
SeedOption = Annotated[
    int, WHOLE, Parameter(name="--seed", help="Taken by every verb; nothing is drawn at random here.")
]
OutOption = Annotated[str, Parameter(name="--out", help="Folder of runs.")]
RecipeOption = Annotated[
    str | None, Parameter(name="--recipe", help="Settings from a TOML file, or a recipe of ours by name.")
]
RootOption = Annotated[str | None, Parameter(name="--root", help="Folder where catalogue sets lie [env: OPSIN_DATA].")]
TaskOption = Annotated[
    Literal["classify", "localize", "segment"] | None,
    Parameter(name="--task", help="What the data is used for, where it fits several tasks."),
]
SplitOption = Literal["train", "val", "test"]
