"""Test-time augmentation against views made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.batches.resolution import resize_images
from opsin.errors import ConfigError
from opsin.inference.predictor import Predictor
from opsin.models.registry import FULLY_CONVOLUTIONAL, ModelSpec
from opsin.models.wrappers.views import SCALES, VIEWS, View, Views, check_views
from opsin.tasks import get_task
from opsin.types import SizePolicy

K, H, W = 3, 32, 48


def network_of(task: str, name: str = "small", **options: object) -> nn.Module:
    torch.manual_seed(0)
    spec = ModelSpec(name=name, channels=3, height=H, width=W, options=options)
    return get_task(task).build(spec, K).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(4, 3, H, W, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_no_view_is_the_network_itself(images: Tensor) -> None:
    network = network_of("classify")
    found = Views(network, ())(images)["logits"].softmax(1)
    assert torch.allclose(found, network(images)["logits"].softmax(1), atol=1e-6)


@torch.no_grad()
def test_mirrored_images_are_answered_alike(images: Tensor) -> None:
    seen = Views(network_of("classify"), ("flip",))
    assert torch.allclose(seen(images)["logits"], seen(images.flip(-1))["logits"], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_images_turned_by_any_quarter_are_answered_alike(quarters: int) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    seen = Views(network_of("classify"), ("turn",))
    assert torch.allclose(seen(images)["logits"], seen(images.rot90(quarters, (-2, -1)))["logits"], atol=1e-5)


@torch.no_grad()
def test_classes_are_the_mean_of_the_views_probabilities(images: Tensor) -> None:
    network = network_of("classify")
    each = [
        network(view)["logits"].softmax(1)
        for factor in SCALES
        for scaled in [resize_images(images, round(H * factor), round(W * factor))]
        for view in (scaled, scaled.flip(-1))
    ]
    found = Views(network, ("flip", "scale"))(images)["logits"].softmax(1)
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-6)


@torch.no_grad()
def test_moved_images_are_cut_from_the_image_with_its_edges_repeated(images: Tensor) -> None:
    network = network_of("classify")
    padded = functional.pad(images, (2, 2, 1, 1), mode="replicate")  # 1/32 of 32 rows and, rounded, of 48 columns
    cuts = [(1, 2), (2, 4), (2, 0), (0, 4), (0, 0)]
    each = [network(padded[:, :, y : y + H, x : x + W])["logits"].softmax(1) for y, x in cuts]
    found = Views(network, ("shift",))(images)["logits"].softmax(1)
    assert torch.allclose(found, torch.stack(each).mean(0), atol=1e-6)


class Echo(nn.Module):
    """A network whose mask is its image."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": torch.cat([images, -images], dim=1)}


@torch.no_grad()
@pytest.mark.parametrize("names", [("shift",), ("flip", "shift"), ("turn",), ("flip", "shift", "turn")])
def test_masks_come_back_to_where_they_were(names: tuple) -> None:
    images = torch.zeros(1, 1, 64, 96)
    images[:, :, 8:32, 16:56] = 3
    found = Views(Echo(), names)(images)["logits"].softmax(1)
    assert torch.allclose(found, Echo()(images)["logits"].softmax(1), atol=1e-6)


@torch.no_grad()
def test_masks_come_back_mirrored_and_in_the_size_of_the_images(images: Tensor) -> None:
    network = network_of("segment", "unet", filters=[8, 16])
    mirrored = network(images.flip(-1))["logits"].softmax(1).flip(-1)
    expected = (network(images)["logits"].softmax(1) + mirrored) / 2
    assert torch.allclose(Views(network, ("flip",))(images)["logits"].softmax(1), expected, atol=1e-6)
    assert Views(network, ("scale", "flip"))(images)["logits"].shape == (4, K, H, W)


class Finder(nn.Module):
    """A network that is sure of the rectangle of ones in its images."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        boxes = []
        for image in images[:, 0] > 0.5:
            y, x = image.nonzero().unbind(1)
            boxes.append(torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]).float())
        return {"logits": torch.zeros(len(images), K), "boxes": torch.stack(boxes)}


@pytest.mark.parametrize("names", [("flip",), ("scale",), ("shift",), ("turn",), ("flip", "scale"), VIEWS])
def test_boxes_come_back_to_where_the_object_is(names: tuple) -> None:
    images = torch.zeros(1, 1, 64, 96)
    images[:, :, 8:32, 16:56] = 1
    found = Views(Finder(), names)(images)["boxes"]
    assert torch.allclose(found, torch.tensor([[16.0, 8.0, 56.0, 32.0]]), atol=0.5)


@torch.no_grad()
def test_pixels_on_the_edge_are_answered_by_the_views_that_show_them() -> None:
    images = torch.zeros(1, 1, 64, 96)
    images[:, :, -1] = images[:, :, :, 0] = 5
    found = Views(Echo(), ("shift",))(images)["logits"].softmax(1)
    assert torch.allclose(found, Echo()(images)["logits"].softmax(1), atol=1e-6)


@torch.no_grad()
def test_what_is_shown_of_an_image_is_what_comes_back() -> None:
    view = View(factor=1.25, steps=(-1, 1), mirrored=True)
    assert view.moved(*view.size(64, 96)) == (-2, 4), "1/32 of 80 rows, and of 120 columns, rounded"
    shown = view.shown(64, 96)
    assert (~shown).nonzero().amin(0).tolist() == [0, 0]
    assert shown[2:, :92].all()
    assert not shown[0].any()
    assert not shown[:, 94:].any()


def test_small_images_are_moved_by_a_pixel() -> None:
    assert View(factor=1.0, steps=(1, -1), mirrored=False).moved(8, 8) == (1, -1)


def test_boxes_of_sides_that_are_rounded_come_back_whole() -> None:
    view = View(factor=0.75, steps=(0, 0), mirrored=True)
    assert view.size(33, 47) == (25, 35)
    assert torch.allclose(view.undone_boxes(torch.tensor([[0.0, 0, 35, 25]]), 33, 47), torch.tensor([[0.0, 0, 47, 33]]))


@pytest.mark.parametrize("view", Views(Finder(), VIEWS).views, ids=str)
def test_boxes_of_each_view_come_back_by_themselves(view: View) -> None:
    images = torch.zeros(1, 1, 64, 96)
    images[:, :, 8:32, 16:56] = 1
    found = view.undone_boxes(Finder()(view.of(images))["boxes"], 64, 96)
    assert torch.allclose(found, torch.tensor([[16.0, 8.0, 56.0, 32.0]]), atol=0.7)


def test_a_network_of_one_size_is_shown_no_other() -> None:
    network = network_of("classify", "dense")
    Views(network, ("flip",))
    with pytest.raises(ConfigError, match="fixed input size"):
        Views(network, ("scale",))
    turned = Views(network, ("turn",))
    with pytest.raises(ConfigError, match="`turn` needs square images"):
        turned.check_sizes(torch.zeros(1, 3, H, W))


@pytest.mark.parametrize(
    ("name", "options", "smallest"), [("small", {"filters": [8] * 4}, 17), ("plain", {FULLY_CONVOLUTIONAL: True}, 20)]
)
def test_sizes_that_a_network_does_not_take_are_refused_before_any_image(
    name: str, options: dict, smallest: int
) -> None:
    torch.manual_seed(0)
    spec = ModelSpec(name=name, channels=3, height=20, width=20, options=options)
    contract = Preprocess(
        size=SizePolicy(height=20, width=20), color="rgb", range=(0.0, 1.0), mean=(0.0,) * 3, std=(1.0,) * 3
    )
    artifact = Artifact(
        network=get_task("classify").build(spec, K),
        task="classify",
        classes=("a", "b", "c"),
        spec=spec,
        preprocess=contract,
        meta={},
    )
    Predictor(artifact, views=("flip", "shift"))
    with pytest.raises(ConfigError, match="does not accept the image sizes") as caught:
        Predictor(artifact, views=("scale",))
    assert caught.value.got == "15x15, which is 0.75 of 20x20"
    assert str(smallest) in str(caught.value.expected)


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (("flop",), r"(?s)no such view.*did you mean `flip`"),
        (("FLIP",), r"(?s)no such view.*FLIP.*did you mean `flip`"),
        (("flip", "flip"), r"(?s)twice.*name each view once"),
        (("flip", ""), "an empty name"),
    ],
)
def test_views_that_are_not_there_are_refused(names: tuple, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check_views(names)


def test_views_stand_in_our_order() -> None:
    assert check_views(("turn", "scale", "shift", "flip")) == ("flip", "shift", "scale", "turn")
