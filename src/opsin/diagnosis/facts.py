"""Measurements with the network for the doctor: scores on train, dead units, batch norms, brightness of the splits.

Only train and val are used, never test. Shapes: N images, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from opsin.artifact import load_proved
from opsin.comparison.outcomes import outcomes_of_arrays
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Samples
from opsin.devices import pick_device
from opsin.diagnosis.case import Facts, LayerFact, NormFact
from opsin.diagnosis.outcome_scores import score_of
from opsin.inference.predictor import Predictor
from opsin.ops.depth import brightness
from opsin.progress import QUIET, Reporter
from opsin.runs import Run, dataset_of
from opsin.tasks import get_task
from opsin.tasks.targets import Targets
from opsin.types import SplitName

MOST_IMAGES = 1000
"""Number of images of each split, evenly spread."""
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish)
LOOKED_AT: tuple[SplitName, ...] = ("train", "val")
STILL = 1e-6
"""A unit whose outputs span less than this, over all images and positions, is dead."""


def measure_facts(run: Run, *, root: str | None = None, device: str = "auto", report: Reporter = QUIET) -> Facts:
    """Run the network over images of train and val.

    Raises:
        OpsinError: the network or the data are missing, or have changed.
    """
    place = pick_device(device)
    predictor = Predictor(load_proved(run.model_folder, device=place), device=place)
    splits = _few(run, predictor, root)
    train = splits["train"]
    with _watched(predictor.network) as watch:
        score, weighed = _score(run, predictor, train, report, "doctor: train")
    val = splits.get("val")
    return Facts(
        train=score,
        num_train=weighed,
        layers=tuple(watch.layers()),
        norms=tuple(watch.norms()),
        train_brightness=_brightness(train),
        val_brightness=None if val is None else _brightness(val),
    )


def _few(run: Run, predictor: Predictor, root: str | None) -> dict[SplitName, Samples]:
    """At most `MOST_IMAGES` of train and of val, packed."""
    dataset = dataset_of(run, root)
    wanted: list[SplitName] = [split for split in LOOKED_AT if split in dataset.splits]
    size, skip = predictor.artifact.preprocess.size, run.config.data.skip_unreadable
    packed = pack(dataset, size, cache=default_cache(), splits=wanted, skip_unreadable=skip)
    return {split: _spread(packed[split]) for split in wanted}


def _spread(samples: Samples) -> Samples:
    rows = np.unique(np.linspace(0, len(samples) - 1, min(MOST_IMAGES, len(samples))).round().astype(np.int64))
    return samples.take(rows)


def _score(run: Run, predictor: Predictor, samples: Samples, report: Reporter, title: str) -> tuple[Any, int]:
    """The main score on these samples, without augmentation, and their number."""
    arrays = predictor.samples(samples, report=report, title=title) | Targets.of(samples).arrays()
    task = get_task(predictor.artifact.task).for_scoring(run.config.train)
    outcomes = outcomes_of_arrays(task, arrays, num_classes=len(predictor.artifact.classes))
    return score_of(outcomes), len(outcomes.parts)


def _brightness(samples: Samples) -> tuple[float, ...]:
    """Mean pixel of each image over all channels, sorted."""
    return tuple(sorted(float(brightness(np.asarray(image)).mean()) for image in samples.images))


class _Watch:
    """Statistics collected by hooks on a network."""

    def __init__(self) -> None:
        self.ranges: dict[str, tuple[Tensor, Tensor]] = {}
        self.moments: dict[str, tuple[Tensor, Tensor, int]] = {}
        self.modules: dict[str, _BatchNorm] = {}

    def activation(self, name: str, output: Tensor) -> None:
        """Widen the range of each unit: channels of maps [N, C, H, W], columns of features [N, C]."""
        units = output.detach().float().transpose(0, 1).flatten(1)
        low, high = units.amin(1), units.amax(1)
        if name in self.ranges:
            low, high = torch.minimum(low, self.ranges[name][0]), torch.maximum(high, self.ranges[name][1])
        self.ranges[name] = (low, high)

    def norm(self, name: str, module: _BatchNorm, given: Tensor) -> None:
        """Add to the sums of each channel of a batch norm's input."""
        values = given.detach().double().transpose(0, 1).flatten(1)
        total, squares, count = values.sum(1), values.square().sum(1), values.shape[1]
        if name in self.moments:
            earlier = self.moments[name]
            total, squares, count = total + earlier[0], squares + earlier[1], count + earlier[2]
        self.moments[name], self.modules[name] = (total, squares, count), module

    def layers(self) -> Iterator[LayerFact]:
        """Units of each activation layer, and the number of dead ones."""
        for name, (low, high) in self.ranges.items():
            yield LayerFact(name=name, units=len(low), dead=int((high - low < STILL).sum()))

    def norms(self) -> Iterator[NormFact]:
        """For each batch norm the median over channels of the distance of its statistics from those of the images."""
        for name, (total, squares, count) in self.moments.items():
            mean = total / count
            variance = (squares / count - mean.square()).clamp_min(0)
            module = self.modules[name]
            running = module.get_buffer("running_var").double() + module.eps
            shift = (mean - module.get_buffer("running_mean").double()).abs() / running.sqrt()
            ratio = ((variance + module.eps) / running).log().abs()
            yield NormFact(name=name, shift=float(shift.quantile(0.5)), log_ratio=float(ratio.quantile(0.5)))


@contextmanager
def _watched(network: nn.Module) -> Iterator[_Watch]:
    """Hooks on all activation layers and batch norms, removed at the end."""
    watch, handles = _Watch(), []
    for name, module in network.named_modules():
        if isinstance(module, ACTIVATIONS):
            handles.append(module.register_forward_hook(_after(watch, name)))
        elif isinstance(module, _BatchNorm) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(_before(watch, name)))
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _after(watch: _Watch, name: str) -> Callable[[nn.Module, tuple[object, ...], Tensor], None]:
    return lambda _module, _given, output: watch.activation(name, output)


def _before(watch: _Watch, name: str) -> Callable[[_BatchNorm, tuple[Tensor, ...]], None]:
    return lambda module, given: watch.norm(name, module, given[0])
