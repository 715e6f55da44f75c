"""The segmentation task, from network to scores and words; and every verb on a set that is drawn here."""

from __future__ import annotations

import json
import math
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from opsin.batches.batch import Batch
from opsin.cli import main
from opsin.config import ModelConfig, TrainConfig
from opsin.data.samples import Samples
from opsin.errors import ConfigError, DataError
from opsin.inference.predictor import Predictor
from opsin.io.images import encode_mask, read_mask
from opsin.models.registry import ModelSpec, resolve_options
from opsin.ops import mask_losses
from opsin.ops.mask_pictures import difference, overlaid, palette
from opsin.runs import read_gallery
from opsin.score_notes import notes_of
from opsin.tasks import Targets, get_task
from opsin.tasks.segment import task as segment
from opsin.training import train
from opsin.types import VOID, Score, SizePolicy

CLASSES = ("background", "disc", "ring")


def random_split(seed=0, *, num=9, side=12, num_classes=3):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, num_classes, (num, side, side)).astype(np.uint8)
    masks = np.where(generator.random(truth.shape) < 0.6, truth, generator.integers(0, num_classes, truth.shape))
    truth[generator.random(truth.shape) < 0.1] = VOID
    targets = Targets(ids=tuple(f"val/{i}" for i in range(num)), masks=truth, image_size=(side, side))
    uncertainty = generator.integers(0, 16, truth.shape).astype(np.uint8)
    return {"masks": masks.astype(np.uint8), "uncertainty": uncertainty}, targets


def test_outputs_decode_to_masks_and_uncertainty():
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 2, 0, 1] = 50
    decoded = get_task("segment").decode({"logits": logits})
    assert decoded["masks"].dtype == decoded["uncertainty"].dtype == torch.uint8
    assert decoded["masks"][0, 0, 1] == 2
    assert decoded["uncertainty"].tolist() == [[[15, 0]]]


@pytest.mark.parametrize("name", ["cross-entropy", "dice", "cross-entropy-dice", "focal", "lovasz", "tversky"])
def test_the_loss_is_the_one_that_was_asked_for_and_ignores_void(name):
    targets = random_split()[1]
    samples = Samples(
        images=np.zeros((9, 3, 12, 12), np.uint8),
        ids=targets.ids,
        masks=targets.masks,
        sizes=np.full((9, 2), 12, np.int32),
    )
    task = get_task("segment").for_training(TrainConfig(mask_loss=name, class_weights=True), samples, 3)
    batch = Batch(images=torch.zeros(9, 3, 12, 12), index=torch.arange(9), masks=torch.from_numpy(targets.masks))
    logits = torch.randn(9, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    loss = task.loss({"logits": logits}, batch)["loss"]
    other = logits.clone()
    other.permute(0, 2, 3, 1)[batch.masks == VOID] = 99
    assert task.loss({"logits": other}, batch)["loss"] == loss
    counts = np.bincount(targets.masks[targets.masks != VOID], minlength=3)
    torch.testing.assert_close(task.class_weights, torch.from_numpy(counts.sum() / (3 * counts)).float())
    if name in mask_losses.OVERLAP_LOSSES:
        assert loss == mask_losses.OVERLAP_LOSSES[name](logits, batch.masks).mean()


def test_scores_do_not_depend_on_the_batch_size_or_the_order():
    targets = random_split(num=33)[1]
    options = resolve_options("unet", ModelConfig(filters=(4, 6)), decoder=True)
    torch.manual_seed(0)
    task = get_task("segment")
    network = task.build(ModelSpec(name="unet", channels=3, height=12, width=12, options=options), 3).eval()
    images = torch.rand(33, 3, 12, 12)
    seen = set()
    for size in (1, 2, 4, 32):
        for order in (torch.arange(33), torch.randperm(33, generator=torch.Generator().manual_seed(size))):
            with torch.no_grad():
                parts = [task.decode(network(images[part])) for part in order.split(size)]
            masks = torch.cat([part["masks"] for part in parts]).numpy()
            moved = Targets(ids=targets.ids, masks=targets.masks[order.numpy()], image_size=(12, 12))
            scores = task.scores({"masks": masks}, moved, CLASSES, intervals=False)
            seen.add(tuple(round(score.value, 12) for score in scores.values()))
    assert len(seen) == 1


def test_the_scores_of_issue_4_have_their_names_and_intervals_hold_their_values():
    predictions, targets = random_split()
    scores = get_task("segment").scores(predictions, targets, CLASSES)
    wanted = {"pixel_accuracy", "mean_iou", "mean_dice", "foreground_dice", "boundary_f1", "frequency_weighted_iou"}
    assert wanted <= set(scores)
    assert set(scores) <= set(get_task("segment").score_kinds)
    assert all(score.low <= score.value <= score.high for score in scores.values())
    assert "foreground_dice" not in get_task("segment").scores(predictions, targets, ("sky", "road", "tree"))


def test_an_assessment_has_the_scores_of_a_split_that_is_counted_once(monkeypatch):
    predictions, targets = random_split()
    scores = get_task("segment").scores(predictions, targets, CLASSES)
    counters = {name: Mock(wraps=getattr(segment, name)) for name in ("confusions", "edge_counts")}
    for name, counter in counters.items():
        monkeypatch.setattr(segment, name, counter)
    assert get_task("segment").assess(predictions, targets, CLASSES).scores == scores
    assert [counter.call_count for counter in counters.values()] == [1, 1]


def test_details_are_plain_json_and_say_what_is_undefined():
    predictions, targets = random_split(num=30)
    details = get_task("segment").assess(predictions, targets, (*CLASSES, "absent")).details
    assert json.loads(json.dumps(details, allow_nan=False)) == details
    assert details["per_class"][3]["iou"] == {"value": None, "low": None, "high": None}
    assert np.sum(details["confusion"]) == (targets.masks != VOID).sum()
    assert [row["kind"] for row in details["shown"]] == ["worst"] * 4 + ["middling"] * 4 + ["best"] * 4
    assert sum(details["images"]["count"]) == 30


def test_a_class_in_few_images_is_named_beside_the_mean_iou_because_its_interval_is_too_narrow():
    def found(rare):
        truth = np.zeros((40, 4, 4), np.uint8)
        truth[:20, 0], truth[:rare, 3] = 1, 2
        targets = Targets(ids=[str(i) for i in range(40)], masks=truth)
        return get_task("segment").assess({"masks": truth, "uncertainty": truth}, targets, CLASSES).details

    assert found(3)["caveat"].startswith("`ring` lies in 3 of 40 images, so its interval is too narrow")
    (note,) = [note for note in notes_of(found(3), None, "mean IoU", Score(1.0, 0.9, 1.0)) if "narrow" in note]
    assert note.startswith("mean IoU: `ring` lies in 3 of 40 images")
    assert "caveat" not in found(12)


def test_images_without_foreground_are_counted():
    truth = np.zeros((3, 4, 4), np.uint8)
    masks = truth.copy()
    truth[0, 0, 0] = masks[0, 0, 0] = masks[1, 0, 0] = 1
    targets = Targets(ids=("a", "b", "c"), masks=truth)
    details = get_task("segment").assess({"masks": masks, "uncertainty": masks}, targets, CLASSES[:2]).details
    assert details["empty"] == {"true": 2, "predicted": 1, "both": 1}


def test_a_split_of_void_alone_has_no_scores_rather_than_bad_ones():
    targets = Targets(ids=("a",), masks=np.full((1, 4, 4), VOID, np.uint8))
    scores = get_task("segment").scores({"masks": np.zeros((1, 4, 4), np.uint8)}, targets, CLASSES)
    assert all(math.isnan(score.value) for score in scores.values())


def test_targets_without_masks_are_refused():
    with pytest.raises(DataError, match="no masks"):
        get_task("segment").scores({"masks": np.zeros((1, 4, 4), np.uint8)}, Targets(ids=("a",)), CLASSES)


def test_pictures_of_masks():
    truth = np.array([[0, 1, 2, VOID, 1]], np.uint8)
    mask = np.array([[1, 0, 1, 0, 1]], np.uint8)
    colours = [tuple(pixel) for pixel in difference(truth, mask)[:, 0].T.tolist()]
    assert len(set(colours)) == 5
    image = np.full((3, 1, 5), 100, np.uint8)
    shown = overlaid(image, truth)
    unchanged = (shown == image).all(0)[0]
    assert unchanged.tolist() == [True, False, False, True, False]


def make_discs(root: Path, num: int = 40) -> Path:
    """Bright discs on dark ground, 36x28 pixels, with masks."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:28, :36]
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for i in range(num):
        y, x, radius = generator.uniform(8, 20), generator.uniform(8, 28), generator.uniform(4, 8)
        mask = ((rows - y) ** 2 + (columns - x) ** 2 < radius**2).astype(np.uint8)
        pixels = generator.integers(0, 80, (28, 36, 3)) + 150 * mask[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{i}.png")
        (root / "masks" / f"{i}.png").write_bytes(encode_mask(mask, palette()))
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """No test touches the user's cache."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    return make_discs(tmp_path_factory.mktemp("discs") / "discs")


@pytest.fixture(scope="module")
def run(discs, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        return train(
            discs,
            out=tmp_path_factory.mktemp("runs"),
            name="discs",
            epochs=12,
            filters=[6, 8],
            lr=0.01,
            batch_size=8,
            precision="float32",
            threads=1,
            quiet=True,
        )


def test_a_run_learns_discs_at_their_own_shape(run):
    assert run.data.size == (28, 36)
    assert run.scores["val"]["foreground_dice"].value > 0.7
    assert run.predictions("val")["masks"].dtype == np.uint8


def test_the_report_shows_classes_and_pictures(run):
    from opsin.report import write_report

    page = write_report(run).read_text(encoding="utf-8")
    for words in ("Class by class", "Image by image", "Boundary F1", "uncertainty", "foreground"):
        assert words in page


def test_every_verb_works(run, discs, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", str(run.path), "--split", "test", "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert {"mean_iou", "foreground_dice", "boundary_f1"} <= set(scores)
    assert "shown_test" in read_gallery(run.path)
    assert main(["report", str(run.path)]) == 0
    assert main(["data", "show", str(discs), "--out", "discs.png", "--quiet"]) == 0
    assert main(["data", "show", str(discs), "--augment", "--out", "seen.png", "--quiet"]) == 0
    assert Path("discs.png").is_file()
    assert Path("seen.png").is_file()


def test_predicted_masks_are_written_in_the_size_of_the_image(run, tmp_path, capsys):
    Image.fromarray(np.zeros((31, 50, 3), np.uint8)).save(tmp_path / "dark.png")
    assert main(["predict", str(run.path), str(tmp_path / "dark.png"), "--masks", str(tmp_path / "out"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["predictions"][0]
    mask = read_mask(said["mask"]).indices
    assert mask.shape == (31, 50)
    assert set(np.unique(mask)) <= {0, 1}


def test_predictions_of_a_split_do_not_depend_on_the_batch_size(run, discs):
    from opsin.artifact import load
    from opsin.data.load import load as load_data
    from opsin.data.pack import pack

    samples = pack(load_data(discs), SizePolicy(height=28, width=36))["val"]
    artifact = load(run.model_folder)
    each = [Predictor(artifact, batch_size=size).samples(samples)["masks"] for size in (1, 2, 4, 32)]
    assert all((masks == each[0]).mean() > 0.999 for masks in each)


def test_masks_are_asked_for_in_vain_from_a_classifier(run, tmp_path):
    predictor = Predictor.__new__(Predictor)
    predictor.artifact = type("Artifact", (), {"task": "classify"})()
    with pytest.raises(ConfigError, match="no masks"):
        predictor.files([tmp_path / "a.png"], masks=tmp_path)
