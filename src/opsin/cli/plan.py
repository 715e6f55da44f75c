"""`opsin plan`: how big is it, will it fit, how long does it take?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from opsin.cli.models import parse_shape
from opsin.cli.options import FLAT, WHOLE, JsonFlag, ModelOptions, OutOption, QuietFlag, SeedOption, given
from opsin.cli.output import print_json, stdout_console
from opsin.config import ModelConfig, OptimizerName, PrecisionName
from opsin.errors import ConfigError

if TYPE_CHECKING:
    from opsin.plan.plan import Plan


def plan(
    model: str,
    /,
    *,
    input: Annotated[str | None, Parameter(help="Shape of the images, CHANNELSxHEIGHTxWIDTH, e.g. 3x200x300.")] = None,
    batch: Annotated[int | None, WHOLE, Parameter(name=("--batch", "--batch-size"), help="Images in one step.")] = None,
    accumulate: Annotated[int | None, WHOLE, Parameter(help="Parts into which a batch is cut.")] = None,
    classes: Annotated[int | None, WHOLE, Parameter(help="Number of classes; 10, or as in the run.")] = None,
    headless: Annotated[bool, Parameter(negative="", help="Without the head that gives the logits.")] = False,
    optimizer: Annotated[
        OptimizerName | None, Parameter(help="Its state takes memory beside the weights; adamw, or as in the run.")
    ] = None,
    precision: Annotated[
        PrecisionName | None, Parameter(help="Of activations; auto counts as float32; float32, or as in the run.")
    ] = None,
    checkpoint_activations: Annotated[
        bool | None, Parameter(help="Recompute activations in the backward pass; by default not, or as in the run.")
    ] = None,
    keep_memory: Annotated[
        bool | None, Parameter(help="Whether training lets the C allocator keep freed memory.")
    ] = None,
    memory: Annotated[
        str | None, Parameter(help="Memory that there is, e.g. 4GB; remedies if it is too little.")
    ] = None,
    fit: Annotated[bool, Parameter(negative="", help="Change how it is trained until it fits into --memory.")] = False,
    samples: Annotated[int | None, WHOLE, Parameter(help="Images in an epoch, to tell its time.")] = None,
    time: Annotated[bool, Parameter(help="Take a few steps, to tell the time.")] = True,
    out: OutOption = "runs",
    json_: JsonFlag = False,
    quiet: QuietFlag = False,
    seed: SeedOption = 0,
    model_options: Annotated[ModelOptions | None, FLAT] = None,  # type: ignore[valid-type]
) -> int:
    """Forecast parameters, work, memory and time of a network, before anything runs.

    Parameters
    ----------
    model
        An architecture (`opsin models` lists them), or a run.
    """
    from opsin.plan.plan import make_plan, parse_bytes, request_of

    for name, value in (("batch", batch), ("accumulate", accumulate), ("classes", classes), ("samples", samples)):
        if value is not None and value < 1:
            raise ConfigError("a number out of range", where=f"--{name}", got=value, expected="1 or more")
    settings = given(model_options)
    if settings.pop("model", model) != model:
        raise ConfigError("two networks are named", where="--model", do="name one")
    request = request_of(
        model,
        ModelConfig(**settings),
        shape=parse_shape(input) if input else None,
        num_outputs=0 if headless else classes,
        batch=batch,
        accumulate=accumulate,
        optimizer=optimizer,
        precision=precision,
        checkpoint_activations=checkpoint_activations,
        keep_memory=keep_memory,
        out=out,
    )
    limit = parse_bytes(memory) if memory else None
    made = make_plan(request, limit=limit, make_fit=fit, timed=time, samples=samples)
    if json_:
        print_json(made.to_dict())
    else:
        show(made, layers=not quiet)
    return 0


def show(plan: Plan, *, layers: bool) -> None:
    """Print a plan: the layers, the totals, memory part by part, time, remedies."""

    console = stdout_console(highlight=False, soft_wrap=True)
    if layers:
        console.print(layer_rows(plan))
    for line in (*memory_lines(plan), *time_lines(plan), *fit_lines(plan)):
        console.print(line, markup=False)


def layer_rows(plan: Plan) -> object:
    """The layers as a table of rich."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from opsin.plan.plan import layer_dicts

    title = f"{plan.request.spec.name}, input {'x'.join(map(str, plan.layers.input_shape))}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    table.add_column("layer", overflow="fold")
    table.add_column("kind", no_wrap=True)
    for heading in ("output", "parameters", "mult-adds", "output", "saved,\nbatch"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in layer_dicts(plan):
        shape = "x".join(map(str, row["output_shape"]))
        counts = (f"{row['parameters']:,}", f"{row['multiply_adds']:,}")
        name = row["name"].removeprefix("backbone.")
        table.add_row(name, row["kind"], shape, *counts, size(row["output_bytes"]), size(row["saved_bytes"]))
    return table


def memory_lines(plan: Plan) -> list[str]:
    """Totals, and memory part by part."""
    request, layers, memory = plan.request, plan.layers, plan.memory
    half = f", {request.precision}" if request.precision != "float32" else ""
    parts = f" in {request.accumulate} parts" if request.accumulate > 1 else ""
    found = [
        f"{layers.parameters:,} parameters, {layers.trainable:,} trainable; "
        f"{layers.multiply_adds:,} multiply-adds for one image",
        f"to predict one image {size(memory.inference_bytes)} (weights and two live layers); "
        f"as run, {request.part} at once: {size(memory.inference_as_run_bytes)}",
        f"to train on {request.batch}{parts} with {request.optimizer}{half}: "
        f"{size(memory.live_bytes)} must exist at the peak",
        *allocator_lines(plan),
    ]
    found += [f"  {part:<12} {size(value):>10}" for part, value in memory.parts.items()]
    if sum(memory.parts.values()) > memory.training_bytes:
        found.append("  (not all of them exist at the same time)")
    counted = size(memory.textbook_bytes)
    return [*found, f"counting activations, inputs and weights alone: {counted}"]


def allocator_lines(plan: Plan) -> list[str]:
    """What the process holds beyond what must exist, in both modes of the C allocator."""
    from opsin.plan.memory import MOST_KEPT

    memory = plan.memory
    more = f"at least {size(memory.kept_bytes)} ({size(memory.kept_bytes - memory.live_bytes)} of it fragments)"
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
    epoch = time.seconds_per_epoch
    return [line] if epoch is None else [line, f"an epoch of {time.samples:,} images: {epoch:.3g} s"]


def fit_lines(plan: Plan) -> list[str]:
    """Whether it fits, and what to change if not."""
    if plan.limit is None:
        return []
    request = plan.request
    besides = f"{size(plan.process_bytes)} of Python and torch besides"
    if plan.fits:
        settings = f"--batch-size {request.batch} --accumulate {request.accumulate} --precision {request.precision}"
        settings += " --checkpoint-activations" if request.checkpoint_activations else ""
        settings += "" if request.keep_memory else " --no-keep-memory"
        found = [f"it fits into {size(plan.limit)} ({besides}); `opsin train` with {settings}"]
        doubt = f"that is by the lower bound; to be sure add --no-keep-memory, or have {size(plan.memory.most_bytes)}"
        return found if plan.fits_surely else [*found, doubt]
    bounds = " (without --no-keep-memory lower bounds)" if request.keep_memory else ""
    found = [f"it does not fit into {size(plan.limit)} ({besides}). What saves most on this network{bounds}:"]
    for remedy in plan.remedies:
        enough = "enough" if remedy.fits else "not enough"
        saves, needs = size(remedy.saves_bytes), size(remedy.training_bytes)
        found.append(f"  {remedy.name:<24} saves {saves:>9}, needs {needs:>9} ({enough}); {remedy.cost}")
    return found


def size(value: int) -> str:
    """Bytes in millions, as the textbooks count."""
    return f"{value / 1e9:,.2f} GB" if value >= 1e9 else f"{value / 1e6:,.1f} MB"
