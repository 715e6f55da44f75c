"""Metrics of the server in the Prometheus text format.

Source: the text format, https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram of durations, in seconds."""
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts of values up to each bound, with their number and sum."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.counts = bounds, [0] * len(bounds)
        self.number, self.sum = 0, 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self.number += 1
        self.sum += value
        for i, bound in enumerate(self.bounds):
            self.counts[i] += value <= bound

    def lines(self, name: str) -> list[str]:
        """The series of a histogram called `name`."""
        buckets = [f'{name}_bucket{{le="{bound:g}"}} {n}' for bound, n in zip(self.bounds, self.counts, strict=True)]
        whole = [
            f'{name}_bucket{{le="+Inf"}} {self.number}',
            f"{name}_sum {self.sum:.6f}",
            f"{name}_count {self.number}",
        ]
        return [f"# TYPE {name} histogram", *buckets, *whole]


class Metrics:
    """Requests, their durations, batches and images; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds, self._batches = Histogram(BUCKETS_S), Histogram(BATCH_BUCKETS)
        self.in_flight = 0
        """Prediction requests in progress."""

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; durations are recorded for predictions only."""
        with self._lock:
            self._requests[path, status] += 1
            if path == "/predict" and status == 200:
                self._seconds.add(seconds)

    def batch(self, num_images: int) -> None:
        """Count a batch."""
        with self._lock:
            self._batches.add(num_images)

    def text(self, reloads: Mapping[str, tuple[int, int]]) -> str:
        """All metrics as text.

        Args:
            reloads: of each model, how often its network was replaced, and how often it could not be.
        """
        with self._lock:
            requests = [
                f'opsin_requests_total{{path="{path}",status="{status}"}} {n}'
                for (path, status), n in sorted(self._requests.items())
            ]
            lines = ["# TYPE opsin_requests_total counter", *requests]
            lines += ["# TYPE opsin_requests_in_flight gauge", f"opsin_requests_in_flight {self.in_flight}"]
            lines += [*self._seconds.lines("opsin_predict_seconds"), *self._batches.lines("opsin_batch_images")]
        for i, name in enumerate(("opsin_reloads_total", "opsin_failed_reloads_total")):
            values = [f'{name}{{model="{_escaped(model)}"}} {counts[i]}' for model, counts in reloads.items()]
            lines += [f"# TYPE {name} counter", *values]
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    r"""A label's value as the format has it.

    >>> print(_escaped('a "b" \\ c'))
    a \"b\" \\ c
    """
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
