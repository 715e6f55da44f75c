"""Records (frozen dataclasses) to plain JSON and back: the only place where the files of a run are parsed.

| in a record | in JSON |
|---|---|
| NaN, in a field of type `float` | null |
| None | no key; null where the field is `nullable` |
| tuple | list |
| `extra`, where a record has it | unknown keys, kept unchanged |

A record without `extra` refuses unknown keys. Invalid values are refused with file, field, got and expected.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from opsin.errors import RunError, nearest

T = TypeVar("T")
EXTRA = "extra"
LONGEST_SHOWN = 80
WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
"""Description of the expected plain value of each type."""


def nullable() -> Any:
    """A field whose None is written as null."""
    return field(default=None, metadata={"nullable": True})


def to_json(record: object) -> dict[str, Any]:
    """A record as plain JSON.

    Args:
        record: an instance of a dataclass.
    """
    plain: dict[str, Any] = {}
    for entry in fields(record):  # type: ignore[arg-type]
        value = getattr(record, entry.name)
        if entry.name != EXTRA and (value is not None or entry.metadata.get("nullable")):
            plain[entry.name] = plain_value(value)
    return plain | {key: plain_value(value) for key, value in getattr(record, EXTRA, {}).items()}


def plain_value(value: Any) -> Any:
    """Any value of a record as plain JSON."""
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if is_dataclass(value):
        return to_json(value)
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    return value


def from_json(kind: type[T], values: object, where: str) -> T:
    """The record that plain JSON holds: the inverse of `to_json`.

    Args:
        kind: the dataclass.
        values: the parsed JSON.
        where: file and field, for the message.

    Raises:
        RunError: the values do not form such a record.
    """
    if not isinstance(values, dict):
        raise damaged(where, values, "an object")
    hashable: Any = kind  # mypy does not treat `type[T]` as hashable
    types = _types(hashable)
    unknown = {key: value for key, value in values.items() if key not in types or key == EXTRA}
    if unknown and EXTRA not in types:
        raise _unknown(where, next(iter(unknown)), types)
    known = {key: _value(types[key], value, f"{where}: {key}") for key, value in values.items() if key not in unknown}
    if missing := [name for name in _required(hashable) if name not in known]:
        raise damaged(where, f"no `{missing[0]}`", f"the field `{missing[0]}`")
    return kind(**known, **({EXTRA: unknown} if unknown else {}))


def _value(kind: Any, value: Any, where: str) -> Any:
    """One value of the type that a field is annotated with."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind in (Any, object):
        return value
    if origin in (Union, UnionType):
        others = [part for part in parts if part is not NoneType]
        return None if value is None else _value(others[0], value, where)
    if origin is Literal:
        return _choice(parts, value, where)
    if origin is tuple:
        return _items(parts[0], value, where)
    if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return _mapping(parts[1], value, where)
    plain: type = kind
    return from_json(plain, value, where) if is_dataclass(plain) else _plain(plain, value, where)


def _plain(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        if value is None:
            return math.nan
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif type(value) is kind:
        return value
    raise damaged(where, value, WORDS.get(kind, kind.__name__))


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value not in choices:
        raise damaged(where, value, ", ".join(map(str, choices)))
    return value


def _items(kind: Any, value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise damaged(where, value, "a list")
    return tuple(_value(kind, item, f"{where}[{number}]") for number, item in enumerate(value))


def _mapping(kind: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise damaged(where, value, "an object")
    return {key: _value(kind, item, f"{where}: {key}") for key, item in value.items()}


def damaged(where: object, got: object, expected: str) -> RunError:
    """The error of an invalid value in a file of a run."""
    shown = got if isinstance(got, str) else repr(got)
    do = "restore the file from a copy, or train the run again"
    return RunError("a file of the run is damaged", where=where, got=shown[:LONGEST_SHOWN], expected=expected, do=do)


def _unknown(where: str, key: str, known: Mapping[str, Any]) -> RunError:
    close = nearest(key, known)
    do = f"did you mean `{close}`?" if close else "a newer Opsin may have written it: update this one"
    return RunError("an unknown key in a file of the run", where=where, got=key, expected=", ".join(known), do=do)


@cache
def _types(kind: Hashable) -> dict[str, Any]:
    """The fields of a dataclass with their types."""
    hints = get_type_hints(kind)
    return {entry.name: hints[entry.name] for entry in fields(kind)}  # type: ignore[arg-type]


@cache
def _required(kind: Hashable) -> tuple[str, ...]:
    """The fields of a dataclass that have no default."""
    entries = fields(kind)  # type: ignore[arg-type]
    return tuple(e.name for e in entries if e.default is MISSING and e.default_factory is MISSING)
