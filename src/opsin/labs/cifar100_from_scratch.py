# %% [markdown]
# # CIFAR-100 from scratch
#
# A small CNN is changed step by step, one idea at a time, and each step is compared with the one before on the same images.
# Then: fine-tuning on larger images with blocks frozen, an ensemble against its members, and whether a network that learns
# more classes learns them worse.
#
# The quick form takes coloured shapes that the code draws: ten fine classes, five coarse ones.

# %%
from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.shapes import write_shapes
from opsin.labs.steps import REPAIRED, accuracies, by_id, in_points, most, paired, steps_table, told

START: dict[str, Any] = {"model": "plain", "filters": (64, 128, 256), "dense": (), "global_pool": True}
START |= {"optimizer": "adamw", "lr": 0.002, "schedule": "constant", "warmup": 0.0, "batch_norm": False}
START |= {"label_smoothing": 0.0, "flip": 0.0, "shift": 0}
STEPS: dict[str, dict[str, Any]] = {
    "start": {},
    "batch norm": {"batch_norm": True},
    "a residual convolution in each block": {"second_conv": "residual"},
    "mirrored and shifted images": {"flip": 0.5, "shift": 4},
    "a rate that rises and falls": {"schedule": "one-cycle", "lr": 0.005},
    "half as long again, with early stopping": {"patience": 3},
    "separable convolutions": {"separable": True},
}
"""What each step changes in the settings of the step before; from early stopping on there are more epochs, too."""
*_, LAST, SEPARABLE = STEPS
"""The network that the other questions are about, and a last idea that saves work rather than mistakes."""
SEEDS = (0, 1, 2)
QUICK: dict[str, Any] = {"epochs": 6, "batch_size": 32, "precision": "float32", "channels_last": False}
FULL: dict[str, Any] = {"subset": "train=20000", "epochs": 8, "batch_size": 128, "input_size": 32}
NARROW: dict[str, Any] = {"filters": (16, 32, 64)}
"""Of the quick form."""

# %% [markdown]
# ## Runs
#
# Steps are judged on val alone. Test is opened once for each network that is reported in the end.


# %%
def trained(book: Book, step: str = LAST, *, seed: int = 0, level: str = "fine") -> opsin.Run:
    place = list(STEPS).index(step)
    settings: dict[str, Any] = START | {"seed": seed, "stratify": False, "preflight": not book.quick}
    for repair in list(STEPS.values())[: place + 1]:
        settings |= repair
    settings |= (NARROW | QUICK) if book.quick else FULL
    if step in (LAST, SEPARABLE):
        settings |= {"epochs": settings["epochs"] * 3 // 2, "open_test": step == LAST}
    name = f"step-{place}" + (f"-seed-{seed}" if seed else "") + ("" if level == "fine" else f"-{level}")
    return on(book, name, level, **settings)


def on(book: Book, name: str, level: str, **settings: Any) -> opsin.Run:
    """A run on the labels of this level; without strata, so that both levels share their splits."""
    if not book.quick:
        return book.train("cifar100", name=name, label_level=level, **settings)
    coloured = level == "fine"
    data = write_shapes(book.folder / f"{level}.npz", 900, num_test=200, side_px=16, coloured=coloured)
    return book.train(data, name=name, **settings)


def enlarged(book: Book) -> opsin.Run:
    """The last step's network on larger images: its lower blocks frozen, the last one and the head trained on."""
    before = trained(book)
    side = 24 if book.quick else 48
    settings: dict[str, Any] = {"weights": str(before.path), "finetune": "top:2", "head_start": True, "lr": 0.0005}
    settings |= {"seed": 0, "open_test": True, "stratify": False, "flip": 0.5, "shift": 4, "input_size": side}
    settings |= QUICK if book.quick else FULL | {"epochs": 4, "input_size": side}
    return on(book, "enlarged", "fine", **settings)


def every(book: Book) -> None:
    for step in STEPS:
        trained(book, step)
    for seed in SEEDS:
        trained(book, seed=seed)
    enlarged(book)
    trained(book, level="coarse")


# %% [markdown]
# ## One idea at a time


# %%
@question("What does each idea bring?", asks=REPAIRED)
def ideas(book: Book) -> Found:
    runs = {step: trained(book, step) for step in STEPS}
    table = steps_table(book, "steps", "Each step less the one before, paired over val", runs)
    rows = [(step, run.summary.parameters, len(run.epochs), f"{run.summary.seconds:.0f}") for step, run in runs.items()]
    columns = ("step", "parameters", "epochs", "seconds of training")
    costs = book.table("costs", "What each step costs", columns, rows, "On the wall, beside whatever else ran.")
    shown = {step: runs[step] for step in ("start", "batch norm", LAST)}
    curves = book.curves("steps", "Accuracy on val", shown, "accuracy")
    return Found(
        answer=f"Better: {told(table, 'better')}. Worse: {told(table, 'worse')}. From {table.shown[0][1]} on val at the start to "
        f"{table.shown[-2][1]}; separable convolutions then take {costs.shown[-1][1]} parameters instead of {costs.shown[-2][1]}.",
        evidence=(table, costs, curves, *runs.values()),
        values=most(table),
    )


@question("Did early stopping stop, and which epoch was kept?", asks=("epochs trained", "best epoch on val"))
def stopping(book: Book) -> Found:
    run = trained(book)
    values = [epoch.val["accuracy"] for epoch in run.epochs]
    best, allowed = int(np.argmax(values)), run.config.train.epochs
    rows = [
        ("epochs allowed", str(allowed)),
        ("epochs trained", str(len(values))),
        ("best epoch on val", str(best + 1)),
    ]
    ends = {"best": opsin.Score(values[best]), "last": opsin.Score(values[-1])}
    rows += [(f"accuracy on val in the {which} epoch", score) for which, score in ends.items()]
    table = book.table("stopping", "Early stopping", ("what", "value"), rows)
    said = [row[1] for row in table.shown]
    whys = {"minutes": "the budget of minutes ended it", "early": "it stopped"}
    why = whys.get(run.summary.stopped or "", "it was through")
    return Found(
        answer=f"After {said[1]} of {said[0]} epochs {why}; it kept epoch {said[2]}.",
        evidence=(table, run),
        values=dict(rows[1:3]),
    )


# %% [markdown]
# ## Larger images, blocks frozen


# %%
@question(
    "What does fine-tuning on larger images bring, with the lower blocks frozen?",
    asks=("points on val", "parameters trained"),
)
def larger(book: Book) -> Found:
    runs = {"as trained": trained(book), "fine-tuned on larger images": enlarged(book)}
    table = steps_table(book, "larger", "The same network, fine-tuned on larger images; paired over val", runs)
    rows = [(what, run.preprocess().size.height, run.summary.trainable) for what, run in runs.items()]
    columns = ("network", "side of the input, pixels", "parameters trained")
    sizes = book.table("sizes", "What was trained", columns, rows)
    row = table.shown[1]
    return Found(
        answer=f"{row[3]} points on val ({row[4]} to {row[5]}), from images of {sizes.shown[1][1]} pixels instead of "
        f"{sizes.shown[0][1]}. The pictures are the same, enlarged: there is no more in them, but the last maps are finer.",
        evidence=(table, sizes, *runs.values()),
        values={"points on val": row[3], "parameters trained": rows[1][2]},
    )


# %% [markdown]
# ## An ensemble
#
# Its weights are chosen on val, so it is judged on test, which is opened for it once.


# %%
@question("Is the ensemble better than its members?", asks=("the ensemble, on test", "points to the best member"))
def ensemble(book: Book) -> Found:
    members = [trained(book, seed=seed) for seed in SEEDS]
    together = combined(book, members)
    rows = [(f"member, seed {seed}", *accuracies(run)) for seed, run in zip(SEEDS, members, strict=True)]
    rows.append(("ensemble", *accuracies(together)))
    table = book.table("ensemble", "Members and ensemble", ("network", "val", "test"), rows)
    best = max(members, key=lambda run: run.scores["val"]["accuracy"].value)
    pair = paired(best, together, split="test")
    title = "The ensemble less the member that is best on val, paired over test"
    compared = book.table("ensemble_paired", title, ("points on test", "lowest", "highest", "shown"), [pair])
    return Found(
        answer=f"{table.shown[-1][2]} of test: {pair[0]} points ({pair[1]} to {pair[2]}) against the member that is best on val.",
        evidence=(table, compared, together, *members),
        values={"the ensemble, on test": rows[-1][2], "points to the best member": pair[0]},
    )


def combined(book: Book, members: list[opsin.Run]) -> opsin.Run:
    """The members' average, with test opened for it."""
    run = book.derived("ensemble", partial(opsin.ensemble, *members, kind="average"))
    if "test" not in run.scores:
        opsin.evaluate(run, split="test", root=book.root)
    return book.derived("ensemble", opsin.ensemble)


# %% [markdown]
# ## More classes?
#
# The same images have a fine and a coarse label. One network learns the fine ones, one the coarse ones, on the same splits.
# The first can answer coarse questions too: the probability of a coarse class is the sum over its fine ones.


# %%
@question(
    "Are more classes harder, and do fine labels help with the coarse ones?",
    asks=("fine labels, on val", "coarse labels, on val", "coarse, by sums of fine ones, on val"),
)
def more_classes(book: Book) -> Found:
    fine, coarse = trained(book), trained(book, level="coarse")
    (ids, said, truth), (fine_ids, fine_said, fine_truth) = by_id(coarse), by_id(fine)
    if ids != fine_ids:
        raise opsin.DataError("the two levels do not share their splits", where=fine.path, expected=str(coarse.path))
    parent = np.zeros(fine_said.shape[1], np.int64)
    parent[fine_truth] = truth
    summed = np.stack([fine_said[:, parent == label].sum(1) for label in range(said.shape[1])], axis=1)
    direct, through = said.argmax(1) == truth, summed.argmax(1) == truth
    rows = [
        ("fine labels", fine_said.shape[1], "fine", fine.scores["val"]["accuracy"]),
        ("coarse labels", said.shape[1], "coarse", coarse.scores["val"]["accuracy"]),
        ("fine labels", fine_said.shape[1], "coarse, by sums", opsin.Score(float(through.mean()))),
    ]
    table = book.table("classes", "Accuracy on val", ("learned from", "outputs", "asked for", "val"), rows)
    points = in_points(through.astype(float) - direct)
    title = "Coarse answers by a network of fine labels less those by one of coarse labels, paired over val"
    compared = book.table("classes_paired", title, ("difference, points", "lowest", "highest"), [points])
    values = [row[3] for row in table.shown]
    helped = "they help" if float(points[1]) > 0 else "they hurt" if float(points[2]) < 0 else "no difference is shown"
    harder = fine.scores["val"]["accuracy"].high < coarse.scores["val"]["accuracy"].low
    return Found(
        answer=f"{'More classes are the harder question' if harder else 'Not shown to be harder here'}: {values[0]} with "
        f"{rows[0][1]}, {values[1]} with {rows[1][1]}. Asked for coarse classes, the network of fine labels reaches {values[2]}, "
        f"{points[0]} points ({points[1]} to {points[2]}) from that of coarse labels: {helped}.",
        evidence=(table, compared, fine, coarse),
        values=dict(zip(more_classes.asks, (row[3] for row in rows), strict=True)),
    )


# %%
LAB = Lab(
    name="cifar100-from-scratch",
    title="CIFAR-100 from scratch",
    words="One idea at a time; larger images with blocks frozen; an ensemble; fine against coarse classes.",
    questions=(ideas, stopping, larger, ensemble, more_classes),
    needs="cifar100 (binary version, 161 MB)",
    networks=every,
    minutes=(0.8, None),
)
