"""torchvision's RandAugment and TrivialAugmentWide, one image at a time.

Their random numbers come from torch's default generator. It is seeded for each image, from (seed, epoch, sample),
and restored afterwards: the result depends on nothing else, and no other random numbers change.

Source: Cubuk et al., "RandAugment", arXiv 1909.13719; Müller and Hutter, "TrivialAugment", arXiv 2103.10158; as
implemented by torchvision, with its nearest-pixel interpolation and its black fill.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from opsin.batches.draws import Draws
from opsin.config import AugmentConfig

LARGEST_MAGNITUDE = 30
"""Number of magnitudes of torchvision's RandAugment, from 0."""
STRENGTH = 0.3
"""Default magnitude of RandAugment, that of torchvision."""


def is_of_images(config: AugmentConfig) -> bool:
    """Whether the policy is one of torchvision's."""
    return config.policy in ("rand_augment", "trivial_augment_wide")


def apply_policy(images: Tensor, config: AugmentConfig, draws: Draws) -> Tensor:
    """Images changed by the policy.

    Args:
        images: float32 [B, C, H, W] in [0, 255], RGB or grey. The policy takes whole numbers: they are rounded.
        config: its policy is one of torchvision's.
        draws: the random numbers of the batch.

    Returns:
        float32 [B, C, H, W] of whole numbers in [0, 255], on the device of `images`.
    """
    transform = transform_of(config)
    # On the CPU also for images on a GPU, so that a sample becomes the same image everywhere.
    pixels = images.round().to("cpu", torch.uint8)
    changed = torch.empty_like(pixels)
    with torch.random.fork_rng(devices=[]):
        for row, seed in enumerate(draws.seeds("policy/image")):
            torch.default_generator.manual_seed(seed)
            changed[row] = transform(pixels[row])
    return changed.to(images.device, torch.float32)


def transform_of(config: AugmentConfig) -> Callable[[Tensor], Tensor]:
    """The policy of torchvision, from uint8 [C, H, W] to the same."""
    from torchvision.transforms import v2  # slow to import, and rarely needed

    if config.policy == "trivial_augment_wide":
        trivial: Callable[[Tensor], Tensor] = v2.TrivialAugmentWide()
        return trivial
    strength = STRENGTH if config.policy_strength is None else config.policy_strength
    magnitude = round(strength * LARGEST_MAGNITUDE)
    chosen: Callable[[Tensor], Tensor] = v2.RandAugment(
        num_ops=config.policy_ops, magnitude=magnitude, num_magnitude_bins=LARGEST_MAGNITUDE + 1
    )
    return chosen
