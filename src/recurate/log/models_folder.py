"""The folder of several models that train on each other's picks, of which only files are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recurate.core.errors import InputError
from recurate.core.sealed import RUN, SEAL, altered, field, foreign, read_json, sha256
from recurate.core.tables import read_table
from recurate.log.folders import MODELS, StoredRun, check_format
from recurate.log.schema import REAL

MODEL_COLUMN = "model"  # column of models in their common log
RESULTS = "results.json"


class StoredModels(StoredRun):
    """The folder of several models that train on each other's picks: one run's folder per model below it.

    ::

        config.toml         the resolved configuration of all
        manifest.json       names of the models with the seals of their runs' manifests; sealed
        models/NAME/        a run's folder: rounds, logs, models, measures, trajectory of the model
        trajectory.parquet  the models beside each other, forecast and measured; a row's group is a model
        results.json        the hash of the trajectory, the seals of the models' last rounds; sealed
    """

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing folder of several models.

        Raises:
            InputError: If it is not one, or has another format.
        """
        check_format(path / "manifest.json", several=True)
        return cls(path)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models."""
        path = self.path / "manifest.json"
        return tuple(field(self.manifest(), MODELS, dict, path, "restore it"))

    def of_model(self, name: str) -> Path:
        """Return the folder of a model's run."""
        return self.path / MODELS / name

    def complete(self) -> int:
        """Return the number of rounds that are complete for all models."""
        return min(StoredRun(self.of_model(name)).complete() for name in self.names)

    def verify(self, *, results: bool = True) -> None:
        """Check the run of every model, and that they are the models of this folder.

        Args:
            results: Whether to check also the trajectories, which a resumed run writes again.

        Raises:
            InputError: If a file is missing, truncated, altered or another run's; the message names it.
        """
        check_format(self.path / "manifest.json", several=True)
        self.settings()
        for name, seal in self.manifest()[MODELS].items():
            run = StoredRun(self.of_model(name))
            run.verify(results=results)
            if run.manifest()[SEAL] != seal:
                path, remedy = run.path / "manifest.json", "restore it, or start a new run"
                raise foreign(path, RUN, run.manifest()[SEAL], seal, remedy)
        trajectory, remedy = self.path / "trajectory.parquet", f"recurate run --resume {self.path}"
        if results and trajectory.exists():
            found = read_json(self.path / RESULTS, remedy)
            if found.get("trajectory_sha256") != sha256(trajectory):
                raise altered(trajectory, remedy)

    def table(self) -> pa.Table:
        """Return the logs of all models' complete rounds as one, with a column ``model``.

        The slates of a round are numbered through all models, and the real data, which are the same for all,
        are those of the first.
        """
        parts = [part for t in range(self.complete()) for part in self._round(t)]
        if not parts:
            raise InputError(
                "the run has no complete round yet",
                got=self.path,
                remedy=f"recurate run --resume {self.path}",
            )
        return pa.concat_tables(parts)

    def _round(self, t: int) -> Iterator[pa.Table]:
        first = 0
        for i, name in enumerate(self.names):
            table = read_table(StoredRun(self.of_model(name)).round_path(t) / "log.parquet")
            own = np.asarray(table.column("source").to_pylist()) != REAL
            slates = pc.add(table.column("slate"), first)
            first += (pc.max(table.column("slate")).as_py() or 0) + 1
            at = table.schema.get_field_index("slate")
            table = table.set_column(at, table.schema.field(at), slates.cast(table.schema.field(at).type))
            column = pa.array([name if generated else None for generated in own], pa.string())
            table = table.append_column(pa.field(MODEL_COLUMN, pa.string()), column)
            yield table if i == 0 else table.filter(pa.array(own))
