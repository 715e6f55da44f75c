"""`opsin explain` from a run to figures and numbers, and the favourites of neurons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.cli import main
from opsin.data.load import load
from opsin.data.samples import Samples
from opsin.errors import ConfigError
from opsin.explanation.explanation import Wanted, explain_run, first_filters, unique_stems
from opsin.explanation.neurons import crop, favourites
from opsin.explanation.pictures import draw_maps
from opsin.io.files import write_atomically
from opsin.io.images import encode_png, read_image
from opsin.models.building import build_network
from opsin.models.registry import ModelSpec
from opsin.runs import Run
from opsin.training import train
from opsin.types import SizePolicy


def bright_spots() -> Samples:
    """Black images, the i-th with one pixel of value 20 * (i + 1) at (i, i + 1)."""
    images = np.zeros((6, 1, 12, 12), np.uint8)
    for i in range(6):
        images[i, 0, i, i + 1] = 20 * (i + 1)
    sizes = np.full((6, 2), 12, np.int32)
    return Samples(images=images, ids=[f"spot-{i}" for i in range(6)], sizes=sizes, labels=np.zeros(6, np.int64))


def spot_finder() -> Artifact:
    """A network whose first layer gives the pixel in the middle of its window (channel 0) and its negative (1)."""
    spec = ModelSpec(name="plain", channels=1, height=12, width=12, options={"filters": [2], "batch_norm": False})
    network = build_network(spec, {"logits": 2}, seed=0).eval()
    weight = network.get_parameter("backbone.blocks.0.conv.weight")
    with torch.no_grad():
        weight.zero_()
        weight[0, 0, 1, 1], weight[1, 0, 1, 1] = 1.0, -1.0
    preprocess = Preprocess(
        size=SizePolicy(height=12, width=12), color="gray", range=(0.0, 1.0), mean=(0.0,), std=(1.0,)
    )
    return Artifact(network=network, task="classify", classes=("a", "b"), spec=spec, preprocess=preprocess, meta={})


def test_a_neuron_likes_the_patches_with_its_largest_answers() -> None:
    found = favourites(spot_finder(), bright_spots(), "blocks.0.conv", num_patches=3)
    assert found.ids[0] == ("spot-5", "spot-4", "spot-3")
    np.testing.assert_allclose(found.values[0], np.array([120, 100, 80]) / 255, rtol=1e-5)
    assert found.windows[0].tolist() == [[5, 4, 8, 7], [4, 3, 7, 6], [3, 2, 6, 5]]
    patch = found.patches[0][0]
    assert patch.shape == (1, 3, 3)
    assert patch[0, 1, 1] == 120
    assert patch.sum() == 120


def test_a_dense_layer_likes_whole_images() -> None:
    found = favourites(spot_finder(), bright_spots(), "heads.logits", num_patches=2)
    assert found.patches[0][0].shape == (1, 12, 12)
    assert len(found.channels) == 2


def test_a_patch_beyond_the_border_is_filled_with_grey() -> None:
    image = np.arange(9, dtype=np.uint8).reshape(1, 3, 3)
    found = crop(image, np.array([-1, -1, 2, 2]))
    assert found.tolist() == [[[128, 128, 128], [128, 0, 1], [128, 3, 4]]]


def test_figures_of_photos_with_one_name_do_not_overwrite_each_other() -> None:
    assert unique_stems([Path("a/x.png"), Path("b/x.jpg"), Path("y.png")]) == ["x-1", "x-2", "y"]
    assert len(set(unique_stems([Path("a/x.png"), Path("b/x.jpg"), Path("x-2.png")]))) == 3


def test_the_first_filters_of_a_dense_network_are_images() -> None:
    spec = ModelSpec(name="dense", channels=1, height=4, width=5, options={"dense": [3]})
    name, weights = first_filters(build_network(spec, {"logits": 2}, seed=0), (1, 4, 5))
    assert (name, weights.shape) == ("dense.linear1", (3, 1, 4, 5))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained run and a digit."""
    folder = tmp_path_factory.mktemp("explain")
    quick = ("--epochs", "1", "--filters", "8,8", "--subset", "train=200", "--batch-size", "100", "--threads", "1")
    plain = ("--model", "plain", "--precision", "float32", "--channels-last", "--quiet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        assert main(["train", "digits", "--name", "quick", "--out", str(folder / "runs"), *quick, *plain]) == 0
    write_atomically(folder / "digit.png", encode_png(np.asarray(load("digits").splits["val"].image(0))))
    return folder


def test_a_run_is_explained_by_figures_and_numbers(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPSIN_CACHE", str(place / "cache"))
    arguments = ["explain", "quick", "digit.png", "--neurons", "blocks.1.relu", "--layer", "blocks.0.conv", "--json"]
    arguments += ["--method", "all"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    names = [Path(file).name for file in found["files"]]
    assert names == [
        "filters.png",
        "receptive-fields.png",
        "digit-maps-blocks.0.conv.png",
        "digit-attribution.png",
        "neurons-blocks.1.relu.png",
    ]
    for file in found["files"]:
        assert min(read_image(place / file).pixels.shape[1:]) > 150
    fields = {row["layer"]: row for row in found["receptive_fields"]}
    assert fields["blocks.1.conv"]["theoretical"] == [8, 8]
    assert 0 < fields["blocks.1.conv"]["effective_px"] <= 8
    (image,) = found["images"]
    assert len(image["attributions"][0]["methods"]) == 4
    assert len(found["neurons"]["channels"]) == 8


def explained(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *typed: str) -> Any:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPSIN_CACHE", str(place / "cache"))
    assert main(["explain", "quick", *typed, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_by_default_a_photo_is_explained_by_grad_cam_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explained(place, monkeypatch, capsys, "digit.png")
    assert [Path(file).name for file in found["files"]] == ["digit-attribution.png"]
    assert list(found["images"][0]["attributions"][0]["methods"]) == ["grad-cam"]


def test_methods_are_asked_for_by_name(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ("--method", "occlusion", "--method", "saliency", "--method", "filters")
    found = explained(place, monkeypatch, capsys, "digit.png", *typed)
    assert [Path(file).name for file in found["files"]] == ["filters.png", "digit-attribution.png"]
    assert set(found["images"][0]["attributions"][0]["methods"]) == {"saliency", "occlusion"}
    assert found["images"][0]["attributions"][0]["integrated_gradients_gap"] is None


def test_without_a_photo_the_filters_and_receptive_fields_are_drawn(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explained(place, monkeypatch, capsys)
    assert [Path(file).name for file in found["files"]] == ["filters.png", "receptive-fields.png"]


def test_the_worst_mistakes_of_val_are_explained_with_truth_and_prediction(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explained(place, monkeypatch, capsys, "--mistakes", "--count", "2")
    listed = Run.open("quick", out=place / "runs").scores["val"].details["mistakes"][:2]
    assert [image["file"] for image in found["images"]] == [mistake["id"] for mistake in listed]
    for image, mistake in zip(found["images"], listed, strict=True):
        assert image["truth"] == mistake["truth"] != mistake["predicted"]
        assert image["predicted"] == f"{mistake['predicted']} {mistake['confidence']:.0%}"
    assert len(found["files"]) == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--layer", "blocks.0.cnov"), "blocks.0.conv"),
        (("--class", "eleven"), "eleven"),
        (("--neurons", "no-such"), "no-such"),
        (("--patches", "0"), "patches"),
    ],
)
def test_wrong_requests_are_refused_by_name(
    arguments: tuple[str, ...],
    named: str,
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OPSIN_CACHE", str(place / "cache"))
    assert main(["explain", "quick", "digit.png", *arguments, "--quiet"]) == 2
    assert named in capsys.readouterr().err


def test_the_test_split_is_not_searched_for_favourites() -> None:
    from opsin.explanation.explanation import Wanted

    with pytest.raises(ConfigError, match="sealed"):
        Wanted(split="test")


@pytest.mark.parametrize("shape", [(16, 24, 24), (64, 18, 18), (24, 14, 28), (8, 40, 20)])
def test_maps_fill_their_figure(shape: tuple[int, int, int], tmp_path: Path) -> None:
    draw_maps(np.zeros(shape, np.float32), tmp_path / "maps.png", title="what a layer makes of it")  # zeros are black
    share = (read_image(tmp_path / "maps.png").pixels.max(axis=0) < 200).mean()
    assert share > 0.5


@pytest.mark.parametrize(("data", "quantities"), [("digit_scenes", 5), ("digit_masks", 1)])
def test_the_worst_boxes_and_masks_are_explained_with_truth_and_prediction(
    data: str, quantities: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    settings = {"epochs": 1, "subset": "train=32,val=8", "threads": 1, "precision": "float32", "preflight": False}
    run = train(data, name=data, out=tmp_path / "runs", quiet=True, **settings)
    found = explain_run(run, [], tmp_path / "figures", Wanted(num_mistakes=2))
    details = run.scores["val"].details
    listed = (details.get("shown") or details["mistakes"])[:2]  # of the few masks here all are listed, the worst first
    images = found.numbers["images"]
    assert [image["file"] for image in images] == [entry["id"] for entry in listed]
    assert all(image["truth"] and image["predicted"] and len(image["attributions"]) == quantities for image in images)
    assert all(Path(file).is_file() for file in found.files)
    assert len(found.files) == 2
