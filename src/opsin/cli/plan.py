"""`opsin plan`: parameters, memory and time of a network, before training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.models import parse_shape
from opsin.cli.options import (
    FLAT,
    WHOLE,
    JsonFlag,
    ModelOptions,
    OutOption,
    QuietFlag,
    RootOption,
    SeedOption,
    TaskOption,
    given,
)
from opsin.cli.output import print_json, stdout_console
from opsin.config import OptimizerName, PrecisionName
from opsin.errors import ConfigError
from opsin.units import bytes_text

if TYPE_CHECKING:
    from opsin.planning.forecast import Plan


def plan(
    model: str,
    /,
    *,
    input: Annotated[
        str | None, Parameter(help="Shape of the images, CHANNELSxHEIGHTxWIDTH, e.g. 3x200x300; not with data.")
    ] = None,
    task: TaskOption = None,
    batch: Annotated[
        int | None,
        WHOLE,
        Parameter(name=("--batch", "--batch-size"), help="Images per step; by default 128, or as trained."),
    ] = None,
    accumulate: Annotated[
        int | None, WHOLE, Parameter(help="Number of parts a batch is split into (gradient accumulation).")
    ] = None,
    classes: Annotated[
        int | None, WHOLE, Parameter(help="Number of classes; by default 10, or those of the run or data.")
    ] = None,
    headless: Annotated[bool, Parameter(negative="", help="The backbone alone, without heads or decoder.")] = False,
    weights: Annotated[
        str | None, Parameter(help="For data: pretrained weights to start from, as for `opsin train`.")
    ] = None,
    finetune: Annotated[
        str | None,
        Parameter(help="The network is pretrained; what is trained of it: all, head, top:N, staged or gradual."),
    ] = None,
    optimizer: Annotated[
        OptimizerName | None, Parameter(help="Its state takes memory too; by default adamw, or as trained.")
    ] = None,
    precision: Annotated[
        PrecisionName | None,
        Parameter(help="Precision of activations; auto counts as float32; by default float32, or as trained."),
    ] = None,
    checkpoint_activations: Annotated[
        bool | None, Parameter(help="Recompute activations in the backward pass; by default off, or as trained.")
    ] = None,
    keep_memory: Annotated[
        bool | None, Parameter(help="Let the C allocator keep freed memory during training.")
    ] = None,
    memory: Annotated[
        str | None, Parameter(help="Available memory, e.g. 4GB; ranks what saves memory where it is too little.")
    ] = None,
    fit: Annotated[bool, Parameter(negative="", help="Change training settings until it fits into --memory.")] = False,
    samples: Annotated[
        int | None,
        WHOLE,
        Parameter(help="Images in an epoch, to estimate its time; by default those of the run or data."),
    ] = None,
    time: Annotated[bool, Parameter(help="Time a few steps.")] = True,
    layers: Annotated[
        bool, Parameter(negative="", help="Show every layer; by default long tables show sections with their sums.")
    ] = False,
    root: RootOption = None,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
    model_options: Annotated[ModelOptions | None, FLAT] = None,  # type: ignore[valid-type]
) -> int:
    """Forecast parameters, work, memory and time of a network, before anything runs.

    The plan includes the heads, the decoder and the loss of the task.

    Parameters
    ----------
    model
        An architecture (`opsin models` lists them); a run, planned as it was trained; or data (a catalogue name or a
        path), for the network that `opsin train` would choose.
    """
    from opsin.api.verbs import plan as make_plan

    for name, value in (("batch", batch), ("accumulate", accumulate), ("classes", classes), ("samples", samples)):
        if value is not None and value < 1:
            raise ConfigError("the number is out of range", where=f"--{name}", got=value, expected="1 or more")
    made = make_plan(
        model,
        shape=parse_shape(input) if input else None,
        task=task,
        batch=batch,
        num_outputs=0 if headless else classes,
        memory=memory,
        fit=fit,
        timed=time,
        samples=samples,
        root=root,
        out=out,
        accumulate=accumulate,
        optimizer=optimizer,
        precision=precision,
        checkpoint_activations=checkpoint_activations,
        keep_memory=keep_memory,
        weights=weights,
        finetune=finetune,
        **given(model_options),
    )
    if json_:
        print_json(made.to_dict())
    else:
        show(made, table=not quiet, every_layer=layers)
    return 0


def show(plan: Plan, *, table: bool, every_layer: bool = False) -> None:
    """Print a plan: the totals, memory part by part, time, remedies, then the layers."""
    console = stdout_console(highlight=False, soft_wrap=True)
    for line in (title(plan), *memory_lines(plan), *time_lines(plan), *fit_lines(plan)):
        console.print(line, markup=False)
    if table:
        console.print()
        console.print(layer_rows(plan, every_layer=every_layer))


def title(plan: Plan) -> str:
    """What is planned."""
    request = plan.request
    shape = "x".join(map(str, plan.layers.input_shape))
    if not request.num_outputs:
        return f"{request.spec.name} without heads, input {shape}"
    return f"{request.spec.name} to {request.task.name}, {request.num_outputs} classes, input {shape}"


def layer_rows(plan: Plan, *, every_layer: bool) -> object:
    """The layers as a table of rich, or the sections of a network that has many."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsin.planning.forecast import layer_dicts, section_dicts

    rows = layer_dicts(plan)
    shown = rows if every_layer else section_dicts(rows)
    heading = f"{len(rows)} layers" + ("" if len(shown) == len(rows) else f" in {len(shown)} sections; --layers: each")
    table = Table(title=heading, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for name in ("output", "parameters", "mult-adds", "output", "saved,\nbatch"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in shown:
        shape = "x".join(map(str, row["output_shape"]))
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}")
        name = row["name"].removeprefix("backbone.")
        table.add_row(
            name, row["kind"], shape, *counts, bytes_text(row["output_bytes"]), bytes_text(row["saved_bytes"])
        )
    return table


def memory_lines(plan: Plan) -> list[str]:
    """Totals, and memory part by part."""
    request, layers, memory = plan.request, plan.layers, plan.memory
    half = f", {request.precision}" if request.precision != "float32" else ""
    parts = f" in {request.accumulate} parts" if request.accumulate > 1 else ""
    found = [
        f"{layers.parameters:,} parameters, {layers.trainable:,} trainable; "
        f"{layers.multiply_adds:,} multiply-adds for one image",
        *trained_lines(plan),
        f"to predict one image {bytes_text(memory.inference_bytes)} (weights and two live layers); "
        f"as run, {request.part} at once: {bytes_text(memory.inference_as_run_bytes)}",
        f"to train on {request.batch}{parts} with {request.optimizer}{half}: "
        f"{bytes_text(memory.live_bytes)} must exist at the peak",
        *allocator_lines(plan),
    ]
    found += [f"  {part:<12} {bytes_text(value):>10}" for part, value in memory.parts.items()]
    if request.cached and "gradients" not in memory.at_peak:
        found.append(f"  (the peak is earlier, where features are computed, {request.feature_batch} images at once)")
    elif sum(memory.parts.values()) > memory.training_bytes:
        found.append("  (not all of them exist at the same time)")
    counted = bytes_text(memory.textbook_bytes)
    return [*found, f"counting activations, inputs and weights alone: {counted}", *process_lines(plan)]


def trained_lines(plan: Plan) -> list[str]:
    """What is trained, where it is not everything, and the work of it."""
    from opsin.planning.forecast import trained_in_words

    work = f"{plan.training_multiply_adds:,} multiply-adds to train on one image"
    what = trained_in_words(plan.request)
    return [work if what == "all" else f"trained: {what}; {work}"]


def process_lines(plan: Plan) -> list[str]:
    """The whole process that trains, forecast; beside what was measured, where a run is planned."""
    least, most = plan.process_forecast
    forecast = bytes_text(least) if least == most else f"{bytes_text(least)} to {bytes_text(most)}"
    line = f"the whole process, Python and torch ({bytes_text(plan.process_bytes)}) included: {forecast} forecast"
    if plan.measured_bytes is None:
        return [line]
    measured = bytes_text(plan.measured_bytes)
    return [line, f"  {measured} measured in this run, with its data, its scoring and the packages that these need"]


def allocator_lines(plan: Plan) -> list[str]:
    """What the process holds beyond what must exist, in both modes of the C allocator."""
    from opsin.planning.memory import MOST_KEPT

    memory = plan.memory
    fragments = bytes_text(memory.kept_bytes - memory.live_bytes)
    more = f"at least {bytes_text(memory.kept_bytes)} ({fragments} of it fragments)"
    measured = f"up to {MOST_KEPT} times what must exist was measured"
    if plan.request.keep_memory:
        return [
            f"  by default the process keeps freed memory and holds more: {more}; {measured}",
            "  with --no-keep-memory, a tenth to two fifths slower, it holds what must exist",
        ]
    return [
        "  with --no-keep-memory the process holds that",
        f"  by default, faster, it holds more: {more}; {measured}",
    ]


def time_lines(plan: Plan) -> list[str]:
    """Time per image and per epoch."""
    time = plan.time
    if time is None:
        return []
    seconds = (1e3 * s for s in (time.seconds_per_image_inference, time.seconds_per_image_training))
    predict, train = (f"{s:.3g} ms" for s in seconds)
    plural = "s" if time.threads > 1 else ""
    how = f"median of {time.repeats} steps of {time.batch}, {time.threads} thread{plural}"
    line = f"on this machine: {predict} to predict an image, {train} to train on it ({how})"
    if plan.request.cached:
        line += "; the features of each image are computed once, before"
    epoch = time.seconds_per_epoch
    return [line] if epoch is None else [line, f"an epoch of {time.samples:,} images: {epoch:.3g} s"]


def fit_lines(plan: Plan) -> list[str]:
    """Whether it fits, and what to change where it does not."""
    if plan.limit is None:
        return []
    request = plan.request
    besides = f"{bytes_text(plan.process_bytes)} of Python and torch besides"
    if plan.fits:
        settings = f"--batch-size {request.batch} --accumulate {request.accumulate} --precision {request.precision}"
        settings += " --checkpoint-activations" if request.checkpoint_activations else ""
        settings += "" if request.keep_memory else " --no-keep-memory"
        found = [f"it fits into {bytes_text(plan.limit)} ({besides}); `opsin train` with {settings}"]
        doubt = (
            f"that is by a lower bound; to be sure add --no-keep-memory, or have {bytes_text(plan.memory.most_bytes)}"
        )
        return found if plan.fits_surely else [*found, doubt]
    bounds = " (without --no-keep-memory lower bounds)" if request.keep_memory else ""
    found = [f"it does not fit into {bytes_text(plan.limit)} ({besides}). What saves most on this network{bounds}:"]
    for remedy in plan.remedies:
        enough = "enough" if remedy.fits else "not enough"
        saves, needs = bytes_text(remedy.saves_bytes), bytes_text(remedy.training_bytes)
        found.append(f"  {remedy.name:<24} saves {saves:>9}, needs {needs:>9} ({enough}); {remedy.cost}")
    return found
