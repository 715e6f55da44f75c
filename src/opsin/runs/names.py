"""Names of runs and where they lie."""

from __future__ import annotations

import re
from pathlib import Path

from opsin.errors import RunError, nearest
from opsin.io.temporary import is_temporary

RUNS_FOLDER = Path("runs")
LONGEST_STEM = 90
"""Characters of a stem, so that its number fits into the 100 of a name."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


def free_path(name: str, out: Path | str = RUNS_FOLDER) -> Path:
    """Where a new run of that name will lie.

    Raises:
        RunError: the name is taken, or is no plain file name.
    """
    if not _NAME.fullmatch(name):
        raise RunError("not a name for a run", got=name, expected="letters, digits and . _ + - (at most 100)")
    path = Path(out) / name
    if path.exists():
        do = "`--resume` goes on with it; another `--name` starts a new one"
        raise RunError("a run of this name exists; nothing was overwritten", where=path, do=do)
    return path


def next_name(stem: str, out: Path | str = RUNS_FOLDER) -> str:
    """`stem-1`, or the first number that is free in `out`; the stem is made into what a run may be called."""
    clean = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")[:LONGEST_STEM] or "run"
    number = 1
    while (Path(out) / f"{clean}-{number}").exists():
        number += 1
    return f"{clean}-{number}"


def list_runs(out: Path | str = RUNS_FOLDER) -> list[str]:
    """Names of the runs in `out`, oldest first; one whose making was interrupted is none."""
    folders = [p.parent for p in Path(out).glob("*/config.json") if not is_temporary(p.parent)]
    return [p.name for p in sorted(folders, key=lambda p: (p / "config.json").stat().st_mtime)]


def run_path(name: Path | str, out: Path | str = RUNS_FOLDER) -> Path:
    """Where the run lies that `name` means: a path, or a name in `out`. It may not be there."""
    path, inside = Path(name), Path(out) / name
    if (path / "config.json").is_file():
        return path
    # a bare name that is not there is looked for among the runs; a path is named as it was typed
    typed = path.exists() or (path.parent.name != "" and path.parent.is_dir())
    return path if typed and not inside.exists() else inside


def other_runs(path: Path) -> str:
    """What to do where no run is: runs inside the folder or beside it, the nearest name first."""
    if inside := list_runs(path):
        return f"this folder holds runs: take one of them, e.g. {path / inside[-1]}"
    names = list_runs(path.parent)
    if not names:
        return "`opsin train DATA` makes one"
    close = nearest(path.name, names)
    return f"did you mean `{close}`?" if close else f"runs there: {', '.join(names[-5:])}"
