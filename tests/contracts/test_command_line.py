"""What holds for every verb of the command line: help, refusals, exit codes, and JSON that is alone on stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.cli import VERBS, main
from opsin.cli.options import PANELS
from opsin.config import field_names, setting_names
from opsin.io.files import write_atomically
from opsin.io.images import encode_png

QUICK = ("--epochs", "1", "--filters", "8", "--subset", "train=300", "--batch-size", "100", "--threads", "1")
PLAIN = ("--model", "plain", "--precision", "float32", "--channels-last", "--quiet")

Capture = pytest.CaptureFixture[str]
CommandLine = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command_line(capfd: Capture) -> CommandLine:
    """Runs one command in this process; gives its exit code, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(arguments)
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one trained run in `runs/quick`, and `digit.png`."""
    from opsin.data.load import load

    made = tmp_path_factory.mktemp("command_line")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(made / "cache"))
        assert main(["train", "digits", "--name", "quick", "--out", str(made / "runs"), *QUICK, *PLAIN]) == 0
    image = np.asarray(load("digits").splits["val"].image(0))
    write_atomically(made / "digit.png", encode_png(image))
    return made


@pytest.fixture(autouse=True)
def place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each command runs inside the folder and touches no cache of the user's."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPSIN_CACHE", str(folder / "cache"))
    monkeypatch.delenv("OPSIN_DATA", raising=False)


def in_fresh_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in an interpreter that has imported nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300, env=dict(os.environ)
    )


@pytest.mark.parametrize(
    "action",
    ["import opsin", "from opsin.cli import main; main(['--help'])", "from opsin.cli import main; main(['--version'])"],
)
def test_importing_and_asking_for_help_do_not_import_torch(action: str) -> None:
    heavy = "{'torch', 'torchvision', 'sklearn', 'scipy', 'matplotlib', 'PIL', 'numpy'}"
    done = in_fresh_python(f"import sys\n{action}\nsys.exit(', '.join({heavy} & set(sys.modules)) or 0)")
    assert done.returncode == 0, done.stderr


def test_the_module_runs_as_the_script_does() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "opsin", "--version"], capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout.strip()) == (0, opsin.__version__)


def test_help_names_every_verb(command_line: CommandLine) -> None:
    code, out, _ = command_line("--help")
    assert code == 0
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", [*VERBS, "data list", "data show", "data audit", "data fetch"])
def test_every_verb_explains_itself(verb: str, command_line: CommandLine) -> None:
    code, out, err = command_line(*verb.split(), "--help")
    assert code == 0
    assert "Usage: opsin " + verb in out
    assert err == ""


LEAVES = [verb for verb in VERBS if verb not in {"data", "bench", "lab", "runs", "queue"}]
LEAVES += ["data list", "data show", "data audit", "data fetch", "bench conv"]
LEAVES += ["lab list", "lab show", "lab run", "lab notebook"]
LEAVES += ["runs list", "runs show", "runs rm", "runs prune", "queue add", "queue run", "queue list"]


@pytest.mark.parametrize("verb", LEAVES)
def test_every_verb_takes_json_quiet_and_seed(verb: str, command_line: CommandLine) -> None:
    _, out, _ = command_line(*verb.split(), "--help")
    assert [option for option in ("--json", "--quiet", "--seed") if option not in out] == []


def test_the_overview_says_of_each_verb_what_it_does() -> None:
    done = in_fresh_python("from opsin.cli import main; main(['--help'])")
    described = {line.split()[1] for line in done.stdout.splitlines() if len(line.strip("│ ").split()) > 2}
    assert set(VERBS) <= described


def test_wrong_usage_is_told_whole_on_a_narrow_terminal(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    _, _, err = command_line("train", "digits", "--optimizer", "adamm")
    assert '"muon". Did you mean "adam"?' in err
    assert "opsin train --help" in err


def test_a_file_name_cannot_break_a_line_or_steer_the_terminal(command_line: CommandLine, folder: Path) -> None:
    image = folder / "one\ntwo\x1b[31m.png"
    image.write_bytes((folder / "digit.png").read_bytes())
    code, out, _ = command_line("predict", "runs/quick", str(image))
    assert code == 0
    assert r"one\ntwo\x1b[31m.png: " in out
    assert len(out.splitlines()) == 1


def test_every_setting_is_an_option_of_train(command_line: CommandLine) -> None:
    _, out, _ = command_line("train", "--help")
    missing = [name for name in setting_names() if f"--{name.replace('_', '-')}" not in out]
    assert missing == []


def test_settings_are_listed_under_a_heading_for_each_group(command_line: CommandLine) -> None:
    _, out, _ = command_line("train", "--help")
    panels = {part.split(" ─")[0]: part for part in out.split("╭─ ")[1:]}
    for kind, heading in PANELS.items():
        assert [name for name in field_names(kind) if f"--{name.replace('_', '-')}" not in panels[heading]] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("trian", "digits"), "trian"),
        (("train",), "DATA"),
        (("train", "digits", "--epohcs", "3"), "--epohcs"),
        (("train", "digits", "--epochs", "many"), "many"),
        (("train", "digits", "--epochs", "-1"), "epochs"),
        (("train", "digits", "--epochs", "1.5"), '"1.5" is no whole number'),
        (("train", "digits", "--filters", "8,1.5"), '"1.5" is no whole number'),
        (("models", "plain", "--classes", "2.5"), '"2.5" is no whole number'),
        (("train", "digits", "--seed", "99999999999999999999"), "seed"),
        (("train", "digits", "--optimizer", "adamm"), "adamm"),
        (("train", "digits", "--recipe", "no-such"), "no-such"),
        (("train", "no-such-set"), "no-such-set"),
        (("train", "digits", "--name", "../up"), "../up"),
        (("train", "digits", "--resume", "--name", "no-such-run"), "no-such-run"),
        (("train", "digits", "--name", "quick"), "quick"),
        (("evaluate", "no-such-run"), "no-such-run"),
        (("predict", "no-such-run", "digit.png"), "no-such-run"),
        (("predict", "runs/quick", "no-such-image.png"), "no-such-image.png"),
        (("predict", "runs/quick", "digit.png", "--weights-range", "unit"), "unit"),
        (("predict", "mobilenet_v2", "digit.png", "--masks", "masks"), "--masks"),
        (("report", "no-such-run"), "no-such-run"),
        (("models", "no-such-model"), "no-such-model"),
        (("data", "show", "no-such-set"), "no-such-set"),
        (("data", "lits"), "lits"),
        (("runs", "show", "no-such-run"), "no-such-run"),
        (("runs", "rm", "quick"), "--yes"),
        (("runs", "prune"), "--unfinished"),
        (("train", "digits", "--devices", "0"), "devices"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_usage_exits_with_2_and_names_what_is_wrong(
    arguments: tuple[str, ...], named: str, command_line: CommandLine
) -> None:
    code, out, err = command_line(*arguments)
    assert code == 2
    assert named in err
    assert out == ""
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        (("data", "list"), {"name", "task", "classes", "splits"}),
        (("data", "show", "digits"), {"name", "task", "classes", "splits"}),
        (("data", "audit", "digits"), {"findings"}),
        (("models",), {"name", "parameters", "trainable"}),
        (("models", "plain"), {"name", "parameters", "trainable", "layers"}),
        (("evaluate", "runs/quick"), {"run", "split", "n", "scores"}),
        (("evaluate", "runs/quick", "--robustness"), {"run", "split", "n", "scores", "robustness"}),
        (("doctor", "runs/quick"), {"run", "findings"}),
        (("predict", "runs/quick", "digit.png"), {"predictions"}),
        (("report", "runs/quick"), {"file"}),
        (("runs", "list"), {"runs", "name", "state", "score"}),
        (("runs", "show", "quick"), {"run", "settings", "scores", "bytes"}),
        (
            ("train", "digits", "--name", "json", *QUICK, *PLAIN),
            {"run", "task", "parameters", "epochs", "seconds", "scores"},
        ),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_json_is_one_document_alone_on_stdout_with_the_promised_keys(
    arguments: tuple[str, ...], keys: set[str], command_line: CommandLine
) -> None:
    code, out, err = command_line(*arguments, "--json")
    assert code == 0, err
    document = json.loads(out)
    assert keys <= all_keys(document)


def all_keys(document: object) -> set[str]:
    """Keys at any depth of a JSON document."""
    if isinstance(document, dict):
        return set(document).union(*map(all_keys, document.values()))
    return set().union(*map(all_keys, document)) if isinstance(document, list) else set()


def test_a_reader_of_stdout_that_goes_away_is_no_fault() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "opsin", "models", "plain", "--json"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=300)
    os.close(write)
    assert done.returncode == 0
    assert done.stderr == ""
