"""Tiled prediction: equal to the whole photo where the margin covers the reach, without a seam where it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from opsin.artifact import Artifact
from opsin.batches.preprocess import Preprocess
from opsin.config import ModelConfig
from opsin.errors import ArrayError, ConfigError, ImageError
from opsin.inference.predictor import Predictor
from opsin.inference.tiles import TiledPredictor
from opsin.io.large import mask_writer, open_pixels
from opsin.models.building import build_segmenter
from opsin.models.parts.layers import seeded
from opsin.models.reach import reach
from opsin.models.registry import ModelSpec, resolve_options
from opsin.ops.mask_pictures import palette
from opsin.types import SizePolicy

CLASSES = ("background", "one", "two")


def predictor(upsample: str = "bilinear", filters: tuple[int, ...] = (4, 6, 8)) -> Predictor:
    """A U-Net with random weights and statistics of random images: its answers change from pixel to pixel."""
    config = ModelConfig(model="unet", filters=filters, upsample=upsample)
    options = resolve_options("unet", config, decoder=True)
    spec = ModelSpec(name="unet", channels=3, height=48, width=48, options=options)
    with seeded(1):
        network = build_segmenter(spec, len(CLASSES)).train()
        with torch.no_grad():
            for name, values in network.named_parameters():
                values.normal_(std=0.2) if name.endswith("bias") else None
            for _ in range(20):
                network(torch.randn(2, 3, 48, 48))
    contract = Preprocess(
        size=SizePolicy(height=48, width=48), color="rgb", range=(0.0, 1.0), mean=(0.5,) * 3, std=(0.25,) * 3
    )
    artifact = Artifact(network=network, task="segment", classes=CLASSES, spec=spec, preprocess=contract, meta={})
    return Predictor(artifact)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth colours with noise, uint8 [3, H, W]."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(y / (7 + c)) * np.cos(x / (9 + c)) for c in range(3)]
    return np.clip(128 + 90 * np.stack(waves) + generator.normal(0, 20, (3, height, width)), 0, 255).astype(np.uint8)


def whole(model: Predictor, pixels: np.ndarray) -> torch.Tensor:
    with torch.inference_mode():
        return model.network(model.artifact.preprocess(torch.from_numpy(pixels)[None]))["logits"][0]


def agreed(mask: np.ndarray, logits: torch.Tensor) -> bool:
    """Whether a mask is the likeliest class everywhere, but for ties to within rounding."""
    top = logits.topk(2, dim=0).values
    clear = ((top[0] - top[1]) > 1e-4).numpy()
    return bool((mask == logits.argmax(0).numpy())[clear].all()) and clear.mean() > 0.95


@pytest.mark.parametrize("upsample", ["bilinear", "transpose", "nearest"])
@pytest.mark.parametrize(("height", "width"), [(155, 201), (64, 300)])
def test_a_tiled_mask_is_that_of_the_whole_photo(upsample: str, height: int, width: int) -> None:
    model, pixels = predictor(upsample), photo(height, width)
    tiled = TiledPredictor(model, tile=64)
    assert tiled.tiling.exact
    assert agreed(np.concatenate(list(tiled.rows(pixels))), whole(model, pixels))


def test_a_margin_narrower_than_the_reach_is_not_called_exact_and_does_change_answers() -> None:
    model, pixels = predictor(), photo(200, 200)
    narrow = TiledPredictor(model, tile=64, overlap=8)
    assert not narrow.tiling.exact
    difference = np.concatenate(list(narrow.rows(pixels))) != whole(model, pixels).argmax(0).numpy()
    assert 0 < difference.mean() < 0.2


def test_blended_windows_show_no_seam() -> None:
    """Across the tiles' edges classes change about as often as in the whole photo; where windows are cut, far more."""
    model, pixels = predictor(), photo(256, 256)

    def changes(mask: np.ndarray) -> float:
        edges = [64, 128, 192]
        return float((mask[edges] != mask[[e - 1 for e in edges]]).mean())

    seamless = changes(whole(model, pixels).argmax(0).numpy())
    cut, blended = (
        changes(np.concatenate(list(TiledPredictor(model, tile=64, overlap=overlap).rows(pixels)))) - seamless
        for overlap in (0, 24)
    )
    assert cut > 0.05
    assert abs(blended) < 0.15 * cut


def test_weights_of_neighbouring_windows_sum_to_one() -> None:
    from opsin.inference.tiles import _ramps, _tiles

    for length, side, margin in ((200, 64, 16), (130, 64, 32), (64, 64, 32), (100, 32, 0)):
        total = np.zeros(length)
        for begin, end in _tiles(length, side):
            total[max(0, begin - margin) : end + margin] += _ramps(begin, end, length, margin)
        np.testing.assert_allclose(total, 1, atol=1e-6)


def test_the_reach_of_two_convolutions_is_counted_by_hand() -> None:
    class Plain(nn.Module):
        def __init__(self, *layers: nn.Module) -> None:
            super().__init__()
            self.layers = nn.Sequential(*layers)

        def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"logits": self.layers(images)}

    three_and_five = Plain(nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.Conv2d(2, 2, 5, padding=2))
    assert reach(three_and_five, 1, 1) == 3
    spread = Plain(nn.Conv2d(1, 2, 3, padding=1), nn.InstanceNorm2d(2))
    assert reach(spread, 1, 1) is None


def test_no_pixel_beyond_the_reach_changes_an_answer_and_one_within_does() -> None:
    model = predictor().artifact.network.eval()
    needed = reach(model, 3, model.stride)
    assert needed is not None
    images = torch.randn(1, 3, 16, 512, generator=torch.Generator().manual_seed(0))
    begin = 256 // model.stride * model.stride
    changed = images.clone()
    changed[..., begin : begin + model.stride] += 1
    with torch.inference_mode():
        moved = (model(images)["logits"] - model(changed)["logits"]).abs().amax((0, 1, 2)) > 1e-6
    places = moved.nonzero()
    assert int(places.min()) >= begin - needed
    assert int(places.max()) <= begin + model.stride - 1 + needed
    assert bool(moved[begin - model.stride : begin + 2 * model.stride].any())


def test_the_photo_and_its_mask_are_files(tmp_path: Path) -> None:
    pixels = photo(90, 130)
    Image.fromarray(pixels.transpose(1, 2, 0)).save(tmp_path / "p.ppm")
    np.save(tmp_path / "a.npy", pixels.transpose(1, 2, 0))
    model = predictor()
    tiled = TiledPredictor(model, tile=48)
    for name in ("p.ppm", "a.npy"):
        mask = tmp_path / f"{name}.png"
        found = tiled.file(tmp_path / name, mask)
        assert found.mask == str(mask)
        assert sum(share for _, share in found.top) == pytest.approx(1)
        assert any("own scale" in note for note in found.notes)
        assert any("mapped" in note for note in found.notes)
        assert agreed(np.asarray(Image.open(mask)), whole(model, pixels))


def test_a_mask_written_in_pieces_is_the_palette_png_that_pillow_reads(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 5, (37, 23)).astype(np.uint8)
    with mask_writer(tmp_path / "m.png", 37, 23, palette()) as writer:
        for start in range(0, 37, 10):
            writer.write(rows[start : start + 10])
    image = Image.open(tmp_path / "m.png")
    assert image.mode == "P"
    np.testing.assert_array_equal(np.asarray(image), rows)
    assert image.getpalette()[:9] == palette()[:3].ravel().tolist()


def test_a_mask_that_is_not_finished_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="missing"), mask_writer(tmp_path / "m.png", 4, 4, palette()):
        pass
    assert list(tmp_path.iterdir()) == []


def test_photos_are_mapped_not_read(tmp_path: Path) -> None:
    """A photo of 12 GB that lies sparsely on disk is opened in no memory."""
    path = tmp_path / "big.ppm"
    with path.open("wb") as file:
        file.write(b"P6\n# sparse\n100000 40000\n255\n")
        file.truncate(file.tell() + 3 * 100_000 * 40_000)
    pixels, _ = open_pixels(path)
    assert pixels.shape == (3, 40_000, 100_000)
    assert pixels[:, -1, -1].tolist() == [0, 0, 0]
    del pixels


def test_what_is_no_photo_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ArrayError, match="not a photo"):
        open_pixels(tmp_path / "f.npy")
    (tmp_path / "cut.ppm").write_bytes(b"P6 10 10 255 " + bytes(20))
    with pytest.raises(ImageError, match="cut off"):
        open_pixels(tmp_path / "cut.ppm")


def test_sizes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="overlap"):
        TiledPredictor(predictor(), tile=32, overlap=24)
    with pytest.raises(ConfigError, match="tile"):
        TiledPredictor(predictor(), tile=8)
    with pytest.raises(ConfigError, match="does not apply to tiles"):
        TiledPredictor(Predictor(predictor().artifact, views=("flip",)), tile=32)
