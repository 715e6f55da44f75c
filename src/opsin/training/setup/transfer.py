"""The automatic plan for photos: weights, trained sections, input size and epochs.

Photos start from pretrained weights. The head is fitted first, on features computed once (`head_start.py`);
then as much of the network is trained as data and budget justify, and the best state on val is kept, including the
first one. What one image costs is measured on this machine; the choice goes into the run's settings, so a resumed
run does not choose again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from opsin import config as settings_of
from opsin.config import ModelConfig
from opsin.data.samples import Dataset
from opsin.devices import pick_device
from opsin.errors import InputError
from opsin.models.building import build_network
from opsin.models.freezing import pin_norms
from opsin.models.registry import ModelSpec
from opsin.models.weights.published import package_weights
from opsin.models.wrappers.forward import Precision, to_channels_last
from opsin.ops.resize import resampled_size
from opsin.progress import duration
from opsin.tasks.common_defaults import SMALLEST_PHOTO_PX
from opsin.training.setup.origin import Origin
from opsin.types import JsonDict, SizePolicy

NETWORK, WEIGHTS = "efficientnet_lite0", "package"
"""The network for photos: 4 million parameters, with weights from the package registry."""
NUM_PROBED = 16
PROBED_SIDE_PX, PROBED_IMAGES = 160, 16
PROBED = resampled_size(SizePolicy(height=PROBED_SIDE_PX, width=PROBED_SIDE_PX))
"""Size at which photos are decoded for their cost, as the packing would."""
UPPER = 5
"""Number of top sections trained where the whole backbone does not fit into the budget."""
IMAGES_SEEN = 9_000
"""Training images of the whole network without a budget: three epochs of 3,000 photos."""
EPOCHS_RANGE = (1, 12)
MOST_EPOCHS = 20
"""Largest number of epochs of fine-tuning in a budget."""
SIZES: tuple[tuple[int, float], ...] = ((224, 6), (192, 5), (160, 0.8))
"""Input sides, and the epochs of the whole network that must fit for each."""
SMALL_SIZES = (160, 128, 96)
"""Input sides for fitting only a head; the first whose features fit is used."""
HEAD_SHARE = 0.9
"""Largest share of the remaining budget for features."""
START_S = 5.0
"""Seconds for packing overhead, building the network and the first scoring of val."""
SHORT_S = 180.0
"""Budgets below this many seconds skip the preflight checks, which take up to ten."""
SLACK = 1.25
"""Epochs beyond the forecast: the clock ends the run, so a machine faster than measured is used fully."""

Way = Literal["head", "top", "all"]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds per image on this machine: decoding, forward pass, training of the upper sections and of the whole.

    `forward_s`: in `precision`; `score_s`: in float32, as scores are computed. All of images `side_px` high and wide;
    the work grows with their area.
    """

    decode_s: float
    forward_s: float
    score_s: float
    upper_s: float
    whole_s: float
    precision: str = "float32"
    side_px: int = PROBED_SIDE_PX

    def scale(self, side_px: int) -> float:
        """Cost factor of an image of another side."""
        return (side_px / self.side_px) ** 2


@dataclass(frozen=True, kw_only=True)
class Work:
    """Numbers of images: train, val, and all splits (decoded)."""

    train: int
    val: int
    all: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, at what size, for how many epochs, and the forecast seconds."""

    way: Way
    side_px: int
    epochs: int
    seconds: float

    @property
    def settings(self) -> dict[str, Any]:
        """The plan as settings of a run."""
        finetune = {"head": "head", "top": f"top:{UPPER}", "all": "all"}[self.way]
        return {"finetune": finetune, "input_size": self.side_px, "epochs": self.epochs, "head_start": True}


def start_from_package(dataset: Dataset, given: Mapping[str, object]) -> tuple[dict[str, Any], str]:
    """Default weights of a run, as settings, and the reason; empty where there are none.

    Args:
        dataset: published sets keep their defaults.
        given: settings given by the user; a chosen network, or its options, get no default weights.
    """
    if given.get("from_scratch") or dataset.published or dataset.channels != 3:
        return {}, ""
    options = {name for name in settings_of.field_names(ModelConfig) if name not in ("model", "dropout")}
    chosen = [key for key in given if key in {*options, "model", "normalize"} and given[key] is not None]
    if chosen or package_weights(NETWORK) is None:
        return {}, ""
    side = photo_side(dataset)
    if side < SMALLEST_PHOTO_PX:
        return {}, ""
    why = (
        f"colour photos (shorter side about {side} px): starting from {NETWORK}, pretrained on ImageNet "
        "(--from-scratch for random weights)"
    )
    return {"weights": WEIGHTS, "model": NETWORK}, why


def photo_side(dataset: Dataset) -> int:
    """Median of the shorter sides of some training images, in pixels; unreadable ones are reported by packing."""
    source = dataset.splits["train"]
    if source.size is not None:
        return min(source.size)
    sides = []
    for i in np.linspace(0, len(source) - 1, min(NUM_PROBED, len(source))).astype(int):
        try:
            sides.append(min(source.read(int(i), PROBED).size))
        except InputError:
            continue
    return int(np.median(sides)) if sides else 0


def choose(costs: Costs, work: Work, seconds: float | None, *, photo_px: int, side_px: int | None = None) -> Plan:
    """The best plan within `seconds`, or without a limit a sensible one.

    Args:
        costs: costs measured on this machine.
        work: numbers of images.
        seconds: left from now to the end of the run; None is no limit.
        photo_px: shorter side of the photos, an upper limit of the input side.
        side_px: the user's own choice of a side.
    """
    if seconds is None:
        side, least, most = side_px or PROBED_SIDE_PX, *EPOCHS_RANGE
        return _plan("all", side, min(max(round(IMAGES_SEEN / work.train), least), most), costs, work)
    useful = [(side, needed) for side, needed in SIZES if side <= photo_px] or [SIZES[-1]]
    for side, needed in [(side_px, useful[-1][1])] if side_px else useful:
        spare = _spare(side, costs, work, seconds)
        epochs = spare / _epoch_s("all", side, costs, work)
        if epochs >= needed:
            return _plan("all", side, _generous(epochs), costs, work, seconds)
    side = side_px or next((s for s in SMALL_SIZES if _fits(s, costs, work, seconds)), SMALL_SIZES[-1])
    epochs = _spare(side, costs, work, seconds) / _epoch_s("top", side, costs, work)
    if epochs >= 0.8:
        return _plan("top", side, _generous(epochs), costs, work, seconds)
    return _plan("head", side, 4, costs, work, seconds)


def measure_costs(origin: Origin, dataset: Dataset, device_name: str) -> Costs:
    """Measure on this machine: decode a few images, run a few batches through a network with random weights."""
    device = pick_device(device_name)
    spec = ModelSpec(
        name=origin.model, channels=3, height=PROBED_SIDE_PX, width=PROBED_SIDE_PX, options=dict(origin.options)
    )
    network = build_network(spec, {"logits": len(dataset.classes)}, seed=0)
    pin_norms(network.backbone)
    network = to_channels_last(network.to(device))
    images = torch.zeros(PROBED_IMAGES, 3, PROBED_SIDE_PX, PROBED_SIDE_PX, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    whole = _seconds(lambda: network(images)["logits"].logsumexp(1).mean().backward(), device)
    sections = network.backbone.sections
    for section in sections[: max(0, len(sections) - UPPER)]:
        section.requires_grad_(False)
    upper = _seconds(lambda: network(images)["logits"].logsumexp(1).mean().backward(), device)
    with torch.inference_mode():
        score = _seconds(lambda: network(images), device)
    network.requires_grad_(False)
    forward = {
        dtype: _seconds(_forward(network, images, Precision(dtype=dtype), device), device)
        for dtype in ("float32", "bfloat16")
    }
    precision = "bfloat16" if forward["bfloat16"] < 0.8 * forward["float32"] else "float32"
    return Costs(
        decode_s=decode_seconds(dataset),
        forward_s=forward[precision] / PROBED_IMAGES,
        score_s=score / PROBED_IMAGES,
        upper_s=upper / PROBED_IMAGES,
        whole_s=whole / PROBED_IMAGES,
        precision=precision,
    )


def record(costs: Costs, plan: Plan, seconds: float | None) -> JsonDict:
    """The choice and its basis, for the run's log."""
    return {"costs": asdict(costs), "plan": asdict(plan), "seconds_left": seconds}


def describe(costs: Costs, plan: Plan, work: Work) -> str:
    """The choice in a line or two."""
    what = {"head": "only the head", "top": f"the head, then the last {UPPER} sections", "all": "the head, then all"}
    epochs = "" if plan.way == "head" else f", up to {plan.epochs} epochs"
    factor = costs.scale(plan.side_px)
    return (
        f"training {what[plan.way]} at {plan.side_px} px{epochs}, about {duration(plan.seconds)} at the speed just "
        f"measured: an image of this size takes {1000 * costs.forward_s * factor:.1f} ms forward ({costs.precision}), "
        f"{1000 * costs.whole_s * factor:.0f} ms to train on, {1000 * costs.decode_s:.1f} ms to decode; "
        f"{work.train:,} images to train on"
    )


def _forward(network: nn.Module, images: torch.Tensor, precision: Precision, device: torch.device) -> Callable[[], Any]:
    def run() -> Any:
        with precision.autocast(device):
            return network(images)

    return run


def _seconds(function: Callable[[], Any], device: torch.device) -> float:
    """The shorter of two runs after a first one."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return min(took[1:])


def decode_seconds(dataset: Dataset) -> float:
    """Seconds on the wall for one image, as the packing decodes them: side by side."""
    source = dataset.splits["train"]
    chosen = [int(i) for i in np.linspace(0, len(source) - 1, min(NUM_PROBED, len(source)))]

    def decode(i: int) -> None:
        try:
            source.read(i, PROBED)
        except InputError:
            return

    began = time.perf_counter()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(decode, chosen))
    return (time.perf_counter() - began) / len(chosen)


def _features_s(side_px: int, costs: Costs, work: Work) -> float:
    """Features of train, as they are and mirrored, and of val."""
    return (2 * work.train + work.val) * costs.forward_s * costs.scale(side_px)


def _epoch_s(way: Way, side_px: int, costs: Costs, work: Work) -> float:
    one = costs.upper_s if way == "top" else costs.whole_s
    return (work.train * one + work.val * costs.score_s) * costs.scale(side_px)


def _others_s(side_px: int, costs: Costs, work: Work) -> float:
    """Seconds of everything except features and epochs: packing and scoring val at the end."""
    return START_S + 1.5 * work.all * costs.decode_s + work.val * costs.score_s * costs.scale(side_px) + 4.0


def _spare(side_px: int, costs: Costs, work: Work, seconds: float) -> float:
    """Seconds that are left for epochs."""
    return 0.95 * seconds - _others_s(side_px, costs, work) - _features_s(side_px, costs, work)


def _fits(side_px: int, costs: Costs, work: Work, seconds: float) -> bool:
    return _features_s(side_px, costs, work) < HEAD_SHARE * (seconds - _others_s(side_px, costs, work))


def _generous(epochs: float) -> int:
    return min(max(round(SLACK * epochs), 1), MOST_EPOCHS)


def _plan(way: Way, side_px: int, epochs: int, costs: Costs, work: Work, limit: float | None = None) -> Plan:
    seconds = _others_s(side_px, costs, work) + _features_s(side_px, costs, work)
    if way != "head":
        seconds += epochs * _epoch_s(way, side_px, costs, work)
    return Plan(way=way, side_px=side_px, epochs=epochs, seconds=seconds if limit is None else min(seconds, limit))
