"""The plan request for what `opsin train DATA` would train; nothing is packed, built or run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from opsin.batches.preprocess import Preprocess
from opsin.config import RunConfig
from opsin.data.samples import Dataset
from opsin.planning.request import DTYPES, Request, task_settings, trained_parts
from opsin.training.setup.origin import Origin
from opsin.training.setup.preparing import network_spec, resolve_settings, size_policy
from opsin.types import SizePolicy


def request_of_data(
    data: Dataset | str | Path | Mapping[str, Any], *, root: Path | str | None = None, **settings: Any
) -> tuple[Request, int]:
    """The network that training on `data` would choose, as it would be trained, and the images in an epoch.

    Args:
        data: as for `opsin.train`.
        root: folder of the catalogue's data sets.
        settings: as for `opsin.train`.

    Raises:
        RefusedError: settings or data are invalid.
    """
    resolved = resolve_settings(data, root=root, recipe=None, settings=settings)
    dataset, config, origin = resolved.dataset, resolved.config, resolved.origin
    train = config.train
    request = Request(
        spec=network_spec(dataset, config, _contract(dataset, config, origin), origin),
        task=task_settings(dataset.task, train),
        num_outputs=len(dataset.classes),
        batch=min(train.batch_size, len(dataset.splits["train"])),
        accumulate=train.accumulate,
        optimizer=train.optimizer,
        momentum=train.momentum,
        precision=train.precision if train.precision in DTYPES else "float32",
        checkpoint_activations=train.checkpoint_activations,
        keep_memory=train.keep_memory,
        **trained_parts(config.finetune, task=dataset.task, epochs=train.epochs, pretrained=origin is not None),
    )
    return request, len(dataset.splits["train"])


def _contract(dataset: Dataset, config: RunConfig, origin: Origin | None) -> Preprocess:
    """Size and channels of the network's input; its statistics are not measured."""
    size = size_policy(dataset, config)
    if size is None:
        assert dataset.size is not None  # `size_policy` refuses it otherwise
        size = SizePolicy(height=dataset.size[0], width=dataset.size[1], fit=config.data.fit)
    if origin is not None:
        return replace(origin.preprocess, size=size)
    channels = dataset.channels
    return Preprocess(
        size=size,
        color="gray" if channels == 1 else "rgb",
        range=(0.0, 1.0),
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        learned=config.data.normalize == "learned",
    )
