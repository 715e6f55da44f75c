"""Photos of a folder are labelled: what is written is what Opsin's readers take; nothing of the user's is changed."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from opsin.api.training import train
from opsin.data.load import load
from opsin.errors import InputError
from opsin.io.images import encode_png
from opsin.runs import Run
from opsin.server.refusal import RequestError
from opsin.studio.annotations import Annotations
from opsin.studio.app import make_app
from opsin.studio.box_file import Box
from opsin.studio.guard import StudioGuard
from opsin.studio.labelled import MARKER, place_of
from opsin.studio.state import Studio

ADDRESS = "http://127.0.0.1:8200"
KEY = "given-snaps"
HERE = f"/data/{KEY}/label"
NUM = 24
JSON = {"Accept": "application/json"}
QUICK: dict[str, object] = {"epochs": 1, "precision": "float32", "threads": 1, "quiet": True, "preflight": False}


@pytest.fixture
def snaps(tmp_path: Path) -> Path:
    """A folder of photos without labels, half of them bright."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "snaps"
    folder.mkdir()
    for i in range(NUM):
        pixels = generator.integers(0, 120, (3, 24, 32), dtype=np.uint8) + np.uint8(120 * (i % 2))
        (folder / f"{i:02}.png").write_bytes(encode_png(pixels))
    return folder


@pytest.fixture
def labeller(snaps: Path, tmp_path: Path) -> TestClient:
    """A browser of a studio that was opened with `snaps`."""
    studio = Studio(data=[str(snaps)], runs=tmp_path / "runs", folder=tmp_path / "studio", labs=tmp_path / "labs")
    return TestClient(make_app(studio, StudioGuard("127.0.0.1")), base_url=ADDRESS)


def _begun(client: TestClient, classes: str = "dark\nbright") -> dict[str, str]:
    """Classes are set; returns what names the list of photos."""
    assert client.post(HERE, data={"classes": classes}, follow_redirects=False).status_code == 303
    return _list(client)


def _list(client: TestClient) -> dict[str, str]:
    page = client.get(HERE).text
    return {"of": page.partition('data-of="')[2].partition('"')[0]}


def _files(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _trained(source: Path, out: Path, **settings: object) -> Run:
    return train(str(source), name="trained", out=out, **QUICK, **settings)  # type: ignore[arg-type]


def test_labels_become_a_table_that_is_trained_on(labeller: TestClient, snaps: Path, tmp_path: Path) -> None:
    before = _files(snaps)
    of = _begun(labeller)
    for i in range(NUM):
        told = labeller.post(f"{HERE}/{i}/label", params=of, data={"label": str(i % 2)}).json()
        assert told["done"] == i + 1
    table = tmp_path / "snaps-labelled" / "snaps-labels.csv"
    dataset = load(str(table))
    assert dataset.classes == ("bright", "dark")
    assert sum(map(sum, dataset.counts().values())) == NUM
    assert _trained(table, tmp_path / "out", model="plain", filters=[4]).scores
    assert _files(snaps) == before
    assert f'href="/data/labels-of-{KEY}"' in labeller.get("/").text
    assert labeller.get(f"/data/labels-of-{KEY}/grid").status_code == 200


def test_boxes_become_coco_that_is_trained_on(labeller: TestClient, snaps: Path, tmp_path: Path) -> None:
    of = _begun(labeller)
    for i in range(NUM):
        boxes = [[i % 2, 2, 3, 10 + i % 4, 12], [1, 0, 0, 4, 4]]
        assert labeller.post(f"{HERE}/{i}/boxes", params=of, json=boxes).status_code == 200
    path = tmp_path / "snaps-labelled" / "snaps-boxes.json"
    content = json.loads(path.read_text())
    assert len(content["images"]) == NUM
    assert content["annotations"][0]["bbox"] == [2, 3, 10, 12]
    dataset = load(str(path))
    assert dataset.task == "localize"
    assert _trained(path, tmp_path / "out").scores


def test_masks_become_pairs_that_are_trained_on(labeller: TestClient, snaps: Path, tmp_path: Path) -> None:
    of = _begun(labeller)
    for i in range(NUM):
        painted = np.zeros((24, 32), np.uint8)
        painted[4:12, 6:20], painted[20:] = 1, 255
        answer = labeller.post(f"{HERE}/{i}/mask", params=of, content=painted.tobytes())
        assert answer.status_code == 200, answer.text
        assert labeller.get(f"{HERE}/{i}/mask", params=of).content == painted.tobytes()
    folder = tmp_path / "snaps-labelled" / "snaps-masks"
    dataset = load(str(folder))
    assert dataset.task == "segment"
    assert dataset.classes == ("dark", "bright")
    assert _trained(folder, tmp_path / "out").scores


def test_labelling_goes_on_after_the_studio_has_ended(labeller: TestClient, snaps: Path) -> None:
    of = _begun(labeller)
    labeller.post(f"{HERE}/0/label", params=of, data={"label": "1"})
    labeller.post(f"{HERE}/1/boxes", params=of, json=[[0, 1, 2, 3, 4]])
    labeller.post(f"{HERE}/class", data={"name": "neither"})
    again = Annotations(place_of(snaps))
    again.refresh()
    assert again.classes == ("dark", "bright", "neither")
    assert again.label_numbers()[:2] == [1, -1]
    assert again.boxes("01.png") == [Box(label=0, x=1, y=2, width=3, height=4)]
    assert (again.progress("labels"), again.progress("boxes")) == ((1, 1), (1, 0))


def test_what_is_taken_back_leaves_no_trace(labeller: TestClient, tmp_path: Path) -> None:
    of = _begun(labeller)
    nothing = np.full((24, 32), 255, np.uint8)
    labeller.post(f"{HERE}/3/mask", params=of, content=np.zeros((24, 32), np.uint8).tobytes())
    labeller.post(f"{HERE}/3/mask", params=of, content=nothing.tobytes())
    labeller.post(f"{HERE}/3/boxes", params=of, json=[[0, 1, 2, 3, 4]])
    labeller.post(f"{HERE}/3/boxes", params=of, json=[])
    labeller.post(f"{HERE}/3/label", params=of, data={"label": "0"})
    assert labeller.post(f"{HERE}/3/label", params=of, data={"label": "-1"}).json()["done"] == 0
    written = {path.name for path in (tmp_path / "snaps-labelled").rglob("*") if path.is_file()}
    assert written == {MARKER, "classes.txt"}


def test_a_folder_of_the_users_is_never_written_into(labeller: TestClient, snaps: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "snaps-labelled"
    theirs.mkdir()
    (theirs / "snaps-labels.csv").write_text("mine")
    of = _begun(labeller)
    labeller.post(f"{HERE}/0/label", params=of, data={"label": "1"})
    assert _files(theirs) == {"snaps-labels.csv": b"mine"}
    assert (tmp_path / "snaps-labelled-2" / "snaps-labels.csv").is_file()


def test_what_was_edited_by_hand_is_kept(labeller: TestClient, tmp_path: Path) -> None:
    of = _begun(labeller)
    labeller.post(f"{HERE}/0/label", params=of, data={"label": "1"})
    table = tmp_path / "snaps-labelled" / "snaps-labels.csv"
    table.write_text(table.read_text() + "../snaps/05.png,dark\n")
    labeller.post(f"{HERE}/1/label", params=of, data={"label": "0"})
    with table.open() as file:
        rows = {row["path"]: row["label"] for row in csv.DictReader(file)}
    assert rows == {"../snaps/00.png": "bright", "../snaps/01.png": "dark", "../snaps/05.png": "dark"}
    table.write_text("path,label,secret\na,b,c\n")
    answer = labeller.post(f"{HERE}/1/label", params=of, data={"label": "0"}, headers=JSON)
    assert answer.status_code == 400
    assert "was changed" in answer.json()["error"]["what"]
    assert "secret" in table.read_text()


def test_a_divided_folder_begins_with_its_labels_and_test_stays_sealed(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    for split in ("train", "val", "test"):
        for name in ("cat", "dog"):
            for i in range(6):
                path = tmp_path / "pets" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(generator.integers(0, 256, (3, 20, 20), dtype=np.uint8)))
    notes = Annotations(place_of(tmp_path / "pets"))
    notes.refresh()
    assert len(notes.names) == 24
    assert not [name for name in notes.names if name.startswith("test")]
    notes.begin(["bird"], from_folders=True)
    assert notes.classes == ("cat", "dog", "bird")
    notes.set_label("train/cat/0.png", 2)
    dataset = load(str(notes.place.labels))
    assert {split: len(source) for split, source in dataset.splits.items()} == {"train": 12, "val": 12, "test": 12}
    train_labels = dataset.splits["train"].labels
    assert train_labels is not None
    assert sorted(np.bincount(train_labels).tolist()) == [1, 5, 6]


def test_a_photo_that_lies_on_its_side_is_labelled_upright(tmp_path: Path) -> None:
    folder = tmp_path / "phone"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for i in range(12):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg", exif=exif)
    notes = Annotations(place_of(folder))
    notes.refresh()
    notes.begin(["a", "b"], from_folders=False)
    for i, name in enumerate(notes.names):
        assert notes.photos.pixels(name).shape == (3, 40, 20)
        notes.set_boxes(name, [Box(label=i % 2, x=2, y=30, width=10, height=8)])
        notes.set_mask(name, (np.arange(800) % 2).astype(np.uint8).tobytes())
    boxes = load(str(notes.place.boxes)).splits["train"].boxes
    assert boxes is not None
    assert boxes[0].tolist() == [2, 30, 12, 38]
    assert len(load(str(notes.place.masks)).splits["train"].image(0).shape) == 3


@pytest.mark.parametrize("turned", [2, 3, 4])
def test_boxes_are_refused_where_no_size_tells_which_side_is_up(tmp_path: Path, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    (tmp_path / "phone").mkdir()
    Image.new("RGB", (40, 20)).save(tmp_path / "phone" / "a.jpg", exif=exif)
    notes = Annotations(place_of(tmp_path / "phone"))
    notes.refresh()
    notes.begin(["a"], from_folders=False)
    with pytest.raises(RequestError, match="doubtful"):
        notes.set_boxes("a.jpg", [Box(label=0, x=1, y=1, width=5, height=5)])


def test_a_mask_of_a_large_photo_keeps_its_strokes(tmp_path: Path) -> None:
    (tmp_path / "large").mkdir()
    Image.new("RGB", (3000, 1500)).save(tmp_path / "large" / "a.png")
    notes = Annotations(place_of(tmp_path / "large"))
    notes.refresh()
    notes.begin(["a", "b"], from_folders=False)
    painted = notes.mask("a.png")
    assert painted.shape == (512, 1024)
    painted[100:200, 300:500] = 1
    notes.set_mask("a.png", painted.tobytes())
    assert (notes.mask("a.png") == painted).all()


def test_a_copy_that_a_kill_has_left_without_its_mask_is_removed(labeller: TestClient, tmp_path: Path) -> None:
    of = _begun(labeller)
    labeller.post(f"{HERE}/0/mask", params=of, content=bytes(24 * 32))
    images = tmp_path / "snaps-labelled" / "snaps-masks" / "images"
    (images / "lone.png").write_bytes(b"x")
    labeller.get(HERE)
    assert len(list(images.iterdir())) == 1


def test_a_number_of_an_older_list_is_refused(labeller: TestClient, snaps: Path) -> None:
    of = _begun(labeller)
    (snaps / "000.png").write_bytes((snaps / "00.png").read_bytes())
    new = _list(labeller)
    assert new != of
    assert labeller.post(f"{HERE}/0/label", params=of, data={"label": "1"}).status_code == 409
    assert labeller.post(f"{HERE}/0/label", params=new, data={"label": "1"}).status_code == 200


@pytest.mark.parametrize("name", ["", "../x", "a/b", "=1+1", "<b>", "x" * 80, "\x00", "a\tb", ".hidden"])
def test_a_name_that_is_no_class_is_refused(labeller: TestClient, name: str) -> None:
    _begun(labeller)
    answer = labeller.post(f"{HERE}/class", data={"name": name})
    assert answer.status_code == (200 if name == "a\tb" else 400)  # spaces become one
    assert labeller.post(f"{HERE}/class", data={"name": "plain"}).json()["classes"][-1] == "plain"


@pytest.mark.parametrize(
    "boxes",
    [
        "",
        "{}",
        "[1]",
        "[[0,1,2,3]]",
        "[[0,1,2,3,NaN]]",
        "[[9,1,1,5,5]]",
        "[[0,-1,0,5,5]]",
        "[[0,1,1,500,5]]",
        "[" * 9000,
        "[[0,1,1,5,1" + "0" * 400 + "]]",
    ],
)
def test_what_are_no_boxes_in_the_photo_is_refused(labeller: TestClient, tmp_path: Path, boxes: str) -> None:
    of = _begun(labeller)
    assert labeller.post(f"{HERE}/0/boxes", params=of, content=boxes).status_code == 400
    assert not (tmp_path / "snaps-labelled" / "snaps-boxes.json").exists()


@pytest.mark.parametrize("painted", [b"", bytes(100), bytes([7]) * (24 * 32)])
def test_what_is_no_mask_of_the_photo_is_refused(labeller: TestClient, tmp_path: Path, painted: bytes) -> None:
    of = _begun(labeller)
    assert labeller.post(f"{HERE}/0/mask", params=of, content=painted).status_code == 400
    assert not (tmp_path / "snaps-labelled" / "snaps-masks").exists()


def test_bodies_beyond_the_limit_are_refused(labeller: TestClient) -> None:
    of = _begun(labeller)
    assert labeller.post(f"{HERE}/0/mask", params=of, content=bytes(1024 * 1024 + 1)).status_code == 413


@pytest.mark.parametrize(("file", "layout"), [("data.yaml", "YOLO"), ("boxes.json", "COCO"), ("masks/0.png", "pairs")])
def test_folders_with_annotations_in_them_say_why_they_are_not_labelled(tmp_path: Path, file: str, layout: str) -> None:
    folder = tmp_path / "annotated"
    for path in (folder / "images" / "0.png", folder / file):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.zeros((3, 24, 32), np.uint8)))
    if file.endswith(".json"):
        (folder / file).write_text('{"images": [], "annotations": [], "categories": []}')
    studio = Studio(data=[str(folder)], runs=tmp_path / "runs", folder=tmp_path / "studio", labs=tmp_path / "labs")
    with TestClient(make_app(studio, StudioGuard("127.0.0.1")), base_url=ADDRESS) as client:
        text = client.get("/data/given-annotated").text
        assert "Label its photos" not in text
        assert f"cannot be labelled here: a folder in the layout {layout}" in text
        refused = client.get("/data/given-annotated/label")
        assert refused.status_code == 404
        assert layout in refused.text


def test_the_list_of_photos_is_read_again_once_its_folder_has_changed(tmp_path: Path) -> None:
    folder = tmp_path / "snaps"
    (folder / "inner").mkdir(parents=True)
    pixels = encode_png(np.zeros((3, 8, 8), np.uint8))
    (folder / "0.png").write_bytes(pixels)
    for old in (folder / "inner", folder):
        os.utime(old, (1e9, 1e9))
    notes = Annotations(place_of(folder))
    notes.refresh()
    first = notes.photos.token
    notes.refresh()
    assert (notes.names, notes.photos.token) == (("0.png",), first)
    (folder / "inner" / "1.png").write_bytes(pixels)
    notes.refresh()
    assert notes.names == ("0.png", "inner/1.png")
    (folder / "2.png").write_bytes(pixels)  # in the same tick of the clock, perhaps
    notes.refresh()
    assert notes.names == ("0.png", "2.png", "inner/1.png")


def test_labels_that_were_edited_by_hand_are_kept(labeller: TestClient, tmp_path: Path) -> None:
    of = _begun(labeller)
    labeller.post(f"{HERE}/0/label", params=of, data={"label": "1"})
    table = tmp_path / "snaps-labelled" / "snaps-labels.csv"
    table.write_text(table.read_text().replace("bright", "dark"))
    assert labeller.get(f"{HERE}/0", params=of).json()["label"] == 0
    labeller.post(f"{HERE}/1/label", params=of, data={"label": "1"})
    with table.open() as file:
        assert [row["label"] for row in csv.DictReader(file)] == ["dark", "bright"]


def test_only_folders_of_the_users_are_labelled(client: TestClient) -> None:
    for key in ("built-in-digits", "nowhere", "..", "%2e%2e"):
        assert client.get(f"/data/{key}/label").status_code in (400, 404)
        assert client.post(f"/data/{key}/label", data={"classes": "a"}).status_code in (400, 404)
    assert "Label its photos" in client.get("/data/given-photos").text
    assert "Label its photos" not in client.get("/data/built-in-digits").text


def test_names_of_folders_become_classes_and_are_shown_not_run(client: TestClient, place: Path) -> None:
    page = client.get("/data/given-photos/label").text
    assert "<img src=x" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert not (place / "photos-labelled").exists()


def test_a_link_that_leads_out_of_the_folder_is_refused(snaps: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes((snaps / "00.png").read_bytes())
    (snaps / "link.png").symlink_to(outside)
    with pytest.raises(InputError, match="leads out"):
        Annotations(place_of(snaps)).refresh()
