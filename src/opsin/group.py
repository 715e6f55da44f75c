"""The processes that train one network together: who is in the group, who leads it, and what they tell each other.

    launcher (`opsin train --devices N`, or torchrun)
      ├── process 0, the lead    decides, writes the run folder, prints
      ├── process 1              computes its share of every batch, and follows
      └── …

All of it is torch.distributed: gloo between processors, NCCL between GPUs. What is told goes as JSON or as plain
tensors, never as a pickle. A program that was not launched as a group is a group of one, `ALONE`, and exchanges
nothing.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]

from opsin.errors import ConfigError, FollowerError, GroupError, OpsinError
from opsin.processes import LEAD, launched
from opsin.types import JsonDict, JsonMapping

TIMEOUT_S = 600.0
"""How long a process waits for the others in one exchange: longer than the lead scores val or writes a checkpoint."""
TIMEOUT_VARIABLE = "OPSIN_GROUP_TIMEOUT_S"
"""Names another number of seconds: fewer where a lost connection is to be noticed sooner."""
PATIENCE = timedelta(days=30)
"""How long processes wait for each other's preparation. The launcher ends the group if one of them dies meanwhile."""
CONNECTION_WORDS = ("gloo", "Gloo", "NCCL", "Connection closed by peer", "Connection reset")
"""Of messages of errors that the backends raise as plain RuntimeError."""
MOMENTS = ("start", "end")
"""What the lead tells followers once in a run; a failure is told in place of what is still open."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes that train together, as one of them sees them.

    `rank`: number of this process, 0 for the lead. `size`: number of processes. `store`: what they all can read and
    write; None in a group of one.
    """

    rank: int = LEAD
    size: int = 1
    store: Store | None = None

    @property
    def leads(self) -> bool:
        """Whether this process decides and writes."""
        return self.rank == LEAD

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def tell(self, moment: str, value: JsonMapping) -> None:
        """Tell the followers something that they wait for; by the lead."""
        if self.store is not None and not self.alone:
            self.store.set(moment, json.dumps(value))

    def told(self, moment: str) -> JsonDict:
        """What the lead tells; waits for it.

        Raises:
            FollowerError: the lead has failed, and said so; its exit code is that of this error.
        """
        assert self.store is not None
        self.store.wait([moment], PATIENCE)
        value: JsonDict = json.loads(self.store.get(moment))
        if "failed" in value:
            raise FollowerError("the leading process ended", got=value["what"], exit_code=int(value["failed"]))
        return value

    def wait_for_all(self, moment: str) -> None:
        """Wait until every process has come to this moment, as long as that takes."""
        if self.store is not None and not self.alone:
            self.store.set(f"{moment}/{self.rank}", "")
            self.store.wait([f"{moment}/{rank}" for rank in range(self.size)], PATIENCE)

    @contextmanager
    def followers_told(self) -> Iterator[None]:
        """Tell the followers how the block ended: they wait for its end, and fail as the lead fails.

        Raises:
            FollowerError: in a follower, for an error that the lead raises and prints as well.
        """
        try:
            yield
        except (OpsinError, KeyboardInterrupt) as error:
            code = error.exit_code if isinstance(error, OpsinError) else 130
            what = error.what if isinstance(error, OpsinError) else "interrupted"
            if self.leads:
                for moment in MOMENTS:
                    if self.store is not None and not self.store.check([moment]):
                        self.tell(moment, {"failed": code, "what": what})
            raise
        if self.leads:
            self.tell("end", {})

    def shared(self, values: Sequence[float]) -> list[float]:
        """The lead's `values`, float64; those of the other processes count for their number alone."""
        if self.alone:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(tensor, LEAD)
        return [float(value) for value in tensor.tolist()]

    def shared_plain(self, value: Any) -> Any:
        """The lead's plain value (what JSON can hold; NaN too); the other processes' is not looked at."""
        if self.alone:
            return value
        text = json.dumps(value).encode() if self.leads else b""
        (length,) = self.shared([len(text)])
        buffer = torch.frombuffer(bytearray(text or bytes(int(length))), dtype=torch.uint8)
        dist.broadcast(buffer, LEAD)
        return json.loads(buffer.numpy().tobytes())

    def largest(self, values: Sequence[float]) -> list[float]:
        """For each place the largest of the processes' values, float64."""
        if self.alone:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return [float(value) for value in tensor.tolist()]

    def any(self, flags: Sequence[bool]) -> bool:
        """Whether some process has raised one of the flags."""
        return bool(self.largest([float(any(flags))])[0])

    def add(self, tensor: Tensor) -> None:
        """Replace `tensor` by the sum over all processes."""
        if not self.alone:
            dist.all_reduce(tensor)

    def share_tensors(self, tensors: Sequence[Tensor]) -> None:
        """Replace each of `tensors` by the lead's."""
        if not self.alone:
            for tensor in tensors:
                dist.broadcast(tensor, LEAD)

    def shared_named(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The lead's tensors by name, on the CPU; what the other processes give is not looked at."""
        if self.alone:
            return dict(tensors)
        known = [[key, str(value.dtype).removeprefix("torch."), list(value.shape)] for key, value in tensors.items()]
        found = {
            key: tensors[key].contiguous() if self.leads else torch.empty(shape, dtype=getattr(torch, dtype))
            for key, dtype, shape in self.shared_plain(known)
        }
        self.share_tensors(list(found.values()))
        return found

    def gathered_rows(self, arrays: Mapping[str, np.ndarray], counts: Sequence[int]) -> dict[str, np.ndarray]:
        """On the lead the rows of all processes, in their order; elsewhere nothing.

        Args:
            arrays: of this process, `counts[rank]` rows each; the lead has at least one row.
            counts: rows of each process.
        """
        if self.alone:
            return dict(arrays)
        about = self.shared_plain([[key, str(a.dtype), list(a.shape[1:])] for key, a in arrays.items()])
        if not self.leads:
            for key, _, _ in about if counts[self.rank] else ():
                dist.send(torch.from_numpy(np.ascontiguousarray(arrays[key]).view(np.uint8).reshape(-1)), LEAD)
            return {}
        parts: dict[str, list[np.ndarray]] = {key: [arrays[key]] for key, _, _ in about}
        for sender in range(1, self.size):
            for key, dtype, shape in about if counts[sender] else ():
                rows = np.empty((counts[sender], *shape), dtype=dtype)
                buffer = torch.from_numpy(rows.view(np.uint8).reshape(-1))
                dist.recv(buffer, sender)
                parts[key].append(rows)
        return {key: np.concatenate(rows) for key, rows in parts.items()}

    def own_part(self, count: int) -> slice:
        """Which of `count` things in a row are this process's: parts in their order, of about equal size."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)


ALONE = Group()


def own_device(device: torch.device) -> torch.device:
    """The device of this process, where each of a group has one: GPU number LOCAL_RANK of its machine."""
    if str(device) != "cuda" or not launched():
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextmanager
def joined() -> Iterator[Group]:
    """Join the processes that this one was launched with, and leave them after the block; alone, a group of one.

    Raises:
        ConfigError: the program has made a process group by itself.
        GroupError: inside the block the processes have lost each other: one died, or the network between them did.
    """
    if not launched():
        yield ALONE
        return
    if dist.is_initialized():
        do = "call opsin.train without torch.distributed.init_process_group: it joins the group by itself"
        raise ConfigError("a process group is there already", do=do)
    from torch.distributed.rendezvous import rendezvous

    timeout = _timeout()
    base, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
    # a program may train several times: all its processes in the same order
    prefix = f"opsin/{base.add(f'opsin/joined/{rank}', 1)}"
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(own_device(torch.device("cuda")))
    dist.init_process_group(
        backend, store=PrefixStore(f"{prefix}/group", base), rank=rank, world_size=size, timeout=timeout
    )
    try:
        dist.all_reduce(torch.zeros(1))  # one that left before the others are connected would break their connecting
        yield Group(rank=rank, size=size, store=PrefixStore(f"{prefix}/told", base))
    except RuntimeError as error:
        if not _is_of_connection(error):
            raise
        what = f"process {rank} of {size} lost the others: one of them died, or does not answer"
        do = "`--resume` goes on from the last checkpoint; launchers that start groups again do so by themselves"
        raise GroupError(what, got=str(error).splitlines()[0], do=do) from error
    finally:
        dist.destroy_process_group()


def _timeout() -> timedelta:
    """How long an exchange may take.

    Raises:
        ConfigError: the variable holds no number above 0.
    """
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given) if given else TIMEOUT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ConfigError("no number of seconds", where=TIMEOUT_VARIABLE, got=given, expected="a number above 0")
    return timedelta(seconds=seconds)


def _is_of_connection(error: RuntimeError) -> bool:
    """Whether an exchange between processes failed, rather than what they compute."""
    told = str(error)
    return isinstance(error, dist.DistError) or any(word in told for word in CONNECTION_WORDS)
