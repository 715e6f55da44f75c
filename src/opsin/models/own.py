"""User-defined networks: a module whose outputs are a tensor, or tensors by name.

    opsin.train("digits", model=MyNetwork())             a module: a copy of it is trained
    opsin.register_model("my_network", build)            a function: `--model my_network` builds it

`build` is called with `channels, height, width` of the images and `num_outputs`, and returns the module. The module
maps preprocessed images float32 [B, C, H, W] to logits float [B, K] (one number per class), or to a mapping by the
names of the task's outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy

from torch import Tensor, nn

from opsin import plugins
from opsin.errors import ConfigError
from opsin.types import JsonDict

ModelFactory = Callable[..., nn.Module]
OWN = "own:"
"""Prefix of the name of a network given as a module: `own:package.module:Class`."""


class OwnNetwork(nn.Module):
    """A user-defined module whose outputs are named as its task expects.

    Args:
        network: the module.
        outputs: length of each output by name, in order; a single tensor is the first.
        learned_channels: number of channels of an initial batch norm that learns the normalization; 0 has none.
    """

    def __init__(self, network: nn.Module, outputs: Mapping[str, int], *, learned_channels: int = 0) -> None:
        super().__init__()
        self.normalize: nn.Module = nn.BatchNorm2d(learned_channels) if learned_channels else nn.Identity()
        self.network = network
        self.outputs = dict(outputs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by name, each float [B, K, ...], of preprocessed images float [B, C, H, W].

        Raises:
            ConfigError: an output is missing, or has another length than required.
        """
        found = self.network(self.normalize(images))
        if isinstance(found, Tensor):
            found = {next(iter(self.outputs)): found}
        if not isinstance(found, Mapping):
            raise self._refused(type(found).__name__)
        for name, length in self.outputs.items():
            value = found.get(name)
            if not isinstance(value, Tensor) or value.ndim < 2 or value.shape[:2] != (images.shape[0], length):
                shape = list(value.shape) if isinstance(value, Tensor) else "nothing"
                raise self._refused(f"`{name}`: {shape}")
        return dict(found)

    def _refused(self, got: str) -> ConfigError:
        expected = ", ".join(f"`{name}`: [B, {length}, ...]" for name, length in self.outputs.items())
        what = "the network's outputs differ from those of the task"
        do = "return a tensor, or a mapping of tensors by name"
        return ConfigError(what, where=type(self.network).__name__, got=got, expected=expected, do=do)


def register(name: str, build: ModelFactory) -> None:
    """Make a network known by name in this process (`opsin.register_model`, which keeps Opsin's own names free)."""
    plugins.register("models", name, build)


def register_module(network: nn.Module) -> str:
    """Make a module known, so that copies of it can be built; returns the name stored in runs."""
    kind = type(network)
    name = f"{OWN}{kind.__module__}:{kind.__qualname__}"
    template = deepcopy(network).cpu()
    plugins.register("models", name, lambda **_: deepcopy(template))
    return name


def build_own(
    name: str, outputs: Mapping[str, int], *, channels: int, height: int, width: int, learned_input: bool = False
) -> OwnNetwork:
    """A new copy of the network of that name, which may begin with a learned normalization of its input.

    Raises:
        ConfigError: no such registered network, or it does not build a module.
    """
    build = plugins.find("models", name)
    if build is None:
        kind = name.removeprefix(OWN)
        raise ConfigError(
            "this run's network is user-defined and not registered",
            got=kind,
            do=f"before opening the run: `opsin.register_module(network)` with a new {kind.split(':')[-1]}",
        )
    shape: JsonDict = {"channels": channels, "height": height, "width": width}
    network = build(**shape, num_outputs=next(iter(outputs.values())))
    if not isinstance(network, nn.Module):
        raise ConfigError(
            "a registered network is not a module", where=name, got=type(network).__name__, expected="a torch.nn.Module"
        )
    return OwnNetwork(network, outputs, learned_channels=channels if learned_input else 0)
