"""Where results go: tables on stdout, or the one document of `--json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

PIPED_COLUMNS = 200
"""Width of tables in a file or a pipe, which have none of their own: names and descriptions stay whole."""


def stdout_console(*, highlight: bool = True, soft_wrap: bool = False) -> Console:
    """The console of a command's results, as wide as the terminal, or as COLUMNS says.

    Args:
        highlight: colour numbers and names.
        soft_wrap: let the terminal break long lines.
    """
    from rich.console import Console  # here, because `--help` should not wait for it

    console = Console(highlight=highlight, soft_wrap=soft_wrap)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_COLUMNS
    return console


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout; what is undefined (NaN) is null there, which every reader of JSON knows."""
    from opsin.io.files import without_nan

    print(json.dumps(without_nan(dict(document)), indent=2, allow_nan=False))
