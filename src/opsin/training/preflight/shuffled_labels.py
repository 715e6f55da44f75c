"""Preflight of labels and score: permuted labels must not predict val, and the true labels should.

A linear classifier (ridge regression) is fitted to the features that the network gives of some training images, and to
their labels; val is predicted with it and scored by the task's own scores. The same is done for several permutations
of the labels.

The permutations' mean accuracy must be that of chance, to within four standard errors: one that is better means that
the score can be reached without learning, because labels leak into it past the images. If the true labels do not beat
the permutations, the features do not predict them: they may be shuffled against the images. That is only a warning,
since features of an untrained network may miss what it can learn.

The network itself is not trained for it, so a leak that only shows after training is not found; the same image in two
splits is found by `check_leaks`, before.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from opsin.batches.loader import gather
from opsin.data.samples import Samples
from opsin.errors import PreflightError
from opsin.models.parts.network import Network
from opsin.ops.intervals import wilson
from opsin.tasks.targets import Targets

if TYPE_CHECKING:
    from opsin.training.preflight.checks import Trial

MOST_IMAGES = 256
SECONDS = 3.0
FEWEST_IMAGES = 16
NUM_PERMUTATIONS = 20
RIDGE = 0.1
STANDARD_ERRORS = 4.0
FEWEST_FOR_LABELS = 50
"""Least number of val images for comparing true with permuted labels."""
WARNING = "warning"


def check_shuffled(trial: Trial) -> str:
    """Classifiers of permuted labels have chance accuracy on val, and those of the true labels are better.

    Returns:
        The finding; it begins with `WARNING` if the true labels do no better than permuted ones.

    Raises:
        PreflightError: permuted labels do better than chance.
    """
    prepared = trial.prepared
    if not prepared.task.one_class or "val" not in prepared.splits or not isinstance(trial.network, Network):
        return "not checked: it needs a classifier and a val split"
    count = int(SECONDS / 2 / max(trial.seconds / len(trial.batch), 1e-6))
    count = max(FEWEST_IMAGES, min(MOST_IMAGES, count))
    from_train, from_val = _samples(trial)
    train, val = _chosen(from_train, count), _chosen(from_val, count)
    began = time.perf_counter()
    seen, unseen = _features(trial, from_train, train), _features(trial, from_val, val)
    labels, truth = np.asarray(from_train.labels)[train.numpy()], np.asarray(from_val.labels)[val.numpy()]
    targets = Targets(ids=[str(i) for i in val.tolist()], labels=truth)
    own, *permuted = _accuracies(trial, seen, unseen, labels, targets)
    accuracies = np.array(permuted)
    chance = float(np.bincount(truth).max() / len(truth))
    limit = chance + STANDARD_ERRORS * float(accuracies.std(ddof=1)) / NUM_PERMUTATIONS**0.5 + 2 / len(truth)
    mean = float(accuracies.mean())
    if mean > limit:
        raise PreflightError(
            "permuted labels predict val better than chance: the score does not measure learning",
            got=f"accuracy {mean:.3f} over {NUM_PERMUTATIONS} permutations of {len(labels)} training labels",
            expected=f"at most {limit:.3f}: chance is {chance:.3f} on {len(truth)} val images",
            do="look for a leak of labels into the score: order of samples, file names, `Task.scores`",
        )
    seconds = time.perf_counter() - began
    told = f"accuracy {own:.3f}, of {NUM_PERMUTATIONS} permutations {mean:.3f} to {max(permuted):.3f}"
    told += f", chance {chance:.3f} ({seconds:.1f} s)"
    low, _ = wilson(own * len(truth), len(truth))
    if low > mean or len(truth) < FEWEST_FOR_LABELS:
        return told
    return (
        f"{WARNING}: labels predict val no better than permuted ones, by a linear classifier on the network's "
        f"features of {len(labels)} images ({told}); if the classes are visibly different, check that "
        "labels and images are in the same order"
    )


def _chosen(samples: Samples, count: int) -> Tensor:
    """Indices of `count` samples, evenly spread over the split."""
    return torch.linspace(0, len(samples) - 1, min(count, len(samples))).long()


def _samples(trial: Trial) -> tuple[Samples, Samples]:
    """Train and val: their features where these were computed, of all images or of those that there was time for."""
    cached = trial.prepared.features
    if cached is not None and cached.val is not None:
        return cached.train[0], cached.val
    return trial.prepared.splits["train"], trial.prepared.splits["val"]


@torch.no_grad()
def _features(trial: Trial, samples: Samples, index: Tensor) -> Tensor:
    """Features float64 [n, F] of the samples with these numbers, each feature of mean 0 and deviation 1."""
    prepared, network = trial.prepared, trial.network
    assert isinstance(network, Network)
    if prepared.features is not None and prepared.features.val is not None:
        rows = torch.from_numpy(np.asarray(samples.images)[index.numpy()])
    else:
        network.eval()
        step = len(trial.batch)
        parts = [gather(samples, part).to(prepared.device).images for part in torch.split(index, step)]
        rows = torch.cat([network.backbone(network.normalize(prepared.artifact.input(p))) for p in parts]).cpu()
    rows = rows.double()
    return (rows - rows.mean(0)) / rows.std(0).clamp_min(1e-9)


def _accuracies(trial: Trial, seen: Tensor, unseen: Tensor, labels: np.ndarray, targets: Targets) -> list[float]:
    """Accuracy on val of a classifier of `labels`, then of each permutation of them."""
    prepared, count, truth = trial.prepared, len(labels), np.asarray(targets.labels)
    generator = torch.Generator().manual_seed(0)
    kernel = seen @ seen.T / seen.shape[1]
    kernel += RIDGE * torch.eye(count, dtype=torch.float64)
    orders = [np.arange(count)]
    orders += [torch.randperm(count, generator=generator).numpy() for _ in range(NUM_PERMUTATIONS)]
    # of 100,000 classes only those of these images matter
    present, places = np.unique(np.concatenate([labels, truth]), return_inverse=True)
    labels, targets = places[:count], replace(targets, labels=places[count:])
    classes = [prepared.dataset.classes[k] for k in present]
    wanted = torch.cat([torch.from_numpy(np.eye(len(classes))[labels[order]]) for order in orders], dim=1)
    said = unseen @ (seen.T / seen.shape[1]) @ torch.linalg.solve(kernel, wanted - wanted.mean(0)) + wanted.mean(0)
    found = []
    for scores in torch.split(said, len(classes), dim=1):
        predictions = {"probabilities": (10 * scores).softmax(1).float().numpy()}
        shown = prepared.task.scores(predictions, targets, classes, intervals=False)
        found.append(shown[prepared.task.main_score].value)
    return found
