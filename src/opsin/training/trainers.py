"""The trainer of a run, and what it needs beside what is prepared: made alike in every process of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from opsin.answering import BANK
from opsin.data.pack import usable_cache
from opsin.group import Group
from opsin.models.wrappers.forward import Precision
from opsin.progress import Reporter
from opsin.runs import RunWriter
from opsin.tasks import card_of
from opsin.training.engine.budget import Budget
from opsin.training.engine.hooks import Callback
from opsin.training.engine.loop import Trainer
from opsin.training.features import compute_features, is_cached
from opsin.training.setup.prepared import Prepared

FEATURES_SHARE = 0.75
"""Share of a budget after which no more features are computed: the head is fitted on those computed so far."""


def made_trainer(
    prepared: Prepared,
    writer: RunWriter,
    report: Reporter,
    *,
    precision: Precision,
    start: Mapping[str, float],
    group: Group,
    open_test: bool = False,
    budget: Budget | None = None,
    callbacks: Sequence[Callback] = (),
) -> Trainer:
    """The trainer of a run before its first step; in a group all processes make theirs at the same time.

    Args:
        precision: as it was chosen.
        start: what the weights score on val before they are trained; empty where that is not known.
        group: the processes; each of them takes the lead's weights.
        open_test: test is scored at the end.
        budget: of this call; the lead's alone.
        callbacks: the user's; the lead's alone.
    """
    group.wait_for_all("prepared")
    group.share_tensors(list(prepared.artifact.network.state_dict().values()))
    trainer = Trainer(
        task=prepared.task,
        artifact=prepared.artifact,
        splits=prepared.splits,
        config=prepared.config,
        precision=precision,
        device=prepared.device,
        run=writer,
        report=report,
        features=prepared.features if is_cached(prepared.config, prepared.dataset.task) else None,
        budget=budget,
        own=prepared.own,
        scored_at_end=_scored_at_end(prepared, open_test=open_test),
        callbacks=callbacks,
        group=group,
    )
    trainer.start_from(start)
    return trainer


def with_features(prepared: Prepared, report: Reporter, *, started: bool, budget: Budget | None) -> Prepared:
    """Add the frozen features of the images, if only the head is trained, or is fitted first."""
    needed = prepared.config.finetune.head_start and not started
    if not needed and not is_cached(prepared.config, prepared.dataset.task):
        return prepared
    features = compute_features(
        prepared.artifact,
        prepared.splits,
        prepared.config,
        device=prepared.device,
        cache=usable_cache(),
        report=report,
        until=None if budget is None else budget.began + FEATURES_SHARE * budget.seconds,
    )
    return replace(prepared, features=features)


def _scored_at_end(prepared: Prepared, *, open_test: bool) -> int:
    """Number of images that are scored when training has ended."""
    wanted = ("val", "test") if open_test else ("val",)
    scored = sum(len(samples.images) for split, samples in prepared.splits.items() if split in wanted)
    return scored + (min(BANK, len(prepared.splits["train"])) if card_of(prepared.task.name).decides_class else 0)
