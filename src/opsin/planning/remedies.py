"""Remedies when a network does not fit, ranked by the memory each saves on this network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from opsin.errors import CheckFailedError, ConfigError
from opsin.planning.memory import memory_of
from opsin.planning.request import Request

PARTS_NOTE = "same gradients; batch norm sees the statistics of the parts"
GIVEN_BACK_NOTE = "10 to 40 % more time; the same weights. It saves at least this"
BFLOAT16_NOTE = "3 digits in the activations; slow on processors without bfloat16 arithmetic"


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """One change and what it saves.

    Attributes:
        name: as text.
        settings: settings of `opsin train`; empty if the change is not a setting.
        cost: its disadvantage.
        training_bytes: peak of a training step with it.
        saves_bytes: bytes saved.
        fits: whether it suffices alone; None without a limit.
    """

    name: str
    settings: Mapping[str, Any]
    cost: str
    training_bytes: int
    saves_bytes: int
    fits: bool | None


@dataclass(frozen=True, kw_only=True)
class _Change:
    name: str
    request: Request
    cost: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def remedies(request: Request, *, training_bytes: int, limit: int | None) -> list[Remedy]:
    """Changes that save memory on this network, largest saving first.

    Args:
        request: the request that does not fit.
        training_bytes: its memory.
        limit: available bytes, or None.
    """
    found = []
    for change in _changes(request, limit):
        try:
            needed = memory_of(change.request).training_bytes
        except ConfigError:  # the smaller input or network does not exist
            continue
        if needed < training_bytes:
            found.append(
                Remedy(
                    name=change.name,
                    settings=change.settings,
                    cost=change.cost,
                    training_bytes=needed,
                    saves_bytes=training_bytes - needed,
                    fits=None if limit is None else needed <= limit,
                )
            )
    return sorted(found, key=lambda remedy: -remedy.saves_bytes)


def fit(request: Request, limit: int) -> Request:
    """The request with the fewest changes that make it fit; network and batch size are kept.

    Freed memory is returned first, which does not affect results, unless the request fits whatever the allocator keeps.
    Then the batch is split into parts, then bfloat16 is used, then activations are recomputed.

    Raises:
        CheckFailedError: it does not fit even so.
    """
    if memory_of(request).most_bytes <= limit:
        return request
    request = replace(request, keep_memory=False)
    half = replace(request, precision="bfloat16")
    needed = 0
    for step in (request, half, _recomputed(half)):
        fitting = in_parts(step, limit)
        needed = memory_of(fitting).training_bytes
        if needed <= limit:
            return fitting
    raise CheckFailedError(
        "this network does not fit, even with single images",
        got=f"{needed:,} bytes",
        expected=f"at most {limit:,} bytes in addition to Python and torch",
        do="take a smaller input, fewer filters or fewer layers; the ranking without --fit shows what each saves",
    )


def in_parts(request: Request, limit: int | None) -> Request:
    """The request with its batch split into enough parts (a power of two) to fit, or into single images.

    Without a limit: into twice as many parts as before.
    """
    parts = request.accumulate
    while parts < request.batch:
        if limit is not None and memory_of(replace(request, accumulate=parts)).training_bytes <= limit:
            break
        parts = min(request.batch, 2 * parts)
        if limit is None:
            break
    return replace(request, accumulate=parts)


def _changes(request: Request, limit: int | None) -> Iterator[_Change]:
    """All possible changes, whether they help or not."""
    if request.keep_memory:
        back = replace(request, keep_memory=False)
        yield _Change(name="--no-keep-memory", request=back, cost=GIVEN_BACK_NOTE, settings={"keep_memory": False})
    parts = in_parts(request, limit)
    if parts.accumulate > request.accumulate:
        settings = {"accumulate": parts.accumulate}
        yield _Change(name=f"batch in {parts.accumulate} parts", request=parts, cost=PARTS_NOTE, settings=settings)
    if request.precision == "float32":
        half = replace(request, precision="bfloat16")
        yield _Change(name="bfloat16", request=half, cost=BFLOAT16_NOTE, settings={"precision": "bfloat16"})
    if not request.checkpoint_activations:
        settings = {"checkpoint_activations": True}
        cost = "a second forward pass in each step"
        yield _Change(name="recompute activations", request=_recomputed(request), cost=cost, settings=settings)
    if request.batch > 1:
        share = replace(request, batch=-(-request.batch // 2))
        yield _Change(name="two devices", request=share, cost="a second device, each with half of the batch")
    yield from _other_networks(request)


def _other_networks(request: Request) -> Iterator[_Change]:
    """Smaller networks, with another accuracy."""
    spec, cost = request.spec, "another network, with another accuracy"
    height, width = spec.height // 2, spec.width // 2
    if min(height, width) >= 1:
        smaller = replace(request, spec=replace(spec, height=height, width=width))
        settings = {"input_size": height} if height == width else {}
        yield _Change(name=f"input of {height}x{width}", request=smaller, cost=cost, settings=settings)
    filters = list(spec.options.get("filters", ()))
    variants: dict[str, dict[str, Any]] = {}
    if spec.options.get("downsample") == "pool":
        variants["stride 2 for pooling"] = {"downsample": "stride"}
    if len(filters) > 1:
        variants["one layer less"] = {"filters": filters[:-1]}
    if filters and max(filters) > 1:
        variants["half the filters"] = {"filters": [max(1, count // 2) for count in filters]}
    for name, options in variants.items():
        other = replace(request, spec=replace(spec, options={**spec.options, **options}))
        yield _Change(name=name, request=other, cost=cost, settings=options)


def _recomputed(request: Request) -> Request:
    return replace(request, checkpoint_activations=True)
