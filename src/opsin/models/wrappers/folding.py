"""Norms folded into the convolutions before them: the same network for prediction, with fewer passes over its maps.

Which norm follows which convolution is observed in a forward pass, since names and order in the module tree say nothing
certain; and the result is compared with the network, since the output of a convolution may also be used elsewhere.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

TOLERANCE = 1e-4
"""Largest difference of an output, as a share of its largest value."""


@torch.no_grad()
def folded(network: nn.Module, images: Tensor) -> nn.Module:
    """A copy of a network in evaluation mode without the batch norms that can be folded.

    Args:
        network: returns a dict of tensors.
        images: preprocessed, float [B, C, H, W], by which the copy is compared with the network.

    Returns:
        The copy, or `network` itself if nothing can be folded, or if the copy differs by more than rounding.

    Source: Jacob et al. 2018, arXiv 1712.05877, section 3.2 (folding); `torch.nn.utils.fusion`.
    """
    pairs = _pairs(network, images[:1])
    if not pairs:
        return network
    copy = deepcopy(network)
    for convolution, norm in pairs:
        before = cast("nn.Conv2d", copy.get_submodule(convolution))
        fused = fuse_conv_bn_eval(before, cast("nn.BatchNorm2d", copy.get_submodule(norm)))
        copy.set_submodule(convolution, fused)
        copy.set_submodule(norm, nn.Identity())
    return copy if _agree(network(images), copy(images)) else network


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions, and of the norms whose input is their output; each is used once."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensor is kept, so that its id is not used again
    calls: Counter[str] = Counter()
    pairs: list[tuple[str, str]] = []

    def note(name: str, output: Tensor) -> None:
        outputs[id(output)] = (name, output)
        calls[name] += 1

    def match(name: str, given: Tensor) -> None:
        calls[name] += 1
        if id(given) in outputs:
            pairs.append((outputs[id(given)][0], name))

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(lambda _, __, output, name=name: note(name, output)))
        elif type(module) is nn.BatchNorm2d and module.running_mean is not None:
            handles.append(module.register_forward_pre_hook(lambda _, given, name=name: match(name, given[0])))
    try:
        network(images)
    finally:
        for handle in handles:
            handle.remove()
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]


def _agree(before: dict[str, Tensor], after: dict[str, Tensor]) -> bool:
    """Whether outputs are equal, but for rounding; an output that is not finite agrees with nothing."""
    return all(bool((before[key] - after[key]).abs().max() <= TOLERANCE * before[key].abs().max()) for key in before)
