"""`opsin data shard`: write a data set as tars that training reads shard by shard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from opsin.cli.options import (
    FLAT,
    WHOLE,
    DataArgument,
    DataOptions,
    JsonFlag,
    QuietFlag,
    RootOption,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, print_line

NO_DATA_OPTIONS = DataOptions()


def shard(
    data: DataArgument,
    out: Annotated[Path, Parameter(help="The new folder.")],
    /,
    *,
    root: RootOption = None,
    task: TaskOption = None,
    shard_mb: Annotated[float, Parameter(help="A shard is ended before it is larger, in MiB.")] = 64.0,
    seed: Annotated[int, WHOLE, Parameter(help="Seed of the order of train.")] = 0,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    data_options: Annotated[DataOptions, FLAT] = NO_DATA_OPTIONS,  # type: ignore[valid-type]
) -> int:
    """Write a data set as shards, WebDataset tars with an index: `opsin train OUT` reads them one after the other.

    Images are decoded once, to be sure that they can be, and kept as they are. The splits are those that training would
    draw. The folder appears whole or not at all.
    """
    from opsin.config import resolve
    from opsin.data.load import load
    from opsin.data.shards.writing import write_shards
    from opsin.progress import Reporter

    reporter = Reporter(quiet=quiet)
    config = resolve(given(data_options)).data
    dataset = load(data, root=root, config=config, task=task, report=reporter)
    with reporter.bar("writing shards", sum(map(len, dataset.splits.values()))) as bar:
        written = write_shards(
            dataset,
            out,
            shard_mb=shard_mb,
            seed=seed,
            skip_unreadable=config.skip_unreadable,
            progress=lambda done, _: bar.at(done),
        )
    counts = {name: split.samples for name, split in written.index.splits.items()}
    if json_:
        about = {"name": dataset.name, "task": dataset.task, "classes": list(dataset.classes), "splits": counts}
        size = {"shards": written.num_shards, "bytes": written.num_bytes, "skipped": list(written.skipped)}
        print_json(about | size | {"folder": str(out)})
    else:
        sizes = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        print_line(f"{out}: {written.num_shards} shards, {written.num_bytes / 2**20:,.1f} MiB ({sizes})")
    return 0
