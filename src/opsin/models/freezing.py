"""Freezing: sections without gradients, norms in inference mode."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from opsin.models.parts.backbone import Backbone


def levels(network: nn.Module) -> dict[str, int]:
    """The section of each parameter, by its name: 0 for the lowest, the number of sections for the head.

    Parameters outside the sections count with the lowest.
    """
    backbone = getattr(network, "backbone", None)
    sections = backbone.sections if isinstance(backbone, Backbone) else ()
    of_id = {id(p): number for number, section in enumerate(sections) for p in section.parameters()}
    return {
        name: of_id.get(id(p), 0) if name.startswith(("backbone.", "normalize.")) else len(sections)
        for name, p in network.named_parameters()
    }


def freeze_below(network: nn.Module, sections: int) -> None:
    """Freeze all but the head and the upper `sections` of the backbone; frozen parameters stay frozen."""
    of = levels(network)
    lowest = max(of.values(), default=0) - sections
    for name, parameter in network.named_parameters():
        if of[name] < lowest:
            parameter.requires_grad_(False)


def pin_norms(module: nn.Module) -> int:
    """Keep every batch norm inside `module` in inference mode permanently, also through `train()`; returns their
    number.

    A pretrained layer's batch norm that follows small batches of other images drifts away from the weights that were
    learned with it, also where these are frozen. Only the class changes: names, tensors and copies are unaffected.
    """
    norms = [child for child in module.modules() if isinstance(child, _BatchNorm)]
    for norm in norms:
        if not isinstance(norm, Pinned):
            kind = type(norm)
            norm.__class__ = _PINNED.setdefault(kind, type(kind.__name__, (Pinned, kind), {}))
        norm.eval()
    return len(norms)


class Pinned(nn.Module):
    """A layer that stays in inference mode when the network around it is trained."""

    def train(self, mode: bool = True) -> Pinned:
        """Stay in inference mode, whatever `mode` is."""
        return super().train(False)


_PINNED: dict[type[Any], type[Any]] = {}
