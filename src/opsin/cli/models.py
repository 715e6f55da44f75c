"""`opsin models`: the architectures, with their sizes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.options import FLAT, WHOLE, JsonFlag, ModelOptions, QuietFlag, SeedOption, given
from opsin.cli.output import print_json, stdout_console
from opsin.config import ModelConfig
from opsin.errors import ConfigError
from opsin.types import JsonDict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opsin.models.registry import ModelEntry, ModelSpec
    from opsin.models.table import LayerTable

LARGEST_SIDE = 4096
PIXELWISE = "unet"
"""The one network of `ENTRIES` that only exists with a decoder."""
LEAST_DESCRIPTION = 20
"""Terminal width in columns below which the list omits descriptions."""


def models(
    name: str | None = None,
    /,
    *,
    classes: Annotated[int, WHOLE, Parameter(help="Number of classes, at least 2.")] = 10,
    input: Annotated[str | None, Parameter(help="Shape of the images: CHANNELSxHEIGHTxWIDTH, e.g. 3x32x32.")] = None,
    learned_input: Annotated[bool, Parameter(negative="", help="Begin with a learned normalization.")] = False,
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
    model_options: Annotated[ModelOptions | None, FLAT] = None,  # type: ignore[valid-type]
) -> int:
    """List the architectures, or print the layers of one.

    Parameters
    ----------
    name
        An architecture; by default all are listed.
    """
    from opsin.models.registry import ENTRIES, SEGMENTERS, get_entry

    settings = given(model_options)
    named = settings.pop("model", None)
    if name and named and name != named:
        raise ConfigError("two networks are named", got=f"{name} and --model {named}", do="name one")
    if classes < 2:
        raise ConfigError("too few classes", where="--classes", got=classes, expected="2 or more")
    chosen = name or named
    if chosen is None and settings:
        raise ConfigError(
            "options of a network need its name", got=", ".join(settings), do="name one, e.g. `opsin models plain`"
        )
    shape = parse_shape(input) if input else None
    config = ModelConfig(**settings)
    entries = [get_entry(chosen)] if chosen else [*ENTRIES.values(), *SEGMENTERS.values()]
    specs = [specify(entry, shape, config, learned_input) for entry in entries]
    tables = [sizes(specs[0], classes)] if chosen else sizes_of_all(entries, specs, classes)
    found = [summary(*about) for about in zip(entries, specs, tables, strict=True)]
    if json_ and chosen:
        print_json(found[0])
    elif json_:
        print_json({"models": [{k: v for k, v in one.items() if k != "layers"} for one in found]})
    elif chosen and tables[0] is not None:
        show_one(entries[0], tables[0], quiet=quiet)
    else:
        show_all(entries, tables)
    return 0


def parse_shape(text: str) -> tuple[int, int, int]:
    """Parse a shape such as `3x32x32`.

    >>> parse_shape("3x32x48")
    (3, 32, 48)

    Raises:
        ConfigError: the text has another form, or a number is out of range.
    """
    match = re.fullmatch(r"([0-9]{1,4})[x×]([0-9]{1,4})[x×]([0-9]{1,4})", text.strip().lower())
    channels, height, width = map(int, match.groups()) if match else (0, 0, 0)
    if not (1 <= channels <= 256 and 1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        expected = f"CHANNELSxHEIGHTxWIDTH, e.g. 3x32x32; sides of 1 to {LARGEST_SIDE}, at most 256 channels"
        raise ConfigError("not an image shape", where="--input", got=text, expected=expected)
    return channels, height, width


def specify(
    entry: ModelEntry, shape: tuple[int, int, int] | None, config: ModelConfig, learned_input: bool
) -> ModelSpec:
    """The spec of the network; by default for the input shape its sizes are quoted for."""
    from opsin.models.registry import ModelSpec, resolve_options

    channels, height, width = shape or entry.default_size
    options = resolve_options(entry.name, config, learned_input=learned_input, decoder=entry.name == PIXELWISE)
    return ModelSpec(name=entry.name, channels=channels, height=height, width=width, options=options)


def sizes(spec: ModelSpec, classes: int) -> LayerTable:
    """The layers of one network as a classifier (of pixels, where it can do only that), without allocating it.

    Raises:
        ConfigError: it needs a package that is not installed.
    """
    import torch

    from opsin.models.building import build_network, build_segmenter
    from opsin.models.registry import DECODER, SEGMENTERS
    from opsin.models.table import layer_table

    with torch.device("meta"):
        if spec.name in SEGMENTERS or DECODER in spec.options:
            network: torch.nn.Module = build_segmenter(spec, classes)
        else:
            network = build_network(spec, {"logits": classes})
    return layer_table(network, spec.channels, spec.height, spec.width)


def sizes_of_all(entries: Sequence[ModelEntry], specs: Sequence[ModelSpec], classes: int) -> list[LayerTable | None]:
    """The layers of each network; None where a package is not installed, or the images do not suit the network."""
    tables: list[LayerTable | None] = []
    for entry, spec in zip(entries, specs, strict=True):
        try:
            tables.append(sizes(spec, classes) if entry.is_here else None)
        except ConfigError:
            tables.append(None)
    return tables


def show_all(entries: Sequence[ModelEntry], tables: Sequence[LayerTable | None]) -> None:
    """Print all architectures, with their sizes where all that they need is installed."""
    from rich.table import Table

    rows = []
    for entry, layers in zip(entries, tables, strict=True):
        shape = "x".join(map(str, entry.default_size if layers is None else layers.input_shape))
        ways = " ".join(way.partition(":")[0].removeprefix("--weights ") for way in entry.weights[:-1])
        counts = ("", "") if layers is None else (f"{layers.parameters:,}", f"{layers.multiply_adds / 1e6:,.1f} M")
        rows.append((entry.name, shape, *counts, ways, entry.description))
    console = stdout_console()
    table = Table(box=None, pad_edge=False)
    taken = 0
    for number, heading in enumerate(("name", "input", "parameters", "mult-adds", "weights")):
        right = heading in ("parameters", "mult-adds")
        table.add_column(heading, no_wrap=True, justify="right" if right else "left")
        taken += max(len(heading), *(len(row[number]) for row in rows)) + 2
    room = console.width - taken - 1  # otherwise rich narrows the number columns in favour of long descriptions
    described = room >= LEAST_DESCRIPTION
    if described:
        table.add_column("description", no_wrap=True, overflow="ellipsis", max_width=room)
    for row in rows:
        table.add_row(*row if described else row[:-1])
    console.print(table)
    for entry, layers in zip(entries, tables, strict=True):
        if entry.extra:
            console.print(f"{entry.name} needs {entry.extra}", highlight=False, markup=False)
        elif layers is None:
            why = f"`opsin models {entry.name}` with this input shows why"
            console.print(f"{entry.name} does not accept this input: {why}", highlight=False, markup=False)
    console.print("Any network of timm too, by its name there: `opsin models timm/convnext_atto`.")


def show_one(entry: ModelEntry, layers: LayerTable, *, quiet: bool) -> None:
    """Print the layers of one architecture."""

    from opsin.config import field_names
    from opsin.models.architectures.unet import DecoderOptions

    console = stdout_console()
    if not quiet:
        decoder = field_names(DecoderOptions) if entry.name == PIXELWISE else ()
        options = ", ".join(dict.fromkeys([*entry.option_names, *decoder]))
        console.print(f"{entry.name}: {entry.description}\nsource: {entry.source}\noptions: {options}", markup=False)
        if entry.family:
            console.print(f"introduced {entry.family}", markup=False)
        for way in entry.weights:
            console.print(way, soft_wrap=True, highlight=False, markup=False)
    console.print(layers)


def summary(entry: ModelEntry, spec: ModelSpec, layers: LayerTable | None) -> JsonDict:
    """What `--json` prints of one architecture; its sizes are null where it cannot be built."""
    about: JsonDict = {
        "name": entry.name,
        "description": entry.description,
        "source": entry.source,
        "introduced": entry.family,
    }
    about |= {"weights": list(entry.weights), "needs": entry.extra, "options": dict(spec.options)}
    return about | (dict.fromkeys(("parameters", "trainable", "multiply_adds")) if layers is None else layers.to_dict())
