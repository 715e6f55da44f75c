"""`opsin data`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opsin.cli import main
from opsin.io.images import read_image


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The one JSON document that a command leaves on stdout."""
    assert main(["data", *arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert isinstance(found, dict)
    return found


def test_list_names_every_set(capsys: pytest.CaptureFixture[str]) -> None:
    names = [entry["name"] for entry in document(capsys, "list")["sets"]]
    assert {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "flowers"} <= set(names)
    assert main(["data", "list"]) == 0
    assert "flowers" in capsys.readouterr().out


def test_show_counts_and_draws(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    about = document(capsys, "show", "digits", "--out", str(tmp_path / "a.png"))
    assert {"name", "task", "classes", "splits"} <= set(about)
    assert about["splits"]["train"]["samples"] == sum(about["splits"]["train"]["counts"]) == 1437
    assert read_image(tmp_path / "a.png").pixels.shape == (3, 502, 402)


def test_show_augment_draws_each_sample_as_it_is_and_as_it_is_seen(
    capsys: pytest.CaptureFixture[str], photos, tmp_path: Path
) -> None:
    root, file = photos({"a": 20, "b": 20}), tmp_path / "a.png"
    document(capsys, "show", str(root), "--augment", "--out", str(file), "--input-size", "24", "--rotate", "90")
    pixels = read_image(file).pixels
    rows = (pixels.shape[1] - 2) // 50
    assert pixels.shape[2] == 8 * 50 + 2
    assert rows == 2
    first, second = pixels[:, 2:50, 2:50], pixels[:, 2:50, 52:100]
    assert (first != second).any()


def test_audit_lists_findings_and_keeps_stdout_clean(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "audit", "digits")["findings"]
    assert {finding["kind"] for finding in found} >= {"balance", "sizes", "modes"}
    assert main(["data", "audit", "digits", "--quiet"]) == 0
    assert "balance" in capsys.readouterr().out


def test_audit_exits_with_3_where_training_would_refuse_and_with_0_where_it_was_told_to_go_on(
    capsys: pytest.CaptureFixture[str], photos, tmp_path: Path
) -> None:
    root = photos({"train/a": 9, "train/b": 9, "val/a": 2, "val/b": 2})
    command = ["data", "audit", str(root), "--json"]
    assert main(command) == 0
    (root / "train/a/3.png").write_bytes(b"not an image")
    (root / "val/a/copy.png").write_bytes((root / "train/a/5.png").read_bytes())
    capsys.readouterr()
    assert main(command) == 3
    captured = capsys.readouterr()
    errors = {f["kind"] for f in json.loads(captured.out)["findings"] if f["severity"] == "error"}
    assert errors == {"unreadable", "leak"}
    assert "training would refuse this data set" in captured.err
    assert "1 sample of train cannot be read; 1 image lies in more than one split" in captured.err
    assert main([*command, "--skip-unreadable", "1"]) == 3
    assert main([*command, "--skip-unreadable", "1", "--allow-leaks"]) == 0
    (root / "val/b/0.png").write_bytes(b"not an image")
    assert main([*command, "--skip-unreadable", "1", "--allow-leaks"]) == 0
    (root / "val/b/1.png").write_bytes(b"not an image")
    assert main([*command, "--skip-unreadable", "1", "--allow-leaks"]) == 3


def test_fetch_of_a_built_in_set_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert document(capsys, "fetch", "digits")["folder"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "mnits"], "did you mean `mnist`"),
        (["fetch", "cifar"], "did you mean `cifar10`"),
        (["fetch", "mnist"], "--root"),
        (["show", "digits", "--flip", "0.5"], "--augment"),
        (["show", "digits", "--augment", "--split", "val"], "only training images"),
        (["audit", "digits", "--subset", "trian=3"], "subset"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.delenv("OPSIN_DATA", raising=False)
    assert main(["data", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_classes_of_masks_are_named_without_columns_of_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "digit_masks", "--scenes", "8"]) == 0
    shown = capsys.readouterr().out
    assert "pixel classes: background" in shown
    assert "│ background" not in shown
