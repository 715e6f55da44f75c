"""Robustness cards: what a change does to pixels and targets, and what is measured."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

import opsin
from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.turns import turn
from opsin.config import AugmentConfig
from opsin.diagnosis.card import read_card, read_cards
from opsin.diagnosis.changes import CHANGES
from opsin.diagnosis.compare_cards import compare_cards
from opsin.errors import ConfigError, RunError
from opsin.runs import Run, RunWriter

NAMED = {change.name: change for change in CHANGES}
SIDE = 16


def batch(count=3, channels=3, *, boxes=False, masks=False, height=SIDE, width=SIDE):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)
    mask = torch.zeros(count, height, width, dtype=torch.uint8)
    mask[:, 2:6, 3:12] = 1
    return Batch(
        images=images,
        index=torch.arange(count),
        labels=torch.arange(count),
        boxes=torch.tensor([[3.0, 2.0, 12.0, 6.0]]).repeat(count, 1) if boxes else None,
        masks=mask if masks else None,
    )


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_moves_pixels_mask_and_box_alike_and_resamples_nothing(quarters):
    given = batch(boxes=True, masks=True)
    turned = NAMED["rotation"](given, 90.0 * quarters, seed=0)
    assert torch.equal(turned.images, given.images.rot90(-quarters, (2, 3)))
    assert torch.equal(turned.masks, given.masks.rot90(-quarters, (1, 2)))
    rows, columns = (turned.masks[0] == 1).nonzero().unbind(1)
    envelope = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert turned.boxes[0].tolist() == [float(end) for end in envelope]


def test_a_rotation_is_that_of_scipy_inside_the_image():
    y, x = np.mgrid[:33, :33]
    smooth = (127 + 90 * np.sin(x / 5) * np.cos(y / 6)).astype(np.float32)
    images = torch.from_numpy(smooth.round().astype(np.uint8))[None, None]
    turned = NAMED["rotation"](Batch(images=images, index=torch.arange(1)), 30.0, seed=0).images[0, 0].numpy()
    # scipy turns the other way, as its second axis is our x
    expected = ndimage.rotate(smooth, -30, reshape=False, order=1)
    assert np.abs(turned.astype(float) - expected)[8:25, 8:25].max() < 2


def test_a_mask_is_turned_with_its_image():
    given = batch(1, masks=True)
    image = (given.masks * 200)[:, None].repeat(1, 3, 1, 1)
    moved = NAMED["rotation"](replace(given, images=image), 30.0, seed=0)
    agreement = ((moved.images[0, 0] > 100) == (moved.masks[0] == 1)).float().mean()
    assert agreement > 0.97


def test_a_shift_copies_pixels_and_takes_the_box_along():
    given = batch(8, boxes=True, masks=True)
    moved = NAMED["shift"](given, 12, seed=3)
    pixels = round(SIDE * 0.12)
    steps = (moved.boxes - given.boxes)[:, :2].long()
    assert set(steps.abs().max(1).values.tolist()) == {pixels}
    assert len({tuple(step) for step in steps.tolist()}) > 1
    for i, (right, down) in enumerate(steps.tolist()):
        inside = slice(4, 12)
        expected = torch.roll(given.images[i], (down, right), (1, 2))
        assert torch.equal(moved.images[i, :, inside, inside], expected[:, inside, inside])
        assert (moved.masks[i] == 1).sum() == (given.masks[i] == 1).sum()


def test_a_box_grows_by_the_factor_of_the_scale():
    given = batch(1, boxes=True)
    moved = NAMED["scale"](replace(given, boxes=torch.tensor([[6.0, 6.0, 10.0, 12.0]])), 1.5, seed=0)
    assert moved.boxes[0].tolist() == pytest.approx([5.0, 5.0, 11.0, 14.0])


def test_blur_is_that_of_scipy():
    given = batch(1)
    blurred = NAMED["blur"](given, 8, seed=0).images[0].numpy().astype(float)
    sigma = SIDE * 0.08
    expected = ndimage.gaussian_filter(
        given.images[0].numpy().astype(float),
        (0, sigma, sigma),
        mode="mirror",
        radius=(0, math.ceil(3 * sigma), math.ceil(3 * sigma)),
    )
    assert np.abs(blurred - expected).max() < 1


def test_noise_has_the_deviation_that_was_asked_for():
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    noisy = NAMED["noise"](Batch(images=grey, index=torch.arange(4)), 20, seed=0).images.float()
    assert float(noisy.std()) == pytest.approx(20, rel=0.03)
    assert float(noisy.mean()) == pytest.approx(128, abs=1)


def test_jpeg_of_lower_quality_is_further_from_the_image():
    given = batch(2, 1)
    gaps = [
        (NAMED["jpeg"](given, quality, seed=0).images.float() - given.images.float()).abs().mean()
        for quality in NAMED["jpeg"].strengths
    ]
    assert gaps == sorted(gaps)
    assert gaps[0] > 0


def test_an_occluded_square_is_void_in_the_mask_and_flat_in_the_image():
    moved = NAMED["occlusion"](batch(4, masks=True), 50, seed=0)
    hidden = moved.masks == 255
    assert hidden.flatten(1).sum(1).tolist() == [64] * 4
    for image, where in zip(moved.images, hidden, strict=True):
        assert len(torch.unique(image[0][where])) == 1


@pytest.mark.parametrize("name", list(NAMED))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_change_depends_on_the_sample_and_not_on_its_batch_and_leaves_the_original(name, channels):
    given = batch(5, channels, boxes=True, masks=True, height=12, width=18)
    kept, change = given.images.clone(), NAMED[name]
    for strength in (change.strengths[0], change.strengths[-1]):
        whole = change(given, strength, seed=7)
        alone = change(given.rows(3, 4), strength, seed=7)
        assert whole.images.dtype == torch.uint8
        assert whole.images.shape == given.images.shape
        assert torch.equal(whole.images[3], alone.images[0])
        assert torch.equal(whole.masks[3], alone.masks[0])
        assert torch.equal(given.images, kept)


def test_every_change_has_five_strengths_or_more_without_the_one_that_changes_nothing():
    for change in CHANGES:
        assert len(set(change.strengths)) >= 5
        assert change.unchanged not in change.strengths
    assert {90.0, 180.0, 270.0} < set(NAMED["rotation"].strengths)


def test_quarter_turns_in_training_turn_the_share_that_was_asked_for_each_way_as_often():
    given = batch(1).images.repeat(3000, 1, 1, 1)
    many = Batch(images=given, index=torch.arange(3000), labels=torch.zeros(3000, dtype=torch.int64))
    config = AugmentConfig(quarter_turns=0.6)
    images = augment(many, config, seed=0, epoch=2, num_classes=2).images
    shares = [(images == given.rot90(k, (2, 3))).flatten(1).all(1).float().mean() for k in range(4)]
    assert shares == pytest.approx([0.4, 0.2, 0.2, 0.2], abs=0.03)


def test_quarter_turns_of_images_that_are_not_square_are_refused():
    given = batch(height=8, width=12)
    with pytest.raises(ConfigError, match="quarter_turns"):
        augment(given, AugmentConfig(quarter_turns=0.5), seed=0, epoch=0, num_classes=3)
    with pytest.raises(ConfigError, match="square images"):
        turn(given, torch.ones(3, dtype=torch.int64))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return opsin.train("digits", epochs=2, out=out, name="digits", quiet=True, preflight=False)


def test_a_card_holds_its_clean_score_as_evaluation_has_it_and_comes_back_from_the_file(run):
    card = opsin.robustness(run, changes=["rotation", "noise"])
    assert card.clean == run.scores["val"]["accuracy"]
    assert [curve.change for curve in card.curves] == ["rotation", "noise"]
    assert read_card(run) == card
    means = [np.mean([cell.score.value for cell in curve.cells]) for curve in card.curves]
    assert [curve.mean.value for curve in card.curves] == pytest.approx(means)
    assert card.mean.value == pytest.approx(np.mean(means))
    assert card.mean.low < card.mean.value < card.mean.high
    losses = [loss.changed - loss.clean for loss in card.classes]
    assert losses == sorted(losses)
    again = opsin.robustness(run, changes=["rotation", "noise"])
    assert again.to_json() == card.to_json()


def test_a_card_of_fewer_samples_says_so(run):
    card = opsin.robustness(run, changes=["brightness"], most_samples=50)
    assert (card.n, card.n_of_split) == (50, 180)
    assert "50 of 180" in card.notes[0]


def test_over_the_four_turns_of_an_image_every_quarter_turn_has_the_score_of_the_upright_images(run):
    card = opsin.robustness(run, changes=["rotation"], tta=["turn"])
    cells = {cell.strength: cell.score for cell in card.curve("rotation").cells}
    assert cells[90] == cells[180] == cells[270] == card.clean
    assert card.views == ("turn",)
    assert "test-time augmentation" in card.notes[0]
    assert read_card(run) == card


def test_cards_over_different_views_are_not_compared(run, tmp_path):
    copy = shutil.copytree(run.path, tmp_path / "copy")
    opsin.robustness(run, changes=["rotation"])
    opsin.robustness(copy, changes=["rotation"], tta=["turn"])
    with pytest.raises(RunError, match=r"(?s)different views.*turn.*no views"):
        compare_cards([run, Run.open(copy)])


def test_a_look_at_test_is_recorded_and_val_is_no_look(run):
    opsin.robustness(run, changes=["brightness"], most_samples=20)
    assert run.log.test_openings == 0
    opsin.robustness(run, split="test", changes=["brightness"], most_samples=20)
    assert run.log.test_openings == 1
    assert set(read_cards(run)) == {"val", "test"}


def test_an_unknown_change_is_refused_with_the_nearest(run):
    with pytest.raises(ConfigError, match="rotation"):
        opsin.robustness(run, changes=["rotate"])


def test_a_damaged_card_is_refused_and_a_missing_one_says_how_to_make_it(run, tmp_path):
    kept = (run.path / "robustness.json").read_bytes()
    RunWriter(run).extra("robustness.json", {"val": {"run": "x"}})
    with pytest.raises(RunError, match="damaged"):
        read_card(run)
    (run.path / "robustness.json").unlink()
    with pytest.raises(RunError, match="--robustness"):
        read_card(run)
    (run.path / "robustness.json").write_bytes(kept)


def test_cards_are_set_side_by_side_and_clear_differences_are_marked(run):
    card = opsin.robustness(run, changes=["rotation", "noise"])
    found = compare_cards([run, run])
    assert set(found.pairs[0].differences.values()) == {0.0}
    assert found.pairs[0].apart == ()
    json.dumps(found.to_json(), allow_nan=False)
    with pytest.raises(ConfigError, match="2 or more"):
        compare_cards([run])
    assert card.n == found.cards[0].n
