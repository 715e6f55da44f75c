"""Records to JSON and back."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest

from opsin.config import resolve
from opsin.errors import RunError
from opsin.io.files import write_json
from opsin.runs import DataCard, Environment, Event, Run, RunWriter, SplitCard, SplitScores, Summary, WithoutCopies
from opsin.runs.codec import from_json, to_json
from opsin.types import Score


@pytest.fixture
def writer(tmp_path: Path) -> RunWriter:
    return RunWriter.create(resolve(), name="one", out=tmp_path)


def test_undefined_is_null_in_json_and_comes_back_as_undefined() -> None:
    plain = to_json(SplitScores(n=3, scores={"ece": Score(math.nan, 0.1, math.nan)}, fitted={"temperature": math.nan}))
    assert plain["scores"] == {"ece": {"value": None, "low": 0.1, "high": None}}
    assert plain["fitted"] == {"temperature": None}
    back = from_json(SplitScores, plain, "scores.json")
    assert math.isnan(back["ece"].value)
    assert back["ece"].low == 0.1
    assert math.isnan(back.fitted["temperature"])


def test_what_was_not_recorded_has_no_key_but_for_nulls_that_mean_something() -> None:
    assert to_json(Summary(epochs=3)) == {"epochs": 3}
    assert to_json(WithoutCopies(n=1, exact=0, near=None, scores={})) == {
        "n": 1,
        "exact": 0,
        "near": None,
        "scores": {},
    }
    assert to_json(SplitCard(n=2)) == {"n": 2, "class_counts": None}


def test_a_record_in_which_nothing_was_recorded_is_false() -> None:
    assert not any((DataCard(), Environment(), Summary()))
    assert Summary(step=0)
    assert DataCard(name="digits")


def test_keys_of_a_newer_version_are_kept_when_the_file_is_written_again(writer: RunWriter) -> None:
    write_json(writer.path / "summary.json", {"epochs": 2, "carbon_g": 3.5, "extra": "kept too"})
    summary = writer.run.summary
    assert (summary.epochs, summary.extra) == (2, {"carbon_g": 3.5, "extra": "kept too"})
    writer.summary(summary)
    assert writer.run.summary == summary


def test_an_unknown_key_of_a_part_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(RunError) as caught:
        from_json(SplitCard, {"n": 2, "class_count": [1, 1]}, "data.json: splits: val")
    assert "`class_counts`" in str(caught.value.do)


@pytest.mark.parametrize(
    ("file", "values", "field", "got", "expected"),
    [
        ("data.json", {"classes": "ab"}, "classes", "ab", "a list"),
        ("data.json", {"splits": {"val": 3}}, "splits: val", "3", "an object"),
        ("data.json", {"splits": {"val": {"n": 1.5}}}, "splits: val: n", "1.5", "a whole number"),
        ("data.json", {"size": [8, "8"]}, "size[1]", "8", "a whole number"),
        (
            "data.json",
            {"findings": [{"kind": "leak", "severity": "grave", "message": ""}]},
            "severity",
            "grave",
            "error",
        ),
        ("environment.json", {"channels_last": 1}, "channels_last", "1", "true or false"),
        ("summary.json", {"seconds": "long"}, "seconds", "long", "a number"),
        ("summary.json", {"parameters": True}, "parameters", "True", "a whole number"),
        ("scores.json", {"val": {"n": 1}}, "val", "no `scores`", "the field `scores`"),
        ("scores.json", {"val": {"scores": {"accuracy": 0.5}}}, "val: scores: accuracy", "0.5", "an object"),
        ("scores.json", {"val": {"scores": {"accuracy": {"low": 0.5}}}}, "accuracy", "no `value`", "the field `value`"),
    ],
)
def test_a_damaged_file_is_refused_with_file_field_got_and_expected(
    writer: RunWriter, file: str, values: object, field: str, got: str, expected: str
) -> None:
    write_json(writer.path / file, values)
    name = file.removesuffix(".json")
    with pytest.raises(RunError, match="a file of the run is damaged") as caught:
        getattr(writer.run, name)
    assert file in str(caught.value.where)
    assert field in str(caught.value.where)
    assert caught.value.got == got
    assert expected in str(caught.value.expected)
    assert caught.value.do


def test_a_file_that_is_no_json_is_refused_as_a_damaged_file_of_the_run(writer: RunWriter) -> None:
    (writer.path / "summary.json").write_text('{"epochs": 3')
    with pytest.raises(RunError, match="damaged") as caught:
        _ = writer.run.summary
    assert "not a JSON file" in str(caught.value.got)


def test_a_damaged_epoch_is_refused_when_epochs_are_asked_for(writer: RunWriter) -> None:
    writer.event("epoch", epoch=3, lr="fast")
    assert writer.run.log[0]["lr"] == "fast"
    with pytest.raises(RunError, match=r"(?s)epoch 3: lr.*a number"):
        _ = writer.run.log.epochs


def test_a_run_of_a_newer_version_is_refused(writer: RunWriter) -> None:
    write_json(writer.path / "data.json", {"version": 2})
    with pytest.raises(RunError, match="a newer Opsin wrote this run"):
        _ = writer.run.data


def test_an_event_is_a_mapping_of_all_that_it_tells() -> None:
    event = from_json(Event, {"event": "plan", "step": 3, "share": 0.5}, "log.jsonl")
    assert (event.event, event.step, event["share"], event.get("message")) == ("plan", 3, 0.5, None)
    assert dict(event) == {"event": "plan", "step": 3, "share": 0.5}


def test_results_that_are_damaged_are_removed_by_repair_and_the_log_says_so(writer: RunWriter) -> None:
    write_json(writer.path / "scores.json", {"val": {"scores": 3}})
    write_json(writer.path / "summary.json", {"epochs": 3})
    (said,) = writer.repair()
    assert said.startswith("scores.json is damaged")
    assert writer.run.scores == {}
    assert writer.run.summary.epochs == 3
    assert writer.run.log[-1].message == said


def test_a_run_has_few_public_names() -> None:
    assert len([name for name in vars(Run) if not name.startswith("_")]) <= 17


def test_every_field_of_a_record_is_written_down_in_its_class() -> None:
    assert all(entry.kw_only for kind in (DataCard, Environment, Summary, SplitScores, Event) for entry in fields(kind))
