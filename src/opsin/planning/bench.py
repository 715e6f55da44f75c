"""Speed of convolutions on the devices of this machine, against the roofline model.

A convolution of `work` operations that moves `traffic` bytes takes at least launch + max(work / peak, traffic /
bandwidth). Its arithmetic intensity, work / traffic, determines which of the two bounds it; a small batch has less of
both, so that the cost of a call itself (the launch) has more weight.

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model", CACM 52(4), 2009.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from opsin.config import require

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
FormatName = Literal["channels first", "channels last"]
FORMATS: dict[FormatName, torch.memory_format] = {
    "channels first": torch.contiguous_format,
    "channels last": torch.channels_last,
}
SLOWEST_SHARE = 8
"""A precision is skipped if a probe of it is this many times slower than float32."""
ALIKE = 0.1
"""Relative difference below which intensities are called nearly the same."""
WARM_UP = 2
COPY_BYTES = 64 * 2**20
PRODUCT_SIDE = 768


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A convolution without padding: `filters` filters of kernel x kernel over `batch` images, stride 1."""

    batch: int
    channels: int = 3
    side: int = 100
    filters: int = 32
    kernel: int = 7

    @property
    def output_side(self) -> int:
        return self.side - self.kernel + 1

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.filters * self.output_side**2 * self.channels * self.kernel**2

    def traffic_bytes(self, bytes_per_number: int) -> int:
        """Least bytes that must move: each input, weight and output once."""
        images = self.batch * self.channels * self.side**2
        weights = self.filters * self.channels * self.kernel**2
        outputs = self.batch * self.filters * self.output_side**2
        return bytes_per_number * (images + weights + outputs)


@dataclass(frozen=True, kw_only=True)
class Roof:
    """What one device can do in one precision, measured.

    `flops_per_second`: by a product of large matrices. `bytes_per_second`: by copying. `launch_s`: time of the smallest
    convolution, 1 filter of 1x1 over 1 pixel.
    """

    device: str
    precision: str
    flops_per_second: float
    bytes_per_second: float
    launch_s: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One convolution on one device: median and spread (quartiles) of `repeats` calls after warming up.

    `intensity`: operations for each byte that must move. `bound_s`: the least time by the roofline, launch included.
    `skipped`: why it was not timed; the times are None then.
    """

    device: str
    batch: int
    precision: str
    memory_format: FormatName
    repeats: int
    median_s: float | None
    low_s: float | None
    high_s: float | None
    images_per_second: float | None
    flops_per_second: float | None
    intensity: float
    bound_s: float | None
    bound_by: str | None
    launch_share: float | None
    skipped: str | None = None


@dataclass(frozen=True, kw_only=True)
class ConvBench:
    """Timings of all devices, with their roofs, and notes on them."""

    results: tuple[Timing, ...]
    roofs: tuple[Roof, ...]
    notes: tuple[str, ...]


def bench_conv(
    *, batches: tuple[int, ...] = (100, 2), repeats: int = 10, side: int = 100, threads: int | None = None
) -> ConvBench:
    """Time 32 filters of 7x7x3 over batches of `side` x `side` x 3 images on every device.

    Args:
        batches: images in a call.
        repeats: timed calls of each case.
        side: side of the images in pixels, at least 7.
        threads: of the CPU, 1 or more; None is as many as PyTorch takes. Afterwards it takes as many as before.

    Raises:
        ConfigError: a number is out of range.
    """
    require(repeats >= 2, "repeats", repeats, "2 or more")
    require(side >= 7, "side", side, "7 or more")
    require(threads is None or threads >= 1, "threads", threads, "1 or more")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _bench(_cases(batches, side), repeats)
    finally:
        torch.set_num_threads(before)


def _bench(cases: list[Convolution], repeats: int) -> ConvBench:
    """All cases on all devices, with the threads that are set."""
    results: list[Timing] = []
    roofs: list[Roof] = []
    notes: list[str] = []
    names = devices()
    if names == ["cpu"]:
        notes.append("there is no GPU on this machine: only the CPU is timed")
    for device in names:
        for precision in DTYPES:
            if (reason := too_slow(device, precision)) is not None:
                notes.append(f"{device}, {precision}: skipped, {reason}")
                results += [_skipped(device, precision, c, reason) for c in cases]
                continue
            roofs.append(measure_roof(device, precision, repeats=repeats))
            results += _timed(roofs[-1], cases, repeats)
    if any(row.median_s is not None and row.bound_s is not None and row.median_s < row.bound_s for row in results):
        notes.append("a convolution was faster than the roof: other load disturbed the measurement; repeat it")
    return ConvBench(results=tuple(results), roofs=tuple(roofs), notes=(*notes, *explain(results)))


def devices() -> list[str]:
    """The devices of this machine, the CPU first."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found += [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def too_slow(device: str, precision: str) -> str | None:
    """Why a precision is not worth timing on a device: a small convolution in it is many times slower; or None."""
    if precision == "float32":
        return None
    probe = Convolution(batch=1, side=24)
    seconds = {
        name: _quartiles(_call(probe, device, name, torch.contiguous_format), device, 3)[1]
        for name in ("float32", precision)
    }
    ratio = seconds[precision] / seconds["float32"]
    if ratio <= SLOWEST_SHARE:
        return None
    return f"a probe is {ratio:.0f} times slower than in float32: this processor has no arithmetic for it"


def measure_roof(device: str, precision: str, *, repeats: int = 10) -> Roof:
    """Peak of arithmetic and of memory, and the cost of a call, on one device."""
    dtype = DTYPES[precision]
    a = torch.ones(PRODUCT_SIDE, PRODUCT_SIDE, dtype=dtype, device=device)
    product = min(_seconds(lambda: a @ a, device, repeats))
    source = torch.ones(COPY_BYTES // 4, device=device)
    target = torch.empty_like(source)
    copy = min(_seconds(lambda: target.copy_(source), device, repeats))
    smallest = Convolution(batch=1, channels=1, side=1, filters=1, kernel=1)
    launch = _quartiles(_call(smallest, device, precision, torch.contiguous_format), device, 10 * repeats)[1]
    return Roof(
        device=device,
        precision=precision,
        flops_per_second=2 * PRODUCT_SIDE**3 / product,
        bytes_per_second=2 * COPY_BYTES / copy,
        launch_s=launch,
    )


def explain(results: Sequence[Timing]) -> Iterator[str]:
    """Why a large batch is faster per image than a small one, in numbers, for each device and precision."""
    kinds = dict.fromkeys((timing.device, timing.precision) for timing in results if timing.median_s is not None)
    for kind in kinds:
        alike = [timing for timing in results if (timing.device, timing.precision) == kind]
        sizes = sorted({timing.batch for timing in alike})
        if len(sizes) > 1:
            small, large = (min((t for t in alike if t.batch == n), key=_seconds_of) for n in (sizes[0], sizes[-1]))
            yield _comparison(small, large)


def _comparison(small: Timing, large: Timing) -> str:
    rates = [timing.images_per_second or 0.0 for timing in (large, small)]
    launches = [100 * (timing.launch_share or 0.0) for timing in (large, small)]
    alike = abs(large.intensity - small.intensity) <= ALIKE * large.intensity
    return (
        f"{large.device}, {large.precision}: {rates[0]:,.0f} images/s in batches of {large.batch}, {rates[1]:,.0f} in "
        f"batches of {small.batch}. The arithmetic intensity {'is nearly the same' if alike else 'differs'}, "
        f"{large.intensity:.1f} and {small.intensity:.1f} operations per byte; the call itself costs "
        f"{launches[0]:.2g} % of the time of the large batch, {launches[1]:.2g} % of that of the small one; "
        f"{large.bound_by} bounds the large batch, {small.bound_by} the small one"
    )


def _cases(batches: tuple[int, ...], side: int) -> list[Convolution]:
    return [Convolution(batch=batch, side=side) for batch in batches]


def _timed(roof: Roof, cases: list[Convolution], repeats: int) -> Iterator[Timing]:
    for case in cases:
        for name, layout in FORMATS.items():
            quartiles = _quartiles(_call(case, roof.device, roof.precision, layout), roof.device, repeats)
            yield _timing(roof, case, name, quartiles, repeats)


def _timing(
    roof: Roof, case: Convolution, name: FormatName, quartiles: tuple[float, float, float], repeats: int
) -> Timing:
    low, median, high = quartiles
    traffic = case.traffic_bytes(DTYPES[roof.precision].itemsize)
    arithmetic, memory = case.flops / roof.flops_per_second, traffic / roof.bytes_per_second
    return Timing(
        device=roof.device,
        batch=case.batch,
        precision=roof.precision,
        memory_format=name,
        repeats=repeats,
        median_s=median,
        low_s=low,
        high_s=high,
        images_per_second=case.batch / median,
        flops_per_second=case.flops / median,
        intensity=case.flops / traffic,
        bound_s=roof.launch_s + max(arithmetic, memory),
        bound_by="arithmetic" if arithmetic >= memory else "memory",
        launch_share=min(1.0, roof.launch_s / median),
    )


def _skipped(device: str, precision: str, case: Convolution, reason: str) -> Timing:
    return Timing(
        device=device,
        batch=case.batch,
        precision=precision,
        memory_format="channels first",
        repeats=0,
        median_s=None,
        low_s=None,
        high_s=None,
        images_per_second=None,
        flops_per_second=None,
        intensity=case.flops / case.traffic_bytes(DTYPES[precision].itemsize),
        bound_s=None,
        bound_by=None,
        launch_share=None,
        skipped=reason,
    )


def _call(case: Convolution, device: str, precision: str, layout: torch.memory_format) -> Callable[[], Tensor]:
    """One convolution of random numbers, ready to be called."""
    generator = torch.Generator().manual_seed(0)
    sizes = (case.batch, case.channels, case.side, case.side), (case.filters, case.channels, case.kernel, case.kernel)
    images, weights = (
        torch.randn(size, generator=generator).to(device, DTYPES[precision]).contiguous(memory_format=layout)
        for size in sizes
    )
    return lambda: torch.nn.functional.conv2d(images, weights)


def _quartiles(call: Callable[[], Tensor], device: str, repeats: int) -> tuple[float, float, float]:
    """Lower quartile, median, upper quartile of the seconds of a call."""
    seconds = _seconds(call, device, max(2, repeats))
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, median, high


@torch.inference_mode()
def _seconds(call: Callable[[], Tensor], device: str, repeats: int) -> list[float]:
    """Seconds of each of `repeats` calls after warming up; a call ends when the device has finished it."""
    for _ in range(WARM_UP):
        call()
    found = []
    for _ in range(repeats):
        _wait(device)
        began = time.perf_counter()
        call()
        _wait(device)
        found.append(time.perf_counter() - began)
    return found


def _wait(device: str) -> None:
    """Wait until the device has finished all work."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    elif device == "mps":
        torch.mps.synchronize()


def _seconds_of(timing: Timing) -> float:
    return timing.median_s or float("inf")
