# %% [markdown]
# # One convolution on a CPU and on a GPU
#
# The course times 32 filters of 7x7x3 on 100 colour images of 100x100 pixels, on the CPU and on the GPU, and then on 2 images.
# Why does the GPU gain so much with many images, and less with few?
#
# A device can do so many operations in a second, and move so many bytes. What a convolution asks of both says which of the
# two bounds it: that is the roofline. Where there is no GPU, its times are forecast from published peaks, and called so.

# %%
from __future__ import annotations

from functools import partial
from typing import Any

import opsin
from opsin.labs.lab import Book, Found, Lab, question

BATCHES = (100, 2)
FILTERS, KERNEL, CHANNELS, SIDE = 32, 7, 3, 100
GPUS = {"Tesla T4": (8.1e12, 320e9), "A100": (19.5e12, 1555e9)}
"""Peak in float32 in operations a second, and of memory in bytes a second, of NVIDIA's data sheets."""
LAUNCH_S = 10e-6
"""Assumed for one call on a GPU; it is not published."""

# %% [markdown]
# ## What is asked of a device
#
# A multiplication and an addition for each weight, at each place that the filter can take; and each number of images, weights
# and maps moved once.


# %%
def work(batch: int) -> tuple[float, float]:
    """Operations, and bytes in float32."""
    places = (SIDE - KERNEL + 1) ** 2
    weights = FILTERS * CHANNELS * KERNEL**2
    numbers = batch * CHANNELS * SIDE**2 + weights + batch * FILTERS * places
    return 2 * batch * places * weights, 4 * numbers


@question(
    "How many operations does the convolution take for 100 images and for 2, and how many bytes?",
    asks=("Gflop for 100 images", "MB for 100 images", "operations for each byte, 100 images"),
)
def asked(book: Book) -> Found:
    rows = []
    for batch in BATCHES:
        flops, size = work(batch)
        rows.append((batch, flops / 1e9, size / 1e6, flops / size))
    layer = next(
        row
        for row in opsin.plan(
            "plain", filters=(32,), kernel_size=7, batch_norm=False, shape=(3, 100, 100), timed=False
        ).layers.rows
        if row.parameters
    )
    note = f"Opsin's own layer, with a border of zeros, so that its maps keep {SIDE} pixels: {2 * layer.multiply_adds / 1e9:.4f} Gflop an image."
    columns = ("images", "Gflop", "MB that must move", "operations for each byte")
    table = book.table(
        "work", f"{FILTERS} filters of {KERNEL}x{KERNEL}x{CHANNELS} on {SIDE}x{SIDE} pixels", columns, rows, note
    )
    many, few = table.shown
    return Found(
        answer=f"{many[1]} Gflop and {many[2]} MB for {many[0]} images, {few[1]} Gflop and {few[2]} MB for {few[0]}. Both grow with the "
        f"images, so the intensity hardly changes: {many[3]} and {few[3]} operations for each byte.",
        evidence=(table,),
        values={
            "Gflop for 100 images": rows[0][1],
            "MB for 100 images": rows[0][2],
            "operations for each byte, 100 images": rows[0][3],
        },
    )


# %% [markdown]
# ## What this machine does
#
# Measured once for each lab: the peak by a product of large matrices, the memory by copying, then the convolution itself.


# %%
def measured(book: Book, threads: int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Roofs and timings of each device, precision and memory format; `threads`: of the CPU, or as many as it takes."""
    bench = partial(opsin.bench_conv, batches=BATCHES, side=SIDE, repeats=4 if book.quick else 30, threads=threads)

    def plain() -> dict[str, Any]:
        found = bench()
        return {"roofs": [vars(roof) for roof in found.roofs], "timings": [vars(timing) for timing in found.results]}

    found: dict[str, list[dict[str, Any]]] = book.once(f"bench, {threads or 'default'} threads", plain)
    return found


def fastest(book: Book, device: str, batch: int) -> dict[str, Any]:
    """The fastest timing of a batch on a device in float32, the precision of the published peaks."""
    cases = [row for row in measured(book)["timings"] if row["device"] == device and row["precision"] == "float32"]
    return min((row for row in cases if row["batch"] == batch), key=lambda row: float(row["median_s"]))


@question(
    "How near does the convolution come to what this machine can do, and what bounds it?",
    asks=("100 images are bound by", "2 images are bound by"),
)
def roofline(book: Book) -> Found:
    rows, roofs = [], []
    for roof in measured(book)["roofs"]:
        ridge = roof["flops_per_second"] / roof["bytes_per_second"]
        able = (roof["flops_per_second"] / 1e9, roof["bytes_per_second"] / 1e9, ridge, 1e6 * roof["launch_s"])
        roofs.append((f"{roof['device']}, {roof['precision']}", *able))
    for device in dict.fromkeys(roof["device"] for roof in measured(book)["roofs"]):
        for batch in BATCHES:
            best = fastest(book, device, batch)
            share = opsin.Score(min(best["bound_s"] / best["median_s"], 1.0))
            took = (1e3 * best["median_s"], best["flops_per_second"] / 1e9, share, best["bound_by"])
            rows.append((f"{device}, {batch} images", best["memory_format"], *took))
    columns = ("device", "Gflop/s", "GB/s", "ridge, operations for each byte", "one call, microseconds")
    table = book.table("roofs", "What each device can do, measured", columns, roofs)
    heads = ("case", "format", "ms, median", "Gflop/s", "share of the roof", "bound by")
    times = book.table("times", "The convolution in float32, the faster format", heads, rows)
    many, few = times.shown[:2]
    same = f"{many[5]} bounds both" if many[5] == few[5] else f"{many[5]} bounds 100 images, {few[5]} bounds 2"
    return Found(
        answer=f"On the CPU {many[3]} Gflop/s with 100 images and {few[3]} with 2, of {table.shown[0][1]} that a product of matrices "
        f"reaches: {many[4]} and {few[4]} of the roof. Above {table.shown[0][3]} operations for each byte it is arithmetic that bounds, "
        f"below it memory: {same}.",
        evidence=(table, times),
        values={"100 images are bound by": many[5], "2 images are bound by": few[5]},
    )


# %% [markdown]
# ## Threads, formats, precisions


# %%
@question(
    "What do threads, memory formats and precisions change on this machine?",
    asks=("the fastest case for 100 images", "its ms"),
)
def knobs(book: Book) -> Found:
    rows = []
    for words, threads in (("1 thread", 1), ("all threads", None)):
        for timing in measured(book, threads)["timings"]:
            if timing["device"] == "cpu" and timing["median_s"] is not None:
                what = f"{words}, {timing['precision']}, {timing['memory_format']}"
                rows.append(
                    (what, timing["batch"], 1e3 * timing["median_s"], 1e3 * timing["low_s"], 1e3 * timing["high_s"])
                )
    rows.sort(key=lambda row: (-row[1], row[2]))
    left_out = {f"{t['precision']}: {t['skipped']}" for t in measured(book)["timings"] if t["skipped"]}
    note = "; ".join(["Sorted by time; other work on the machine is in it", *sorted(left_out)]) + "."
    columns = ("case", "images", "ms, median", "lower quartile", "upper quartile")
    table = book.table("knobs", "Time of one call on the CPU", columns, rows, note)
    many = [row for row in table.shown if row[1] == str(BATCHES[0])]
    few = [row for row in table.shown if row[1] == str(BATCHES[1])]
    return Found(
        answer=f"For 100 images {many[0][0]} is fastest ({many[0][2]} ms), {many[-1][0]} slowest ({many[-1][2]} ms). For 2 images it is "
        f"{few[0][0]} ({few[0][2]} ms) and {few[-1][0]} ({few[-1][2]} ms).",
        evidence=(table,),
        values={"the fastest case for 100 images": many[0][0], "its ms": rows[0][2]},
    )


# %% [markdown]
# ## CPU against GPU


# %%
@question(
    "How much faster is a GPU with 100 images, and with 2?",
    asks=("the first GPU, 100 images, times faster", "with 2 images"),
)
def gpu(book: Book) -> Found:
    found = [roof["device"] for roof in measured(book)["roofs"] if roof["device"] != "cpu"]
    cpu = {batch: fastest(book, "cpu", batch)["median_s"] for batch in BATCHES}
    rows: list[tuple[Any, ...]] = []
    for device in dict.fromkeys(found):
        seconds = [fastest(book, device, batch)["median_s"] for batch in BATCHES]
        rows.append((device, "measured", *compared(cpu, seconds)))
    for name, (peak, bandwidth) in GPUS.items():
        seconds = [LAUNCH_S + max(flops / peak, size / bandwidth) for flops, size in map(work, BATCHES)]
        rows.append((name, "forecast", *compared(cpu, seconds)))
    columns = (
        "GPU",
        "how",
        "ms, 100 images",
        "CPU takes, times",
        "ms, 2 images",
        "CPU takes, times, 2 images",
        "call by itself, 2 images",
    )
    note = (
        f"A forecast is the least time by the published peaks in float32 and an assumed {1e6 * LAUNCH_S:.0f} microseconds a call: what is "
        f"measured takes longer. CPU here: {1e3 * cpu[BATCHES[0]]:.3g} and {1e3 * cpu[BATCHES[1]]:.3g} ms. Copying images to the GPU is left out."
    )
    table = book.table("gpu", "One call on a GPU", columns, rows, note)
    first = table.shown[0]
    here = "This machine has no GPU; the figures are a forecast from published peaks. " if not found else ""
    at_most = "at most " if not found else ""
    return Found(
        answer=f"{here}{first[0]}: {at_most}{first[3]} times faster than this CPU with 100 images, {first[5]} times with 2. A call costs the same for few "
        f"images as for many: with 2 it is {first[6]} of the time on that GPU, which waits for its next call instead of working.",
        evidence=(table,),
        values={"the first GPU, 100 images, times faster": rows[0][3], "with 2 images": rows[0][5]},
    )


def compared(cpu: dict[int, float], seconds: list[float]) -> tuple[Any, ...]:
    """For each batch ms and how many times as long the CPU takes; then the share of a call in the small batch."""
    share = opsin.Score(min(1.0, LAUNCH_S / seconds[1]))
    many, few = ((1e3 * taken, cpu[batch] / taken) for batch, taken in zip(BATCHES, seconds, strict=True))
    return (*many, *few, share)


# %%
LAB = Lab(
    name="device",
    title="One convolution on a CPU and on a GPU",
    words="32 filters of 7x7x3 on 100 images and on 2: work and bytes, the roofline of this machine, threads, formats, precisions, GPU.",
    questions=(asked, roofline, knobs, gpu),
    minutes=(1.3, 3.5),
)
