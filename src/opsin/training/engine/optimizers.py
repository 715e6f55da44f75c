"""Optimizers by name, with the weights that are decayed kept apart from those that are not.

Muon steps filters and matrices along the nearest orthogonal matrix of their momentum; everything else (biases, norms,
the head) is stepped by AdamW inside the same optimizer, so that a checkpoint has one optimizer to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from opsin.config import TrainConfig
from opsin.training.engine.losses import exact
from opsin.training.engine.shards import divided_like, holds_parts, own_part, whole

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration. Source: K. Jordan, https://kellerjordan.github.io/posts/muon/"""
ADAM_BETA2 = 0.999
MUON_BETA2 = 0.95
"""Second-moment decay of what Muon leaves to AdamW: short runs need a short memory."""
RMSPROP_ALPHA = 0.9


def build_optimizer(network: nn.Module, config: TrainConfig, rates: Mapping[str, float] | None = None) -> Optimizer:
    """The optimizer that `config` names, for the trainable parameters of `network`.

    Weight decay is applied to weights of two or more dimensions, never to biases and norms, and not to the filters
    that Muon steps: their norm is fixed.

    Args:
        network: whose parameters.
        config: the optimizer and its settings.
        rates: factor of the learning rate of each parameter by its name; 1 for those that are not there.
    """
    rates = rates or {}
    if config.optimizer == "muon":
        return _muon(network, config, rates)
    groups = [
        group | ({"lr": config.lr * rate} if rate != 1 else {})
        for rate, named in _by_rate(list(_trainable(network)), rates)
        for group in _decay_groups(named, config.weight_decay)
    ]
    betas = (config.momentum, ADAM_BETA2)
    if config.optimizer == "sgd":
        # PyTorch 2.14 fuses SGD for whole tensors alone
        way = {"foreach": True} if holds_parts(network) else {"fused": True}
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0, **way)
    if config.optimizer == "adam":
        return torch.optim.Adam(groups, lr=config.lr, betas=betas, fused=True)
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=True)
    if config.optimizer == "nadam":
        return torch.optim.NAdam(groups, lr=config.lr, betas=betas, decoupled_weight_decay=True, foreach=True)
    return torch.optim.RMSprop(groups, lr=config.lr, alpha=RMSPROP_ALPHA, momentum=config.momentum, foreach=True)


def scale_learning_rate(optimizer: Optimizer, factor: float) -> None:
    """Set the rate of every group to `factor` times its peak."""
    for group in optimizer.param_groups:
        group.setdefault("peak_lr", group["lr"])
        group["lr"] = group["peak_lr"] * factor


def add_l2(network: nn.Module, strength: float) -> None:
    """Add the gradient of `strength * sum(w**2)` to the weights' gradients, as Keras' L2 regularizer does."""
    weights = [p for _, p in _trainable(network) if p.ndim > 1 and p.grad is not None]
    gradients = [own_part(p.grad) for p in weights if p.grad is not None]
    torch._foreach_add_(gradients, [own_part(p.detach()) for p in weights], alpha=2 * strength)


def clip_gradients(network: nn.Module, norm: Tensor, limit: float) -> None:
    """Shorten all gradients together where their Euclidean norm, a scalar on the device, is above `limit`."""
    gradients = [own_part(p.grad) for p in network.parameters() if p.grad is not None]
    # the quotient in float64, as Python's; a factor of 1 changes no bit, and the device need not be waited for
    factor = (limit / exact(norm)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor.to(torch.float32))


class Muon(Optimizer):
    """Momentum, orthogonalized by Newton-Schulz iterations, for filters; AdamW for the rest.

    Groups of kind "filters" hold weights [out, in, ...], which are flattened to matrices [out, in * ...]; their norm is
    kept at sqrt(out) throughout, so that the learning rate alone sets the relative size of a step. Groups of kind
    "others" are stepped by AdamW.

    Source: K. Jordan, https://kellerjordan.github.io/posts/muon/; AdamW: arXiv 1711.05101, algorithm 2.
    """

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"momentum": 0.6, "betas": (0.9, MUON_BETA2), "eps": 1e-8, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["kind"] == "filters":
                    self._step_filters(parameter, group)
                else:
                    self._step_other(parameter, group)

    def _step_filters(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
        # a matrix whose rows are divided among processes is orthogonalized whole by each of them
        ahead = whole(gradient.add(momentum, alpha=group["momentum"]))
        direction = divided_like(parameter, orthogonalized(ahead.flatten(1)).view_as(ahead))
        norm = whole(parameter.norm())
        own_part(parameter).mul_(len(parameter) ** 0.5 / norm.clamp_min(1e-7))
        own_part(parameter).add_(own_part(direction), alpha=-group["lr"])

    def _step_other(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        beta1, beta2 = group["betas"]
        state["step"] += 1
        step = float(state["step"])
        weight, slope = own_part(parameter), own_part(gradient)
        mean = own_part(state["mean"]).lerp_(slope, 1 - beta1)
        square = own_part(state["square"]).mul_(beta2).addcmul_(slope, slope, value=1 - beta2)
        denominator = (square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.addcdiv_(mean, denominator, value=-group["lr"] / (1 - beta1**step))


def orthogonalized(matrix: Tensor, iterations: int = 3) -> Tensor:
    """The matrix [m, n] with its singular values moved near 1, by Newton-Schulz iterations.

    Runs in bfloat16 on a GPU and in float32 elsewhere. Source: see `NEWTON_SCHULZ`.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16() if matrix.is_cuda else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.T if tall else x).to(matrix.dtype)


def _muon(network: nn.Module, config: TrainConfig, rates: Mapping[str, float]) -> Muon:
    filters = [(name, p) for name, p in _trainable(network) if p.ndim > 1 and not name.startswith("heads.")]
    taken = {id(p) for _, p in filters}
    others = [(name, p) for name, p in _trainable(network) if id(p) not in taken]
    groups: list[dict[str, Any]] = []
    for rate, named in _by_rate(filters, rates):
        parameters = [p for _, p in named]
        groups.append({"params": parameters, "kind": "filters", "lr": config.lr * rate, "momentum": config.momentum})
    for rate, named in _by_rate(others, rates):
        decayed = _decay_groups(named, config.weight_decay)
        groups += [group | {"kind": "others", "lr": config.lr_other * rate} for group in decayed]
    return Muon(groups)


def _by_rate(
    named: list[tuple[str, nn.Parameter]], rates: Mapping[str, float]
) -> list[tuple[float, list[tuple[str, nn.Parameter]]]]:
    """The parameters of each factor of the learning rate, in the order in which the factors first appear."""
    found: dict[float, list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in named:
        found.setdefault(rates.get(name, 1.0), []).append((name, parameter))
    return list(found.items())


def _decay_groups(named: list[tuple[str, nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    decayed = [p for _, p in named if p.ndim > 1]
    kept = [p for _, p in named if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def _trainable(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in network.named_parameters() if p.requires_grad)
