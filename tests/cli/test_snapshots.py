"""The texts of the command line, compared with kept files, so that they are read whenever they change.

`snapshots/help/VERB.txt`: our own texts of a help page (docstring; names, help and defaults of options), as cyclopts
resolves them, wrapped at 100 columns here, since the page's layout belongs to cyclopts and rich. `messages.txt` and
`refusals.txt`: what commands print, with numbers as #, durations as # s, and without the frames of tables.

Write them again, and read the diff:  OPSIN_WRITE_SNAPSHOTS=1 pytest tests/cli/test_snapshots.py
"""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cyclopts
import numpy as np
import pytest

from opsin import progress
from opsin.cli import VERBS, app, main
from opsin.io.files import write_atomically
from opsin.io.images import encode_png

SNAPSHOTS = Path(__file__).parent / "snapshots"
WRITE = "OPSIN_WRITE_SNAPSHOTS"
WIDTH = 100
NUMBER = re.compile(r"(?<![\w.])[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
DURATION = re.compile(r"(?:# h )?(?:# min )?# (?:s|min|h|ms)\b")
SIZE = re.compile(r"# (?:B|KB|MB|GB)\b")
FRAMES = re.compile(r"[─-╿▀-▟]+")

QUICK = "--epochs 3 --filters 8 --subset train=600 --batch-size 25 --threads 1 --device cpu"
PLAIN = "--model plain --precision float32 --channels-last --no-preflight"
MESSAGES = (
    f"train digits --name quick {QUICK} {PLAIN}",
    f"train digits --name other --seed 1 --quiet {QUICK} {PLAIN}",
    "train digits --name quick --resume",
    "evaluate quick",
    "evaluate quick --split test",
    "predict quick digit.png",
    "predict quick digit.png broken.png",
    "report quick",
    "compare quick other",
    "convert quick --fully-convolutional --name any-size",
    "explain quick --method filters",
    "models lenet5",
    "plan lenet5 --no-time --batch 32",
    "kernels --kernel sobel-x",
    "data show digits",
    "data audit digits",
    "find-lr digits --steps 6 --quiet --model plain --filters 8 --threads 1",
    "lab list",
    "lab show convolution",
)
"""Commands that succeed, in this order: later ones read what earlier ones have made."""
REFUSALS = (
    "train nowhere",
    "train mnist",
    "train digits --epochs 0",
    "train digits --model plian",
    "train digits --model lenet5 --filters 8",
    "train digits --weights-range unit",
    "train digits --recipe nothing",
    "train digits --task segment",
    "train digits --resume",
    "train digits --name quick",
    "train digits --name quick --resume --lr 1",
    "evaluate missing",
    "evaluate quick --good-iou 0.5",
    "predict missing digit.png",
    "predict quick",
    "predict quick nothing.png",
    "predict quick broken.png --strict",
    "predict quick digit.png --tile 64",
    "predict quick digit.png --masks masks",
    "predict quick digit.png --abstain 0.00001",
    "report missing",
    "compare quick",
    "ensemble quick",
    "convert quick",
    "explain quick --layer nothing digit.png",
    "models plian",
    "models --filters 8",
    "plan lenet5 --fit",
    "plan lenet5 --memory much",
    "kernels --kernel round",
    "data show nothing",
    "data fetch mnits --root .",
    "data cache prune",
    "ablate digits",
    "ablate digits --swap optimizer",
    "cv digits --folds 1",
    "tune digits --trials 0",
    "serve quick --host 0.0.0.0",
    "lab run nothing",
)


def check(file: Path, found: str) -> None:
    """Compare with the kept text, or write it where that is asked for."""
    if os.environ.get(WRITE):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found, encoding="utf-8")
        return
    kept = file.read_text(encoding="utf-8") if file.is_file() else ""
    diff = difflib.unified_diff(kept.splitlines(), found.splitlines(), f"{file.name}, kept", "now", lineterm="")
    assert found == kept, "\n".join([*diff, f"if this is meant: {WRITE}=1 pytest {Path(__file__).name}"])


def wrapped(text: str, indent: str = "") -> str:
    words = " ".join(text.split())
    return textwrap.fill(words, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def help_text(name: str, page: cyclopts.App) -> str:
    """Our own texts of a help page, of its sub-commands too."""
    parts = [name, *(wrapped(paragraph) for paragraph in page.help.split("\n\n"))]
    if page.default_command is not None:
        for argument in page.assemble_argument_collection():
            if argument.parameter.show is not False and argument.names[:1] != ("*",):
                parts.append(f"{' '.join(argument.names)}{default_of(argument)}")
                parts.append(wrapped(argument.parameter.help or "", "    "))
    lines = "\n".join(parts) + "\n"
    inside = [child for child in page if not child.startswith("-")]
    return "\n".join([lines, *(help_text(f"{name} {child}", page[child]) for child in sorted(inside))])


def default_of(argument: Any) -> str:
    default = argument.field_info.default
    return f" = {default}" if isinstance(default, str | int | float | Path) and default is not False else ""


def masked(text: str, folder: Path) -> str:
    """A command's output with numbers, durations and the folder masked, and tables as running words."""
    text = NUMBER.sub("#", text.replace(str(folder), "FOLDER"))
    text = SIZE.sub("# MB", DURATION.sub("# s", text))
    blocks: list[str] = []
    for line in text.splitlines():
        if FRAMES.search(line) and blocks and blocks[-1].startswith("\x00"):
            blocks[-1] += " " + FRAMES.sub(" ", line)
        elif FRAMES.search(line):
            blocks.append("\x00" + FRAMES.sub(" ", line))
        elif line.strip():
            blocks.append(" ".join(line.split()))
    return "\n".join(wrapped(block[1:]) if block.startswith("\x00") else block for block in blocks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with `digit.png` and the unreadable `broken.png`."""
    from opsin.data.load import load

    made = tmp_path_factory.mktemp("snapshots")
    write_atomically(made / "digit.png", encode_png(np.asarray(load("digits").splits["val"].image(0))))
    write_atomically(made / "broken.png", b"no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        patch.setenv("OPSIN_CACHE", str(made / "cache"))
        patch.setenv("COLUMNS", "300")  # wide enough for every table: what is wrapped is wrapped here
        patch.delenv("OPSIN_DATA", raising=False)
        patch.setattr(progress, "SECONDS_BETWEEN_LINES", math.inf)  # a busy machine would tell how far a slow task is
        yield made


@pytest.fixture
def transcript(folder: Path, capfd: pytest.CaptureFixture[str]) -> Any:
    """Runs commands one after the other; gives what each printed."""

    def run(commands: tuple[str, ...]) -> str:
        told = []
        for command in commands:
            capfd.readouterr()
            code = main(shlex.split(command))
            out, err = capfd.readouterr()
            shown = "\n".join(part for part in (masked(out, folder), masked(err, folder)) if part)
            told.append(f"$ opsin {command}\n{shown}\n[exit status {code}]\n")
        return "\n".join(told)

    return run


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(verb: str) -> None:
    check(SNAPSHOTS / "help" / f"{verb}.txt", help_text(f"opsin {verb}", app[verb]))


@pytest.mark.parametrize("verb", VERBS)
def test_the_page_shows_every_name_of_the_kept_text(verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    main([verb, "--help"])
    page = capfd.readouterr().out
    kept = (SNAPSHOTS / "help" / f"{verb}.txt").read_text(encoding="utf-8").split("\nopsin ")[0]
    names = re.findall(r"^(--[\w-]+)", kept, re.MULTILINE)
    assert [name for name in names if name not in page] == []


def test_messages_and_refusals_say_what_was_done_or_what_to_do(transcript: Any) -> None:
    """One test: refusals are of the runs that the first commands leave."""
    check(SNAPSHOTS / "messages.txt", transcript(MESSAGES))
    check(SNAPSHOTS / "refusals.txt", transcript(REFUSALS))
