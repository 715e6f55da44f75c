"""The preprocessing contract: how pixels become the network's input. Stored in the artefact as plain data.

Shapes: B images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from opsin import config
from opsin.config import NormalizeName, require
from opsin.data.levels import levels_of
from opsin.errors import ArtifactError, ConfigError, DataError
from opsin.ops.depth import DTYPES, at_depth
from opsin.ops.resize import fit_image
from opsin.types import LUMA, JsonDict, SizePolicy

if TYPE_CHECKING:
    from opsin.data.samples import Samples

ColorName = Literal["rgb", "bgr", "gray"]


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Size, colour order, range, mean and standard deviation of the network's input.

    Args:
        size: how an image of any size becomes `[C, height, width]`.
        color: order of the network's channels.
        range: the values of pixels 0 and 255, before the mean is subtracted.
        mean, std: one number for each channel, in units of `range`; the network sees (x - mean) / std.
        learned: the network itself begins with a learnable normalization.

    Raises:
        ConfigError: a field is out of range, or mean and std do not have one number for each channel.
    """

    size: SizePolicy
    color: ColorName
    range: tuple[float, float]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    learned: bool = False

    def __post_init__(self) -> None:
        sides = (self.size.height, self.size.width)
        require(all(1 <= side <= 4096 for side in sides), "size", sides, "sides of 1 to 4096")
        require(0 < self.size.crop_share <= 1, "size.crop_share", self.size.crop_share, "0 < x <= 1")
        require(self.size.bits in DTYPES, "size.bits", self.size.bits, "8 or 16")
        ordered = len(self.range) == 2 and all(map(math.isfinite, self.range)) and self.range[0] < self.range[1]
        require(ordered, "range", self.range, "two numbers, the lower first")
        for name, values in (("mean", self.mean), ("std", self.std)):
            whole = len(values) == self.channels and all(map(math.isfinite, values))
            require(whole, name, values, f"{self.channels} finite numbers, for `color` {self.color}")
        require(min(self.std) > 0, "std", self.std, "more than 0")

    @property
    def channels(self) -> int:
        """Channels that the network sees: 1 for grey, else 3."""
        return 1 if self.color == "gray" else 3

    def fit_image(self, pixels: np.ndarray, whole: tuple[int, int] | None = None) -> np.ndarray:
        """One decoded image in the network's size, RGB or grey as the network needs, but still in RGB order.

        Args:
            pixels: uint8 or uint16 [3 or 1, H, W], RGB or grey.
            whole: height and width of the image, where `pixels` are a smaller version of it.

        Returns:
            [channels, height, width], uint8 or, of a contract of 16 bits, uint16; ready for `__call__` once they are
            a batch (`ops.depth.as_batch`).
        """
        pixels = at_depth(pixels, self.size.bits)
        if self.channels == 1 and pixels.shape[0] == 3:
            red, green, blue = pixels.astype(np.uint32)
            # Pillow's fixed-point luma, so that a grey file and its RGB copy give the same bytes.
            grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
            pixels = grey.astype(pixels.dtype)[None]
        elif self.channels == 3 and pixels.shape[0] == 1:
            pixels = np.repeat(pixels, 3, axis=0)
        return fit_image(pixels, self.size, whole)

    def __call__(self, images: Tensor) -> Tensor:
        """The network's input.

        Args:
            images: uint8 or float32 [B, 3 or 1, H, W] in [0, 255], RGB or grey.

        Returns:
            float32 [B, channels, H, W] in the memory format of `images`; `images` itself is not changed.
        """
        images = self._recoloured(images)
        scale, offset = self._scale_and_offset(images.device)
        # Two passes over one copy: faster on CPU than addcmul, which would write to fresh memory.
        return images.to(torch.float32, copy=True).mul_(scale).add_(offset)

    def to_dict(self) -> JsonDict:
        """Plain JSON values, for the artefact."""
        return config.to_dict(self) | {"size": self.size.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, object], *, where: str = "preprocess") -> Preprocess:
        """The contract from an artefact: the inverse of `to_dict`.

        Raises:
            ArtifactError: a field is missing, unknown, of the wrong type or out of range.
        """
        if not isinstance(values, Mapping):
            raise ArtifactError(
                "the preprocessing contract is not an object",
                where=where,
                got=type(values).__name__,
                do="copy the artefact again",
            )
        missing = [f.name for f in fields(cls) if f.name not in values and f.name != "learned"]
        size = values.get("size")
        if isinstance(size, Mapping):
            missing += [f"size.{name}" for name in ("height", "width") if name not in size]
        if missing:
            raise ArtifactError("the preprocessing contract lacks fields", where=where, expected=", ".join(missing))
        try:
            return config.from_dict(cls, values, where=where)
        except ConfigError as error:
            raise ArtifactError(
                error.what, where=error.where or where, got=error.got, expected=error.expected
            ) from error

    def _recoloured(self, images: Tensor) -> Tensor:
        """RGB or grey [B, C, H, W] in the network's channels and order."""
        if self.channels == 1 and images.shape[1] == 3:
            return luma(images.to(torch.float32))
        if self.channels == 3 and images.shape[1] == 1:
            return images.expand(-1, 3, -1, -1)
        return images.flip(1) if self.color == "bgr" else images

    def _scale_and_offset(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Range, mean and std as one scale and one offset: float32 [1, channels, 1, 1] each."""
        low, high = self.range
        # 1 / std first: PyTorch divides a number by a tensor so, and contracts of before keep every bit
        scales = [1 / std * ((high - low) / 255) for std in self.std]
        offsets = [(low - mean) / std for mean, std in zip(self.mean, self.std, strict=True)]
        both = torch.tensor([scales, offsets], dtype=torch.float32, device=device)
        return both[0].view(1, -1, 1, 1), both[1].view(1, -1, 1, 1)


def luma(images: Tensor) -> Tensor:
    """Grey of each pixel: float32 [B, 1, H, W] of float32 [B, 3, H, W]."""
    red, green, blue = images.unbind(dim=1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def measure(samples: Samples, normalize: NormalizeName, size: SizePolicy) -> Preprocess:
    """The contract for a network that is trained on `samples`, the train split.

    `none` keeps [0, 255]; `unit` gives [0, 1]; `signed` gives [-1, 1]; `standard` gives each channel mean 0 and
    standard deviation 1 over all pixels of `samples`; `learned` gives [0, 1] and leaves the rest to the network. Only
    `standard` reads the pixels. A constant channel has std 1.

    Raises:
        ConfigError: `weights`, which cannot be measured.
        DataError: there are no samples, or they have neither one channel nor three.
    """
    if normalize == "weights":
        do = "give --weights, or choose unit, signed, standard, learned or none"
        raise ConfigError("`--normalize weights` needs pretrained weights", got=normalize, do=do)
    num_samples, channels = samples.images.shape[:2]
    if num_samples == 0 or channels not in (1, 3):
        raise DataError("cannot measure these images", got=samples.images.shape, expected="[N, 1 or 3, H, W], N > 0")
    mean, std = (0.0,) * channels, (1.0,) * channels
    if normalize == "standard":
        mean, std = _mean_and_std(samples)
    ranges = {"none": (0.0, 255.0), "signed": (-1.0, 1.0)}
    return Preprocess(
        size=size,
        color="gray" if channels == 1 else "rgb",
        range=ranges.get(normalize, (0.0, 1.0)),
        mean=mean,
        std=std,
        learned=normalize == "learned",
    )


def _mean_and_std(samples: Samples) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of the images, in units of [0, 1].

    Counts of the values are exact in any order, and are all that the two need.
    """
    counts = levels_of(samples.images)
    values = np.arange(counts.shape[1]) / (counts.shape[1] - 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    mean = shares @ values
    std = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(axis=1))
    std[(counts > 0).sum(axis=1) == 1] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
