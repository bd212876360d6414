"""The folder of several models: how it is begun, and gets its trajectory.

Its files are listed in :class:`recurate.log.models_folder.StoredModels`.

The folder of each model below it is a run's, which :mod:`recurate.loop.run_folder` writes. The manifest, with
which the folder can be resumed, comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurate.core.files import uninterrupted, write_text
from recurate.core.fingerprints import Fingerprint
from recurate.core.marks import marked
from recurate.core.sealed import SEAL, sealed, sha256
from recurate.log.candidates import Candidates
from recurate.log.folders import MODELS
from recurate.log.models_folder import RESULTS, StoredModels
from recurate.log.trajectory import Trajectory
from recurate.loop.config import Config, write_config
from recurate.loop.environment import Environment, setting_of
from recurate.loop.rounds import candidates_of
from recurate.loop.run_folder import RunFolder, begin_folder, config_of, manifest_of, seal_of
from recurate.theory.forecast import split_log
from recurate.theory.models_forecast import played_on
from recurate.theory.setting import Setting
from recurate.theory.several_models import SeveralModels


class ModelsFolder(StoredModels):
    """Several models on disk.

    Args:
        path: The folder; see :meth:`create` and :meth:`open`.
    """

    @classmethod
    def create(
        cls, path: Path, environment: Environment, fingerprints: Sequence[Fingerprint]
    ) -> ModelsFolder:
        """Start the folder: the configuration, a run's folder per model, and last the manifest.

        Args:
            path: The folder, see :meth:`recurate.loop.run_folder.RunFolder.check_vacant`.
            environment: The prepared environment of all models.
            fingerprints: Fingerprints of everything that the configuration names, taken before its use.

        Raises:
            InputError: If the folder exists and is not empty.
        """
        config = environment.config
        begin_folder(path, config)
        folder = cls(path)
        seals = {}
        for model in config.models:
            own = replace(environment, config=config.of_model(model.name))
            store = RunFolder.create(folder.of_model(model.name), own, fingerprints)
            seals[model.name] = str(store.manifest()[SEAL])
        manifest = manifest_of(config, fingerprints) | {MODELS: seals}
        write_text(path / "manifest.json", sealed(marked(manifest)))
        return folder

    def config(self) -> Config:
        """Read the resolved configuration of all models.

        Raises:
            InputError: If it was changed since the run began (more rounds may be added).
        """
        return config_of(self, max(store.complete() for store in self.stores().values()))

    def stores(self) -> dict[str, RunFolder]:
        """Return the run of every model, by name."""
        return {name: RunFolder(self.of_model(name)) for name in self.names}

    def pass_on(self, config: Config) -> None:
        """Write what may change, the number of rounds and the report's sections, to the models' folders."""
        for name, store in self.stores().items():
            path, text = store.path / "config.toml", write_config(config.of_model(name))
            if path.read_text(encoding="utf-8") != text:
                write_text(path, text)

    def law(self, config: Config) -> tuple[SeveralModels, Setting, Candidates]:
        """Return the models on their candidates of round 0 and real data, their setting, and the candidates.

        Args:
            config: Configuration of all models.
        """
        logs = [store.log(0) for store in self.stores().values()]
        parts, reals = zip(*map(split_log, logs), strict=True)
        names = np.repeat(np.array(self.names), [len(part) for part in parts])
        first = replace(reduce(Candidates.join, parts), groups=names, labels=())
        setting = replace(setting_of(config), weights=None, picks=None)  # models have weights of their own
        models = [model.plain for model in config.models]
        return played_on(first, reals[0], models, setting), setting, first

    def candidates(self, t: int, environment: Environment) -> tuple[Candidates, NDArray[Any]]:
        """Return the candidates of all models in a complete round, and the name of each one's model, (n,)."""
        parts = [candidates_of(store.log(t), environment)[0] for store in self.stores().values()]
        names = np.repeat(np.array(self.names), [len(part) for part in parts])
        return reduce(Candidates.join, parts), names

    def save_trajectory(self, trajectory: Trajectory) -> None:
        """Write the models beside each other, with the hash of the file and the seals of the last rounds."""
        last = self.complete() - 1
        with uninterrupted():
            trajectory.write(self.path / "trajectory.parquet")
            seals = {name: seal_of(store.round_path(last)) for name, store in self.stores().items()}
            found = {MODELS: seals, "trajectory_sha256": sha256(self.path / "trajectory.parquet")}
            write_text(self.path / RESULTS, sealed(found))
