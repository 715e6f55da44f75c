"""Frozen configs from plain values and back, with every key, type and range checked."""

from __future__ import annotations

import json
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from dataclasses import Field, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar

from opsin.errors import ConfigError, nearest

T = TypeVar("T")
FORMER = "former names"
"""Key of a field's metadata."""


def require(holds: bool, name: str, got: object, expected: str) -> None:
    """Refuse a setting that is out of range.

    Raises:
        ConfigError: `holds` is false.
    """
    if not holds or (isinstance(got, float) and not math.isfinite(got)):
        raise ConfigError(f"setting `{name}` is out of range", got=got, expected=expected)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values; tuples become lists."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


def former(**names: str) -> dict[str, dict[str, str]]:
    """Metadata of a field whose choices were renamed: a mapping of present to former name."""
    return {FORMER: names}


def former_names(of: Field[Any]) -> Mapping[str, str]:
    """The former names of a field's choices, and their present ones."""
    names: Mapping[str, str] = of.metadata.get(FORMER, {})
    return names


def with_present_names(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values of a config as it was stored, with renamed choices translated to their present names."""
    present = dict(values)
    hints = typing.get_type_hints(kind)
    for of in fields(kind):
        value = present.get(of.name)
        if is_dataclass(hints[of.name]) and isinstance(value, Mapping):
            present[of.name] = with_present_names(typing.cast("type[Any]", hints[of.name]), value)
        elif isinstance(value, str):
            present[of.name] = former_names(of).get(value, value)
    return present


def from_dict(kind: type[T], values: Mapping[str, Any], *, where: str = "config") -> T:
    """Build a frozen config from plain values.

    Raises:
        ConfigError: a key is unknown (the nearest valid one is named), a type is wrong or a value out of range.
    """
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            close = nearest(key, known)
            hint = f"did you mean `{close}`?" if close else f"valid names: {', '.join(known)}"
            raise ConfigError(f"unknown setting `{key}`", where=where, got=key, do=hint)
        if isinstance(value, str) and (present := former_names(known[key]).get(value)):
            do = f"write `{present}`, its present name"
            raise ConfigError("the choice was renamed", where=f"{where}.{key}", got=value, expected=present, do=do)
    return kind(**{key: _checked(hints[key], value, f"{where}.{key}") for key, value in values.items()})


def _checked(hint: Any, value: Any, where: str) -> Any:
    """`value` as the annotated type `hint`, or a ConfigError."""
    if is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(typing.cast("type[Any]", hint), value, where=where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _checked(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            close = nearest(value, [str(a) for a in arguments]) if isinstance(value, str) else None
            do = f"did you mean `{close}`?" if close else "choose one of these"
            got = value if isinstance(value, str) else reprlib.repr(value)
            raise ConfigError("setting has no such choice", where=where, got=got, expected=arguments, do=do)
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_checked(arguments[0], item, where) for item in value)
    if hint is Any:
        return value
    if origin is dict and isinstance(value, Mapping):
        return {key: _checked(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool) == isinstance(value, bool):
        return value
    expected = getattr(hint, "__name__", hint)
    raise ConfigError("setting has the wrong type", where=where, got=reprlib.repr(value), expected=expected)


def field_names(kind: type[Any]) -> list[str]:
    """Names of the fields of a config class, in order."""
    return [f.name for f in fields(kind)]
