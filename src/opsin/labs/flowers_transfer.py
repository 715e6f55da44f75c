# %% [markdown]
# # Flowers by transfer
#
# A course trains a pretrained network on 3,670 photos of five kinds of flowers and reaches 68.1 %. Its recipe has a head of
# ten outputs for five classes, a learning rate of 0.15, and a decay of that rate with every step. The recipe is replayed
# here, then repaired one step at a time; each step is compared with the one before on the same photos.
#
# The quick form takes shapes of five kinds that the code draws, and the same pretrained network.

# %%
from __future__ import annotations

from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import agreement
from opsin.labs.shapes import write_shapes
from opsin.labs.steps import AFTER, MISTAKEN, REPAIRED, before_and_after, repairs, still_mistaken

PUBLISHED = 0.681
NETWORK: dict[str, Any] = {"model": "efficientnet_lite0", "weights": "package"}
COURSE: dict[str, Any] = {
    "unused_classes": 5,
    "optimizer": "sgd",
    "lr": 0.15,
    "momentum": 0.9,
    "rate_decay": 0.01,
    "schedule": "constant",
    "train_norms": True,
    "label_smoothing": 0.0,
    "shift": 0,
    "flip": 0.5,
    "crop_area": 0.7,
}
QUICK: dict[str, Any] = {"input_size": 48, "epochs": 1, "batch_size": 16, "precision": "float32", "preflight": False}
FULL: dict[str, Any] = {"input_size": 96, "epochs": 4, "batch_size": 32}
REPAIRS: dict[str, dict[str, Any]] = {
    "as published": {},
    "five outputs": {"unused_classes": 0},
    "rate 0.005": {"lr": 0.005},
    "rate falls to zero at the end": {"rate_decay": 0.0, "schedule": "one-cycle"},
    "head fitted before the first epoch": {"head_start": True},
    "batch norms stay as pretrained": {"train_norms": False},
    "AdamW, 0.0005": {"optimizer": "adamw", "lr": 0.0005, "backbone_lr": 0.5},
}
"""What each step changes in the settings of the step before."""

# %% [markdown]
# ## Runs
#
# All train the whole network, with the same seed and split. Test is opened once for each run.


# %%
def settings_of(step: str) -> dict[str, Any]:
    """The course's settings with all repairs up to this step."""
    settings = NETWORK | COURSE
    for name, change in REPAIRS.items():
        settings |= change
        if name == step:
            break
    return settings


def trained(book: Book, step: str) -> opsin.Run:
    common: dict[str, Any] = {"finetune": "all", "seed": 0, "open_test": True} | settings_of(step)
    name = f"step-{list(REPAIRS).index(step)}"
    if book.quick:
        return book.train(write_shapes(book.folder / "shapes.npz", 240), name=name, **common, **QUICK)
    return book.train("flowers", name=name, **common, **FULL)


def frozen(book: Book) -> opsin.Run:
    """The recipe as published, but with the head alone trained, on features that are computed once."""
    same = {"finetune": "head", "seed": 0, "open_test": True, "train_norms": False, "flip": 0.0, "crop_area": 1.0}
    settings = NETWORK | COURSE | same | (QUICK if book.quick else FULL)
    data = write_shapes(book.folder / "shapes.npz", 240) if book.quick else "flowers"
    return book.train(data, name="head-alone", **settings)


def ladder(book: Book) -> dict[str, opsin.Run]:
    return {step: trained(book, step) for step in REPAIRS}


# %% [markdown]
# ## How many outputs?


# %%
@question(
    "How many classes are there, and how many outputs did the course give its head?",
    asks=("classes", "outputs", "images of val put into an unused class"),
)
def outputs(book: Book) -> Found:
    wrong, right = trained(book, "as published"), trained(book, "five outputs")
    dataset = opsin.dataset_of(right, book.root)
    counts = dataset.counts()
    rows = [(name, *(counts[split][label] for split in counts)) for label, name in enumerate(dataset.classes)]
    table = book.table("classes", "Images of each class", ("class", *counts), rows)
    said = wrong.predictions("val")["probabilities"]
    shares = said[:, len(dataset.classes) :].sum(axis=1)
    heads: list[tuple[str, opsin.Score | str]] = [
        ("outputs of the course's head", str(said.shape[1])),
        ("classes", str(len(dataset.classes))),
        ("probability given to unused outputs on val, mean", opsin.Score(float(shares.mean()))),
        (
            "images of val put into an unused class",
            opsin.Score(float((said.argmax(axis=1) >= len(dataset.classes)).mean())),
        ),
    ]
    head = book.table("head", "The head of ten outputs, after training", ("what", "value"), heads)
    values = [row[1] for row in head.shown]
    return Found(
        answer=f"{values[1]} classes, {values[0]} outputs. Those that no label asks for are soon pushed down: after training they "
        f"hold {values[2]} of the probability on val, and {values[3]} of its images are put there.",
        evidence=(table, head, wrong, right),
        values=dict(
            zip(
                ("outputs", "classes", "images of val put into an unused class"),
                [heads[i][1] for i in (0, 1, 3)],
                strict=True,
            )
        ),
    )


# %% [markdown]
# ## The published recipe, replayed
#
# What the published code does besides is not known. It is read in two ways: the whole network is trained, with batch norms
# that follow the new photos, or the head alone.


# %%
@question(
    "What do the mistakes of the published recipe give?",
    published="68.1 %",
    asks=("the whole network, on test", "the head alone, on test"),
)
def replayed(book: Book) -> Found:
    runs = {"the whole network": trained(book, "as published"), "the head alone": frozen(book)}
    scores = {what: run.scores["test"]["accuracy"] for what, run in runs.items()}
    counts = opsin.dataset_of(runs["the head alone"], book.root).counts().values()
    largest = max(map(sum, zip(*counts, strict=True))) / sum(map(sum, counts))
    rows: list[Any] = [(what, run.scores["val"]["accuracy"], scores[what]) for what, run in runs.items()]
    rows.append(("guessing: share of the largest class", opsin.Score(largest), opsin.Score(largest)))
    columns = ("what is trained", "val", "test")
    table = book.table("replayed", "The recipe as published, read in two ways", columns, rows)
    curves = book.curves("replayed", "Accuracy on val", runs, "accuracy")
    values = [row[2] for row in table.shown]
    verdict = agreement(book, [(scores["the head alone"], PUBLISHED)])
    if verdict["agrees"] is False and scores["the whole network"].high < PUBLISHED < scores["the head alone"].low:
        why = "The published figure lies between the two readings: rate and decay spoil pretrained layers, where they are trained, "
        verdict |= {"above": False, "why": f"{why}and a head on frozen features bears them."}
    return Found(
        answer=f"{values[0]} of test where the whole network is trained, {values[1]} where the head alone is; guessing gives {values[2]}.",
        ours=f"{values[0]} and {values[1]}",
        evidence=(table, curves, *runs.values()),
        values={f"{what}, on test": score for what, score in scores.items()},
        **verdict,
    )


# %% [markdown]
# ## Repaired, one step at a time


# %%
@question("What does each repair bring?", asks=REPAIRED)
def repaired(book: Book) -> Found:
    return repairs(book, ladder(book), drawn=("as published", "rate 0.005", list(REPAIRS)[-1]))


@question("How good is the repaired recipe, on photos that nothing was chosen by?", published="68.1 %", asks=AFTER)
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
    name="flowers-transfer",
    title="Flowers by transfer",
    words="A published recipe with three mistakes (ten outputs for five classes, rate 0.15, its decay), replayed and repaired.",
    questions=(outputs, replayed, repaired, after, mistaken),
    needs="flowers (228 MB)",
    networks=lambda book: (ladder(book), frozen(book)),
    minutes=(0.7, None),
)
