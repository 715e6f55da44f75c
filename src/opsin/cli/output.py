"""Where results go: tables and lines on stdout, or the one document of `--json`; notes and errors on stderr.

Nothing else in the command line prints: names in data and models come from outside, and control characters in them are
escaped here.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opsin.text import printable_lines

if TYPE_CHECKING:
    from rich.console import Console

PIPED_COLUMNS = 200
"""Width of tables in a file or a pipe: names and descriptions are not cut."""


def stdout_console(*, highlight: bool = True, soft_wrap: bool = False) -> Console:
    """The console of a command's results, as wide as the terminal, or as COLUMNS says.

    Args:
        highlight: colour numbers and names.
        soft_wrap: let the terminal break long lines.
    """
    from opsin.console import SafeConsole  # here, because `--help` need not import it

    console = SafeConsole(highlight=highlight, soft_wrap=soft_wrap)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_COLUMNS
    return console


def print_line(text: object, *, flush: bool = False) -> None:
    """Print a line of a command's result on stdout; `flush` it at once where a reader of a pipe waits for it."""
    print(printable_lines(str(text)), flush=flush)


def print_note(text: object) -> None:
    """Print a line beside the result, on stderr."""
    print(printable_lines(str(text)), file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print one JSON document on stdout; undefined values (NaN) become null, as JSON has no NaN."""
    from opsin.io.files import as_json

    print(json.dumps(as_json(dict(document)), indent=2, allow_nan=False))


def typed_command() -> str:
    """The command as typed by the user."""
    return shlex.join(["opsin", *sys.argv[1:]])
