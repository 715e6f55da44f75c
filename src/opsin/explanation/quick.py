"""One picture that shows where a network looks: Grad-CAM over the image, in one forward and one backward pass."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from opsin.arrays import Array
from opsin.artifact import Artifact
from opsin.explanation.attribution import attribute, quantities
from opsin.explanation.layers import Layer, last_maps, layers_of
from opsin.explanation.overlay import heat
from opsin.ops.depth import as_batch, at_depth


@dataclass(frozen=True, kw_only=True, eq=False)
class Heat:
    """Where a network looks in an image.

    `picture`: uint8 [3, H, W], the image at the network's size, orange where the output depends on it. `method`:
    "grad-cam", or "saliency" for a network without maps. `quantity`: the explained number in words, with its `value`.
    """

    picture: NDArray[np.uint8]
    method: str
    quantity: str
    value: float

    @property
    def words(self) -> str:
        """One line below the picture."""
        return f"{'Grad-CAM' if self.method == 'grad-cam' else 'gradient'} of {self.quantity}"


class Explainer:
    """Explains the first quantity of a network's output for one image at a time.

    Args:
        artifact: the network, in evaluation mode; no other thread may run it meanwhile.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact

    @cached_property
    def layer(self) -> Layer | None:
        """The layer of Grad-CAM; None for a network without maps."""
        spec = self.artifact.spec
        return last_maps(layers_of(self.artifact.network, spec.channels, spec.height, spec.width))

    def heat(self, pixels: Array) -> Heat:
        """Where the network looks in an image uint8 or uint16 [C, H, W] at the network's size."""
        network = self.artifact.network
        method = "saliency" if self.layer is None else "grad-cam"
        device = next(network.parameters()).device
        image = self.artifact.input(as_batch(pixels)[None].to(device))
        quantity = quantities(self.artifact, image)[0]
        found = attribute(network, quantity, image, layer=self.layer, methods=[method])
        picture = heat(at_depth(pixels, 8), found.maps[method])
        return Heat(picture=picture, method=method, quantity=quantity.name, value=quantity.value)
