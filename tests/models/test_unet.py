"""The U-Net and its decoder: sizes, knobs, and the pyramids of other backbones."""

from __future__ import annotations

import pytest
import torch

from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.models.architectures.unet import fitted, upsampling
from opsin.models.building import build_segmenter
from opsin.models.registry import ModelSpec, resolve_options
from opsin.models.table import layer_table

QUICK = {"filters": (4, 6, 8)}


def make_segmenter(height=24, width=33, name="unet", **knobs):
    knobs = knobs if "filters" in knobs or name != "unet" else QUICK | knobs
    options = resolve_options(name, ModelConfig(**knobs), decoder=True)
    torch.manual_seed(0)
    return build_segmenter(ModelSpec(name=name, channels=3, height=height, width=width, options=options), 5)


@pytest.mark.parametrize("upsample", ["transpose", "bilinear", "nearest"])
@pytest.mark.parametrize("block", ["plain", "residual"])
def test_every_pixel_gets_logits_and_every_weight_a_gradient(upsample, block):
    for others in ({}, {"skips": False}, {"batch_norm": False}, {"stem_stride": 1}, {"stem_stride": 4}):
        network = make_segmenter(upsample=upsample, block=block, **others)
        logits = network(torch.randn(2, 3, 24, 33))["logits"]
        assert logits.shape == (2, 5, 24, 33)
        logits.square().mean().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("size", [(7, 9), (16, 16), (31, 50), (1, 3)])
def test_any_size_is_padded_and_cropped_back_exactly(size):
    network = make_segmenter().eval()
    images = torch.randn(1, 3, *size)
    logits = network(images)["logits"]
    assert logits.shape[2:] == size
    stride = network.stride
    whole = fitted(images, -(-size[0] // stride) * stride, -(-size[1] // stride) * stride)
    torch.testing.assert_close(network(whole)["logits"][:, :, : size[0], : size[1]], logits)


def test_padding_continues_the_last_row_and_column():
    image = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0.0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5]])
    torch.testing.assert_close(fitted(image, 3, 4)[0, 0], expected)
    torch.testing.assert_close(fitted(image, 1, 2)[0, 0], torch.tensor([[0.0, 1]]))


def test_without_skips_the_decoder_sees_the_coarsest_maps_alone():
    maps = [torch.randn(1, width, side, side) for width, side in ((4, 8), (6, 4), (8, 2))]
    changed = [maps[0] + 1, maps[1] + 1, maps[2]]
    for skips in (True, False):
        decoder = make_segmenter(skips=skips).eval().decoder
        assert torch.equal(decoder(maps), decoder(changed)) == (not skips)


def test_the_decoder_is_as_wide_as_asked_and_its_coarsest_maps_are_the_encoders():
    network = make_segmenter(height=32, width=32, name="plain", filters=(8, 40, 64), decoder_width=32)
    ups, blocks = network.decoder.ups, network.decoder.blocks
    assert [(up[0].in_channels, up[0].out_channels) for up in ups] == [(64, 64), (64, 40), (40, 32)]
    assert [(block.conv1.in_channels, block.conv2.out_channels) for block in blocks] == [(128, 64), (80, 40), (40, 32)]
    assert network(torch.randn(1, 3, 32, 32))["logits"].shape == (1, 5, 32, 32)


def test_a_transposed_convolution_and_interpolation_have_the_size_they_say():
    for mode in ("transpose", "bilinear", "nearest"):
        assert upsampling(3, 5, 2, mode)(torch.randn(1, 3, 4, 6)).shape == (1, 5, 8, 12)


def test_nearest_repeats_pixels():
    layer = upsampling(1, 1, 2, "nearest")
    maps = layer(torch.randn(1, 1, 3, 3))
    torch.testing.assert_close(maps[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2), maps)


@pytest.mark.parametrize("name", ["small", "tiny", "plain"])
def test_a_decoder_goes_over_the_pyramid_of_any_backbone(name):
    network = make_segmenter(height=32, width=40, name=name)
    assert network(torch.randn(2, 3, 32, 40))["logits"].shape == (2, 5, 32, 40)


def test_a_backbone_without_maps_is_refused():
    with pytest.raises(ConfigError, match="no feature maps"):
        make_segmenter(name="dense")


def test_knobs_of_the_decoder_are_for_networks_that_classify_pixels():
    with pytest.raises(ConfigError, match="no option `upsample`"):
        resolve_options("small", ModelConfig(upsample="nearest"))
    options = resolve_options("unet", ModelConfig(block="residual", skips=False), decoder=True)
    assert options["block"] == options["decoder"]["block"] == "residual"
    assert options["decoder"]["skips"] is False


def test_the_table_counts_the_work_of_transposed_convolutions():
    network = make_segmenter(16, 16, upsample="transpose")
    rows = {row.name: row for row in layer_table(network, 3, 16, 16).rows}
    head = rows["heads.logits"]
    assert head.output_shape == (5, 16, 16)
    assert head.multiply_adds == 5 * 16 * 16 * 4


def test_memory_format_and_company_change_no_answer():
    network = make_segmenter().eval()
    images = torch.randn(3, 3, 24, 33)
    many = network(images)["logits"]
    last = network.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last["logits"], many, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(images[1:2])["logits"], many[1:2], rtol=1e-4, atol=1e-5)
