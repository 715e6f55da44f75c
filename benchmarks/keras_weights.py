"""Our networks against Keras' own `applications`, with weights that Keras itself saved as HDF5.

For each network Keras builds it with random weights (norms with random statistics too), saves them in both layouts
(the older `.h5` that its `applications` download, and `.weights.h5`), and answers a few random images. Our reader takes
the files, and the outputs are compared: they must be equal within 1e-4 of the largest.

    python benchmarks/keras_weights.py --keras PYTHON      an interpreter that has keras and tensorflow
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

SIDES = {"vgg16": 224, "resnet50": 96, "mobilenet_v2": 96, "xception": 128}
KERAS = {"vgg16": "VGG16", "resnet50": "ResNet50", "mobilenet_v2": "MobileNetV2", "xception": "Xception"}
LAYOUTS = ("weights.h5", "h5")
NUM_IMAGES = 2
TOLERANCE = 1e-4


def save_by_keras(folder: Path, names: list[str]) -> None:
    """Save weights, images and answers of each network. Runs under an interpreter with Keras."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import h5py
    import keras
    from keras.src.legacy.saving import legacy_h5_format

    random = np.random.default_rng(0)
    for name in names:
        side = SIDES[name]
        build: Any = getattr(keras.applications, KERAS[name])
        model = build(weights=None, input_shape=(side, side, 3), classifier_activation=None)
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                shape = layer.get_weights()[0].shape
                near_one, near_zero = (0.8, 1.2), (-0.1, 0.1)
                ranges = (near_one, near_zero, near_zero, near_one)  # scale, offset, mean, variance
                layer.set_weights([random.uniform(low, high, shape) for low, high in ranges])
        images = random.uniform(-1, 1, (NUM_IMAGES, side, side, 3)).astype(np.float32)
        model.save_weights(folder / f"{name}.weights.h5")
        with h5py.File(folder / f"{name}.h5", "w") as file:
            legacy_h5_format.save_weights_to_hdf5_group(file, model)
        np.savez(folder / f"{name}.npz", images=images, outputs=np.asarray(model(images, training=False)))


def compare(folder: Path, name: str, layout: str) -> tuple[float, float]:
    """Largest difference between our outputs and Keras', and the largest output."""
    import torch

    from opsin.models.weights.pretrained import pretrained_network, read_pretrained

    saved = np.load(folder / f"{name}.npz")
    pretrained = read_pretrained(folder / f"{name}.{layout}", name, input_range="signed")
    network = pretrained_network(pretrained)
    images = torch.from_numpy(saved["images"]).permute(0, 3, 1, 2).contiguous()
    with torch.inference_mode():
        outputs = network(images)["logits"].numpy()
    return float(np.abs(outputs - saved["outputs"]).max()), float(np.abs(saved["outputs"]).max())


def main() -> int:
    """Print the differences; the exit code is 3 where one is too large."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras", default=sys.executable, help="interpreter that has keras and tensorflow")
    parser.add_argument("--save", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", default=list(SIDES))
    options = parser.parse_args()
    if options.save:
        save_by_keras(options.save, options.names)
        return 0
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            command = [options.keras, __file__, "--save", folder, name]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
            for layout in LAYOUTS:
                difference, largest = compare(Path(folder), name, layout)
                failures += difference > TOLERANCE * max(1.0, largest)
                print(f"{name:14} .{layout:11} difference {difference:.1e}, largest output {largest:.3g}", flush=True)
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
