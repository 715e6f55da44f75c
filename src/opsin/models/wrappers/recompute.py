"""Activation checkpointing: activations are recomputed in the backward pass, one section of a network at a time.

Only the input of each section is kept, so that only one section's activations exist at any time: recomputing the
whole network at once would not lower the peak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from opsin.models.parts.backbone import Backbone


def recomputed_sections(network: nn.Module) -> list[nn.Module]:
    """The sections of `network` whose activations can be recomputed, in their order; lists of sections are flattened.

    A single layer is left out: its input and its output are kept anyway. So are modules without weights, as they may
    change their input in place.
    """
    backbone = getattr(network, "backbone", network)
    sections = list(backbone.sections if isinstance(backbone, Backbone) else backbone.children())
    decoder = getattr(network, "decoder", None)
    if decoder is not None:
        sections += decoder.children()
    opened = [part for section in sections for part in (section if isinstance(section, nn.ModuleList) else [section])]
    return [part for part in opened if any(True for _ in part.parameters()) and any(True for _ in part.children())]


@contextmanager
def recomputing(network: nn.Module, *, keep_random_state: bool = True) -> Iterator[None]:
    """Run a forward pass of `network` so that its backward pass recomputes the activations of each section.

    Losses, gradients and statistics of norms are bit-identical.

    Args:
        network: its sections as `recomputed_sections` has them.
        keep_random_state: dropout draws the same numbers again; impossible for tensors without contents.
    """
    with ExitStack() as stack:
        for section in recomputed_sections(network):
            forward = recomputed(section.forward, section, keep_random_state=keep_random_state)
            section.forward = forward
            stack.callback(vars(section).pop, "forward")
        yield


def recomputed(forward: Callable[..., Any], module: nn.Module, *, keep_random_state: bool = True) -> Callable[..., Any]:
    """The forward pass of `module` that only keeps its inputs.

    Args:
        forward: computes it.
        module: whose norms must not count the recomputed pass.
        keep_random_state: as in `recomputing`.
    """

    def contexts() -> tuple[Any, Any]:
        return nullcontext(), frozen_statistics(module)

    def run(*inputs: Any) -> Any:
        return checkpoint(
            forward, *inputs, use_reentrant=False, preserve_rng_state=keep_random_state, context_fn=contexts
        )

    return run


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms leave their running statistics alone: a recomputed forward pass must not count twice."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    norms = [norm for norm in norms if norm.track_running_stats]
    kept = [(norm.momentum, norm.get_buffer("num_batches_tracked").clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, kept, strict=True):
            norm.momentum = momentum
            with torch.no_grad():
                norm.get_buffer("num_batches_tracked").copy_(count)
