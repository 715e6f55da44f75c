# %% [markdown]
# # A class for every pixel
#
# First foreground against background, then every class; which score to trust; and how maps grow again: transposed
# convolutions, bilinear interpolation, or repeated pixels.
#
# The quick form takes scenes that are generated: two digits among pieces of others, 48x48 pixels. With `--full` and a
# root, `person_voc` in VOC 2012's layout, and three seeds of each way up.

# %%
from __future__ import annotations

from typing import Any

import numpy as np

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.mask_scores import (
    NAMES,
    edge_phase,
    made_up,
    most_opposed,
    rank_correlation,
    single_scores,
    whole_scores,
)
from opsin.labs.measure import grid_line, lone_pixels, masked

WAYS = ("transpose", "bilinear", "nearest")
WORDS = {"transpose": "transposed convolution", "bilinear": "bilinear interpolation", "nearest": "repeated pixels"}
PERIOD = 2
VOID = 255
OPPOSED = (("pixel_accuracy", "mean_iou"), ("mean_iou", "boundary_f1"), ("pixel_accuracy", "boundary_f1"))

# %% [markdown]
# ## Runs


# %%
def trained(book: Book, way: str, seed: int = 0) -> opsin.Run:
    """Foreground against background, on photos where they are at hand."""
    if book.quick or book.root is None:
        return on_scenes(book, way, seed)
    return book.train(
        f"{book.root}/person_voc",
        name=f"{way}-photos-{seed}",
        **same(way, "foreground", seed) | {"epochs": 20, "input_size": 96, "input_width": 96},
    )


def on_scenes(book: Book, way: str, seed: int = 0, classes: str = "foreground") -> opsin.Run:
    size = {"scenes": 300, "epochs": 4} if book.quick else {"epochs": 12}
    return book.train("digit_masks", name=f"{way}-{classes}-{seed}", **same(way, classes, seed) | size)


def same(way: str, classes: str, seed: int) -> dict[str, Any]:
    return {"upsample": way, "classes": classes, "task": "segment", "seed": seed, "model": "unet"}


def each_way(book: Book) -> dict[str, list[opsin.Run]]:
    return {way: [trained(book, way, seed) for seed in range(1 if book.quick else 3)] for way in WAYS}


# %% [markdown]
# ## Foreground, then every class
#
# On the scenes in both forms: the photos show one kind of object, people.


# %%
@question(
    "How much harder is it to tell every class than foreground from background?",
    asks=("mean IoU, foreground", "mean IoU, every class"),
)
def classes(book: Book) -> Found:
    rows = []
    for wanted in ("foreground", "all"):
        run = on_scenes(book, "bilinear", classes=wanted)
        scores = run.scores["val"]
        rows.append(
            (wanted, len(opsin.dataset_of(run, book.root).classes), scores["pixel_accuracy"], scores["mean_iou"])
        )
    table = book.table("classes", "The same network", ("classes", "how many", "pixel accuracy", "mean IoU"), rows)
    return Found(
        answer=f"Mean IoU is {table.shown[0][3]} with {rows[0][1]} classes and {table.shown[1][3]} with {rows[1][1]}. Pixel accuracy hides "
        f"that ({table.shown[0][2]} and {table.shown[1][2]}): most pixels are background either way.",
        evidence=(table, *(on_scenes(book, "bilinear", classes=wanted) for wanted in ("foreground", "all"))),
        values={"mean IoU, foreground": rows[0][3], "mean IoU, every class": rows[1][3]},
    )


# %% [markdown]
# ## Which score?
#
# Answers that no network gave are scored beside the network's. Then two images for each pair of scores: the one score puts
# the first far above the second, the other the second above the first.


# %%
@question(
    "Which score should be used for masks, and do scores disagree?",
    asks=("pixel accuracy of one class everywhere", "its mean IoU", "rank correlation of mean IoU and boundary F1"),
)
def scores(book: Book) -> Found:
    run = trained(book, "bilinear")
    stored = run.predictions("val")
    truth, num_classes = stored["true_masks"], len(opsin.dataset_of(run, book.root).classes)
    answers = {"the network": stored["masks"], **made_up(truth)}
    whole = {what: whole_scores(masks, truth, num_classes) for what, masks in answers.items()}
    rows: list[tuple[Any, ...]] = [(what, *(opsin.Score(found[key]) for key in NAMES)) for what, found in whole.items()]
    table = book.table("scores", "Scores over all pixels of val", ("answer", *NAMES.values()), rows)
    single = single_scores(stored["masks"], truth, num_classes)
    pairs, pictures = [], []
    for a, b in OPPOSED:
        images = most_opposed(single, truth, a, b)
        told = [f"{100 * single[key][image]:.1f} %" for key in (a, b) for image in images]
        pairs.append((f"{NAMES[a]}, {NAMES[b]}", f"{rank_correlation(single, a, b):.2f}", *told))
        for letter, image in zip("AB", images, strict=True):
            pictures += [
                (f"{len(pairs)}{letter}: {what}", masked(canvas(truth), mask))
                for what, mask in (("truth", truth[image]), ("network", stored["masks"][image]))
            ]
    columns = ("scores", "rank correlation over images", "first of A", "first of B", "second of A", "second of B")
    opposed = book.table("opposed", "Two images that two scores rank the other way round", columns, pairs)
    figure = book.pictures("opposed", "These images: truth, and the network", pictures)
    empty = table.shown[1]
    return Found(
        answer=f"Not pixel accuracy: it gives {empty[1]} to one class everywhere, mean IoU {empty[3]}. IoU or Dice of the classes say what overlaps, "
        f"boundary F1 how good the outline is: objects too small by the same width get {table.shown[2][3]} and {table.shown[2][5]}. They "
        f"disagree: over images mean IoU and boundary F1 have a rank correlation of {pairs[1][1]}.",
        evidence=(table, opposed, figure, run),
        values={
            "pixel accuracy of one class everywhere": rows[1][1],
            "its mean IoU": rows[1][3],
            "rank correlation of mean IoU and boundary F1": pairs[1][1],
        },
    )


def canvas(masks: np.ndarray) -> np.ndarray:
    """A light grey image of the masks' size."""
    return np.full((1, *masks.shape[1:]), 220, np.uint8)


# %% [markdown]
# ## The way up


# %%
@question(
    "Are transposed convolutions better than bilinear interpolation, or than repeated pixels?",
    asks=("bilinear less transposed, points", "repeated pixels less transposed, points"),
)
def upsampling(book: Book) -> Found:
    runs = each_way(book)
    rows = []
    for way, found in runs.items():
        scored = [
            [run.scores["val"][name].value for run in found] for name in ("mean_iou", "foreground_dice", "boundary_f1")
        ]
        rows.append(
            (WORDS[way], found[0].summary.parameters, *(opsin.Score(float(np.mean(values))) for values in scored))
        )
    columns = ("way up", "parameters", "mean IoU", "Dice of the foreground", "boundary F1")
    seeds = len(runs["bilinear"])
    note = f"Means over {seeds} seed{'s' if seeds > 1 else ''}."
    table = book.table("ways", "The same network, another way up", columns, rows, note)
    pairs = []
    for way in WAYS[1:]:
        names = ["transpose"] * seeds + [way] * seeds  # also where a budget gave each run other minutes
        pair = opsin.compare(*runs["transpose"], *runs[way], names=names).pairs[0]
        shown = "better" if pair.low > 0 else "worse" if pair.high < 0 else "no difference"
        pairs.append((WORDS[way], *(f"{100 * value:+.1f}" for value in (pair.difference, pair.low, pair.high)), shown))
    ends = ("way up", "points of mean IoU", "lowest", "highest", "it is")
    paired = book.table("paired", "Less transposed convolution, paired over val and seeds, 95 % interval", ends, pairs)
    told = "; ".join(f"{row[0]} {row[1]} points ({row[2]} to {row[3]}: {row[4]})" for row in paired.shown)
    return Found(
        answer=f"Less transposed convolutions: {told}. Parameters: {table.shown[0][1]} transposed, {table.shown[1][1]} without.",
        evidence=(table, paired, *(run for found in runs.values() for run in found)),
        values={
            "bilinear less transposed, points": pairs[0][1],
            "repeated pixels less transposed, points": pairs[1][1],
        },
    )


@question("Do transposed convolutions leave a checkerboard?", asks=("lone pixels, transposed", "lone pixels, bilinear"))
def checkerboard(book: Book) -> Found:
    runs = {way: found[0] for way, found in each_way(book).items()}
    stored = {way: run.predictions("val") for way, run in runs.items()}
    truth = stored["bilinear"]["true_masks"]
    answers = {WORDS[way]: stored[way]["masks"] for way in WAYS} | {"truth": np.where(truth == VOID, 0, truth)}
    rows = [
        (what, opsin.Score(lone_pixels(mask)), f"{grid_line(mask, PERIOD):+.1f}", opsin.Score(edge_phase(mask, PERIOD)))
        for what, mask in answers.items()
    ]
    columns = (
        "masks",
        "lone pixels, share of the foreground",
        f"line at a period of {PERIOD} pixels, dB",
        "edges on that grid",
    )
    note = (
        "Lone: unlike all neighbours above, below, left and right. Line: power over what its neighbours in the spectrum lead to expect. "
        "Edges on the grid: how strongly they keep to one place of it."
    )
    table = book.table("grid", "The checkerboard in the masks", columns, rows, note)
    figure = book.pictures("masks", "Two images of val: truth, and each way up", pictures(book, runs, stored))
    more = rows[0][1].value > rows[1][1].value and float(rows[0][2]) > float(rows[1][2])
    lone, lines = [row[1] for row in table.shown], [row[2] for row in rows]
    return Found(
        answer=f"{'Yes' if more else 'Not here'}: {lone[0]} of the foreground are lone pixels with transposed convolutions, {lone[1]} with "
        f"bilinear interpolation, {lone[3]} in truth; the line in the spectrum stands at {lines[0]} dB, {lines[1]} dB and {lines[3]} dB. "
        f"Repeated pixels leave edges on the grid: {table.shown[2][3]}, where truth has {table.shown[3][3]}.",
        evidence=(table, figure, *runs.values()),
        values={"lone pixels, transposed": rows[0][1], "lone pixels, bilinear": rows[1][1]},
    )


def pictures(
    book: Book, runs: dict[str, opsin.Run], stored: dict[str, dict[str, np.ndarray]]
) -> list[tuple[str, np.ndarray]]:
    """Truth and all answers for the first two images of val that keep their size."""
    val = opsin.dataset_of(runs["bilinear"], book.root).splits["val"]
    place = {sample: index for index, sample in enumerate(val.ids)}
    found = []
    for row in range(2):
        image = val.image(place[str(stored["bilinear"]["ids"][row])])
        masks = {"truth": stored["bilinear"]["true_masks"][row]} | {
            WORDS[way]: stored[way]["masks"][row] for way in WAYS
        }
        shown = image if image.shape[1:] == masks["truth"].shape else canvas(masks["truth"][None])
        found += [(what, masked(shown, mask)) for what, mask in masks.items()]
    return found


# %%
LAB = Lab(
    name="segmentation",
    title="A class for every pixel",
    words="Foreground, then every class; which score to trust; transposed convolutions, bilinear interpolation, repeated pixels.",
    questions=(classes, scores, upsampling, checkerboard),
    networks=lambda book: (
        each_way(book),
        [on_scenes(book, "bilinear", classes=name) for name in ("foreground", "all")],
    ),
    needs="person_voc in VOC 2012's layout under --root; without, more made-up scenes",
    minutes=(2.7, None),
)
