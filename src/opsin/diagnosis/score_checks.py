"""Checks of scores and splits: over- and underfitting, shortcuts, classes, and the size of val."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from opsin.diagnosis.case import Case
from opsin.diagnosis.finding import Bar, Figure, Finding
from opsin.ops.intervals import wilson
from opsin.types import JsonMapping, Score

OVERFIT_GAP = 0.05
"""Lower end of the gap between train and val from which it is a finding."""
WORSE_GAP = 0.15
UNDERFIT_SCORE, UNDERFIT_GAP = 0.75, 0.05
"""A score on train below this, and hardly above that on val, is underfitting."""
MAJORITY_TIMES = 1.5
"""A class predicted this much more often than it occurs is a shortcut."""
MAJORITY_SHARE = 0.5
DRAG = 0.15
"""Gap of a class's recall below the others, beyond its interval, from which it is a finding."""
HALF_WIDTH = 0.06
"""Half-width of val's interval from which it is too small for choices."""
UNLIKE = 0.25
"""Kolmogorov-Smirnov distance of brightness from which two splits differ."""
SURE = 1e-4
REMEDY_OF_CLASSES = (
    "look at its images and labels in the report (mistakes, confusion matrix): wrong labels, few samples, or two "
    "classes that look alike; more of them, or --class-weights"
)
REMEDY_OF_NUMBERS = (
    "look at its figure and the worst samples in the report: measurements that are wrong or noisy, in another unit, or "
    "of something that the images do not show"
)


def check_overfitting(case: Case) -> Finding | None:
    """Train scores clearly more than val."""
    gap = _gap(case)
    if gap is None or not gap.low > OVERFIT_GAP:
        return None
    assert case.facts is not None
    return Finding(
        check="overfitting",
        severity="warning" if gap.low > WORSE_GAP else "info",
        evidence=f"{case.score} on train {case.facts.train.value:.3f}, on val {_val(case).value:.3f}: a gap of "
        f"{gap.value:.3f} [{gap.low:.3f}, {gap.high:.3f}]",
        remedy="more images help most; else more augmentation (--policy random_ops, --cutout, --cutmix), --dropout or "
        "--weight-decay, a smaller network, pretrained weights (--pretrained)",
        figure=_bars(case.score, {"train": case.facts.train, "val": _val(case)}, marked="val"),
    )


def check_underfitting(case: Case) -> Finding | None:
    """The network scores low on its training images, and not much higher than on val."""
    gap = _gap(case)
    if gap is None or case.facts is None:
        return None
    train = case.facts.train
    if not (train.high < UNDERFIT_SCORE and gap.value < UNDERFIT_GAP):
        return None
    return Finding(
        check="underfitting",
        severity="warning",
        evidence=f"{case.score} on its own training images is {train.value:.3f} [{train.low:.3f}, {train.high:.3f}], "
        f"on val {_val(case).value:.3f}: it has not fitted its training images",
        remedy="a larger network (--filters, another --model), more epochs, a higher rate (`opsin find-lr`), less "
        "augmentation, dropout and weight decay",
        figure=_bars(case.score, {"train": train, "val": _val(case)}, marked="train"),
    )


def check_majority_class(case: Case) -> Finding | None:
    """One class is predicted for most images, and more often than it occurs."""
    confusion = _confusion(case)
    if confusion is None or len(confusion) < 2:
        return None
    total = confusion.sum()
    answered, true = confusion.sum(axis=0) / total, confusion.sum(axis=1) / total
    k = int(answered.argmax())
    low, _ = wilson(confusion[:, k].sum(), total)
    excess = low > MAJORITY_TIMES * true[k] and low > MAJORITY_SHARE
    # a class that is nearly all of the split cannot be predicted more often: then nothing else is ever predicted
    alone = answered[k] > 0.99 and true[k] < 0.99
    if not (excess or alone):
        return None
    return Finding(
        check="majority-class",
        severity="error",
        evidence=f"{answered[k]:.0%} of val are predicted as `{case.classes[k]}`, and {true[k]:.0%} are of that class",
        remedy="--class-weights, or more samples of the other classes; use balanced accuracy. If only one "
        "class is predicted, check the rate too",
        figure=Figure(
            title="share of val",
            bars=(Bar(name="answered", value=float(answered[k]), marked=True), Bar(name="true", value=float(true[k]))),
            share=True,
        ),
    )


def check_class_drags(case: Case) -> Finding | None:
    """A class or number scores far less than the others, by more than the chance of picking the worst."""
    from scipy import special  # slow to import, and not needed before training

    rows = _class_rows(case)
    numbers = bool(rows) and "name" in rows[0]
    if len(rows) < (2 if numbers else 3):
        return None
    values = {str(row.get("class", row.get("name"))): _class_score(case, row) for row in rows}
    worst = min(values, key=lambda name: values[name].value)
    others = float(np.mean([score.value for name, score in values.items() if name != worst]))
    # the worst of K is low by chance: its upper end is Bonferroni-corrected
    factor = float(special.ndtri(1 - 0.025 / len(values)) / special.ndtri(0.975))
    score = values[worst]
    high = score.value + factor * (score.high - score.value)
    if not high < others - DRAG:
        return None
    return Finding(
        check="class-drags",
        severity="warning",
        evidence=f"`{worst}` scores {score.value:.3f} [{score.low:.3f}, {score.high:.3f}], the others {others:.3f} in "
        f"the mean{_confused_with(case, worst)}",
        remedy=REMEDY_OF_NUMBERS if numbers else REMEDY_OF_CLASSES,
        figure=_bars("by class", _worst_first(values), marked=worst),
    )


def check_val_too_small(case: Case) -> Finding | None:
    """Val is too small to distinguish epochs and settings."""
    if case.val is None or case.val.n == 0 or math.isnan(case.val.score.low):
        return None
    half = (case.val.score.high - case.val.score.low) / 2
    if not half > HALF_WIDTH:
        return None
    needed = math.ceil(case.val.n * (half / (HALF_WIDTH / 2)) ** 2 / 10) * 10
    return Finding(
        check="val-too-small",
        severity="warning",
        evidence=f"the {case.val.n} samples of val give the {case.score} to ± {half:.3f}: smaller differences between "
        "epochs or settings are chance",
        remedy=f"a larger val (about {needed:,} samples give ± {HALF_WIDTH / 2:.2f}: --val-fraction), or "
        "cross-validation",
        figure=_bars(case.score, {"val": case.val.score}, marked="val"),
    )


def check_val_against_test(case: Case) -> Finding | None:
    """Val and an opened test split score differently, by more than chance."""
    test = case.splits.get("test")
    if case.val is None or test is None or math.isnan(test.score.low):
        return None
    gap = _difference(case.val.score, test.score)
    if not (gap.low > 0.01 or gap.high < -0.01):
        return None
    how = "more" if gap.value > 0 else "less"
    return Finding(
        check="val-far-from-test",
        severity="warning",
        evidence=f"val scores {abs(gap.value):.3f} {how} than test: a gap of {gap.value:+.3f} [{gap.low:+.3f}, "
        f"{gap.high:+.3f}]",
        remedy="check for copies between train and val (`opsin data audit`, `opsin evaluate --copies`), for groups "
        "in both, and for another source of the test images; use a val drawn like test",
        figure=_bars(case.score, {"val": case.val.score, "test": test.score}, marked="val"),
    )


def check_val_unlike_train(case: Case) -> Finding | None:
    """Images of val are brighter or darker than those of train, or its class shares differ."""
    evidence = [text for text in (_unlike_brightness(case), _unlike_classes(case)) if text]
    if not evidence:
        return None
    return Finding(
        check="val-unlike-train",
        severity="warning",
        evidence="; ".join(evidence),
        remedy="draw val from the same images as train (leave it out, and --val-fraction draws it), or augment towards "
        "it (--brightness, --contrast)",
        figure=_brightness_figure(case),
    )


def _unlike_brightness(case: Case) -> str | None:
    facts = case.facts
    if facts is None or not facts.val_brightness:
        return None
    train, val = np.array(facts.train_brightness), np.array(facts.val_brightness)
    from scipy import stats  # slow to import, and rarely needed

    found = stats.ks_2samp(train, val)
    if not (found.statistic > UNLIKE and found.pvalue < SURE):
        return None
    return (
        f"images of val have a mean pixel of {val.mean():.0f}, those of train {train.mean():.0f} (Kolmogorov-Smirnov "
        f"distance {found.statistic:.2f}, p {found.pvalue:.1g})"
    )


def _unlike_classes(case: Case) -> str | None:
    counts = case.class_counts
    if "train" not in counts or "val" not in counts:
        return None
    table = np.array([counts["train"], counts["val"]], np.float64)
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or (table.sum(axis=1) == 0).any() or not case.decides_class:
        return None
    from scipy import stats  # slow to import, and rarely needed

    found = stats.chi2_contingency(table)
    shares = table / table.sum(axis=1, keepdims=True)
    apart = float(np.abs(shares[0] - shares[1]).sum() / 2)
    if not (found.pvalue < SURE and apart > 0.1):
        return None
    return f"the shares of the classes differ by {apart:.0%} between train and val (chi-squared p {found.pvalue:.1g})"


def _brightness_figure(case: Case) -> Figure | None:
    facts = case.facts
    if facts is None or not facts.val_brightness:
        return None
    means = {"train": facts.train_brightness, "val": facts.val_brightness}
    bars = tuple(
        Bar(
            name=name,
            value=float(np.mean(values)) / 255,
            low=float(np.quantile(values, 0.1)) / 255,
            high=float(np.quantile(values, 0.9)) / 255,
            marked=name == "val",
        )
        for name, values in means.items()
    )
    return Figure(title="mean pixel, share of 255 (80 % of images)", bars=bars, share=True)


def _val(case: Case) -> Score:
    return Score(math.nan) if case.val is None else case.val.score


def _gap(case: Case) -> Score | None:
    """Train minus val with a 95 % interval; None where one of them is unknown."""
    if case.facts is None or math.isnan(_val(case).low) or math.isnan(case.facts.train.low):
        return None
    return _difference(case.facts.train, _val(case))


def _difference(a: Score, b: Score) -> Score:
    """a minus b of independent samples.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Score(value, low, value + math.hypot(a.high - a.value, b.value - b.low))


def _confusion(case: Case) -> np.ndarray | None:
    """Counts [K, K] of val, rows true; None for masks, whose background is not a shortcut."""
    if case.val is None or not case.decides_class or not case.val.details.get("confusion"):
        return None
    return np.array(case.val.details["confusion"], np.float64)


def _class_rows(case: Case) -> list[JsonMapping]:
    return [row for row in case.part_rows if row.get("support", 1) and not math.isnan(_class_score(case, row).low)]


def _class_score(case: Case, row: JsonMapping) -> Score:
    """The main score of a class or number; recall where its row has none."""
    found = row.get(case.part_score, row.get("recall"))
    if isinstance(found, int | float):
        low, high = wilson(found * row["support"], row["support"])
        return Score(float(found), float(low), float(high))
    found = found or {}
    return Score(*(math.nan if found.get(key) is None else float(found[key]) for key in ("value", "low", "high")))


def _confused_with(case: Case, name: str) -> str:
    confusion = _confusion(case)
    if confusion is None:
        return ""
    k = case.classes.index(name)
    wrong = confusion[k].copy()
    wrong[k] = 0
    return f"; most often predicted as `{case.classes[int(wrong.argmax())]}`" if wrong.max() > 0 else ""


def _worst_first(values: Mapping[str, Score], most: int = 6) -> dict[str, Score]:
    return dict(sorted(values.items(), key=lambda pair: pair[1].value)[:most])


def _bars(title: str, scores: Mapping[str, Score], *, marked: str) -> Figure:
    bars = tuple(
        Bar(name=name, value=score.value, low=score.low, high=score.high, marked=name == marked)
        for name, score in scores.items()
    )
    return Figure(title=title, bars=bars, share=True)
