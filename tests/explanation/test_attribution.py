"""Attributions against numbers that can be worked out by hand, for all three tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.errors import ConfigError
from opsin.explanation.attribution import METHODS, Quantity, attribute, quantities
from opsin.explanation.layers import last_maps, layers_of
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec
from opsin.tasks import get_task
from opsin.types import SizePolicy, TaskName

SIDE = 16


def made(task: TaskName, classes: tuple[str, ...] = ("background", "cat", "dog"), name: str = "plain") -> Artifact:
    """An untrained network for a task."""
    spec = ModelSpec(name=name, channels=1, height=SIDE, width=SIDE, options={"filters": [4, 8]})
    with seeded(0):
        network = get_task(task).build(spec, len(classes)).eval()
    preprocess = Preprocess(
        size=SizePolicy(height=SIDE, width=SIDE), color="gray", range=(0.0, 1.0), mean=(0.5,), std=(0.25,)
    )
    return Artifact(network=network, task=task, classes=classes, spec=spec, preprocess=preprocess, meta={})


def photo(seed: int = 0) -> Tensor:
    return torch.rand(1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def linear(weights: Tensor) -> Quantity:
    """A number that is a weighted sum of pixels."""

    def forward(images: Tensor) -> Tensor:
        return (images * weights).sum(dim=(1, 2, 3))

    return Quantity(name="sum", value=0.0, forward=forward)


def test_a_weighted_sum_is_explained_exactly() -> None:
    image, weights = photo(), torch.linspace(-1, 1, SIDE * SIDE).reshape(1, 1, SIDE, SIDE)
    found = attribute(nn.Identity(), linear(weights), image, layer=None)
    np.testing.assert_allclose(found.maps["saliency"], weights[0, 0].abs(), rtol=1e-5)
    expected = weights[0, 0] * (image[0, 0] - image.mean())
    np.testing.assert_allclose(found.maps["integrated gradients"], expected, atol=1e-5)
    assert found.gap is not None
    assert found.gap < 1e-4
    assert found.missing == {"grad-cam": "the network has no maps"}


def test_occlusion_is_the_mean_fall_over_the_windows_that_cover_a_pixel() -> None:
    image = torch.zeros(1, 1, SIDE, SIDE)
    image[0, 0, 4, 4] = 1.0
    found = attribute(nn.Identity(), linear(torch.ones(1, 1, SIDE, SIDE)), image, layer=None).maps["occlusion"]
    mean = 1 / SIDE**2  # windows of 2 x 2 with step 1: covering the bright pixel takes 1 away and gives 4 means back
    assert found[4, 4] == pytest.approx(1 - 4 * mean, abs=1e-5)
    assert found[12, 12] == pytest.approx(-4 * mean, abs=1e-5)


def test_grad_cam_is_the_mean_gradient_times_the_maps() -> None:
    artifact = made("classify")
    layer = last_maps(layers_of(artifact.network, 1, SIDE, SIDE))
    assert layer is not None
    image, (quantity,) = photo(), quantities(artifact, photo())
    module, kept = artifact.network.get_submodule(layer.module), []
    handle = module.register_forward_hook(lambda _, __, output: kept.append(output))
    value = quantity.forward(image)
    handle.remove()
    (gradient,) = torch.autograd.grad(value.sum(), kept[0])
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).relu()
    expected = nn.functional.interpolate(cam, size=(SIDE, SIDE), mode="bilinear")[0, 0].detach()
    found = attribute(artifact.network, quantity, image, layer=layer).maps["grad-cam"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "name", "count"), [("classify", "plain", 1), ("classify", "dense", 1), ("localize", "tiny", 5)]
)
def test_every_quantity_of_a_task_is_explained_by_every_method(task: TaskName, name: str, count: int) -> None:
    artifact = made(task, name=name) if name != "dense" else dense()
    layer = last_maps(layers_of(artifact.network, 1, SIDE, SIDE))
    found = [attribute(artifact.network, q, photo(), layer=layer) for q in quantities(artifact, photo())]
    assert len(found) == count
    for attribution in found:
        assert set(attribution.maps) | set(attribution.missing) == set(METHODS)
        assert all(m.shape == (SIDE, SIDE) and np.isfinite(m).all() for m in attribution.maps.values())
        assert attribution.to_dict()["quantity"] == attribution.quantity.name


def dense() -> Artifact:
    artifact = made("classify")
    spec = ModelSpec(name="dense", channels=1, height=SIDE, width=SIDE, options={"dense": [8]})
    with seeded(0):
        return replace(artifact, spec=spec, network=get_task("classify").build(spec, 3).eval())


def test_integrated_gradients_add_up_to_the_difference_of_the_values() -> None:
    artifact = made("classify")
    (quantity,) = quantities(artifact, photo())
    found = attribute(artifact.network, quantity, photo(), layer=None)
    mean = photo().mean(dim=(2, 3), keepdim=True).expand(1, 1, SIDE, SIDE)
    difference = float((quantity.forward(photo()) - quantity.forward(mean)).detach())
    assert float(found.maps["integrated gradients"].sum()) == pytest.approx(difference, abs=(found.gap or 0) + 1e-4)


def test_an_edge_of_the_box_has_a_gradient_even_beyond_the_image() -> None:
    artifact = made("localize", name="tiny")
    with torch.no_grad():
        artifact.network.get_submodule("heads.boxes").votes.bias[1:] = 50.0  # type: ignore[union-attr]
    left = quantities(artifact, photo())[1]
    assert left.value < 0
    image = photo().requires_grad_()
    with torch.no_grad():
        artifact.network.get_submodule("heads.boxes").votes.weight.normal_()  # type: ignore[union-attr, operator]
    (gradient,) = torch.autograd.grad(left.forward(image).sum(), image)
    assert gradient.abs().max() > 0


def test_explaining_changes_no_layer_to_training_mode() -> None:
    artifact = made("localize", name="tiny")
    attribute(artifact.network, quantities(artifact, photo())[1], photo(), layer=None)
    assert not any(module.training for module in artifact.network.modules())


def test_of_a_mask_the_logits_of_the_pixels_of_one_class_are_added() -> None:
    artifact = made("segment", name="unet")
    logits = artifact.network(photo())["logits"][0]
    mask = logits.argmax(dim=0)
    present = [artifact.classes[k] for k in mask.unique()]
    (quantity,) = quantities(artifact, photo(), label=present[0])
    k = artifact.classes.index(present[0])
    assert quantity.value == pytest.approx(float(logits[k][mask == k].sum().detach()), rel=1e-5)


@pytest.mark.parametrize(("label", "named"), [("cta", "did you mean `cat`"), ("horse", "background, cat, dog")])
def test_a_class_that_is_not_known_is_refused(label: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        quantities(made("classify"), photo(), label=label)


def test_another_class_than_the_predicted_one_can_be_explained() -> None:
    artifact = made("classify")
    values = {name: quantities(artifact, photo(), label=name)[0].value for name in artifact.classes}
    logits = artifact.network(photo())["logits"][0]
    assert list(values.values()) == pytest.approx(logits.tolist())
