# %% [markdown]
# # From ImageNet to CIFAR-100
#
# How much of a pretrained network should be trained on new images: nothing but a new head, its upper blocks, or all of it?
# Each is tried with and without augmentation, on images enlarged to a size at which the pretrained filters find what they
# know; then three heads. It is done for every backbone whose weights are at hand on this machine: EfficientNet-Lite0 always,
# as its package is installed with Opsin; VGG16, ResNet-50 and MobileNetV2 where a file of weights lies in ROOT/weights or in
# the folder that OPSIN_WEIGHTS names.
#
# The quick form takes ten kinds of coloured shapes that the code draws, and EfficientNet-Lite0.

# %%
from __future__ import annotations

from typing import Any

import opsin
from opsin.labs.backbones import weights_of
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.shapes import write_shapes
from opsin.labs.steps import accuracies, paired, steps_table, told

UPPER_SECTIONS = {"vgg16": 2, "resnet50": 4, "mobilenet_v2": 4, "efficientnet_lite0": 4}
"""The backbones, in the courses' order, and how many of their upper sections are trained as "the upper block"."""
FALLBACK = "efficientnet_lite0"
WAYS = {"frozen": "the head alone", "upper": "the upper block and the head", "whole": "the whole network"}
HEADS: dict[str, dict[str, Any]] = {
    "linear": {},
    "hidden": {"head": (256,)},
    "dropout": {"head": (512, 256), "dropout": 0.3},
}
WHY = {
    "linear": "fewest parameters: right where the features tell the classes apart already",
    "hidden": "classes may be combinations of features",
    "dropout": "more of the same, held back by dropout",
}
AUGMENTATION: dict[str, Any] = {"flip": 0.5, "shift": 4}
NONE: dict[str, Any] = {"flip": 0.0, "shift": 0}
VIEWS = 4
QUICK: dict[str, Any] = {"input_size": 48, "epochs": 1, "batch_size": 16, "precision": "float32", "preflight": False}
FULL: dict[str, Any] = {"subset": "train=10000,test=2000", "input_size": 64, "epochs": 3, "batch_size": 64}
HEAD_EPOCHS = 20

# %% [markdown]
# ## Runs
#
# Where the head alone is trained, features are computed once, with augmentation for four views of each image. In the other
# ways a linear head is fitted to the features first, so that no random head pulls at pretrained layers.


# %%
def at_hand(book: Book) -> dict[str, dict[str, Any]]:
    """The backbones that can be started from here, and how; the quick form takes one."""
    if book.quick:
        return {FALLBACK: {"weights": "package"}}
    found = {backbone: weights_of(book, backbone) for backbone in UPPER_SECTIONS}
    return {backbone: start for backbone, start in found.items() if start}


def trained(book: Book, backbone: str, way: str, *, augmented: bool = False, head: str = "linear") -> opsin.Run:
    settings: dict[str, Any] = {"model": backbone, "seed": 0, "open_test": True} | at_hand(book)[backbone]
    settings |= HEADS[head] | (AUGMENTATION if augmented else NONE)
    ways = {"frozen": "head", "upper": f"top:{UPPER_SECTIONS[backbone]}", "whole": "all"}
    settings |= {"finetune": ways[way]} | (QUICK if book.quick else FULL)
    if way == "frozen":
        settings |= {"epochs": 6 if book.quick else HEAD_EPOCHS, "feature_views": VIEWS if augmented else 1}
    else:
        settings |= {"head_start": True, "lr": 0.0005, "backbone_lr": 0.5}
    name = f"{backbone}-{way}-{head}" + ("-augmented" if augmented else "")
    if book.quick:
        return book.train(write_shapes(book.folder / "shapes.npz", 240, coloured=True), name=name, **settings)
    return book.train("cifar100", name=name, **settings)


def every(book: Book) -> None:
    for backbone in at_hand(book):
        for way in WAYS:
            for augmented in (False, True):
                trained(book, backbone, way, augmented=augmented)
        for head in HEADS:
            trained(book, backbone, "frozen", head=head)


# %% [markdown]
# ## The backbones


# %%
@question("Which backbones can be started from here?", asks=[f"parameters of {FALLBACK}"])
def backbones(book: Book) -> Found:
    here = at_hand(book)
    rows = []
    for backbone in UPPER_SECTIONS:
        parameters = opsin.plan(backbone, timed=False, num_outputs=0, shape=(3, 64, 64)).layers.parameters
        rows.append((backbone, parameters, "no" if backbone not in here else "yes"))
    note = "A file of weights is sought in ROOT/weights and in the folder that the variable OPSIN_WEIGHTS names."
    table = book.table("backbones", "Backbones", ("backbone", "parameters", "weights at hand and used"), rows, note)
    missing = [name for name in UPPER_SECTIONS if name not in here]
    return Found(
        answer=f"{', '.join(here)}. {'All are there.' if not missing else 'Left out: ' + ', '.join(missing) + '.'}",
        evidence=(table,),
        values={f"parameters of {FALLBACK}": next(row[1] for row in rows if row[0] == FALLBACK)},
    )


# %% [markdown]
# ## How much is trained


# %%
@question(
    "Frozen features, the upper block, or the whole network: what does each bring?",
    asks=[f"{FALLBACK}, {words}, on val" for words in WAYS.values()],
)
def ways(book: Book) -> Found:
    tables, said = [], []
    for backbone in at_hand(book):
        runs = {words: trained(book, backbone, way) for way, words in WAYS.items()}
        sizes = [(words, run.summary.trainable, f"{run.summary.seconds:.0f}") for words, run in runs.items()]
        tables.append(
            steps_table(book, f"ways-{backbone}", f"{backbone}: each less the one before, without augmentation", runs)
        )
        columns = ("what is trained", "parameters that are trained", "seconds of training")
        tables.append(book.table(f"sizes-{backbone}", f"{backbone}: what it costs", columns, sizes))
        scores = [row[1] for row in tables[-2].shown]
        said.append(
            f"{backbone}: {scores[0]} on val with the head alone, {scores[1]} with the upper block, {scores[2]} with all of it"
        )
    return Found(
        answer="; ".join(said) + ".",
        evidence=(*tables, *(trained(book, backbone, way) for backbone in at_hand(book) for way in WAYS)),
        values={
            f"{FALLBACK}, {words}, on val": trained(book, FALLBACK, way).scores["val"]["accuracy"]
            for way, words in WAYS.items()
        },
    )


# %% [markdown]
# ## Augmentation


# %%
@question(
    "What does augmentation bring to each?",
    asks=[f"{FALLBACK}, {words}, points on val" for words in WAYS.values()],
)
def augmentation(book: Book) -> Found:
    rows, runs = [], []
    for backbone in at_hand(book):
        for way, words in WAYS.items():
            without, augmented = (trained(book, backbone, way, augmented=some) for some in (False, True))
            runs += [without, augmented]
            before, after = without.scores["val"]["accuracy"], accuracies(augmented)
            rows.append((backbone, words, before, *after, *paired(without, augmented)))
    columns = (
        "backbone",
        "what is trained",
        "val without",
        "val with",
        "test with",
        "difference on val, points",
        "lowest",
        "highest",
        "shown",
    )
    note = f"One seed; paired over val. The head alone sees {VIEWS} views of each image, the others a new one in each epoch."
    table = book.table("augmentation", "With augmentation less without", columns, rows, note)
    verdicts = {
        verdict: [f"{row[0]}, {row[1]} ({row[5]} points)" for row in table.shown if row[8] == verdict]
        for verdict in ("better", "worse")
    }
    return Found(
        answer=f"Better: {'; '.join(verdicts['better']) or 'none'}. Worse: {'; '.join(verdicts['worse']) or 'none'}. In so few epochs "
        "no image is seen often enough to be memorized.",
        evidence=(table, *runs),
        values={f"{FALLBACK}, {row[1]}, points on val": row[5] for row in rows if row[0] == FALLBACK},
    )


# %% [markdown]
# ## Three heads
#
# On frozen features, without augmentation, so that only the head differs.


# %%
@question("Which head, and why?", asks=[f"{head}, parameters" for head in HEADS])
def heads(book: Book) -> Found:
    tables, said, runs = [], [], []
    for backbone in at_hand(book):
        found = {head: trained(book, backbone, "frozen", head=head) for head in HEADS}
        runs += list(found.values())
        sizes = [(head, run.summary.trainable, WHY[head]) for head, run in found.items()]
        tables.append(
            steps_table(book, f"heads-{backbone}", f"{backbone}: heads less the linear one", found, against_first=True)
        )
        tables.append(
            book.table(f"head-sizes-{backbone}", f"{backbone}: the heads", ("head", "parameters", "why"), sizes)
        )
        said.append(
            f"{backbone}: better than the linear head {told(tables[-2], 'better')}, worse {told(tables[-2], 'worse')}"
        )
    return Found(
        answer="; ".join(said) + ".",
        evidence=(*tables, *runs),
        values={
            f"{head}, parameters": trained(book, FALLBACK, "frozen", head=head).summary.trainable for head in HEADS
        },
    )


@question("Which network is best in the end?", asks=("the best on val", "its accuracy on test"))
def best(book: Book) -> Found:
    runs = {
        f"{backbone}, {words}{', augmented' if augmented else ''}": trained(book, backbone, way, augmented=augmented)
        for backbone in at_hand(book)
        for way, words in WAYS.items()
        for augmented in (False, True)
    }
    rows = [(what, run.summary.parameters, *accuracies(run)) for what, run in runs.items()]
    rows.sort(key=lambda row: -row[2].value)
    note = "In the order of val, by which the first is chosen; so its score on val leans to the good side."
    table = book.table("best", "All networks", ("network", "parameters", "val", "test"), rows, note)
    first = table.shown[0]
    return Found(
        answer=f"By val, {first[0]}: {first[3]} of test, which nothing was chosen by.",
        evidence=(table, runs[rows[0][0]]),
        values={"the best on val": first[0], "its accuracy on test": rows[0][3]},
    )


# %%
LAB = Lab(
    name="cifar100-transfer",
    title="From ImageNet to CIFAR-100",
    words="Frozen features, the upper block, the whole network, each with and without augmentation; three heads.",
    questions=(backbones, ways, augmentation, heads, best),
    needs="cifar100 (binary version, 161 MB); weights of VGG16, ResNet-50, MobileNetV2 where they are at hand",
    networks=every,
    minutes=(0.8, None),
)
