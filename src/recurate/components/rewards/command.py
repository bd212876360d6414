"""Rewards from an external program, such as a reward model in its own environment."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from recurate.components.protocols import RewardSettings
from recurate.core.arrays import FloatArray
from recurate.core.fingerprints import Fingerprint, of_command
from recurate.core.programs import Program, check_placeholders
from recurate.log import exchange
from recurate.log.exchange import Format
from recurate.log.samples import Samples

NAMES = ("candidates", "rewards", "count")


class CommandSettings(RewardSettings):
    """Reward gamma r(x), where a command reads a table of candidates and writes r.

    The columns of the table are ``item``, ``context`` and ``sample``.
    """

    kind: Literal["command"]
    command: tuple[str, ...] = Field(
        min_length=1,
        description="command, as a list of words; {candidates} is the file to score, {rewards} the file to "
        "write (item, reward); {count} and {python} are also available",
    )
    folder: str = Field(".", description="working folder of the command, relative to the current folder")
    exchange: Format = Field("jsonl", description="format of the files: jsonl or parquet")
    timeout: float = Field(3600.0, gt=0, description="time limit, in seconds")
    retries: int = Field(1, ge=0, le=100, description="how often it is started again after a failure")

    @field_validator("command")
    @classmethod
    def _names(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        check_placeholders(command, NAMES, ("candidates", "rewards"))
        return command

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the files that the command names."""
        return of_command(serves, self.command, Path(self.folder))

    def __call__(self, samples: Samples, contexts: NDArray[Any] | None = None) -> FloatArray:
        """Return one reward per sample, shape (n,).

        Raises:
            InputError: If the command fails on every try, exceeds its time limit, or does not write one
                number per candidate.
        """
        count = len(samples)
        work = Path(tempfile.mkdtemp(prefix="recurate-reward-")).resolve()
        asked, answer = work / f"candidates.{self.exchange}", work / f"rewards.{self.exchange}"
        exchange.write_candidates(
            asked, samples, np.full(count, "", object) if contexts is None else contexts
        )
        program = Program(f"rewards.{self.name}", self.command, Path(self.folder), self.timeout, self.retries)
        rewards = program.run(
            {"candidates": asked, "rewards": answer, "count": count},
            work / "output.log",
            prepare=lambda: answer.unlink(missing_ok=True),
            check=lambda: exchange.read_scores(answer, count, "reward"),
        )
        shutil.rmtree(work)  # after a failure it stays, with its log
        return self.gamma * rewards
