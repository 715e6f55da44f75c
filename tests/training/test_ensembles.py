"""Ensembles: the mean of probabilities as one artefact, weights chosen on val, and the gain with its interval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opsin.artifact import load_proved
from opsin.cli import main
from opsin.cli.ensemble import unheard_note
from opsin.errors import ConfigError, DataError
from opsin.evaluation import evaluate
from opsin.report import write_report
from opsin.runs import Run, read_gallery
from opsin.studies.ensembles import ensemble, mixture_weights, paired_gain
from opsin.training import train

SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "filters": [8, 8],
    "batch_size": 64,
    "epochs": 2,
    "subset": "train=300",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
    "preflight": False,
}


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two runs of one network, and one of another network with another normalization."""
    folder = tmp_path_factory.mktemp("members")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        others = {"model": "plain", "filters": [8], "normalize": "signed"}
        return [
            train("digits", name="a", out=folder, **SETTINGS),
            train("digits", name="b", out=folder, **(SETTINGS | {"seed": 1})),
            train("digits", name="c", out=folder, **(SETTINGS | others)),
        ]


def test_an_ensemble_is_an_artefact_that_answers_with_the_weighted_mean(members: list[Run], tmp_path: Path) -> None:
    found = ensemble(members, kind="average", out=tmp_path, name="three", quiet=True)
    mean = sum(w * run.predictions("val")["probabilities"] for w, run in zip(found.weights, members, strict=True))
    assert np.allclose(found.run.predictions("val")["probabilities"], mean, atol=1e-5)
    assert load_proved(found.run.model_folder).spec.name == "ensemble"
    assert found.run.scores["val"]["accuracy"].value == pytest.approx(found.accuracy)
    assert found.gain.value == pytest.approx(found.accuracy - max(found.members))


def test_an_ensemble_is_shown_other_sizes_where_every_member_takes_them(members: list[Run], tmp_path: Path) -> None:
    pair = ensemble(members[:2], kind="average", out=tmp_path, name="pair", quiet=True).run
    found = evaluate(pair, tta=("scale",))
    assert pair.scores["val"].tta["accuracy"] == found.tta["accuracy"]
    three = ensemble(members, kind="average", out=tmp_path, name="three", quiet=True).run
    with pytest.raises(ConfigError, match="fixed input size"):
        evaluate(three, tta=("scale",))


def test_an_ensemble_tells_its_parameters_and_the_training_time_of_its_members(
    members: list[Run], tmp_path: Path
) -> None:
    found = ensemble(members, kind="average", out=tmp_path, name="three", quiet=True).run.summary
    assert found.parameters == sum(run.summary.parameters for run in members)
    assert found.seconds == pytest.approx(sum(run.summary.seconds for run in members), abs=0.02)


def test_the_report_of_an_ensemble_names_its_members_and_shows_its_mistakes(members: list[Run], tmp_path: Path) -> None:
    run = ensemble(members, kind="average", out=tmp_path, name="three", quiet=True).run
    assert len(read_gallery(run.path)["mistakes_val"]) == len(run.scores["val"].details["mistakes"]) > 0
    page = write_report(run).read_text()
    assert all(str(member.path) in page for member in members)
    assert "no thumbnail" not in page
    assert "No epoch was finished" not in page


def test_a_soup_of_one_network_with_itself_is_that_network(members: list[Run], tmp_path: Path) -> None:
    import shutil

    twin = Run(shutil.copytree(members[0].path, tmp_path / "twin"))
    found = ensemble([members[0], twin], kind="soup", out=tmp_path, name="soup", quiet=True)
    a, b = (load_proved(run.model_folder).network.state_dict() for run in (found.run, members[0]))
    assert all(np.allclose(a[key], b[key], atol=1e-6) for key in b)
    assert found.gain.value == 0


def test_runs_that_do_not_fit_together_are_refused(members: list[Run], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs several runs"):
        ensemble(members[:1], out=tmp_path)
    with pytest.raises(ConfigError, match="different networks"):
        ensemble(members, kind="soup", out=tmp_path)
    other = train("digits", name="d", out=tmp_path, **(SETTINGS | {"split_seed": 5, "epochs": 1}))
    with pytest.raises(DataError, match="different data or splits"):
        ensemble([members[0], other], out=tmp_path)
    larger = train("digits", name="e", out=tmp_path, **(SETTINGS | {"input_size": 12, "epochs": 1}))
    with pytest.raises(ConfigError, match="different input sizes"):
        ensemble([members[0], larger], out=tmp_path)


def test_the_weights_are_the_best_for_the_likelihood() -> None:
    # member 0 is right with 0.9 on three of four samples, member 1 on the fourth alone: w/(0.1 + 0.8 w) by hand
    right = np.array([[0.9, 0.9, 0.9, 0.1], [0.1, 0.1, 0.1, 0.9]])
    probabilities = np.stack([right, 1 - right], axis=2)
    weights = mixture_weights(probabilities, np.zeros(4, np.int64))
    grid = np.linspace(0, 1, 10001)[:, None]
    likelihood = np.log(grid * right[0] + (1 - grid) * right[1]).sum(1)
    assert weights[0] == pytest.approx(float(grid[likelihood.argmax(), 0]), abs=1e-3)
    assert weights.sum() == pytest.approx(1)


def test_the_gain_of_a_score_over_itself_is_nothing() -> None:
    hits = np.array([1.0, 0.0, 1.0, 1.0])
    same = paired_gain(hits, hits)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    better = paired_gain(np.ones(4), hits)
    assert better.value == 0.25
    assert 0.0 <= better.low <= 0.25 <= better.high


def test_members_that_are_not_heard_are_told() -> None:
    assert unheard_note(["a", "b", "c"], [0.4, 0.0, 0.6]) == (
        "predictions are those of a and c alone: the other runs add nothing on val"
    )
    assert unheard_note(["a", "b"], [0.4, 0.6]) is None


def test_the_command_line_tells_weights_and_gain(
    members: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = [str(run.path) for run in members]
    assert main(["ensemble", *places, "--out", str(tmp_path), "--json", "--quiet"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["weights"]) == set(places)
    assert said["gain"]["low"] <= said["gain"]["value"] <= said["gain"]["high"]
    assert main(["evaluate", said["run"], "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["accuracy"]["value"] == pytest.approx(said["accuracy"])
