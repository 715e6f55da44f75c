"""Attribution: the pixels that a prediction depends on.

What is explained is one number for each image, a `Quantity`: the logit of a class; an edge of the box; the sum of the
logits of a class over the pixels predicted as that class. Four methods of captum are used:

- saliency: size of the gradient of the number for each pixel (Simonyan et al. 2013, arXiv 1312.6034);
- Grad-CAM: the last maps, weighted by their mean gradients (Selvaraju et al. 2016, arXiv 1610.02391);
- integrated gradients from the mean colour of the photo to the photo (Sundararajan et al. 2017, arXiv 1703.01365);
- occlusion: the fall of the number when a window is covered with that colour (Zeiler and Fergus 2013,
  arXiv 1311.2901).

Shapes: C channels, H x W pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion, Saliency
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.artifact import Artifact
from opsin.errors import ConfigError, nearest
from opsin.explanation.layers import Layer
from opsin.tasks import get_task
from opsin.types import JsonDict

METHODS = ("saliency", "grad-cam", "integrated gradients", "occlusion")
EDGES = ("left", "top", "right", "bottom")
STEPS = 32
"""Steps of integrated gradients between the two images."""
WINDOWS = 8
"""Number of occluding windows along the shorter side; they move by half of their side."""
AT_ONCE_PIXELS = 1 << 18
"""Largest number of pixels of changed images in one forward pass."""

Forward = Callable[[Tensor], Tensor]
"""Preprocessed images float [B, C, H, W] to the explained numbers, float [B]."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantity:
    """One number of the network's output: `name` for display, `value` for the photo, `forward` for any images."""

    name: str
    value: float
    forward: Forward


@dataclass(frozen=True, kw_only=True, eq=False)
class Attribution:
    """Attribution maps of a quantity.

    `maps`: by method, float32 [H, W]; saliency and Grad-CAM are 0 or more, the others may be below 0 (against).
    `missing`: the reason why a method has no map, by method. `gap`: integrated gradients add up to the value of the
    photo minus that of the mean colour, except for this; None if not requested.
    """

    quantity: Quantity
    maps: Mapping[str, NDArray[np.float32]]
    missing: Mapping[str, str]
    gap: float | None

    def to_dict(self) -> JsonDict:
        """As plain JSON values: the ranges of the maps, and where each is largest."""
        methods = {}
        for name, found in self.maps.items():
            row, column = np.unravel_index(found.argmax(), found.shape)
            methods[name] = {
                "low": float(found.min()),
                "high": float(found.max()),
                "sum": float(found.sum()),
                "strongest_pixel": [int(row), int(column)],
            }
        return {
            "quantity": self.quantity.name,
            "value": self.quantity.value,
            "methods": methods,
            "missing": dict(self.missing),
            "integrated_gradients_gap": self.gap,
        }


def quantities(artifact: Artifact, image: Tensor, *, label: str | None = None) -> list[Quantity]:
    """The quantities to explain for one image.

    Args:
        artifact: the network, in evaluation mode.
        image: preprocessed, float [1, C, H, W].
        label: a class; by default the likeliest, for masks the commonest (other than one called background).

    Raises:
        ConfigError: there is no such class, or no pixel is predicted as it.
    """
    network, classes = artifact.network, artifact.classes
    with torch.no_grad(), _unclamped(network):
        outputs: dict[str, Tensor] = network(image)
    task = get_task(artifact.task)
    if task.pixelwise:
        return [_class_pixels(network, outputs["logits"], classes, label)]
    key = task.main_output
    chosen = int(outputs[key][0].argmax()) if label is None else _class_number(classes, label)
    found = [_of(network, f"{key.removesuffix('s')} of {classes[chosen]}", outputs, lambda out: out[key][:, chosen])]
    if task.gives_boxes:
        for i, edge in enumerate(EDGES):
            found.append(_of(network, f"{edge} edge of the box, px", outputs, partial(_edge, number=i)))
    return found


def attribute(
    network: nn.Module,
    quantity: Quantity,
    image: Tensor,
    *,
    layer: Layer | None,
    methods: Sequence[str] = METHODS,
    done: Callable[[], None] = lambda: None,
) -> Attribution:
    """The attribution maps of a quantity.

    Args:
        network: in evaluation mode.
        quantity: one of its numbers.
        image: preprocessed, float [1, C, H, W].
        layer: the layer of Grad-CAM; None if there is none.
        methods: some of `METHODS`. A gradient takes one pass; integrated gradients and occlusion take dozens.
        done: called after each method.
    """
    image = image.detach()
    baseline = image.mean(dim=(2, 3), keepdim=True).expand_as(image).contiguous()
    at_once = max(1, AT_ONCE_PIXELS // (image.shape[2] * image.shape[3]))
    maps: dict[str, Tensor] = {}
    missing: dict[str, str] = {}
    gap = None
    for method in methods:
        if method == "saliency":
            maps[method] = Saliency(quantity.forward).attribute(image.clone().requires_grad_()).amax(dim=1)
        elif method == "grad-cam" and layer is None:
            missing[method] = "the network has no maps"
        elif method == "grad-cam" and layer is not None:
            maps[method] = _grad_cam(network, quantity, image, layer)
        elif method == "integrated gradients":
            maps[method], gap = _integrated_gradients(quantity, image, baseline, at_once)
        else:
            maps[method] = _occlusion(quantity, image, baseline, at_once)
        done()
    return Attribution(
        quantity=quantity,
        maps={name: found.detach()[0].float().cpu().numpy() for name, found in maps.items()},
        missing=missing,
        gap=gap,
    )


def _integrated_gradients(quantity: Quantity, image: Tensor, baseline: Tensor, at_once: int) -> tuple[Tensor, float]:
    """[1, H, W], and the largest gap between its sum and the change of the quantity."""
    along, gap = IntegratedGradients(quantity.forward).attribute(
        image, baseline, n_steps=STEPS, internal_batch_size=at_once, return_convergence_delta=True
    )
    return along.sum(dim=1), float(gap.abs().max())


def _grad_cam(network: nn.Module, quantity: Quantity, image: Tensor, layer: Layer) -> Tensor:
    """[1, H, W], enlarged bilinearly from the layer's maps."""
    method = LayerGradCam(quantity.forward, network.get_submodule(layer.module))
    found = method.attribute(image.clone().requires_grad_(), relu_attributions=True)
    enlarged: Tensor = LayerAttribution.interpolate(found, tuple(image.shape[2:]), "bilinear")
    return enlarged[:, 0]


def _occlusion(quantity: Quantity, image: Tensor, baseline: Tensor, at_once: int) -> Tensor:
    """[1, H, W]: the mean fall of the number over the windows that cover a pixel."""
    channels, height, width = image.shape[1:]
    side = max(2, round(min(height, width) / WINDOWS))
    with torch.no_grad():
        found: Tensor = Occlusion(quantity.forward).attribute(
            image,
            sliding_window_shapes=(channels, min(side, height), min(side, width)),
            strides=(channels, max(1, side // 2), max(1, side // 2)),
            baselines=baseline,
            perturbations_per_eval=at_once,
        )
    return found[:, 0]


def _of(network: nn.Module, name: str, outputs: dict[str, Tensor], pick: Callable[[Any], Tensor]) -> Quantity:
    def forward(images: Tensor) -> Tensor:
        with _unclamped(network):
            return pick(network(images))

    return Quantity(name=name, value=float(pick(outputs)[0]), forward=forward)


def _edge(outputs: Mapping[str, Tensor], number: int) -> Tensor:
    return outputs["boxes"][:, number]


def _class_pixels(network: nn.Module, logits: Tensor, classes: tuple[str, ...], label: str | None) -> Quantity:
    """The sum of a class's logits over the pixels predicted as it."""
    mask = logits[0].argmax(dim=0)
    counts = torch.bincount(mask.flatten(), minlength=len(classes))
    if label is None:
        rest = [k for k, name in enumerate(classes) if name.lower() != "background" and counts[k]]
        chosen = max(rest, key=lambda k: int(counts[k]), default=int(counts.argmax()))
    else:
        chosen = _class_number(classes, label)
        if not counts[chosen]:
            given = ", ".join(name for name, count in zip(classes, counts, strict=True) if count)
            raise ConfigError(
                "no pixel is predicted as this class",
                where="--class",
                got=label,
                expected=given,
                do="choose one of these",
            )
    where = mask == chosen
    name = f"{classes[chosen]}: sum of its logits over {int(where.sum()):,} pixels"
    return _of(network, name, {"logits": logits}, lambda out: out["logits"][:, chosen][:, where].sum(dim=1))


def _class_number(classes: tuple[str, ...], label: str) -> int:
    if label not in classes:
        close = nearest(label, classes)
        do = f"did you mean `{close}`?" if close else "choose one of these"
        raise ConfigError(
            "the network has no such class", where="--class", got=label, expected=", ".join(classes), do=do
        )
    return classes.index(label)


@contextmanager
def _unclamped(network: nn.Module) -> Iterator[None]:
    """Context in which boxes are not clipped at the image's edge, where their gradient would be 0."""
    was, network.training = network.training, True
    try:
        yield
    finally:
        network.training = was
