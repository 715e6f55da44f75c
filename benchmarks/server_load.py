"""Load on `opsin serve`: throughput, latency, wrong answers, memory, overload; beside a plain server in the same run.

    python benchmarks/server_load.py RUN [--seconds 600] [--clients 32] [--requests 1000000] [--out result.json]

The phases, on loopback and one after the other: a plain PyTorch handler, ONNX Runtime in that handler, `opsin serve`
(`--seconds`), overload by four times the clients, recovery, the plain handler again. Each ends by itself: after its
seconds, after `--requests`, and every answer within a minute. Answers are compared with those of `Predictor`, which
`opsin predict` uses. Ends with 3 if a check does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from opsin.api.deployment import export
from opsin.api.opening import model_folder
from opsin.artifact import load_proved
from opsin.inference.predictor import Predictor

TOLERANCE = 1e-4
"""Of numbers in an answer, relative and absolute."""
ANSWER_S = 60.0
OVERLOAD = 4
PAUSE_S = 0.02
"""How long a client waits that was refused."""
WINDOW_S = 0.5
NUM_IMAGES = 64
HERE = Path(__file__).parent
Check = Callable[[int, bytes], bool]


def made_images(seed: int = 0) -> list[bytes]:
    """Image files of mixed formats, sizes, modes and orientations."""
    rng = np.random.default_rng(seed)
    files = []
    for i in range(NUM_IMAGES):
        width, height = rng.integers(64, 800, 2)
        coarse = rng.integers(0, 256, (rng.integers(2, 12), rng.integers(2, 12), 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        kind = ("JPEG", "JPEG", "PNG", "WEBP")[i % 4]
        mode = ("RGB", "L", "RGBA", "RGB")[i // 4 % 4]
        exif = Image.Exif()
        exif[0x0112] = 1 + i % 8
        file = io.BytesIO()
        image.convert("RGB" if mode == "RGBA" and kind == "JPEG" else mode).save(file, kind, exif=exif)
        files.append(file.getvalue())
    return files


def as_request(data: bytes) -> bytes:
    """A form with one file, as a browser sends it."""
    head = b'--edge\r\nContent-Disposition: form-data; name="file"; filename="image"\r\n\r\n'
    body = head + data + b"\r\n--edge--\r\n"
    lines = ["POST /predict HTTP/1.1", "Host: 127.0.0.1", "Content-Type: multipart/form-data; boundary=edge"]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def same(got: object, expected: object) -> bool:
    """Whether two JSON values are equal, but for rounding."""
    if isinstance(expected, dict) and isinstance(got, dict):
        return got.keys() == expected.keys() and all(same(got[key], expected[key]) for key in expected)
    if isinstance(expected, list) and isinstance(got, list):
        return len(got) == len(expected) and all(map(same, got, expected))
    if isinstance(expected, float) and isinstance(got, int | float):
        return math.isclose(got, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return got == expected


def comparable(prediction: dict[str, object]) -> dict[str, object]:
    """A prediction without its file's name; classes of nearly equal scores may change places."""
    top = {str(label): score for label, score in json.loads(json.dumps(prediction["top"]))}
    return {**prediction, "file": "", "top": top}


def comparer(expected: Sequence[dict[str, object]]) -> Check:
    """Whether the answer to image `i` is the expected one."""
    known = [comparable(json.loads(json.dumps(one))) for one in expected]

    def check(i: int, body: bytes) -> bool:
        found = json.loads(body)["predictions"]
        return len(found) == 1 and same(comparable(found[0]), known[i])

    return check


@dataclass(eq=False)
class Phase:
    """What clients saw: seconds of each answer of 200 and when it came, answers by status, failures, mismatches."""

    name: str
    began: float = field(default_factory=time.perf_counter)
    ended: float = 0.0
    latencies: list[float] = field(default_factory=list)
    events: list[tuple[float, float, int]] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    mismatches: int = 0

    def quantile_ms(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) * 1000 if self.latencies else math.nan

    @property
    def rate(self) -> float:
        """Images/s that were answered."""
        return len(self.latencies) / (self.ended - self.began)

    def row(self) -> dict[str, object]:
        return {
            "phase": self.name,
            "seconds": round(self.ended - self.began, 2),
            "answered": len(self.latencies),
            "images_s": round(self.rate, 2),
            "p50_ms": round(self.quantile_ms(0.5), 1),
            "p99_ms": round(self.quantile_ms(0.99), 1),
            "statuses": {str(status): n for status, n in sorted(self.statuses.items())},
            "failures": dict(self.failures),
            "mismatches": self.mismatches,
        }


class Client:
    """One connection that asks one image after the other."""

    def __init__(self, port: int, requests: Sequence[bytes], number: int) -> None:
        self.port, self.requests, self.next = port, requests, number * 7
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> tuple[int, int, bytes]:
        """Number of the image, status and body."""
        self.next = (self.next + 1) % len(self.requests)
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(self.requests[self.next])
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(line[15:]) for line in lines if line.startswith(b"content-length:"))
        body = await reader.readexactly(length)
        if b"connection: close" in lines:
            self.close()
        return self.next, int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
        self.streams = None


async def load(
    name: str, port: int, requests: Sequence[bytes], check: Check, *, clients: int, seconds: float, most: int
) -> Phase:
    """Closed-loop clients for so many seconds, or until `most` requests were begun."""
    phase = Phase(name)
    left = iter(range(most))

    async def work(client: Client) -> None:
        while time.perf_counter() - phase.began < seconds and next(left, None) is not None:
            start = time.perf_counter()
            try:
                async with asyncio.timeout(ANSWER_S):
                    i, status, body = await client.ask()
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                phase.failures[type(error).__name__] += 1
                client.close()
                await asyncio.sleep(PAUSE_S)
                continue
            now = time.perf_counter()
            phase.statuses[status] += 1
            phase.events.append((now, now - start, status))
            if status == 200:
                phase.latencies.append(now - start)
                phase.mismatches += not check(i, body)
            else:
                await asyncio.sleep(PAUSE_S)
        client.close()

    await asyncio.gather(*(work(Client(port, requests, number)) for number in range(clients)))
    phase.ended = time.perf_counter()
    return phase


def memory_bytes(process: int) -> int:
    """Resident memory of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


async def watched(process: int, work: asyncio.Task[Phase], seconds: float) -> tuple[Phase, list[tuple[float, int]]]:
    """The phase, and the server's memory over its time."""
    began, samples = time.perf_counter(), []
    while not work.done():
        samples.append((time.perf_counter() - began, memory_bytes(process)))
        await asyncio.wait([work], timeout=max(0.2, seconds / 200))
    return work.result(), samples


def growth(samples: Sequence[tuple[float, int]]) -> float:
    """Largest memory in the last tenth of the time, over that in the first tenth, minus 1."""
    end = samples[-1][0]
    first = [size for at, size in samples if at <= end / 10]
    last = [size for at, size in samples if at >= end * 0.9]
    return max(last) / max(first) - 1


def recovery_s(rated: Phase, overload: Phase, after: Phase) -> float:
    """Seconds from the end of the overload until windows without a refusal, and as fast as the rated load, follow.

    A window is as fast if its median answer took less than twice that of the rated load.
    """
    recovered, slow_s = 0.0, 2 * rated.quantile_ms(0.5) / 1000
    start = overload.ended
    while start + WINDOW_S <= after.ended:
        events = [event for event in after.events if start <= event[0] < start + WINDOW_S]
        took = [seconds for _, seconds, status in events if status == 200]
        start += WINDOW_S
        if len(took) < len(events) or not took or np.median(took) > slow_s:
            recovered = start - overload.ended
    return recovered


@contextmanager
def server(name: str, command: Sequence[str]) -> Iterator[tuple[int, int]]:
    """A server in its own process: its port and process id. It is ended with the block."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        text = ""
        while line := process.stdout.readline():
            text += line
            with suppress(ValueError):
                told = json.loads(text)
                break
        else:
            raise SystemExit(f"{name} did not start")
        port = told.get("port") or int(told["address"].rpartition(":")[2])
        yield port, process.pid
    finally:
        process.terminate()
        code = process.wait(90)
        print(f"{name} ended with {code}", file=sys.stderr)


def exported(run: str, folder: Path) -> Path:
    """The run as an ONNX file."""
    target = folder / "onnx"
    export(run, file=target)
    return target / "model.onnx"


async def measured(run: str, onnx: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """All phases."""
    folder, images = model_folder(run, "runs"), made_images()
    expected = [one.to_json() for one in Predictor(load_proved(folder)).files(images)]
    requests, check = [as_request(data) for data in images], comparer(expected)
    side_s = max(5.0, arguments.seconds / 10)
    plain = ("plain", [str(HERE / "plain_server.py"), "torch", str(folder)])
    runtime = ("ONNX Runtime", [str(HERE / "plain_server.py"), "onnx", str(onnx)])
    ours = ("opsin", ["-m", "opsin", "serve", run, "--port", "0", "--json"])
    phases: list[Phase] = []

    async def phase(name: str, port: int, *, compared: bool = False, factor: int = 1, seconds: float = side_s) -> Phase:
        known: Check = check if compared else lambda i, body: True
        clients = arguments.clients * factor
        found = await load(name, port, requests, known, clients=clients, seconds=seconds, most=arguments.requests)
        phases.append(found)
        print(json.dumps(found.row()), file=sys.stderr, flush=True)
        return found

    with server(*plain) as (plain_port, _), server(*runtime) as (onnx_port, _), server(*ours) as (port, process):
        for warm in (plain_port, onnx_port, port):
            await load("", warm, requests, lambda i, body: True, clients=arguments.clients, seconds=60, most=64)
        before = await phase("plain", plain_port)
        beside = await phase("ONNX Runtime", onnx_port)
        task = asyncio.ensure_future(phase("opsin", port, compared=True, seconds=arguments.seconds))
        rated, memory = await watched(process, task, arguments.seconds)
        overload = await phase("overload", port, compared=True, factor=OVERLOAD)
        after = await phase("recovery", port, compared=True, seconds=max(6.0, side_s))
        again = await phase("plain again", plain_port)
    plain_rate = (len(before.latencies) + len(again.latencies)) / (
        before.ended - before.began + again.ended - again.began
    )
    recovered = recovery_s(rated, overload, after)
    grown, ratio = growth(memory), rated.rate / plain_rate
    served = [rated, overload, after]
    odd = {status for one in served for status in one.statuses} - {200, 429, 503}
    checks = {
        "no failure": not rated.failures and set(rated.statuses) == {200},
        "no mismatch": not any(one.mismatches for one in served),
        "memory growth at most 5 %": grown <= 0.05,
        "twice the plain handler or more": ratio >= 2,
        "overload: 200, 429 and 503 alone": not odd and not overload.failures,
        "recovers within 5 s": recovered <= 5,
    }
    return {
        "run": run,
        "phases": [one.row() for one in phases],
        "times_plain": round(ratio, 2),
        "times_onnx": round(rated.rate / beside.rate, 2),
        "memory_growth": round(grown, 4),
        "memory_bytes": memory[-1][1],
        "recovery_s": round(recovered, 2),
        "checks": checks,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run by path, or a model folder")
    parser.add_argument("--seconds", type=float, default=600.0, help="of the load on opsin; other phases take a tenth")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=1_000_000, help="most in a phase")
    parser.add_argument("--out", type=Path, help="also write the result to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measured(arguments.run, exported(arguments.run, Path(folder)), arguments))
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")
    return 0 if all(found["checks"].values()) else 3  # type: ignore[attr-defined]


if __name__ == "__main__":
    raise SystemExit(main())
