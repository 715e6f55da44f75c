"""Checks of the network and its input: dead units, batch norms, input contract, leaks."""

from __future__ import annotations

import math

from opsin.diagnosis.case import Case
from opsin.diagnosis.finding import Bar, Figure, Finding

DEAD_SHARE = 0.2
"""Largest share of dead units in a layer without a finding."""
WORST_LAYERS = 6
SHIFT, LOG_RATIO = 0.35, 0.7
"""How far running statistics may be from those of the training images: standard deviations; logarithm of variances."""
INPUT_KEYS = ("color", "range", "mean", "std")
LEAKS = ("leak", "near-leak")


def check_dead_units(case: Case) -> Finding | None:
    """Units of an activation layer are constant over all images."""
    if case.facts is None:
        return None
    dead = [layer for layer in case.facts.layers if layer.dead > DEAD_SHARE * layer.units]
    if not dead:
        return None
    worst = sorted(dead, key=lambda layer: -layer.dead / layer.units)[:WORST_LAYERS]
    named = ", ".join(f"{layer.name} {layer.dead} of {layer.units}" for layer in worst)
    return Finding(
        check="dead-units",
        severity="warning",
        evidence=f"units that are constant over all of {case.facts.num_train:,} training images: {named}",
        remedy="a lower rate or a warm-up (--lr, --warmup): too large a step makes units negative for all inputs; "
        "batch norm, or a leaky activation; or fewer filters if they are not needed",
        figure=Figure(
            title="dead units",
            bars=tuple(Bar(name=layer.name, value=layer.dead / layer.units, marked=True) for layer in worst),
            share=True,
        ),
    )


def check_batch_norm(case: Case) -> Finding | None:
    """Running statistics of batch norms differ from those of the training images."""
    if case.facts is None or case.config.finetune.weights is not None:
        return None
    off = [norm for norm in case.facts.norms if norm.shift > SHIFT or norm.log_ratio > LOG_RATIO]
    if not off:
        return None
    worst = max(off, key=lambda norm: max(norm.shift / SHIFT, norm.log_ratio / LOG_RATIO))
    return Finding(
        check="batch-norm",
        severity="warning",
        evidence=f"{len(off)} of {len(case.facts.norms)} batch norms have statistics that differ from those of the "
        f"training images: in {worst.name} means are off by {worst.shift:.2f} standard deviations, variances by a "
        f"factor of {math.exp(worst.log_ratio):.2f}",
        remedy="larger batches (--batch-size 32 or more), a lower rate at the end (--schedule cosine), or group norm "
        "(`opsin normalize` compares)",
        figure=Figure(
            title="means off, standard deviations",
            bars=tuple(
                Bar(name=norm.name, value=norm.shift, marked=norm in off)
                for norm in sorted(case.facts.norms, key=lambda norm: -norm.shift)[:WORST_LAYERS]
            ),
        ),
    )


def check_input(case: Case) -> Finding | None:
    """Images are not mapped as the pretrained backbone expects."""
    expected, used = case.expected_input, case.input
    wrong = [key for key in INPUT_KEYS if key in expected and key in used and not _same(expected[key], used[key])]
    if not wrong:
        return None
    told = "; ".join(f"{key} {used[key]} where {expected[key]} is expected" for key in wrong)
    return Finding(
        check="input-unlike-backbone",
        severity="error",
        evidence=f"the input of the network differs from that of its pretrained weights: {told}",
        remedy="leave --normalize out: the weights define it; --weights-range where they do not",
    )


def check_leaks(case: Case) -> Finding | None:
    """Images of val or test are in train too."""
    leaks = [found for found in case.findings if found.kind in LEAKS and found.severity != "info"]
    if not leaks:
        return None
    samples = ", ".join(str(name) for name in leaks[0].samples[:3])
    return Finding(
        check="leak",
        severity="error",
        evidence="; ".join(found.message for found in leaks) + (f" (e.g. {samples})" if samples else ""),
        remedy="`opsin evaluate RUN --copies` scores without them; `opsin data audit` lists them; remove them from "
        "train, or keep groups together when val is drawn",
    )


def _same(a: object, b: object) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-6)
    return a == b
