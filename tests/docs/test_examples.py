"""The launch files of `examples/scale` are what their readers take: a shell script, and a manifest of known fields."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from opsin.cli import app

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "scale"
OPSIN = re.compile(r"-m opsin (train .+)")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_slurm_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(FOLDER / "train.sbatch")], check=True)
    lines = (FOLDER / "train.sbatch").read_text().splitlines()
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH ")]
    commands = [number for number, line in enumerate(lines) if line and not line.startswith("#")]
    assert directives
    assert max(directives) < min(commands), "sbatch stops reading directives at the first command"


def test_the_manifest_is_a_train_job() -> None:
    job = yaml.safe_load((FOLDER / "trainjob.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
    spec = job["spec"]
    assert set(spec) <= {"runtimeRef", "trainer", "podTemplateOverrides", "labels", "annotations", "suspend"}
    taken = {"image", "command", "args", "env", "numNodes", "resourcesPerNode", "numProcPerNode"}
    assert set(spec["trainer"]) <= taken
    volumes = {volume["name"] for volume in spec["podTemplateOverrides"][0]["spec"]["volumes"]}
    mounts = spec["podTemplateOverrides"][0]["spec"]["containers"][0]["volumeMounts"]
    assert {mount["name"] for mount in mounts} == volumes


@pytest.mark.parametrize("file", ["train.sbatch", "trainjob.yaml"])
def test_the_command_of_each_is_taken_by_the_parser(file: str) -> None:
    found = OPSIN.search((FOLDER / file).read_text())
    assert found is not None
    words = [word for word in shlex.split(found[1]) if word not in {"${resume[@]}", "$@", "$resume"}]
    app.parse_args(words, exit_on_error=False, print_error=False)
