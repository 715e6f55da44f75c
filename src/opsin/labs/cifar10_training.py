# %% [markdown]
# # Training a CNN for CIFAR-10
#
# The network of `cifar10-cnn` with two convolutions and a dense layer, on the same 10,000 images, or in the quick form on digits:
# batch sizes, a search, augmentation, a validation figure that flatters, and other sizes of image.

# %%
from __future__ import annotations

from functools import partial
from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import accuracy_on, agreement, quarter_turned, step_costs
from opsin.labs.steps import accuracies, configurations, paired

BATCH_SIZES = (1, 10, 100, 1_000, 10_000)
TRIED = configurations(
    {"lr": 0.01, "batch_size": 100, "filters": (16, 32), "dense": (50,), "dense_dropout": 0.0},
    {"lr": (0.0005, 0.001, 0.003, 0.01), "batch_size": (25, 50, 100), "filters": ((16, 32), (32, 64), (16, 32, 64))}
    | {"dense": ((50,), (100,)), "dense_dropout": (0.0, 0.25, 0.5)},
    num=8,
)
"""Settings of the trials by their words: the course's, and others drawn at random from the choices."""
TURNED = {"rotate": 30.0, "flip": 0.5, "flip_vertical": 0.5}
AUGMENTATIONS: dict[str, dict[str, Any]] = {"as they are": {}, "augmented": TURNED}
SIDES = {True: (12, 16, 24), False: (24, 32, 48)}  # in pixels, quick and full; the second is that of all other runs
EPOCHS = {"batch": 4, "trial": 4, "best": 20, "augment": 70, "side": 8, "any": 8}  # by what a run's name begins with

# %% [markdown]
# ## Runs
#
# The runs that are compared with a published figure open test, once each.


# %%
def trained(book: Book, name: str, **settings: Any) -> opsin.Run:
    common: dict[str, Any] = {"recipe": "course-2conv-dense", "seed": 0, "preflight": False}
    common |= {"precision": "float32", "channels_last": True}
    epochs = EPOCHS[name.partition("-")[0]]
    digits = {"subset": "train=1100,test=180", "input_size": 16, "epochs": 2 + epochs // 7, "batch_size": 25}
    form = digits if book.quick else {"epochs": epochs}
    return book.train("digits" if book.quick else "cifar10", name=name, **common | form | settings)


# %% [markdown]
# ## Batch size
#
# The same epochs for all, and no batch norm, which a batch of one image does not have. There an epoch has as many steps as images:
# only a part of them is used.


# %%
def batch_runs(book: Book) -> list[opsin.Run]:
    few = {"subset": "train=200,test=180" if book.quick else "train=2000,test=2000"}
    sizes = {size: few if size == 1 else {} for size in BATCH_SIZES}
    return [trained(book, f"batch-{size}", batch_size=size, batch_norm=False, **part) for size, part in sizes.items()]


@question(
    "What does the batch size change: time, accuracy, memory, use of the processor?",
    asks=("the fastest, images a step", "the most accurate on val, images a step"),
)
def batch_sizes(book: Book) -> Found:
    runs = batch_runs(book)
    images = [run.data.splits["train"].n for run in runs]
    rows = [step_costs(run, max(images)) for run in runs]
    columns = ("images a step", "steps", f"seconds for {max(images):,} images", "val", "MB of a step", "cores in use")
    note = f"""{runs[-1].summary.epochs} epochs at the same rate for all. One image a step: {images[0]:,} images only, and the time is scaled to {max(images):,}.
Memory is computed from the layers. Time and cores were measured, on a machine that may have been busy."""
    table = book.table("batch_sizes", "The same network with each batch size", columns, rows, note)
    labels = [f"{row[0]} a step" for row in table.shown]
    curves = book.curves("batch_sizes", "Accuracy on val", dict(zip(labels, runs, strict=True)), "accuracy")
    fastest = min(range(len(rows)), key=lambda place: rows[place][2])
    best = max(range(len(rows)), key=lambda place: rows[place][3].value)
    one, last, quick, good = (table.shown[place] for place in (0, -1, fastest, best))
    return Found(
        answer=f"{one[2]} s for an epoch with {one[0]} image a step, {quick[2]} s with {quick[0]}, the fastest; from {one[4]} to {last[4]} MB a step. "
        f"Best on val: {good[0]} a step, {good[3]}. All images at once leave {last[1]} steps to learn in: {last[3]}. A single image has the "
        f"noisiest gradient, and the rate is the same for all: {one[3]}.",
        evidence=(table, curves, *runs),
        values=dict(zip(batch_sizes.asks, (rows[fastest][0], rows[best][0]), strict=True)),
    )


# %% [markdown]
# ## Search
#
# Configurations are drawn at random, tried for few epochs, and chosen by val. The best is trained longer, keeps the epoch that is best
# on val, and opens test once. `opsin tune` tries as many as one likes, later ones by what it learned from earlier (with Optuna).


# %%
def trials(book: Book) -> dict[str, opsin.Run]:
    few = list(TRIED.items())[: 3 if book.quick else None]
    return {words: trained(book, f"trial-{place}", **one) for place, (words, one) in enumerate(few)}


def longer(book: Book) -> opsin.Run:
    return trained(book, "best", **TRIED[book.best(trials(book))], restore_best=True, open_test=True)


@question(
    "Which configuration is best, chosen on val, and how good is it on test?",
    published="54.6 %",
    asks=("of the best trial, on val", "trained longer, on test"),
)
def search(book: Book) -> Found:
    runs, last = trials(book), longer(book)
    tried = {**runs, "the best of them, longer": last}
    rows: list[tuple[Any, ...]] = [(name, run.summary.epochs, *accuracies(run)) for name, run in tried.items()]
    note = "One seed. The first configuration is the course's. The best of several scores flatters; test chose nothing."
    table = book.table("trials", "Configurations", ("configuration", "epochs", "val", "test"), rows, note)
    best, (_, epochs, on_val, on_test) = list(runs).index(book.best(runs)), table.shown[-1]
    return Found(
        answer=f"{table.shown[best][0]}: {table.shown[best][2]} on val. Trained for {epochs} epochs, {on_val} on val and {on_test} on test.",
        ours=on_test,
        evidence=(table, *runs.values(), last),
        values=dict(zip(search.asks, (rows[best][2], rows[-1][3]), strict=True)),
        **agreement(book, [(rows[-1][3], 0.546)]),
    )


# %% [markdown]
# ## Augmentation
#
# Images are rotated by up to 30 degrees and flipped, otherwise in each epoch, while the batches are put together: nothing is stored.
# Rotation by 90 degrees is measured on val, so that test is opened once.


# %%
def augmented(book: Book) -> dict[str, opsin.Run]:
    kept: dict[str, Any] = {"restore_best": True, "open_test": True}
    return {how: trained(book, f"augment-{len(change)}", **kept | change) for how, change in AUGMENTATIONS.items()}


@question(
    "What does augmentation bring, upright and rotated by 90 degrees?",
    published="59.3 % upright, 31.0 % rotated",
    asks=("upright, on test", "rotated, on val", "augmented less not, points on val"),
)
def augmentation(book: Book) -> Found:
    runs = augmented(book)
    rows: list[tuple[Any, ...]] = [(how, *accuracies(run), quarter_turned(run, book.root)) for how, run in runs.items()]
    columns = ("images of train", "val", "test", "val, rotated by 90 degrees")
    note = f"{runs['augmented'].summary.epochs} epochs, one seed; the epoch that is best on val is kept. Rotation by up to 30 degrees, flips."
    table = book.table("augmentation", "Accuracy with and without augmentation", columns, rows, note)
    ends = ("difference on val, points", "lowest", "highest", "shown")
    pair = book.table("augmented_less", "With less without, paired over val", ends, [paired(*runs.values())])
    curves = book.curves("augmentation", "Accuracy on val", runs, "accuracy")
    without, (_, _, test, turned), difference = *table.shown, pair.shown[0]
    return Found(
        answer=f"{test} of test, {without[2]} without; on val {difference[0]} points ({difference[1]} to {difference[2]}). Rotated by 90 degrees "
        f"{turned} of val, {without[3]} without: flips and rotations of up to 30 degrees do not make a quarter turn.",
        ours=f"{test} upright, {turned} rotated",
        evidence=(table, pair, curves, *runs.values()),
        values=dict(zip(augmentation.asks, (*rows[1][2:], difference[0]), strict=True)),
        **agreement(book, [(rows[1][2], 0.593), (rows[1][3], 0.310)]),
    )


# %% [markdown]
# ## A validation figure that flatters
#
# The generator that the course validates with draws from images that the network was trained on. The same networks are scored on
# images of train, as they are and augmented, and on val, of which they have seen none.


# %%
@question(
    "The course's validation says 83.9 %, its test 59.3 %: which images does it validate on?",
    published="83.9 %",
    asks=("augmented, on images of train", "augmented, on val", "train less val, points"),
)
def validation(book: Book) -> Found:
    rows: list[tuple[Any, ...]] = []
    for how, run in augmented(book).items():
        seen = accuracy_on(run, book.root, "train")
        again = accuracy_on(run, book.root, "train", augmented=TURNED)
        val = run.scores["val"]["accuracy"]
        rows.append((how, seen, again, val, f"{100 * (seen.value - val.value):+.1f}"))
    columns = ("trained on images", "train", "train, rotated and flipped", "val", "train less val, points")
    table = book.table("validation", "The same networks on images that they have seen, and on others", columns, rows)
    plain, (_, on_train, on_changed, on_val, gap) = table.shown
    return Found(
        answer=f"On images that the network has seen. Here the augmented one gets {on_train} of train ({on_changed} of train augmented) and {on_val} of val: "
        f"{gap} points. Without augmentation {plain[1]} and {plain[3]}: {plain[4]}. Only images that it was not trained on tell how good it is.",
        ours=on_train,
        evidence=(table, *augmented(book).values()),
        values=dict(zip(validation.asks, (rows[1][1], rows[1][3], gap), strict=True)),
        **agreement(book, [(rows[1][1], 0.839)]),
    )


# %% [markdown]
# ## Other sizes of image
#
# Networks trained on smaller and larger images; then networks trained on the size between, scored on others with the same weights.
# A dense layer over maps has a weight for each pixel; made a convolution, it answers at each place, and the answers are averaged.


# %%
def sized(book: Book) -> list[opsin.Run]:
    smaller, own, larger = SIDES[book.quick]
    runs = [trained(book, f"side-{side}", input_size=side) for side in (smaller, own, larger)]
    return [*runs, trained(book, "any-side", input_size=own, global_pool=True)]


def convolutional(book: Book) -> opsin.Run:
    """The network with a dense layer over its maps as one that takes larger images."""
    return book.derived("any-dense", partial(opsin.convert, sized(book)[1]))


@question(
    "What does another size of image change, and which network takes any?",
    asks=("parameters with the largest images", "global mean, on the largest", "dense layer, on the largest"),
)
def sizes(book: Book) -> Found:
    *runs, pooled = sized(book)
    rows = [(run.config.data.input_size, run.summary.parameters, run.scores["val"]["accuracy"]) for run in runs]
    columns = ("side of the images, pixels", "parameters", "val")
    table = book.table("sizes", f"Trained on images of each size, {pooled.summary.epochs} epochs", columns, rows)
    own, dense = SIDES[book.quick][1], convolutional(book)
    others: list[tuple[Any, ...]] = []
    for side in (3 * own // 4, own, 5 * own // 4, 3 * own // 2):
        convolved = "refused" if side < own else accuracy_on(dense, book.root, "val", side=side)
        others.append((side, accuracy_on(pooled, book.root, "val", side=side), convolved))
    columns = ("side of the images, pixels", "global mean", "dense layer, made a convolution")
    note = f"Trained on {own} pixels; {pooled.summary.parameters:,} parameters with the global mean, {rows[1][1]:,} without."
    other = book.table("any_size", "The same weights on each size, accuracy on val", columns, others, note)
    (small, *_, low), (large, most, high), last = table.shown[0], table.shown[-1], other.shown[-1]
    return Found(
        answer=f"Trained on {small} pixels {low} of val, on {large} {high}, with {most} parameters: the dense layer grows with the maps. After a global "
        f"mean it does not, and takes any size: {last[1]} on {last[0]} pixels; the dense layer, made a convolution, {last[2]}, and none smaller than its own.",
        evidence=(table, other, *runs, pooled, dense),
        values=dict(zip(sizes.asks, (rows[-1][1], *others[-1][1:]), strict=True)),
    )


# %%
LAB = Lab(
    name="cifar10-training",
    title="Training a CNN for CIFAR-10",
    words="For the CNN of cifar10-cnn: batch sizes, a search, augmentation, a validation figure that flatters, sizes of image.",
    questions=(batch_sizes, search, augmentation, validation, sizes),
    needs="cifar10 (binary version, 162 MB)",
    minutes=(6.7, None),
    networks=lambda book: [runs(book) for runs in (batch_runs, longer, augmented, sized)],
)
