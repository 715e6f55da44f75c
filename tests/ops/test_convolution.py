"""Convolution against scipy, cross-correlation against torch, and sizes against published ones."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from opsin.errors import ConfigError
from opsin.ops.convolution import MODES, Mode, convolve, correlate, crop_mode, output_size, stacked_sizes


def random_arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.uniform(-255, 255, shape) for shape in shapes]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kernel_shape", [(3, 3), (1, 5), (4, 4), (2, 7), (15, 15)])
def test_convolution_equals_scipy(kernel_shape: tuple[int, int], mode: Mode) -> None:
    image, kernel = random_arrays((3, 21, 34), kernel_shape)
    expected = np.stack([scipy.signal.convolve2d(channel, kernel, mode=mode) for channel in image])
    found = convolve(image, kernel / 225, mode) * 225
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() / 225 < 1e-10


@pytest.mark.parametrize("kernel_side", [1, 2, 3, 4, 5])
def test_cross_correlation_is_what_a_convolutional_layer_computes(kernel_side: int) -> None:
    image, kernel = random_arrays((1, 12, 9), (kernel_side, kernel_side))
    before, after = (kernel_side - 1) // 2, kernel_side // 2  # padding="same" of torch, which warns at even kernels
    margins = {"same": (before, after), "valid": (0, 0), "full": (kernel_side - 1,) * 2}
    for mode in MODES:
        padded = torch.nn.functional.pad(torch.from_numpy(image), margins[mode] * 2)
        expected = torch.nn.functional.conv2d(padded[None], torch.from_numpy(kernel)[None, None])[0].numpy()
        np.testing.assert_allclose(correlate(image, kernel, mode), expected, atol=1e-9)


def test_a_case_worked_by_hand() -> None:
    image = np.array([[1.0, 2.0], [3.0, 4.0]])
    kernel = np.array([[0.0, 1.0], [2.0, 0.0]])
    # full[1, 1] = k[0,1] x[1,0] + k[1,0] x[0,1] = 1 * 3 + 2 * 2; turned, 1 * 2 + 2 * 3
    assert convolve(image, kernel).tolist() == [[0, 1, 2], [2, 7, 4], [6, 8, 0]]
    assert correlate(image, kernel, "valid").tolist() == [[8]]
    assert convolve(image, kernel, "valid").tolist() == [[7]]


def test_a_symmetric_kernel_makes_no_difference_between_the_two() -> None:
    image, half = random_arrays((1, 8, 8), (3, 3))
    kernel = half + half[::-1, ::-1]
    np.testing.assert_array_equal(convolve(image, kernel), correlate(image, kernel))


@pytest.mark.parametrize(("kernel", "expected"), [(15, [526, 512, 498]), (3, [514, 512, 510])])
def test_published_sizes_of_a_512_pixel_image(kernel: int, expected: list[int]) -> None:
    assert [output_size(512, kernel, mode) for mode in MODES] == expected
    image = np.zeros((1, 512, 512))
    full = convolve(image, np.ones((kernel, kernel)))
    found = [crop_mode(full, (512, 512), (kernel, kernel), mode).shape for mode in MODES]
    assert found == [(1, side, side) for side in expected]


@settings(deadline=None)
@given(size=st.integers(1, 40), kernel=st.integers(1, 9), stride=st.integers(1, 4))
def test_sizes_with_stride_are_those_of_torch(size: int, kernel: int, stride: int) -> None:
    padding: dict[Mode, int] = {"full": kernel - 1, "valid": 0}
    for mode, pixels in padding.items():
        if size + 2 * pixels >= kernel:
            layer = torch.nn.Conv1d(1, 1, kernel, stride=stride, padding=pixels, device="meta")
            expected = layer(torch.empty(1, 1, size, device="meta")).shape[-1]
            assert output_size(size, kernel, mode, stride=stride) == expected


def test_valid_layers_shrink_until_the_kernel_does_not_fit() -> None:
    assert stacked_sizes(10, 4, 9) == [7, 4, 1]
    assert stacked_sizes(10, 3, 2, "full") == [12, 14]


def test_a_kernel_larger_than_the_image_has_no_valid_output() -> None:
    with pytest.raises(ConfigError, match="does not fit"):
        convolve(np.zeros((2, 9)), np.ones((3, 3)), "valid")
    assert convolve(np.zeros((2, 9)), np.ones((3, 3)), "same").shape == (2, 9)
