"""What holds for every task, and that no room but the tasks' own and the readers' names one."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import opsin
from opsin.config import ModelConfig, TrainConfig
from opsin.data.targets import KINDS
from opsin.models.registry import ModelSpec, resolve_options
from opsin.tasks import Targets, card_of, get_task, task_names
from opsin.tasks.cards import part_of
from opsin.tasks.targets import predictions_in

SOURCE = Path(opsin.__file__).parent
MAY_NAME = ("tasks", "data/readers", "data/made", "data/catalogue.py", "labs")
"""Rooms that may name a task; labs ask for one as any user of the public API does."""
MAY_NAME_A_KIND = ("tasks", "data", "labs", "cli/data.py", "api/augmented.py", "studio")
"""Rooms that may name a kind of target: those that read, check, show, label data, and labs, which know theirs."""


def names_of_tasks_in(text: str) -> list[str]:
    return re.findall(rf"[\"']({'|'.join(task_names())})[\"']", text)


def test_no_room_names_a_task_but_those_that_may():
    files = [file for file in SOURCE.rglob("*.py") if not str(file.relative_to(SOURCE)).startswith(MAY_NAME)]
    assert len(files) > 100
    found = {str(file.relative_to(SOURCE)): names_of_tasks_in(file.read_text()) for file in files}
    assert {name: tasks for name, tasks in found.items() if tasks} == {}


def test_the_search_for_names_finds_them():
    assert names_of_tasks_in('if task == "segment":') == ["segment"]
    assert any(names_of_tasks_in(file.read_text()) for file in (SOURCE / "data/readers").glob("*.py"))


def kinds_named_in(text: str) -> list[str]:
    return re.findall(r"\.(boxes|masks|tags)\b|(true_(?:boxes|masks|tags|numbers))", text)


def test_no_room_names_a_kind_of_target_but_those_that_may():
    files = [file for file in SOURCE.rglob("*.py") if not str(file.relative_to(SOURCE)).startswith(MAY_NAME_A_KIND)]
    found = {str(file.relative_to(SOURCE)): kinds_named_in(file.read_text()) for file in files}
    assert {name: kinds for name, kinds in found.items() if kinds} == {}
    assert kinds_named_in("batch.boxes")
    assert kinds_named_in('arrays["true_tags"]')


def test_no_room_imports_the_package_of_a_task():
    files = [file for file in SOURCE.rglob("*.py") if not str(file.relative_to(SOURCE)).startswith(MAY_NAME)]
    pattern = re.compile(rf"opsin\.tasks\.({'|'.join(task_names())})\b")
    found = {str(file.relative_to(SOURCE)): pattern.findall(file.read_text()) for file in files}
    assert {name: tasks for name, tasks in found.items() if tasks} == {}


def test_no_template_of_the_report_names_a_task():
    templates = list((SOURCE / "report/templates").glob("*.html"))
    assert templates
    assert [file.name for file in templates if names_of_tasks_in(file.read_text())] == []


@pytest.fixture(params=task_names())
def name(request) -> str:
    return request.param


def blank_network(name: str) -> tuple[torch.nn.Module, int]:
    task = get_task(name)
    model = "unet" if task.pixelwise else "tiny"
    options = resolve_options(model, ModelConfig(), decoder=task.pixelwise)
    return task.build(ModelSpec(name=model, channels=1, height=32, width=32, options=options), 3), 3


def test_a_card_names_its_package_and_its_main_score(name):
    card = card_of(name)
    assert card.name == name
    assert card.main_score in card.score_kinds
    assert card.score_kinds[card.main_score].higher_is_better
    assert set(card.settings) <= set(vars(TrainConfig()))
    assert set(get_task(name).targets) <= set(KINDS)


def test_a_report_has_sections_and_an_overview(name):
    report = part_of(name, "report")
    assert report.SECTIONS
    assert callable(report.overview)


def test_a_network_answers_and_its_loss_has_a_gradient(name):
    task = get_task(name)
    network, count = blank_network(name)
    outputs = network(torch.rand(4, 1, 32, 32))
    batch = batch_for(task, count)
    assert set(batch.targets) == set(task.targets)
    assert task.num_outputs(outputs) == count
    task.loss(outputs, batch)["loss"].backward()
    assert task.losses_per_sample(outputs, batch).shape == (4,)
    assert all(np.isfinite(float(score)) for score in task.batch_scores(outputs, batch).values())
    assert all(len(rows) == 4 for rows in task.decode(outputs).values())


def batch_for(task, count):
    from opsin.batches.batch import Batch

    targets = task.blank_targets(4, 32, 32, count)
    return Batch(images=torch.zeros(4, 1, 32, 32), index=torch.arange(4), **targets)


def test_a_kind_of_target_keeps_its_rows_through_a_batch(name):
    batch = batch_for(get_task(name), 3)
    parts = batch.to("cpu").split(2)
    assert [len(part) for part in parts] == [2, 2]
    assert all(set(part.targets) == set(batch.targets) for part in parts)


def test_targets_come_back_from_what_predictions_keep(name):
    task = get_task(name)
    rows = {kind: values.numpy() for kind, values in batch_for(task, 3).targets.items()}
    kept = Targets(ids=["a", "b", "c", "d"], **rows)
    arrays = kept.arrays() | {"predicted": np.zeros(4)}
    back = Targets.from_arrays(arrays)
    assert list(back.ids) == ["a", "b", "c", "d"]
    assert set(back.targets) == set(task.targets)
    assert all(np.array_equal(back.targets[kind], values) for kind, values in rows.items())
    assert set(predictions_in(arrays)) == {"predicted"}


def test_the_main_score_within_each_class_is_that_of_its_samples(name):
    task, count = get_task(name), 3
    outputs = blank_network(name)[0](torch.rand(4, 1, 32, 32))
    targets = Targets(ids=list("abcd"), **{kind: v.numpy() for kind, v in batch_for(task, count).targets.items()})
    arrays = {key: rows.detach().numpy() for key, rows in task.decode(outputs).items()} | targets.arrays()
    parts, of_sums = task.parts(arrays, count)
    values = task.by_class(parts, arrays, count)
    whole = of_sums(parts.sum(axis=0, keepdims=True))[0]
    assert values.shape == (count,)
    assert np.isnan(values).all() == np.isnan(whole)
    if not np.isnan(whole):
        assert np.nanmin(values) <= whole <= np.nanmax(values)


def test_kinds_are_stored_under_names_of_their_own():
    assert len({kind.stored for kind in KINDS.values()}) == len(KINDS)
