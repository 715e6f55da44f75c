"""Kernels: what they are called, their numbers, and what they answer to pictures that are known."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from opsin.cli import main
from opsin.errors import ConfigError
from opsin.explanation.kernel_figure import draw_kernels
from opsin.explanation.kernels import NAMED, apply, filtered_picture, gaussian, parse_kernel, sample_image
from opsin.io.files import write_atomically
from opsin.io.images import encode_png, read_image


def step_image(channels: int = 1) -> np.ndarray:
    """Black on the left, white on the right."""
    pixels = np.zeros((channels, 9, 12), dtype=np.uint8)
    pixels[:, :, 6:] = 255
    return pixels


def test_the_gaussian_is_the_bell_of_scipy() -> None:
    impulse = np.zeros((31, 31))
    impulse[15, 15] = 1
    expected = ndimage.gaussian_filter(impulse, 2.0, truncate=5)
    np.testing.assert_allclose(gaussian(31, 31, 2.0), expected, atol=1e-6)
    assert gaussian(15, 15, 3.0).sum() == pytest.approx(1)


def test_edge_kernels_are_those_of_scipy() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 20, 30), dtype=np.uint8)
    image = pixels[0].astype(float)
    references = {
        "sobel-x": ndimage.sobel(image, axis=1, mode="constant"),
        "sobel-y": ndimage.sobel(image, axis=0, mode="constant"),
        "laplacian": ndimage.laplace(image, mode="constant"),
    }
    for name, expected in references.items():
        found = apply(pixels, parse_kernel(name)).correlated["same"][0]
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_sobel_answers_to_a_step_with_the_sign_of_its_direction() -> None:
    result = apply(step_image(), parse_kernel("sobel-x"))
    assert result.correlated["valid"].max() == 4 * 255
    assert result.convolved["valid"].min() == -4 * 255
    assert not apply(step_image(), parse_kernel("sobel-y")).correlated["valid"].any()


def test_sharpening_leaves_a_flat_area_as_it_is() -> None:
    flat = np.full((3, 6, 6), 90, dtype=np.uint8)
    flat[0] = 80
    result = apply(flat, parse_kernel("sharpen"))
    np.testing.assert_allclose(result.convolved["valid"], flat[:, 1:-1, 1:-1].astype(float))


def test_a_colour_image_of_equal_channels_counts_as_grey() -> None:
    assert apply(step_image(3), parse_kernel("sharpen")).convolved["full"].shape == (1, 11, 14)
    assert apply(sample_image(), parse_kernel("sobel-x")).convolved["same"].shape == (3, 427, 640)
    assert sample_image(1).shape == (1, 427, 640)


NO_NAMES = ["", "sobelx", "gaussian", "gaussian:0x3,sigma=1", "gaussian:3x3,sigma=0", "gaussian:999x999,sigma=2"]
NO_MATRICES = ["[[1, 2], [3]]", "[[]]", "[1, 2]", "[[1,", '[["a"]]', "[[NaN]]", "[[1e400]]", "[" * 5000]


@pytest.mark.parametrize("text", [*NO_NAMES, *NO_MATRICES])
def test_what_is_no_kernel_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_kernel(text)


def test_a_misspelt_kernel_is_told_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="did you mean `sobel-x`"):
        parse_kernel("sobel_x")


@pytest.mark.parametrize("kernel", [*NAMED, "gaussian:15x15,sigma=3", "[[1, 0], [0, -1]]"])
def test_every_kernel_can_be_drawn_also_where_it_does_not_fit(kernel: str, tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    draw_kernels(apply(step_image(), parse_kernel(kernel)), path, title="a step")
    with Image.open(io.BytesIO(path.read_bytes())) as picture:
        assert min(picture.size) > 300


def test_the_command_prints_sizes_and_writes_the_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, figure = tmp_path / "step.png", tmp_path / "out.png"
    write_atomically(image, encode_png(step_image()))
    assert main(["kernels", str(image), "--kernel", "sobel-x", "--out", str(figure), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert figure.is_file()
    assert found["input"] | {"file": "", "notes": []} == {
        "file": "",
        "notes": [],
        "channels": 1,
        "height": 9,
        "width": 12,
    }
    sizes = {mode: (output["height"], output["width"]) for mode, output in found["outputs"].items()}
    assert sizes == {"full": (11, 14), "same": (9, 12), "valid": (7, 10)}
    assert found["kernel"]["symmetric"] is False
    assert found["stacked_valid"][:2] == [[7, 10], [5, 8]]


def test_the_filtered_picture_alone_has_the_size_of_the_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (3, 20, 30), dtype=np.uint8)
    photo, picture = tmp_path / "photo.png", tmp_path / "picture.png"
    photo.write_bytes(encode_png(pixels))
    line = ["kernels", str(photo), "--out", str(tmp_path / "figure.png"), "--picture", str(picture), "--quiet"]
    assert main([*line, "--kernel", "[[0, 0, 0], [0, 1, 0], [0, 0, 0]]"]) == 0
    assert np.array_equal(read_image(picture).pixels, pixels)
    assert main([*line, "--kernel", "sobel-x"]) == 0
    edges = read_image(picture).pixels
    assert edges.shape == (3, 20, 30)
    assert np.array_equal(edges[0], edges[2])


def test_the_filtered_picture_can_be_written_without_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["kernels", "--kernel", "sobel-x", "--picture", "edges.png", "--json"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["edges.png"]
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["picture"]) == (None, "edges.png")


def test_no_response_to_an_edge_kernel_is_middle_grey_and_its_sign_is_seen() -> None:
    step = np.zeros((1, 9, 12), dtype=np.uint8)
    step[:, :, 6:] = 200
    picture = filtered_picture(apply(step, parse_kernel("[[1, -1]]")))
    assert picture[0, 4, 3] == 128
    assert picture[0, 4, 5:7].max() > 200


@pytest.mark.parametrize("option", ["--out", "--picture"])
def test_the_image_is_never_overwritten_by_its_filtered_picture(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(encode_png(np.zeros((1, 9, 9), dtype=np.uint8)))
    before = photo.read_bytes()
    assert main(["kernels", str(photo), option, str(photo)]) == 2
    assert main(["kernels", str(photo), option, str(tmp_path / "x.jpg")]) == 2
    assert "would overwrite" in capsys.readouterr().err
    assert photo.read_bytes() == before
