"""Frozen features: computed once, cached on disk, so that training a head costs a second per epoch.

The features of a split are a function of the network below its head, the preprocessing, and the augmented images; the
cache key is a hash of all these. A view is one augmented version of every image: view v equals the images of epoch v of
ordinary training.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from opsin.arrays import Arrays
from opsin.artifact import Artifact
from opsin.batches.augment import augment
from opsin.batches.batch import Batch
from opsin.batches.loader import gather
from opsin.config import AugmentConfig, RunConfig
from opsin.data.samples import Pixels, Samples
from opsin.errors import InputError
from opsin.inference.predictor import BATCH_SIZE, PIXELS_AT_ONCE
from opsin.io.files import atomic_folder, read_json, sha256_file, write_json
from opsin.models.parts.network import Network
from opsin.models.wrappers.forward import Forward, Precision
from opsin.progress import Bar, Reporter
from opsin.tasks import get_task
from opsin.tasks.base import Task
from opsin.training.engine.step import Stepper
from opsin.types import SplitName

FORMAT = 2
FULL_CHECK_BYTES = 1 << 30
LEAST_AT_ONCE = 64
"""Images between two checks of the clock."""
HASHED_AT_ONCE = 1 << 26

View = int | Literal["mirrored"] | None
"""An augmented view by its number, the images mirrored, or as they are."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Samples whose `images` are features float32 [N, F]: views of train, and val as it is.

    `mirrored`: features of the mirrored images of train, if a head start requests them; epochs do not use them.
    """

    train: tuple[Samples, ...]
    val: Samples | None
    mirrored: Samples | None = None

    def of_epoch(self, epoch: int) -> Samples:
        """The view of the training samples in `epoch`; views are used in turn."""
        return self.train[epoch % len(self.train)]


class HeadStepper(Stepper):
    """A stepper whose batches are features: forward and backward pass through the heads alone."""

    trains_all = False

    def see(self, batch: Batch, *, epoch: int, height: int | None) -> Batch:
        return batch.to(self.device)

    def trained(self) -> nn.Module:
        assert isinstance(self.network, Network)
        return Heads(self.network.heads)

    def _outputs(self, images: Tensor) -> Mapping[str, Tensor]:
        return self.replicas(images)


class Heads(nn.Module):
    """The heads of a network by themselves: features float32 [B, F] to outputs by name."""

    def __init__(self, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {name: head(features) for name, head in self.heads.items()}


def is_cached(config: RunConfig, task: str) -> bool:
    """Whether a run trains its head on features that are computed once."""
    return config.finetune.finetune == "head" and get_task(task).takes_features


def is_mirrored(config: RunConfig) -> bool:
    """Whether a head start also uses mirrored images: if training mirrors them, and always on photos."""
    return config.finetune.head_start and (config.augment.flip > 0 or config.finetune.finetune == "head")


def compute_features(
    artifact: Artifact,
    splits: Mapping[SplitName, Samples],
    config: RunConfig,
    *,
    device: torch.device,
    cache: Path,
    report: Reporter,
    until: float | None = None,
) -> Features:
    """Features of train and val, from the cache or computed now.

    Args:
        artifact: the network in its starting state, on any device; its mode is restored.
        splits: packed samples.
        config: its augmentation and `feature_views` are used.
        device: where the network runs.
        cache: folder that the features are kept under.
        report: shows progress.
        until: value of `time.monotonic` after which no more features of train are computed; unfinished views then
            consist of the samples computed so far, drawn by the seed.
    """
    views = config.finetune.feature_views
    wanted: list[tuple[SplitName, View]] = [("val", None)] if "val" in splits else []
    wanted += [("train", view if views > 1 else None) for view in range(views)]
    if is_mirrored(config):
        wanted.append(("train", "mirrored"))
    below = _digest_of_network(artifact)
    content = {split: _digest(splits[split].images) for split, _ in wanted}
    made: list[Samples] = []
    with report.bar("computing features", sum(len(splits[split]) for split, _ in wanted)) as bar:
        for split, view in wanted:
            folder = cache / "features" / _key(below, content[split], config, view)
            pieces = _Pieces(artifact, splits[split], config, view=view, device=device, bar=bar)
            made.append(_made(folder, pieces, report, until if split == "train" else None))
    val, train = (made[0], made[1:]) if "val" in splits else (None, made)
    mirrored = train[views] if is_mirrored(config) and len(train[views]) else None
    complete = tuple(samples for samples in train[:views] if len(samples))
    return Features(train=complete, val=val, mirrored=mirrored)


def _made(folder: Path, pieces: _Pieces, report: Reporter, until: float | None) -> Samples:
    """One view of one split: from the cache, or computed, and cached if complete."""
    samples = pieces.samples
    array = _cached(folder, report) if folder.is_dir() else _missing()
    if array.size:
        pieces.bar.advance(len(samples))
        return replace(samples, images=array, larger=None)
    if until is None:
        array = _written(folder, pieces.in_order(), (len(samples), pieces.num_features))
        return replace(samples, images=array, larger=None)
    rows, array = pieces.before(until)
    if len(rows) == len(samples):
        _written(folder, iter([array]), array.shape)
        return replace(samples, images=array, larger=None)
    report.message(f"no time for all features: {len(rows):,} of {len(samples):,} were computed")
    return replace(
        samples,
        images=array,
        larger=None,
        ids=[samples.ids[i] for i in rows],
        sizes=samples.sizes[rows],
        **samples.mapped(lambda _, values: values[rows]),
    )


@torch.inference_mode()
def head_predictions(network: nn.Module, task: Task, samples: Samples, device: torch.device) -> Arrays:
    """Decoded predictions of the heads for features: the predictions of the whole network."""
    assert isinstance(network, Network)
    modes = [(module, module.training) for module in network.heads.modules()]
    network.heads.eval()
    features = torch.from_numpy(np.array(samples.images)).to(device)
    decoded = task.decode({name: head(features).float() for name, head in network.heads.items()})
    for module, mode in modes:
        module.training = mode
    return {key: value.cpu().numpy() for key, value in decoded.items()}


class _Pieces:
    """Features of one view of `samples`, a piece at a time.

    With gradients on, though nothing has any, batch norms are folded into their convolutions, which saves a pass over
    the maps of each (`models/parts/convolutions.py`).
    """

    def __init__(
        self, artifact: Artifact, samples: Samples, config: RunConfig, *, view: View, device: torch.device, bar: Bar
    ) -> None:
        self.samples, self.config, self.view, self.device, self.bar = samples, config, view, device, bar
        network, size = artifact.network, artifact.preprocess.size
        assert isinstance(network, Network)
        precision = Precision(dtype=config.finetune.feature_precision)
        self.forward = Forward(preprocess=artifact.preprocess, precision=precision, device=device)
        self.num_features = network.backbone.num_features
        self.step = min(BATCH_SIZE, max(1, PIXELS_AT_ONCE // (size.height * size.width)))
        below = nn.Sequential(copy.deepcopy(network.normalize), copy.deepcopy(network.backbone))
        self.below = precision.place(below, device).requires_grad_(False).eval()

    def in_order(self) -> Iterator[np.ndarray]:
        """All features, float32 [n, F] at a time."""
        for rows in torch.split(torch.arange(len(self.samples)), self.step):
            yield self._of(rows)

    def before(self, until: float) -> tuple[np.ndarray, np.ndarray]:
        """Indices [M] of the samples computed until then, ascending, and their features float32 [M, F]."""
        generator = torch.Generator().manual_seed(self.config.train.seed)
        done: list[torch.Tensor] = []
        found: list[np.ndarray] = []
        order = torch.randperm(len(self.samples), generator=generator)
        for rows in torch.split(order, min(self.step, LEAST_AT_ONCE)):
            if time.monotonic() > until and (done or self.view is not None):
                break
            done.append(rows)
            found.append(self._of(rows))
        if not done:
            return np.empty(0, np.int64), np.empty((0, self.num_features), np.float32)
        numbers = torch.cat(done).numpy()
        ascending = np.argsort(numbers)
        return numbers[ascending], np.concatenate(found)[ascending]

    def _of(self, rows: torch.Tensor) -> np.ndarray:
        batch = _seen(gather(self.samples, rows).to(self.device), self.config, self.view)
        features: Tensor = self.forward(self.below, batch.images)
        self.bar.advance(len(rows))
        array: np.ndarray = features.float().cpu().numpy()
        return array


def _seen(batch: Batch, config: RunConfig, view: View) -> Batch:
    if view == "mirrored":
        return replace(batch, images=batch.images.flip(3))
    if view is None:
        return batch
    return augment(batch, config.augment, seed=config.train.seed, epoch=view, num_classes=0)


def _key(below: str, content: str, config: RunConfig, view: View) -> str:
    numbered = isinstance(view, int)
    augmented: list[Any] = [view, config.train.seed, asdict(config.augment)] if numbered else [view]
    text = json.dumps([FORMAT, below, content, augmented, config.finetune.feature_precision, torch.__version__])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _digest_of_network(artifact: Artifact) -> str:
    """Hash of everything below the heads: weights, architecture, preprocessing."""
    spec = artifact.spec
    about = [spec.name, spec.channels, dict(spec.options), artifact.preprocess.to_dict()]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in artifact.network.state_dict().items():
        if name.startswith(("backbone.", "normalize.")):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _digest(images: Pixels) -> str:
    """Hash of packed images; a memory map is read in pieces, and shards know theirs."""
    if not isinstance(images, np.ndarray):
        return images.content
    digest = hashlib.sha256(json.dumps(images.shape).encode())
    step = max(1, HASHED_AT_ONCE // max(1, images[:1].nbytes))
    for start in range(0, len(images), step):
        digest.update(np.ascontiguousarray(images[start : start + step]).tobytes())
    return digest.hexdigest()


def _written(folder: Path, pieces: Iterator[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Write features into a new cache folder, which appears atomically, and map them."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, replace=True) as new:
        with (new / "features.bin").open("wb") as file:
            for piece in pieces:
                file.write(piece.astype("<f4").tobytes())
        entry = {"format": FORMAT, "shape": list(shape), "sha256": sha256_file(new / "features.bin")}
        write_json(new / "manifest.json", entry)
    return _mapped(folder)


def _mapped(folder: Path) -> np.ndarray:
    """A read-only memory map of features that agree with their manifest.

    Raises:
        ValueError: they do not agree.
    """
    manifest, path = read_json(folder / "manifest.json"), folder / "features.bin"
    shape = tuple(map(int, manifest["shape"]))
    if path.stat().st_size != 4 * shape[0] * shape[1]:
        raise ValueError("its length is wrong")
    if path.stat().st_size <= FULL_CHECK_BYTES and sha256_file(path) != manifest["sha256"]:
        raise ValueError("it does not match its hash")
    return np.memmap(path, dtype="<f4", mode="r", shape=shape)


def _cached(folder: Path, report: Reporter) -> np.ndarray:
    try:
        return _mapped(folder)
    except (OSError, InputError, KeyError, TypeError, ValueError) as error:
        report.message(f"damaged features are computed again: {folder.name} ({error})")
        return _missing()


def _missing() -> np.ndarray:
    return np.empty((0, 0), np.float32)


def augmented_settings(config: AugmentConfig) -> dict[str, Any]:
    """The augmentation settings that change images: those that are not 0."""
    idle = asdict(AugmentConfig())
    strengths = ("shift_fill", "policy_ops", "policy_strength")
    return {key: value for key, value in asdict(config).items() if value != idle[key] and key not in strengths}
