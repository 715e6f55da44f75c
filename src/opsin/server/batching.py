"""Dynamic batching: requests that arrive together are answered in one batch, by one thread that owns the network."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from opsin.inference.predictor import Fitted, Predictor
from opsin.types import Prediction

WAIT_S = 0.003
"""Seconds that the first image of a batch waits for others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """The images of one request, and the future of its predictions."""

    images: Sequence[Fitted]
    answer: Future[list[Prediction]] = field(default_factory=Future)


class Batcher:
    """Runs jobs on one network, in its own thread.

    Args:
        predictor: the network; only this thread runs it.
        wait_s: seconds that the first image of a batch waits for others.
        observe: called with the number of images of each batch.
    """

    def __init__(
        self, predictor: Predictor, *, wait_s: float = WAIT_S, observe: Callable[[int], None] = lambda _: None
    ) -> None:
        self.predictor = predictor
        self._wait_s, self._observe = wait_s, observe
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="opsin-batches", daemon=True)
        self._thread.start()

    def submit(self, images: Sequence[Fitted]) -> Future[list[Prediction]]:
        """A future of the predictions of these images."""
        job = Job(images=images)
        self._jobs.put(job)
        return job.answer

    def stop(self) -> None:
        """Answer submitted jobs, and stop the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        goes_on = True
        while goes_on and (first := self._jobs.get()) is not None:
            jobs, goes_on = self._together(first)
            wanted = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)

    def _together(self, first: Job) -> tuple[list[Job], bool]:
        """`first` with the jobs that follow it soon, and whether the thread continues after them."""
        jobs, num_images = [first], len(first.images)
        deadline = time.monotonic() + self._wait_s
        while num_images < self.predictor.batch_size:
            try:
                job = self._jobs.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if job is None:
                return jobs, False
            jobs.append(job)
            num_images += len(job.images)
        return jobs, True

    def _answer(self, jobs: Sequence[Job]) -> None:
        images = [image for job in jobs for image in job.images]
        try:
            found = self.predictor.answers(images)
        except Exception as error:  # any error goes to the waiting requests, and the thread survives
            for job in jobs:
                job.answer.set_exception(error)
            return
        self._observe(len(images))
        start = 0
        for job in jobs:
            job.answer.set_result(found[start : start + len(job.images)])
            start += len(job.images)
