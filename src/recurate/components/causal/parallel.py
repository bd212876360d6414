"""Training in several processes, each with the forward passes of a share of every step (data parallelism).

All processes hold the same weights. They add up their gradients before every step, so that all take the same
one; the sum depends on the number of processes by rounding only. Process i has the GPU i, where there are as
many, and the gradients then travel by NCCL; otherwise by Gloo.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recurate.components.causal.tuning import ALONE, Course, Example, Share, tune
from recurate.components.nets.devices import import_torch, threads
from recurate.components.nets.training import repeatable
from recurate.core.errors import Diverged, InputError

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 1 << 24  # gradients that travel together


def passes_in(device: str, low: bool) -> AbstractContextManager[Any]:
    """Return the context of forward passes: bfloat16 on a device, or as they are."""
    if not low:
        return nullcontext()
    torch = import_torch()
    autocast: AbstractContextManager[Any] = torch.autocast(device.split(":")[0], torch.bfloat16)
    return autocast


@dataclass(frozen=True)
class Training:
    """What every process needs for its share of the training.

    Attributes:
        examples: Training sequences.
        course: How long and in what portions.
        filler: Id that fills places that nothing attends to.
        draw: Random numbers for the order, in the same state in all processes.
        seed: Seed of dropout; process i adds i to it.
        device: Device; ``cuda`` is the GPU of the process's number.
        low: Whether forward passes are in bfloat16.
        threads: CPU threads of each process.
    """

    examples: Sequence[Example]
    course: Course
    filler: int
    draw: np.random.Generator
    seed: int
    device: str
    low: bool
    threads: int

    def run(self, model: Any, share: Share = ALONE) -> None:
        """Train a model in place, on its device."""
        precision = partial(passes_in, self.device, self.low)
        tune(model, self.examples, self.course, self.filler, self.draw, precision, share)


def tune_in_processes(model: Any, training: Training, processes: int) -> None:
    """Train a model, which is on the CPU, in place.

    Args:
        model: Causal language model of transformers.
        training: What to train it on.
        processes: Number of processes, 2 or more.

    Raises:
        Diverged: If the loss or the weights are not finite.
        InputError: If a process ends before its time.
    """
    import torch.multiprocessing as mp
    from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

    model.share_memory()
    context = mp.get_context("spawn")
    ended = context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="recurate-training-") as folder:
        try:
            start_processes(  # type: ignore[no-untyped-call]
                _work, (processes, Path(folder) / "meeting", model, training, ended), nprocs=processes
            )
        except (ProcessExitedException, ProcessRaisedException) as error:
            if not ended.empty():
                raise Diverged("language model", training.course.learning_rate) from None
            raise InputError(
                f"one of {processes} training processes ended before its time",
                got=str(error).strip().splitlines()[-1],
                remedy="continue with --resume; lower training.processes or training.micro if memory ran out",
            ) from None


def _work(rank: int, size: int, meeting: Path, model: Any, training: Training, ended: Any) -> None:
    """Do one process's share; the first writes the weights back."""
    torch = import_torch()
    device = _own_device(training.device, rank)
    own = copy.deepcopy(model).to(device)
    torch.manual_seed(training.seed + rank)
    with threads(training.threads), repeatable(device), _joined(rank, size, meeting, device):
        try:
            training.run(own, Share(rank, size, _sum))
        except Diverged:
            ended.put(rank)
            raise
    if rank == 0:
        model.load_state_dict(own.state_dict())


def _own_device(device: str, rank: int) -> str:
    return f"cuda:{rank % import_torch().cuda.device_count()}" if device == "cuda" else device


@contextmanager
def _joined(rank: int, size: int, meeting: Path, device: str) -> Iterator[None]:
    """Let the processes of this machine find each other by a file."""
    import torch.distributed as distributed

    torch = import_torch()
    nccl = device.startswith("cuda") and torch.cuda.device_count() >= size
    if nccl:
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "nccl" if nccl else "gloo", init_method=meeting.as_uri(), rank=rank, world_size=size
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _sum(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their sums over all processes, many small ones at a time."""
    import torch
    import torch.distributed as distributed

    group: list[Tensor] = []
    for at, tensor in enumerate(tensors):
        group.append(tensor)
        if sum(t.numel() for t in group) < CHUNK and at + 1 < len(tensors):
            continue
        flat = torch.cat([t.reshape(-1).float() for t in group])
        distributed.all_reduce(flat)
        for own, part in zip(group, torch.split(flat, [t.numel() for t in group]), strict=True):
            own.copy_(part.view_as(own))
        group = []
