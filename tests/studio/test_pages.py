"""Each page says what it is for, and shows what is in the files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from opsin.cleaning.clean import apply
from opsin.io.tables import read_table
from opsin.runs import Run
from opsin.studio.app import ACTIONS, PAGES
from opsin.studio.errors import answers_of, chosen, matrix
from opsin.studio.kernels import preset_of
from opsin.studio.planner import sketched
from opsin.studio.runs import RunShelf
from opsin.studio.state import Studio
from opsin.studio.verdicts import table_of

WHOLE_PAGES = (
    "/",
    "/data/built-in-digits",
    "/train",
    "/teach",
    "/runs/digits",
    "/runs/scenes",
    "/runs/digits/errors",
    "/runs/scenes/errors?iou=50",
    "/runs/digits/try",
    "/runs/digits/report",
    "/compare",
    "/kernels",
    "/planner",
    "/labs",
)


@pytest.mark.parametrize("address", WHOLE_PAGES)
def test_a_page_has_a_title_one_heading_and_no_script_or_style_of_its_own(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert len(re.findall(r"<h1[ >]", answer.text)) == 1
    assert re.search(r"<title>.+</title>", answer.text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", answer.text)
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", answer.text)


def test_home_lists_data_and_runs_with_their_scores(client: TestClient) -> None:
    page = client.get("/").text
    assert 'href="/data/built-in-digits"' in page
    assert 'href="/data/given-photos"' in page
    assert 'href="/runs/digits"' in page
    assert "finished" in page
    assert "`" not in page
    assert re.search(r"<b>[\d.]+ %</b><small>accuracy, val</small>", page)


def test_the_list_of_two_hundred_runs_has_pages(tmp_path: Path, place: Path) -> None:
    for i in range(200):
        folder = tmp_path / f"run-{i:03}"
        folder.mkdir()
        (folder / "config.json").write_bytes((place / "runs/digits/config.json").read_bytes())
    shelf = RunShelf(tmp_path)
    assert len(shelf.names()) == 200
    assert {shelf.row(name).state for name in shelf.names()} == {"unfinished"}


def test_a_damaged_run_is_shown_as_such_and_hides_no_other(client: TestClient, studio: Studio, tmp_path: Path) -> None:
    studio.runs.folder = tmp_path / "runs"
    (tmp_path / "runs" / "broken").mkdir(parents=True)
    (tmp_path / "runs" / "broken" / "config.json").write_text("{")
    assert "damaged" in client.get("/").text


def test_a_data_set_shows_its_balance_and_a_page_of_its_images(client: TestClient) -> None:
    overview = client.get("/data/built-in-digits/overview").text
    assert "sealed" in overview
    assert "Balance" in overview
    grid = client.get("/data/built-in-digits/grid?split=val&class=3").text
    labels = re.findall(r"</a><span>(.*?)</span>", grid)
    assert labels
    assert set(labels) == {"3"}
    picture = re.search(r'src="(/data/built-in-digits/image/val/\d+)"', grid)
    assert picture
    answer = client.get(picture[1])
    assert answer.headers["content-type"] == "image/png"
    assert "private" in answer.headers["cache-control"]


def test_a_grid_draws_a_page_of_images_and_no_more(client: TestClient) -> None:
    grid = client.get("/data/built-in-digits/grid").text
    assert grid.count("<img") == 48
    last = client.get("/data/built-in-digits/grid?page=100000").text
    assert 0 < last.count("<img") <= 48


def test_the_test_split_is_not_leafed_through(client: TestClient) -> None:
    assert client.get("/data/built-in-digits/image/test/0").status_code == 404
    assert client.get("/data/built-in-digits/grid?split=test").status_code == 400


def test_an_audit_is_made_when_it_is_asked_for(client: TestClient) -> None:
    assert "classes have 10 training samples each" in client.get("/data/given-photos/findings").text


def test_sliders_change_what_augmentation_draws(client: TestClient) -> None:
    part = client.get("/data/built-in-digits/augmented?rotate=45").text
    assert "--rotate 45" in part
    plain, turned = (client.get(f"/data/built-in-digits/augmented.jpg?{q}").content for q in ("", "rotate=45"))
    assert plain != turned


def test_the_form_shows_the_defaults_of_the_data_and_the_plan_its_time(client: TestClient) -> None:
    assert 'placeholder="30"' in client.get("/train/fields?data=built-in-digits").text
    plan = client.get("/train/plan?data=built-in-digits&epochs=2&batch_size=100").text
    assert "Parameters" in plan
    assert re.search(r"about [\d.]+ (s|min)", plan)


def test_a_network_that_does_not_exist_is_refused_in_the_plan(client: TestClient) -> None:
    answer = client.get("/train/plan?data=built-in-digits&model=nonsense", headers={"HX-Request": "true"})
    assert answer.status_code == 400
    assert 'role="alert"' in answer.text
    assert "<html" not in answer.text


def test_cells_of_the_confusion_lead_to_the_images_behind_them(client: TestClient, place: Path) -> None:
    run = Run(place / "runs/digits")
    answers = answers_of(run)
    wrong = np.flatnonzero(answers.labels != answers.predicted)
    truth, guess = int(answers.labels[wrong[0]]), int(answers.predicted[wrong[0]])
    page = client.get(f"/runs/digits/errors?true={truth}&predicted={guess}").text
    behind = int(((answers.labels == truth) & (answers.predicted == guess)).sum())
    assert page.count('class="guess"') == behind
    picture = re.search(r'src="(/runs/digits/image/\d+)"', page)
    assert picture
    assert client.get(picture[1]).status_code == 200


def test_the_matrix_counts_what_numpy_counts(place: Path) -> None:
    answers = answers_of(Run(place / "runs/digits"))
    cells = matrix(answers, 10)
    for i in range(10):
        for j in range(10):
            assert cells[i][j]["count"] == int(((answers.labels == i) & (answers.predicted == j)).sum())


def test_filters_leave_wrong_ones_the_surest_first(place: Path) -> None:
    answers = answers_of(Run(place / "runs/digits"))
    numbers = chosen(answers, truth=-1, guess=-1, shown="wrong", surest=True)
    assert (answers.labels[numbers] != answers.predicted[numbers]).all()
    assert (np.diff(answers.scores[numbers]) <= 0).all()
    boxes = answers_of(Run(place / "runs/scenes"))
    assert boxes.overlaps is not None
    few = chosen(boxes, truth=-1, guess=-1, shown="all", surest=True, most_iou=0.2)
    assert (boxes.overlaps[few] <= 0.2).all()


def test_a_prediction_is_that_of_the_command_line(client: TestClient, place: Path, digit: bytes) -> None:
    said = client.post("/runs/digits/predict", content=digit, headers={"Content-Type": "image/png"}).json()
    expected = Run(place / "runs/digits").predict(digit, device="cpu")
    assert said["label"] == expected.label
    assert said["score"] == pytest.approx(expected.score, abs=1e-6)


def test_an_answer_of_boxes_comes_with_a_drawing(client: TestClient, digit: bytes) -> None:
    said = client.post("/runs/scenes/predict", content=digit, headers={"Content-Type": "image/png"}).json()
    assert said["picture"].startswith("data:image/png;base64,")
    assert len(said["box"]) == 4


def test_an_explanation_is_a_picture_and_says_of_what(client: TestClient, digit: bytes) -> None:
    told = client.post("/runs/digits/explain", content=digit, headers={"Content-Type": "image/png"}).json()
    assert told["picture"].startswith("data:image/png;base64,")
    assert "logit of" in told["words"]


def test_two_runs_are_compared_and_twenty_are_refused(client: TestClient) -> None:
    assert 'name="run" value="digits"' in client.get("/compare").text
    refused = client.get("/compare?run=digits&run=scenes")  # other data
    assert refused.status_code == 400
    many = client.get("/compare?" + "&".join(f"run=r{i}" for i in range(20)))
    assert many.status_code == 400


def test_the_kernel_bench_shows_three_modes_with_their_sizes(client: TestClient) -> None:
    fields = "&".join(f"k{i}={value}" for i, value in enumerate(preset_of("gaussian", 15).ravel()))
    part = client.get(f"/kernels/result?side=15&picture=point&{fields}").text
    for mode, size in (("full", "142 × 206"), ("same", "128 × 192"), ("valid", "114 × 178")):
        assert f"<b>{mode}</b> {size}" in part
    assert "both ways of computing agree" in part
    assert client.get("/kernels/grid?preset=mean&side=7").text.count("<input") == 49
    assert client.get("/kernels/result?side=3&k0=1e9").status_code == 400
    assert client.get("/kernels/result?side=4").status_code == 400


def test_the_planner_counts_as_one_does_by_hand() -> None:
    table = sketched("conv 32 3\npool 2\nconv 64 5 stride 2\nglobal\ndense 10", (3, 32, 32))
    assert table.parameters == (3 * 9 + 1) * 32 + (32 * 25 + 1) * 64 + 65 * 10
    shapes = [row.output_shape for row in table.rows if row.kind in ("Conv2d", "MaxPool2d", "Linear")]
    assert shapes == [(32, 32, 32), (32, 16, 16), (64, 8, 8), (10,)]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("", "no rows"),
        ("cnv 3", "row 1"),
        ("conv", "row 1"),
        ("conv 0", "row 1"),
        ("conv 99999999999", "row 1"),
        ("dense 10\nconv 8", "row 2"),
        ("pool 2\n" * 9, "row"),
        ("dropout x", "row 1"),
        ("norm " * 5000, "too much text"),
    ],
)
def test_rows_that_make_no_network_are_refused_by_their_number(client: TestClient, rows: str, words: str) -> None:
    answer = client.get("/planner/result", params={"rows": rows})
    assert answer.status_code == 400
    assert words in answer.text


def test_labs_are_listed_and_a_report_is_shown_where_it_is(client: TestClient, studio: Studio) -> None:
    assert "Convolution" in client.get("/labs").text
    assert client.get("/labs/convolution/quick").status_code == 404
    folder = studio.labs / "convolution-quick"
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<!DOCTYPE html><title>lab</title>", encoding="utf-8")
    answer = client.get("/labs/convolution/quick")
    assert answer.status_code == 200
    assert "sandbox" in answer.headers["content-security-policy"]


def test_addresses_are_named_once_and_changes_are_made_by_post_alone(client: TestClient) -> None:
    assert len({path for path, _ in PAGES}) == len(PAGES)
    for path, _ in ACTIONS:
        if path not in {page for page, _ in PAGES}:
            assert client.get(re.sub(r"\{.*?\}", "x", path)).status_code in (404, 405), path


def test_what_is_not_there_is_said_on_a_page(client: TestClient) -> None:
    for address in ("/nowhere", "/data/none", "/runs/none", "/runs/none/try", "/labs/none/quick", "/static/none.js"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "<h1>" in answer.text


def test_a_number_with_two_signs_is_refused_as_any_other(client: TestClient) -> None:
    assert client.get("/planner/result", params={"rows": "conv 8", "channels": "--5"}).status_code == 400


def test_a_wrong_picture_gets_another_label_in_the_table_that_clean_applies(
    client: TestClient, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = "/runs/digits/verdicts"
    page = client.get("/runs/digits/errors?show=all").text
    assert f'hx-post="{place}/0"' in page
    dataset = studio.runs.dataset("digits")
    labels, num_train = dataset.splits["val"].labels, len(dataset.splits["train"])
    assert labels is not None
    other = (int(labels[0]) + 1) % 10
    assert "<b>1</b>" in client.post(f"{place}/0", data={"verdict": str(other)}).text
    assert "<b>2</b>" in client.post(f"{place}/1", data={"verdict": "drop"}).text
    assert "<b>3</b>" in client.post(f"{place}/2", data={"verdict": "drop"}).text
    assert "<b>2</b>" in client.post(f"{place}/2", data={"verdict": str(int(labels[2]))}).text
    assert re.search(r'<option value="drop" selected', client.get("/runs/digits/errors?show=all").text)
    out = tmp_path / "corrected.csv"
    apply(Run(studio.runs.folder / "digits"), verdicts=table_of(studio, "digits"), out=out)
    rows = read_table(out)
    assert len(rows) == num_train + len(labels) - 1 + len(dataset.splits["test"])
    assert rows[num_train]["label"] == dataset.classes[other]


def test_the_corrected_table_is_written_by_a_click_and_listed(
    client: TestClient, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert client.post("/runs/digits/verdicts").status_code == 400
    client.post("/runs/digits/verdicts/1", data={"verdict": "drop"})
    assert "Writing the corrected table" in client.post("/runs/digits/verdicts").text
    job = studio.jobs.get("digits.clean")
    assert job is not None
    assert job.process.wait(300) == 0, job.lines
    assert 'href="/train?data=corrected-digits-1"' in client.get("/runs/digits/verdicts").text
    assert "corrected here" in client.get("/").text
    assert "digits-2.csv" in client.get("/runs/digits/verdicts").text


@pytest.mark.parametrize("verdict", ["", "10", "-1", "relabel=3", "../x", "=1", "keep,drop"])
def test_what_is_no_verdict_is_refused(client: TestClient, studio: Studio, verdict: str) -> None:
    assert client.post("/runs/digits/verdicts/0", data={"verdict": verdict}).status_code == 400
    assert client.post("/runs/digits/verdicts/99999", data={"verdict": "drop"}).status_code == 404
    assert client.post("/runs/scenes/verdicts/0", data={"verdict": "drop"}).status_code == 400
    assert not table_of(studio, "digits").exists()
    assert "verdict-of" not in client.get("/runs/scenes/errors").text
