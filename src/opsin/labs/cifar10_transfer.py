# %% [markdown]
# # MobileNetV2 on CIFAR-10
#
# A course trains MobileNetV2 with augmentation on CIFAR-10 and reaches 11.11 %, hardly more than guessing one of ten
# classes. Nothing in it reports an error: each of its mistakes trains, and says nothing. A recipe with the usual mistakes is
# replayed here, then repaired one step at a time; each step is compared with the one before on the same images.
#
# The quick form takes coloured shapes that the code draws, and EfficientNet-Lite0, whose blocks are MobileNetV2's.

# %%
from __future__ import annotations

from typing import Any

import opsin
from opsin.labs.backbones import weights_of
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import agreement
from opsin.labs.shapes import write_shapes
from opsin.labs.steps import AFTER, MISTAKEN, REPAIRED, before_and_after, repairs, still_mistaken

PUBLISHED = 0.1111
PACKAGED = "efficientnet_lite0"
COURSE: dict[str, Any] = {
    "weights_range": "raw",
    "preflight": False,  # it refuses pixels in a range that the weights do not expect
    "optimizer": "adam",
    "lr": 0.01,
    "schedule": "constant",
    "warmup": 0.0,
    "train_norms": True,
    "label_smoothing": 0.0,
    "flip": 0.5,
    "rotate": 15.0,
    "shift": 0,
}
QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 16, "precision": "float32"}
FULL: dict[str, Any] = {"subset": "train=8000,test=2000", "epochs": 2, "batch_size": 64}
REPAIRS: dict[str, dict[str, Any]] = {
    "as published": {},
    "pixels in the range that the weights expect": {"weights_range": None},
    "images enlarged": {},
    "rate 0.0005, falling to zero": {"lr": 0.0005, "schedule": "one-cycle"},
    "batch norms stay as pretrained": {"train_norms": False},
    "head fitted before the first epoch": {"head_start": True},
}
"""What each step changes in the settings of the step before; the size of the images is changed by `trained`."""

# %% [markdown]
# ## Runs
#
# All train the whole network, with the same augmentation, seed and images. Test is opened once for each run. The full form
# takes 8,000 training images and 2,000 of test, so that six trainings take minutes each.


# %%
def network(book: Book) -> dict[str, Any]:
    """MobileNetV2 where its weights are at hand, else the network that every installation brings."""
    start = None if book.quick else weights_of(book, "mobilenet_v2")
    return {"model": "mobilenet_v2", **start} if start else {"model": PACKAGED, "weights": "package"}


def trained(book: Book, step: str) -> opsin.Run:
    place = list(REPAIRS).index(step)
    start = network(book)
    settings: dict[str, Any] = start | COURSE | {"finetune": "all", "seed": 0, "open_test": True}
    for change in list(REPAIRS.values())[: place + 1]:
        settings |= change
    settings["weights_range"] = settings["weights_range"] or start.get("weights_range")
    enlarged = place >= list(REPAIRS).index("images enlarged")
    if book.quick:
        data = write_shapes(book.folder / "shapes.npz", 240, coloured=True)
        return book.train(data, name=f"step-{place}", input_size=48 if enlarged else 32, **settings, **QUICK)
    return book.train("cifar10", name=f"step-{place}", input_size=96 if enlarged else 32, **settings, **FULL)


def ladder(book: Book) -> dict[str, opsin.Run]:
    return {step: trained(book, step) for step in REPAIRS}


# %% [markdown]
# ## What the network is given
#
# Of the facts that are lost with a file of weights, two are numbers: the range of the pixels, and the size of the images.


# %%
@question(
    "What do the pretrained weights expect, and what did they get?",
    asks=("side of the last maps, as published", "side of the last maps, repaired"),
)
def contract(book: Book) -> Found:
    runs = {"as published": trained(book, "as published"), "repaired": trained(book, list(REPAIRS)[-1])}
    rows = [(what, network(book)["model"], *input_of(run)) for what, run in runs.items()]
    columns = ("run", "network", "side, pixels", "black pixel", "white pixel", "side of the last maps")
    table = book.table("input", "What the network sees", columns, rows)
    wrong, right = table.shown
    return Found(
        answer=f"They were trained with pixels from {right[3]} to {right[4]}, and got {wrong[3]} to {wrong[4]}. An image of "
        f"{wrong[2]} pixels leaves last maps of {wrong[5]} pixel a side, so that all places are one; enlarged to {right[2]}, "
        f"{right[5]} a side.",
        evidence=(table, *runs.values()),
        values={f"side of the last maps, {row[0]}": row[-1] for row in rows},
    )


def input_of(run: opsin.Run) -> tuple[int, str, str, int]:
    """Side of a run's input, what black and white become in it, and the side of the last maps."""
    contract = run.preprocess()
    side = contract.size.height
    ends = [f"{(end - contract.mean[0]) / contract.std[0]:.2f}" for end in contract.range]
    return side, ends[0], ends[1], -(-side // 32)


# %% [markdown]
# ## The published recipe, replayed
#
# What the published code does is not known; the recipe is our reading of it: raw pixels, images as small as they are, the
# whole network at a high rate, batch norms that follow the new images.


# %%
@question("What do such mistakes give?", published="11.11 %", asks=("on test", "guessing one of the classes"))
def replayed(book: Book) -> Found:
    run = trained(book, "as published")
    val, test = run.scores["val"]["accuracy"], run.scores["test"]["accuracy"]
    classes = len(opsin.dataset_of(run, book.root).classes)
    rows = [("val", val), ("test", test), (f"guessing one of {classes} classes", opsin.Score(1 / classes))]
    table = book.table("replayed", "Accuracy of the recipe as published", ("what", "accuracy"), rows)
    learned = [
        (epoch.epoch, opsin.Score(epoch.train["accuracy"]), opsin.Score(epoch.val["accuracy"])) for epoch in run.epochs
    ]
    epochs = book.table("epochs", "Epoch by epoch", ("epoch", "train, during the epoch", "val"), learned)
    values = [row[1] for row in table.shown]
    return Found(
        answer=f"{values[1]} of test, where guessing gives {values[2]}; {epochs.shown[-1][1]} of train during the last epoch.",
        ours=values[1],
        evidence=(table, epochs, run),
        values={"on test": test, "guessing one of the classes": rows[-1][1]},
        **agreement(book, [(test, PUBLISHED)]),
    )


# %% [markdown]
# ## Repaired, one step at a time


# %%
@question("What does each repair bring?", asks=REPAIRED)
def repaired(book: Book) -> Found:
    return repairs(book, ladder(book), drawn=("as published", "images enlarged", list(REPAIRS)[-1]))


@question("How good is the repaired recipe, on images that nothing was chosen by?", published="11.11 %", asks=AFTER)
def after(book: Book) -> Found:
    return before_and_after(book, trained(book, "as published"), trained(book, list(REPAIRS)[-1]), PUBLISHED)


# %% [markdown]
# ## What is still mistaken?


# %%
@question("Which images does the repaired network mistake?", asks=MISTAKEN)
def mistaken(book: Book) -> Found:
    return still_mistaken(book, trained(book, list(REPAIRS)[-1]))


# %%
LAB = Lab(
    name="cifar10-transfer",
    title="MobileNetV2 on CIFAR-10",
    words="A recipe that gives chance though it reports no error: pixel range, image size, rate and batch norms, repaired one by one.",
    questions=(contract, replayed, repaired, after, mistaken),
    needs="cifar10 (binary version, 162 MB); weights of MobileNetV2 in ROOT/weights or $OPSIN_WEIGHTS, else EfficientNet-Lite0",
    networks=ladder,
    minutes=(0.6, None),
)
