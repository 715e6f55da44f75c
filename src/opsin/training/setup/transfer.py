"""How photos are learned when nobody says how: which weights, what of the network, at what size, for how long.

Photos start from pretrained weights. The head is fitted first, on features that are computed once (`head_start.py`);
then as much of the network is trained as the data and the budget repay, and the best state on val is kept, the first
one included. What one image costs is measured on this machine; the choice goes into the run's settings, so a resumed
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
from opsin.models.wrappers.forward import Precision
from opsin.progress import duration
from opsin.training.setup.origin import Origin

NETWORK, WEIGHTS = "efficientnet_lite0", "package"
"""What photos start from: 4 million parameters, and weights that come from the package registry."""
SMALLEST_PHOTO_PX = 96
"""Shorter side from which on images are taken for photos."""
NUM_PROBED = 16
PROBED_SIDE_PX, PROBED_IMAGES = 160, 16
UPPER = 5
"""Sections of the backbone that are trained where the whole does not fit into the budget."""
IMAGES_SEEN = 9_000
"""Images that the whole network is shown where no budget is given: three epochs of 3,000 photos."""
EPOCHS_RANGE = (1, 12)
MOST_EPOCHS = 20
"""Epochs of the longest fine-tuning that a budget is spent on."""
SIZES: tuple[tuple[int, float], ...] = ((224, 6), (192, 5), (160, 0.8))
"""Sides of the input, and epochs of the whole network that have to fit before a side is chosen."""
SMALL_SIZES = (160, 128, 96)
"""Sides at which a head alone is fitted, the first whose features fit."""
HEAD_SHARE = 0.9
"""Share of what is left of a budget that features may take: fewer pixels beat no time for anything else."""
START_S = 5.0
"""Seconds for packing's bookkeeping, the network and the first look at val."""
SHORT_S = 180.0
"""Budgets below this many seconds skip the checks before the first step, which take up to ten."""
SLACK = 1.25
"""Epochs beyond the forecast: the clock ends the run, so that a machine that is faster than measured is used."""

Way = Literal["head", "top", "all"]


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds that one image costs here: decoding, forward pass, training of the upper sections and of the whole.

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
        """By how much an image of another side costs more."""
        return (side_px / self.side_px) ** 2


@dataclass(frozen=True, kw_only=True)
class Work:
    """Images of train, of val, and of all splits, which are decoded."""

    train: int
    val: int
    all: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is trained, at what size, for how many epochs, and the seconds that this takes by the measured costs."""

    way: Way
    side_px: int
    epochs: int
    seconds: float

    @property
    def settings(self) -> dict[str, Any]:
        """The plan as settings of a run."""
        finetune = {"head": "head", "top": f"top:{UPPER}", "all": "all"}[self.way]
        return {"finetune": finetune, "input_size": self.side_px, "epochs": self.epochs, "head_start": True}


def start_from_package(dataset: Dataset, given: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The weights that a run gets where the user names none, as settings, and why; empty where it gets none.

    Args:
        dataset: published sets keep their defaults.
        given: what the user gave; who chooses a network, or its knobs, has chosen how it starts.
    """
    if given.get("from_scratch") or dataset.published or dataset.channels != 3:
        return {}, ""
    knobs = {name for name in settings_of.field_names(ModelConfig) if name not in ("model", "dropout")}
    chosen = [key for key in given if key in {*knobs, "model", "normalize"} and given[key] is not None]
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
    """Median of the shorter sides of some training images, in pixels; unreadable ones are left to the packing."""
    source = dataset.splits["train"]
    if source.size is not None:
        return min(source.size)
    sides = []
    for i in np.linspace(0, len(source) - 1, min(NUM_PROBED, len(source))).astype(int):
        try:
            sides.append(min(source.image(int(i)).shape[1:]))
        except InputError:
            continue
    return int(np.median(sides)) if sides else 0


def choose(costs: Costs, work: Work, seconds: float | None, *, photo_px: int, side_px: int | None = None) -> Plan:
    """What reaches most within `seconds`, or without a limit what repays its time.

    Args:
        costs: measured here.
        work: numbers of images.
        seconds: left from now to the end of the run; None is no limit.
        photo_px: shorter side of the photos; more than they have repays nothing.
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
    """Time on this machine: a few images decoded, a few batches through a network of random weights."""
    device = pick_device(device_name)
    spec = ModelSpec(
        name=origin.model, channels=3, height=PROBED_SIDE_PX, width=PROBED_SIDE_PX, options=dict(origin.options)
    )
    network = build_network(spec, {"logits": len(dataset.classes)}, seed=0)
    pin_norms(network.backbone)
    network = network.to(device).to(memory_format=torch.channels_last)
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


def record(costs: Costs, plan: Plan, seconds: float | None) -> dict[str, Any]:
    """The choice and what it rests on, for the log of the run."""
    return {"costs": asdict(costs), "plan": asdict(plan), "seconds_left": seconds}


def describe(costs: Costs, plan: Plan, work: Work) -> str:
    """The choice in a line or two."""
    what = {"head": "the head alone", "top": f"the head, then the last {UPPER} sections", "all": "the head, then all"}
    epochs = "" if plan.way == "head" else f", up to {plan.epochs} epochs"
    factor = costs.scale(plan.side_px)
    return (
        f"training {what[plan.way]} at {plan.side_px} px{epochs}, about {duration(plan.seconds)}: an image of this "
        f"size takes {1000 * costs.forward_s * factor:.1f} ms forward ({costs.precision}), "
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
            source.image(i)
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
    """All but features and epochs: packing, which also resizes, and scoring val at the end."""
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
