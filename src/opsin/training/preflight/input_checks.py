"""Preflight checks of the input: targets, pixel range, and the expectation of pretrained weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from opsin.batches.preprocess import Preprocess
from opsin.data.targets import KINDS
from opsin.errors import PreflightError
from opsin.models.parts.network import Network
from opsin.models.weights.contracts import INPUT_RANGES
from opsin.training.setup.prepared import Prepared

if TYPE_CHECKING:
    from opsin.training.preflight.checks import Trial

USED_SHARE = 0.1
"""Least share of the 256 grey levels that the images of a pretrained network should span."""
FLOOR, CEILING = 1e-5, 50.0
"""Variance below which a channel is dead; largest misfit of one channel in nats."""
ALIKE, ALIKE_AT_LEAST = 1.2, 0.02
"""Largest difference of two equally good fits: a factor, and nats per channel."""
CLEARLY_WORSE, AT_LEAST = 3.0, 0.2
"""Least misfit, in nats per channel, by which the first batch norm must prefer another input range to refuse this one.

Measured with MobileNetV2 and EfficientNet-Lite0 on 24 images at 96 px of flowers, CamVid and CIFAR-10: the right range
0.08 to 0.20, [0, 1] for [-1, 1] 0.36 to 0.69, [0, 255] 39 and more.
"""


def check_targets(prepared: Prepared) -> None:
    """Every target is valid: a label is the index of a class.

    Raises:
        PreflightError: one is invalid.
    """
    count = len(prepared.dataset.classes)
    for split, samples in prepared.splits.items():
        for kind, rows in samples.targets.items():
            if len(wrong := KINDS[kind].wrong(rows, count)):
                got = f"{rows[wrong].min()} to {rows[wrong].max()}"
                expected, do = KINDS[kind].expected(count), "number the classes from 0, without gaps"
                raise PreflightError(f"{kind} {KINDS[kind].fault}", where=split, got=got, expected=expected, do=do)


def check_input(trial: Trial) -> str:
    """Pixels are mapped as the weights expect, and the images use their range.

    Raises:
        PreflightError: names the given and the expected range.
    """
    prepared = trial.prepared
    if prepared.origin is None:
        return "the network is new and expects no particular range"
    used, expected = prepared.artifact.preprocess, prepared.origin.preprocess
    if described(used) != described(expected):
        raise PreflightError(
            "the input is not mapped as the pretrained weights expect",
            got=described(used),
            expected=described(expected),
            do="leave --normalize out: the weights define it",
        )
    levels = trial.batch.images
    low, high = np.quantile(levels.cpu().numpy(), (0.005, 0.995))
    if high - low < USED_SHARE * 255:
        raise PreflightError(
            "the images use a small part of the pixel range, so the pretrained network would see them as flat",
            got=f"values from {low:g} to {high:g} of 0 to 255",
            do="give 8-bit images unscaled, not divided by 255; 12 bits stored in 16 times 16",
        )
    if prepared.origin.record.get("naming") == "opsin":
        return "mapped as in the run that the weights are from"
    return _first_norm(trial, used)


def described(preprocess: Preprocess) -> str:
    """Range, mean, deviation and colour order as text."""
    low, high = preprocess.range
    about = f"{preprocess.color} in [{low:g}, {high:g}], mean {preprocess.mean}, sd {preprocess.std}"
    return about + (", then normalized by the network" if preprocess.learned else "")


def _first_norm(trial: Trial, used: Preprocess) -> str:
    """The running statistics of the first batch norm match its input.

    Its input is computed for each known input range; a far better fit of another range is a fault.
    """
    network = trial.network
    fits = {"used": _misfit(network, used(trial.batch.images))}
    if fits["used"] is None:
        return "mapped as the weights expect; there is no first batch norm to compare with"
    for name, contract in INPUT_RANGES.items():
        other = contract.preprocess(used.size)
        if other.channels == used.channels and other != used:
            fits[name] = _misfit(network, other(trial.batch.images))
    known = {name: value for name, value in fits.items() if value is not None}
    best = min(known, key=known.__getitem__)
    if known["used"] > CLEARLY_WORSE * known[best] and known["used"] - known[best] > AT_LEAST:
        alike = alike_fits(known)
        named, fit = " and ".join(f"`{name}`" for name in alike), "fit" if len(alike) > 1 else "fits"
        options = " or ".join(f"--weights-range {name}" for name in alike)
        unsure = "; these hardly differ; see the publisher of the weights" if len(alike) > 1 else ""
        raise PreflightError(
            f"the weights were trained on another input range: {named} {fit} their first batch norm far better",
            got=f"{described(used)}: misfit {known['used']:.2f} nats per channel",
            expected="; or ".join(
                f"{described(INPUT_RANGES[name].preprocess(used.size))}: {known[name]:.2f}" for name in alike
            ),
            do=f"{options}{unsure or ', or see the publisher of the weights'}",
        )
    return f"mapped as the weights expect; the first batch norm differs by {known['used']:.2f} nats per channel"


def alike_fits(misfits: Mapping[str, float]) -> list[str]:
    """The inputs that fit best, best first; includes all that this measurement cannot distinguish.

    >>> alike_fits({"used": 2.0, "unit": 0.9, "lite": 0.11, "signed": 0.12})
    ['lite', 'signed']
    """
    best = min(misfits.values())
    found = [name for name, misfit in misfits.items() if misfit <= ALIKE * best + ALIKE_AT_LEAST and name != "used"]
    return sorted(found, key=misfits.__getitem__)


class _Seen(Exception):  # noqa: N818
    """Carries the input of the first batch norm, and ends the forward pass."""

    def __init__(self, maps: Tensor, norm: _BatchNorm) -> None:
        super().__init__()
        self.maps, self.norm = maps, norm


@torch.no_grad()
def _misfit(network: nn.Module, images: Tensor) -> float | None:
    """How far the statistics of the first batch norm's input are from its running ones; None where there is none."""

    def stop(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        raise _Seen(inputs[0], norm)

    if not isinstance(network, Network):
        return None
    norms = [m for m in network.backbone.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    handles = [norm.register_forward_pre_hook(stop) for norm in norms]
    try:
        network.eval().backbone(network.normalize(images))
    except _Seen as seen:
        return divergence(seen.maps.float(), seen.norm)
    finally:
        for handle in handles:
            handle.remove()
    return None


def divergence(maps: Tensor, norm: _BatchNorm) -> float:
    """How far maps [B, C, H, W] are from the running statistics of a batch norm, in nats.

    The mean over channels of KL(seen || trained) between normal distributions of these means and variances.
    """
    variance, mean = torch.var_mean(maps.transpose(0, 1).flatten(1), dim=1)
    trained_mean, trained = norm.get_buffer("running_mean"), norm.get_buffer("running_var") + FLOOR
    ratio = (variance + FLOOR) / trained
    nats = 0.5 * (ratio + (mean - trained_mean) ** 2 / trained - 1 - ratio.log())
    return float(nats.clamp_max(CEILING).mean())
