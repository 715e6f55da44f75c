"""Fine-tuning: what is trained, what stays, at what rates, and that frozen features are the network's own."""

from __future__ import annotations

import copy
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import opsin
from opsin.artifact import load
from opsin.config import FinetuneConfig, TrainConfig, resolve
from opsin.errors import ConfigError, InterruptedRunError, RunError
from opsin.io.files import read_json
from opsin.io.tensors import read_tensors, write_tensors
from opsin.models.building import build_network
from opsin.models.freezing import pin_norms
from opsin.models.registry import ModelSpec
from opsin.models.weights.contracts import INPUT_RANGES
from opsin.models.weights.pretrained import Pretrained
from opsin.runs import Run, RunWriter
from opsin.training import features, train
from opsin.training.engine.loop import Trainer
from opsin.training.engine.optimizers import build_optimizer
from opsin.training.engine.stages import Stages
from opsin.training.setup.origin import find_origin

Tuned = Callable[..., Run]
COMMON: dict[str, Any] = {
    "batch_size": 64,
    "subset": "train=200",
    "precision": "float32",
    "channels_last": True,
    "threads": 1,
    "quiet": True,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of ours to start from: five sections, batch norms, inputs in [-1, 1]."""
    folder = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPSIN_CACHE", str(folder / "cache"))
        settings = {"model": "tiny", "filters": [8, 8], "normalize": "signed", "epochs": 2, "preflight": False}
        return train("digits", name="base", out=folder, **(COMMON | settings))


@pytest.fixture
def tuned(base: Run, tmp_path: Path) -> Tuned:
    """Fine-tunes `base` on the digits of another split, where its head is new only if asked for."""

    def trained(name: str, **settings: Any) -> Run:
        return train(
            "digits", name=name, out=tmp_path, **(COMMON | {"weights": str(base.path), "epochs": 3} | settings)
        )

    return trained


def tensors(run: Run) -> dict[str, torch.Tensor]:
    return read_tensors(run.model_folder / "weights.safetensors")[0]


def changed(a: Run, b: Run) -> set[str]:
    """First two parts of the names of the tensors that differ."""
    before, after = tensors(a), tensors(b)
    names = [key for key in after if not torch.equal(before[key], after[key])]
    return {".".join(name.split(".")[:2]) for name in names}


def interrupted_after(patch: pytest.MonkeyPatch, steps: int) -> None:
    original = Trainer._step

    def step(self: Trainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)  # type: ignore[arg-type]
        if self.state.step == steps:
            os.kill(os.getpid(), signal.SIGINT)

    patch.setattr(Trainer, "_step", step)


def test_a_head_alone_is_trained_and_everything_below_keeps_its_bits(base: Run, tuned: Tuned) -> None:
    run = tuned("head", finetune="head", restore_best=False)
    assert changed(base, run) == {"heads.logits"}
    # the last epoch was scored on cached features, the end of the run by the whole network
    assert run.log.epochs[-1].val["accuracy"] == run.scores["val"]["accuracy"].value
    assert run.log.epochs[-1].val["loss"] == pytest.approx(run.scores["val"]["loss"].value, rel=1e-4)


def test_features_are_computed_once_and_a_damaged_file_is_computed_anew(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    first = tuned("first", finetune="head")
    with monkeypatch.context() as patch:
        patch.setattr(features._Pieces, "_of", lambda *_: pytest.fail("computed again"))
        again = tuned("again", finetune="head")
    assert not changed(first, again)
    for file in (tmp_path / "cache" / "features").glob("*/features.bin"):
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert not changed(first, tuned("repaired", finetune="head"))


def test_each_epoch_sees_another_view_and_all_are_kept(tuned: Tuned, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int | None] = []
    original = features._Pieces.in_order

    def in_order(self: features._Pieces) -> Any:
        made.append(self.view)  # type: ignore[arg-type]
        return original(self)

    monkeypatch.setattr(features._Pieces, "in_order", in_order)
    plain, shifted = tuned("plain", finetune="head"), tuned("views", finetune="head", feature_views=2, shift=1)
    assert made[-2:] == [0, 1]
    assert plain.log.epochs[0].train != shifted.log.epochs[0].train


@pytest.mark.parametrize("way", ["head", "staged"])
def test_a_fine_tuning_that_was_interrupted_ends_with_the_same_bits(
    tuned: Tuned, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    settings = (
        {"finetune": way, "head_epochs": 1} if way == "staged" else {"finetune": way, "head": [16], "dropout": 0.3}
    )
    unbroken = tuned("unbroken", **settings)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 6)
        with pytest.raises(InterruptedRunError):
            tuned("broken", **settings)
    resumed = tuned("broken", resume=True, **settings)
    assert not changed(unbroken, resumed)
    assert [e.lr for e in unbroken.log.epochs] == [e.lr for e in resumed.log.epochs]


def test_the_upper_sections_are_trained_and_the_lower_ones_are_not(base: Run, tuned: Tuned) -> None:
    assert changed(base, tuned("top", finetune="top:3")) == {"backbone.residual", "heads.logits"}


def test_a_run_is_fine_tuned_on_larger_images_with_its_lower_sections_frozen(base: Run, tuned: Tuned) -> None:
    run = tuned("larger", finetune="top:3", input_size=16)
    contract = load(run.model_folder).preprocess
    assert contract.size.height == 16
    assert contract.range == load(base.model_folder).preprocess.range == (-1.0, 1.0)
    assert changed(base, run) == {"backbone.residual", "heads.logits"}


def test_the_artefact_of_a_deeper_head_is_a_whole_network(tuned: Tuned) -> None:
    run = tuned("deep", finetune="head", head=[16, 12], dropout=0.25)
    network = load(run.model_folder).network
    head = network.get_submodule("heads.logits")
    widths = [layer.out_features for layer in head.modules() if isinstance(layer, nn.Linear)]
    assert widths == [16, 12, 10]
    assert sum(isinstance(layer, nn.Dropout) for layer in head.modules()) == 3


def test_weights_that_changed_are_refused_when_the_run_goes_on(base: Run, tuned: Tuned, tmp_path: Path) -> None:
    tuned("kept", finetune="head")
    run = Run(tmp_path / "kept")
    RunWriter(run).weights(read_json(run.path / "weights.json") | {"sha256": "other"})
    with pytest.raises(RunError, match="pretrained weights have changed"):
        tuned("kept", finetune="head", resume=True, epochs=4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"normalize": "unit"}, "define the normalization"),
        ({"finetune": "head", "flip": 0.5}, "augmentation would have no effect"),
        ({"finetune": "head", "resolutions": [8, 10]}, "at one size"),
        ({"finetune": "head", "feature_views": 2, "mixup": 0.2}, "cannot be mixed"),
        ({"feature_views": 2}, "is for frozen features"),
        ({"finetune": "top:9"}, "fewer sections"),
        ({"finetune": "bottom"}, "finetune"),
        ({"finetune": "staged", "head_epochs": 3}, "head alone to the end"),
        ({"weights": None, "finetune": "head"}, "needs pretrained weights"),
        ({"weights": None, "normalize": "weights"}, "needs pretrained weights"),
    ],
)
def test_a_setting_that_would_do_harm_or_nothing_is_refused(
    tuned: Tuned, tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        tuned("refused", **settings)
    assert not (tmp_path / "refused").exists()


def network() -> nn.Module:
    """A tiny network of five sections: stem, levels, pool, residual, dropout."""
    spec = ModelSpec(name="tiny", channels=1, height=8, width=8, options={"filters": [4, 4]})
    return build_network(spec, {"logits": 3}, seed=0)


def test_gradual_unfreezing_opens_a_section_at_a_time() -> None:
    config = FinetuneConfig(weights="x", finetune="gradual", head_epochs=2, unfreeze_every=2)
    stages = Stages(network(), config, epochs=12)
    assert [stages.open_sections(epoch) for epoch in range(12)] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    stages.enter(0)
    assert {name for name, p in stages.parameters.items() if p.requires_grad} == {"heads.logits.weight"}


def test_each_stage_has_the_whole_schedule_and_the_later_one_a_lower_rate() -> None:
    stages = Stages(network(), FinetuneConfig(weights="x", finetune="staged", head_epochs=2, later_lr=0.1), epochs=10)
    # 10 epochs: the head until 0.2 of the run, everything after that
    assert stages.progress(0.1, 1) == pytest.approx(0.5)
    assert stages.progress(0.6, 6) == pytest.approx(0.5)
    assert (stages.rate(1), stages.rate(2)) == (1.0, 0.1)


def test_learning_rates_fall_from_the_head_down() -> None:
    tiny = network()
    stages = Stages(tiny, FinetuneConfig(weights="x", backbone_lr=0.5, lr_decay=0.1), epochs=2)
    rates = stages.rates()
    assert rates["heads.logits.weight"] == 1.0
    assert rates["backbone.residual.0.weight"] == pytest.approx(0.5 * 0.1)  # one section below the topmost
    assert rates["backbone.stem.0.weight"] == pytest.approx(0.5 * 0.1**4)
    optimizer = build_optimizer(tiny, TrainConfig(optimizer="adamw", lr=2.0), rates)
    found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert found == {id(p): pytest.approx(2.0 * rates[name]) for name, p in stages.parameters.items()}


def test_a_pinned_batch_norm_stays_in_inference_mode_in_copies_too() -> None:
    tiny = network()
    names = list(tiny.state_dict())
    assert pin_norms(tiny) == 3
    for one in (tiny, copy.deepcopy(tiny)):
        one.train()
        before = {k: v.clone() for k, v in one.state_dict().items()}
        one(torch.randn(4, 1, 8, 8))
        assert list(one.state_dict()) == names
        assert all(torch.equal(before[k], v) for k, v in one.state_dict().items())
        assert one.training
        assert {type(m).__name__ for m in one.modules()} == {type(m).__name__ for m in network().modules()}


def test_pretrained_weights_that_do_not_fit_are_refused_by_name(base: Run, tuned: Tuned, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    write_tensors(file, {"a": torch.zeros(2)}, {})
    with pytest.raises(ConfigError, match="known"):
        tuned("refused", weights=str(file), model="tiny")


def test_settings_of_a_fine_tuning_survive_json_and_back() -> None:
    config = resolve({"weights": "x", "finetune": "top:2", "head": [4], "weights_range": "signed"})
    assert config.finetune.top == 2
    assert np.isclose(config.finetune.later_lr, 0.1)


def test_weights_of_another_network_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Pretrained(
        model="resnet18",
        tensors={},
        head=None,
        naming="torchvision",
        contract=INPUT_RANGES["signed"],
        options={"padding": "same"},
        notes=(),
        file="mobilenet.safetensors",
        sha256="",
    )
    monkeypatch.setattr("opsin.training.setup.origin.find_pretrained", lambda *_, **__: found)
    with pytest.raises(ConfigError, match="of another network"):
        find_origin(resolve({"model": "resnet18", "weights": "mobilenet.safetensors"}))


@pytest.mark.parametrize("kind", ["tags", "numbers"])
def test_the_head_of_tags_and_numbers_is_trained_on_features_that_are_computed_once(
    base: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    digits = opsin.load("digits").splits["train"]
    labels = np.asarray(digits.labels)[:240]
    targets = np.eye(10, dtype=np.uint8)[labels] if kind == "tags" else labels[:, None].astype(np.float32)
    images = np.stack([digits.image(i)[0] for i in range(240)])
    seen: list[int] = []
    original = features._Pieces._of
    monkeypatch.setattr(features._Pieces, "_of", lambda self, rows: (seen.append(len(rows)), original(self, rows))[1])
    settings = COMMON | {
        "weights": str(base.path),
        "epochs": 3,
        "finetune": "head",
        "subset": None,
        "restore_best": False,
    }
    run = train({"images": images, kind: targets}, name=kind, out=tmp_path, **settings)
    assert sum(seen) == sum(run.data.splits[split].n for split in ("train", "val"))
    last = run.log.epochs[-1].val
    assert last["loss"] == pytest.approx(run.scores["val"]["loss"].value, rel=1e-3)
    assert all(name.startswith("heads.") for name in changed_names(base, run))


def changed_names(a: Run, b: Run) -> list[str]:
    """Tensors of b that a has not, or has in other bits."""
    before, after = tensors(a), tensors(b)
    return [key for key in after if key not in before or not torch.equal(before[key], after[key])]
