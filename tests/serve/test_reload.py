"""A run that was trained again takes over while the server runs; a damaged one does not."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from opsin.artifact import Artifact, load, save
from opsin.inference.predictor import Fitted, Predictor
from opsin.io.tensors import read_tensors
from opsin.progress import Reporter
from opsin.runs import Run
from opsin.server.app import Service, make_app
from opsin.server.guard import Guard
from opsin.server.metrics import Metrics
from opsin.types import Prediction

NEVER_S = 3600.0


@pytest.fixture
def folder(runs: list[Run], tmp_path: Path) -> Path:
    """A copy of a network that a test may replace."""
    return Path(shutil.copytree(runs[0].model_folder, tmp_path / "model"))


@pytest.fixture
def service(folder: Path) -> Iterator[Service]:
    """Looks for changes only when the test asks for it."""
    made = Service({"digits": folder}, guard=Guard(host="127.0.0.1", token=None), poll_s=NEVER_S)
    with TestClient(make_app(made), base_url="http://127.0.0.1:8000"):
        yield made


def client_of(service: Service) -> TestClient:
    return TestClient(make_app(service), base_url="http://127.0.0.1:8000")


def trained_again(folder: Path) -> Artifact:
    """Replace the network by one that prefers the opposite classes, as a training does at its end."""
    old = load(folder)
    golden, _ = read_tensors(folder / "golden.safetensors")
    with torch.no_grad():
        for tensor in list(old.network.parameters())[-2:]:
            tensor.neg_()
    new = replace(old, meta={**old.meta, "again": True})
    save(folder, new, golden_images=golden["images"])
    return new


def settle(service: Service, report: Reporter | None = None) -> None:
    """Two looks: one that sees a change, one that sees that it has settled."""
    for _ in range(2):
        service.models["digits"].refresh(report or Reporter(quiet=True))


def label(client: TestClient, photo: Path) -> str:
    answer = client.post("/predict", content=photo.read_bytes())
    assert answer.status_code == 200
    return str(answer.json()["predictions"][0]["label"])


def test_a_network_that_was_trained_again_answers_from_then_on(
    service: Service, folder: Path, photos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    client = client_of(service)
    before = label(client, photos[0])
    new = trained_again(folder)
    assert label(client, photos[0]) == before
    settle(service, Reporter())
    image = photos[0].read_bytes()
    after = label(client, photos[0])
    expected = Predictor(new).files([image])[0].label
    assert after == expected != before
    assert client.get("/health").json()["models"]["digits"]["reloads"] == 1
    assert "the new network answers" in capsys.readouterr().err


def test_reloads_and_failed_ones_are_counted_in_the_metrics(service: Service, folder: Path) -> None:
    client = client_of(service)

    def counts() -> list[str]:
        return [line for line in client.get("/metrics").text.splitlines() if "reloads_total{" in line]

    assert counts() == ['opsin_reloads_total{model="digits"} 0', 'opsin_failed_reloads_total{model="digits"} 0']
    trained_again(folder)
    settle(service)
    flip(folder)
    settle(service)
    settle(service)
    assert counts() == ['opsin_reloads_total{model="digits"} 1', 'opsin_failed_reloads_total{model="digits"} 1']


def test_names_of_models_cannot_break_the_metrics() -> None:
    text = Metrics().text({'a"} 1\n\\': (2, 3)})
    assert 'opsin_reloads_total{model="a\\"} 1\\n\\\\"} 2' in text.splitlines()


def test_a_request_in_flight_is_answered_by_the_network_it_began_with(
    service: Service, folder: Path, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, old = client_of(service), Predictor(load(folder))
    begun, free, answers = threading.Event(), threading.Event(), Predictor.answers

    def waiting(self: Predictor, images: Sequence[Fitted]) -> list[Prediction]:
        begun.set()
        assert free.wait(30)
        return answers(self, images)

    with monkeypatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(Predictor, "answers", waiting)
        try:
            first = pool.submit(label, client, photos[0])
            assert begun.wait(30)
            new = Predictor(trained_again(folder))
            settle(service)
            second = pool.submit(label, client, photos[0])
        finally:
            free.set()
        labels = [first.result(), second.result()]
    assert labels == [one.files([photos[0].read_bytes()])[0].label for one in (old, new)]
    assert labels[0] != labels[1]


def test_jobs_of_two_networks_are_never_answered_in_one_batch(folder: Path, service: Service) -> None:
    old = service.models["digits"].network.predictor
    trained_again(folder)
    settle(service)
    new, batcher = service.models["digits"].network.predictor, service.models["digits"].batcher
    shape = (old.artifact.spec.channels, old.artifact.spec.height, old.artifact.spec.width)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    image = Fitted(name="a", pixels=pixels, original=shape[1:], notes=())
    waiting = [batcher.submit(one, [image]) for one in (old, new, new, old)]
    found = [one.result()[0].score for one in waiting]
    expected = [one.answers([image])[0].score for one in (old, new, new, old)]
    assert found == pytest.approx(expected, abs=1e-5)
    assert abs(found[0] - found[1]) > 1e-4


def flip(folder: Path) -> None:
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def cut(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def lose_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def other_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("{}")


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize("damage", [flip, cut, lose_manifest, other_manifest, remove])
def test_a_damaged_network_leaves_the_old_one_serving_and_says_so(
    damage: Callable[[Path], None],
    service: Service,
    folder: Path,
    photos: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client, before = client_of(service), label(client_of(service), photos[0])
    trained_again(folder)
    shutil.copytree(folder, tmp_path / "whole")
    damage(folder)
    settle(service, Reporter())
    settle(service, Reporter())
    assert label(client, photos[0]) == before
    health = client.get("/health").json()
    assert health["status"] == "stale"
    assert health["models"]["digits"]["problem"]
    told = capsys.readouterr().err
    assert told.count("the old network goes on answering") == 1  # not once a look
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(tmp_path / "whole", folder)
    settle(service)
    assert label(client, photos[0]) != before
    assert client.get("/health").json()["status"] == "ok"


def test_files_that_are_being_copied_are_left_alone_until_they_are_whole(
    service: Service, folder: Path, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client, before = client_of(service), label(client_of(service), photos[0])
    new = Path(shutil.copytree(folder, tmp_path / "new"))
    trained_again(new)
    for path in sorted(new.iterdir()):
        shutil.copy(path, folder)
        service.models["digits"].refresh(Reporter())  # one look after each file: never settled
        assert label(client, photos[0]) == before
    assert client.get("/health").json()["status"] == "ok"
    assert capsys.readouterr().err == ""
    settle(service)
    assert label(client, photos[0]) != before


def test_the_old_files_put_back_are_no_problem_any_more(service: Service, folder: Path) -> None:
    aside = folder.with_name("aside")
    folder.rename(aside)
    settle(service)
    assert service.models["digits"].problem
    aside.rename(folder)
    settle(service)
    assert service.models["digits"].problem is None
    assert service.models["digits"].num_reloads == 0


def test_health_tells_names_and_problems_only_to_those_with_the_token(folder: Path) -> None:
    service = Service({"digits": folder}, guard=Guard(host="0.0.0.0", token="long-secret"), poll_s=NEVER_S)
    with TestClient(make_app(service)) as client:
        assert client.get("/health").json() == {"status": "ok"}
        told = client.get("/health", headers={"Authorization": "Bearer long-secret"}).json()
    assert told["models"]["digits"]["problem"] is None


def test_the_server_looks_by_itself(folder: Path, photos: list[Path]) -> None:
    service = Service({"digits": folder}, guard=Guard(host="127.0.0.1", token=None), poll_s=0.05)
    with TestClient(make_app(service), base_url="http://127.0.0.1:8000") as client:
        before = label(client, photos[0])
        trained_again(folder)
        while not service.models["digits"].num_reloads:
            threading.Event().wait(0.02)
        assert label(client, photos[0]) != before


def test_under_load_every_answer_is_of_the_old_network_or_of_the_new_one(
    service: Service, folder: Path, photos: list[Path]
) -> None:
    client, enough = client_of(service), threading.Event()
    old = label(client, photos[0])

    def ask() -> list[str]:
        found = []
        while not enough.is_set():
            found.append(label(client, photos[0]))
        return found

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask) for _ in range(4)]
        trained_again(folder)
        settle(service)
        new = label(client, photos[0])
        enough.set()
        answers = [one.result() for one in asked]
    assert new != old
    for found in answers:
        assert set(found) <= {old, new}
        assert found == sorted(found, key=lambda one: one == new)  # never back to the old one
