"""One backbone, two heads: which class, and where its box is.

A vector of global maxima, from which Opsin's networks decide the class, has no positions. So the box comes from
the coarsest maps: every cell predicts its confidence that it sees the object, and the distances of the four edges of
the box from the cell; the box is the mean over cells, weighted by confidence. A cell does not know its position,
so the prediction is translation-invariant, and works for images of other sizes.

Shapes: B images, C channels of the coarsest maps, h and w their sides, F hidden channels.

Source: distances to the four edges as in Tian et al. 2019, arXiv 1904.01355 (FCOS), section 3.1; one softmax over the
map as in Finn et al. 2016, arXiv 1509.06113, section 4 (spatial softmax).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional

from opsin.models.building import build_backbone, own_network
from opsin.models.own import OwnNetwork
from opsin.models.parts.backbone import Backbone, level_factors
from opsin.models.parts.heads import class_head
from opsin.models.parts.layers import frozen_scale_norm
from opsin.models.parts.network import Network
from opsin.models.registry import LEARNED_INPUT, ModelSpec, is_own

HIDDEN = 64
"""Channels F between the backbone's maps and the votes."""
NUM_LOSSES = 2
"""Of the class and of the box."""


class Surroundings(nn.Module):
    """Features of the cells for their boxes: 1x1 convolution of their own maps + 3x3 of the pooled ones - norm - ReLU.

    The pooled maps let a cell see two cells farther to every side, at a quarter of the work.

    Args:
        channels: of the coarsest maps.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.own = nn.Conv2d(channels, HIDDEN, 1, bias=False)
        self.around = nn.Conv2d(channels, HIDDEN, 3, padding=1, bias=False)
        self.norm = frozen_scale_norm(HIDDEN)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps float [B, C, h, w] to [B, F, h, w]."""
        around = self.around(functional.max_pool2d(maps, 2, ceil_mode=True))
        around = functional.interpolate(around, scale_factor=2.0, mode="nearest")
        rows, columns = maps.shape[-2:]
        return functional.relu(self.norm(self.own(maps) + around[..., :rows, :columns]))


class CellBoxes(nn.Module):
    """Boxes from the cells' votes.

    Args:
        height, width: sides in pixels of the images that the network is built for; at the start, each cell predicts
            edges at a quarter of the shorter side.
        stride: pixels from cell to cell; None derives it from the image sides, which is inaccurate for one or two
            cells.
    """

    def __init__(self, height: int, width: int, stride: int | None = None) -> None:
        super().__init__()
        self.reach, self.stride = min(height, width) / 4, stride
        self.votes = nn.Conv2d(HIDDEN, 5, 1)
        nn.init.zeros_(self.votes.weight)
        nn.init.zeros_(self.votes.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor, height: int, width: int) -> Tensor:
        """Boxes float32 [B, 4], xyxy in pixels of images of `height` x `width`, of maps [B, F, h, w]."""
        with full_precision(maps.device):
            votes = self.votes(maps.float())
            shares = votes[:, 0].flatten(1).softmax(dim=1)
            edges = self._edges(votes[:, 1:], height, width).flatten(2)
            return torch.einsum("bn,bkn->bk", shares, edges)

    def _edges(self, distances: Tensor, height: int, width: int) -> Tensor:
        """The edges that each cell proposes, float32 [B, 4, h, w], of the logits of their distances."""
        rows, columns = distances.shape[-2:]
        x = self._centres(columns, width, distances.device)[None, :].expand(rows, columns)
        y = self._centres(rows, height, distances.device)[:, None].expand(rows, columns)
        # softplus(0.54) = 1: the distances start at the reach, and are never negative.
        left, up, right, down = (functional.softplus(distances + 0.5413) * self.reach).unbind(dim=1)
        return torch.stack([x - left, y - up, x + right, y + down], dim=1)

    def _centres(self, cells: int, side: int, device: torch.device) -> Tensor:
        """Centres in pixels of the cells along a side, float32 [cells]."""
        stride = likely_stride(cells, side) if self.stride is None else self.stride
        return (torch.arange(cells, dtype=torch.float32, device=device) + 0.5) * stride


class VectorBoxes(nn.Module):
    """Boxes from a feature vector by one linear layer: for networks without maps.

    Args:
        num_features: length of the vector.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_features, 4)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor, height: int, width: int) -> Tensor:
        """Boxes float32 [B, 4], xyxy in pixels of images of `height` x `width`, of features [B, F]."""
        with full_precision(features.device):
            centre_x, centre_y, wide, high = self.linear(features.float()).unbind(dim=1)
            x, y = torch.sigmoid(centre_x) * width, torch.sigmoid(centre_y) * height
            half_width, half_height = torch.sigmoid(wide) * width / 2, torch.sigmoid(high) * height / 2
            return torch.stack([x - half_width, y - half_height, x + half_width, y + half_height], dim=1)


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """Context with autocast off; the meta device, on which layers are counted, has no autocast."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


class Localizer(Network):
    """Class logits and a box for each image.

    In training it also gives `log_variances`, float32 [2]: from which the weights of the two losses (class, box)
    are computed when learned. Otherwise they are constant.

    Args:
        backbone: gives maps and features.
        spec: shape of the images, and whether the network learns the normalization of its input.
        num_classes: K.
    """

    def __init__(self, backbone: Backbone, spec: ModelSpec, num_classes: int) -> None:
        has_maps = bool(backbone.pyramid_channels)
        stride = math.prod(level_factors(backbone, spec.channels)) if has_maps and backbone.any_size else None
        boxes = CellBoxes(spec.height, spec.width, stride) if has_maps else VectorBoxes(backbone.num_features)
        super().__init__(
            backbone,
            {"logits": class_head(backbone, num_classes, spec.options), "boxes": boxes},
            channels=spec.channels,
            height=spec.height,
            width=spec.width,
            learned_input=bool(spec.options.get(LEARNED_INPUT, False)),
        )
        self.surroundings = Surroundings(backbone.pyramid_channels[-1]) if has_maps else None
        self.log_variances = nn.Parameter(torch.zeros(NUM_LOSSES), requires_grad=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits float [B, K] and boxes float32 [B, 4] of preprocessed images float [B, C, H, W].

        Boxes are xyxy in pixels of `images`, x2 >= x1 and y2 >= y1. Outside of training they end at the image's edge.

        Raises:
            ConfigError: the images do not have the shape that the network is built for.
        """
        self._check(images)
        height, width = images.shape[-2:]
        images = self.normalize(images)
        if self.surroundings is None:
            features = source = self.backbone(images)
        else:
            levels = self.backbone.pyramid(images)
            features, source = self.backbone.vector(levels), self.surroundings(levels[-1])
        boxes: Tensor = self.heads["boxes"](source, height, width)
        outputs = {"logits": self.heads["logits"](features)}
        if self.training:
            return outputs | {"boxes": boxes, "log_variances": self.log_variances}
        limits = boxes.new_tensor([width, height, width, height])
        return outputs | {"boxes": boxes.clamp_min(0).minimum(limits)}


def build_localizer(spec: ModelSpec, num_classes: int) -> Localizer | OwnNetwork:
    """The network of `spec` with a class head and a box head.

    Raises:
        ConfigError: as `build_backbone`.
    """
    if is_own(spec.name):
        return own_network(spec, {"logits": num_classes, "boxes": 4})
    return Localizer(build_backbone(spec), spec, num_classes)


def likely_stride(cells: int, side: int) -> float:
    """Pixels from cell to cell along a side.

    Our networks halve their maps, so it is a power of two even where the side is none: 18 cells of 75 pixels are 4
    pixels apart, and the last 3 pixels have no cell of their own.

    >>> likely_stride(18, 75)
    4.0
    """
    return 2.0 ** round(math.log2(side / cells))
