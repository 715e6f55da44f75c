"""The artefact: what it holds comes back exactly, and nothing that was altered is loaded (reliability 25, 26)."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from opsin.artifact import PARTS, Artifact, answers, check_golden, load, save
from opsin.batches.preprocess import Preprocess
from opsin.errors import ArtifactError, OpsinError
from opsin.io.files import sha256_file, write_json
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec
from opsin.tasks import get_task
from opsin.types import SizePolicy

IMAGES = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def artifact() -> Artifact:
    spec = ModelSpec(name="small", channels=3, height=16, width=16, options={"filters": [8, 16], "dropout": 0.0})
    with seeded(0):
        network = get_task("classify").build(spec, 3)
    contract = Preprocess(
        size=SizePolicy(height=16, width=16, fit="pad"), color="rgb", range=(0, 1), mean=(0.5,) * 3, std=(0.25,) * 3
    )
    classes = (
        "ant",
        "bee <script>",
        "2",
    )
    return Artifact(
        network=network.eval(), task="classify", classes=classes, spec=spec, preprocess=contract, meta={"run": "x"}
    )


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    save(tmp_path / "model", artifact, golden_images=IMAGES)
    return tmp_path / "model"


def resign(folder: Path) -> None:
    """Make the manifest agree with files that were changed."""
    write_json(folder / "manifest.json", {part: sha256_file(folder / part) for part in PARTS})


def change(folder: Path, **values: object) -> None:
    """Replace fields of model.json and sign it again."""
    path = folder / "model.json"
    write_json(path, json.loads(path.read_text()) | values)
    resign(folder)


def test_what_is_saved_comes_back(artifact: Artifact, folder: Path) -> None:
    found = load(folder)
    assert (found.task, found.classes, found.preprocess) == (artifact.task, artifact.classes, artifact.preprocess)
    assert found.spec == artifact.spec
    expected, got = answers(artifact, IMAGES), answers(found, IMAGES)
    assert all(torch.equal(expected[key], got[key]) for key in expected)
    assert check_golden(folder, found) == 0


def test_saving_again_replaces_the_whole_folder(artifact: Artifact, folder: Path) -> None:
    (folder / "leftover").write_text("x")
    save(folder, artifact, golden_images=IMAGES)
    assert {path.name for path in folder.iterdir()} == {*PARTS, "manifest.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_flip_of_any_byte_is_refused(folder: Path) -> None:
    generator = random.Random(0)
    files = [folder / name for name in (*PARTS, "manifest.json")]
    for _ in range(200):
        path = generator.choice(files)
        original = path.read_bytes()
        position, bit = generator.randrange(len(original)), 1 << generator.randrange(8)
        path.write_bytes(original[:position] + bytes([original[position] ^ bit]) + original[position + 1 :])
        with pytest.raises(ArtifactError):
            load(folder)
        path.write_bytes(original)
    load(folder)


@pytest.mark.parametrize("part", [*PARTS, "manifest.json"])
def test_a_missing_part_is_refused(folder: Path, part: str) -> None:
    (folder / part).unlink()
    with pytest.raises(ArtifactError):
        load(folder)


def test_tensors_that_do_not_fit_are_listed(folder: Path) -> None:
    change(folder, classes=["one", "two"])
    with pytest.raises(ArtifactError, match="do not fit") as caught:
        load(folder)
    assert "heads.logits.weight" in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"format": 3},
        {"task": "os.system"},
        {"spec": {"name": "subprocess.Popen", "channels": 3, "height": 16, "width": 16, "options": {}}},
        {"spec": {"name": "small", "channels": 3, "height": 16, "width": 16, "options": {"filtres": [8]}}},
        {"spec": {"name": "small"}},
        {"preprocess": {"color": "rgb"}},
        {"preprocess": None},
        {"classes": None},
    ],
)
def test_a_description_that_names_what_there_is_not_is_refused(folder: Path, values: dict[str, object]) -> None:
    change(folder, **values)
    with pytest.raises(OpsinError) as caught:
        load(folder)
    assert caught.value.exit_code == 2


def test_another_answer_than_the_golden_one_is_refused(folder: Path) -> None:
    found = load(folder)
    with torch.no_grad():
        next(p for p in found.network.parameters() if p.requires_grad).mul_(1.5)
    with pytest.raises(ArtifactError, match="outputs differ"):
        check_golden(folder, found)


def test_a_run_that_has_no_network_yet_says_how_it_goes_on(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {})
    with pytest.raises(ArtifactError) as caught:
        load(tmp_path / "model")
    assert "--resume" in str(caught.value.do)


@pytest.mark.parametrize("side", ["channels", "height", "width"])
@pytest.mark.parametrize("value", [10**8, 0, -1, 2.5, "3", None, True])
def test_an_artefact_whose_network_would_take_any_memory_is_refused(folder: Path, side: str, value: object) -> None:
    spec = json.loads((folder / "model.json").read_text())["spec"]
    change(folder, spec=spec | {side: value})
    with pytest.raises(ArtifactError, match=f"`{side}` of the network is out of range"):
        load(folder)


def test_an_artefact_that_asks_for_large_layers_is_refused_before_they_are_made(folder: Path) -> None:
    spec = json.loads((folder / "model.json").read_text())["spec"]
    change(folder, spec=spec | {"options": spec["options"] | {"filters": [10**6, 10**6]}})
    with pytest.raises(OpsinError, match=r"do not fit|out of range"):
        load(folder)


@pytest.mark.parametrize(
    "classes", [{"a": 1, "b": 2, "c": 3}, ["a", "a", "b"], ["a", "b", 3], [], "abc", None, ["a", "b", ["c"]]]
)
def test_class_names_that_are_no_list_of_different_texts_are_refused(folder: Path, classes: object) -> None:
    change(folder, classes=classes)
    with pytest.raises(ArtifactError, match="class names are invalid"):
        load(folder)


def test_unknown_fields_of_an_artefact_are_refused(folder: Path) -> None:
    change(folder, postprocess="os.system", zzz=1)
    with pytest.raises(ArtifactError, match=r"unknown fields[\s\S]*postprocess"):
        load(folder)
