"""Search spaces: parameters with ranges or choices, and the settings of each value."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opsin import config as settings_of
from opsin.config import DataConfig, RunConfig
from opsin.errors import ConfigError, nearest

Value = float | int | str
"""A number in a range, or the label of a choice."""
AS_GIVEN = "as given"
"""Label of the choice that leaves the settings unchanged."""
MEASURED_BY = frozenset(
    {*settings_of.field_names(DataConfig), "seed", "minutes", "threads", "device", "restore_best", "good_iou"}
) - {"input_size", "input_width", "fit", "normalize"}
"""Settings that define the meaning or cost of a score: a search over them would compare incomparable scores."""
RANGE_KEYS = ("low", "high", "log")


@dataclass(frozen=True, kw_only=True)
class Range:
    """A number from `low` to `high`; `log`: drawn by its logarithm; `whole`: integers."""

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False

    def settings(self, value: Value) -> dict[str, Any]:
        """The settings of `value`."""
        return {self.name: int(value) if self.whole else float(value)}

    def given(self, base: Mapping[str, Any]) -> Value | None:
        """The value that leaves `base` unchanged; None where the range has none."""
        value = base.get(self.name)
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        return value if inside else None


@dataclass(frozen=True, kw_only=True)
class Choices:
    """One of several groups of settings, by a label."""

    name: str
    choices: Mapping[str, Mapping[str, Any]]

    def settings(self, value: Value) -> dict[str, Any]:
        """The settings of `value`."""
        return dict(self.choices[str(value)])

    def given(self, base: Mapping[str, Any]) -> Value | None:
        """The label of the choice that leaves `base` unchanged; None where there is none."""
        for label, settings in self.choices.items():
            if all(_plain(base.get(key)) == _plain(value) for key, value in settings.items()):
                return label
        return None


Parameter = Range | Choices


def settings_for(space: Sequence[Parameter], values: Mapping[str, Value]) -> dict[str, Any]:
    """The settings of the values of a trial."""
    return {key: value for part in space for key, value in part.settings(values[part.name]).items()}


def given_values(space: Sequence[Parameter], base: Mapping[str, Any]) -> dict[str, Value]:
    """The values that leave `base` unchanged: the first trial."""
    values = {part.name: part.given(base) for part in space}
    return {name: value for name, value in values.items() if value is not None}


def with_given(space: Sequence[Parameter], base: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """The space, widened to include the given settings."""
    return tuple(_widened(part, base) for part in space)


def _widened(part: Parameter, base: Mapping[str, Any]) -> Parameter:
    if part.given(base) is not None:
        return part
    if isinstance(part, Choices):
        return Choices(name=part.name, choices={AS_GIVEN: {}, **part.choices})
    value = base.get(part.name)
    if not isinstance(value, int | float) or (part.log and value <= 0):
        raise ConfigError(
            f"the range of `{part.name}` cannot include its given value",
            got=value,
            expected="a number" + (" above 0, since the range is logarithmic" if part.log else ""),
            do="give choices, e.g. [0.0, 0.001, 0.01]",
        )
    low, high = min(part.low, float(value)), max(part.high, float(value))
    return Range(name=part.name, low=low, high=high, log=part.log, whole=part.whole)


def read_space(path: Path | str, config: RunConfig) -> tuple[Parameter, ...]:
    """The space in a TOML file: one setting per line, with its choices or range.

        lr = { low = 1e-4, high = 1e-1, log = true }
        batch_size = [50, 100, 200]
        filters = [[16, 32], [32, 64, 128]]

    Raises:
        ConfigError: no such file, invalid TOML, an unknown or unsearchable setting, or a value out of range.
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("no such space file", where=file, got=error.strerror) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError("the space is not valid TOML", where=file, got=str(error)) from error
    if not values:
        raise ConfigError("the space is empty", where=file, expected="a setting or more with choices or a range")
    return tuple(_parameter(name, value, config, where=str(file)) for name, value in values.items())


def _parameter(name: str, value: Any, config: RunConfig, *, where: str) -> Parameter:
    names = [key for key in settings_of.setting_names() if key not in MEASURED_BY]
    if name in MEASURED_BY:
        do = "leave it out: the meaning of a score must not change within a search"
        raise ConfigError(f"setting `{name}` cannot be searched", where=where, do=do)
    if name not in names:
        close = nearest(name, names)
        raise ConfigError(
            f"unknown setting `{name}`",
            where=where,
            do=f"did you mean `{close}`?" if close else "`opsin train --help` lists them",
        )
    if isinstance(value, list) and len(value) > 1:
        found: Parameter = Choices(name=name, choices={text_of_value(item): {name: item} for item in value})
        for item in value:
            check(config, {name: item}, where=where)
        return found
    if isinstance(value, dict) and set(value) <= set(RANGE_KEYS) and {"low", "high"} <= set(value):
        return _range(name, value, config, where=where)
    raise ConfigError(
        f"the space of `{name}` is invalid",
        where=where,
        got=value,
        expected="a list of two choices or more, or { low = …, high = …, log = true }",
    )


def _range(name: str, value: Mapping[str, Any], config: RunConfig, *, where: str) -> Range:
    low, high, log = value["low"], value["high"], value.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not low < high or not isinstance(log, bool) or (log and low <= 0):
        expected = "low below high, and above 0 where log = true"
        raise ConfigError(f"the range of `{name}` is invalid", where=where, got=dict(value), expected=expected)
    for end in (low, high):
        check(config, {name: end}, where=where)
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and not _takes_whole(config, name):
        whole = False
    return Range(name=name, low=low, high=high, log=log, whole=whole)


def _takes_whole(config: RunConfig, name: str) -> bool:
    """Whether a setting is a whole number: a float would be refused."""
    try:
        settings_of.resolve(settings_of.flat(config), {name: 1.5})
    except ConfigError:
        return True
    return False


def check(config: RunConfig, settings: Mapping[str, Any], *, where: str) -> None:
    """Refuse a value that is invalid for a run.

    Raises:
        ConfigError: it is of the wrong type or out of range.
    """
    try:
        settings_of.resolve(settings_of.flat(config), settings)
    except ConfigError as error:
        raise ConfigError(error.what, where=where, got=error.got, expected=error.expected, do=error.do) from error


def text_of_value(value: Any) -> str:
    """A setting's value as typed by a user.

    >>> text_of_value([32, 64]), text_of_value(0.1), text_of_value(True), text_of_value([])
    ('32,64', '0.1', 'true', 'none')
    """
    if isinstance(value, list | tuple):
        return ",".join(map(text_of_value, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and math.isfinite(value):
        return f"{value:.4g}"
    return "none" if value is None else str(value)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
