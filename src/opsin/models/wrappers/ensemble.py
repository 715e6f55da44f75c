"""Several networks as one: their probabilities are averaged, with a weight for each.

    pixels ─┬─ preprocess 1 ─ network 1 ─ softmax ─┐
            └─ preprocess M ─ network M ─ softmax ─┴─ weighted mean ─ logarithm = logits

With the logarithm the mean is a network like any other: the softmax of its logits is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opsin.batches.preprocess import ColorName, Preprocess
from opsin.models.parts.backbone import Backbone
from opsin.models.registry import ENSEMBLE, ModelSpec

SMALLEST = 1e-12
"""Probability below which a class counts as excluded: its logarithm stays finite."""


class Ensemble(Backbone):
    """The weighted mean of the members' probabilities, as logarithms.

    Args:
        members: networks with an output `logits`.
        preprocess: of each member; it is given pixels in [0, 255].
        weights: of each member, positive, of sum 1.
        num_classes: K.
    """

    def __init__(
        self, members: Sequence[nn.Module], preprocess: Sequence[Preprocess], weights: Sequence[float], num_classes: int
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.preprocess = tuple(preprocess)
        self.weights = tuple(weights)
        self.num_features = num_classes
        backbones = [getattr(network, "backbone", None) for network in members]
        sized = [backbone for backbone in backbones if isinstance(backbone, Backbone) and backbone.any_size]
        self.any_size = len(sized) == len(members)
        self.min_side = max((backbone.min_side for backbone in sized), default=1)

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of probabilities float [B, K] of pixels float [B, C, H, W] in [0, 255]."""
        pairs = zip(self.members, self.preprocess, strict=True)
        each = [network(prepare(images))["logits"].float().softmax(1) for network, prepare in pairs]
        mean = sum((w * p for w, p in zip(self.weights, each, strict=True)), torch.zeros_like(each[0]))
        return mean.clamp_min(SMALLEST).log()

    def head(self, num_outputs: int) -> nn.Module:
        """Nothing: the features are the logits."""
        return nn.Identity()


def ensemble_spec(
    specs: Sequence[ModelSpec], preprocess: Sequence[Preprocess], weights: Sequence[float], num_classes: int
) -> ModelSpec:
    """The description from which `building.build_ensemble` builds the ensemble again."""
    first = preprocess[0]
    members = [
        {"spec": {**vars(spec), "options": dict(spec.options)}, "preprocess": one.to_dict()}
        for spec, one in zip(specs, preprocess, strict=True)
    ]
    options = {"members": members, "weights": list(weights), "num_classes": num_classes}
    size = first.size
    return ModelSpec(name=ENSEMBLE, channels=first.channels, height=size.height, width=size.width, options=options)


def pixels(preprocess: Preprocess) -> Preprocess:
    """The input contract of an ensemble: unscaled pixels, in the size and channels of its members."""
    channels = preprocess.channels
    color: ColorName = "gray" if channels == 1 else "rgb"
    return Preprocess(
        size=preprocess.size, color=color, range=(0.0, 255.0), mean=(0.0,) * channels, std=(1.0,) * channels
    )
