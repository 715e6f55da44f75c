"""Top-1 of pretrained networks on photos named by their ImageNet class: a check of weights, input and sizes.

The photos are of the training set, so that this is no score of the networks: it falls to a few per cent where range,
colour order, padding or the order of classes is wrong.

    python benchmarks/imagenet_photos.py PHOTOS MODEL=WEIGHTS…
    python benchmarks/imagenet_photos.py photos/ mobilenet_v2=mobilenet_v2.safetensors efficientnet_lite0=package

A photo's name begins with the number of its class, as in `207_golden_retriever.jpg`.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import torch

from opsin.io.images import read_image
from opsin.models.weights.pretrained import find_pretrained, pretrained_network

AT_LEAST = 0.85


@torch.inference_mode()
def top1(folder: Path, model: str, weights: str) -> tuple[int, int]:
    """Photos that are named rightly, and all photos."""
    pretrained = find_pretrained(weights, model)
    print(f"{model}: {'; '.join(pretrained.notes)}", flush=True)
    network, preprocess = pretrained_network(pretrained), pretrained.contract.preprocess()
    files = [file for file in sorted(folder.iterdir()) if re.match(r"\d+_", file.name)]
    right = 0
    for file in files:
        image = torch.from_numpy(preprocess.fit_image(read_image(file).pixels))
        right += int(network(preprocess(image[None]))["logits"].argmax()) == int(file.name.partition("_")[0])
    return right, len(files)


def main() -> int:
    """Print the shares; the exit code is 3 where one is too low."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("models", nargs="+", metavar="MODEL=WEIGHTS")
    options = parser.parse_args()
    failures = 0
    for named in options.models:
        model, _, weights = named.partition("=")
        right, total = top1(options.photos, model, weights)
        failures += right < AT_LEAST * total
        print(f"{model}: {right} of {total}, {right / total:.1%}", flush=True)
    return 3 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
