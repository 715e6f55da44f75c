"""Transposed against bilinear (and nearest): the same U-Net, the same seeds, another way of going up.

Trains every way with every seed, then tells on val: scores with intervals over seeds, differences paired over images
and seeds, a verdict, and the checkerboard of each way, as lines in the spectrum of its logits and as the grid that the
edges of its masks keep to. A run that is finished already is used again, so that the command can be stopped.

    python benchmarks/upsampling.py /data/person_voc --out /tmp/upsampling        person or not, 3 seeds
    python benchmarks/upsampling.py digit_masks --epochs 4 --seeds 1 --scenes 300 --out /tmp/try

Nothing here looks at a test split.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from opsin.artifact import load_proved
from opsin.data.load import load
from opsin.data.pack import pack
from opsin.data.samples import Samples
from opsin.figures import figure_to
from opsin.ops import masks as formulas
from opsin.ops.checkerboard import edge_phase, line_excess, power_spectrum
from opsin.ops.intervals import bootstrap, percentile_interval
from opsin.runs import Run
from opsin.training import train

WAYS = ("transpose", "bilinear", "nearest")
COLOURS = {"transpose": "#b3590a", "bilinear": "#1763a6", "nearest": "#9b3477"}
SCORES = ("foreground_dice", "mean_iou", "boundary_f1")
PERIODS = (2, 4, 8, 16)
NUM_MAPS = 200
"""Images of val whose logits are kept for the spectrum."""
CROP_PX = 48


@dataclass(frozen=True)
class Answers:
    """What one run says of val: masks uint8 [N, H, W], and of the first images the margin of the foreground."""

    masks: np.ndarray
    margins: np.ndarray


def main() -> None:
    options = parsed()
    out = Path(options.out)
    runs = {(way, seed): trained(options, out, way, seed) for seed in range(options.seeds) for way in options.ways}
    samples = val_samples(next(iter(runs.values())))
    assert samples.masks is not None
    answers = {key: answered(run, samples) for key, run in runs.items()}
    found = {
        "seeds": options.seeds,
        "images": len(samples.masks),
        "seconds": {way: mean_over_seeds(options, way, lambda r: r.summary.seconds, runs) for way in options.ways},
        "parameters": {way: runs[way, 0].summary.parameters for way in options.ways},
        "scores": {way: scores_of(options, way, runs) for way in options.ways},
        "differences": differences(options, answers, samples.masks),
        "checkerboard": {way: checkerboard(options, way, answers) for way in options.ways},
        "edges_of_truth": {str(p): edge_phase(known(samples.masks), p) for p in PERIODS},
    }
    tell(found, options.ways)
    (out / "upsampling.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    draw(Path(options.figure or out / "upsampling.png"), options, answers, samples, found)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="catalogue name or folder with masks")
    parser.add_argument("--root")
    parser.add_argument("--out", default="runs-upsampling", help="folder of the runs and of upsampling.json")
    parser.add_argument("--figure", help="PNG; by default in --out")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--input-size", type=int, default=96)
    parser.add_argument("--classes", choices=("foreground", "all"), default="foreground")
    parser.add_argument("--scenes", type=int, help="training scenes of digit_masks")
    return parser.parse_args()


def trained(options: argparse.Namespace, out: Path, way: str, seed: int) -> Run:
    """The run of one way and seed; trained unless it has been."""
    name = f"{way}-{seed}"
    if (out / name / "scores.json").is_file():
        return Run(out / name)
    extra = {"scenes": options.scenes} if options.scenes else {}
    size = {"input_size": options.input_size, "input_width": options.input_size}
    return train(
        options.data,
        root=options.root,
        name=name,
        out=out,
        seed=seed,
        resume=(out / name / "config.json").is_file(),
        command="benchmarks/upsampling.py",
        task="segment",
        classes=options.classes,
        epochs=options.epochs,
        upsample=way,
        **size,
        **extra,
    )


def val_samples(run: Run) -> Samples:
    """Val of a run's data set, in the network's size."""
    dataset = load(run.config.source, root=run.config.root, config=run.config.data, task="segment")
    policy = load_proved(run.model_folder).preprocess.size
    return pack(dataset, policy, cache=None, splits=["val"])["val"]


@torch.inference_mode()
def answered(run: Run, samples: Samples) -> Answers:
    """Masks of all images, and of the first the logit of the foreground less that of the background."""
    artifact = load_proved(run.model_folder)
    masks, margins = [], []
    for start in range(0, len(samples.images), 16):
        images = torch.from_numpy(np.array(samples.images[start : start + 16]))
        logits = artifact.network(artifact.preprocess(images))["logits"].float()
        masks.append(logits.argmax(1).to(torch.uint8).numpy())
        if start < NUM_MAPS:
            margins.append((logits[:, 1:].logsumexp(1) - logits[:, 0]).numpy())
    return Answers(np.concatenate(masks), np.concatenate(margins))


def mean_over_seeds(options: argparse.Namespace, way: str, value: Any, runs: Mapping[Any, Run]) -> float:
    return float(np.mean([value(runs[way, seed]) for seed in range(options.seeds)]))


def spread(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over seeds with its 95 % interval (Student's t); no interval of a single seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"value": mean, "low": None, "high": None}
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"value": mean, "low": mean - half, "high": mean + half}


def scores_of(options: argparse.Namespace, way: str, runs: Mapping[Any, Run]) -> dict[str, Any]:
    tables = [runs[way, seed].scores["val"] for seed in range(options.seeds)]
    return {name: spread([table[name].value for table in tables]) for name in SCORES if name in tables[0]}


def differences(options: argparse.Namespace, answers: Mapping[Any, Answers], truth: np.ndarray) -> list[dict[str, Any]]:
    """Each pair of ways: difference of the Dice of the foreground, over seeds and over images, and a verdict."""
    num_classes = 1 + int(max(known(truth).max(), *(a.masks.max() for a in answers.values())))
    counts = {key: formulas.confusions(a.masks, truth, num_classes) for key, a in answers.items()}

    def dice(key: Any, weights: np.ndarray) -> np.ndarray:
        summed = (weights @ counts[key].reshape(len(truth), -1)).reshape(-1, num_classes, num_classes)
        return formulas.dice(formulas.foreground(summed))[..., 1]

    found = []
    for a, b in combinations(options.ways, 2):

        def difference(weights: np.ndarray, a: str = a, b: str = b) -> np.ndarray:
            pairs = [dice((a, seed), weights) - dice((b, seed), weights) for seed in range(options.seeds)]
            return np.mean(pairs, axis=0)[:, None]

        one = np.ones((1, len(truth)))
        over_seeds = spread([float((dice((a, s), one) - dice((b, s), one))[0]) for s in range(options.seeds)])
        low, high = (float(end[0]) for end in percentile_interval(bootstrap(difference, len(truth))))
        over_images = {"value": float(difference(one)[0, 0]), "low": low, "high": high}
        found.append({"a": a, "b": b, "over_seeds": over_seeds, "over_images": over_images})
        found[-1]["verdict"] = verdict(found[-1])
    return found


def verdict(pair: Mapping[str, Any]) -> str:
    """Which way is better, if both intervals agree that one is."""
    parts = (pair["over_seeds"], pair["over_images"])
    if any(part["low"] is None for part in parts):
        return "one seed says nothing of how seeds differ"
    if all(part["low"] > 0 for part in parts):
        return f"{pair['a']} is better"
    if all(part["high"] < 0 for part in parts):
        return f"{pair['b']} is better"
    return "no difference is shown"


def checkerboard(options: argparse.Namespace, way: str, answers: Mapping[Any, Answers]) -> dict[str, Any]:
    """Lines in the spectrum in decibels, and how strongly edges keep to the grid, at each period."""
    each = [answers[way, seed] for seed in range(options.seeds)]
    spectra = [power_spectrum(square(a.margins)) for a in each]
    return {
        "line_db": {str(p): spread([line_excess(*s, p) for s in spectra]) for p in PERIODS},
        "edge_phase": {str(p): spread([edge_phase(a.masks, p) for a in each]) for p in PERIODS},
    }


def square(maps: np.ndarray) -> np.ndarray:
    """The middle of maps [N, H, W], cut to a square whose side is a multiple of the longest period."""
    side = min(maps.shape[1:]) // max(PERIODS) * max(PERIODS)
    return maps[:, :side, :side]


def known(masks: np.ndarray) -> np.ndarray:
    """Masks with void as background."""
    return np.where(masks == 255, 0, masks)


def tell(found: Mapping[str, Any], ways: Sequence[str]) -> None:
    """Print the tables."""
    print(f"val, {found['images']} images, {found['seeds']} seeds; 95 % intervals over seeds\n")
    print(f"{'':22}" + "".join(f"{way:>28}" for way in ways))
    for name in found["scores"][ways[0]]:
        print(f"{name:22}" + "".join(f"{words(found['scores'][way][name]):>28}" for way in ways))
    print(f"{'parameters':22}" + "".join(f"{found['parameters'][way]:>28,}" for way in ways))
    print(f"{'seconds':22}" + "".join(f"{found['seconds'][way]:>28.0f}" for way in ways))
    print("\nline in the spectrum of the logits, dB above what its neighbours lead to expect (0: none)")
    for p in PERIODS:
        row = (words(found["checkerboard"][way]["line_db"][str(p)], 1) for way in ways)
        print(f"{f'period {p} px':22}" + "".join(f"{cell:>28}" for cell in row))
    print("\nedges of the masks keep to a grid (0: not, 1: always)")
    for p in PERIODS:
        row = (words(found["checkerboard"][way]["edge_phase"][str(p)], 3) for way in ways)
        truth = found["edges_of_truth"][str(p)]
        print(f"{f'period {p} px':22}" + "".join(f"{cell:>28}" for cell in row) + f"   truth {truth:.3f}")
    print("\nDice of the foreground, paired")
    for pair in found["differences"]:
        print(
            f"{pair['a']} - {pair['b']}: over seeds {words(pair['over_seeds'])}, over images "
            f"{words(pair['over_images'])}: {pair['verdict']}"
        )


def words(score: Mapping[str, float | None], decimals: int = 4) -> str:
    if score["low"] is None:
        return f"{score['value']:.{decimals}f}"
    return f"{score['value']:.{decimals}f} [{score['low']:.{decimals}f}, {score['high']:.{decimals}f}]"


def draw(
    path: Path,
    options: argparse.Namespace,
    answers: Mapping[Any, Answers],
    samples: Samples,
    found: Mapping[str, Any],
) -> None:
    """Spectra and lines above; below, one photo and what each way makes of it, near an edge."""
    ways = options.ways
    image = most_edges(samples)
    top, left = crop_at(samples, image)
    place = (slice(top, top + CROP_PX), slice(left, left + CROP_PX))
    with figure_to(path, 10.0, 6.6) as figure:
        grid = figure.add_gridspec(2, 2 * (len(ways) + 1), height_ratios=(1, 1))
        half = len(ways) + 1
        spectrum, bars = figure.add_subplot(grid[0, :half]), figure.add_subplot(grid[0, half:])
        for number, way in enumerate(ways):
            frequencies, power = power_spectrum(square(answers[way, 0].margins))
            spectrum.semilogy(frequencies[1:], power[1:], color=COLOURS[way], label=way, linewidth=1.3)
            lines = found["checkerboard"][way]["line_db"]
            at = np.arange(len(PERIODS)) + (number - (len(ways) - 1) / 2) * 0.26
            bars.bar(at, [lines[str(p)]["value"] for p in PERIODS], 0.24, color=COLOURS[way], label=way)
            for x, p in zip(at, PERIODS, strict=True):
                if lines[str(p)]["low"] is not None:
                    bars.plot([x, x], [lines[str(p)]["low"], lines[str(p)]["high"]], color="#1a1e24", linewidth=1)
        for p in PERIODS:
            spectrum.axvline(1 / p, color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
            spectrum.text(1 / p, 1.01, f"1/{p}", transform=spectrum.get_xaxis_transform(), ha="center", fontsize=8)
        spectrum.set(xlabel="cycles a pixel", ylabel="power of the logits' rows and columns")
        spectrum.set_title("Spectrum, seed 0", loc="left", pad=16)
        spectrum.legend()
        bars.axhline(0, color="#1a1e24", linewidth=0.8)
        bars.set_xticks(range(len(PERIODS)), [f"{p} px" for p in PERIODS])
        bars.set(xlabel="period", ylabel="dB above what the neighbours lead to expect")
        bars.set_title("Lines of the grid, mean over seeds", loc="left", pad=16)
        shown = [("photo", np.asarray(samples.images[image]).transpose(1, 2, 0)[place], None)]
        shown += [(way, answers[way, 0].margins[image][place], "RdBu_r") for way in ways]
        for number, (title, pixels, colours) in enumerate(shown):
            axes = figure.add_subplot(grid[1, 2 * number : 2 * number + 2])
            limit = None if colours is None else float(np.abs(shown[1][1]).max())
            axes.imshow(
                pixels if pixels.ndim == 2 or pixels.shape[2] == 3 else pixels[..., 0],
                cmap=colours or "gray",
                vmin=None if limit is None else -limit,
                vmax=limit,
                interpolation="nearest",
            )
            if colours is not None:
                axes.contour(pixels, levels=[0.0], colors="#1a1e24", linewidths=1)
            axes.set_title(title if colours is None else f"{title}: logit of the foreground", loc="left")
            axes.set_xticks([])
            axes.set_yticks([])
    print(f"\n{path}")


def most_edges(samples: Samples) -> int:
    """The image, of those whose logits are kept, whose mask has most edges."""
    assert samples.masks is not None
    kept = known(samples.masks[:NUM_MAPS])
    return int((kept[:, :, 1:] != kept[:, :, :-1]).sum((1, 2)).argmax())


def crop_at(samples: Samples, image: int) -> tuple[int, int]:
    """Top and left of a crop around the middle of the edges of an image."""
    assert samples.masks is not None
    mask = known(samples.masks[image])
    rows, columns = np.nonzero(mask[:, 1:] != mask[:, :-1])
    middle = (int(np.median(rows)), int(np.median(columns))) if len(rows) else (0, 0)
    top, left = (
        int(np.clip(m - CROP_PX // 2, 0, max(0, side - CROP_PX))) for m, side in zip(middle, mask.shape, strict=True)
    )
    return top, left


if __name__ == "__main__":
    main()
