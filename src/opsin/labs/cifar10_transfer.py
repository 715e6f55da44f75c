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
from opsin.labs.measure import agreement, mistakes
from opsin.labs.shapes import write_shapes
from opsin.labs.steps import steps_table, told

PUBLISHED = 0.1111
PACKAGED = "efficientnet_lite0"
COURSE: dict[str, Any] = {
    "weights_range": "raw",
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
def network(book: Book) -> tuple[str, str]:
    """MobileNetV2 where its weights are at hand, else the network that is there in every installation; and its weights."""
    weights = None if book.quick else weights_of(book, "mobilenet_v2")
    return ("mobilenet_v2", weights) if weights else (PACKAGED, "package")


def trained(book: Book, step: str) -> opsin.Run:
    place = list(REPAIRS).index(step)
    settings: dict[str, Any] = COURSE | {"finetune": "all", "seed": 0, "open_test": True}
    for change in list(REPAIRS.values())[: place + 1]:
        settings |= change
    settings |= {"model": network(book)[0], "weights": network(book)[1]}
    enlarged = place >= list(REPAIRS).index("images enlarged")
    if book.quick:
        data = write_shapes(book.folder / "shapes.npz", 300, coloured=True)
        settings |= {"batch_size": 16, "epochs": 1, "precision": "float32", "preflight": False}
        return book.train(data, name=f"step-{place}", input_size=64 if enlarged else 32, **settings)
    settings |= {"subset": "train=8000,test=2000", "epochs": 2, "batch_size": 64}
    return book.train("cifar10", name=f"step-{place}", input_size=96 if enlarged else 32, **settings)


def ladder(book: Book) -> dict[str, opsin.Run]:
    return {step: trained(book, step) for step in REPAIRS}


# %% [markdown]
# ## What the network is given
#
# Of the three facts that are lost most often with a file of weights, two are numbers: the range of the pixels and the size.


# %%
@question("What do the pretrained weights expect, and what did they get?")
def contract(book: Book) -> Found:
    model, _ = network(book)
    first, last = trained(book, "as published"), trained(book, list(REPAIRS)[-1])
    rows = []
    for what, run in {"as published": first, "repaired": last}.items():
        sizes = run.network().preprocess if hasattr(run.network(), "preprocess") else None
        del sizes
        settings = run.config
        rows.append((what, model, f"{settings.data.input_size}", str(settings.finetune.weights_range or "as the weights say")))
    table = book.table("input", "The input of the network", ("run", "network", "side, pixels", "range"), rows)
    return Found(answer="", evidence=(table, first, last))
