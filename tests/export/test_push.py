"""A run on the hub: its card holds what the run folder says, and the hub's own client sends it where it is told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import opsin
from opsin.cli import main
from opsin.errors import ConfigError, InputError, NameTakenError, RefusedError
from opsin.exports import pushing
from opsin.runs import Run
from opsin.training import train

SETTINGS = {"epochs": 1, "subset": "train=100,val=40", "precision": "float32", "channels_last": True, "threads": 1}
TO = "hf://someone/digits"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("runs")
    return train("digits", name="digits", out=out, quiet=True, filters=[8], **SETTINGS)


@dataclass
class Hub:
    """What a hub on this machine was sent: repositories as they were requested, and files of commits."""

    status: int = 200
    created: list[dict[str, object]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)

    def answer(self, path: str, body: bytes) -> dict[str, object]:
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": "https://huggingface.co/someone/digits", "name": "someone/digits"}
        if path.endswith("/preupload/main"):
            wanted = [entry["path"] for entry in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in wanted]}
        if path.endswith("/commit/main"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = "0" * 40
            return {
                "success": True,
                "commitOid": commit,
                "commitUrl": f"https://huggingface.co/someone/digits/commit/{commit}",
            }
        return {"errors": [], "warnings": []}  # of the card's metadata


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    kept = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = kept.answer(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            data = json.dumps(told).encode()
            self.send_response(kept.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(pushing, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield kept
        server.shutdown()


def test_a_dry_run_writes_the_folder_and_a_card_that_the_hub_can_read(run: Run, tmp_path: Path) -> None:
    cards = pytest.importorskip("huggingface_hub").ModelCard
    made = opsin.push(run, TO, dry_run=tmp_path / "card")
    assert {"README.md", "model/golden.safetensors"} <= set(made.files)
    assert opsin.predict(tmp_path / "card" / "model", _photo(tmp_path))
    card = cards.load(tmp_path / "card" / "README.md")
    assert card.data.pipeline_tag == "image-classification"
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    accuracy = run.scores["val"]["accuracy"]
    assert told["accuracy"] == pytest.approx(accuracy.value)
    assert f"| {accuracy} |" in card.text
    assert "| train | 100 |" in card.text
    assert "## Limits" in card.text
    assert str(run.path) not in card.content


def test_a_card_shows_names_from_outside_as_text(run: Run) -> None:
    from opsin.exports.model_card import _plain

    assert _plain("<img src=x>|`#\x1b[0m") == r"\<img src=x\>\|\`\#\\x1b\[0m"


def test_the_client_sends_card_network_and_export_privately(run: Run, hub: Hub, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "contract.json").write_text("{}")
    made = opsin.push(run, TO, export=tmp_path / "made")
    (created,) = hub.created
    assert created.get("visibility") == "private" or created.get("private") is True  # by the client's age
    assert hub.files.keys() == set(made.files)
    assert hub.files["export/contract.json"] == b"{}"
    weights = run.model_folder / "golden.safetensors"
    assert hub.files["model/golden.safetensors"] == weights.read_bytes()


def test_a_refusal_of_the_hub_is_one_error_with_a_remedy(run: Run, hub: Hub) -> None:
    pytest.importorskip("huggingface_hub")
    hub.status = 403
    with pytest.raises(RefusedError, match="hf auth login"):
        opsin.push(run, TO)
    assert not hub.files


def test_what_cannot_be_pushed_is_refused_before_anything_is_sent(run: Run, hub: Hub, tmp_path: Path) -> None:
    for name in ("digits", "hf://digits", "hf://a/../b", "https://huggingface.co/a/b"):
        with pytest.raises(ConfigError, match="hf://owner/name"):
            opsin.push(run, name)
    with pytest.raises(InputError, match="opsin export"):
        opsin.push(run, TO, export=tmp_path)
    with pytest.raises(NameTakenError):
        opsin.push(run, TO, dry_run=tmp_path)
    assert not hub.created


def test_the_command_names_every_file_of_a_dry_run(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run.path), TO, "--dry-run", str(tmp_path / "card"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["address"] == TO
    written = (path.relative_to(tmp_path / "card") for path in (tmp_path / "card").rglob("*") if path.is_file())
    assert sorted(told["files"]) == sorted(path.as_posix() for path in written)


def _photo(folder: Path) -> Path:
    from PIL import Image

    Image.linear_gradient("L").save(folder / "photo.png")
    return folder / "photo.png"
