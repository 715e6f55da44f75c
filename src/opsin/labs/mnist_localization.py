# %% [markdown]
# # What is it, and where?
#
# One digit lies somewhere in a scene of 75x75 pixels. One network with two heads says which digit it is and where its box
# is. The scenes are generated, of MNIST's digits, or in the quick form of scikit-learn's.

# %%
from __future__ import annotations

from typing import Any

import numpy as np

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import boxed, iou
from opsin.labs.steps import in_points

LOSSES = ("mse", "iou", "giou")
GOOD = 0.6

# %% [markdown]
# ## Runs
#
# The same network, seed and scenes; only the loss of the box differs.


# %%
def trained(book: Book, loss: str) -> opsin.Run:
    settings: dict[str, Any] = {"box_loss": loss, "seed": 0}
    if book.quick:
        settings |= {"scene_digits": "digits", "scenes": 500, "epochs": 3, "batch_size": 50}
    return book.train("digit_scenes", name=loss, **settings)


# %% [markdown]
# ## Two heads, two losses


# %%
@question(
    "How does one network learn the class and the box together, and how well?",
    asks=("class right, giou, on val", "mean IoU, giou, on val", "both right, giou, on val"),
)
def two_heads(book: Book) -> Found:
    run = trained(book, "giou")
    scores = run.scores["val"]
    names = ("accuracy", "mean_iou", "good_boxes", "joint_accuracy")
    words = ("class right", "mean IoU of the box", f"box with IoU of {GOOD} or more", "both right")
    rows: list[Any] = [(what, scores[name]) for what, name in zip(words, names, strict=True)]
    rows += [("loss of the class", scores["class_loss"].value), ("loss of the box", scores["box_loss"].value)]
    layers = opsin.plan(run.path, timed=False).layers
    heads = [(row.name, row.parameters) for row in layers.rows if row.name.startswith("heads.") and row.parameters]
    sizes = book.table(
        "heads", "The heads, after one backbone", ("layer", "parameters"), [*heads, ("all", layers.parameters)]
    )
    table = book.table("scores", "Scores of val", ("what", "value"), rows)
    told = [row[1] for row in table.shown]
    return Found(
        answer=f"The heads share one backbone, and the losses of class and box are added. The class is right for {told[0]}, the "
        f"mean IoU is {told[1]}, and both class and box are right for {told[3]}.",
        evidence=(table, sizes, run),
        values=dict(zip(two_heads.asks, (rows[0][1], rows[1][1], rows[3][1]), strict=True)),
    )


# %% [markdown]
# ## MSE against IoU losses
#
# The squared error looks at four numbers one by one, the IoU losses at the overlap that is scored.


# %%
@question(
    "Which loss of the box is better: the squared error (MSE), or one of the overlap (IoU, GIoU)?",
    asks=("IoU less MSE, points of mean IoU", "GIoU less MSE, points of mean IoU"),
)
def losses(book: Book) -> Found:
    rows = []
    for loss in LOSSES:
        scores = trained(book, loss).scores["val"]
        rows.append(
            (loss, scores["mean_iou"], scores["good_boxes"], scores["accuracy"], scores["centre_error_px"].value)
        )
    columns = ("loss", "mean IoU", f"IoU of {GOOD} or more", "class right", "error of the centre, px")
    table = book.table("losses", "The same network with each loss", columns, rows)
    base = values_of(trained(book, "mse"))
    pairs: list[tuple[Any, ...]] = []
    for loss in LOSSES[1:]:
        difference = values_of(trained(book, loss)) - base
        pairs.append((f"{loss} less mse", *in_points(difference), len(difference)))
    columns = ("what", "difference of IoU, points", "lowest", "highest", "scenes")
    paired = book.table("paired", "Paired over the scenes of val, 95 % interval, one seed", columns, pairs)
    better = [row[0].split()[0] for row in pairs if float(row[2]) > 0]
    worse = [row[0].split()[0] for row in pairs if float(row[3]) < 0]
    verdict = f"Better than MSE: {', '.join(better) or 'neither'}; worse: {', '.join(worse) or 'neither'}."
    told = "; ".join(f"{row[0]} {row[1]} points ({row[2]} to {row[3]})" for row in pairs)
    return Found(
        answer=f"{verdict} Mean IoU, paired: {told}.",
        evidence=(table, paired, *(trained(book, loss) for loss in LOSSES)),
        values={"IoU less MSE, points of mean IoU": pairs[0][1], "GIoU less MSE, points of mean IoU": pairs[1][1]},
    )


def values_of(run: opsin.Run) -> np.ndarray:
    """IoU of each scene of val."""
    stored = run.predictions("val")
    return iou(stored["boxes"], stored["true_boxes"])


# %% [markdown]
# ## Good and bad boxes


# %%
@question(
    "How many boxes are good, and what do good and bad ones look like at a threshold of 0.6?",
    asks=("good boxes, giou, on val", "bad boxes, giou, on val", "lowest IoU, giou, on val"),
)
def good_and_bad(book: Book) -> Found:
    run = trained(book, "giou")
    values = values_of(run)
    order = np.argsort(values)
    good, bad = int((values >= GOOD).sum()), int((values < GOOD).sum())
    table = book.table("good", f"Boxes of val at {GOOD}", ("good", "bad", "lowest IoU", "median IoU"), [
        (good, bad, float(values.min()), float(np.median(values))),
    ])  # fmt: skip
    worst, best = [int(row) for row in order[:5]], [int(row) for row in order[-5:]]
    title = "The five worst and the five best: true box blue, predicted box orange"
    figure = book.pictures("boxes", title, boxed(run, book.root, [*worst, *best]))
    return Found(
        answer=f"{good:,} are good and {bad:,} are bad; the lowest IoU is {table.shown[0][2]}, the median {table.shown[0][3]}.",
        evidence=(table, figure, run),
        values=dict(zip(good_and_bad.asks, (good, bad, float(values.min())), strict=True)),
    )


# %%
LAB = Lab(
    name="mnist-localization",
    title="What is it, and where?",
    words="Class and box of a digit in a scene by one network with two heads; the squared error against losses of the overlap.",
    questions=(two_heads, losses, good_and_bad),
    needs="mnist (55 MB)",
    networks=lambda book: [trained(book, loss) for loss in LOSSES],
    minutes=(2.7, None),
)
