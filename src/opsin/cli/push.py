"""`opsin push`: a run on the Hugging Face hub, with a model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import JsonFlag, QuietFlag, SeedOption
from opsin.cli.output import print_json, print_line, print_note


def push(
    run: str,
    to: str,
    /,
    *,
    export: Annotated[Path | None, Parameter(help="Folder of `opsin export`, to be pushed too.")] = None,
    public: Annotated[
        bool, Parameter(negative="", help="Let anybody see it; otherwise its owner alone. It holds golden images.")
    ] = False,
    dry_run: Annotated[
        Path | None, Parameter(help="Write the folder that would be pushed, here, and send nothing.")
    ] = None,
    runs: Annotated[str, Parameter(help="Folder of runs.")] = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Push a run to the Hugging Face hub: model card, network and, if named, its export.

    Parameters
    ----------
    run
        Run by path or name.
    to
        hf://OWNER/NAME.
    """
    from opsin.api.deployment import push as push_run

    made = push_run(run, to, export=export, public=public, dry_run=dry_run, out=runs)
    if json_:
        print_json(made.to_json())
        return 0
    for file in made.files:
        print_line(file)
    if not quiet:
        print_note("golden.safetensors holds a few images of the data set")
        print_note(
            f"pushed to {made.address}" if made.folder is None else f"written to {made.folder}; nothing was sent"
        )
    return 0
