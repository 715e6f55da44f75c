"""Test-time augmentation: predictions are averaged over several views of an image.

    images ─┬─ as they are ─────── network ──────────────────────┐
            ├─ mirrored ────────── network ─ mirrored back ──────┤
            ├─ moved a little ──── network ─ moved back ─────────┤
            ├─ turned by 90° … ─── network ─ turned back ────────┤
            └─ smaller, larger ─── network ─ to their own size ──┴─ mean of probabilities ─ logarithm = logits

It costs one pass per view, and no further training. Over `turn` the answer is the same for every quarter turn of an
image: the views of a turned image are the views of the image.

Shapes: B images, C channels, H height, W width, K classes.

Source: probabilities averaged over mirrored views and over crops from the corners: Krizhevsky et al. 2012, "ImageNet
classification with deep convolutional neural networks", section 4.1; over sizes: Chen et al. 2017, arXiv 1706.05587,
section 4; over quarter turns: Dieleman et al. 2015, "Rotation-invariant convolutional neural networks for galaxy
morphology prediction", section 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from opsin.batches.resolution import resize_images
from opsin.errors import ConfigError, nearest
from opsin.models.parts.backbone import Backbone
from opsin.models.wrappers.ensemble import SMALLEST

ViewName = Literal["flip", "shift", "scale", "turn"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)
SCALES = (0.75, 1.0, 1.25)
"""Sizes of the views of `scale`, as factors."""
SHIFT = 1 / 32
"""Shift of `shift` as a share of the sides; at least one pixel."""
CORNERS = ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Positions of `shift`: (down, right) in steps of `SHIFT`."""


@dataclass(frozen=True, kw_only=True)
class View:
    """One view of an image: resized by `factor`, moved by (down, right) steps, mirrored, turned clockwise."""

    factor: float
    steps: tuple[int, int]
    mirrored: bool
    quarters: int = 0

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels of the view of an image of these sides, before it is turned."""
        return round(height * self.factor), round(width * self.factor)

    def moved(self, height: int, width: int) -> tuple[int, int]:
        """Shift of a view of these sides, in pixels down and right."""
        down, right = self.steps
        return down * max(1, round(height * SHIFT)), right * max(1, round(width * SHIFT))

    def of(self, images: Tensor) -> Tensor:
        """The view of images float [B, C, H, W]."""
        seen = resize_images(images, *self.size(*images.shape[-2:]))
        seen = _moved(seen, *self.moved(*seen.shape[-2:]))
        seen = seen.flip(-1) if self.mirrored else seen
        return seen.rot90(-self.quarters, (-2, -1)) if self.quarters else seen

    def undone(self, probabilities: Tensor, height: int, width: int) -> Tensor:
        """Probabilities [B, K] as they are; those of pixels [B, K, h, w] in the frame of the original image."""
        if probabilities.ndim == 2:
            return probabilities
        found = probabilities.rot90(self.quarters, (-2, -1)) if self.quarters else probabilities
        found = found.flip(-1) if self.mirrored else found
        down, right = self.moved(*found.shape[-2:])
        found = _moved(found, -down, -right)
        if found.shape[-2:] == (height, width):
            return found
        return functional.interpolate(found, (height, width), mode="bilinear", align_corners=False)

    def shown(self, height: int, width: int) -> Tensor:
        """Bool [height, width]: the pixels of an image of these sides that stay inside the view."""
        sides = (height, width), self.size(height, width)
        inside = []
        for side, shown, moved in zip(*sides, self.moved(*sides[1]), strict=True):
            places = (torch.arange(side) + 0.5) * shown / side + moved
            inside.append((places >= 0) & (places < shown))
        return inside[0][:, None] & inside[1]

    def undone_boxes(self, boxes: Tensor, height: int, width: int) -> Tensor:
        """Boxes [B, 4] of the view, in pixels of the original image."""
        shown_height, shown_width = self.size(height, width)
        for quarter in range(self.quarters, 0, -1):
            boxes = _turned_back(boxes, shown_width if quarter % 2 == 0 else shown_height)
        x1, y1, x2, y2 = boxes.unbind(1)
        if self.mirrored:
            x1, x2 = shown_width - x2, shown_width - x1
        down, right = self.moved(shown_height, shown_width)
        across, along = width / shown_width, height / shown_height
        return torch.stack(
            [(x1 - right) * across, (y1 - down) * along, (x2 - right) * across, (y2 - down) * along], dim=1
        )


@dataclass(frozen=True, kw_only=True)
class Averaging:
    """The quantity averaged over views, and its conversion back to the output."""

    output: str
    apart: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]


CLASSES = Averaging(
    output="logits",
    apart=lambda logits: logits.softmax(1),
    back=lambda means: means.clamp_min(SMALLEST).log(),
)
"""Probabilities of classes of which one is right."""


class Views(nn.Module):
    """A network averaged over several views: the same outputs, one averaged, and `boxes` if it has them.

    Args:
        network: outputs e.g. `logits` float [B, K] or [B, K, H, W], and perhaps `boxes` float [B, 4], xyxy in pixels.
        names: `flip` adds the mirrored image; `shift` adds the image moved a little towards each of its corners;
            `scale` adds the image made smaller and larger; `turn` adds the image turned by 90, 180 and 270 degrees.
            Several are combined: each size is moved, each of these mirrored, each of these turned.
        averaging: which output is averaged, and as what.

    Raises:
        ConfigError: no such view, or one twice; `scale` for a network with a fixed input size.
    """

    def __init__(self, network: nn.Module, names: Sequence[ViewName], averaging: Averaging = CLASSES) -> None:
        super().__init__()
        self.network, self.averaging = network, averaging
        _check(network, names)
        self.views = tuple(
            View(factor=factor, steps=steps, mirrored=mirrored, quarters=quarters)
            for factor, steps, mirrored, quarters in product(
                SCALES if "scale" in names else (1.0,),
                CORNERS if "shift" in names else CORNERS[:1],
                (False, True) if "flip" in names else (False,),
                range(4) if "turn" in names else (0,),
            )
        )

    @property
    def largest(self) -> float:
        """The largest size factor of the views."""
        return max(view.factor for view in self.views)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs averaged over all views of images float [B, C, H, W]; per pixel, over the views containing it."""
        totals: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for view, answers in self._answers(images):
            for key, answer in answers.items():
                weight = (view.shown(*answer.shape[-2:]) if answer.ndim > 2 else torch.ones(())).to(answer)
                totals[key] = totals.get(key, 0) + answer * weight
                counts[key] = counts.get(key, 0) + weight
        means = {key: total / counts[key] for key, total in totals.items()}
        key = self.averaging.output
        return means | {key: self.averaging.back(means[key])}

    @torch.no_grad()
    def check_sizes(self, images: Tensor) -> None:
        """Run the network at every size of the views, to check that it accepts them.

        Args:
            images: float [1, C, H, W] of the size of later images.

        Raises:
            ConfigError: it does not accept one of these sizes; checked before a test split is opened.
        """
        H, W = images.shape[-2:]
        backbone = getattr(self.network, "backbone", None)
        if H != W and len({view.quarters for view in self.views}) > 1 and not getattr(backbone, "any_size", True):
            what = "this network has a fixed input size, so `turn` needs square images"
            raise ConfigError(what, got=f"{H}x{W}", do="leave `turn` out")
        for factor in sorted({view.factor for view in self.views} - {1.0}):
            seen = View(factor=factor, steps=(0, 0), mirrored=False).of(images)
            try:
                self.network(seen)
            except (ConfigError, RuntimeError, AssertionError, ValueError) as error:
                height, width = seen.shape[-2:]
                got = f"{height}x{width}, which is {factor:g} of {H}x{W}"
                expected = error.expected if isinstance(error, ConfigError) else error
                what = "this network does not accept the image sizes of `scale`"
                raise ConfigError(what, got=got, expected=expected, do="leave `scale` out") from error

    def _answers(self, images: Tensor) -> Iterator[tuple[View, dict[str, Tensor]]]:
        """Each view with the averaged output and boxes, both in the frame of the original image."""
        H, W = images.shape[-2:]
        for view in self.views:
            outputs: Mapping[str, Tensor] = self.network(view.of(images))
            key = self.averaging.output
            answer = {key: view.undone(self.averaging.apart(outputs[key].float()), H, W)}
            if "boxes" in outputs:
                answer["boxes"] = view.undone_boxes(outputs["boxes"].float(), H, W)
            yield view, answer


def check_views(names: Sequence[str]) -> tuple[ViewName, ...]:
    """The requested views in canonical order, checked.

    Raises:
        ConfigError: a view is unknown or repeated.
    """
    for name in names:
        if name not in VIEWS or list(names).count(name) > 1:
            if name in VIEWS:
                raise ConfigError("a view is given twice", got=name, do="name each view once")
            close = nearest(name.lower(), VIEWS)
            do = f"did you mean `{close}`?" if close else "choose from these"
            raise ConfigError("no such view", got=name or "an empty name", expected=", ".join(VIEWS), do=do)
    return tuple(view for view in VIEWS if view in names)


def _check(network: nn.Module, names: Sequence[str]) -> None:
    wanted = check_views(names)
    backbone = getattr(network, "backbone", None)
    if "scale" in wanted and isinstance(backbone, Backbone) and not backbone.any_size:
        what = "this network has a fixed input size, so `scale` does not apply"
        raise ConfigError(what, got="scale", do="leave `scale` out")


def _moved(maps: Tensor, down: int, right: int) -> Tensor:
    """Maps float [B, C, H, W] moved by whole pixels; edge values are repeated."""
    for dim, pixels in ((-2, down), (-1, right)):
        if pixels:
            side = maps.shape[dim]
            maps = maps.index_select(dim, (torch.arange(side, device=maps.device) - pixels).clamp_(0, side - 1))
    return maps


def _turned_back(boxes: Tensor, height: int) -> Tensor:
    """Boxes [B, 4] of an image turned clockwise once, in pixels of the image, which has this height.

    The turn took (x, y) to (height - y, x).
    """
    x1, y1, x2, y2 = boxes.unbind(1)
    return torch.stack([y1, height - x2, y2, height - x1], dim=1)
