"""Preflight checks before the first step: faults are found in seconds, not after hours.

    targets    every label is one of the classes
    input      pixels are mapped as the pretrained weights expect, and use the range that they are in
    norms      batch norm of frozen and of pretrained layers does not follow the data
    head       as many logits as classes
    loss       at the start near ln K, or lower where the head is not new
    gradients  reach every trainable parameter and no frozen one
    learning   a few images can be overfit
    shuffled   permuted labels predict val no better than chance, the true labels do better

All checks use a copy of the network and their own random state: they do not change the bits of a run.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from opsin.batches.batch import Batch
from opsin.batches.loader import gather
from opsin.data.samples import Samples
from opsin.errors import PreflightError
from opsin.models.parts.network import Network
from opsin.models.wrappers.forward import Forward, Precision
from opsin.progress import Reporter
from opsin.training.engine.stages import Stages
from opsin.training.preflight.input_checks import check_input, check_targets
from opsin.training.preflight.shuffled_labels import WARNING, check_shuffled
from opsin.training.setup.prepared import Prepared
from opsin.types import JsonDict

NUM_IMAGES = 32
FEWEST_IMAGES = 4
SECONDS = 6.0
"""Time limit of overfitting a few images; a large network gets fewer images, then only its head."""
FEWEST_STEPS = 12
MOST_STEPS = 40
GRADIENT_STEPS = 3
"""Steps within which gradients must appear: a zero-initialized layer hides those below it for one step."""
LATEST = 10.0
"""Seconds after which no further check begins."""
RATES = (2e-3, 2e-4, 2e-2)
"""Learning rates of Adam, tried in turn until the images are overfit."""
LEARNED, NOT_LEARNED = 0.75, 0.95
"""Shares of the first loss: below the first, the images are being learned; above the second, they are not."""
TOO_HIGH = 2.0
"""Largest initial loss as a multiple of ln K, plus 2."""


@dataclass(frozen=True)
class Trial:
    """A copy of the network, a few training images, and the seconds that one forward pass of them takes."""

    network: nn.Module
    batch: Batch
    prepared: Prepared
    seconds: float = 0.0

    def outputs(self) -> Mapping[str, Tensor]:
        """Outputs of the network for the images."""
        found: Mapping[str, Tensor] = self.forward(self.network, self.batch.images)
        return found

    @property
    def forward(self) -> Forward:
        """The forward function: preprocessing, then the network."""
        return Forward(preprocess=self.prepared.artifact.preprocess)

    def loss(self) -> Tensor:
        """The training loss, a scalar."""
        outputs = {key: value.float() for key, value in self.outputs().items()}
        return self.prepared.task.loss(outputs, self.batch)["loss"]


def preflight(prepared: Prepared, precision: Precision, report: Reporter) -> JsonDict:
    """Check a run before its first step; returns the findings, for its log.

    Raises:
        PreflightError: says what is wrong, and what to do.
    """
    began = time.perf_counter()
    devices = [prepared.device] if prepared.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)
        found = _checked(prepared, precision)
    seconds = round(time.perf_counter() - began, 2)
    message = f"{len(found)} checks in {seconds:.1f} s"
    report.message(f"preflight: {message}")
    for text in found.values():
        if str(text).startswith(WARNING):
            report.message(f"preflight: {text}")
    return {"seconds": seconds, "message": message, "checks": found}


def _checked(prepared: Prepared, precision: Precision) -> JsonDict:
    began = time.perf_counter()
    check_targets(prepared)
    trial = _trial(prepared, precision)
    found: JsonDict = {"targets": "every label is one of the classes", "input": check_input(trial)}
    kept = norms_to_keep(trial)
    before = {name: norm.get_buffer("running_mean").clone() for name, norm in kept.items()}
    outputs, called = first_pass(trial)
    found["norms"] = check_norms(trial, kept, before)
    found["head"] = check_head(trial, outputs)
    found["loss"] = check_first_loss(trial, outputs)
    found["gradients"] = check_gradients(trial, called)
    for name, check in (("learning", check_learning), ("shuffled", check_shuffled)):
        late = time.perf_counter() - began > LATEST
        found[name] = "not checked: the checks before it took too long on this machine" if late else check(trial)
    return found


def _trial(prepared: Prepared, precision: Precision) -> Trial:
    """A copy of the network with as many images as it processes in a fraction of a second."""
    network = precision.place(copy.deepcopy(prepared.artifact.network), prepared.device)
    samples = prepared.splits["train"]
    few = Trial(network.eval(), spread(samples, FEWEST_IMAGES, prepared.device), prepared)
    with torch.no_grad():
        few.outputs()  # the first pass also allocates
        began = time.perf_counter()
        few.outputs()
        seconds_of_one = (time.perf_counter() - began) / len(few.batch)
    # a step costs about three forward passes
    count = int(SECONDS / (3 * seconds_of_one * FEWEST_STEPS))
    count = min(NUM_IMAGES, max(FEWEST_IMAGES, count), len(samples.images))
    return Trial(network, spread(samples, count, prepared.device), prepared, seconds_of_one * count)


def spread(samples: Samples, count: int, device: torch.device) -> Batch:
    """`count` samples, evenly spread over the split."""
    index = torch.linspace(0, len(samples.images) - 1, min(count, len(samples.images))).long()
    return gather(samples, index).to(device)


@torch.no_grad()
def first_pass(trial: Trial) -> tuple[dict[str, Tensor], set[str]]:
    """One pass in training mode: the outputs in float32, and the names of the layers that were called."""
    called: set[str] = set()

    def note(name: str) -> Callable[..., None]:
        return lambda *_: called.add(name)

    handles = [m.register_forward_pre_hook(note(name)) for name, m in trial.network.named_modules()]
    trial.network.train()
    outputs = {key: value.float() for key, value in trial.outputs().items()}
    for handle in handles:
        handle.remove()
    return outputs, called


def norms_to_keep(trial: Trial) -> dict[str, _BatchNorm]:
    """Batch norms that must stay in inference mode: those of frozen layers, and of pretrained ones unless requested."""
    config = trial.prepared.config.finetune
    stages = Stages(trial.network, config, epochs=trial.prepared.config.train.epochs)
    norms = {n: m for n, m in trial.network.named_modules() if isinstance(m, _BatchNorm) and m.track_running_stats}
    pretrained = config.weights is not None and not config.train_norms
    kept = {
        name: norm
        for name, norm in norms.items()
        if (pretrained and name.startswith("backbone."))
        or (norm.affine and not any(p.requires_grad for p in norm.parameters()))
    }
    stages.enter(trial.prepared.config.train.epochs - 1)
    return kept


def check_norms(trial: Trial, kept: Mapping[str, _BatchNorm], before: Mapping[str, Tensor]) -> str:
    """Check that the batch norms `kept` have the same statistics as `before` a pass in training mode."""
    config = trial.prepared.config.finetune
    drifted = [n for n, norm in kept.items() if not torch.equal(before[n], norm.get_buffer("running_mean"))]
    if drifted:
        raise PreflightError(
            f"batch norm of {len(drifted)} frozen or pretrained layers is in training mode: its statistics would drift "
            "away from the weights that were learned with them",
            where=", ".join(drifted[:5]) + (", …" if len(drifted) > 5 else ""),
            expected="inference mode, also while the network is trained",
            do="call opsin.models.freezing.pin_norms on these layers, or allow it with --train-norms",
        )
    if config.train_norms and config.weights is not None:
        return "pretrained batch norms follow the new data, as requested"
    return f"{len(kept)} batch norms stay in inference mode"


def check_head(trial: Trial, outputs: Mapping[str, Tensor]) -> str:
    """As many logits as classes."""
    classes, got = trial.prepared.dataset.classes, trial.prepared.task.num_outputs(outputs)
    if got != len(classes):
        shown = ", ".join(classes[:10]) + (", …" if len(classes) > 10 else "")
        raise PreflightError(
            f"the head has {got} outputs for {len(classes)} classes",
            where=f"{trial.prepared.artifact.spec.name}: output `logits`",
            got=got,
            expected=f"{len(classes)}: {shown}",
            do="build the head for the classes of the data: `get_task(task).build(spec, num_classes)`",
        )
    return f"{got} outputs for {len(classes)} classes"


def check_first_loss(trial: Trial, outputs: Mapping[str, Tensor]) -> str:
    """The first loss is finite and not far above ln K, that of a uniform prediction."""
    prepared = trial.prepared
    loss = float(prepared.task.losses_per_sample(outputs, trial.batch).mean())
    chance, words = prepared.task.first_loss(len(prepared.dataset.classes))
    limit = TOO_HIGH * chance + 2 + prepared.task.loss_allowance(prepared.config.train)
    if not loss <= limit:
        low, high = prepared.artifact.preprocess.range
        raise PreflightError(
            "the loss is far too high before the first step: the network is confident of wrong predictions",
            got=f"{loss:.3g}; its input has the range [{low:g}, {high:g}]",
            expected=f"about {words} = {chance:.2f}, at most {limit:.2f}",
            do="normalize the input to mean 0 and deviation 1 (--normalize standard), or scale the head's weights down",
        )
    return f"{loss:.3f}, {words} is {chance:.3f}"


def check_gradients(trial: Trial, called: set[str]) -> str:
    """A nonzero gradient reaches every trainable parameter within a few steps, and no frozen one."""
    network, config = copy.deepcopy(trial.network).train(), trial.prepared.config
    trial = replace(trial, network=network)
    stages = Stages(network, config.finetune, epochs=config.train.epochs)
    used = _used_parameters(network, called)
    waiting = {n: p for n, p in network.named_parameters() if p.requires_grad and n in used}
    trained = list(waiting)
    frozen = {name: p for name, p in network.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(GRADIENT_STEPS):
        optimizer.zero_grad(set_to_none=True)
        trial.loss().backward()  # type: ignore[no-untyped-call]
        waiting = {n: p for n, p in waiting.items() if p.grad is None or not bool(p.grad.any())}
        _check_frozen(frozen)
        optimizer.step()
        if not waiting:
            break
    if waiting:
        raise _no_gradient(list(waiting), trained)
    if stages.open_sections(0) != stages.open_sections(config.train.epochs - 1):
        stages.enter(0)
        network.zero_grad(set_to_none=True)
        trial.loss().backward()  # type: ignore[no-untyped-call]
        _check_frozen({n: p for n, p in network.named_parameters() if not p.requires_grad})
    return f"reach {len(trained)} trainable tensors, and none of {len(frozen)} frozen ones"


def _check_frozen(frozen: Mapping[str, nn.Parameter]) -> None:
    """Refuse gradients in frozen parameters."""
    reached = [name for name, p in frozen.items() if p.grad is not None]
    if reached:
        do = "freeze layers through --finetune, before the optimizer is made"
        raise PreflightError(f"{len(reached)} frozen tensors get gradients", where=", ".join(reached[:5]), do=do)


def _no_gradient(waiting: Sequence[str], trained: Sequence[str]) -> PreflightError:
    return PreflightError(
        f"no gradient reaches {len(waiting)} of {len(trained)} trainable tensors: they would never change",
        where=", ".join(waiting[:5]) + (", …" if len(waiting) > 5 else ""),
        expected="a nonzero gradient in each of them",
        do="look for a detached tensor, for activations that are zero everywhere (an input out of range, a "
        "dropout rate near 1), or for layers that should be frozen by --finetune",
    )


def _used_parameters(network: nn.Module, called: set[str]) -> set[str]:
    """Names of the parameters that must be reached: a decoder may skip the last layers of a backbone."""
    names = [name for name, _ in network.named_parameters()]
    return {name for name in names if not name.startswith("backbone.") or not _is_skipped(name, called)}


def _is_skipped(parameter: str, called: set[str]) -> bool:
    """Whether neither the layer of a parameter nor one right around it was called."""
    layer = parameter.rpartition(".")[0]
    return layer not in called and layer.rpartition(".")[0] not in called - {"backbone", ""}


def check_learning(trial: Trial) -> str:
    """A few images can be overfit: their loss falls, with some learning rate.

    A large network whose steps take too long trains only its head, on features computed once.
    """
    whole = 3 * trial.seconds * FEWEST_STEPS <= SECONDS and trial.prepared.features is None
    chance, _ = trial.prepared.task.first_loss(len(trial.prepared.dataset.classes))
    losses: list[float] = []
    for rate in RATES:
        losses = _learned(trial, rate, whole=whole)
        if not losses or losses[0] < 0.5 * chance:
            return f"the loss of {len(trial.batch)} images is low already"
        if min(losses) < NOT_LEARNED * losses[0]:
            what = "the network" if whole else "the head"
            return f"{what} learns {len(trial.batch)} images: {losses[0]:.3f} to {min(losses):.3f}"
    raise PreflightError(
        f"{len(trial.batch)} training images cannot be overfit: the loss does not fall",
        got=f"{losses[0]:.3f} at first, {min(losses):.3f} at best in {len(losses) - 1} steps, rates {RATES}",
        expected="a fall by more than a twentieth",
        do="check the samples and their labels (`opsin data show`), and the input's range",
    )


def _learned(trial: Trial, rate: float, *, whole: bool) -> list[float]:
    """Losses while a copy overfits the images with Adam, until the outcome is clear."""
    network = copy.deepcopy(trial.network).train()
    for module in network.modules():
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.eval()
    config = trial.prepared.config
    Stages(network, config.finetune, epochs=config.train.epochs)
    trial = replace(trial, network=network)
    if not whole:
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(parameter.requires_grad and not name.startswith(("backbone.", "normalize.")))
    loss_of = _head_loss(trial) if not whole and type(network) is Network else trial.loss
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=rate)
    losses: list[float] = []
    began = time.perf_counter()
    while len(losses) <= MOST_STEPS:
        loss = loss_of()
        losses.append(loss.item())
        late = time.perf_counter() - began > SECONDS and len(losses) > FEWEST_STEPS
        if losses[-1] < LEARNED * losses[0] or not math.isfinite(losses[-1]) or late:
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return [value for value in losses if math.isfinite(value)]


def _head_loss(trial: Trial) -> Any:
    """The loss as a function of the head only: features are computed once."""
    network = trial.network
    assert isinstance(network, Network)
    with torch.no_grad():
        features = trial.forward(lambda images: network.backbone(network.normalize(images)), trial.batch.images)
    task = trial.prepared.task
    return lambda: task.loss({n: head(features).float() for n, head in network.heads.items()}, trial.batch)["loss"]
