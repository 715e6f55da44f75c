"""The top-activating patches of each channel of a layer in a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from opsin.artifact import Artifact
from opsin.data.samples import Samples
from opsin.explanation.fields import Field, theoretical_fields, window_of
from opsin.explanation.layers import Layer, find_layer, layers_of, outputs_of
from opsin.ops.depth import as_batch, at_depth
from opsin.types import JsonDict, JsonMapping

PIXELS_AT_ONCE = 1 << 18
FILL = 128
"""Grey beyond the image's border."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Favourites:
    """The top-activating patches of the channels of one layer, strongest first; one patch per image.

    K channels, n patches each. `values`: float32 [K, n], activations of the channel. `samples`: int64 [K, n], indices
    of the images; `ids` their names. `windows`: int64 [K, n, 4], left, top, right, bottom of the patch in pixels of the
    packed image, ends exclusive, which may extend beyond it. `patches`: for each channel, uint8 [C, h, w] each.
    """

    layer: Layer
    channels: tuple[int, ...]
    values: NDArray[np.float32]
    samples: NDArray[np.int64]
    ids: tuple[tuple[str, ...], ...]
    windows: NDArray[np.int64]
    patches: tuple[tuple[NDArray[np.uint8], ...], ...]
    num_images: int

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        rows: list[JsonMapping] = []
        for k, channel in enumerate(self.channels):
            found = zip(self.ids[k], self.values[k].tolist(), self.windows[k].tolist(), strict=True)
            patches = [{"id": name, "value": value, "window": window} for name, value, window in found]
            rows.append({"channel": channel, "patches": patches})
        return {"layer": self.layer.name, "images": self.num_images, "channels": rows}


def favourites(
    artifact: Artifact, samples: Samples, layer_name: str, *, num_patches: int = 8, num_channels: int | None = None
) -> Favourites:
    """The patches of `samples` that activate each channel of a layer most, cut to its receptive field.

    Args:
        artifact: the network and its preprocessing.
        samples: packed at the network's size.
        layer_name: name of a layer.
        num_patches: patches per channel.
        num_channels: how many channels, the first; None is all.

    Raises:
        ConfigError: there is no such layer.
    """
    network, spec = artifact.network.eval(), artifact.spec
    layer = find_layer(layers_of(network, spec.channels, spec.height, spec.width), layer_name)
    field = theoretical_fields(network, spec.channels, spec.height, spec.width).get(layer.name)
    values, places = _strongest(artifact, samples, layer)
    count = min(num_channels or layer.shape[0], layer.shape[0])
    values, places = values[:, :count], places[:, :count]
    chosen = np.argsort(-values, axis=0, kind="stable")[:num_patches].T
    taken = np.take_along_axis(values.T, chosen, axis=1)
    where = np.take_along_axis(places.T, chosen, axis=1)
    size = samples.images.shape[-2:]
    windows = np.array([[_window(layer, field, place, size) for place in row] for row in where], dtype=np.int64)
    return Favourites(
        layer=layer,
        channels=tuple(range(count)),
        values=taken.astype(np.float32),
        samples=chosen,
        ids=tuple(tuple(str(samples.ids[i]) for i in row) for row in chosen),
        windows=windows,
        patches=tuple(
            tuple(crop(at_depth(samples.images[i], 8), window) for i, window in zip(row, edges, strict=True))
            for row, edges in zip(chosen, windows, strict=True)
        ),
        num_images=len(samples),
    )


def crop(image: NDArray[np.uint8], window: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The pixels of `image` uint8 [C, H, W] inside left, top, right, bottom; grey beyond its border."""
    left, top, right, bottom = (int(edge) for edge in window)
    channels, height, width = image.shape
    found = np.full((channels, bottom - top, right - left), FILL, dtype=np.uint8)
    y1, y2, x1, x2 = max(top, 0), min(bottom, height), max(left, 0), min(right, width)
    if y1 < y2 and x1 < x2:
        found[:, y1 - top : y2 - top, x1 - left : x2 - left] = image[:, y1:y2, x1:x2]
    return found


@torch.inference_mode()
def _strongest(artifact: Artifact, samples: Samples, layer: Layer) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The largest activation of each channel for each image, float32 [N, K], and its position, row * w + column."""
    size = artifact.preprocess.size
    step = max(1, PIXELS_AT_ONCE // (size.height * size.width))
    values, places = [], []
    for start in range(0, len(samples), step):
        images = as_batch(np.array(samples.images[start : start + step]))
        maps = outputs_of(artifact.network, artifact.input(images), [layer.name])[layer.name]
        best, place = maps.flatten(2).max(dim=2) if maps.ndim > 2 else (maps, torch.zeros_like(maps, dtype=torch.int64))
        values.append(best.float().numpy())
        places.append(place.numpy())
    return np.concatenate(values), np.concatenate(places)


def _window(layer: Layer, field: Field | None, place: int, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The receptive field of the unit at a position; the whole image if it is larger or unknown."""
    height, width = size
    if field is None or len(layer.shape) < 3:
        return 0, 0, width, height
    left, top, right, bottom = (int(edge) for edge in window_of(field, place // layer.shape[2], place % layer.shape[2]))
    if right - left >= width:
        left, right = 0, width
    if bottom - top >= height:
        top, bottom = 0, height
    return left, top, right, bottom
