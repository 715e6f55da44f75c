# %% [markdown]
# # A class for every pixel
#
# First foreground against background, then every class; which score to trust; and how maps grow again: transposed
# convolutions against bilinear interpolation.
#
# The quick form takes scenes that are made by the code: two digits among pieces of others, 48x48 pixels. With `--full` and a
# root, `person_voc` in VOC 2012's layout.

# %%
from __future__ import annotations

from typing import Any

import numpy as np

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import grid_line, lone_pixels, masked

WAYS = ("transpose", "bilinear")
WORDS = {"transpose": "transposed convolution", "bilinear": "bilinear interpolation"}
PERIOD = 2
VOID = 255

# %% [markdown]
# ## Runs


# %%
def trained(book: Book, way: str, classes: str = "foreground") -> opsin.Run:
    settings: dict[str, Any] = {"upsample": way, "classes": classes, "task": "segment", "seed": 0, "model": "unet"}
    name = f"{way}-{classes}"
    if book.quick:
        return book.train("digit_masks", name=name, scenes=400, epochs=4, **settings)
    if book.root is None:
        return book.train("digit_masks", name=name, epochs=12, **settings)
    return book.train(f"{book.root}/person_voc", name=name, epochs=20, input_size=96, input_width=96, **settings)


# %% [markdown]
# ## Foreground, then every class


# %%
@question(
    "How much harder is it to tell every class than foreground from background?",
    asks=("mean IoU, foreground", "mean IoU, every class"),
)
def classes(book: Book) -> Found:
    rows = []
    for wanted in ("foreground", "all"):
        run = trained(book, "bilinear", wanted)
        scores = run.scores["val"]
        rows.append(
            (wanted, len(opsin.dataset_of(run, book.root).classes), scores["pixel_accuracy"], scores["mean_iou"])
        )
    table = book.table("classes", "The same network", ("classes", "how many", "pixel accuracy", "mean IoU"), rows)
    return Found(
        answer=f"Mean IoU is {table.shown[0][3]} with {rows[0][1]} classes and {table.shown[1][3]} with {rows[1][1]}. Pixel accuracy hides "
        f"that ({table.shown[0][2]} and {table.shown[1][2]}): most pixels are background either way.",
        evidence=(table, trained(book, "bilinear"), trained(book, "bilinear", "all")),
        values={"mean IoU, foreground": rows[0][3], "mean IoU, every class": rows[1][3]},
    )


# %% [markdown]
# ## Which score?
#
# Three answers are made up from the truth and scored beside the network's.


# %%
@question("Which score should be used for masks?")
def scores(book: Book) -> Found:
    stored = trained(book, "bilinear").predictions("val")
    truth, known = stored["true_masks"], stored["true_masks"] != VOID
    answers = {
        "the network": stored["masks"],
        "background everywhere": np.zeros_like(truth),
        "the truth, moved by 1 pixel": np.roll(truth, 1, axis=2),
    }
    rows = [(what, *(opsin.Score(value) for value in scored(mask, truth, known))) for what, mask in answers.items()]
    columns = ("answer", "pixel accuracy", "IoU of the foreground", "Dice of the foreground")
    table = book.table("scores", "Scores of the foreground over all pixels of val", columns, rows)
    empty = table.shown[1]
    return Found(
        answer=f"IoU or Dice of the classes: pixel accuracy gives {empty[1]} to an answer that finds nothing, where IoU and Dice "
        f"give {empty[2]}. Dice is the kinder of the two ({table.shown[0][3]} against {table.shown[0][2]} for the network), and "
        "both order answers alike, as each follows from the other.",
        evidence=(table, trained(book, "bilinear")),
    )


def scored(mask: np.ndarray, truth: np.ndarray, known: np.ndarray) -> tuple[float, float, float]:
    """Pixel accuracy, IoU and Dice of the foreground, over pixels that are not void."""
    found, true = (mask > 0) & known, (truth > 0) & known
    both, either = (found & true).sum(), (found | true).sum()
    return float(((mask == truth) & known).sum() / known.sum()), both / either, 2 * both / (found.sum() + true.sum())


# %% [markdown]
# ## Transposed against bilinear


# %%
@question("Are transposed convolutions better than bilinear interpolation?")
def upsampling(book: Book) -> Found:
    runs = {way: trained(book, way) for way in WAYS}
    rows = []
    for way, run in runs.items():
        parameters = run.summary.parameters
        rows.append(
            (
                WORDS[way],
                parameters,
                *(run.scores["val"][name] for name in ("mean_iou", "foreground_dice", "boundary_f1")),
            )
        )
    columns = ("way up", "parameters", "mean IoU", "Dice of the foreground", "boundary F1")
    table = book.table("ways", "The same network, another way up", columns, rows)
    pair = opsin.compare(*runs.values()).pairs[0]
    ends = ("difference of the mean IoU, points", "lowest", "highest")
    told = [f"{100 * value:+.1f}" for value in (pair.difference, pair.low, pair.high)]
    paired = book.table("paired", "Bilinear less transposed, paired over val, 95 % interval, one seed", ends, [told])
    verdict = (
        "bilinear is better" if pair.low > 0 else "transposed is better" if pair.high < 0 else "no difference is shown"
    )
    return Found(
        answer=f"By overlap, {verdict}: bilinear differs by {told[0]} points of mean IoU ({told[1]} to {told[2]}), with "
        f"{table.shown[1][1]} parameters against {table.shown[0][1]}.",
        evidence=(table, paired, *runs.values()),
    )


@question("Do transposed convolutions leave a checkerboard?")
def checkerboard(book: Book) -> Found:
    runs = {way: trained(book, way) for way in WAYS}
    stored = {way: run.predictions("val") for way, run in runs.items()}
    truth = stored["bilinear"]["true_masks"]
    answers = {WORDS[way]: stored[way]["masks"] for way in WAYS} | {"truth": np.where(truth == VOID, 0, truth)}
    rows = [(what, opsin.Score(lone_pixels(mask)), f"{grid_line(mask, PERIOD):+.1f}") for what, mask in answers.items()]
    columns = ("masks", "lone pixels, share of the foreground", f"line at a period of {PERIOD} pixels, dB")
    note = "Lone: unlike all neighbours above, below, left and right. Line: power over what its neighbours in the spectrum lead to expect."
    table = book.table("grid", "The checkerboard in the masks", columns, rows, note)
    figure = book.pictures("masks", "Two images of val: truth, transposed, bilinear", pictures(book, runs, stored))
    more = rows[0][1].value > rows[1][1].value and float(rows[0][2]) > float(rows[1][2])
    lone, lines = [row[1] for row in table.shown], [row[2] for row in rows]
    return Found(
        answer=f"{'Yes' if more else 'Not here'}: {lone[0]} of the foreground are lone pixels with transposed convolutions, {lone[1]} "
        f"with bilinear interpolation, {lone[2]} in truth; the line in the spectrum stands at {lines[0]} dB, {lines[1]} dB and "
        f"{lines[2]} dB.",
        evidence=(table, figure, *runs.values()),
    )


def pictures(book: Book, runs: Any, stored: Any) -> list[tuple[str, np.ndarray]]:
    """Truth and both answers for the first two images of val that keep their size."""
    val = opsin.dataset_of(runs["bilinear"], book.root).splits["val"]
    place = {sample: index for index, sample in enumerate(val.ids)}
    found = []
    for row in range(2):
        image = val.image(place[str(stored["bilinear"]["ids"][row])])
        masks = {"truth": stored["bilinear"]["true_masks"][row]} | {
            WORDS[way]: stored[way]["masks"][row] for way in WAYS
        }
        same = image.shape[1:] == masks["truth"].shape
        shown = image if same else np.zeros((1, *masks["truth"].shape), np.uint8)
        found += [(what, masked(shown, mask)) for what, mask in masks.items()]
    return found


# %%
LAB = Lab(
    name="segmentation",
    title="A class for every pixel",
    words="Foreground, then every class; which score to trust; transposed convolutions against bilinear interpolation.",
    questions=(classes, scores, upsampling, checkerboard),
    needs="person_voc in VOC 2012's layout under --root; without, more made-up scenes",
)
