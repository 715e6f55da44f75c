"""`opsin ensemble RUN…`: several runs as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, OutOption, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line, print_note
from opsin.types import plain_score

UNHEARD = 0.0005
"""Weights below this are printed as 0."""


def ensemble(
    *runs: str,
    kind: Annotated[
        Literal["auto", "average", "soup"],
        Parameter(help="Average probabilities, average weights (soup), or whichever is better on val."),
    ] = "auto",
    name: Annotated[str | None, Parameter(help="Name of the new run.")] = None,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Combine finished classification runs into one, with weights chosen on val, and report the gain.

    Parameters
    ----------
    runs
        Two or more runs, by name or folder, with the same data set and input size.
    """
    from opsin.api.verbs import ensemble as combine
    from opsin.cli.train import typed_command

    found = combine(*runs, kind=kind, name=name, out=out, quiet=quiet, command=typed_command())
    about = {
        "run": str(found.run.path),
        "kind": found.kind,
        "members": dict(zip(runs, found.members, strict=True)),
        "weights": dict(zip(runs, found.weights, strict=True)),
        "accuracy": found.accuracy,
        "gain": plain_score(found.gain),
    }
    if json_:
        print_json(about)
        return 0
    if note := unheard_note(runs, found.weights):
        print_note(f"note: {note}")
    for run, weight, accuracy in zip(runs, found.weights, found.members, strict=True):
        print_line(f"{run}: weight {weight:.3f}, val accuracy {accuracy:.4f}")
    print_line(f"{found.run.path} ({found.kind}): val accuracy {found.accuracy:.4f}, gain over the best {found.gain}")
    return 0


def unheard_note(runs: Sequence[str], weights: Sequence[float]) -> str | None:
    """Note on members whose weight is 0; None where there are none.

    >>> unheard_note(["a", "b"], [0.0, 1.0])
    'predictions are those of b alone: the other runs add nothing on val'
    """
    heard = [run for run, weight in zip(runs, weights, strict=True) if weight >= UNHEARD]
    if len(heard) == len(runs):
        return None
    return f"predictions are those of {' and '.join(heard)} alone: the other runs add nothing on val"
