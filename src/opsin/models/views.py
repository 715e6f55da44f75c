"""Test-time augmentation: a network answers to several views of an image, and its answers are averaged.

    images ─┬─ as they are ─────── network ──────────────────────┐
            ├─ mirrored ────────── network ─ mirrored back ──────┤
            └─ smaller, larger ─── network ─ to their own size ──┴─ mean of probabilities ─ logarithm = logits

It costs as many passes as there are views, and nothing of the training.

Shapes: B images, C channels, H height, W width, K classes.

Source: probabilities averaged over mirrored views: Krizhevsky et al. 2012, "ImageNet classification with deep
convolutional neural networks", section 4.1; over sizes too: Chen et al. 2017, arXiv 1706.05587, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from opsin.batches.resolution import resize_images
from opsin.errors import ConfigError, nearest
from opsin.models.backbone import Backbone
from opsin.models.ensemble import SMALLEST

ViewName = Literal["flip", "scale"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)
SCALES = (0.75, 1.0, 1.25)
"""Sizes at which `scale` shows an image, as factors of its own."""


class Views(nn.Module):
    """A network seen through several views: outputs as the network's own, `logits` and, if it has them, `boxes`.

    Args:
        network: outputs `logits` float [B, K] or [B, K, H, W], and perhaps `boxes` float [B, 4], xyxy in pixels.
        names: `flip` adds the mirrored image; `scale` adds the image made smaller and larger; with both, each size is
            mirrored too.

    Raises:
        ConfigError: no such view, or one twice; `scale` for a network that takes one size alone.
    """

    def __init__(self, network: nn.Module, names: Sequence[ViewName]) -> None:
        super().__init__()
        self.network = network
        _check(network, names)
        mirrors = (False, True) if "flip" in names else (False,)
        self.views = tuple(product(SCALES if "scale" in names else (1.0,), mirrors))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The mean answer to all views of preprocessed images float [B, C, H, W]."""
        totals: dict[str, Tensor] = {}
        for outputs in self._answers(images):
            for key, answer in outputs.items():
                totals[key] = totals[key].add_(answer) if key in totals else answer
        means = {key: total / len(self.views) for key, total in totals.items()}
        return means | {"logits": means["logits"].clamp_min(SMALLEST).log()}

    @torch.no_grad()
    def check_sizes(self, images: Tensor) -> None:
        """Have the network answer at every size at which it will be shown images; nobody looks at the answers.

        Args:
            images: float [1, C, H, W] of the size of those to come, whatever is on them.

        Raises:
            ConfigError: it does not take one of these sizes; better now than when a test split is open.
        """
        for factor in sorted({factor for factor, _ in self.views} - {1.0}):
            seen = _resized(images, factor)
            try:
                self.network(seen)
            except (ConfigError, RuntimeError, AssertionError, ValueError) as error:
                height, width = seen.shape[-2:]
                got = f"{height}x{width}, which is {factor:g} of {images.shape[-2]}x{images.shape[-1]}"
                expected = error.expected if isinstance(error, ConfigError) else error
                what = "this network does not take images of the sizes at which `scale` shows them"
                raise ConfigError(what, got=got, expected=expected, do="leave `scale` out") from error

    def _answers(self, images: Tensor) -> Iterator[dict[str, Tensor]]:
        """For each view, probabilities under `logits` and boxes, both in the frame of the image as it is."""
        H, W = images.shape[-2:]
        for factor, mirrored in self.views:
            seen = _resized(images, factor)
            height, width = seen.shape[-2:]
            outputs: Mapping[str, Tensor] = self.network(seen.flip(-1) if mirrored else seen)
            answer = {"logits": _unseen(outputs["logits"].float().softmax(1), H, W, mirrored=mirrored)}
            if "boxes" in outputs:
                answer["boxes"] = _unseen_boxes(outputs["boxes"].float(), (height, width), (H, W), mirrored=mirrored)
            yield answer


def check_views(names: Sequence[str]) -> tuple[ViewName, ...]:
    """The views that are asked for, in our order, each known and there once.

    Raises:
        ConfigError: naming the one that is not.
    """
    for name in names:
        if name not in VIEWS or list(names).count(name) > 1:
            if name in VIEWS:
                raise ConfigError("a view that is asked for twice", got=name, do="name each view once")
            close = nearest(name.lower(), VIEWS)
            do = f"did you mean `{close}`?" if close else None
            raise ConfigError("no such view", got=name or "an empty name", expected=" or ".join(VIEWS), do=do)
    return tuple(view for view in VIEWS if view in names)


def _check(network: nn.Module, names: Sequence[str]) -> None:
    wanted = check_views(names)
    backbone = getattr(network, "backbone", None)
    if "scale" in wanted and isinstance(backbone, Backbone) and not backbone.any_size:
        what = "this network takes images of one size, so that it cannot be shown them smaller and larger"
        raise ConfigError(what, got="scale", do="leave `scale` out")


def _resized(images: Tensor, factor: float) -> Tensor:
    """Images float [B, C, H, W] with both sides times `factor`, rounded."""
    H, W = images.shape[-2:]
    return resize_images(images, round(H * factor), round(W * factor))


def _unseen(probabilities: Tensor, height: int, width: int, *, mirrored: bool) -> Tensor:
    """Probabilities of a view in the frame of the image: those of pixels [B, K, h, w] are brought to its size."""
    if probabilities.ndim == 2:
        return probabilities
    if probabilities.shape[-2:] != (height, width):
        probabilities = functional.interpolate(probabilities, (height, width), mode="bilinear", align_corners=False)
    return probabilities.flip(-1) if mirrored else probabilities


def _unseen_boxes(boxes: Tensor, seen: tuple[int, int], size: tuple[int, int], *, mirrored: bool) -> Tensor:
    """Boxes [B, 4] of a view of (height, width) `seen`, in pixels of the image of `size`."""
    x1, y1, x2, y2 = boxes.unbind(1)
    if mirrored:
        x1, x2 = seen[1] - x2, seen[1] - x1
    across, down = size[1] / seen[1], size[0] / seen[0]
    return torch.stack([x1 * across, y1 * down, x2 * across, y2 * down], dim=1)
