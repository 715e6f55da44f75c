"""Names from outside: stored and printed as text, and led back to their files."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.table import Table
from rich.text import Text

import opsin
from opsin.cli import main
from opsin.cli.output import print_line, print_note
from opsin.console import SafeConsole
from opsin.data.load import load
from opsin.errors import DataError
from opsin.io.files import write_json
from opsin.io.images import encode_png
from opsin.progress import Reporter
from opsin.runs import dataset_of
from opsin.text import is_text, path_of, printable_lines, text_of

HOSTILE = "rose\x1b[2J\x9b31m\u202egpj.exe"
ESCAPED = r"rose\x1b[2J\x9b31m\u202egpj.exe"


@pytest.mark.parametrize("name", [b"caf\xe9.jpg", b"a\\b\xff", b"\\xff\xff", b"\xed\xa0\x80"])
def test_a_name_that_is_no_utf8_becomes_text_and_leads_back_to_its_file(name: bytes) -> None:
    path = os.fsdecode(name)
    text = text_of(path)
    assert is_text(text)
    text.encode("utf-8")
    assert os.fsencode(path_of(text)) == name
    assert text_of(text) == text


@pytest.mark.parametrize("name", ["plain.jpg", "日本.png", r"C:\xff\x.png", "a\x1b"])
def test_a_name_that_is_text_stays_as_it_is(name: str) -> None:
    assert text_of(name) == name


def test_lines_tabs_and_letters_of_every_script_are_printed_as_they_are() -> None:
    assert printable_lines("a\tb\n日本 עברית é") == "a\tb\n日本 עברית é"


def test_messages_notes_and_results_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(HOSTILE)
    print_note(HOSTILE)
    Reporter().message(HOSTILE)
    captured = capsys.readouterr()
    assert captured.out == f"{ESCAPED}\n"
    assert captured.err == f"{ESCAPED}\n{ESCAPED}\n"


def test_tables_cannot_steer_the_terminal_and_keep_their_width() -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, width=100, force_terminal=True)
    table = Table("class")
    table.add_row(HOSTILE)
    table.add_row("plain")
    console.print(table)
    console.print(Text(HOSTILE))
    assert "\x1b[2J" not in out.getvalue()
    assert out.getvalue().count(ESCAPED) == 2
    console = SafeConsole(file=(plain := io.StringIO()), width=100, color_system=None)
    console.print(table)
    assert len({len(line) for line in plain.getvalue().splitlines()}) == 1


def test_a_bar_takes_its_title_as_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    report = Reporter()
    report.live = True
    with report.bar("predicting [/red]\x1b[2J", 2) as bar:
        bar.advance(note="[/x]")
    assert "\x1b[2J" not in capsys.readouterr().err


def test_an_error_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", HOSTILE]) == 2
    captured = capsys.readouterr().err
    assert "\x1b" not in captured
    assert ESCAPED in captured


def test_data_show_escapes_class_names(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), dtype=np.uint8)
    labels = np.array([HOSTILE, "[/red]"] * 10)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    assert main(["data", "show", str(tmp_path / "set.npz"), "--out", str(tmp_path / "a.png")]) == 0
    shown = capsys.readouterr().out
    assert "\x1b[2J" not in shown
    assert ESCAPED in shown
    assert "[/red]" in shown


def test_json_holds_names_that_are_no_utf8_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(tmp_path / "a.json", {"file\udcff": ["caf\udce9.jpg"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {r"file\xff": [r"caf\xe9.jpg"]}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_files_and_folders_that_are_not_utf8_are_trained_on_and_found_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from opsin.report.page import write_report
    from opsin.training import train

    root = tmp_path / os.fsdecode(b"fotos\xe9")
    for label, kind in enumerate(("a", "b")):
        (root / kind).mkdir(parents=True)
        for i in range(15):
            pixels = np.random.default_rng(i).integers(100 * label, 100 * label + 90, (3, 8, 8), dtype=np.uint8)
            (root / kind / os.fsdecode(b"rose\xe9%d.png" % i)).write_bytes(encode_png(pixels))
    settings = {"epochs": 1, "filters": [4], "precision": "float32", "channels_last": True, "threads": 1}
    settings |= {"input_size": 8, "preflight": False}
    run = train(root, name="bytes", out=tmp_path / "runs", quiet=True, **settings)
    assert set(run.scores) == {"val"}
    assert all(r"rose\xe9" in str(name) for name in run.predictions("val")["ids"])
    assert dataset_of(run).root == root
    assert r"fotos\xe9" in write_report(run).read_text(encoding="utf-8")
    assert Path(run.predict(root / "a")[0].file).is_file()
    assert main(["predict", str(run.path), str(root / "a"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert path_of(document["predictions"][0]["file"]).is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_a_class_name_that_is_not_utf8_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    from opsin.training import train

    for name in (b"rose\xe9", b"tulip"):
        folder = tmp_path / "photos" / os.fsdecode(name)
        folder.mkdir(parents=True)
        for i in range(12):
            pixels = np.random.default_rng(i + len(name)).integers(0, 256, (3, 8, 8), dtype=np.uint8)
            (folder / f"{i}.png").write_bytes(encode_png(pixels))
    with pytest.raises(DataError, match=r"rose\\xe9") as refused:
        load(tmp_path / "photos")
    assert "rename" in str(refused.value)
    with pytest.raises(DataError):
        train(tmp_path / "photos", out=tmp_path / "runs", quiet=True)
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


COMMANDS = sorted((Path(opsin.__file__).parent / "cli").glob("*.py"))


@pytest.mark.parametrize("file", [file for file in COMMANDS if file.name != "output.py"], ids=lambda file: file.stem)
def test_commands_print_through_the_functions_that_escape_names(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    bare = [
        call.lineno for call in calls if ast.unparse(call.func) in ("print", "sys.stdout.write", "sys.stderr.write")
    ]
    consoles = [call.lineno for call in calls if ast.unparse(call.func).endswith("Console")]
    assert not bare, f"use print_line or print_note of cli/output.py: lines {bare}"
    assert not consoles, f"use stdout_console of cli/output.py: lines {consoles}"


@pytest.mark.parametrize("file", COMMANDS, ids=lambda file: file.stem)
def test_no_name_in_a_line_is_taken_for_markup(file: Path) -> None:
    for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "console.print":
            composed = any(isinstance(argument, ast.JoinedStr) for argument in call.args)
            plain = any(word.arg == "markup" and ast.unparse(word.value) == "False" for word in call.keywords)
            assert plain or not composed, f"{file.name}, line {call.lineno}: markup=False"
