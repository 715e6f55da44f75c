# %% [markdown]
# # Handwritten digits
#
# The courses train two small CNNs on MNIST. Two networks like theirs are trained here, then the one that `opsin train mnist`
# chooses, and the networks are compared on the same digits.
#
# The quick form takes the digits of scikit-learn, 8x8 pixels.

# %%
from __future__ import annotations

from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import agreement, mistakes, parameter_rows

NETWORKS: dict[str, dict[str, Any]] = {
    "one": {"model": "plain", "filters": (32,), "dense": (100,), "batch_norm": False, "shift": 0},
    "two": {"model": "plain", "filters": (32, 64), "dense": (100,), "batch_norm": False, "shift": 0},
    "ours": {},
}
WORDS = {
    "one": "one convolution, dense 100",
    "two": "two convolutions, dense 100",
    "ours": "the default of opsin train",
}
PUBLISHED = {"one": 0.9892, "two": 0.9900}

# %% [markdown]
# ## Runs


# %%
def trained(book: Book, network: str) -> opsin.Run:
    settings = dict(NETWORKS[network])
    if book.quick:
        settings |= {"epochs": 8 if network == "ours" else 6}
    elif network != "ours":
        settings |= {"epochs": 10, "optimizer": "adam", "lr": 0.001, "rotate": 0.0, "scale": 0.0, "shear": 0.0}
    data = "digits" if book.quick else "mnist"
    return book.train(data, name=network, open_test=True, seed=0, **settings)


def runs(book: Book) -> dict[str, opsin.Run]:
    return {network: trained(book, network) for network in NETWORKS}


# %% [markdown]
# ## How good are they?
#
# Test is opened once for each run.


# %%
@question(
    "How good are two small CNNs?", published="98.92 % and 99.00 %", asks=("one convolution, on test", "two, on test")
)
def small_networks(book: Book) -> Found:
    found = runs(book)
    rows = [
        (
            WORDS[name],
            run.summary.parameters,
            run.scores["val"]["accuracy"],
            run.scores["test"]["accuracy"],
            1 - run.scores["test"]["accuracy"].value,
        )
        for name, run in found.items()
    ]
    sizes = {split: sum(counts) for split, counts in opsin.dataset_of(found["one"], book.root).counts().items()}
    note = ", ".join(f"{count:,} of {split}" for split, count in sizes.items())
    columns = ("network", "parameters", "accuracy on val", "accuracy on test", "share of mistakes on test")
    table = book.table("accuracy", "Accuracy", columns, rows, note)
    curves = book.curves("curves", "Accuracy on val", found, "accuracy")
    scores = {name: run.scores["test"]["accuracy"] for name, run in found.items()}
    return Found(
        answer=f"{table.shown[0][3]} of test with one convolution, {table.shown[1][3]} with two.",
        ours=f"{table.shown[0][3]} and {table.shown[1][3]}",
        values={"one convolution, on test": rows[0][3], "two, on test": rows[1][3]},
        evidence=(table, curves, *found.values()),
        **agreement(book, [(scores[name], share) for name, share in PUBLISHED.items()]),
    )


# %% [markdown]
# ## Is ours better?


# %%
@question(
    "Is the network that Opsin chooses better, on the same digits?",
    published="99.00 %",
    asks=("difference on val, points", "accuracy on test"),
)
def better(book: Book) -> Found:
    found = runs(book)
    pair = opsin.compare(found["two"], found["ours"]).pairs[0]
    ours = found["ours"].scores["test"]["accuracy"]
    rows = [
        ("difference on val, points", f"{100 * pair.difference:+.2f}"),
        ("lowest, points", f"{100 * pair.low:+.2f}"),
        ("highest, points", f"{100 * pair.high:+.2f}"),
        ("p", f"{pair.p:.3g}"),
        ("accuracy on test", ours),
    ]
    table = book.table(
        "paired", "The default less two convolutions, paired over val; 95 % interval", ("what", "value"), rows
    )
    told = [row[1] for row in table.shown]
    known = pair.low > 0 or pair.high < 0
    return Found(
        answer=f"It differs by {told[0]} points ({told[1]} to {told[2]}): "
        f"{'more than the choice of samples explains' if known else 'no more than the choice of samples explains'}, with one "
        f"seed. On test it reaches {told[4]}.",
        ours=told[4],
        values={"difference on val, points": told[0], "accuracy on test": ours},
        evidence=(table, found["two"], found["ours"]),
        **agreement(book, [(ours, 0.99)]),
    )


# %% [markdown]
# ## Where are the parameters?


# %%
@question("Where are most of the parameters?", asks=("the layer", "its share"))
def parameters(book: Book) -> Found:
    layers = opsin.plan(trained(book, "two").path, timed=False).layers
    rows = parameter_rows(layers)
    table = book.table("layers", "Parameters of two convolutions, dense 100", ("layer", "parameters", "share"), rows)
    most = max(range(len(rows)), key=lambda row: rows[row][1])
    return Found(
        answer=f"In {rows[most][0]}: {table.shown[most][1]}, {table.shown[most][2]} of all. A dense layer has a weight for each "
        "pixel of each map, a convolution only for each pixel of its filter.",
        evidence=(table,),
        values={"the layer": rows[most][0], "its share": rows[most][2]},
    )


# %% [markdown]
# ## Which digits are mistaken?


# %%
@question("Which digits are mistaken?", asks=("wrong on val, two convolutions", "wrong on val, the default"))
def wrong_digits(book: Book) -> Found:
    found = runs(book)
    counted = {name: mistakes(run, book.root) for name, run in found.items()}
    rows = [(WORDS[name], wrong, of) for name, (wrong, of, _) in counted.items()]
    table = book.table("mistakes", "Mistakes on val", ("network", "wrong", "of"), rows)
    figure = book.pictures(
        "mistaken", "Two convolutions, the most confident mistakes: class, and what it said", counted["two"][2]
    )
    return Found(
        answer=f"Of {counted['two'][1]:,} on val, {counted['two'][0]:,} by two convolutions and {counted['ours'][0]:,} by the default; "
        "the figure shows those of which the former is most certain.",
        evidence=(table, figure, found["two"], found["ours"]),
        values={"wrong on val, two convolutions": counted["two"][0], "wrong on val, the default": counted["ours"][0]},
    )


# %%
LAB = Lab(
    name="mnist",
    title="Handwritten digits",
    words="Small CNNs on MNIST, and the one that Opsin chooses: accuracy, paired difference, parameters, mistakes.",
    questions=(small_networks, better, parameters, wrong_digits),
    needs="mnist (55 MB)",
    networks=runs,
    minutes=(1.0, None),
)
