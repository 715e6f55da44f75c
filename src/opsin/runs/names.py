"""Names of runs and their folders."""

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
    """The path of a new run of that name.

    Raises:
        RunError: the name is taken, or is not a plain file name.
    """
    if not _NAME.fullmatch(name):
        raise RunError("invalid name of a run", got=name, expected="letters, digits and . _ + - (at most 100)")
    path = Path(out) / name
    if path.exists():
        do = "`--resume` continues it; another `--name` starts a new one"
        raise RunError("a run of this name exists already", where=path, do=do)
    return path


def next_name(stem: str, out: Path | str = RUNS_FOLDER) -> str:
    """`stem-1`, or the first number that is free in `out`; the stem is made into what a run may be called."""
    clean = re.sub(r"[^A-Za-z0-9._+-]+", "-", stem).strip("-._+")[:LONGEST_STEM] or "run"
    number = 1
    while (Path(out) / f"{clean}-{number}").exists():
        number += 1
    return f"{clean}-{number}"


def list_runs(out: Path | str = RUNS_FOLDER) -> list[str]:
    """Names of the runs in `out`, oldest first; incomplete ones are left out."""
    folders = [p.parent for p in Path(out).glob("*/config.json") if not is_temporary(p.parent)]
    return [p.name for p in sorted(folders, key=lambda p: (p / "config.json").stat().st_mtime)]


def run_path(name: Path | str, out: Path | str = RUNS_FOLDER) -> Path:
    """The path of the run `name`: a path, or a name in `out`. It may not exist."""
    path, inside = Path(name), Path(out) / name
    if (path / "config.json").is_file():
        return path
    # a missing bare name is looked up among the runs; a path is used as typed
    typed = path.exists() or (path.parent.name != "" and path.parent.is_dir())
    return path if typed and not inside.exists() else inside


def other_runs(path: Path) -> str:
    """Advice where there is no run: runs inside the folder or next to it, the closest name first."""
    if inside := list_runs(path):
        return f"this folder contains runs: name one of them, e.g. {path / inside[-1]}"
    names = list_runs(path.parent)
    if not names:
        return "`opsin train DATA` creates one"
    close = nearest(path.name, names)
    return f"did you mean `{close}`?" if close else f"runs there: {', '.join(names[-5:])}"
