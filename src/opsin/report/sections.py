"""The sections common to all tasks: one function each, from the run's data to markup.

An empty section returns None, and the page says why it is empty.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from opsin.config import AugmentConfig, to_dict
from opsin.data.catalogue import ENTRIES
from opsin.ops.forecast import forecast
from opsin.ops.intervals import Z_95
from opsin.report.curves import cost_panels, learning_panels
from opsin.report.figures import interval_bar, share_bar
from opsin.report.formats import decimals_for, duration, is_number, number, percent
from opsin.report.render import Values, picture, render
from opsin.report.section import Section as Section
from opsin.report.view import SplitResult, View
from opsin.runs import Environment, SplitCard, Summary
from opsin.tasks.cards import ScoreKind, score_kind
from opsin.types import SPLITS, Score
from opsin.units import bytes_text

FEW_CLASSES = 20
LISTED_CLASSES = 1000
"""Of more classes the page lists the first."""
NUM_SAMPLES, NUM_AUGMENTED = 24, 6

KINDS = {"average": "probabilities averaged", "soup": "weights averaged into one network"}
"""Kinds of ensembles in words."""
VIEWS = {"scale": "made smaller and larger", "shift": "moved a little towards each corner", "flip": "mirrored"}
"""Views of test-time augmentation as text, in the order in which they are combined."""
NOT_SCORED = "No split has been scored yet."


def score_words(score: Score, *, share: bool = True) -> tuple[str, str]:
    """A score and its interval in words: percentages for shares, plain numbers for losses."""
    if not (share and 0 <= score.value <= 1):
        interval = f"{number(score.low)} – {number(score.high)}" if is_number(score.low) else ""
        return number(score.value, 4), interval
    decimals = decimals_for(score)
    interval = f"{percent(score.low, decimals)} – {percent(score.high, decimals)}" if is_number(score.low) else ""
    return percent(score.value, decimals), interval


def headline(view: View) -> Values:
    """The headline: the run, its main score on the most informative split, and the facts in one line."""
    result = view.results[0] if view.results else None
    score = result.scores.get(view.main_score) if result else None
    value, interval = score_words(score) if score else unscored(view)
    bar = interval_bar(score, *_track([score]), role=result.name) if score and result else ""
    return {
        "view": view,
        "result": result,
        "score_name": score_kind(view.task, view.main_score).title,
        "value": value,
        "interval": interval,
        "bar": bar,
        "ends": [percent(end, 0) for end in _track([score])] if score else [],
        "openings": openings(view),
        "seal": seal(view),
    }


def unscored(view: View) -> tuple[str, str]:
    """The headline of a run without scores: the best val score in its log, if there is one."""
    values = [epoch.val[view.main_score] for epoch in view.epochs if view.main_score in epoch.val]
    known = [value for value in values if is_number(value)]
    return (percent(max(known)), "") if known else ("n/a", "")


def openings(view: View) -> int:
    """Number of openings of the test split: the largest in the run's files."""
    opened = [result.scores.opened or 0 for result in view.results if result.name == "test"]
    return max([view.test_openings, *opened, view.summary.test_openings or 0])


def seal(view: View) -> str:
    """The state of the test split, as text."""
    if view.config.get("data", {}).get("test_as_val"):
        return "test was used as val"
    if not (count := openings(view)):
        return "test is sealed" if view.has_test else "no test split"
    return "test opened once" if count == 1 else f"test opened {count} times"


def looks(view: View) -> str:
    """Openings of the test split over all runs, as counted at this run's last one, as text; "" if not counted."""
    return "" if view.looks is None else view.looks.words()


def scores(view: View) -> Markup | None:
    """Every score of every split, with its interval."""
    if not view.results:
        return None
    keys = list(dict.fromkeys(key for result in view.results for key in result.scores))
    kinds = {key: score_kind(view.task, key) for key in keys}
    cells = {key: [_cell(key, result, view.results, kinds) for result in view.results] for key in keys}
    good_iou = view.config["train"]["good_iou"]
    rows = [(kind.title, kind.words.format(good_iou=good_iou), cells[key]) for key, kind in kinds.items()]
    values = {"view": view, "results": view.results, "rows": rows, "copies": _copies(view, kinds)}
    entry = ENTRIES.get(str(view.data.name)) if view.data.published else None
    caution = entry.caution if entry else ""
    values |= {"caution": caution, "augmented": _augmented(view, kinds), "never_mirrored": _never_mirrored(view)}
    return render("scores.html", values | {"openings": openings(view), "looks": looks(view)})


def _copies(view: View, kinds: Mapping[str, ScoreKind]) -> list[Values]:
    """For each split checked for copies in train: its scores on all samples and on those without a copy.

    Each row is a title with two pairs of words, value and interval; the main score comes first.
    """
    blocks: list[Values] = []
    for result in view.results:
        without = result.scores.without_copies
        if without is None:
            continue
        rows = _side_by_side(view, kinds, result.scores, without)
        blocks.append({"result": result, "without": without, "rows": rows})
    return blocks


def _augmented(view: View, kinds: Mapping[str, ScoreKind]) -> list[Values]:
    """For each split scored with test-time augmentation: its scores without and with it, as `_copies`."""
    return [
        {"result": result, "views": _in_words(tta.views), "rows": _side_by_side(view, kinds, result.scores, tta)}
        for result in view.results
        if (tta := result.scores.tta) is not None
    ]


def _in_words(views: tuple[str, ...]) -> str:
    return ", each also ".join(words for name, words in VIEWS.items() if name in views)


def _never_mirrored(view: View) -> bool:
    """Whether mirrored images were scored with a network that saw none in training."""
    scored = any(tta and "flip" in tta.views for tta in (result.scores.tta for result in view.results))
    return scored and not view.config["augment"]["flip"]


def _side_by_side(
    view: View, kinds: Mapping[str, ScoreKind], left: Mapping[str, Score], right: Mapping[str, Score]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """The titles of the scores, the main one first, each with two pairs of words: value and interval."""
    keys = sorted((key for key in left if key in right), key=lambda key: key != view.main_score)
    return [
        (kinds[key].title, [score_words(scores[key], share=kinds[key].share) for scores in (left, right)])
        for key in keys
    ]


def _cell(
    key: str, result: SplitResult, results: tuple[SplitResult, ...], kinds: Mapping[str, ScoreKind]
) -> Values | None:
    score = result.scores.get(key)
    if score is None:
        return None
    value, interval = score_words(score, share=kinds[key].share)
    is_share = kinds[key].higher_is_better and 0 <= score.value <= 1
    track = _track([r.scores[k] for r in results for k in r.scores if kinds[k].higher_is_better])
    return {
        "value": value,
        "interval": interval,
        "bar": interval_bar(score, *track, role=result.name) if is_share else "",
    }


def _track(values: list[Score]) -> tuple[float, float]:
    """Ends of the track that intervals are drawn on: from a round number below them all up to 1."""
    lows = [low for s in values for low in (s.low if is_number(s.low) else s.value,) if is_number(low)]
    lowest = min([1.0, *lows])
    low = next((edge for edge in (0.99, 0.98, 0.95, 0.9, 0.8, 0.5) if edge < lowest), 0.0)
    return low, 1.0


def training(view: View) -> Markup | None:
    """Learning curves and events."""
    if not view.epochs and not view.events:
        return None
    events = [e for e in view.events if e.event not in ("start", "finish", "forecast")]
    values = {"panels": learning_panels(view), "events": events, "epochs": view.epochs}
    values |= {"forecast": forecast_words(view)}
    origin = {"ensemble": _ensemble(view.summary), "converted_from": view.summary.converted_from}
    return render("training.html", values | origin)


def forecast_words(view: View) -> str:
    """The forecast gain of twice the training time; "" if unknown."""
    val = next((result for result in view.results if result.name == "val"), None)
    score = val.scores.get(view.main_score) if val else None
    if score is None or not is_number(score.low) or not score_kind(view.task, view.main_score).higher_is_better:
        return ""
    points = [(epoch.seconds, epoch.val.get(view.main_score, math.nan)) for epoch in view.epochs]
    kept = [(time, value) for time, value in points if is_number(value)]
    if not kept:
        return ""
    error = (score.high - score.low) / (2 * Z_95)
    found = forecast([time for time, _ in kept], [value for _, value in kept], standard_error=error)
    if found is None:
        return ""
    title, minutes = score_kind(view.task, view.main_score).title, found.factor * kept[-1][0] / 60
    gain = f"{100 * found.gain:+.1f} points of {title.lower()} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    if found.distinguishable:
        return f"Twice the training time ({minutes:.1f} minutes) would gain about {gain}, by the learning curve."
    return (
        f"The gain of twice the training time ({minutes:.1f} minutes) is not distinguishable from zero on "
        f"a val of this size: {gain}, extrapolated from the learning curve."
    )


def _ensemble(summary: Summary) -> Values | None:
    """An ensemble: its kind, its members with their weights, and its gain."""
    if not summary.members:
        return None
    gain = summary.gain or Score(math.nan)
    interval = f" ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})" if is_number(gain.low) else ""
    return {
        "kind": KINDS.get(str(summary.kind), "combined"),
        "members": list(zip(summary.members, summary.weights or (), strict=False)),
        "gain": f"{100 * gain.value:+.1f}{interval}" if is_number(gain.value) else "n/a",
    }


def data(view: View) -> Markup | None:
    """The data: counts per split and class, notes, findings of the audit."""
    if not view.data:
        return None
    splits = [(name, view.data.splits[name]) for name in SPLITS if name in view.data.splits]
    values = {
        "data": view.data,
        "splits": splits,
        "classes": _class_rows(view, splits),
        "num_classes": len(view.classes),
        "few": len(view.classes) <= FEW_CLASSES,
    }
    return render("data.html", values)


def _class_rows(view: View, splits: Sequence[tuple[str, SplitCard]]) -> list[tuple[str, list[tuple[int, Markup]]]]:
    """For each listed class its count in every split, with a bar relative to the split's largest class."""
    counts = [list(split.class_counts or ()) for _, split in splits]
    if not counts or any(len(c) != len(view.classes) for c in counts):
        return []
    largest = [max([1, *c]) for c in counts]
    columns = zip(counts, largest, splits, strict=True)
    bars = [[(n, share_bar(n / top, name)) for n in count[:LISTED_CLASSES]] for count, top, (name, _) in columns]
    return list(zip(view.classes[:LISTED_CLASSES], map(list, zip(*bars, strict=True)), strict=True))


def samples(view: View) -> Markup | None:
    """Sample images, and their augmented views in training."""
    images = view.gallery.get("samples", np.empty(0))
    if len(images) == 0:
        return None
    labels = view.gallery.get("samples_labels", np.empty(0, dtype=np.int64))
    shown = [(picture(pixels), class_name(view, labels, i)) for i, pixels in enumerate(images[:NUM_SAMPLES])]
    augmented = view.gallery.get("augmented", np.empty(0))[:NUM_AUGMENTED]
    off = to_dict(AugmentConfig())
    settings = {name: value for name, value in view.config["augment"].items() if value != off[name]}
    pairs = zip(shown, augmented, strict=False) if settings else ()
    rows = [(sample, [picture(pixels) for pixels in views]) for sample, views in pairs]
    return render("samples.html", {"shown": shown, "rows": rows, "settings": settings})


def class_name(view: View, labels: np.ndarray, i: int) -> str:
    """The class of the i-th label, or its index if it has no name; "" without a label."""
    if i >= len(labels):
        return ""
    label = int(labels[i])
    return view.classes[label] if 0 <= label < len(view.classes) else f"class {label}"


def cost(view: View) -> Markup | None:
    """Time, memory, machine, and how precision and memory format were chosen."""
    if not (view.environment or view.summary or view.epochs):
        return None
    last = view.epochs[-1].seconds if view.epochs else None
    values = {
        "environment": view.environment,
        "summary": view.summary,
        "seconds": last if view.summary.seconds is None else view.summary.seconds,
        "speed": mean_of(view, "images_per_second"),
        "cpu": mean_of(view, "cpu_percent"),
        "cores": view.environment.cores,
        "peak": peak_memory(view),
        "forecast": forecast_facts(view),
        "panels": cost_panels(view),
        "timings": _timings(view.environment),
    }
    return render("cost.html", values)


def forecast_facts(view: View) -> dict[str, str]:
    """What was forecast of time and memory before the first step, in the words of what was measured; "" where nothing.

    The time of a plan for photos counts from the start of the process to the report, others that of training alone.
    """
    seconds, sizes = view.forecast.get("seconds"), view.forecast.get("memory_bytes")
    pair = [size for size in sizes if is_number(size)] if isinstance(sizes, list) else []
    return {
        "time": duration(seconds) if is_number(seconds) else "",
        "memory": " to ".join(map(bytes_text, pair)),
    }


def mean_of(view: View, key: str) -> float | None:
    """The mean over epochs of a number in the log; None where it was not logged."""
    values = [value for epoch in view.epochs if is_number(value := getattr(epoch, key))]
    return float(np.mean(values)) if values else None


def peak_memory(view: View) -> int | None:
    """The recorded peak memory of the run in bytes."""
    told = (view.summary.peak_memory_bytes, *(epoch.peak_memory_bytes for epoch in view.epochs))
    return max((value for value in told if value is not None), default=None)


def _timings(environment: Environment) -> list[Values]:
    """The timed candidates, fastest first, each with its bar and whether it was chosen."""
    rows = [timing for timing in environment.timings if is_number(timing.images_per_second)]
    fastest = max((timing.images_per_second for timing in rows), default=1)
    chosen = (environment.precision, environment.channels_last, environment.compiled)
    return [
        {
            "timing": timing,
            "bar": share_bar(timing.images_per_second / fastest),
            "chosen": (timing.precision, timing.channels_last, timing.compile) == chosen,
        }
        for timing in sorted(rows, key=lambda timing: -timing.images_per_second)
    ]


def repeat(view: View) -> Markup | None:
    """How to repeat the run and use its network; all settings."""
    folder = shlex.quote(view.folder)
    values = {
        "command": view.summary.command,
        "folder": folder,
        "quoted": repr(view.folder),
        "view": view,
        "openings": openings(view),
        "groups": {name: group for name, group in view.config.items() if isinstance(group, dict)},
        "top": {name: value for name, value in view.config.items() if not isinstance(value, dict)},
    }
    return render("repeat.html", values)


FIRST = (
    Section(key="scores", title="Scores", show=scores, empty=NOT_SCORED),
    Section(key="training", title="Training", show=training, empty="No epoch was finished."),
)
LAST = (
    Section(key="data", title="Data", show=data, empty="The run has no description of its data."),
    Section(key="samples", title="Training images", show=samples, empty="The run has no sample images."),
    Section(key="cost", title="Time and memory", show=cost, empty="Neither time nor memory was recorded."),
    Section(key="repeat", title="Repeat it, use it", show=repeat, empty=""),
)
