"""Scores by group."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import opsin
from opsin.cli import main
from opsin.errors import ConfigError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Digits as files, and a table of their sites: those of site `dark` are hardly visible, and badly labelled."""
    folder = tmp_path_factory.mktemp("photos")
    raw, rows = load_digits(), []
    generator = np.random.default_rng(0)
    for i in range(600):
        dark = i % 6 == 0
        pixels = (raw.images[i] * (2 if dark else 15.9)).astype(np.uint8)
        (folder / ("b" if dark else "a")).mkdir(exist_ok=True)
        path = f"{'b' if dark else 'a'}/{i}.png"
        Image.fromarray(pixels).resize((16, 16)).save(folder / path)
        label = int(generator.integers(10)) if dark else int(raw.target[i])
        rows.append((path, str(label), "dark" if dark else f"site{i % 2}"))
    table = folder / "labels.csv"
    table.write_text("path,label\n" + "\n".join(",".join(row[:2]) for row in rows) + "\n")
    (folder / "sites.csv").write_text("path,label,site\n" + "\n".join(map(",".join, rows)) + "\n")
    settings = {"model": "small", "filters": [16, 32], "epochs": 6, "val_fraction": 0.4, "input_size": 16}
    return opsin.train(table, out=folder / "runs", name="sites", quiet=True, preflight=False, **settings)


def test_the_worst_group_of_a_column_is_named_and_agrees_with_a_count_by_hand(run):
    found = opsin.scores_by(run, "site", table=run.path.parents[1] / "sites.csv")
    assert found.worst is not None
    assert found.worst.name == "dark"
    assert found.clear
    assert sum(group.n for group in found.groups) == found.n
    arrays = run.predictions("val")
    right = arrays["probabilities"].argmax(1) == arrays["labels"]
    dark = np.array([str(name).startswith("b/") for name in arrays["ids"]])
    assert found.worst.score.value == pytest.approx(right[dark].mean())
    assert found.worst.n == dark.sum()


def test_folders_and_brightness_say_the_same(run):
    folders = {group.name: group.score.value for group in opsin.scores_by(run, "folder").groups}
    sites = {
        group.name: group.score.value
        for group in opsin.scores_by(run, "site", table=run.path.parents[1] / "sites.csv").groups
    }
    assert folders["b"] == sites["dark"]
    quarters = opsin.scores_by(run, "brightness")
    assert len(quarters.groups) == 4
    assert quarters.worst is not None
    assert quarters.worst.name == min((g.name for g in quarters.groups), key=lambda name: float(name.split(" ")[0]))


def test_small_groups_are_marked_and_are_not_the_worst_while_there_are_others(run):
    found = opsin.scores_by(run, "folder")
    assert {group.name: group.small for group in found.groups} == {g.name: g.n < 30 for g in found.groups}


@pytest.mark.parametrize(("by", "words"), [("site", "--by-table"), ("size", "the same size")])
def test_what_cannot_tell_samples_apart_is_refused(run, by, words):
    with pytest.raises(ConfigError, match=words):
        opsin.scores_by(run, by)


def test_the_command_line_prints_one_document_and_refuses_what_goes_not_together(run, capsys):
    assert (
        main(
            ["evaluate", str(run.path), "--by", "site", "--by-table", str(run.path.parents[1] / "sites.csv"), "--json"]
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert document["groups"]["worst"]["name"] == "dark"
    assert set(document["scores"]) == {"accuracy"}
    assert main(["evaluate", str(run.path), "--by", "site", "--copies"]) == 2
    assert main(["doctor", str(run.path), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"check", "severity", "evidence", "remedy"} <= set(found["findings"][0]) if found["findings"] else True


def test_cards_are_printed_and_written_from_the_command_line(run, capsys, monkeypatch):
    from opsin.diagnosis import changes, robustness

    few = tuple(change for change in changes.CHANGES if change.name in ("shift", "brightness"))
    monkeypatch.setattr(robustness, "CHANGES", few)
    assert main(["evaluate", str(run.path), "--robustness", "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["scores"]["accuracy"] == document["robustness"]["clean"]
    assert main(["compare", str(run.path), str(run.path), "--robustness"]) == 0
    printed = capsys.readouterr().out
    assert "brightness" in printed
    assert "all changes" in printed
    page = (run.path / "report.html").read_text()
    section = page[page.index('<section id="robustness"') :]
    assert section[: section.index("</section>")].count("<svg") == 2
