"""Checks of the learning curves: the rate, the number of epochs, the best epoch.

Losses are compared on the scale of `Case.excess`: 1 is a uniform prediction, 0 a perfect network.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from opsin.diagnosis.case import Case, Epoch
from opsin.diagnosis.finding import Figure, Finding, Series

FEWEST_EPOCHS = 8
"""Shorter curves say little about the rate."""
ROUGH = 0.02
"""Mean rise of the val loss an epoch, in units of ln K, from which a curve is rough; sound runs have 0.000 to
0.014."""
LATE_FALL = 0.4
"""Share of the fall of the training loss in the last quarter of the epochs; above, it depended on a lower rate."""
SMOOTH = 0.002
"""Below this the rate is too low to affect the curve."""
FAR = 0.12
"""Excess loss from which there is much left to learn."""
EARLY_SHARE, EARLY_FALL = 0.1, 0.5
"""With a suitable rate, the first tenth of the epochs gives at least half of the total fall of the loss."""
FLAT = 0.02
"""Largest change of the excess loss over the second half of a run that counts as a plateau."""
AT_WORK = 0.1
"""Share of the largest rate above which a rate is still effective."""
EARLY_BEST = 0.5
"""A best epoch in the first half of the run is early."""


def check_rate_too_high(case: Case) -> Finding | None:
    """The loss is not finite, or fluctuates while the rate is high."""
    if any(event["event"] == "diverged" for event in case.events):
        return Finding(
            check="rate-too-high",
            severity="error",
            evidence="the loss or a gradient was not finite, and the run ended there",
            remedy=f"a tenth of the rate: --lr {case.config.train.lr / 10:g}, or --clip 1",
            figure=_losses(case),
        )
    if len(case.epochs) < FEWEST_EPOCHS:
        return None
    roughness, late = _mean_rise(case), _late_fall(case)
    if not (roughness > ROUGH or (roughness > ROUGH / 2 and late > LATE_FALL)):
        return None
    waited = f", and the last quarter of the epochs gave {late:.0%} of the fall" if late > LATE_FALL else ""
    return Finding(
        check="rate-too-high",
        severity="warning",
        evidence=f"the loss on val fluctuates: it rises by {roughness:.3f} ln K per epoch on average (normal: below "
        f"{ROUGH}), at rates up to {_peak(case):.3g}{waited}",
        remedy=f"a third to a tenth of the rate, --lr {case.config.train.lr / 5:.2g}; `opsin find-lr` proposes one; "
        "--warmup 0.05 if it fluctuates only at the start",
        figure=_losses(case),
    )


def check_rate_too_low(case: Case) -> Finding | None:
    """The loss falls smoothly and slowly to the end, and is still high."""
    if len(case.epochs) < FEWEST_EPOCHS or case.config.finetune.weights is not None:
        return None
    losses = [case.excess(epoch.train_loss) for epoch in case.epochs]
    early = losses[max(0, round(EARLY_SHARE * len(losses)) - 1)]
    fallen = 1 - losses[-1]
    share = (1 - early) / fallen if fallen > 0 else 0.0
    if not (losses[-1] > FAR and share < EARLY_FALL and _mean_rise(case) < SMOOTH):
        return None
    return Finding(
        check="rate-too-low",
        severity="warning",
        evidence=f"the loss falls smoothly and slowly: the first {EARLY_SHARE:.0%} of the epochs gave "
        f"{max(share, 0):.0%} of the fall, and {losses[-1]:.0%} of ln K is left at the end",
        remedy=f"ten times the rate, --lr {case.config.train.lr * 10:g}; `opsin find-lr` proposes one",
        figure=_losses(case),
    )


def check_plateau(case: Case) -> Finding | None:
    """The training loss is constant for half of the run, far from zero, while the rate is still effective."""
    if len(case.epochs) < FEWEST_EPOCHS:
        return None
    losses = [case.excess(epoch.train_loss) for epoch in case.epochs]
    half = len(losses) // 2
    second = losses[half:]
    change = float(np.polyfit(np.arange(len(second)), second, 1)[0]) * (len(second) - 1)
    at_work = case.epochs[half + len(second) // 2].lr > AT_WORK * _peak(case)
    if not (abs(change) < FLAT and min(second) > FAR and at_work):
        return None
    return Finding(
        check="plateau",
        severity="warning",
        evidence=f"the training loss is constant since epoch {case.epochs[half].number} (a change of {change:+.3f} "
        f"ln K), with {np.mean(second):.0%} of ln K left",
        remedy="let the rate fall (--schedule cosine), or give more capacity (--filters, another --model); fewer "
        "epochs would give the same",
        figure=_losses(case),
    )


def check_best_at_the_end(case: Case) -> Finding | None:
    """The score on val was still rising, by more than noise, when the run ended."""
    scores = _val_scores(case)
    if len(scores) < 3 or case.val is None:
        return None
    numbers, values = zip(*scores, strict=True)
    quarter = max(1, len(values) // 4)
    last, before = float(np.mean(values[-quarter:])), float(np.mean(values[-2 * quarter : -quarter]))
    gain, noise = last - before, _half_width(case)
    if not (numbers[int(np.argmax(values))] >= numbers[-quarter] and gain > max(0.02, noise / 2)):
        return None
    return Finding(
        check="best-at-the-end",
        severity="warning",
        evidence=f"the last {quarter} of {len(values)} epochs raised the {case.score} on val by {gain:.3f} over the "
        f"{quarter} before: it was still rising",
        remedy=f"train longer: --epochs {2 * case.config.train.epochs}, or --resume with more of them",
        figure=_val_figure(case),
    )


def check_best_far_from_the_end(case: Case) -> Finding | None:
    """The best epoch is in the first half, and the end is worse by more than noise: in score or loss."""
    scores = _val_scores(case)
    if len(scores) < FEWEST_EPOCHS:
        return None
    numbers, values = zip(*scores, strict=True)
    best = int(np.argmax(values))
    end = float(np.mean(values[-max(1, len(values) // 8) :]))
    drop = values[best] - end
    if not (best < EARLY_BEST * len(values) and drop > max(0.02, _half_width(case))):
        return None
    kept = "its weights were kept" if case.config.train.restore_best else "its weights were not kept"
    return Finding(
        check="best-far-from-the-end",
        severity="warning",
        evidence=f"the best epoch on val is {numbers[best]} of {numbers[-1]} ({values[best]:.3f}); the end has "
        f"{end:.3f}; {kept}",
        remedy=f"fewer epochs (--epochs {max(2, numbers[best])}) or --patience, and more augmentation or weight decay: "
        "training beyond the best epoch makes it worse",
        figure=_val_figure(case),
    )


def _mean_rise(case: Case) -> float:
    """Mean over epochs of how much the val loss rose, in units of ln K; of the train loss where val has none."""
    losses = np.array([epoch.val_loss for epoch in case.epochs])
    if np.isnan(losses).all():
        losses = np.array([epoch.train_loss for epoch in case.epochs])
    steps = np.diff(losses[~np.isnan(losses)])
    return float(np.clip(steps, 0, None).mean() / np.log(max(2, len(case.classes)))) if len(steps) else 0.0


def _late_fall(case: Case) -> float:
    """Share of the fall of the training loss in the last quarter of the epochs; 0 if it did not fall."""
    losses = [epoch.train_loss for epoch in case.epochs]
    fallen, before = losses[0] - losses[-1], losses[-1 - len(losses) // 4]
    return (before - losses[-1]) / fallen if fallen > 0 else 0.0


def _peak(case: Case) -> float:
    return max(epoch.lr for epoch in case.epochs)


def _half_width(case: Case) -> float:
    """Half of the interval of the val score: differences between epochs below it may be chance."""
    score = None if case.val is None else case.val.score
    return 0.0 if score is None or score.low != score.low else (score.high - score.low) / 2


def _val_scores(case: Case) -> list[tuple[int, float]]:
    return [(epoch.number, epoch.val_score) for epoch in case.epochs if epoch.val_score == epoch.val_score]


def _losses(case: Case) -> Figure:
    train = _points(case.epochs, "train_loss")
    val = _points(case.epochs, "val_loss")
    series = (Series(name="train", role="train", points=train), Series(name="val", role="val", points=val))
    return Figure(title="loss", series=tuple(one for one in series if one.points))


def _val_figure(case: Case) -> Figure:
    points = _points(case.epochs, "val_score")
    return Figure(title=case.score, series=(Series(name="val", role="val", points=points),), share=True)


def _points(epochs: Sequence[Epoch], field: str) -> tuple[tuple[float, float], ...]:
    pairs = ((float(epoch.number), float(getattr(epoch, field))) for epoch in epochs)
    return tuple((x, y) for x, y in pairs if np.isfinite(y))
