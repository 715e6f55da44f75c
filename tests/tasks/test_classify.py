"""The classification task, from network to scores and words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from opsin.batches.batch import Batch, Mixed
from opsin.config import TrainConfig
from opsin.data.samples import Samples
from opsin.errors import ConfigError, DataError
from opsin.models.registry import ModelSpec
from opsin.tasks import Targets, get_task
from opsin.tasks.classify.task import Classify

CLASSES = ("cat", "dog", "eel", "fox", "gnu", "hen", "ibex")


def samples_of(labels, side=6):
    labels = np.asarray(labels, np.int64)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 1, side, side), np.uint8)
    sizes = np.full((len(labels), 2), side, np.int32)
    return Samples(images=images, ids=[f"s{i}" for i in range(len(labels))], labels=labels, sizes=sizes)


def batch_of(labels, mixed=None):
    labels = torch.tensor(labels)
    return Batch(images=torch.zeros(len(labels), 1, 6, 6), index=torch.arange(len(labels)), labels=labels, mixed=mixed)


def random_predictions(seed=0, num_samples=200, absent=()):
    generator = np.random.default_rng(seed)
    labels = generator.choice([k for k in range(len(CLASSES)) if k not in absent], num_samples).astype(np.int64)
    logits = generator.normal(size=(num_samples, len(CLASSES)))
    logits[np.arange(num_samples), labels] += 1.5
    probabilities = torch.from_numpy(logits).softmax(1).float().numpy()
    ids = tuple(f"val/{i}" for i in range(num_samples))
    return {"probabilities": probabilities}, Targets(ids=ids, labels=labels, image_size=(6, 6))


def test_the_network_outputs_logits_and_decodes_to_probabilities():
    task = get_task("classify")
    network = task.build(ModelSpec(name="dense", channels=1, height=6, width=6, options={}), 7).eval()
    outputs = network(torch.rand(3, 1, 6, 6))
    assert outputs["logits"].shape == (3, 7)
    probabilities = task.decode(outputs)["probabilities"]
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))


def test_loss_is_the_mean_cross_entropy_with_the_settings_of_the_run():
    config = TrainConfig(label_smoothing=0.1, class_weights=True)
    task = get_task("classify").for_training(config, samples_of([0, 0, 0, 1]), 2)
    logits, labels = torch.randn(5, 2, generator=torch.Generator().manual_seed(0)), [0, 1, 1, 0, 0]
    weights = torch.tensor([2 / 3, 2.0])
    expected = F.cross_entropy(logits, torch.tensor(labels), weight=weights, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(task.loss({"logits": logits}, batch_of(labels))["loss"], expected.mean())


def test_mixed_batches_are_learned_and_counted_by_share():
    mixed = Mixed(labels=torch.tensor([1, 1]), share=torch.tensor([0.75, 0.25]))
    batch = batch_of([0, 0], mixed)
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    task = get_task("classify")
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    assert task.loss({"logits": logits}, batch)["loss"].item() == pytest.approx((right + wrong) / 2, abs=1e-6)
    assert task.batch_scores({"logits": logits}, batch)["accuracy"].item() == pytest.approx(0.5)


def test_losses_per_sample_ignore_smoothing_and_weights():
    task = Classify(label_smoothing=0.5, class_weights=torch.tensor([3.0, 1.0]))
    logits = torch.tensor([[2.0, 0.0], [2.0, 0.0]])
    losses = task.losses_per_sample({"logits": logits}, batch_of([0, 1]))
    torch.testing.assert_close(losses, torch.tensor([math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))]))


def test_every_score_lies_in_its_interval_and_has_a_title():
    task = get_task("classify")
    found = task.scores(*random_predictions(), CLASSES)
    assert task.main_score in found
    assert set(found) <= set(task.score_kinds)
    for score in found.values():
        assert score.low <= score.value <= score.high


def test_scores_without_intervals_are_the_same_scores():
    task, (predictions, targets) = get_task("classify"), random_predictions()
    with_intervals = task.scores(predictions, targets, CLASSES)
    without = task.scores(predictions, targets, CLASSES, intervals=False)
    assert {name: score.value for name, score in without.items()} == {
        name: score.value for name, score in with_intervals.items()
    }
    assert all(math.isnan(score.low) and math.isnan(score.high) for score in without.values())


def test_scores_do_not_depend_on_the_order_of_samples():
    task, (predictions, targets) = get_task("classify"), random_predictions()
    order = np.random.default_rng(1).permutation(len(targets))
    shuffled = Targets(ids=[targets.ids[i] for i in order], labels=targets.labels[order])
    found = task.scores({"probabilities": predictions["probabilities"][order]}, shuffled, CLASSES, intervals=False)
    for name, score in task.scores(predictions, targets, CLASSES, intervals=False).items():
        assert found[name].value == pytest.approx(score.value, abs=1e-12)


def test_top_five_is_scored_for_more_than_five_classes_only():
    task = get_task("classify")
    predictions, targets = (
        {"probabilities": np.full((2, 5), 0.2, np.float32)},
        Targets(ids="ab", labels=np.array([0, 1])),
    )
    assert "top5" not in task.scores(predictions, targets, CLASSES[:5])
    assert "top5" in task.scores(*random_predictions(), CLASSES)


def test_details_are_plain_json_and_agree_with_each_other():
    task, (predictions, targets) = get_task("classify"), random_predictions()
    details = json.loads(json.dumps(task.assess(predictions, targets, CLASSES).details, allow_nan=False))
    confusion = np.array(details["confusion"])
    assert confusion.sum() == len(targets)
    assert [row["support"] for row in details["per_class"]] == confusion.sum(axis=1).tolist()
    assert [row["class"] for row in details["per_class"]] == list(CLASSES)
    assert sum(details["reliability"]["count"]) == len(targets)
    wrong = len(targets) - np.trace(confusion)
    assert len(details["mistakes"]) == min(wrong, 48)
    first = details["mistakes"][0]
    row = predictions["probabilities"][first["index"]]
    assert first["truth"] == CLASSES[targets.labels[first["index"]]]
    assert first["predicted"] == CLASSES[row.argmax()] != first["truth"]
    confidences = [mistake["confidence"] for mistake in details["mistakes"]]
    assert confidences == sorted(confidences, reverse=True)


def test_the_temperature_of_val_is_used_where_it_is_given():
    task, (predictions, targets) = get_task("classify"), random_predictions()
    own = task.assess(predictions, targets, CLASSES).details
    given = task.assess(predictions, targets, CLASSES, fitted={"temperature": 2.5}).details
    assert own["temperature"] == task.fit(predictions, targets)["temperature"]
    assert given["temperature"] == 2.5
    assert given["ece_after_temperature"] != own["ece_after_temperature"]
    undefined = task.assess(predictions, targets, CLASSES, fitted={"temperature": math.nan}).details
    assert undefined["temperature"] is None
    assert undefined["ece_after_temperature"] is None


def test_a_class_absent_from_the_split_is_undefined_everywhere():
    task, (predictions, targets) = get_task("classify"), random_predictions(absent=(2,))
    details = task.assess(predictions, targets, CLASSES).details
    assert details["absent_classes"] == ["eel"]
    for score in ("precision", "recall", "f1"):
        assert details["per_class"][2][score] == {"value": None, "low": None, "high": None}
    found = task.scores(predictions, targets, CLASSES)
    recalls = [row["recall"]["value"] for k, row in enumerate(details["per_class"]) if k != 2]
    assert found["macro_recall"].value == pytest.approx(np.mean(recalls), abs=1e-12)


def test_one_sample_can_be_scored():
    predictions = {"probabilities": np.array([[0.25, 0.75]], np.float32)}
    targets = Targets(ids=("only",), labels=np.array([1]))
    found = get_task("classify").scores(predictions, targets, ("no", "yes"))
    assert found["accuracy"].value == 1.0
    assert found["loss"].value == pytest.approx(math.log(4 / 3), abs=1e-9)


def test_predictions_of_other_classes_are_refused():
    with pytest.raises(DataError, match="other classes"):
        get_task("classify").scores(*random_predictions(), CLASSES[:3])


def test_samples_without_labels_are_refused():
    predictions, targets = random_predictions()
    with pytest.raises(DataError, match="no labels"):
        get_task("classify").scores(predictions, Targets(ids=targets.ids), CLASSES)
    unlabelled = Batch(images=torch.zeros(1, 1, 6, 6), index=torch.arange(1))
    with pytest.raises(DataError, match="has no labels"):
        get_task("classify").loss({"logits": torch.zeros(1, 2)}, unlabelled)


def test_a_prediction_is_described_best_class_first():
    row = np.array([[0.05, 0.5, 0.05, 0.1, 0.05, 0.05, 0.2]], np.float32)
    said = get_task("classify").describe({"probabilities": row}, 0, CLASSES, "a.png", notes=("mode L",))
    assert (said.file, said.label, said.notes) == ("a.png", "dog", ("mode L",))
    assert said.score == pytest.approx(0.5)
    assert [label for label, _ in said.top] == ["dog", "ibex", "fox", "cat", "eel"]


def test_grey_images_are_drawn_in_colour_with_a_caption():
    task, samples = get_task("classify"), samples_of([1, 0])
    drawn = task.draw_target(samples.images[0], Targets.of(samples), 0, CLASSES)
    assert drawn.caption == "dog"
    assert drawn.pixels.shape == (3, 6, 6)
    predictions = {"probabilities": np.array([[0.9, 0.1]], np.float32)}
    assert task.draw_prediction(samples.images[0], predictions, 0, CLASSES).caption == "cat 90%"


def test_targets_are_stored_as_arrays_without_objects():
    arrays = Targets.of(samples_of([1, 0])).arrays()
    assert set(arrays) == {"ids", "labels"}
    assert arrays["ids"].dtype.kind == "U"
    assert arrays["ids"].tolist() == ["s0", "s1"]


def test_an_unknown_task_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="did you mean `classify`"):
        get_task("clasify")
