"""The server answers as `opsin predict --json` does; it refuses what is too large, too late, too much, not allowed."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from opsin.api.deployment import service_of
from opsin.artifact import load
from opsin.cli import main
from opsin.errors import ConfigError, RefusedError
from opsin.inference.predictor import Fitted, Predictor
from opsin.io.images import decode_image
from opsin.runs import Run
from opsin.server import app, body
from opsin.server.app import Service
from opsin.server.batching import Batcher
from opsin.server.limits import Limits
from opsin.server.running import run as run_service

Connect = Callable[..., TestClient]


@pytest.mark.parametrize("model", [0, 1])
def test_several_images_are_answered_as_predict_json_answers_the_files(
    model: int,
    connect: Connect,
    runs: list[Run],
    photos: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(photos[0].parent)
    names = [photo.name for photo in photos]
    assert main(["predict", str(runs[model].path), *names, "--json", "--quiet", "--device", "cpu"]) == 0
    files = [("photos", (name, Path(name).read_bytes(), "image/png")) for name in names]
    answer = connect().post("/predict", params={"model": runs[model].name}, files=files)
    assert answer.status_code == 200
    assert answer.text == capsys.readouterr().out  # one batch in both, so byte for byte


def test_one_image_is_answered_raw_in_a_form_and_in_json_alike(connect: Connect, photos: list[Path]) -> None:
    client, data = connect(), photos[0].read_bytes()
    text = base64.b64encode(data).decode()
    answers = [
        client.post("/predict", content=data, headers={"Content-Type": "image/png"}),
        client.post("/predict", content=data),
        client.post("/predict", files={"file": ("image", data)}),
        client.post("/predict", json={"image": text}),
        client.post("/predict", json={"images": [{"name": "image", "data": text}]}),
    ]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    assert len(answers[0].json()["predictions"]) == 1


def test_of_several_images_those_that_cannot_be_read_are_named(connect: Connect, photos: list[Path]) -> None:
    files = [("a", ("good.png", photos[0].read_bytes())), ("b", ("bad.png", b"no image"))]
    answer = connect().post("/predict", files=files).json()
    assert [said["file"] for said in answer["predictions"]] == ["good.png"]
    assert [lost["file"] for lost in answer["skipped"]] == ["bad.png"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image/png", b"no image"),
        ("image/png", b""),
        ("application/json", b"{"),
        ("application/json", b"[" * 100_000),
        ("application/json", b'{"image": "*"}'),
        ("application/json", b'{"image": "\xff"}'),
        ("application/json", b'{"images": [1]}'),
        ("application/json", b'{"images": []}'),
        ("application/json", b'{"images": [{"name": "\\ud800", "data": "AAAA"}]}'),
        ("application/json", b"{}"),
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\nnonsense"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nfield\r\n--x--\r\n',
        ),
    ],
)
def test_a_bad_body_is_refused_with_400_and_says_why(kind: str, body: bytes, connect: Connect) -> None:
    answer = connect().post("/predict", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["what"]


def test_other_kinds_models_and_methods_are_refused(connect: Connect, photos: list[Path]) -> None:
    client, data = connect(), photos[0].read_bytes()
    assert client.post("/predict", content=data, headers={"Content-Type": "text/html"}).status_code == 415
    unknown = client.post("/predict", params={"model": "../etc"}, content=data)
    assert (unknown.status_code, unknown.json()["error"]["expected"]) == (404, "digits, scenes")
    assert client.get("/predict").status_code == 405
    assert client.get("/../predict.py").status_code == 404


def test_a_body_that_is_too_large_is_refused_with_413_told_or_not(connect: Connect, photos: list[Path]) -> None:
    client = connect(limits=Limits(max_bytes=1000, max_images=2))

    def unannounced() -> Iterator[bytes]:
        yield from [b"x" * 600] * 3

    assert client.post("/predict", content=b"x" * 1001).status_code == 413
    assert client.post("/predict", content=unannounced()).status_code == 413
    many = {"images": [{"data": "AAAA"}] * 3}
    assert client.post("/predict", json=many).status_code == 413
    assert client.post("/predict", files=[("a", ("x", b"x"))] * 3).status_code == 413
    assert client.post("/predict", content=photos[0].read_bytes()).status_code == 200


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(connect: Connect, photos: list[Path]) -> None:
    answer = connect(limits=Limits(max_pixels=10)).post("/predict", content=photos[0].read_bytes())
    assert answer.status_code == 400
    assert "pixels" in answer.text


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Networks answer only once this is set."""
    free, answers = threading.Event(), Predictor.answers

    def waiting(self: Predictor, images: list[Fitted]) -> Any:
        assert free.wait(30)
        return answers(self, images)

    monkeypatch.setattr(Predictor, "answers", waiting)
    yield free
    free.set()


def test_a_full_queue_refuses_with_429_and_takes_requests_again(
    connect: Connect, photos: list[Path], held: threading.Event
) -> None:
    client, data = connect(limits=Limits(max_requests=2)), photos[0].read_bytes()
    service: Service = client.service  # type: ignore[attr-defined]
    with ThreadPoolExecutor(2) as pool:
        first = [pool.submit(client.post, "/predict", content=data) for _ in range(2)]
        while service.metrics.in_flight < 2:
            threading.Event().wait(0.01)
        refused = client.post("/predict", content=data)
        assert client.get("/health").status_code == 200
        held.set()
        assert [answer.result().status_code for answer in first] == [200, 200]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert client.post("/predict", content=data).status_code == 200


def test_a_request_that_takes_too_long_ends_with_408(
    connect: Connect, photos: list[Path], held: threading.Event
) -> None:
    client = connect(limits=Limits(timeout_s=0.2))
    assert client.post("/predict", content=photos[0].read_bytes()).status_code == 408
    assert client.service.metrics.in_flight == 0  # type: ignore[attr-defined]


def test_no_more_images_are_decoded_at_once_however_many_requests_were_given_up(
    connect: Connect, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    free, lock, running = threading.Event(), threading.Lock(), [0, 0]

    def slow(data: bytes, name: str, limits: Any, **rest: Any) -> Any:
        with lock:
            running[0] += 1
            running[1] = max(running)
        assert free.wait(30)
        with lock:
            running[0] -= 1
        return decode_image(data, name, limits, **rest)

    monkeypatch.setattr(app, "decode_image", slow)
    client = connect(limits=Limits(timeout_s=0.2))
    answers = [client.post("/predict", content=photos[0].read_bytes()) for _ in range(app.NUM_DECODERS + 2)]
    assert {answer.status_code for answer in answers} == {408}
    assert running[1] == app.NUM_DECODERS
    free.set()
    monkeypatch.undo()
    while client.post("/predict", content=photos[0].read_bytes()).status_code != 200:
        threading.Event().wait(0.05)


def test_others_are_answered_while_a_large_json_is_read(
    connect: Connect, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, free, loads = threading.Event(), threading.Event(), json.loads

    def slow(text: bytes) -> Any:
        begun.set()
        assert free.wait(30)
        return loads(text)

    client = connect()
    document = {"image": base64.b64encode(photos[0].read_bytes()).decode()}
    monkeypatch.setattr(body.json, "loads", slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, "/predict", json=document)
        assert begun.wait(30)
        try:
            assert pool.submit(client.get, "/health").result(timeout=10).status_code == 200
        finally:
            free.set()
        assert first.result().status_code == 200


def test_a_token_is_asked_for_by_all_but_health(connect: Connect, photos: list[Path]) -> None:
    client, data = connect(host="0.0.0.0", token="long-secret"), photos[0].read_bytes()
    for headers in ({}, {"Authorization": "Bearer other"}, {"Authorization": "long-secret"}):
        assert client.post("/predict", content=data, headers=headers).status_code == 401
        assert client.get("/metrics", headers=headers).status_code == 401
        assert client.get("/openapi.json", headers=headers).status_code == 401
        assert client.get("/health", headers=headers).status_code == 200
    assert client.post("/predict", content=data, headers={"Authorization": "Bearer long-secret"}).status_code == 200


@pytest.mark.parametrize("settings", [{"host": "0.0.0.0"}, {"host": "::"}, {"token": "short"}, {"token": "schlüssel!"}])
def test_an_open_address_without_a_token_and_a_poor_token_are_refused(
    settings: dict[str, str], runs: list[Run]
) -> None:
    with pytest.raises(ConfigError, match="token"):
        service_of(*runs, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Host": ""}, {"Origin": "https://evil.example"}, {"Origin": "null"}]
)
def test_web_pages_of_others_cannot_ask_a_loopback_server(
    headers: dict[str, str], connect: Connect, photos: list[Path]
) -> None:
    assert connect().post("/predict", content=photos[0].read_bytes(), headers=headers).status_code == 403


def test_requests_that_arrive_together_are_answered_in_one_batch(runs: list[Run], photos: list[Path]) -> None:
    predictor, sizes = Predictor(load(runs[0].model_folder)), []
    images = [predictor.fit(decode_image(photo.read_bytes(), photo.name), Path(photo.name)) for photo in photos]
    expected = predictor.answers(images)
    batcher = Batcher(wait_s=1.0, observe=sizes.append)
    waiting = [batcher.submit(predictor, [image]) for image in images]
    batcher.stop()
    assert [job.result()[0] for job in waiting] == expected
    assert sizes == [6]


def test_an_error_in_a_batch_is_told_and_the_thread_lives_on(
    runs: list[Run], photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(load(runs[0].model_folder))
    image = predictor.fit(decode_image(photos[0].read_bytes(), "a"), Path("a"))
    batcher = Batcher()
    with monkeypatch.context() as patch:
        patch.setattr(predictor, "answers", lambda images: 1 / 0)
        assert isinstance(batcher.submit(predictor, [image]).exception(), ZeroDivisionError)
    assert len(batcher.submit(predictor, [image]).result()) == 1
    batcher.stop()


def test_metrics_count_requests_by_status_and_images_by_batch(connect: Connect, photos: list[Path]) -> None:
    client = connect()
    client.post("/predict", content=photos[0].read_bytes())
    client.post("/predict", content=b"no image")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert lines['opsin_requests_total{path="/predict",status="200"}'] == "1"
    assert lines['opsin_requests_total{path="/predict",status="400"}'] == "1"
    assert lines["opsin_batch_images_sum"] == "1.000000"
    assert lines['opsin_predict_seconds_bucket{le="+Inf"}'] == lines["opsin_predict_seconds_count"] == "1"
    assert lines["opsin_requests_in_flight"] == "0"


def test_the_description_names_every_route_and_status(connect: Connect) -> None:
    found = connect().get("/openapi.json").json()
    assert set(found["paths"]) == {"/predict", "/explain", "/health", "/metrics", "/openapi.json"}
    for path in ("/predict", "/explain"):
        statuses = set(found["paths"][path]["post"]["responses"])
        assert statuses == {"200", "400", "401", "403", "404", "408", "413", "415", "429", "431"}


def test_an_address_that_is_taken_is_refused(runs: list[Run]) -> None:
    import socket

    service = service_of(runs[0])
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(RefusedError, match="--port"):
        run_service(service, host="127.0.0.1", port=other.getsockname()[1], started=print)
    service.stop()


def test_a_missing_package_names_the_extra(runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ConfigError, match=r"opsin\[serve\]"):
        service_of(*runs)
