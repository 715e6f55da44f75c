"""Measurements that several labs share, where the public API has none of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opsin.api.verbs import plan
from opsin.artifact import load_proved
from opsin.batches.augment import augment
from opsin.batches.loader import gather
from opsin.config import AugmentConfig
from opsin.data.pack import default_cache, pack
from opsin.diagnosis.robustness import robustness
from opsin.inference.predictor import Predictor
from opsin.io.files import write_atomically
from opsin.io.images import encode_png, read_image
from opsin.labs.lab import Book
from opsin.ops.boxes import iou as iou
from opsin.ops.intervals import wilson
from opsin.runs import Run, dataset_of
from opsin.types import Score

Floats = NDArray[np.float64]


def photo(side: int) -> NDArray[np.uint8]:
    """The embedded photo of a temple, its middle, enlarged by repeating pixels: uint8 [3, side, side], RGB."""
    from opsin.explanation.kernels import sample_image

    image = sample_image()
    _, height, width = image.shape
    left = (width - height) // 2
    places = np.arange(side) * height // side
    return np.ascontiguousarray(image[:, places][:, :, left + places])


def conv2d(image: NDArray[Any], weights: Floats) -> Floats:
    """What PyTorch's Conv2d layer with these weights, one filter and no padding, makes of an image.

    Args:
        image: [C, H, W], any numbers.
        weights: [C, h, w].

    Returns:
        [H - h + 1, W - w + 1].
    """
    import torch

    layer = torch.nn.Conv2d(len(weights), 1, weights.shape[1:], bias=False, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights[None]))
        answer: Floats = layer(torch.from_numpy(np.asarray(image, np.float64)[None]))[0, 0].numpy()
    return answer


def parameter_rows(layers: Any) -> list[tuple[str, int, Score]]:
    """The layers of a plan that have parameters: name, how many, and their share of all."""
    rows = [row for row in layers.rows if row.parameters]
    return [
        (row.name.removeprefix("backbone."), row.parameters, Score(row.parameters / layers.parameters)) for row in rows
    ]


def mistakes(run: Run, root: str | None, most: int = 8) -> tuple[int, int, list[tuple[str, NDArray[np.uint8]]]]:
    """What a classifier mistakes on val.

    Returns:
        How many samples are wrong, of how many, and the most confident ones with captions: uint8 [C, H, W].
    """
    stored, dataset = run.predictions("val"), dataset_of(run, root)
    labels, probabilities = stored["labels"], stored["probabilities"]
    said, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(said != labels)
    val = dataset.splits["val"]
    place = {sample: index for index, sample in enumerate(val.ids)}
    pictures = [
        (f"{dataset.classes[labels[i]]} as {dataset.classes[said[i]]}", val.image(place[str(stored["ids"][i])]))
        for i in wrong[np.argsort(-sure[wrong])][:most]
    ]
    return len(wrong), len(labels), pictures


def agreement(book: Book, pairs: Sequence[tuple[Score, float]]) -> dict[str, Any]:
    """Whether published figures lie in our intervals, and if not the reason, as `Found` takes them.

    Args:
        book: in its quick form, or where a budget ended runs early, nothing can be compared.
        pairs: our score, and the published share.
    """
    if book.quick:
        data = " and ".join(sorted({str(run.data.name) for run in book.runs.values()}))
        return {"agrees": None, "why": f"The quick form trained on {data} for few epochs: not comparable."}
    if book.cut:
        return {"agrees": None, "why": "The budget of minutes ended runs before they were trained: not comparable."}
    apart = ["above" if ours.low > published else "below" for ours, published in pairs if not _inside(ours, published)]
    if not apart:
        return {"agrees": True, "why": ""}
    words = " and ".join(dict.fromkeys(apart))
    why = f"Our interval lies {words} the published figure where they differ. One seed of each side: other seeds may differ."
    return {"agrees": False, "above": set(apart) == {"above"}, "why": why}


def _inside(ours: Score, published: float) -> bool:
    return ours.low <= published <= ours.high


def boxed(run: Run, root: str | None, rows: Sequence[int]) -> list[tuple[str, NDArray[np.uint8]]]:
    """Images of val with the true box in blue and the predicted one in orange, each with its IoU as caption.

    Args:
        run: of localization.
        root: folder of the catalogue's data sets.
        rows: which samples, as rows of `run.predictions("val")`.
    """
    from opsin.ops.box_pictures import draw_box

    stored, val = run.predictions("val"), dataset_of(run, root).splits["val"]
    place = {sample: index for index, sample in enumerate(val.ids)}
    overlap = iou(stored["boxes"], stored["true_boxes"])
    pictures = []
    for row in rows:
        image = val.image(place[str(stored["ids"][row])])
        color = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])))
        drawn = draw_box(color, stored["true_boxes"][row], (86, 180, 233))
        pictures.append((f"IoU {overlap[row]:.2f}", draw_box(drawn, stored["boxes"][row], (230, 159, 0))))
    return pictures


def grid_line(masks: NDArray[Any], period: int = 2) -> float:
    """By how many decibels the foreground's spectrum stands out at that period in pixels; masks are square [N, S, S]."""
    from opsin.ops.checkerboard import line_excess, power_spectrum

    return line_excess(*power_spectrum((masks > 0).astype(np.float64)), period)


def lone_pixels(masks: NDArray[Any]) -> float:
    """Pixels unlike all four neighbours (foreground or not), as a share of the foreground of masks [N, H, W]."""
    front = masks > 0
    middle = front[:, 1:-1, 1:-1]
    around = (front[:, :-2, 1:-1], front[:, 2:, 1:-1], front[:, 1:-1, :-2], front[:, 1:-1, 2:])
    lone = np.logical_and.reduce([middle != side for side in around])
    return float(lone.sum() / max(1, front.sum()))


def masked(image: NDArray[np.uint8], mask: NDArray[Any]) -> NDArray[np.uint8]:
    """An image with its mask laid over it in colours: uint8 [3, H, W]."""
    from opsin.ops.mask_pictures import overlaid

    color = np.ascontiguousarray(np.broadcast_to(image, (3, *image.shape[1:])))
    return overlaid(color, mask.astype(np.uint8))


def sample_photos(folder: Path) -> list[tuple[str, Path]]:
    """Five photos without any download, as (caption, file): three that packages bring, and two of them changed.

    Source: scikit-learn's china.jpg and flower.jpg, matplotlib's grace_hopper.jpg.
    """
    import matplotlib as mpl
    import sklearn.datasets

    images = Path(sklearn.datasets.__file__).parent / "images"
    found = [
        ("a temple", images / "china.jpg"),
        ("a flower", images / "flower.jpg"),
        ("an admiral", Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for caption, source, change in (("the temple, upside down", 0, -1), ("the admiral, in grey", 2, 0)):
        pixels = read_image(found[source][1]).pixels
        changed = pixels[:, ::-1] if change else np.broadcast_to(pixels.mean(axis=0, keepdims=True), pixels.shape)
        path = folder / f"{found[source][1].stem}-changed.png"
        write_atomically(path, encode_png(np.ascontiguousarray(changed).astype(np.uint8)))
        found.append((caption, path))
    return found


def thumbnail(path: Path, side: int = 150) -> NDArray[np.uint8]:
    """A photo of at most `side` pixels, every n-th of its pixels: uint8 [3, h, w]."""
    pixels = read_image(path).pixels
    step = -(-max(pixels.shape[1:]) // side)
    return np.ascontiguousarray(pixels[:, ::step, ::step])


def classes_of(photo: Path) -> str:
    """ImageNet's name of the class whose number begins the name of a photo; "" where none does."""
    from opsin.models.weights.published import imagenet_classes

    number = photo.stem.partition("_")[0]
    return imagenet_classes()[int(number)] if number.isdecimal() and int(number) < 1000 else ""


def calibration(sure: Floats, right: NDArray[np.bool_]) -> tuple[Score, Score, Score]:
    """Mean probability of the answers, share of right ones with its interval (Wilson), and calibration error.

    Args:
        sure: probability of each answer, float64 [N].
        right: whether it was right, [N].
    """
    from opsin.ops.calibration import calibration_error, equal_mass_edges

    low, high = wilson(right.sum(), len(right))
    share = Score(float(right.mean()), float(low), float(high))
    error = calibration_error(sure, right, equal_mass_edges(sure, 5))
    return Score(float(sure.mean())), share, Score(error)


def places(run: Run, height: int, width: int) -> tuple[int, int]:
    """At how many places, down and across, a fully convolutional network answers on an image of that size in pixels."""
    import torch

    network = load_proved(run.model_folder).network
    with torch.no_grad():
        maps = network.maps(torch.zeros(1, network.channels, height, width))["logits"]  # type: ignore[operator, call-overload]
    return maps.shape[2], maps.shape[3]


def accuracy_on(
    run: Run,
    root: str | None,
    split: Literal["train", "val"],
    *,
    side: int | None = None,
    augmented: Mapping[str, Any] | None = None,
) -> Score:
    """Accuracy of a classifier, with its interval (Wilson), on images of its own data set.

    Args:
        run: of classification.
        root: folder of the catalogue's data sets.
        split: train or val; test is sealed, `opsin.evaluate` opens it.
        side: of the images in pixels, where the network takes any; None is that of training.
        augmented: settings of augmentation, with the draws of a first epoch; None leaves the images as they are.
    """
    import torch

    predictor, config, right = Predictor(load_proved(run.model_folder)), AugmentConfig(**(augmented or {})), 0
    own, num_classes = predictor.artifact.preprocess.size, len(predictor.artifact.classes)
    size = own if side is None else replace(own, height=side, width=side)
    samples = pack(dataset_of(run, root), size, cache=default_cache(), splits=[split])[split]
    for rows in torch.split(torch.arange(len(samples)), predictor.batch_size):
        batch = gather(samples, rows)
        if augmented:
            batch = augment(batch, config, seed=0, epoch=0, num_classes=num_classes)
        assert batch.labels is not None  # a classifier's
        right += int((predictor.run(batch.images)["probabilities"].argmax(1) == batch.labels.numpy()).sum())
    low, high = wilson(right, len(samples))
    return Score(right / len(samples), float(low), float(high))


def quarter_turned(run: Run, root: str | None) -> Score:
    """The main score on val rotated by 90 degrees, all other settings as `opsin.robustness` has them."""
    curve = robustness(run, split="val", changes=("rotation",), root=root).curves[0]
    return next(cell.score for cell in curve.cells if cell.strength == 90)


def step_costs(run: Run, images: int) -> tuple[int, int, float, Score, str, str]:
    """A row about the steps of a run, for runs that differ in their batch size.

    Memory is computed from the layers, since a process keeps what earlier runs took; time and cores were measured.

    Args:
        run: that has finished.
        images: for how many of them the seconds are given.

    Returns:
        Images a step, steps, seconds for `images` (median of the epochs), accuracy on val, MB alive at the peak of a
        step, and cores in use.
    """
    batch = min(run.config.train.batch_size, run.data.splits["train"].n)
    seconds = images / float(np.median([epoch.images_per_second for epoch in run.epochs]))
    memory = plan(run, batch=batch, timed=False).memory.live_bytes / 1e6
    summary = run.summary
    cores = (summary.cpu_seconds or 0.0) / (summary.seconds or 1.0)
    return batch, summary.step or 0, seconds, run.scores["val"]["accuracy"], f"{memory:,.1f}", f"{cores:.2f}"
