# %% [markdown]
# # What each architecture added
#
# LeNet-5, AlexNet, GoogLeNet, ResNet, SENet and Xception on the same data, with the same epochs. Then their ideas one by one:
# networks of two convolutions that differ in one thing, compared on the same images.
#
# The quick form takes the digits of scikit-learn and narrow networks. The full form takes 15,000 images of CIFAR-10, a third of
# them to compare on, and three seeds for each pair. Nothing here opens test.

# %%
from __future__ import annotations

from functools import partial
from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, Table, question
from opsin.labs.measure import places

NETWORKS = ("lenet5", "alexnet", "googlenet", "resnet18", "seresnet50", "xception")
PAIR: dict[str, Any] = {"model": "plain", "filters": (32, 64)}
PARTS: dict[str, dict[str, Any]] = {
    "dense, 256 nodes": {"model": "dense", "dense": (256,)},
    "convolutions": PAIR,
    "separable": PAIR | {"separable": True},
    "stride 2": PAIR | {"downsample": "stride"},
    "two a block": PAIR | {"second_conv": "plain"},
    "two a block, residual": PAIR | {"second_conv": "residual"},
    "no norm": PAIR | {"batch_norm": False},
    "response norm": PAIR | {"batch_norm": False, "response_norm": True},
    "global mean": PAIR | {"global_pool": True},
}
"""Two convolutions of 32 and 64 filters with batch norm, max pooling and flattened maps, unless it says otherwise."""
BASE = "convolutions"

# %% [markdown]
# ## Runs
#
# The same arithmetic for all, and no flips, so that digits stay digits. `--minutes` gives each run the same share of the time.


# %%
def trained(book: Book, name: str, seed: int = 0, **settings: Any) -> opsin.Run:
    common: dict[str, Any] = {"seed": seed, "flip": 0.0, "precision": "float32", "channels_last": True} | settings
    name = "-".join([*name.replace(",", "").split(), str(seed)])
    if book.quick:
        return book.train("digits", name=name, **{"epochs": 6} | common)
    course = {"subset": "train=15000", "val_fraction": 0.333333, "epochs": 8, "batch_size": 100}
    return book.train("cifar10", name=name, **course | common)


def architecture(book: Book, name: str) -> opsin.Run:
    settings: dict[str, Any] = (
        {"input_size": 16, "epochs": 3, "subset": "train=800", "batch_size": 32} if book.quick else {}
    )
    if name != "lenet5":
        settings |= {"stem": "small", "width": 0.125 if book.quick else 0.25}
    if name == "alexnet":
        settings |= {"dense": (256,)}
    return trained(book, name, model=name, **settings)


def part(book: Book, name: str) -> list[opsin.Run]:
    """The runs of a network of `PARTS`, one for each seed."""
    return [trained(book, name, seed, **PARTS[name]) for seed in range(1 if book.quick else 3)]


# %% [markdown]
# ## Six networks


# %%
@question(
    "What did each architecture add, and what does it bring on the same data with the same epochs?",
    asks=("the best on val", "its accuracy"),
)
def architectures(book: Book) -> Found:
    runs = {name: architecture(book, name) for name in NETWORKS}
    compared = opsin.compare(*runs.values()).groups
    rows = [
        (
            name,
            opsin.models.describe(name).family,
            group.parameters,
            group.flops / 1e6,
            run.scores["val"]["accuracy"],
            run.summary.seconds,
        )
        for (name, run), group in zip(runs.items(), compared, strict=True)
    ]
    columns = ("network", "year, and what it added", "parameters", "Mflop", "accuracy on val", "seconds")
    note = f"{runs['lenet5'].summary.epochs} epochs each, one seed; all but LeNet-5 narrower than published, with a start for small images."
    table = book.table("architectures", "The same data and epochs", columns, rows, note)
    drawn = {name: runs[name] for name in ("lenet5", "alexnet", "resnet18", "xception")}
    curves = book.curves("architectures", "Accuracy on val", drawn, "accuracy")
    order = sorted(range(len(rows)), key=lambda row: -rows[row][4].value)
    best, last = table.shown[order[0]], table.shown[order[-1]]
    return Found(
        answer=f"{best[0]} is best here with {best[4]} and {best[3]} Mflop an image, {last[0]} last with {last[4]} and {last[3]}. What was "
        "made for a million large photos need not win on few small ones in few epochs.",
        evidence=(table, curves, *runs.values()),
        values={"the best on val": best[0], "its accuracy": rows[order[0]][4]},
    )


# %% [markdown]
# ## One idea at a time
#
# The second network of each pair less the first: paired over the images of val, and over seeds where there are several.


# %%
def lessons(book: Book, name: str, title: str, pairs: dict[str, tuple[str, str]]) -> Table:
    """A table of pairs: accuracies, the difference with its interval and what it shows, parameters, work."""
    rows: list[tuple[Any, ...]] = []
    for what, (first, second) in pairs.items():
        one, other = part(book, first), part(book, second)
        found = opsin.compare(*one, *other, names=[first] * len(one) + [second] * len(other))
        (a, b), pair = found.groups, found.pairs[0]
        ends = [f"{100 * value:+.1f}" for value in (pair.difference, pair.low, pair.high)]
        shown = "better" if pair.low > 0 else "worse" if pair.high < 0 else "no difference"
        scores = [opsin.Score(group.score, group.low, group.high) for group in (a, b)]
        cost = (f"{a.parameters:,}; {b.parameters:,}", f"{a.flops / 1e6:.2f}; {b.flops / 1e6:.2f}")
        rows.append((what, *scores, *ends, shown, *cost))
    columns = (
        "pair",
        "first",
        "second",
        "second less first, points",
        "lowest",
        "highest",
        "second is",
        "parameters",
        "Mflop",
    )
    seeds = len(part(book, BASE))
    return book.table(name, title, columns, rows, f"Accuracy on val; {seeds} seed{'s' if seeds > 1 else ''} a network.")


def told(table: Table) -> str:
    return "; ".join(f"{row[0]} {row[3]} points ({row[4]} to {row[5]}: {row[6]})" for row in table.shown)


def runs_of(book: Book, *names: str) -> tuple[opsin.Run, ...]:
    return tuple(run for name in names for run in part(book, name))


@question(
    "What do convolutions, separable convolutions and residual sums bring?",
    asks=("convolutions less dense, points", "separable less full, points", "residual less plain, points"),
)
def parts(book: Book) -> Found:
    pairs = {
        "dense, convolutional": ("dense, 256 nodes", BASE),
        "full, depthwise-separable": (BASE, "separable"),
        "two convolutions a block: plain, residual": ("two a block", "two a block, residual"),
    }
    table = lessons(book, "parts", "Convolutions and how they are joined", pairs)
    return Found(
        answer=f"{told(table)}. A separable layer takes part of the work ({table.shown[1][8]} Mflop); a residual sum helps deep networks to be "
        "trained, and these are not deep.",
        evidence=(table, *runs_of(book, "dense, 256 nodes", BASE, "separable", "two a block", "two a block, residual")),
        values={
            "convolutions less dense, points": table.rows[0][3],
            "separable less full, points": table.rows[1][3],
            "residual less plain, points": table.rows[2][3],
        },
    )


@question(
    "What does local response normalization bring, and batch normalization in its place?",
    asks=("local response norm less none, points", "batch norm less none, points"),
)
def norms(book: Book) -> Found:
    pairs = {"no norm, local response norm": ("no norm", "response norm"), "no norm, batch norm": ("no norm", BASE)}
    table = lessons(book, "norms", "Normalization", pairs)
    return Found(
        answer=f"{told(table)}.",
        evidence=(table, *runs_of(book, "no norm", "response norm", BASE)),
        values={
            "local response norm less none, points": table.rows[0][3],
            "batch norm less none, points": table.rows[1][3],
        },
    )


@question(
    "Max pooling or stride 2, flattened maps or their means: what is better, and what holds when the images are shifted?",
    asks=("stride less pooling, points", "means less flattened, points"),
)
def pooling(book: Book) -> Found:
    pairs = {"max pooling, stride 2": (BASE, "stride 2"), "flattened, global mean": (BASE, "global mean")}
    table = lessons(book, "pooling", "How maps are halved and read", pairs)
    names = ("dense, 256 nodes", BASE, "stride 2", "global mean")
    cards = {name: opsin.robustness(part(book, name)[0], changes=("shift",), root=book.root) for name in names}
    strengths = [cell.strength for cell in cards[BASE].curve("shift").cells]
    rows = [(name, card.clean, *(cell.score for cell in card.curve("shift").cells)) for name, card in cards.items()]
    columns = ("network", "as they are", *(f"{strength:g} % of the side" for strength in strengths))
    lost = {name: card.clean.value - card.curve("shift").cells[-1].score.value for name, card in cards.items()}
    steadiest = min(lost, key=lambda name: lost[name])
    least, dense = (f"{100 * lost[name]:.1f}" for name in (steadiest, names[0]))
    note = f"By the furthest shift {steadiest} loses {least} points, {names[0]} {dense}."
    shifts = book.table("shifts", "Accuracy on shifted images of val, seed 0", columns, rows, note)
    return Found(
        answer=f"{told(table)}. Of shifts: {note[0].lower()}{note[1:]}",
        evidence=(table, shifts, *runs_of(book, *names)),
        values={"stride less pooling, points": table.rows[0][3], "means less flattened, points": table.rows[1][3]},
    )


# %% [markdown]
# ## Dense layers as convolutions
#
# A dense layer over maps is a convolution whose filters are as large as the maps: the network then takes any size.


# %%
@question(
    "How does a network with dense layers become fully convolutional?", asks=("parameters before", "parameters after")
)
def fully_convolutional(book: Book) -> Found:
    before = part(book, BASE)[0]
    after = book.derived("any-size", partial(opsin.convert, before))
    side = opsin.dataset_of(before, book.root).splits["val"].image(0).shape[1]
    rows = [(f"{size}x{size}", *places(after, size, size)) for size in (side, 2 * side, 4 * side)]
    difference = f"{after.summary.max_difference:.1e}"
    note = f"The outputs of the two networks differ by at most {difference} at {side}x{side} pixels."
    columns = ("image", "answers down", "answers across")
    table = book.table("places", "Answers of the converted network", columns, rows, note)
    sizes = {"as trained": before.summary.parameters, "converted": after.summary.parameters}
    counts = book.table("converted", "Parameters", ("network", "parameters"), list(sizes.items()))
    return Found(
        answer=f"Its dense layer becomes a convolution with filters as large as the maps: {counts.shown[1][1]} parameters, "
        f"{counts.shown[0][1]} before, and the same outputs to {difference}. On {rows[2][0]} pixels it gives {rows[2][1]}x{rows[2][2]} answers.",
        evidence=(table, counts, before, after),
        values={"parameters before": sizes["as trained"], "parameters after": sizes["converted"]},
    )


# %%
LAB = Lab(
    name="architectures",
    title="What each architecture added",
    words="Six architectures on the same data at the same budget, then their ideas one by one: convolutions, norms, pooling, residual sums.",
    questions=(architectures, parts, norms, pooling, fully_convolutional),
    needs="cifar10 (binary version, 162 MB)",
    networks=lambda book: ([architecture(book, name) for name in NETWORKS], runs_of(book, *PARTS)),
    minutes=(6.7, None),
)
