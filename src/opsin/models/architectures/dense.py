"""The courses' dense baseline: an image as one long vector."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from opsin.models.parts.backbone import Backbone
from opsin.models.parts.layers import check_dropout, check_widths, dense_stack, keras_init


@dataclass(frozen=True, kw_only=True)
class DenseOptions:
    """Options of the dense baseline, as in `ModelConfig`."""

    dense: tuple[int, ...] = (128,)
    batch_norm: bool = False
    dense_dropout: float = 0.0
    dropout: float = 0.2

    def __post_init__(self) -> None:
        check_widths("dense", self.dense)
        check_dropout(dense_dropout=self.dense_dropout, dropout=self.dropout)


class Dense(Backbone):
    """Flatten, then per hidden layer [dropout] - linear - [batch norm] - ReLU, then [dropout] before the head.

    Weights start as in Keras (`keras_init`). It takes images of one size only, and has no feature maps.
    """

    def __init__(self, channels: int, height: int, width: int, options: DenseOptions) -> None:
        super().__init__()
        num_inputs = channels * height * width
        self.flatten = nn.Flatten()
        self.dense = dense_stack(
            num_inputs, options.dense, batch_norm=options.batch_norm, dropout=options.dense_dropout
        )
        self.dropout = nn.Dropout(options.dropout) if options.dropout else nn.Identity()
        self.num_features = options.dense[-1] if options.dense else num_inputs
        keras_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """Features float [B, num_features] of images float [B, C, H, W]."""
        features: Tensor = self.dropout(self.dense(self.flatten(images)))
        return features

    def head(self, num_outputs: int) -> nn.Module:
        """A linear head that starts as in Keras."""
        return keras_init(super().head(num_outputs))
