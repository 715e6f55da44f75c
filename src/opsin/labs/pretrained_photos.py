# %% [markdown]
# # A pretrained network looks at photos
#
# A network that was trained on ImageNet's 1,000 classes says what five photos show. How certain is it, and may one believe
# that? How many layers and parameters has such a network, and how large would the Hessian of its loss be?
#
# The quick form takes photos that come with packages; they have no labels of ImageNet. With `--full` and a root, photos whose
# names begin with the number of their class, as in `imagenet_photos/207_golden_retriever.jpg`, and beside EfficientNet-Lite0
# whatever weights lie in `weights/`.

# %%
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import calibration, classes_of, sample_photos, thumbnail

NETWORK = "efficientnet_lite0"
NUM_PHOTOS, NUM_TOP = 5, 3
COUNTED = ("resnet50", "efficientnet_lite0", "mobilenet_v2", "vgg16")
PUBLISHED_LAYERS = 53

# %% [markdown]
# ## Five photos


# %%
def photos(book: Book) -> list[tuple[str, Path]]:
    """Captions and files: those of packages, or every photo under the root, the five that are shown first."""
    if book.quick or book.root is None:
        return sample_photos(book.folder / "photos")
    files = sorted(Path(book.root, "imagenet_photos").glob("*.jpg"))
    shown = files[:: max(1, len(files) // NUM_PHOTOS)][:NUM_PHOTOS]
    files = [*shown, *(file for file in files if file not in shown)]
    return [(f"photo {number}", file) for number, file in enumerate(files, 1)]


def networks(book: Book) -> dict[str, dict[str, Any]]:
    """Pretrained networks by name, with what `opsin.predict` must know of their weights."""
    found: dict[str, dict[str, Any]] = {NETWORK: {}}
    weights = (
        None if book.quick or book.root is None else Path(book.root, "weights", "mobilenet_v2_imagenet.safetensors")
    )
    return found | ({"mobilenet_v2": {"weights": str(weights)}} if weights is not None and weights.is_file() else {})


def said(book: Book, network: str) -> list[list[tuple[str, float]]]:
    """What a network says of each photo: its likeliest classes with their probabilities."""

    def answers() -> list[Any]:
        files = [file for _, file in photos(book)]
        return [answer.top[:NUM_TOP] for answer in opsin.predict(network, files, **networks(book)[network])]

    found: list[list[tuple[str, float]]] = book.once(f"answers of {network}", answers)
    return found


@question(
    "What does the network say of five photos, and how certain is it?", asks=("first photo, top 1", "its probability")
)
def five_photos(book: Book) -> Found:
    answers, shown = said(book, NETWORK)[:NUM_PHOTOS], photos(book)[:NUM_PHOTOS]
    truth = [classes_of(file) for _, file in shown]
    rows = [
        (caption, true or "–", *(part for label, share in top for part in (label, opsin.Score(share))))
        for (caption, _), true, top in zip(shown, truth, answers, strict=True)
    ]
    columns = (
        "photo",
        "its class",
        *(part for n in range(1, NUM_TOP + 1) for part in (f"top {n}", f"probability {n}")),
    )
    table = book.table("top", f"The likeliest {NUM_TOP} classes of {NETWORK}", columns, rows)
    pictures = [(f"{name}: {top[0][0]}", thumbnail(file)) for (name, file), top in zip(shown, answers, strict=True)]
    figure = book.pictures("photos", "The photos, and what the network says", pictures)
    certain = sorted(range(len(rows)), key=lambda row: -answers[row][0][1])
    most, least = table.shown[certain[0]], table.shown[certain[-1]]
    return Found(
        answer=f"Most certain of {most[0]}: {most[2]} with {most[3]}. Least of {least[0]}: {least[2]} with {least[3]}, before {least[4]} with {least[5]}.",
        evidence=(table, figure),
        values={"first photo, top 1": rows[0][2], "its probability": rows[0][3]},
    )


# %% [markdown]
# ## May one believe it?
#
# Calibrated means: of all answers given with 80 %, 80 % are right. That takes labels, and more than five photos.


# %%
@question("How well is the network calibrated?", asks=("mean of its first probability",))
def calibrated(book: Book) -> Found:
    truth = [classes_of(file) for _, file in photos(book)]
    labelled = [place for place, label in enumerate(truth) if label]
    rows: list[tuple[Any, ...]] = []
    for network in networks(book):
        answers = said(book, network)
        sure = np.array([top[0][1] for top in answers])
        if labelled:
            right = np.array([top[0][0] == label for top, label in zip(answers, truth, strict=True)])
            among = sum(label in [name for name, _ in top] for top, label in zip(answers, truth, strict=True))
            rows.append((network, len(labelled), *calibration(sure, right), opsin.Score(among / len(labelled))))
        else:
            rows.append((network, len(labelled), opsin.Score(float(sure.mean())), None, None, None))
    columns = (
        "network",
        "photos with a label",
        "mean probability",
        "top 1 right",
        "calibration error",
        f"among the top {NUM_TOP}",
    )
    note = (
        "Photos of ImageNet's training images, which the networks may have seen: no score of theirs."
        if labelled
        else "No labels."
    )
    table = book.table("calibration", "What it promises, and what it keeps", columns, rows, note)
    first = table.shown[0]
    return Found(
        answer=f"It promises {first[2]} and keeps {first[3]} on {first[1]} photos; the expected calibration error is {first[4]}. "
        "So few photos leave a wide interval."
        if labelled
        else f"Its mean probability is {first[2]}; without labels nobody knows how many of its answers are right. The full form tells.",
        evidence=(table,),
        values={"mean of its first probability": rows[0][2]},
    )


# %% [markdown]
# ## Layers and parameters


# %%
def counted(book: Book) -> dict[str, list[int]]:
    """By network: convolutional layers, those of shortcuts among them, and parameters that training changes."""

    def count(name: str) -> list[int]:
        layers = opsin.plan(name, num_outputs=1000, timed=False).layers
        convolutions = [row.name for row in layers.rows if row.kind.endswith("Conv2d")]
        return [len(convolutions), sum("shortcut" in part for part in convolutions), layers.trainable]

    found: dict[str, list[int]] = book.once("counts", lambda: {name: count(name) for name in COUNTED})
    return found


@question(
    "How many convolutional layers and parameters has such a network?",
    published="ResNet-50: 53 convolutional layers with those of the shortcuts",
    asks=("convolutional layers of ResNet-50", "its parameters"),
)
def layers(book: Book) -> Found:
    rows: list[tuple[Any, ...]] = [(name, *counts) for name, counts in counted(book).items()]
    columns = ("network", "convolutional layers", "of them in shortcuts", "parameters")
    table = book.table("layers", "Counted in the networks themselves, 1,000 classes", columns, rows)
    told = table.shown[0]
    return Found(
        answer=f"ResNet-50 has {told[1]} convolutional layers, {told[2]} of them in shortcuts, and {told[3]} parameters; its name counts the "
        f"others and the dense layer. {NETWORK} has {table.shown[1][1]} and {table.shown[1][3]}.",
        ours=f"{told[1]} convolutional layers",
        evidence=(table,),
        agrees=rows[0][1] == PUBLISHED_LAYERS,
        why="" if rows[0][1] == PUBLISHED_LAYERS else "The table shows what was counted.",
        values={"convolutional layers of ResNet-50": rows[0][1], "its parameters": rows[0][3]},
    )


# %% [markdown]
# ## The Hessian
#
# Second derivatives of the loss: one number for each pair of parameters. Newton's method would need all of them.


# %%
@question(
    "How large is the Hessian of the loss of such a network?",
    asks=("entries for ResNet-50, in units of 10^12", "petabytes in float32"),
)
def hessian(book: Book) -> Found:
    rows: list[tuple[Any, ...]] = []
    for name, (*_, parameters) in counted(book).items():
        rows.append((name, parameters, parameters**2 / 1e12, 4 * parameters**2 / 1e15, 4 * parameters / 1e6))
    columns = ("network", "parameters", "entries, 10^12", "petabytes in float32", "MB of a gradient")
    table = book.table(
        "hessian",
        "The square of the number of parameters",
        columns,
        rows,
        "Half of it by symmetry, and still too much.",
    )
    first = table.shown[0]
    return Found(
        answer=f"ResNet-50: {first[1]} squared, {first[2]} x 10^12 entries, {first[3]} petabytes in float32. A gradient takes {first[4]} MB: "
        "so networks are trained by first derivatives.",
        evidence=(table,),
        values={"entries for ResNet-50, in units of 10^12": rows[0][2], "petabytes in float32": rows[0][3]},
    )


# %%
LAB = Lab(
    name="pretrained-photos",
    title="A pretrained network looks at photos",
    words="The likeliest classes of five photos, how certain and how well calibrated; layers, parameters, and the size of the Hessian.",
    questions=(five_photos, calibrated, layers, hessian),
    needs="photos named by their class in imagenet_photos/, weights in weights/, under --root",
    minutes=(0.9, 1.0),
)
