"""Run folders with real numbers: softmax regression on scikit-learn's handwritten digits, trained here in a second."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from opsin.config import resolve, to_dict

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(kw_only=True)
class Problem:
    """Images uint8 [N, 1, h, w] and labels int64 [N], with the classes' names."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    splits: dict[str, np.ndarray] = field(default_factory=dict)


def digits(classes: tuple[str, ...] = WORDS) -> Problem:
    """The digits, or the first two kinds of them for two names."""
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
    x = np.concatenate(
        [problem.images.reshape(len(problem.images), -1) / 255, np.ones((len(problem.images), 1))], axis=1
    )
    target = np.eye(len(problem.classes))[problem.labels]
    weights, log = np.zeros((x.shape[1], len(problem.classes))), []
    rng, part = np.random.default_rng(0), problem.splits["train"]
    for epoch in range(1, epochs + 1):
        lr = 2.0 * 0.5 * (1 + np.cos(np.pi * (epoch - 1) / epochs))
        for batch in np.array_split(rng.permutation(part), max(1, len(part) // 32)):
            weights -= lr * x[batch].T @ (softmax(x[batch] @ weights) - target[batch]) / len(batch)
        row = {name: measure(softmax(x[i] @ weights), problem.labels[i]) for name, i in problem.splits.items()}
        log.append({"event": "epoch", "epoch": epoch, "lr": lr, "train": row["train"], "val": row["val"]})
    return log, {name: softmax(x[i] @ weights).astype(np.float32) for name, i in problem.splits.items()}


def measure(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    chosen = probabilities[np.arange(len(labels)), labels]
    return {
        "loss": float(-np.log(chosen + 1e-12).mean()),
        "accuracy": float((probabilities.argmax(1) == labels).mean()),
    }


def wilson(value: float, n: float) -> dict[str, float | None]:
    if n == 0 or np.isnan(value):
        return {"value": None, "low": None, "high": None}
    z = 1.959964
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(value * (1 - value) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return {"value": float(value), "low": float(max(0, middle - half)), "high": float(min(1, middle + half))}


def reliability(probabilities: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.linspace(0, 1, 11)
    bins = np.clip(np.digitize(confidence, edges) - 1, 0, 9)
    chosen = [bins == b for b in range(10)]
    means = [[float(v[c].mean()) if c.any() else None for c in chosen] for v in (confidence, right)]
    return {
        "edges": edges.tolist(),
        "confidence": means[0],
        "accuracy": means[1],
        "count": [int(c.sum()) for c in chosen],
    }


def result(probabilities: np.ndarray, labels: np.ndarray, ids: list[str], classes: tuple[str, ...]) -> dict[str, Any]:
    n, k, guess = len(labels), len(classes), probabilities.argmax(1)
    precision, recall, f1, support = precision_recall_fscore_support(labels, guess, labels=range(k), zero_division=0)
    curve = reliability(probabilities, labels)
    gaps = [(c, a, m) for c, a, m in zip(curve["confidence"], curve["accuracy"], curve["count"], strict=True) if m]
    wrong = np.flatnonzero(guess != labels)
    wrong = wrong[np.argsort(-probabilities.max(1)[wrong])][:48]
    scores = {"accuracy": wilson((guess == labels).mean(), n)}
    if k > 5:
        order = np.argsort(-probabilities, axis=1)[:, :5]
        scores["top5"] = wilson((order == labels[:, None]).any(1).mean(), n)
    scores |= {"balanced_accuracy": wilson(recall.mean(), n), "macro_f1": wilson(f1.mean(), n)}
    scores["loss"] = {"value": measure(probabilities, labels)["loss"], "low": None, "high": None}
    scores["ece"] = {"value": sum(abs(c - a) * m for c, a, m in gaps) / n, "low": None, "high": None}
    per_class = [
        {
            "class": classes[c],
            "precision": wilson(precision[c], (guess == c).sum()),
            "recall": wilson(recall[c], support[c]),
            "f1": wilson(f1[c], support[c]),
            "support": int(support[c]),
        }
        for c in range(k)
    ]
    mistakes = [
        {
            "index": int(i),
            "id": ids[i],
            "truth": int(labels[i]),
            "predicted": int(guess[i]),
            "confidence": float(probabilities[i].max()),
        }
        for i in wrong
    ]
    details = {
        "confusion": confusion_matrix(labels, guess, labels=range(k)).tolist(),
        "per_class": per_class,
        "reliability": curve,
        "temperature": 1.31,
        "ece_after_temperature": 0.0123,
        "mistakes": mistakes,
    }
    return {"n": n, "scores": scores, "details": details}


def write_run(
    folder: Path, problem: Problem, *, epochs: int = 30, splits: tuple[str, ...] = ("val",), extra: tuple[Any, ...] = ()
) -> Path:
    """A whole run folder, as `tmp/RUNFORMAT.md` has it. `extra` events are logged before the last five epochs."""
    folder.mkdir(parents=True)
    log, probabilities = train(problem, epochs)
    best = max(log, key=lambda e: e["val"]["accuracy"])["epoch"]
    for e in log:
        e |= {
            "time": f"2026-11-22T07:{e['epoch'] // 60:02d}:{e['epoch'] % 60:02d}Z",
            "step": e["epoch"] * 34,
            "seconds": 0.21 * e["epoch"],
        }
        e |= {"images_per_second": 5100.0 + 37 * (e["epoch"] % 7), "cpu_percent": 186.0 - e["epoch"] % 5}
        e |= {"peak_memory_bytes": 410 * 2**20 + e["epoch"] * 2**18, "best": e["epoch"] == best}
    opened = (
        [{"event": "test_opened", "time": "2026-11-22T07:01:00Z", "message": "the test split was opened"}]
        if "test" in splits
        else []
    )
    start = {
        "event": "start",
        "time": "2026-11-22T07:00:00Z",
        "parameters": 650,
        "trainable": 650,
        "steps_per_epoch": 34,
        "epochs": epochs,
    }
    lines = [
        start,
        *log[:-5],
        *extra,
        *log[-5:],
        *opened,
        {"event": "finish", "time": "2026-11-22T07:01:01Z", "message": "finished"},
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    settings = {
        "source": "digits",
        "epochs": epochs,
        "lr": 2.0,
        "batch_size": 32,
        "optimizer": "sgd",
        "shift": 1,
        "rotate": 8.0,
    }
    write_json(folder / "config.json", to_dict(resolve(settings)))
    write_json(folder / "environment.json", machine())
    write_json(folder / "data.json", description(problem))
    labels = {name: problem.labels[i] for name, i in problem.splits.items()}
    ids = {name: [f"{name}/{i:05d}" for i in range(len(v))] for name, v in labels.items()}
    scores = {name: result(probabilities[name], labels[name], ids[name], problem.classes) for name in splits}
    if "test" in scores:
        scores["test"]["opened"] = 1
    write_json(folder / "scores.json", scores)
    write_json(folder / "summary.json", summary(folder.name, epochs, best, len(opened)))
    np.savez_compressed(folder / "gallery.npz", allow_pickle=False, **gallery(problem, scores))
    return folder


def gallery(problem: Problem, scores: dict[str, Any]) -> dict[str, np.ndarray]:
    chosen = problem.splits["train"][:24]
    samples = problem.images[chosen]
    rolled = [[np.roll(pixels, (dx, dy), axis=(1, 2)) for dx in (-1, 0, 1) for dy in (-1, 1)] for pixels in samples[:8]]
    arrays = {"samples": samples, "samples_labels": problem.labels[chosen], "augmented": np.array(rolled)}
    for name, values in scores.items():
        wrong = [m["index"] for m in values["details"]["mistakes"]]
        arrays[f"mistakes_{name}"] = problem.images[problem.splits[name][wrong]]
    return arrays


def description(problem: Problem) -> dict[str, Any]:
    counts = {
        name: np.bincount(problem.labels[i], minlength=len(problem.classes)).tolist()
        for name, i in problem.splits.items()
    }
    finding = {
        "kind": "near_duplicate",
        "severity": "warning",
        "message": "2 pairs of val images look like train images",
        "samples": ["val/00017", "train/00911"],
    }
    return {
        "name": "digits",
        "task": "classify",
        "classes": list(problem.classes),
        "layout": "scikit-learn's embedded digits",
        "root": None,
        "published": True,
        "splits": {name: {"n": sum(c), "class_counts": c} for name, c in counts.items()},
        "size": list(problem.images.shape[2:]),
        "channels": 1,
        "fingerprint": "5f0c2a9e41d8b7736a2e",
        "notes": ["val and test were drawn from train, stratified, with seed 0"],
        "findings": [finding],
    }


def machine() -> dict[str, Any]:
    timings = [
        {"precision": "float32", "channels_last": False, "compile": False, "images_per_second": 1650.0},
        {"precision": "float32", "channels_last": True, "compile": False, "images_per_second": 2210.0},
        {"precision": "bfloat16", "channels_last": False, "compile": False, "images_per_second": 3320.0},
        {"precision": "bfloat16", "channels_last": True, "compile": False, "images_per_second": 5180.0},
    ]
    return {
        "opsin": "0.1.0",
        "python": "3.11.7",
        "torch": "2.15.0",
        "torchvision": "0.30.0",
        "platform": "Linux-6.1.0-x86_64",
        "processor": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
        "cores": 2,
        "threads": 2,
        "memory_bytes": 24 * 2**30,
        "device": "cpu",
        "precision": "bfloat16",
        "channels_last": True,
        "compiled": False,
        "timings": timings,
    }


def summary(name: str, epochs: int, best: int, openings: int) -> dict[str, Any]:
    return {
        "run": name,
        "task": "classify",
        "data": "digits",
        "model": "plain",
        "parameters": 108440,
        "trainable": 108244,
        "epochs": epochs,
        "seconds": 0.21 * epochs,
        "cpu_seconds": 0.39 * epochs,
        "best_epoch": best,
        "peak_memory_bytes": 417 * 2**20,
        "command": f"opsin train digits --epochs {epochs} --optimizer sgd --lr 2 --shift 1 --rotate 8",
        "stopped": "finished",
        "test_openings": openings,
    }


def write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values))
