"""Receptive fields: theoretical (from the layers) and effective (from gradients).

*Theoretical*: `opsin.explanation.fields`.

*Effective.* The gradient of the centre unit for each pixel, squared, averaged over images and over the unit's channels.
Its size is the side of a square with as many pixels as have more than 4.55 % of the largest gradient.

Source: Luo et al. 2016, "Understanding the effective receptive field in deep convolutional neural networks",
    arXiv 1701.04128, section 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.explanation.fields import Axis, theoretical_fields, window_of
from opsin.explanation.layers import Layer, watching
from opsin.types import JsonDict

Floats = NDArray[np.float64]
SEEN_SHARE = 1 - 0.9545
"""Share of the largest gradient from which a pixel counts as seen."""


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """The receptive field of the units of one layer.

    Attributes:
        layer: the layer.
        theoretical: height and width in pixels, not clipped at the image's border; None for
            unknown operations.
        stride: pixels from one unit to the next, down and right; None likewise.
        window: left, top, right, bottom in pixels of the centre unit's theoretical field, ends exclusive; may extend
            beyond the image.
        effective_px: side of the centre unit's effective field; None without images.
    """

    layer: Layer
    theoretical: tuple[int, int] | None
    stride: tuple[float, float] | None
    window: tuple[float, float, float, float] | None
    effective_px: float | None = None

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        return {
            "layer": self.layer.name,
            "kind": self.layer.kind,
            "output_shape": list(self.layer.shape),
            "theoretical": None if self.theoretical is None else list(self.theoretical),
            "stride": None if self.stride is None else list(self.stride),
            "window": None if self.window is None else list(self.window),
            "effective_px": self.effective_px,
        }


def receptive_fields(
    network: nn.Module, layers: Sequence[Layer], images: Tensor, gradients: Mapping[str, Floats] | None = None
) -> list[ReceptiveField]:
    """The receptive field of every layer.

    Args:
        network: in evaluation mode.
        layers: of the network.
        images: preprocessed, float [B, C, H, W]; only their shape is used.
        gradients: result of `effective_gradients`.
    """
    channels, height, width = images.shape[1:]
    fields = theoretical_fields(network, channels, height, width)
    found = []
    for layer in layers:
        field = fields.get(layer.name)
        size = None if field is None else tuple(int(axis.high[_mid(axis)] - axis.low[_mid(axis)]) + 1 for axis in field)
        seen = None if gradients is None or layer.name not in gradients else effective_side(gradients[layer.name])
        found.append(
            ReceptiveField(
                layer=layer,
                theoretical=None if size is None else (size[0], size[1]),
                stride=None if field is None else (field[0].step, field[1].step),
                window=None if field is None else window_of(field, _mid(field[0]), _mid(field[1])),
                effective_px=seen,
            )
        )
    return found


def effective_gradients(
    network: nn.Module,
    layers: Sequence[Layer],
    images: Tensor,
    *,
    seed: int = 0,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Floats]:
    """Effective receptive field of the centre unit of each layer: root mean square gradient, float64 [H, W], by the
    layer's name.

    The channels of a unit are added with random signs, so that one backward pass gives the mean over all of them.

    Args:
        network: in evaluation mode.
        layers: of the network.
        images: preprocessed, float [B, C, H, W].
        seed: seed of the signs.
        done: called after each layer.
    """
    names = [layer.name for layer in layers]
    outputs: dict[str, Tensor] = {}
    images = images.detach().clone().requires_grad_()
    with torch.enable_grad(), watching(network, [], outputs, names):
        network(images)
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Floats] = {}
    for name, output in outputs.items():
        centre = output[:, :, output.shape[2] // 2, output.shape[3] // 2] if output.ndim == 4 else output
        signs = torch.randint(0, 2, centre.shape, generator=generator).to(centre) * 2 - 1
        (gradient,) = torch.autograd.grad((centre * signs).sum(), images, retain_graph=True, allow_unused=True)
        if gradient is not None:
            found[name] = gradient.double().square().sum(dim=1).mean(dim=0).sqrt().cpu().numpy()
        done()
    return found


def effective_side(gradients: Floats) -> float:
    """Side of the square with as many pixels as have more than `SEEN_SHARE` of the largest gradient, [H, W]."""
    largest = gradients.max()
    return float(np.sqrt((gradients > SEEN_SHARE * largest).sum())) if largest > 0 else 0.0


def _mid(axis: Axis) -> int:
    return len(axis.low) // 2
