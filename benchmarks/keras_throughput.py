"""Training throughput of one plain CNN: Opsin against Keras 3 on TensorFlow, side by side.

Both sides train the network of the courses (CIFAR-10's shape, convolutions of 3x3 with batch norm and max pooling, a
dense layer of 50, Adam, batches of 100, float32) on the same 7,500 random images, each as its users do: Opsin with its
`Trainer` (uint8 images; loader, preprocessing, checks, a checkpoint at the end of each turn), Keras with `model.fit` on
float32 arrays that were normalized beforehand. Each side has a process of its own, so that neither's threads disturb
the other. They take turns; speeds on a shared machine drift, so what counts is the ratio of neighbouring turns. Where
other processes want the cores too, images per CPU second tell more than images per second; both are printed.

    ./scripts/bench                  makes an environment with Keras, then runs this file
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

CONFIGURATIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "2 conv": ((16, 32), ()),
    "2 conv, dense 50": ((16, 32), (50,)),
    "4 conv, dense 50": ((16, 32, 32, 32), (50,)),
}
"""Filters of the convolutions and nodes of the hidden dense layers: the courses' three networks."""
PARAMETERS = {"2 conv": 25_770, "2 conv, dense 50": 108_440, "4 conv, dense 50": 31_192}
"""Published counts with the running statistics: what shows that both sides train the same network."""
NUM_IMAGES, SIDE, NUM_CLASSES, BATCH_SIZE, LEARNING_RATE = 7500, 32, 10, 100, 0.01
PAUSE_S = 0.5

Train = Callable[[int], Any]
"""Trains for that many epochs."""


@dataclass(frozen=True)
class Turn:
    """What one side did in one turn."""

    images: int
    seconds: float
    cpu_seconds: float


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [N, 3, 32, 32] and labels int64 [N], the same on both sides."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (NUM_IMAGES, 3, SIDE, SIDE), dtype=np.uint8)
    return images, generator.integers(0, NUM_CLASSES, NUM_IMAGES)


def opsin_side(name: str, threads: int) -> tuple[Train, int, str]:
    """Opsin's trainer without val, the network's parameters with running statistics, and what runs."""
    import torch

    import opsin
    from opsin import config
    from opsin.data.load import load
    from opsin.progress import Reporter
    from opsin.runs import RunWriter
    from opsin.training.engine.loop import Trainer
    from opsin.training.setup.prepared import choose_precision
    from opsin.training.setup.preparing import prepare

    filters, dense = CONFIGURATIONS[name]
    images, labels = make_data()
    other = 255 - images[:NUM_CLASSES]  # a val split is asked for; it is not used
    network = {"task": "classify", "source": "arrays", "model": "plain", "filters": filters, "dense": dense}
    training = {"optimizer": "adam", "lr": LEARNING_RATE, "schedule": "constant", "batch_size": BATCH_SIZE}
    settings = config.resolve(network, training, {"precision": "float32", "threads": threads})
    data = load({"x_train": images, "y_train": labels, "x_val": other, "y_val": np.arange(NUM_CLASSES)})
    report = Reporter(quiet=True)
    prepared = prepare(data, settings, report)
    precision = choose_precision(prepared).precision
    trainer = Trainer(
        task=prepared.task,
        artifact=prepared.artifact,
        splits={"train": prepared.splits["train"]},
        config=settings,
        precision=precision,
        device=prepared.device,
        run=RunWriter.create(settings, name="bench", out=tempfile.mkdtemp(dir=os.environ["OPSIN_CACHE"])),
        report=report,
    )

    def train(epochs: int) -> None:
        trainer.decisions.settings = replace(trainer.settings, epochs=trainer.state.epoch + epochs)
        trainer.fit()

    state = trainer.network.state_dict()
    parameters = sum(value.numel() for key, value in state.items() if not key.endswith("num_batches_tracked"))
    memory_format = "channels last" if precision.channels_last else "channels first"
    return (
        train,
        parameters,
        f"opsin {opsin.__version__}, torch {torch.__version__}, {precision.dtype}, {memory_format}",
    )


def keras_side(name: str, threads: int) -> tuple[Train, int, str]:
    """The same of Keras, with its defaults."""
    os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")
    import keras
    import tensorflow as tf
    from keras import layers

    if threads:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    filters, dense = CONFIGURATIONS[name]
    stack: list[Any] = [keras.Input((SIDE, SIDE, 3))]
    for count in filters:
        convolution = layers.Conv2D(count, 3, padding="same")
        stack += [convolution, layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()]
    stack.append(layers.Flatten())
    for nodes in dense:
        stack += [layers.Dense(nodes), layers.BatchNormalization(), layers.ReLU()]
    model = keras.Sequential([*stack, layers.Dense(NUM_CLASSES, activation="softmax")])
    adam = keras.optimizers.Adam(LEARNING_RATE)
    model.compile(optimizer=adam, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    images, labels = make_data()
    inputs = (images.transpose(0, 2, 3, 1).astype(np.float32) - 127.5) / 74.0

    def train(epochs: int) -> None:
        model.fit(inputs, labels, batch_size=BATCH_SIZE, epochs=epochs, verbose=0)

    about = f"keras {keras.__version__}, tensorflow {tf.__version__}, {keras.config.floatx()}"
    return train, model.count_params(), about


SIDES = {"opsin": opsin_side, "keras": keras_side}


def serve(side: str, name: str, threads: int) -> None:
    """One side's process: build, say what was built, then train as many epochs as each line of stdin asks for."""
    train, parameters, about = SIDES[side](name, threads)
    print(json.dumps({"parameters": parameters, "about": about}), flush=True)
    for line in sys.stdin:
        epochs = int(line)
        wall, cpu = time.perf_counter(), time.process_time()
        train(epochs)
        turn = [epochs * NUM_IMAGES, time.perf_counter() - wall, time.process_time() - cpu]
        print(json.dumps(turn), flush=True)


class Side:
    """The parent's end of one side's process."""

    def __init__(self, side: str, python: str, name: str, threads: int, cache: Path) -> None:
        command = [python, __file__, "--side", side, "--configuration", name, "--threads", str(threads)]
        environment = os.environ | {"OPSIN_CACHE": str(cache)}
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        told = self._read()
        self.about: str = told["about"]
        if told["parameters"] != PARAMETERS[name]:
            raise SystemExit(f"{side} built {told['parameters']:,} parameters, expected {PARAMETERS[name]:,}")

    def turn(self, epochs: int) -> Turn:
        """Train that many epochs."""
        assert self.process.stdin
        time.sleep(PAUSE_S)
        self.process.stdin.write(f"{epochs}\n")
        self.process.stdin.flush()
        return Turn(*self._read())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _read(self) -> Any:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a side ended with exit code {self.process.wait()}")
        return json.loads(line)


def measure(name: str, arguments: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """Alternating turns of both sides on one network; the first turn of each warms up and is not counted."""
    pythons = {"opsin": sys.executable, "keras": arguments.keras_python}
    sides = {side: Side(side, python, name, arguments.threads, cache) for side, python in pythons.items()}
    turns: dict[str, list[Turn]] = {side: [] for side in sides}
    for side in sides.values():
        side.turn(1)
    for number in range(arguments.rounds):
        for side in sorted(sides, reverse=number % 2 == 1):
            turns[side].append(sides[side].turn(arguments.epochs))
    for side in sides.values():
        side.close()
    return {"configuration": name, "about": {side: sides[side].about for side in sides}} | summary(turns)


def summary(turns: dict[str, list[Turn]]) -> dict[str, Any]:
    """Medians of each side, and the ratio of Opsin to Keras: median, least and most over the rounds."""
    wall = {side: [turn.images / turn.seconds for turn in values] for side, values in turns.items()}
    cpu = {side: [turn.images / turn.cpu_seconds for turn in values] for side, values in turns.items()}
    found: dict[str, Any] = {}
    for kind, speeds in (("images_per_second", wall), ("images_per_cpu_second", cpu)):
        ratios = [a / b for a, b in zip(speeds["opsin"], speeds["keras"], strict=True)]
        ratio = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
        found[kind] = {side: statistics.median(values) for side, values in speeds.items()} | {"ratio": ratio}
    return found


def show(result: dict[str, Any]) -> None:
    """Print one configuration's result for people."""
    print(f"\n{result['configuration']} ({PARAMETERS[result['configuration']]:,} parameters)")
    for kind, title in (("images_per_second", "images/s"), ("images_per_cpu_second", "images/CPU s")):
        speeds, ratio = result[kind], result[kind]["ratio"]
        spread = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
        print(f"  {title:<13} opsin {speeds['opsin']:7,.0f}   keras {speeds['keras']:7,.0f}", end="")
        print(f"   ratio {ratio['median']:.2f} ({spread})", flush=True)


def main() -> int:
    """Measure all configurations; exit with 3 when a ratio is under --at-least."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras-python", help="interpreter that has keras and tensorflow")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side that count (5)")
    parser.add_argument("--epochs", type=int, default=2, help="epochs in a turn (2)")
    parser.add_argument("--threads", type=int, default=0, help="threads of each side; 0 leaves each its default")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, help="only this network")
    parser.add_argument("--at-least", type=float, default=0.0, help="fail when a ratio of images/s is lower")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of text")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        serve(arguments.side, arguments.configuration, arguments.threads)
        return 0
    names = [arguments.configuration] if arguments.configuration else list(CONFIGURATIONS)
    results = []
    with tempfile.TemporaryDirectory() as cache:
        for name in names:
            results.append(measure(name, arguments, Path(cache)))
            if not arguments.json:
                print(*([] if len(results) > 1 else results[0]["about"].values()), sep="\n", end="")
                show(results[-1])
    if arguments.json:
        print(json.dumps({"results": results}, indent=2))
    return 3 if any(r["images_per_second"]["ratio"]["median"] < arguments.at_least for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
