"""Steps/s of a small network beside 0, 1 and 2 busy processes, by how threads wait and how many there are.

Each side runs in a process of its own. `before` is PyTorch as it comes; `briefly` has GOMP_SPINCOUNT=1000, `asleep`
OMP_WAIT_POLICY=passive; `one` is one thread; `opsin` is what Opsin sets and chooses. The last column is the best of the
sides set by hand over `opsin`: 1.3 or less is the goal with one busy process.

    python benchmarks/busy.py [--seconds 6]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

SIDE = """
import os, sys, time
side, seconds = sys.argv[1], float(sys.argv[2])
if side == "opsin":
    from opsin.openmp import set_waiting
    set_waiting()
import torch
from opsin.config import ModelConfig
from opsin.models.registry import ModelSpec, build_network, resolve_options
from opsin.training.engine.machine import set_allocator
from opsin.training.engine.threads import OtherWork, choose
work = OtherWork()
set_allocator(keep_memory=True)
spec = ModelSpec(name="small", channels=3, height=32, width=32, options=resolve_options("small", ModelConfig()))
network = build_network(spec, {"logits": 10}, seed=0).to(memory_format=torch.channels_last)
images = torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
def step():
    network(images)["logits"].square().mean().backward()
    network.zero_grad(set_to_none=True)
if side == "one":
    torch.set_num_threads(1)
step()
if side == "opsin":
    choose(torch.get_num_threads(), lambda: step, work.cores())
began, count = time.perf_counter(), 0
while time.perf_counter() - began < seconds:
    step()
    count += 1
print(count / (time.perf_counter() - began), torch.get_num_threads())
"""
BUSY = "import sys, time\nend = time.time() + float(sys.argv[1])\nwhile time.time() < end: pass"
SIDES = {
    "before": {},
    "briefly": {"GOMP_SPINCOUNT": "1000"},
    "asleep": {"OMP_WAIT_POLICY": "passive"},
    "one": {},
    "opsin": {},
}
OURS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def steps_per_second(side: str, busy: int, seconds: float) -> tuple[float, int]:
    """Steps/s and threads of one side beside `busy` processes, which end by themselves after a minute."""
    environment = {name: value for name, value in os.environ.items() if name not in OURS} | SIDES[side]
    loops = [subprocess.Popen([sys.executable, "-c", BUSY, "60"]) for _ in range(busy)]
    try:
        command = [sys.executable, "-c", SIDE, side, str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    rate, threads = done.stdout.split()
    return float(rate), int(threads)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6.0)
    seconds = parser.parse_args().seconds
    print("busy  " + "".join(f"{side:>12}" for side in SIDES) + "  best by hand / opsin")
    for busy in range(3):
        found = {side: steps_per_second(side, busy, seconds) for side in SIDES}
        by_hand = max(rate for side, (rate, _) in found.items() if side != "opsin")
        cells = "".join(f"{rate:8.2f} ({threads})" for rate, threads in found.values())
        print(f"{busy:<4}  {cells}  {by_hand / found['opsin'][0]:.2f}", flush=True)


if __name__ == "__main__":
    main()
