"""No page of another address, no path and no script of a client gets through (reliability 36 to 41)."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from opsin.errors import ConfigError
from opsin.io.images import encode_png
from opsin.studio.app import make_app
from opsin.studio.guard import COOKIE, StudioGuard
from opsin.studio.sets import slug
from opsin.studio.state import Studio

ADDRESS = "http://127.0.0.1:8200"
TOKEN = "correct horse"
OUT = (
    "..",
    "../..",
    "../../etc/passwd",
    "/etc/passwd",
    "....//",
    "..\\..\\x",
    "%2e%2e",
    "a/../..",
    "\x00",
    "file:///etc",
)
PLACES = ("/data/{}", "/data/{}/grid", "/runs/{}", "/runs/{}/try", "/runs/{}/report", "/labs/{}/quick", "/static/{}")


@pytest.fixture
def far(studio: Studio) -> Iterator[TestClient]:
    """A browser of another machine; it asks by whatever name it likes."""
    app = make_app(studio, StudioGuard("0.0.0.0", TOKEN))
    with TestClient(app, base_url="http://example.org") as found:
        yield found


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:8200", ""])
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 403


@pytest.mark.parametrize("host", ["localhost:8200", "127.0.0.1:8200", "[::1]:8200"])
def test_this_machine_may_be_called_by_its_names(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "https://127.0.0.1:8200.evil", "http://127.0.0.1:9999", "http://localhost:8200", "null"],
)
def test_another_origin_is_refused_also_another_port_of_this_machine(client: TestClient, origin: str) -> None:
    for answer in (
        client.get("/", headers={"Origin": origin}),
        client.post("/train", data={"data": "built-in-digits"}, headers={"Origin": origin}),
        client.post("/runs/digits/predict", content=b"x", headers={"Origin": origin}),
    ):
        assert answer.status_code == 403


def test_what_a_page_of_another_site_embeds_is_refused_but_a_link_is_followed(client: TestClient) -> None:
    embedded = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/data/built-in-digits/image/val/0", headers=embedded).status_code == 403
    assert client.get("/", headers=followed).status_code == 200
    assert client.post("/train", data={}, headers=followed).status_code == 403


def test_elsewhere_a_token_is_made_and_needed(far: TestClient) -> None:
    assert StudioGuard("0.0.0.0").token
    assert StudioGuard("127.0.0.1").token is None
    with pytest.raises(ConfigError):
        StudioGuard("0.0.0.0", "short")
    assert far.get("/").status_code == 401
    assert far.get("/?token=wrong").status_code == 401
    far.cookies.set(COOKIE, TOKEN)
    assert far.get("/").status_code == 401


def test_the_token_in_the_address_is_exchanged_for_a_cookie_that_no_script_reads(far: TestClient) -> None:
    answer = far.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    far.cookies.set(COOKIE, str(StudioGuard("0.0.0.0", TOKEN).cookie))
    assert far.get("/").status_code == 200


@pytest.mark.parametrize("address", ["/", "/nowhere", "/static/studio.js", "/data/built-in-digits/image/val/0"])
def test_each_answer_carries_the_policy(client: TestClient, address: str) -> None:
    headers = client.get(address).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("address", PLACES)
def test_no_address_leads_out_of_what_is_listed(client: TestClient, address: str) -> None:
    for written in (quoted for out in OUT for quoted in (quote(out, safe=""), quote(quote(out, safe=""), safe=""))):
        answer = client.get(address.format(written))
        # a client of its own accord takes `..` out of an address: what is left of it is Home
        assert answer.status_code in (400, 404) or answer.url.path == "/", answer.text
        assert "root:" not in answer.text


@pytest.mark.parametrize("out", OUT)
def test_no_field_names_a_file(client: TestClient, studio: Studio, out: str) -> None:
    assert client.post("/train", data={"data": out}).status_code == 404
    answer = client.post("/train", data={"data": "built-in-digits", "name": out, "epochs": "1"})
    assert answer.status_code == 400
    assert client.get("/train/plan", params={"data": "built-in-digits", "model": out}).status_code == 400
    assert client.post("/runs/digits/check", data={"check": out}).status_code == 400
    assert client.post("/labs", data={"lab": out}).status_code == 400
    assert not studio.jobs.running()


@pytest.mark.parametrize("option", ["--root", "-h", "--open-test", "@file"])
def test_no_field_becomes_an_option(client: TestClient, studio: Studio, option: str) -> None:
    assert client.post("/train", data={"data": "built-in-digits", "name": option}).status_code == 400
    assert client.post("/train", data={"data": "built-in-digits", "epochs": option}).status_code == 400
    assert not studio.jobs.running()


def _attributes(page: str) -> set[str]:
    """Names of all attributes of all elements."""
    found: set[str] = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda _, attributes: found.update(name for name, _ in attributes)  # type: ignore[method-assign]
    parser.feed(page)
    return found


def test_names_of_classes_are_shown_not_run(client: TestClient) -> None:
    for address in ("/data/given-photos/overview", "/data/given-photos/grid", "/data/given-photos/findings"):
        page = client.get(address).text
        assert "<img src=x" not in page
        assert not {name for name in _attributes(page) if name.startswith("on")}
    assert "&lt;img src=x onerror=alert(1)&gt;" in client.get("/data/given-photos/grid").text


def test_what_is_refused_is_escaped(client: TestClient) -> None:
    page = client.get("/compare", params={"run": ["<script>a</script>", "<b>"]}).text
    assert "<script>a" not in page
    assert "&lt;script&gt;a" in page


def test_bodies_that_are_too_large_or_no_form_are_refused(client: TestClient) -> None:
    assert client.post("/train", content=b"data=" + b"x" * 100_000).status_code == 413
    assert client.post("/train", content=b"\xff=1").status_code == 400
    assert client.post("/train", content=b"&".join(b"a=1" for _ in range(2000))).status_code == 400
    many = [("a", (f"{i}.png", b"x")) for i in range(3)]
    assert client.post("/runs/digits/predict", files=many).status_code == 413
    assert client.post("/runs/digits/predict", content=b"x", headers={"Content-Length": "99999999"}).status_code == 413


def _begun(client: TestClient, name: str = "things") -> str:
    return str(client.post("/uploads", data={"name": name}).json()["id"])


def _png(seed: int = 0) -> bytes:
    return encode_png(np.random.default_rng(seed).integers(0, 256, (3, 20, 20), dtype=np.uint8))


@pytest.mark.parametrize("name", [*OUT, ".hidden", "a/b", "CON", "x" * 500, "<script>", "", "💐"])
def test_whatever_a_client_calls_things_files_stay_in_the_folder(client: TestClient, studio: Studio, name: str) -> None:
    gathering = _begun(client, name)
    label = name or "a"
    answer = client.post(f"/uploads/{gathering}", params={"class": label}, files={"f": (name or "x", _png())})
    assert answer.status_code in (200, 400), answer.text
    client.post(f"/uploads/{gathering}", params={"class": "fine"}, files={"f": ("../../x.png", _png(1))})
    key = client.post(f"/uploads/{gathering}/finish").json()["key"]
    root = studio.sets.uploads.resolve()
    written = [path for path in studio.folder.resolve().rglob("*") if path.is_file()]
    assert written
    assert all(root in path.parents and re.fullmatch(r"\d{5}\.png", path.name) for path in written)
    assert key == f"own-{slug(name)}"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 50,
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"GIF89a<script>",
        b"PK\x03\x04" + b"\x00" * 100,
        b"\xff\xd8\xff\xe0" + b"\x00" * 200,
    ],
)
def test_what_is_no_image_is_named_and_not_kept(client: TestClient, studio: Studio, data: bytes) -> None:
    gathering = _begun(client)
    told = client.post(f"/uploads/{gathering}", params={"class": "a"}, files={"f": ("a.png", data)}).json()
    assert told["kept"] == 0
    assert told["refused"][0].startswith("a.png: ")
    finished = client.post(f"/uploads/{gathering}/finish", headers={"Accept": "application/json"})
    assert finished.status_code == 400
    assert "without pictures" in finished.json()["error"]["what"]
    assert not [path for path in studio.folder.rglob("*") if path.is_file()]


def test_an_upload_is_listed_when_it_is_whole_and_trained_names_are_its_classes(
    client: TestClient, studio: Studio
) -> None:
    gathering = _begun(client, "My Pets")
    for number, label in enumerate(("Rote Katze", "chien")):
        for i in range(12):
            client.post(f"/uploads/{gathering}", params={"class": label}, files={"f": ("x", _png(20 * number + i))})
    assert "my-pets" not in client.get("/").text
    key = client.post(f"/uploads/{gathering}/finish").json()["key"]
    assert key in client.get("/").text
    assert set(studio.sets.open(key).classes) == {"Rote Katze", "chien"}
    again = _begun(client, "My Pets")
    client.post(f"/uploads/{again}", params={"class": "a"}, files={"f": ("x", _png())})
    assert client.post(f"/uploads/{again}/finish").json()["key"] == "own-my-pets-2"


def test_sets_that_were_never_finished_do_not_pile_up(client: TestClient, studio: Studio) -> None:
    for _ in range(20):
        _begun(client)
    assert len(list(studio.sets.uploads.iterdir())) <= 8
    assert client.post("/uploads/unknown/finish").status_code == 404


def test_no_file_outside_is_read_through_a_link_among_the_runs(client: TestClient, studio: Studio, place: Path) -> None:
    assert studio.runs.folder == place / "runs"
    for name in (".", "..", "digits/..", "digits/model"):
        answer = client.get(f"/runs/{quote(name, safe='')}")
        assert answer.status_code in (400, 404) or answer.url.path == "/"


def test_a_picture_of_the_second_tier_is_kept_as_what_it_is(client: TestClient, studio: Studio) -> None:
    file = io.BytesIO()
    Image.new("RGB", (24, 24), (200, 30, 30)).save(file, "TIFF")
    gathering = client.post("/uploads", data={"name": "photos"}).json()["id"]
    told = client.post(f"/uploads/{gathering}", params={"class": "a"}, files={"f": ("a.tif", file.getvalue())}).json()
    assert told == {"kept": 1, "refused": []}
