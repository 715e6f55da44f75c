"""Default settings of runs with pretrained weights: low learning rates, few epochs, the input the weights expect."""

from __future__ import annotations

from collections.abc import Mapping

from opsin.data.samples import Dataset
from opsin.tasks import get_task
from opsin.tasks.common_defaults import FINETUNED, Start
from opsin.training.setup.defaults import data_defaults
from opsin.training.setup.origin import Origin
from opsin.training.setup.transfer import Plan
from opsin.types import Layer

AFTER_HEAD_START: Layer = {"precision": "float32", "lr": 5e-4, "backbone_lr": 0.5}
"""A fitted head needs no high rate. The network's cost was measured in float32."""
STAGED_LATER_LR = 0.3


def finetune_defaults(dataset: Dataset, origin: Origin, given: Mapping[str, object], plan: Plan | None = None) -> Layer:
    """Settings for training from `origin` on `dataset`, as a layer for `opsin.config.resolve`.

    Args:
        dataset: the data set.
        origin: the weights; their size and fit are used where suitable.
        given: settings given by the user; the way of fine-tuning decides the rest.
        plan: the plan for photos, where the user named no way.
    """
    planned = {} if plan is None else plan.settings
    way = str(given.get("finetune") or planned.get("finetune") or "all")
    settings = {**data_defaults(dataset.name if dataset.published else ""), **FINETUNED, "model": origin.model}
    start = Start(
        dataset=dataset,
        expected=origin.preprocess.size,
        pretrained=origin.pretrained is not None,
        way=way,
        given=given,
    )
    settings |= get_task(dataset.task).finetune_defaults(start)
    if way in ("staged", "gradual"):
        settings |= {"later_lr": STAGED_LATER_LR, "head_epochs": 2}
    return settings | planned | (AFTER_HEAD_START if plan is not None and plan.way != "head" else {})
