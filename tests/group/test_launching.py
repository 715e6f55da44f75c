"""A group is started with the arguments that the command was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from opsin.runs import Run

PROGRAM = """
import sys
from opsin.cli import main
if __name__ == "__main__":
    sys.exit(main(sys.argv[2].split()))
"""


def test_a_program_that_calls_the_command_starts_a_group_with_the_arguments_that_it_gave(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = f"train digits --devices 2 --name group --out {tmp_path} --epochs 1 --subset train=64,val=20 --quiet"
    command += " --model plain --filters 4 --precision float32 --channels-last --no-preflight"
    done = subprocess.run(
        [sys.executable, str(program), "of-the-program", command], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "group")
    assert run.summary.command == f"opsin {command}"
    assert [event["processes"] for event in run.log if event.event == "start"] == [2]
