"""What a training was asked for: one record from the command line and the Python API down to the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from opsin.runs.names import RUNS_FOLDER

if TYPE_CHECKING:
    from opsin.data.samples import Dataset
    from opsin.training.engine.hooks import Callback

    Data: TypeAlias = Dataset | str | Path | Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The arguments of `opsin.train` besides the data; they are described there.

    `settings`: fields of the groups in `opsin.config`, and user-defined parts.
    """

    root: Path | str | None = None
    recipe: str | None = None
    name: str | None = None
    out: Path | str = RUNS_FOLDER
    resume: bool = False
    open_test: bool = False
    quiet: bool = False
    command: str = "opsin.train(...)"
    began: float | None = None
    callbacks: Sequence[Callback] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Request:
        """From keywords: those that are no field are settings.

        >>> Request.of({"name": "a", "epochs": 3}).settings
        {'epochs': 3}
        """
        own = {item.name for item in fields(cls)} - {"settings"}
        settings = {name: value for name, value in given.items() if name not in own}
        return cls(**{name: value for name, value in given.items() if name in own}, settings=settings)
