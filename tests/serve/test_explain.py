"""`POST /explain`: Grad-CAM over each image, within the limits of `/predict`."""

from __future__ import annotations

import base64
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from opsin.artifact import load
from opsin.explanation.quick import Explainer
from opsin.inference.predictor import Predictor
from opsin.io.images import decode_image
from opsin.runs import Run
from opsin.server.limits import Limits

Connect = Callable[..., TestClient]


@pytest.mark.parametrize("model", [0, 1])
def test_the_heat_over_each_image_is_that_of_the_network(
    model: int, connect: Connect, runs: list[Run], photos: list[Path]
) -> None:
    files = [("a", (photo.name, photo.read_bytes())) for photo in photos[:2]]
    files.append(("a", ("bad.png", b"no image")))
    answer = connect().post("/explain", params={"model": runs[model].name}, files=files)
    assert answer.status_code == 200
    found = answer.json()
    assert [one["file"] for one in found["explanations"]] == [photo.name for photo in photos[:2]]
    assert [one["file"] for one in found["skipped"]] == ["bad.png"]
    artifact = load(runs[model].model_folder)
    predictor, explainer = Predictor(artifact), Explainer(artifact)
    for one, photo in zip(found["explanations"], photos, strict=False):
        image = decode_image(photo.read_bytes(), photo.name, sides=predictor.sides)
        expected = explainer.heat(predictor.fit(image, photo.name).pixels)
        picture = decode_image(base64.b64decode(one["picture"]), "picture").pixels
        # a level apart at most: the server's threads may round a value of the heat to its neighbour
        assert picture.shape == expected.picture.shape
        np.testing.assert_allclose(picture, expected.picture, rtol=0, atol=1)
        assert (one["method"], one["quantity"]) == ("grad-cam", expected.quantity)
        assert one["value"] == pytest.approx(expected.value, abs=1e-4)


def test_an_image_and_another_have_other_heat(connect: Connect, photos: list[Path]) -> None:
    files = [("a", (photo.name, photo.read_bytes())) for photo in photos]
    found = connect().post("/explain", files=files).json()["explanations"]
    assert len({one["picture"] for one in found}) > 1


def test_it_refuses_what_predict_refuses(connect: Connect, photos: list[Path]) -> None:
    client, data = connect(limits=Limits(max_bytes=2000, max_images=2)), photos[0].read_bytes()
    assert client.post("/explain", content=b"no image").status_code == 400
    assert client.post("/explain", content=b"").status_code == 400
    assert client.post("/explain", content=b"x" * 2001).status_code == 413
    assert client.post("/explain", files=[("a", ("x", data))] * 3).status_code == 413
    assert client.post("/explain", content=data, headers={"Content-Type": "text/html"}).status_code == 415
    assert client.post("/explain", params={"model": "other"}, content=data).status_code == 404
    assert client.post("/explain", content=data, headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.get("/explain").status_code == 405
    client.service.metrics.in_flight = 64  # type: ignore[attr-defined]
    assert client.post("/explain", content=data).status_code == 429
    client.service.metrics.in_flight = 0  # type: ignore[attr-defined]
    assert client.post("/explain", content=data).status_code == 200


def test_explanations_leave_predictions_as_they_are(connect: Connect, photos: list[Path]) -> None:
    client, data = connect(), [photo.read_bytes() for photo in photos]
    alone = [client.post("/predict", content=photo).json()["predictions"][0]["label"] for photo in data]
    with ThreadPoolExecutor(4) as pool:
        explained = [pool.submit(client.post, "/explain", content=photo) for photo in data]
        predicted = [pool.submit(client.post, "/predict", content=photo) for photo in data]
        assert {one.result().status_code for one in explained} == {200}
        assert [one.result().json()["predictions"][0]["label"] for one in predicted] == alone
