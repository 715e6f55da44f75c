"""DeepLabV3+ and FPN over many encoders, through segmentation-models-pytorch (the extra `opsin[segmentation]`).

They behave like Opsin's own `Segmenter`: images of any size are padded to a multiple of the stride and the logits
are cropped back, so that every pixel has a prediction. Weights are random here: nothing is downloaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from opsin.errors import ConfigError, nearest
from opsin.models.architectures.unet import fitted

EXTRA = 'pip install "opsin[segmentation]"'
"""Command that installs the package."""
STRIDE = 32


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture; `kind` is its class in segmentation-models-pytorch."""

    kind: str
    description: str
    source: str


ARCHITECTURES = {
    "deeplabv3plus": Architecture(
        kind="DeepLabV3Plus",
        description="DeepLabV3+: dilated convolutions of several reaches over an encoder. For masks.",
        source="Chen et al. 2018, arXiv 1802.02611.",
    ),
    "fpn": Architecture(
        kind="FPN",
        description="FPN: a pyramid of feature maps, added up from coarse to fine. For masks.",
        source="Kirillov et al. 2019, arXiv 1901.02446.",
    ),
}
"""Architectures by name in Opsin."""


@dataclass(frozen=True, kw_only=True)
class SmpOptions:
    """Options: the encoder, by its name in segmentation-models-pytorch."""

    encoder: str = "resnet18"


def is_installed() -> bool:
    """Whether segmentation-models-pytorch is installed; it is not imported, which takes seconds."""
    return find_spec("segmentation_models_pytorch") is not None


def library() -> ModuleType:
    """segmentation-models-pytorch.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import segmentation_models_pytorch
    except ImportError as error:
        what, names = "this network needs a package that is not installed", ", ".join(ARCHITECTURES)
        do = f"{EXTRA}, or choose --model unet"
        raise ConfigError(what, got=names, expected="segmentation-models-pytorch", do=do) from error
    module: ModuleType = segmentation_models_pytorch
    return module


class SmpSegmenter(nn.Module):
    """A network of segmentation-models-pytorch with Opsin's interface: images in, {"logits"} of every pixel out.

    Args:
        name: `deeplabv3plus` or `fpn`.
        options: its encoder.
        num_classes: K.
        channels: of the images.
        learned_input: begin with a batch norm over each channel of the input.

    Raises:
        ConfigError: the package is not installed, or has no such encoder.
    """

    stride = STRIDE

    def __init__(
        self, name: str, options: SmpOptions, num_classes: int, *, channels: int, learned_input: bool = False
    ) -> None:
        super().__init__()
        package, self.channels = library(), channels
        known = list(package.encoders.get_encoder_names())
        if options.encoder not in known and not options.encoder.startswith("tu-"):
            close = nearest(options.encoder, known)
            do = f"did you mean `{close}`?" if close else "resnet18, resnet50 and mobilenet_v2 are among them"
            raise ConfigError("no such encoder", where="encoder", got=options.encoder, do=do)
        architecture: Any = getattr(package, ARCHITECTURES[name].kind)
        self.normalize: nn.Module = nn.BatchNorm2d(channels) if learned_input else nn.Identity()
        self.body: nn.Module = architecture(
            encoder_name=options.encoder, encoder_weights=None, in_channels=channels, classes=num_classes
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """{"logits": float [B, K, H, W]} of preprocessed images float [B, C, H, W].

        Raises:
            ConfigError: the images have other channels than the network is built for.
        """
        B, C, H, W = images.shape
        if self.channels != C:
            raise ConfigError(
                "images have another number of channels than the network",
                got=C,
                expected=self.channels,
                do="convert the images",
            )
        whole = fitted(self.normalize(images), -(-H // STRIDE) * STRIDE, -(-W // STRIDE) * STRIDE)
        if self.training and B == 1:
            # DeepLab's mean over the image has one value a channel: batch norm needs two, and gets the same one twice
            whole = torch.cat([whole, whole])
        logits: Tensor = self.body(whole)[:B]
        return {"logits": fitted(logits, H, W)}
