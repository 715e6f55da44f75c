"""Random numbers without state: each is a function of (seed, epoch, sample, stream, counter) and of nothing else.

A *stream* names what the numbers are for ("flip", "rotate"), so that two uses never share numbers. The key of a stream
is a hash of (seed, epoch, stream); sample and counter are mixed into it by the finalizer of splitmix64 in wrapping
int64 arithmetic, which is the same on every device. Batch size, order, workers and device change nothing. `normal` and
`beta` need logarithms, whose last bit may differ with the place in a tensor: they are rounded from float64.

Shapes: B samples, K numbers for each.

Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014 (the finalizer, `mix64`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

GOLDEN = -7046029254386353131
"""2**64 / golden ratio as a signed number: an odd step that spreads consecutive counters."""
NUM_TRIES = 12
"""Tries of the gamma sampler. Each fails with probability below 0.05, so all of them with less than 3e-16."""


def bits(seed: int, epoch: int, index: Tensor, stream: str, count: int = 1) -> Tensor:
    """64 random bits for each sample and counter.

    Args:
        index: int64 [B], sample numbers.
        stream: what the numbers are for.
        count: numbers for each sample.

    Returns:
        int64 [B, count], all 2**64 values equally likely.
    """
    samples_B = _mix(_key(seed, epoch, stream) + index * GOLDEN)
    counters_K = torch.arange(1, count + 1, device=index.device) * GOLDEN
    return _mix(samples_B[:, None] + counters_K)


def uniform(seed: int, epoch: int, index: Tensor, stream: str, count: int = 1) -> Tensor:
    """Numbers that are evenly spread over [0, 1): float32 [B, count], multiples of 2**-24."""
    return _shift_right(bits(seed, epoch, index, stream, count), 40).to(torch.float32) * 2.0**-24


def uniform_of_streams(seed: int, epoch: int, index: Tensor, streams: Sequence[str]) -> Tensor:
    """The first `uniform` number of each of K streams at once, which is K times faster: float32 [K, B]."""
    keys = torch.tensor([_key(seed, epoch, stream) for stream in streams], device=index.device)
    samples_KB = _mix(keys[:, None] + index * GOLDEN)
    return _shift_right(_mix(samples_KB + GOLDEN), 40).to(torch.float32) * 2.0**-24


def integers(seed: int, epoch: int, index: Tensor, stream: str, high: int, count: int = 1) -> Tensor:
    """Whole numbers from 0 to high - 1: int64 [B, count]. `high` is at most 2**31; the bias is below high / 2**32.

    Source: Lemire, "Fast random integer generation in an interval", 2019, without its rejection step.
    """
    return _shift_right(bits(seed, epoch, index, stream, count), 32) * high >> 32


def normal(seed: int, epoch: int, index: Tensor, stream: str, count: int = 1) -> Tensor:
    """Standard normal numbers: float32 [B, count], within 5.8 standard deviations.

    Source: Box, Muller, "A note on the generation of random normal deviates", 1958.
    """
    return _normal(seed, epoch, index, stream, count).to(torch.float32)


def _normal(seed: int, epoch: int, index: Tensor, stream: str, count: int) -> Tensor:
    """`normal` before rounding: float64 [B, count]."""
    pairs = uniform(seed, epoch, index, stream, 2 * count).double()
    radius = torch.sqrt(-2 * torch.log1p(-pairs[:, :count]))
    return radius * torch.cos(2 * math.pi * pairs[:, count:])


def beta(seed: int, epoch: int, index: Tensor, stream: str, a: float, b: float) -> Tensor:
    """One number of the distribution Beta(a, b) for each sample: float32 [B] in [0, 1].

    Small `a` or `b` give numbers so near to 0 or 1 that float32 rounds those next to 1 to 1.
    A beta is x / (x + y) of two gammas; in logarithms, so that small `a` and `b` do not underflow.
    """
    log_x = _log_gamma_variate(seed, epoch, index, f"{stream}/x", a)
    log_y = _log_gamma_variate(seed, epoch, index, f"{stream}/y", b)
    return torch.sigmoid(log_x - log_y).to(torch.float32)


def permutation(num_samples: int, seed: int, epoch: int, stream: str = "order") -> Tensor:
    """The numbers 0 to num_samples - 1 in random order: int64 [num_samples] on the CPU."""
    return torch.argsort(bits(seed, epoch, torch.arange(num_samples), stream)[:, 0], stable=True)


def _log_gamma_variate(seed: int, epoch: int, index: Tensor, stream: str, shape: float) -> Tensor:
    """Logarithm of one Gamma(shape, 1) number for each sample: float64 [B].

    Every try is drawn for every sample and the first that is accepted is taken: a loop would need state.

    Source: Marsaglia, Tsang, "A simple method for generating gamma variables", 2000; shapes below 1 by its section 6.
    """
    d = (shape + 1 if shape < 1 else shape) - 1 / 3
    z = _normal(seed, epoch, index, f"{stream}/z", NUM_TRIES)
    u = uniform(seed, epoch, index, f"{stream}/u", NUM_TRIES).double()
    v = (1 + z / math.sqrt(9 * d)) ** 3
    log_v = torch.log(v.clamp_min(1e-30))
    accepted = (v > 0) & (torch.log1p(-u) < 0.5 * z * z + d * (1 - v + log_v))
    first = accepted.to(torch.uint8).argmax(dim=1, keepdim=True)
    log_gamma = math.log(d) + log_v.gather(1, first)[:, 0]
    if shape < 1:
        log_gamma = log_gamma + torch.log1p(-uniform(seed, epoch, index, f"{stream}/boost")[:, 0].double()) / shape
    return log_gamma


def _key(seed: int, epoch: int, stream: str) -> int:
    """The signed 64-bit key of a stream."""
    digest = hashlib.blake2b(f"{seed}/{epoch}/{stream}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _mix(x: Tensor) -> Tensor:
    """Spread every bit of int64 `x` over all bits, one to one."""
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, places: int) -> Tensor:
    """Shift int64 right as if it were unsigned: torch's own shift would copy the sign."""
    return (x >> places) & ((1 << (64 - places)) - 1)
