"""Train: a form whose defaults come from the data, the plan before it starts, and the start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from opsin.data.hub import is_hub_name
from opsin.data.transport import is_address
from opsin.io.remote import is_remote
from opsin.runs import Run, dataset_of, free_path, next_name
from opsin.runs.shelf import TRAINING
from opsin.server.refusal import RequestError
from opsin.studio.pages import Form, address, choice, number, page, posted, to, whole
from opsin.studio.state import Studio, studio_of

if TYPE_CHECKING:
    from opsin.data.samples import Dataset
    from opsin.planning.forecast import Plan

STARTS = ("auto", "scratch")
WAYS = ("auto", "head", "all")
MAX_EPOCHS, MAX_MINUTES, MAX_BATCH = 10_000, 60 * 24 * 7, 65_536
Settings = dict[str, str | int | float]


def form(request: Request) -> Response:
    """The form; what depends on the data is filled in for the set that is chosen."""
    studio = studio_of(request)
    listed = studio.sets.listed()
    key = choice({"data": request.query_params.get("data", "")}, "data", tuple(item.key for item in listed))
    return page(request, "train.html", sets=listed, key=key)


def fields(request: Request) -> Response:
    """The fields, with what Opsin would choose for the data as placeholders."""
    from opsin.config import resolve
    from opsin.models.registry import ENTRIES
    from opsin.tasks import get_task
    from opsin.training.setup.defaults import defaults_for

    studio = studio_of(request)
    key = request.query_params.get("data", "")
    dataset = studio.sets.open(key)
    config = resolve(defaults_for(dataset))
    models = [entry.name for entry in ENTRIES.values() if entry.is_here and not get_task(dataset.task).pixelwise]
    name = next_name(f"{dataset.name}", studio.runs.folder)
    photos = _starts_from_weights(dataset)
    return page(request, "train_fields.html", key=key, config=config, models=models, name=name, photos=photos)


def plan(request: Request) -> Response:
    """Parameters, memory and time of what the form asks for: before anything is trained."""
    from opsin.api.verbs import plan as make_plan
    from opsin.config import resolve
    from opsin.training.setup.defaults import defaults_for

    studio = studio_of(request)
    dataset = studio.sets.open(request.query_params.get("data", ""))
    settings = settings_of(request.query_params)
    if settings.pop("from_scratch", None):
        settings["from_scratch"] = True
    made = make_plan(dataset, **_planned(settings))
    if not _starts_from_weights(dataset):
        settings.setdefault("epochs", resolve(defaults_for(dataset)).train.epochs)
    return page(request, "plan_part.html", plan=made, minutes=_minutes(made, settings), settings=settings)


def _planned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that change a plan, under the names of `opsin.plan`."""
    taken = {key: value for key, value in settings.items() if key not in ("minutes", "batch_size", "seed", "lr")}
    return taken | ({"batch": settings["batch_size"]} if "batch_size" in settings else {})


def _minutes(made: Plan, settings: Mapping[str, Any]) -> float | None:
    """Minutes of training, by the steps that were timed; at most those that are given."""
    epoch_s = None if made.time is None else made.time.seconds_per_epoch
    if epoch_s is None or "epochs" not in settings:
        return float(settings["minutes"]) if "minutes" in settings else None
    found = epoch_s * float(settings["epochs"]) / 60
    return min(found, float(settings.get("minutes", found)))


def settings_of(values: Mapping[str, str]) -> Settings:
    """The settings that a form gives, checked; what is left open is Opsin's choice.

    Raises:
        RequestError: 400, a value that does not fit.
    """
    found: dict[str, Any] = {
        "epochs": whole(values, "epochs", 0, low=0, high=MAX_EPOCHS),
        "minutes": number(values, "minutes", low=0, high=MAX_MINUTES),
        "batch_size": whole(values, "batch_size", 0, low=0, high=MAX_BATCH),
        "lr": number(values, "lr", low=0, high=100),
        "seed": whole(values, "seed", 0, low=0, high=2**31),
    }
    settings: Settings = {name: value for name, value in found.items() if value}
    if model := values.get("model"):
        from opsin.models.registry import ENTRIES

        settings["model"] = choice(values, "model", (model,) if model in ENTRIES else tuple(ENTRIES))
    if choice(values, "start", STARTS) == "scratch":
        settings["from_scratch"] = 1
    elif (way := choice(values, "finetune", WAYS)) != "auto":
        settings["finetune"] = way
    return settings


def start(request: Request, given: Form) -> Response:
    """Begin the training, in a process of its own."""
    studio = studio_of(request)
    item = studio.sets.get(given.get("data", ""))
    settings = settings_of(given)
    name = _name(studio, given.get("name", ""), item.name)
    options = [part for key, value in settings.items() for part in _option(key, value)]
    place = ["--root", studio.root] if studio.root else []
    where = ["--runs", str(studio.runs.folder), "--name", name]
    studio.jobs.start(name, ["train", item.source, *place, *where, *options])
    return to(address("runs", name))


def resume(request: Request, given: Form) -> Response:
    """Go on with a run from its last checkpoint, for some epochs more where it had finished."""
    studio = studio_of(request)
    run = studio.runs.get(request.path_params["name"])
    if studio.runs.state(run.name) == TRAINING:
        raise RequestError(409, "this run is being trained", got=run.name)
    config = run.config
    _check_source(run)
    more = whole(given, "more", 0, low=0, high=MAX_EPOCHS)
    longer = ["--epochs", str(config.train.epochs + more)] if more else []
    place = ["--root", config.root] if config.root else []
    where = ["--runs", str(studio.runs.folder), "--name", run.name, "--resume"]
    studio.jobs.start(run.name, ["train", config.source, *place, *where, *longer])
    return to(address("runs", run.name))


def _check_source(run: Run) -> None:
    """Refuse to hand on what only a run folder names: an option, or an address whose data are not in the cache.

    Raises:
        RequestError: 400, the source begins as an option does.
        DataError: the data of an address are not in the cache.
    """
    source = run.config.source
    if source.startswith("-"):
        raise RequestError(400, "no data set", where=run.name, got=source[:100])
    if is_address(source) or is_hub_name(source) or is_remote(source):
        dataset_of(run)


def stop(request: Request, given: Form) -> Response:
    """Ask a training to end: it writes a checkpoint, from which it can go on."""
    name = request.path_params["name"]
    studio_of(request).jobs.stop(name)
    return to(address("runs", name))


def _option(key: str, value: str | int | float) -> tuple[str, ...]:
    flag = f"--{key.replace('_', '-')}"
    return (flag,) if key == "from_scratch" else (flag, f"{value}")


def _name(studio: Studio, typed: str, data: str) -> str:
    """The name of a new run: as it was typed, as a plain name, or the data's with a number."""
    if not typed.strip():
        return next_name(data, studio.runs.folder)
    return free_path(typed.strip().replace(" ", "-"), studio.runs.folder).name


def _starts_from_weights(dataset: Dataset) -> bool:
    """Whether training on this set would start from pretrained weights."""
    from opsin.training.setup.transfer import start_from_package

    return bool(start_from_package(dataset, {})[0])


start_run, resume_run, stop_run = posted(start), posted(resume), posted(stop)
