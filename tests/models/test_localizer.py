"""The network with two heads: shapes, sizes, and that its boxes move with what it sees."""

from __future__ import annotations

import pytest
import torch

from opsin.models.architectures.localizer import CellBoxes, Localizer, build_localizer, likely_stride
from opsin.models.building import build_backbone
from opsin.models.parts.layers import seeded
from opsin.models.registry import ENTRIES, ModelSpec
from opsin.models.table import layer_table
from opsin.tasks.localize.task import Localize

SIDE = 48
WITH_VECTOR = [name for name in sorted(ENTRIES) if name in ("dense", "plain", "small", "tiny")]


def network(name: str = "tiny", side: int = SIDE) -> Localizer:
    with seeded(0):
        return build_localizer(ModelSpec(name=name, channels=1, height=side, width=side), 10)


@pytest.mark.parametrize("name", WITH_VECTOR)
def test_every_backbone_gets_a_class_and_a_box_head(name: str) -> None:
    made = network(name).eval()
    with torch.no_grad():
        outputs = made(torch.randn(3, 1, SIDE, SIDE))
    assert outputs["logits"].shape == (3, 10)
    assert outputs["boxes"].shape == (3, 4)
    assert (outputs["boxes"][:, 2:] > outputs["boxes"][:, :2]).all()
    assert outputs["boxes"].min() >= 0
    assert outputs["boxes"].max() <= SIDE


@pytest.mark.parametrize("name", WITH_VECTOR)
def test_both_heads_and_the_backbone_get_gradients(name: str) -> None:
    made = network(name).train()
    outputs = made(torch.randn(4, 1, SIDE, SIDE))
    (outputs["boxes"].square().mean() + outputs["logits"].square().mean()).backward()
    assert all(p.grad is not None for p in made.heads.parameters() if p.requires_grad)
    assert any(p.grad is not None and p.grad.any() for p in made.backbone.parameters())


@pytest.mark.parametrize("name", [n for n in WITH_VECTOR if n != "dense"])
def test_the_vector_of_the_pyramid_is_the_features(name: str) -> None:
    with seeded(0):
        backbone = build_backbone(ModelSpec(name=name, channels=1, height=SIDE, width=SIDE)).eval()
    images = torch.randn(2, 1, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(backbone.vector(backbone.pyramid(images)), backbone(images))


def test_a_cell_that_is_sure_says_where_the_box_is() -> None:
    head = CellBoxes(32, 32)
    maps = torch.zeros(1, 64, 8, 8)
    maps[0, 0, 2, 5] = 1
    with torch.no_grad():
        head.votes.weight[0, 0] = 100  # the cell in row 2 and column 5 is sure; all distances are the reach, 8 px
    found = head(maps, 32, 32)[0].tolist()
    assert found == pytest.approx([22 - 8, 10 - 8, 22 + 8, 10 + 8], abs=1e-2)


def test_boxes_move_with_the_image() -> None:
    made = network(side=64).eval()
    with torch.no_grad():
        made.heads["boxes"].votes.weight.normal_(generator=torch.Generator().manual_seed(0))
        image = torch.zeros(1, 1, 64, 64)
        image[..., 20:32, 20:32] = torch.randn(12, 12, generator=torch.Generator().manual_seed(1))
        maps = [made.surroundings(made.backbone.pyramid(x)[-1]) for x in (image, image.roll((16, 8), (2, 3)))]
    torch.testing.assert_close(maps[0].roll((4, 2), (2, 3))[..., 6:10, 6:10], maps[1][..., 6:10, 6:10])


def test_any_size_is_accepted_where_the_backbone_accepts_it() -> None:
    made = network().eval()
    with torch.no_grad():
        boxes = made(torch.randn(2, 1, 61, 90))["boxes"]
    assert (boxes <= torch.tensor([90.0, 61, 90, 61])).all()


def test_cells_of_75_pixels_are_four_or_eight_apart() -> None:
    assert [likely_stride(18, 75), likely_stride(9, 75)] == [4, 8]


@pytest.mark.parametrize("side", [75, 33, 24, 17])
def test_a_few_cells_are_as_far_apart_as_many(side: int) -> None:
    spec = ModelSpec(name="small", channels=1, height=32, width=32)
    made = build_localizer(spec, 3).eval()
    votes = made.heads["boxes"].votes
    with torch.no_grad():
        votes.bias.copy_(torch.tensor([0.0, -9.0, -9.0, -9.0, -9.0]))  # each cell is sure that its box is its centre
        x1, y1, x2, y2 = made(torch.randn(1, 1, side, side))["boxes"][0].tolist()
    cells = made.backbone.pyramid(torch.randn(1, 1, side, side))[-1].shape[-1]
    assert [x1, y1, x2, y2] == pytest.approx([cells * 8 / 2] * 4, abs=0.1)


def test_boxes_are_computed_in_full_precision_under_autocast() -> None:
    made = network().eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert made(torch.randn(1, 1, SIDE, SIDE))["boxes"].dtype == torch.float32


@pytest.mark.parametrize("learned", [False, True])
def test_weights_of_losses_are_trained_only_when_they_are_learned(learned: bool) -> None:
    made = Localize(learn_weights=learned).build(ModelSpec(name="tiny", channels=1, height=SIDE, width=SIDE), 3)
    assert made.log_variances.requires_grad == learned
    assert "log_variances" in made.state_dict()


@pytest.mark.parametrize("name", ["tiny", "dense"])
def test_the_layers_of_a_localizer_can_be_counted(name: str) -> None:
    network = build_localizer(ModelSpec(name=name, channels=1, height=32, width=32), 3)
    assert layer_table(network, 1, 32, 32).parameters > 0
