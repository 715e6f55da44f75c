"""Predictions of published networks: ImageNet's classes, with available weights."""

from __future__ import annotations

from opsin.artifact import Artifact
from opsin.errors import ConfigError
from opsin.models.registry import get_entry
from opsin.models.weights.pretrained import Pretrained, find_pretrained, pretrained_network
from opsin.models.weights.published import imagenet_classes, package_weights, weights_to_be_had
from opsin.tasks import plain_task


def published_artifact(
    name: str, *, weights: str | None = None, weights_range: str | None = None
) -> tuple[Artifact, tuple[str, ...]]:
    """The network `name` with its published head, ready to predict, and notes on its weights.

    Args:
        name: architecture.
        weights: a file, `package`, or `timm` or `torchvision` (downloads); None means an installed package.
        weights_range: input range the weights expect, where their file does not say.

    Raises:
        ConfigError: no such network, or no weights for it; all ways to get some are listed.
        TensorFileError: the weights do not fit, or lack the head.
    """
    entry = get_entry(name)
    if weights is None and package_weights(name) is None:
        ways = weights_to_be_had(name)
        raise ConfigError(
            f"no weights of network `{name}` are installed",
            where=name,
            do="; ".join(ways) if ways else "train it: `opsin train DATA --model " + name + "`, and name the run here",
        )
    pretrained = find_pretrained(weights or "package", entry.name, input_range=weights_range)
    artifact = Artifact(
        network=pretrained_network(pretrained),
        task=plain_task().name,
        classes=_classes(pretrained),
        spec=pretrained.spec,
        preprocess=pretrained.contract.preprocess(),
        meta={"weights": {"file": pretrained.file, "sha256": pretrained.sha256}},
    )
    return artifact, pretrained.notes


def _classes(pretrained: Pretrained) -> tuple[str, ...]:
    """ImageNet's names, where the head has as many outputs."""
    names = imagenet_classes()
    count = len((pretrained.head or {})["weight"])
    if count != len(names):
        raise ConfigError(
            "the names of these classes are unknown",
            where=pretrained.file,
            got=f"a head of {count} outputs",
            expected=f"ImageNet's {len(names):,}",
            do="fine-tune the weights on data with names, and name that run",
        )
    return names
