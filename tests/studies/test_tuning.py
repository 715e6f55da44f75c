"""A search from data to recipe: the winner, the gain, the recipe that trains it again, the page, and going on."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import opsin
from opsin.cli import main
from opsin.errors import ConfigError, DivergedError, RunError
from opsin.progress import QUIET as SILENT
from opsin.runs import Run
from opsin.studies.gain import NOT_BEATEN, WINNER_DIVERGED, compare_with_given
from opsin.studies.recipes import write_recipe
from opsin.studies.search import Trial
from opsin.studies.tune_figures import frontier
from opsin.studies.tuning import TuneResult, tune
from opsin.training.setup.defaults import read_recipe
from opsin.training.setup.preparing import resolve_settings

from .conftest import QUICK

sys.path.append(str(Path(__file__).parents[1] / "faults"))
import kill_a_study

SPACE = "lr = { low = 1e-5, high = 1e-2, log = true }\nfilters = [[8], [8, 16]]\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tune")
    (made / "space.toml").write_text(SPACE, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> TuneResult:
    """Five trials from settings that are far too slow, and two fresh seeds of both sides."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        return ask(folder)


def ask(folder: Path, **changed: Any) -> TuneResult:
    settings = QUICK | {"lr": 1e-5, "space": folder / "space.toml", "trials": 5, "seeds": 2} | changed
    return tune("digits", out=folder, name="study", quiet=True, command="opsin tune digits", **settings)


def test_the_winner_has_the_best_score_and_the_first_trial_is_the_settings_as_given(found: TuneResult) -> None:
    assert [trial.number for trial in found.trials] == [0, 1, 2, 3, 4]
    assert found.trials[0].values == {"lr": 1e-5, "filters": "8"}
    assert found.best.score == max(trial.score for trial in found.trials if trial.state == "complete")
    assert found.run.scores["val"]["accuracy"].value == found.best.score


def test_winner_and_given_settings_are_compared_with_fresh_seeds_on_val(found: TuneResult) -> None:
    assert found.gain is not None
    assert [run.config.train.seed for run in found.runs] == [1000, 1001, 1000, 1001]
    assert found.gain.low <= found.gain.difference <= found.gain.high
    scores = [run.scores["val"]["accuracy"].value for run in found.runs]
    assert found.gain.difference == pytest.approx((scores[2] + scores[3] - scores[0] - scores[1]) / 2)


def test_the_test_split_is_never_opened(found: TuneResult) -> None:
    assert all(run.log.test_openings == 0 for run in (found.run, *found.runs))


def test_the_recipe_gives_the_settings_of_the_winner(found: TuneResult) -> None:
    recipe = str(found.recipe)
    again = resolve_settings("digits", root=None, recipe=recipe, settings={"threads": 1, "preflight": False}).config
    assert again == found.run.config
    assert "opsin tune digits" in found.recipe.read_text(encoding="utf-8")


def test_the_page_holds_its_figures_and_needs_nothing_else(found: TuneResult) -> None:
    page = found.page.read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_asked_again_the_study_trains_nothing(found: TuneResult, folder: Path) -> None:
    before = (found.path / "journal.log").stat().st_size
    again = ask(folder)
    assert again.to_dict() == found.to_dict()
    assert (found.path / "journal.log").stat().st_size == before


def test_more_trials_go_on_from_those_that_are_there(found: TuneResult, folder: Path) -> None:
    more = ask(folder, trials=6)
    assert [trial.values for trial in more.trials[:5]] == [trial.values for trial in found.trials]
    assert len(more.trials) == 6


def test_another_search_under_the_same_name_is_refused(found: TuneResult, folder: Path) -> None:
    with pytest.raises(RunError, match="with another request"):
        ask(folder, epochs=3)


def test_given_settings_that_no_trial_beats_are_not_compared(tmp_path: Path) -> None:
    result = tune("digits", trials=1, search="lr", out=tmp_path, quiet=True, **QUICK)
    assert (result.best.number, result.gain, result.verdict, result.runs) == (0, None, NOT_BEATEN, ())


def test_a_winner_that_diverges_with_a_fresh_seed_is_not_trusted(found: TuneResult) -> None:
    def train(name: str, settings: object) -> Run:
        if name.startswith("winner"):
            raise DivergedError("the loss is not finite")
        return found.runs[0]

    outcome = compare_with_given(
        train, ("given", {}), ("winner", {}), seeds=1, first_seed=0, has_time=lambda: True, report=SILENT
    )
    assert (outcome.gain, outcome.verdict) == (None, WINNER_DIVERGED)


def test_a_trial_whose_settings_are_refused_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    space = tmp_path / "space.toml"
    space.write_text("filters = [[8], [8, 8, 8, 8, 8]]\n", encoding="utf-8")  # 8 px cannot be halved five times
    result = tune("digits", trials=4, space=space, out=tmp_path, quiet=True, **QUICK)
    states = {trial.values["filters"]: trial.state for trial in result.trials}
    assert states == {"8": "complete", "8,8,8,8,8": "failed"}


@pytest.mark.parametrize(
    "settings", [{"trials": 0}, {"minutes": 0.0}, {"space": "a", "search": "b"}, {"search": "lrr"}]
)
def test_requests_without_a_meaning_are_refused(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        tune("digits", out=tmp_path, quiet=True, **(QUICK | settings))


def test_without_optuna_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"opsin\[tune\]"):
        tune("digits", out=tmp_path, quiet=True, **QUICK)


def test_the_public_function_is_this_one() -> None:
    assert opsin.tune is tune


def test_the_frontier_leaves_out_what_is_beaten_in_score_and_time() -> None:
    points = [(0, 0.5, 10.0), (1, 0.4, 20.0), (2, 0.7, 30.0), (3, 0.7, 40.0), (4, 0.9, 60.0)]
    trials = [Trial(number=n, state="complete", values={}, score=score, seconds=s) for n, score, s in points]
    assert [trial.number for trial in frontier(trials)] == [0, 2, 4]


def test_a_recipe_reads_back_as_it_was_written(tmp_path: Path) -> None:
    settings = {"lr": 1e-05, "filters": [8, 16], "subset": 'train="1"', "ema": 0.0, "compile": True, "dense": []}
    write_recipe(tmp_path / "a.toml", settings | {"seed": 3, "patience": None}, ["one\ntwo = 3"])
    assert read_recipe(str(tmp_path / "a.toml")) == settings


def test_the_command_prints_one_document(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = ["--model", "plain", "--filters", "8", "--epochs", "1", "--subset", "train=150", "--no-preflight"]
    options += ["--precision", "float32", "--channels-last", "--threads", "1", "--runs", str(tmp_path)]
    out = tmp_path / "winner.toml"
    assert main(["tune", "digits", "--trials", "1", "--json", "--quiet", "--out", str(out), *options]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["file"] == str(out)
    assert document["trials"] == {"begun": 1, "complete": 1}
    assert Path(document["run"], "config.json").is_file()
    assert "filters" in read_recipe(str(out))


def test_a_study_that_is_killed_ends_with_the_trials_of_one_that_was_not(tmp_path: Path) -> None:
    def in_this_process(place: Path) -> None:
        names = ["tune", "digits", "--trials", "3", "--name", kill_a_study.NAME, "--runs", str(place), "--quiet"]
        assert main([*names, *kill_a_study.SETTINGS, *kill_a_study.SHORT]) == 0

    in_this_process(tmp_path / "whole")
    killed = [kill_a_study.kill_after(tmp_path / "broken", 3, kill_a_study.SHORT, epochs=epochs) for epochs in (2, 2)]
    in_this_process(tmp_path / "broken")
    whole, found = (kill_a_study.trials_of(tmp_path / name) for name in ("whole", "broken"))
    assert kill_a_study.differences(whole, found) == []
    assert killed == [-signal.SIGKILL, -signal.SIGKILL]
