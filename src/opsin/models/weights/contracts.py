"""The input contract of a pretrained network, often missing from a file of weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from opsin import config
from opsin.batches.preprocess import Preprocess
from opsin.errors import ConfigError, nearest
from opsin.types import FitName, JsonDict, SizePolicy


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """Range, mean, standard deviation, colour order and size of the images that weights were trained with.

    `range`, `mean`, `std` and `color` have the meaning of `Preprocess`: the network sees (x - mean) / std, x being
    in `range`. `height`, `width`, `fit` and `crop_share` are those of its published accuracy; others work less well.
    """

    range: tuple[float, float]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    color: Literal["rgb", "bgr"] = "rgb"
    height: int = 224
    width: int = 224
    fit: FitName = "crop"
    crop_share: float = 0.875

    def preprocess(self, size: SizePolicy | None = None) -> Preprocess:
        """The contract as the preprocessing of a run, by default at its own size."""
        own = SizePolicy(height=self.height, width=self.width, fit=self.fit, crop_share=self.crop_share)
        return Preprocess(size=size or own, color=self.color, range=self.range, mean=self.mean, std=self.std)

    def to_dict(self) -> JsonDict:
        """Plain JSON values."""
        return config.to_dict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object], *, where: str = "input contract") -> InputContract:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: a field is unknown, of the wrong type or missing.
        """
        if "range" not in values:
            raise ConfigError(
                "an input contract needs a range", where=where, got=dict(values), expected="the key `range`"
            )
        return config.from_dict(cls, values, where=where)

    def __str__(self) -> str:
        means = ", ".join(f"{value:g}" for value in self.mean)
        stds = ", ".join(f"{value:g}" for value in self.std)
        low, high = self.range
        return f"{self.color.upper()} in [{low:g}, {high:g}], mean {means}, sd {stds}, {self.height}x{self.width}"


IMAGENET = InputContract(range=(0.0, 1.0), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""Of torchvision and most of timm."""
SIGNED = InputContract(range=(-1.0, 1.0))
"""x / 127.5 - 1, of TensorFlow's networks: Keras' mode `tf`."""
CAFFE = InputContract(range=(0.0, 255.0), mean=(103.939, 116.779, 123.68), color="bgr")
"""BGR, means subtracted, of Caffe's networks: Keras' mode `caffe`."""
LITE = InputContract(range=(0.0, 255.0), mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0))
"""(x - 127) / 128, of EfficientNet-Lite."""

INPUT_RANGES: dict[str, InputContract] = {
    "unit": InputContract(range=(0.0, 1.0)),
    "signed": SIGNED,
    "raw": InputContract(range=(0.0, 255.0)),
    "imagenet": IMAGENET,
    "caffe": CAFFE,
    "lite": LITE,
}
"""The contracts by the names that `--weights-range` takes."""


def named_contract(name: str) -> InputContract:
    """The contract of this name.

    Raises:
        ConfigError: there is none.
    """
    if name not in INPUT_RANGES:
        close = nearest(name, INPUT_RANGES)
        do = f"did you mean `{close}`?" if close else "choose one of these"
        expected = "; ".join(f"{key}: {value}" for key, value in INPUT_RANGES.items())
        raise ConfigError("unknown input range", where="--weights-range", got=name, expected=expected, do=do)
    return INPUT_RANGES[name]
