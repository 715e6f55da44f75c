"""Guards of a run: finite losses and weights, out-of-memory errors, signals."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor, nn

from opsin import interrupts
from opsin.errors import DivergedError
from opsin.group import ALONE, Group
from opsin.io.gate import printable
from opsin.training.engine.shards import is_divided, own_part

SHOWN_SAMPLES = 16


class StopRequest:
    """Ctrl-C, SIGTERM or SIGHUP, remembered until the step in progress is done.

    The second signal is remembered too; the third ends the process at once.
    """

    def __init__(self, message: Callable[[str], None]) -> None:
        self.count = 0
        self._message = message

    @property
    def made(self) -> bool:
        return self.count > 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals inside the block; only in the main thread, where Python allows it."""
        with interrupts.handled_by(self._note):
            yield

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > interrupts.PATIENT_SIGNALS:
            raise interrupts.Interrupted(signal.Signals(number).name)
        self._message(f"{signal.Signals(number).name}: stopping after this step, with a checkpoint")


def check_finite(
    loss: float,
    gradient_norm: float,
    *,
    step: int,
    samples: Tensor,
    sample_ids: Sequence[str] = (),
    weights_kept: bool = True,
) -> None:
    """Refuse a loss or a gradient that is not finite.

    Args:
        loss: of the batch.
        gradient_norm: of all parameters together.
        step: number of the step.
        samples: int64 [B], indices of the samples in the split.
        sample_ids: display name of each sample of the split; empty if unknown.
        weights_kept: whether the step was checked before it changed the weights.

    Raises:
        DivergedError: naming the step and the samples of the batch.
    """
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return
    what = "the loss" if not math.isfinite(loss) else "a gradient"
    kept = "the weights before this step were kept" if weights_kept else "`--resume` continues from the last checkpoint"
    names = [str(sample_ids[i] if sample_ids else i) for i in samples[:SHOWN_SAMPLES].tolist()]
    shown = ", ".join(names) + (" …" if len(samples) > SHOWN_SAMPLES else "")
    raise DivergedError(
        f"{what} is not a finite number; {kept}",
        where=printable(f"step {step}, training samples {shown}"),
        got=f"loss {loss}, gradient norm {gradient_norm}",
        do="lower --lr, set --clip 1, or inspect these samples with `opsin data audit`",
    )


def check_weights(network: nn.Module, *, step: int, group: Group = ALONE) -> None:
    """Refuse to score or keep weights and statistics that are not finite.

    Args:
        network: whose weights; a process may hold parts of them.
        step: after which they are as they are.
        group: all its processes refuse where one has found something.

    Raises:
        DivergedError: naming the step and the tensors.
    """
    broken = [key for key, value in network.state_dict().items() if not bool(own_part(value).isfinite().all())]
    if group.any([bool(broken)]):
        named = ", ".join(broken[:8]) + (", …" if len(broken) > 8 else "")
        raise DivergedError(
            "weights or statistics of the network are not finite numbers; nothing was overwritten",
            where=f"after step {step}: {named or 'in another process'}",
            got=f"{len(broken)} such tensors here",
            do="lower --lr, or set --clip 1; `--resume` continues from the last checkpoint",
        )


def gradient_norm(parameters: Sequence[nn.Parameter], group: Group = ALONE) -> Tensor:
    """Euclidean norm of all gradients together, a scalar; over all processes where each holds a part of them."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    parts = [own_part(gradient) for gradient in gradients]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(parts)))
    if not any(is_divided(gradient) for gradient in gradients):
        return norm
    squares = norm.to(torch.float64).square()
    group.add(squares)
    return squares.sqrt()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation on the CPU or a GPU was refused."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)
