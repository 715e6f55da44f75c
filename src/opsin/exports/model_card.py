"""The model card of a run: README.md with the metadata that the Hugging Face hub reads, made from the run folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import opsin
from opsin.runs import Run
from opsin.tasks.cards import TaskCard, card_of
from opsin.text import printable
from opsin.types import Score

USE = """```python
import opsin
from huggingface_hub import snapshot_download

folder = snapshot_download({address!r})
print(opsin.predict(folder + "/model", "photo.jpg"))
```
"""
LIMITS = """- It knows the classes above alone, and gives an answer for any image, also for one of nothing of the kind.
- The scores hold for images like those of this data set; light, cameras or places of another kind can lower them.
- Intervals are of the sample of images; they do not contain the differences between trainings with other seeds.
"""


def model_card(run: Run, address: str, *, has_export: bool) -> str:
    """The text of README.md.

    Args:
        run: the run; its scores, data and summary are told, no path of this machine.
        address: owner/name on the hub.
        has_export: whether an exported file lies in the folder `export`.
    """
    card = card_of(run.task)
    parts = [
        _metadata(run, card),
        f"# {_plain(run.name)}\n\n{card.question} A network of Opsin {opsin.__version__}.\n",
        "## Scores\n\n" + _scores(run, card),
        "## Data\n\n" + _data(run),
        "## Network\n\n" + _network(run),
        "## Use\n\n" + USE.format(address=address),
    ]
    if has_export:
        parts.append("`export/` holds the same network as a file for other programs, with its contract.\n")
    parts.append("## Limits\n\n" + LIMITS + _golden(run))
    return "\n".join(parts)


def _metadata(run: Run, card: TaskCard) -> str:
    """The block of YAML at the top; each value is JSON, which YAML contains."""
    tags = ["opsin", run.task, str(run.summary.model)]
    values: dict[str, object] = {"library_name": "opsin", "tags": tags}
    if card.hub_tag is not None:
        values["pipeline_tag"] = card.hub_tag
        values["model-index"] = [{"name": run.name, "results": _results(run, card, card.hub_tag)}]
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---", ""])


def _results(run: Run, card: TaskCard, tag: str) -> list[dict[str, object]]:
    data = str(run.data.name)
    return [
        {
            "task": {"type": tag},
            "dataset": {"type": data, "name": data, "split": split},
            "metrics": [
                {"type": name, "name": _title(card, name), "value": score.value}
                for name, score in scores.items()
                if score.value == score.value  # undefined scores are NaN
            ],
        }
        for split, scores in run.scores.items()
    ]


def _title(card: TaskCard, name: str) -> str:
    kind = card.score_kinds.get(name)
    return name if kind is None else kind.title


def _scores(run: Run, card: TaskCard) -> str:
    rows = [
        (_title(card, name), split, _words(score))
        for split, scores in run.scores.items()
        for name, score in scores.items()
    ]
    text = _table(("score", "split", "value, 95 % interval"), rows)
    looks = run.summary.test_openings
    if "test" not in run.scores:
        return text + "\nThe test split was never scored; the best epoch was chosen by val.\n"
    return text + f"\nThe best epoch was chosen by val; the test split was scored {looks} times before.\n"


def _words(score: Score) -> str:
    return str(score)


def _data(run: Run) -> str:
    data = run.data
    rows = [(split, str(card.n)) for split, card in data.splits.items()]
    classes = ", ".join(map(_plain, data.classes))
    notes = "".join(f"- {_plain(finding.message)}\n" for finding in data.findings)
    told = f"{_plain(data.name)}: {_plain(data.layout)}. Classes: {classes}.\n\n"
    return (
        told + _table(("split", "images"), rows) + (f"\nThe audit before training found:\n\n{notes}" if notes else "")
    )


def _network(run: Run) -> str:
    summary, size = run.summary, run.data.size or ()
    depth = f" of {run.data.bits} bits" if (run.data.bits or 8) > 8 else ""
    rows = [
        ("architecture", _plain(summary.model)),
        ("parameters", f"{summary.parameters:,}"),
        ("input", " x ".join(map(str, size)) + f" px, {run.data.channels} channels{depth}"),
        ("epochs, the best", f"{summary.epochs}, {summary.best_epoch}"),
        ("seconds of training", f"{summary.seconds:,.0f}" if summary.seconds is not None else "n/a"),
    ]
    return _table(("", ""), rows)


def _golden(run: Run) -> str:
    name = _plain(run.data.name)
    return f"- `model/golden.safetensors` holds a few images of {name}, by which the network is checked when loaded.\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


ESCAPES: Mapping[int, str] = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|#"})


def _plain(value: object) -> str:
    """A name from outside as Markdown that is nothing but text."""
    return printable(value).translate(ESCAPES)
