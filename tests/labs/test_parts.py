"""What several labs share: made pictures, steps compared pair by pair, weights that are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.labs.backbones import FOLDER_VARIABLE, weights_of
from opsin.labs.lab import Book, Lab
from opsin.labs.measure import accuracy_on, step_costs
from opsin.labs.shapes import COLOURS, SHAPES, write_shapes
from opsin.labs.steps import configurations, in_points, paired, steps_table, told


def book(folder: Path, root: Path | None = None) -> Book:
    lab = Lab(name="made", title="Made", words="For tests.", questions=())
    return Book(lab, folder=folder, root=None if root is None else str(root))


def test_fine_and_coarse_shapes_are_the_same_pictures_under_other_labels(tmp_path: Path) -> None:
    fine = np.load(write_shapes(tmp_path / "fine.npz", 40, coloured=True))
    coarse = np.load(write_shapes(tmp_path / "coarse.npz", 40))
    np.testing.assert_array_equal(fine["images"], coarse["images"])
    np.testing.assert_array_equal(fine["labels"] // len(COLOURS), coarse["labels"])
    assert tuple(coarse["classes"]) == SHAPES
    assert fine["images"].shape == (40, 32, 32, 3)


def test_shapes_may_have_a_test_split_of_their_own_and_are_drawn_once(tmp_path: Path) -> None:
    path = write_shapes(tmp_path / "shapes.npz", 60, num_test=20, side_px=16)
    counts = opsin.load(path).counts()
    assert sum(counts["test"]) == 20
    assert sum(counts["train"]) + sum(counts["val"]) == 40
    stamp = Path(path).stat().st_mtime_ns
    assert Path(write_shapes(tmp_path / "shapes.npz", 60)).stat().st_mtime_ns == stamp


def test_steps_are_compared_with_the_run_before_or_with_the_first(tmp_path: Path) -> None:
    settings = {"model": "dense", "subset": "train=700,test=50", "preflight": False, "seed": 0}
    lab = book(tmp_path)
    runs = {f"{epochs}": lab.train("digits", name=f"e{epochs}", epochs=epochs, **settings) for epochs in (1, 2, 8)}
    before = steps_table(lab, "before", "Steps", runs)
    first = steps_table(lab, "first", "Steps", runs, against_first=True)
    assert before.rows[1] == first.rows[1]
    assert before.rows[2][3:] == paired(runs["2"], runs["8"])
    assert first.rows[2][3:] == paired(runs["1"], runs["8"])
    assert first.rows[2][6] == "better"
    assert told(first, "better").endswith(f"8 ({first.rows[2][3]} points)")
    assert told(first, "worse") == "none"


def test_paired_changes_have_the_normal_interval_of_their_mean() -> None:
    changes = np.array([1, 0, 0, -1, 1, 1, 0, 0, 0, 1])
    half = 1.96 * np.std(changes, ddof=1) / np.sqrt(10)
    assert in_points(changes) == tuple(f"{100 * value:+.1f}" for value in (0.3, 0.3 - half, 0.3 + half))


def test_weights_are_taken_from_the_package_then_from_the_named_folder_then_from_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    root, named = tmp_path / "root", tmp_path / "named"
    for folder, file in ((root / "weights", "resnet50-abc.pth"), (named, "resnet50_notop.h5")):
        folder.mkdir(parents=True)
        (folder / file).touch()
    assert weights_of(book(tmp_path), "resnet50") is None
    assert weights_of(book(tmp_path, root), "vgg16") is None
    found = weights_of(book(tmp_path, root), "resnet50")
    assert found == {"weights": str(root / "weights" / "resnet50-abc.pth"), "weights_range": "imagenet"}
    monkeypatch.setenv(FOLDER_VARIABLE, str(named))
    found = weights_of(book(tmp_path, root), "resnet50")
    assert found == {"weights": str(named / "resnet50_notop.h5"), "weights_range": "caffe"}


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> opsin.Run:
    """A network that takes images of any size, trained for two epochs of 5 steps."""
    lab = book(tmp_path_factory.mktemp("pooled"))
    network = {"model": "plain", "filters": (8,), "dense": (), "global_pool": True, "input_size": 16}
    settings = {"subset": "train=200,test=50", "val_fraction": 0.25, "batch_size": 40, "lr": 0.01, "preflight": False}
    return lab.train("digits", name="pooled", epochs=2, precision="float32", **network, **settings)


def test_accuracy_on_unchanged_images_of_val_is_the_score_of_the_run(pooled: opsin.Run) -> None:
    score = pooled.scores["val"]["accuracy"]
    found = accuracy_on(pooled, None, "val")
    assert found.value == pytest.approx(score.value)
    assert (found.low, found.high) == pytest.approx((score.low, score.high), abs=1e-6)
    assert accuracy_on(pooled, None, "val", side=16) == found


def test_accuracy_on_train_is_that_of_the_images_that_were_trained_on(pooled: opsin.Run) -> None:
    count = 200 * accuracy_on(pooled, None, "train").value
    assert count == pytest.approx(round(count))
    classes, images = opsin.dataset_of(pooled).classes, opsin.dataset_of(pooled).splits["train"]
    assert images.labels is not None
    said = pooled.predict([images.image(i)[0] for i in range(len(images))])
    right = sum(one.label == classes[images.labels[i]] for i, one in enumerate(said))
    assert round(count) == right


def test_images_are_augmented_and_resized_for_a_score_where_that_is_asked(pooled: opsin.Run) -> None:
    own = accuracy_on(pooled, None, "train")
    upside_down = accuracy_on(pooled, None, "train", augmented={"flip_vertical": 1.0, "rotate": 180.0})
    assert upside_down == accuracy_on(pooled, None, "train", augmented={"flip_vertical": 1.0, "rotate": 180.0})
    assert upside_down != own
    assert accuracy_on(pooled, None, "train", side=8) != own


def test_the_costs_of_a_step_are_those_of_the_run_and_of_its_batch(pooled: opsin.Run) -> None:
    batch, steps, seconds, accuracy, megabytes, cores = step_costs(pooled, 1500)
    assert (batch, steps, accuracy) == (40, 10, pooled.scores["val"]["accuracy"])
    assert seconds == pytest.approx(10 * step_costs(pooled, 150)[2])
    memory = opsin.plan(pooled, batch=40, timed=False).memory.live_bytes
    assert float(megabytes.replace(",", "")) == pytest.approx(memory / 1e6, abs=0.06)
    assert float(cores) >= 0


def test_configurations_are_the_given_one_and_others_that_differ() -> None:
    given = {"lr": 0.01, "filters": (16, 32)}
    choices = {"lr": (0.01, 0.1), "filters": ((16, 32), (8,))}
    found = configurations(given, choices, 4)
    assert found["lr 0.01, filters 16-32"] == given
    assert next(iter(found.values())) == given
    assert {(one["lr"], one["filters"]) for one in found.values()} == {
        (lr, filters) for lr in choices["lr"] for filters in choices["filters"]
    }
    assert found == configurations(given, choices, 4)
    assert len(configurations(given, choices, 9)) == 4
