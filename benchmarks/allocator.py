"""What it is worth to keep freed memory: images/s of training steps with `keep_memory` ("warm") and without ("cold").

Each side runs in a process of its own, in turns, so that neither inherits the other's heap. Prints the ratio.

    python benchmarks/allocator.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

SIDE = """
import sys, time, torch
from opsin.models.parts.layers import seeded
from opsin.models.registry import ModelSpec, build_network, resolve_options
from opsin.config import ModelConfig
from opsin.training.engine.machine import set_allocator
set_allocator(keep_memory=sys.argv[1] == "warm")
spec = ModelSpec(name="small", channels=3, height=32, width=32, options=resolve_options("small", ModelConfig()))
network = build_network(spec, {"logits": 10}, seed=0).to(memory_format=torch.channels_last)
images = torch.randn(500, 3, 32, 32).contiguous(memory_format=torch.channels_last)
def step():
    network(images)["logits"].square().mean().backward()
    network.zero_grad(set_to_none=True)
for _ in range(2):
    step()
began = time.perf_counter()
for _ in range(6):
    step()
print(6 * 500 / (time.perf_counter() - began))
"""


def images_per_second(side: str) -> float:
    """One process of one side."""
    done = subprocess.run([sys.executable, "-c", SIDE, side], capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    pairs = [(images_per_second("cold"), images_per_second("warm")) for _ in range(rounds)]
    ratios = [warm / cold for cold, warm in pairs]
    print(
        f"cold {statistics.median(c for c, _ in pairs):.0f}, warm {statistics.median(w for _, w in pairs):.0f} images/s"
    )
    print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
