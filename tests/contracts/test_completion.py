"""`opsin --install-completion` installs a script that completes verbs and options."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMPLETE = """
source {script}
COMP_WORDS=(opsin {words}) COMP_CWORD={position}
_opsin
echo "${{COMPREPLY[@]}}"
"""


def run(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    # .bashrc is written to: the user's own home must not be reached
    environment = {**os.environ, "HOME": str(home), "SHELL": "/bin/bash"}
    for name in ("ZSH", "ZSH_CUSTOM", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        environment.pop(name, None)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [("tra", "train"), ("train --open", "--open-test"), ("data fe", "fetch"), ("explain --mist", "--mistakes")],
)
def test_bash_completes_verbs_and_options(tmp_path: Path, words: str, completed: str) -> None:
    installed = run([sys.executable, "-m", "opsin", "--install-completion", "--shell", "bash"], tmp_path)
    assert installed.returncode == 0, installed.stderr
    script = next(path for path in tmp_path.rglob("opsin") if path.is_file())
    text = COMPLETE.format(script=script, words=words, position=len(words.split()))
    answered = run(["bash", "--norc", "-c", text], tmp_path)
    assert completed in answered.stdout.split(), answered.stderr
