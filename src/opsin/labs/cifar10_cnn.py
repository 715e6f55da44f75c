# %% [markdown]
# # A CNN for CIFAR-10
#
# The course takes the first 10,000 training images of CIFAR-10, a quarter of them for validation, and the first 2,000 test
# images, and changes a small CNN step by step. The steps are recipes of Opsin.
#
# The quick form takes the digits of scikit-learn, or with `--root` a thousand images of CIFAR-10, and few epochs.

# %%
from __future__ import annotations

from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import agreement, mistakes, parameter_rows

RECIPES = {
    "2conv": "course-2conv",
    "2conv-dense": "course-2conv-dense",
    "4conv-dense": "course-4conv-dense",
    "dropout": "course-dropout",
    "class-weights": "course-2conv-dense",
}
WORDS = {
    "2conv": "two convolutions",
    "2conv-dense": "two convolutions, dense 50",
    "4conv-dense": "four convolutions, dense 50",
    "dropout": "two, dense 50, dropout",
    "class-weights": "two, dense 50, class weights",
}
PUBLISHED = {"2conv": 0.529, "2conv-dense": 0.544, "4conv-dense": 0.503, "dropout": 0.551, "class-weights": 0.546}
PUBLISHED_PARAMETERS = {"2conv": 25_770, "2conv-dense": 108_440, "4conv-dense": 31_192}
FILTERS: dict[str, dict[str, Any]] = {
    "2conv": {"filters": (16, 32), "dense": ()},
    "2conv-dense": {"filters": (16, 32), "dense": (50,)},
    "4conv-dense": {"filters": (16, 32, 32, 32), "dense": (50,)},
}

# %% [markdown]
# ## Runs
#
# Test is opened once for each run.


# %%
def trained(book: Book, name: str) -> opsin.Run:
    settings: dict[str, Any] = {"recipe": RECIPES[name], "seed": 0, "open_test": True}
    if name == "class-weights":
        settings["class_weights"] = True
    if not book.quick:
        return book.train("cifar10", name=name, **settings)
    if book.root:
        return book.train("cifar10", name=name, subset="train=1000,test=500", epochs=4, **settings)
    return book.train("digits", name=name, subset="train=1100,test=180", input_size=16, epochs=4, **settings)


def test_accuracy(book: Book, name: str) -> opsin.Score:
    return trained(book, name).scores["test"]["accuracy"]


# %% [markdown]
# ## The images


# %%
@question("How many images of each class are there?", asks=("fewest of train", "most of train", "held out"))
def class_counts(book: Book) -> Found:
    dataset = opsin.dataset_of(trained(book, "2conv"), book.root)
    counts = dataset.counts()
    rows = [(name, *(counts[split][label] for split in counts)) for label, name in enumerate(dataset.classes)]
    totals = [sum(counts[split]) for split in counts]
    table = book.table("classes", "Images of each class", ("class", *counts), [*rows, ("all", *totals)])
    train = counts["train"]
    balanced = max(train) <= 1.2 * min(train)
    weighted = "nearly balanced: class weights hardly shift" if balanced else "unbalanced: class weights shift"
    return Found(
        answer=f"From {min(train)} to {max(train)} of train, {totals[0]:,} in all, and {totals[1]:,} held out for validation: {weighted} the loss.",
        evidence=(table,),
        values={"fewest of train": min(train), "most of train": max(train), "held out": totals[1]},
    )


# %% [markdown]
# ## The networks


# %%
@question(
    "How good are two convolutions, with a dense layer, and four?",
    published="52.9 %, 54.4 %, 50.3 %",
    asks=[f"{WORDS[name]}, on test" for name in FILTERS],
)
def networks(book: Book) -> Found:
    names = tuple(FILTERS)
    rows = [(WORDS[name], trained(book, name).scores["val"]["accuracy"], test_accuracy(book, name)) for name in names]
    table = book.table("networks", "Accuracy of the networks", ("network", "val", "test"), rows)
    drawn = {WORDS[name]: trained(book, name) for name in names}
    curves = book.curves("networks", "Accuracy on val", drawn, "accuracy")
    told = [row[2] for row in table.shown]
    return Found(
        answer=f"Two convolutions reach {told[0]} of test, with a dense layer {told[1]}, four {told[2]}.",
        ours=", ".join(told),
        values={f"{WORDS[name]}, on test": test_accuracy(book, name) for name in names},
        evidence=(table, curves, *(trained(book, name) for name in names)),
        **agreement(book, [(test_accuracy(book, name), PUBLISHED[name]) for name in names]),
    )


@question("How large is the gap between train and test?", asks=("the network of the widest gap", "its gap, points"))
def gap(book: Book) -> Found:
    rows = []
    for name in RECIPES:
        run = trained(book, name)
        train, test = run.epochs[-1].train["accuracy"], test_accuracy(book, name).value
        rows.append((WORDS[name], opsin.Score(train), opsin.Score(test), f"{100 * (train - test):+.1f}"))
    columns = ("network", "train, last epoch", "test", "gap, points")
    note = "On train as it was counted during the epoch: with dropout, and before the last steps."
    table = book.table("gap", "Accuracy on train and on test", columns, rows, note)
    widest = max(rows, key=lambda row: float(row[3]))
    narrowest = min(rows, key=lambda row: float(row[3]))
    return Found(
        answer=f"Widest with {widest[0]}: {widest[3]} points; narrowest with {narrowest[0]}: {narrowest[3]}.",
        evidence=(table,),
        values={"the network of the widest gap": widest[0], "its gap, points": widest[3]},
    )


# %% [markdown]
# ## Parameters
#
# Counted for the course's images of 32x32 pixels, whatever the runs of this report were trained on.


# %%
@question(
    "How many parameters are there, and in which layer are most?",
    published="25,770, 108,440, 31,192",
    asks=[*(WORDS[name] for name in FILTERS), "share of the largest layer"],
)
def parameters(book: Book) -> Found:
    common: dict[str, Any] = {"shape": (3, 32, 32), "timed": False}
    rows: list[tuple[Any, ...]] = []
    totals = {}
    for name, network in FILTERS.items():
        layers = opsin.plan("plain", **network, **common).layers
        rows += [(WORDS[name], *row) for row in parameter_rows(layers)]
        totals[name] = layers.parameters
        rows.append((WORDS[name], "all", layers.parameters, None))
    table = book.table("layers", "Parameters layer by layer", ("network", "layer", "parameters", "share"), rows)
    dense = [row for row in table.shown if row[0] == WORDS["2conv-dense"] and row[1] != "all"]
    most = max(dense, key=lambda row: int(row[2].replace(",", "")))
    return Found(
        answer=f"{totals['2conv']:,} without and {totals['2conv-dense']:,} with the dense layer, which holds most: {most[2]}, "
        f"{most[3]} of all. With four convolutions it sees smaller maps: {totals['4conv-dense']:,}. It has a weight for each pixel of each map, a convolution only for each pixel of its filter.",
        ours=", ".join(f"{total:,}" for total in totals.values()),
        evidence=(table,),
        agrees=totals == PUBLISHED_PARAMETERS,
        why="" if totals == PUBLISHED_PARAMETERS else "The table shows the layers that differ.",
        values={WORDS[name]: total for name, total in totals.items()} | {"share of the largest layer": most[3]},
    )


# %% [markdown]
# ## Dropout and class weights


# %%
@question(
    "What do dropout and class weights change?",
    published="55.1 % and 54.6 %, against 54.4 %",
    asks=("dropout, points on val", "class weights, points on val"),
)
def regularized(book: Book) -> Found:
    base = trained(book, "2conv-dense")
    rows: list[tuple[Any, ...]] = [(WORDS["2conv-dense"], test_accuracy(book, "2conv-dense"), None, None, None)]
    for name in ("dropout", "class-weights"):
        pair = opsin.compare(base, trained(book, name)).pairs[0]
        ends = (f"{100 * pair.low:+.1f}", f"{100 * pair.high:+.1f}")
        rows.append((WORDS[name], test_accuracy(book, name), f"{100 * pair.difference:+.1f}", *ends))
    columns = ("network", "test", "difference on val, points", "lowest", "highest")
    table = book.table("regularized", "Against two convolutions, dense 50; paired over val, one seed", columns, rows)
    told = [f"{row[2]} points ({row[3]} to {row[4]})" for row in table.shown[1:]]
    shown = [row[0] for row in rows[1:] if float(row[3]) > 0 or float(row[4]) < 0]
    scores = [(test_accuracy(book, name), PUBLISHED[name]) for name in ("dropout", "class-weights")]
    return Found(
        answer=f"Dropout changes the accuracy on val by {told[0]}, class weights by {told[1]}. The interval leaves "
        f"zero out for: {'; '.join(shown) or 'neither'}. It is over images: with other seeds it may be otherwise.",
        ours=f"{table.shown[1][1]} and {table.shown[2][1]}, against {table.shown[0][1]}",
        values={"dropout, points on val": rows[1][2], "class weights, points on val": rows[2][2]},
        evidence=(table, base, trained(book, "dropout"), trained(book, "class-weights")),
        **agreement(book, scores),
    )


# %% [markdown]
# ## Turned images
#
# Measured on val, so that test stays opened once.


# %%
@question(
    "What becomes of the accuracy when the images are rotated by 90 degrees?",
    published="22.2 %",
    asks=("upright, on val", "rotated, on val"),
)
def rotated(book: Book) -> Found:
    card = opsin.robustness(trained(book, "2conv-dense"), split="val", changes=("rotation",), root=book.root)
    cells = card.curves[0].cells
    upright = trained(book, "2conv-dense").scores["val"]["accuracy"]
    rows = [(0.0, upright), *((cell.strength, cell.score) for cell in cells)]
    title = f"Accuracy on val under rotation, {WORDS['2conv-dense']}"
    table = book.table("rotated", title, ("degrees, clockwise", "accuracy"), rows)
    quarter = next(score for angle, score in rows if angle == 90)
    told = table.shown[[row[0] for row in rows].index(90)][1]
    falls = quarter.high < upright.low
    verdict = "no layer is indifferent to rotation, no image in train was turned" if falls else "the intervals overlap"
    return Found(
        answer=f"With {WORDS['2conv-dense']}: {table.shown[0][1]} upright, {told} after a quarter turn: {verdict}.",
        ours=told,
        values={"upright, on val": upright, "rotated, on val": quarter},
        evidence=(table, trained(book, "2conv-dense")),
        **agreement(book, [(quarter, 0.222)]),
    )


@question("Which images are misclassified?", asks=("wrong on val, with dropout",))
def misclassified(book: Book) -> Found:
    run = trained(book, "dropout")
    wrong, of, pictures = mistakes(run, book.root)
    table = book.table("mistakes", "Mistakes on val", ("network", "wrong", "of"), [(WORDS["dropout"], wrong, of)])
    figure = book.pictures("mistaken", "The most confident mistakes: true class, and what it said", pictures)
    return Found(
        answer=f"With {WORDS['dropout']}, {wrong:,} of {of:,} on val; the figure shows the most confident, by class.",
        evidence=(table, figure, run),
        values={"wrong on val, with dropout": wrong},
    )


# %%
LAB = Lab(
    name="cifar10-cnn",
    title="A CNN for CIFAR-10",
    words="A small CNN changed step by step: layers, dropout, class weights; gap, parameters, rotated and mistaken images.",
    questions=(class_counts, networks, gap, parameters, regularized, rotated, misclassified),
    needs="cifar10 (binary version, 162 MB)",
    networks=lambda book: [trained(book, name) for name in RECIPES],
    minutes=(1.4, None),
)
