"""What other machines must find: declared packages, no module of Unix alone, waiting that suits shared cores."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def names(requirements: list[str]) -> set[str]:
    """Names of the packages that are declared, as registries compare them."""
    return {re.split(r"[<>=!~\[; ]", line)[0].lower().replace("_", "-") for line in requirements}


def imported() -> dict[str, list[str]]:
    """Modules of others that the package imports anywhere, and where."""
    found: dict[str, list[str]] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                modules = [node.module]
            for module in {name.split(".")[0] for name in modules} - {"opsin"} - sys.stdlib_module_names:
                found.setdefault(module, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return found


def test_every_package_that_is_imported_is_declared() -> None:
    extras = [line for group, lines in PROJECT["optional-dependencies"].items() if group != "dev" for line in lines]
    declared = names(PROJECT["dependencies"]) | names(extras)
    owners = {
        module: {name.lower().replace("_", "-") for name in packages}
        for module, packages in packages_distributions().items()
    }
    places = imported()
    assert {"torch", "scipy"} <= places.keys()
    assert {m: where for m, where in places.items() if not owners.get(m, {m}) & declared} == {}


def in_fresh_python(code: str, **environment: str) -> str:
    """What `code` prints in an interpreter that has imported nothing yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=kept | environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT_UNIX = """
import os, signal, sys
import rich.progress, sklearn.datasets, torchvision  # these adapt to the system by themselves
import opsin.cli, opsin.report, opsin.training
for name in [name for name in sys.modules if name.split(".")[0] == "opsin"]:
    del sys.modules[name]
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
sys.platform = "win32"
del signal.SIGHUP, os.sysconf, os.sched_getaffinity, os.register_at_fork
import opsin
from opsin.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_training_needs_no_module_of_unix(tmp_path: Path) -> None:
    command = ["train", "digits", "--name", "here", "--out", str(tmp_path), "--epochs", "1", "--subset", "train=100"]
    quick = ["--filters", "4", "--model", "plain", "--precision", "float32", "--channels-last", "--quiet", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_UNIX, *command, *quick, "--no-preflight"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OPSIN_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["epochs"] == 1


PRINT_WAITING = "import os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('KMP_BLOCKTIME'))"


def test_threads_wait_briefly_before_they_sleep_once_torch_is_needed() -> None:
    assert in_fresh_python(f"import opsin; {PRINT_WAITING}").split() == ["None", "None"]
    assert in_fresh_python(f"import opsin; opsin.Run; {PRINT_WAITING}").split() == ["1000", "1"]
    command_line = f"from opsin.cli import main; main(['--version']); {PRINT_WAITING}"
    assert in_fresh_python(command_line).split()[-2:] == ["1000", "1"]


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_a_waiting_policy_of_the_user_stays(name: str) -> None:
    code = "import os, opsin; opsin.Run; print(sorted(n for n in os.environ if n.startswith(('OMP_', 'GOMP', 'KMP'))))"
    assert in_fresh_python(code, **{name: "ACTIVE" if name == "OMP_WAIT_POLICY" else "7"}) == f"['{name}']\n"


def test_after_torch_was_loaded_the_environment_is_left_alone() -> None:
    assert in_fresh_python(f"import torch, opsin; opsin.Run; {PRINT_WAITING}").split() == ["None", "None"]
