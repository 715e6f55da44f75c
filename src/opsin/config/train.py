"""Settings of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from opsin.config.checks import require

OptimizerName = Literal["sgd", "adam", "adamw", "nadam", "rmsprop", "muon"]
ScheduleName = Literal["constant", "step", "cosine", "one-cycle", "linear", "plateau"]
PrecisionName = Literal["auto", "float32", "bfloat16"]
MaskLossName = Literal["cross-entropy", "dice", "cross-entropy-dice", "focal", "lovasz", "tversky"]
BoxLossName = Literal["mse", "smooth_l1", "iou", "giou", "diou", "ciou"]
NumberLossName = Literal["squared", "huber"]
MAX_EPOCHS = 1_000_000
MAX_THREADS = 1024
"""Devices of any machine; this machine's are checked when a run is prepared, since settings outlive machines."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the network is trained.

    Parameters
    ----------
    seed
        Seed of the weights, the order of samples, augmentation and dropout.
    epochs
        Passes over the training samples.
    minutes
        Wall-clock budget, including start-up, packing and final scores; the schedule is fitted to it. Training ends
        when epochs or minutes are used up. For photos it decides what is trained and at what size. With --resume:
        further minutes, for this call.
    batch_size
        Samples in one step of the optimizer.
    accumulate
        Number of parts a batch is split into; their gradients are summed.
    optimizer
        sgd (Nesterov), adam, adamw, nadam, rmsprop, or muon (filters; adamw for the rest).
    lr
        Peak learning rate.
    lr_other
        Peak learning rate of the parameters that Muon leaves to AdamW: biases, norms and the head.
    momentum
        Momentum of sgd, muon and rmsprop; beta1 of the Adam family.
    weight_decay
        Weight decay of weights, never of biases and norms: decoupled for adamw and nadam, added to the gradient for
        sgd, adam and rmsprop. With muon of the head only, decoupled: filters keep a fixed norm instead.
    l2
        L2 penalty added to the loss, as in the courses.
    schedule
        Learning-rate schedule.
    warmup
        Share of the steps in which the learning rate rises from zero.
    rate_decay
        Divides the learning rate by 1 + this times the steps taken, besides the schedule: `decay` of Keras' optimizers.
    ema
        Decay of the exponential moving average of the weights per step; 0 is off.
    label_smoothing
        Share of the target spread evenly over all classes.
    class_weights
        Weight the loss of each class by its inverse frequency.
    class_weights_power
        Exponent of the class weights: 1 balances the classes fully, 0.5 takes the square root.
    mask_loss
        Loss of masks: cross-entropy, dice, their sum, focal, lovasz or tversky.
    number_loss
        Loss of standardized numbers in regression: squared, or huber, which is robust to outliers.
    box_loss
        Loss of the box in localization: mse, smooth_l1, iou, giou, diou or ciou.
    box_weight
        Weight of the box loss relative to the class loss.
    good_iou
        Least IoU of a good box, in the scores of localization.
    learn_weights
        Learn the weights of the two losses with the network (from their uncertainties) instead of `box_weight`.
    clip
        Largest norm of the gradient; 0 is off.
    patience
        Epochs without a better val score before training stops and the best weights are restored; 0 is off.
    restore_best
        Keep the weights of the best epoch on val rather than the last.
    resolutions
        Input heights over the course of training, e.g. `20,24,32`, for equal shares of the epochs; the width is in
        proportion. Scores are computed at `input_size`, which may be larger.
    precision
        float32, bfloat16, or auto: the faster one on this machine with this network.
    channels_last
        Memory format: channels last or first; by default the faster one.
    compile
        Use torch.compile: half a minute at the start, and rarely faster on CPUs.
    checkpoint_activations
        Recompute activations in the backward pass to save memory.
    keep_memory
        Let the C allocator keep freed memory (Linux): 10 to 40 % faster, up to twice the memory. Results do not depend
        on it.
    checkpoint_minutes
        Minutes between checkpoints within an epoch. One is also written at the end of an epoch, if the last is older
        than 20 seconds.
    sync_batch_norm
        Normalize over the batches of all processes that train together, rather than over each process's share: for
        shares of few images. Without other processes it has no effect.
    shard_weights
        Divide weights, gradients and the optimizer among the processes that train together, for networks that one
        device cannot hold: each section is gathered when it is computed. In float32 and channels first unless
        `precision` says otherwise; the preflight checks, which need the whole network, are left out. Without other
        processes it has no effect.
    device
        cpu, cuda, mps or auto.
    threads
        CPU threads; 0 takes all cores, or fewer where other processes keep them busy (printed). The number changes the
        last bits of the weights, so a resumed run keeps it unless it is given.
    preflight
        Run the preflight checks of network, input and gradients before the first step.
    tensorboard
        Also write a TensorBoard log into the run folder.
    """

    seed: int = 0
    epochs: int = 10
    minutes: float | None = None
    batch_size: int = 128
    accumulate: int = 1
    optimizer: OptimizerName = "adamw"
    lr: float = 1e-3
    lr_other: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    l2: float = 0.0
    schedule: ScheduleName = "cosine"
    warmup: float = 0.05
    rate_decay: float = 0.0
    ema: float = 0.0
    label_smoothing: float = 0.0
    class_weights: bool = False
    class_weights_power: float = 1.0
    mask_loss: MaskLossName = "cross-entropy-dice"
    number_loss: NumberLossName = "squared"
    box_loss: BoxLossName = "giou"
    box_weight: float = 1.0
    good_iou: float = 0.6
    learn_weights: bool = False
    clip: float = 0.0
    patience: int = 0
    restore_best: bool = True
    resolutions: tuple[int, ...] | None = None
    precision: PrecisionName = "auto"
    channels_last: bool | None = None
    compile: bool = False
    checkpoint_activations: bool = False
    keep_memory: bool = True
    checkpoint_minutes: float = 5.0
    sync_batch_norm: bool = False
    shard_weights: bool = False
    device: str = "auto"
    threads: int = 0
    preflight: bool = True
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "minutes", "batch_size", "lr", "lr_other", "accumulate", "checkpoint_minutes"):
            value = getattr(self, name)
            require(value is None or value > 0, name, value, "more than 0")
        for name in ("momentum", "label_smoothing", "ema", "warmup"):
            value = getattr(self, name)
            require(value is None or 0 <= value < 1, name, value, "0 <= x < 1")
        for name in ("weight_decay", "rate_decay", "l2", "clip", "patience", "threads", "seed", "box_weight"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, value, "0 or more")
        require(self.epochs <= MAX_EPOCHS, "epochs", self.epochs, f"at most {MAX_EPOCHS:,}")
        require(self.threads <= MAX_THREADS, "threads", self.threads, f"at most {MAX_THREADS:,}")
        heights = self.resolutions
        valid = heights is None or (len(heights) > 0 and min(heights) > 0)
        require(valid, "resolutions", heights, "one height or more, each above 0")
        require(self.seed < 2**63, "seed", self.seed, "less than 2**63")
        require(0 < self.class_weights_power <= 1, "class_weights_power", self.class_weights_power, "0 < x <= 1")
        require(0 < self.good_iou <= 1, "good_iou", self.good_iou, "0 < x <= 1")
