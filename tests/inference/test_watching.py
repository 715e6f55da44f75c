"""A folder is watched: each image is predicted once, when it is whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from opsin.cli import main
from opsin.errors import InputError
from opsin.inference.watching import arrivals
from opsin.io.images import encode_png
from opsin.runs import Run
from opsin.training import train

PICTURE = encode_png(np.full((1, 8, 8), 200, np.uint8))


def looks(*changes: Callable[[], object]) -> Callable[[float], None]:
    """A pause between looks in which the folder changes: by the first change in the first pause, and so on."""
    left = list(changes)

    def pause(_: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop(0)()

    return pause


def seen(folder: Path, *changes: Callable[[], object]) -> list[str]:
    """Names of the files that come while the folder changes."""
    found: list[str] = []
    with suppress(KeyboardInterrupt):
        for path in arrivals(folder, sleep=looks(*changes)):
            found += [path.name]
    return found


def nothing() -> None:
    pass


def test_images_that_are_there_come_first_and_each_is_given_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PICTURE)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".b.png").write_bytes(PICTURE)
    late = tmp_path / "inside" / "b.png"
    (tmp_path / "inside").mkdir()
    assert seen(tmp_path, nothing, lambda: late.write_bytes(PICTURE), nothing, nothing) == ["a.png", "b.png"]


def test_an_image_is_given_when_it_is_whole_and_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "a.png"

    def append() -> None:
        with file.open("ab") as stream:
            stream.write(PICTURE)

    assert seen(tmp_path, append, append, append) == []
    assert seen(tmp_path, nothing, nothing, append, nothing, nothing) == ["a.png", "a.png"]


def test_a_file_that_is_removed_is_no_fault_and_comes_again_when_it_is_back(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(PICTURE)
    assert seen(tmp_path, nothing, file.unlink, lambda: file.write_bytes(PICTURE), nothing) == ["a.png", "a.png"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list(islice(arrivals(tmp_path / "none"), 1))


def test_the_verb_predicts_what_comes_and_ends_by_ctrl_c(tmp_path: Path) -> None:
    train("digits", name="digits", out=tmp_path, quiet=True, epochs=1, filters=[4], preflight=False)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    (inbox / "good.png").write_bytes(PICTURE)
    (inbox / "bad.png").write_bytes(PICTURE[:20])
    command = [
        sys.executable,
        "-m",
        "opsin",
        "predict",
        "digits",
        "--out",
        str(tmp_path),
        "--watch",
        str(inbox),
        "--json",
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    lines = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, notes = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "predicted: 1; skipped: 1" in notes
    expected = Run(tmp_path / "digits").predict(inbox / "good.png")
    by_name = {Path(line["file"]).name: line for line in lines}
    assert by_name["good.png"]["label"] == expected.label
    assert "reason" in by_name["bad.png"]


@pytest.mark.parametrize("option", [["--csv", "x.csv"], ["--strict"], ["photo.png"], ["--coverage", "0.9"]])
def test_what_needs_all_images_at_once_is_refused_with_watch(
    option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", "digits", "--watch", "inbox", *option]) == 2
    assert "--watch" in capsys.readouterr().err
