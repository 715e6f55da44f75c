"""The head that names classes: linear, or with hidden layers and dropout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from opsin.config import from_dict
from opsin.models.parts.backbone import Backbone
from opsin.models.parts.layers import check_dropout, check_widths, dense_stack, keras_init

HEAD = "head"
"""Key of the class head's options in a network's options."""


@dataclass(frozen=True, kw_only=True)
class HeadOptions:
    """Nodes of the hidden layers, and the share of activations dropped before each layer."""

    hidden: tuple[int, ...] = ()
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_widths("head", self.hidden)
        check_dropout(dropout=self.dropout)


def class_head(backbone: Backbone, num_outputs: int, options: Mapping[str, Any]) -> nn.Module:
    """Logits float [B, num_outputs] of features float [B, num_features].

    Args:
        backbone: its own linear head is used by default.
        num_outputs: length of the logits.
        options: of the network; those of the head are under `head`.

    Raises:
        ConfigError: an option is unknown or out of range.
    """
    chosen = from_dict(HeadOptions, options.get(HEAD, {}), where="options of the head")
    if not chosen.hidden and not chosen.dropout:
        return backbone.head(num_outputs)
    stack = keras_init(dense_stack(backbone.num_features, chosen.hidden, batch_norm=False, dropout=chosen.dropout))
    if chosen.dropout:
        stack.add_module("dropout", nn.Dropout(chosen.dropout))
    last = nn.Linear(chosen.hidden[-1], num_outputs) if chosen.hidden else backbone.head(num_outputs)
    stack.add_module("logits", last)
    return stack
