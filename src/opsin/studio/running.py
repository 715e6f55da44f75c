"""The studio as a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from opsin.data.catalogue import ENTRIES
from opsin.errors import DataError, nearest
from opsin.server.running import run_app
from opsin.studio.app import PAGES, make_app
from opsin.studio.guard import StudioGuard
from opsin.studio.state import Studio

STOP_S = 5
"""How long answers that are being given when the studio ends may take."""


def addresses() -> list[str]:
    """The addresses that the studio answers."""
    return [path for path, _ in PAGES]


def run(
    data: Sequence[str],
    *,
    host: str,
    port: int,
    token: str | None,
    runs: Path,
    folder: Path,
    labs: Path,
    root: str | None,
    started: Callable[[str], None],
) -> None:
    """Answer requests until Ctrl-C or SIGTERM.

    Args:
        data: catalogue names and paths.
        host, port: where; port 0 takes a free one.
        token: that a browser must show once; None makes one where other machines reach `host`.
        runs, folder, labs, root: as in `Studio`.
        started: is told the address, with the token, when requests are taken.

    Raises:
        DataError: a data set that is neither in the catalogue nor there.
        ConfigError: a token that is too short.
        RefusedError: the address cannot be taken.
    """
    for source in data:
        if source not in ENTRIES and not Path(source).exists():
            close = nearest(source, ENTRIES)
            do = f"did you mean `{close}`?" if close else "`opsin data list` shows the catalogue"
            raise DataError("no data set of this name, and no such file or folder", got=source, do=do)
    guard = StudioGuard(host, token)
    app = make_app(Studio(data=data, runs=runs, folder=folder, labs=labs, root=root), guard)
    shown = "" if guard.token is None else f"/?token={guard.token}"
    run_app(app, host=host, port=port, started=lambda address: started(address + shown), timeout_s=STOP_S)
