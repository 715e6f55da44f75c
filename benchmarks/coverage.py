"""How often 95 % intervals hold the truth, by simulation: the table of docs/intervals.md.

Each trial draws a split from a population whose score is known, and makes the interval as the scores of a run have it,
beside the bootstrap's percentiles and (classes, masks) its BCa interval. Seeded; about 15 minutes on one core for 1,000
trials (`--trials`).

    python benchmarks/coverage.py --trials 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from opsin.comparison.paired import difference_interval, group_interval, swap_test
from opsin.ops import masks, scores
from opsin.ops.intervals import (
    Floats,
    Statistic,
    bootstrap,
    jackknife_quantiles,
    percentile_interval,
    share_interval,
)
from opsin.tasks.labels import share_score
from opsin.tasks.regress.scores import r2_parts

Ends = tuple[float, float]
BY_SAMPLES = ("percentiles", "BCa", "Wilson's form", "Wilson's form, t")


@dataclass(frozen=True)
class Case:
    """A population of known score: `draw` gives the statistic of a new split of `count` samples."""

    name: str
    truth: float
    count: int
    draw: Callable[[np.random.Generator], Statistic]


def class_case(score: str, accuracy: float, count: int, *, num_classes: int = 10, imbalance: float = 1.0) -> Case:
    """Predictions that are right with one probability; each class `imbalance` times as frequent as the one before."""
    shares = imbalance ** np.arange(num_classes)
    shares /= shares.sum()
    hits = accuracy * shares
    predicted = hits + (1 - accuracy) * (1 - shares) / (num_classes - 1)
    truth = accuracy if score == "balanced accuracy" else float((2 * hits / (shares + predicted)).mean())

    def draw(generator: np.random.Generator) -> Statistic:
        labels = generator.choice(num_classes, count, p=shares)
        shift = generator.integers(1, num_classes, count) * (generator.random(count) > accuracy)
        told = (labels + shift) % num_classes

        def statistic(weights: Floats) -> Floats:
            counts = scores.weighted_counts(weights, labels, told, num_classes)
            balanced = score == "balanced accuracy"
            values = scores.balanced_accuracy(counts) if balanced else scores.class_mean(scores.f1(counts))
            return values[:, None]

        return statistic

    kind = "" if imbalance == 1 else ", unbalanced"
    return Case(f"{score} {truth:.2f}, {num_classes} classes{kind}", truth, count, draw)


def sizes_of_classes(generator: np.random.Generator, share: float, num: int) -> Floats:
    """Area of background, of a class in every image and of one in `share` of them: [N, 3]."""
    size = np.concatenate([np.ones((num, 1)), generator.gamma(2, 0.1, (num, 2))], axis=1)
    size[:, 2] *= generator.random(num) < share
    return size


def confusions(generator: np.random.Generator, size: Floats) -> Floats:
    """Confusions [N, 9] of a network on images of these areas [N, 3]; its quality differs from image to image."""
    num = len(size)
    found = np.concatenate([generator.beta(40, 1, (num, 1)), generator.beta(8, 2, (num, 2))], axis=1)
    cells = np.zeros((num, 3, 3))
    for k in range(3):
        cells[:, k, k] = size[:, k] * found[:, k]
    for k in (1, 2):
        cells[:, k, 0] = size[:, k] * (1 - found[:, k])
        cells[:, 0, k] = 0.5 * (1 - found[:, 0]) * (size[:, k] > 0)
    return cells.reshape(num, 9)


def mean_iou(sums: Floats) -> Floats:
    """Of confusions [r, 9]."""
    return masks.class_mean(masks.iou(sums.reshape(-1, 3, 3)))


def mean_dice(sums: Floats) -> Floats:
    """Of confusions [r, 9]."""
    return masks.class_mean(masks.dice(sums.reshape(-1, 3, 3)))


def mask_case(share: float, count: int, *, dice: bool = False) -> Case:
    """Background, a class in every image, and one in `share` of them."""
    score = mean_dice if dice else mean_iou
    population = np.random.default_rng(99)
    everything = confusions(population, sizes_of_classes(population, share, 400_000))
    truth = float(score(everything.sum(0, keepdims=True))[0])

    def draw(generator: np.random.Generator) -> Statistic:
        parts = confusions(generator, sizes_of_classes(generator, share, count))
        return lambda weights: score(weights @ parts)[:, None]

    name = "mean Dice" if dice else "mean IoU"
    return Case(f"{name} {truth:.2f}, a class in {100 * share:.0f} % of images", truth, count, draw)


def intervals(statistic: Statistic, count: int, seed: int) -> Iterator[tuple[str, Ends]]:
    """The interval of each method."""
    value = statistic(np.ones((1, count)))[0]
    resampled = bootstrap(statistic, count, seed=seed)
    found = {
        "percentiles": percentile_interval(resampled),
        "Wilson's form": share_interval(value, resampled, count, num_samples=count),
        "Wilson's form, t": share_interval(
            value, resampled, count, num_samples=count, quantile=jackknife_quantiles(statistic, count)
        ),
    }
    yield from ((name, (float(low[0]), float(high[0]))) for name, (low, high) in found.items())
    yield "BCa", bca(statistic, count, float(value[0]), resampled[:, 0])


def bca(statistic: Statistic, count: int, value: float, resampled: Floats) -> Ends:
    """Source: Efron 1987, "Better bootstrap confidence intervals"."""
    resampled = resampled[~np.isnan(resampled)]
    left_out = statistic(np.ones((count, count)) - np.eye(count))[:, 0]
    change = np.nan_to_num(np.nanmean(left_out) - left_out)
    squares = (change**2).sum()
    acceleration = (change**3).sum() / (6 * squares**1.5) if squares > 0 else 0.0
    below = ((resampled < value).sum() + 0.5 * (resampled == value).sum()) / len(resampled)
    bias = stats.norm.ppf(np.clip(below, 1 / len(resampled), 1 - 1 / len(resampled)))
    z = bias + stats.norm.ppf([0.025, 0.975])
    low, high = np.quantile(resampled, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    return float(low), float(high)


def shares(sums: Floats) -> Floats:
    """Hits over samples."""
    return sums[:, 0] / sums[:, 1]


def seeds_of(
    generator: np.random.Generator, num_seeds: int, count: int, hard: Floats, accuracy: float, spread: float
) -> list[Floats]:
    """Hits of networks on the same samples, half of whose outcome is the sample's own; seeds differ by `spread`."""
    parts = []
    for shift in generator.normal(0, spread, num_seeds):
        latent = (hard + generator.normal(size=count)) / np.sqrt(2)
        right = latent < stats.norm.ppf(np.clip(accuracy + shift, 1e-6, 1 - 1e-6))
        parts.append(np.stack([right, np.ones(count)], axis=1).astype(float))
    return parts


def rows_of_samples(trials: int) -> Iterator[str]:
    """Coverage and mean width of each method on each case of one run."""
    yield f"| case | n | {' | '.join(BY_SAMPLES)} |"
    yield "|---|---|" + "---|" * len(BY_SAMPLES)
    cases = [class_case(score, a, 180) for score in ("balanced accuracy", "macro F1") for a in (0.98, 0.9, 0.6)]
    cases += [class_case(score, 0.9, 180, imbalance=0.7) for score in ("balanced accuracy", "macro F1")]
    cases += [mask_case(0.03, 100), mask_case(0.03, 200), mask_case(0.03, 600), mask_case(0.3, 100)]
    cases += [mask_case(share, count, dice=True) for share, count in ((0.03, 200), (0.03, 600), (0.3, 100), (0.3, 300))]
    for case in cases:
        found: dict[str, list[Ends]] = {name: [] for name in BY_SAMPLES}
        for trial in range(trials):
            statistic = case.draw(np.random.default_rng((7, trial)))
            for name, ends in intervals(statistic, case.count, trial):
                found[name].append(ends)
        cells = " | ".join(told(found[name], case.truth) for name in BY_SAMPLES)
        yield f"| {case.name} | {case.count} | {cells} |"


def joint_hits(generator: np.random.Generator, num: int, accuracy: float, good: float) -> Floats:
    """Images whose class is right and whose box is good, [N]: both depend on how hard the image is."""
    hard = generator.normal(size=num)
    right, fits = ((hard + generator.normal(size=num)) / np.sqrt(2) for _ in range(2))
    hits: Floats = ((right < stats.norm.ppf(accuracy)) & (fits < stats.norm.ppf(good))).astype(np.float64)
    return hits


def rows_of_joint_accuracy(trials: int) -> Iterator[str]:
    """Coverage and mean width of Wilson's interval of the joint accuracy, as the scores of a run have it."""
    yield "| case | n | Wilson's |"
    yield "|---|---|---|"
    for accuracy, good, count in ((0.99, 0.98, 180), (0.95, 0.9, 180), (0.9, 0.7, 180), (0.9, 0.7, 60)):
        truth = float(joint_hits(np.random.default_rng(99), 4_000_000, accuracy, good).mean())
        ends = []
        for trial in range(trials):
            score = share_score(int(joint_hits(np.random.default_rng((10, trial)), count, accuracy, good).sum()), count)
            ends.append((score.low, score.high))
        yield f"| joint accuracy {truth:.2f}: class {accuracy}, box {good} | {count} | {told(ends, truth)} |"


def rows_of_equal_networks(trials: int, *, count: int = 180) -> Iterator[str]:
    """How often `compare` tells two networks apart that are equally good in truth, one run a side."""
    yield "| score | n | interval of the difference holds 0 | equal networks told apart |"
    yield "|---|---|---|---|"

    def pair_of_hits(generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        hard = generator.normal(size=count)
        (a,), (b,) = (seeds_of(generator, 1, count, hard, 0.9, 0.0) for _ in range(2))
        return a, b

    def pair_of_masks(generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        size = sizes_of_classes(generator, 0.3, count)
        return confusions(generator, size), confusions(generator, size)

    def pair_of_numbers(generator: np.random.Generator, count: int) -> tuple[Floats, Floats]:
        truth = generator.normal(size=(count, 2))
        a, b = (r2_parts(truth + 0.5 * generator.normal(size=truth.shape), truth)[0] for _ in range(2))
        return a, b

    mean_r2 = r2_parts(np.zeros((2, 2)), np.eye(2))[1]
    cases = (
        ("accuracy or joint accuracy 0.9", shares, pair_of_hits, True),
        ("mean IoU, a class in 30 % of images", mean_iou, pair_of_masks, True),
        ("R² of two numbers, 0.75", mean_r2, pair_of_numbers, False),
    )
    for name, of_sums, pair, bounded in cases:
        ends, apart = [], 0
        for trial in range(trials):
            a, b = pair(np.random.default_rng((11, trial)), count)
            ends.append(difference_interval([a], [b], of_sums, bounded=bounded))
            apart += (ends[-1][0] > 0 or ends[-1][1] < 0) and swap_test([a], [b], of_sums) < 0.05
        yield f"| {name} | {count} | {told(ends, 0.0)} | {100 * apart / trials:.1f} % |"


def rows_of_seeds(trials: int) -> Iterator[str]:
    """Coverage of the group's interval and of the difference's; how often two equal methods are told apart."""
    yield "| seeds a side | n | spread of seeds | interval of a group | of a difference | equal methods told apart |"
    yield "|---|---|---|---|---|---|"
    for num_seeds, count, spread in (
        (1, 1000, 0.02),
        (2, 1000, 0.02),
        (3, 1000, 0.02),
        (5, 1000, 0.02),
        (5, 180, 0.01),
    ):
        one, both, apart = [], [], 0
        for trial in range(trials):
            generator = np.random.default_rng((8, trial))
            hard = generator.normal(size=count)
            a, b = (seeds_of(generator, num_seeds, count, hard, 0.9, spread) for _ in range(2))
            one.append(group_interval(a, shares))
            both.append(difference_interval(a, b, shares))
            apart += (both[-1][0] > 0 or both[-1][1] < 0) and swap_test(a, b, shares) < 0.05
        verdicts = f"{100 * apart / trials:.1f} %"
        yield f"| {num_seeds} | {count} | {spread} | {told(one, 0.9)} | {told(both, 0.0)} | {verdicts} |"


def told(ends: list[Ends], truth: float) -> str:
    """Coverage and mean width."""
    low, high = np.array(ends).T
    held = np.mean((low <= truth) & (truth <= high))
    return f"{100 * held:.1f} % ({np.mean(high - low):.3f})"


def rows_of_best_epoch(trials: int, *, epochs: int = 20, count: int = 180, accuracy: float = 0.9) -> Iterator[str]:
    """The best of `epochs` alike epochs on val: how far it lies above what the network can do."""
    yield "| correlation of epochs | best less the truth, points | Wilson's of the best holds the truth |"
    yield "|---|---|---|"
    for correlation in (0.5, 0.8, 0.95):
        best = []
        for trial in range(trials):
            generator = np.random.default_rng((9, trial))
            own, shared = generator.normal(size=(epochs, count)), generator.normal(size=count)
            latent = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
            best.append((latent < stats.norm.ppf(accuracy)).mean(axis=1).max())
        ends = [stats.binomtest(round(b * count), count).proportion_ci(method="wilson") for b in best]
        held = np.mean([end.low <= accuracy <= end.high for end in ends])
        yield f"| {correlation} | {100 * (np.mean(best) - accuracy):+.1f} | {100 * held:.0f} % |"


TABLES: dict[str, tuple[Callable[[int], Iterator[str]], bool]] = {
    "samples": (rows_of_samples, False),
    "joint": (rows_of_joint_accuracy, False),
    "equal": (rows_of_equal_networks, True),
    "seeds": (rows_of_seeds, True),
    "best": (rows_of_best_epoch, False),
}
"""Each table by name, and whether it takes the number of trials of seeds."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed-trials", type=int, default=200)
    parser.add_argument("--tables", default=",".join(TABLES), help="which, by name")
    chosen = parser.parse_args()
    for name in chosen.tables.split(","):
        table, of_seeds = TABLES[name]
        for row in table(chosen.seed_trials if of_seeds else chosen.trials):
            print(row, flush=True)
        print()
