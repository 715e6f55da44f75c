"""Looks at a test split are counted over all runs, and what they are worth is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import opsin
from opsin import artifact as artifacts
from opsin.comparison.comparison import compare_runs
from opsin.config import DataConfig
from opsin.errors import ConfigError
from opsin.io.images import encode_png
from opsin.ledger import looks_at
from opsin.runs import Run, RunWriter
from opsin.score_notes import TEST_AS_VAL

SHORT = {"epochs": 4, "threads": 1, "preflight": False, "quiet": True, "report": False}


def small(seed: int = 0, *, divided: bool = True) -> dict[str, np.ndarray]:
    """120 digits with splits of their own."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 120, (150, 1, 12, 12), dtype=np.uint8)
    labels = np.arange(150) % 2
    images[labels == 1] += 100
    if not divided:
        return {"images": images, "labels": labels}
    return {
        "train_images": images[:100], "train_labels": labels[:100],
        "test_images": images[100:], "test_labels": labels[100:],
    }  # fmt: skip


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    return tmp_path


def trained(folder: Path, **settings: object) -> Run:
    data = folder / "data.npz"
    if not data.exists():
        np.savez(data, **small())
    return opsin.train(data, out=folder / "runs", **SHORT | settings)  # type: ignore[arg-type]


def test_looks_are_counted_over_runs_and_told(own_cache: Path) -> None:
    first, second = trained(own_cache, open_test=True), trained(own_cache, seed=1)
    assert first.log.looks is not None
    assert first.log.looks.words() == "first look at this test split, by 1 run"
    opsin.evaluate(second, split="test")
    found = opsin.evaluate(second, split="test")
    assert "third look at this test split, by 2 runs" in found.notes
    assert "third look at this test split, by 2 runs" in opsin.write_report(second).read_text()
    notes = compare_runs([first, second]).groups[0].notes
    assert any("test was opened in" in note and "third look" in note for note in notes)


def test_the_same_images_elsewhere_are_the_same_test(own_cache: Path) -> None:
    run = trained(own_cache, open_test=True)
    elsewhere = own_cache / "elsewhere.npz"
    np.savez(elsewhere, **small())
    other = opsin.train(elsewhere, out=own_cache / "runs", open_test=True, **SHORT)  # type: ignore[arg-type]
    assert other.log.looks is not None
    assert other.log.looks.runs == 2
    assert looks_at(run.data.test_content).looks == 2


def test_a_cache_that_cannot_be_written_leaves_the_runs_own_count(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(own_cache)
    (own_cache / "file").write_text("")
    monkeypatch.setenv("OPSIN_CACHE", str(own_cache / "file"))
    assert RunWriter(run).record_test_opening("looked", content="0" * 64) == 1
    assert run.log.looks is None


def test_a_sealed_run_has_no_look(own_cache: Path) -> None:
    run = trained(own_cache)
    assert run.log.looks is None
    assert looks_at(run.data.test_content).looks == 0


def test_test_as_val_is_stamped_on_everything(own_cache: Path) -> None:
    run = trained(own_cache, test_as_val=True)
    assert run.data.splits["train"].n == 100
    assert run.data.splits["val"].n == 50
    assert TEST_AS_VAL in run.data.notes
    assert run.scores["val"].test_as_val is True
    assert artifacts.load(run.model_folder).meta["test_as_val"] is True
    assert TEST_AS_VAL in opsin.write_report(run).read_text()
    assert run.log.test_openings == 1
    image = own_cache / "image.png"
    image.write_bytes(encode_png(small()["test_images"][0]))
    assert TEST_AS_VAL in run.predict(image).notes
    assert any(TEST_AS_VAL in note for note in opsin.evaluate(run, split="val").notes)


def test_test_as_val_needs_a_test_split(own_cache: Path) -> None:
    np.savez(own_cache / "undivided.npz", **small(divided=False))
    with pytest.raises(ConfigError, match="test_as_val"):
        opsin.load(own_cache / "undivided.npz", config=DataConfig(test_as_val=True))
