"""The report as a file: complete, self-contained, safe."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from opsin.config import AugmentConfig
from opsin.config.checks import to_dict
from opsin.errors import OpsinError
from opsin.report import write_report
from opsin.report.page import sections_of
from opsin.report.render import soft
from opsin.report.view import view_of
from opsin.runs import Run, RunWriter

VOID = {"meta", "img", "br", "wbr", "link", "input", "hr"}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Outline(HTMLParser):
    """Checks that tags nest; collects attributes and the text outside of the style sheet."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data

    def values(self, name: str) -> list[str]:
        return [value for _, key, value in self.attributes if key == name]


def report_of(run: Path, folder: Path) -> str:
    return write_report(run, out=folder / "page.html").read_text(encoding="utf-8")


def test_page_nests_its_tags_and_has_unique_anchors(digits_page: str) -> None:
    outline = Outline(digits_page)
    assert outline.open == []
    assert len(set(outline.values("id"))) == len(outline.values("id"))


def test_page_has_every_section_and_a_link_to_each(digits_page: str, digits_run: Path) -> None:
    outline = Outline(digits_page)
    keys = [section.key for section in sections_of(view_of(Run(digits_run)))]
    wanted = [
        "scores",
        "training",
        "confusion",
        "classes",
        "calibration",
        "mistakes",
        "answering",
        "doctor",
        "robustness",
        "data",
        "samples",
        "cost",
        "repeat",
    ]
    assert keys == wanted == outline.values("id")
    assert [f"#{key}" for key in keys] == outline.values("href")


def test_page_asks_nothing_of_the_network(digits_page: str) -> None:
    outline = Outline(digits_page)
    without_pictures = re.sub(r'src="data:[^"]*"', "", digits_page)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", without_pictures)
    assert all(value.startswith("data:image/") for value in outline.values("src"))
    assert "link" not in outline.tags


def test_page_has_no_script_and_no_inline_style(digits_page: str) -> None:
    outline = Outline(digits_page)
    assert "script" not in outline.tags
    names = {name for _, name, _ in outline.attributes}
    assert "style" not in names
    assert not any(name.startswith("on") for name in names)


def test_the_use_of_the_processor_is_a_share_of_all_cores(digits_page: str) -> None:
    # the loop logs 100 where every core was busy all the time
    assert re.search(r'CPU use</dt><dd>93 % <span class="muted">of all 2 cores', digits_page)
    assert "one core" not in digits_page


def test_policy_allows_this_style_sheet_and_pictures_in_the_page_only(digits_page: str) -> None:
    style = re.search(r"<style>(.*?)</style>", digits_page, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', digits_page)
    assert style
    assert policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    rules = policy[1].replace("&#39;", "'").split("; ")
    assert rules[:3] == ["default-src 'none'", "img-src data:", f"style-src 'sha256-{digest}'"]


def test_headline_is_the_test_score_once_test_was_opened(digits_page: str, digits_run: Path) -> None:
    score = json.loads((digits_run / "scores.json").read_text())["test"]["scores"]["accuracy"]
    words = Outline(digits_page).words
    assert f"{100 * score['value']:.1f} %" in words
    assert f"95 % interval {100 * score['low']:.1f} % – {100 * score['high']:.1f} %" in words
    assert "test opened once" in words


def test_sealed_test_is_said_to_be_sealed(hundred_run: Path, tmp_path: Path) -> None:
    words = Outline(report_of(hundred_run, tmp_path)).words
    assert "test is sealed" in words
    assert "opened once" not in words


def test_a_test_split_that_does_not_exist_is_not_said_to_be_sealed(
    hundred_run: Path, tmp_path: Path, made_runs: ModuleType
) -> None:
    run = shutil.copytree(hundred_run, tmp_path / "undivided")
    data = Run(run).data
    splits = {name: card for name, card in data.splits.items() if name != "test"}
    RunWriter(Run(run)).data(replace(data, splits=splits))
    words = Outline(report_of(run, tmp_path)).words
    assert "no test split" in words
    assert "sealed" not in words
    assert "--split test" not in words


def test_a_converted_run_says_what_it_was_made_of(interrupted_run: Path, tmp_path: Path, made_runs: ModuleType) -> None:
    (interrupted_run / "log.jsonl").write_text('{"event": "convert"}\n')
    made_runs.write_json(
        interrupted_run / "summary.json", {"converted_from": "runs/first", "epochs": 6, "best_epoch": 5}
    )
    words = Outline(report_of(interrupted_run, tmp_path)).words
    assert "Converted from runs/first" in words
    assert "6 (best: 5)" in words
    assert "No epoch was finished" not in words
    assert "The run ended" not in words


def test_every_opening_is_counted(digits_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(digits_run, tmp_path / "twice")
    RunWriter(Run(run)).record_test_opening("opsin evaluate twice --split test")
    assert "test opened 2 times" in Outline(report_of(run, tmp_path)).words


def test_page_shows_what_was_run_and_how_to_go_on(digits_page: str, digits_run: Path) -> None:
    words = Outline(digits_page).words
    for wanted in (
        "opsin train digits --epochs 30",
        f"opsin predict {digits_run}",
        "batch_size",
        "went on from step 850",
        "2 pairs of val images look like train images",
        "Intel(R) Xeon(R)",
        "channels last",
        "437.8 MB",
    ):
        assert wanted in words


def test_page_shows_each_mistake_with_its_picture(digits_page: str, digits_run: Path) -> None:
    scores = json.loads((digits_run / "scores.json").read_text())
    mistakes = [m for split in ("test", "val") for m in scores[split]["details"]["mistakes"]]
    outline = Outline(digits_page)
    assert mistakes
    for mistake in mistakes:
        assert mistake["id"] in outline.words
        assert f"true {mistake['truth']}, predicted {mistake['predicted']}" in outline.values("alt")


def test_scores_over_views_stand_beside_those_of_images_as_they_are(digits_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(digits_run, tmp_path / "seen-twice")
    scores = json.loads((run / "scores.json").read_text())
    better = {"value": 0.9876, "low": 0.97, "high": 0.99}
    scores["val"]["tta"] = {"views": ["flip"], "scores": scores["val"]["scores"] | {"accuracy": better}}
    (run / "scores.json").write_text(json.dumps(scores))
    words = Outline(report_of(run, tmp_path)).words
    for wanted in ("With test-time augmentation", "as it is, mirrored", "98.8 %", "not trained on mirrored images"):
        assert wanted in words
    scores["val"]["tta"]["views"] = ["flip", "scale"]
    (run / "scores.json").write_text(json.dumps(scores))
    assert "made smaller and larger, each also mirrored" in Outline(report_of(run, tmp_path)).words
    assert "With test-time augmentation" not in Outline(report_of(digits_run, tmp_path)).words


def test_hostile_names_are_shown_not_run(hostile_run: Path, tmp_path: Path) -> None:
    outline = Outline(report_of(hostile_run, tmp_path))
    assert "<script>document.title='run'</script>" in outline.words
    assert "script" not in outline.tags
    assert "onerror" not in {name for _, name, _ in outline.attributes}


def test_hostile_run_folder_is_quoted_for_the_shell(hostile_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(hostile_run, tmp_path / "a; rm -rf <b>")
    outline = Outline(report_of(run, tmp_path))
    assert f"opsin predict '{run}'" in outline.words
    assert "b" not in outline.tags[: outline.tags.index("h1") + 1]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_browser_runs_nothing_of_a_hostile_name(hostile_run: Path, tmp_path: Path) -> None:
    page = write_report(hostile_run, out=tmp_path / "page.html")
    quiet = ["--disable-gpu", "--disable-background-networking", "--disable-sync", "--no-first-run"]
    command = [str(CHROMIUM), "--headless", "--no-sandbox", *quiet, f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=60, check=True
    )
    assert "<title>hostile – Opsin report</title>" in shown.stdout


def test_interrupted_run_has_every_section_and_says_what_is_missing(interrupted_run: Path, tmp_path: Path) -> None:
    outline = Outline(report_of(interrupted_run, tmp_path))
    assert len(outline.values("id")) == 13
    assert "not finished" in outline.words
    assert "No split has been scored" in outline.words
    assert "on val in the log" in outline.words


def test_run_that_only_has_its_config_is_reported(interrupted_run: Path, tmp_path: Path) -> None:
    for file in ("log.jsonl", "data.json"):
        (interrupted_run / file).unlink()
    outline = Outline(report_of(interrupted_run, tmp_path))
    assert "n/a" in outline.words
    assert "No epoch was finished." in outline.words


def test_hundred_classes_get_a_heat_map_and_a_table_of_pairs(hundred_run: Path, tmp_path: Path) -> None:
    outline = Outline(report_of(hundred_run, tmp_path))
    assert "Confusion matrix as a heat map" in outline.values("aria-label")
    assert "The 15 classes with the lowest F1" in outline.words
    assert "All 100 classes" in outline.words


def test_page_of_a_cifar_like_run_stays_under_two_megabytes(digits_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(digits_run, tmp_path / "noise")
    rng = np.random.default_rng(0)
    shapes = {"samples": (64, 3, 32, 32), "augmented": (8, 8, 3, 32, 32), "mistakes_val": (48, 3, 32, 32)}
    noise = {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}
    RunWriter(Run(run)).gallery(noise | {"mistakes_test": noise["mistakes_val"]})
    assert write_report(run).stat().st_size < 2_000_000


def test_report_goes_into_the_run_folder_and_is_the_same_twice(digits_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(digits_run, tmp_path / "again")
    first = write_report(Run(run))
    written = first.read_bytes()
    assert first == run / "report.html"
    assert write_report(run).read_bytes() == written


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OpsinError, match="this folder is not a run"):
        write_report(tmp_path)


def test_other_tasks_get_the_sections_of_every_task(digits_run: Path, tmp_path: Path, made_runs: ModuleType) -> None:
    run = shutil.copytree(digits_run, tmp_path / "masks")
    made_runs.write_json(run / "data.json", {"name": "camvid", "task": "segment"})
    made_runs.write_json(run / "summary.json", {"task": "segment"})
    iou = {"value": 0.5, "low": 0.4, "high": 0.6}
    made_runs.write_json(run / "scores.json", {"val": {"n": 10, "scores": {"mean_iou": iou}, "details": {}}})
    outline = Outline(report_of(run, tmp_path))
    own = ["classes", "confusion", "images"]
    assert outline.values("id") == [
        "scores",
        "training",
        *own,
        "doctor",
        "robustness",
        "data",
        "samples",
        "cost",
        "repeat",
    ]
    assert "Mean IoU on val" in " ".join(outline.words.split())


def test_a_name_is_broken_after_its_separators_alone() -> None:
    assert soft("a <b>_c-d/e.jpg") == "a &lt;b&gt;_<wbr>c-<wbr>d/<wbr>e.jpg"


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_augmented_images_are_shown_only_where_something_is_augmented(
    flip: float, digits_run: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(digits_run, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    config["augment"] = to_dict(AugmentConfig(flip=flip))
    (run / "config.json").write_text(json.dumps(config))
    page = write_report(run).read_text(encoding="utf-8")
    assert ("Augmented: as used in training" in page) == bool(flip)


@pytest.mark.parametrize("published", [True, False])
def test_scores_on_frames_of_one_film_say_so(
    published: bool, digits_run: Path, tmp_path: Path, made_runs: ModuleType
) -> None:
    run = shutil.copytree(digits_run, tmp_path / "masks")
    made_runs.write_json(run / "data.json", {"name": "camvid", "task": "segment", "published": published})
    made_runs.write_json(run / "scores.json", {"val": {"n": 10, "scores": {}, "details": {}}})
    assert ("frames of four drives" in report_of(run, tmp_path)) == published
