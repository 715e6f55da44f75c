"""Wrong labels are found, shown and put right; what was there is never changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin.cleaning import clean as cleaning
from opsin.cleaning.probabilities import Judged, Way, judge, regression
from opsin.cleaning.retraining import retrain
from opsin.cleaning.suspects import different_copies, unlike_class, wrong_labels
from opsin.cli import main
from opsin.errors import ConfigError, DataError, NameTakenError
from opsin.io.files import sha256_file
from opsin.io.images import encode_png
from opsin.io.tables import read_table
from opsin.ops.label_noise import LEAST_NOISE, fit_label_noise
from opsin.progress import Reporter
from opsin.runs import Run
from opsin.studies.folds import Development, development

CLASSES = ("blue", "green", "red")
SIDE = 16


def sampled(num_samples: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities that are right about the true classes, given labels, and which of these are wrong."""
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(5, 0.15), num_samples)
    true = (probabilities.cumsum(1) < generator.random((num_samples, 1))).sum(1).clip(0, 4)
    wrong = generator.random(num_samples) < noise
    labels = np.where(wrong, (true + generator.integers(1, 5, num_samples)) % 5, true)
    return probabilities, labels, wrong


def test_the_share_of_wrong_labels_is_found() -> None:
    for noise in (0.05, 0.2):
        probabilities, labels, _ = sampled(4000, noise, seed=1)
        assert fit_label_noise(probabilities, labels).noise == pytest.approx(noise, abs=0.02)
    probabilities, labels, _ = sampled(4000, 0.0, seed=1)
    assert fit_label_noise(probabilities, labels).noise == pytest.approx(LEAST_NOISE, abs=0.005)


def test_the_temperature_of_a_network_that_is_not_sure_enough_is_found() -> None:
    probabilities, labels, _ = sampled(4000, 0.1, seed=2)
    flat = probabilities**0.5 / (probabilities**0.5).sum(1, keepdims=True)
    assert fit_label_noise(flat, labels).temperature == pytest.approx(0.5, abs=0.06)


def test_the_probability_of_being_wrong_means_what_it_says() -> None:
    probabilities, labels, wrong = sampled(8000, 0.1, seed=3)
    found = fit_label_noise(probabilities, labels).wrong
    for low, high in ((0.0, 0.1), (0.4, 0.6), (0.9, 1.0)):
        inside = (found >= low) & (found < high)
        assert wrong[inside].mean() == pytest.approx(found[inside].mean(), abs=0.05)


def test_suspects_are_mostly_wrong_and_most_that_can_be_told() -> None:
    probabilities, labels, wrong = sampled(3000, 0.05, seed=4)
    judged = Judged(rows=np.arange(3000), probabilities=probabilities, features=None, words="")
    found, noise = wrong_labels(judged, labels)
    assert wrong[found].mean() > 0.6
    assert (found & wrong).sum() > 0.9 * (wrong & (noise.wrong > 0.5)).sum()


def test_copies_with_different_labels_by_hand() -> None:
    groups, labels = np.array([0, 1, 0, 3, 1, 0]), np.array([2, 1, 2, 0, 0, 2])
    assert [rows.tolist() for rows in different_copies(groups, labels)] == [[1, 4]]


def test_an_image_far_from_its_class_is_told() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(0, 0.1, (60, 8)).astype(np.float32)
    features[:30, 0] += 1
    features[30:, 1] += 1
    features[7] = [0, 0, 0, 1, 0, 0, 0, 0]
    found = unlike_class(features, np.repeat([0, 1], 30))
    assert int(found.argmax()) == 7
    assert found[7] > 5
    assert np.isneginf(unlike_class(features[:5], np.zeros(5, np.int64))).all()


def test_regression_agrees_with_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    from opsin.cleaning.probabilities import DECAY

    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 6)).astype(np.float32)
    labels = (features @ generator.normal(size=(6, 3)) + generator.normal(size=(300, 3))).argmax(1)
    unit = (features - features.mean(0)) / (features.std(0) + 1e-3)
    expected = LogisticRegression(C=1 / (DECAY * 300), tol=1e-8, max_iter=1000).fit(unit, labels).predict_proba(unit)
    np.testing.assert_allclose(regression(features, labels, features, num_classes=3), expected, atol=2e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 images of one colour each, three of which lie in a wrong folder; one stands in two."""
    root = tmp_path_factory.mktemp("photos") / "colours"
    generator = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(30):
            image = generator.integers(0, 90, (3, SIDE, SIDE), dtype=np.uint8)
            image[2 - k] += 120
            shown = CLASSES[(k + 1) % 3] if i == 9 else name
            (root / shown).mkdir(exist_ok=True)
            (root / shown / f"{name}{i:02d}.png").write_bytes(encode_png(image))
    return root


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges by the mean colour instead of by a pretrained network."""

    def judge(pool: Development, **_: object) -> Judged:
        means = np.stack([pool.source.image(i).mean((1, 2))[::-1] for i in range(len(pool))])
        shares = np.exp(means / 20) / np.exp(means / 20).sum(1, keepdims=True)
        return Judged(rows=np.arange(len(pool)), probabilities=shares, features=None, words="mean colour")

    monkeypatch.setattr(cleaning, "judge", judge)


def test_clean_finds_what_lies_in_a_wrong_folder_and_applies_verdicts(
    folder: Path, judged: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: sha256_file(path) for path in folder.rglob("*.png")}
    table, page, new = tmp_path / "verdicts.csv", tmp_path / "page.html", tmp_path / "cleaned.csv"
    ask = ["clean", str(folder), "--verdicts", str(table), "--json", "--quiet"]
    assert main([*ask, "--out", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    dataset = opsin.load(folder)
    lost = {name for split in ("train", "val") for name in dataset.splits[split].ids if Path(name).stem.endswith("09")}
    assert {suspect["id"] for suspect in found["suspects"]} == lost
    assert all(Path(s["id"]).stem.startswith(s["suggestion"]) for s in found["suspects"])
    text = page.read_text()
    assert text.count("<figure>") == len(lost)
    assert "<script" not in text
    edit(table, lambda row: f"relabel={row['suggestion']}")
    assert main([*ask, "--apply", str(new)]) == 0
    cleaned = opsin.load(new)
    for split in ("train", "val", "test"):
        assert len(cleaned.splits[split]) == len(dataset.splits[split])
    names = {Path(row["path"]).name: row["label"] for row in read_table(new) if row["split"] != "test"}
    assert all(name.startswith(label) for name, label in names.items())
    assert {path: sha256_file(path) for path in folder.rglob("*.png")} == before
    assert main([*ask, "--apply", str(new)]) == 2  # never overwritten
    assert main([*ask, "--out", str(page)]) == 2  # nor are edited verdicts


def edit(table: Path, verdict: object) -> None:
    rows = read_table(table)
    lines = [",".join([*list(row.values())[:-1], verdict(row)]) for row in rows]  # type: ignore[operator]
    table.write_text("\n".join([",".join(rows[0]), *lines]) + "\n")


@pytest.mark.parametrize("verdict", ["relabel=purple", "perhaps", ""])
def test_a_verdict_that_is_none_is_refused(folder: Path, judged: None, tmp_path: Path, verdict: str) -> None:
    table = tmp_path / "verdicts.csv"
    cleaning.clean(str(folder), page=tmp_path / "p.html", verdicts=table, quiet=True)
    edit(table, lambda _: verdict)
    with pytest.raises(DataError):
        cleaning.apply(str(folder), verdicts=table, out=tmp_path / "new.csv")
    assert not (tmp_path / "new.csv").exists()


def test_arrays_are_written_as_images_and_dropped_samples_left_out(judged: None, folder: Path, tmp_path: Path) -> None:
    source = opsin.load(folder)
    images = np.concatenate([np.stack([part.image(i) for i in range(len(part))]) for part in source.splits.values()])
    labels = np.concatenate([np.asarray(part.labels) for part in source.splits.values()])
    np.savez(tmp_path / "colours.npz", images=images, labels=labels)
    table = tmp_path / "verdicts.csv"
    table.write_text(f"row,id,verdict\n0,{opsin.load(tmp_path / 'colours.npz').splits['train'].ids[0]},drop\n")
    new = cleaning.apply(tmp_path / "colours.npz", verdicts=table, out=tmp_path / "new.csv")
    assert len(read_table(new)) == len(images) - 1
    cleaned = opsin.load(new)
    assert cleaned.splits["test"].image(0).shape == (3, SIDE, SIDE)
    with pytest.raises(NameTakenError):
        cleaning.apply(tmp_path / "colours.npz", verdicts=table, out=tmp_path / "new.csv")


def test_masks_and_boxes_are_refused() -> None:
    with pytest.raises(ConfigError, match="one class"):
        cleaning.clean("digit_masks", quiet=True)


def test_retraining_tells_flips_and_scores(folder: Path, judged: None, tmp_path: Path) -> None:
    settings = {"model": "tiny", "epochs": 3, "threads": 1, "preflight": False, "batch_size": 16}
    run: Run = opsin.train(folder, out=tmp_path / "runs", quiet=True, report=False, weights=None, **settings)
    table = tmp_path / "verdicts.csv"
    cleaning.clean(run, page=tmp_path / "p.html", verdicts=table, quiet=True)
    edit(table, lambda row: f"relabel={row['suggestion']}")
    new = cleaning.apply(run, verdicts=table, out=tmp_path / "new.csv")
    found = retrain(run, new, verdicts=table, out=tmp_path / "runs", quiet=True)
    after, before, total = found.agrees
    assert total == len(read_table(table))
    assert 0 <= before <= total
    assert 0 <= after <= total
    assert set(found.scores) == {"before", "after"}
    assert found.run.config.model == run.config.model
    assert all(flip.before != flip.after for flip in found.flips)
    assert replace(found, flips=()).to_json()["relabelled"]["n"] == total


TRAINED = {"model": "tiny", "epochs": 6, "threads": 1, "preflight": False, "batch_size": 16, "input_size": SIDE}


@pytest.fixture
def with_a_broken_image(folder: Path, tmp_path: Path) -> Path:
    """The folder with one image more that cannot be read."""
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "red" / "broken.png").write_bytes(b"no image")
    return broken


@pytest.mark.parametrize("way", ["features", "train"])
def test_judges_leave_out_what_cannot_be_read_and_mostly_agree_with_the_labels(
    way: Way, with_a_broken_image: Path, tmp_path: Path
) -> None:
    pool = development(opsin.load(with_a_broken_image))
    assert any(name.endswith("broken.png") for name in pool.source.ids)
    settings = TRAINED if way == "train" else {}
    asked = {"way": way, "folds": 2, "seed": 0, "out": tmp_path, "settings": settings, "quiet": True}
    with pytest.raises(DataError, match="cannot be read"):
        judge(pool, skip_unreadable=0, **asked)
    found = judge(pool, skip_unreadable=1, **asked)
    read = [i for i, name in enumerate(pool.source.ids) if not name.endswith("broken.png")]
    assert found.rows.tolist() == read
    assert found.probabilities.shape == (len(read), 3)
    np.testing.assert_allclose(found.probabilities.sum(1), 1, atol=1e-4)
    assert (found.features is None) == (way == "train")
    true = [CLASSES.index(Path(pool.source.ids[i]).stem.rstrip("0123456789")) for i in read]
    assert (found.probabilities.argmax(1) == true).mean() > 0.7


def test_what_a_run_left_out_is_left_out_when_its_labels_are_cleaned_and_it_is_trained_again(
    judged: None, with_a_broken_image: Path, tmp_path: Path
) -> None:
    settings = TRAINED | {"epochs": 1, "skip_unreadable": 1, "weights": None}
    run: Run = opsin.train(with_a_broken_image, out=tmp_path / "runs", quiet=True, report=False, **settings)
    assert cleaning.unreadable_of(run) == 1
    pool, _ = cleaning.development_of(run, root=None, subset=None, report=Reporter(quiet=True))
    rows = [i for i, name in enumerate(pool.source.ids) if name.endswith(("broken.png", "red09.png"))]
    table = tmp_path / "verdicts.csv"
    table.write_text("row,id,verdict\n" + "".join(f"{i},{pool.source.ids[i]},keep\n" for i in rows))
    new = cleaning.apply(run, verdicts=table, out=tmp_path / "new.csv")
    assert retrain(run, new, verdicts=table, out=tmp_path / "runs", quiet=True).run.scores


def test_quiet_prints_nothing(folder: Path, judged: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["clean", str(folder), "--verdicts", str(tmp_path / "v.csv"), "--quiet"]
    assert main([*ask, "--out", str(tmp_path / "p.html")]) == 0
    edit(tmp_path / "v.csv", lambda _: "keep")
    capsys.readouterr()
    assert main([*ask, "--apply", str(tmp_path / "new.csv")]) == 0
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "")
