"""`opsin data`: list the catalogue; show, audit and download data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter

from opsin.cli.options import (
    FLAT,
    WHOLE,
    AugmentOptions,
    DataArgument,
    DataOptions,
    JsonFlag,
    QuietFlag,
    RootOption,
    SeedOption,
    SplitOption,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, print_line, stdout_console
from opsin.errors import CheckFailedError, ConfigError, DataError, nearest
from opsin.types import JsonDict

if TYPE_CHECKING:
    from opsin.data.quality.audit import Audit
    from opsin.data.samples import Bytes, Dataset
    from opsin.types import SplitName

app = cyclopts.App(name="data", help="List, show, audit, shard and fetch data sets; the cache of decoded images.")
app.command("opsin.cli.cache:app", name="cache")
app.command("opsin.cli.shard:shard", name="shard")
NO_DATA_OPTIONS, NO_AUGMENT_OPTIONS = DataOptions(), AugmentOptions()


@app.command(name="list")
def list_sets(*, json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0) -> int:
    """List the data sets of the catalogue."""
    from opsin.data.catalogue import ENTRIES

    if json_:
        about = [
            {
                "name": entry.name,
                "task": entry.task,
                "classes": list(entry.classes),
                "splits": entry.splits,
                "description": entry.description,
                "folder": entry.folder,
                "terms": entry.terms,
            }
            for entry in ENTRIES.values()
        ]
        print_json({"sets": about})
        return 0
    from rich.table import Table

    table = Table("name", "classes", "description", "splits", "folder in ROOT/")
    for entry in ENTRIES.values():
        table.add_row(entry.name, str(len(entry.classes)), entry.description, entry.splits, entry.folder or "built in")
    stdout_console().print(table)
    return 0


@app.command
def layouts(*, json_: JsonFlag = False, quiet: QuietFlag = False, seed: SeedOption = 0) -> int:
    """List the layouts of data sets that Opsin recognizes, in the order in which they are looked for."""
    from opsin.data.readers.layouts import LAYOUTS

    if json_:
        print_json({"layouts": [{"name": row.name, "task": row.task, "looks": row.looks} for row in LAYOUTS]})
        return 0
    from rich.table import Table

    table = Table("layout", "task", "what it looks like")
    for row in LAYOUTS:
        table.add_row(row.name, row.task, row.looks)
    stdout_console().print(table)
    return 0


@app.command
def show(
    data: DataArgument,
    /,
    *,
    root: RootOption = None,
    task: TaskOption = None,
    split: Annotated[SplitOption, Parameter(help="Split of the pictures.")] = "train",
    augment: Annotated[bool, Parameter(negative="", help="Draw augmented training images.")] = False,
    out: Annotated[
        Path | None, Parameter(help="PNG file for the pictures; NAME-augmented.png by default with --augment.")
    ] = None,
    seed: Annotated[int, WHOLE, Parameter(help="Seed of the augmentation.")] = 0,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    data_options: Annotated[DataOptions, FLAT] = NO_DATA_OPTIONS,  # type: ignore[valid-type]
    augment_options: Annotated[AugmentOptions, FLAT] = NO_AUGMENT_OPTIONS,  # type: ignore[valid-type]
) -> int:
    """Show classes, splits and counts of a data set; with --out or --augment also pictures, as a PNG file."""
    from opsin.config import resolve
    from opsin.data.load import load
    from opsin.io.files import write_atomically
    from opsin.io.images import encode_png

    layer, changes = given(data_options, augment_options), given(augment_options)
    if changes and not augment:
        raise ConfigError("augmentation settings need --augment", got=", ".join(changes), do="add --augment")
    dataset = load(data, root=root, config=resolve(layer).data, task=task)
    if split not in dataset.splits:
        raise ConfigError(
            "the data set has no such split", where="--split", got=split, expected=", ".join(dataset.splits)
        )
    if augment and split != "train":
        raise ConfigError(
            "only training images are augmented", where="--split", got=split, expected="train", do="leave out --split"
        )
    file = out or (Path(f"{dataset.name}-augmented.png") if augment else None)
    if file is not None:
        pixels = _augmented(dataset, layer, seed) if augment else _sheet(dataset, split)
        write_atomically(file, encode_png(pixels))
    about = summary(dataset) | ({"file": str(file)} if file else {})
    if json_:
        print_json(about)
    else:
        _print_summary(dataset, file, quiet=quiet)
    return 0


@app.command
def audit(
    data: DataArgument,
    /,
    *,
    root: RootOption = None,
    task: TaskOption = None,
    near: Annotated[bool, Parameter(help="Search for near duplicates too.")] = True,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
    data_options: Annotated[DataOptions, FLAT] = NO_DATA_OPTIONS,  # type: ignore[valid-type]
) -> int:
    """Audit a data set: unreadable files, duplicates, leaks, class balance, sizes, masks, boxes.

    Masks: pixels and images per class, void pixels, empty masks. Boxes: their sizes.

    Exit status 0: training would accept the data set, perhaps with warnings.

    Exit status 3: training would refuse it for the findings marked `error`; --skip-unreadable and --allow-leaks permit
    them.

    Exit status 2: the data set could not be read.
    """
    from opsin.config import resolve
    from opsin.data.load import load
    from opsin.data.quality.audit import audit as examine
    from opsin.progress import Reporter

    reporter = Reporter(quiet=quiet)
    dataset = load(data, root=root, config=resolve(given(data_options)).data, task=task, report=reporter)
    with reporter.bar("audit", 1) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.at(done)

        found = examine(dataset, near=near, progress=progress)
    if json_:
        masks = {name: counts.about(dataset.classes) for name, counts in found.masks.items()}
        print_json(summary(dataset) | {"findings": findings(found)} | ({"masks": masks} if masks else {}))
    else:
        _print_findings(found)
        _print_masks(dataset, found)
    _refuse_errors(found)
    return 0


def _refuse_errors(found: Audit) -> None:
    """Raise, for the exit status, where training would refuse the data set.

    Raises:
        CheckFailedError: there are findings of severity `error`.
    """
    errors = [finding for finding in found.findings if finding.severity == "error"]
    if errors:
        raise CheckFailedError(
            "training would refuse this data set",
            got="; ".join(finding.message for finding in errors),
            do="fix the findings marked `error`, or permit them: --skip-unreadable N for files, --allow-leaks",
        )


@app.command
def fetch(
    name: str,
    /,
    *,
    root: RootOption = None,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
) -> int:
    """Download a catalogue data set from its publisher; checked by SHA-256, resumed after interruption.

    Parameters
    ----------
    name
        A catalogue name.
    """
    from opsin.data.catalogue import ENTRIES, ROOT_VARIABLE
    from opsin.data.fetch import fetch_entry
    from opsin.progress import Reporter

    if name not in ENTRIES:
        close = nearest(name, ENTRIES)
        do = f"did you mean `{close}`?" if close else "`opsin data list` lists them"
        raise DataError("no data set of this name", got=name, expected=", ".join(ENTRIES), do=do)
    entry, base = ENTRIES[name], root or os.environ.get(ROOT_VARIABLE)
    if entry.folder and base is None:
        raise ConfigError(
            "no folder to download to was given", expected=f"--root DIR or {ROOT_VARIABLE}", do="add --root DIR"
        )
    reporter = Reporter(quiet=quiet)
    with reporter.bar(f"fetch {name}", 1) as bar:

        def report(file: str, done: int, total: int | None) -> None:
            bar.total = total or done
            bar.at(done, note=file)

        folder = fetch_entry(entry, Path(base or "."), report=report)
    if json_:
        about = {"name": name, "task": entry.task, "classes": list(entry.classes), "splits": entry.splits}
        print_json(about | {"folder": str(folder) if folder else None})
    else:
        print_line(folder or f"{name} needs no files")
    return 0


def summary(dataset: Dataset) -> JsonDict:
    """What `--json` prints of a data set."""
    counts = dataset.counts()
    return {
        "name": dataset.name,
        "task": dataset.task,
        "classes": list(dataset.classes),
        "splits": {
            name: {"samples": len(source), "counts": counts.get(name)} for name, source in dataset.splits.items()
        },
        "layout": dataset.layout,
        "channels": dataset.channels,
        "size": dataset.size,
        "published": dataset.published,
        "notes": list(dataset.notes),
    }


def findings(found: Audit) -> list[JsonDict]:
    """What `--json` prints of the findings."""
    return [
        {"kind": f.kind, "severity": f.severity, "message": f.message, "count": f.count, "samples": list(f.samples)}
        for f in found.findings
    ]


def _augmented(dataset: Dataset, layer: dict[str, Any], seed: int) -> Bytes:
    from opsin.api.augmented import augmented_sheet

    return augmented_sheet(dataset, layer, seed)


def _sheet(dataset: Dataset, split: SplitName) -> Bytes:
    from opsin.data.show import dataset_sheet

    return dataset_sheet(dataset, split)[0]


def _print_summary(dataset: Dataset, file: Path | None, *, quiet: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = stdout_console()
    if not quiet:
        size = "of various sizes" if dataset.size is None else f"{dataset.size[0]}x{dataset.size[1]}"
        about = f"{dataset.name}: {dataset.task}, {dataset.layout}; images {size}, {dataset.channels} channels"
        console.print(escape(about))
        for note in dataset.notes:
            console.print(escape(f"note: {note}"))
    table = Table("class", *(f"{name}" for name in dataset.splits))
    counts = dataset.counts()
    if not counts:  # masks are not all read for this
        console.print(escape(f"pixel classes: {', '.join(dataset.classes)}"))
    for k, name in enumerate(dataset.classes if counts else ()):
        table.add_row(escape(name), *(f"{counts[split][k]:,}" if split in counts else "" for split in dataset.splits))
    table.add_section()
    table.add_row("all", *(f"{len(source):,}" for source in dataset.splits.values()))
    console.print(table)
    if file is not None:
        console.print(escape(f"pictures: {file}"))


def _print_findings(found: Audit) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "kind", "finding", show_lines=True)
    colours = {"error": "red", "warning": "yellow", "info": "dim"}
    for finding in found.findings:
        shown = [f"  {sample}" for sample in finding.samples[:5]]
        more = [f"  … {len(finding.samples) - 5} more"] if len(finding.samples) > 5 else []
        text = escape("\n".join([finding.message, *shown, *more]))
        table.add_row(f"[{colours[finding.severity]}]{finding.severity}[/]", finding.kind, text)
    stdout_console().print(table)


def _print_masks(dataset: Dataset, found: Audit) -> None:
    """A table of the classes: share of the labelled pixels and number of masks, by split."""
    from rich.markup import escape
    from rich.table import Table

    from opsin.data.quality.findings import percent

    if not found.masks:
        return
    table = Table("class", *found.masks)
    shares = {split: counts.shares(len(dataset.classes)) for split, counts in found.masks.items()}
    for k, name in enumerate(dataset.classes):
        cells = ((shares[split][k], counts.images[k]) for split, counts in found.masks.items())
        table.add_row(escape(name), *(f"{percent(share)} in {images:,}" if images else "–" for share, images in cells))
    table.add_section()
    table.add_row("all", *(f"{counts.num_masks:,} masks" for counts in found.masks.values()))
    console = stdout_console()
    console.print("share of each class in the labelled pixels, and number of masks that contain it:")
    console.print(table)
