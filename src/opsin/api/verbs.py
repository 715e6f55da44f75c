"""Verbs on runs, images and networks: compare, explain, predict, plan, ensemble, convert, filter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opsin.api.opening import AnyRun as AnyRun
from opsin.api.opening import model_folder as model_folder
from opsin.api.opening import opened_run as opened_run
from opsin.artifact import Artifact, opened
from opsin.comparison.comparison import Comparison, compare_runs
from opsin.config import FinetuneConfig, ModelConfig, field_names, require
from opsin.data.catalogue import ENTRIES as CATALOGUE
from opsin.data.samples import Dataset
from opsin.devices import pick_device
from opsin.errors import ConfigError, ImageError
from opsin.explanation.any_size import Converted, convert_run
from opsin.explanation.explanation import Explanation, MethodName, Wanted, explain_run
from opsin.explanation.kernels import Filtered, Kernel, apply, parse_kernel
from opsin.inference.predictor import image_files, predict_files
from opsin.inference.published import published_artifact
from opsin.models.registry import ENTRIES, SEGMENTERS
from opsin.models.wrappers.views import ViewName
from opsin.planning.forecast import (
    Plan,
    changed,
    find_run,
    make_plan,
    measured_peak,
    parse_bytes,
    request_of,
    training_images,
)
from opsin.planning.request import Request
from opsin.progress import Reporter
from opsin.runs import RUNS_FOLDER, Run
from opsin.studies.ensembles import EnsembleResult, Kind
from opsin.studies.ensembles import ensemble as combine
from opsin.training.planning import request_of_data
from opsin.types import Prediction, Skipped, SplitName


def compare(
    *runs: AnyRun, names: Sequence[str] = (), split: SplitName = "val", out: Path | str = RUNS_FOLDER
) -> Comparison:
    """Compare runs, paired over the same samples, with intervals and tests.

    Args:
        runs: two or more; runs that differ only in their seed form one group.
        names: of the group of each run, where they are grouped otherwise, e.g. since a budget gave each other minutes.
        split: split whose stored predictions are compared.
        out: folder in which names of runs are looked up.

    Raises:
        ConfigError: fewer than two runs; `names` are not as many, or group runs of one seed.
        RunError: different data, or no predictions of the split.
    """
    return compare_runs([opened_run(run, out) for run in runs], names=names, split=split)


def explain(
    run: AnyRun,
    *images: Path | str,
    figures: Path | str = "explained",
    methods: Sequence[MethodName] = (),
    layers: Sequence[str] = (),
    label: str | None = None,
    mistakes: int = 0,
    neurons: str | None = None,
    data: str | None = None,
    root: str | None = None,
    split: SplitName = "val",
    patches: int = 8,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = False,
) -> Explanation:
    """Draw attributions of the prediction for each image, filters, feature maps and receptive fields.

    Args:
        run: the run whose network is explained.
        images: image files, and folders of them.
        figures: folder for the figures.
        methods: what to draw; by default Grad-CAM.
        layers: layers whose feature maps are drawn; by default a few.
        label: the class to explain; by default the predicted one.
        mistakes: number of the run's worst mistakes on val to explain too.
        neurons: a layer; the top-activating patches of each of its channels are drawn.
        data, root, split, patches: source of these patches, and their number per channel.
        out: folder in which names of runs are looked up.
        quiet: no progress.

    Raises:
        RefusedError: no such image, layer or class.
    """
    wanted = Wanted(
        methods=tuple(methods),
        layers=tuple(layers),
        label=label,
        num_mistakes=mistakes,
        neurons=neurons,
        data=data,
        root=root,
        split=split,
        num_patches=patches,
    )
    files = image_files(_files(images, do="save it as a PNG file and give its path"))
    return explain_run(opened_run(run, out), files, Path(figures), wanted, report=Reporter(quiet=quiet))


def predict(
    run: AnyRun,
    *images: Path | str | Iterable[Path | str],
    views: Sequence[ViewName] = (),
    device: str = "auto",
    weights: str | None = None,
    weights_range: str | None = None,
    skipped: list[Skipped] | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = True,
) -> list[Prediction]:
    """Predictions of a trained or published network for image files.

    Args:
        run: a run, a model folder, or the name of a published network, e.g. "mobilenet_v2".
        images: files, folders of them, and lists of both.
        views: further views of each image, whose predictions are averaged with its own.
        device: "cpu", "cuda", "mps" or "auto".
        weights, weights_range: for a published network: a file or source, and the input range it expects.
        skipped: unreadable files are appended to this list; with None they are refused.
        out: folder in which names of runs are looked up.
        quiet: no progress.

    Raises:
        RefusedError: no such run or network, or an image that cannot be read.
    """
    files = _files(images, do="`run.predict(image)` takes bytes, arrays and Pillow images")
    place = pick_device(device)
    model: Path | Artifact
    if weights is not None or (isinstance(run, str) and is_published(run, out)):
        model, _ = published_artifact(str(run), weights=weights, weights_range=weights_range)
    else:
        model = opened(model_folder(run, out), device=place)
    return predict_files(model, files, views=views, device=place, skipped=skipped, report=Reporter(quiet=quiet))


def _files(images: Iterable[object], *, do: str) -> list[Path]:
    """The paths among `images`, lists of paths included; anything else is refused.

    Raises:
        ImageError: an image that is no path.
    """
    each = [
        [item] if isinstance(item, str | Path | bytes) or not isinstance(item, Iterable) else item for item in images
    ]
    for item in (found := [item for part in each for item in part]):
        if not isinstance(item, str | Path):
            raise ImageError("not a path", got=type(item).__name__, expected="the path of an image file", do=do)
    return [Path(str(item)) for item in found]


def is_published(name: str, out: Path | str = RUNS_FOLDER) -> bool:
    """Whether `name` is an architecture, and neither a run nor a model folder."""
    places = (Path(name) / "manifest.json", Path(name) / "config.json", Path(out) / name / "config.json")
    return not any(place.is_file() for place in places) and (name in ENTRIES or name.startswith("timm/"))


def ensemble(
    *runs: AnyRun,
    kind: Kind = "auto",
    name: str | None = None,
    out: Path | str = RUNS_FOLDER,
    quiet: bool = True,
    command: str = "opsin.ensemble(...)",
) -> EnsembleResult:
    """Combine finished classification runs into one, with weights chosen on val.

    Args:
        runs: two or more, with the same data set and input size.
        kind: average probabilities ("average"), average weights ("soup"), or whichever is better on val ("auto").
        name: name of the new run.
        out: folder of runs.
        quiet: no progress.
        command: the command line as typed, stored in the run.

    Raises:
        RunError: the runs cannot be combined.
    """
    return combine([opened_run(run, out) for run in runs], kind=kind, name=name, out=out, quiet=quiet, command=command)


def convert(run: AnyRun, *, name: str | None = None, out: Path | str = RUNS_FOLDER) -> Converted:
    """A new run whose network takes images of any size: dense layers become convolutions, with equal outputs.

    Raises:
        RunError: its network cannot be converted.
    """
    return convert_run(opened_run(run, out), name=name, out=out)


def filter_image(image: NDArray[np.uint8], kernel: str | Kernel) -> Filtered:
    """Apply a classical filter to an image: full, same and valid convolution, and cross-correlation.

    Args:
        image: uint8 [C, H, W], RGB or grey.
        kernel: "sobel-x", "sobel-y", "gaussian:15x15,sigma=3", a matrix "[[0, 1], [1, 0]]", or a `Kernel`.

    >>> filter_image(np.zeros((1, 512, 512), np.uint8), "gaussian:15x15,sigma=3").convolved["valid"].shape
    (1, 498, 498)
    """
    return apply(image, parse_kernel(kernel) if isinstance(kernel, str) else kernel)


def plan(
    model: str | Path | Run | Dataset,
    /,
    *,
    shape: tuple[int, int, int] | None = None,
    task: str | None = None,
    batch: int | None = None,
    num_outputs: int | None = None,
    memory: str | int | None = None,
    fit: bool = False,
    timed: bool = True,
    samples: int | None = None,
    root: str | None = None,
    out: Path | str = RUNS_FOLDER,
    **settings: Any,
) -> Plan:
    """Parameters, work, memory and time of a network, before anything runs.

    Args:
        model: an architecture, a run, or data, to plan the network that `opsin.train` would choose.
        shape: (channels, height, width) of the images; by default the architecture's default.
        task: the task the network is trained for.
        batch: samples per step.
        num_outputs: number of classes; 0 plans the backbone without a head.
        memory: available memory, in bytes or e.g. "4GB"; remedies are listed if it is too little.
        fit: change training settings until it fits into `memory`.
        timed: time a few steps.
        samples: images per epoch; by default those of the run or data.
        root: folder of the catalogue's data sets.
        out: folder in which names of runs are looked up.
        settings: options of the network (`filters`, `dropout`, …) and of training (`optimizer`, `precision`, …).

    >>> plan("lenet5", timed=False).layers.parameters
    61706

    Raises:
        ConfigError: no such network, or an option it does not have.
    """
    if isinstance(model, Run):
        model = model.path
    _check_is_named(model)
    limit = parse_bytes(memory) if isinstance(memory, str) else memory
    run = None if isinstance(model, Dataset) else find_run(str(model), out)
    found = None if run is None else training_images(run)
    common = {"batch": batch, "num_outputs": num_outputs}
    if run is None and (isinstance(model, Dataset) or is_data(str(model))):
        request, found = _request_of_data(model, shape=shape, task=task, root=root, settings=settings, **common)
    else:
        request = _request_of_model(str(model), shape=shape, task=task, out=out, settings=settings, **common)
    measured = None if run is None else measured_peak(run)
    return make_plan(request, limit=limit, make_fit=fit, timed=timed, samples=samples or found, measured_bytes=measured)


def is_data(name: str) -> bool:
    """Whether `name` is a data set: in the catalogue, or an existing path, and not an architecture."""
    return name not in ENTRIES | SEGMENTERS and (name in CATALOGUE or Path(name).exists())


def _request_of_model(
    model: str,
    *,
    shape: tuple[int, int, int] | None,
    task: str | None,
    batch: int | None,
    num_outputs: int | None,
    out: Path | str,
    settings: Mapping[str, Any],
) -> Request:
    """The request for a network by name, or for a run."""
    rest = {key: value for key, value in settings.items() if value is not None}
    if rest.pop("model", model) != model:
        raise ConfigError("two networks are named", where="--model", do="name one")
    if rest.pop("weights", None) is not None:
        do = "leave it out: sizes do not depend on it; --finetune says what is trained of a pretrained network"
        raise ConfigError(
            "`--weights` applies only when data is planned", where="--weights", got=settings["weights"], do=do
        )
    way = rest.pop("finetune", None)
    options = {key: rest.pop(key) for key in field_names(ModelConfig) if key in rest}
    return request_of(
        model,
        ModelConfig(**options),
        shape=shape,
        task=task,
        finetune=FinetuneConfig(finetune=way) if way else None,
        num_outputs=num_outputs,
        batch=batch,
        out=out,
        **rest,
    )


def _check_is_named(model: object) -> None:
    if not isinstance(model, str | Path | Dataset):
        do = "register it, and plan it by name: `opsin.register_model(name, build)`"
        raise ConfigError("not a network by name", got=type(model).__name__, expected="a name, a run or data", do=do)


def _request_of_data(
    data: str | Path | Dataset,
    *,
    shape: tuple[int, int, int] | None,
    task: str | None,
    batch: int | None,
    num_outputs: int | None,
    root: str | None,
    settings: Mapping[str, Any],
) -> tuple[Request, int]:
    """The request for what `opsin.train` would do with `data`, and the images in an epoch."""
    if shape is not None:
        do = "leave it out: training chooses the size"
        raise ConfigError("the image shape is determined by the data", where="--input", got=shape, do=do)
    wanted = {**settings, "batch_size": batch, "task": task}
    request, images = request_of_data(
        data, root=root, **{key: value for key, value in wanted.items() if value is not None}
    )
    require(num_outputs is None or num_outputs >= 0, "num_outputs", num_outputs, "0 or more")
    return changed(request, num_outputs=num_outputs), images
