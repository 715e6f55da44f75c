# %% [markdown]
# # Convolution
#
# What a filter does to an image, how large its answer is, and what a convolutional layer computes.

# %%
from __future__ import annotations

from typing import Any

import numpy as np
from scipy import signal

import opsin
from opsin.labs.lab import Book, Found, Lab, question
from opsin.labs.measure import conv2d, photo

GAUSSIAN, SOBEL_X, SOBEL_Y = "gaussian:15x15,sigma=3", "sobel-x", "sobel-y"
FILTERS = {"Gaussian 15x15": GAUSSIAN, "Sobel X": SOBEL_X, "Sobel Y": SOBEL_Y}
SIDE = 512

# %% [markdown]
# ## What the filters do
#
# A photo of 512 x 512 pixels under each filter. Two drawings with a single edge show what a Sobel filter looks for.


# %%
@question(
    "What do a Gaussian and the two Sobel filters do to an image?",
    asks=(
        "range of Sobel X at an upright edge",
        "range of Sobel X at a level edge",
        "range of Sobel Y at a level edge",
    ),
)
def effects(book: Book) -> Found:
    image = photo(SIDE)
    upright = np.zeros((1, 32, 32), np.uint8)
    upright[:, :, 16:] = 255
    rows: list[tuple[Any, ...]] = []
    pictures = [("photo", image)]
    for name, kernel in FILTERS.items():
        found = opsin.filter_image(image, kernel).convolved["same"]
        edges = [
            opsin.filter_image(drawing, kernel).convolved["valid"] for drawing in (upright, upright.swapaxes(1, 2))
        ]
        contrast = np.abs(np.diff(found, axis=2)).mean() if name.startswith("Gaussian") else np.abs(found).mean()
        rows.append((name, float(contrast), *(float(np.ptp(edge)) for edge in edges)))
        bright = found if name.startswith("Gaussian") else 128 + found.mean(axis=0, keepdims=True) / 4
        pictures.append((name, np.clip(bright, 0, 255).astype(np.uint8)))
    before = float(np.abs(np.diff(image.astype(float), axis=2)).mean())
    columns = ("filter", "photo: mean", "range at an upright edge", "range at a level edge")
    note = f"Mean: of the differences between neighbours after the Gaussian ({before:.2f} before), of the responses of Sobel."
    table = book.table("effects", "What each filter answers", columns, rows, note)
    figure = book.pictures("filtered", "The photo under each filter", pictures)
    return Found(
        answer=f"The Gaussian blurs: neighbours differ by {table.shown[0][1]} grey levels instead of {before:.2f}. Sobel X "
        f"answers to upright edges alone (range {table.shown[1][2]} there, {table.shown[1][3]} at a level one), Sobel Y to "
        f"level ones ({table.shown[2][3]} against {table.shown[2][2]}).",
        evidence=(table, figure),
        values={
            "range of Sobel X at an upright edge": rows[1][2],
            "range of Sobel X at a level edge": rows[1][3],
            "range of Sobel Y at a level edge": rows[2][3],
        },
    )


# %% [markdown]
# ## Sizes
#
# *Full* lets the filter touch the image with any of its pixels, *same* puts its centre on each pixel, *valid* keeps it inside.


# %%
@question(
    "How large is the answer in the modes full, same and valid?",
    published="526, 512, 498; 514, 512, 510",
    asks=("Gaussian, full", "Gaussian, same", "Gaussian, valid", "Sobel X, full", "Sobel X, same", "Sobel X, valid"),
)
def sizes(book: Book) -> Found:
    rows = []
    for name, kernel in FILTERS.items():
        convolved = opsin.filter_image(photo(SIDE)[:1], kernel).convolved
        rows.append((name, SIDE, *(convolved[mode].shape[1] for mode in ("full", "same", "valid"))))
    columns = ("filter", "image, n", "full, n + k - 1", "same, n", "valid, n - k + 1")
    table = book.table("sizes", "Sides in pixels", columns, rows)
    ours = [", ".join(str(side) for side in row[2:]) for row in rows]
    return Found(
        answer=f"For sides n of the image and k of the filter: n + k - 1, n and n - k + 1. On {SIDE} pixels, Gaussian: "
        f"{ours[0]}. Sobel, X as Y: {ours[1]}.",
        ours=f"{ours[0]}; {ours[1]}",
        evidence=(table,),
        agrees=ours == ["526, 512, 498", "514, 512, 510", "514, 512, 510"],
        why=""
        if ours == ["526, 512, 498", "514, 512, 510", "514, 512, 510"]
        else "The table shows which sides differ.",
        values={
            f"{name}, {mode}": side
            for name, row in (("Gaussian", rows[0]), ("Sobel X", rows[1]))
            for mode, side in zip(("full", "same", "valid"), row[2:], strict=True)
        },
    )


# %% [markdown]
# ## Channels


# %%
@question(
    "What happens to the channels of a grey image and of a colour image, and why is a filter 7x7x3?",
    asks=(
        "channels of a colour image after a classical filter",
        "maps that one filter of a layer makes",
        "weights of it",
    ),
)
def channels(book: Book) -> Found:
    image, weights = photo(64), np.random.default_rng(0).normal(size=(3, 7, 7))
    together = conv2d(image, weights)
    apart = sum(conv2d(image[c : c + 1], weights[c : c + 1]) for c in range(3))
    rows = [
        ("classical filter, grey", 1, opsin.filter_image(image[:1], GAUSSIAN).convolved["same"].shape[0], None),
        ("classical filter, colour", 3, opsin.filter_image(image, GAUSSIAN).convolved["same"].shape[0], None),
        ("one filter of a layer, colour", 3, 1, weights.size),
    ]
    layer = opsin.plan("plain", filters=(32,), kernel_size=7, batch_norm=False, shape=(3, 100, 100), timed=False)
    first = next(row for row in layer.layers.rows if row.parameters)
    rows.append(("layer of 32 filters with 32 biases, colour", 3, first.output_shape[0], first.parameters))
    difference = float(np.abs(together - apart).max())
    note = f"A layer's filter on all channels at once, and the sum over its three slices, differ by at most {difference:.1e}."
    table = book.table(
        "channels", "Channels in and out", ("what", "channels in", "channels out", "weights"), rows, note
    )
    return Found(
        answer=f"A classical filter is applied to each channel by itself: {rows[0][2]} stays {rows[0][1]}, {rows[1][1]} stay "
        f"{rows[1][2]}. A filter of a layer has a slice for each channel and adds the three answers into one map (to "
        f"{difference:.1e}), so on RGB it holds {weights.size} weights; each of a layer's filters makes one map, whatever the "
        "number of channels.",
        evidence=(table,),
        values={
            "channels of a colour image after a classical filter": rows[1][2],
            "maps that one filter of a layer makes": rows[2][2],
            "weights of it": weights.size,
        },
    )


# %% [markdown]
# ## Stacks


# %%
@question(
    "Why does a stack of valid convolutions shrink the image?",
    asks=("pixels lost by a 15x15 filter", "pixels lost by a 3x3 filter", "side after 5 layers of 15x15"),
)
def stacks(book: Book) -> Found:
    rows: list[tuple[Any, ...]] = []
    for kernel, size in ((GAUSSIAN, 15), (SOBEL_X, 3)):
        sides = [side for side, _ in opsin.filter_image(photo(SIDE)[:1], kernel).stacked(5)]
        rows.append((f"{size}x{size}", SIDE, *sides, SIDE - sides[0]))
    columns = ("filter", "image", *(f"after {n}" for n in range(1, 6)), "lost a layer")
    table = book.table("stacks", "Sides after valid layers, each n - k + 1", columns, rows)
    return Found(
        answer=f"The filter must lie inside, so its centre cannot reach the border: each layer loses k - 1 pixels a side, "
        f"{rows[0][-1]} with a 15x15 filter ({SIDE} to {rows[0][6]} after 5), {rows[1][-1]} with a 3x3 one ({rows[1][6]}).",
        evidence=(table,),
        values={
            "pixels lost by a 15x15 filter": rows[0][-1],
            "pixels lost by a 3x3 filter": rows[1][-1],
            "side after 5 layers of 15x15": rows[0][6],
        },
    )


# %% [markdown]
# ## What a layer computes


# %%
@question(
    "Does Conv2D compute what scipy.signal.convolve2d computes?",
    asks=(
        "does it",
        "largest difference from convolve2d for Sobel X",
        "largest difference from correlate2d for Sobel X",
    ),
)
def layers(book: Book) -> Found:
    rows: list[tuple[Any, ...]] = []
    image = photo(SIDE)[:1]
    own = np.random.default_rng(0).normal(size=(7, 7))
    kernels = {name: opsin.filter_image(image, kernel).kernel.values for name, kernel in FILTERS.items()} | {
        "random 7x7": own
    }
    for name, kernel in kernels.items():
        answer = conv2d(image, kernel[None])
        references = (signal.convolve2d, signal.correlate2d)
        gaps = [
            float(np.abs(answer - reference(image[0].astype(float), kernel, "valid")).max()) for reference in references
        ]
        turned = float(
            np.abs(conv2d(image, kernel[None, ::-1, ::-1].copy()) - signal.convolve2d(image[0], kernel, "valid")).max()
        )
        rows.append((name, *gaps, turned))
    columns = ("filter", "against convolve2d", "against correlate2d", "turned by half, against convolve2d")
    table = book.table("layers", "Largest difference of Conv2D, in grey levels", columns, rows)
    sobel, asymmetric = table.shown[1], table.shown[3]
    correlates = rows[3][2] < 1e-6 < rows[3][1]
    verdict = "No: it computes the cross-correlation." if correlates else "The table does not say which of the two."
    return Found(
        answer=f"{verdict} It differs from convolve2d by up to {sobel[1]} for Sobel X, and from "
        f"correlate2d by {sobel[2]}; for random weights by {asymmetric[1]} and {asymmetric[2]}. With the filter turned by half "
        f"it is convolve2d ({asymmetric[3]}). The Gaussian is the same after the turn, so it shows no difference "
        f"({table.shown[0][1]}). For learned weights it does not matter.",
        evidence=(table,),
        values={
            "does it": not correlates,
            "largest difference from convolve2d for Sobel X": rows[1][1],
            "largest difference from correlate2d for Sobel X": rows[1][2],
        },
    )


# %%
LAB = Lab(
    name="convolution",
    title="Convolution",
    words="What a filter does to an image, how large its answer is, and what a convolutional layer computes.",
    questions=(effects, sizes, channels, stacks, layers),
    minutes=(0.5, 0.3),
)
