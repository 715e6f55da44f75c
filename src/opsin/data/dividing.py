"""From what a reader recognized to the splits that are used: published ones kept, the others drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from opsin.config import DataConfig
from opsin.data.pack import default_cache
from opsin.data.quality.copies import MAX_NEAR, Copies, find_copies
from opsin.data.readers.found import Found
from opsin.data.readers.labels import check_labels
from opsin.data.samples import Dataset, Source
from opsin.data.sources import FileSource
from opsin.data.splits import divide, first_samples, hold_out, joined, parse_subset
from opsin.errors import ConfigError, DataError
from opsin.progress import Reporter
from opsin.score_notes import TEST_AS_VAL
from opsin.types import SplitName

DRAWN = "train, val and test were drawn"
"""Begins the note on splits of an undivided set."""
USED_WHOLE = "undivided data set, used as test"
"""The note on an undivided set of which no splits are drawn."""


def splits_of(
    found: Found, config: DataConfig, *, drawn: bool, report: Reporter
) -> tuple[dict[SplitName, Source], list[str], bool]:
    """The splits, notes on how they were made, and whether near copies were kept within splits.

    `drawn`: False leaves the set as its publisher divides it; an undivided set is then all `test`.

    Raises:
        ConfigError: a setting does not fit the set.
        DataError: labels or splits that cannot be used.
    """
    subset, near_kept = parse_subset(config.subset), found.near_copies_kept
    notes: list[str] = []
    if found.pool is not None:
        if config.test_as_val:
            do = "leave it out: a val is drawn"
            raise ConfigError("`test_as_val` needs a published test split", got="an undivided set", do=do)
        if not drawn:
            return first_samples({"test": found.pool}, subset), [USED_WHOLE], False
        check_labels({"train": found.pool}, found.classes, where=found.root or found.name)
        splits, near_kept = _draw_together(divide, found.pool, config, notes, report)
        splits = first_samples(splits, subset)
        notes.append(f"{DRAWN} with {_manner(found.pool, config)}")
    else:
        before = {name: size for name, size in subset.items() if name in found.splits}
        splits = first_samples(found.splits, before)
        if drawn and config.test_as_val:
            splits = _test_as_val(splits, found)
            notes.append(TEST_AS_VAL)
        if drawn and "train" in splits and "val" not in splits:
            if found.published:  # drawn as in earlier versions, so that published results hold
                splits |= hold_out(splits["train"], config)
            else:
                splits |= _draw_together(hold_out, splits["train"], config, notes, report)[0]
                near_kept = False  # of the splits as they were before
            notes.append(f"val was drawn from train with {_manner(splits['train'], config)}")
        splits = first_samples(splits, {name: size for name, size in subset.items() if name not in before})
    if subset:
        notes.append(f"subset {config.subset}: the first samples in the publisher's order")
    return splits, notes, near_kept


def undrawn(dataset: Dataset) -> Dataset:
    """A data set whose splits were drawn as one that was never divided: all its samples are `test`."""
    parts = tuple(dataset.splits.values())
    notes = [note for note in dataset.notes if not note.startswith(DRAWN)]
    return replace(dataset, splits={"test": joined(parts)}, notes=(*notes, USED_WHOLE))


def _test_as_val(splits: Mapping[SplitName, Source], found: Found) -> dict[SplitName, Source]:
    """Train unchanged, and test in place of val.

    Raises:
        ConfigError: there is no test split.
    """
    if "train" not in splits or "test" not in splits:
        got = ", ".join(splits)
        raise ConfigError(
            "`test_as_val` needs a published test split", where=found.root or found.name, got=got, do="leave it out"
        )
    return {"train": splits["train"], "val": splits["test"]}


Draw = Callable[[Source, DataConfig, Copies | None], dict[SplitName, Source]]


def _draw_together(
    draw: Draw, source: Source, config: DataConfig, notes: list[str], report: Reporter
) -> tuple[dict[SplitName, Source], bool]:
    """Splits with copies kept together, and whether that includes near copies; `notes` are added."""
    if source.groups is not None:
        return draw(source, config, None), False
    copies = find_copies(source, cache=default_cache(), report=report)
    exact = replace(copies, near=None)
    if copies.num_exact:
        number = copies.num_exact
        subject = "1 sample is an exact copy" if number == 1 else f"{number:,} samples are exact copies"
        notes.append(f"{subject} of another: copies were kept in one split")
    if copies.near is None:
        if isinstance(source, FileSource):
            notes.append(f"near copies were not searched for: more than {MAX_NEAR:,} images")
        return draw(source, config, exact), False
    if not copies.num_near:
        return draw(source, config, copies), True
    splits, plain = _drawn(draw, source, config, copies), draw(source, config, exact)
    if splits is None or any(2 * len(splits[name]) < len(plain[name]) for name in plain):
        notes.append(
            f"{copies.num_near:,} images have near copies (video frames?), in chains too long to keep in one "
            "split: scores will be too high. Divide the images yourself, or give a table with a column `group`"
        )
        return plain, False
    subject = "images have near copies" if copies.num_near > 1 else "image has near copies"
    notes.append(f"{copies.num_near:,} {subject}: they were kept in one split")
    return splits, True


def _drawn(draw: Draw, source: Source, config: DataConfig, copies: Copies) -> dict[SplitName, Source] | None:
    with suppress(DataError):
        return draw(source, config, copies)
    return None


def _manner(source: Source, config: DataConfig) -> str:
    kind = "whole groups, " if source.groups is not None else "class shares kept, " if config.stratify else ""
    return f"{kind}seed {config.split_seed}"
