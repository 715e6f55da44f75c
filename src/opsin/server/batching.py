"""Dynamic batching: requests that arrive together are answered in one batch, by one thread that owns the network."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from opsin.inference.predictor import Fitted, Predictor
from opsin.types import Prediction

WAIT_S = 0.003
"""Seconds that the first image of a batch waits for others."""
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """The images of one request, the network that answers it, and the future of its predictions."""

    predictor: Predictor
    images: Sequence[Fitted]
    answer: Future[list[Prediction]] = field(default_factory=Future)


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """Other work with the network; `run` does it, and sets its future."""

    run: Callable[[], None]


Item = Job | Call | None
"""What waits in the queue; None stops the thread."""


class Batcher:
    """Runs the jobs of one model, in its own thread.

    Args:
        wait_s: seconds that the first image of a batch waits for others.
        observe: called with the number of images of each batch.
    """

    def __init__(self, *, wait_s: float = WAIT_S, observe: Callable[[int], None] = lambda _: None) -> None:
        self._wait_s, self._observe = wait_s, observe
        self._items: queue.SimpleQueue[Item] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="opsin-batches", daemon=True)
        self._thread.start()

    def submit(self, predictor: Predictor, images: Sequence[Fitted]) -> Future[list[Prediction]]:
        """A future of the predictions of these images; only this thread runs the predictor."""
        job = Job(predictor=predictor, images=images)
        self._items.put(job)
        return job.answer

    def call(self, work: Callable[[], Result]) -> Future[Result]:
        """A future of the result of `work`, which runs between two batches."""
        answer: Future[Result] = Future()
        self._items.put(Call(run=partial(_complete, work, answer)))
        return answer

    def stop(self) -> None:
        """Answer what was submitted, and stop the thread."""
        self._items.put(None)
        self._thread.join()

    def _work(self) -> None:
        item = self._items.get()
        while item is not None:
            if isinstance(item, Call):
                item.run()
                item = self._items.get()
                continue
            jobs, others = self._together(item)
            wanted = [job for job in jobs if job.answer.set_running_or_notify_cancel()]
            if wanted:
                self._answer(wanted)
            item = others[0] if others else self._items.get()

    def _together(self, first: Job) -> tuple[list[Job], list[Item]]:
        """`first` with the jobs of its network that follow it soon, and the item that ended the batch, if one did."""
        jobs, num_images = [first], len(first.images)
        deadline = time.monotonic() + self._wait_s
        while num_images < first.predictor.batch_size:
            try:
                item = self._items.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if not isinstance(item, Job) or item.predictor is not first.predictor:
                return jobs, [item]
            jobs.append(item)
            num_images += len(item.images)
        return jobs, []

    def _answer(self, jobs: Sequence[Job]) -> None:
        images = [image for job in jobs for image in job.images]
        try:
            found = jobs[0].predictor.answers(images)
        except Exception as error:  # any error goes to the waiting requests, and the thread survives
            for job in jobs:
                job.answer.set_exception(error)
            return
        self._observe(len(images))
        start = 0
        for job in jobs:
            job.answer.set_result(found[start : start + len(job.images)])
            start += len(job.images)


def _complete(work: Callable[[], Result], answer: Future[Result]) -> None:
    """Do the work, unless it was cancelled."""
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(work())
    except Exception as error:  # any error goes to the waiting request, and the thread survives
        answer.set_exception(error)
