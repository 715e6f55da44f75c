"""Run folders with real numbers: softmax regression on scikit-learn's handwritten digits, trained here in a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from opsin.config import resolve
from opsin.data.quality.findings import Finding
from opsin.ops.calibration import fit_temperature
from opsin.runs import DataCard, Environment, RunWriter, SplitCard, SplitScores, Summary, Timing
from opsin.tasks.classify.scores import classification_details, classification_scores

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
START = "2026-11-22T07:00:00.000+00:00"
MIB = 2**20


@dataclass(kw_only=True)
class Problem:
    """Images uint8 [N, 1, h, w] and labels int64 [N], with the classes' names."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, np.ndarray] = field(default_factory=dict)


def digits(classes: tuple[str, ...] = WORDS) -> Problem:
    """The digits, or the first kinds of them for fewer names."""
    raw = load_digits()
    kept = raw.target < len(classes)
    images = (raw.images[kept] * 15.9).astype(np.uint8)[:, None]
    return split(Problem(images=images, labels=raw.target[kept].astype(np.int64), classes=classes))


def pairs_of_digits(count: int = 6000) -> Problem:
    """Two digits side by side: 100 classes."""
    one = digits()
    left, right = np.random.default_rng(1).integers(0, len(one.images), (2, count))
    images = np.concatenate([one.images[left], one.images[right]], axis=3)
    names = tuple(f"{a}-{b}" for a in WORDS for b in WORDS)
    return split(Problem(images=images, labels=one.labels[left] * 10 + one.labels[right], classes=names))


def split(problem: Problem) -> Problem:
    order = np.random.default_rng(0).permutation(len(problem.images))
    cuts = np.split(order, [int(0.6 * len(order)), int(0.8 * len(order))])
    problem.splits = dict(zip(("train", "val", "test"), cuts, strict=True))
    return problem


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def train(problem: Problem, epochs: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Softmax regression by gradient descent; returns the log of its epochs and the probabilities of each split."""
    pixels = problem.images.reshape(len(problem.images), -1) / 255
    x = np.concatenate([pixels, np.ones((len(pixels), 1))], axis=1)
    target = np.eye(len(problem.classes))[problem.labels]
    weights, log = np.zeros((x.shape[1], len(problem.classes))), []
    rng, part = np.random.default_rng(0), problem.splits["train"]
    for epoch in range(1, epochs + 1):
        lr = 1 + np.cos(np.pi * (epoch - 1) / epochs)
        for batch in np.array_split(rng.permutation(part), max(1, len(part) // 32)):
            weights -= lr * x[batch].T @ (softmax(x[batch] @ weights) - target[batch]) / len(batch)
        row = {name: measure(softmax(x[i] @ weights), problem.labels[i]) for name, i in problem.splits.items()}
        log.append({"event": "epoch", "epoch": epoch, "lr": lr, "train": row["train"], "val": row["val"]})
    return log, {name: softmax(x[i] @ weights).astype(np.float32) for name, i in problem.splits.items()}


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    loss = -np.log(probabilities[np.arange(len(labels)), labels] + 1e-12).mean()
    return {"loss": float(loss), "accuracy": float((probabilities.argmax(1) == labels).mean())}


def result(name: str, probabilities: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> SplitScores:
    """One split's entry in scores.json, computed by the task itself."""
    ids = [f"{name}/{i:05d}" for i in range(len(labels))]
    temperature = fit_temperature(probabilities, labels)
    scores = classification_scores(probabilities, labels)
    details = classification_details(probabilities, labels, classes, ids, temperature=temperature)
    return SplitScores(n=len(labels), scores=scores, details=details)


def write_run(
    folder: Path,
    problem: Problem,
    *,
    epochs: int = 30,
    splits: Sequence[str] = ("val",),
    happened: Sequence[dict[str, Any]] = (),
) -> Path:
    """A whole run folder; `happened` goes into the log before the last five epochs."""
    settings = {"source": "digits", "epochs": epochs, "lr": 2.0, "batch_size": 32, "optimizer": "sgd", "shift": 1}
    writer = RunWriter.create(resolve(settings), name=folder.name, out=folder.parent)
    log, probabilities = train(problem, epochs)
    best = max(log, key=lambda epoch: epoch["val"]["accuracy"])["epoch"]
    write_log(folder / "log.jsonl", log, best=best, opened="test" in splits, happened=happened)
    scores = {
        name: result(name, probabilities[name], problem.labels[problem.splits[name]], problem.classes)
        for name in splits
    }
    if "test" in scores:
        scores["test"] = replace(scores["test"], opened=1)
    writer.environment(machine())
    writer.data(description(problem))
    writer.scores(scores)
    writer.summary(summary(folder.name, epochs, best, int("test" in splits)))
    writer.gallery(gallery(problem, scores))
    return folder


def write_log(
    path: Path, epochs: list[dict[str, Any]], *, best: int, opened: bool, happened: Sequence[dict[str, Any]]
) -> None:
    """The log as the training loop writes it; times and memory are made up, losses and scores are not."""
    for e in epochs:
        number = e["epoch"]
        e |= {"time": START, "step": number * 34, "seconds": 0.21 * number, "images_per_second": 5100.0 + number % 7}
        e |= {"cpu_percent": 93.0, "peak_memory_bytes": 410 * MIB + number * MIB // 4, "best": number == best}
    start = {"event": "start", "time": START, "parameters": 650, "trainable": 650, "epochs": len(epochs)}
    seal = {"event": "test_opened", "time": START, "message": "the test split was opened"}
    end = {"event": "finish", "time": START, "message": "finished"}
    lines = [start, *epochs[:-5], *happened, *epochs[-5:], *([seal] if opened else []), end]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def gallery(problem: Problem, scores: dict[str, SplitScores]) -> dict[str, np.ndarray]:
    chosen = problem.splits["train"][:24]
    samples = problem.images[chosen]
    moves = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 1)]
    views = [[np.roll(pixels, move, axis=(1, 2)) for move in moves] for pixels in samples[:8]]
    arrays = {"samples": samples, "samples_labels": problem.labels[chosen], "augmented": np.array(views)}
    for name, values in scores.items():
        wrong = [mistake["index"] for mistake in values.details["mistakes"]]
        if wrong:
            arrays[f"mistakes_{name}"] = problem.images[problem.splits[name][wrong]]
    return arrays


def description(problem: Problem) -> DataCard:
    num_classes = len(problem.classes)
    counts = {name: np.bincount(problem.labels[i], minlength=num_classes) for name, i in problem.splits.items()}
    finding = Finding(
        kind="near_duplicate",
        severity="warning",
        message="2 pairs of val images look like train images",
        samples=("val/00017", "train/00911"),
    )
    return DataCard(
        name="digits",
        task="classify",
        classes=problem.classes,
        layout="scikit-learn's embedded digits",
        published=True,
        splits={name: SplitCard(n=int(c.sum()), class_counts=tuple(c.tolist())) for name, c in counts.items()},
        size=problem.images.shape[2:],
        channels=1,
        fingerprint="5f0c2a9e41d8b7736a2e",
        notes=("val and test were drawn from train, stratified, with seed 0",),
        findings=(finding,),
    )


def machine() -> Environment:
    speeds = {
        ("float32", False): 1650.0,
        ("float32", True): 2210.0,
        ("bfloat16", False): 3320.0,
        ("bfloat16", True): 5180.0,
    }
    return Environment(
        opsin="0.1.0",
        python="3.11.7",
        torch="2.15.0",
        torchvision="0.30.0",
        platform="Linux-6.1.0-x86_64",
        processor="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        cores=2,
        threads=2,
        memory_bytes=24 * 2**30,
        device="cpu",
        precision="bfloat16",
        channels_last=True,
        compiled=False,
        timings=tuple(
            Timing(precision=precision, channels_last=last, images_per_second=speed)
            for (precision, last), speed in speeds.items()
        ),
    )


def summary(name: str, epochs: int, best: int, openings: int) -> Summary:
    return Summary(
        run=name,
        task="classify",
        data="digits",
        model="plain",
        parameters=650,
        trainable=650,
        epochs=epochs,
        seconds=0.21 * epochs,
        cpu_seconds=0.39 * epochs,
        best_epoch=best,
        peak_memory_bytes=417 * MIB,
        command=f"opsin train digits --epochs {epochs} --optimizer sgd --lr 2 --shift 1",
        stopped="finished",
        test_openings=openings,
    )


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values))
