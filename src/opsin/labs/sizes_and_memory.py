# %% [markdown]
# # Sizes and memory
#
# The textbook's exercise: a CNN of 100, 200 and 400 maps, 3x3 filters with stride 2 and *same* padding, on RGB images of
# 200x300 pixels. How many parameters, how much memory, and what to do when a GPU has too little?

# %%
from __future__ import annotations

from functools import partial
from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, question

NETWORK: dict[str, Any] = {
    "filters": (100, 200, 400),
    "downsample": "stride",
    "batch_norm": False,
    "num_outputs": 0,
    "shape": (3, 200, 300),
    "timed": False,
}
BATCH = 50
MB = 1e6
PUBLISHED = 9_027_000

# %% [markdown]
# ## Parameters
#
# A filter has a weight for each of its pixels in each map that it looks at, and a bias. All are counted in the network itself.


# %%
def layer_table(book: Book) -> Any:
    rows: list[tuple[Any, ...]] = []
    maps_in = 3
    for row in opsin.plan("plain", **NETWORK).layers.rows:
        if row.parameters:
            maps = row.output_shape[0]
            rows.append((f"{maps} filters of 3x3x{maps_in}", row.parameters - maps, maps, row.parameters))
            maps_in = maps
    totals = [sum(row[column] for row in rows) for column in (1, 2, 3)]
    columns = ("layer", "weights", "biases", "parameters of the network")
    note = f"4 bytes each: {totals[2] * 4 / MB:.1f} MB in float32."
    return book.table("layers", "Layer by layer", columns, [*rows, ("all", *totals)], note)


@question(
    "How many parameters has the network?",
    published="9,027,000 parameters, 36.1 MB",
    asks=("parameters", "biases among them"),
)
def parameters(book: Book) -> Found:
    table = layer_table(book)
    _, weights, biases, total = table.rows[-1]
    candidates = {
        "the weights and biases": total,
        "the weights alone": weights,
        "10 times the weights and biases": 10 * total,
        "10 times the weights alone": 10 * weights,
        "weights for each pixel of the last maps": weights * 25 * 38,
        "every layer looks at 3 maps": sum(row[2] * (3 * 3 * 3 + 1) for row in table.rows[:-1]),
    }
    rows = [(what, number, number == PUBLISHED) for what, number in candidates.items()]
    slips = book.table(
        "slips",
        "Which mistake gives the published number? One factor, 9 weights of a 3x3 filter, as 90",
        ("what is counted", "number", "published"),
        rows,
    )
    match = [what for what, _, same in rows if same]
    return Found(
        answer=f"{total:,}: {weights:,} weights and {biases:,} biases.",
        ours=f"{total:,} parameters, {total * 4 / MB:.1f} MB",
        evidence=(table, slips),
        agrees=total == PUBLISHED,
        why=f"The published number is exactly {match[0] if match else 'none of these'}: one factor of each product is ten times "
        f"too large (as if a 3x3 filter had 90 weights instead of 9), and the {biases:,} biases are missing.",
        values={"parameters": total, "biases among them": biases},
    )


# %% [markdown]
# ## Memory
#
# To predict, two layers of maps must be there at once; to train, every map is kept for the backward pass.


# %%
@question(
    "How much memory does it take to predict one image, and to train on 50?",
    published="at least 12.6 MB; 565.6 MB for inputs, activations and weights",
    asks=("MB to predict one image", "MB of inputs, outputs of the layers and weights to train on 50"),
)
def memory(book: Book) -> Found:
    plan = opsin.plan("plain", batch=BATCH, **NETWORK).to_dict()["memory"]
    rows = [
        ("predict one image: weights and the largest two layers of maps", plan["inference_bytes"] / MB),
        ("train on 50: inputs, outputs of the layers, weights", plan["activations_inputs_weights_bytes"] / MB),
        ("train on 50: all that is alive at the peak, with gradients and optimizer", plan["live_bytes"] / MB),
        ("train on 50: with what the allocator keeps", plan["training_bytes"] / MB),
    ]
    shown = [(what, f"{size:,.1f}") for what, size in rows]
    table = book.table("memory", "Memory of the network", ("what", "MB"), shown)
    sizes = [size for _, size in shown]
    return Found(
        answer=f"{sizes[0]} MB to predict one image, {sizes[1]} MB to train on 50 as the textbook counts. A real step needs "
        f"{sizes[2]} MB, as gradients, the optimizer and the convolutions' work space are there too, and holds {sizes[3]} MB.",
        ours=f"{sizes[0]} MB; {sizes[1]} MB",
        evidence=(table,),
        agrees=sizes[:2] == ["12.6", "565.6"],
        why="" if sizes[:2] == ["12.6", "565.6"] else "The table shows what is counted.",
        values={
            "MB to predict one image": float(sizes[0]),
            "MB of inputs, outputs of the layers and weights to train on 50": float(sizes[1]),
        },
    )


# %% [markdown]
# ## Remedies
#
# The GPU has too little: what saves how much, and what does it cost? Memory is planned for each change, and its time
# forward and backward is measured on this machine.


# %%
@question(
    "The GPU runs out of memory: which five remedies are there, and what does each save?",
    asks=("the remedy that saves most", "what it saves"),
)
def remedies(book: Book) -> Found:
    shape = (3, 32, 48) if book.quick else NETWORK["shape"]
    network = NETWORK | {"shape": shape, "timed": True}
    batch = 10 if book.quick else BATCH
    smaller = (3, shape[1] // 2, shape[2] // 2)
    changes: dict[str, tuple[dict[str, Any], str]] = {
        "as it is": ({}, "–"),
        "batch of half the images": ({"batch": batch // 2}, "noisier gradients"),
        "batch in 5 parts": ({"accumulate": 5}, "none: the same gradients"),
        "smaller images, half the side": ({"shape": smaller}, "another network, that sees less"),
        "half the filters": ({"filters": (50, 100, 200)}, "another network, that holds less"),
        "bfloat16": ({"precision": "bfloat16"}, "3 digits in the activations"),
    }
    rows = []
    for what, (change, price) in changes.items():
        planned = book.once(what, partial(cost, **{**network, "batch": batch, **change}))
        rows.append((what, *planned, price))
    whole = rows[0]
    table_rows = [
        (what, f"{size:.1f}", opsin.Score(1 - size / whole[1]), time, price) for what, size, time, price in rows
    ]
    columns = ("remedy", "MB of a training step", "saved", "milliseconds an image, measured", "what it costs besides")
    note = f"Batches of {batch} images of {shape[1]}x{shape[2]}. Memory is computed for each; time is that of forward and backward, without the optimizer."
    table = book.table("remedies", "Remedies, each alone", columns, table_rows, note)
    best = max(table_rows[1:], key=lambda row: row[2].value)
    slowest = max(table_rows[1:], key=lambda row: row[3])
    slower = [table.shown[place][0] for place, row in enumerate(table_rows) if row[3] > 1.1 * whole[2]]
    price = (
        f"slower an image by a tenth or more: {', '.join(slower)}"
        if slower
        else "none makes an image slower by a tenth"
    )
    return Found(
        answer=f"A smaller batch, a batch in parts, smaller images, fewer filters and bfloat16. Most is saved by: {best[0]} "
        f"({table.shown[table_rows.index(best)][2]}). On this machine, {price} (at most "
        f"{table.shown[table_rows.index(slowest)][3]} ms against {table.shown[0][3]}).",
        evidence=(table,),
        values={"the remedy that saves most": best[0], "what it saves": best[2]},
    )


def cost(**network: Any) -> tuple[float, float]:
    """Of a training step: MB that it takes, and milliseconds an image on this machine."""
    plan = opsin.plan("plain", **network)
    return plan.memory.training_bytes / MB, 1000 * plan.time.seconds_per_image_training if plan.time else 0.0


# %%
LAB = Lab(
    name="sizes-and-memory",
    title="Sizes and memory",
    words="Parameters and memory of a CNN, as in the textbook's exercise; what to do when memory runs out.",
    questions=(parameters, memory, remedies),
    minutes=(0.3, 0.5),
)
