"""`opsin data cache`: list the cache and remove entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line, stdout_console
from opsin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsin.data.cache import CacheEntry

app = cyclopts.App(name="cache", help="List the entries of the cache of decoded images, or remove them.")


@app.command(name="list")
def list_entries(*, json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0) -> int:
    """List the entries of the cache: size, age and data."""
    from opsin.data.cache import cache_entries
    from opsin.data.pack import default_cache

    entries = cache_entries()
    if json_:
        total = sum(entry.size_bytes for entry in entries)
        found = {"cache": str(default_cache()), "bytes": total, "entries": [entry.to_json() for entry in entries]}
        print_json(found)
    else:
        _print(entries, f"{default_cache()}: {_size(entries)} in {_count(entries)}")
    return 0


@app.command
def prune(
    *,
    older_than: Annotated[
        float | None, Parameter(help="Remove entries last written more than this many days ago.")
    ] = None,
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Remove every entry.")] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Remove entries of the cache, and files that killed processes left in it; entries being written are kept."""
    from opsin.data.cache import prune_cache

    if all_ == (older_than is not None) or (older_than is not None and not 0 <= older_than < float("inf")):
        got = "both" if all_ and older_than is not None else older_than
        raise ConfigError("nothing to prune was named", got=got, expected="--all, or --older-than DAYS (0 or more)")
    removed = prune_cache(older_than_days=older_than or 0.0)
    if json_:
        total = sum(entry.size_bytes for entry in removed)
        print_json({"bytes": total, "removed": [entry.to_json() for entry in removed]})
    elif not quiet:
        print_line(f"removed {_size(removed)} in {_count(removed)}")
    return 0


def _size(entries: Sequence[CacheEntry]) -> str:
    return f"{sum(entry.size_bytes for entry in entries) / 2**20:,.1f} MiB"


def _count(entries: Sequence[CacheEntry]) -> str:
    return f"{len(entries):,} entr{'y' if len(entries) == 1 else 'ies'}"


def _print(entries: Sequence[CacheEntry], title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for name in ("MiB", "days old"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("data")
    for entry in entries:
        table.add_row(f"{entry.size_bytes / 2**20:,.1f}", f"{entry.age_days:.1f}", entry.kind, Text(entry.about))
    stdout_console().print(table)
