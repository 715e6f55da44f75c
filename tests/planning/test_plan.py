"""The plan against a textbook, against what autograd really keeps, and against itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from opsin import artifact as artifacts
from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.cli import main
from opsin.cli.plan import process_lines
from opsin.config import FinetuneConfig, MaskLossName, ModelConfig, TrainConfig, resolve
from opsin.data.load import load
from opsin.errors import CheckFailedError, ConfigError
from opsin.models.building import build_network, build_segmenter
from opsin.models.registry import ModelSpec, resolve_options
from opsin.models.table import count_parameters
from opsin.planning.forecast import layer_dicts, make_plan, measured_peak, parse_bytes, request_of, section_dicts
from opsin.planning.memory import memory_of, optimizer_bytes, table_of
from opsin.planning.remedies import fit, remedies
from opsin.planning.request import Request, task_settings, trained_parts
from opsin.runs import RunWriter, Summary
from opsin.training.setup.defaults import defaults_for
from opsin.types import SizePolicy


def request(*, side: int = 16, channels: int = 3, batch: int = 8, **settings: object) -> Request:
    """A small network of the registry; `settings` are of ModelConfig or of Request."""
    model = {key: settings.pop(key) for key in list(settings) if key in ModelConfig.__dataclass_fields__}
    config = ModelConfig(**model)  # type: ignore[arg-type]
    spec = ModelSpec(
        name=config.model, channels=channels, height=side, width=side, options=resolve_options(config.model, config)
    )
    return Request(spec=spec, batch=batch, **settings)  # type: ignore[arg-type]


def textbook() -> Request:
    """Three 3x3 convolutions of stride 2 with 100, 200 and 400 maps on RGB images of 200x300."""
    config = ModelConfig(filters=(100, 200, 400), downsample="stride", batch_norm=False)
    spec = ModelSpec(name="plain", channels=3, height=200, width=300, options=resolve_options("plain", config))
    return Request(spec=spec, num_outputs=0, batch=50)


def test_the_textbook_case_comes_out() -> None:
    layers = table_of(textbook())
    assert layers.parameters == 903_400
    memory = memory_of(textbook(), layers)
    assert round(memory.inference_bytes / 1e6, 1) == 12.6
    assert round(memory.textbook_bytes / 1e6, 1) == 565.6
    assert memory.parts["inputs"] == 50 * 3 * 200 * 300 * 4


def test_a_case_worked_by_hand() -> None:
    needed = request(side=4, channels=1, batch=2, model="dense", dense=(3,), dropout=0.0)
    memory = memory_of(needed)
    # 16 * 3 + 3 weights and biases, then 3 * 10 + 10
    assert memory.parts["weights"] == memory.parts["gradients"] == 4 * 91
    assert memory.parts["optimizer"] == 2 * 4 * 91
    assert memory.parts["inputs"] == 4 * 2 * 16
    assert memory.inference_bytes == 4 * (91 + 16 + 3)
    assert memory.textbook_bytes == 4 * (91 + 2 * (16 + 3 + 10))


@pytest.mark.parametrize("model", ["plain", "small", "tiny", "dense"])
def test_activations_hold_what_autograd_saves(model: str) -> None:
    needed = request(model=model)
    network = build_network(needed.spec, {"logits": 10}, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.zeros(8, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    kept = {p.untyped_storage().data_ptr() for p in (*network.parameters(), *network.buffers())}
    saved: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in kept | {images.data_ptr()}:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = network(images)
    found = memory_of(needed).parts["activations"]
    logits = outputs["logits"].untyped_storage().nbytes()
    # a little more may live than is saved: the logits themselves, and small views
    assert sum(saved.values()) <= found <= sum(saved.values()) + logits + 0.05 * found


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "nadam", "rmsprop"])
def test_the_state_of_an_optimizer_is_what_torch_keeps(optimizer: str) -> None:
    from opsin.config import TrainConfig
    from opsin.training.engine.optimizers import build_optimizer

    needed = request(model="dense", dense=(8,), optimizer=optimizer)
    network = build_network(needed.spec, {"logits": 10}, seed=0)
    made = build_optimizer(network, TrainConfig(optimizer=needed.optimizer))
    network(torch.zeros(2, 3, 16, 16))["logits"].sum().backward()
    made.step()
    kept = [value for state in made.state.values() for value in state.values() if torch.is_tensor(value)]
    expected = sum(value.numel() * 4 for value in kept if value.ndim > 0)
    assert optimizer_bytes(needed, table_of(needed)) == expected


def test_what_exists_at_the_peak_adds_up_and_grows_with_the_batch() -> None:
    small, large = (memory_of(request(batch=size)) for size in (8, 32))
    assert sum(small.at_peak.values()) == small.training_bytes
    assert large.training_bytes > 3 * (small.training_bytes - small.parts["weights"] * 4)
    assert large.parts["weights"] == small.parts["weights"]
    assert large.parts["activations"] == pytest.approx(4 * small.parts["activations"], rel=0.01)


def test_without_kept_memory_only_what_lives_is_counted() -> None:
    kept, back = (memory_of(request(batch=32, keep_memory=keep)) for keep in (True, False))
    assert (kept.live_bytes, kept.kept_bytes) == (back.live_bytes, back.kept_bytes)
    assert kept.training_bytes == kept.kept_bytes == kept.live_bytes + kept.parts["fragments"]
    assert back.training_bytes == back.most_bytes == back.live_bytes == sum(back.at_peak.values())
    assert back.live_bytes < kept.kept_bytes < kept.most_bytes


def test_parts_of_a_batch_and_bfloat16_need_less() -> None:
    whole = memory_of(request(batch=32)).training_bytes
    assert memory_of(request(batch=32, accumulate=4)).training_bytes < whole / 2
    assert memory_of(request(batch=32, precision="bfloat16")).training_bytes < whole


def test_remedies_are_ranked_by_what_they_save() -> None:
    needed = request(batch=64)
    whole = memory_of(needed).training_bytes
    found = remedies(needed, training_bytes=whole, limit=whole // 3)
    saved = [remedy.saves_bytes for remedy in found]
    assert saved == sorted(saved, reverse=True)
    assert all(remedy.fits == (remedy.training_bytes <= whole // 3) for remedy in found)
    names = " ".join(remedy.name for remedy in found)
    assert all(
        name in names
        for name in ("--no-keep-memory", "parts", "bfloat16", "input of 8x8", "half the filters", "two devices")
    )


def test_fitting_keeps_the_network_and_the_batch() -> None:
    needed = request(batch=64)
    limit = memory_of(needed).training_bytes // 3
    fitted = fit(needed, limit)
    assert (fitted.spec, fitted.batch) == (needed.spec, needed.batch)
    assert fitted.accumulate > 1
    assert memory_of(fitted).training_bytes <= limit


def test_fitting_gives_freed_memory_back_before_anything_else() -> None:
    needed = request(batch=64)
    memory = memory_of(needed)
    assert fit(needed, memory.live_bytes) == replace(needed, keep_memory=False)
    assert fit(needed, memory.most_bytes) == needed


def test_the_remedy_that_gives_memory_back_leads_to_what_must_exist() -> None:
    needed = request(batch=64)
    memory = memory_of(needed)
    found = remedies(needed, training_bytes=memory.training_bytes, limit=memory.live_bytes)
    back = next(remedy for remedy in found if remedy.settings == {"keep_memory": False})
    assert (back.training_bytes, back.fits) == (memory.live_bytes, True)
    assert back.saves_bytes == memory.parts["fragments"]


def test_what_cannot_fit_is_said_so() -> None:
    with pytest.raises(CheckFailedError, match="does not fit"):
        fit(request(batch=2), 1000)


def test_planning_allocates_no_network() -> None:
    # 4 * 65,536 * 65,536 bytes: more than this machine has
    layers = table_of(request(model="dense", dense=(65_536, 65_536)))
    assert layers.parameters > 4e9
    assert memory_of(request(model="dense", dense=(65_536, 65_536), batch=1)).training_bytes > 16 * 4e9


@pytest.mark.parametrize("text", ["", "4", "1.5 GB", "512MiB", "10KB"])
def test_amounts_of_memory(text: str) -> None:
    expected = {"4": 4, "1.5 GB": 1_500_000_000, "512MiB": 2**29, "10KB": 10_000}
    if text in expected:
        assert parse_bytes(text) == expected[text]
    else:
        with pytest.raises(ConfigError):
            parse_bytes(text)


def test_time_is_measured_per_image_and_epoch() -> None:
    time = make_plan(request(batch=4), samples=100).time
    assert time is not None
    assert time.seconds_per_image_training > 0
    assert time.seconds_per_epoch == pytest.approx(100 * time.seconds_per_image_training)


def test_precision_auto_counts_as_float32_whatever_a_run_was_trained_in(tmp_path: Path) -> None:
    spec = request().spec
    size = SizePolicy(height=spec.height, width=spec.width)
    contract = Preprocess(size=size, color="rgb", range=(0.0, 1.0), mean=(0.0,) * 3, std=(1.0,) * 3)
    network = build_network(spec, {"logits": 2}, seed=0)
    made = Artifact(network=network, task="classify", classes=("a", "b"), spec=spec, preprocess=contract, meta={})
    run = RunWriter.create(resolve({"precision": "bfloat16"}), name="half", out=tmp_path).run
    artifacts.save(run.model_folder, made, golden_images=torch.zeros(1, 3, 16, 16, dtype=torch.uint8))
    found = [request_of("half", ModelConfig(), out=tmp_path, precision=asked).precision for asked in (None, "auto")]
    assert found == ["bfloat16", "float32"]


def test_the_command_prints_the_promised_keys(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "plain", "--filters", "4,8", "--input", "3x16x16", "--batch", "4", "--no-time"]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"parameters", "trainable", "flops", "memory", "layers"} <= found.keys()
    assert {"inference_bytes", "training_bytes", "parts"} <= found["memory"].keys()
    assert found["flops"] == 2 * (16 * 16 * 4 * 27 + 8 * 8 * 8 * 36 + 128 * 10)
    assert found["memory"]["live_bytes"] < found["memory"]["kept_bytes"] == found["memory"]["training_bytes"]
    assert main([*arguments, "--memory", "16GB"]) == 0
    printed = capsys.readouterr().out
    assert all(
        word in printed for word in ("gradients", "workspace", "it fits into 16.00 GB", "must exist", "more: at least")
    )
    assert main([*arguments, "--no-keep-memory", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["memory"]["training_bytes"] == found["memory"]["live_bytes"]


def test_the_command_refuses_what_cannot_be(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["no-such"], ["plain", "--batch", "0"], ["plain", "--fit"], ["plain", "--memory", "much"]):
        assert main(["plan", *wrong, "--no-time"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_mistyped_run_is_found_among_the_runs(tmp_path):
    RunWriter.create(resolve({"source": "digits"}), name="roses-small-1", out=tmp_path)
    with pytest.raises(ConfigError, match="no such network or run") as caught:
        request_of("roses-smal-1", ModelConfig(), out=tmp_path)
    assert "`roses-small-1`" in str(caught.value.do)


def planned(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", *arguments, "--no-time", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_unet_is_planned_with_its_decoder(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "unet", "--input", "3x96x96", "--batch", "2")
    config = ModelConfig(model="unet")
    spec = ModelSpec(
        name="unet", channels=3, height=96, width=96, options=resolve_options("unet", config, decoder=True)
    )
    trained = build_segmenter(spec, 10)
    assert (found["task"], found["parameters"]) == ("segment", count_parameters(trained)[0])
    assert found["layers"][-1]["output_shape"] == [10, 96, 96]


def test_networks_that_give_masks_alone_are_planned(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    found = planned(capsys, "fpn", "--input", "3x32x32", "--batch", "2")
    assert found["task"] == "segment"
    assert main(["plan", "fpn", "--task", "classify", "--no-time"]) == 2


def test_two_heads_are_planned_for_boxes(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("plain", "--filters", "4,8", "--input", "3x16x16", "--batch", "4")
    one, two = planned(capsys, *arguments), planned(capsys, *arguments, "--task", "localize")
    assert {row["name"].split(".")[1] for row in two["layers"] if row["name"].startswith("heads.")} >= {"logits"}
    assert two["parameters"] > one["parameters"]


@pytest.mark.parametrize("loss", ["cross-entropy", "dice", "lovasz", "focal", "tversky"])
def test_every_loss_of_masks_has_its_memory(loss: MaskLossName) -> None:
    options = resolve_options("unet", ModelConfig(filters=(4, 8)), decoder=True)
    spec = ModelSpec(name="unet", channels=3, height=16, width=16, options=options)
    task = task_settings("segment", TrainConfig(mask_loss=loss))
    assert memory_of(Request(spec=spec, task=task, num_outputs=3, batch=2)).training_bytes > 0


def test_a_head_on_frozen_features_trains_the_head_alone() -> None:
    whole = request(side=32, model="mobilenet_v2", pinned=True)
    head = replace(whole, sections=0, cached=True)
    layers = table_of(head)
    assert layers.trainable == 1280 * 10 + 10
    assert memory_of(head).parts["gradients"] == 4 * layers.trainable
    assert "gradients" not in memory_of(head).at_peak  # most is held before, where the features are computed
    assert memory_of(head).parts["loader"] == 8 * 2 * 4 * 1280
    assert make_plan(head, timed=False).training_multiply_adds == 2 * 1280 * 10


def test_frozen_sections_have_neither_gradients_nor_optimizer_state() -> None:
    whole = request(side=32, model="mobilenet_v2", pinned=True)
    upper = replace(whole, sections=2)
    memories = [memory_of(needed) for needed in (upper, whole)]
    assert memories[0].parts["gradients"] == 4 * table_of(upper).trainable < memories[1].parts["gradients"]
    assert memories[0].parts["activations"] < memories[1].parts["activations"]
    assert make_plan(upper, timed=False).training_multiply_adds < make_plan(whole, timed=False).training_multiply_adds


def test_ways_of_fine_tuning_are_planned_in_the_epochs_that_train_most() -> None:
    ways = {"all": None, "staged": None, "head": 0, "top:2": 2, "gradual": 7}
    for way, sections in ways.items():
        parts = trained_parts(FinetuneConfig(finetune=way), task="localize", epochs=10, pretrained=True)
        assert parts == {"sections": sections, "cached": False, "pinned": True}


def test_data_is_planned_as_training_would_choose(capsys: pytest.CaptureFixture[str]) -> None:
    found = planned(capsys, "digits")
    config = resolve(defaults_for(load("digits")))
    assert (found["model"], found["input"], found["outputs"]) == (config.model.model, [1, 8, 8], 10)
    assert (found["batch"], found["optimizer"]) == (config.train.batch_size, config.train.optimizer)


def test_totals_stand_before_layers_and_many_layers_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["plan", "mobilenet_v2", "--input", "3x32x32", "--batch", "2", "--no-time"]
    assert main(arguments) == 0
    short = capsys.readouterr().out
    assert main([*arguments, "--layers"]) == 0
    long = capsys.readouterr().out
    assert short.index("trainable") < short.index("mult-adds")
    assert len(short.splitlines()) < 60 < len(long.splitlines())
    rows = layer_dicts(make_plan(request(model="mobilenet_v2", side=32), timed=False))
    summed = section_dicts(rows)
    assert len(summed) <= 30
    assert sum(row["parameters"] for row in summed) == sum(row["parameters"] for row in rows)


@pytest.mark.parametrize(("model", "head"), [("tiny", "heads.boxes.votes"), ("dense", "heads.boxes.linear")])
def test_a_layer_of_each_head_is_in_the_plan_of_a_network_with_two(model: str, head: str) -> None:
    planned = make_plan(request(model=model, side=32, task=task_settings("localize", TrainConfig())), timed=False)
    heads = {row["name"]: row["parameters"] for row in layer_dicts(planned) if row["name"].startswith("heads.")}
    assert set(heads) == {"heads.logits", head}
    assert all(heads.values())


def test_the_measured_peak_of_a_run_stands_beside_its_forecast(tmp_path: Path) -> None:
    writer = RunWriter.create(resolve({}), name="run", out=tmp_path)
    run = writer.run
    assert measured_peak(run) is None
    writer.event("epoch", epoch=1, peak_memory_bytes=2_340_000_000)
    writer.summary(Summary(peak_memory_bytes=2_200_000_000))
    assert measured_peak(run) == 2_340_000_000
    made = make_plan(request(), timed=False, measured_bytes=measured_peak(run))
    assert "2.34 GB measured in this run" in " ".join(process_lines(made))
