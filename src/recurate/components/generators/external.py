"""Generators outside recurate: two programs, one that samples and one that trains, exchange files with it.

*sample* reads a table of requested candidates (``item``, ``context``) and a folder with a checkpoint, and
writes a table of candidates (``item``, ``sample``). *fit* reads a training set (``item``, ``context``,
``source``, ``sample``) and the folder of the previous checkpoint (empty before the first training), and fills
a new, empty folder. Neither program imports recurate: :mod:`recurate.log.exchange` defines the formats, and
:mod:`recurate.core.programs` runs the commands.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from recurate.components.protocols import Generator, GeneratorSettings
from recurate.core.errors import InputError
from recurate.core.fingerprints import Fingerprint, of_command, of_folder
from recurate.core.programs import Program, check_placeholders
from recurate.core.seeds import Stream
from recurate.log import exchange
from recurate.log.exchange import Format
from recurate.log.samples import Samples

CHECKPOINT = "checkpoint"  # folder within a saved model
SEEDS = 2**31  # many libraries require smaller seeds

SAMPLE_NAMES = ("contexts", "candidates", "checkpoint", "seed", "count")
FIT_NAMES = ("training", "checkpoint", "new_checkpoint", "seed", "count")


class ExternalSettings(GeneratorSettings):
    """Settings of an external generator."""

    shard: ClassVar[int | None] = None  # a program that starts may have a large model to load
    kind: Literal["external"]
    sample: tuple[str, ...] = Field(
        min_length=1,
        description="command that samples, as a list of words; {contexts} is the file of requested "
        "candidates, {candidates} the file to write, {checkpoint} the model's folder; {seed}, {count} and "
        "{python} are also available",
    )
    fit: tuple[str, ...] = Field(
        min_length=1,
        description="command that trains, as a list of words; {training} is the training set, {checkpoint} "
        "the folder to start from (empty before the first training), {new_checkpoint} the empty folder to "
        "fill; {seed}, {count} and {python} are also available",
    )
    start: str | None = Field(
        None, description="folder with a first checkpoint, relative to the current folder; none if absent"
    )
    fit_first: bool = Field(
        True, description="whether to train the first model on the real data; false: it is `start`, unchanged"
    )
    folder: str = Field(".", description="working folder of both commands, relative to the current folder")
    exchange: Format = Field("jsonl", description="format of the files: jsonl or parquet")
    sample_timeout: float = Field(3600.0, gt=0, description="time limit for sampling, in seconds")
    fit_timeout: float = Field(86_400.0, gt=0, description="time limit for training, in seconds")
    retries: int = Field(1, ge=0, le=100, description="number of retries after a failure")

    @field_validator("sample")
    @classmethod
    def _sample_names(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        check_placeholders(command, SAMPLE_NAMES, ("candidates",))
        return command

    @field_validator("fit")
    @classmethod
    def _fit_names(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        check_placeholders(command, FIT_NAMES, ("training", "new_checkpoint"))
        return command

    @model_validator(mode="after")
    def _something_to_begin_with(self) -> Self:
        if not self.fit_first and self.start is None:
            raise ValueError("fit_first = false needs start, the folder of the first model")
        return self

    def rests_on(self, serves: str) -> list[Fingerprint]:
        """Return the fingerprints of the files that the commands name and of the first checkpoint."""
        folder = Path(self.folder)
        start = [] if self.start is None else of_folder(f"{serves}.start", Path(self.start), kept=True)
        return [
            *of_command(f"{serves}.fit", self.fit, folder),
            *of_command(f"{serves}.sample", self.sample, folder),
            *start,
        ]

    def build(self, workspace: Path | None = None, logs: Path | None = None) -> External:
        """Return the generator before its first training, with the checkpoint ``start`` if it is set.

        Raises:
            InputError: If ``start`` is not a folder, or is empty.
        """
        start = None if self.start is None else Path(self.start).resolve()
        if start is not None and (not start.is_dir() or not any(start.iterdir())):
            raise InputError(
                "generator.start must be a folder with a checkpoint", got=start, remedy="check the path"
            )
        return External(self, start, workspace, logs)

    def load(self, folder: Path, workspace: Path | None = None, logs: Path | None = None) -> External:
        """Return the generator whose checkpoint is in a folder."""
        return replace(External.load(folder), workspace=workspace, logs=logs)

    def settled(self, model: Generator, folder: Path) -> Generator:
        """Return the generator with the saved checkpoint, because the workspace is emptied."""
        assert isinstance(model, External)
        return replace(model, checkpoint=folder / CHECKPOINT)

    @property
    def trains_first(self) -> bool:
        """Whether the first model is trained on the real data."""
        return self.fit_first

    @property
    def knows_contexts(self) -> bool:
        """True: the request for candidates has their contexts."""
        return True


@dataclass(frozen=True)
class External:
    """A generator outside recurate, defined by two commands and the folder of a checkpoint.

    Attributes:
        settings: Settings of the two commands.
        checkpoint: Folder of the model; None before the first training.
        workspace: Folder for exchanged files and new checkpoints; None: temporary folders.
        logs: Folder for the programs' output; None: the workspace.
    """

    settings: ExternalSettings
    checkpoint: Path | None = None
    workspace: Path | None = field(default=None, compare=False)
    logs: Path | None = field(default=None, compare=False)

    def fit(self, data: Samples, *, rng: Stream, contexts: NDArray[Any] | None = None, real: int = 0) -> Self:
        """Return the generator with the checkpoint that the command *fit* writes; see :class:`Generator`.

        Raises:
            InputError: If the command fails on every try, exceeds its time limit or writes no checkpoint.
        """
        work = self._folder("fit")
        training = work / f"training.{self.settings.exchange}"
        exchange.write_training(training, data, _contexts(contexts, len(data)), real)
        old = work / "nothing" if self.checkpoint is None else self.checkpoint.resolve()
        new = work / CHECKPOINT
        (work / "nothing").mkdir()

        def prepare() -> None:
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()

        def check() -> Path:
            if not any(new.iterdir()):
                raise InputError(
                    "it wrote no checkpoint", got=f"nothing in {new}", remedy="fill {new_checkpoint}"
                )
            return new

        values = {"training": training, "checkpoint": old, "new_checkpoint": new, "count": len(data)}
        made = self._program("fit", self.settings.fit, self.settings.fit_timeout).run(
            values | {"seed": rng.integer() % SEEDS},
            self._log(rng, "fit", work),
            prepare=prepare,
            check=check,
        )
        training.unlink()
        return replace(self, checkpoint=made)

    def sample(self, n: int, *, rng: Stream, contexts: NDArray[Any] | None = None) -> Samples:
        """Return the n candidates that the command *sample* generates, one per context.

        Raises:
            InputError: If there is no checkpoint, the command fails on every try or exceeds its time limit,
                or its table does not have n candidates.
        """
        work = self._folder("sample")
        wanted, answer = (work / f"{name}.{self.settings.exchange}" for name in ("contexts", "candidates"))
        exchange.write_wanted(wanted, _contexts(contexts, n))
        values = {"contexts": wanted, "candidates": answer, "checkpoint": self._checkpoint(), "count": n}
        found = self._program("sample", self.settings.sample, self.settings.sample_timeout).run(
            values | {"seed": rng.integer() % SEEDS},
            self._log(rng, "sample", work),
            prepare=lambda: answer.unlink(missing_ok=True),
            check=lambda: exchange.read_candidates(answer, n),
        )
        shutil.rmtree(work)
        return found

    def save(self, folder: Path) -> None:
        """Write the settings and the checkpoint, which may be large: as links if it is in the workspace.

        Raises:
            InputError: If there is no checkpoint.
        """
        found = self._checkpoint()
        own = self.workspace is not None and found.is_relative_to(self.workspace.resolve())
        shutil.copytree(found, folder / CHECKPOINT, copy_function=_link if own else shutil.copy2)
        facts = {"settings": self.settings.model_dump(mode="json")}
        (folder / "generator.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read a generator that :meth:`save` wrote; its checkpoint remains in the folder."""
        facts = json.loads((folder / "generator.json").read_text(encoding="utf-8"))
        return cls(ExternalSettings(**facts["settings"]), folder / CHECKPOINT)

    def _checkpoint(self) -> Path:
        found = self.checkpoint
        if found is None or not found.is_dir():
            raise InputError(
                "the external generator has no checkpoint",
                got=found or "no generator.start, and nothing trained yet",
                remedy="name a folder in generator.start, or train on real data first",
            )
        return found.resolve()

    def _folder(self, purpose: str) -> Path:
        base = self.workspace
        if base is not None:
            base.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=base)).resolve()

    def _log(self, rng: Stream, purpose: str, work: Path) -> Path:
        """Return the file for a program's output, named by the coordinates of the stream."""
        if self.logs is None:
            return work.with_suffix(".log")
        name = "-".join(str(part) for part in rng.path) or purpose
        return self.logs.resolve() / f"{name}.log"

    def _program(self, purpose: str, command: tuple[str, ...], timeout: float) -> Program:
        s = self.settings
        return Program(f"generator.{purpose}", command, Path(s.folder), timeout, s.retries)


def _contexts(contexts: NDArray[Any] | None, count: int) -> NDArray[Any]:
    return np.full(count, "", object) if contexts is None else contexts


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
