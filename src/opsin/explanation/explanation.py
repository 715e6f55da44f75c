"""`opsin explain`: figures of a run's network and its predictions, and the numbers behind them.

Grad-CAM takes one pass through the network; the other methods are requested by name, since some take minutes for a
large network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from opsin.arrays import Array
from opsin.artifact import Artifact, load_proved
from opsin.batches.preprocess import Preprocess
from opsin.config import require
from opsin.data.load import load
from opsin.data.pack import default_cache, pack
from opsin.data.samples import Samples
from opsin.errors import ConfigError, DataError
from opsin.explanation import pictures
from opsin.explanation.attribution import Attribution, attribute, quantities
from opsin.explanation.layers import Layer, find_layer, last_maps, layers_of, outputs_of, shown_layers
from opsin.explanation.neurons import favourites
from opsin.explanation.receptive import effective_gradients, receptive_fields
from opsin.inference.predictor import Predictor
from opsin.io.images import read_image
from opsin.io.tensors import read_tensors
from opsin.ops.depth import as_batch, at_depth, brightness
from opsin.ops.resize import resampled_size
from opsin.progress import QUIET, Bar, Reporter
from opsin.runs import Run, dataset_of
from opsin.tasks import get_task
from opsin.tasks.targets import Targets
from opsin.types import JsonDict, JsonMapping, SplitName

NUM_EFFECTIVE = 16
"""Largest number of images over which effective receptive fields are averaged."""
EFFECTIVE_PIXELS = 1 << 18
"""Largest number of their pixels: a backward pass from each layer covers all of them."""
FEW_LAYERS = 24
"""Up to this number, effective receptive fields of all layers are computed; in larger networks of the drawn ones."""

MethodName = Literal[
    "grad-cam", "saliency", "integrated-gradients", "occlusion", "maps", "filters", "receptive-fields", "all"
]
ATTRIBUTIONS: Mapping[MethodName, str] = {
    "grad-cam": "grad-cam",
    "saliency": "saliency",
    "integrated-gradients": "integrated gradients",
    "occlusion": "occlusion",
}
"""Attribution methods: names on the command line and in `attribution`."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A request for explanations.

    `methods`: empty takes Grad-CAM, the maps of `layers` that are named, and without images the filters and receptive
    fields. `layers`: whose maps and receptive fields are drawn; empty takes a few. `label`: the class to explain; None
    takes the predicted one. `num_mistakes`: number of worst mistakes on val to explain too. `neurons`: the
    layer whose top-activating patches are searched, in `split` of `data` (None: the run's own set, under
    `root`); `num_patches` for each of its channels.
    """

    methods: tuple[MethodName, ...] = ()
    layers: tuple[str, ...] = ()
    label: str | None = None
    num_mistakes: int = 0
    neurons: str | None = None
    data: str | None = None
    root: str | None = None
    split: SplitName = "val"
    num_patches: int = 8

    def __post_init__(self) -> None:
        require(1 <= self.num_patches <= 32, "patches", self.num_patches, "1 to 32")
        require(0 <= self.num_mistakes <= 1000, "mistakes", self.num_mistakes, "0 to 1000")
        require(self.split != "test", "split", self.split, "train or val: the test split is sealed")


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The written files, and the numbers behind them."""

    run: str
    files: list[str] = field(default_factory=list)
    numbers: JsonDict = field(default_factory=dict)

    def to_dict(self) -> JsonDict:
        """As plain JSON values."""
        return {"run": self.run, "files": self.files} | self.numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class _Photo:
    """An image to explain: `pixels` uint8 or uint16 [C, H, W] at the network's size; `name` of its figures.

    `truth` in words if known; `target` uint8 [3, H, W], the photo with its true box or mask, where it has one.
    """

    file: str
    name: str
    pixels: Array
    truth: str | None = None
    target: NDArray[np.uint8] | None = None

    @property
    def batch(self) -> Tensor:
        """A batch of the one image."""
        return as_batch(self.pixels[None])

    @property
    def shown(self) -> NDArray[np.uint8]:
        """Its pixels in figures, uint8."""
        return at_depth(self.pixels, 8)


def _photo(path: Path, name: str, preprocess: Preprocess) -> _Photo:
    decoded = read_image(path, sides=resampled_size(preprocess.size), bits=preprocess.size.bits)
    return _Photo(file=str(path), name=name, pixels=preprocess.fit_image(decoded.pixels, decoded.size))


def explain_run(
    run: Run, images: Sequence[Path], folder: Path, wanted: Wanted | None = None, *, report: Reporter = QUIET
) -> Explanation:
    """Draw attributions of the predictions for each image, and the other requested figures.

    Args:
        run: a finished run.
        images: photos.
        folder: folder for figures; created if missing.
        wanted: the request.
        report: shows progress.

    Raises:
        ConfigError: no such layer or class; mistakes are requested, but there are none.
        DataError: mistakes or neurons are requested, but the data set is missing or has changed.
        ImageError: a photo cannot be read.
    """
    wanted = wanted or Wanted()
    artifact = load_proved(run.model_folder)
    spec = artifact.spec
    layers = layers_of(artifact.network, spec.channels, spec.height, spec.width)
    chosen = [find_layer(layers, name) for name in wanted.layers] or shown_layers(layers)
    if wanted.neurons is not None:
        find_layer(layers, wanted.neurons)  # before anything is drawn
    photos = [_photo(path, name, artifact.preprocess) for path, name in zip(images, unique_stems(images), strict=True)]
    photos += _mistakes(run, artifact, wanted) if wanted.num_mistakes else []
    methods = _methods(wanted, photos, layers)
    folder.mkdir(parents=True, exist_ok=True)
    found = Explanation(run=str(run.path))
    found.numbers["layers"] = [{"name": item.name, "kind": item.kind, "shape": list(item.shape)} for item in layers]
    if "filters" in methods:
        _filters(artifact, run.name, folder, found)
    if "receptive-fields" in methods:
        golden = read_tensors(run.model_folder / "golden.safetensors")[0]["images"].numpy()
        pixels = [*(brightness(photo.pixels) for photo in photos), *golden]
        _receptive_fields(artifact, layers, chosen, pixels, folder, found, name=run.name, report=report)
    found.numbers["images"] = _explain_photos(artifact, layers, chosen, photos, methods, wanted, folder, found, report)
    if wanted.neurons is not None:
        _neurons(run, artifact, wanted, folder, found)
    return found


def _methods(wanted: Wanted, photos: Sequence[_Photo], layers: Sequence[Layer]) -> tuple[str, ...]:
    """The requested methods, or those that take seconds."""
    everything = (*ATTRIBUTIONS, "maps", "filters", "receptive-fields")
    if wanted.methods:
        return everything if "all" in wanted.methods else wanted.methods
    if not photos:
        return () if wanted.neurons else ("filters", "receptive-fields")
    quick = "saliency" if last_maps(layers) is None else "grad-cam"
    return (quick, "maps") if wanted.layers else (quick,)


def _mistakes(run: Run, artifact: Artifact, wanted: Wanted) -> list[_Photo]:
    """The worst mistakes of the run on val, as its scores list them, worst first.

    Raises:
        ConfigError: there are none.
        DataError: the data set is missing, or has changed.
    """
    details = run.scores["val"].details if "val" in run.scores else {}
    listed = details.get("mistakes") or details.get("shown") or []
    # for few images all masks are listed, worst first
    numbers = [int(entry["index"]) for entry in listed if entry.get("kind", "worst") in ("worst", "of all")]
    if not numbers:
        raise ConfigError("this run has no mistakes on val", where=run.path, do="name image files instead")
    samples = _samples(run, artifact, Wanted(root=wanted.root))
    task, targets = get_task(artifact.task), Targets.of(samples)
    photos = []
    for rank, number in enumerate(numbers[: wanted.num_mistakes], 1):
        pixels = np.array(samples.images[number])
        truth = task.draw_target(at_depth(pixels, 8), targets, number, artifact.classes)
        file, target = samples.ids[number], None if task.one_class else truth.pixels
        name = f"mistake-{rank:02}-{Path(file).stem}"
        photos.append(_Photo(file=file, name=name, pixels=pixels, truth=truth.caption, target=target))
    return photos


def _explain_photos(
    artifact: Artifact,
    layers: Sequence[Layer],
    chosen: Sequence[Layer],
    photos: Sequence[_Photo],
    methods: Sequence[str],
    wanted: Wanted,
    folder: Path,
    found: Explanation,
    report: Reporter,
) -> list[JsonDict]:
    """Maps and attributions of all photos."""
    asked = [name for typed, name in ATTRIBUTIONS.items() if typed in methods]
    drawn = chosen if "maps" in methods else []
    num_quantities = get_task(artifact.task).num_explained
    entries = []
    with report.bar("explaining", len(photos) * (len(drawn) + len(asked) * num_quantities)) as bar:
        for photo in photos:
            image = artifact.input(photo.batch)
            stem = folder / photo.name
            entry: JsonDict = {"file": photo.file, "truth": photo.truth}
            entry["maps"] = _draw_maps(artifact.network, image, drawn, stem, found, bar)
            if asked:
                layer = last_maps(layers)
                parts = quantities(artifact, image, label=wanted.label)
                explained = [
                    attribute(artifact.network, part, image, layer=layer, methods=asked, done=bar.advance)
                    for part in parts
                ]
                entry |= _draw_attributions(artifact, photo, explained, layer, stem, found)
            entries.append(entry)
    return entries


def unique_stems(paths: Sequence[Path]) -> list[str]:
    """Names for the figures of each photo: its own without suffix, numbered where two are equal.

    >>> unique_stems([Path("a/x.png"), Path("b/x.png"), Path("x-1.png")])
    ['x-4', 'x-2', 'x-1']
    """
    stems = [path.stem for path in paths]
    names = []
    for number, stem in enumerate(stems, 1):
        while stems.count(stem) > 1 and f"{stem}-{number}" in stems:  # another photo has this name
            number += len(stems)
        names.append(stem if stems.count(stem) == 1 else f"{stem}-{number}")
    return names


def first_filters(network: nn.Module, shape: tuple[int, int, int]) -> tuple[str, NDArray[np.float32]]:
    """The name and the weights [K, C, h, w] of the first layer that has filters; a dense one covers whole images.

    Raises:
        ConfigError: the network has no such layer.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            return name.removeprefix("backbone."), module.weight.detach().float().numpy()
        if isinstance(module, nn.Linear) and module.in_features == shape[0] * shape[1] * shape[2]:
            weights = module.weight.detach().float().reshape(-1, *shape)
            return name.removeprefix("backbone."), weights.numpy()
    raise ConfigError(
        "the network has no filters on the image", got=type(network).__name__, do="leave --method filters out"
    )


def _filters(artifact: Artifact, run_name: str, folder: Path, found: Explanation) -> None:
    spec = artifact.spec
    name, weights = first_filters(artifact.network, (spec.channels, spec.height, spec.width))
    path = folder / "filters.png"
    count, channels, height, width = weights.shape
    title = f"{run_name}: filters of {name}, {count} of {height} x {width} x {channels}"
    pictures.draw_filters(weights, path, title=title)
    found.files.append(str(path))
    found.numbers["filters"] = {
        "layer": name,
        "shape": list(weights.shape),
        "low": float(weights.min()),
        "high": float(weights.max()),
        "norms": [float(np.linalg.norm(w)) for w in weights],
    }


def _receptive_fields(
    artifact: Artifact,
    layers: Sequence[Layer],
    chosen: Sequence[Layer],
    pixels: Sequence[Array],
    folder: Path,
    found: Explanation,
    *,
    name: str,
    report: Reporter,
) -> None:
    """The table of all layers, and the figure of the chosen ones on the first photo."""
    count = min(NUM_EFFECTIVE, max(1, EFFECTIVE_PIXELS // (pixels[0].shape[1] * pixels[0].shape[2])))
    some = np.stack(pixels[:count])
    images = artifact.input(torch.from_numpy(some))
    asked = layers if len(layers) <= FEW_LAYERS else chosen
    with report.bar("receptive fields", len(asked)) as bar:
        gradients = effective_gradients(artifact.network, asked, images, done=bar.advance)
    fields = receptive_fields(artifact.network, layers, images, gradients)
    found.numbers["receptive_fields"] = [item.to_dict() for item in fields]
    found.numbers["receptive_fields_averaged_over"] = len(some)
    drawn = [f for f in fields if f.layer in chosen and f.layer.is_map and f.layer.name in gradients]
    if not drawn:
        return
    path = folder / "receptive-fields.png"
    title = f"{name}: receptive fields of centre units; gradients averaged over {len(some)} images"
    shown = np.rint(pixels[0]).astype(np.uint8)
    pictures.draw_receptive_fields(shown, drawn[:5], gradients, path, title=title)
    found.files.append(str(path))


def _draw_attributions(
    artifact: Artifact,
    photo: _Photo,
    explained: Sequence[Attribution],
    layer: Layer | None,
    stem: Path,
    found: Explanation,
) -> JsonDict:
    """The figure of one photo's attributions, and its numbers."""
    predictor = Predictor(artifact)
    predictions = predictor.run(photo.batch)
    drawing = predictor.task.draw_prediction(photo.shown, predictions, 0, artifact.classes)
    path = stem.with_name(f"{stem.name}-attribution.png")
    maps = [name for item in explained for name in item.maps]
    notes = [f"true {photo.truth}" if photo.truth else "", f"predicted {drawing.caption}"]
    title = f"{stem.name}: {', '.join(note for note in notes if note)}"
    title += f"; Grad-CAM on {layer.name}" if layer and "grad-cam" in maps else ""
    title += ". Red: for it, blue: against it" if set(maps) & set(pictures.SIGNED) else ""
    drawn = {"photo with the prediction": drawing.pixels}
    if photo.target is not None:
        drawn = {"photo with the truth": photo.target} | drawn
    pictures.draw_attributions(photo.shown, explained, path, title=title, drawn=drawn)
    found.files.append(str(path))
    return {
        "predicted": drawing.caption,
        "grad_cam_layer": layer.name if layer else None,
        "attributions": [item.to_dict() for item in explained],
    }


def _draw_maps(
    network: nn.Module, image: Tensor, chosen: Sequence[Layer], stem: Path, found: Explanation, bar: Bar
) -> list[JsonMapping]:
    if not chosen:
        return []
    with torch.no_grad():
        outputs = outputs_of(network, image, [layer.name for layer in chosen])
    numbers: list[JsonMapping] = []
    for layer in chosen:
        values = outputs[layer.name][0].float()
        maps = values.reshape(len(values), *(values.shape[1:] if values.ndim == 3 else (1, 1))).numpy()
        path = stem.with_name(f"{stem.name}-maps-{re.sub(r'[^A-Za-z0-9.]+', '-', layer.name)}.png")
        size = "x".join(map(str, layer.shape))
        pictures.draw_maps(maps, path, title=f"{stem.name}: feature maps of {layer.name} ({layer.kind}, {size})")
        found.files.append(str(path))
        per_channel = maps.reshape(len(maps), -1)
        numbers.append(
            {
                "layer": layer.name,
                "shape": list(layer.shape),
                "mean": per_channel.mean(axis=1).tolist(),
                "max": per_channel.max(axis=1).tolist(),
                "silent_channels": int((per_channel.max(axis=1) <= 0).sum()),
            }
        )
        bar.advance()
    return numbers


def _neurons(run: Run, artifact: Artifact, wanted: Wanted, folder: Path, found: Explanation) -> None:
    samples = _samples(run, artifact, wanted)
    liked = favourites(artifact, samples, str(wanted.neurons), num_patches=min(wanted.num_patches, len(samples)))
    path = folder / f"neurons-{re.sub(r'[^A-Za-z0-9.]+', '-', liked.layer.name)}.png"
    title = f"{run.name}: top-activating patches of {liked.layer.name} among {len(samples):,} images"
    pictures.draw_favourites(liked, path, title=title)
    found.files.append(str(path))
    found.numbers["neurons"] = liked.to_dict()


def _samples(run: Run, artifact: Artifact, wanted: Wanted) -> Samples:
    """The split of a data set at the network's size.

    Raises:
        DataError: the data set is missing, the run's own has changed, or it has no such split.
    """
    own = wanted.data is None
    if own:
        dataset = dataset_of(run, wanted.root)
    else:
        dataset = load(str(wanted.data), root=wanted.root or run.config.root, task=artifact.task)
    if wanted.split not in dataset.splits:
        raise DataError(
            "the data set has no such split", where=dataset.name, got=wanted.split, expected=", ".join(dataset.splits)
        )
    skip = run.config.data.skip_unreadable if own else 0
    policy = artifact.preprocess.size
    return pack(dataset, policy, cache=default_cache(), splits=[wanted.split], skip_unreadable=skip)[wanted.split]
