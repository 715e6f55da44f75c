"""A network, a loss, an augmentation and an optimizer of the user's own take part in a run, and the run says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import opsin
from opsin import plugins
from opsin.artifact import load as load_artifact
from opsin.exports.program import trace

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "subset": "train=200",
    "precision": "float32",
    "threads": 1,
    "quiet": True,
    "report": False,
    "preflight": False,
}


class Pooled(nn.Module):
    """A small network that a user might write: logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten())
        self.head = nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images))


class Boxed(nn.Module):
    """Class and box of one object, as localization needs them."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.LazyLinear(14))
        self.body(torch.zeros(1, 1, side, side))
        self.side = side

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        both = self.body(images)
        corner = both[:, 10:12].sigmoid() * self.side / 2
        return {"logits": both[:, :10], "boxes": torch.cat([corner, corner + both[:, 12:].exp()], dim=1)}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def test_a_module_is_trained_as_a_copy_and_its_run_predicts(tmp_path: Path) -> None:
    mine = Pooled()
    before = {key: value.clone() for key, value in mine.state_dict().items()}
    run = opsin.train("digits", model=mine, name="own", out=tmp_path, **SETTINGS)
    assert all(torch.equal(value, before[key]) for key, value in mine.state_dict().items())
    assert opsin.evaluate(run).scores["accuracy"].value == run.scores["val"]["accuracy"].value
    (event,) = [event for event in run.log if event["event"] == "own_parts"]
    assert event["parts"] == {"network": f"{__name__}:Pooled"}
    assert any("registered" in sentence for sentence in event["withdrawn"])


def test_a_run_of_a_network_that_is_not_known_here_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opsin.train("digits", model=Pooled(), name="own", out=tmp_path, **SETTINGS)
    monkeypatch.setitem(plugins._registered, "models", {})
    with pytest.raises(opsin.ConfigError, match="register_module"):
        opsin.evaluate(run)
    opsin.register_module(Pooled())
    assert opsin.evaluate(run).scores["accuracy"].value == run.scores["val"]["accuracy"].value


def test_own_loss_augmentation_and_optimizer_are_called_and_named(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def my_loss(outputs: Mapping[str, Tensor], batch: opsin.Batch) -> dict[str, Tensor]:
        assert batch.labels is not None
        loss = nn.functional.cross_entropy(outputs["logits"], batch.labels)
        return {"loss": loss, "double": 2 * loss.detach()}

    def my_augment(images: Tensor, generator: torch.Generator) -> Tensor:
        seen["range"] = (float(images.min()), float(images.max()))
        return images + torch.randn(images.shape, generator=generator)

    def my_optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=0.1)

    parts = {"loss": my_loss, "augment": my_augment, "optimizer": my_optimizer}
    run = opsin.train("digits", model="plain", filters=(4,), name="own", out=tmp_path, **parts, **SETTINGS)
    assert seen["range"][0] >= 0
    assert 200 < seen["range"][1] <= 255
    assert run.epochs[-1].train["double"] == pytest.approx(2 * run.epochs[-1].train["loss"], rel=1e-5)
    (event,) = [event for event in run.log if event["event"] == "own_parts"]
    assert sorted(event["parts"]) == ["augment", "loss", "optimizer"]


def test_a_loss_module_of_torch_is_called_with_logits_and_labels(tmp_path: Path) -> None:
    settings = {"model": "plain", "filters": (4,), "label_smoothing": 0.0, "out": tmp_path, **SETTINGS}
    ours = opsin.train("digits", name="ours", **settings)
    theirs = opsin.train("digits", name="theirs", loss=nn.CrossEntropyLoss(), **settings)
    losses = [[epoch.train["loss"] for epoch in run.epochs] for run in (ours, theirs)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_run_with_own_parts_resumes_to_the_same_bits(tmp_path: Path) -> None:
    def noise(images: Tensor, generator: torch.Generator) -> Tensor:
        return images + 20 * torch.randn(images.shape, generator=generator)

    opsin.register_module(network := Pooled())
    whole = opsin.train("digits", model=network, augment=noise, name="whole", out=tmp_path, **SETTINGS)
    part = SETTINGS | {"epochs": 1, "schedule": "constant", "warmup": 0.0}
    whole = opsin.train("digits", model=network, augment=noise, name="a", out=tmp_path, **(part | {"epochs": 2}))
    opsin.train("digits", model=network, augment=noise, name="b", out=tmp_path, **part)
    resumed = opsin.train(
        "digits", model=network, augment=noise, name="b", out=tmp_path, resume=True, **(part | {"epochs": 2})
    )
    weights = [(run.model_folder / "weights.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_a_resumed_run_refuses_to_go_on_without_its_own_parts(tmp_path: Path) -> None:
    def adam(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.01)

    settings = {"model": "plain", "filters": (4,), "name": "own", "out": tmp_path, **SETTINGS}
    opsin.train("digits", optimizer=adam, **settings | {"epochs": 1})
    with pytest.raises(opsin.RunError, match="keeps its user-defined parts") as refused:
        opsin.train("digits", resume=True, **settings)  # another optimizer would read the state as its own
    assert "adam" in str(refused.value)
    with pytest.raises(opsin.RunError, match="keeps its user-defined parts"):
        opsin.train("digits", resume=True, optimizer=adam, loss=nn.CrossEntropyLoss(), **settings)
    assert len(opsin.train("digits", resume=True, optimizer=adam, **settings).epochs) == 2


def test_the_rates_that_are_logged_are_those_of_the_own_optimizer(tmp_path: Path) -> None:
    made: list[torch.optim.Optimizer] = []

    def sgd(parameters: Any) -> torch.optim.Optimizer:
        made.append(torch.optim.SGD(parameters, lr=0.3))
        return made[-1]

    class Rates(opsin.Callback):
        def __init__(self) -> None:
            self.logged: list[float] = []
            self.taken: list[float] = []

        def on_step(self, step: opsin.StepContext) -> None:
            self.logged.append(step.lr)
            self.taken.append(made[-1].param_groups[0]["lr"])

    rates = Rates()
    settings = {"model": "plain", "filters": (4,), "name": "own", "out": tmp_path, **SETTINGS}
    opsin.train("digits", optimizer=sgd, callbacks=[rates], **settings | {"epochs": 1})
    assert rates.logged == pytest.approx(rates.taken)


def test_a_run_says_which_guarantees_its_own_parts_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = SETTINGS | {"epochs": 1, "report": True, "quiet": False}
    run = opsin.train("digits", model=Pooled(), name="own", out=tmp_path, **settings)
    said = (
        f"user-defined: network {__name__}:Pooled. No longer guaranteed: config.json alone does not reproduce the run"
    )
    assert said in " ".join(capsys.readouterr().err.split())
    assert said in (run.path / "report.html").read_text("utf-8")


@pytest.mark.parametrize("count", [1, 5])
def test_an_own_network_is_exported_for_any_number_of_images(count: int, tmp_path: Path) -> None:
    run = opsin.train("digits", model=Pooled(), name="own", out=tmp_path, **SETTINGS | {"epochs": 1})
    answer = trace(load_artifact(run.model_folder)).program.module()
    assert answer(torch.zeros(count, 1, 8, 8, dtype=torch.uint8))["probabilities"].shape == (count, 10)


def test_a_run_of_arrays_is_scored_with_its_arrays_given_again(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    data = opsin.Dataset.from_arrays(images=images, labels=np.arange(60) % 3)
    settings = {key: value for key, value in SETTINGS.items() if key != "subset"} | {"epochs": 1}
    run = opsin.train(data, model="plain", filters=(4,), name="arrays", out=tmp_path, **settings)
    with pytest.raises(opsin.DataError, match="arrays in memory") as refused:
        opsin.evaluate(run)
    assert "data=" in str(refused.value)
    assert opsin.evaluate(run, data=data).scores["accuracy"].value == run.scores["val"]["accuracy"].value


def test_an_own_network_localizes(tmp_path: Path) -> None:
    settings = SETTINGS | {"subset": "train=64", "epochs": 1}
    run = opsin.train("digit_scenes", model=Boxed(75), name="own", out=tmp_path, **settings)
    assert 0 <= run.scores["val"]["mean_iou"].value <= 1
    assert run.predictions("val")["boxes"].shape == (run.scores["val"].n, 4)


@pytest.mark.parametrize(
    ("parts", "match"),
    [
        ({"loss": 3}, "cannot be called"),
        ({"loss": lambda outputs, batch: outputs["logits"]}, "returned no scalar"),
        ({"augment": lambda images, generator: images[:, :, 1:]}, "changed the shape"),
        ({"optimizer": lambda parameters: None}, "did not return an optimizer"),
        ({"model": nn.Sequential(nn.Flatten(), nn.Linear(64, 3))}, "outputs differ from those"),
    ],
)
def test_a_part_that_does_not_do_its_part_is_refused(tmp_path: Path, parts: dict[str, Any], match: str) -> None:
    settings: dict[str, Any] = {"model": "plain", "filters": (4,)} if "model" not in parts else {}
    with pytest.raises(opsin.ConfigError, match=match):
        opsin.train("digits", name="own", out=tmp_path, **settings, **parts, **SETTINGS)


def test_a_registered_network_is_trained_by_its_name(tmp_path: Path) -> None:
    def flat(*, channels: int, height: int, width: int, num_outputs: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(channels * height * width, num_outputs))

    opsin.register_model("flat", flat)
    run = opsin.train("digits", model="flat", name="own", out=tmp_path, **SETTINGS)
    assert run.summary.parameters >= 64 * 10 + 10
    assert "flat" in opsin.models.names()
