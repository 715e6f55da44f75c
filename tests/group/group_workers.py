"""Processes that tests run as a group: started once, as importing PyTorch takes most of the time of a short run."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

SECONDS = 60


class Workers:
    """Processes that take functions of a module, each with the variables of a launcher."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._lines: list[Connection] = []
        self._processes: list[Any] = []

    def run(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What `function(*arguments)` gives in each process of a group of `size`, by rank.

        Raises:
            AssertionError: an error in one of them, with its traceback.
        """
        while len(self._lines) < size:
            self._start()
        port = _free_port()
        for rank, line in enumerate(self._lines[:size]):
            line.send((_variables(rank, size, port), function, arguments))
        until = time.monotonic() + SECONDS
        answers = [
            line.recv() if line.poll(max(until - time.monotonic(), 0)) else ("failed", "no answer")
            for line in self._lines[:size]
        ]
        errors = [value for kind, value in answers if kind == "failed"]
        if errors:
            self.close()  # what hangs is not used again
            raise AssertionError("\n".join(errors))
        return [value for _, value in answers]

    def _start(self) -> None:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        self._lines.append(here)
        self._processes.append(process)

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.kill()
            process.join()
        self._lines, self._processes = [], []


def _serve(line: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    while True:
        variables, function, arguments = line.recv()
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)
        os.environ.update(variables)
        try:
            line.send(("done", function(*arguments)))
        except BaseException:
            line.send(("failed", traceback.format_exc()))


def _variables(rank: int, size: int, port: int) -> dict[str, str]:
    if size == 1:
        return {}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), **place}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
