# %% [markdown]
# # Dense layers against convolutions, and a score that flatters
#
# A course compares a dense network with a CNN of three convolutions and poolings on CIFAR-10, and validates both on its
# test set. First the normalization of the input is chosen, by measurement; then the two are compared; then it is measured
# what validating on test does to the figure that is reported.
#
# The quick form takes shapes of five kinds that the code draws.

# %%
from __future__ import annotations

from typing import Any

import numpy as np

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.shapes import write_shapes
from opsin.labs.steps import hits, in_points, paired

NORMALIZATIONS = {
    "none": "0 to 255, as they are",
    "unit": "0 to 1",
    "signed": "-1 to 1",
    "standard": "mean 0, standard deviation 1 of each channel",
    "learned": "learned by a first batch norm",
}
NETWORKS: dict[str, dict[str, Any]] = {
    "dense": {"model": "dense", "dense": (256, 128)},
    "cnn": {"model": "plain", "filters": (32, 64, 64), "dense": (64,), "batch_norm": False},
}
WORDS = {"dense": "dense layers of 256 and 128", "cnn": "three convolutions with pooling, dense 64"}
QUICK: dict[str, Any] = {"epochs": 4, "batch_size": 32, "precision": "float32", "channels_last": False}
FULL: dict[str, Any] = {"subset": "train=20000", "epochs": 10, "batch_size": 64}
SHOWN = {"better": "better", "worse": "worse", "no difference": "no difference is shown"}
SEEDS = (0, 1, 2)
SPLITTINGS = 1000

# %% [markdown]
# ## Runs
#
# Both networks are trained with Adam at a constant rate, without augmentation. Test is opened once for each run that says so.


# %%
def trained(book: Book, network: str, name: str, **settings: Any) -> opsin.Run:
    common: dict[str, Any] = {
        "optimizer": "adam",
        "lr": 0.001,
        "schedule": "constant",
        "warmup": 0.0,
        "preflight": False,
    }
    common |= {"label_smoothing": 0.0, "shift": 0, "seed": 0} | NETWORKS[network]
    if book.quick:
        data = write_shapes(book.folder / "shapes.npz", 1400, num_test=400, side_px=16)
        return book.train(data, name=name, **common | QUICK | settings)
    return book.train("cifar10", name=name, **common | {"flip": 0.0, "input_size": 32} | FULL | settings)


def normalized(book: Book, how: str) -> opsin.Run:
    short = {} if book.quick else {"epochs": 3}
    return trained(book, "cnn", f"normalize-{how}", normalize=how, **short)


def chosen(book: Book) -> str:
    """The normalization that is best on val."""
    return book.best({how: normalized(book, how) for how in NORMALIZATIONS})


def honest(book: Book, network: str, seed: int = 0) -> opsin.Run:
    """Its epoch is chosen by val; test is opened once, at the end."""
    return trained(book, network, f"{network}-{seed}", normalize=chosen(book), seed=seed, open_test=True)


def as_in_the_course(book: Book, seed: int = 0) -> opsin.Run:
    """The CNN, its epoch chosen by test itself."""
    return trained(book, "cnn", f"on-test-{seed}", normalize=chosen(book), seed=seed, test_as_val=True)


def every(book: Book) -> None:
    honest(book, "dense")
    for seed in SEEDS:
        honest(book, "cnn", seed)
        as_in_the_course(book, seed)


# %% [markdown]
# ## Normalization


# %%
@question("Which normalization of the input is best?", asks=("the best input", "its accuracy on val"))
def normalization(book: Book) -> Found:
    best = chosen(book)
    rows = []
    for how, words in NORMALIZATIONS.items():
        run = normalized(book, how)
        difference = ("–",) * 4 if how == best else paired(normalized(book, best), run)
        rows.append((words, run.scores["val"]["accuracy"], *difference))
    columns = ("input", "val", "less the best, points", "lowest", "highest", "shown")
    note = "The CNN without batch norm, one seed, few epochs; paired over val. Test stays closed."
    table = book.table("normalization", "Accuracy with each normalization", columns, rows, note)
    alike = [row[0] for row in table.shown if row[5] == "no difference"]
    score = next(row for row in rows if row[0] == NORMALIZATIONS[best])[1]
    said = next(row[1] for row in table.shown if row[0] == NORMALIZATIONS[best])
    return Found(
        answer=f"{NORMALIZATIONS[best]}: {said} on val. Not shown to be worse: {'; '.join(alike) or 'none'}.",
        evidence=(table, *(normalized(book, how) for how in NORMALIZATIONS)),
        values={"the best input": NORMALIZATIONS[best], "its accuracy on val": score},
    )


# %% [markdown]
# ## Dense against convolutional


# %%
@question(
    "What do three convolutional and pooling layers bring, against dense layers alone?",
    asks=("the CNN less the dense network on val, points", "the CNN, on test", "the dense network, on test"),
)
def convolutions(book: Book) -> Found:
    runs = {network: honest(book, network) for network in NETWORKS}
    rows = []
    for network, run in runs.items():
        scores, trained_to = run.scores, opsin.Score(run.epochs[-1].train["accuracy"])
        rows.append(
            (WORDS[network], run.summary.parameters, trained_to, scores["val"]["accuracy"], scores["test"]["accuracy"])
        )
    columns = ("network", "parameters", "train, last epoch", "val", "test")
    table = book.table("networks", "Accuracy of both", columns, rows)
    ends = ("difference on val, points", "lowest", "highest", "shown")
    pair = book.table(
        "paired", "The CNN less the dense network, paired over val; one seed", ends, [paired(*runs.values())]
    )
    curves = book.curves("curves", "Accuracy on val", {WORDS[name]: run for name, run in runs.items()}, "accuracy")
    difference, low, high, verdict = pair.shown[0]
    return Found(
        answer=f"{difference} points ({low} to {high}): {SHOWN[verdict]}. {table.shown[1][4]} of test against {table.shown[0][4]}, with "
        f"{table.shown[1][1]} parameters against {table.shown[0][1]}. A convolution looks everywhere with the same weights.",
        evidence=(table, pair, curves, *runs.values()),
        values={
            "the CNN less the dense network on val, points": difference,
            "the CNN, on test": rows[1][4],
            "the dense network, on test": rows[0][4],
        },
    )


# %% [markdown]
# ## What validating on test does
#
# With each seed the CNN is trained twice: its epoch chosen by val and test opened once, and its epoch chosen by test, as the
# course does. The second also trains on the images that the first holds out, so it may be better for that reason.


# %%
def as_score(right: np.ndarray) -> opsin.Score:
    return opsin.Score(float(right.mean()))


@question(
    "The course validates on its test set: what does that do to the figure that it reports?",
    asks=("smallest difference, points", "largest difference, points"),
)
def on_test(book: Book) -> Found:
    rows: list[tuple[Any, ...]] = []
    for seed in SEEDS:
        right, wrong = hits(honest(book, "cnn", seed), "test"), hits(as_in_the_course(book, seed), "val")
        rows.append((str(seed), *(as_score(part) for part in (right, wrong)), *in_points(wrong - right)))
    columns = ("seed", "chosen by val", "chosen by test", "difference on test, points", "lowest", "highest")
    note = f"{len(SEEDS)} seeds; 95 % intervals over the images of test, on which both are paired, not over seeds."
    table = book.table("on_test", "Accuracy on test of the same CNN, by who chose its epoch", columns, rows, note)
    changes = sorted((row[3] for row in rows), key=float)
    shown = [row[0] for row in rows if float(row[4]) > 0 or float(row[5]) < 0]
    return Found(
        answer=f"From {changes[0]} to {changes[-1]} points, with {len(SEEDS)} seeds. The interval leaves zero out for "
        f"{'seed ' + ', '.join(shown) if shown else 'none'}. One run cannot tell the effect of choosing from that of more training "
        "images and of chance.",
        evidence=(table, *(as_in_the_course(book, seed) for seed in SEEDS)),
        values={"smallest difference, points": changes[0], "largest difference, points": changes[-1]},
    )


# %% [markdown]
# To see the effect of choosing alone, test is cut into halves at random, many times: the best of the trained networks is chosen
# by its score on one half, and scored on the other, by which it was not chosen. No run is changed by it.


# %%
@question("How optimistic is a score that its network was chosen by?", asks=("of three seeds, points on the mean",))
def optimism(book: Book) -> Found:
    runs = [honest(book, "cnn", seed) for seed in SEEDS] + [honest(book, "dense")]
    right = np.stack([hits(run, "test") for run in runs])
    alike = right[: len(SEEDS)]
    rows = []
    for what, among in {"the CNN with three seeds": alike, "these and the dense network": right}.items():
        gains = choosing_gains(among)
        low, high = np.percentile(gains, (2.5, 97.5))
        rows.append((what, len(among), f"{gains.mean():+.2f}", f"{low:+.1f}", f"{high:+.1f}"))
    columns = ("chosen among", "networks", "optimism, points, mean", "2.5 % of splittings", "97.5 % of splittings")
    note = f"Half of test chooses, the other half of {right.shape[1] // 2:,} images scores; {SPLITTINGS:,} random splittings."
    table = book.table("optimism", "Score on the half that chose, less that on the other", columns, rows, note)
    first = table.shown[0]
    return Found(
        answer=f"By {first[2]} points on the mean, where one of {first[1]} networks that differ in their seed alone is chosen; in a "
        f"single splitting anything from {first[3]} to {first[4]}. It grows with the number of choices, and falls with the number of images.",
        evidence=(table, *runs),
        values={"of three seeds, points on the mean": first[2]},
    )


def choosing_gains(right: np.ndarray) -> np.ndarray:
    """Accuracy, in points, of the best network on the half that chose it, less its accuracy on the other half.

    `right`: 0 or 1 for each network and image [K, N]. Returns one number for each random splitting.
    """
    generator, gains = np.random.default_rng(0), []
    for _ in range(SPLITTINGS):
        order = generator.permutation(right.shape[1])
        half = right.shape[1] // 2
        first, second = right[:, order[:half]].mean(1), right[:, order[half : 2 * half]].mean(1)
        best = int(first.argmax())
        gains.append(100 * (first[best] - second[best]))
    return np.array(gains)


# %%
LAB = Lab(
    name="cifar10-dense-and-cnn",
    title="Dense layers against convolutions, and a score that flatters",
    words="Normalization chosen by measurement; a dense network against a CNN; and what validating on test does to the figure.",
    questions=(normalization, convolutions, on_test, optimism),
    needs="cifar10 (binary version, 162 MB)",
    networks=every,
    minutes=(0.5, None),
)
