"""JPEGs of many more pixels than are looked at: decoded at a part of their sides, and said so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fuzzing import encoded, exif_block, image_seeds
from PIL import Image

from opsin.data.load import load
from opsin.data.pack import pack
from opsin.errors import ImageError
from opsin.io import containers, images
from opsin.io.images import decode_image
from opsin.ops.resize import fit_image, resampled_size
from opsin.types import SizePolicy

POLICY = SizePolicy(height=224, width=224, fit="crop")


def textured(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 255, (height // 16, width // 16, 3), dtype=np.uint8))
    return rough.resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def photo_of_108_megapixels() -> bytes:
    rows = np.random.default_rng(0).integers(0, 256, (9, 12000), dtype=np.uint8).repeat(1000, 0)
    return encoded(Image.fromarray(rows), "JPEG", quality=30)


def test_a_photo_of_108_megapixels_is_read_in_little_memory(
    photo_of_108_megapixels: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "available_memory", lambda: 64 << 20)
    decoded = decode_image(photo_of_108_megapixels, "a.jpg", sides=resampled_size(POLICY))
    assert decoded.pixels.shape == (3, 1125, 1500)
    assert decoded.size == (9000, 12000)
    assert decoded.notes == ("decoded at 1/8 of its sides",)


def test_a_progressive_photo_needs_memory_for_all_its_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(textured(6400, 4800).convert("L"), "JPEG", progressive=True)
    monkeypatch.setattr(images, "available_memory", lambda: 64 << 20)
    with pytest.raises(ImageError, match="free memory"):
        decode_image(data, "a.jpg", sides=resampled_size(POLICY))


@pytest.mark.parametrize(("side", "reduction"), [(447, 1), (895, 1), (896, 2), (1791, 2), (1792, 4), (3584, 8)])
def test_no_side_falls_under_twice_what_is_looked_at(side: int, reduction: int) -> None:
    decoded = decode_image(encoded(textured(side + 64, side), "JPEG"), "a.jpg", sides=resampled_size(POLICY))
    assert decoded.pixels.shape[1:] == (-(-side // reduction), -(-(side + 64) // reduction))
    assert decoded.size == (side, side + 64)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_whole_size_is_that_of_the_upright_photo(orientation: int) -> None:
    data = encoded(textured(1200, 960), "JPEG", exif=exif_block(orientation))
    decoded = decode_image(data, "a.jpg", sides=resampled_size(SizePolicy(height=100, width=100)))
    assert decoded.size == ((1200, 960) if orientation == 6 else (960, 1200))
    assert decoded.pixels.shape[1:] == tuple(side // 4 for side in decoded.size)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_other_formats_are_decoded_whole(kind: str) -> None:
    decoded = decode_image(encoded(textured(640, 640), kind), "a", sides=lambda height, width: (8, 8))
    assert (decoded.pixels.shape, decoded.whole) == ((3, 640, 640), None)


@pytest.mark.parametrize("size", [(1920, 1441), (1801, 1807)])
def test_what_the_network_sees_is_nearly_what_the_whole_photo_gives(size: tuple[int, int]) -> None:
    data = encoded(textured(*size), "JPEG", quality=95)
    part = decode_image(data, "a.jpg", sides=resampled_size(POLICY))
    assert part.whole is not None
    seen = fit_image(part.pixels, POLICY, part.size).astype(int)
    expected = fit_image(decode_image(data, "a.jpg").pixels, POLICY).astype(int)
    assert np.abs(seen - expected).mean() < 1


def test_packing_says_what_was_done_and_keeps_the_sizes_of_the_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for i in range(10):
            (tmp_path / name).mkdir(exist_ok=True)
            colour = tuple(int(c) for c in np.random.default_rng(i).integers(0, 255, 3))
            picture = textured(640, 480)
            picture.paste(colour, (0, 0, 100 + 10 * i, 200))
            (tmp_path / name / f"{i}.jpg").write_bytes(encoded(picture, "JPEG"))
    packed = pack(load(tmp_path), SizePolicy(height=32, width=32))
    assert packed["train"].sizes.tolist()[0] == [480, 640]
    assert any("decoded at 1/4 of its sides" in note for note in packed["train"].notes)


def test_the_end_of_the_pixel_data_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [containers.open_container(seed.data, 1) for seed in image_seeds() if "jpeg" in seed.name]
    for block in (1, 2, 3, 7):
        monkeypatch.setattr(containers, "SEARCHED_BYTES", block)
        again = [containers.open_container(seed.data, 1) for seed in image_seeds() if "jpeg" in seed.name]
        assert again == whole


def test_a_reduced_photo_that_is_cut_off_is_refused() -> None:
    data = encoded(textured(640, 480), "JPEG")
    with pytest.raises(ImageError):
        decode_image(data[: len(data) // 2], "a.jpg", sides=lambda height, width: (8, 8))


def test_a_turned_photo_is_reduced_only_where_its_sides_can_be_divided() -> None:
    for width, parts in ((1200, 4), (1202, 2), (1201, 1)):
        data = encoded(textured(width, 1200), "JPEG", exif=exif_block(3))
        decoded = decode_image(data, "a.jpg", sides=lambda height, width: (100, 100))
        assert decoded.pixels.shape[2] == width // parts
