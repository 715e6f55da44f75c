"""What photos start from, what a budget chooses, and that a head is fitted before the first epoch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opsin.config import resolve
from opsin.data.load import load
from opsin.data.samples import Dataset, Samples
from opsin.errors import ConfigError
from opsin.models.building import build_network
from opsin.models.registry import ModelSpec
from opsin.runs import Run
from opsin.tasks import get_task
from opsin.training import train
from opsin.training.engine.budget import Budget, process_began
from opsin.training.features import Features
from opsin.training.head_start import fit_head
from opsin.training.setup import resolving
from opsin.training.setup.transfer import Costs, Work, choose, start_from_package

COSTS = Costs(decode_s=0.002, forward_s=0.004, score_s=0.01, upper_s=0.007, whole_s=0.016)
FLOWERS = Work(train=2936, val=367, all=3670)


def photos(side: int = 100, channels: int = 3) -> Dataset:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = generator.integers(0, 80, (40, channels, side, side), dtype=np.uint8)
    images[labels == 1] += 120
    return load({"images": images, "labels": labels})


def test_a_longer_budget_trains_more_of_the_network_and_never_a_smaller_image() -> None:
    plans = [choose(COSTS, FLOWERS, 60.0 * minutes, photo_px=320) for minutes in (0.5, 1, 2, 3, 5, 10, 30)]
    order = {"head": 0, "top": 1, "all": 2}
    assert [order[plan.way] for plan in plans] == sorted(order[plan.way] for plan in plans)
    assert plans[0].way == "head"
    assert plans[-1].way == "all"
    assert plans[-1].side_px == 224
    assert all(plan.seconds <= 60 * minutes for plan, minutes in zip(plans, (0.5, 1, 2, 3, 5, 10, 30), strict=True))


def test_photos_are_not_enlarged_however_long_the_budget() -> None:
    assert choose(COSTS, FLOWERS, 3600.0, photo_px=170).side_px == 160


def test_without_a_budget_the_epochs_follow_from_the_number_of_photos() -> None:
    few, many = (choose(COSTS, replace(FLOWERS, train=n), None, photo_px=300) for n in (500, 3000))
    assert (few.epochs, many.epochs) == (12, 3)
    assert few.side_px == many.side_px == 160


def test_a_side_that_the_user_names_is_kept() -> None:
    assert {choose(COSTS, FLOWERS, 60.0 * m, photo_px=320, side_px=112).side_px for m in (1, 5)} == {112}


@pytest.mark.parametrize(
    ("dataset", "given"),
    [
        (photos(32), {}),
        (photos(100, channels=1), {}),
        (photos(), {"from_scratch": True}),
        (photos(), {"model": "resnet18"}),
        (photos(), {"filters": [8]}),
        (replace(photos(), published=True), {}),
    ],
)
def test_these_start_from_random_weights(dataset: Dataset, given: dict[str, Any]) -> None:
    assert start_from_package(dataset, given) == ({}, "")


def test_colour_photos_start_from_the_package_and_are_told_why() -> None:
    settings, why = start_from_package(photos(), {})
    assert settings == {"weights": "package", "model": "efficientnet_lite0"}
    assert "--from-scratch" in why


def test_the_fitted_head_separates_what_is_separable_and_the_decay_is_chosen_on_val() -> None:
    network = build_network(
        ModelSpec(name="tiny", channels=1, height=8, width=8, options={"filters": [4, 4]}), {"logits": 2}, seed=0
    )
    width = network.backbone.num_features
    network.heads["logits"] = torch.nn.Linear(width, 2)
    rows = torch.randn(60, width, generator=torch.Generator().manual_seed(0)).numpy()
    labels = np.arange(60) % 2
    rows[:, 0] += 6 * labels
    samples = Samples(images=rows, ids=[str(i) for i in range(60)], labels=labels, sizes=np.ones((60, 2), np.int32))
    task = get_task("classify").for_training(resolve({}).train, samples, 2)
    found = fit_head(network, task, Features(train=(samples,), val=samples), ("a", "b"), torch.device("cpu"))
    assert found.val["accuracy"] == 1.0
    assert len(found.tried) == 5


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    monkeypatch.setattr(resolving, "measure_costs", lambda *_: COSTS)
    common = {"input_size": 32, "batch_size": 8, "threads": 1, "quiet": True, "preflight": False}

    def run(name: str, **settings: Any) -> Run:
        return train(photos(), name=name, out=tmp_path, **(common | settings))

    return run


def test_photos_without_a_flag_are_fine_tuned_from_a_fitted_head_and_keep_the_best(
    trained: Callable[..., Run],
) -> None:
    run = trained("plain", epochs=1)
    start = next(event for event in run.log if event["event"] == "head_start")
    plan = next(event for event in run.log if event["event"] == "plan")
    assert plan["plan"]["way"] == "all"
    assert run.config.finetune.head_start
    assert run.scores["val"]["accuracy"].value >= start["val"]["accuracy"]


def test_weights_of_the_package_mean_its_network(trained: Callable[..., Run]) -> None:
    assert trained("package", epochs=1, weights="package").config.model.model == "efficientnet_lite0"


def test_an_unknown_network_is_refused_before_the_data_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolving, "load", lambda *_, **__: pytest.fail("the data was read"))
    with pytest.raises(ConfigError, match="resnet"):
        train("digits", model="resnet81", quiet=True)


def test_a_budget_keeps_time_for_scoring_and_began_with_the_process() -> None:
    budget = Budget(seconds=100.0, began=time.monotonic())
    assert budget.for_training(10.0) <= 90.0
    assert process_began() < time.monotonic()
