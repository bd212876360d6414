"""What a shard needs of the machine that processes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Needs:
    """Resources of one shard; only engines that place work on several machines use them.

    Attributes:
        cpus: CPU cores, also in part.
        gpus: GPUs, also in part.
    """

    cpus: float = 1.0
    gpus: float = 0.0


ONE = Needs()
